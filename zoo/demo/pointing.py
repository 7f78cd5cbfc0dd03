"""Watch it point: points on a square, and the tour that a pointer network makes of them, one pointer after another."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.demo import drawing
from zoo.demo.shared import Shelf, polite, uploaded
from zoo.errors import ZooError

ARCHS = ("pointer_net",)
MOST = 200
"""Points: more are for the command."""
SIZE, EDGE = 320, 12
FRAMES, PAUSE = 30, 0.12
"""Pictures of a growing tour, and seconds between them."""
PROVEN = 40
"""Points up to which an optimum is proven while one waits."""
Points = list[tuple[float, float]]

CLICKING = """
element.addEventListener('click', e => {
  const square = e.target.closest('svg#square');
  if (!square) return;
  const box = square.getBoundingClientRect();
  trigger('select', {x: (e.clientX - box.left) / box.width, y: 1 - (e.clientY - box.top) / box.height});
});
"""


# Points ---------------------------------------------------------------------------------------------------------------


def checked(points: Any, fewest: int = 0) -> Points:
    """Points of the unit square or of any other place.

    Raises:
        ZooError: if they are not pairs of finite numbers, too few or too many.
    """
    try:
        array = np.array(points, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise ZooError("points are pairs of numbers, such as 0.2 0.7") from error
    if not np.isfinite(array).all():
        raise ZooError("a coordinate is not a finite number: take it out")
    if len(array) > MOST:
        raise ZooError(f"{len(array):,} points: {MOST} are the most here; zoo solve takes a file of more")
    if len(array) < fewest:
        raise ZooError(f"{len(array)} points: a tour needs at least {fewest}, click into the square")
    return [(float(x), float(y)) for x, y in array]


def typed(text: str) -> Points:
    """Points as they are written: two numbers each.

    Raises:
        ZooError: if they are not.
    """
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    if not words:
        raise ZooError("write points as pairs of numbers, such as 0.1 0.2; 0.5 0.9; 0.8 0.3")
    if len(words) > 2 * MOST:
        raise ZooError(f"{len(words) // 2:,} points: {MOST} are the most here; zoo solve takes a file of more")
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        wrong = next(word for word in words if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word))
        raise ZooError(f"{wrong[:40]!r} is not a number") from error
    if len(numbers) % 2:
        raise ZooError(f"{len(numbers)} numbers: points have two each, so one is missing")
    return checked([numbers[i : i + 2] for i in range(0, len(numbers), 2)])


def read(path: str | None) -> Points:
    """The points of a TSPLIB file or a table.

    Raises:
        ZooError: if it cannot be read, or they are too many.
    """
    from zoo.models.pointer_net.tours import reading

    problem = reading.read(uploaded(path))
    if len(problem) > MOST:
        raise ZooError(f"{len(problem):,} points: {MOST} are the most here; zoo solve takes a file of more")
    return checked(problem.plane().tolist())


def added(points: Points, x: Any, y: Any) -> Points:
    """With one more, of the unit square.

    Raises:
        ZooError: if it is not in it, or they are too many.
    """
    if not all(type(v) in (int, float) and 0 <= v <= 1 for v in (x, y)):
        raise ZooError("a point is in the square, from 0 to 1")
    return checked([*points, (x, y)])


def random(count: int, seed: int) -> Points:
    """Uniform in the unit square.

    Raises:
        ZooError: if they are too many.
    """
    if not 2 <= count <= MOST:
        raise ZooError(f"from 2 to {MOST} points")
    return torch.rand(int(count), 2, generator=torch.Generator().manual_seed(int(seed))).tolist()


# Tours ----------------------------------------------------------------------------------------------------------------


def pointers(model: Any, points: Points) -> tuple[list[int], list[np.ndarray]]:
    """The greedy tour from the first point, and the probabilities of each pointer, ``(points,)`` each."""
    from zoo.models.pointer_net.model import most_probable

    seen: list[np.ndarray] = []

    def choose(logits: Tensor, mask: Tensor) -> Tensor:
        seen.append(logits[0, 0].float().masked_fill(~mask[0, 0], -torch.inf).softmax(-1).numpy())
        return most_probable(logits, mask)

    x = model.task.as_trained(torch.tensor(points).unsqueeze(0))
    with torch.no_grad():
        choices = model.construct(x, model.encode(x), choose, 1)
    return [int(choice[0, 0]) for choice in choices], seen


def tours(model: Any, points: Points) -> list[tuple[str, list[int], float]]:
    """Tours by each method: its name, the order, the length."""
    from zoo.models.pointer_net import solvers
    from zoo.models.pointer_net.tours import search
    from zoo.models.pointer_net.tours.problem import Problem

    array = np.array(points)
    problem = Problem("points", [str(i) for i in range(len(points))], "EUCLID", points=array)
    order, _ = model.solve(array, symmetries=8 if len(points) <= 50 else 1)
    found = {
        "pointer network, best start": order.tolist(),
        "nearest neighbour": search.nearest_neighbour(problem).tolist(),
        "farthest insertion": search.farthest_insertion(problem).tolist(),
    }
    best = search.local_search(problem, search.farthest_insertion(problem), kicks=400)
    name = "local search"
    if 3 <= len(points) <= PROVEN:
        with suppress(ZooError):  # without the package, or not in time
            best, name = solvers.exact_tour(solvers.distances(array), seconds=3.0), "optimum"
    found[name] = best.tolist()
    return [(name, order, problem.length(np.array(order))) for name, order in found.items()]


# Pictures -------------------------------------------------------------------------------------------------------------


def placed(points: Points) -> np.ndarray:
    """Points in pixels: those of the unit square where they are, others scaled into it."""
    array = np.array(points, dtype=np.float64).reshape(-1, 2)
    if len(array) and (array.min() < 0 or array.max() > 1):
        low = array.min(0)
        array = (array - low) / max((array.max(0) - low).max(), 1e-300)
    return np.stack([EDGE + array[:, 0] * (SIZE - 2 * EDGE), SIZE - EDGE - array[:, 1] * (SIZE - 2 * EDGE)], 1)


def square(
    points: Points,
    order: Sequence[int] = (),
    *,
    probabilities: np.ndarray | None = None,
    closed: bool = True,
    kind: str = "a",
    about: str = "",
    name: str = "",
) -> str:
    """Points, a tour of them or its beginning, and circles as large as the probability to be pointed at next."""
    at = placed(points)
    parts = [f'<rect class="axis" x="1" y="1" width="{SIZE - 2}" height="{SIZE - 2}" pointer-events="all"/>']
    if len(order):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at[list(order)])
        parts.append(f'<path class="line {kind}" d="M{path}{"Z" if closed else ""}"/>')
    for i, (x, y) in enumerate(at):
        if probabilities is not None and probabilities[i] > 0.005:
            title = f"{probabilities[i]:.0%}"
            parts.append(drawing.circle(x, y, 4 + 16 * float(probabilities[i]) ** 0.5, "fill b", title, 0.45))
        parts.append(drawing.circle(x, y, 3, "fill ink"))
    return drawing.svg(about or f"{len(points)} points", *parts, width=SIZE, height=SIZE, name=name)


def growing(points: Points, order: list[int], seen: list[np.ndarray], step: int) -> str:
    """The tour after ``step`` pointers, and where the next one may point."""
    given = len(order) - len(seen)
    ahead = seen[step - given] if given <= step < len(order) else None
    done = step >= len(order)
    what = (
        "The tour is closed."
        if done
        else f"Pointer {step} of {len(order)} is {ahead.max():.0%} sure."
        if ahead is not None
        else "It begins at the first point."
    )
    return drawing.figure(
        "The pointer network, step by step",
        square(points, order[:step] if step else [], probabilities=ahead, closed=done, about=what, name="square"),
        f"{what} Orange: how probable each next point is.",
    )


def compared(points: Points, rows: list[tuple[str, list[int], float]]) -> list[str]:
    best = min(length for _, _, length in rows)
    return [
        drawing.figure(
            f"{name}: {length:.3f}" if length < 100 else f"{name}: {length:,.0f}",
            square(points, order, about=f"{name}: a tour of length {length:.3f}", kind="c" if length <= best else "a"),
            "the shortest here"
            if length <= best * (1 + 1e-9)
            else f"{100 * (length / best - 1):.1f}% longer than the best here",
        )
        for name, order, length in rows
    ]


def watch(model: Any, points: Points) -> Iterator[str]:
    """The page as the tour grows, and at its end what others found."""
    points = checked(points, 3)
    order, seen = pointers(model, points)
    rows: list[str] = []
    steps = sorted({round(i * len(order) / FRAMES) for i in range(1, FRAMES)} & set(range(1, len(order))))
    for step in steps:
        yield drawing.page(growing(points, order, seen, step))
        time.sleep(PAUSE)
    found = tours(model, points)
    rows = compared(points, found)
    unsure = float(np.mean([1 - p.max() for p in seen])) if seen else 0.0
    network = found[0][2] / min(length for _, _, length in found) - 1
    say = (
        f"The network closed a tour of {len(points)} points; its pointers left {unsure:.1%} to the other points on "
        f"average. Its best tour is {network:.1%} longer than the best one here."
    )
    yield drawing.page(growing(points, order, seen, len(order)), *rows, say=say)


def still(points: Points, say: str = "") -> str:
    empty = drawing.figure("Points", square(points, name="square"), "Click into the square to add a point.")
    return drawing.page(empty, say=say or f"{len(points)} points.")


def models(shelf: Shelf) -> list[str]:
    """Those for tours in the plane."""
    from zoo import hub

    def closed_tour(name: str) -> bool:
        task = str((hub.read(name, shelf.trust).model.get("task") or {}).get("_target_", ""))
        return task.rpartition(".")[2] == "TSP"

    return [name for name in shelf.names(*ARCHS) if closed_tour(name)]


def build(gr: Any, shelf: Shelf) -> None:
    """Controls, and what they change."""
    first = random(15, 1)
    names = models(shelf)
    gr.Markdown(
        "A pointer network builds a round trip by pointing at one point after another. Click points into the square, "
        "or take random ones, write some, or hand in a file."
    )
    points, seed = gr.State(first), gr.State(2)
    with gr.Row():
        with gr.Column(scale=1, min_width=280, elem_classes="zoo-left"):
            with gr.Column():
                name = gr.Dropdown(names, value=names[0], label="Model")
                solve = gr.Button("Watch it point", variant="primary", elem_id="solve")
                count = gr.Slider(3, MOST, 15, step=1, label="Random points", elem_id="points")
                clear = gr.Button("Clear")
            with gr.Column(elem_classes="zoo-more"):
                text = gr.Textbox(
                    label="Points as numbers", placeholder="0.1 0.2; 0.5 0.9; 0.8 0.3", lines=2, max_length=40_000
                )
                take = gr.Button("Take these points", elem_id="take")
                file = gr.File(label="A file: .tsp or .csv, 10 MB at most", type="filepath", height=150)
        with gr.Column(scale=3, min_width=320, elem_classes="zoo-seen"):
            shown = gr.HTML(still(first), js_on_load=CLICKING, elem_id="tours")

    @polite
    def click(points: Points, event: gr.EventData) -> tuple[str, Points]:
        new = added(points, getattr(event, "x", None), getattr(event, "y", None))
        return still(new), new

    @polite
    def take_random(count: int, seed: int) -> tuple[str, Points, int]:
        new = random(int(count), seed)
        return still(new), new, seed + 1

    @polite
    def take_text(text: str) -> tuple[str, Points]:
        new = typed(text or "")
        return still(new), new

    @polite
    def take_file(path: str | None) -> tuple[str, Points]:
        new = read(path)
        return still(new), new

    def empty() -> tuple[str, Points]:
        return still([]), []

    @polite
    def play(name: str, points: Points) -> Iterator[str]:
        yield from watch(shelf.load(name, *ARCHS), points)

    quick: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
    playing = solve.click(play, [name, points], shown, show_progress="minimal", concurrency_limit=8)
    shown.select(click, points, [shown, points], show_progress="hidden", trigger_mode="multiple", cancels=playing)
    count.input(take_random, [count, seed], [shown, points, seed], cancels=playing, **quick)
    clear.click(empty, None, [shown, points], cancels=playing, show_progress="hidden")
    text.submit(take_text, text, [shown, points], cancels=playing, show_progress="hidden")
    take.click(take_text, text, [shown, points], cancels=playing, show_progress="hidden")
    file.upload(take_file, file, [shown, points], cancels=playing)
