"""Environments: made by name, stepped, stopped and taken up again."""

import sys
from contextlib import closing
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

import tests.toys  # noqa: F401  (registers them)
from zoo.data.environments import copies, trial, workers
from zoo.data.environments.arena import Arena
from zoo.data.environments.copies import Copy
from zoo.data.environments.experience import Experience, Seen
from zoo.data.environments.making import Recipe, Spaces, make, observer, stored_dtype
from zoo.data.environments.replay import Replay
from zoo.data.environments.trial import Trial
from zoo.errors import ZooError
from zoo.models.actor_critic import Environments, spaces


def seed(copy: int, episode: int) -> int:
    return 1000 * copy + episode


def random_actions(count: int, options: int, g: torch.Generator) -> np.ndarray:
    return torch.randint(options, (count, 1), generator=g).numpy()


def experience(name: str, *, envs: int = 2, start: int = 1, scale: float = 1.0) -> Experience:
    arena = Arena(name, envs, seed)
    found = spaces(name)
    replay = Replay(50, envs, found.observation, len(found.actions), dtype=torch.from_numpy(arena.observation).dtype)
    return Experience(arena, replay, steps=3, gamma=0.9, start=start, reward_scale=scale)


def first_option(seen: Seen) -> torch.Tensor:
    return torch.zeros(len(seen.observation), 1, dtype=torch.int64)


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
        ("Toy/Huge-v0", "larger than 256 x 256: shrink them"),
        ("Toy/OddSpaces-v0", "Toy/OddSpaces-v0 does not say its action_space and observation_space: AttributeError"),
        ("tests.toys:Toy/Endles-v0", "Did you mean 'tests.toys:Toy/Endless-v0'"),
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
        ("OddOldReset", r"failed in reset\(seed=0\): reset must return .* it gave ndarray$"),
        ("OddNoInfo", r"failed in reset\(seed=0\): reset must return .* it gave \(ndarray, NoneType\)$"),
        ("OddOldStep", "OddOldStep-v0 failed in step 3 of an episode, action 0: .*unpack"),
        ("OddExit", "OddExit-v0 failed in step 3 of an episode, action 0: SystemExit: 3"),
        ("OddNone", "failed in step 3 of an episode, action 0: it gave the reward None"),
        ("OddArrays", r"failed in step 3 of an episode, action 0: it gave the reward array\("),
        ("OddShort", r"OddShort-v0 gave an observation .* in step 3 of an episode: its shape is \(1,\), not \(2,\)"),
        ("Below", r"not of its space in step 1 of an episode: 0 is not in Discrete\(5, start=1\)"),
        ("Beyond", r"not of its space in step 3 of an episode: 7 is not in Discrete\(5, start=1\)"),
        ("NaNObservation", r"gave an observation that is not finite in step 30 of an episode: \[nan nan\]"),
    ],
)
def test_what_goes_wrong_inside_is_one_clear_error(name, message):
    with pytest.raises(ZooError, match=message):
        Trial(f"Toy/{name}-v0", [0]).play(first_option)


def test_a_reward_may_be_an_array_of_one_number():
    assert Trial("Toy/OddArray-v0", [0]).play(first_option)[0].tolist() == [28.0]


def test_every_part_of_an_observation_has_the_shape_and_the_range_of_its_space():
    seen = observer("Toy/Rooms-v0")
    right = {"place": 1, "room": np.zeros((6, 5, 3), np.uint8), "speed": np.zeros(2)}
    for wrong in ({"place": -1}, {"place": 3}, {"room": np.zeros((5, 6, 3), np.uint8)}, {"speed": np.zeros(1)}):
        with pytest.raises(ValueError, match=r"is not in Discrete|its shape is"):
            seen(right | wrong)
        with pytest.raises(ValueError, match="as the environment gives them"):
            seen.batch(right | wrong)
    assert seen(right | {"place": np.array([2])}).shape == (95,)
    with pytest.raises(ValueError, match="-1 is not in Discrete"):
        observer("FrozenLake-v1").batch(-1)


