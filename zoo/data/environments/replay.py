"""Recent experience in environments, and the n-step transitions that are learned from."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError


@dataclasses.dataclass(frozen=True)
class Path:
    """What lies between transitions and what follows them: of n steps each, those beyond the last one of no meaning.

    Attributes:
        reward: of each step, ``(batch, n)``.
        inside: which steps there are, bool ``(batch, n)``.
        observation: after each step, ``(batch, n, *observation)``; of the last one and those beyond it that of
            ``following``.
        action: of the step after that, int64 ``(batch, n, choices)``.
        log_prob: of that action when it was taken, ``(batch, n)``.
        mask: as ``observation``, bool ``(batch, n, choices, categories)``; or None.
        gamma: the discount of one step.
    """

    reward: Tensor
    inside: Tensor
    observation: Tensor
    action: Tensor
    log_prob: Tensor
    mask: Tensor | None
    gamma: float


@dataclasses.dataclass(frozen=True)
class Transitions:
    """A batch of n-step transitions.

    Attributes:
        observation: ``(batch, *observation)``.
        action: int64 ``(batch, choices)``.
        reward: the discounted sum of up to n rewards, ``(batch,)``.
        discount: of the value of ``following``, ``gamma^m`` after m steps, and 0 after a termination, ``(batch,)``.
        following: the observation m steps later, ``(batch, *observation)``.
        mask, following_mask: which options were allowed, bool ``(batch, choices, categories)``; None where all are.
        path: what lies between, if it was asked for.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    following: Tensor
    mask: Tensor | None = None
    following_mask: Tensor | None = None
    path: Path | None = None

    def split(self, size: int) -> "list[Transitions]":
        """Batches of ``size``, the last one of what is left, without their paths."""
        fields = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        parts = zip(*(value.split(size) for value in fields.values()))
        return [Transitions(**dict(zip(fields, part))) for part in parts]


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Stretches of steps, which may go over the ends of episodes.

    Attributes:
        observation: ``(batch, length, *observation)``.
        action: int64 ``(batch, length, choices)``.
        reward: that it brought, ``(batch, length)``.
        terminated: whether the task was over after it, bool ``(batch, length)``.
        first: whether an episode began with the observation, bool ``(batch, length)``.
        mask: which options were allowed, bool ``(batch, length, choices, categories)``; None where all are.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    first: Tensor
    mask: Tensor | None


