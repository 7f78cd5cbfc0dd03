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
from zoo.models.experts import Use, check_routing, imbalance, limited
from zoo.models.language_model import baselines as others
from zoo.models.language_model.nets import Choose, most_probable
from zoo.relaxations import Bernoulli, Distribution, Relaxation
from zoo.relaxations.base import drawn_by
from zoo.training import AdamW, Remembered, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 80  # tokens, and gates, in a picture


class LanguageModel(ZooModule):
    """Predicts each token from those before it.

    Args:
        network: tokens, a state and choices to logits of the next token; see :mod:`.nets`.
        relaxation: how gradients pass through hard gates, or the choice of experts; any of :mod:`zoo.relaxations` that
            serves gates, or one of many, or for ``network.k`` above 1 subsets.
        optimizer: with its learning-rate schedule.
        vocabulary: tokens there are.
        gates: ``sigmoid``, or ``hard``: each open or closed, a draw in training and the more probable one later.
        noise_in_loss: Gumbel noise of this scale is added to the logits *inside the cross-entropy*. That is a misuse,
            here to be studied: what is to be predicted is known, and a draw in its place only hurts.
        balance: weight of the load-balance loss of ``network.experts``, mean over the blocks.
        capacity: an expert takes at most this many times its even share of the tokens of a batch, in order; beyond it a
            token passes by. None for no limit. Texts are written without one.
        baselines: of the test: ``ngram`` and ``xz`` on the same texts.

    Raises:
        ValueError: if a number is out of range, or hard gates or a capacity are asked of a network that has none.
        ZooError: at the start of training or test, if the data have another vocabulary than the model; of training, if
            the network attends to more tokens than a window of training has.
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
        balance: float = 0.01,
        capacity: float | None = None,
        baselines: list[Literal["ngram", "xz"]] | None = None,
    ) -> None:
        super().__init__()
        if vocabulary < 2 or not noise_in_loss >= 0:
            raise ValueError(f"need vocabulary >= 2 and noise_in_loss >= 0, got {vocabulary}, {noise_in_loss}")
        if gates == "hard" and not getattr(network, "gated", True):
            raise ValueError(f"gates=hard: {type(network).__name__} has no gates")
        self.network, self.relaxation, self.optimizer = network, relaxation, optimizer
        experts: int = getattr(self.network, "experts", 0)
        if experts:
            check_routing(experts, self.network.k, balance, capacity)
        elif capacity is not None:
            raise ValueError(f"capacity={capacity}: {type(network).__name__} has no experts (network.experts)")
        self.vocabulary, self.gates, self.noise_in_loss = vocabulary, gates, noise_in_loss
        self.balance, self.capacity = balance, capacity
        self.use = Use(experts, self.network.layers) if experts else None
        self.baselines = list(baselines or [])
        self.about = Remembered(entries=[], unit="character")

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        experts = (arguments.get("network") or {}).get("experts", 0)
        if arguments.get("gates", "sigmoid") == "sigmoid" and not experts:
            return "with model.gates=sigmoid nothing is drawn (model.gates=hard, or experts)"
        return super().without_effect(arguments)

    @property
    def chooses(self) -> bool:
        """Whether anything is drawn: gates or experts."""
        return self.gates == "hard" or self.use is not None

    def choices(self) -> list[Distribution]:
        if not self.chooses:
            return []
        tokens = torch.zeros(1, 2, dtype=torch.int64)
        start = self.network.begin(tokens)
        return drawn_by(lambda draw: self.network(tokens, start, draw))

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

    def expected(self, tokens: Tensor, scored: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What is to be small for windows, ``(batch,)``, and its parts and whatever else is reported, the same."""
        if not self.chooses:
            logits, _ = self.network(tokens[:, :-1], self.network.begin(tokens), None)
            nats = self.nats(logits, tokens[:, 1:], scored)
            return nats, {"nats": nats.detach()}

        def program(draw: Any) -> tuple[Tensor, dict[str, Tensor]]:
            watch = Watch(draw, self.capacity)
            logits, _ = self.network(tokens[:, :-1], self.network.begin(tokens), watch)
            cost = nats = self.nats(logits, tokens[:, 1:], scored)
            values = {"nats": nats.detach()}
            if self.gates == "hard":
                values["closed"] = watch.closed()
            if self.use is not None:
                uneven = watch.imbalance(self.network.k)
                cost, values["balance"] = nats + self.balance * uneven, uneven.detach()
                if not self.training:
                    watch.count(self.use)
            return cost, values

        return self.expected_cost(program) if self.training else program(most_probable)

    @property
    def choose(self) -> Choose | None:
        """Choices without noise, the most probable; None if there are none."""
        return most_probable if self.chooses else None

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        cost, values = self.expected(*batch)
        return {"loss": cost.mean()} | {name: value.detach().mean() for name, value in values.items()}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        """Means over tokens, of which windows have different numbers."""
        tokens, scored = batch
        _, values = self.expected(tokens, scored)
        count = scored.sum(-1).double()
        for name, value in values.items():
            mean = (value * count).sum() / count.sum()
            self.log(f"{stage}/{name}", mean, on_step=False, on_epoch=True, batch_size=int(count.sum()), sync_dist=True)

    def setup(self, stage: str) -> None:
        """Refuse another vocabulary than the model was made for, and a context beyond what is trained."""
        data = getattr(self.trainer, "datamodule", None)
        reach, length = getattr(self.network, "context", None), getattr(data, "length", None)
        if stage == "fit" and reach and length and reach > length:
            raise ZooError(
                f"model.network.context={reach} is more than data.length={length}: distances that were never trained "
                "would spoil what is predicted. Set one to the other"
            )
        if data is None or not hasattr(data, "vocabulary"):
            return
        found, entries = data.vocabulary, self.about["entries"]
        if found.size != self.vocabulary or (entries and list(found.entries) != entries):
            raise ZooError(
                f"the model has a vocabulary of {self.vocabulary} tokens, the text has another, of {found.size}: "
                "give it the text that it was trained on, data.path= and data.unit="
            )
        self.about["entries"], self.about["unit"] = found.entries, found.unit

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def _report(self, stage: str) -> None:
        """Where the tokens went."""
        if self.use is not None:
            values = self.use.report(self.trainer.strategy)
            self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Where the tokens went, and what an n-gram model and a compressor make of the same texts."""
        self._report("test")
        if self.use is not None:
            few, every = self.network.multiplications
            self.log_dict({"test/multiplications": float(few), "test/multiplications_of_all": float(every)})
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
        return self.network(tokens, self.network.begin(tokens), self.choose)[0].float().log_softmax(-1)

    def begin(self, prompt: Tensor) -> tuple[Tensor, Any]:
        """Where a search starts after ``prompt``, int64 ``(batch, tokens)``: its last token, the state before it."""
        state = self.network.begin(prompt)
        for token in prompt[:, :-1].unbind(1):
            _, state = self.network.step(token, state, self.choose)
        return prompt[:, -1], state

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits of the next token, as :mod:`zoo.relaxations.search` asks for them."""
        return self.network.step(tokens, state, self.choose)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """What is expected next along a text, and of hard gates which are open."""
        from zoo.models.language_model.plots import guesses
        from zoo.training.plots import heat_map

        tokens = batch[0][:1, : SHOWN + 1].to(self.device)
        watch = Watch(most_probable)
        with torch.no_grad():
            logits, _ = self.network(tokens[:, :-1], self.network.begin(tokens), watch if self.chooses else None)
        names = ["end", "\N{REPLACEMENT CHARACTER}", *self.about["entries"]]
        names += [str(token) for token in range(len(names), self.vocabulary)]
        p = logits[0].float().softmax(-1).cpu()
        title = "What comes next, and below the most probable in its place"
        pictures = {"next": guesses(tokens[0, 1:].tolist(), p, names, title)}
        if watch.gates:
            opened = torch.stack([value[0, :SHOWN] for value in watch.gates[:SHOWN]], 1).float().cpu()
            pictures["gates"] = heat_map(opened, "Gates of the input that are open", "place in the text", "gate")
        if watch.routes:
            share = torch.stack([value.flatten(0, -2).float().mean(0) for _, value, _ in watch.routes]).cpu()
            pictures["experts"] = heat_map(share / self.network.k, "Share of the tokens", "expert", "block")
        return pictures


class Watch:
    """Choices, and what they were.

    Args:
        choose: makes them.
        capacity: of experts.
    """

    def __init__(self, choose: Choose, capacity: float | None = None) -> None:
        self.choose, self.capacity = choose, capacity
        self.gates: list[Tensor] = []
        self.routes: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, law: Distribution) -> Tensor:
        value = self.choose(law)
        if isinstance(law, Bernoulli):
            self.gates.append(value.detach())
            return value
        kept = limited(value, value, getattr(law, "k", 1), self.capacity)
        self.routes.append((law.logits, value.detach(), kept.detach()))
        return kept

    def closed(self) -> Tensor:
        """The share of gates that are closed, below a half, ``(batch,)``."""
        return torch.stack([(value < 0.5).float().mean(-1) for value in self.gates]).mean(0)

    def imbalance(self, k: int) -> Tensor:
        """The load-balance loss, mean over the blocks, ``(batch,)``."""
        return torch.stack([imbalance(logits, value, k) for logits, value, _ in self.routes]).mean(0)

    def count(self, use: Use) -> None:
        """Add up where the tokens went."""
        for layer, (_, value, kept) in enumerate(self.routes):
            use.count(value, kept, layer)
