"""Families for a continuous outcome: least squares, and the normal law whose scale varies with x."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, index, residual_variance, weighted


@dataclass(frozen=True)
class Linear(Family):
    """Least squares: l = (y - d'theta)^2 / 2, so that the Hessian is d d'.

    >>> import deepreg
    >>> deepreg.families.get("linear").name
    'linear'
    """

    name: ClassVar[str] = "linear"
    identity: ClassVar[bool] = True
    shifted: ClassVar[str] = "take it from the outcome: I(y - z) ~ ..."

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return 0.5 * (u.y - index(u, theta)) ** 2

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """Of a normal law with the mean squared residual as variance, as statsmodels' OLS has it."""
        return normal_log_likelihood(u.y - index(u, theta), weight)

    def dispersion(self, u: Units, theta: Tensor, weight: Tensor, parameters: int) -> float:
        """The residual variance."""
        return residual_variance(self.loss(u, theta), weight, parameters)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return index(u, theta)

    def check(self, u: Units, outcome: str) -> None:
        check_varies(self.name, u.y, outcome)

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        shift, scale = float(u.y.mean()), float(u.y.std(unbiased=False))
        scale = scale if scale > 1e-12 * float(u.y.abs().max()) else 1.0
        return (u.y - shift) / scale, shift, scale

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta = theta * scale
        theta[..., intercept] += shift
        return theta

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss * scale**2

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """With normal noise of variance 1, where least squares assumes no law."""
        noise = torch.randn(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        return index(u, theta) + noise


@dataclass(frozen=True)
class Gaussian(Linear):
    """Normal likelihood with mean d'theta and standard deviation exp(log_sigma(x)).

    l = log_sigma + (y - d'theta)^2 exp(-2 log_sigma) / 2; the expected Hessian is block diagonal.
    """

    name: ClassVar[str] = "gaussian"
    extra: ClassVar[tuple[str, ...]] = ("log_sigma",)
    outcome_free: ClassVar[bool] = False

    dispersion = Family.dispersion  # in log_sigma

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_sigma = theta[..., -1]
        return log_sigma + 0.5 * ((u.y - index(u, theta)) * (-log_sigma).exp()) ** 2

    log_likelihood = Family.log_likelihood  # of the loss, unlike that of least squares

    def normaliser(self, u: Units) -> Tensor:
        return torch.full_like(u.y, 0.5 * math.log(2 * math.pi))

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        log_sigma = theta[..., -1:] + torch.as_tensor(scale, dtype=theta.dtype).log()
        coefficients = super().unstandardise(theta[..., :-1].clone(), shift, scale, intercept)
        return torch.cat([coefficients, log_sigma], -1)

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss + math.log(scale)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        block = weighted(u, (-2 * theta[..., -1]).exp())  # (..., K, K)
        out = torch.nn.functional.pad(block, (0, 1, 0, 1))
        out[..., -1, -1] = 2.0
        return out  # (..., P, P)

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        return (2 * theta[..., -1]).exp()

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        return torch.special.ndtr((y - index(u, theta)) * (-theta[..., -1]).exp())

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        return index(u, theta) + theta[..., -1].exp() * torch.special.ndtri(p)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        return index(u, theta) + theta[..., -1].exp() * noise


def check_varies(family: str, y: Tensor, outcome: str) -> None:
    """Raise DataError where squares of the outcome (n,) say nothing."""
    largest, spread = float(y.abs().max()), float(y.max() - y.min())
    if spread <= 1e-12 * largest:
        raise DataError(
            f"family={family!r} needs an outcome that varies, but {outcome!r} is {float(y[0]):g} in all "
            f"{len(y)} rows used, to 12 digits; check the subset, or subtract a constant from it."
        )
    if largest > 1e100 or spread < 1e-100:
        raise DataError(
            f"family={family!r}: {outcome!r} has values as large as {largest:.1e} and a range of {spread:.1e}, "
            "whose squares a computer cannot hold; measure it in other units."
        )


def normal_log_likelihood(residual: Tensor, weight: Tensor) -> float:
    """Of a normal law with the mean squared residual as variance, each residual (n,) counted `weight` (n,) times."""
    n = float(weight.sum())
    variance = float((residual**2 * weight).sum()) / n
    return -0.5 * n * (math.log(2 * math.pi * variance) + 1) if variance > 0 else math.inf
