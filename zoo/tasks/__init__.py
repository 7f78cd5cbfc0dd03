"""Combinatorial tasks for the pointer network, one a file."""

from zoo.tasks.base import Task
from zoo.tasks.convex_hull import ConvexHull
from zoo.tasks.knapsack import Knapsack
from zoo.tasks.sorting import Sorting
from zoo.tasks.tsp import TSP

TASKS: dict[str, type[Task]] = {"tsp": TSP, "sort": Sorting, "convex_hull": ConvexHull, "knapsack": Knapsack}
"""Every task by the name it has on the command line (``configs/data/<name>.yaml``)."""

__all__ = ["TASKS", "TSP", "ConvexHull", "Knapsack", "Sorting", "Task"]
