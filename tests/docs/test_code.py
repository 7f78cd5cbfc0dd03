"""Every block of code and every command in the README and the documentation.

Python blocks of a page run in order, as they stand, in a folder of the page's own; so do its commands, with the words
of ``SMALLER`` behind them, which make them short. What cannot run is marked in the Markdown, as
``<!-- cannot run here: why -->``.
Commands in the middle of sentences and tables, and those of ``CHECKED``, are read and checked as before a run.
"""

import os
import re
import shlex
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from tests.conftest import ROOT, SMALL_AGENT
from tests.docs.pages import GUIDES, Block, blocks, name, prose
from zoo.cli import main, options
from zoo.cli.arguments import parse
from zoo.cli.lab import experiments, options_of_training
from zoo.config import composition
from zoo.config.folders import REGISTERED, VARIABLE
from zoo.relaxations import DISTRIBUTIONS, RELAXATIONS

pytestmark = pytest.mark.filterwarnings("ignore")

QUIET = "trainer.enable_progress_bar=false"
SHORT = f"{QUIET} trainer.limit_train_batches=4 trainer.limit_val_batches=1 trainer.limit_test_batches=1"
AGENT = f"{QUIET} {' '.join(SMALL_AGENT)} data.eval_episodes=1 data.test_episodes=1 pictures_every_n_epochs=9"
TOURS = (
    "data.epoch_batches=2 data.batch_size=4 data.val_instances=4 data.test_instances=4 data.eval_batch_size=4 "
    f"model.encoder.width=16 model.encoder.layers=1 model.encoder.heads=2 model.decoder.heads=2 {QUIET}"
)
SMALLER = {  # the beginning of a command -> words that make it short; the first that fits
    "zoo train polynomial relaxation._target_": "data.steps=5",
    "zoo train polynomial": "epochs=1 data.steps=5 pictures_every_n_epochs=9",
    "zoo train -m polynomial": "epochs=1 data.steps=5 pictures_every_n_epochs=9",
    "zoo train cat_vae --cfg": "",
    "zoo train -m cat_vae": f"epochs=1 {SHORT} model.iwae_samples=2",
    "zoo train cat_vae": f"epochs=1 {SHORT} model.iwae_samples=2",
    "zoo train model=cat_vae": f"epochs=1 {SHORT} model.iwae_samples=2",
    "python scripts/train.py model=cat_vae": f"epochs=1 {SHORT} model.iwae_samples=2",
    "zoo train --config-dir": f"epochs=1 {SHORT} model.iwae_samples=2",
    "zoo train glimpse": f"epochs=1 {SHORT}",
    "zoo train tokenizer": f"epochs=1 {SHORT} data.size=16 data.batch_size=16 model.encoder.channels=4 "
    "model.encoder.features=8 model.prior_width=8 model.prior_layers=1",
    "zoo train speaker_generator data=speech_folder": f"epochs=1 {QUIET} data.batch_size=10 model.decoder.width=8 "
    "model.speaker_encoder.width=8 model.residual_encoder.width=8 pictures_every_n_epochs=9",
    "zoo train selector": f"epochs=2 {QUIET} data.passes=1 model.predictor.hidden=[16] model.baselines=[random]",
    "zoo train actor_critic": f"epochs=1 {AGENT}",
    "zoo train experiment=actor_critic": f"epochs=1 {AGENT}",
    "zoo train pointer_net": f"epochs=1 {TOURS}",
    "zoo eval": f"{SHORT} model.iwae_samples=2",
    "zoo publish": f"{SHORT} model.iwae_samples=2",
    "zoo play": "",
    "zoo": "",
}
CHECKED = {  # what is not run, but checked -> the tests that run such a command
    "docs/how-to/several_machines.md": "tests/cli/test_distributed.py",
    "docs/models/speaker_generator.md": "tests/cli/test_speaker_generator.py",
    "docs/how-to/track.md": "tests/training/test_loggers.py",
    "zoo lab": "tests/lab/test_experiments.py",
    "zoo demo": "tests/demo/test_browser.py",
    "bash scripts/browser.sh": "tests/demo/test_browser.py",
    "python docs/demo/film.py": "docs/demo/softmax_or_gumbel.gif",
    "python scripts/bench/": "their options are those of the file",
    "python scripts/reproduce.py": "tests/lab/test_reproduce.py",
    "pip install": "all extras it names are those of pyproject.toml",
    "pytest": ".ci/run",
}
OTHERS = ("docs/models/", "docs/study/", "docs/changes/", "docs/results/", "docs/relaxations/")
"""Pages whose commands take long, as they make results: they are checked, not run."""
RUN = ("docs/models/actor_critic.md", "docs/results/pointer_net.md")
"""Those that are run nevertheless."""
BEFORE = {  # what a page takes for given
    "README.md": "import torch\nx = torch.zeros(4, 1, 28, 28)\nlogits = torch.zeros(4, 3, requires_grad=True)\n"
    "decoder, cost = (lambda z: z * 2), (lambda y: y.sum(-1))\n",
    "docs/explanation/estimators.md": "import torch\nlogits = torch.zeros(4, 3, requires_grad=True)\n"
    "decoder, cost = (lambda z: z * 2), (lambda y: y.sum(-1))\n",
    "docs/how-to/own_estimator.md": "import torch\nlogits = torch.zeros(4, 3, requires_grad=True)\n"
    "cost = lambda z: z.sum(-1)\n",
    "docs/how-to/own_images.md": "from tests.docs.made import pictures\npictures('pictures')\n",
    "docs/how-to/own_recordings.md": "from tests.docs.made import recordings\nrecordings('recordings')\n",
    "docs/how-to/own_table.md": "from tests.docs.made import table\ntable('patients.csv')\n",
    "docs/how-to/publish.md": "import zoo\nzoo.train('cat_vae', 'trainer.limit_train_batches=2', run='runs/mine', "
    "epochs=1, logger='csv', iwae_samples=2)\n",
}
SHORTER = {  # what is replaced in Python
    'zoo.train("polynomial",': 'zoo.train("polynomial", "data.steps=5",',
    'zoo.train("cat_vae",': 'zoo.train("cat_vae", "trainer.limit_train_batches=4", "trainer.limit_test_batches=1", '
    '"model.iwae_samples=2",',
}
FILES = {"docs/tutorials/own_estimator.md": {"mine.py": "@zoo.register"}}
"""A page -> files that it speaks of -> the block that is in it, without the line that begins so."""

