"""The ring of transitions, against a slow reference that walks along episodes."""

import pytest
import torch

from zoo.data.environments.replay import Replay
from zoo.errors import ZooError

GAMMA = 0.9


def lived(rows: int, envs: int, steps: int, *, ring: int) -> tuple[Replay, list[list[dict]]]:
    """A replay of ``rows`` rows after ``steps`` random steps, and every transition of each copy as a list."""
    replay = Replay(ring, envs, [1], 1)
    history = [[] for _ in range(envs)]
    g = torch.Generator().manual_seed(rows + ring)
    number = 0.0
    for _ in range(steps):
        row = {
            "observation": torch.arange(envs).view(-1, 1) * 1000 + number,
            "following": torch.arange(envs).view(-1, 1) * 1000 + number + 1,
            "action": torch.randint(3, (envs, 1), generator=g),
            "reward": torch.rand(envs, generator=g),
            "terminated": torch.rand(envs, generator=g) < 0.15,
        }
        row["ended"] = row["terminated"] | (torch.rand(envs, generator=g) < 0.15)
        replay.add(**row)
        number += 1
        for env in range(envs):
            history[env].append({name: value[env] for name, value in row.items()})
    return replay, history


def reference(history: list[dict], start: int, n: int) -> tuple[float, float, float]:
    """Return, discount and last observation of the n-step transition at ``start``, one step at a time."""
    total, discount = 0.0, 1.0
    for i in range(start, min(start + n, len(history))):
        total += discount * history[i]["reward"].item()
        discount *= GAMMA
        if history[i]["ended"]:
            break
    return total, 0.0 if history[i]["terminated"] else discount, history[i]["following"].item()


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("steps", [4, 20, 21, 47])  # part of the ring, all of it, once and more than twice around
def test_returns_are_those_of_the_slow_reference(n, steps):
    replay, history = lived(0, 3, steps, ring=20)
    held = min(steps, 20)
    assert len(replay) == held * 3
    for env in range(3):
        batch = replay.gather(torch.arange(held), torch.full((held,), env), steps=n, gamma=GAMMA)
        for age in range(held):
            start = steps - 1 - age
            total, discount, last = reference(history[env], start, n)
            assert batch.reward[age].item() == pytest.approx(total, abs=1e-6)
            assert batch.discount[age].item() == pytest.approx(discount)
            assert batch.following[age].item() == last or batch.discount[age] == 0  # then nobody asks
            assert batch.observation[age].item() == history[env][start]["observation"].item()
            assert batch.action[age].item() == history[env][start]["action"].item()


def one_episode(*, terminated: bool, ended: bool) -> Replay:
    replay = Replay(10, 1, [1], 1)
    for i in range(6):
        last = torch.tensor([i == 2])
        replay.add(
            observation=torch.tensor([[float(i)]]),
            following=torch.tensor([[i + 0.5]]),
            action=torch.zeros(1, 1, dtype=torch.int64),
            reward=torch.ones(1),
            terminated=last & terminated,
            ended=last & ended,
        )
    return replay


def test_truncation_bootstraps_and_termination_does_not():
    for terminated, discount in ((True, 0.0), (False, GAMMA**2)):
        replay = one_episode(terminated=terminated, ended=True)
        batch = replay.gather(torch.tensor([4]), torch.tensor([0]), steps=4, gamma=GAMMA)  # began at step 1
        assert batch.reward.item() == pytest.approx(1 + GAMMA) and batch.discount.item() == pytest.approx(discount)
        assert terminated or batch.following.item() == 2.5  # its last observation, not the next one's first


def test_a_cut_ends_returns_but_keeps_the_value_of_the_last_observation():
    replay = one_episode(terminated=False, ended=False)
    replay.cut()
    names = ("observation", "action", "reward", "terminated", "ended")
    replay.add(**{name: replay.tensors[name][5] for name in names}, following=torch.zeros(1, 1))
    batch = replay.gather(torch.tensor([2]), torch.tensor([0]), steps=4, gamma=GAMMA)
    assert batch.discount.item() == pytest.approx(GAMMA**2) and batch.following.item() == 5.5


def test_every_transition_is_sampled_alike():
    replay, _ = lived(0, 2, 30, ring=10)
    seen = replay.sample(20_000, steps=3, gamma=GAMMA).observation.flatten()
    values, counts = seen.unique(return_counts=True)
    assert len(values) == 20 and counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize("steps", [4, 33])
def test_state_round_trip(steps):
    replay, _ = lived(0, 3, steps, ring=20)
    again = Replay(20, 3, [1], 1)
    again.restore(replay.state())
    torch.manual_seed(1)
    expected = replay.sample(50, steps=5, gamma=GAMMA)
    torch.manual_seed(1)
    batch = again.sample(50, steps=5, gamma=GAMMA)
    for name, value in vars(expected).items():
        assert value is None or torch.equal(getattr(batch, name), value)
    with pytest.raises(ZooError, match="another size"):
        Replay(20, 4, [1], 1).restore(replay.state())
    with pytest.raises(ZooError, match="another size"):
        Replay(3, 3, [1], 1).restore(replay.state())


def test_the_replay_of_an_earlier_version_is_read():
    replay, history = lived(0, 2, 25, ring=20)
    rows = [[history[env][t] for env in range(2)] for t in range(5, 25)]  # every observation stored twice
    order = [rows[(i - 5) % 20] for i in range(20)]  # as they lay in a ring of 20 rows
    earlier = {name: torch.stack([torch.stack([one[name] for one in row]) for row in order]) for name in rows[0][0]}
    again = Replay(20, 2, [1], 1)
    again.restore(earlier | {"written": 25})
    for env in range(2):
        ages, envs = torch.arange(20), torch.full((20,), env)
        first, second = (one.gather(ages, envs, steps=3, gamma=GAMMA) for one in (replay, again))
        assert torch.equal(first.observation, second.observation) and torch.equal(first.reward, second.reward)
        assert torch.equal(first.following[first.discount > 0], second.following[second.discount > 0])


def test_what_lies_between_is_what_was_lived():
    replay, history = lived(0, 2, 30, ring=25)
    ages = torch.arange(25)
    batch = replay.gather(ages, torch.ones(25, dtype=torch.int64), steps=4, gamma=GAMMA, paths=True)
    path = batch.path
    total = (path.reward * path.inside * GAMMA ** torch.arange(4)).sum(1)
    assert torch.allclose(total, batch.reward, atol=1e-6)
    for age in range(25):
        start, m = 29 - age, int(path.inside[age].sum())
        for j in range(m - 1):
            assert path.observation[age, j] == history[1][start + j]["following"]
            assert path.action[age, j] == history[1][start + j + 1]["action"]
        assert path.observation[age, m - 1] == batch.following[age]


def test_stretches_know_where_episodes_begin():
    replay, history = lived(0, 2, 40, ring=20)
    found = replay.sequences(50, 6)
    for i in range(50):
        env, t = divmod(int(found.observation[i, 0]), 1000)
        assert [int(x) - 1000 * env for x in found.observation[i]] == list(range(t, t + 6))
        for j in range(6):
            assert found.first[i, j] == (t + j == 20 or history[env][t + j - 1]["ended"])
            assert found.terminated[i, j] == history[env][t + j]["terminated"]
    with pytest.raises(ZooError, match="sequences are 21 long"):
        replay.sequences(1, 21)
