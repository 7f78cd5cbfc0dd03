"""Combinatorial tasks for the pointer network, one a file."""

from zoo.models.pointer_net.tasks.base import Task
from zoo.models.pointer_net.tasks.convex_hull import ConvexHull
from zoo.models.pointer_net.tasks.knapsack import Knapsack
from zoo.models.pointer_net.tasks.sorting import Sorting
from zoo.models.pointer_net.tasks.tsp import TSP

TASKS: dict[str, type[Task]] = {"tsp": TSP, "sort": Sorting, "convex_hull": ConvexHull, "knapsack": Knapsack}
"""Every task by the name it has on the command line (``configs/data/<name>.yaml``)."""

__all__ = ["TASKS", "TSP", "ConvexHull", "Knapsack", "Sorting", "Task"]