MARKED = 10
"""So many blocks may be marked, at most."""
COMMAND = re.compile(r"(?:zoo|python scripts/\w+\.py|python -m zoo) [^`\n]*")
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4}(?:zoo|python|pip|export|torchrun|srun) .*\n(?: {4,}.*\n)*)+)")


def lines(text: str) -> Iterator[str]:
    """The commands in a block, one a line, without comments."""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        command = re.sub(r"(?:^|\s)#.*|  +[^'\"\s=].*", "", line.strip())
        yield from (" ".join(part.split()) for part in command.split("&&") if part.strip())


def words_of(command: str) -> list[str]:
    """The words after ``zoo`` that a command stands for."""
    words = shlex.split(command)
    if words[0] == "python" and words[1] == "-m":
        return words[3:]
    if words[0] == "python":
        script = Path(words[1]).stem
        return [*options.place(script).split(), *words[2:]]
    return words[1:]


def check(command: str) -> None:
    """Check a command as it is before it begins."""
    if command.startswith("pip "):
        extras = re.findall(r"\[([\w,]+)\]", command)
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {extra for group in extras for extra in group.split(",")} <= set(known)
        return
    if command == "pytest":  # .ci/run
        return
    if command.startswith("python scripts/bench/"):
        path, *words = shlex.split(command)[1:]
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(word in text for word in words if word.startswith("--")), command
        return
    assert command.startswith(("zoo", "python scripts/", "python -m zoo")), command
    name, *words = [*words_of(command), ""]
    words = [word for word in words if word]
    assert not name or name.startswith("-") or name in options.COMMANDS, command
    if name == "train":
        words = [word for word in words if word not in ("-m", "--cfg", "job", "--help")]
        if words and "=" not in words[0]:
            words[0] = f"model={words[0]}"
        for job in composition.jobs(words) if words else []:
            composition.check(composition.compose(job), job)
    elif name == "lab" and words:
        assert words[0] in experiments()
        try:
            module = import_module(f"zoo.lab.{words[0]}")
        except ModuleNotFoundError as error:  # of an extra
            assert not str(error.name).startswith("zoo")
            return
        parse(module.experiment, words[1:], takes=options_of_training)
    elif name in FUNCTIONS and words and words != ["--help"]:
        parse(FUNCTIONS[name](), words, takes=lambda: ("model", "data", "trainer", "relaxation", "seed"))


def function(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"zoo.cli.{module}"), name)


FUNCTIONS = {
    "eval": function("eval", "score"),
    "sample": function("sample", "sample"),
    "play": function("play", "play"),
    "solve": function("solve", "solve"),
    "speak": function("speak", "speak"),
    "publish": function("publish", "make"),
    "list": function("list", "show"),
}


def commands(block: Block) -> list[str]:
    return list(lines(block.text)) if block.language == "bash" else []


def inline(path: Path) -> list[str]:
    """Commands in sentences, tables and blocks that are only indented, but for those with names to be filled in."""
    text = prose(path)
    found = [line for block in INDENTED.findall(text) for line in lines(re.sub(r"(?m)^ {4}", "", block))]
    spans = re.findall(r"`([^`]+)`", INDENTED.sub("", text))
    found += [" ".join(span.split()) for span in spans if COMMAND.fullmatch(" ".join(span.split())) and " " in span]
    whole = [
        command for command in dict.fromkeys(found) if not re.search(r"\b[A-Z]{3,}\b|\.\.\.|PATH|torchrun", command)
    ]
    return [command for command in whole if not command.startswith(("python -m p", "python -c", "export"))]


