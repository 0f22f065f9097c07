"""Inference on effects: points with their errors, for rows or for a population, and what follows from them."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from .errors import NotAvailable, OptionError
from .level import check_alpha

METHODS = ("percentile", "pivot", "normal")


@dataclass(frozen=True, eq=False)
class Inference:
    """Points and standard errors, both of one shape, whose axes are rows "X", outcomes "Y" and treatments "T".

    A copy of numbers that holds on to nothing else: it can be pickled, and outlives the fit. Intervals and tests take
    the normal law, or replicates where there are any (`draws`).
    """

    point_estimate: np.ndarray  # (m, *d_y, *d_t), or without rows
    stderr: np.ndarray  # the same shape
    axes: tuple[tuple[str, tuple[object, ...]], ...] = ()  # a letter and labels for each axis
    draws: np.ndarray | None = None  # (B, ...) of a bootstrap
    method: str = "normal"  # how intervals follow from them, of METHODS

    def zstat(self, value: float = 0.0) -> np.ndarray:
        """(point - value) / standard error; the shape of the points. NaN where both are 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.point_estimate - value) / self.stderr)

    def pvalue(self, value: float = 0.0) -> np.ndarray:
        """Two-sided p-values of effect = value, normal; the shape of the points."""
        return np.asarray(2 * stats.norm.sf(np.abs(self.zstat(value))))

    def conf_int(self, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of level 1 - alpha, each of the shape of the points.

        Raises OptionError unless alpha is between 0 and 1.
        """
        alpha = check_alpha(alpha)
        if self.draws is None or self.method == "normal":
            width = stats.norm.isf(alpha / 2) * self.stderr
            return np.asarray(self.point_estimate - width), np.asarray(self.point_estimate + width)
        low, high = np.quantile(self.draws, [alpha / 2, 1 - alpha / 2], axis=0)
        if self.method == "pivot":
            return np.asarray(2 * self.point_estimate - high), np.asarray(2 * self.point_estimate - low)
        return np.asarray(low), np.asarray(high)

    def scale(self, factor: float) -> "Inference":
        """Inference on factor times the effect; a new object."""
        draws = None if self.draws is None else self.draws * factor
        return replace(self, point_estimate=self.point_estimate * factor, stderr=self.stderr * abs(factor), draws=draws)

    def translate(self, offset: float) -> "Inference":
        """Inference on the effect plus a number; a new object."""
        draws = None if self.draws is None else self.draws + offset
        return replace(self, point_estimate=self.point_estimate + offset, draws=draws)

    def summary_frame(self, alpha: float = 0.05, value: float = 0.0) -> pd.DataFrame:
        """One row for each number: point_estimate, stderr, zstat, pvalue, ci_lower and ci_upper."""
        low, high = self.conf_int(alpha)
        columns = {
            "point_estimate": self.point_estimate, "stderr": self.stderr, "zstat": self.zstat(value),
            "pvalue": self.pvalue(value), "ci_lower": low, "ci_upper": high,
        }  # fmt: skip
        labels = list(product(*(labels for _, labels in self.axes)))
        letters = [letter for letter, _ in self.axes]
        index: pd.Index = pd.MultiIndex.from_tuples(labels, names=letters) if letters else pd.RangeIndex(1)
        if len(letters) == 1:
            index = pd.Index([one for (one,) in labels], name=letters[0])
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()}, index=index)

    def population_summary(self) -> "Population":
        """The mean of the rows, each counted once, and how they spread.

        The errors of rows are dependent in a way that is not kept, so the standard error of the mean is the largest it
        can be, the mean of the rows' standard errors. For the population that was sampled, ask for the average itself:
        `ate_inference()`, whose error is that of its influence function, and smaller.
        Raises NotAvailable where there are no rows.
        """
        if not self.axes or self.axes[0][0] != "X":
            raise NotAvailable("population_summary() averages rows, and this is an average already.")
        draws = None if self.draws is None else self.draws.mean(1)
        error = self.stderr.mean(0) if draws is None else draws.std(0, ddof=1)
        return Population(Inference(self.point_estimate.mean(0), error, self.axes[1:], draws, self.method), self)


@dataclass(frozen=True, eq=False)
class Population:
    """Inference on an average over rows, with the rows that it summarises."""

    mean: Inference
    rows: Inference

    @property
    def mean_point(self) -> np.ndarray:
        """The average; (*d_y, *d_t)."""
        return self.mean.point_estimate

    @property
    def stderr_mean(self) -> np.ndarray:
        """Its standard error."""
        return self.mean.stderr

    point_estimate, stderr = mean_point, stderr_mean

    def zstat(self, value: float = 0.0) -> np.ndarray:
        """(average - value) / standard error."""
        return self.mean.zstat(value)

    def pvalue(self, value: float = 0.0) -> np.ndarray:
        """Two-sided p-values of average = value, normal."""
        return self.mean.pvalue(value)

    def conf_int_mean(self, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the average."""
        return self.mean.conf_int(alpha)

    conf_int = conf_int_mean

    @property
    def std_point(self) -> np.ndarray:
        """The standard deviation of the rows' points, which holds the error of the estimated functions as well."""
        return np.asarray(self.rows.point_estimate.std(0))

    @property
    def stderr_point(self) -> np.ndarray:
        """The standard deviation of a row drawn at random around the average, its error included."""
        return np.sqrt(self.std_point**2 + (self.rows.stderr**2).mean(0))

    def percentile_point(self, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """The alpha/2 and 1 - alpha/2 quantiles of the rows' points."""
        alpha = check_alpha(alpha)
        low, high = np.quantile(self.rows.point_estimate, [alpha / 2, 1 - alpha / 2], axis=0)
        return np.asarray(low), np.asarray(high)

    def conf_int_point(self, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Bounds for the effect of a row drawn at random: average -+ critical value times `stderr_point`."""
        width = stats.norm.isf(check_alpha(alpha) / 2) * self.stderr_point
        return np.asarray(self.mean_point - width), np.asarray(self.mean_point + width)

    def summary_frame(self, alpha: float = 0.05, value: float = 0.0) -> pd.DataFrame:
        """The average as in `Inference.summary_frame`."""
        return self.mean.summary_frame(alpha, value)


@dataclass(frozen=True)
class BootstrapInference:
    """How `fit(inference=...)` makes replicates: how many, and which intervals follow from them.

    "normal" takes their standard deviation, "percentile" their quantiles, and "pivot" reflects these around the point
    (Efron and Tibshirani 1993, chapter 13). All hold the variance of the functions and not the bias of smoothing them,
    so that they can cover less than the posterior does. Replicates come in pairs: an odd number is rounded up.
    Raises OptionError for another method or fewer than 2.

    >>> from deepreg import BootstrapInference
    >>> BootstrapInference(n_bootstrap_samples=50).method
    'normal'
    """

    n_bootstrap_samples: int = 100
    method: str = "normal"

    def __post_init__(self) -> None:
        b: object = self.n_bootstrap_samples
        if isinstance(b, bool) or not isinstance(b, int | np.integer) or b < 2:
            raise OptionError(f"n_bootstrap_samples={b!r}: give a whole number, at least 2.")
        if self.method not in METHODS:
            raise OptionError(f"method={self.method!r}: allowed are {', '.join(map(repr, METHODS))}.")
