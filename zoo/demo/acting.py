"""Watch it act: an episode, and how probable each action was at every step."""

import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.demo import drawing
from zoo.demo.shared import Shelf, no_model, polite
from zoo.errors import ZooError

ARCHS = ("actor_critic", "world_model")
POLICIES = ("most probable", "drawn")
HOTTEST = 5.0
LONGEST = 1_000
"""Steps after which it ends here."""
LAST = 60
"""Steps whose probabilities are shown."""
PAUSE = 0.06
"""Seconds from one picture to the next, at least."""
WIDE = 360
"""Pixels of a picture, at most."""


def player(agent: Any, policy: str, temperature: float, seed: int) -> Any:
    """What acts: the agent, or its policy at another temperature.

    Raises:
        ZooError: if a number is out of range, or the agent remembers, and has no temperature.
    """
    from zoo.models.agents import Player

    if policy not in POLICIES:
        raise ZooError(f"a policy is {' or '.join(POLICIES)}")
    if not 0 < temperature <= HOTTEST:
        raise ZooError(f"a temperature is above 0 and at most {HOTTEST:g}")
    if agent.memory_size:
        if policy == "drawn" and temperature != 1:
            raise ZooError("this agent remembers what it did, and draws at temperature 1 alone")
        return Player(agent, mode=policy != "drawn")

    class Warm(Player):
        """Draws from the policy at a temperature, with numbers of its own."""

        generator = torch.Generator().manual_seed(int(seed))

        @torch.no_grad()
        def __call__(self, seen: Any) -> Tensor:
            _, law, _ = agent.respond(seen.observation, seen.mask, None, seen.first, mode=True)
            self.probabilities = (law.logits / temperature).softmax(-1)
            if policy != "drawn":
                return self.probabilities.argmax(-1)
            flat = self.probabilities.flatten(0, -2)
            return torch.multinomial(flat, 1, generator=self.generator).view(self.probabilities.shape[:-1])

    return Warm(agent, mode=policy != "drawn")


