"""Classes from outside the package, for the tests of what users bring."""

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from lightning import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.relaxations import Categorical, Noise, Pathwise, Relaxation, Tempered
from zoo.relaxations.distributions import Scored


class Stateful(nn.Module):
    """Has a state that is not a tensor."""

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


class Kept(Logger):
    """Keeps the names of what was logged."""

    name, version = "kept", 0
    names: ClassVar[set[str]] = set()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names.update(metrics)


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


class Corridor(gymnasium.Env):
    """Five cells, of which the last one pays; registered when this module is imported."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, cells: int = 5, render_mode: str | None = None) -> None:
        self.cells, self.render_mode = cells, render_mode
        self.observation_space = gymnasium.spaces.Box(0, 1, (cells,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def get_action_meanings(self) -> list[str]:
        return ["left", "right"]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place, self.count = 0, 0
        return self._see(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.place = min(max(self.place + 2 * int(action) - 1, 0), self.cells - 1)
        self.count += 1
        there = self.place == self.cells - 1
        return self._see(), float(there), there, self.count == 20, {}

    def _see(self) -> np.ndarray:
        return np.eye(self.cells, dtype=np.float32)[self.place]

    def render(self) -> np.ndarray:
        return np.repeat(np.repeat((255 * self._see()).astype(np.uint8)[None, :, None], 3, 2), 4, 0)


if "OwnCorridor-v0" not in gymnasium.registry:
    gymnasium.register("OwnCorridor-v0", entry_point=Corridor, kwargs={"cells": 5})


class Neighbours(Scored):
    """Two neighbours in a row of n + 1: a distribution."""

    def _sample(self, noise: Noise) -> Tensor:
        return self._open(Categorical(self.logits)._sample(noise))

    def _mode(self) -> Tensor:
        return self._open(Categorical(self.logits)._mode())

    def _log_prob(self, value: Tensor) -> Tensor:
        return Categorical(self.logits)._log_prob((value.cumsum(-1) == 1).to(value)[..., :-1])

    @staticmethod
    def _open(start: Tensor) -> Tensor:
        nothing = torch.zeros_like(start[..., :1])
        return torch.cat([start, nothing], -1) + torch.cat([nothing, start], -1)


class Blinds(LightningModule):
    """A model without a base class of the zoo: which two rows of a picture are the brightest."""

    monitor = "val/cost"

    def __init__(self, relaxation: Relaxation, size: int = 8) -> None:
        super().__init__()
        self.relaxation, self.size = relaxation, size
        self.logits = nn.Parameter(torch.zeros(size - 1))

    def cost(self, x: Tensor, rows: Tensor) -> Tensor:
        return -(rows * x.mean((1, 3))).sum(-1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0]
        logits = self.logits.expand(len(x), -1)
        return self.relaxation.expectation(lambda draw: self.cost(x, draw(Neighbours(logits)))).mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/cost", self.cost(batch[0], self(batch[0])).mean())

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test/cost", self.cost(batch[0], self(batch[0])).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.05)

    @property
    def example_input_array(self) -> Tensor:
        return torch.rand(2, 1, self.size, self.size)

    def forward(self, x: Tensor) -> Tensor:
        return Neighbours(self.logits).mode() * torch.ones_like(x[:, 0, 0, :1])

    def sample(self, n: int) -> Tensor:
        """Colour pictures ``(n, 3, size, size)`` of drawn rows."""
        rows = Neighbours(self.logits.detach()).sample((n,))
        return rows[:, None, :, None].expand(n, 3, self.size, self.size)


class Paced(Callback):
    """Does something at the end of training, and says so."""

    @classmethod
    def paced(cls, arguments: dict[str, Any]) -> str:
        return f"Paced acts at {arguments['share']} of training"

    def __init__(self, share: float = 0.9) -> None:
        self.share = share


class OnDisk(LightningDataModule):
    """Pictures in a file of a folder."""

    def __init__(self, folder: str, size: int = 8) -> None:
        super().__init__()
        self.folder, self.size = folder, size

    def loader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.load(Path(self.folder) / "pictures.pt")), 20)

    train_dataloader = val_dataloader = test_dataloader = loader
