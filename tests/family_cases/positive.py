"""Binary outcomes, and positive and bounded ones."""

import numpy as np
import statsmodels.api as sm
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, Density, parts

LINKS = sm.families.links


def bernoulli(link: sm.families.links.Link) -> Density:
    def density(u: Units, theta: Tensor) -> np.ndarray:
        y, _, eta, _ = parts(u, theta)
        return -sm.families.Binomial(link).loglike_obs(y, link.inverse(eta))

    return density


ZERO_ONE = (
    ([0.0, 1, 2], ["3 distinct values (0, 1, 2)", "I((wage > 1) * 1)", "family='linear'"]),
    ([0.0, 0.5, 1], ["0 and 1"]),
    ([1.0, 1, 1], ["both 0 and 1", "every row is 1"]),
)

CASES = {
    "probit": Case(families.Probit(), bernoulli(LINKS.Probit()), ZERO_ONE, (0.3, -0.5, 0.4)),
    "cloglog": Case(families.CLogLog(), bernoulli(LINKS.CLogLog()), ZERO_ONE, (-0.3, -0.5, 0.4)),
}
