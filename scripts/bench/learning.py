"""Environment steps and CPU-seconds to a bar: the actor-critic, and stable-baselines3's DQN and PPO.

    python scripts/bench/learning.py [--seeds 5] [--steps 100000] [--agents ours dqn ppo] [--options option=value ...]

CartPole-v1. The actor-critic has the default settings of ``model=actor_critic`` and runs through the Trainer; the
others have the tuned settings of RL Baselines3 Zoo (DQN is tuned for 50,000 steps, and is given no more). All are
evaluated alike: every 2,500 steps, most probable or greedy actions, 20 episodes from the same seeds. The CPU-seconds
are of one thread, without imports and without these evaluations. ``--stop`` ends each run at the bar.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
from lightning import Callback
from timing import train

from zoo.config.composition import compose, plain
from zoo.data.environments import Environments
from zoo.data.environments.experience import Act, Seen
from zoo.data.seeding import seed_default_generators
from zoo.training.runs import set_up_logging

ENV, BAR, EVERY = "CartPole-v1", 475, 2500


class Judge:
    """Evaluates one learner every so many steps, and knows how much CPU time it has used."""

    def __init__(self, *, stop: bool) -> None:
        self.stop = stop
        self.trial = Environments(env=ENV).val_dataloader().trial
        self.points: list[tuple[int, float, float]] = []  # steps, CPU-seconds, return
        self.used, self.start = 0.0, time.process_time()

    def due(self, steps: int) -> bool:
        return steps >= EVERY * (len(self.points) + 1)

    @property
    def done(self) -> bool:
        """Whether the learner may stop."""
        return self.stop and bool(self.points) and self.points[-1][2] >= BAR

    def evaluate(self, steps: int, act: Act) -> None:
        self.used += time.process_time() - self.start
        self.points.append((steps, self.used, self.trial.play(act)[0].mean().item()))
        self.start = time.process_time()


class Evaluate(Callback):
    """Asks ``judge`` after training batches."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def on_train_start(self, *_: object) -> None:
        self.judge.start = time.process_time()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if self.judge.due(batch.env_steps):
            self.judge.evaluate(batch.env_steps, pl_module.player())
            trainer.should_stop = self.judge.done


def ours(judge: Judge, seed: int, steps: int, options: list[str]) -> None:
    given = [f"seed={seed}", f"data.env={ENV}", "run=unused", "logger=csv", "trainer.accelerator=cpu", *options]
    config = plain(compose(["model=actor_critic", *given]))
    config["trainer"] |= {"max_epochs": -(-steps // 5000), "limit_val_batches": 0, "enable_progress_bar": False}
    seed_default_generators(seed)
    train(config, [Evaluate(judge)])


def dqn(judge: Judge, seed: int, steps: int, options: list[str]) -> None:
    from stable_baselines3 import DQN

    agent = DQN(
        "MlpPolicy",
        ENV,
        learning_rate=2.3e-3,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=1000,
        gamma=0.99,
        target_update_interval=10,
        train_freq=256,
        gradient_steps=128,
        exploration_fraction=0.16,
        exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]},
        seed=seed,
        device="cpu",
    )
    learn(agent, judge, min(steps, 50_000))


def ppo(judge: Judge, seed: int, steps: int, options: list[str]) -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    agent = PPO(
        "MlpPolicy",
        make_vec_env(ENV, 8, seed=seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda left: 1e-3 * left,
        clip_range=lambda left: 0.2 * left,
        seed=seed,
        device="cpu",
    )
    learn(agent, judge, min(steps, 100_000))


def learn(agent, judge: Judge, steps: int) -> None:
    """Train an agent of stable-baselines3, with evaluations between its rollouts."""
    from stable_baselines3.common.callbacks import BaseCallback

    def act(seen: Seen) -> torch.Tensor:
        actions = agent.predict(seen.observation.numpy(), deterministic=True)[0]
        return torch.from_numpy(np.asarray(actions)).unsqueeze(1)

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


AGENTS = {"ours": ours, "dqn": dqn, "ppo": ppo}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--options", nargs="*", default=[], help="of the actor-critic, as for scripts/train.py")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    set_up_logging(None)
    torch.set_num_threads(1)
    print(f"| agent | steps to {BAR} | median | CPU-seconds to it | median | last three evaluations | CPU-s in all |")
    print("| --- | --- | ---: | --- | ---: | --- | ---: |")
    for name in chosen.agents:
        runs = []
        for seed in range(chosen.seeds):
            judge = Judge(stop=chosen.stop)
            AGENTS[name](judge, seed, chosen.steps, chosen.options)
            runs.append(judge.points)
        print(row(name, runs), flush=True)


def row(name: str, runs: list[list[tuple[int, float, float]]]) -> str:
    never = (float("inf"), float("inf"), 0.0)
    first = [next((point for point in points if point[2] >= BAR), never) for points in runs]
    steps, seconds = [point[0] for point in first], [point[1] for point in first]
    ends = [statistics.mean(value for _, _, value in points[-3:]) for points in runs]
    total = statistics.median(points[-1][1] for points in runs)
    return (
        f"| {name} | {' '.join(f'{s:,.0f}' for s in steps)} | {statistics.median(steps):,.0f} "
        f"| {' '.join(f'{s:.1f}' for s in seconds)} | {statistics.median(seconds):.1f} "
        f"| {' '.join(f'{value:.0f}' for value in ends)} | {total:.0f} |"
    )


if __name__ == "__main__":
    main()
