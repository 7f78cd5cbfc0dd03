"""Randomness as a pure function of where training stands.

Everything random in a run takes its seed from a key such as (seed, stage, use, epoch, batch). A run stopped
anywhere and resumed draws what it would have drawn, with no generator state to save.
"""

import numpy as np
import torch

TRAIN, VALIDATE, TEST, PREDICT = range(4)
"""Stages: the second part of every key."""

STEP, SHUFFLE, BINARIZE, EPISODE, INSTANCE = range(5)
"""Uses: the third part, so that no two uses share a stream."""


def derive_seed(*key: int) -> int:
    """A 63-bit seed from non-negative integers; keys that differ in more than zeros at their ends give
    independent streams."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device | str, *key: int) -> torch.Generator:
    """A generator on ``device`` seeded from ``key``."""
    return torch.Generator(device).manual_seed(derive_seed(*key))


def seed_default_generators(*key: int) -> None:
    """Seed the default generators, CPU and current accelerator, from ``key``.

    A few microseconds, where ``torch.manual_seed`` visits every backend: cheap enough for every batch.
    """
    seed = derive_seed(*key)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