def test_what_goes_wrong_in_another_process_is_one_line(monkeypatch):
    sent = []
    pipe = SimpleNamespace(send=sent.append, recv=lambda: [(0, "step", "no action")])
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the process would set
    workers._serve(pipe, Recipe.of("Toy/Endless-v0"), 1)
    assert sent[0] == [] and isinstance(sent[1], str) and "\n" not in sent[1]


def test_copies_are_closed_if_a_later_one_cannot_be_made(monkeypatch):
    made, closed = [], []

    class Third(Copy):
        def __init__(self, recipe):
            if len(made) == 2:
                raise ZooError("no more")
            super().__init__(recipe)
            made.append(self)

        def close(self):
            closed.append(self)

    monkeypatch.setattr(trial, "Copy", Third)
    with pytest.raises(ZooError, match="no more"):
        Trial("Toy/Ending-v0", [0, 1, 2]).play(first_option)
    assert closed == made and len(made) == 2


def test_a_limit_by_a_wrapper_is_a_limit(monkeypatch, caplog):
    monkeypatch.setattr(copies, "LONGEST", 20)
    limit = {"_target_": "gymnasium.wrappers.TimeLimit", "max_episode_steps": 30}
    outer = {"_target_": "gymnasium.wrappers.TimeAwareObservation"}
    for wrappers in ([limit], [limit, outer]):
        recipe = Recipe.of({"env": "Toy/Forever-v0", "wrappers": wrappers})
        assert Trial(recipe, [0]).play(first_option)[1].tolist() == [30] and "no limit" not in caplog.text


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
        assert e.replay.tensors["observation"][7, :, 0].tolist() == [7, 7]
        assert e.arena.observation[:, 0].tolist() == [0, 0] and e.arena.first.all()
        e.collect(first_option)  # and the row that follows begins the next episode
        assert e.replay.tensors["observation"][7, :, 0].tolist() == [0, 0]
        assert list(e.recent) == [28.0, 28.0] and e.recent_return == 28.0 and e.env_steps == 16
        batch = e.replay.gather(torch.tensor([2]), torch.tensor([0]), steps=3, gamma=0.9)
        assert batch.discount.item() == pytest.approx(0.0 if terminated else 0.81)
        assert terminated or batch.following[0, 0] == 7  # its last observation, not the first of the next episode


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
    def act(seen):
        return (seen.observation[:, 2:3] > 0).long()

    together, lengths = Trial("CartPole-v1", [1, 2, 3]).play(act)
    alone = [Trial("CartPole-v1", [i]).play(act)[0].item() for i in (1, 2, 3)]
    assert together.tolist() == alone == lengths.tolist() and len(set(alone)) > 1
    trial = Trial("CartPole-v1", [1, 2])
    assert torch.equal(trial.play(act)[0], trial.play(act)[0])


def test_how_observations_are_kept():
    kinds = ((bool, np.bool_), ("uint8", np.uint8), ("float64", np.float32), ("int64", np.float32))
    assert all(stored_dtype(np.dtype(dtype)) is kept for dtype, kept in kinds)


@pytest.mark.parametrize(("epoch_steps", "ticks"), [(4, 1), (8, 2), (24, 3), (44, 1), (48, 4), (60, 5), (4000, 5)])
def test_a_batch_has_as_many_steps_as_divide_an_epoch(epoch_steps, ticks):
    data = Environments(env="Toy/Ending-v0", envs=4, epoch_steps=epoch_steps, replay=100, start=8)
    data.setup()
    assert data.ticks == ticks and len(data.train_dataloader()) * ticks * 4 == epoch_steps


