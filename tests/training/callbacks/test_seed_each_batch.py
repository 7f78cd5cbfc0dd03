"""The noise of a batch: the same in every run, and of each process its own."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import dropout

from zoo.data.seeding import STEP, TRAIN, derive_seed
from zoo.models.polynomial import PolynomialProgram
from zoo.relaxations import GumbelSoftmax
from zoo.relaxations.noise import DEFAULT
from zoo.training import AdamW
from zoo.training.callbacks import SeedEachBatch


def noise(rank: int, processes: int, batch: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """What dropout leaves and what a relaxation draws in a step of 6 examples, of those of ``rank``."""
    trainer = SimpleNamespace(global_rank=rank, world_size=processes, current_epoch=2)
    module = nn.ModuleList([GumbelSoftmax()])
    SeedEachBatch(7).on_train_batch_start(trainer, module, None, batch)
    rows = 6 // processes
    left, drawn = dropout(torch.ones(rows, 50)), module[0](torch.zeros(rows, 2, 3))
    SeedEachBatch(7).on_train_batch_end(trainer, module)
    assert module[0].noise is DEFAULT
    return left, drawn


def test_one_process_draws_from_the_seed_of_recorded_results():
    left, drawn = noise(0, 1)
    torch.manual_seed(derive_seed(7, TRAIN, STEP, 2, 4, 0))
    assert torch.equal(left, dropout(torch.ones(6, 50))) and torch.equal(drawn, GumbelSoftmax()(torch.zeros(6, 2, 3)))


def test_dropout_differs_from_process_to_process_and_is_reproducible():
    masks = [noise(rank, 3)[0] for rank in range(3)]
    assert all(torch.equal(mask, noise(rank, 3)[0]) for rank, mask in enumerate(masks))
    masks += [noise(rank, 3, batch=5)[0] for rank in range(3)]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert 0.3 < (mask == other).float().mean() < 0.7  # a half agrees by chance, of 100


def test_dropout_does_not_disturb_the_noise_that_the_processes_share():
    parts = [noise(rank, 3)[1] for rank in range(3)]
    torch.manual_seed(derive_seed(7, TRAIN, STEP, 2, 4, 0))
    torch.testing.assert_close(torch.cat(parts), GumbelSoftmax()(torch.zeros(6, 2, 3)))


def test_what_a_model_draws_itself_is_of_its_part_too():
    trainer = SimpleNamespace(global_rank=1, world_size=2, current_epoch=0)
    module = PolynomialProgram(relaxation=GumbelSoftmax(), optimizer=AdamW())
    SeedEachBatch(0).on_test_batch_start(trainer, module, None, 0)
    assert module.noise_source is module.relaxation.noise and module.noise_source.parts == 2
    SeedEachBatch(0).on_test_batch_end(trainer, module)
    assert module.noise_source is module.relaxation.noise is DEFAULT
