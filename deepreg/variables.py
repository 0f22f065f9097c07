"""Variables: the raw data columns among the structural terms, which effects are about."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from deepreg.columns import Column

FEW = 10  # a numeric treatment with at most this many distinct values counts as discrete


@dataclass(frozen=True)
class Variable:
    """One raw data column among the structural terms, the kind of thing an effect is about."""

    name: str
    kind: str  # "discrete" | "continuous"
    levels: tuple[Any, ...]  # in order when discrete, else ()
    sd: float | None = field(default=None, compare=False)  # over the rows used; None where it is not a number

    @classmethod
    def of(cls, name: str, series: pd.Series, column: Column) -> "Variable":
        """From the values in the rows used."""
        sd = float(series.std()) if types.is_numeric_dtype(series.dtype) else None
        if column.levels:
            return cls(name, "discrete", column.levels, sd)
        levels = np.sort(series.unique())
        discrete = column.kind == "integer" or len(levels) <= FEW
        return cls(name, "discrete" if discrete else "continuous", tuple(levels.tolist()) if discrete else (), sd)
