"""What each model offers people of its domain: NumPy arrays where they have them, and names."""

import gymnasium
import numpy as np
import pytest
import torch

import zoo
from zoo.data.environments.making import action_names
from zoo.errors import ZooError
from zoo.models.pointer_net import TASKS
from zoo.models.pointer_net.solvers import length


def test_an_autoencoder_takes_arrays():
    model = zoo.from_pretrained("cat_vae.mnist", iwae_samples=2)
    images = np.random.default_rng(0).random((2, 1, 28, 28))  # float64
    codes = model.encode(images)
    assert codes.shape == (2, model.latents) and codes.dtype == torch.int64
    assert torch.equal(model.decode(codes.numpy()), model.reconstruct(images))
    assert torch.equal(model.decode(codes.tolist()), model.reconstruct(torch.from_numpy(images).float()))
    assert model.log_likelihood(images, 2).shape == (2,)
    with pytest.raises(ValueError, match="codes must be int64"):
        model.decode(np.zeros((2, 3)))


def test_an_agent_predicts_as_agents_of_others_do():
    model = zoo.from_pretrained("actor_critic.cartpole")
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    action, state = model.predict(observation)
    assert env.action_space.contains(action) and state is None
    actions, _ = model.predict(np.stack([observation] * 3), deterministic=True)
    assert actions.tolist() == [action] * 3
    drawn = {int(model.predict(np.zeros(4), deterministic=False)[0]) for _ in range(50)}
    assert drawn <= {0, 1}
    with pytest.raises(ValueError, match=r"gives them, Box.*: its shape is \(5,\)"):
        model.predict(np.zeros(5))
    assert model.action_names == () and action_names("MinAtar/Breakout-v1") == ("n", "l", "r")


def test_a_pointer_network_solves_points_wherever_they_lie():
    model = zoo.from_pretrained("pointer_net.tsp20")
    assert model.task.columns == ("x", "y")
    points = np.random.default_rng(0).random((20, 2))
    order, cost = model.solve(points)
    assert sorted(order) == list(range(20)) and cost == pytest.approx(length(points, order), rel=1e-5)
    _, far_cost = model.solve(1000 * points + 7)
    assert far_cost == pytest.approx(1000 * cost, rel=1e-4) and model.solve(points, symmetries=8)[1] <= cost
    orders, costs = model.solve([points, points[::-1]])
    assert orders.shape == (2, 20) and costs.shape == (2,)
    assert model.solve(points[:1]) == (0, 0.0)
    with pytest.raises(ZooError, match="at least 1 element"):
        model.solve(points[:0])
    order, cost = zoo.from_pretrained("pointer_net.sort10").solve(points[:10, :1])
    assert cost < 1e-3 and np.all(np.diff(points[order, 0]) > -0.02)
    assert all(len(task.columns) == task.features for task in TASKS.values())


def test_a_generator_and_a_judge_know_their_speakers():
    model, judge = zoo.from_pretrained("speaker_generator.fsdd"), zoo.from_pretrained("speech_judge.fsdd")
    assert set(model.speaker_names) <= set(judge.speakers) and len(model.speaker_names) == model.speakers
    name = model.speaker_names[0]
    sounds = [sound.numpy() for seed in range(5) for sound in model.speak("4 0 seven", speaker=name, seed=seed)]
    judgement = judge.listen(sounds)  # it hears 4 digits in 1,000 as others, so one of the 15 may be
    assert sum(a == b for a, b in zip(judgement.digit.tolist(), [4, 0, 7] * 5, strict=True)) >= 14
    assert judge.names(judgement).count(name) >= 14
    assert len(model.speak(np.array([1, 2]), 1)) == len(model.speak([1, 2], [0, 1])) == 2
    with pytest.raises(ZooError, match=r"no speaker 'thoe'\..*Did you mean 'theo'"):
        model.speak("1", speaker="thoe")
    with pytest.raises(ZooError, match=r"cannot say 'hello'\. The model has learned: zero, "):
        model.speak("hello")


def test_a_polynomial_draws():
    from zoo.models.polynomial import PolynomialProgram
    from zoo.relaxations import RLOO
    from zoo.training import AdamW

    model = PolynomialProgram(relaxation=RLOO(), optimizer=AdamW(), latents=5, categories=3)
    assert model.sample(7).shape == (7, 5) and model.sample(7).max() < 3
    assert torch.allclose(model.probabilities.sum(-1), torch.ones(5))


def test_names_stay_with_what_is_saved(tmp_path):
    names = zoo.from_pretrained("speaker_generator.fsdd").speaker_names
    zoo.save_pretrained(zoo.from_pretrained("speaker_generator.fsdd"), tmp_path / "speaker_generator.copy")
    assert any(names) and zoo.from_pretrained(tmp_path / "speaker_generator.copy").speaker_names == names
