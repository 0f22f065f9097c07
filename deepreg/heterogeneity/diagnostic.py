"""Diagnostic: what every diagnostic of heterogeneity knows, estimates with errors that print themselves."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from ..estimates import Estimates
from ..report.printed import Printed
from ..report.summary import Summary
from ..report.table import Table

D = TypeVar("D", bound="Diagnostic")


class Summarised(Printed):
    """What prints its summary."""

    @abstractmethod
    def summary(self) -> Summary: ...

    def as_text(self) -> str:
        return self.summary().as_text()

    def as_html(self) -> str:
        return self.summary().as_html()

    def as_latex(self) -> str:
        return self.summary().as_latex()


@dataclass(frozen=True, repr=False)
class Diagnostic(Summarised):
    """Estimates with a title and notes; `estimates` has their joint covariance, tests, bands and functions of them."""

    estimates: Estimates
    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def title(self) -> str: ...

    def over(self: D, several: Sequence[Any], estimates: Estimates) -> D:
        """The same over several repeats of cross-fitting, of which `estimates` are already made."""
        return replace(self, estimates=estimates)

    @property
    def estimate(self) -> pd.Series:
        """The estimates by name; (q,)."""
        return pd.Series(self.estimates.value, index=list(self.estimates.names))

    @property
    def std_error(self) -> pd.Series:
        """Their standard errors; (q,)."""
        return pd.Series(self.estimates.std_error, index=list(self.estimates.names))

    @property
    def pvalue(self) -> pd.Series:
        """Two-sided p-values of 0, which are 1 where an estimate is 0 without error; (q,)."""
        return self._chance(2 * stats.norm.sf(np.abs(self._z())))

    @property
    def pvalue_one_sided(self) -> pd.Series:
        """p-values of "0 or less" against "more than 0"; (q,)."""
        return self._chance(stats.norm.sf(self._z()))

    def _z(self) -> np.ndarray:
        z = self.estimates.zvalues
        return np.where(np.isnan(z), 0.0, z)

    def _chance(self, p: np.ndarray) -> pd.Series:
        return pd.Series(p, index=list(self.estimates.names))

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of level 1 - alpha for each on its own: columns lower and upper."""
        return pd.DataFrame(self.estimates.interval(alpha), list(self.estimates.names), ["lower", "upper"])

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """coef, std err, z, P>|z| and the interval, one row for each estimate."""
        return self.estimates.frame(alpha)

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        """What is printed."""
        return (Table.from_frame(self.frame(alpha)),)

    def summary(self, alpha: float = 0.05) -> Summary:
        """Tables and notes, for as_text(), as_latex(), as_html() and the like."""
        return Summary(self.title, (), self.tables(alpha), self.notes)


def merged(several: Sequence[D], estimates: Estimates) -> D:
    """One diagnostic of several repeats of cross-fitting, with `estimates` over them."""
    return several[0].over(several, estimates)
