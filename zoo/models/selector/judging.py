"""What others make of a selection: trees and a fresh network, trained on the selected columns alone; other selections;
and how much a choice alone says of the label.

A predictor that was trained together with the selection could have learned to read it: where items are selected can
carry the label. So it is not the judge.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.data.seeding import PREDICT, generator
from zoo.errors import ZooError

TREES = 50  # as the authors of the concrete autoencoder have them
BINS = 16  # of a column, for its mutual information with the label
ALPHAS = 60  # strengths of the lasso's path
DROPOUT = 0.2  # of the perceptron, which else learns the rows by heart
SEED = 0

Examples = tuple[Tensor, Tensor]
"""Features ``(n, features)`` and labels ``(n,)``."""


def require() -> None:
    """Raise ``ZooError`` unless scikit-learn is there."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ZooError("model=selector needs packages: pip install 'discrete-latent-zoo[tables]'") from error


def examples(data: Any, split: str, most: int | None, device: torch.device) -> Examples:
    """All examples of ``train`` or ``test`` of a data module, of ``train`` at most ``most``.

    One of another project, which has no ``rows``, gives what its loaders give this process.
    """
    if hasattr(data, "rows"):
        x, y = data.rows(split)
    else:
        loader = data.train_dataloader() if split == "train" else data.test_dataloader()
        parts = [(x, y) for x, y, *_ in loader]
        x, y = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    end = most if split == "train" else None
    return x[:end].to(device).flatten(1), y[:end].to(device)


def judge(
    selected: Sequence[int],
    train: Examples,
    test: Examples,
    groups: Tensor,
    baselines: Sequence[str],
    k: int,
) -> dict[str, float]:
    """Test accuracy of trees and of a network on the ``selected`` columns, and on those of the ``baselines``."""
    values = {}
    selections: dict[str, Sequence[int]] = {"": selected}
    selections |= {f"_{name}": BASELINES[name](train, groups, k) for name in baselines}
    for name, columns in selections.items():
        index = features_of(columns, groups)
        few = [(x[:, index], y) for x, y in (train, test)]
        values[f"trees{name}"] = trees(*few)
        values[f"network{name}"] = network(*few)
    values["chance"] = chance(train[1], test[1])
    return values


def features_of(columns: Sequence[int], groups: Tensor) -> Tensor:
    """The features of ``columns``."""
    wanted = torch.zeros(int(groups.max()) + 1, dtype=torch.bool)
    wanted[list(columns)] = True
    return wanted[groups.cpu()].nonzero()[:, 0]


def trees(train: Examples, test: Examples) -> float:
    """Accuracy of extremely randomised trees."""
    from sklearn.ensemble import ExtraTreesClassifier

    (x, y), (test_x, test_y) = ([part.cpu().numpy() for part in examples] for examples in (train, test))
    forest = ExtraTreesClassifier(n_estimators=TREES, random_state=SEED).fit(x, y)
    return float((forest.predict(test_x) == test_y).mean())


