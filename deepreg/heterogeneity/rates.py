"""Rates: the area under the targeting curve, whether rows with a high priority gain more than others."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DataError, DeepregWarning, OptionError
from .diagnostic import Diagnostic
from .inputs import Sample, sample
from .ranking import Ranking

TARGETS = ("AUTOC", "QINI")


@dataclass(frozen=True, repr=False)
class Rate(Diagnostic):
    """Rank-weighted average treatment effects with errors that know that ranks were estimated."""

    @property
    def title(self) -> str:
        return "Rank-weighted average treatment effect"


def rate(
    scores: object, priority: object, *, target: str = "AUTOC", weights: object = None, cluster: object = None
) -> Rate:
    """The rank-weighted average treatment effect of a priority, with its standard error.

    With TOC(q) the average effect among the share q of highest priority less the average of all, AUTOC is the integral
    of TOC(q) over q, and QINI that of q TOC(q): 0 where the priority says nothing of the effect, positive where it
    ranks rows rightly. Tied rows enter with their mean score. Errors are the root mean square of the derivatives of
    the estimate in the weights of the rows (the infinitesimal jackknife), so ranks count as estimated.

    Parameters
    ----------
    scores : (n,) or (n, k)
        Orthogonal scores, each unbiased for the effect given the features: doubly robust scores, or the influence
        values of an average effect. A column for each effect, such as the arms of an experiment.
    priority : (n,) or (n, k), mapping or DataFrame
        Numbers known before the outcome, highest first, such as effects predicted out of fold; one for all effects or
        one for each. A mapping, or a DataFrame, of two priorities of one effect gives both and their difference.
    target : "AUTOC" or "QINI"
    weights : (n,), optional
        Positive sampling weights.
    cluster : (n,) or (n, 2), optional

    Returns
    -------
    Rate
        With estimate, std_error, pvalue, pvalue_one_sided, conf_int(), frame(), and `estimates`, which has the joint
        covariance. A constant priority has the estimate 0 with the error 0, and warns.

    Raises
    ------
    DataError
        For missing values, with the number of rows, and for inputs of different rows.
    OptionError
        For another target.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill and Wager (2025), Journal of the American Statistical Association 120(549).
    Estimates equal those of grf, up to the order of tied rows of different weights, which does not matter here.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import rate
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> found = rate(x + rng.normal(size=500), x)
    >>> print(f"{found.estimate['AUTOC']:.2f} ({found.std_error['AUTOC']:.2f})")
    0.90 (0.06)
    """
    if target not in TARGETS:
        raise OptionError(f"target={target!r}: allowed are {', '.join(map(repr, TARGETS))}.")
    beside = {"priority": priority}
    if isinstance(priority, Mapping):
        beside = {f"priority {name!r}": one for name, one in priority.items()}
        priority = pd.DataFrame({name: np.asarray(one) for name, one in priority.items()})
    rows = sample(scores, weights, cluster, **beside)
    if isinstance(priority, pd.DataFrame) and len(rows.names) == 1:
        return _compared(rows, priority, target)
    columns = rows.priorities(priority)
    psi = np.stack([_influence(rows, columns[:, j], target, j) for j in range(len(rows.names))], 1)
    names = tuple(rows.label(target, j) for j in range(len(rows.names)))
    return Rate(rows.estimates(names, psi))


def _compared(rows: Sample, priorities: pd.DataFrame, target: str) -> Rate:
    """The RATE of each of several priorities, and with two of them the first less the second."""
    values = np.stack([rows.column(priorities[name], f"priority {name!r}") for name in priorities], 1)
    psi = np.stack([_influence(rows, column, target) for column in values.T], 1)
    each = [f"{target}: {name}" for name in priorities]
    if len(each) != 2:
        return Rate(rows.estimates(tuple(each), psi))
    psi = np.column_stack([psi, psi[:, 0] - psi[:, 1]])
    first, second = priorities.columns
    return Rate(rows.estimates((*each, f"{target}: {first} - {second}"), psi))


def _influence(rows: Sample, priority: np.ndarray, target: str, j: int = 0) -> np.ndarray:
    """Influence values (n,) around the estimate; warns where the priority is constant."""
    ranking = Ranking.of(priority, rows.weight)
    if bool(ranking.constant[0]):
        warnings.warn(
            f"priority is the same for all {rows.n} rows, so it ranks nothing: {target} is 0, with an error of 0.",
            DeepregWarning,
            stacklevel=4,
        )
    value, psi = values(ranking, ranking.sorted(rows.score[:, j]), target)
    return ranking.unsorted(psi + value[0])


def values(ranking: Ranking, score: np.ndarray, target: str) -> tuple[np.ndarray, np.ndarray]:
    """RATE of every block (blocks,), and its influence values of mean 0 in each block (n,), sorted as the score.

    With w the weights, T their sum, W and C the sums of w and w times score down to a row, AUTOC is sum w C / W over T
    less the mean A, QINI is sum w (C - A W) over T^2. Influence values are T times the derivative in a row's weight, of
    tied rows the mean over their places.
    """
    w, total = ranking.weight, ranking.total[ranking.block]
    mean = ranking.among_ties(score)
    down, summed = ranking.down_to(w), ranking.down_to(w * mean)  # W, C
    average = (np.bincount(ranking.block, w * score) / ranking.total)[ranking.block]
    if target == "AUTOC":
        each = w * (summed / down - average) / total
        slope = ranking.from_here(w / down) - 1.0  # the derivative in w times score
        own = summed / down - ranking.from_here(w * summed / down**2)  # and that in w
    else:
        area = (np.bincount(ranking.block, w * down) / ranking.total**2)[ranking.block]
        each = w * (summed - average * down) / total**2
        slope = ranking.from_here(w) / total - area
        own = summed / total - average * (down + ranking.from_here(w)) / total
    psi = ranking.among_ties(own + slope * mean) + ranking.among_ties(slope) * (score - mean)
    varies = ~ranking.constant  # sums of what cancels leave rounding errors
    return np.bincount(ranking.block, each) * varies, ranking.centred(psi) * varies[ranking.block]


def check_priority(priority: object, treatment_residual: object) -> float:
    """The correlation of a priority with the treatment given the features; warns where it is not 0.

    A priority has to be known before the treatment. One that was predicted from it, such as an outcome predicted from
    features and treatment, sorts treated rows from others, and nothing that is made of it can be read.

    Parameters
    ----------
    priority : (n,)
    treatment_residual : (n,)
        The treatment less its mean given the features.

    Returns
    -------
    float
        The correlation. Where it is beyond 4 / sqrt(n), which happens by chance once in 16,000 times, it warns.

    Raises
    ------
    DataError
        For missing values or different numbers of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import check_priority
    >>> rng = np.random.default_rng(0)
    >>> bool(abs(check_priority(rng.normal(size=400), rng.integers(0, 2, 400) - 0.5)) < 0.2)
    True
    """
    rows = sample(priority, treatment_residual=treatment_residual)
    if rows.score.shape[1] != 1:
        raise DataError(f"priority has shape {rows.score.shape}; give one number for each row.")
    s, r = rows.score[:, 0], rows.column(treatment_residual, "treatment_residual")
    s, r = s - s.mean(), r - r.mean()
    size = np.sqrt((s**2).sum() * (r**2).sum())
    found = float((s * r).sum() / size) if size > 0 else 0.0
    if abs(found) > 4 / np.sqrt(rows.n):
        warnings.warn(
            f"The priority has a correlation of {found:.2f} with the treatment given the features, so it is no "
            "function of the features alone. Rank by effects predicted from features, without the treatment.",
            DeepregWarning,
            stacklevel=2,
        )
    return found
