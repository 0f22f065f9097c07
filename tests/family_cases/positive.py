"""Binary outcomes, shares and positive ones."""

import numpy as np
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit
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


def beta(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    precision = np.exp(t[:, -1])
    return -stats.beta.logpdf(y, expit(eta) * precision, expit(-eta) * precision)


def gamma(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    shape = np.exp(t[:, -1])
    return -stats.gamma.logpdf(y, shape, scale=np.exp(eta) / shape)


def inverse_gaussian(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    shape = np.exp(t[:, -1])
    return -stats.invgauss.logpdf(y, np.exp(eta) / shape, scale=shape)


def lognormal(u: Units, theta: Tensor) -> np.ndarray:
    y, _, eta, t = parts(u, theta)
    return -stats.lognorm.logpdf(y, np.exp(t[:, -1]), scale=np.exp(eta))


def tweedie(u: Units, theta: Tensor) -> np.ndarray:
    """Half the deviance, as far as it depends on theta."""
    y, _, eta, _ = parts(u, theta)
    return sm.families.Tweedie(var_power=1.5)._resid_dev(y, np.exp(eta)) / 2


ZERO_ONE = (
    ([0.0, 1, 2], ["3 distinct values (0, 1, 2)", "I((wage > 1) * 1)", "family='linear'"]),
    ([0.0, 0.5, 1], ["0 and 1"]),
    ([1.0, 1, 1], ["both 0 and 1", "every row is 1"]),
)
SHARE = (
    ([0.0, 40, 90], ["2 values outside (from 0 to 90)", "I(wage / 100)"]),
    ([-0.1, 0.4, 1.2], ["2 values outside (from -0.1 to 1.2)", "family='linear'"]),
    ([0.0, 0, 0], ["not all 0 or all 1", "every row is 0"]),
    ([1.0, 1, 1], ["every row is 1"]),
)
AMOUNT = (([0.0, 1e120, 1], ["as large as 1.0e+120", "other units"]), ([0.0, 1e-120], ["as large as 1.0e-120"]))
POSITIVE = (
    ([1.0, 0, 3], ["above 0", "in 1 rows (smallest 0)", "subset='wage > 0'", "'poisson', which allows zeros"]),
    ([1.0, -2, 0], ["in 2 rows (smallest -2)", "family='linear'"]),
    ([2.5, 2.5, 2.5], ["an outcome that varies", "is 2.5 in all 3 rows", "subset"]),
    ([1.0, 1e120, 1], ["as large as 1.0e+120", "other units"]),
)

CASES = {
    "probit": Case(families.Probit(), bernoulli(LINKS.Probit()), ZERO_ONE, (0.3, -0.5, 0.4)),
    "cloglog": Case(families.CLogLog(), bernoulli(LINKS.CLogLog()), ZERO_ONE, (-0.3, -0.5, 0.4)),
    "fractional_logit": Case(
        families.FractionalLogit(), bernoulli(LINKS.Logit()), SHARE, (0.3, -0.5, 0.4), likelihood=False
    ),
    "fractional_probit": Case(
        families.FractionalProbit(), bernoulli(LINKS.Probit()), SHARE, (0.3, -0.5, 0.4), likelihood=False
    ),
    "beta": Case(
        families.Beta(), beta, (
            *SHARE,
            ([0.0, 0.5, 1], ["strictly between 0 and 1", "0 or 1 in 2 rows", "family='fractional_logit'"]),
            ([0.5, 0.5, 0.5], ["an outcome that varies", "is 0.5 in all 3 rows"]),
        ), (0.3, -0.5, 0.4, 1.5),
    ),
    "gamma": Case(families.Gamma(), gamma, POSITIVE, (0.3, -0.5, 0.4, 0.7)),
    "inverse_gaussian": Case(families.InverseGaussian(), inverse_gaussian, POSITIVE, (0.3, -0.5, 0.4, 0.7)),
    "lognormal": Case(families.LogNormal(), lognormal, POSITIVE, (0.3, -0.5, 0.4, -0.2)),
    "tweedie": Case(
        families.Tweedie(), tweedie, (
            ([1.0, -1, -3], ["2 negative values (smallest -3)", "subset='wage >= 0'", "family='linear'"]),
            ([0.0, 0, 0], ["every row is 0", "subset"]), *AMOUNT,
        ), (0.3, -0.5, 0.4), unit=lambda scale: scale**0.5, likelihood=False,
    ),
}  # fmt: skip