@pytest.fixture
def place(tmp_path, monkeypatch, mnist_root):
    """An empty folder, from where commands and blocks run; what is registered and imported there ends with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA_DIR", mnist_root)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [*sys.path])
    np.savetxt("cities.csv", np.random.default_rng(0).random((12, 2)), delimiter=",")
    registries: list[dict[str, Any]] = [REGISTERED, RELAXATIONS, DISTRIBUTIONS]
    known = [dict(registry) for registry in registries]
    yield tmp_path
    matplotlib.pyplot.close("all")
    for registry, before in zip(registries, known):
        for key in set(registry) - set(before):
            registry.pop(key)
    sys.modules.pop("mine", None)


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command in this process, with the words that make it short."""
    if command.startswith("export "):
        key, _, value = command.removeprefix("export ").partition("=")
        monkeypatch.setenv(key, value)
        return
    if command.startswith("python -c "):
        exec(shlex.split(command)[2], {})
        return
    more = shlex.split(next(words for start, words in SMALLER.items() if command.startswith(start)))
    words = words_of(command)
    if words[:1] == ["train"] and len(words) > 1 and "logger=" not in command and "--cfg" not in words:
        more.append("logger=csv")
    named = {word.split("=")[0] for word in more}
    words = [word for word in words if "=" not in word or word.split("=")[0] not in named]
    if words[0] in ("eval", "publish") and not any(map(is_vae, words)):
        more = [word for word in more if not word.startswith("model.")]
    monkeypatch.setattr(sys, "argv", ["zoo", *words, *more])
    before = os.environ.get(VARIABLE)
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, f"{command}: {ended.code}"
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def is_vae(word: str) -> bool:
    """Whether ``word`` names a categorical VAE or a run of one."""
    config = Path(word, "config.yaml")
    return "cat_vae" in word or (config.is_file() and "CatVAE" in config.read_text(encoding="utf-8"))


def is_checked(page: str, command: str) -> bool:
    return any(page == key or command.startswith(key) for key in CHECKED)


def with_code() -> list[Any]:
    """The pages with blocks that run; but for the README all take longer."""
    found = [path for path in GUIDES if any(block.language in ("python", "bash") for block in blocks(path))]
    found = [path for path in found if name(path) in RUN or not name(path).startswith(OTHERS)]
    found = [path for path in found if name(path) not in ("CONTRIBUTING.md", "SECURITY.md")]
    marks = {path: [] if path.name == "README.md" else [pytest.mark.slow] for path in found}
    return [pytest.param(path, marks=marks[path], id=name(path)) for path in found]


@pytest.mark.parametrize("path", with_code())
def test_the_code_of_a_page_runs(path, place, monkeypatch):
    page = name(path)
    program = types.ModuleType("__main__")  # where the classes of a program are looked for
    monkeypatch.setitem(sys.modules, "__main__", program)
    names = program.__dict__
    exec(BEFORE.get(page, ""), names)
    python = [block for block in blocks(path) if block.language == "python"]
    for file, start in FILES.get(page, {}).items():
        text = next(block.text for block in python if start in block.text)
        Path(file).write_text("".join(line for line in text.splitlines(True) if not line.startswith(start)))
    text = path.read_text(encoding="utf-8")
    for block in blocks(path):
        before = "\n".join(text.splitlines()[: block.line - 2])[-200:]
        file = re.search(r"`([\w/]+\.(?:py|yaml))`[^`]*(?:`PYTHONPATH`)?:\s*\Z", before)
        if file and block.language in ("python", "yaml") and not block.mark:
            Path(file[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(file[1]).write_text(block.text)
        elif block.mark:
            continue
        elif block.language == "python":
            code = block.text
            for old, new in SHORTER.items():
                code = code.replace(old, new)
            exec(compile(code, f"{page}:{block.line}", "exec"), names)
        for command in commands(block) if not block.mark else []:
            if is_checked(page, command):
                check(command)
            else:
                run(command, monkeypatch)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.name == "README.md" else [pytest.mark.slow], id=name(path))
        for path in GUIDES
        if inline(path) or (name(path).startswith(OTHERS) and any(map(commands, blocks(path))))
    ],
)
def test_commands_in_sentences_and_tables_are_right(path, monkeypatch):
    found = inline(path)
    if name(path).startswith(OTHERS) and name(path) not in RUN:
        found += [command for block in blocks(path) if not block.mark for command in commands(block)]
    for command in found:
        try:
            check(command)
        except Exception as error:
            raise AssertionError(f"{name(path)}: {command}: {error}") from error


def test_python_is_python_and_little_is_marked():
    marked = [block for path in GUIDES for block in blocks(path) if block.mark]
    assert len(marked) <= MARKED, [f"{block.page}:{block.line}" for block in marked]
    for path in GUIDES:
        for block in blocks(path):
            assert block.language, f"{block.page}:{block.line}: say the language"
            if block.language == "python":
                compile(block.text, f"{block.page}:{block.line}", "exec")


def test_the_page_about_own_images_is_short():
    path = ROOT / "docs/how-to/own_images.md"
    assert len(path.read_text(encoding="utf-8").split()) <= 600
    assert sum(len(block.text.strip().splitlines()) for block in blocks(path)) <= 10


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1500
