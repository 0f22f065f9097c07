"""Trade-off: what closing a gap between groups costs in accuracy, over strengths of the penalty."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from . import charts
from .errors import AGAIN, NotAvailable, OptionError
from .fairness import fairness
from .heterogeneity.diagnostic import Summarised
from .parity import LABELS
from .penalties import Penalty, RateGap
from .report.summary import Summary
from .report.table import Table

if TYPE_CHECKING:
    from .model import Again
    from .plots import Axes


class Fitted(Protocol):
    """What can be fitted again."""

    @property
    def design(self) -> Any: ...
    @property
    def again(self) -> Any: ...