def test_the_data_module_without_a_trainer():
    data = Environments(env="Toy/Ending-v0", envs=4, epoch_steps=42, replay=100, start=8, eval_episodes=3)
    data.setup()
    assert len(data.train_dataloader()) == len(list(data.train_dataloader())) == 2
    assert data.ticks == data.experience.ticks == 5
    (trial,) = data.val_dataloader()
    assert len(trial.seeds) == 3 and data.val_dataloader().trial is trial
    assert set(trial.seeds).isdisjoint(data.test_dataloader().trial.seeds)
    for e in data.train_dataloader():
        for _ in range(e.ticks):
            e.collect(first_option)
    state = data.state_dict()
    again = Environments(env="Toy/Ending-v0", envs=4, epoch_steps=42, replay=100, start=8, eval_episodes=3)
    again.setup()
    again.load_state_dict(state)
    assert again.experience.env_steps == 44 and np.array_equal(
        again.experience.arena.observation, data.experience.arena.observation
    )
    for name, value in data.experience.replay.tensors.items():
        assert torch.equal(again.experience.replay.tensors[name], value)


@pytest.mark.parametrize(("stored", "ticks"), [({}, 1), ({"ticks": 2}, 2), ({"ticks": 3}, 5)])
def test_a_resumed_run_goes_on_with_the_batches_it_had_if_they_divide_an_epoch(stored, ticks):
    settings = {"env": "Toy/Ending-v0", "envs": 4, "epoch_steps": 40, "replay": 100, "start": 8}
    data, again = Environments(**settings), Environments(**settings)
    data.setup()
    again.setup()
    state = {name: value for name, value in data.state_dict().items() if name != "ticks"} | stored
    again.load_state_dict(state)
    assert again.ticks == again.experience.ticks == ticks and len(again.train_dataloader()) == 10 // ticks


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


# How environments are made --------------------------------------------------------------------------------------------


def test_keywords_wrappers_and_a_limit():
    recipe = {"env": "Toy/Ending-v0", "env_kwargs": {"terminate_at": 9}, "max_episode_steps": 5}
    recipe |= {"wrappers": [{"_target_": "tests.toys.Scaled", "factor": 2.0}]}
    returns, lengths = Trial(Recipe.of(recipe), [0]).play(first_option)
    assert lengths.tolist() == [5] and returns.tolist() == [2.0 * (1 + 2 + 3 + 4 + 5)]
    assert Trial(Recipe.of(recipe | {"max_episode_steps": 20}), [0]).play(first_option)[1].tolist() == [9]
    stacked = {"_target_": "gymnasium.wrappers.FrameStackObservation", "stack_size": 2}
    assert spaces({"env": "Toy/Picture-v0", "wrappers": [stacked]}).observation == (6, 5, 6)
    data = Environments(**recipe, envs=2, replay=100, start=8)
    data.setup()
    data.experience.collect(first_option)
    assert data.experience.replay.tensors["reward"][:2, 0].tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "recipe, message",
    [
        ({"env": None}, "data.env=None is not valid: give the name of an environment"),
        ({"env": "CartPole-v1", "env_kwargs": [3]}, r"data.env_kwargs=\[3\] is not valid: give names and values"),
        ({"env": "CartPole-v1", "env_kwargs": {"max_episode_steps": 3}}, "Write data.max_episode_steps"),
        ({"env": "CartPole-v1", "env_kwargs": {"slippery": True}}, "cannot be made: TypeError.*slippery"),
        ({"env": "CartPole-v1", "wrappers": ["gymnasium.wrappers.X"]}, "give a list of classes and what they take"),
        ({"env": "CartPole-v1", "wrappers": [{"_target_": "tests.toys.Sacled"}]}, r"data.wrappers\[0\].*Sacled"),
        ({"env": "CartPole-v1", "wrappers": [{"_target_": "tests.toys.Scaled"}]}, r"wrappers\[0\] lacks factor"),
        ({"env": "CartPole-v1", "wrappers": [{"_target_": "zoo.cli.main"}]}, "refusing to build 'zoo.cli.main'"),
        ({"env": "CartPole-v1", "wrappers": [{"_target_": "tests.toys.forget"}]}, "is not a class"),
        ({"env": "CartPole-v1", "max_episode_steps": 0}, "data.max_episode_steps=0 is not valid"),
        ({"env": "CartPole-v1", "history": "two"}, "data.history='two' is not valid"),
        ({"env": "Toy/Rooms-v0", "history": 2}, "data.history=2 is not possible"),
    ],
)
def test_mistakes_in_how_it_is_made(recipe, message):
    with pytest.raises(ZooError, match=message):
        spaces(recipe)


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    text = "import gymnasium\ngymnasium.register('Lying-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    (tmp_path / "lying_here.py").write_text(text)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    with pytest.raises(ZooError, match="Is lying_here installed, in the working directory, or in PYTHONPATH"):
        make("lying_here:Lying-v0")
    monkeypatch.chdir(tmp_path)
    with closing(make("lying_here:Lying-v0")) as env:
        assert env.action_space.n == 2


