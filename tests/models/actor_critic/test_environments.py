"""Environments: made by name, stepped, stopped and taken up again."""

import numpy as np
import pytest
import torch

import tests.toys  # noqa: F401  (registers them)
from zoo.errors import ZooError
from zoo.models.actor_critic import Environments, spaces
from zoo.models.actor_critic.arena import Arena, Copy
from zoo.models.actor_critic.environments import Spaces, make, stored_dtype
from zoo.models.actor_critic.experience import Experience
from zoo.models.actor_critic.replay import Replay
from zoo.models.actor_critic.trial import Trial


def seed(copy: int, episode: int) -> int:
    return 1000 * copy + episode


def random_actions(count: int, options: int, g: torch.Generator) -> np.ndarray:
    return torch.randint(options, (count, 1), generator=g).numpy()


def experience(name: str, *, envs: int = 2, start: int = 1, scale: float = 1.0) -> Experience:
    arena = Arena(name, envs, seed)
    found = spaces(name)
    replay = Replay(50, envs, found.observation, len(found.actions), dtype=torch.from_numpy(arena.observation).dtype)
    return Experience(arena, replay, steps=3, gamma=0.9, start=start, reward_scale=scale)


def first_option(observation: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(observation), 1, dtype=torch.int64)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("CartPole-v1", Spaces((4,), (2,))),
        ("Acrobot-v1", Spaces((6,), (3,))),
        ("LunarLander-v3", Spaces((8,), (4,))),
        ("MinAtar/Breakout-v1", Spaces((10, 10, 4), (3,))),
        ("FrozenLake-v1", Spaces((16,), (4,))),
        ("Blackjack-v1", Spaces((45,), (2,))),
        ("Toy/Buttons-v0", Spaces((9,), (2, 4, 3))),
        ("Toy/Picture-v0", Spaces((6, 5, 3), (2,))),
        ("Toy/Nested-v0", Spaces((5,), (2,))),
        ("tests.toys:Toy/Ending-v0", Spaces((2,), (2,))),
    ],
)
def test_environments_work_by_name(name, expected):
    assert spaces(name) == expected
    copy = Copy(name)
    observation = copy.reset(3)
    assert observation.shape == expected.observation and np.array_equal(observation, copy.reset(3))
    last = np.array(expected.actions) - 1
    observation, reward, terminated, truncated = copy.step(last)
    assert observation.shape == expected.observation and observation.dtype == copy.dtype
    assert isinstance(reward, float) and isinstance(terminated, bool) and isinstance(truncated, bool)


@pytest.mark.parametrize(
    "name, message",
    [
        ("CartPol-v1", r"no environment 'CartPol-v1'\. Did you mean 'CartPole-v1'"),
        ("MinAtar/Breakuot-v1", "Did you mean 'MinAtar/Breakout-v1'"),
        ("nowhere:Env-v0", "cannot be made: ModuleNotFoundError"),
        ("LunarLander-v2", "cannot be made: DeprecatedEnv.*LunarLander-v3"),
        ("Pendulum-v1", r"Pendulum-v1 has the action space Box.*needs a Discrete, MultiDiscrete"),
        ("Toy/Huge-v0", "larger than 96 x 96"),
    ],
)
def test_environments_that_will_not_do(name, message):
    with pytest.raises(ZooError, match=message):
        make(name)


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "Crash",
            r"Toy/Crash-v0 failed in step 30 of an episode, action 0: RuntimeError: the wheel .* \(.*toys",
        ),
        ("NaNReward", "gave the reward nan in step 30"),
        ("NaNObservation", r"gave an observation that is not finite in step 30 of an episode: \[nan nan\]"),
    ],
)
def test_what_goes_wrong_inside_is_one_clear_error(name, message):
    with pytest.raises(ZooError, match=message):
        Trial(f"Toy/{name}-v0", [0]).play(first_option)


def test_an_environment_that_cannot_be_shown_says_so():
    with pytest.raises(ZooError, match="Toy/Ending-v0 cannot be shown"):
        Trial("Toy/Ending-v0", [0]).film(first_option)


def test_a_film_has_every_so_many_frames():
    trial = Trial("CartPole-v1", [0])
    (length,) = trial.play(first_option)[1].tolist()
    frames = trial.film(first_option, every=3)
    assert len(frames) == 1 + length // 3 + (length % 3 > 0) and frames[0].dtype == np.uint8
    assert len(trial.film(first_option, most=4)) == 4


def test_episode_limits_are_truncation():
    for name, terminated in (("Toy/Endless-v0", False), ("Toy/Ending-v0", True)):
        e = experience(name)
        for _ in range(7):
            e.collect(first_option)
        tensors = {key: value[6] for key, value in e.replay.tensors.items()}
        assert tensors["ended"].all() and tensors["terminated"].all() == terminated
        assert tensors["following"][:, 0].tolist() == [7, 7] and e.arena.observation[:, 0].tolist() == [0, 0]
        assert list(e.recent) == [28.0, 28.0] and e.recent_return == 28.0 and e.env_steps == 14
        batch = e.replay.gather(torch.tensor([1]), torch.tensor([0]), steps=3, gamma=0.9)
        assert batch.discount.item() == pytest.approx(0.0 if terminated else 0.81)


