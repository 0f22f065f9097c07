"""Estimators to compare on the same simulated data: each is a function (Simulation, seed) -> Answer."""

from .problem import target
from .registry import METHODS, Method, load

__all__ = ["METHODS", "Method", "load", "target"]
