"""Families for an outcome between 0 and 1: quasi-likelihoods that need only the mean, and the beta law."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, constant, index
from .binary import Logit, Probit
from .special import stirling, trigamma_excess


@dataclass(frozen=True)
class Fractional(Family):
    """What a quasi-likelihood of a share changes in the family of a 0/1 outcome: it needs the mean, and has no law."""

    binary: ClassVar[bool] = False

    separated = Family.separated
    variance = Family.variance
    cdf = Family.cdf

    def check(self, u: Units, outcome: str) -> None:
        check_share(self.name, u, outcome)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """From a beta law of precision 5, where the quasi-likelihood assumes no law."""
        return drawn(self.mean(u, theta), PRECISION, generator)


@dataclass(frozen=True)
class FractionalLogit(Fractional, Logit):
    """Bernoulli quasi-likelihood of a share in [0, 1] with E[y] = sigmoid(d'theta): Papke and Wooldridge (1996).

    Zeros and ones are allowed, and the variance may be anything: the estimator needs only the mean to be right. The
    log-likelihood is the pseudolikelihood.

    >>> import deepreg
    >>> deepreg.families.FractionalLogit()
    FractionalLogit()
    """

    name: ClassVar[str] = "fractional_logit"


@dataclass(frozen=True)
class FractionalProbit(Fractional, Probit):
    """Bernoulli quasi-likelihood of a share in [0, 1] with E[y] = Phi(d'theta): Papke and Wooldridge (1996).

    Zeros and ones are allowed, and the variance may be anything. The log-likelihood is the pseudolikelihood.

    >>> import deepreg
    >>> deepreg.families.FractionalProbit()
    FractionalProbit()
    """

    name: ClassVar[str] = "fractional_probit"


PRECISE = 25.0  # log precision beyond which the digits of a double do not say where the likelihood is greatest


def _bregman(z: Tensor) -> Tensor:
    """(1 + z) log(1 + z) - z; (...)."""
    return (1 + z) * torch.log1p(z) - z


@dataclass(frozen=True)
class Beta(Family):
    """Beta likelihood of a share in (0, 1) with E[y] = m = sigmoid(d'theta) and precision exp(log_precision(x)).

    With precision k, a = k m and b = k (1 - m), the density is y^(a-1) (1-y)^(b-1) / B(a, b), and the variance is
    m (1 - m) / (1 + k). The expected Hessian is in closed form. Ferrari and Cribari-Neto (2004).

    >>> import deepreg
    >>> deepreg.families.Beta().names(("Intercept", "price"))
    ('Intercept', 'price', 'log_precision')
    """

    name: ClassVar[str] = "beta"
    extra: ClassVar[tuple[str, ...]] = ("log_precision",)
    outcome_free: ClassVar[bool] = False
    density: ClassVar[bool] = True

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, log_k = index(u, theta), theta[..., -1]
        edge = torch.finfo(u.y.dtype)  # a double may round to 0 or 1 in single precision
        y = u.y.clamp(edge.tiny, 1 - edge.eps / 2)
        log_m, log_rest = torch.nn.functional.logsigmoid(eta), torch.nn.functional.logsigmoid(-eta)
        log_y, log_other = y.log(), torch.log1p(-y)
        log_a, log_b = log_k + log_m, log_k + log_rest
        apart = torch.where(y < 0.5, log_m.exp() - y, (1 - y) - log_rest.exp())
        near = apart.abs() < 0.1 * torch.minimum(y, 1 - y)  # where logarithms would cancel, times a large precision
        apart = torch.where(near, apart, 0.0)
        close = log_k.exp() * (y * _bregman(apart / y) + (1 - y) * _bregman(-apart / (1 - y)))
        far = log_a.exp() * (log_m - log_y) + log_b.exp() * (log_rest - log_other)
        divergence = torch.where(near, close, far)
        return stirling(log_a) + stirling(log_b) - stirling(log_k) + divergence + log_y + log_other

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return torch.sigmoid(index(u, theta))

    def information(self, u: Units, theta: Tensor) -> Tensor:
        eta, log_k = index(u, theta), theta[..., -1]
        m, rest = torch.sigmoid(eta), torch.sigmoid(-eta)
        a = trigamma_excess(log_k + torch.nn.functional.logsigmoid(eta))
        b = trigamma_excess(log_k + torch.nn.functional.logsigmoid(-eta))
        # a^2 trigamma(a) = a + its excess, and a + b = k: nothing large cancels
        slope = log_k.exp() * m * rest + rest**2 * a + m**2 * b
        cross = rest * a - m * b
        d = torch.cat([u.d, torch.zeros_like(u.d[..., :1])], -1)  # (..., K + 1)
        k = torch.cat([torch.zeros_like(u.d), torch.ones_like(u.d[..., :1])], -1)
        dd, dk, kk = (x[..., :, None] * z[..., None, :] for x, z in ((d, d), (d, k), (k, k)))
        weight = (slope, cross, a + b - trigamma_excess(log_k))
        parts = zip(weight, (dd, dk + dk.mT, kk), strict=True)
        return torch.stack([w[..., None, None] * part for w, part in parts]).sum(0)  # (..., P, P)

    def check(self, u: Units, outcome: str) -> None:
        check_share(self.name, u, outcome)
        edge = int(((u.y == 0) | (u.y == 1)).sum())
        if edge:
            raise DataError(
                f"family={self.name!r} needs an outcome strictly between 0 and 1, but {outcome!r} is 0 or 1 in {edge} "
                "rows. Choose family='fractional_logit', which allows them."
            )
        if float(u.y.max() - u.y.min()) <= 1e-12:
            raise DataError(
                f"family={self.name!r} needs an outcome that varies, but {outcome!r} is {float(u.y[0]):g} in all "
                f"{len(u.y)} rows used; check the subset."
            )

    def start(self, u: Units) -> Tensor:
        """From the mean and the variance of the outcome."""
        m, variance = u.y.mean(), u.y.var(correction=0)
        log_precision = (m * (1 - m) / variance - 1).clamp(1e-2, 1e6).log()
        return torch.cat([constant(u) * torch.logit(m), log_precision[None]])

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        if float(theta[-1]) < PRECISE or float(gradient[-1]) > 0:
            return ""
        return (
            f"the terms fit the shares all but exactly, so the precision passes {math.exp(PRECISE):.0e} on its way up: "
            "what is left of them is rounding, or too little for a beta law. See whether a term was computed from the "
            "outcome; for the mean alone choose family='fractional_logit'."
        )

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        edge = torch.finfo(theta.dtype)
        y = drawn(self.mean(u, theta), theta[..., -1].exp(), generator)
        return y.clamp(edge.tiny, 1 - edge.eps / 2)


PRECISION = 5.0  # of the shares that are drawn where a family states no law


def check_share(family: str, u: Units, outcome: str) -> None:
    """Raise DataError unless all outcomes are in [0, 1] and not all are 0, or all 1."""
    outside = int(((u.y < 0) | (u.y > 1)).sum())
    if outside:
        percent = 1 < float(u.y.max()) <= 100 and float(u.y.min()) >= 0
        raise DataError(
            f"family={family!r} needs an outcome between 0 and 1, but {outcome!r} has {outside} values outside "
            f"(from {float(u.y.min()):g} to {float(u.y.max()):g}). "
            + (f"Divide percentages by 100: `I({outcome} / 100)`." if percent else "Choose family='linear'.")
        )
    if float(u.y.max()) == 0 or float(u.y.min()) == 1:
        raise DataError(
            f"family={family!r} needs values of {outcome!r} that are not all 0 or all 1, but every row is "
            f"{float(u.y[0]):g}; check the subset."
        )


def drawn(mean: Tensor, precision: Tensor | float, generator: torch.Generator) -> Tensor:
    """Draws from beta laws, by the ratio of two gamma draws in logs, which small shapes do not underflow; (...)."""
    shapes = torch.stack([mean * precision, (1 - mean) * precision]).clamp_min(1e-30)  # (2, ...)
    uniform = torch.rand(shapes.shape, generator=generator, dtype=shapes.dtype, device=shapes.device)
    logs = torch._standard_gamma(shapes + 1, generator=generator).log() + uniform.clamp_min(1e-300).log() / shapes
    return torch.sigmoid(logs[0] - logs[1])
