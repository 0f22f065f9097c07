"""The negative binomial family, and what all families of whole counts share."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, chained, natural, started, weighted
from .counting import NegbinLaw

_GONE = 1e-7  # a variance above the mean, or a share of zeros, that is next to nothing


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """Counts with mean mu = exp(d'theta) and variance mu + alpha mu^2 (NB2), alpha = exp(log_alpha(x)).

    l = -log Gamma(y + r) / (Gamma(r) y!) - y log(alpha mu) + (y + r) log(1 + alpha mu) with r = 1 / alpha. Where the
    variance is not above the mean given the regressors, log_alpha has no maximum and fitting raises DataError.

    Reference: Cameron and Trivedi (2013), Regression Analysis of Count Data, section 3.3.

    >>> import deepreg
    >>> deepreg.families.get("negbin").names(("Intercept", "t"))
    ('Intercept', 't', 'log_alpha')
    """

    name: ClassVar[str] = "negbin"
    log_link: ClassVar[bool] = True
    law: ClassVar[NegbinLaw] = NegbinLaw()
    extra: ClassVar[tuple[str, ...]] = NegbinLaw.extra
    outcome_free: ClassVar[bool] = False

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return -self.law.log_mass(u.y, *natural(u, theta))

    def natural_loss(self, u: Units, *z: Tensor) -> Tensor:
        return -self.law.table(u.y, *z)

    def natural_derivatives(self, u: Units, *z: Tensor) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        return self.law.slopes_of_table(u.y, *z)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return natural(u, theta)[0].exp()

    def check(self, u: Units, outcome: str) -> None:
        check_counts(self.name, u.y, outcome)

    def start(self, u: Units) -> Tensor:
        scales = u.d.new_tensor(self.law.scales[0])
        return nearest(self, u, torch.stack([u.y.mean().log().expand_as(scales), scales], 1))

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        return without_dispersion(u, theta, gradient, "poisson")

    def information(self, u: Units, theta: Tensor) -> Tensor:
        return chained(stacked(self.law.information(*natural(u, theta))), u)

    def curvature(self, u: Units, theta: Tensor) -> Tensor:
        return weighted(u, self.law.information(*natural(u, theta), own=False)[0][0])

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return self.law.draw(generator, *natural(u, theta))


def stacked(rows: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """S rows of S entries (...) as matrices (..., S, S)."""
    entries = torch.broadcast_tensors(*(one for row in rows for one in row))
    return torch.stack(entries, -1).unflatten(-1, (len(rows), len(rows)))


def nearest(family: Family, u: Units, candidates: Tensor) -> Tensor:
    """Theta of the constants, among `candidates` (C, S), that lose least; (P,)."""
    values, count = u.y.flatten().unique(return_counts=True)
    one = torch.ones_like(values)
    loss = (family.loss(Units(values, one[:, None], one), candidates[:, None, :]) * count).sum(1)
    return started(u, candidates[int(loss.argmin())], len(family.prefixes))


def without_dispersion(u: Units, theta: Tensor, gradient: Tensor, instead: str) -> str:
    """A sentence where log_alpha runs to minus infinity: less of it fits better still."""
    if float(theta[-1].exp() * u.y.mean()) > _GONE or float(gradient[-1]) < 0:
        return ""
    return (
        "given the regressors the counts vary no more than Poisson counts do, so log_alpha runs to minus infinity and "
        f"there is no dispersion to estimate. Choose family={instead!r}."
    )


def check_counts(name: str, y: Tensor, outcome: str) -> None:
    """DataError unless the outcomes are whole numbers, 0 or more and not all 0."""
    negative, broken = int((y < 0).sum()), int((y != y.round()).sum())
    if negative:
        raise DataError(
            f"family={name!r} needs counts 0, 1, 2, ..., but {outcome!r} has {negative} negative values (smallest "
            f"{float(y.min()):g}). Drop them with subset='{outcome} >= 0', or choose family='linear'."
        )
    if broken:
        raise DataError(
            f"family={name!r} needs counts 0, 1, 2, ..., but {outcome!r} has {broken} values that are not whole "
            f"numbers (the first is {float(y[y != y.round()][0]):g}). Choose family='poisson', which asks only that "
            "the mean is right, or count in smaller units."
        )
    if not bool((y > 0).any()):
        raise DataError(f"family={name!r} needs some {outcome!r} above 0, but every row is 0; check the subset.")
