"""The benchmarks of the layer: what they measure with, and the command for GPUs, tried on a CPU."""

import importlib.util
import json
import os
import sys
import time
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import ROOT, run_script
from zoo.hub.registry import models
from zoo.relaxations import RELAXATIONS, Noise, Softmax, functional

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bench():
    """The scripts as modules, with their neighbours at hand, as when they are started."""
    folder = ROOT / "scripts" / "bench"
    sys.path.insert(0, str(folder))
    try:
        loaded = {}
        for name in ("relaxations", "timing", "made_up", "gpu"):
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            loaded[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded[name])
        yield SimpleNamespace(**loaded, tiny=loaded["gpu"].Where("cpu", tiny=True))
    finally:
        sys.path.remove(str(folder))
        for name in loaded:
            sys.modules.pop(name, None)


def test_traffic_counts_what_is_read_and_written(bench):
    x = torch.ones(4, 8, device="meta")
    for function, expected in (
        (lambda: x.exp(), 2),
        (lambda: x.add_(x), 3),
        (lambda: torch.empty_like(x).exponential_(), 1),
        (lambda: x.view(8, 4).t().detach(), 0),
        (lambda: x.double(), 3),  # of twice the size
        (lambda: x + x[:, :1].expand(4, 8), 2 + 1 / 8),
    ):
        with bench.gpu.Traffic() as traffic:
            function()
        assert traffic.bytes == expected * x.numel() * 4


def test_traffic_of_draws_is_at_least_the_least(bench):
    rows = [row for label, f in bench.gpu.traffic(bench.tiny) for row in bench.gpu.attempt(label, f, 60)]
    by_name = {row["function"]: row for row in rows if "failed" not in row}
    assert {"PyTorch soft", "PyTorch hard", "gumbel_softmax", "st_gumbel_softmax"} <= by_name.keys()
    for row in by_name.values():
        assert row["forward, bytes a number"] >= 8 and row["backward, bytes a number"] >= 12


@pytest.mark.parametrize("masked", [False, True])
def test_draws_are_timed_and_one_that_fails_stops_no_other(bench, monkeypatch, masked):
    def fail(logits):
        raise RuntimeError("no kernel")

    ours = {"gumbel_softmax": lambda logits: functional.gumbel_softmax(logits, 0.7), "reinmax": fail}
    monkeypatch.setattr(bench.gpu, "functions_of", lambda mask=None: ours)
    rows = {row["function"]: row for row in bench.gpu.draws(bench.tiny, (4, 5), masked, "eager")}
    assert rows["reinmax"]["failed"] == "RuntimeError: no kernel"
    row = rows["gumbel_softmax"]
    least = 5 * 20 * 4 + (20 if masked else 0)
    assert row["share of a copy, both"] == pytest.approx(
        least / (row["both, ms"] / 1e3) / bench.gpu.copy_bandwidth(bench.tiny)
    )
    assert row["times eager PyTorch"] > 0 and row["memory, MB"] > 0


def test_what_waits_for_the_device_is_named(bench, monkeypatch):
    class Reads(Softmax):
        def pathwise(self, distribution, noise):
            distribution.logits.sum().item()
            return super().pathwise(distribution, noise)

    assert bench.gpu.waits(bench.tiny, "gumbel_softmax") == {"value": "never"}
    monkeypatch.setitem(RELAXATIONS, "reads", Reads)
    with pytest.raises(RuntimeError, match=r"training, without a mask: base\.py"):
        bench.gpu.waits(bench.tiny, "reads")


def test_frequencies_and_rare_noise_tell_right_from_wrong(bench, monkeypatch):
    gpu = bench.gpu
    assert gpu.frequencies(bench.tiny, "st_gumbel_softmax", "eager")["p"] > 1e-3
    assert "not compared" in gpu.frequencies(bench.tiny, "gaussian_softmax", "eager")["value"]
    monkeypatch.setattr(gpu, "RARE", 1e-3)
    assert gpu.rare(bench.tiny, "eager")["p"] > 1e-3
    for scale in (1.3, 0.0):
        monkeypatch.setattr(
            Noise, "gumbel", lambda self, like, *_, scale=scale: -scale * torch.rand_like(like).log().neg().log()
        )
        assert gpu.rare(bench.tiny, "eager")["p"] < 1e-6
    assert gpu.frequencies(bench.tiny, "st_gumbel_softmax", "eager")["p"] < 1e-6
    assert bench.relaxations.chi_squared(torch.tensor([5, 5, 1]), torch.tensor([0.5, 0.5, 0.0]))[1] == 0.0


