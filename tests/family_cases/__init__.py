"""A case for every family that there is."""

from .case import Case, K, N, units
from .choices import CASES as CHOICES
from .classic import CASES as CLASSIC
from .combinatorial import CASES as COMBINATORIAL
from .counts import CASES as COUNTS
from .durations import CASES as DURATIONS
from .levels import CASES as LEVELS
from .limited import CASES as LIMITED
from .positive import CASES as POSITIVE
from .systems import CASES as SYSTEMS

CASES = {**CHOICES, **CLASSIC, **COMBINATORIAL, **COUNTS, **DURATIONS, **LEVELS, **LIMITED, **POSITIVE, **SYSTEMS}

__all__ = ["CASES", "Case", "K", "N", "units"]
