"""Coefficients, what stands below them and fit statistics as printed rows, with the numbers behind them."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from deepreg.report.column import Column
from deepreg.report.regression_table import Row
from deepreg.report.table import number

STATS = {
    "n": "Observations", "r2": "R²", "r2_uncentred": "R², uncentred", "pseudo_r2": "Pseudo R²",
    "fixed_effects": "Fixed effects", "family": "Family", "features": "Coefficients vary with",
    "controls": "Controls", "covariance": "Covariance", "folds": "Folds", "members": "Networks in each fold",
    "repeats": "Repeats", "ll": "Log-likelihood", "aic": "AIC", "bic": "BIC",
}  # fmt: skip
BELOW = ("se", "t", "p", "ci")


class Numbers(NamedTuple):
    """Unrounded numbers of a row, or words: what row and statistic they are, and one for each column."""

    row: str
    statistic: str
    values: tuple[float | str, ...]


class Printing(NamedTuple):
    """How a coefficient and what stands below it are printed."""

    stat: str | None
    digits: int
    alpha: float
    stars: tuple[float, ...]

    def rows(self, columns: Sequence[Column], names: Mapping[str, Sequence[str]]) -> tuple[list[Row], list[Numbers]]:
        """The rows of each label, which stands for one name of every column or for none, and their numbers."""
        rows: list[Row] = []
        numbers: list[Numbers] = []
        for label, same in names.items():
            where = [next((c.names.index(name) for name in same if name in c.names), None) for c in columns]
            found = [(column, i) for column, i in zip(columns, where, strict=True)]
            rows.append(Row(label, "value", tuple(self.coefficient(c, i) for c, i in found)))
            values = tuple(math.nan if i is None else float(c.value[i]) for c, i in found)
            numbers.append(Numbers(label, "coef", values))
            if self.stat is not None:
                below = [self.numbers_below(c, i) for c, i in found]
                rows.append(Row("", "beside", tuple(self.below(values) for values in below)))
                kinds = enumerate(self.kinds())
                numbers += [Numbers(label, kind, tuple(values[k] for values in below)) for k, kind in kinds]
        return rows, numbers

    def coefficient(self, column: Column, i: int | None) -> str:
        """The i-th coefficient with its stars; empty where the column has none."""
        text = "" if i is None else decimals(float(column.value[i]), self.digits)
        return text + "*" * sum(bool(column.pvalue[i] < level) for level in self.stars if text)

    def kinds(self) -> tuple[str, ...]:
        """What the numbers below a coefficient are called in a data frame."""
        ends = (f"[{self.alpha / 2:g}", f"{1 - self.alpha / 2:g}]")
        return {"se": ("std err",), "t": ("t",), "p": ("P>|t|",), "ci": ends}[str(self.stat)]

    def numbers_below(self, column: Column, i: int | None) -> tuple[float, ...]:
        if i is None:
            return (math.nan,) * len(self.kinds())
        if self.stat == "ci":
            return tuple(float(v) for v in column.interval(self.alpha)[i])
        return (float({"se": column.error, "t": column.statistic, "p": column.pvalue}[str(self.stat)][i]),)

    def below(self, numbers: tuple[float, ...]) -> str:
        """Those numbers in parentheses, intervals in brackets; empty where one is missing."""
        if any(math.isnan(v) for v in numbers):
            return ""
        if self.stat == "ci":
            return f"[{', '.join(decimals(v, self.digits) for v in numbers)}]"
        (v,) = numbers
        return f"({number(v, 'pvalue') if self.stat == 'p' else decimals(v, self.digits)})"

    def fit(self, columns: Sequence[Column], wanted: Sequence[str]) -> tuple[list[Row], list[Numbers]]:
        """A row for each of the fit statistics in STATS that are wanted."""
        values = [(STATS[key], key, tuple(c.fitted(key) for c in columns)) for key in wanted]
        rows = [Row(label, "fit", tuple(self.statistic(key, v) for v in cells)) for label, key, cells in values]
        return rows, [Numbers(label, "", cells) for label, _, cells in values]

    def statistic(self, key: str, value: float | str) -> str:
        if isinstance(value, str):
            return value
        return number(value, "count") if key == "n" else decimals(value, self.digits)


def decimals(x: float, digits: int) -> str:
    """x with so many decimals, and with two significant digits where those would print a number as zero.

    >>> decimals(-1234.5678, 3), decimals(0.00012345, 3), decimals(-0.0, 3)
    ('-1,234.568', '0.00012', '0.000')
    """
    if math.isnan(x):
        return ""
    text = f"{x:,.{digits}f}"
    if x == 0:
        return text.removeprefix("-")
    if text.strip("-0."):
        return text
    places = 1 - math.floor(math.log10(abs(x)))
    return f"{x:.{places}f}" if places <= 8 else f"{x:.1e}"
