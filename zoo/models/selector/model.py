"""Selection of inputs under a hard budget: k of n pixels, columns of a table or items of a bag.

One selection for all examples: feature selection, as by the concrete autoencoder (Abid et al. 2019, arXiv 1901.09346);
or one for each: what in *this* example the prediction rests on, as L2X (Chen et al. 2018, arXiv 1802.07814).
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.inputs import inputs_of
from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError
from zoo.models.selector import judging
from zoo.relaxations import Distribution, Relaxation, Subset
from zoo.training import AdamW, Remembered, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Selector(ZooModule):
    """A predictor that sees k of n columns, and which ones those are, learned together.

    The selection is a draw of the layer, :class:`zoo.relaxations.Subset`. The budget is large at first and falls to
    ``k``: among all columns at once hardly any set of k has what depends on several of them.

    Args:
        predictor: features ``(batch, features)``, zero where they were not selected, to ``(batch, outputs)``. What its
            method ``penalty()`` returns, if it has one, is added to the loss in training.
        relaxation: how gradients pass through the selection; any of :mod:`zoo.relaxations` that serves subsets.
        optimizer: with its learning-rate schedule.
        features: numbers of an example.
        columns: n, what can be selected.
        k: how many are.
        groups: the column of each feature; None where all have as many, one column after another.
        target: what is predicted: the ``label``, or the whole ``input``, which needs no labels.
        scorer: features to logits of the columns, ``(batch, columns)``, for a selection of each example's own; None
            for one selection for all.
        rows: examples that share a draw, where there is one selection for all; fewer if these do not divide the batch.
        start: the budget at first, as a share of n; it falls geometrically to k.
        shrink: share of training after which it is k.
        pace: how much faster the logits of the one selection learn than the weights.
        judged: training examples, at most, on which the judges of the test are trained; None for all.
        baselines: other selections of k columns that the judges score, too; one selection for all only.

    Raises:
        ValueError: if a number is out of range.
        ZooError: at the start of training or test, if the data are not those that the model was made for, or
            scikit-learn is missing, which judges.
    """

    monitor = "val/cost"
    annealed = ("cost",)  # by the budget
    groups: Tensor

    def __init__(
        self,
        *,
        predictor: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        features: int,
        columns: int,
        k: int,
        groups: list[int] | None = None,
        target: Literal["label", "input"] = "label",
        scorer: nn.Module | None = None,
        rows: int = 32,
        start: float = 0.5,
        shrink: float = 0.75,
        pace: float = 10.0,
        judged: int | None = None,
        baselines: list[Literal["random", "mutual_information", "lasso"]] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= k <= columns:
            raise ValueError(f"k={k} of {columns} columns: k must be from 1 to the number of columns")
        if (
            rows < 1
            or not 0 < start <= 1
            or not 0 <= shrink <= 1
            or not pace > 0
            or (judged is not None and judged < 1)
        ):
            raise ValueError(
                "need rows >= 1, start in (0, 1], shrink in [0, 1], pace > 0 and judged >= 1, got "
                f"{rows}, {start}, {shrink}, {pace}, {judged}"
            )
        if groups is None and features % columns:
            raise ValueError(f"{columns} columns do not have equally many of {features} features: say which, groups=")
        if groups is not None and (len(groups) != features or sorted(set(groups)) != list(range(columns))):
            raise ValueError(f"groups must have one of {columns} columns, from 0 on, for each of {features} features")
        self.predictor, self.relaxation, self.optimizer, self.scorer = predictor, relaxation, optimizer, scorer
        self.features, self.columns, self.k, self.target, self.rows = features, columns, k, target, rows
        self.start, self.shrink, self.pace, self.judged = start, shrink, pace, judged
        self.baselines = list(baselines or [])
        self.scores = nn.Parameter(torch.zeros(columns)) if scorer is None else None
        known = torch.arange(columns).repeat_interleave(features // columns) if groups is None else torch.tensor(groups)
        self.register_buffer("groups", known, persistent=False)
        self.alike = groups is None and features == columns
        self.about = Remembered(names=[], shape=[], labels=[])

    @classmethod
    def paced(cls, arguments: Config) -> str:
        shrinks = "the budget falls to k at a share of training (model.shrink)"
        return super().paced(arguments) or (shrinks if arguments.get("shrink", 1) > 0 else "")

    def choices(self) -> list[Distribution]:
        return [Subset(torch.zeros(1, self.columns), budget) for budget in {self.k, self.budget(0.0)}]

    # The objective ------------------------------------------------------------------------------------------------

    def budget(self, progress: float) -> int:
        """How many columns may be selected at a share ``progress`` of training."""
        first = max(self.k, round(self.start * self.columns))
        left = 1.0 - min(1.0, progress / self.shrink) if self.shrink else 0.0
        return max(self.k, round(self.k * (first / self.k) ** left))

    def logits(self, x: Tensor) -> Tensor:
        """Of the columns, ``(batch, columns)``, for features ``(batch, features)``; for all examples ``(columns,)``."""
        if self.scores is not None:
            return self.pace * self.scores
        assert self.scorer is not None
        return self.scorer(x).float()

    def spread(self, chosen: Tensor) -> Tensor:
        """A value for each column as one for each of its features."""
        return chosen if self.alike else chosen[..., self.groups]

    def cost(self, x: Tensor, y: Tensor, prediction: Tensor) -> Tensor:
        """Cross-entropy of the label in nats, or the mean squared error of the input, ``(batch,)``."""
        if self.target == "input":
            return (prediction - x).square().mean(-1)
        return F.cross_entropy(prediction.float(), y, reduction="none")

    def expected(self, x: Tensor, y: Tensor, budget: int) -> Tensor:
        """The expected cost with a budget, of examples each, or of groups of ``rows`` that share a draw."""
        logits = self.logits(x)
        if self.scorer is not None:
            return self.expected_cost(
                lambda draw: self.cost(x, y, self.predictor(x * self.spread(draw(Subset(logits, budget)))))
            )
        rows = next(rows for rows in range(min(self.rows, len(x)), 0, -1) if len(x) % rows == 0)
        parts = len(x) // rows
        shared = logits.expand(parts, -1)

        def program(draw: Any) -> Tensor:
            chosen = self.spread(draw(Subset(shared, budget)))
            seen = (x.unflatten(0, (parts, rows)) * chosen.unsqueeze(1)).flatten(0, 1)
            return self.cost(x, y, self.predictor(seen)).view(parts, rows).mean(1)

        return self.expected_cost(program)

    def choose(self, x: Tensor) -> Tensor:
        """The selection that is used in the end: the k columns with the largest logits, ``(batch, columns)``."""
        logits = self.logits(x)
        chosen = Subset(logits if logits.dim() == 2 else logits.unsqueeze(0), self.k).mode()
        return chosen.expand(x.shape[0], -1)

    # Lightning's steps --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch[0].flatten(1), batch[1]
        budget = self.budget(self.global_step / self.trainer.estimated_stepping_batches)
        cost = self.expected(x, y, budget).mean()
        penalty: Any = getattr(self.predictor, "penalty", float)  # float() is 0
        return {"loss": cost + penalty(), "cost": cost.detach(), "budget": torch.tensor(float(budget))}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(batch)

    def _evaluate(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch[0].flatten(1), batch[1]
        prediction = self.predictor(x * self.spread(self.choose(x)))
        values = {"cost": self.cost(x, y, prediction).mean()}
        if self.target == "label":
            values["accuracy"] = (prediction.argmax(-1) == y).float().mean()
        return values

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not made for, and remember what its columns are called."""
        judging.require()
        found = inputs_of(getattr(self.trainer, "datamodule", None))
        if found is None:
            return
        if found.columns != self.columns or (self.names and list(found.names) != self.names):
            raise ZooError(
                f"the model selects from {self.columns} columns ({', '.join(self.names[:3])} ...), but the data have "
                f"{found.columns} ({', '.join(found.names[:3])} ...): give it those that it was trained on"
            )
        if found.features != self.features or (found.groups and list(found.groups) != self.groups.tolist()):
            raise ZooError(
                f"the model is for {self.features} features, the data have {found.features}, of the same columns: "
                "other words, or missing values where there were none. Give it the table that it was trained on"
            )
        if self.about["labels"] and self.target == "label" and list(found.labels) != self.about["labels"]:
            raise ZooError(
                f"the model predicts {', '.join(self.about['labels'][:5])}, the data have other classes, "
                f"{', '.join(found.labels[:5])}: give it those that it was trained on"
            )
        self.about["names"], self.about["shape"], self.about["labels"] = found.names, found.shape, found.labels

    def on_test_epoch_end(self) -> None:
        """Let others judge: of all processes the same, on whole data sets."""
        with torch.inference_mode(False):  # a judge is trained
            values = self._judged()
        self.log_dict({f"test/{name}": value for name, value in values.items()}, sync_dist=True)

    def _judged(self) -> dict[str, float]:
        data = self.trainer.datamodule
        train, test = (judging.examples(data, split, self.judged, self.device) for split in ("train", "test"))
        if self.scores is None:
            return judging.leak(self.choose_all, train, test)
        values = judging.judge(self.selected(), train, test, self.groups, self.baselines, self.k)
        return values | {"leak": values["chance"]}  # what is the same for all says nothing of the label

    @torch.no_grad()
    def choose_all(self, x: Tensor) -> Tensor:
        """:meth:`choose` of many examples, some at a time."""
        return torch.cat([self.choose(part) for part in x.split(1000)])

    # What it is for -----------------------------------------------------------------------------------------------

    def selected(self) -> list[int]:
        """The columns of the one selection, the most important first.

        Raises:
            ZooError: if each example has its own.
        """
        if self.scores is None:
            raise ZooError("this model selects other columns for each example, so it has no list of columns")
        return self.scores.detach().topk(self.k).indices.tolist()

    @property
    def names(self) -> list[str]:
        """What the columns are called; empty before any data were seen."""
        return self.about["names"]

    @property
    def example_input_array(self) -> Tensor:
        """Two examples of noise: what :func:`zoo.export` traces ``forward`` with."""
        g = generator(self.device, 0, PREDICT)
        return torch.rand(2, *(self.about["shape"] or [self.features]), generator=g, device=self.device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Examples to predictions ``(batch, outputs)`` from what was selected, and the selection ``(batch, columns)``.

        A prediction is log-probabilities of the classes, or the whole input.
        """
        x = x.flatten(1)
        chosen = self.choose(x)
        prediction = self.predictor(x * self.spread(chosen))
        return (prediction if self.target == "input" else prediction.log_softmax(-1)), chosen

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Where the selected pixels are, or how much each column is wanted."""
        from zoo.models.selector.plots import bars, pixels

        x = batch[0][:8].to(self.device)
        image = x.dim() == 4
        if self.scores is None:
            if not image:
                return {}
            chosen = self.choose(x.flatten(1)).view(x.shape)
            return {"selection": pixels(x, chosen, f"{self.k} pixels of each image")}
        if image:
            chosen = self.choose(x.flatten(1)).view(x.shape)
            return {"selection": pixels(x, chosen, f"The same {self.k} pixels of all images")}
        names = self.names or [f"column {i}" for i in range(self.columns)]
        scores = self.logits(x.flatten(1)).detach().cpu()
        return {"selection": bars(scores, names, self.k, f"The {self.k} selected columns, and the next")}
