"""The playground in a real browser: ``scripts/browser.sh`` installs what this needs, from Debian.

Every tab is opened, its main control moved, and its picture must change, without an error in the console and without a
request to anywhere else. Then what people do wrong.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.test_tabs import SELECTOR, WRITER, configured, made
from zoo import hub

pytest.importorskip("gradio", reason="the extra demo is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: scripts/browser.sh")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: scripts/browser.sh installs it from Debian"),
]
TABS = (
    *("Softmax or Gumbel?", "A code you can edit", "Watch it point", "Whose voice?", "Watch it act"),
    *("What they choose", "Train a little"),
)
PATIENCE = 60_000  # milliseconds: other work may take the cores


@pytest.fixture(scope="module")
def address(tmp_path_factory, mnist_root):
    """A playground that was given an untrained selector and language model, whose kinds are not shipped."""
    given = []
    for name, words in (("selector", SELECTOR), ("writer", WRITER)):
        given.append(str(tmp_path_factory.mktemp(name) / name))
        hub.save_pretrained(made(words), given[-1], data=configured(words)["data"])
    command = [sys.executable, "-m", "zoo", "demo", "port=0", f"checkpoint={','.join(given)}"]
    environment = os.environ | {"ZOO_DATA_DIR": mnist_root}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        yield found[0]
        assert process.poll() is None, "the server died"
        process.terminate()
        assert process.wait(30) == 143


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Opens pages, and fails if one logged an error (but for those a test expects) or asked elsewhere."""
    contexts, wrong, expected = [], [], []

    def ours(url: str) -> bool:
        return url.startswith((address, "data:", "blob:"))

    def visit(width: int = 1280, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if ours(request.url) else wrong.append(f"asked {request.url}"))
        page.goto(address)
        page.wait_for_selector("#softmax-or-gumbel svg")
        return page

    visit.expected = expected
    yield visit
    for context in contexts:
        context.close()  # an answer may still come until now
    assert not [line for line in wrong if line not in expected]


def open_tab(page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True).first
    if not tab.is_visible():
        page.locator(".overflow-menu > button").first.click()
        page.locator(".overflow-dropdown button", has_text=name).first.click()
    else:
        tab.click()


def changes(page, element: str, do) -> str:
    """The text and pictures of an element after ``do`` has changed them."""
    place = f"{element} .zoo-page"
    before = page.locator(place).inner_html()
    do()
    page.wait_for_function(
        "([place, before]) => (document.querySelector(place)?.innerHTML ?? before) !== before", arg=[place, before]
    )
    return page.locator(place).inner_html()


def slide(page, element: str, key: str = "ArrowRight", times: int = 1) -> None:
    """By the keyboard."""
    page.locator(f"{element} input[type=range]").focus()
    for _ in range(times):
        page.keyboard.press(key)


def says(page, element: str, words: str) -> None:
    page.wait_for_function(
        "([element, words]) => document.querySelector(element).innerText.includes(words)", arg=[element, words]
    )


