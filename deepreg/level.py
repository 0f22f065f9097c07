"""The level of an interval: 1 - alpha."""

from numbers import Real

from .errors import OptionError


def check_alpha(alpha: object) -> float:
    """alpha as a float. Raises OptionError unless it is a real number, of any type, between 0 and 1, both excluded."""
    if not (isinstance(alpha, Real) and 0 < float(alpha) < 1):  # true and false are 1 and 0
        raise OptionError(f"alpha={alpha!r}: give a number between 0 and 1, for example 0.05 for 95% intervals.")
    return float(alpha)
