"""Curves of a run: what is drawn, what is left out, and in which words."""

from types import SimpleNamespace

import matplotlib
import pytest
import torch
from matplotlib.colors import to_hex

from zoo.training.callbacks import save_curves
from zoo.training.callbacks.pictures import panels_of
from zoo.training.plots import COLOURS, curves, heat_map, image_grid, style


def rising(n: int, start: float = 0.0) -> list[tuple[int, float]]:
    return [(10 * i, start + i) for i in range(n)]


def test_a_short_run_shows_its_points_and_a_long_one_a_line():
    figure = curves({"short": {"train": rising(3)}, "long": {"train": rising(100)}}, "step")
    short, long = (axes.lines[0] for axes in figure.axes)
    assert short.get_marker() == "o" and long.get_marker() in ("", "None")


def test_what_never_changes_is_left_out_and_a_single_point_is_not():
    flat = [(0, 1.0), (10, 1.0)]
    figure = curves(
        {"tau": {"tau": flat}, "once": {"train": [(5, 2.0)]}, "kl": {"train": flat, "val": rising(2)}}, "step"
    )
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == ["once", "kl"]
    assert not curves({"tau": {"tau": flat}}, "step").axes


def test_a_panel_says_its_unit_and_a_stage_has_one_colour():
    panels = {"kl": {"train": rising(3), "val": rising(3)}, "nll": {"val": rising(3)}}
    with style():
        figure = curves(panels, "step", {"kl": "nats"})
    first, second = figure.axes
    assert first.get_ylabel() == "nats" and second.get_xlabel() == "step"
    assert to_hex(first.lines[1].get_color()) == to_hex(second.lines[0].get_color()) == COLOURS[1].lower()
    assert all(axes.get_legend() for axes in figure.axes)
    assert not curves({"lr": {"lr": rising(3)}}, "step").axes[0].get_legend()


def test_the_loss_is_always_there_and_what_is_annealed_is_drawn_apart():
    series = {f"{stage}/{name}": rising(3) for stage in ("train", "val") for name in ("neg_elbo", "kl")}
    series |= {"train/loss": rising(3, 5.0), "train/only": rising(3), "test/kl": rising(1), "lr": rising(3)}
    panels = panels_of(series, SimpleNamespace(annealed=("neg_elbo",), curves=("only",)))
    assert list(panels) == ["loss", "kl", "neg_elbo, annealed in training", "neg_elbo", "only", "lr"]
    assert set(panels["kl"]) == {"train", "val"} and set(panels["neg_elbo"]) == {"val"}
    series["train/loss"] = series["train/kl"]  # which is shown under its own name
    assert "loss" not in panels_of(series, SimpleNamespace())


def test_pictures_are_legible_on_any_ground_and_leave_the_users_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    with style():
        for i, figure in enumerate(
            (image_grid(torch.rand(3, 1, 4, 4), "a"), heat_map(torch.rand(3, 3), "b", "x", "y"))
        ):
            figure.savefig(tmp_path / f"{i}.png")
    assert dict(matplotlib.rcParams) == before
    for path in tmp_path.iterdir():
        corner = matplotlib.image.imread(path)[0, 0]
        assert corner[:3].tolist() == [1.0, 1.0, 1.0] and (len(corner) == 3 or corner[3] == 1.0)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(
        w * (x / 12.92 if x <= 0.04 else ((x + 0.055) / 1.055) ** 2.4) for w, x in zip((0.2126, 0.7152, 0.0722), parts)
    )


@pytest.mark.parametrize("colour", COLOURS[:3])
def test_the_first_colours_stand_out_from_white(colour):
    """By a contrast of 3, as WCAG 2.1 asks of graphics."""
    assert 1.05 / (luminance(colour) + 0.05) > 3


def test_the_curves_of_a_run_that_logged_nothing_are_no_picture(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step\n")
    trainer = SimpleNamespace(lightning_module=SimpleNamespace(), loggers=[])
    save_curves(tmp_path / "metrics.csv", tmp_path / "curves.png", trainer)
    assert not (tmp_path / "curves.png").exists()
