"""The Wald test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .errors import OptionError


@dataclass(frozen=True)
class WaldTest:
    """A Wald test: statistic, degrees of freedom and p-value, as statsmodels names them.

    Of chi-squared with `df` degrees of freedom, or where `df_denom` is finite of F with `df` and `df_denom`.
    """

    statistic: float
    df: int
    pvalue: float
    label: str = ""
    df_denom: float = math.inf

    def __str__(self) -> str:
        p = "< 0.001" if self.pvalue < 0.001 else f"= {self.pvalue:.3f}"
        law = f"F({self.df}, {self.df_denom:.1f})" if math.isfinite(self.df_denom) else f"chi2({self.df})"
        return f"Wald test: {law} = {self.statistic:.3f}, p {p}" + (f"  [{self.label}]" if self.label else "")


def wald(distance: np.ndarray, cov: np.ndarray, names: Sequence[str], label: str) -> WaldTest:
    """The chi-squared test that `distance` (q,) with covariance (q, q) is 0, free of units.

    Raises OptionError where a variance is 0 or the covariance singular.
    """
    scale = np.sqrt(np.where(np.diag(cov) >= 0, np.diag(cov), np.nan))
    if not (scale > 0).all():
        none = [name for name, error in zip(names, scale, strict=True) if not error > 0]
        raise OptionError(f"{none[0]} has no variance to test with; leave it out of the hypothesis.")
    values, vectors = np.linalg.eigh(cov / np.outer(scale, scale))
    if values[0] <= 1e-12 * values[-1]:
        raise OptionError(
            f"The {len(names)} restrictions are linearly dependent, or as many as there are clusters; "
            "drop the redundant ones."
        )
    statistic = float(((vectors.T @ (distance / scale)) ** 2 / values).sum())
    return WaldTest(statistic, len(names), float(stats.chi2.sf(statistic, len(names))), label)


def hotelling(test: WaldTest, freedom: float) -> WaldTest:
    """The F test of a chi-squared Wald test whose covariance was estimated with so many degrees of freedom.

    Its statistic is then that of Hotelling's T squared: times (freedom - q + 1) / (freedom q) it has the law
    F(q, freedom - q + 1). Raises OptionError where there are too few for the q restrictions.
    """
    if math.isinf(freedom):
        return test
    rest = freedom - test.df + 1
    if not rest > 0:
        raise OptionError(
            f"The covariance of {test.df} restrictions rests on too few rows or clusters ({freedom:.1f} degrees of "
            "freedom) to test them together; give fewer."
        )
    f = test.statistic * rest / (freedom * test.df)
    return WaldTest(f, test.df, float(stats.f.sf(f, test.df, rest)), test.label, rest)
