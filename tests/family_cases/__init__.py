"""A case for every family that there is, and further ones, called "family: option", for options that change it."""

from .case import Case, K, N, units
from .classic import CASES as CLASSIC
from .combinatorial import CASES as COMBINATORIAL

CASES = {**CLASSIC, **COMBINATORIAL}

__all__ = ["CASES", "Case", "K", "N", "units"]
