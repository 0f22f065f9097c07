"""Testing: whether effects differ at all, with predicted effects that were cross-fitted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import DataError, OptionError
from ..report.summary import Summary
from ..report.table import Table
from .diagnostic import Summarised
from .inputs import Sample, codes, sample
from .linear import numbers, projection_of, slopes
from .ranking import Ranking
from .rates import TARGETS, values

NONE = (float("nan"), float("nan"))
GUARD = np.sqrt(2.0)  # see HeterogeneityTest

REMEDY = (
    "Effects predicted for the rows that they were learned from find heterogeneity where there is none: a 5% test "
    "rejects in 86% of samples without any. Predict each fold by functions that did not see it and give its label, or "
    "type folds='holdout' where they were learned from other data altogether."
)


class Found(NamedTuple):
    """One test."""

    statistic: float
    degrees: tuple[float, float]  # of an F test
    kind: str


@dataclass(frozen=True, repr=False)
class HeterogeneityTest(Summarised):
    """Tests of the hypothesis that all rows have the same effect, printed together.

    `pvalue` is that of the first row of `table`: a guarded test where effects are cross-fitted, the plain one where
    they were learned from other data. Cross-fitting lets each pair of rows appear twice, each in the training data of
    the other's fold. Without heterogeneity the sum of the folds' z statistics then has a variance of about 2 instead
    of 1, and unguarded tests at 5% reject in 10 to 20% of samples. Guarded ones divide z by sqrt(2), a heuristic
    without a theorem: in 1,000 simulated experiments each with ten features they reject in 5% with smooth functions
    and in 2 to 3% with networks, of 600 rows and of 2,000 (benchmarks/heterogeneity.py). The F test of the projection
    rejects in 4 to 5%.
    """

    table: pd.DataFrame  # statistic, df, df denom, P>|z| and P>z of each test, and how it is meant
    folds: int  # 1 where effects were learned from other data

    @property
    def statistic(self) -> float:
        """The z statistic of the first test."""
        return float(self.table["statistic"].iloc[0])

    @property
    def pvalue(self) -> float:
        """The two-sided p-value of the first test."""
        return float(self.table["P>|z|"].iloc[0])

    @property
    def pvalue_one_sided(self) -> float:
        """That of "priorities rank effects rightly", one-sided."""
        return float(self.table["P>z"].iloc[0])

    def frame(self) -> pd.DataFrame:
        """The tests: statistic, df and df denom (of F tests), P>|z|, P>z (one-sided) and what kind of test it is."""
        return self.table

    def summary(self) -> Summary:
        """Table and notes."""
        notes = ["The hypothesis is that all rows have the same effect."]
        if self.folds > 1:
            notes.append(
                "Guarded: z of cross-fitted effects over sqrt(2), a heuristic: of simulated data without "
                "heterogeneity it rejects 2 to 5% at a level of 5%. Unguarded z reject too often."
            )
        shown = Table.from_frame(self.table, formats={"df": ".0f", "df denom": ".1f"})
        return Summary("Test for heterogeneity", (), (shown,), tuple(notes))


def heterogeneity_test(
    scores: object, priority: object, folds: object = None, *, sequential: object = None, covariates: object = None,
    names: Sequence[str] | None = None, target: str = "AUTOC", weights: object = None, cluster: object = None,
) -> HeterogeneityTest:  # fmt: skip
    """Test whether effects differ between rows, by several tests beside each other.

    Parameters
    ----------
    scores : (n,)
        Orthogonal scores; see `rate`.
    priority : (n,)
        Effects predicted out of fold.
    folds : (n,) or "holdout"
        The fold that held each row out, as its effect was predicted; "holdout" where the effects were learned from
        other data. Without it the test is refused.
    sequential : (n,), optional
        Effects predicted by functions that saw earlier folds only, see `sequential_priority`; those of the first fold
        are left out. Their z statistics are independent, so the test needs no guard.
    covariates : DataFrame or (n, m), optional
        For the joint Wald test of the linear projection of the effect on them, which uses no predicted effects.
    names : sequence of str, optional
        Of the columns of an array.
    target : "AUTOC" or "QINI"
        See `rate`.
    weights, cluster
        As in `rate`.

    Returns
    -------
    HeterogeneityTest
        With pvalue, statistic and frame(), which has all tests.

    Raises
    ------
    OptionError
        Without folds, saying what to do.
    DataError
        For missing values, with the number of rows, and folds of a single row.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import heterogeneity_test
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> heterogeneity_test(x + rng.normal(size=500), x, np.arange(500) % 5).pvalue < 0.001
    True
    """
    if folds is None:
        raise OptionError(f"heterogeneity_test() needs folds=. {REMEDY}")
    if target not in TARGETS:
        raise OptionError(f"target={target!r}: allowed are {', '.join(map(repr, TARGETS))}.")
    rows = sample(
        scores, weights, cluster, priority=priority, folds=folds, sequential=sequential, covariates=covariates
    )  # fmt: skip
    if len(rows.names) > 1:
        raise DataError(f"scores has {len(rows.names)} columns; a test is of one effect, so give one of them.")
    found: dict[str, Found] = {}
    place = rows.column(priority, "priority")
    count = 1
    if isinstance(folds, str):
        if folds != "holdout":
            raise OptionError(f"folds={folds!r}: give a label for each row, or 'holdout'.")
        z = _ratio(rows, place, np.zeros(rows.n, dtype=np.int64), target)
        found[f"{target}"] = Found(z, NONE, "effects from other data")
        found |= _slope(rows, place, None, "effects from other data")
    else:
        fold = codes(folds, rows.n, "folds")[0]
        count = int(fold.max()) + 1
        z = _ratio(rows, place, fold, target)
        found[f"{target} of folds, guarded"] = Found(z / GUARD, NONE, "heuristic")
        found |= _slope(rows, place, fold, "heuristic")
        found[f"{target} of folds, unguarded"] = Found(z, NONE, "rejects too often")
        if sequential is not None:
            later = fold > 0
            some = rows.some(later)
            ahead = np.asarray(sequential, dtype=np.float64)
            if ahead.shape != (rows.n,):
                raise DataError(f"sequential has shape {ahead.shape}; give one number for each of {rows.n} rows.")
            z = _ratio(some, some.column(ahead[later], "sequential"), fold[later] - 1, target)
            found[f"{target} of later folds"] = Found(z, NONE, "sequential")
    if covariates is not None:
        columns, labels = numbers(covariates, rows.n, names)
        wald = projection_of(rows, columns, labels).test
        found["projection on covariates"] = Found(wald.statistic, (float(wald.df), wald.df_denom), "F")
    return HeterogeneityTest(_table(found), count)


def sequential_priority(
    fit: Callable[[np.ndarray, np.ndarray], object], folds: object
) -> np.ndarray:  # fmt: skip
    """Effects of each fold predicted from the folds before it, for `heterogeneity_test`.

    Parameters
    ----------
    fit : callable
        Called once for each fold but the first with the positions of the rows to learn from and of those to predict;
        returns the predicted effects of the latter.
    folds : (n,)
        Labels; their sorted order is the order of the folds.

    Returns
    -------
    (n,)
        NaN in the first fold.

    Raises
    ------
    DataError
        Where `fit` returns another number of effects than it was given rows.

    References
    ----------
    Luedtke and van der Laan (2016), Annals of Statistics 44(2), on estimates from growing samples.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import sequential_priority
    >>> sequential_priority(lambda known, new: np.full(len(new), len(known)), [0, 0, 1, 2]).tolist()
    [nan, nan, 2.0, 3.0]
    """
    fold = codes(folds, len(np.asarray(folds)), "folds")[0]
    found = np.full(len(fold), np.nan)
    for k in range(1, int(fold.max()) + 1):
        new = np.flatnonzero(fold == k)
        predicted = np.asarray(fit(np.flatnonzero(fold < k), new), dtype=np.float64)
        if predicted.shape != new.shape:
            raise DataError(f"fit returned an array of shape {predicted.shape} for {len(new)} rows; give one for each.")
        found[new] = predicted
    return found


def median_test(several: Sequence[HeterogeneityTest]) -> HeterogeneityTest:
    """The median of every statistic over repeats of cross-fitting, with its p-values."""
    first = several[0]
    statistic = np.median([one.table["statistic"].to_numpy() for one in several], 0)
    table = first.table
    degrees = table[["df", "df denom"]].itertuples(index=False, name=None)
    rows = zip(table.index, statistic, degrees, table[""], strict=True)
    return HeterogeneityTest(_table({name: Found(z, df, kind) for name, z, df, kind in rows}), first.folds)


def _ratio(rows: Sample, priority: np.ndarray, fold: np.ndarray, target: str) -> float:
    """The sum of the folds' RATE over their errors, over the root of its variance; 0 where nothing varies."""
    count = np.bincount(fold)
    if (count < 2).any():
        raise DataError("A fold has a single row, so its RATE has no error; use fewer folds.")
    ranking = Ranking.of(priority, rows.weight, fold)
    value, psi = values(ranking, ranking.sorted(rows.score[:, 0]), target)
    scale = ranking.total.sum() / ranking.total
    if rows.sampling.kind != "cluster":  # each fold has a mean of its own
        scale = scale * np.sqrt(count / (count - 1) * (rows.n - 1) / rows.n)
    apart = (ranking.unsorted(psi) * scale[fold])[:, None] * np.eye(len(count))[fold]  # (n, folds)
    found = rows.estimates(tuple(f"fold {k + 1}" for k in range(len(count))), value + apart)
    error = found.std_error
    use = error > 0
    if not use.any():
        return 0.0
    correlation = found.cov[np.ix_(use, use)] / np.outer(error[use], error[use])
    return float((found.value[use] / error[use]).sum() / np.sqrt(correlation.sum()))


def _slope(rows: Sample, effect: np.ndarray, fold: np.ndarray | None, how: str) -> dict[str, Found]:
    """The calibration slope's z, guarded where effects are cross-fitted; nothing where effects do not vary."""
    try:
        z = float(slopes(rows, effect, fold).zvalues[1])
    except DataError:
        return {}
    return {"slope": Found(z, NONE, how)} if fold is None else {"slope, guarded": Found(z / GUARD, NONE, how)}


def _table(found: dict[str, Found]) -> pd.DataFrame:
    statistic, both, kind = (list(column) for column in zip(*found.values(), strict=True))
    z, (df, denominator) = np.array(statistic), np.array(both).T
    joint = np.isfinite(df)
    tail = stats.f.sf(z, *np.where(joint, (df, denominator), 1.0))
    two = np.where(joint, tail, 2 * stats.norm.sf(np.abs(z)))
    one = np.where(joint, np.nan, stats.norm.sf(z))
    columns = {"statistic": z, "df": df, "df denom": denominator, "P>|z|": two, "P>z": one, "": kind}
    return pd.DataFrame(columns, index=list(found))
