"""What a fit with constant coefficients pays besides its loss: functions of predictions, columns and weights."""

from .base import FromFunction, Penalty, Seen, check, from_function, get
from .gap import RateGap
from .rounding import Rounding

__all__ = ["FromFunction", "Penalty", "RateGap", "Rounding", "Seen", "check", "from_function", "get"]
