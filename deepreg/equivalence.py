"""Tests of equivalence: that an effect is small, not that it might be."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from .errors import OptionError
from .report.table import Table


def equivalence(
    value: np.ndarray, error: np.ndarray, inner: np.ndarray, names: Sequence[str], low: float, high: float
) -> Table:
    """Two one-sided tests of estimates (q,) with their errors and 90% intervals (q, 2); see Estimates.equivalence."""
    for bound in (low, high):
        if not isinstance(bound, int | float | np.number) or not math.isfinite(bound):
            raise OptionError(f"equivalence({low!r}, {high!r}): give two finite numbers, low < high.")
    if not low < high:
        raise OptionError(f"equivalence({low!r}, {high!r}): the first has to be the lower one.")
    below = stats.norm.sf((value - low) / error)
    above = stats.norm.cdf((value - high) / error)
    frame = pd.DataFrame(
        {
            "coef": value, "std err": error, "[0.05": inner[:, 0], "0.95]": inner[:, 1],
            "P low": below, "P high": above, "P outside": np.maximum(below, above),
        },
        index=list(names),
    )  # fmt: skip
    formats = dict.fromkeys(frame.columns[4:], "pvalue")
    note = f"p-values of: {low:g} or less; {high:g} or more; either. The last is the test of equivalence."
    title = f"Equivalence to a value in ({low:g}, {high:g})"
    return Table.from_frame(frame, title=title, formats=formats, notes=(note,))
