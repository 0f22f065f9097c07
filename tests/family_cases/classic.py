"""Linear, gaussian, logit, poisson and multinomial."""

import numpy as np
from scipy import stats
from scipy.special import log_softmax
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, K, outer, parts


def linear(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, _ = parts(u, theta)
    return -stats.norm.logpdf(y, eta)


def of_linear(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    y, d, eta, _ = parts(u, theta)
    return -(y - eta)[:, None] * d, outer(d, np.ones_like(y))


def gaussian(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    return -stats.norm.logpdf(y, eta, np.exp(t[:, -1]))


def of_gaussian(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    y, d, eta, t = parts(u, theta)
    precision, e = np.exp(-2 * t[:, -1]), y - eta
    score = np.c_[-(e * precision)[:, None] * d, 1 - e**2 * precision]
    hessian = np.zeros((len(y), K + 1, K + 1))
    hessian[:, :K, :K] = outer(d, precision)
    hessian[:, :K, K] = hessian[:, K, :K] = 2 * (e * precision)[:, None] * d
    hessian[:, K, K] = 2 * e**2 * precision
    return score, hessian


def logit(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, _ = parts(u, theta)
    return -stats.bernoulli.logpmf(y.astype(int), 1 / (1 + np.exp(-eta)))


def of_logit(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    y, d, eta, _ = parts(u, theta)
    p = 1 / (1 + np.exp(-eta))
    return (p - y)[:, None] * d, outer(d, p * (1 - p))


def brier(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, _ = parts(u, theta)
    return (y - 1 / (1 + np.exp(-eta))) ** 2


def of_brier(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    y, d, eta, _ = parts(u, theta)
    p = 1 / (1 + np.exp(-eta))
    slope = p * (1 - p)
    return (2 * (p - y) * slope)[:, None] * d, outer(d, 2 * slope**2 + 2 * (p - y) * slope * (1 - 2 * p))


def poisson(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, _ = parts(u, theta)
    return -stats.poisson.logpmf(y.astype(int), np.exp(eta))


def of_poisson(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    y, d, eta, _ = parts(u, theta)
    return (np.exp(eta) - y)[:, None] * d, outer(d, np.exp(eta))


def multinomial(u: Units, theta: Tensor) -> np.ndarray:
    y, d, _, t = parts(u, theta)
    eta = np.stack([np.zeros(len(y)), (d * t[:, :K]).sum(1), (d * t[:, K:]).sum(1)], 1)
    return -log_softmax(eta, 1)[np.arange(len(y)), y.astype(int)]


# what no family can have drawn, and words that the error says besides the name of the column
CONSTANT = (
    ([2.5, 2.5, 2.5], ["an outcome that varies", "is 2.5 in all 3 rows", "subset"]),
    ([2.0**62, 2.0**62 + 1024, 2.0**62], ["to 12 digits", "subtract a constant"]),
    ([1e200, 2e200, 0], ["as large as 2.0e+200", "other units"]),
    ([1e-200, 2e-200, 0], ["a range of 2.0e-200", "other units"]),
)

CASES = {
    "linear": Case(
        families.Linear(), linear, CONSTANT, (0.3, -0.5, 0.4), of_linear, lambda scale: scale**2, likelihood=False
    ),
    "gaussian": Case(families.Gaussian(), gaussian, CONSTANT, (0.3, -0.5, 0.4, 0.2), of_gaussian),
    "logit": Case(
        families.Logit(), logit, (
            ([0.0, 1, 2], ["3 distinct values (0, 1, 2)", "I((wage > 1) * 1)", "family='linear'"]),
            ([0.0, 0.5, 1], ["0 and 1"]),
            ([-1.0, 1, 1], ["0 and 1"]),
            ([1.0, 1, 1], ["both 0 and 1", "every row is 1"]),
            ([0.0, 0, 0], ["every row is 0"]),
        ), (0.3, -0.5, 0.4), of_logit,
    ),
    "probability": Case(
        families.Probability(), brier, (([0.0, 1, 2], ["0 and 1"]), ([1.0, 1, 1], ["both 0 and 1"])),
        (0.3, -0.5, 0.4), of_brier, likelihood=False,
    ),
    "poisson": Case(
        families.Poisson(), poisson, (
            ([1.0, -1, -3], ["2 negative values (smallest -3)", "subset='wage >= 0'", "family='linear'"]),
            ([0.0, 0, 0], ["every row is 0", "subset"]),
        ), (0.3, -0.5, 0.4), of_poisson, lambda scale: scale,
    ),
    "multinomial": Case(
        families.Multinomial(("bus", "car", "walk")), multinomial, (
            ([1.0, 1, 1], ["2 to 50 classes", "1 distinct"]),
            (list(range(60)), ["60 distinct values", "Merge classes"]),
        ), (0.3, -0.5, 0.4, -0.2, 0.3, 0.5),
    ),
}  # fmt: skip
