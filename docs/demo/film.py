"""Film the first tab of the playground: ten seconds of it as a GIF.

    python docs/demo/film.py                              docs/demo/softmax_or_gumbel.gif
    python docs/demo/film.py mine.gif

Starts the page, moves its controls in a headless Chromium (``scripts/browser.sh`` installs one), and takes a picture
after each move.
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1180, 1215
SHOWN = 800
"""Pixels of width of the film."""
MOVE, REST = 100, 1000
"""Milliseconds of a picture of a move, and of one to look at."""


def film(page: Page) -> tuple[list[Image.Image], list[int]]:
    """Pictures, and how long each is shown."""
    pictures: list[Image.Image] = []
    times: list[int] = []

    def take(time: int) -> None:
        page.wait_for_timeout(250)  # for the answer
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        pictures.append(picture.resize((SHOWN, SHOWN * picture.height // picture.width), Image.Resampling.LANCZOS))
        times.append(time)

    def slide(element: str, *values: float) -> None:
        box = page.locator(f"{element} input[type=number]")
        for value in values:
            box.fill(f"{value:g}")
            box.press("Enter")
            take(MOVE)
        times[-1] = REST

    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    take(REST)
    slide("#tau", *(0.7 + 0.1 * i for i in range(1, 13)))  # towards the middle
    slide("#tau", *(1.9 - 0.1 * i for i in range(1, 19)))  # into the corners
    page.locator("#noise").get_by_label("none").check()
    take(REST)
    page.locator("#noise").get_by_label("Gumbel").check()
    page.locator("#hard input").check()
    take(REST)
    slide("#tau", *(0.1 + 0.15 * i for i in range(1, 13)))
    return pictures, times


def main(path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    command = [sys.executable, "-m", "zoo", "demo", "port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the playground did not start"
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            page.goto(found[0])
            page.wait_for_selector("#softmax-or-gumbel svg")
            pictures, times = film(page)
            browser.close()
        finally:
            server.terminate()
    frames = [picture.quantize(255, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for picture in pictures]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    print(f"{path}: {sum(times) / 1000:.1f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/demo/softmax_or_gumbel.gif"))
