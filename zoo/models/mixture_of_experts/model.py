"""A mixture of experts whose router chooses: each example goes to k of E experts.

Jacobs et al. 1991 mixed all of them; sent to a few, each costs what those few cost (Shazeer et al. 2017, arXiv
1701.06538; Fedus et al. 2022, arXiv 2101.03961).
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import Config
from zoo.data.inputs import check_shape
from zoo.data.seeding import PREDICT, generator
from zoo.models.experts import Use, check_routing, imbalance, limited, routes
from zoo.relaxations import Distribution, Relaxation
from zoo.training import AdamW, ZooModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MixtureOfExperts(ZooModule):
    """A classifier of experts, of which a router chooses k for each example.

    Args:
        experts: ``(x, weights)`` to logits of the classes, see
            :class:`zoo.models.experts.Experts`; it knows how many it is.
        router: examples ``(batch, features)`` to logits of the experts ``(batch, experts)``.
        relaxation: how gradients pass through the choice; any of :mod:`zoo.relaxations`, for k > 1 one that serves
            subsets.
        optimizer: with its learning-rate schedule.
        shape: of an example.
        k: experts for each example; what they say is averaged.
        routing: ``layer`` for draws by the relaxation, or ``noisy_top_k``: normal noise on the logits, the k largest,
            and their softmax probabilities as weights, without the layer (after Shazeer et al. 2017, section 2.1,
            where the noise has a learned scale, and the softmax is over those k).
        balance: weight of the load-balance loss ``E sum_e f_e p_e``, of the share f of examples and the mean
            probability p of each expert; 1 where both are even (Fedus et al. 2022, equation 4).
        capacity: an expert takes at most this many times its even share of a batch, in order; what is beyond is
            dropped, and has no part of that expert. None for no limit. An estimator that scores whole draws, such as
            RLOO, then does not see what a draw pushes out of an expert for the examples after it.

    Raises:
        ValueError: if a number is out of range.
    """

    monitor = "val/error"
    curves = ("balance",)
    experts: Any
    router: Any

    def __init__(
        self,
        *,
        experts: nn.Module,
        router: nn.Module,
        relaxation: Relaxation,
        optimizer: AdamW,
        shape: list[int],
        k: int = 1,
        routing: Literal["layer", "noisy_top_k"] = "layer",
        balance: float = 0.1,
        capacity: float | None = None,
    ) -> None:
        super().__init__()
        self.experts, self.router, self.relaxation, self.optimizer = experts, router, relaxation, optimizer
        count = self.experts.experts
        with torch.no_grad():
            given = self.router.eval()(torch.zeros(1, math.prod(shape))).shape[-1]
        self.router.train()
        if given != count:
            raise ValueError(
                f"the router has {given} outputs for {count} experts: give both the same number of experts"
            )
        check_routing(count, k, balance, capacity)
        self.shape, self.k, self.routing = list(shape), k, routing
        self.balance, self.capacity = balance, capacity
        self.use = Use(count)

    @classmethod
    def without_effect(cls, arguments: Config) -> str:
        if arguments.get("routing") == "noisy_top_k":
            return "with model.routing=noisy_top_k nothing is drawn through the layer"
        return super().without_effect(arguments)

    def choices(self) -> list[Distribution]:
        if self.routing == "noisy_top_k":
            return []
        return [routes(torch.zeros(1, self.experts.experts), self.k)]

    # The objective ------------------------------------------------------------------------------------------------

    def predict(self, x: Tensor, weights: Tensor) -> Tensor:
        """Logits of the classes by experts with ``weights``."""
        return self.experts(x, self.kept(weights) / self.k)

    def load(self, weights: Tensor) -> Tensor:
        """How much of each example goes to each expert, of those that noisy top-k weighs one."""
        return (weights > 0).to(weights.dtype) if self.routing == "noisy_top_k" else weights

    def kept(self, weights: Tensor) -> Tensor:
        """``weights`` without those for which there is no room."""
        return limited(weights, self.load(weights), self.k, self.capacity)

    def setup(self, stage: str) -> None:
        """Refuse data that the model was not made for."""
        check_shape(getattr(self.trainer, "datamodule", None), self.shape)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch[0].flatten(1), batch[1]
        logits = self.router(x).float()
        if self.routing == "noisy_top_k":
            noisy = logits + self.noise_source.normal(logits)
            p = noisy.softmax(-1)
            weights = p * torch.zeros_like(p).scatter(-1, noisy.topk(self.k).indices, 1.0)
            loss = F.cross_entropy(self.predict(x, self.k * weights).float(), y)
            weights = weights.detach()
        else:
            loss, weights = self.expected_cost(lambda draw: self.drawn(x, y, draw(routes(logits, self.k))))
            loss = loss.mean()
        values = {"loss": loss, "cost": loss.detach()}
        if self.balance:
            uneven = imbalance(logits, self.load(weights), self.k).mean()
            values |= {"loss": loss + self.balance * uneven, "balance": uneven.detach()}
        return values

    def drawn(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The program after its draw: the cost of each example, and where each went."""
        return F.cross_entropy(self.predict(x, weights).float(), y, reduction="none"), weights

    # Evaluation ---------------------------------------------------------------------------------------------------

    def route(self, x: Tensor) -> Tensor:
        """Weights of the experts in the end, ``(batch, experts)``: the k that are most probable."""
        logits = self.router(x).float()
        chosen = routes(logits, self.k).mode()
        return self.k * chosen * logits.softmax(-1) if self.routing == "noisy_top_k" else chosen

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(*batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return self._evaluate(*batch)

    def _evaluate(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        x = x.flatten(1)
        weights = self.route(x)
        kept = self.kept(weights)
        logits = self.experts.sparse(x, kept / self.k) if hasattr(self.experts, "sparse") else self.predict(x, weights)
        self.use.count(weights, kept)
        return {"error": (logits.argmax(-1) != y).float().mean(), "cost": F.cross_entropy(logits.float(), y)}

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{k}": v for k, v in self.use.report(self.trainer.strategy).items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{k}": v for k, v in self.use.report(self.trainer.strategy).items()}, sync_dist=True)
        if hasattr(self.experts, "multiplications") and hasattr(self.router, "multiplications"):
            cost = self.router.multiplications + self.k * self.experts.multiplications
            self.log("test/multiplications", float(cost), sync_dist=True)
            dense = self.experts.experts * self.experts.multiplications
            self.log("test/multiplications_of_all", float(dense), sync_dist=True)

    # What it is for -----------------------------------------------------------------------------------------------

    @property
    def example_input_array(self) -> Tensor:
        """Two examples of noise: what :func:`zoo.export` traces ``forward`` with."""
        return torch.rand(2, *self.shape, generator=generator(self.device, 0, PREDICT), device=self.device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Examples to log-probabilities of the classes, and which experts each went to, ``(batch, experts)``.

        No expert is ever full here: what an example gets does not depend on the others.
        """
        x = x.flatten(1)
        weights = self.route(x)
        return self.experts(x, weights / self.k).float().log_softmax(-1), (weights > 0).to(weights.dtype)

    def pictures(self, batch: Any) -> "dict[str, Figure]":
        """Which classes go to which expert, and the images that each gets."""
        from zoo.training.plots import heat_map, image_grid, shares

        x, y = batch[0].to(self.device), batch[1]
        with torch.no_grad():
            weights = self.route(x.flatten(1)).cpu()
        classes = F.one_hot(y.cpu()).to(weights.dtype)
        table = (classes.T @ (weights > 0).to(weights.dtype)) / classes.sum(0).clamp_min(1).unsqueeze(1)
        pictures = {
            "routes": heat_map(table.float(), "Where the examples of each class go", "expert", "class"),
            "use": shares((weights > 0).to(weights.dtype).mean(0) / self.k, "Share of each expert"),
        }
        if x.dim() == 4:
            rows = []
            for i in range(weights.shape[1]):
                mine = x.cpu()[weights[:, i] > 0][:8]
                rows.append(torch.cat([mine, mine.new_zeros(8 - len(mine), *mine.shape[1:])]))
            pictures["experts"] = image_grid(torch.cat(rows), "What each expert gets: a row each")
        return pictures
