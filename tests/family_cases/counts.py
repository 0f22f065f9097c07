"""Negative binomial, zero-inflated and hurdle families."""

import numpy as np
from scipy import stats
from scipy.special import expit
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, K, parts


def negbin(eta: np.ndarray, log_alpha: np.ndarray):  # type: ignore[no-untyped-def]
    size = np.exp(-log_alpha)
    return stats.nbinom(size, size / (size + np.exp(eta)))


def laws(u: Units, theta: Tensor, blocks: int = 1):  # type: ignore[no-untyped-def]
    """The counts, the second index, and scipy's law of the count."""
    y, d, eta, t = parts(u, theta)
    second = (d * t[:, K : 2 * K]).sum(1)
    law = stats.poisson(np.exp(eta)) if t.shape[1] == blocks * K else negbin(eta, t[:, -1])
    return y.astype(int), second, law


def of_negbin(u: Units, theta: Tensor) -> np.ndarray:
    y, _, law = laws(u, theta)
    return -law.logpmf(y)


def inflated(u: Units, theta: Tensor) -> np.ndarray:
    y, zero, law = laws(u, theta, 2)
    return -np.log(expit(zero) * (y == 0) + expit(-zero) * law.pmf(y))


def hurdle(u: Units, theta: Tensor) -> np.ndarray:
    y, positive, law = laws(u, theta, 2)
    return -np.log(np.where(y == 0, expit(-positive), expit(positive) * law.pmf(y) / law.sf(0)))


COUNTS = (
    ([1.0, -1, -3], ["2 negative values (smallest -3)", "subset='wage >= 0'", "family='linear'"]),
    ([0.0, 1.5, 2], ["1 values that are not whole", "1.5", "family='poisson'"]),
    ([0.0, 0, 0], ["every row is 0", "subset"]),
)


def zeros(plain: str):  # type: ignore[no-untyped-def]
    return (
        *COUNTS,
        ([1.0, 2, 3], ["needs zeros", "smallest of its 3 values is 1", f"family={plain!r}"]),
        ([0.0, 1, 1], ["counts above 1", "family='logit'"]),
    )


COUNT, SECOND = (2.5, -0.3, 0.2), (-0.4, 0.4, -0.3)
CASES = {
    "negbin": Case(families.NegativeBinomial(), of_negbin, COUNTS, (0.5, -0.5, 0.4, -0.5)),
    "zip": Case(families.ZeroInflatedPoisson(), inflated, zeros("poisson"), (*COUNT, *SECOND)),
    "zinb": Case(families.ZeroInflatedNegativeBinomial(), inflated, zeros("negbin"), (*COUNT, *SECOND, -1.0)),
    "hurdle_poisson": Case(families.HurdlePoisson(), hurdle, zeros("poisson"), (*COUNT, 0.8, 0.4, -0.3)),
    "hurdle_negbin": Case(families.HurdleNegativeBinomial(), hurdle, zeros("negbin"), (*COUNT, 0.8, 0.4, -0.3, -1.0)),
}