def test_a_part_ends_in_time_and_says_what_it_left_out(bench, tmp_path):
    def wait_for_a_process():
        try:
            time.sleep(60)
        except OSError:  # as multiprocessing does
            time.sleep(60)

    def cases(where):
        return [
            ({"case": "good"}, lambda: {"value": 1.0, "share of it": 0.5}),
            ({"case": "bad"}, lambda: 1 / 0),
            ({"case": "endless"}, wait_for_a_process),
            ({"case": "late"}, lambda: {"value": 2.0}),
        ]

    start = time.monotonic()
    bench.gpu.measure(cases, bench.tiny, 0.5, tmp_path / "rows.jsonl")
    assert time.monotonic() - start < 20
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert rows[0] == {"case": "good", "value": 1.0, "share of it": 0.5}
    assert rows[1]["failed"] == "ZeroDivisionError: division by zero"
    assert rows[2]["failed"].startswith("OutOfTime") and rows[3]["cut"]
    text = bench.gpu.section("layer", rows)
    assert "| good | 1 | 50% |" in text and "- bad: ZeroDivisionError" in text
    assert text.endswith("No time was left for:\n\n- late\n")


def test_a_part_that_hangs_is_ended(bench, tmp_path):
    arguments = Namespace(out=tmp_path, device="cpu", tiny=True)
    assert bench.gpu.start_part("card", arguments, 0.1).startswith("was ended after")


def test_every_model_has_a_configuration_without_data(bench, monkeypatch):
    monkeypatch.setenv("ZOO_DATA_DIR", "/nonexistent")
    for name in models():
        config = bench.gpu.training_config(bench.tiny, name, [], compiled=False, precision="32-true")
        assert not config["data"]["_target_"].startswith("zoo.data."), name
    batch = next(iter(_set_up(bench.made_up.Images(batch_size=3))))
    assert batch[0].shape == (3, 1, 28, 28)
    assert next(iter(_set_up(bench.made_up.Letters(batch_size=3, length=5))))[0].shape == (3, 6)
    assert next(iter(_set_up(bench.made_up.Words(speakers=["a", "b"], batch_size=5)))).mel.dim() == 3


def _set_up(data):
    data.setup()
    return data.train_dataloader()


def test_the_clock_leaves_out_the_first_batches_and_stops(bench):
    now = iter(range(100))
    clock = bench.timing.Clock(lambda: float(next(now)), warm_up=3, enough=4.5)
    trainer = SimpleNamespace(should_stop=False)
    for batch in range(20):
        clock.on_train_batch_end(trainer, None, None, None, batch)
        if trainer.should_stop:
            break
    clock.on_train_end()
    assert batch == 7 and clock.batches == 5 and clock.seconds == 6


def test_the_table_of_the_cpu(bench, capsys):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bench.relaxations.compare((3, 4), 0.0, 1.0)
        bench.relaxations.compare((3, 4), 0.0, 0.7, bench.relaxations.some_mask((3, 4)))
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8 and all(line.count("|") == 8 for line in lines)
    assert lines[0].startswith("| 3 x 4 | `gumbel_softmax` | PyTorch soft |") and "3 x 4, masked" in lines[-1]


@pytest.mark.slow
def test_the_whole_command(tmp_path):
    start = time.monotonic()
    result = run_script(
        "bench/gpu", "--device", "cpu", "--tiny", "--minutes", "4", "--out", str(tmp_path), ZOO_DATA_DIR=os.devnull
    )
    assert result.returncode == 0, result.stdout
    assert time.monotonic() - start < 270
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["card", "traffic", "layer", "checks", "training", "scaling"]
    report = (tmp_path / "report.md").read_text()
    for part, rows in results.items():
        assert rows and f"## {part.capitalize()}" in report
        if part != "checks":  # which tells of places where an estimator waits; otherwise nothing fails but for time
            failed = [row["failed"] for row in rows if "failed" in row]
            assert all("OutOfTime" in why or "was ended after" in why for why in failed), failed
    assert any(row.get("steps/s", 0) > 0 for row in results["training"])
    assert {path.name for path in tmp_path.iterdir()} == {"log.txt", "report.md", "results.json"}
