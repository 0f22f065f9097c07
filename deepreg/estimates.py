"""Estimates: everything that follows from influence values by linear algebra."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from . import hypotheses, multiple
from .curve import Shared, enough, indicators, is_smooth, matched, project, smooth
from .equivalence import equivalence
from .errors import AGAIN, DeepregWarning, NotAvailable, OptionError
from .level import check_alpha
from .report.summary import Summary
from .report.table import Table
from .report.tidy import tidy
from .sampling import Moments, Sampling
from .wald import WaldTest, wald


@dataclass(frozen=True)
class Estimates:
    """q estimates with their influence values: values, covariance, intervals, tests and functions of them.

    psi is (R, n, q), one layer for each repeat of cross-fitting; the estimate of a repeat is its weighted mean. All
    but by(), project() and curve() needs no more than the `moments` of the repeats, and psi is None where no more is
    known. Over repeats the value is the median and the variance the median of var_r + (value_r - median)^2
    (Chernozhukov et al. 2018, definition 3.3), with the correlations of the mean of those matrices. Immutable.
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
    constant: bool = False  # whether theta is
    sample: str = "population"  # or "fixed", the variance given the features
    delta: bool = False  # whether they are functions of estimates, with errors by the delta method
    shared: Shared | None = None  # what constant columns of theta have in psi
    held: tuple[str, ...] = ()  # those that are functions of parameters at a bound alone, and so have no error

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
        """Standard errors; (q,). NaN where a two-way clustered variance is negative, and of parameters at a bound."""
        variance, held = np.diag(self.cov), np.isin(self.names, self.held)
        return np.sqrt(np.where((variance < 0) | held, np.nan, variance))

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
        alpha = check_alpha(alpha)
        width = (stats.norm.isf(alpha / 2) if critical is None else critical) * self.std_error
        return np.stack([self.value - width, self.value + width], 1)

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """The table: coef, std err, z, P>|z| and the interval, one row per name."""
        alpha = check_alpha(alpha)
        low, high = self.interval(alpha).T
        chance = {"P>|z|": self.pvalues} if self.adjusted is None else {f"P>|z| {self.adjusted}": self.chances()}
        columns = {
            "coef": self.value, "std err": self.std_error, "z": self.zvalues, **chance,
            f"[{alpha / 2:g}": low, f"{1 - alpha / 2:g}]": high,
        }  # fmt: skip
        return pd.DataFrame(columns, index=list(self.names))

    def tidy(self, style: str = "statsmodels", alpha: float = 0.05) -> pd.DataFrame:
        """The rows of frame() under the column names of "statsmodels", "broom" (R) or "pyfixest"."""
        return tidy(self.frame(alpha), style, check_alpha(alpha))

    def table(self, alpha: float = 0.05) -> Table:
        """The table with its formats; a note names null values other than 0."""
        null = [] if self.null is None else [(n, v) for n, v in zip(self.names, self.null, strict=True) if v]
        notes = ["z and P>|z| are of " + ", ".join(f"{name} = {v:g}" for name, v in null) + "."] if null else []
        if self.adjusted is not None:
            notes.append(f"P>|z| are adjusted for {len(self.names)} tests ({self.adjusted}); intervals are not.")
        return Table.from_frame(self.frame(alpha), title="Estimates", notes=tuple(notes))

    def summary(self, alpha: float = 0.05) -> Summary:
        """The table as a Summary, for as_text(), as_latex(), as_html() and the like."""
        return Summary("Estimates", (), (replace(self.table(alpha), title=""),))

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
        alpha = check_alpha(alpha)
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

    def chances(self) -> np.ndarray:
        """The p-values of the table: adjusted where the table says so, for the tests that have one; (q,)."""
        if self.adjusted is None:
            return self.pvalues
        found, there = self.pvalues.copy(), np.isfinite(self.pvalues)
        if there.any():
            found[there] = self.select([n for n, has in zip(self.names, there, strict=True) if has]).adjust(
                self.adjusted
            )
        return found

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
        return equivalence(self.value, self.std_error, self.interval(0.1), self.names, low, high)

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
            self, names=names, psi=psi, known=self.moments.turned(turn, value), plug_in=None, null=None,
            groupable=False, shared=None, adjusted=None, delta=True, held=(),
        )  # fmt: skip

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
        shared = None if self.shared is None else self.shared.linear(turn)
        loose = turn[:, torch.from_numpy(~np.isin(self.names, self.held))].any(1).tolist()
        held = tuple(name for name, free in zip(names, loose, strict=True) if self.held and not free)
        return replace(
            self, names=tuple(names), psi=psi, known=known, plug_in=None, null=np.atleast_1d(null), adjusted=None,
            shared=shared, held=held,
        )  # fmt: skip

    def select(self, names: Sequence[str]) -> "Estimates":
        """The estimates of those names, in that order."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise OptionError(f"No estimate is called {unknown[0]!r}; there are {', '.join(self.names)}.")
        pick = [self.names.index(name) for name in names]
        plug = None if self.plug_in is None else self.plug_in[pick]
        known = Moments(self.moments.value[:, pick], self.moments.covariance[:, pick][:, :, pick])
        psi = None if self.psi is None else self.psi[..., pick]
        shared = None if self.shared is None else self.shared.select(pick)
        return replace(
            self, names=tuple(names), psi=psi, known=known, plug_in=plug, null=None, adjusted=None, shared=shared
        )

    def wald(self, label: str = "") -> WaldTest:
        """The joint test that every value is its null, 0 unless given."""
        free = ~np.isin(self.names, self.held)
        return wald(self._distance(), self.cov * np.outer(free, free), self.names, label)

    def by(self, groups: pd.Series | np.ndarray | Sequence[object]) -> pd.DataFrame:
        """Averages within groups of rows, known before the outcome (group average effects), with their errors.

        `groups` has one label for each row used, in order; a Series is matched by its index with the rows of the data.
        Returns one row per group and estimate. Raises OptionError for estimates that are no averages over all rows
        (ATT, functions of estimates, the variance of a fixed sample, constant coefficients), NotAvailable for those of
        a result that was saved without its data.
        """
        labels = self._labels(groups, "by", "groups")
        assert self.psi is not None
        if self.shared is not None:  # all rows say something of the constants in each group
            return self._by(pd.Categorical(labels).remove_unused_categories())
        parts = []
        for label in pd.Categorical(labels).remove_unused_categories().categories:
            rows = torch.tensor((labels == label).to_numpy(), device=self.psi.device)
            weight = self.sampling.weight[rows]
            cluster = self.sampling.cluster[rows]
            compact = torch.stack(
                [torch.unique(c, return_inverse=True)[1] for c in cluster.unbind(1)], 1
            ) if cluster.shape[1] else cluster  # fmt: skip
            sampling = replace(self.sampling, weight=weight, cluster=compact, ways=())
            some = replace(self, psi=self.psi[:, rows], sampling=sampling, known=None, plug_in=None, adjusted=None)
            part = some.frame()
            parts.append(part.assign(group=label, n=int(rows.sum())).set_index("group", append=True))
        return pd.concat(parts).swaplevel().rename_axis(["group", "estimate"])

    def _by(self, labels: pd.Categorical) -> pd.DataFrame:
        groups = list(labels.categories)
        each = self.project(np.eye(len(groups))[labels.codes], [str(one) for one in groups]).frame()
        index = pd.MultiIndex.from_product([self.names, groups], names=["estimate", "group"])
        counted = each.set_axis(index).assign(n=np.tile(np.bincount(labels.codes), len(self.names)))
        return counted.swaplevel().reindex(groups, level="group")

    def _labels(self, given: pd.Series | np.ndarray | Sequence[object], method: str, argument: str) -> pd.Series:
        """A value for each row used, none of them missing, where rows have estimates of their own."""
        if not self.groupable:
            raise OptionError(
                f"{', '.join(self.names)}: {method}() needs averages over all rows of a fit with features, such as "
                "estimate('ate') or estimate('coefficient') with sample='population'."
            )
        if self.psi is None:
            raise NotAvailable(f"{method}() needs the rows of the fit, which were not saved. {AGAIN}")
        return matched(given, self.rows, self.psi.shape[1], argument)

    def _clusters(self) -> Tensor:
        """The clusters that the covariance uses; (n, 0|1|2)."""
        return self.sampling.cluster if self.sampling.kind == "cluster" else self.sampling.cluster[:, :0]

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
        assert self.psi is not None
        psi = project(self.psi, self.sampling.weight, matrix, names, self.shared)
        return replace(
            self, names=tuple(f"{one}: {name}" for one in self.names for name in names), psi=psi.flatten(2),
            sampling=replace(self.sampling, parameters=len(names)), known=None, plug_in=None, null=None, adjusted=None,
            groupable=False, shared=None,
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
        sides = smooth(labels, knots, points) if is_smooth(labels) else indicators(labels, self._clusters())
        names = [str(j) for j in range(sides.columns.shape[1])]
        enough(self.sampling, len(names))
        parts = {}
        for name in self.names:
            one = self.select([name]).project(sides.columns, names)
            shown = one.linear(sides.at, np.zeros(len(sides.at)), [str(point) for point in sides.points])
            shown = replace(shown, null=None)
            band = shown.band(alpha, draws, rng)[["lower", "upper"]]
            parts[name] = pd.concat([shown.frame(alpha), band], axis=1).set_axis(sides.points)
        return pd.concat(parts, names=["estimate", "value"])
