"""Groups: average effects by the priority's quantiles, and how the rows of the outer groups differ."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ..errors import DataError, OptionError
from ..estimates import Estimates
from ..report.table import Table
from ..wald import WaldTest, hotelling
from .diagnostic import Diagnostic
from .inputs import Sample, codes, sample, stacked
from .ranking import Ranking
from .regression import freedom, regress


@dataclass(frozen=True, repr=False)
class Groups(Diagnostic):
    """Average effects of groups of rows, lowest priority first, with their joint covariance."""

    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (K,) weighted means of the priority
    share: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (K,) of the weight
    average: float = float("nan")  # of all scores
    seed: object = 0
    freedom: float = float("inf")  # degrees of freedom of the covariance of all differences; see `regression.freedom`

    @property
    def title(self) -> str:
        return "Average effects by group of the priority"

    def over(self, several: "Sequence[Groups]", estimates: Estimates) -> "Groups":
        predicted, share = (np.mean([getattr(one, of) for one in several], 0) for of in ("predicted", "share"))
        average, freedom = (float(np.median([getattr(one, of) for one in several])) for of in ("average", "freedom"))
        return replace(
            self, estimates=estimates, predicted=predicted, share=share, average=average, freedom=freedom
        )  # fmt: skip

    @property
    def difference(self) -> Estimates:
        """The top group less the bottom one, with its test."""
        first, last = self.estimates.names[0], self.estimates.names[-1]
        turn = np.zeros((1, len(self.estimates.names)))
        turn[0, 0], turn[0, -1] = -1.0, 1.0
        return self.estimates.linear(turn, np.zeros(1), [f"{last} - {first}"])

    @property
    def equality(self) -> WaldTest:
        """The joint F test that all groups have the same effect, as in `projection`."""
        k = len(self.estimates.names)
        found = self.estimates.linear(_apart(k), np.zeros(k - 1), [f"group {j + 2}" for j in range(k - 1)])
        return hotelling(found.wald("all groups equal"), self.freedom)

    def band(self, alpha: float = 0.05, draws: int = 9999, rng: object = None) -> pd.DataFrame:
        """Intervals that hold the effects of all groups together with probability 1 - alpha; lower and upper."""
        return self.estimates.band(alpha, draws, self.seed if rng is None else rng)[["lower", "upper"]]

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """predicted, share, coef, std err, z, P>|z|, the interval, and lower and upper of all groups together."""
        left = pd.DataFrame({"predicted": self.predicted, "share": self.share}, index=list(self.estimates.names))
        return pd.concat([left, self.estimates.frame(alpha), self.band(alpha)], axis=1)

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        table = self.frame(alpha).drop(columns=["z", "P>|z|"])
        return (
            Table.from_frame(table, formats={"share": ".2f", "lower": "interval", "upper": "interval"}),
            Table.from_frame(self.difference.frame(alpha), notes=(f"{self.equality}",)),
        )

    def r_squared(self) -> float:
        """1 - sum share |effect - predicted| / sum share |effect - average|: 1 where predictions are right."""
        return calibration_score(self.estimates.value, self.predicted, self.share, self.average)


def gates(
    scores: object, priority: object, groups: int | Sequence[object] = 5, *, folds: object = None,
    weights: object = None, cluster: object = None, vcov: str | None = None, seed: object = 0,
) -> Groups:  # fmt: skip
    """Group average treatment effects: the mean score of each quantile group of the priority.

    Estimates need not increase: what is not monotone says that the priority ranks wrongly, or that groups are small.

    Parameters
    ----------
    scores : (n,)
        Orthogonal scores; see `rate`.
    priority : (n,)
        Numbers known before the outcome, such as effects predicted out of fold.
    groups : int or (n,)
        The number of groups of equal weight; or a label for each row, whose sorted levels are the groups. Tied rows
        are in one group, so that there can be fewer than asked for.
    folds : (n,), optional
        The fold that held a row out. Groups are then formed by ranks within the fold, since priorities of different
        folds come from different functions.
    weights, cluster
        As in `rate`.
    vcov : str, optional
        "HC3" (the default), "HC0" to "HC2"; with clusters "cluster" (the default) or "CR3".
    seed : optional
        Of the draws of the joint intervals.

    Returns
    -------
    Groups
        With frame(), band(), difference (top less bottom), equality (the joint test) and r_squared(). Errors take the
        groups as given, as DoubleML, GenericML and EconML do: they are those of the effects of these groups of rows.

    Raises
    ------
    DataError
        For missing values, with the number of rows; a priority without two groups; or a group of a single row.

    References
    ----------
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93(4), definition of GATES.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import gates
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> found = gates(x + rng.normal(size=500), x, 2)
    >>> found.estimate.round(2).to_dict()
    {'1 of 2': -0.94, '2 of 2': 0.75}
    """
    rows = sample(scores, weights, cluster, priority=priority, groups=groups, folds=folds)
    return gates_of(rows, rows.column(priority, "priority"), groups, folds, vcov, seed)


def gates_of(
    rows: Sample, priority: np.ndarray, groups: int | Sequence[object], folds: object, vcov: str | None, seed: object
) -> Groups:
    """gates() of checked inputs."""
    if len(rows.names) > 1:
        raise DataError(f"scores has {len(rows.names)} columns; groups are of one effect, so give one of them.")
    member, names = grouped(rows, priority, groups, folds)
    weight = rows.weight / rows.weight.sum()
    share = np.bincount(member, weight)
    columns = np.eye(len(names))[member]
    found, average = regress(rows, columns, names, vcov), float(weight @ rows.score[:, 0])
    known = freedom(rows, columns, _apart(len(names)))
    return Groups(found, (), np.bincount(member, weight * priority) / share, share, average, seed, known)


def grouped(
    rows: Sample, priority: np.ndarray, groups: int | Sequence[object], folds: object = None
) -> tuple[np.ndarray, list[str]]:
    """The group of each row (n,) and the names of the groups, lowest priority first."""
    if np.ndim(groups):  # type: ignore[arg-type]
        member, labels = codes(groups, rows.n, "groups")
        names = [str(label) for label in labels]
    else:
        if isinstance(groups, bool) or not isinstance(groups, int | np.integer) or groups < 2:
            raise OptionError(f"groups={groups!r}: give a whole number of 2 or more, or a label for each row.")
        block = None if folds is None else codes(folds, rows.n, "folds")[0]
        place = np.floor(groups * (1 - middle(Ranking.of(priority, rows.weight, block)))).astype(np.int64)
        used, member = np.unique(place.clip(0, int(groups) - 1), return_inverse=True)
        names = [f"{j + 1} of {groups}" for j in used]
    if len(names) < 2:
        raise DataError(
            "priority is the same for all rows, or nearly so: there is a single group and nothing to compare."
        )
    size = np.bincount(member)
    if (size < 2).any():
        raise DataError(
            f"Group {names[int(size.argmin())]!r} has a single row, so its mean has no error; use fewer groups."
        )
    return member, names


def middle(ranking: Ranking) -> np.ndarray:
    """The middle of each row's place among the shares from the top, tied rows sharing one; (n,) as given, in (0, 1)."""
    total = ranking.total[ranking.block]
    half = (ranking.down_to(ranking.weight) - ranking.weight / 2) / total
    return ranking.unsorted(ranking.among_ties(half))


