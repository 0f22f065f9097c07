"""Families for durations, and for extremes, which may be observed up to a point only (right censoring)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, NotAvailable
from ..units import Units
from .base import Family, index

EULER = 0.5772156649015329
STEPS = 64  # of the integral over durations where some are censored, and the probability to see them may jump


@dataclass(frozen=True)
class Duration(Family):
    """What families of durations share: u.y is (..., 2), a time and 1 where it ended then, 0 where it went on.

    Times are mu + sigma z, or exp of it, with z of a known law. Where all have ended, the expected Hessian follows from
    that law. Where some are censored (`censored`, which structural() sets) it also depends on the law of when rows were
    last seen, which is not the family's: see `observed`.
    """

    censored: bool = False
    outcome: ClassVar[str] = "durations"
    outcome_free: ClassVar[bool] = False
    positive: ClassVar[bool] = True  # whether times are above 0

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple[Family, Units]:
        """A plain outcome is one that has ended in every row; (n,) or (n, 2) -> (n, 2)."""
        y = u.y if u.y.dim() == 2 else torch.stack([u.y, torch.ones_like(u.y)], -1)
        return replace(self, censored=bool((y[:, 1] == 0).any())), u._replace(y=y)

    @property
    def closed(self) -> bool:
        return not self.censored

    @property
    def lawful(self) -> bool:
        return True

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """E[Hessian | d, x] where nothing is censored; raises NotAvailable else."""
        if self.censored:
            raise NotAvailable(
                f"Some outcomes of family {self.name!r} are censored, so the expected Hessian depends on the law of "
                "when rows were last seen; use observed()."
            )
        across = (1 - EULER) * (1.0 if self.positive else -1.0)
        return self._assembled(u, theta, *(theta.new_tensor(m) for m in (1.0, across, math.pi**2 / 6 + across**2)))

    def observed(self, u: Units, theta: Tensor, seen: Callable[[Tensor], Tensor]) -> Tensor:
        """E[Hessian | d, x] where a row is still seen at times (Q, ...) with probability seen(times); (..., P, P).

        It is E[ended a a'] with a the gradient of the log hazard (Andersen, Borgan, Gill and Keiding 1993, section
        VI.1), integrated over the law of the whole duration.
        """
        node, weight = (torch.as_tensor(v).to(theta) for v in np.polynomial.legendre.leggauss(STEPS))
        s = (node + 1) / 2
        p, weight = s**2 * (3 - 2 * s), 3 * s * (1 - s) * weight  # closer at the ends, where moments have no bound
        weight = weight.reshape(-1, *[1] * (theta.dim() - 1))
        chance = torch.stack([seen(self.quantile(u, theta, one)) for one in p]) * weight
        z = self._error(p)
        slope = self._slope(z)
        grows = 1 + z * slope
        moments = (torch.einsum("q...,q->...", chance, m) for m in (slope**2, slope * grows, grows**2))
        return self._assembled(u, theta, *moments)

    def _error(self, p: Tensor) -> Tensor:
        """Quantiles of z; by default of the log of an exponential time."""
        return (-torch.log1p(-p)).log()

    def _slope(self, z: Tensor) -> Tensor:
        """The derivative of the log hazard of z with respect to z, where exp(z) or z is the time."""
        return torch.ones_like(z)

    def _assembled(self, u: Units, theta: Tensor, own: Tensor, across: Tensor, scale: Tensor) -> Tensor:
        """The expected Hessian in location and log scale, from its entries (...) at sigma 1; (..., P, P)."""
        precision = (-theta[..., -1]).exp()[..., None]  # (..., 1)
        block = u.d[..., :, None] * u.d[..., None, :] * (precision**2 * own[..., None])[..., None]  # (..., K, K)
        side = u.d * precision * across[..., None]  # (..., K)
        corner = scale[..., None, None].expand(*side.shape[:-1], 1, 1)
        top, low = torch.cat([block, side[..., None]], -1), torch.cat([side[..., None, :], corner], -1)
        return torch.cat([top, low], -2)

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss + u.y[..., 1] * math.log(scale)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Times that have all ended; (..., P) -> (..., 2)."""
        p = torch.rand(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        time = self.quantile(u, theta, p.clamp(1e-12, 1 - 1e-12))
        return torch.stack([time, torch.ones_like(time)], -1)

    def check(self, u: Units, outcome: str) -> None:
        time, event = (u.y, torch.ones_like(u.y)) if u.y.dim() == 1 else u.y.unbind(-1)
        inside = outcome.removeprefix("Surv(").removesuffix(")").split(",")
        column, ended = (part.split("=")[-1].strip() for part in (inside[0], inside[-1]))
        wrong = event[(event != 0) & (event != 1)]
        if len(wrong):
            shown = ", ".join(f"{v:g}" for v in event.unique()[:5].tolist())
            raise DataError(
                f"family={self.name!r} needs an event of 1 (it ended) or 0 (it went on), but {outcome!r} has "
                f"{len(event.unique())} distinct values ({shown}). Say which one means that it ended: "
                f"Surv({column}, {ended} == {float(event.max()):g})."
            )
        if not bool((event == 1).any()):
            raise DataError(
                f"family={self.name!r} needs rows that ended, but in {outcome!r} every event is 0; check its coding."
            )
        if self.positive and bool((time <= 0).any()):
            raise DataError(
                f"family={self.name!r} needs times above 0, but {outcome!r} has {int((time <= 0).sum())} that are not "
                f"(smallest {float(time.min()):g}). Drop them with subset='{column} > 0', or measure time from an "
                "earlier start."
            )
        if float(time.max() - time.min()) <= 1e-12 * float(time.abs().max()):
            raise DataError(
                f"family={self.name!r} needs times that vary, but {outcome!r} is {float(time[0]):g} in all "
                f"{len(time)} rows used; check the subset."
            )


@dataclass(frozen=True)
class Exponential(Duration):
    """Durations that end at a constant rate: log T = d'theta + error, E[T] = exp(d'theta).

    Coefficients are changes of log time (accelerated failure time); those of the log hazard are minus these. The
    outcome is `weeks`, where all have ended, or `Surv(weeks, ended)` with 1 where the time ended and 0 where the row
    was last seen then (right censoring, independent of T given d and x).

    l = t exp(-d'theta) + ended d'theta. The mean is that of the whole duration, not of what was seen of it, so effects
    are in units of time.

    >>> import deepreg
    >>> deepreg.families.get("exponential").outcome
    'durations'
    """

    name: ClassVar[str] = "exponential"
    log_link: ClassVar[bool] = True

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, (time, event) = index(u, theta), u.y.unbind(-1)
        return time * (-eta).exp() + event * eta

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[T | d, x] of the whole duration; (..., P) -> (...)."""
        return index(u, theta).exp()

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        return _per_event(u)

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta[..., intercept] += math.log(scale)
        return theta

    def _assembled(self, u: Units, theta: Tensor, own: Tensor, across: Tensor, scale: Tensor) -> Tensor:
        weight = own.expand(theta.shape[:-1])[..., None, None]
        return u.d[..., :, None] * u.d[..., None, :] * weight

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        """Of the time; (..., P), (...) -> (...)."""
        return -torch.log1p(-p) * index(u, theta).exp()


@dataclass(frozen=True)
class Weibull(Duration):
    """Weibull durations: log T = d'theta + sigma error, with sigma = exp(log_sigma(x)) and log of an exponential error.

    Coefficients are changes of log time (accelerated failure time, as in survreg and lifelines); those of the log
    hazard are -theta / sigma, and 1 / sigma is the shape: below 1 the hazard falls with time. The outcome is `weeks`,
    where all have ended, or `Surv(weeks, ended)` with 1 where the time ended and 0 where the row was last seen then
    (right censoring, independent of T given d and x).

    With z = (log t - d'theta) / sigma: l = exp(z) + ended (log t + log_sigma - z). The mean is that of the whole
    duration, exp(d'theta) Gamma(1 + sigma), not of what was seen of it, so effects are in units of time.
    """

    name: ClassVar[str] = "weibull"
    log_link: ClassVar[bool] = True
    extra: ClassVar[tuple[str, ...]] = ("log_sigma",)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_sigma, (time, event) = theta[..., -1], u.y.unbind(-1)
        z = (time.log() - index(u, theta)) * (-log_sigma).exp()
        return z.exp() + event * (time.log() + log_sigma - z)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[T | d, x] of the whole duration; (..., P) -> (...)."""
        return (index(u, theta) + (1 + theta[..., -1].exp()).lgamma()).exp()

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        return _per_event(u)

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta[..., intercept] += math.log(scale)
        return theta

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        """Of the time; (..., P), (...) -> (...)."""
        return (index(u, theta) + theta[..., -1].exp() * (-torch.log1p(-p)).log()).exp()


@dataclass(frozen=True)
class Gumbel(Duration):
    """Gumbel's law of a greatest value (type I extreme value, right-skewed): y = d'theta + scale error.

    P(y <= v) = exp(-exp(-z)) with z = (v - d'theta) / exp(log_scale(x)), the law of scipy.stats.gumbel_r and of the
    errors behind a multinomial logit; for a least value, type -y. The location d'theta is the mode, and the mean is
    d'theta + 0.5772 scale: a coefficient is the change of the mean where the scale does not change with it. y may be
    any number, or `Surv(y, seen)` with 0 where all that is known is that the value is greater (right censoring).

    l = log_scale + z + exp(-z) where seen, and -log(1 - exp(-exp(-z))) else. The mean is that of y itself, not of what
    was seen of it.
    """

    name: ClassVar[str] = "gumbel"
    shifted: ClassVar[str] = "make it a regressor: y ~ t + z"
    extra: ClassVar[tuple[str, ...]] = ("log_scale",)
    positive: ClassVar[bool] = False

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        log_scale, (y, event) = theta[..., -1], u.y.unbind(-1)
        z = (y - index(u, theta)) * (-log_scale).exp()
        return torch.where(event > 0, log_scale + z + (-z).exp(), -_log_above(z))

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x], whether seen or not; (..., P) -> (...)."""
        return index(u, theta) + EULER * theta[..., -1].exp()

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        y, event = u.y.unbind(-1)
        shift, scale = float(y.mean()), float(y.std(unbiased=False))
        return torch.stack([(y - shift) / scale, event], -1), shift, scale

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        coefficients = theta[..., :-1] * scale
        coefficients[..., intercept] += shift
        return torch.cat([coefficients, theta[..., -1:] + math.log(scale)], -1)

    def _error(self, p: Tensor) -> Tensor:
        return -(-p.log()).log()

    def _slope(self, z: Tensor) -> Tensor:
        w = (-z).exp()
        return w - 1 + w / torch.expm1(w)

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        return index(u, theta) - theta[..., -1].exp() * (-p.log()).log()


def _per_event(u: Units) -> tuple[Tensor, float, float]:
    """Times in units of the time at risk for each end, the mean of an exponential law."""
    time, event = u.y.unbind(-1)
    scale = float(time.sum() / event.sum())
    return torch.stack([time / scale, event], -1), 0.0, scale


def _log_above(z: Tensor) -> Tensor:
    """log(1 - exp(-exp(-z))), the log probability of a greater value."""
    near, far = z.clamp(-10.0, 15.0), z.clamp_min(15.0)  # below -10 it is 0 to every digit
    tail = (-far).exp()
    return torch.where(z > 15.0, -far - tail / 2, (-torch.expm1(-(-near).exp())).log())
