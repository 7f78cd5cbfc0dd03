"""Environment steps and CPU-seconds to a bar: the agents of the zoo, and those of stable-baselines3.

    python scripts/bench/learning.py [--envs CartPole-v1 ...] [--agents actor_critic ppo ...] [--seeds 100 101 ...]
                                     [--steps 100000] [--stop] [--options option=value ...] [--folder runs/learning]

The agents of the zoo have their default settings, on Acrobot-v1 and LunarLander-v3 those of the experiment files, and
run through the Trainer; PPO, DQN and QR-DQN have the tuned settings of RL Baselines3 Zoo. All are judged alike: every
2,500 steps, most probable or greedy actions, 20 episodes from the same seeds. The CPU-seconds are of one thread,
without imports and without these evaluations. ``--stop`` ends each run at the bar.

Every run leaves a file in the folder, and is not repeated: what was stopped goes on with the same command. Runs of an
agent with other ``--steps``, ``--stop`` or ``--options`` need a folder of their own. The tables and the picture are of
all the files: steps to the bar, where a miss counts as all the steps that the run could have; the ratio of the medians
to PPO's with a 95% interval over seeds; and the interquartile mean of the last returns with a stratified interval.
Seeds from 100 on were used in no tuning.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback
from timing import train

from zoo.config.composition import compose, plain
from zoo.data.environments import Environments
from zoo.data.environments.experience import Act, Seen
from zoo.data.environments.returns import interquartile_mean
from zoo.data.seeding import seed_default_generators
from zoo.files import atomic
from zoo.lab.positions import CartPolePositions
from zoo.training import plots
from zoo.training.runs import set_up_logging

EVERY = 2500
HIDDEN = f"{CartPolePositions.__name__}-v0"  # CartPole-v1 without velocities
ENVS = {
    "CartPole-v1": (475, 100_000, 500),
    "Acrobot-v1": (-90, 100_000, -60),
    "LunarLander-v3": (200, 300_000, 280),
    HIDDEN: (475, 100_000, 500),
}
"""Environment -> the bar, the steps of a run, and the return that counts as 1 where tasks are taken together."""
WORST = {"CartPole-v1": 0, "Acrobot-v1": -500, "LunarLander-v3": -200, HIDDEN: 0}
OWN = {
    "Acrobot-v1": ["experiment=actor_critic_acrobot"],
    "LunarLander-v3": ["experiment=actor_critic_lunarlander"],
}
PPO: dict[str, tuple[int, bool, dict]] = {  # environments, normalised, arguments
    "CartPole-v1": (8, False, {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}),
    "Acrobot-v1": (16, True, {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4}),
    "LunarLander-v3": (
        *(16, False),
        {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01},
    ),
}
FREQUENT = {
    **{"learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000, "learning_starts": 0, "gamma": 0.99},
    **{"target_update_interval": 250, "train_freq": 4, "gradient_steps": -1},
    **{"exploration_fraction": 0.12, "exploration_final_eps": 0.1},
}
RARE = {
    **{"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000, "gamma": 0.99},
    **{"target_update_interval": 10, "train_freq": 256, "gradient_steps": 128},
    **{"exploration_fraction": 0.16, "exploration_final_eps": 0.04},
}
DQN: dict[str, dict] = {"CartPole-v1": RARE, "Acrobot-v1": FREQUENT, "LunarLander-v3": FREQUENT}
EXPLORATION = {"LunarLander-v3": 12_000}  # steps of DQN's, as in the run of 100,000 that its settings were tuned for
QRDQN: dict[str, tuple[int, dict]] = {  # quantiles, arguments
    "CartPole-v1": (10, RARE),
    "Acrobot-v1": (25, FREQUENT),
    "LunarLander-v3": (
        170,
        {
            **{"learning_rate": lambda left: 1.5e-3 * left, "batch_size": 128, "buffer_size": 100_000},
            **{"learning_starts": 10_000, "gamma": 0.995, "target_update_interval": 1, "train_freq": 256},
            **{"gradient_steps": -1, "exploration_fraction": 0.24, "exploration_final_eps": 0.18},
        },
    ),
}
TUNED_FOR = {("dqn", "CartPole-v1"): 50_000, ("qrdqn", "CartPole-v1"): 50_000, ("qrdqn", "LunarLander-v3"): 100_000}
"""Steps for which the settings are tuned, where they are fewer; the rest of a run would have other schedules."""


class Judge:
    """Evaluates one learner every so many steps, and knows how much CPU time it has used."""

    def __init__(self, env: str = "CartPole-v1", *, stop: bool) -> None:
        self.env, self.stop, self.bar = env, stop, ENVS[env][0]
        self.see(1)
        self.points: list[tuple[int, float, float]] = []  # steps, CPU-seconds, return
        self.used, self.start = 0.0, time.process_time()

    def see(self, history: int) -> None:
        """Evaluate a learner that sees so many observations at a time."""
        self.trial = Environments(env=self.env, history=history).val_dataloader().trial

    def due(self, steps: int) -> bool:
        return steps >= EVERY * (len(self.points) + 1)

    @property
    def done(self) -> bool:
        """Whether the learner may stop."""
        return self.stop and bool(self.points) and self.points[-1][2] >= self.bar

    def evaluate(self, steps: int, act: Act) -> None:
        self.used += time.process_time() - self.start
        with torch.random.fork_rng():
            value = self.trial.play(act)[0].mean().item()
        self.points.append((steps, round(self.used, 2), round(value, 2)))
        self.start = time.process_time()


class Evaluate(Callback):
    """Asks ``judge`` after training batches."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def on_train_start(self, *_: object) -> None:
        self.judge.start = time.process_time()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.judge.due(batch.env_steps):
            pl_module.eval()
            self.judge.evaluate(batch.env_steps, pl_module.player())
            pl_module.train()
            trainer.should_stop = self.judge.done