class Replay:
    """The last transitions of every copy: a ring of tensors ``(rows + 1, envs, ...)`` on the training device.

    Every observation is stored once: what follows a transition is in the next row, the newest one's in the row that is
    written next. Only the last observation of an episode that was truncated is kept beside the ring; after a
    termination nobody asks for it. A history is put together when it is sampled.

    Args:
        rows: of the ring, beside that of the observations that came last.
        envs: copies of the environment.
        observation: shape of one observation.
        choices: that an action is made of.
        dtype: of observations.
        device: of the tensors.
        history: the number of observations that an agent sees at a time, the one before first.
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
        history: int = 1,
    ) -> None:
        shape = (rows + 1, envs)
        self.rows, self.envs, self.written, self.history = rows, envs, 0, history
        self.device = torch.device(device)
        self.tensors = {
            "observation": torch.zeros(*shape, *observation, dtype=dtype, device=device),
            "action": torch.zeros(*shape, choices, dtype=torch.int64, device=device),
            "reward": torch.zeros(*shape, device=device),
            "terminated": torch.zeros(*shape, dtype=torch.bool, device=device),
            "ended": torch.zeros(*shape, dtype=torch.bool, device=device),
            "log_prob": torch.zeros(*shape, device=device),
            "last": torch.zeros(*shape, dtype=torch.int64, device=device),  # of a truncated episode: where it is kept
        }
        self.seen = ["observation"]
        self.kept: dict[str, Tensor] = {name: self._beside(name, 1) for name in self.seen}  # place 0 is nobody's
        self.free: list[int] = []
        self.taken: dict[int, list[int]] = {}  # row -> places of what is kept of it

    def keep_masks(self, shape: Sequence[int]) -> None:
        """Keep from now on which options are allowed, ``shape`` for each copy; until now all were."""
        if "mask" in self.tensors:
            return
        self.seen.append("mask")
        self.tensors["mask"] = torch.ones(self.rows + 1, self.envs, *shape, dtype=torch.bool, device=self.device)
        self.kept["mask"] = torch.ones(len(self.kept["observation"]), *shape, dtype=torch.bool, device=self.device)

    def _beside(self, name: str, count: int) -> Tensor:
        tensor = self.tensors[name]
        return torch.zeros(count, *tensor.shape[2:], dtype=tensor.dtype, device=tensor.device)

    def __len__(self) -> int:
        """Transitions in the ring."""
        return min(self.written, self.rows) * self.envs

    def add(
        self,
        *,
        observation: Tensor,
        action: Tensor,
        reward: Tensor,
        terminated: Tensor,
        ended: Tensor,
        following: Tensor,
        mask: Tensor | None = None,
        following_mask: Tensor | None = None,
        log_prob: Tensor | None = None,
    ) -> None:
        """Write one transition of every copy over the oldest ones; ``ended`` is terminated or truncated. Once there was
        a mask there must be one each time."""
        if following_mask is not None:
            self.keep_masks(following_mask.shape[1:])
        if self.history > 1:
            observation, following = observation[:, -1], following[:, -1]
        row = {"observation": observation, "action": action, "reward": reward, "terminated": terminated, "ended": ended}
        row |= {"mask": mask} if mask is not None else {}
        row |= {"log_prob": log_prob} if log_prob is not None else {}
        at, ahead = self.written % (self.rows + 1), (self.written + 1) % (self.rows + 1)
        for name, value in row.items():
            self.tensors[name][at] = value.to(self.device)
        after = {"observation": following} | ({"mask": following_mask} if following_mask is not None else {})
        for name, value in after.items():
            self.tensors[name][ahead] = value.to(self.device)
        self._release(at)
        self._keep(at, np.flatnonzero((ended & ~terminated).cpu().numpy()).tolist(), after)
        self.written += 1

    def _release(self, at: int) -> None:
        if places := self.taken.pop(at, None):
            self.free += places
            self.tensors["last"][at] = 0

    def _keep(self, at: int, envs: list[int], after: dict[str, Tensor]) -> None:
        """Keep ``after`` of ``envs``, which no next row will have."""
        if not envs:
            return
        while len(self.free) < len(envs):
            count = len(self.kept["observation"])
            self.free += range(count, 2 * count)
            self.kept = {name: torch.cat([value, self._beside(name, count)]) for name, value in self.kept.items()}
        places = [self.free.pop() for _ in envs]
        self.taken[at] = self.taken.get(at, []) + places
        index = torch.tensor(places, device=self.device)
        for name, value in after.items():
            self.kept[name][index] = value.to(self.device)[envs]
        self.tensors["last"][at, envs] = index

    def cut(self) -> None:
        """Let no return reach beyond the newest row: the episodes under way will not be continued."""
        if not self.written:
            return
        at, ahead = (self.written - 1) % (self.rows + 1), self.written % (self.rows + 1)
        going = np.flatnonzero(~self.tensors["ended"][at].cpu().numpy()).tolist()
        self._keep(at, going, {name: self.tensors[name][ahead] for name in self.seen})
        self.tensors["ended"][at] = True

    def sample(self, batch: int, *, steps: int, gamma: float, paths: bool = False) -> Transitions:
        """``batch`` transitions, uniformly with replacement, from the default generator of the device.

        Args:
            batch: of transitions.
            steps: n. A return is shorter where its episode ends, for either reason, and at the newest row.
            gamma: the discount of one step.
            paths: whether to add what lies between.
        """
        held = min(self.written, self.rows)
        if self.written > self.rows:  # of the oldest rows, what was before them is gone
            held = max(1, held - self.history + 1)
        age = torch.randint(held, (batch,), device=self.device)  # 0: the newest row
        env = torch.randint(self.envs, (batch,), device=self.device)
        return self.gather(age, env, steps=steps, gamma=gamma, paths=paths)

    def gather(self, age: Tensor, env: Tensor, *, steps: int, gamma: float, paths: bool = False) -> Transitions:
        """The transitions that began ``age`` rows before the newest one in the copies ``env``, both ``(batch,)``."""
        ring = {name: value.flatten(0, 1) for name, value in self.tensors.items()}  # place: row * envs + env
        ahead = torch.arange(steps, device=age.device)
        rows = (self.written - 1 - age).unsqueeze(1) + ahead  # (batch, steps), as they are counted from the first
        places = self._places(rows, env.unsqueeze(1))
        reward, ended = (ring[name].index_select(0, places.flatten()).view_as(places) for name in ("reward", "ended"))
        ended |= ahead == age.unsqueeze(1)
        ended[:, -1] = True
        counts = ended.byte().argmax(1, keepdim=True) + 1  # m: up to the first ending, or all
        first, last = places[:, 0], places.gather(1, counts - 1).squeeze(1)
        begun, ends = rows[:, 0], rows.gather(1, counts - 1).squeeze(1)
        after = self._places(ends + 1, env)
        keeps = ring["last"].index_select(0, last)
        following: dict[str, Tensor] = {}
        for name in self.seen:
            value, kept = ring[name].index_select(0, after), self.kept[name].index_select(0, keeps)
            following[name] = torch.where((keeps > 0).view(-1, *[1] * (value.dim() - 1)), kept, value)
        if self.history > 1:
            before = self._window(ends, env)[:, 1:]
            following["observation"] = torch.cat([before, following["observation"].unsqueeze(1)], 1)
            observation = self._window(begun, env)
        else:
            observation = ring["observation"].index_select(0, first)
        inside = ahead < counts
        return Transitions(
            observation=observation,
            action=ring["action"].index_select(0, first),
            reward=(reward * gamma**ahead * inside).sum(1),
            discount=(gamma ** counts.squeeze(1)) * ~ring["terminated"].index_select(0, last),
            following=following["observation"],
            mask=ring["mask"].index_select(0, first) if "mask" in ring else None,
            following_mask=following.get("mask"),
            path=self._path(rows, env, inside, counts, reward, following, gamma) if paths else None,
        )

    def _path(
        self,
        rows: Tensor,
        env: Tensor,
        inside: Tensor,
        counts: Tensor,
        reward: Tensor,
        following: dict[str, Tensor],
        gamma: float,
    ) -> Path:
        ring = {name: value.flatten(0, 1) for name, value in self.tensors.items()}
        batch, steps = rows.shape
        after = (rows + 1).flatten()
        envs = env.unsqueeze(1).expand_as(rows).flatten()
        places = self._places(after, envs)
        seen = {name: ring[name].index_select(0, places) for name in self.seen}
        if self.history > 1:
            seen["observation"] = self._window(after, envs)
        at_last = torch.arange(steps, device=rows.device) >= counts - 1
        for name, value in seen.items():
            value = value.unflatten(0, (batch, steps))
            ends = following[name].unsqueeze(1)
            seen[name] = torch.where(at_last.view(batch, steps, *[1] * (value.dim() - 2)), ends, value)
        return Path(
            reward=reward,
            inside=inside,
            observation=seen["observation"],
            action=ring["action"].index_select(0, places).unflatten(0, (batch, steps)),
            log_prob=ring["log_prob"].index_select(0, places).view(batch, steps),
            mask=seen.get("mask"),
            gamma=gamma,
        )

    def _places(self, rows: Tensor, env: Tensor) -> Tensor:
        return rows % (self.rows + 1) * self.envs + env

    def _window(self, rows: Tensor, env: Tensor) -> Tensor:
        """The observations of ``rows`` and of those before them, ``(batch, history, *observation)``; of an episode that
        has just begun, the first one again and again."""
        back = torch.arange(1, self.history, device=rows.device)
        before = rows.unsqueeze(1) - back  # (batch, history - 1)
        over = self.tensors["ended"].flatten(0, 1)[self._places(before, env.unsqueeze(1))]
        oldest = max(0, self.written - self.rows)
        there = ((over | (before < oldest)).cumsum(1) == 0).sum(1, keepdim=True)
        steps = torch.minimum(torch.arange(self.history - 1, -1, -1, device=rows.device), there)
        return self.tensors["observation"].flatten(0, 1)[self._places(rows.unsqueeze(1) - steps, env.unsqueeze(1))]

    def sequences(self, batch: int, length: int) -> Sequences:
        """Stretches of ``length`` rows, uniformly with replacement, from the default generator of the device.

        Raises:
            ZooError: if the ring has fewer rows.
        """
        held = min(self.written, self.rows)
        if held < length:
            raise ZooError(f"the replay has {held} steps of each copy, and sequences are {length} long")
        oldest = self.written - held
        start = oldest + torch.randint(held - length + 1, (batch,), device=self.device)
        env = torch.randint(self.envs, (batch,), device=self.device).unsqueeze(1)
        rows = start.unsqueeze(1) + torch.arange(length, device=self.device)
        ring = {name: value.flatten(0, 1) for name, value in self.tensors.items()}
        places = self._places(rows, env)
        first = ring["ended"][self._places(rows - 1, env)] | (rows == oldest)
        return Sequences(
            observation=ring["observation"][places],
            action=ring["action"][places],
            reward=ring["reward"][places],
            terminated=ring["terminated"][places],
            first=first,
            mask=ring["mask"][places] if "mask" in ring else None,
        )

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs; of a ring not yet full only the rows written."""
        held = min(self.written, self.rows) + 1
        kept = {f"kept/{name}": value.cpu() for name, value in self.kept.items()}
        return {"written": self.written, **{name: value[:held].cpu() for name, value in self.tensors.items()}, **kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to ``state``, which may be one of a version that stored observations twice.

        Raises:
            ZooError: if it is of a ring of another size.
        """
        held = min(state["written"], self.rows)
        earlier = "following" in state
        if "mask" in state:
            self.keep_masks(state["mask"].shape[2:])
        for name, value in self.tensors.items():
            if earlier and name in ("last", "log_prob", "mask"):
                continue
            saved = state.get(name)
            rows = held if earlier else held + 1
            if saved is None or saved.shape[1:] != value.shape[1:] or len(saved) != rows:
                shape = "none" if saved is None else tuple(saved.shape)
                raise ZooError(f"the checkpoint holds a replay of another size: {name} {shape}")
        if earlier:
            names = ("observation", "action", "reward", "terminated", "ended", "following")
            self.written = state["written"] - held
            for i in range(self.written, state["written"]):
                self.add(**{name: state[name][i % self.rows] for name in names})
            return
        self.written = state["written"]
        for name, value in self.tensors.items():
            value[: held + 1] = state[name].to(value.device)
        self.kept = {name: state[f"kept/{name}"].to(self.device) for name in self.seen}
        last = self.tensors["last"].cpu()
        self.taken = {row: places[places > 0].tolist() for row, places in enumerate(last) if bool((places > 0).any())}
        used = {place for places in self.taken.values() for place in places}
        self.free = [place for place in range(1, len(self.kept["observation"])) if place not in used]
