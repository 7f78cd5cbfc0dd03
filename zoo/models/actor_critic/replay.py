"""What was lived in environments lately, and the n-step transitions that are learned from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError


@dataclasses.dataclass(frozen=True)
class Transitions:
    """A batch of n-step transitions.

    Attributes:
        observation: ``(batch, *observation)``.
        action: int64 ``(batch, choices)``.
        reward: the discounted sum of up to n rewards, ``(batch,)``.
        discount: of the value of ``following``, ``gamma^m`` after m steps, and 0 after a termination, ``(batch,)``.
        following: the observation m steps later, ``(batch, *observation)``.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    following: Tensor

    def split(self, size: int) -> "list[Transitions]":
        """Batches of ``size``, the last one of what is left."""
        return [Transitions(*parts) for parts in zip(*(value.split(size) for value in vars(self).values()))]


class Replay:
    """The last transitions of every copy: a ring of tensors ``(rows, envs, ...)`` on the training device.

    Args:
        rows: of the ring.
        envs: copies of the environment.
        observation: shape of an observation.
        choices: that an action is made of.
        dtype: of observations.
        device: of the tensors.
    """

    def __init__(
        self,
        rows: int,
        envs: int,
        observation: Sequence[int],
        choices: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (rows, envs)
        self.rows, self.envs, self.written = rows, envs, 0
        self.tensors = {
            "observation": torch.zeros(*shape, *observation, dtype=dtype, device=device),
            "following": torch.zeros(*shape, *observation, dtype=dtype, device=device),
            "action": torch.zeros(*shape, choices, dtype=torch.int64, device=device),
            "reward": torch.zeros(*shape, device=device),
            "terminated": torch.zeros(*shape, dtype=torch.bool, device=device),
            "ended": torch.zeros(*shape, dtype=torch.bool, device=device),
        }

    def __len__(self) -> int:
        """Transitions in the ring."""
        return min(self.written, self.rows) * self.envs

    def add(self, **row: Tensor) -> None:
        """Write one transition of every copy over the oldest ones; ``ended`` is terminated or truncated."""
        for name, value in row.items():
            self.tensors[name][self.written % self.rows] = value
        self.written += 1

    def cut(self) -> None:
        """Let no return reach beyond the newest row: the episodes under way will not be continued."""
        self.tensors["ended"][(self.written - 1) % self.rows] = True

    def sample(self, batch: int, *, steps: int, gamma: float) -> Transitions:
        """``batch`` transitions, uniformly with replacement, from the default generator of the device.

        Args:
            batch: of transitions.
            steps: n. A return is shorter where its episode ends, for either reason, and at the newest row.
            gamma: the discount of one step.
        """
        held = min(self.written, self.rows)
        device = self.tensors["reward"].device
        age = torch.randint(held, (batch,), device=device)  # 0: the newest row
        env = torch.randint(self.envs, (batch,), device=device)
        return self.gather(age, env, steps=steps, gamma=gamma)

    def gather(self, age: Tensor, env: Tensor, *, steps: int, gamma: float) -> Transitions:
        """The transitions that began ``age`` rows before the newest one in the copies ``env``, both ``(batch,)``."""
        ring = {name: value.flatten(0, 1) for name, value in self.tensors.items()}  # place: row * envs + env
        ahead = torch.arange(steps, device=age.device)
        rows = ((self.written - 1 - age).unsqueeze(1) + ahead) % self.rows  # (batch, steps)
        places = rows * self.envs + env.unsqueeze(1)
        reward, ended = (ring[name].index_select(0, places.flatten()).view_as(places) for name in ("reward", "ended"))
        ended |= ahead == age.unsqueeze(1)
        # A step counts if none before it ended the episode.
        counts = (ended[:, :-1].cumsum(1) == 0).sum(1, keepdim=True) + 1  # m
        first, last = places[:, 0], places.gather(1, counts - 1).squeeze(1)
        return Transitions(
            observation=ring["observation"][first],
            action=ring["action"][first],
            reward=(reward * gamma**ahead * (ahead < counts)).sum(1),
            discount=(gamma ** counts.squeeze(1)) * ~ring["terminated"][last],
            following=ring["following"][last],
        )

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs; of a ring not yet full only the rows written."""
        held = min(self.written, self.rows)
        return {"written": self.written, **{name: value[:held].cpu() for name, value in self.tensors.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to ``state``.

        Raises:
            ZooError: if it is of a ring of another size.
        """
        for name, value in self.tensors.items():
            saved = state[name]
            if saved.shape[1:] != value.shape[1:] or len(saved) != min(state["written"], self.rows):
                raise ZooError(f"the checkpoint holds a replay of another size: {name} {tuple(saved.shape)}")
            value[: len(saved)] = saved.to(value.device)
        self.written = state["written"]
