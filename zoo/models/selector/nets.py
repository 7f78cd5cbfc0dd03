"""What predicts from the inputs that were selected, and what scores them where each example has a selection of its own.

Inputs are flat, ``(batch, features)``, with zero where a column was not selected. Examples that are bags of items in no
order are seen by one network for all items: where an item stands says nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.config import Configurable, check_positive
from zoo.models.layers import Activation, hidden_layers

MOST = 50_000_000
"""Products, at most: with an optimizer's state 16 bytes each."""


class MLPPredictor(Configurable, nn.Module):
    """A multi-layer perceptron, and where that is wanted every product of two features.

    Args:
        features: numbers of an example.
        outputs: of the prediction.
        items: of a bag; the last hidden layer is summed over them. 1 for examples that are not bags.
        hidden: width of each hidden layer, at least one.
        activation: after each hidden layer.
        products: add a weight for each pair of features. A perceptron of many columns and few rows does not find which
            two interact, one number a pair does.
        lasso: of these weights, the factor of their L1 norm in the loss. Without it the pairs of some hundred columns
            learn the rows by heart, and every column looks useful.

    Raises:
        ValueError: if a number is out of range, the items are not of one size, a bag is to have products, or there
            would be too many of them.
    """

    def __init__(
        self,
        *,
        features: int,
        outputs: int,
        items: int = 1,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "silu",
        products: bool = False,
        lasso: float = 0.01,
    ) -> None:
        super().__init__()
        check_positive(features=features, outputs=outputs, items=items, hidden=hidden)
        check_items(features, items)
        if products and items > 1:
            raise ValueError("products=true is for examples that are not bags")
        if products and features**2 * outputs > MOST:
            raise ValueError(
                f"products=true makes {features**2 * outputs} weights of {features} features and {outputs} outputs, "
                f"more than {MOST}: give products=false (model.predictor.products)"
            )
        if not lasso >= 0:
            raise ValueError(f"lasso must be at least 0, got {lasso}")
        self.items, self.lasso = items, lasso
        self.layers = nn.Sequential(nn.Linear(features // items, hidden[0]), *hidden_layers(hidden, activation))
        self.head = nn.Linear(hidden[-1], outputs)
        self.products = nn.Parameter(torch.zeros(features, outputs * features)) if products else None

    def forward(self, x: Tensor) -> Tensor:
        prediction = self.head(self.layers(x.unflatten(-1, (self.items, -1))).sum(-2))
        if self.products is not None:
            pairs = (x @ self.products).unflatten(-1, (-1, x.shape[-1]))
            prediction = prediction + (pairs * x.unsqueeze(-2)).sum(-1)
        return prediction

    def penalty(self) -> Tensor | float:
        """What is added to the loss in training."""
        return 0.0 if self.products is None else self.lasso * self.products.abs().sum()


class MLPScorer(Configurable, nn.Module):
    """Examples ``(batch, features)`` to logits of their columns, ``(batch, columns)``.

    Args:
        features, columns: of an example.
        items: of a bag, which are then its columns, each with a logit; 1 for examples that are not bags.
        hidden: width of each hidden layer, at least one.
        activation: after each hidden layer.

    Raises:
        ValueError: if a number is less than 1, or the items are not of one size or are not the columns.
    """

    def __init__(
        self,
        *,
        features: int,
        columns: int,
        items: int = 1,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        check_positive(features=features, columns=columns, items=items, hidden=hidden)
        check_items(features, items)
        if items not in (1, columns):
            raise ValueError(f"a bag of {items} items has as many columns, not {columns}")
        self.items = items
        self.layers = nn.Sequential(
            nn.Linear(features // items, hidden[0]),
            *hidden_layers(hidden, activation),
            nn.Linear(hidden[-1], columns // items),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.unflatten(-1, (self.items, -1))).flatten(-2)


def check_items(features: int, items: int) -> None:
    """Raise ``ValueError`` unless the features are those of items of one size."""
    if features % items:
        raise ValueError(f"{features} features are not those of {items} items of one size")
