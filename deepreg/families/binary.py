"""Families for an outcome that is 0 or 1."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, index, weighted
from .special import log_cloglog, log_ndtr


@dataclass(frozen=True)
class Logit(Family):
    """Bernoulli likelihood with P(y = 1) = sigmoid(d'theta): l = softplus(d'theta) - y d'theta."""

    name: ClassVar[str] = "logit"
    binary: ClassVar[bool] = True

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return torch.nn.functional.softplus(eta) - u.y * eta

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return torch.sigmoid(index(u, theta))

    def natural_loss(self, u: Units, *z: Tensor) -> Tensor:
        if type(self) is not Logit:
            return Family.natural_loss(self, u, *z)
        return torch.nn.functional.softplus(z[0]) - u.y * z[0]

    def natural_derivatives(self, u: Units, *z: Tensor) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        if type(self) is not Logit:
            return Family.natural_derivatives(self, u, *z)
        mean = torch.sigmoid(z[0])
        return (mean - u.y,), ((mean * (1 - mean),),)

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        mean = self.mean(u, theta)
        return mean * (1 - mean)

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        return torch.where(y < 1, 1 - self.mean(u, theta), 1.0) * (y >= 0)

    def check(self, u: Units, outcome: str) -> None:
        values = u.y.unique()
        if not bool(((values == 0) | (values == 1)).all()):
            shown = ", ".join(f"{v:g}" for v in values[:5].tolist())
            raise DataError(
                f"family={self.name!r} needs an outcome of 0 and 1, but {outcome!r} has {len(values)} distinct values "
                f"({shown}{', ...' if len(values) > 5 else ''}). Recode it, for example "
                f"`I(({outcome} > {float(values.median()):g}) * 1)`, or choose family='linear'."
            )
        if len(values) < 2:
            raise DataError(
                f"family={self.name!r} needs both 0 and 1 in {outcome!r}, but every row is {float(values[0]):g}; "
                "check the subset or the coding."
            )

    def separated(self, u: Units, theta: Tensor) -> bool:
        return bool(((2 * u.y - 1) * index(u, theta) > 0).all())

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(u, theta), generator=generator)


@dataclass(frozen=True)
class Probit(Logit):
    """Bernoulli likelihood with P(y = 1) = Phi(d'theta), the normal law's distribution function.

    l = -y log Phi(d'theta) - (1 - y) log Phi(-d'theta); the expected Hessian is d d' phi^2 / (Phi (1 - Phi)).

    >>> import deepreg
    >>> deepreg.families.Probit()
    Probit()
    """

    name: ClassVar[str] = "probit"
    outcome_free: ClassVar[bool] = False

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return -u.y * log_ndtr(eta) - (1 - u.y) * log_ndtr(-eta)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return torch.special.ndtr(index(u, theta))

    def information(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return weighted(u, (-(eta**2) - log_ndtr(eta) - log_ndtr(-eta)).exp() / (2 * torch.pi))


@dataclass(frozen=True)
class CLogLog(Logit):
    """Bernoulli likelihood with P(y = 1) = 1 - exp(-exp(d'theta)): the complementary log-log link.

    Coefficients are changes of the log hazard where y says whether a duration ended within an interval. With
    m = exp(d'theta), l = -y log(1 - exp(-m)) + (1 - y) m, and the expected Hessian is d d' m^2 / (exp(m) - 1).

    >>> import deepreg
    >>> deepreg.families.CLogLog()
    CLogLog()
    """

    name: ClassVar[str] = "cloglog"
    outcome_free: ClassVar[bool] = False

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return -u.y * log_cloglog(eta) + (1 - u.y) * eta.exp()

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return -torch.expm1(-index(u, theta).exp())

    def information(self, u: Units, theta: Tensor) -> Tensor:
        m = index(u, theta).exp()
        return weighted(u, m * (m / torch.expm1(m)))  # m^2 alone may underflow
