"""A case for every family that there is."""

from .case import Case, K, N, units
from .classic import CASES as CLASSIC
from .positive import CASES as POSITIVE

CASES = {**CLASSIC, **POSITIVE}

__all__ = ["CASES", "Case", "K", "N", "units"]
