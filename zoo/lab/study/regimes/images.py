"""The categorical VAE of the zoo, through its own code."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.config import from_config
from zoo.config.composition import check, compose, plain
from zoo.lab.study.regime import Clock, Regime, Result
from zoo.lab.study.regimes.probit import probit
from zoo.lab.study.tensors import finite
from zoo.relaxations import Categorical, Noise
from zoo.relaxations.noise import GUMBEL_STD

if TYPE_CHECKING:
    from zoo.lab.study.plan import Estimator

PRIOR_IMAGES = 5_000
SCORED_IMAGES = 5_000


class ImageCodes(Regime):
    """The categorical VAE, scored as what it has become: a generative model, or a quantiser.

    Both scores are upper bounds, in nats, of what an image costs that is coded by the discrete code, with a factorised
    prior fitted to the codes of training images:

    - ``sampled``: the code is drawn from the posterior; distortion plus KL divergence from the fitted prior.
    - ``quantised``: the code is the mode; distortion plus its log-probability under a prior fitted to modes.

    The score is the lesser of the two, for every estimator alike. The posterior is the law of the code that is drawn:
    ``softmax(logits)``, for Gaussian noise :func:`~zoo.lab.study.regimes.probit.probit`, and for a relaxed
    deterministic estimator its rule, ``softmax(logits / tau)`` at its last temperature. So it is in training, too,
    where its KL divergence is weighed by ``beta``, which is searched.

    Args:
        options: of ``scripts/train.py``, with the model and its sizes.
        steps: program runs in training.
        batch: images of a step.
        first: the relaxation with which all begin, and for how many steps, where estimators take over late; from the
            same weights for each seed.
    """

    def __init__(
        self,
        *,
        options: Sequence[str] = (),
        steps: int = 1500,
        batch: int = 100,
        first: Mapping[str, Any] | None = None,
    ) -> None:
        self.options, self.steps, self.batch, self.first = list(options), steps, batch, first

    def modules(self) -> tuple[str, ...]:
        return ("zoo.models.cat_vae.model", "zoo.models.cat_vae.mlp", "zoo.models.cat_vae.conv", "zoo.data.images")

    def run(
        self, estimator: "Estimator", cells: Sequence[tuple[Mapping[str, Any], int]], *, share: float, key: str
    ) -> list[Result]:
        ((settings, seed),) = cells
        clock = Clock()
        data, model = self.parts(seed)
        start = 0.0
        if self.first:
            start = self.begin(model, data, seed)
        relaxation = estimator.build()
        model.relaxation = relaxation
        steps = max(1, round(self.steps * share / estimator.runs))
        g = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(f"{key} {cells}".encode()).digest()[:6], "big"))
        relaxation.noise = Noise(g)
        self.train(
            model,
            data,
            steps,
            settings["lr"],
            epoch=100 if self.first else 0,
            beta=settings.get("beta", 1.0),
            anneal=(estimator.knob, settings["tau"], settings["end"]) if estimator.knob else None,
        )
        with torch.no_grad():
            scores = self.score(model, data, seed)
        better = min(("sampled", "quantised"), key=lambda name: scores[f"valid_{name}"])
        return [
            Result(
                valid=finite(scores[f"valid_{better}"]),
                test=finite(scores[f"test_{better}"]),
                steps=steps,
                runs=steps * estimator.runs,
                seconds=clock.seconds() - start,
                scores={
                    "sampled": finite(scores["test_sampled"]),
                    "quantised": finite(scores["test_quantised"]),
                    "is_quantiser": float(better == "quantised"),
                },
            )
        ]

    def parts(self, seed: int) -> tuple[Any, Any]:
        config = compose(["model=cat_vae", f"data.batch_size={self.batch}", f"seed={seed}", "run=none", *self.options])
        check(config)
        whole = plain(config)
        data = from_config(whole["data"], where="data")
        data.prepare_data()
        data.setup()
        torch.manual_seed(seed)
        return data, from_config(whole["model"], where="model").train()

    def begin(self, model: Any, data: Any, seed: int) -> float:
        """Train with the first relaxation, or load what that came to for this seed. Returns the CPU time."""
        assert self.first is not None
        from zoo.lab.study.plan import Estimator

        clock = Clock()
        code = self.code(Estimator(self.first["relaxation"], self.first["relaxation"], ""))
        place = Path(tempfile.gettempdir()) / f"zoo-study-{code}-{seed}.pt"
        if place.exists():
            model.load_state_dict(torch.load(place, weights_only=True), strict=False)
        else:
            made = Estimator(self.first["relaxation"], self.first["relaxation"], "").build()
            made.noise = Noise(torch.Generator().manual_seed(seed))
            model.relaxation = made
            self.train(model, data, self.first["steps"], self.first["lr"], epoch=0, beta=1.0, anneal=None)
            weights = {name: v for name, v in model.state_dict().items() if not name.startswith("relaxation.")}
            torch.save(weights, place)
        return clock.seconds()

    def train(
        self,
        model: Any,
        data: Any,
        steps: int,
        lr: float,
        *,
        epoch: int,
        beta: float,
        anneal: tuple[str, float, float] | None,
    ) -> None:
        """The model's own terms, by Adam with a short warm-up and a linear decay over the last quarter."""
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
        done = 0
        loader = data.train_dataloader()
        while done < steps:
            if hasattr(loader, "set_epoch"):
                loader.set_epoch(epoch)
            for x, _ in loader:
                if done == steps:
                    return
                if anneal:
                    knob, tau, end = anneal
                    setattr(model.relaxation, knob, tau * end ** (done / steps))
                loss = self.loss(model, x, beta)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                factor = min(1.0, (done + 1) / 100, (1 - done / steps) / 0.25)
                for group in optimizer.param_groups:
                    group["lr"] = lr * factor
                optimizer.step()
                done += 1
            epoch += 1

    def loss(self, model: Any, x: Tensor, beta: float) -> Tensor:
        logits = model.posterior(x).logits
        reconstruction = model.expected_cost(lambda draw: model.distortion(x, model.decoder(draw(logits))))
        kl = self.law(model, logits).kl(Categorical(model.prior_logits)).sum(-1)
        return (reconstruction + beta * kl).mean()

    def law(self, model: Any, logits: Tensor) -> Any:
        """The posterior: the law of what the relaxation draws, or of a deterministic one that of its rule."""
        law, noise = Categorical(logits), getattr(model.relaxation, "noise_law", "gumbel")
        if noise == "gaussian":
            return Categorical(probit(logits, GUMBEL_STD))
        return law if model.relaxation.stochastic and noise == "gumbel" else model.relaxation.law(law)

    def score(self, model: Any, data: Any, seed: int) -> dict[str, Tensor]:
        model.eval()
        g = torch.Generator().manual_seed(seed)
        probability, counts = 0.0, 1.0  # one of each in advance: no code is impossible
        for x in batches(data.train_dataloader(), PRIOR_IMAGES):
            law = self.law(model, model.posterior(x).logits)
            probability = probability + law.logits.softmax(-1).sum(0)
            counts = counts + law.mode().sum(0)
        soft, hard = (torch.as_tensor(value + 1e-6).log() for value in (probability, counts))
        scores: dict[str, Tensor] = {}
        for name, loader in (("valid", data.val_dataloader()), ("test", data.test_dataloader())):
            total: dict[str, list[Tensor]] = {"sampled": [], "quantised": []}
            for x in batches(loader, SCORED_IMAGES):
                law = self.law(model, model.posterior(x).logits)
                code = law.sample(generator=g)
                total["sampled"].append(model.distortion(x, model.decoder(code)) + law.kl(Categorical(soft)).sum(-1))
                mode = law.mode()
                rate = -Categorical(hard).log_prob(mode).sum(-1)
                total["quantised"].append(model.distortion(x, model.decoder(mode)) + rate)
            scores |= {f"{name}_{kind}": torch.cat(values).mean() for kind, values in total.items()}
        return scores


def batches(loader: Any, count: int) -> Any:
    """Images of the first batches, at least ``count`` of them where there are as many."""
    seen = 0
    for x, _ in loader:
        yield x
        seen += len(x)
        if seen >= count:
            return
