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

from . import hypotheses, multiple
from .errors import AGAIN, DeepregWarning, NotAvailable, OptionError
from .report.summary import Summary
from .report.table import Table
from .sampling import Moments, Sampling

TIDY = {
    "statsmodels": ("coef", "std err", "z", "P>|z|"),
    "broom": ("estimate", "std.error", "statistic", "p.value"),
    "pyfixest": ("Estimate", "Std. Error", "t value", "Pr(>|t|)"),
}


def _check(alpha: object) -> None:
    if not (isinstance(alpha, Real) and 0 < float(alpha) < 1):
        raise OptionError(f"alpha={alpha!r}: give a number between 0 and 1, for example 0.05 for 95% intervals.")


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
    adjusted: str | None = None  # how the p-values of its table are adjusted for there being several, see adjust()
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
        chance = {"P>|z|": self.pvalues} if self.adjusted is None else {
            f"P>|z| {self.adjusted}": self.adjust(self.adjusted)
        }  # fmt: skip
        columns = {
            "coef": self.value, "std err": self.std_error, "z": self.zvalues, **chance,
            f"[{alpha / 2:g}": low, f"{1 - alpha / 2:g}]": high,
        }  # fmt: skip
        return pd.DataFrame(columns, index=list(self.names))

    def tidy(self, style: str = "statsmodels", alpha: float = 0.05) -> pd.DataFrame:
        """One row for each estimate, under the column names of "statsmodels", "broom" (R) or "pyfixest"."""
        if style not in TIDY:
            raise OptionError(f"style={style!r} is not known; allowed are {', '.join(map(repr, TIDY))}.")
        plain = replace(self, adjusted=None).frame(alpha)
        if style == "statsmodels":
            return plain
        if style == "broom":
            ends = ["conf.low", "conf.high"]
            return plain.set_axis([*TIDY[style], *ends], axis=1).rename_axis("term").reset_index()
        ends = [f"{100 * p:g}%" for p in (alpha / 2, 1 - alpha / 2)]
        return plain.set_axis([*TIDY[style], *ends], axis=1).rename_axis("Coefficient")

    def table(self, alpha: float = 0.05) -> Table:
        """The table with its formats; a note names null values other than 0."""
        null = [] if self.null is None else [(n, v) for n, v in zip(self.names, self.null, strict=True) if v]
        notes = ["z and P>|z| are of " + ", ".join(f"{name} = {v:g}" for name, v in null) + "."] if null else []
        if self.adjusted is not None:
            notes.append(f"P>|z| are adjusted for {len(self.names)} tests ({self.adjusted}); intervals are not.")
        return Table.from_frame(self.frame(alpha), title="Estimates", notes=tuple(notes))

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
        z = multiple.null_draws(self._correlation(), draws, rng).max(1)
        low, high = self.interval(alpha, float(np.quantile(z, 1 - alpha))).T
        return pd.DataFrame({"coef": self.value, "lower": low, "upper": high}, index=list(self.names))

    def _correlation(self) -> np.ndarray:
        scale = np.where(self.std_error > 0, self.std_error, 1.0)
        return self.cov / np.outer(scale, scale)

    def adjust(self, method: str = "holm", draws: int = 9999, rng: object = 0) -> np.ndarray:
        """Two-sided p-values adjusted for testing all q nulls; (q,).

        "romano_wolf" is the step-down of Romano and Wolf (2005) with `draws` Gaussian multiplier draws, which uses the
        correlation of the estimates; "holm", "bonferroni", "sidak", "hommel", "fdr_bh" and "fdr_by" are statsmodels'.
        Raises OptionError for another method, or where an estimate has no standard error.
        """
        if not np.isfinite(self.pvalues).all():
            none = self.names[int(np.flatnonzero(~np.isfinite(self.pvalues))[0])]
            raise OptionError(f"{none} has no p-value to adjust; select() the other estimates.")
        return multiple.adjust(self.zvalues, self._correlation(), method, draws, rng)

    def pairwise(self, adjust: str | None = "holm") -> "Estimates":
        """Differences of all pairs of estimates, the later minus the earlier, their p-values adjusted (see adjust).

        Raises OptionError where there is one estimate only.
        """
        pairs = [(i, j) for i in range(len(self.names)) for j in range(i + 1, len(self.names))]
        if not pairs:
            raise OptionError(f"pairwise() compares estimates with each other, but {self.names[0]} is the only one.")
        multiple.known(adjust, "adjust", none=True)
        eye = np.eye(len(self.names))
        matrix = np.stack([eye[j] - eye[i] for i, j in pairs])
        names = [f"{self.names[j]} - {self.names[i]}" for i, j in pairs]
        return replace(self.linear(matrix, np.zeros(len(pairs)), names), adjusted=adjust)

    def equivalence(self, low: float, high: float) -> Table:
        """Two one-sided tests that each estimate is outside [low, high]; a small p-value says that it is inside.

        Schuirmann (1987). The p-value is the larger of the two; at 5% it rejects where the 90% interval is within the
        bounds. Raises OptionError unless low < high, both finite.
        """
        for value in (low, high):
            if not isinstance(value, int | float | np.number) or not math.isfinite(value):
                raise OptionError(f"equivalence({low!r}, {high!r}): give two finite numbers, low < high.")
        if not low < high:
            raise OptionError(f"equivalence({low!r}, {high!r}): the first has to be the lower one.")
        below = stats.norm.sf((self.value - low) / self.std_error)
        above = stats.norm.cdf((self.value - high) / self.std_error)
        inner = self.interval(0.1)
        frame = pd.DataFrame(
            {
                "coef": self.value, "std err": self.std_error, "[0.05": inner[:, 0], "0.95]": inner[:, 1],
                "P low": below, "P high": above, "P outside": np.maximum(below, above),
            },
            index=list(self.names),
        )  # fmt: skip
        formats = dict.fromkeys(frame.columns[4:], "pvalue")
        note = f"p-values of: {low:g} or less; {high:g} or more; either. The last is the test of equivalence."
        title = f"Equivalence to a value in ({low:g}, {high:g})"
        return Table.from_frame(frame, title=title, formats=formats, notes=(note,))

    def t_test(self, constraint: object) -> "Estimates":
        """Each hypothesis on its own, e.g. t_test("a = 2, b/a = 1"): value, error, z and p; by the delta method.

        See `deepreg.hypotheses.read` for what can be written. Raises OptionError where it cannot be read, or where a
        function has no finite value and derivative at the estimates.
        """
        read = hypotheses.read(constraint, self.names)
        if read.matrix is not None:
            return self.linear(read.matrix, read.value, read.labels)
        found = replace(self.map(read.fn, read.labels), null=read.value)
        if not bool(found.moments.value.isfinite().all()):
            raise OptionError(f"The hypothesis {constraint!r} has no finite value at the estimates.")
        return found

    def wald_test(self, constraint: object) -> WaldTest:
        """All hypotheses together, a chi-squared test; see t_test."""
        tested = self.t_test(constraint)
        assert tested.null is not None
        return tested.wald("; ".join(f"{name} = {v:g}" for name, v in zip(tested.names, tested.null, strict=True)))

    def map(self, fn: Callable[[Tensor], Tensor], names: Sequence[str]) -> "Estimates":
        """Smooth functions of the estimates by the delta method; fn maps (q,) to (r,) tensors.

        >>> import torch
        >>> from deepreg.estimates import Estimates
        >>> from deepreg.sampling import Sampling
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