def episode(
    agent: Any, recipe: Any, policy: str, temperature: float, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Step by step: the picture, the probabilities of all options ``(options,)``, and the return so far.

    Raises:
        ZooError: if the environment cannot be made or shown.
    """
    from zoo.data.environments.copies import Copy
    from zoo.data.environments.experience import Seen
    from zoo.data.environments.module import seed_of_reset
    from zoo.data.environments.trial import actions_of
    from zoo.data.seeding import EPISODE, PREDICT

    act = player(agent, policy, temperature, seed)
    copy = Copy(recipe, render_mode="rgb_array")
    try:
        observation, first, done, total = copy.reset(seed_of_reset(int(seed), PREDICT, EPISODE, 0)), True, False, 0.0
        while not done and copy.steps < LONGEST:
            picture = copy.render()
            acted = act(Seen.of(observation[None], [copy.mask], np.array([first]), "cpu"))
            yield picture, act.probabilities[0].flatten().numpy(), total
            observation, reward, terminated, truncated = copy.step(actions_of(acted)[0])
            first, done, total = False, terminated or truncated, total + reward
        yield copy.render(), np.zeros(0), total
    finally:
        copy.close()


def names_of(agent: Any) -> list[str]:
    names = list(agent.action_names) or GAMES.get(str(agent.trained_on.get("env")), [])
    options = [
        f"{c}.{k}" if len(agent.spaces.actions) > 1 else str(k)
        for c, n in enumerate(agent.spaces.actions)
        for k in range(n)
    ]
    return names if len(names) == len(options) else options


GAMES = {
    "CartPole-v1": ["left", "right"],
    "Acrobot-v1": ["clockwise", "nothing", "anticlockwise"],
    "LunarLander-v3": ["nothing", "left engine", "main engine", "right engine"],
}
"""What actions do where the environment itself does not say."""


def watch(agent: Any, recipe: Any, policy: str, temperature: float, seed: int) -> Iterator[str]:
    """The page as the episode goes on."""
    names, told = names_of(agent), []
    total, picture, shown, every = 0.0, None, 0.0, 1
    for step, (picture, p, total) in enumerate(episode(agent, recipe, policy, temperature, seed)):
        if len(p):
            told.append(p)
        every = max(1, (step + 1) // 20 // 2 + 1)
        if step % every == 0 and time.perf_counter() - shown > PAUSE and len(p):
            yield page(names, picture, told, f"Step {step}: return {total:g} so far.")
            time.sleep(max(0.0, PAUSE - (time.perf_counter() - shown)) if shown == 0 else PAUSE / 2)
            shown = time.perf_counter()
    sure = float(np.mean([p.max() for p in told])) if told else 1.0
    often = int(np.argmax(np.mean(told, 0))) if told else 0
    say = (
        f"The episode ended after {len(told)} steps with a return of {total:g}. The most probable action had "
        f"{sure:.0%} on average; over all steps “{names[often]}” had most, {np.mean(told, 0)[often]:.0%}."
    )
    assert picture is not None
    yield page(names, picture, told, say)


def page(names: list[str], picture: np.ndarray, told: list[np.ndarray], say: str) -> str:
    """The picture, the probabilities now, and those of the last steps."""
    first = max(0, len(told) - LAST)
    table, steps = np.stack(told[first:]), list(range(first, len(told)))
    kinds = ("a", "b", "c", "ink", "faint")
    lines = [(name, steps, table[:, i].tolist(), kinds[i % len(kinds)]) for i, name in enumerate(names[:6])]
    now = dict(zip(names, told[-1].tolist()))
    return drawing.page(
        drawing.figure("The episode", photograph(picture), ""),
        drawing.figure(
            "Probability of each action now",
            drawing.bars(told[-1].tolist(), names, ", ".join(f"{k} {v:.0%}" for k, v in now.items()), high=1.0),
        ),
        drawing.figure(
            f"The last {LAST} steps",
            drawing.curves(lines, "Probability of each action over the steps", names=("step", ""), y=(0.0, 1.0))
            if len(told) > 1
            else "",
        ),
        say=say,
    )


def photograph(array: np.ndarray) -> str:
    from PIL import Image

    picture = Image.fromarray(array)
    picture.thumbnail((WIDE, WIDE))
    picture.save(content := io.BytesIO(), format="JPEG", quality=80)
    return drawing.image(content.getvalue(), "jpeg", "what the environment looks like now", "film")


def build(gr: Any, shelf: Shelf) -> None:
    """Controls, and what they change."""
    from importlib.util import find_spec

    from zoo import hub
    from zoo.data.environments.making import Recipe

    models = shelf.names(*ARCHS)
    if not models or not find_spec("gymnasium"):
        gr.Markdown(
            no_model("actor_critic")
            if not models
            else "Environments need Gymnasium: pip install 'discrete-latent-zoo[rl]'"
        )
        return
    easy = next((name for name in models if name.endswith("cartpole")), models[0])
    gr.Markdown(
        "An agent chooses one action at every step. Take the most probable one or draw; a high temperature makes it "
        "careless."
    )
    seed = gr.State(0)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            name = gr.Dropdown(models, value=easy, label="Agent")
            policy = gr.Radio(list(POLICIES), value="most probable", label="Action", elem_id="policy")
            temperature = gr.Slider(0.1, HOTTEST, 1.0, step=0.1, label="Temperature of the policy", elem_id="heat")
            play = gr.Button("Watch an episode", variant="primary", elem_id="play")
            stop = gr.Button("Stop")
        with gr.Column(scale=3, min_width=320):
            shown = gr.HTML(drawing.page(say="Press “Watch an episode”."), elem_id="episode")

    @polite
    def act(name: str, policy: str, temperature: float, seed: int) -> Iterator[tuple[str, int]]:
        agent = shelf.load(name, *ARCHS)
        recipe = Recipe.of(hub.read(name, shelf.trust).data)
        for one in watch(agent, recipe, policy, temperature, seed):
            yield one, seed + 1

    playing = play.click(
        act, [name, policy, temperature, seed], [shown, seed], show_progress="minimal", concurrency_limit=4
    )
    stop.click(None, None, None, cancels=playing)
