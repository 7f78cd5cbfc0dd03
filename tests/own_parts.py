"""Classes from outside the package, for the tests of what users bring."""

from typing import ClassVar

import torch
from lightning import Callback, LightningDataModule
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

import zoo
from zoo.relaxations import Pathwise, Tempered


class Stateful(nn.Module):
    """Has a state that is no tensor."""

    def __init__(self, latents: int, categories: int, size: int = 8) -> None:
        super().__init__()

    def get_extra_state(self) -> list[int]:
        return [1]

    def set_extra_state(self, state: list[int]) -> None:
        pass


class Broken(nn.Module):
    """Cannot be built."""

    def __init__(self, latents: int, size: int = 8) -> None:
        raise RuntimeError("broken")


def make_encoder(latents: int, categories: int, size: int = 8) -> nn.Module:
    """Is no class."""
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, latents * categories))


class NoTest(LightningDataModule):
    """Has no data for the test."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()

    def train_dataloader(self) -> list[Tensor]:
        return []

    def val_dataloader(self) -> list[Tensor]:
        return []


class Counting(Callback):
    """Counts the steps of all runs."""

    steps = 0

    def on_train_batch_end(self, *args: object) -> None:
        type(self).steps += 1


class Kept(CSVLogger):
    """Keeps the names of what was logged."""

    names: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__("unused")

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names.update(metrics)

    def save(self) -> None:
        pass


@zoo.remember
class Net(nn.Module):
    """A plain module that remembers its arguments."""

    def __init__(self, inputs: int, outputs: tuple[int, ...], flat: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, torch.Size(outputs).numel()), nn.Unflatten(1, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Plain(Pathwise, Tempered):
    """A softmax, registered."""

    def pathwise(self, distribution, noise):
        return distribution.relax(distribution.logits, self.temperature_for(distribution))
