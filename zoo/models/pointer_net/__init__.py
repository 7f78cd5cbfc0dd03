"""A pointer network, and the combinatorial tasks it solves."""

from zoo.models.pointer_net.data import Instances
from zoo.models.pointer_net.model import PointerNet
from zoo.models.pointer_net.nets import LSTMEncoder, PointerDecoder, TransformerEncoder
from zoo.models.pointer_net.tasks import (
    TASKS,
    TSP,
    Assignment,
    ConvexHull,
    Knapsack,
    OpenTour,
    Orienteering,
    PickupDelivery,
    PrizeCollecting,
    Sorting,
    Task,
    TimeWindows,
    VehicleRouting,
)

__all__ = [
    "TASKS",
    "TSP",
    "Assignment",
    "ConvexHull",
    "Instances",
    "Knapsack",
    "LSTMEncoder",
    "OpenTour",
    "Orienteering",
    "PickupDelivery",
    "PointerDecoder",
    "PointerNet",
    "PrizeCollecting",
    "Sorting",
    "Task",
    "TimeWindows",
    "TransformerEncoder",
    "VehicleRouting",
]
