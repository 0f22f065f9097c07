"""Losses of predicted effects that nobody observes: by scores or residuals, with paired differences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..errors import OptionError
from ..estimates import Estimates
from ..report.table import Table
from .diagnostic import Diagnostic
from .inputs import Sample, array, sample

CONSTANT = "constant"


@dataclass(frozen=True, repr=False)
class Losses(Diagnostic):
    """Losses of k predictions of an effect and of the best constant, with their joint covariance.

    `estimates` are the k losses and, last, that of the constant. The level of a loss says little, because most of it is
    noise that no prediction removes and all share; it cancels in differences, which are therefore paired.
    """

    constant: float = field(kw_only=True)  # the effect that the constant predicts
    kind: str = field(kw_only=True)  # "DR" or "R"

    @property
    def title(self) -> str:
        return f"{self.kind} loss of predicted effects"

    @cached_property
    def gain(self) -> Estimates:
        """Loss of the constant less that of each prediction, paired; above 0 where the prediction is better. (k,)"""
        k = len(self.estimates.names) - 1
        matrix = np.c_[-np.eye(k), np.ones(k)]
        return replace(self.estimates.linear(matrix, np.zeros(k), self.estimates.names[:k]), null=None)

    @cached_property
    def score(self) -> Estimates:
        """1 - loss / loss of the constant, a share as R squared is; errors by the delta method. (k,)"""
        return self.estimates.map(lambda v: 1 - v[:-1] / v[-1:], self.estimates.names[:-1])

    def difference(self, worse: str, better: str) -> Estimates:
        """Loss of one prediction less that of another, paired. Raises OptionError for an unknown name."""
        known = self.estimates.names
        for name in (worse, better):
            if name not in known:
                raise OptionError(f"There is no loss of {name!r}; there are {', '.join(known)}.")
        turn = np.array([float(name == worse) - float(name == better) for name in known])
        return replace(self.estimates.linear(turn, np.zeros(1), [f"{worse} - {better}"]), null=None)

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Columns loss, std err, gain (over the constant), gain se, P>|z| (of no gain) and score."""
        gain = self.gain
        paired = {"gain": gain.value, "gain se": gain.std_error, "P>|z|": gain.pvalues, "score": self.score.value}
        columns = {"loss": self.estimates.value, "std err": self.estimates.std_error}
        columns |= {name: np.append(values, np.nan) for name, values in paired.items()}
        return pd.DataFrame(columns, index=list(self.estimates.names))

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        return (Table.from_frame(self.frame(alpha), formats={"P>|z|": "pvalue"}),)


def dr_loss(scores: Any, predictions: Any, *, weights: Any = None, cluster: Any = None) -> Losses:
    """Mean (score - prediction)^2: the squared error of predicted effects, plus a constant that all share.

    The scores are orthogonal, that is E[score | x] is the effect (for a binary treatment those of Robins, Rotnitzky and
    Zhao 1994), so that the expected loss is E[(effect - prediction)^2] + E[Var(score | x)].

    Parameters
    ----------
    scores : (n,)
        A score of the effect for each row, with nuisances from other rows.
    predictions : (n,), (n, k), DataFrame or mapping of names to (n,)
        Predicted effects, of whatever made them, from functions that never saw the row's outcome. Predictions in
        sample have losses that are too low, and nothing here can tell.
    weights, cluster : (n,), optional
        Sampling weights, and labels of clusters by which errors are clustered.

    Returns
    -------
    Losses

    Raises
    ------
    OptionError, DataError
        Naming the argument, for another shape and for missing values.

    References
    ----------
    Kennedy (2023), Electronic Journal of Statistics 17(2); Schuler et al. (2018), arXiv:1804.05146.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import dr_loss
    >>> rng = np.random.default_rng(0)
    >>> effect = rng.normal(size=500)
    >>> found = dr_loss(effect + 3 * rng.normal(size=500), {"truth": effect, "noise": rng.normal(size=500)})
    >>> bool(found.difference("noise", "truth").std_error[0] < found.estimates.std_error[0])
    True
    """
    rules = named(predictions)
    rows = _single(sample(scores, weights, cluster, **rules), "scores")
    gamma, w = rows.score[:, 0], rows.weight
    return _losses("DR", rows, np.ones_like(gamma), rules, float((w * gamma).sum() / w.sum()))


def r_loss(outcome: Any, treatment: Any, predictions: Any, *, weights: Any = None, cluster: Any = None) -> Losses:
    """Mean (outcome residual - treatment residual x prediction)^2, the loss of the R-learner.

    Its expectation is E[Var(t | x) (effect - prediction)^2] plus a constant: errors count where the treatment varies.
    The score is the R-score, and the constant the slope of a regression of the one residual on the other through 0.

    Parameters
    ----------
    outcome, treatment : (n,)
        y - E[y | x] and t - E[t | x], the expectations from other rows.
    predictions, weights, cluster
        As in `dr_loss`.

    Returns
    -------
    Losses

    Raises
    ------
    OptionError, DataError
        Naming the argument, for another shape and for missing values, and where the treatment residual is 0 throughout.

    References
    ----------
    Nie and Wager (2021), Biometrika 108(2), equation (4); Schuler et al. (2018), arXiv:1804.05146.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import r_loss
    >>> rng = np.random.default_rng(0)
    >>> effect, t = rng.normal(size=500), rng.normal(size=500)
    >>> found = r_loss(effect * t + rng.normal(size=500), t, effect)
    >>> bool(found.score.value[0] > 0.3)
    True
    """
    rules = named(predictions)
    rows = _single(sample(outcome, weights, cluster, treatment=treatment, **rules), "outcome")
    y, t, w = rows.score[:, 0], rows.column(treatment, "treatment"), rows.weight
    if not (t != 0).any():
        raise OptionError("treatment is 0 in every row; give the residuals t - E[t | x].")
    return _losses("R", rows, t, rules, float((w * y * t).sum() / (w * t**2).sum()))


def named(given: Any) -> dict[str, Any]:
    """Predictions by name, of a mapping, a DataFrame, or an array (n,) or (n, k)."""
    if isinstance(given, pd.DataFrame):
        return {str(column): given[column] for column in given}
    if isinstance(given, Mapping):
        return {str(name): one for name, one in given.items()}
    if isinstance(given, pd.Series):
        return {"prediction" if given.name is None else str(given.name): given}
    columns = array(given, "predictions")
    if columns.ndim == 1:
        return {"prediction": columns}
    return {f"prediction {j + 1}": one for j, one in enumerate(columns.T)}


def _single(rows: Sample, name: str) -> Sample:
    if len(rows.names) > 1:
        raise OptionError(f"{name} has {len(rows.names)} columns; give those of one effect.")
    return rows


def _losses(kind: str, rows: Sample, t: np.ndarray, rules: dict[str, Any], constant: float) -> Losses:
    """The constant minimises its loss, whose influence values are therefore those of a constant that is known."""
    if not rules or CONSTANT in rules:
        what = f"hold one called {CONSTANT!r}, as the best constant is; call it something else" if rules else "are none"
        raise OptionError(f"The predictions {what}.")
    each = [rows.column(one, name) for name, one in rules.items()]
    psi = (rows.score - t[:, None] * np.stack([*each, np.full(rows.n, constant)], 1)) ** 2
    notes = (f"Gain is over the constant effect {constant:.4g}, paired; score is gain / loss of the constant.",)
    return Losses(rows.estimates((*rules, CONSTANT), psi), notes, constant=constant, kind=kind)
