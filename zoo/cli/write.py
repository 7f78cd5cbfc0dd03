"""Continue a text with a language model.

    zoo write checkpoint=language_model.shakespeare prompt="ROMEO."
    zoo write checkpoint=runs/mine prompt="To be" by=sample temperature=0.7 top_p=0.95 k=3
    zoo write checkpoint=runs/mine prompt="To be" by=beam k=10 steps=40
    zoo write checkpoint=runs/mine prompt="To be" by=stochastic_beam k=10 steps=40

A beam prints the k most probable continuations it finds; a stochastic beam draws k different ones without replacement,
each with its weight in an estimate.
"""

import logging
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from zoo import hub
from zoo.cli.arguments import command
from zoo.cli.options import pretrained, tell
from zoo.errors import ZooError

log = logging.getLogger(__name__)
ARCHS = ("language_model",)


def write(
    checkpoint: str,
    prompt: str = "\n",
    *,
    by: Literal["sample", "greedy", "beam", "stochastic_beam"] = "sample",
    steps: Annotated[int, Field(ge=1, le=100_000)] = 500,
    k: Annotated[int, Field(ge=1, le=10_000)] = 1,
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0,
    top_k: PositiveInt | None = None,
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None,
    seed: NonNegativeInt = 0,
    trust: Sequence[str] = (),
) -> list[str]:
    """Print what comes after a prompt.

    Args:
        checkpoint: a language model: a pretrained model, its folder, a run folder or a checkpoint file of one.
        prompt: what comes before.
        by: sample, greedy, beam or stochastic_beam.
        steps: tokens to write, at most.
        k: how many continuations.
        temperature: by which logits are divided.
        top_k: only so many of the most probable tokens are left.
        top_p: only the most probable tokens are left that have this probability together.
        seed: of the draws.
        trust: packages whose classes it may name beside those of this project, such as mypkg: their code runs.

    Returns:
        the continuations.

    Raises:
        ZooError: if the model does not write, has another vocabulary than the prompt, or an option has no effect.
    """
    import torch
    from torch.utils._pytree import tree_map

    from zoo.data.seeding import PREDICT, generator
    from zoo.data.texts import BOUNDARY, UNKNOWN, Vocabulary
    from zoo.models.language_model import LanguageModel
    from zoo.relaxations import search
    from zoo.relaxations.noise import Noise

    if by == "greedy" and (k, temperature, top_k, top_p) != (1, 1.0, None, None):
        raise ZooError("by=greedy takes the most probable token: k, temperature, top_k and top_p have no effect on it")
    model = hub.read(checkpoint, trust, ARCHS).build()
    if not isinstance(model, LanguageModel):
        raise ZooError(f"{checkpoint} is a {type(model).__name__}, which does not write: only a language_model does")
    if not model.about["entries"]:
        raise ZooError(f"{checkpoint} does not know what its tokens stand for: it was not trained on data=text")
    vocabulary = Vocabulary(model.about["unit"], tuple(model.about["entries"]))
    tokens = vocabulary.encode(prompt)
    if not len(tokens):
        raise ZooError("prompt= is empty: give at least one character or word to go on from")
    if unknown := vocabulary.unknown(prompt):
        raise ZooError(
            f"prompt={prompt!r} has what was not in the texts for training: {', '.join(map(repr, unknown[:5]))}. Leave "
            "it out, or write it another way (words are told apart by capitals and by the blank before them)"
        )
    likelier = search.truncated(temperature=temperature, top_k=1 if by == "greedy" else top_k, top_p=top_p)

    def adjust(logits: torch.Tensor) -> torch.Tensor:
        """Never a token that stands for all unknown ones, and cannot be written."""
        return likelier(logits.index_fill(-1, torch.tensor([UNKNOWN]), float("-inf")))

    with torch.no_grad():
        start, state = model.begin(torch.cat([torch.tensor([BOUNDARY]), tokens]).unsqueeze(0))
        noise = Noise(generator("cpu", seed, PREDICT))
        if by == "beam":
            found = search.beam_search(model.step, start, state, k=k, steps=steps, adjust=adjust, end=BOUNDARY)
        elif by == "stochastic_beam":
            found = search.stochastic_beam_search(
                model.step, start, state, k=k, steps=steps, adjust=adjust, end=BOUNDARY, noise=noise
            )
        else:
            start, state = tree_map(lambda value: value.expand(k, *value.shape[1:]), (start, state))
            found = search.sample(model.step, start, state, steps=steps, adjust=adjust, end=BOUNDARY, noise=noise)
    lines, texts = [], []
    weights = found.log_weights().exp().flatten() if by == "stochastic_beam" else None
    for i, (sequence, log_p) in enumerate(zip(found.tokens.flatten(0, 1), found.log_prob.flatten().tolist())):
        if log_p == float("-inf"):
            continue  # there are not as many
        texts.append(vocabulary.decode(sequence))
        weight = "" if weights is None else f", weight {weights[i].item():.3g}"
        header = f"--- log-probability {log_p:.2f} nats{weight}\n" if by.endswith("beam") or k > 1 else ""
        lines.append(f"{header}{prompt}{texts[-1]}")
    tell("\n".join(lines))
    return texts


main = command(write, text=str(__doc__), notes=lambda: pretrained(*ARCHS))