def test_an_episode_without_an_end_is_cut_off_by_name(monkeypatch, caplog):
    monkeypatch.setattr(copies, "LONGEST", 60)
    _, lengths = Trial("Toy/Forever-v0", [0, 1]).play(first_option)
    assert lengths.tolist() == [60, 60] and "2 of 2 episodes of Toy/Forever-v0, which has no limit" in caplog.text


def test_few_environments_are_open_at_a_time(monkeypatch):
    made = []
    monkeypatch.setattr(trial, "Copy", lambda recipe: made.append(recipe) or Copy(recipe))
    together = Trial("Toy/Ending-v0", list(range(40)))
    returns, lengths = together.play(first_option)
    assert len(made) == trial.OPEN == 16 and lengths.tolist() == [7] * 40 and returns.tolist() == [28.0] * 40


def test_masks_go_through_the_whole_chain():
    e = experience("Toy/Masked-v0")
    assert e.arena.mask.shape == (2, 1, 3)

    def act(seen):
        return seen.mask.float().argmax(-1)  # the first that is allowed; the environment refuses others

    for _ in range(30):
        e.collect(act)
    assert e.replay.tensors["mask"].shape == (51, 2, 1, 3)
    batch = e.sample(40)
    assert batch.mask.any(-1).all() and not batch.mask.all() and batch.mask.gather(2, batch.action.unsqueeze(2)).all()
    assert all(part.mask.shape == (10, 1, 3) for part in batch.split(10))
    assert Trial("Toy/Masked-v0", [0]).play(act)[1].tolist() == [7]
    taxi = Copy(next(name for name in ("Taxi-v4", "Taxi-v3") if name in gymnasium.registry))
    taxi.reset(0)
    assert taxi.mask.shape == (1, 6) and not taxi.mask.all()
    with pytest.raises(ZooError, match=r"failed in step 1 of an episode.*not allowed"):
        Trial("Toy/Masked-v0", [0]).play(lambda seen: (~seen.mask).float().argmax(-1))


@pytest.mark.parametrize("name", ["Hesitant", "Late"])
def test_masks_that_some_copies_lack_or_that_come_late_are_kept(name):
    def act(seen):
        chosen = torch.ones(len(seen.observation), 1, 3) if seen.mask is None else seen.mask.float()
        return chosen.argmax(-1)  # the environment refuses what it has said is not allowed

    e = experience(f"Toy/{name}-v0", envs=5)
    said = []
    for _ in range(30):
        e.collect(act)
        said += [] if e.arena.mask is None else e.arena.mask.all((1, 2)).tolist()
    assert 0 < sum(said) < len(said) and e.replay.tensors["mask"].shape == (51, 5, 1, 3)
    batch = e.sample(400)
    observation, mask = batch.observation.numpy(), batch.mask.numpy()[:, 0]
    speaks = (observation[:, 1] < 0.5) & (observation[:, 0] >= (3 if name == "Late" else 0))
    expected = np.arange(3) != observation[:, :1] % 3
    assert speaks.any() and np.array_equal(mask[speaks], expected[speaks]) and mask[~speaks].all()
    assert batch.mask.gather(2, batch.action.unsqueeze(2)).all() and batch.following_mask.any(-1).all()

    again = experience(f"Toy/{name}-v0", envs=5)
    again.replay.restore(e.replay.state())
    assert torch.equal(again.replay.tensors["mask"][:30], e.replay.tensors["mask"][:30])
    again.arena.keep_masks()
    assert again.arena.restore(e.arena.state()) and np.array_equal(again.arena.mask, e.arena.mask)
    assert Trial(f"Toy/{name}-v0", [0, 1, 2, 3]).play(act)[1].tolist() == [7] * 4


