"""Estimates: everything that follows from influence values by linear algebra."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from .curve import indicators, is_smooth, smooth
from .errors import DeepregWarning, OptionError
from .report.summary import Summary
from .report.table import Table


@dataclass(frozen=True)
class Sampling:
    """How rows were sampled: weights, clusters and the small-sample factor of the covariance.

    kind "HC0" has no factor; "HC1" n/(n - parameters); "cluster" G/(G - 1) (n - 1)/(n - parameters) with one or two
    cluster variables. An average of influence values has one parameter, so that "HC1" divides by n - 1.
    """

    weight: Tensor  # (n,)
    cluster: Tensor  # (n, 0|1|2) long
    kind: str
    parameters: int = 1

    def covariance(self, psi: Tensor) -> Tensor:
        """Covariance of the weighted mean of psi; (R, n, q) -> (R, q, q)."""
        n, weight = psi.shape[1], self.weight / self.weight.sum()
        mean = (psi * weight[:, None]).sum(1, keepdim=True)
        rows = (psi - mean) * weight[:, None]  # (R, n, q)
        if self.kind != "cluster":
            return rows.mT @ rows * (1.0 if self.kind == "HC0" else _ratio(n, n - self.parameters))
        ways = [self.cluster[:, j] for j in range(self.cluster.shape[1])]
        pieces = [(ways[0], 1.0)] if len(ways) == 1 else [
            (ways[0], 1.0), (ways[1], 1.0), (torch.unique(self.cluster, dim=0, return_inverse=True)[1], -1.0)
        ]  # fmt: skip
        total = torch.zeros(len(psi), psi.shape[2], psi.shape[2], dtype=psi.dtype, device=psi.device)
        for code, sign in pieces:  # Cameron, Gelbach and Miller (2011): one way plus the other minus their crossing
            count = int(code.max()) + 1
            sums = torch.zeros(len(psi), count, psi.shape[2], dtype=psi.dtype, device=psi.device)
            sums = sums.index_add(1, code, rows)
            factor = sign * _ratio(count, count - 1) * _ratio(n - 1, n - self.parameters)
            total += factor * (sums.mT @ sums)
        return total


def _check(alpha: object) -> None:
    if not (isinstance(alpha, Real) and 0 < float(alpha) < 1):
        raise OptionError(f"alpha={alpha!r}: give a number between 0 and 1, for example 0.05 for 95% intervals.")


def _ratio(above: int, below: int) -> float:
    return above / below if below > 0 else math.nan  # one row, or one cluster, has no variance


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


@dataclass(frozen=True)
class Estimates:
    """q estimates with their influence values: values, covariance, intervals, tests and functions of them.

    psi is (R, n, q), one layer for each repeat of cross-fitting; the estimate of a repeat is its weighted mean. Over
    repeats the value is the median and the variance the median of var_r + (value_r - median)^2 (Chernozhukov et al.
    2018, definition 3.3), with the correlations of the mean of those matrices. Immutable.
    """

    names: tuple[str, ...]
    psi: Tensor  # (R, n, q)
    sampling: Sampling
    plug_in: np.ndarray | None = None  # (q,) the same averages without the correction
    null: np.ndarray | None = None  # (q,) hypothesised values, 0 unless given
    rows: pd.Index | None = None  # (n,) the caller's labels of the rows
    groupable: bool = True  # whether a mean of psi over some rows is the value for those rows

    @cached_property
    def value(self) -> np.ndarray:
        """Estimates; (q,)."""
        return self._repeats().quantile(0.5, dim=0).numpy()

    def _repeats(self) -> Tensor:
        weight = self.sampling.weight / self.sampling.weight.sum()
        return (self.psi * weight[:, None]).sum(1).cpu()  # (R, q)

    @cached_property
    def cov(self) -> np.ndarray:
        """Covariance; (q, q). Warns where two-way clustering makes a variance negative."""
        cov = self._covariance()
        negative = [name for name, v in zip(self.names, np.diag(cov), strict=True) if v < 0]
        if negative:
            warnings.warn(
                f"The two-way clustered variance of {', '.join(negative)} is negative, so its error is NaN: there are "
                "too few clusters one way. Cluster by one column, or use vcov='robust'.",
                DeepregWarning,
                stacklevel=3,
            )
        return cov

    def _covariance(self) -> np.ndarray:
        spread = self._repeats() - torch.from_numpy(self.value)
        each = self.sampling.covariance(self.psi).cpu() + spread[:, :, None] * spread[:, None, :]
        if len(each) == 1:
            return each[0].numpy()
        variance = each.diagonal(dim1=1, dim2=2).quantile(0.5, dim=0)
        mean = each.mean(0)
        scale = (variance / mean.diagonal().clamp_min(1e-300)).sqrt()
        return (mean * scale.outer(scale)).numpy()

    @property
    def std_error(self) -> np.ndarray:
        """Standard errors; (q,). NaN where a two-way clustered variance is negative."""
        variance = np.diag(self.cov)
        return np.sqrt(np.where(variance < 0, np.nan, variance))

    @property
    def zvalues(self) -> np.ndarray:
        """(value - null) / standard error; (q,)."""
        with np.errstate(divide="ignore", invalid="ignore"):  # an estimate without variance
            return self._distance() / self.std_error

    def _distance(self) -> np.ndarray:
        return self.value - (0.0 if self.null is None else self.null)

    @property
    def pvalues(self) -> np.ndarray:
        """Two-sided p-values of the null, normal; (q,)."""
        return 2 * stats.norm.sf(np.abs(self.zvalues))

    def interval(self, alpha: float = 0.05, critical: float | None = None) -> np.ndarray:
        """value -+ critical x standard error; (q, 2). The critical value is the normal one unless given."""
        _check(alpha)
        width = (stats.norm.isf(alpha / 2) if critical is None else critical) * self.std_error
        return np.stack([self.value - width, self.value + width], 1)

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """The table: coef, std err, z, P>|z| and the interval, one row per name."""
        low, high = self.interval(alpha).T
        columns = {
            "coef": self.value, "std err": self.std_error, "z": self.zvalues, "P>|z|": self.pvalues,
            f"[{alpha / 2:g}": low, f"{1 - alpha / 2:g}]": high,
        }  # fmt: skip
        return pd.DataFrame(columns, index=list(self.names))

    def table(self, alpha: float = 0.05) -> Table:
        """The table with its formats; a note names null values other than 0."""
        null = [] if self.null is None else [(n, v) for n, v in zip(self.names, self.null, strict=True) if v]
        notes = ("z and P>|z| are of " + ", ".join(f"{name} = {v:g}" for name, v in null) + ".",) if null else ()
        return Table.from_frame(self.frame(alpha), title="Estimates", notes=notes)

    def summary(self, alpha: float = 0.05) -> Summary:
        """The table as a Summary, for as_text(), as_latex(), as_html() and the like."""
        return Summary("Estimates", (), (self.table(alpha),))

    def __str__(self) -> str:
        return self.table().as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table().as_html()

    def band(self, alpha: float = 0.05, draws: int = 9999, rng: object = 0) -> pd.DataFrame:
        """Simultaneous intervals: all q cover together with probability 1 - alpha.

        The critical value is the 1 - alpha quantile of max |z| under the estimated correlation, by `draws` Gaussian
        multiplier draws (Chernozhukov, Chetverikov and Kato 2013). Columns coef, lower, upper.
        """
        _check(alpha)
        if draws < 1:
            raise OptionError(f"draws={draws!r}: give a whole number of multiplier draws above 0, for example 9999.")
        normal = np.random.default_rng(rng).standard_normal((draws, len(self.names)))  # type: ignore[arg-type]
        scale = np.where(self.std_error > 0, self.std_error, 1.0)
        values, vectors = np.linalg.eigh(self.cov / np.outer(scale, scale))
        z = np.abs(normal @ (vectors * np.sqrt(np.clip(values, 0, None))).T).max(1)
        low, high = self.interval(alpha, float(np.quantile(z, 1 - alpha))).T
        return pd.DataFrame({"coef": self.value, "lower": low, "upper": high}, index=list(self.names))

    def map(self, fn: Callable[[Tensor], Tensor], names: Sequence[str]) -> "Estimates":
        """Smooth functions of the estimates by the delta method; fn maps (q,) to (r,) tensors.

        >>> import torch
        >>> from deepreg.estimates import Estimates, Sampling
        >>> psi = torch.randn(1, 500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
        >>> sampling = Sampling(torch.ones(500), torch.zeros(500, 0).long(), "HC1")
        >>> Estimates(("a", "b"), psi, sampling).map(lambda v: v[:1] / v[1:], ["a / b"]).names
        ('a / b',)
        """
        layers, names = [], tuple(names)
        weight = self.sampling.weight / self.sampling.weight.sum()
        for layer in self.psi:
            mean = (layer * weight[:, None]).sum(0)
            shape = tuple(torch.as_tensor(fn(mean)).shape)
            if shape != (len(names),):
                raise OptionError(
                    f"fn maps the {len(self.names)} estimates to shape {shape}, but names= has {len(names)} names; "
                    "return a vector with one value for each name, for example v[:1] / v[1:2]."
                )
            jacobian = torch.autograd.functional.jacobian(fn, mean)
            layers.append(fn(mean) + (layer - mean) @ jacobian.T)
        return replace(self, names=names, psi=torch.stack(layers), plug_in=None, null=None, groupable=False)

    def linear(self, matrix: np.ndarray, null: np.ndarray, names: Sequence[str]) -> "Estimates":
        """matrix @ value, to be compared with `null`; (r, q) and (r,)."""
        turn = torch.as_tensor(np.atleast_2d(matrix), dtype=self.psi.dtype, device=self.psi.device)
        rows = len(np.atleast_1d(null))
        if turn.shape != (rows, len(self.names)) or len(names) != rows:
            raise OptionError(
                f"matrix has shape {tuple(turn.shape)}, null {rows} values and names {len(names)}; give a "
                f"column for each of the {len(self.names)} estimates, and to null and names one entry for each row."
            )
        return replace(self, names=tuple(names), psi=self.psi @ turn.T, plug_in=None, null=np.atleast_1d(null))

    def select(self, names: Sequence[str]) -> "Estimates":
        """The estimates of those names, in that order."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise OptionError(f"No estimate is called {unknown[0]!r}; there are {', '.join(self.names)}.")
        pick = [self.names.index(name) for name in names]
        plug = None if self.plug_in is None else self.plug_in[pick]
        return replace(self, names=tuple(names), psi=self.psi[..., pick], plug_in=plug, null=None)

    def wald(self, label: str = "") -> WaldTest:
        """The joint test that every value is its null, 0 unless given."""
        scale = self.std_error
        if not (scale > 0).all():
            none = [name for name, error in zip(self.names, scale, strict=True) if not error > 0]
            raise OptionError(f"{none[0]} has no variance to test with; leave it out of the hypothesis.")
        values, vectors = np.linalg.eigh(self.cov / np.outer(scale, scale))  # free of units
        if values[0] <= 1e-12 * values[-1]:
            raise OptionError(
                f"The {len(self.names)} restrictions are linearly dependent, or as many as there are clusters; "
                "drop the redundant ones."
            )
        rotated = vectors.T @ (self._distance() / scale)
        statistic = float((rotated**2 / values).sum())
        return WaldTest(statistic, len(self.names), float(stats.chi2.sf(statistic, len(self.names))), label)

    def by(self, groups: pd.Series | np.ndarray | Sequence[object]) -> pd.DataFrame:
        """Averages within groups of rows, known before the outcome (group average effects), with their errors.

        `groups` has one label for each row used, in order; a Series is matched by its index with the rows of the data.
        Returns one row per group and estimate. Raises OptionError for estimates that are no averages over all rows
        (ATT, functions of estimates, the variance of a fixed sample, constant coefficients).
        """
        labels = self._labels(groups, "by", "groups")
        parts = []
        for label in pd.Categorical(labels).remove_unused_categories().categories:
            rows = torch.tensor((labels == label).to_numpy(), device=self.psi.device)
            weight = self.sampling.weight[rows]
            cluster = self.sampling.cluster[rows]
            compact = torch.stack(
                [torch.unique(c, return_inverse=True)[1] for c in cluster.unbind(1)], 1
            ) if cluster.shape[1] else cluster  # fmt: skip
            sampling = replace(self.sampling, weight=weight, cluster=compact)
            part = replace(self, psi=self.psi[:, rows], sampling=sampling, plug_in=None).frame()
            parts.append(part.assign(group=label, n=int(rows.sum())).set_index("group", append=True))
        return pd.concat(parts).swaplevel().rename_axis(["group", "estimate"])

    def _labels(self, given: pd.Series | np.ndarray | Sequence[object], method: str, argument: str) -> pd.Series:
        """A value for each row used, none of them missing, where rows have estimates of their own."""
        if not self.groupable:
            raise OptionError(
                f"{', '.join(self.names)}: {method}() needs averages over all rows of a fit with features, such as "
                "estimate('ate') or estimate('coefficient') with sample='population'."
            )
        if isinstance(given, pd.Series) and self.rows is not None and not given.index.equals(self.rows):
            if not given.index.is_unique or not self.rows.isin(given.index).all():
                raise OptionError(
                    f"The index of {argument} does not name every row used once; give an array with one label for "
                    "each row used, in order, or a Series on the index of the data."
                )
            given = given.loc[self.rows]
        labels = pd.Series(given.array if isinstance(given, pd.Series) else given)
        if len(labels) != self.psi.shape[1]:
            raise OptionError(f"{argument} has {len(labels)} labels, but the fit used {self.psi.shape[1]} rows.")
        if labels.isna().any():
            raise OptionError(
                f"{argument} has {int(labels.isna().sum())} missing labels; fill them or give them a group."
            )
        return labels

    def project(self, columns: np.ndarray, names: Sequence[str]) -> "Estimates":
        """Coefficients of each estimate's influence values on columns (n, k) that are known before the outcome.

        A weighted least-squares regression of psi on the columns, with the covariance kind of the estimates and k
        parameters: the best approximation of the conditional effect by the columns (Semenova and Chernozhukov 2021).
        Named "estimate: column". Raises OptionError for estimates that are no averages over all rows, and where the
        columns do not fit the rows used, or are collinear.
        """
        matrix = np.asarray(columns, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape != (len(matrix), len(names)) or not np.isfinite(matrix).all():
            raise OptionError(
                f"columns has shape {matrix.shape} for {len(names)} names; give finite numbers, a row for each row "
                "used and a column for each name."
            )
        self._labels(np.arange(len(matrix)), "project", "columns")
        p = torch.as_tensor(matrix, device=self.psi.device)
        share = (self.sampling.weight / self.sampling.weight.sum())[:, None]
        size = (p**2 * share).sum(0).sqrt()
        gram = p.T @ (p * share) / size.outer(size)
        if not bool(gram.isfinite().all()) or float(torch.linalg.eigvalsh(gram)[0]) < 1e-10:
            raise OptionError(f"The columns {', '.join(names)} are collinear, or one of them is 0; leave some out.")
        turn = p @ (torch.linalg.inv(gram) / size.outer(size))  # (n, k)
        value = turn.T @ (self.psi * share)  # (R, k, q)
        rest = self.psi - p @ value
        psi = value.mT[:, None] + rest[..., None] * turn[:, None, :]  # (R, n, q, k)
        return replace(
            self, names=tuple(f"{one}: {name}" for one in self.names for name in names), psi=psi.flatten(2),
            sampling=replace(self.sampling, parameters=len(names)), plug_in=None, null=None, groupable=False,
        )  # fmt: skip

    def curve(
        self, values: pd.Series | np.ndarray | Sequence[object], *, alpha: float = 0.05, knots: int = 5,
        points: Sequence[float] | None = None, draws: int = 9999, rng: object = 0,
    ) -> pd.DataFrame:  # fmt: skip
        """Each estimate as a function of one variable known before the outcome, with intervals and a joint band.

        psi is regressed on a natural cubic spline with so many knots, or on indicators where the variable has levels
        (text, true and false, at most 10 distinct numbers); see `project`. `values` is as in `by`. The spline is shown
        at `points`, by default 50 from the 1st to the 99th percentile.

        Returns one row for each estimate and point: coef, std err, z, P>|z| and the interval of each point, then lower
        and upper, between which all points of the estimate lie together with probability 1 - alpha (as in `band`).
        They are intervals for the best approximation by the spline, not for what it smooths away.
        Raises OptionError as `by`, and DataError where a level has a single row or cluster.
        """
        labels = self._labels(values, "curve", "values")
        sides = smooth(labels, knots, points) if is_smooth(labels) else indicators(labels, self.sampling.cluster)
        names = [str(j) for j in range(sides.columns.shape[1])]
        _enough(self.sampling, len(names))
        parts = {}
        for name in self.names:
            one = self.select([name]).project(sides.columns, names)
            shown = one.linear(sides.at, np.zeros(len(sides.at)), [str(point) for point in sides.points])
            shown = replace(shown, null=None)
            band = shown.band(alpha, draws, rng)[["lower", "upper"]]
            parts[name] = pd.concat([shown.frame(alpha), band], axis=1).set_axis(sides.points)
        return pd.concat(parts, names=["estimate", "value"])


def _enough(sampling: Sampling, columns: int) -> None:
    """Clustered errors of k coefficients need more than k clusters."""
    if sampling.kind != "cluster":
        return
    least = min(int(code.max()) + 1 for code in sampling.cluster.unbind(1))
    if least <= columns:
        raise OptionError(
            f"The curve has {columns} coefficients, but there are {least} clusters, which is too few for their "
            "errors; use fewer knots=, or fewer levels."
        )
