"""What agents have in common: what they are asked, and what they refuse."""

import numpy as np
import pytest
import torch

import tests.toys  # noqa: F401  (registers them)
from tests.models.actor_critic.test_model import make
from tests.models.world_model.test_model import make as make_world
from zoo.errors import ZooError
from zoo.models.actor_critic import spaces


def agent(name="CartPole-v1", **arguments):
    found = spaces({"env": name, **arguments})
    model = make(observation=found.observation, actions=found.actions).eval()
    model.trained_on = {"env": name, **arguments}
    return model


def test_masks_are_taken_as_training_takes_them():
    model, one = agent("Toy/Buttons-v0"), np.zeros(9)
    parts = (np.array([0, 1], np.int8), np.array([0, 0, 1, 0], np.int8), np.array([1, 0, 0], np.int8))
    expected = [1, 2, 5]  # the third choice begins with 5
    for mask in (parts, list(parts), np.concatenate(parts), torch.from_numpy(np.concatenate(parts))):
        assert model.predict(one, action_masks=mask)[0].tolist() == expected
    for masks in ([parts] * 3, np.stack([np.concatenate(parts)] * 3)):
        assert model.predict(np.zeros((3, 9)), action_masks=masks)[0].tolist() == [expected] * 3
    with pytest.raises(ValueError, match=r"action_masks must be of 4 observations, \(4, 9\), got 3"):
        model.predict(np.zeros((4, 9)), action_masks=parts)
    with pytest.raises(ValueError, match="an action mask of 2 entries, and there are 9 options"):
        model.predict(one, action_masks=[1, 0])


@pytest.mark.parametrize("known", [True, False])
def test_observations_that_are_not_finite_are_refused(known):
    model = agent()
    model.trained_on = model.trained_on if known else {}
    with pytest.raises(ValueError, match=r"observations must be finite, got .*nan"):
        model.predict(np.array([0.0, np.nan, 0.0, 0.0]))
    with pytest.raises(ValueError, match=r"observations must be finite, got .*inf"):
        model.predict(np.full((2, 4), np.inf))


def test_states_of_other_calls_are_refused():
    for model in (agent(history=3), make_world(observation=(4,), actions=(2,)).eval()):
        _, one = model.predict(np.zeros(4))
        _, three = model.predict(np.zeros((3, 4)))
        assert model.predict(np.ones(4), one)[0] in (0, 1) and model.predict(np.ones((3, 4)), three)[0].shape == (3,)
        for observation, state in (
            (np.zeros(4), three),
            (np.zeros((3, 4)), one),
            (np.zeros(4), 5),
            (np.zeros(4), (1, 2)),
        ):
            with pytest.raises(ValueError, match=r"state must be what the last call returned for [13] observation"):
                model.predict(observation, state)
    with pytest.raises(ValueError, match="state must be"):
        agent().predict(np.zeros(4), 5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"episodes": 0}, "episodes=0 is not valid: it must be a whole number, 1 or more"),
        ({"episodes": 1.5}, "episodes=1.5 is not valid"),
        ({"episodes": 1, "seed": -1}, "seed=-1 is not valid: it must be a whole number, 0 or more"),
        ({"episodes": 1, "seed": "x"}, "seed=x is not valid"),
    ],
)
def test_numbers_of_an_evaluation(arguments, message):
    with pytest.raises(ZooError, match=message):
        agent().evaluate(**arguments)
