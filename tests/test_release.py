"""What is released: commands, a wheel, torch.hub, a version; and that the code is checked."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

import pytest
import torch
import yaml
from packaging.requirements import Requirement

import zoo
from tests.conftest import ROOT
from zoo import hub
from zoo.errors import ZooError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*command: str, cwd: Path = ROOT, **environment: str) -> str:
    result = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_there_is_one_command():
    assert PROJECT["project"]["scripts"] == {"zoo": "zoo.cli:main"}


EXTRAS = PROJECT["project"]["optional-dependencies"]


def named_extras() -> dict[str, str]:
    """The extras that configuration files, sources, pages and examples name -> the first file that does."""
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    for folder, kinds in {
        "configs": "*.yaml",
        "zoo": "*.py",
        "docs": "*.md",
        "examples": "*.*",
        "scripts": "*.py",
    }.items():
        files += sorted((ROOT / folder).rglob(kinds))
    found: dict[str, str] = {}
    for path in files:
        text = path.read_text(encoding="utf-8", errors="ignore")
        for names in re.findall(
            r"(?:discrete-latent-zoo|install -e '?\.|install \.)\[([\w,]+)\]|\bextra `{0,2}(\w+)`{0,2}[.,;:]", text
        ):
            for name in ",".join(filter(None, names)).split(","):
                found.setdefault(name, path.relative_to(ROOT).as_posix())
    return found


def brought_by(extra: str) -> Iterator[str]:
    """The distributions that it installs."""
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name == PROJECT["project"]["name"]:
            yield from (name for other in requirement.extras for name in brought_by(other))
        else:
            yield requirement.name


@pytest.mark.filterwarnings("ignore")
def test_every_extra_that_is_named_can_be_imported():
    """All are extras; what those of the configuration files bring is installed with the tests, and imported."""
    named = named_extras()
    assert set(named) <= set(EXTRAS), {name: path for name, path in named.items() if name not in EXTRAS}
    of_files = {name for name, path in named.items() if path.startswith("configs/")}
    assert of_files >= {"atari", "loggers", "slurm", "speech"}
    for distribution in {one for extra in of_files for one in brought_by(extra)}:
        parts = [path.parts for path in metadata.files(distribution) or () if path.name == "__init__.py"]
        packages = {path[0] for path in parts if path[0].isidentifier()}
        assert packages, distribution
        for package in packages - {"tests"}:
            import_module(package)


def test_the_newest_entry_of_the_changelog_is_this_version():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == zoo.__version__ and len(set(versions)) == len(versions)
    assert versions == sorted(versions, key=lambda version: [int(n) for n in version.split(".")], reverse=True)


def test_who_cites_this_cites_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == zoo.__version__ and citation["title"] and citation["authors"]


def test_the_files_of_github_can_be_read():
    files = sorted((ROOT / ".github").rglob("*.yml"))
    assert len(files) == 4 and all(isinstance(yaml.safe_load(path.read_text()), dict) for path in files)
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["fast"]["strategy"]["matrix"]
    named = {c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(matrix["python"]) == named and len(matrix["os"]) == 3


def test_torch_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT))
    assert {*hub.list_models(), "from_pretrained", "list_models"} <= vars(import_module("hubconf")).keys()
    model = torch.hub.load(str(ROOT), "actor_critic", source="local", tag="cartpole", entropy_weight=0.5)
    assert type(model).__name__ == "ActorCritic" and model.arguments["entropy_weight"] == 0.5
    with pytest.raises(ZooError, match="say which actor_critic: tag=, one of"):
        torch.hub.load(str(ROOT), "actor_critic", source="local")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel, and beside it a folder ``site`` as if it were installed there."""
    place = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place))
    (path,) = place.glob("*.whl")
    with zipfile.ZipFile(path) as file:
        file.extractall(place / "site")
    return path


@pytest.mark.slow
def test_the_command_on_a_card_works_from_a_wheel(wheel):
    site = wheel.parent / "site"
    card = (site / "zoo/checkpoints/pointer_net.sort10/README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^Recompute them with `zoo (.+)`\.$", card, re.MULTILINE)
    words = [*command.split(), "data.test_instances=20", "trainer.enable_progress_bar=false"]
    printed = run(sys.executable, "-P", "-m", "zoo", *words, cwd=wheel.parent, PYTHONPATH=str(site))
    assert re.search(r"^exact +1\.000$", printed, re.MULTILINE), printed


def test_a_wheel_has_all_that_works_outside_the_checkout(wheel):
    path, tmp_path = wheel, wheel.parent
    assert path.name.startswith(f"discrete_latent_zoo-{zoo.__version__}-")
    names = set(zipfile.ZipFile(path).namelist())
    for folder in ("configs", "checkpoints"):
        files = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert {f"zoo/{file}" for file in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "data/"))]
    assert "zoo/models/cat_vae/card.yaml" in names
    (info,) = (tmp_path / "site").glob("*.dist-info")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert "License-Expression: MIT AND CC-BY-SA-4.0" in metadata and "URL" not in metadata.partition("\n\n")[0]
    for text, words in {"LICENSE": "MIT License", "LICENSES/CC-BY-SA-4.0.txt": "Attribution-ShareAlike 4.0"}.items():
        assert words in (info / "licenses" / text).read_text(encoding="utf-8")
    for config in (tmp_path / "site/zoo/checkpoints").glob("*/config.json"):
        shared = "CC BY-SA 4.0" in json.loads(config.read_text(encoding="utf-8")).get("notice", "")
        assert shared == (config.parent / "NOTICE").is_file()
    assert max(info.file_size for info in zipfile.ZipFile(path).infolist()) < 10_000_000
    code = "import sys; sys.argv = ['zoo', 'train']; from zoo.cli import main; main(); import zoo; print(zoo.__file__)"
    printed = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert "zoo train model=cat_vae" in printed and "python scripts" not in printed
    assert printed.splitlines()[-1] == str(tmp_path / "site/zoo/__init__.py")
    code = "import zoo; print(zoo.list_models(pretrained=True))"
    printed = run(sys.executable, "-P", "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert printed.strip() == str(zoo.list_models(pretrained=True))


def test_style():
    run(sys.executable, "-m", "ruff", "check", "--no-cache")
    run(sys.executable, "-m", "ruff", "format", "--check", "--no-cache")


@pytest.mark.slow
def test_types(tmp_path):
    run(sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path))
