"""The actor-critic through the command line: trained, killed, resumed, played, published."""

import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

import tests.toys  # noqa: F401  (registers them)
import zoo
from tests.conftest import ROOT, SMALL_AGENT, run_script, start_and_kill
from zoo import hub
from zoo.cli import main
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.config.composition import check, compose, plain
from zoo.data.environments.copies import Copy
from zoo.data.environments.making import Recipe
from zoo.errors import ZooError
from zoo.relaxations import RELAXATIONS
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")  # the subprocess of the killed run shows them all

SMALL = (
    "model=actor_critic",
    "logger=csv",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=4",
    "trainer.accelerator=cpu",
    *SMALL_AGENT,
    "data.eval_episodes=3",
    "data.test_episodes=4",
    "pictures_every_n_epochs=100",
    "checkpoint_every_n_steps=4",
    "epochs=3",
    "seed=3",
)


def train_here(folder: Path, *options: str) -> RunFolder:
    overrides = [*SMALL, *options, f"run={folder}"]
    config = compose(overrides)
    check(config)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *overrides]))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """A complete small run, with all that a resumed one has to get right: a baseline and a changing tau."""
    return train_here(tmp_path_factory.mktemp("runs") / "one", "relaxation=rebar", "annealing=linear")


def test_a_run_leaves_what_it_promises(run):
    assert {path.name for path in run.pictures.iterdir()} == {"episode.gif", "episode.png", "curves.png"}
    with Image.open(run.pictures / "episode.gif") as film:
        assert film.n_frames > 1
    names = {"return", "return_iqm", "return_iqm_low", "return_iqm_high", "length"}
    expected = {f"test/{kind}{name}" for kind in ("", "sampled_") for name in names} | {"test/neg_return"}
    results = run.read_results()
    assert set(results["metrics"]) == expected and results["steps"] == 3 * 20 * 2
    series = read_metrics(run.metrics)
    shown = ("return", "entropy", "steps_per_second", "critic_loss", "type_gap", "gradient_cosine", "gradient_bias")
    assert {"tau", "lr", "val/return", "train/env_steps", *(f"train/{name}" for name in shown)} <= set(series)
    assert [step for step, _ in series["val/return"]] == [40, 80, 120] == [s for s, _ in series["train/type_gap"]]
    assert series["train/env_steps"][-1] == (120, 80 + 480 - 8)  # the first step is among those before learning


def test_the_same_seed_gives_the_same_weights(run, tmp_path):
    again = train_here(tmp_path / "run", "relaxation=rebar", "annealing=linear")
    assert same(again, run)


def same(first: RunFolder, second: RunFolder) -> bool:
    """Whether two runs have the same checkpoints, replay and episodes included, and the same metrics but for times."""
    a, b = (torch.load(newest_checkpoint(run.checkpoints), weights_only=True) for run in (first, second))
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "Environments", "global_step")
    series = [read_metrics(run.metrics) for run in (first, second)]
    for values in series:
        del values["train/steps_per_second"]
    return all(equal(a[name], b[name]) for name in kept) and series[0] == series[1]


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_killed_run_ends_in_the_same_bits(run, tmp_path):
    options = ("relaxation=rebar", "annealing=linear")
    start_and_kill(tmp_path / "run", *SMALL, *options, at_step=52)  # in the second epoch
    result = run_script("train", *SMALL, *options, f"run={tmp_path / 'run'}")
    assert result.returncode == 0 and "resuming from" in result.stdout, result.stdout
    assert not re.findall(r".*(?:[Ww]arn|[Dd]eprecat).*", result.stdout)
    assert same(RunFolder(tmp_path / "run"), run)


def test_without_the_replay_a_resumed_run_goes_on_healthy(tmp_path):
    options = ("data.save_replay=false", "model.optimizer.decay_from=1.0")  # so that it may become longer
    before = train_here(tmp_path / "run", *options, "epochs=1")
    assert "replay" not in torch.load(newest_checkpoint(before.checkpoints), weights_only=True)["Environments"]
    after = train_here(tmp_path / "run", *options)
    series = read_metrics(after.metrics)
    assert series["train/env_steps"][-1] == (120, 2 * (80 - 8) + 480)
    assert all(np.isfinite([value for _, value in series["train/critic_loss"]]))


