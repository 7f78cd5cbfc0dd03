"""Regimes on the models of the zoo, through their own code."""

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.config import from_config
from zoo.config.composition import check, compose, plain
from zoo.errors import ZooError
from zoo.lab.common import trained
from zoo.lab.study.regime import Clock, Regime, Result
from zoo.relaxations import Categorical, Noise
from zoo.training.loggers import read_metrics

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

    The score is the lesser of the two, for every estimator alike. The posterior of a deterministic one is that of its
    rule, ``softmax(logits / tau)`` at its last temperature, in training, too, where its KL divergence is weighed by
    ``beta``, which is searched.

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
        """The posterior: of a deterministic relaxation that of its rule, at its temperature."""
        law = Categorical(logits)
        return law if model.relaxation.stochastic else model.relaxation.law(law)

    def score(self, model: Any, data: Any, seed: int) -> dict[str, float]:
        model.eval()
        g = torch.Generator().manual_seed(seed)
        probability, counts = 0.0, 1.0  # one of each in advance: no code is impossible
        for x in batches(data.train_dataloader(), PRIOR_IMAGES):
            law = self.law(model, model.posterior(x).logits)
            probability = probability + law.logits.softmax(-1).sum(0)
            counts = counts + law.mode().sum(0)
        soft, hard = (torch.as_tensor(value + 1e-6).log() for value in (probability, counts))
        scores: dict[str, float] = {}
        for name, loader in (("valid", data.val_dataloader()), ("test", data.test_dataloader())):
            total: dict[str, list[Tensor]] = {"sampled": [], "quantised": []}
            for x in batches(loader, SCORED_IMAGES):
                law = self.law(model, model.posterior(x).logits)
                code = law.sample(generator=g)
                total["sampled"].append(model.distortion(x, model.decoder(code)) + law.kl(Categorical(soft)).sum(-1))
                mode = law.mode()
                rate = -Categorical(hard).log_prob(mode).sum(-1)
                total["quantised"].append(model.distortion(x, model.decoder(mode)) + rate)
            scores |= {f"{name}_{kind}": float(torch.cat(values).mean()) for kind, values in total.items()}
        return scores


class Trained(Regime):
    """A run of ``scripts/train.py``, scored by the metrics of its test and of its last validation.

    Args:
        options: of the run, with the model.
        epochs: of the whole budget.
        score: metric -> weight in the score, which is their weighted sum, lower is better.
        constant: added to it.
    """

    def __init__(
        self, *, options: Sequence[str], epochs: int, score: Mapping[str, float], constant: float = 0.0
    ) -> None:
        self.options, self.epochs, self.measure, self.constant = list(options), epochs, score, constant

    def modules(self) -> tuple[str, ...]:
        name = next(option.partition("=")[2] for option in self.options if option.startswith("model="))
        return tuple(f"zoo.models.{name}.{part}" for part in ("model", "nets", "data", "metrics"))

    def run(
        self, estimator: "Estimator", cells: Sequence[tuple[Mapping[str, Any], int]], *, share: float, key: str
    ) -> list[Result]:
        ((settings, seed),) = cells
        clock = Clock()
        epochs = max(1, round(self.epochs * share / estimator.runs))
        options = [
            *self.options,
            f"epochs={epochs}",
            f"seed={seed}",
            "pictures_every_n_epochs=100000",
            "checkpoint_every_n_steps=1000000",
            "trainer.accelerator=cpu",
            f"relaxation={estimator.relaxation}",
            f"model.optimizer.lr={settings['lr']}",
            *(f"relaxation.{name}={value}" for name, value in estimator.fixed.items()),
        ]
        if estimator.knob:
            options.append(f"relaxation.{estimator.knob}={settings['tau']}")
        if estimator.knob == "tau" and settings["end"] < 1:
            options += ["annealing=exponential", f"annealing.end={settings['tau'] * settings['end']:.4g}"]
        with tempfile.TemporaryDirectory() as folder:
            try:
                run = trained(Path(folder) / "run", options)
                results, curves = run.read_results(), read_metrics(run.metrics)
            except ZooError as error:
                if "finite" not in str(error):
                    raise
                return [Result(1e6, 1e6, 0, 0, clock.seconds())]
        test = {name: results["metrics"][f"test/{name}"] for name in self.measure}
        valid = {name: curves[f"val/{name}"][-1][1] for name in self.measure}
        return [
            Result(
                valid=finite(self.weighed(valid)),
                test=finite(self.weighed(test)),
                steps=results["steps"],
                runs=results["steps"] * estimator.runs,
                seconds=clock.seconds(),
                scores=test,
            )
        ]

    def weighed(self, metrics: Mapping[str, float]) -> float:
        return self.constant + sum(weight * metrics[name] for name, weight in self.measure.items())


def batches(loader: Any, count: int) -> Any:
    """Images of the first batches, at least ``count`` of them where there are as many."""
    seen = 0
    for x, _ in loader:
        yield x
        seen += len(x)
        if seen >= count:
            return


def finite(value: float) -> float:
    return value if math.isfinite(value) else 1e6
