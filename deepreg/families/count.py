"""The family for counts and other non-negative outcomes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, index


@dataclass(frozen=True)
class Poisson(Family):
    """Poisson (quasi-)likelihood with E[y] = exp(d'theta): l = exp(d'theta) - y d'theta.

    Non-negative outcomes that are not whole numbers are allowed: the estimator needs only the mean to be right.
    """

    name: ClassVar[str] = "poisson"

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return eta.exp() - u.y * eta

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        return -float(((self.loss(u, theta) + (u.y + 1).lgamma()) * weight).sum())

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return index(u, theta).exp()

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        """That of the Poisson law, which the means do not need."""
        return self.mean(u, theta)

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        """Of the Poisson law, which the means do not need."""
        count = y.floor().clamp_min(0.0)
        return torch.special.gammaincc(count + 1, self.mean(u, theta)) * (y >= 0)

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        scale = float(u.y.mean())
        return u.y / scale, 0.0, scale

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta[..., intercept] += math.log(scale)
        return theta

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return scale * (loss - math.log(scale) * u.y)

    def check(self, u: Units, outcome: str) -> None:
        negative = int((u.y < 0).sum())
        if negative:
            raise DataError(
                f"family='poisson' needs an outcome >= 0, but {outcome!r} has {negative} negative values "
                f"(smallest {float(u.y.min()):g}). Drop them with subset='{outcome} >= 0', or choose family='linear'."
            )
        if not bool((u.y > 0).any()):
            raise DataError(f"family='poisson' needs some {outcome!r} above 0, but every row is 0; check the subset.")

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(u, theta), generator=generator)
