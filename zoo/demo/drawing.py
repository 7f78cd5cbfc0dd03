"""Pictures as SVG text: bars, curves, clouds, grids. They scale, follow the page's colours, and take a millisecond.

A picture has a text for those who do not see it. Colours are classes (``a``, ``b``, ``c``, ``ink``, ``faint``), whose
values for light and dark are in :data:`STYLE`.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 38, 10, 12, 32

STYLE = """
.zoo-page {--z-ink:#1f2430; --z-faint:#6a7180; --z-line:#c9ced8; --z-card:#ffffff; --z-a:#0063a6; --z-b:#b84a00;
  --z-c:#00734f; color:var(--z-ink); font-family:system-ui,sans-serif}
.dark .zoo-page {--z-ink:#eef1f6; --z-faint:#a9b1c0; --z-line:#454c5a; --z-card:#171b23; --z-a:#62b8f5; --z-b:#ffa45c;
  --z-c:#45d6a0}
.zoo-page .zoo-grid {display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr)); gap:12px}
.zoo-page figure {margin:0; padding:10px; background:var(--z-card); border:1px solid var(--z-line); border-radius:8px;
  min-width:0}
.zoo-page figcaption {font-size:14px; font-weight:600; margin:0 0 6px; color:var(--z-ink)}
.zoo-page figure p {font-size:13px; margin:6px 0 0; color:var(--z-faint)}
.zoo-page .say {font-size:16px; line-height:1.5; margin:0 0 12px; padding:10px 14px; border-left:4px solid var(--z-a);
  background:var(--z-card); color:var(--z-ink); border-radius:0 8px 8px 0}
.zoo-page svg {display:block; width:100%; height:auto; max-height:420px}
.zoo-page svg text {font:11px system-ui,sans-serif; fill:var(--z-faint)}
.zoo-page svg text.ink {fill:var(--z-ink); stroke:var(--z-card); stroke-width:3px; paint-order:stroke}
.zoo-page .axis {stroke:var(--z-line); fill:none}
.zoo-page .a {--z:var(--z-a)} .zoo-page .b {--z:var(--z-b)} .zoo-page .c {--z:var(--z-c)}
.zoo-page .ink {--z:var(--z-ink)} .zoo-page .faint {--z:var(--z-faint)}
.zoo-page .fill {fill:var(--z); stroke:none} .zoo-page .line {stroke:var(--z); fill:none; stroke-width:2}
.zoo-page .thin {stroke:var(--z); fill:none; stroke-width:1} .zoo-page .dash {stroke-dasharray:4 3}
.zoo-page .dots {stroke:var(--z); fill:none; stroke-width:3; stroke-linecap:round; stroke-opacity:.35}
.zoo-page .band {fill:var(--z); fill-opacity:.16; stroke:none}
.zoo-page svg text.fill, .zoo-page svg text.a, .zoo-page svg text.b, .zoo-page svg text.c {fill:var(--z)}
.zoo-page table {border-collapse:collapse; font-size:14px; color:var(--z-ink)} .zoo-page td, .zoo-page th {
  padding:3px 10px 3px 0; text-align:left; border-bottom:1px solid var(--z-line)}
