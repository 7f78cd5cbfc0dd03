"""Pictures of bars, and everything to model them with."""

from zoo_bars.data import Bars
from zoo_bars.model import BarJudge
from zoo_bars.nets import BarsDecoder, BarsEncoder
from zoo_bars.relaxation import Laplace
from zoo_bars.task import OpenPath

__all__ = ["BarJudge", "Bars", "BarsDecoder", "BarsEncoder", "Laplace", "OpenPath"]
