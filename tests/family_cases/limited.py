"""Tobit and truncated."""

import numpy as np
from scipy import stats
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, parts


def tobit(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    law = stats.norm(eta, np.exp(t[:, -1]))
    return -np.where(y <= -0.5, law.logcdf(-0.5), np.where(y >= 1.5, law.logsf(1.5), law.logpdf(y)))


def truncated(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    sigma = np.exp(t[:, -1])
    return -stats.truncnorm.logpdf(y, (-0.5 - eta) / sigma, (1.5 - eta) / sigma, eta, sigma)


CASES = {
    "tobit": Case(
        families.Tobit(-0.5, 1.5), tobit, (
            ([-1.0, 0, 1, 3], ["from -0.5 to 1.5", "2 that are not (-1, 3)", "lower=..., upper=...", "clip"]),
            ([-0.5, -0.5, 1.5], ["that vary", "0 distinct values"]),
            ([-0.5, 0.3, 0.3], ["that vary", "1 distinct values there, in 2 rows"]),
        ), (0.3, -0.5, 0.4, 0.2),
    ),
    "truncated": Case(
        families.Truncated(-0.5, 1.5), truncated, (
            ([-0.5, 0, 1, 3], ["between -0.5 and 1.5", "2 that are not (-0.5, 3)", "family='tobit'"]),
            ([0.3, 0.3, 0.3], ["that vary", "1 distinct values"]),
        ), (0.3, -0.5, 0.4, -0.6),
    ),
}  # fmt: skip