def network(train: Examples, test: Examples, *, hidden: int = 256, steps: int = 6000, batch: int = 128) -> float:
    """Accuracy of a fresh perceptron of two hidden layers with dropout, as it was when its loss on a tenth of the rows
    was least."""
    device = train[0].device
    g = generator(device, SEED, PREDICT, len(train[0]))
    order = torch.randperm(len(train[0]), generator=g, device=device)
    held, kept = order[: len(order) // 10], order[len(order) // 10 :]
    mean, deviation = train[0].mean(0), train[0].std(0).clamp_min(1e-3)
    x, test_x = ((part - mean) / deviation for part in (train[0], test[0]))
    classes = int(max(train[1].max(), test[1].max())) + 1
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        widths = [x.shape[1], hidden, hidden, classes]
        layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths)).to(device)

    def logits(x: Tensor, keep: float = 1.0) -> Tensor:
        for layer in layers[:-1]:
            x = F.silu(layer(x))
            if keep < 1:  # from a generator of its own, which no other draw moves
                x = x * (torch.rand(x.shape, generator=g, device=device) < keep) / keep
        return layers[-1](x)

    optimizer = torch.optim.AdamW(layers.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = min(steps, max(300, 30 * len(kept) // batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, answer = float("inf"), torch.zeros_like(test[1])
    with torch.enable_grad():
        for step in range(steps):
            index = kept[torch.randint(len(kept), (min(batch, len(kept)),), generator=g, device=device)]
            loss = F.cross_entropy(logits(x[index], 1 - DROPOUT), train[1][index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % max(1, steps // 15) == 0:
                with torch.no_grad():
                    value = F.cross_entropy(logits(x[held]), train[1][held]).item() if len(held) else 0.0
                    if value <= best:
                        best, answer = value, logits(test_x).argmax(-1)
    return (answer == test[1]).float().mean().item()


def chance(train_y: Tensor, test_y: Tensor) -> float:
    """Test accuracy of the commonest label."""
    return (test_y == train_y.mode().values).float().mean().item()


def leak(choose: Callable[[Tensor], Tensor], train: Examples, test: Examples) -> dict[str, float]:
    """How well the label is predicted from *which* columns were selected, without their values.

    Beside it the same for the columns with the largest values, which for images is where the ink is.
    """
    chosen = [(choose(x), y) for x, y in (train, test)]
    k = int(chosen[0][0][0].sum())
    values = {"leak": max(trees(*chosen), network(*chosen)), "chance": chance(train[1], test[1])}
    if chosen[0][0].shape[1] == train[0].shape[1]:
        ink = [(torch.zeros_like(x).scatter(1, x.topk(k).indices, 1.0), y) for x, y in (train, test)]
        values["leak_of_ink"] = max(trees(*ink), network(*ink))
    return values


# Other selections -----------------------------------------------------------------------------------------------------


def at_random(train: Examples, groups: Tensor, k: int) -> list[int]:
    """k columns, whichever."""
    columns = int(groups.max()) + 1
    return torch.randperm(columns, generator=torch.Generator().manual_seed(SEED))[:k].tolist()


def by_mutual_information(train: Examples, groups: Tensor, k: int) -> list[int]:
    """The k columns of which each alone says most of the label, cut into bins; of a column its best feature counts."""
    from sklearn.feature_selection import mutual_info_classif

    x, y = (part.cpu().numpy() for part in train)
    edges = np.quantile(x, np.linspace(0, 1, BINS + 1)[1:-1], axis=0)
    codes = np.stack([binned(x[:, i], np.unique(edges[:, i])) for i in range(x.shape[1])], 1)
    return strongest(torch.from_numpy(mutual_info_classif(codes, y, discrete_features=True)), groups, k)


def binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value; one that is an edge, such as the zero of most pixels, is in a bin of its own."""
    return np.searchsorted(edges, values, "left") + np.searchsorted(edges, values, "right")


def by_lasso(train: Examples, groups: Tensor, k: int) -> list[int]:
    """The first k columns that a lasso of all classes together takes as its strength falls."""
    from sklearn.linear_model import lasso_path

    x, y = train[0].double(), F.one_hot(train[1]).double()
    x, y = x - x.mean(0), y - y.mean(0)
    x = x / x.std(0).clamp_min(1e-6)
    q, r = torch.linalg.qr(x)  # the objective depends on x and y through these alone
    r, target = np.asfortranarray(r.cpu().numpy()), np.asfortranarray((q.T @ y).cpu().numpy())
    strongest_alpha = np.linalg.norm(r.T @ target, axis=1).max() / len(r)
    alphas = strongest_alpha * np.geomspace(1.0, 1e-2, ALPHAS)
    _, path, _ = lasso_path(r, target, alphas=alphas, max_iter=300, tol=1e-3)
    size = torch.from_numpy(np.linalg.norm(path, axis=0))  # (features, alphas)
    active = torch.zeros(size.shape[1])
    for i in range(size.shape[1]):
        active[i] = len(set(strongest(size[:, i], groups, size.shape[0], positive=True)))
    enough = (active >= k).nonzero()
    at = int(enough[0]) if len(enough) else -1
    return strongest(size[:, at], groups, k)


def strongest(values: Tensor, groups: Tensor, k: int, *, positive: bool = False) -> list[int]:
    """The ``k`` columns with the largest ``values``, those of their features; with ``positive`` only if above zero."""
    groups = groups.cpu()
    values = torch.zeros(int(groups.max()) + 1, dtype=values.dtype).scatter_reduce(0, groups, values, "amax")
    top = values.topk(min(k, len(values)))
    return [i for value, i in zip(top.values.tolist(), top.indices.tolist()) if value > 0 or not positive]


BASELINES: dict[str, Callable[[Examples, Tensor, int], list[int]]] = {
    "random": at_random,
    "mutual_information": by_mutual_information,
    "lasso": by_lasso,
}
