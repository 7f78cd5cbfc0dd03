"""Small environments for the tests, some of them broken. Their names are ``tests.toys:Toy/<name>-v0``."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete


class Corridor(gymnasium.Env):
    """Counts its steps from a seeded start; every step is worth the new count, and ends where it is told to."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(-np.inf, np.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, terminate_at=None, render_mode=None):
        self.terminate_at, self.render_mode = terminate_at, render_mode

    def observe(self):
        return np.array([self.count, self.start])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.start = 0, self.np_random.random()
        return self.observe(), {}

    def step(self, action):
        self.count += 1
        return self.observe(), float(self.count), self.count == self.terminate_at, False, {}


class Restless(Corridor):
    """Random beyond its seed."""

    def observe(self):
        return np.random.default_rng().random(2)


class Broken(Corridor):
    """Goes wrong in its 30th step, in the way it is told to."""

    def __init__(self, how="", render_mode=None):
        super().__init__()
        self.how = how

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.count == 30:
            if self.how == "crash":
                raise RuntimeError("the wheel has come off")
            reward = float("nan") if self.how == "reward" else reward
            observation = observation * np.nan if self.how == "observation" else observation
        return observation, reward, *rest


class Buttons(gymnasium.Env):
    """Three choices of different sizes; each right one, shown in the observation, is worth a third. Ten steps long."""

    metadata = {"render_modes": []}  # noqa: RUF012
    action_space = MultiDiscrete([2, 4, 3], start=[0, 0, 5])
    observation_space = Box(0, 1, (9,), np.float32)

    def __init__(self, render_mode=None):
        pass

    def observe(self):
        self.wanted = [self.np_random.integers(n) for n in self.action_space.nvec]
        return np.concatenate([np.eye(n, dtype=np.float32)[w] for n, w in zip(self.action_space.nvec, self.wanted)])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action))
        self.count += 1
        reward = np.mean(np.asarray(action) - self.action_space.start == self.wanted)
        return self.observe(), reward, self.count == 10, False, {}


class Picture(Corridor):
    """Images of bytes."""

    observation_space = Box(0, 255, (6, 5, 3), np.uint8)

    def observe(self):
        return np.full((6, 5, 3), self.count, np.uint8)


class Huge(Picture):
    observation_space = Box(0, 255, (300, 160, 3), np.uint8)


class Nested(Corridor):
    """Observations that have to be flattened."""

    observation_space = Dict(place=Discrete(3), speed=Box(-1, 1, (2,), np.float32))

    def observe(self):
        return {"place": self.count % 3, "speed": np.zeros(2, np.float32)}


class Masked(Corridor):
    """Of three actions two are allowed, in turns; what is not allowed is an error."""

    action_space = Discrete(3)

    def mask(self):
        return np.arange(3) != self.count % 3

    def reset(self, *, seed=None, options=None):
        observation, _ = super().reset(seed=seed)
        return observation, {"action_mask": self.mask().astype(np.int8)}

    def step(self, action):
        assert self.mask()[action], "not allowed"
        observation, *rest = super().step(action)
        return observation, *rest[:-1], {"action_mask": self.mask().astype(np.int8)}


class Hesitant(Masked):
    """Says which actions are allowed only if it starts below a half, and not before ``late`` steps."""

    def __init__(self, late=0, render_mode=None):
        super().__init__()
        self.late = late

    def mask(self):
        return super().mask() if self.says() else np.ones(3, bool)

    def says(self):
        return self.count >= self.late and self.start < 0.5

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation, info if self.says() else {}

    def step(self, action):
        *rest, info = super().step(action)
        return *rest, info if self.says() else {}


ODD = ("old reset", "no info", "exit", "old step", "none", "array", "arrays", "short", "spaces")


class Odd(Corridor):
    """Gives and does in its third step, or its reset, what no environment should, as it is told to."""

    def __init__(self, how="", render_mode=None):
        super().__init__()
        self.how = how
        if how == "spaces":
            self.observation_space = None

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation if self.how == "old reset" else (observation, None if self.how == "no info" else info)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.count == 3 and self.how == "exit":
            raise SystemExit(3)
        if self.count == 3 and self.how == "old step":
            return observation, reward, terminated, info
        given = {"none": None, "array": np.array([reward]), "arrays": np.ones(2)}.get(self.how, reward)
        given = given if self.count == 3 else reward
        short = self.how == "short" and self.count == 3
        return observation[:1] if short else observation, given, terminated, truncated, info


class Place(Corridor):
    """A number that leaves its space, in steps of ``far``."""

    observation_space = Discrete(5, start=1)

    def __init__(self, far=0, render_mode=None):
        super().__init__()
        self.far = far

    def observe(self):
        return 1 + self.count * self.far


class Rooms(Corridor):
    """A picture among other things."""

    observation_space = Dict(
        place=Discrete(3), room=Box(0, 255, (6, 5, 3), np.uint8), speed=Box(-1, 1, (2,), np.float32)
    )

    def observe(self):
        return {
            "place": self.count % 3,
            "room": np.full((6, 5, 3), self.count, np.uint8),
            "speed": np.zeros(2, np.float32),
        }


class Scaled(gymnasium.RewardWrapper):
    """Rewards times a factor."""

    def __init__(self, env, factor: float):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


def forget(env):
    """No class."""


for name, entry_point, steps, kwargs in (
    ("Endless", Corridor, 7, {}),
    ("Ending", Corridor, 100, {"terminate_at": 7}),
    ("Restless", Restless, 7, {}),
    ("Crash", Broken, 100, {"how": "crash"}),
    ("NaNReward", Broken, 100, {"how": "reward"}),
    ("NaNObservation", Broken, 100, {"how": "observation"}),
    ("Buttons", Buttons, 100, {}),
    ("Picture", Picture, 7, {}),
    ("Huge", Huge, 7, {}),
    ("Nested", Nested, 7, {}),
    ("Masked", Masked, 7, {}),
    ("Hesitant", Hesitant, 7, {}),
    ("Late", Hesitant, 7, {"late": 3}),
    ("Rooms", Rooms, 7, {}),
    ("Below", Place, 7, {"far": -1}),
    ("Beyond", Place, 7, {"far": 2}),
    *((f"Odd{how.title().replace(' ', '')}", Odd, 7, {"how": how}) for how in ODD),
    ("Forever", Corridor, None, {}),
):
    gymnasium.register(f"Toy/{name}-v0", entry_point, max_episode_steps=steps, kwargs=kwargs)
