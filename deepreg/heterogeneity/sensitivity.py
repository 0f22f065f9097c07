"""Sensitivity of an average to a confounder that nobody observed: bounds, robustness values and benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import optimize, stats
from torch import Tensor

from .. import charts
from ..errors import DataError, OptionError
from ..estimates import Estimates
from ..level import check_alpha
from ..report.table import Table
from .diagnostic import Diagnostic
from .inputs import array, sample

if TYPE_CHECKING:
    from ..charts import Axes

GRID = 31  # points of a contour plot along each axis
MOST = 0.999999  # of a share that is below 1
FARTHEST = 0.9  # that a contour plot goes on its own


@dataclass(frozen=True, repr=False)
class Sensitivity(Diagnostic):
    """Bounds on q averages under a confounder of given strength, and how strong it must be to overturn them.

    `estimates` are the lower and upper bounds. `parts` are what they are made of: the q averages, E[(y - g)^2], and
    E[alpha^2] of each average, jointly.
    """

    parts: Estimates = field(kw_only=True)  # (2q + 1,)
    cf_y: float = field(kw_only=True)
    cf_d: float = field(kw_only=True)
    rho: float = field(kw_only=True)
    null: float = field(kw_only=True)
    benchmarks: pd.DataFrame | None = field(kw_only=True, default=None)

    @property
    def title(self) -> str:
        return "Sensitivity to unobserved confounding"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the averages; (q,)."""
        return self.parts.names[: len(self.parts.names) // 2]

    @cached_property
    def _scaled(self) -> Estimates:
        """The averages and S = sqrt(E[(y - g)^2] E[alpha^2]) of each; (2q,)."""
        return scaled(self.parts)

    def bounds(self, cf_y: float | None = None, cf_d: float | None = None, rho: float | None = None) -> Estimates:
        """Lower and upper bounds at another strength; (2q,)."""
        given = (self.cf_y, self.cf_d, self.rho), (cf_y, cf_d, rho)
        return bounded(self._scaled, strength(*(old if new is None else new for old, new in zip(*given, strict=True))))

    def robustness(self, alpha: float = 0.05, null: float | None = None) -> pd.DataFrame:
        """RV: the cf_y = cf_d at which a bound reaches the null value; RVa: at which its confidence bound does.

        RVa is 0 where the average is not told from the null value to begin with. Confidence bounds are one-sided, of
        level 1 - alpha.
        """
        at, z = self.null if null is None else float(null), float(stats.norm.isf(check_alpha(alpha)))
        found = [[self._crossing(j, at, 0.0), self._crossing(j, at, z)] for j in range(len(self.targets))]
        return pd.DataFrame(found, index=list(self.targets), columns=["RV", "RVa"])

    def _crossing(self, j: int, null: float, z: float) -> float:
        q = len(self.targets)
        pair = self._scaled.select([self._scaled.names[j], self._scaled.names[q + j]])
        pair = replace(pair, psi=None, known=pair.moments)
        side = 1.0 if pair.value[0] > null else -1.0

        def left(r: float) -> float:
            """What is left of the distance to the null value."""
            one = pair.linear(np.array([[1.0, -side * strength(r, r, self.rho)]]), np.zeros(1), ["bound"])
            return float(side * (one.value[0] - null) - z * one.std_error[0])

        if left(0.0) <= 0:
            return 0.0
        return 1.0 if left(MOST) > 0 else float(optimize.brentq(left, 0.0, MOST, xtol=1e-12))

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """By target: coef, lower and upper bound, their one-sided confidence bounds of level 1 - alpha, RV and RVa."""
        q, z = len(self.targets), float(stats.norm.isf(check_alpha(alpha)))
        value, error = self.estimates.value, self.estimates.std_error
        columns = {
            "coef": self.parts.value[:q], "lower": value[:q], "upper": value[q:],
            "conf lower": value[:q] - z * error[:q], "conf upper": value[q:] + z * error[q:],
        }  # fmt: skip
        return pd.DataFrame(columns, index=list(self.targets)).join(self.robustness(alpha))

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        strong = {"RV": ".3f", "RVa": ".3f"}
        first = Table.from_frame(self.frame(alpha), formats=strong)
        if self.benchmarks is None:
            return (first,)
        shown = {"cf_y": ".3f", "cf_d": ".3f", "rho": ".2f"}
        return first, Table.from_frame(self.benchmarks, title="Without these features", formats=shown)

    def contour(
        self, target: str | None = None, *, confidence: bool = False, limit: float | None = None, alpha: float = 0.05
    ) -> pd.DataFrame:
        """The bound nearer to the null value over cf_y (index) and cf_d (columns), up to `limit` of each.

        With `confidence` its one-sided confidence bound. Raises OptionError for an unknown target.
        """
        j = self._position(target)
        value, q = float(self.parts.value[j]), len(self.targets)
        top = self._limit(j, alpha) if limit is None else float(limit)
        if not 0 < top < 1:
            raise OptionError(f"limit={limit!r}: give a share between 0 and 1.")
        grid = np.linspace(0, top, GRID)
        side = 1.0 if value > self.null else -1.0
        c = abs(self.rho) * np.sqrt(grid[:, None] * (grid / (1 - grid)))
        turn = np.zeros((c.size, 2 * q))
        turn[:, j], turn[:, q + j] = 1.0, -side * c.ravel()
        pair = replace(self._scaled, psi=None, known=self._scaled.moments)
        one = pair.linear(turn, np.zeros(c.size), [str(k) for k in range(c.size)])
        z = float(stats.norm.isf(check_alpha(alpha))) if confidence else 0.0
        found = one.value - side * z * one.std_error
        return pd.DataFrame(found.reshape(c.shape), pd.Index(grid, name="cf_y"), pd.Index(grid, name="cf_d"))

    def plot(
        self, target: str | None = None, ax: "Axes | None" = None, *, confidence: bool = False,
        limit: float | None = None, alpha: float = 0.05,
    ) -> "Axes":  # fmt: skip
        """Contours of `contour()`, the null value dashed, with the strength asked for and the benchmarks as points.

        A confounder as strong as a point left of and below the dashed line does not move the average to the null value.
        Points beyond `limit` are not drawn.
        """
        j = self._position(target)
        frame = self.contour(target, confidence=confidence, limit=limit, alpha=alpha)
        points = {"asked for": (self.cf_d, self.cf_y)}
        if self.benchmarks is not None:
            mine = self.benchmarks[self.benchmarks["target"] == self.targets[j]]
            points |= {f"like {name}": (float(one.cf_d), float(one.cf_y)) for name, one in mine.iterrows()}
        top = float(frame.index[-1])
        return charts.contours(
            frame, ax, mark=self.null, points={k: v for k, v in points.items() if max(v) <= top},
            xlabel="cf_d, of the representer", ylabel="cf_y, of the outcome",
        )  # fmt: skip

    def _position(self, target: str | None) -> int:
        if target is None and len(self.targets) == 1:
            return 0
        if target not in self.targets:
            raise OptionError(f"target={target!r}: give one of {', '.join(map(repr, self.targets))}.")
        return self.targets.index(target)

    def _limit(self, j: int, alpha: float) -> float:
        """Enough to show the null value, the strength asked for and the benchmarks."""
        shown = [1.5 * float(self.robustness(alpha)["RV"].iloc[j]), 1.3 * self.cf_y, 1.3 * self.cf_d, 0.05]
        if self.benchmarks is not None:
            mine = self.benchmarks[self.benchmarks["target"] == self.targets[j]]
            each = 1.2 * mine[["cf_y", "cf_d"]].max(axis=1).to_numpy()
            shown += each[each < FARTHEST].tolist()
        return float(min(max(shown), FARTHEST))


def sensitivity(
    scores: Any, residual: Any, representer: Any, *, moment: Any = None, cf_y: float = 0.03, cf_d: float = 0.03,
    rho: float = 1.0, null: float = 0.0, weights: Any = None, cluster: Any = None,
) -> Sensitivity:  # fmt: skip
    """Bounds on E[m(w, g)] if a confounder was left out of g(d, x) = E[y | d, x] and of the Riesz representer alpha.

    The representer is what E[m(w, f)] = E[alpha f] holds with, for every f; for the average effect of a binary
    treatment it is t / e - (1 - t) / (1 - e). The bias of leaving a confounder out is at most
    |rho| sqrt(cf_y cf_d / (1 - cf_d)) S with S^2 = E[(y - g)^2] E[alpha^2], and both factors of S are seen in the data.

    Parameters
    ----------
    scores : (n,) or (n, q) or DataFrame
        Orthogonal scores, whose means are the averages.
    residual : (n,)
        y - g(d, x), held out.
    representer : like scores
        alpha of each row.
    moment : like scores, optional
        m(w, alpha) of each row. With it E[alpha^2] is estimated by E[2 m(w, alpha) - alpha^2], free of the first order
        of the error of alpha.
    cf_y : number from 0, below 1
        Share of the residual variance of the outcome that the confounder explains.
    cf_d : number from 0, below 1
        Share of the variance of the long representer that the confounder makes, 1 - E[alpha^2] / E[long alpha^2]. For
        a partially linear model it is the share of the residual variance of the treatment.
    rho : number from -1 to 1
        Correlation of what is left out of g and of alpha; 1 is the worst case.
    null : number
        The value that robustness values are about.
    weights, cluster : (n,), optional

    Returns
    -------
    Sensitivity

    Raises
    ------
    OptionError, DataError
        For other shapes and missing values, shares outside of [0, 1), and an E[alpha^2] that is estimated below 0.

    References
    ----------
    Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis (2022), "Long story short: omitted variable bias in causal
    machine learning", NBER working paper 30302, theorems 2 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import sensitivity
    >>> rng = np.random.default_rng(0)
    >>> t, noise = rng.integers(0, 2, 1000), rng.normal(size=1000)
    >>> alpha = 4 * t - 2.0
    >>> found = sensitivity(1 + alpha * noise, noise, alpha, cf_y=0.1, cf_d=0.1)
    >>> found.targets, len(found.estimates.names)
    (('effect',), 2)
    """
    beside = {"residual": residual, "representer": representer, **({} if moment is None else {"moment": moment})}
    rows = sample(scores, weights, cluster, **beside)
    r, alpha = rows.column(residual, "residual"), array(representer, "representer").reshape(rows.n, -1)
    m = alpha**2 if moment is None else array(moment, "moment")
    m = m[:, None] if m.ndim == 1 else m
    if not (alpha.shape == m.shape == rows.score.shape):
        raise OptionError(
            f"scores have shape {rows.score.shape}, representer {alpha.shape} and moment {m.shape}; give the same."
        )
    square = alpha**2 if moment is None else 2 * m - alpha**2
    psi = np.concatenate([rows.score, r[:, None] ** 2, square], 1)
    return of_parts(rows.estimates(part_names(rows.names), psi), cf_y=cf_y, cf_d=cf_d, rho=rho, null=null)


def part_names(targets: Sequence[str]) -> tuple[str, ...]:
    """Names of the parts of a Sensitivity."""
    return (*targets, "E[(y - g)^2]", *(f"E[alpha^2] of {name}" for name in targets))


def of_parts(
    parts: Estimates, *, cf_y: float, cf_d: float, rho: float, null: float, benchmarks: pd.DataFrame | None = None
) -> Sensitivity:
    """The sensitivity of the first averages of `parts`, which are named by part_names()."""
    targets = parts.names[: len(parts.names) // 2]
    for name, value in zip(parts.names[len(targets) :], parts.value[len(targets) :], strict=True):
        if not value > 0:
            raise DataError(
                f"{name} is estimated as {value:.4g}, which no square has as its mean: the representer does not fit "
                "the data, for example because the law of the treatment is badly learned."
            )
    c = strength(cf_y, cf_d, rho)
    if isinstance(null, bool) or not np.isfinite(null):
        raise OptionError(f"null={null!r}: give a finite number.")
    notes = [
        f"lower, upper: a confounder that explains {cf_y:.3g} of the residual variance of the outcome (cf_y) and "
        f"{cf_d:.3g} of that of the representer (cf_d), correlation |rho| = {abs(rho):.3g}; conf: one-sided.",
        f"RV: cf_y = cf_d that moves the estimate to {null:g}; RVa: that moves its confidence bound there.",
    ]
    if benchmarks is not None:
        notes.append("Benchmarks: the strength of a confounder that adds as much again as the features named.")
    return Sensitivity(
        bounded(scaled(parts), c), tuple(notes), parts=parts, cf_y=float(cf_y), cf_d=float(cf_d), rho=float(rho),
        null=float(null), benchmarks=benchmarks,
    )  # fmt: skip


def strength(cf_y: float, cf_d: float, rho: float) -> float:
    """|rho| sqrt(cf_y cf_d / (1 - cf_d)), the bias as a share of S. Raises OptionError outside of the bounds."""
    for name, value in (("cf_y", cf_y), ("cf_d", cf_d)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 <= value < 1:
            raise OptionError(f"{name}={value!r}: give a share from 0 to below 1, for example 0.03.")
    if isinstance(rho, bool) or not isinstance(rho, int | float | np.number) or not -1 <= rho <= 1:
        raise OptionError(f"rho={rho!r}: give a correlation from -1 to 1; 1 is the worst case.")
    return float(abs(rho) * np.sqrt(cf_y * cf_d / (1 - cf_d)))


def scaled(parts: Estimates) -> Estimates:
    """The averages and their S; (2q + 1,) -> (2q,)."""
    q = len(parts.names) // 2

    def both(v: Tensor) -> Tensor:
        return torch.cat([v[:q], (v[q] * v[q + 1 :]).sqrt()])

    return parts.map(both, (*parts.names[:q], *(f"S of {name}" for name in parts.names[:q])))


def bounded(pair: Estimates, c: float) -> Estimates:
    """Lower and upper bounds where the bias is c of S; (2q,) -> (2q,)."""
    q = len(pair.names) // 2
    eye = np.eye(q)
    names = [f"{name}, {side}" for side in ("lower", "upper") for name in pair.names[:q]]
    found = pair.linear(np.block([[eye, -c * eye], [eye, c * eye]]), np.zeros(2 * q), names)
    return replace(found, null=None)


def benchmark(long: Sensitivity, short: Sensitivity, name: str) -> pd.DataFrame:
    """What leaving features out did, as the strength of a confounder; a row for each target, called `name`.

    cf_y = (s_short - s_long) / s_long of E[(y - g)^2], cf_d = (a_long - a_short) / a_short of E[alpha^2], both cut to
    [0, 1]; rho is the change of the average over the largest that these gains allow.
    """
    q = len(long.targets)
    residual, square = long.parts.value[q], long.parts.value[q + 1 :]
    more, less = short.parts.value[q], short.parts.value[q + 1 :]
    change = short.parts.value[:q] - long.parts.value[:q]
    room = np.sqrt(np.clip(more - residual, 0, None) * np.clip(square - less, 0, None))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.sign(change) * np.where(room > 0, np.clip(np.abs(change) / room, 0, 1), 1.0)
    columns = {
        "target": list(long.targets), "cf_y": np.full(q, np.clip(more / residual - 1, 0, 1)),
        "cf_d": np.clip(square / less - 1, 0, 1), "rho": rho, "change": change,
    }  # fmt: skip
    return pd.DataFrame(columns, index=[name] * q)
