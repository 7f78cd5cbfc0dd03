"""A language model: the next character or word.

A recurrent network's gates are sigmoids, or choices between open and closed that are drawn through the relaxation
layer. What is predicted, the next token, is known in training: no draw belongs there, and the loss is a cross-entropy.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.language_model import baselines as others
from zoo.models.language_model.nets import Gate
from zoo.relaxations import Bernoulli, Distribution, Relaxation
from zoo.relaxations.base import drawn_by
from zoo.training import AdamW, Remembered, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 60  # tokens, and gates, in a picture


class LanguageModel(ZooModule):
    """Predicts each token from those before it.

    Args:
        network: tokens, a state and gates to logits of the next token; see :mod:`.nets`.
        relaxation: how gradients pass through hard gates; any of :mod:`zoo.relaxations` that serves gates.
        optimizer: with its learning-rate schedule.
        vocabulary: tokens there are.
        gates: ``sigmoid``, or ``hard``: each open or closed, a draw in training and the more probable one later.
        noise_in_loss: Gumbel noise of this scale is added to the logits *inside the cross-entropy*. That is a misuse,
            here to be studied: what is to be predicted is known, and a draw in its place only hurts.
        baselines: of the test: ``ngram`` and ``xz`` on the same texts.

    Raises:
        ValueError: if a number is out of range, or hard gates are asked of a network that has none.
        ZooError: at the start of training or test, if the data have another vocabulary than the model.
    """

    monitor = "val/nats"
    network: Any

    def __init__(
        self,
        *,
        network: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        vocabulary: int,
        gates: Literal["sigmoid", "hard"] = "sigmoid",
        noise_in_loss: float = 0.0,
        baselines: list[Literal["ngram", "xz"]] | None = None,
    ) -> None:
        super().__init__()
        if vocabulary < 2 or not noise_in_loss >= 0:
            raise ValueError(f"need vocabulary >= 2 and noise_in_loss >= 0, got {vocabulary}, {noise_in_loss}")
        if gates == "hard" and not getattr(network, "gated", True):
            raise ValueError(f"gates=hard: {type(network).__name__} has no gates")
        self.network, self.relaxation, self.optimizer = network, relaxation, optimizer
        self.vocabulary, self.gates, self.noise_in_loss = vocabulary, gates, noise_in_loss
        self.baselines = list(baselines or [])
        self.about = Remembered(entries=[], unit="character")

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        if arguments.get("gates", "sigmoid") == "sigmoid":
            return "with model.gates=sigmoid nothing is drawn (model.gates=hard)"
        return super().without_effect(arguments)

    def choices(self) -> list[Distribution]:
        if self.gates == "sigmoid":
            return []
        tokens = torch.zeros(1, 2, dtype=torch.int64)
        start = self.network.begin(tokens)
        return drawn_by(lambda draw: self.network(tokens, start, lambda logits: draw(Bernoulli(logits))))

    @property
    def chained(self) -> bool:
        return True

    # The objective ------------------------------------------------------------------------------------------------

    def nats(self, logits: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
        """Cross-entropy of ``targets`` ``(batch, steps)``, mean over those that count, ``(batch,)``."""
        if self.training and self.noise_in_loss:
            logits = logits + self.noise_in_loss * self.noise_source.gumbel(logits)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        return (losses * scored).sum(-1) / scored.sum(-1).clamp_min(1)

    def expected(self, tokens: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of windows, ``(batch,)``, and which share of hard gates is closed, ``(batch,)``."""

        def program(draw: Any) -> tuple[Tensor, Tensor]:
            watch = None if self.gates == "sigmoid" else Watch(lambda logits: draw(Bernoulli(logits)))
            logits, _ = self.network(tokens[:, :-1], self.network.begin(tokens), watch)
            loss = self.nats(logits, tokens[:, 1:], scored)
            return loss, watch.closed() if watch else torch.zeros_like(loss)

        if self.gates == "sigmoid":
            return program(None)
        return self.expected_cost(program) if self.training else program(lambda gates: gates.mode())

    @property
    def gate(self) -> Gate | None:
        """Gates without noise: None for sigmoids, else open where that is the more probable."""
        return None if self.gates == "sigmoid" else lambda logits: (logits > 0).to(logits.dtype)

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        loss, closed = self.expected(*batch)
        values = {"loss": loss.mean(), "nats": loss.detach().mean()}
        return values if self.gates == "sigmoid" else values | {"closed": closed.detach().mean()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        """Means over tokens, of which windows have different numbers."""
        tokens, scored = batch
        loss, closed = self.expected(tokens, scored)
        count = scored.sum(-1).double()
        for name, value in {"nats": loss, **({"closed": closed} if self.gates == "hard" else {})}.items():
            mean = (value * count).sum() / count.sum()
            self.log(f"{stage}/{name}", mean, on_step=False, on_epoch=True, batch_size=int(count.sum()), sync_dist=True)

    def setup(self, stage: str) -> None:
        """Refuse a vocabulary that the model was not made for, and remember the one it has."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not hasattr(data, "vocabulary"):
            return
        found, entries = data.vocabulary, self.about["entries"]
        if found.size != self.vocabulary or (entries and list(found.entries) != entries):
            raise ZooError(
                f"the model has a vocabulary of {self.vocabulary} tokens, the text has another, of {found.size}: "
                "give it the text that it was trained on, data.path= and data.unit="
            )
        self.about["entries"], self.about["unit"] = found.entries, found.unit

    def on_test_epoch_end(self) -> None:
        """What an n-gram model and a compressor make of the same texts."""
        data = self.trainer.datamodule
        if not self.baselines or not hasattr(data, "texts"):
            return
        texts, encode = data.texts, data.vocabulary.encode
        train, test = ("\n".join(texts[part]) for part in ("train", "test"))
        tokens = [encode(text).numpy() for text in (train, test)]
        if "ngram" in self.baselines:
            self.log("test/ngram", others.ngram(tokens[0], tokens[1], self.vocabulary), sync_dist=True)
        if "xz" in self.baselines:
            self.log("test/xz", others.compressor(texts["train"], texts["test"]) / len(tokens[1]), sync_dist=True)

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Tensor:
        """Two texts of noise: what :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        return torch.randint(self.vocabulary, (2, 8), generator=g, device=self.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of the token after each of ``tokens``, ``(batch, steps, vocabulary)``."""
        return self.network(tokens, self.network.begin(tokens), self.gate)[0].float().log_softmax(-1)

    def begin(self, prompt: Tensor) -> tuple[Tensor, Any]:
        """Where a search starts after ``prompt``, int64 ``(batch, tokens)``: its last token, the state before it."""
        state = self.network.begin(prompt)
        for token in prompt[:, :-1].unbind(1):
            _, state = self.network.step(token, state, self.gate)
        return prompt[:, -1], state

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits of the next token, as :mod:`zoo.relaxations.search` asks for them."""
        return self.network.step(tokens, state, self.gate)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """What is expected next along a text, and of hard gates which are open."""
        from zoo.training.plots import heat_map

        tokens = batch[0][:1, :SHOWN].to(self.device)
        watch = Watch(self.gate) if self.gates == "hard" else None
        with torch.no_grad():
            logits, _ = self.network(tokens, self.network.begin(tokens), watch)
        p = logits[0].softmax(-1).T[:100].float().cpu()
        pictures = {"next": heat_map(p, "Probability of the next token", "place in the text", "token")}
        if watch:
            opened = torch.stack([value[0, :SHOWN] for value in watch.seen[:SHOWN]], 1).float().cpu()
            pictures["gates"] = heat_map(opened, "Gates of the input that are open", "place in the text", "gate")
        return pictures


class Watch:
    """Gates, and what they were."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.seen: list[Tensor] = []

    def __call__(self, logits: Tensor) -> Tensor:
        value = self.gate(logits)
        self.seen.append(value.detach())
        return value

    def closed(self) -> Tensor:
        """The share of gates that are closed, below a half, ``(batch,)``."""
        return torch.stack([(value < 0.5).float().mean(-1) for value in self.seen]).mean(0)
