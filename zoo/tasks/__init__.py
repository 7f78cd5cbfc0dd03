"""Combinatorial tasks for the pointer network, one a file."""

from zoo.tasks.base import Task
from zoo.tasks.sorting import Sorting
from zoo.tasks.tsp import TSP

__all__ = ["TSP", "Sorting", "Task"]
