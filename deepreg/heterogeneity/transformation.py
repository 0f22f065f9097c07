"""Transformation: effects as the outcome of a weighted regression, and the error of predicted effects in it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import DataError
from .diagnostic import Diagnostic
from .inputs import Sample, sample


def transformed_outcome(outcome_residual: object, treatment_residual: object) -> tuple[np.ndarray, np.ndarray]:
    """y* = (y - E[y|x]) / (t - E[t|x]) and its weights (t - E[t|x])^2: least squares on them estimate the effect.

    Parameters
    ----------
    outcome_residual, treatment_residual : (n,)
        Out of fold, where the means are learned by flexible functions.

    Returns
    -------
    tuple of (n,)
        Raises DataError for missing values, and where a treatment is what was predicted, so that y* is infinite;
        `weighted_mse` needs no division.

    References
    ----------
    Robinson (1988), Econometrica 56(4); Nie and Wager (2021), Biometrika 108(2).

    Examples
    --------
    >>> from deepreg.heterogeneity import transformed_outcome
    >>> transformed_outcome([1.0, -3.0], [0.5, -0.5])[0].tolist()
    [2.0, 6.0]
    """
    _, y, t = _residuals(outcome_residual, treatment_residual)
    if (t == 0).any():
        raise DataError(f"treatment_residual is 0 in {int((t == 0).sum())} of {len(t)} rows, where y* is infinite.")
    return y / t, t**2


@dataclass(frozen=True, repr=False)
class TransformedLoss(Diagnostic):
    """Weighted mean squared errors of predicted effects."""

    @property
    def title(self) -> str:
        return "Weighted mean squared error of predicted effects"


def weighted_mse(
    effect: object, outcome_residual: object, treatment_residual: object, *, weights: object = None,
    cluster: object = None,
) -> TransformedLoss:  # fmt: skip
    """The mean squared distance of predicted effects from y*, with weights (t - E[t|x])^2, and its error.

    It is sum (y~ - t~ S)^2 / sum t~^2 of the residuals y~ and t~: the loss of an R-learner in the units of a squared
    effect. Most of it is noise that all predictions share: read the difference to a constant effect, whose error is
    much smaller than those of both.

    Parameters
    ----------
    effect : (n,), DataFrame or (n, m)
        Predicted effects, out of fold; a column for each prediction that is compared.
    outcome_residual, treatment_residual : (n,)
        y - E[y|x] and t - E[t|x].
    weights, cluster
        As in `rate`.

    Returns
    -------
    TransformedLoss
        One estimate for each prediction, with their joint covariance, so that `estimates.pairwise()` compares them.

    Raises
    ------
    DataError
        For missing values, with the number of rows, and residuals of the treatment that are all 0.

    Examples
    --------
    >>> from deepreg.heterogeneity import weighted_mse
    >>> weighted_mse([1.0, 1.0], [1.0, -3.0], [0.5, -0.5]).estimate.tolist()
    [13.0]
    """
    rows, y, t = _residuals(outcome_residual, treatment_residual, weights, cluster, effect=effect)
    predicted = sample(effect)
    if predicted.n != rows.n:
        raise DataError(f"effect has {predicted.n} rows, but there are {rows.n} residuals; give one for each.")
    names = predicted.names if isinstance(effect, pd.DataFrame) or len(predicted.names) > 1 else ("weighted MSE",)
    loss = (y[:, None] - t[:, None] * predicted.score) ** 2
    share = rows.weight / rows.weight.sum()
    size = float(share @ t**2)
    if size == 0:
        raise DataError("treatment_residual is 0 in all rows, so no effect can be told from another.")
    value = share @ loss / size
    return TransformedLoss(rows.estimates(tuple(names), value + (loss - value * t[:, None] ** 2) / size))


def _residuals(
    outcome: object, treatment: object, weights: object = None, cluster: object = None, **beside: object
) -> tuple[Sample, np.ndarray, np.ndarray]:
    rows = sample(outcome, weights, cluster, treatment_residual=treatment, **beside)
    if len(rows.names) > 1:
        raise DataError(f"outcome_residual has {len(rows.names)} columns; give one number for each row.")
    return rows, rows.score[:, 0], rows.column(treatment, "treatment_residual")
