"""A case for every family that there is."""

from .case import Case, K, N, units
from .choices import CASES as CHOICES
from .classic import CASES as CLASSIC

CASES = {**CLASSIC, **CHOICES}

__all__ = ["CASES", "Case", "K", "N", "units"]