def own(model: str, judge: Judge, seed: int, steps: int, options: list[str]) -> None:
    """A model of the zoo."""
    chosen = OWN.get(judge.env, ["model=actor_critic"]) if model == "actor_critic" else [f"model={model}"]
    fixed = [f"seed={seed}", f"data.env={judge.env}", "run=unused", "logger=csv", "trainer.accelerator=cpu"]
    config = plain(compose([*chosen, *fixed, *options]))
    judge.see(config["data"]["history"])
    epochs = -(-steps // config["data"]["epoch_steps"])
    config["trainer"] |= {"max_epochs": epochs, "limit_val_batches": 0, "enable_progress_bar": False}
    seed_default_generators(seed)
    train(config, [Evaluate(judge)])


def dqn(judge: Judge, seed: int, steps: int) -> None:
    from stable_baselines3 import DQN as Agent

    net, settings = {"net_arch": [256, 256]}, DQN[judge.env]
    if judge.env in EXPLORATION:
        settings = settings | {"exploration_fraction": EXPLORATION[judge.env] / steps}
    learn(Agent("MlpPolicy", judge.env, **settings, policy_kwargs=net, seed=seed, device="cpu"), judge, steps)


def qrdqn(judge: Judge, seed: int, steps: int) -> None:
    from sb3_contrib import QRDQN as Agent

    quantiles, settings = QRDQN[judge.env]
    net = {"net_arch": [256, 256], "n_quantiles": quantiles}
    learn(Agent("MlpPolicy", judge.env, **settings, policy_kwargs=net, seed=seed, device="cpu"), judge, steps)


def ppo(judge: Judge, seed: int, steps: int) -> None:
    from stable_baselines3 import PPO as Agent
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    count, normalised, settings = PPO[judge.env]
    envs = make_vec_env(judge.env, count, seed=seed)
    if judge.env == "CartPole-v1":
        settings = settings | {"learning_rate": lambda left: 1e-3 * left, "clip_range": lambda left: 0.2 * left}
    envs = VecNormalize(envs, gamma=settings["gamma"]) if normalised else envs
    learn(Agent("MlpPolicy", envs, **settings, seed=seed, device="cpu"), judge, steps)


def learn(agent, judge: Judge, steps: int) -> None:
    """Train an agent of stable-baselines3, with evaluations between its rollouts."""
    from stable_baselines3.common.callbacks import BaseCallback

    def act(seen: Seen) -> torch.Tensor:
        observation, normaliser = seen.observation.numpy(), agent.get_vec_normalize_env()
        observation = normaliser.normalize_obs(observation) if normaliser else observation
        return torch.from_numpy(np.asarray(agent.predict(observation, deterministic=True)[0])).unsqueeze(1)

    class Between(BaseCallback):
        def _on_step(self) -> bool:
            return not judge.done

        def _on_rollout_start(self) -> None:
            if judge.due(self.num_timesteps):
                judge.evaluate(self.num_timesteps, act)

    judge.start = time.process_time()
    agent.learn(steps, callback=Between())
    if not judge.done:
        judge.evaluate(agent.num_timesteps, act)


AGENTS = ("actor_critic", "ppo", "dqn", "qrdqn", "world_model")
PEERS = {"ppo": ppo, "dqn": dqn, "qrdqn": qrdqn}


def run(folder: Path, env: str, agent: str, seed: int, settings: dict[str, Any]) -> None:
    """One run, unless its file is there."""
    path = folder / env / agent / f"{seed}.json"
    if path.exists():
        return
    judge = Judge(env, stop=settings["stop"])
    if agent in PEERS:
        PEERS[agent](judge, seed, settings["steps"])
    else:
        own(agent, judge, seed, settings["steps"], settings["options"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps({"points": judge.points, **settings}) + "\n")


def settings_of(env: str, agent: str, steps: int | None, stop: bool, options: list[str]) -> dict[str, Any]:
    """What the runs of an agent have in common."""
    length = min(steps or ENVS[env][1], TUNED_FOR.get((agent, env), 10**9))
    return {"steps": length, "stop": stop, "options": [] if agent in PEERS else sorted(options)}


def check_there(folder: Path, env: str, agent: str, settings: dict[str, Any]) -> None:
    """Raise ``SystemExit`` if the folder has runs of the agent with other settings."""
    for path in sorted((folder / env / agent).glob("*.json")):
        there = json.loads(path.read_text(encoding="utf-8"))
        if {name: there.get(name) for name in settings} != settings:
            raise SystemExit(f"{path} is a run with other --steps, --stop or --options: name another --folder")


class Run(NamedTuple):
    """What a run has left: each evaluation as steps, CPU-seconds and return; and the steps that it had at most."""

    points: list[tuple[int, float, float]]
    cap: int


def read(folder: Path) -> dict[tuple[str, str], dict[int, Run]]:
    """(environment, agent) -> seed -> run, of all the files."""
    found: dict[tuple[str, str], dict[int, Run]] = {}
    for path in sorted(folder.glob("*/*/*.json")):
        there, env = json.loads(path.read_text(encoding="utf-8")), path.parts[-3]
        run = Run([tuple(point) for point in there["points"]], there.get("steps", ENVS[env][1]))
        found.setdefault((env, path.parts[-2]), {})[int(path.stem)] = run
    return found


def first(run: Run, bar: float) -> tuple[float, float]:
    """Steps and CPU-seconds at the first evaluation at the bar; of a miss the cap, and all that it took."""
    reached = next(((steps, seconds) for steps, seconds, value in run.points if value >= bar), None)
    return reached or (run.cap, run.points[-1][1])


def table(found: dict) -> list[str]:
    """A row an environment and an agent."""
    lines = [
        "| environment | agent | seeds | steps to the bar, each seed | median | to PPO's median | reached "
        "| last return, each seed | CPU-s to the bar | CPU-s in all |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for env, (bar, *_) in ENVS.items():
        for agent in AGENTS:
            if not (runs := found.get((env, agent))):
                continue
            steps, seconds = zip(*(first(run, bar) for run in runs.values()))
            ends = [run.points[-1][2] for run in runs.values()]
            reached = sum(any(value >= bar for *_, value in run.points) for run in runs.values())
            against = found.get((env, "ppo"))
            ratio = ""
            if against and agent != "ppo":
                ratio = with_interval(list(steps), [first(run, bar)[0] for run in against.values()])
            lines.append(
                f"| {env}, {bar} | {agent} | {min(runs)} to {max(runs)} | {' '.join(f'{s:,.0f}' for s in steps)} "
                f"| {statistics.median(steps):,.0f} | {ratio} | {reached} of {len(runs)} "
                f"| {' '.join(f'{value:.0f}' for value in ends)} | {statistics.median(seconds):.1f} "
                f"| {statistics.median(run.points[-1][1] for run in runs.values()):.0f} |"
            )
    return lines


def with_interval(ours: list[float], theirs: list[float]) -> str:
    """The ratio of the medians, with its 95% percentile-bootstrap interval over seeds of both."""
    g = np.random.default_rng(0)
    draws = [np.median(g.choice(np.array(values), (10_000, len(values))), 1) for values in (ours, theirs)]
    low, high = np.quantile(draws[0] / draws[1], [0.025, 0.975])
    return f"{statistics.median(ours) / statistics.median(theirs):.2f} ({low:.2f} to {high:.2f})"


def together(found: dict) -> list[str]:
    """The interquartile mean of the last returns, as shares of the way from worst to best, over tasks and seeds, with a
    95% interval of a bootstrap that is stratified by task (Agarwal et al. 2021, arXiv 2108.13264)."""
    lines = ["| agent | tasks | interquartile mean |", "| --- | ---: | ---: |"]
    g = torch.Generator().manual_seed(0)
    for agent in AGENTS:
        scores = [
            torch.tensor([(run.points[-1][2] - WORST[env]) / (ENVS[env][2] - WORST[env]) for run in runs.values()])
            for env in ENVS
            if env != HIDDEN and (runs := found.get((env, agent)))
        ]
        if not scores:
            continue
        draws = [task[torch.randint(len(task), (2000, len(task)), generator=g)] for task in scores]
        low, high = interquartile_mean(torch.cat(draws, 1)).quantile(torch.tensor([0.025, 0.975]))
        mean = interquartile_mean(torch.cat(scores))
        lines.append(f"| {agent} | {len(scores)} | {mean:.3f} ({low:.3f} to {high:.3f}) |")
    return lines


def picture(found: dict, path: Path) -> None:
    """Returns against environment steps: every seed a thin line, their median a thick one."""
    from matplotlib.figure import Figure

    envs = [env for env in ENVS if any(one == env for one, _ in found)]
    with plots.style():
        figure = Figure(figsize=(7, 3 * len(envs)), layout="constrained")
        for axes, env in zip(figure.subplots(len(envs), squeeze=False)[:, 0], envs):
            for i, agent in enumerate(AGENTS):
                runs = [run.points for run in found.get((env, agent), {}).values()]
                for points in runs:
                    axes.plot([p[0] for p in points], [p[2] for p in points], color=f"C{i}", linewidth=0.5, alpha=0.4)
                if runs:
                    grid = np.arange(EVERY, max(points[-1][0] for points in runs) + 1, EVERY)
                    lines = [np.interp(grid, [p[0] for p in points], [p[2] for p in points]) for points in runs]
                    axes.plot(grid, np.median(lines, 0), color=f"C{i}", linewidth=1.8, label=agent)
            axes.axhline(ENVS[env][0], color="black", linewidth=0.6, linestyle=":")
            axes.set(ylabel=f"return, {env}")
            axes.legend()
            axes.grid(alpha=0.3)
        axes.set(xlabel="environment steps")
        figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=["CartPole-v1"])
    parser.add_argument("--agents", nargs="*", choices=AGENTS, default=["actor_critic", "ppo", "dqn", "qrdqn"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(100, 110)))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--options", nargs="*", default=[], help="of the zoo's agents, as for scripts/train.py")
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    set_up_logging(None)
    torch.set_num_threads(1)
    if HIDDEN in chosen.envs and {*chosen.agents} & {*PEERS}:
        parser.error(f"{HIDDEN} is for the agents of the zoo: there are no tuned settings of others")
    settings = {
        (env, agent): settings_of(env, agent, chosen.steps, chosen.stop, chosen.options)
        for env in chosen.envs
        for agent in chosen.agents
    }
    for (env, agent), wanted in settings.items():
        check_there(chosen.folder, env, agent, wanted)
    for seed in chosen.seeds:  # so that what is unfinished is of use
        for (env, agent), wanted in settings.items():
            run(chosen.folder, env, agent, seed, wanted)
            found = read(chosen.folder)
            lines = [*table(found), "", *together(found)]
            (chosen.folder / "learning.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read(chosen.folder)
    print("\n".join([*table(found), "", *together(found)]))
    if found:
        picture(found, chosen.folder / "learning.png")


if __name__ == "__main__":
    main()
