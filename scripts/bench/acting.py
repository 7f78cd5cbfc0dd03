"""Environment steps per CPU-second: the actor-critic through the Trainer, in a plain loop, and stable-baselines3's DQN.

    python scripts/bench/acting.py [option=value ...]     options as for scripts/train.py

In turns, on one thread and in CPU-seconds, as a machine may have other things to do:

- Trainer: what ``scripts/train.py`` builds, its callbacks, checkpoints and CSV logger included, without evaluation;
- plain loop: the same networks, environments, replay and updates, and nothing else;
- DQN: stable-baselines3's, one environment, with as many updates a step, their batch size and hidden layers. It has one
  network to train where the actor-critic has three. Left out where that package is missing.
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from timing import in_turns, print_ratios, trainer_seconds
from torch import nn

from zoo.config import from_config
from zoo.config.composition import compose, plain
from zoo.training.runs import set_up_logging

ROUNDS = 15
TICKS = 100  # steps of every environment


def main() -> None:
    warnings.filterwarnings("ignore")
    set_up_logging(None)
    torch.set_num_threads(1)
    overrides = ["model=actor_critic", "logger=csv", "trainer.accelerator=cpu", "run=unused", *sys.argv[1:]]
    config = plain(compose(overrides))
    updates, envs = config["model"]["updates"], config["data"]["envs"]
    config["trainer"] |= {"max_epochs": None, "max_steps": TICKS * updates, "limit_val_batches": 0}
    config["trainer"] |= {"enable_progress_bar": False}
    config["data"]["epoch_steps"] = 10**9
    ticks = from_config(config["data"]).ticks  # in a batch
    ways: dict[str, Callable[[], float]] = {
        "Trainer": lambda: envs * ticks / trainer_seconds(config, now=time.process_time),
        "plain loop": lambda: TICKS * envs / loop_seconds(config),
    }
    try:
        import stable_baselines3  # noqa: F401

        ways["DQN"] = lambda: TICKS * envs / dqn_seconds(config)
    except ImportError:
        print("stable-baselines3 is not installed: no comparison with it")
    rates = in_turns(ways, ROUNDS)
    batch = config["model"]["batch_size"]
    print(f"{ROUNDS} rounds of {TICKS * envs} steps, {updates} updates of {batch} in {envs} steps\n")
    for name, values in rates.items():
        print(f"{name:<12} {statistics.median(values):8.0f} steps/CPU-s")
    print_ratios(rates, "Trainer", list(ways)[1:])


def loop_seconds(config: dict) -> float:
    model, data = from_config(config["model"]).train(), from_config(config["data"])
    data.setup()
    experience = data.experience
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = model.optimizer.configure(trained, 1e9)["optimizer"]
    followers, leaders = list(model.target_critic.parameters()), list(model.critic.parameters())
    experience.collect(model.explore)
    start = time.process_time()
    for _ in range(TICKS):
        experience.collect(model.explore)
        batch = experience.sample(model.updates * model.batch_size)
        targets = model.targets(batch).split(model.batch_size)
        for part, target in zip(batch.split(model.batch_size), targets):
            optimizer.zero_grad()
            model.terms(part, target)["loss"].backward()
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(followers, leaders, model.target_rate)
    return time.process_time() - start


def dqn_seconds(config: dict) -> float:
    from stable_baselines3 import DQN

    model, data = config["model"], config["data"]
    every = data["envs"] // model["updates"]  # environment steps for one update
    agent = DQN(
        "MlpPolicy",
        data["env"],
        batch_size=model["batch_size"],
        buffer_size=data["replay"],
        learning_starts=data["start"],
        train_freq=every,
        gradient_steps=1,
        policy_kwargs={"net_arch": model["critic"]["hidden"], "activation_fn": nn.ReLU},
        device="cpu",
    )
    agent.learn(data["start"])
    start = time.process_time()
    agent.learn(TICKS * data["envs"], reset_num_timesteps=False)
    return time.process_time() - start


if __name__ == "__main__":
    main()