.zoo-page img {image-rendering:pixelated; width:100%; max-width:280px; display:block; background:#000}
.zoo-page img.wide {max-width:100%} .zoo-page img.film {max-width:640px; image-rendering:auto}
.zoo-page .strip {display:flex; flex-wrap:wrap; gap:4px} .zoo-page .strip img {width:72px; flex:0 0 auto}
.zoo-page audio {width:100%}
.zoo-page pre {white-space:pre-wrap; overflow-wrap:anywhere; font:14px/1.5 ui-monospace,monospace; margin:0;
  color:var(--z-ink); background:none}
.zoo-page mark {background:var(--z-a); color:var(--z-card); border-radius:2px}
.zoo-page .pick {cursor:pointer}
body:not(.dark) button[role="tab"].selected {color:#1d4ed8}
@media (max-width:700px) {.zoo-left {display:contents !important} .zoo-seen {order:1} .zoo-more {order:2}}
"""


def page(*parts: str, say: str = "") -> str:
    """``parts`` side by side where there is room, under a sentence that is read aloud when it changes."""
    sentence = f'<p class="say" role="status" aria-live="polite">{escape(say)}</p>' if say else ""
    return f'<div class="zoo-page">{sentence}<div class="zoo-grid">{"".join(parts)}</div></div>'


def figure(title: str, content: str, note: str = "") -> str:
    """A picture with its title and a line below."""
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{content}{below}</figure>"


def svg(about: str, *parts: str, width: int = WIDTH, height: int = HEIGHT, name: str = "") -> str:
    """Marks as a picture, and what it shows in words."""
    named = f' id="{name}"' if name else ""
    return (
        f'<svg{named} viewBox="0 0 {width} {height}" role="img" aria-label="{escape(about, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def circle(x: float, y: float, r: float, kind: str, title: str = "", opacity: float = 1.0) -> str:
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" class="{kind}" opacity="{opacity:.2f}">{inside}</circle>'


def dots(points: np.ndarray, kind: str = "a") -> str:
    """A cloud ``(n, 2)`` as one path, which is a fifth of as many circles: whole numbers on a grid ten times finer."""
    whole = "".join(f"M{x} {y}h0" for x, y in np.rint(points * 10).astype(int).tolist())
    return f'<g transform="scale(.1)"><path class="dots {kind}" d="{whole}" style="stroke-width:30"/></g>'


class Axes:
    """A frame with scales.

    Args:
        x, y: from where to where; of ``log`` the x axis is logarithmic.
        ticks: numbers to write below.
        about: what is along x, and what along y.
    """

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        ticks: Sequence[float] = (),
        log: bool = False,
        about: tuple[str, str] = ("", ""),
    ) -> None:
        self.log, self.x, self.y = log, x, (y if y[1] > y[0] else (y[0], y[0] + 1.0))
        self.parts: list[str] = []
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        self.parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        for tick in ticks:
            at = self.across(tick)
            self.parts += [
                f'<path class="axis" d="M{at:.1f} {bottom}v4"/>',
                text(at, bottom + 15, f"{tick:g}", "middle"),
            ]
        for tick in nice(*self.y):
            at = self.up(tick)
            self.parts += [f'<path class="axis" d="M{LEFT} {at:.1f}h-4"/>', text(LEFT - 6, at + 4, f"{tick:g}", "end")]
        if self.y[0] < 0 < self.y[1]:
            self.parts.append(f'<path class="axis" d="M{LEFT} {self.up(0):.1f}H{right}"/>')
        self.parts += [text(right, HEIGHT - 4, about[0], "end"), text(LEFT + 4, TOP + 2, about[1])]

    def across(self, value: float) -> float:
        low, high = self.x
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return LEFT + (value - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def up(self, value: float) -> float:
        low, high = self.y
        place = HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return min(max(place, TOP - 4.0), HEIGHT - BOTTOM + 4.0)

    def path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        return "L".join(f"{self.across(x):.1f} {self.up(y):.1f}" for x, y in zip(xs, ys))

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str = "a") -> None:
        if len(xs):
            self.parts.append(f'<path class="line {kind}" d="M{self.path(xs, ys)}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str = "a") -> None:
        self.parts.append(f'<path class="band {kind}" d="M{self.path(xs, high)}L{self.path(xs[::-1], low[::-1])}Z"/>')

    def cloud(self, xs: Sequence[float], ys: Sequence[float], kind: str = "a") -> None:
        self.parts.append(dots(np.array([[self.across(x), self.up(y)] for x, y in zip(xs, ys)]), kind))

    def upright(self, x: float, kind: str = "ink") -> None:
        self.parts.append(f'<path class="thin dash {kind}" d="M{self.across(x):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')

    def label(self, x: float, y: float, words: str, kind: str = "ink", anchor: str = "end") -> None:
        self.parts.append(text(self.across(x), self.up(y) - 4, words, anchor, kind))

    def drawn(self, about: str) -> str:
        return svg(about, *self.parts)


def nice(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    rough = (high - low) / count
    if not (math.isfinite(rough) and rough > 0):
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def bars(
    values: Sequence[float],
    names: Sequence[str],
    about: str,
    *,
    outline: Sequence[float] = (),
    spread: Sequence[float] = (),
    low: float = 0.0,
    high: float | None = None,
    kind: str = "a",
    what: str = "",
) -> str:
    """Bars, with outlines beside them to compare with, and whiskers of a ``spread`` to either side."""
    tops = [v + s for v, s in zip(values, spread or [0.0] * len(values))]
    axes = Axes((0, len(values)), (low, high or max([*tops, *outline, 1e-9])), about=("", what))
    zero = axes.up(max(low, 0.0))
    for i, (value, name) in enumerate(zip(values, names)):
        left, right = axes.across(i + 0.12), axes.across(i + 0.88)
        for number, mark in ((value, "fill"), *([(outline[i], "thin ink")] if len(outline) else [])):
            top = axes.up(number)
            left_, right_ = (left, right) if mark == "fill" else (left - 2, right + 2)
            axes.parts.append(
                f'<rect x="{left_:.1f}" y="{min(top, zero):.1f}" width="{right_ - left_:.1f}" '
                f'height="{abs(zero - top):.1f}" class="{mark} {kind if mark == "fill" else ""}"/>'
            )
        if len(spread):
            middle = (left + right) / 2
            ends = axes.up(value - spread[i]), axes.up(value + spread[i])
            axes.parts.append(f'<path class="thin ink" d="M{middle:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>')
        if len(values) <= 20 or i % 5 == 0:
            axes.parts.append(text((left + right) / 2, HEIGHT - BOTTOM + 15, name, "middle", "ink"))
    return axes.drawn(about)


def ranked(values: Sequence[float], names: Sequence[str], about: str, *, strong: int = 0) -> str:
    """Horizontal bars with their names, the first ``strong`` of them in another colour."""
    top, height = max([*values, 1e-9]), 20 * len(values) + 8
    parts = []
    for i, (value, name) in enumerate(zip(values, names)):
        at, width = 4 + 20 * i, max(1.0, 190 * value / top)
        parts += [
            text(108, at + 13, name if len(name) <= 18 else f"{name[:17]}…", "end", "ink"),
            f'<rect x="114" y="{at}" width="{width:.1f}" height="16" class="fill {"b" if i < strong else "a"}"/>',
            text(118 + width, at + 13, f"{value:.2g}" if value < 1 else f"{value:.3g}"),
        ]
    return svg(about, *parts, height=height)


def curves(
    series: Sequence[tuple[str, Sequence[float], Sequence[float], str]],
    about: str,
    *,
    ticks: Sequence[float] = (),
    log: bool = False,
    names: tuple[str, str] = ("", ""),
    y: tuple[float, float] | None = None,
    now: float | None = None,
) -> str:
    """Lines ``(name, xs, ys, colour)``, with names at their ends."""
    xs = [x for _, some, _, _ in series for x in some] or [0.0, 1.0]
    ys = [v for _, _, some, _ in series for v in some if math.isfinite(v)] or [0.0, 1.0]
    axes = Axes(
        (min(xs), max(xs)), y or (min(ys), max(ys)), ticks=ticks or nice(min(xs), max(xs)), log=log, about=names
    )
    for i, (name, some, values, kind) in enumerate(series):
        kept = [(x, v) for x, v in zip(some, values) if math.isfinite(v)]
        axes.line([x for x, _ in kept], [v for _, v in kept], kind)
        if len(kept) == 1:  # a line of one point is none
            axes.parts.append(circle(axes.across(kept[0][0]), axes.up(kept[0][1]), 3, f"fill {kind}"))
        axes.parts.append(text(WIDTH - RIGHT, TOP + 2 + 13 * i, f"— {name}", "end", kind))
    if now is not None:
        axes.upright(now)
    return axes.drawn(about)


def picture(pixels: np.ndarray, about: str, kind: str = "") -> str:
    """Pixels in [0, 1], ``(height, width)`` or ``(channels, height, width)``, as an image inside of the page."""
    from PIL import Image

    array = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    Image.fromarray(array).save(content := io.BytesIO(), format="PNG")
    return image(content.getvalue(), "png", about, kind)


def image(content: bytes, ending: str, about: str, kind: str = "") -> str:
    data = base64.b64encode(content).decode()
    return f'<img class="{kind}" src="data:image/{ending};base64,{data}" alt="{escape(about, quote=True)}">'


def strip(pictures: Sequence[np.ndarray], about: str) -> str:
    """Small pictures in a row that wraps."""
    inside = "".join(picture(one, f"{about}, {i}") for i, one in enumerate(pictures, 1))
    return f'<div class="strip">{inside}</div>'
