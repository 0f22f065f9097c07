"""A case for every family that there is."""

from .case import Case, K, N, units
from .classic import CASES as CLASSIC

CASES = CLASSIC

__all__ = ["CASES", "Case", "K", "N", "units"]
