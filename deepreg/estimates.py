"""Estimates: everything that follows from influence values by linear algebra."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from .errors import AGAIN, DeepregWarning, NotAvailable, OptionError
from .report.summary import Summary
from .report.table import Table

_ROUNDING = 64 * np.finfo(np.float64).eps  # of the terms that cancel, what is left of a variance without digits


class Moments(NamedTuple):
    """The estimates of every repeat and their covariance in it: all that functions of estimates and tests need."""

    value: Tensor  # (R, q)
    covariance: Tensor  # (R, q, q)

    def turned(self, turn: Tensor, value: Tensor) -> "Moments":
        """`value` (R, r), of which turn (R or 1, r, q) is the derivative at the estimates."""
        covariance = turn @ self.covariance @ turn.mT
        size = (turn.abs() @ self.covariance.diagonal(dim1=1, dim2=2).abs().sqrt()[..., None])[..., 0]
        below = covariance.abs() <= _ROUNDING * size[:, :, None] * size[:, None, :]
        return Moments(value, torch.where(below, 0.0, covariance))


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

    def moments(self, psi: Tensor) -> Moments:
        """The weighted mean of psi and its covariance, on the CPU; (R, n, q) -> (R, q) and (R, q, q)."""
        weight = self.weight / self.weight.sum()
        return Moments((psi * weight[:, None]).sum(1).cpu(), self.covariance(psi).cpu())

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

    psi is (R, n, q), one layer for each repeat of cross-fitting; the estimate of a repeat is its weighted mean. All
    but by() needs no more than the `moments` of the repeats, and psi is None where no more is known. Over
    repeats the value is the median and the variance the median of var_r + (value_r - median)^2 (Chernozhukov et al.
    2018, definition 3.3), with the correlations of the mean of those matrices. Immutable.
    """

    names: tuple[str, ...]
    psi: Tensor | None  # (R, n, q)
    sampling: Sampling
    plug_in: np.ndarray | None = None  # (q,) the same averages without the correction
    null: np.ndarray | None = None  # (q,) hypothesised values, 0 unless given
    rows: pd.Index | None = None  # (n,) the caller's labels of the rows
    groupable: bool = True  # whether a mean of psi over some rows is the value for those rows
    known: Moments | None = None  # those of psi unless given

    @cached_property
    def moments(self) -> Moments:
        """Values (R, q) and covariances (R, q, q) of the repeats."""
        if self.known is not None:
            return self.known
        assert self.psi is not None, "estimates are made of psi or of moments"
        return self.sampling.moments(self.psi)

    @cached_property
    def value(self) -> np.ndarray:
        """Estimates; (q,)."""
        return self.moments.value.quantile(0.5, dim=0).numpy()

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
        spread = self.moments.value - torch.from_numpy(self.value)
        each = self.moments.covariance + spread[:, :, None] * spread[:, None, :]
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
        names, values, turns = tuple(names), [], []
        for mean in self.moments.value:
            shape = tuple(torch.as_tensor(fn(mean)).shape)
            if shape != (len(names),):
                raise OptionError(
                    f"fn maps the {len(self.names)} estimates to shape {shape}, but names= has {len(names)} names; "
                    "return a vector with one value for each name, for example v[:1] / v[1:2]."
                )
            values.append(fn(mean))
            turns.append(torch.autograd.functional.jacobian(fn, mean))
        turn, value = torch.stack(turns), torch.stack(values)
        psi = self.psi
        if psi is not None:
            gap = psi - self.moments.value.to(psi)[:, None, :]
            psi = value.to(psi)[:, None, :] + gap @ turn.to(psi).mT
        return replace(
            self, names=names, psi=psi, known=self.moments.turned(turn, value), plug_in=None, null=None, groupable=False
        )

    def linear(self, matrix: np.ndarray, null: np.ndarray, names: Sequence[str]) -> "Estimates":
        """matrix @ value, to be compared with `null`; (r, q) and (r,)."""
        turn = torch.as_tensor(np.atleast_2d(matrix), dtype=self.moments.value.dtype)
        rows = len(np.atleast_1d(null))
        if turn.shape != (rows, len(self.names)) or len(names) != rows:
            raise OptionError(
                f"matrix has shape {tuple(turn.shape)}, null {rows} values and names {len(names)}; give a "
                f"column for each of the {len(self.names)} estimates, and to null and names one entry for each row."
            )
        known = self.moments.turned(turn[None], self.moments.value @ turn.T)
        psi = None if self.psi is None else self.psi @ turn.to(self.psi).T
        return replace(self, names=tuple(names), psi=psi, known=known, plug_in=None, null=np.atleast_1d(null))

    def select(self, names: Sequence[str]) -> "Estimates":
        """The estimates of those names, in that order."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise OptionError(f"No estimate is called {unknown[0]!r}; there are {', '.join(self.names)}.")
        pick = [self.names.index(name) for name in names]
        plug = None if self.plug_in is None else self.plug_in[pick]
        known = Moments(self.moments.value[:, pick], self.moments.covariance[:, pick][:, :, pick])
        psi = None if self.psi is None else self.psi[..., pick]
        return replace(self, names=tuple(names), psi=psi, known=known, plug_in=plug, null=None)

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
        (ATT, functions of estimates, the variance of a fixed sample, constant coefficients), NotAvailable for those of
        a result that was saved without its data.
        """
        if not self.groupable:
            raise OptionError(
                f"{', '.join(self.names)}: by() needs averages over all rows of a fit with features, such as "
                "estimate('ate') or estimate('coefficient') with sample='population'."
            )
        if self.psi is None:
            raise NotAvailable(f"by() needs the rows of the fit, which were not saved. {AGAIN}")
        if isinstance(groups, pd.Series) and self.rows is not None and not groups.index.equals(self.rows):
            if not groups.index.is_unique or not self.rows.isin(groups.index).all():
                raise OptionError(
                    "The index of groups does not name every row used once; give an array with one label for each row "
                    "used, in order, or a Series on the index of the data."
                )
            groups = groups.loc[self.rows]
        labels = pd.Series(np.asarray(groups))
        if len(labels) != self.psi.shape[1]:
            raise OptionError(f"groups has {len(labels)} labels, but the fit used {self.psi.shape[1]} rows.")
        if labels.isna().any():
            raise OptionError(f"groups has {int(labels.isna().sum())} missing labels; fill them or give them a group.")
        parts = []
        for label in pd.Categorical(labels).categories:
            rows = torch.tensor((labels == label).to_numpy(), device=self.psi.device)
            weight = self.sampling.weight[rows]
            cluster = self.sampling.cluster[rows]
            compact = torch.stack(
                [torch.unique(c, return_inverse=True)[1] for c in cluster.unbind(1)], 1
            ) if cluster.shape[1] else cluster  # fmt: skip
            sampling = replace(self.sampling, weight=weight, cluster=compact)
            part = replace(self, psi=self.psi[:, rows], sampling=sampling, known=None, plug_in=None).frame()
            parts.append(part.assign(group=label, n=int(rows.sum())).set_index("group", append=True))
        return pd.concat(parts).swaplevel().rename_axis(["group", "estimate"])