def test_every_tab_does_what_it_is_for(visit):
    page = visit()
    html = changes(page, "#softmax-or-gumbel", lambda: slide(page, "#tau"))
    assert "Mean gradient at tau 0.75" in html
    changes(page, "#softmax-or-gumbel", lambda: page.get_by_label("Hard: one-hot draws, soft gradient").check())
    says(page, "#softmax-or-gumbel", "Every draw is exactly one-hot")

    open_tab(page, "A code you can edit")
    changes(page, "#code", lambda: slide(page, "#entry", "ArrowLeft"))
    says(page, "#code", "pixels moved by")
    changes(page, "#code", lambda: page.locator('#code [data-place="7"][data-entry="4"]').click())
    says(page, "#code", "Entry 7 went from")
    canvas = page.locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 150, steps=5)
    changes(page, "#code", page.mouse.up)
    says(page, "#code", "the code of your drawing")

    open_tab(page, "Watch it point")
    page.locator("#tours svg#square").click(position={"x": 30, "y": 40})
    says(page, "#tours", "16 points.")
    page.locator("#solve").click()
    says(page, "#tours", "nearest neighbour")
    says(page, "#tours", "The network closed a tour of 16 points")

    open_tab(page, "Whose voice?")
    html = changes(page, "#voice", lambda: page.locator("#speak").click())
    assert "data:audio/wav" in html
    changes(page, "#voice", lambda: page.get_by_label("blended").check())
    says(page, "#voice", "nobody's voice")

    open_tab(page, "Watch it act")
    page.get_by_label("drawn").last.check()
    slide(page, "#heat", "End")
    page.locator("#play").click()
    says(page, "#episode", "The episode ended after")

    open_tab(page, "What they choose")
    changes(page, "#chosen", lambda: slide(page, "#example"))
    says(page, "#chosen", "It saw 20 of 784 columns")
    changes(page, "#next", lambda: page.locator("#write").click())
    says(page, "#next", "nats of doubt")

    open_tab(page, "Train a little")
    page.locator("#train").click()
    says(page, "#training", "of 60 seconds")
    page.locator("#stop").click()
    says(page, "#training", "stopped")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_breaks_a_rule_of_accessibility(browser, address, scheme):
    """Contrast, labels, roles: what axe-core finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()  # axe is a script of somewhere else
    page.goto(address)
    page.wait_for_selector("#softmax-or-gumbel svg")
    broken = []
    for name in TABS:
        open_tab(page, name)
        page.wait_for_timeout(500)
        broken += [f"{name}: {one['help']}" for one in axe.Axe().run(page).response["violations"]]
    page.context.close()
    assert not broken


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(visit, scheme):
    page = visit(390, scheme)
    for name in ("Softmax or Gumbel?", "A code you can edit", "Whose voice?", "Train a little"):
        open_tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_sessions_do_not_see_each_other(visit):
    one, two = visit(), visit()
    for page in (one, two):
        open_tab(page, "Watch it point")
    one.locator("#tours svg#square").click(position={"x": 30, "y": 40})
    says(one, "#tours", "16 points.")
    assert "15 points." in two.locator("#tours").inner_text()
    two.locator("#tours svg#square").click(position={"x": 60, "y": 40})
    says(two, "#tours", "16 points.")


def test_mistakes_get_a_sentence_and_the_server_lives(visit, tmp_path):
    page = visit()
    (tmp_path / "text.png").write_text("not a picture")
    open_tab(page, "A code you can edit")
    upload = page.locator("input[type=file]:visible, [role=tabpanel]:visible input[type=file]").first
    upload.set_input_files(tmp_path / "text.png")
    says(page, "#code", "text.png cannot be read: it is not a picture")

    open_tab(page, "Watch it point")
    for text, message in (
        ("0.1 nan 0.2 0.3", "a coordinate is not a finite number"),
        ("0.1 0.2 " * 2000, "2,000 points: 200 are the most here"),
        ("<img src=x>", "is not a number"),
    ):
        box = page.get_by_label("Points as numbers")
        box.fill(text)
        page.locator("#take").click()
        says(page, "#tours", message)

    open_tab(page, "Whose voice?")
    page.get_by_label("Words, 12 at most").fill("")
    page.locator("#speak").click()
    says(page, "#voice", "write what to say")

    # The library asks how far the refused upload has come, and hears at any time that nobody knows.
    visit.expected += ["Response", "Failed to load resource: the server responded with a status of 404 (Not Found)"]
    with (tmp_path / "large.tsp").open("wb") as file:
        file.truncate(100_000_000)
    open_tab(page, "Watch it point")
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(tmp_path / "large.tsp")
    page.get_by_text(re.compile("maximum|exceed|too large", re.IGNORECASE)).first.wait_for()
    page.locator("#solve").click()
    says(page, "#tours", "The network closed a tour")


def test_a_training_ends_with_the_page_that_started_it(visit):
    page = visit()
    open_tab(page, "Train a little")
    before = trainings()
    page.locator("#train").click()
    says(page, "#training", "of 60 seconds")
    assert len(trainings() - before) == 1
    page.close()
    end = time.monotonic() + 30
    while trainings() - before and time.monotonic() < end:
        time.sleep(0.2)
    assert not trainings() - before
    again = visit()
    open_tab(again, "Train a little")
    assert "of 60 seconds" not in again.locator("#training").inner_text()


def trainings() -> set[str]:
    """Processes that train for a playground."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"zoo-demo-" in path.read_bytes():
                found.add(path.parent.name)
        except OSError:
            continue
    return found