def calibration_score(effect: np.ndarray, predicted: np.ndarray, share: np.ndarray, average: float) -> float:
    """1 - sum share |effect - predicted| / sum share |effect - average| of groups, each (K,).

    It is no test, and can be negative. Dwivedi et al. (2020), International Statistical Review 88(S1).
    """
    apart = float(share @ np.abs(effect - average))
    return 1 - float(share @ np.abs(effect - predicted)) / apart if apart > 0 else float("nan")


@dataclass(frozen=True, repr=False)
class Clan(Diagnostic):
    """Means of covariates in the top and the bottom group; `estimates` has the differences, top less bottom."""

    means: Estimates | None = None  # of both groups, "covariate: bottom" and "covariate: top"
    spread: np.ndarray = field(default_factory=lambda: np.ones(1))  # (m,) standard deviations of the covariates

    def over(self, several: "Sequence[Clan]", estimates: Estimates) -> "Clan":
        return replace(
            self, estimates=estimates, means=stacked([one.means for one in several if one.means is not None])
        )

    @property
    def title(self) -> str:
        return "Who is in the top and the bottom group"

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """bottom, top, and the difference: coef, std err, z, P>|z| and the interval, one row for each covariate."""
        assert self.means is not None
        both = self.means.value.reshape(-1, 2)
        left = pd.DataFrame({"bottom": both[:, 0], "top": both[:, 1]}, index=list(self.estimates.names))
        return pd.concat([left, self.estimates.frame(alpha)], axis=1)

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        return (Table.from_frame(self.frame(alpha).drop(columns="z")),)


def clan(
    covariates: object, priority: object, groups: int | Sequence[object] = 5, *, names: Sequence[str] | None = None,
    folds: object = None, weights: object = None, cluster: object = None,
) -> Clan:  # fmt: skip
    """Classification analysis: how covariates differ between the rows of highest and of lowest priority.

    Errors are those of Welch's comparison of means, or clustered; the groups are taken as given.

    Parameters
    ----------
    covariates : DataFrame or (n, m)
        Numbers; of levels give indicators, for example pd.get_dummies(column).
    priority, groups, folds, weights, cluster
        As in `gates`.
    names : sequence of str, optional
        Of the columns of an array.

    Returns
    -------
    Clan
        With frame() and the joint covariance of the differences in `estimates`.

    Raises
    ------
    DataError
        For missing values, with the number of rows, and priorities without two groups.

    References
    ----------
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93(4), definition of CLAN.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import clan
    >>> age = np.arange(100.0)
    >>> clan(age, age, 2, names=["age"]).estimate.round(6).to_dict()
    {'age': 50.0}
    """
    rows = sample(covariates, weights, cluster, priority=priority, groups=groups, folds=folds)
    if names is not None:
        if isinstance(names, str) or len(names) != len(rows.names):
            raise OptionError(f"names={names!r}: give one for each of the {len(rows.names)} covariates.")
        rows = Sample(rows.score, tuple(names), rows.sampling)
    member, labels = grouped(rows, rows.column(priority, "priority"), groups, folds)
    outer = (member == 0) | (member == len(labels) - 1)
    some = rows.some(outer)
    top = (member[outer] > 0).astype(np.int64)
    means = regress(some, np.eye(2)[top], ["bottom", "top"], "cluster" if rows.sampling.kind == "cluster" else "HC2")
    each = len(rows.names)
    turn = np.kron(np.eye(each), [[-1.0, 1.0]])
    if each == 1:
        means = Estimates(tuple(f"{rows.names[0]}: {end}" for end in means.names), means.psi, means.sampling,
                          known=means.known, groupable=False)  # fmt: skip
    away = rows.score - rows.weight @ rows.score / rows.weight.sum()
    spread = np.sqrt(rows.weight @ away**2 / rows.weight.sum())
    return Clan(means.linear(turn, np.zeros(each), list(rows.names)), means=means, spread=spread)


def _apart(k: int) -> np.ndarray:
    """The differences of k groups from the first; (k - 1, k)."""
    return np.c_[-np.ones(k - 1), np.eye(k - 1)]
