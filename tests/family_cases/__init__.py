"""A case for every family that there is."""

from .case import Case, K, N, units
from .classic import CASES as CLASSIC
from .counts import CASES as COUNTS
from .levels import CASES as LEVELS

CASES = {**CLASSIC, **COUNTS, **LEVELS}

__all__ = ["CASES", "Case", "K", "N", "units"]
