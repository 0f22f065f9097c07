"""The Wald test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .errors import OptionError


@dataclass(frozen=True)
class WaldTest:
    """A Wald test: statistic, degrees of freedom and p-value, as statsmodels names them."""

    statistic: float
    df: int
    pvalue: float
    label: str = ""

    def __str__(self) -> str:
        p = "< 0.001" if self.pvalue < 0.001 else f"= {self.pvalue:.3f}"
        return f"Wald test: chi2({self.df}) = {self.statistic:.3f}, p {p}" + (f"  [{self.label}]" if self.label else "")


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