def test_a_resumed_run_goes_on_with_masks_though_its_first_observations_have_none():
    data = Environments(env="Toy/Late-v0", envs=4, epoch_steps=40, replay=80, start=8, steps=2)
    data.setup("fit")
    for _ in range(4):
        data.experience.collect(
            lambda seen: seen.mask.float().argmax(-1) if seen.mask is not None else first_option(seen)
        )
    again = Environments(env="Toy/Late-v0", envs=4, epoch_steps=40, replay=80, start=8, steps=2)
    again.setup("fit")
    assert again.experience.arena.mask is None
    again.load_state_dict(data.state_dict())
    assert np.array_equal(again.experience.arena.mask, data.experience.arena.mask)


def test_a_dict_with_a_picture_is_seen_in_parts():
    known = spaces("Toy/Rooms-v0")
    assert known.observation == (3 + 6 * 5 * 3 + 2,) and known.parts == ((3,), (6, 5, 3), (2,))
    seen = observer("Toy/Rooms-v0")
    first = {"place": 1, "room": np.full((6, 5, 3), 255, np.uint8), "speed": np.array([0.5, -1.0])}
    one, single = seen.batch(first)
    assert single and one.shape == (1, 95) and one[0, :4].tolist() == [0, 1, 0, 1.0] and one[0, -1] == -1
    several = {name: np.stack([np.asarray(value)] * 4) for name, value in first.items()}
    many, single = seen.batch(several)
    assert not single and np.array_equal(many, np.repeat(one, 4, 0))
    tuples, single = observer("Blackjack-v1").batch((12, 3, 1))
    assert single and tuples.sum() == 3
    numbers, single = observer("FrozenLake-v1").batch(np.array([0, 5]))
    assert not single and numbers.argmax(1).tolist() == [0, 5]
    for wrong in ({"place": 1}, np.zeros(3), [1, 2]):
        with pytest.raises(ValueError, match="as the environment gives them"):
            seen.batch(wrong)


def test_a_history_is_put_together_from_what_is_stored_once():
    recipe = Recipe.of({"env": "Toy/Endless-v0", "history": 3})
    arena = Arena(recipe, 2, seed)
    replay = Replay(40, 2, (2,), 1, history=3)
    e, acted, after = Experience(arena, replay, steps=2, gamma=0.9), [], []
    step = arena.step

    def watch(actions):
        acted.append(arena.observation.copy())
        after.append(step(actions))
        return after[-1]

    arena.step = watch
    for _ in range(30):
        e.collect(first_option)
    for age in range(30):
        batch = e.replay.gather(torch.tensor([age]), torch.tensor([1]), steps=1, gamma=0.9)
        t = 29 - age
        assert np.array_equal(batch.observation[0].numpy(), acted[t][1])
        assert np.array_equal(batch.following[0].numpy(), after[t].following[1])
    window = Copy(recipe).reset(0)
    assert window.shape == (3, 2) and np.array_equal(window[0], window[2])


@pytest.mark.slow
def test_copies_in_other_processes_do_the_same():
    here, there = (Arena("tests.toys:Toy/Masked-v0", 3, seed, workers=workers) for workers in (0, 2))
    for _ in range(10):
        actions = here.mask.argmax(-1)
        assert all(np.array_equal(a, b) for a, b in zip(here.step(actions), there.step(actions)))
    again = Arena("tests.toys:Toy/Masked-v0", 3, seed, workers=1)
    assert again.restore(here.state()) and np.array_equal(again.observation, here.observation)
    there.copies.processes[1].kill()
    with pytest.raises(ZooError, match=r"a process with copies of the environment .* has ended"):
        there.step(there.mask.argmax(-1))
    broken = Arena("tests.toys:Toy/Crash-v0", 2, seed, workers=2)
    with pytest.raises(ZooError, match=r"failed in step 30 .* the wheel has come off"):
        for _ in range(40):
            broken.step(np.zeros((2, 1), np.int64))
    for arena in (here, there, again, broken):
        arena.close()


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
