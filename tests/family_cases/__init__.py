"""A case for every family that there is."""

from .case import Case, K, N, units
from .classic import CASES as CLASSIC
from .durations import CASES as DURATIONS
from .limited import CASES as LIMITED

CASES = {**CLASSIC, **DURATIONS, **LIMITED}

__all__ = ["CASES", "Case", "K", "N", "units"]
