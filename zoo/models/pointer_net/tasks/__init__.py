"""Combinatorial tasks for the pointer network, one a file."""

from zoo.models.pointer_net.tasks.assignment import Assignment
from zoo.models.pointer_net.tasks.base import Task
from zoo.models.pointer_net.tasks.convex_hull import ConvexHull
from zoo.models.pointer_net.tasks.knapsack import Knapsack
from zoo.models.pointer_net.tasks.open_tour import OpenTour
from zoo.models.pointer_net.tasks.orienteering import Orienteering
from zoo.models.pointer_net.tasks.pickup_delivery import PickupDelivery
from zoo.models.pointer_net.tasks.prize_collecting import PrizeCollecting
from zoo.models.pointer_net.tasks.sorting import Sorting
from zoo.models.pointer_net.tasks.time_windows import TimeWindows
from zoo.models.pointer_net.tasks.tsp import TSP
from zoo.models.pointer_net.tasks.vehicle_routing import VehicleRouting

TASKS: dict[str, type[Task]] = {
    "tsp": TSP,
    "sort": Sorting,
    "convex_hull": ConvexHull,
    "knapsack": Knapsack,
    "cvrp": VehicleRouting,
    "time_windows": TimeWindows,
    "orienteering": Orienteering,
    "prize_collecting": PrizeCollecting,
    "pickup_delivery": PickupDelivery,
    "open_tour": OpenTour,
    "assignment": Assignment,
}
"""Every task by the name it has on the command line (``configs/data/<name>.yaml``)."""

__all__ = [
    "TASKS",
    "TSP",
    "Assignment",
    "ConvexHull",
    "Knapsack",
    "OpenTour",
    "Orienteering",
    "PickupDelivery",
    "PrizeCollecting",
    "Sorting",
    "Task",
    "TimeWindows",
    "VehicleRouting",
]