@pytest.mark.parametrize("relaxation", ["exact", "softmax", "rloo", "rebar"])
@pytest.mark.parametrize("env", ["tests.toys:Toy/Buttons-v0", "tests.toys:Toy/Picture-v0"])
def test_several_choices_and_images_train(tmp_path, env, relaxation):
    options = (f"data.env='{env}'", f"relaxation={relaxation}", "model.target_entropy=0.5", "epochs=1")
    assert train_here(tmp_path / "run", *options, "model.max_grad_norm=1.0").read_results()["steps"] == 40


def test_minatar_trains(tmp_path):
    run = train_here(tmp_path / "run", "data.env=MinAtar/Breakout-v1", "epochs=1", "data.epoch_steps=40")
    assert (run.pictures / "episode.gif").is_file()


ENVIRONMENTS = {
    "frozen_lake": ("data.env=FrozenLake-v1", "data.env_kwargs={is_slippery: false}"),
    "taxi": (f"data.env={next(name for name in ('Taxi-v4', 'Taxi-v3') if name in gymnasium.registry)}",),
    "blackjack": ("data.env=Blackjack-v1",),
    "cliff_walking": ("data.env=CliffWalking-v1", "data.max_episode_steps=20"),
    "dict": ("data.env='tests.toys:Toy/Rooms-v0'",),
    "masked": ("data.env='tests.toys:Toy/Masked-v0'", "model.correction=true", "model.critic_lr=1e-4"),
    "own": (
        *("data.env='tests.toys:Toy/Ending-v0'", "data.env_kwargs={terminate_at: 5}"),
        "data.wrappers=[{_target_: tests.toys.Scaled, factor: 2.0}]",
    ),
    "memory": ("data.history=4", "model.policy.memory=8", "model.path_entropy=true"),
    "atari": ("experiment=actor_critic_atari", "data.max_episode_steps=30", "data.replay=400", "model.batch_size=4"),
}
PICTURED = ("frozen_lake", "taxi", "blackjack", "cliff_walking", "memory", "atari")


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_of_all_kinds_are_trained_evaluated_and_filmed(tmp_path, name):
    if name == "atari":
        pytest.importorskip("ale_py")
    sizes = ("data.epoch_steps=40", "epochs=1", "data.eval_episodes=2", "data.test_episodes=2")
    run = train_here(tmp_path / "run", *ENVIRONMENTS[name], *sizes)
    assert (run.pictures / "episode.gif").is_file() == (name in PICTURED)
    agent = zoo.from_pretrained(run.path)
    scores = agent.evaluate(episodes=2)
    assert scores["length"] >= 1 and np.isfinite(scores["return"])
    copy = Copy(Recipe.of(agent.trained_on))
    observation, info = copy.env.reset(seed=0)
    action, _ = agent.predict(observation, action_masks=info.get("action_mask"))
    assert copy.env.action_space.contains(action if action.shape else int(action))
    copy.env.step(action)
    exported = torch.export.load(zoo.export(agent, tmp_path / "agent.pt2")).module()
    seen = agent.example_input_array
    torch.testing.assert_close(exported(seen), agent(seen))  # which has the normaliser in it


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_every_relaxation_has_a_configuration_that_passes(relaxation):
    check(compose([*SMALL, f"relaxation={relaxation}"]))


@pytest.mark.parametrize(
    "options, message",
    [
        (["data.env=CartPol-v1"], "no environment 'CartPol-v1'. Did you mean 'CartPole-v1'"),
        (["data.env=Pendulum-v1"], "Pendulum-v1 has the action space Box"),
        (["data.envs=lots"], "data.envs='lots' is not valid"),
        (["data.evns=3"], "Did you mean 'envs'"),
        (["data.env=null"], "data.env=None is not valid: give the name of an environment"),
        (["data.env_kwargs=[1]"], r"data.env_kwargs=\[1\] is not valid"),
        (["data.env_kwargs={slippery: true}"], "cannot be made: TypeError.*slippery"),
        (["data.wrappers=[{_target_: tests.toys.Scaled}]"], "lacks factor"),
        (["data.wrappers=[{_target_: tests.toys.Scaled, fcator: 2}]"], "Did you mean 'factor'"),
        (["data.max_episode_steps=0"], "data.max_episode_steps=0 is not valid"),
        (["data.history=two"], "data.history='two' is not valid"),
        (["data=mnist"], r"not for actor_critic\. Choose from: gymnasium\."),
        (["model.critic.head=cubic"], "'linear' or 'concatenated'"),
    ],
)
def test_mistakes_are_found_before_anything_starts(options, message):
    with pytest.raises(ZooError, match=message):
        check(compose([*SMALL, *options]))