def test_learning_starts_after_the_first_steps():
    e = experience("Toy/Ending-v0", start=9)
    e.collect(first_option)
    assert e.env_steps == len(e.replay) == 10
    e.collect(first_option)
    assert e.env_steps == 12


def test_the_scale_is_of_what_is_learned_from():
    e = experience("Toy/Ending-v0", scale=0.5)
    for _ in range(7):
        e.collect(first_option)
    assert e.replay.tensors["reward"][:7, 0].tolist() == [0.5, 1, 1.5, 2, 2.5, 3, 3.5] and e.recent_return == 28


def test_every_episode_has_its_own_seed():
    seeds = []
    Arena("Toy/Ending-v0", 2, lambda *key: seeds.append(key) or 0)
    assert seeds == [(0, 0), (1, 0)]
    arena = Arena("Toy/Ending-v0", 2, seed)
    starts = [arena.observation[:, 1]]
    for _ in range(7):
        arena.step(np.zeros((2, 1), np.int64))
    starts.append(arena.observation[:, 1])
    assert len(set(np.concatenate(starts).tolist())) == 4


@pytest.mark.parametrize("name", ["CartPole-v1", "LunarLander-v3", "MinAtar/Breakout-v1"])
def test_an_arena_is_rebuilt_from_its_actions(name):
    g = torch.Generator().manual_seed(0)
    options = spaces(name).actions[0]
    first, second = Arena(name, 3, seed), Arena(name, 3, seed)
    for _ in range(150):
        first.step(random_actions(3, options, g))
    assert max(first.episode) > 0
    assert second.restore(first.state()) and second.returns == first.returns
    for _ in range(40):
        actions = random_actions(3, options, g)
        for a, b in zip(first.step(actions), second.step(actions)):
            assert np.array_equal(a, b)


def test_where_that_is_impossible_new_episodes_begin():
    first, second = (Arena("Toy/Restless-v0", 2, seed) for _ in range(2))
    first.step(np.zeros((2, 1), np.int64))
    assert not second.restore(first.state())
    assert second.episode == [1, 1] and second.returns == [0.0, 0.0] and second.actions == [[], []]


def test_a_trial_plays_each_seed_once_whatever_the_others_do():
    def act(observation):
        return (observation[:, 2:3] > 0).long()

    together, lengths = Trial("CartPole-v1", [1, 2, 3]).play(act)
    alone = [Trial("CartPole-v1", [i]).play(act)[0].item() for i in (1, 2, 3)]
    assert together.tolist() == alone == lengths.tolist() and len(set(alone)) > 1
    trial = Trial("CartPole-v1", [1, 2])
    assert torch.equal(trial.play(act)[0], trial.play(act)[0])


def test_how_observations_are_kept():
    kinds = ((bool, np.bool_), ("uint8", np.uint8), ("float64", np.float32), ("int64", np.float32))
    assert all(stored_dtype(np.dtype(dtype)) is kept for dtype, kept in kinds)


def test_the_data_module_without_a_trainer():
    data = Environments(env="Toy/Ending-v0", envs=4, epoch_steps=42, replay=100, start=8, eval_episodes=3)
    data.setup()
    assert len(data.train_dataloader()) == len(list(data.train_dataloader())) == 10
    (trial,) = data.val_dataloader()
    assert len(trial.seeds) == 3 and data.val_dataloader().trial is trial
    assert set(trial.seeds).isdisjoint(data.test_dataloader().trial.seeds)
    for e in data.train_dataloader():
        e.collect(first_option)
    state = data.state_dict()
    again = Environments(env="Toy/Ending-v0", envs=4, epoch_steps=42, replay=100, start=8, eval_episodes=3)
    again.setup()
    again.load_state_dict(state)
    assert again.experience.env_steps == 44 and np.array_equal(
        again.experience.arena.observation, data.experience.arena.observation
    )
    assert torch.equal(again.experience.replay.tensors["following"], data.experience.replay.tensors["following"])


def test_a_checkpoint_without_the_replay_starts_collecting_anew():
    settings = {"env": "Toy/Ending-v0", "envs": 4, "replay": 100, "start": 40, "save_replay": False}
    data, again = Environments(**settings), Environments(**settings)
    data.setup()
    data.experience.collect(first_option)
    again.setup()
    again.load_state_dict(data.state_dict())
    assert len(again.experience.replay) == 0 and again.experience.env_steps == 40
    again.experience.collect(first_option)
    assert len(again.experience.replay) == 40 and again.experience.env_steps == 80


@pytest.mark.parametrize(
    "arguments",
    [
        {"envs": 0},
        {"epoch_steps": 3},
        {"start": 0},
        {"replay": 500},
        {"replay": 10_030, "start": 10_010},
        {"steps": 0},
        {"steps": 300},
        {"gamma": 1.1},
        {"reward_scale": 0.0},
        {"eval_episodes": 0},
        {"seed": -1},
    ],
)
def test_numbers_out_of_range(arguments):
    with pytest.raises(ValueError, match="need"):
        Environments(**arguments)
