"""Families for a positive outcome whose mean is the exponential of an index."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..units import Units
from .base import Multiplicative, constant, index, residual_variance, weighted
from .continuous import Gaussian
from .count import check_amounts
from .special import exp_or_tangent, stirling, trigamma_excess

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Positive(Multiplicative):
    """What the families of this file share besides: a density, whose Hessian depends on the outcome."""

    outcome_free: ClassVar[bool] = False
    density: ClassVar[bool] = True

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss + math.log(scale)

    def check(self, u: Units, outcome: str) -> None:
        wrong = int((u.y <= 0).sum())
        if wrong:
            zeros = float(u.y.min()) == 0
            raise DataError(
                f"family={self.name!r} needs an outcome above 0, but {outcome!r} is not in {wrong} rows (smallest "
                f"{float(u.y.min()):g}). Drop them with subset='{outcome} > 0', or choose "
                f"family={'poisson' if zeros else 'linear'!r}{', which allows zeros' if zeros else ''}."
            )
        check_size(self.name, u, outcome)
        if float(u.y.max() - u.y.min()) <= 1e-12 * float(u.y.max()):
            raise DataError(
                f"family={self.name!r} needs an outcome that varies, but {outcome!r} is {float(u.y[0]):g} in all "
                f"{len(u.y)} rows used, to 12 digits; check the subset."
            )


@dataclass(frozen=True)
class Gamma(Positive):
    """Gamma likelihood with E[y] = m = exp(d'theta) and shape exp(log_shape(x)), the same for every d.

    With shape k the variance is m^2 / k, and l = log Gamma(k) - k log(k / m) - (k - 1) log y + k y / m. The expected
    Hessian is block diagonal: k d d', and k^2 trigamma(k) - k. Coefficients are those of a generalized linear model.

    >>> import deepreg
    >>> deepreg.families.Gamma().names(("Intercept", "price"))
    ('Intercept', 'price', 'log_shape')
    """

    name: ClassVar[str] = "gamma"
    extra: ClassVar[tuple[str, ...]] = ("log_shape",)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_k, log_y = theta[..., -1], log_of(u.y)
        log_ratio = log_y - index(u, theta)
        return stirling(log_k) + log_k.exp() * (torch.expm1(log_ratio) - log_ratio) + log_y

    def information(self, u: Units, theta: Tensor) -> Tensor:
        log_k = theta[..., -1]
        return diagonal(u, log_k.exp(), trigamma_excess(log_k))

    def start(self, u: Units) -> Tensor:
        """From the mean of the outcome and that of its log: Minka's approximation of the shape."""
        gap = (u.y.mean().log() - u.y.log().mean()).clamp_min(1e-10)
        shape = (3 - gap + ((gap - 3) ** 2 + 24 * gap).sqrt()) / (12 * gap)
        return torch.cat([constant(u) * u.y.mean().log(), shape.log()[None]])

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        shape = theta[..., -1].exp()
        y = torch._standard_gamma(shape, generator=generator) / shape * self.mean(u, theta)
        return y.clamp_min(torch.finfo(y.dtype).tiny)


@dataclass(frozen=True)
class InverseGaussian(Positive):
    """Inverse Gaussian likelihood with E[y] = m = exp(d'theta) and shape exp(log_shape(x)), the same for every d.

    With shape k the variance is m^3 / k, and l = log(2 pi y^3 / k) / 2 + k (y - m)^2 / (2 m^2 y). The expected Hessian
    is block diagonal: d d' k / m, and 1/2. Coefficients are those of a generalized linear model with a log link.

    >>> import deepreg
    >>> deepreg.families.InverseGaussian().names(("Intercept", "price"))
    ('Intercept', 'price', 'log_shape')
    """

    name: ClassVar[str] = "inverse_gaussian"
    extra: ClassVar[tuple[str, ...]] = ("log_shape",)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_k, log_y = theta[..., -1], log_of(u.y)
        ratio = u.y * exp_or_tangent(-index(u, theta))
        return HALF_LOG_2PI + 1.5 * log_y - 0.5 * log_k + 0.5 * (ratio - 1) ** 2 * (log_k - log_y).exp()

    def information(self, u: Units, theta: Tensor) -> Tensor:
        log_k = theta[..., -1]
        return diagonal(u, log_k.exp() * exp_or_tangent(-index(u, theta)), torch.full_like(log_k, 0.5))

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta[..., intercept] += math.log(scale)
        theta[..., -1] += math.log(scale)
        return theta

    def start(self, u: Units) -> Tensor:
        """The estimates without regressors."""
        dispersion = ((1 / u.y).mean() - 1 / u.y.mean()).clamp_min(1e-300)
        return torch.cat([constant(u) * u.y.mean().log(), -dispersion.log()[None]])

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """By Michael, Schucany and Haas (1976), with the root in the form that does not cancel."""
        mean = self.mean(u, theta)
        normal = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        w = 0.5 * normal**2 * mean * (-theta[..., -1]).exp()
        small = 1 / (1 + w + (2 * w + w**2).sqrt())
        y = mean * torch.where(uniform <= 1 / (1 + small), small, 1 / small)
        return y.clamp_min(torch.finfo(y.dtype).tiny)


@dataclass(frozen=True)
class LogNormal(Positive):
    """Normal likelihood of log y with mean d'theta and standard deviation exp(log_sigma(x)), the same for every d.

    Coefficients are those of least squares on log y. E[y] = exp(d'theta + sigma^2 / 2), so that effects are in units of
    y, and need no smearing. The expected Hessian is block diagonal: d d' / sigma^2, and 2.

    >>> import deepreg
    >>> deepreg.families.LogNormal().names(("Intercept", "price"))
    ('Intercept', 'price', 'log_sigma')
    """

    name: ClassVar[str] = "lognormal"
    extra: ClassVar[tuple[str, ...]] = ("log_sigma",)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_y = log_of(u.y)
        return NORMAL.loss(u._replace(y=log_y), theta) + log_y + HALF_LOG_2PI

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return (index(u, theta) + 0.5 * (2 * theta[..., -1]).exp()).exp()

    def information(self, u: Units, theta: Tensor) -> Tensor:
        return NORMAL.information(u, theta)

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        return NORMAL.quantile(u, theta, p).exp()

    def start(self, u: Units) -> Tensor:
        """The mean and the standard deviation of the log outcome."""
        log_y = u.y.log()
        return torch.cat([constant(u) * log_y.mean(), log_y.std(correction=0).clamp_min(1e-12).log()[None]])

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return NORMAL.simulate(u, theta, generator).exp()


@dataclass(frozen=True)
class Tweedie(Positive):
    """Tweedie quasi-likelihood: E[y] = m = exp(d'theta) and a variance proportional to m^power, for zeros and amounts.

    l = m^(2 - power) / (2 - power) - y m^(1 - power) / (1 - power). The estimator needs only the mean to be right; the
    expected Hessian is d d' m^(2 - power). No log-likelihood is reported. `power` lies strictly between 1 (Poisson)
    and 2 (gamma), 1.5 by default. Raises OptionError for another.

    >>> import deepreg
    >>> deepreg.families.Tweedie(power=1.7)
    Tweedie(power=1.7)
    """

    power: float = 1.5
    name: ClassVar[str] = "tweedie"

    def __post_init__(self) -> None:
        number = isinstance(self.power, int | float) and not isinstance(self.power, bool)
        if not number or not 1 < self.power < 2:
            raise OptionError(
                f"Tweedie(power={self.power!r}): give a number strictly between 1 and 2, for example 1.5; at 1 the "
                "family is 'poisson', at 2 'gamma'."
            )

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, over, under = index(u, theta), self.power - 1, 2 - self.power
        return (under * eta).exp() / under + u.y * (-over * eta).exp() / over

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """NaN: the quasi-likelihood is none."""
        return math.nan

    def dispersion(self, u: Units, theta: Tensor, weight: Tensor, parameters: int) -> float:
        """Pearson's: the weighted sum of squared residuals over m^power, by n - parameters."""
        mean = self.mean(u, theta)
        return residual_variance(0.5 * (u.y - mean) ** 2 / mean**self.power, weight, parameters)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        return weighted(u, ((2 - self.power) * index(u, theta)).exp())

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss * scale ** (2 - self.power)

    def check(self, u: Units, outcome: str) -> None:
        check_amounts(self.name, u.y, outcome)
        check_size(self.name, u, outcome)

    def start(self, u: Units) -> Tensor:
        """The mean of the outcome."""
        return constant(u) * u.y.mean().log()

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """From the Tweedie law of dispersion 1: a Poisson number of gamma amounts."""
        mean, over, under = self.mean(u, theta), self.power - 1, 2 - self.power
        count = torch.poisson(mean**under / under, generator=generator)
        amount = torch._standard_gamma((count * under / over).clamp_min(1e-30), generator=generator)
        return torch.where(count > 0, amount * over * mean**over, 0.0)


NORMAL = Gaussian()


def log_of(y: Tensor) -> Tensor:
    """log y of what is positive as a double and may round to 0 in single precision."""
    return y.clamp_min(torch.finfo(y.dtype).tiny).log()


def diagonal(u: Units, slope: Tensor, shape: Tensor) -> Tensor:
    """d d' slope, and the shape's own information; (...), (...) -> (..., K + 1, K + 1)."""
    out = torch.nn.functional.pad(weighted(u, slope), (0, 1, 0, 1))
    out[..., -1, -1] = shape
    return out


def check_size(family: str, u: Units, outcome: str) -> None:
    """Raise DataError where squares of the outcome would overflow or vanish."""
    largest = float(u.y.max())
    if not 1e-100 < largest < 1e100:
        raise DataError(
            f"family={family!r}: {outcome!r} has values as large as {largest:.1e}, whose squares a computer cannot "
            "hold; measure it in other units."
        )
