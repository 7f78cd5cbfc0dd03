"""What the examples of a data set look like, for models that are built to fit them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.config import check_config, locate
from zoo.errors import ZooError


@dataclass(frozen=True)
class Inputs:
    """The inputs and labels of a data set for classification.

    Attributes:
        shape: of an example; its numbers are the features.
        classes: how many labels there are.
        columns: what can be chosen: pixels, columns of a table, items of a bag.
        groups: of each feature the column that it belongs to; None where all columns have as many, one after another.
        items: of which an example consists, in no order; 1 where it is not a bag.
        table: whether they are columns of a table.
        names: of the columns; empty where they have none.
        labels: names of the classes; empty where they are numbers.
    """

    shape: tuple[int, ...]
    classes: int
    columns: int
    groups: tuple[int, ...] | None = None
    items: int = 1
    table: bool = False
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """Numbers of an example."""
        return math.prod(self.shape)

    @property
    def label(self) -> int:
        """Numbers that a prediction of the label has."""
        return self.classes

    @property
    def input(self) -> int:
        """Numbers that a prediction of the whole example has."""
        return self.features


def inputs(data: Mapping[str, Any]) -> Inputs:
    """What the data module that ``data`` is the configuration of gives, without loading more than that takes.

    Raises:
        ZooError: if it does not say, or its data cannot be read.
    """
    arguments = {str(key): value for key, value in data.items() if key != "_target_"}
    check_config(dict(data), where="data")
    cls = locate(data["_target_"], "data")
    if not hasattr(cls, "inputs"):
        raise ZooError(
            f"{cls.__name__} does not say how large its examples are: give it a class method inputs(arguments) that "
            "returns zoo.data.Inputs, or give the sizes to the model (model.predictor.features=... and so on)"
        )
    return cls.inputs(arguments)


def inputs_of(data: Any) -> Inputs | None:
    """What a data module gives; None if it does not say."""
    return type(data).inputs(data.arguments) if hasattr(type(data), "inputs") else None


def check_shape(data: Any, shape: Sequence[int]) -> None:
    """Raise ``ZooError`` if the examples of a data module that says so are not of the ``shape`` of a model's."""
    found = inputs_of(data)
    if found is not None and list(found.shape) != list(shape):
        raise ZooError(
            f"the model is for examples of shape {list(shape)}, the data have {list(found.shape)}: give it data like "
            "those that it was trained on"
        )
