"""Polynomial programming: the smallest problem on which a biased gradient goes the wrong way."""

from zoo.models.polynomial.data import Steps
from zoo.models.polynomial.model import PolynomialProgram

__all__ = ["PolynomialProgram", "Steps"]
