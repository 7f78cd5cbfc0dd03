"""A pointer network, and the combinatorial tasks it solves."""

from zoo.models.pointer_net.data import Instances
from zoo.models.pointer_net.model import PointerNet
from zoo.models.pointer_net.nets import LSTMEncoder, PointerDecoder, TransformerEncoder
from zoo.models.pointer_net.tasks import TASKS, TSP, ConvexHull, Knapsack, Sorting, Task

__all__ = [
    "TASKS",
    "TSP",
    "ConvexHull",
    "Instances",
    "Knapsack",
    "LSTMEncoder",
    "PointerDecoder",
    "PointerNet",
    "Sorting",
    "Task",
    "TransformerEncoder",
]
