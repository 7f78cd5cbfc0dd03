"""What several processes end with is what one ends with: within rounding, or, of the actor-critic, in distribution."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.test_actor_critic import SMALL as ENVIRONMENTS
from tests.cli.test_actor_critic import equal, same
from tests.cli.test_distributed import BRIEF, MODELS, difference
from tests.conftest import SMALL
from tests.processes import train_in_processes
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.runs import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# Few steps: rounding seldom makes a drawn city another one, but from then on two runs differ by 1e-3.
POINTERS = ("model=pointer_net", *BRIEF, *MODELS["pointer_net"], "trainer.limit_train_batches=5")
JOBS = {
    "self_label": (*POINTERS, "model.objective=self_label"),
    "reinforce": (*POINTERS, "relaxation=reinforce"),
    "relax": ("model=cat_vae", *SMALL, *BRIEF, "trainer.limit_train_batches=20", "relaxation=relax"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, dict[str, RunFolder]]:
    """Each job in one and in four processes, two on each of two machines."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        processes: dict(
            zip(JOBS, train_in_processes(processes, [(folder / f"{name}{processes}", JOBS[name]) for name in JOBS]))
        )
        for processes in (1, 4)
    }


@pytest.mark.parametrize("name", ["self_label", "reinforce"])
def test_four_processes_agree_with_one(runs, name):
    """Of REINFORCE that needs a baseline of all processes: with one of each, they differ by 0.2."""
    assert runs[1][name].read_results()["steps"] == runs[4][name].read_results()["steps"] == 5
    assert difference(runs[1][name], runs[4][name]) < 1e-5


def test_control_variates_are_fitted_on_all_processes(runs):
    """The running products behind eta; those of one process alone are 2e-3 off."""
    one, four = (torch.load(runs[n]["relax"].best, weights_only=True)["state_dict"] for n in (1, 4))
    for name in ("relaxation.gram", "relaxation.cross", "relaxation.network.0.weight"):
        torch.testing.assert_close(four[name], one[name], rtol=1e-5, atol=1e-5)


def test_two_processes_of_an_actor_critic_that_were_stopped_end_in_the_same_bits(tmp_path):
    """Each has a replay and episodes under way of its own."""
    options = (*ENVIRONMENTS, "relaxation=rebar", "annealing=linear")
    (run,) = train_in_processes(2, [(tmp_path / "run", options)])
    whole = RunFolder(shutil.copytree(run.path, tmp_path / "whole"))
    newest_checkpoint(run.checkpoints).unlink()  # what is left is from the middle of the last epoch
    run.results.unlink()
    train_in_processes(2, [(run.path, options)])
    assert newest_checkpoint(run.checkpoints).name == newest_checkpoint(whole.checkpoints).name
    assert same(run, whole)
    states = torch.load(newest_checkpoint(whole.checkpoints), weights_only=True)["Environments"]
    assert len(states["others"]) == 1 and not equal(states["replay"], states["others"][0]["replay"])


SEEDS = range(4)


def returns(folder: Path, processes: int, share: int) -> torch.Tensor:
    """Test returns of agents that learn for 200 steps, a run for each seed, ``(seeds,)``; from 3.6 to at most 10.

    Args:
        processes: how many learn together.
        share: the part of the environments and the batch that each has: one of so many.
    """
    options = (
        "model=actor_critic",
        *BRIEF,
        "model.policy.hidden=[32]",
        "model.critic.hidden=[32]",
        "model.updates=1",
        f"model.batch_size={64 // share}",
        "data.env=tests.toys:Toy/Buttons-v0",
        f"data.envs={16 // share}",
        f"data.epoch_steps={3200 * processes // share}",
        f"data.start={160 // share}",
        f"data.replay={1600 // share}",
        "data.steps=1",
        "data.eval_episodes=2",
        "data.test_episodes=40",
    )
    jobs = [(folder / f"{processes}-{share}-{seed}", (*options, f"seed={seed}")) for seed in SEEDS]
    runs = train_in_processes(processes, jobs)
    assert all(run.read_results()["steps"] == 200 for run in runs)
    return torch.tensor([run.read_results()["metrics"]["test/sampled_return"] for run in runs])


def standard_errors(a: torch.Tensor, b: torch.Tensor) -> float:
    """By how many standard errors the means of two samples differ."""
    return ((a.mean() - b.mean()).abs() / (a.var() / len(a) + b.var() / len(b)).sqrt()).item()


def test_an_actor_critic_learns_as_fast_in_two_processes_as_in_one(tmp_path):
    """With the same environments and batch in all. With what one of the two has, it learns measurably less."""
    one, two, half = returns(tmp_path, 1, 1), returns(tmp_path, 2, 2), returns(tmp_path, 1, 2)
    assert one.mean() > 5
    assert standard_errors(one, two) < 3, (one, two)
    assert standard_errors(half, torch.cat([one, two])) > 3, (one, two, half)
