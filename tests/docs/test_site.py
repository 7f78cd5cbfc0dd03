"""The site: it builds without a warning, every page can be found in it, every link leads somewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zoo
import zoo.relaxations
from tests.conftest import ROOT
from tests.docs.pages import PAGES, anchors, links, name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly in a copy, as what is built beside the pages would be in the way of other tests."""
    place = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", place / "docs")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert settings.count("paths: [.]") == 1
    (place / "mkdocs.yml").write_text(settings.replace("paths: [.]", f"paths: [{ROOT}]"), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=place,
        env=os.environ | {"NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0 and "No issues found" in result.stdout, result.stdout
    return place / "site"


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        found = re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//[^"]*"', page.read_text("utf-8")
        )
        assert not found, (page, found)


def test_every_public_name_is_in_the_reference(site):
    text = "".join(page.read_text("utf-8") for page in (site / "reference/api").rglob("*.html"))
    documented = set(re.findall(r'id="(zoo[\w.]+)"', text))
    names = {f"zoo.{public}" for public in zoo.__all__}
    names |= {f"zoo.relaxations.{public}" for public in zoo.relaxations.__all__ if public[0].isupper()}
    names -= {
        f"zoo.relaxations.{public}" for public in ("DISTRIBUTIONS", "OF_CODEBOOKS", "RELAXATIONS", "Draw", "Program")
    }
    missing = {public for public in names if public not in documented} - {
        public for public in names if f"zoo.relaxations.distributions.{public.rpartition('.')[2]}" in documented
    }
    assert not missing


def test_every_page_is_in_the_navigation():
    def pages(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [page for part in (node.values() if isinstance(node, dict) else node) for page in pages(part)]

    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = pages(yaml.safe_load(text)["nav"])
    assert len(set(listed)) == len(listed)
    assert set(listed) == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name(page)}: there is no {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{name(page)}: there is no heading {link}"
        inside = Path(name(page)).parts[0] == "docs"
        assert not inside or target.is_relative_to(ROOT / "docs"), f"{name(page)}: {link} is outside of the site"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: scripts/browser.sh installs it from Debian")
def test_every_sound_of_the_listening_page_plays(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(site)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server,
        sync_api.sync_playwright() as playwright,
    ):
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
            )
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/speaker/listen/")
            sounds = page.locator("audio")
            assert sounds.count() >= 20
            for i in range(sounds.count()):
                duration, played = sounds.nth(i).evaluate(
                    """async sound => {
                        await sound.play();
                        for (let i = 0; i < 100 && !sound.currentTime; i++)
                            await new Promise(done => setTimeout(done, 50));
                        return [sound.duration, sound.currentTime];
                    }"""
                )
                assert 2 < duration < 60 and played > 0
            broken = page.locator("img").evaluate_all("all => all.filter(one => !one.naturalWidth).length")
            assert broken == 0
            browser.close()
        finally:
            server.terminate()
