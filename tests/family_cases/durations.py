"""Exponential, weibull and gumbel."""

import numpy as np
from scipy import stats
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case


def parts(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Time, whether it ended, the index and theta as arrays."""
    d, t = u.d.numpy(), theta.numpy()
    return u.y[:, 0].numpy(), u.y[:, 1].numpy() > 0, (d * t[:, : d.shape[1]]).sum(1), t


def exponential(u: Units, theta: Tensor) -> np.ndarray:
    time, ended, eta, _ = parts(u, theta)
    law = stats.expon(scale=np.exp(eta))
    return -np.where(ended, law.logpdf(time), law.logsf(time))


def weibull(u: Units, theta: Tensor) -> np.ndarray:
    time, ended, eta, t = parts(u, theta)
    law = stats.weibull_min(np.exp(-t[:, -1]), scale=np.exp(eta))
    return -np.where(ended, law.logpdf(time), law.logsf(time))


def gumbel(u: Units, theta: Tensor) -> np.ndarray:
    y, ended, eta, t = parts(u, theta)
    law = stats.gumbel_r(eta, np.exp(t[:, -1]))
    return -np.where(ended, law.logpdf(y), law.logsf(y))


CODING = (
    ([[1.0, 1], [2, 2], [3, 1]], ["1 (it ended) or 0", "2 distinct values (1, 2)", "== 2)"]),
    ([[1.0, 0.5], [2, 1]], ["(0.5, 1)"]),
    ([[1.0, 0], [2, 0]], ["every event is 0", "coding"]),
    ([[3.0, 0], [3, 1]], ["times that vary", "3 in all 2 rows"]),
    ([3.0, 3, 3], ["times that vary"]),
)
POSITIVE = (
    ([[0.0, 1], [-1, 0], [3, 1]], ["times above 0", "2 that are not (smallest -1)", "subset='wage > 0'"]),
    ([0.0, 1, 2], ["1 that are not (smallest 0)"]),
)

CASES = {
    "exponential": Case(families.Exponential(), exponential, CODING + POSITIVE, (0.3, -0.5, 0.4)),
    "weibull": Case(families.Weibull(), weibull, CODING + POSITIVE, (0.3, -0.5, 0.4, -0.3)),
    "gumbel": Case(families.Gumbel(), gumbel, CODING, (0.3, -0.5, 0.4, 0.2)),
}
