"""The family for counts and other non-negative outcomes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Multiplicative, index


@dataclass(frozen=True)
class Poisson(Multiplicative):
    """Poisson (quasi-)likelihood with E[y] = exp(d'theta): l = exp(d'theta) - y d'theta.

    Non-negative outcomes that are not whole numbers are allowed: the estimator needs only the mean to be right.
    """

    name: ClassVar[str] = "poisson"

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return eta.exp() - u.y * eta

    def natural_loss(self, u: Units, *z: Tensor) -> Tensor:
        return z[0].exp() - u.y * z[0]

    def natural_derivatives(self, u: Units, *z: Tensor) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        mean = z[0].exp()
        return (mean - u.y,), ((mean,),)

    def normaliser(self, u: Units) -> Tensor:
        return (u.y + 1).lgamma()

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        """That of the Poisson law, which the means do not need."""
        return self.mean(u, theta)

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        """Of the Poisson law, which the means do not need."""
        count = y.floor().clamp_min(0.0)
        return torch.special.gammaincc(count + 1, self.mean(u, theta)) * (y >= 0)

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return scale * (loss - math.log(scale) * u.y)

    def check(self, u: Units, outcome: str) -> None:
        check_amounts(self.name, u.y, outcome)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean(u, theta), generator=generator)


def check_amounts(family: str, y: Tensor, outcome: str) -> None:
    """Raise DataError unless outcomes (n,) are 0 or more, and some above it."""
    negative = int((y < 0).sum())
    if negative:
        raise DataError(
            f"family={family!r} needs an outcome >= 0, but {outcome!r} has {negative} negative values "
            f"(smallest {float(y.min()):g}). Drop them with subset='{outcome} >= 0', or choose family='linear'."
        )
    if not bool((y > 0).any()):
        raise DataError(f"family={family!r} needs some {outcome!r} above 0, but every row is 0; check the subset.")
