"""Families for counts whose zeros follow a law of their own: inflated at zero, or behind a hurdle."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, chained, constant, natural
from .counting import Law, NegbinLaw, PoissonLaw
from .negbin import _GONE, check_counts, nearest, stacked, without_dispersion

_SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)  # of structural zeros, to start from
_BELOW = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)  # by which the log mean is below that of positive counts, to start from

_WITHOUT_END = 8.0  # log_alpha at which truncated counts are logarithmic ones


@dataclass(frozen=True)
class ZeroInflatedPoisson(Family):
    """Zero for structural reasons with probability pi = sigmoid(d'theta_zero), else Poisson with mean exp(d'theta).

    The mean is (1 - pi) exp(d'theta). Coefficients of the count have the names of the terms; those of the log odds of a
    structural zero begin with "zero: ". Where there are no more zeros than the count alone produces, pi has no maximum
    above 0 and fitting raises DataError. Lambert (1992).

    >>> import deepreg
    >>> deepreg.families.get("zip").names(("Intercept", "t"))
    ('Intercept', 't', 'zero: Intercept', 'zero: t')
    """

    name: ClassVar[str] = "zip"
    log_link: ClassVar[bool] = True
    law: ClassVar[Law] = PoissonLaw()
    plain: ClassVar[str] = "poisson"  # the family without structural zeros
    advice: ClassVar[str] = (
        "Where no zeros are in excess in some of the rows, the probability of a structural zero runs to 0 there and "
        "'zero: ...' is not identified: drop the term, or choose family='poisson' or 'negbin'."
    )
    outcome_free: ClassVar[bool] = False

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ("", "zero: ")

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        surplus = zeta + self.law.zero(eta, *scale)  # log odds that a zero is structural
        softplus = torch.nn.functional.softplus
        some = -self.law.log_mass(u.y, eta, *scale)
        none = -torch.where(surplus > 0, zeta + softplus(-surplus), zeta - surplus + softplus(surplus))
        return softplus(zeta) + torch.where(u.y == 0, none, some)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        eta, zeta, *_ = natural(u, theta, 2)
        return torch.sigmoid(-zeta) * eta.exp()

    def check(self, u: Units, outcome: str) -> None:
        check_counts(self.name, u.y, outcome)
        check_zeros(self.name, u.y, outcome, self.plain)

    def start(self, u: Units) -> Tensor:
        share = u.d.new_tensor(list(product(_SHARES, *self.law.scales)))  # (C, S - 1)
        zero = share[:, :1]
        return nearest(self, u, torch.cat([u.y.mean().log() - (-zero).log1p(), zero.logit(), share[:, 1:]], 1))

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        eta, zeta, *scale = natural(u, theta, 2)
        k = u.d.shape[-1]
        rare = float(torch.sigmoid(zeta).mean()) < _GONE
        if rare and float(gradient[k : 2 * k] @ constant(u)) >= 0:  # fewer structural zeros fit better still
            found, expected = float((u.y == 0).double().sum()), float((-self.law.zero(eta, *scale)).exp().sum())
            return (
                f"{found:,.0f} of the {u.y.numel():,} counts are 0, and family={self.plain!r} alone expects "
                f"{expected:,.1f}, so there are no zeros in excess to explain: the probability of a structural zero "
                f"runs to 0 and the coefficients 'zero: ...' are not identified. Choose family={self.plain!r}."
            )
        return without_dispersion(u, theta, gradient, "zip") if scale else ""

    def information(self, u: Units, theta: Tensor) -> Tensor:
        return self._information(u, theta, own=True)

    def curvature(self, u: Units, theta: Tensor) -> Tensor:
        size = theta.shape[-1] - len(self.extra)
        return self._information(u, theta, own=False)[..., :size, :size]

    def _information(self, u: Units, theta: Tensor, own: bool) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        structural, chance = torch.sigmoid(zeta), torch.sigmoid(-zeta - self.law.zero(eta, *scale))
        slopes = stretched(self.law.slopes(eta, *scale), torch.ones_like(eta))
        count = bordered(self.law.information(eta, *scale, own=own))
        own = (structural * torch.sigmoid(-zeta))[..., None, None] * _place(slopes)
        lost = (structural * chance)[..., None, None] * slopes[..., :, None] * slopes[..., None, :]
        return chained(own + torch.sigmoid(-zeta)[..., None, None] * count - lost, u, 2)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        count = self.law.draw(generator, eta, *scale)
        return count * torch.bernoulli(torch.sigmoid(-zeta).expand_as(count), generator=generator)


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(ZeroInflatedPoisson):
    """Zero for structural reasons with probability pi = sigmoid(d'theta_zero), else negative binomial.

    The count has mean exp(d'theta) and dispersion exp(log_alpha(x)), as in "negbin"; the mean is (1 - pi) exp(d'theta).
    Names, and the error where there are no zeros in excess, are those of "zip". Much data is needed to tell structural
    zeros from those of a dispersed count. Greene (1994).

    >>> import deepreg
    >>> deepreg.families.get("zinb").names(("Intercept",))
    ('Intercept', 'zero: Intercept', 'log_alpha')
    """

    name: ClassVar[str] = "zinb"
    law: ClassVar[Law] = NegbinLaw()
    extra: ClassVar[tuple[str, ...]] = NegbinLaw.extra
    plain: ClassVar[str] = "negbin"


@dataclass(frozen=True)
class HurdlePoisson(Family):
    """Above 0 with probability p = sigmoid(d'theta_positive), and then Poisson given that it is above 0.

    The log mean before truncation at zero is d'theta, so E[y] = p exp(d'theta) / (1 - exp(-exp(d'theta))).
    Coefficients of the count have the names of the terms; those of the log odds of an outcome above 0, a logit, begin
    with "positive: ". Mullahy (1986).

    >>> import deepreg
    >>> deepreg.families.get("hurdle_poisson").names(("Intercept", "t"))
    ('Intercept', 't', 'positive: Intercept', 'positive: t')
    """

    name: ClassVar[str] = "hurdle_poisson"
    shifted: ClassVar[str] = "choose family='zip' or 'zinb', or make it a regressor: y ~ t + z"
    law: ClassVar[Law] = PoissonLaw()
    plain: ClassVar[str] = "poisson"
    outcome_free: ClassVar[bool] = False

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ("", "positive: ")

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        softplus = torch.nn.functional.softplus
        some = softplus(-zeta) - self.law.log_mass(u.y, eta, *scale) + self._log_some(eta, *scale)
        return torch.where(u.y == 0, softplus(zeta), some)

    def _log_some(self, *z: Tensor) -> Tensor:
        """log P(count > 0) before truncation."""
        return (-torch.expm1(-self.law.zero(*z))).log()

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        return torch.sigmoid(zeta) * (eta - self._log_some(eta, *scale)).exp()

    def check(self, u: Units, outcome: str) -> None:
        check_counts(self.name, u.y, outcome)
        check_zeros(self.name, u.y, outcome, self.plain)

    def start(self, u: Units) -> Tensor:
        share, level = (u.y > 0).double().mean(), u.y[u.y > 0].mean().log()
        tried = u.d.new_tensor(list(product(_BELOW, *self.law.scales)))  # (C, S - 1)
        return nearest(self, u, torch.cat([level - tried[:, :1], 0 * tried[:, :1] + share.logit(), tried[:, 1:]], 1))

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        if not self.extra:
            return ""
        if float(theta[-1]) > _WITHOUT_END and float(gradient[-1]) <= 0:
            return (
                "counts above 0 fall off as slowly as the family allows, so log_alpha runs to infinity, the log mean "
                "before truncation to minus infinity, and neither is identified. Choose family='hurdle_poisson'."
            )
        return without_dispersion(u, theta, gradient, "hurdle_poisson")

    def information(self, u: Units, theta: Tensor) -> Tensor:
        return self._information(u, theta, own=True)

    def curvature(self, u: Units, theta: Tensor) -> Tensor:
        size = theta.shape[-1] - len(self.extra)
        return self._information(u, theta, own=False)[..., :size, :size]

    def _information(self, u: Units, theta: Tensor, own: bool) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        mass = self.law.zero(eta, *scale)
        some = -torch.expm1(-mass)
        slopes = stretched(self.law.slopes(eta, *scale), torch.zeros_like(eta))
        lost = ((-mass).exp() / some)[..., None, None] * slopes[..., :, None] * slopes[..., None, :]
        truncated = (bordered(self.law.information(eta, *scale, own=own)) - lost) / some[..., None, None]
        positive = torch.sigmoid(zeta)[..., None, None]
        return chained(positive * (truncated + (1 - positive) * _place(slopes)), u, 2)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        eta, zeta, *scale = natural(u, theta, 2)
        count = self.law.draw_positive(generator, eta, *scale)
        return count * torch.bernoulli(torch.sigmoid(zeta).expand_as(count), generator=generator)


@dataclass(frozen=True)
class HurdleNegativeBinomial(HurdlePoisson):
    """Above 0 with probability p = sigmoid(d'theta_positive), and then negative binomial given that it is above 0.

    Before truncation the count has mean exp(d'theta) and dispersion exp(log_alpha(x)), as in "negbin"; names are those
    of "hurdle_poisson". Mullahy (1986).

    >>> import deepreg
    >>> deepreg.families.get("hurdle_negbin").names(("Intercept",))
    ('Intercept', 'positive: Intercept', 'log_alpha')
    """

    name: ClassVar[str] = "hurdle_negbin"
    law: ClassVar[Law] = NegbinLaw()
    extra: ClassVar[tuple[str, ...]] = NegbinLaw.extra
    plain: ClassVar[str] = "negbin"


def stretched(values: tuple[Tensor, ...], second: Tensor) -> Tensor:
    """What belongs to the parameters of the count, with an entry for the second index; (..., S)."""
    return torch.stack(torch.broadcast_tensors(values[0], second, *values[1:]), -1)


def bordered(rows: tuple[tuple[Tensor, ...], ...]) -> Tensor:
    """A matrix of the parameters of the count with zeros for the second index; (..., S, S)."""
    nothing = torch.zeros_like(rows[0][0])
    first, *others = ((row[0], nothing, *row[1:]) for row in rows)
    return stacked((first, (nothing,) * len(first), *others))


def _place(like: Tensor) -> Tensor:
    """1 at the second index, 0 elsewhere; (S, S)."""
    unit = torch.nn.functional.one_hot(torch.tensor(1, device=like.device), like.shape[-1]).to(like)
    return unit.outer(unit)


def check_zeros(name: str, y: Tensor, outcome: str, plain: str) -> None:
    """DataError unless there are zeros, and counts above 1 that tell the law of the others."""
    if not bool((y == 0).any()):
        raise DataError(
            f"family={name!r} needs zeros in {outcome!r}, but the smallest of its {len(y)} values is "
            f"{float(y.min()):g}. Choose family={plain!r}."
        )
    if float(y.max()) < 2:
        raise DataError(
            f"family={name!r} needs counts above 1 in {outcome!r}, but it takes the values 0 and 1 alone, which tell "
            "nothing of how the counts above 0 are distributed. Choose family='logit'."
        )