@pytest.mark.parametrize(
    "env, message",
    [
        ("Crash", "failed in step 30.*wheel"),
        ("NaNReward", "reward nan in step 30"),
        ("NaNObservation", "not finite in step 30"),
    ],
)
def test_what_goes_wrong_inside_an_environment_leaves_the_checkpoints(tmp_path, env, message):
    with pytest.raises(ZooError, match=message):
        train_here(tmp_path / "run", f"data.env='tests.toys:Toy/{env}-v0'")
    newest = newest_checkpoint(RunFolder(tmp_path / "run").checkpoints)
    assert newest and int(newest.stem[5:]) >= 24


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    with pytest.raises(ZooError, match=r"is not finite, but (nan|inf), at step \d+ \(epoch"):
        train_here(tmp_path / "run", "model.optimizer.lr=1e20")


def test_eval_repeats_the_scores_and_refuses_another_environment(run):
    scores = evaluate(hub.read(run.path), {"trainer.accelerator": "cpu"})
    expected = {name.removeprefix("test/"): value for name, value in run.read_results()["metrics"].items()}
    assert {name: value for name, value in scores.items() if "sampled" not in name and name != "neg_return"} == {
        name: value for name, value in expected.items() if "sampled" not in name and name != "neg_return"
    }
    with pytest.raises(ZooError, match=r"the model is for Spaces\(observation=\(4,\).*Acrobot-v1 has"):
        evaluate(hub.read(run.path), {"data.env": "Acrobot-v1"})


def test_publish_and_play(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hub.registry, "resource", lambda name: tmp_path if name == "checkpoints" else ROOT / name)
    folder = publish(run, "actor_critic.tiny", [])
    assert "![Episode](episode.gif)" in (folder / "README.md").read_text() and (folder / "episode.gif").is_file()
    output = tmp_path / "film.gif"
    arguments = ["play.py", "checkpoint=actor_critic.tiny", "episodes=2", "policy=sampled", f"output={output}"]
    monkeypatch.setattr(sys, "argv", arguments)
    main("play")
    assert output.read_bytes().startswith(b"GIF") and "mean return" in capsys.readouterr().err
    for arguments, message in (
        (["episodes=0"], "episodes=0 is not valid"),
        (["policy=best"], "'mode' or 'sampled'"),
        (["polcy=mode"], "no option 'polcy'"),
        ([f"output={folder}/README.md/x.gif"], "cannot write output="),
        (["checkpoint=cat_vae.mnist"], "no pretrained model"),
    ):
        monkeypatch.setattr(sys, "argv", ["play.py", "checkpoint=actor_critic.tiny", *arguments])
        with pytest.raises(SystemExit, match=message):
            main("play")
    monkeypatch.setattr(sys, "argv", ["sample.py", f"checkpoint={folder}"])
    with pytest.raises(SystemExit, match="nothing to sample: use zoo play"):
        main("sample")


@pytest.mark.slow
def test_two_processes_train_together(tmp_path):
    options = ("trainer.devices=2", "+trainer.strategy=ddp", "epochs=1", "data.eval_episodes=4")
    result = run_script("train", *SMALL, *options, f"run={tmp_path / 'run'}")
    assert result.returncode == 0, result.stdout
    run = RunFolder(tmp_path / "run")
    assert run.read_results()["steps"] == 20
    seen = 2 * (80 - 8 + 80)
    assert read_metrics(run.metrics)["train/env_steps"][-1] == (20, seen)
    state = torch.load(run.best, weights_only=True)["state_dict"]
    assert state["normalizer.count"] == seen  # observations of both processes
