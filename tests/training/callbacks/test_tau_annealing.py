"""Schedules of tau, as functions and in training."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from torch import nn, randn, tensor
from torch.utils.data import DataLoader

from zoo.config import from_config
from zoo.errors import ZooError
from zoo.relaxations import GumbelSoftmax, ReinMax
from zoo.training.callbacks import TauAnnealing


@pytest.mark.parametrize(
    "arguments, expected",  # tau at steps 0, 50, 100, 200 of a training of 100 steps
    [
        ({"schedule": "constant", "start": 0.7}, [0.7, 0.7, 0.7, 0.7]),
        ({"schedule": "linear", "end": 0.5}, [1.0, 0.75, 0.5, 0.5]),
        ({"schedule": "exponential", "end": 0.25}, [1.0, 0.5, 0.25, 0.25]),
        ({"schedule": "exponential", "end": 0.5, "rate": 0.01}, [1.0, math.exp(-0.5), 0.5, 0.5]),
        ({"schedule": "cosine", "end": 0.5}, [1.0, 0.75, 0.5, 0.5]),
        ({"schedule": "step", "factor": 0.8, "every": 50, "end": 0.1}, [1.0, 0.8, 0.64, 0.4096]),
        ({"schedule": "linear", "end": 0.5, "steps": 200}, [1.0, 0.875, 0.75, 0.5]),
        ({"schedule": "linear", "end": 0.5, "every": 80}, [1.0, 1.0, 0.6, 0.5]),
    ],
)
def test_schedules(arguments, expected):
    annealing = TauAnnealing(**arguments)
    assert [annealing.tau(step, 100) for step in (0, 50, 100, 200)] == pytest.approx(expected)


@given(
    schedule=st.sampled_from(["constant", "linear", "exponential", "cosine", "step"]),
    start=st.floats(0.01, 10),
    share=st.floats(0.01, 1),
    step=st.integers(0, 2000),
    every=st.integers(1, 300),
)
def test_tau_stays_between_start_and_end(schedule, start, share, step, every):
    annealing = TauAnnealing(schedule=schedule, start=start, end=start * share, every=every)
    tau = annealing.tau(step, 1000)
    assert start * share * (1 - 1e-9) <= tau <= start * (1 + 1e-9)


class TwoRelaxations(LightningModule):
    def __init__(self):
        super().__init__()
        self.policy, self.code = GumbelSoftmax(tau=2.0), ReinMax(tau=1.0)
        self.layer = nn.Linear(3, 3)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.policy.tau.item(), self.code.tau.item()))
        return self.policy(self.layer(batch)).square().sum()

    def configure_optimizers(self):
        from torch.optim import SGD

        return SGD(self.parameters(), 0.01)


def fit(callback, **arguments):
    module = TwoRelaxations()
    trainer = Trainer(
        max_epochs=2,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        **arguments,
    )
    trainer.fit(module, DataLoader(randn(8, 3), batch_size=2))
    return module


@pytest.mark.filterwarnings("ignore")
class TestInTraining:
    def test_every_relaxation_follows_from_its_own_start(self):
        module = fit(TauAnnealing(schedule="linear", end=0.5))
        policy, code = zip(*module.seen)
        assert policy == pytest.approx([2 - 1.5 * t / 8 for t in range(8)])
        assert code == pytest.approx([1 - 0.5 * t / 8 for t in range(8)])

    def test_a_pattern_selects(self):
        module = fit(TauAnnealing(schedule="linear", end=0.5, pattern="pol*"))
        assert module.code.tau == tensor(1.0) and module.policy.tau < 1

    def test_it_counts_optimiser_steps_under_accumulation(self):
        module = fit(TauAnnealing(schedule="linear", end=0.5), accumulate_grad_batches=2)
        assert [policy for policy, _ in module.seen] == pytest.approx([2 - 1.5 * (t // 2) / 4 for t in range(8)])

    def test_a_pattern_that_selects_nothing_is_an_error(self):
        with pytest.raises(ZooError, match="policy, code"):
            fit(TauAnnealing(pattern="critic"))


@pytest.mark.parametrize(
    "arguments", [{"end": 0.0}, {"start": -1.0}, {"every": 0}, {"steps": 0}, {"rate": 0.1}, {"factor": 1.0}]
)
def test_constructor_checks_its_numbers(arguments):
    with pytest.raises(ValueError):
        TauAnnealing(**arguments)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(ZooError, match="'constant', 'linear'"):
        from_config({"_target_": "zoo.training.callbacks.TauAnnealing", "schedule": "lineal"}, where="annealing")
