"""Families for normal outcomes of which a part is not seen: piled up at limits (tobit), or left out (truncated)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..units import Units
from .base import Family, index

ROOT = math.sqrt(2.0)
LOG_ROOT = 0.5 * math.log(2 * math.pi)
MEANS = ("observed", "latent")


@dataclass(frozen=True)
class Limited(Family):
    """What both share: a normal law with mean d'theta and standard deviation exp(log_sigma(x)), and its limits.

    Raises OptionError without a limit, for limits in the wrong order, and for another `mean`.
    """

    lower: float | None = 0.0
    upper: float | None = None
    mean_of: str = "observed"
    extra: ClassVar[tuple[str, ...]] = ("log_sigma",)
    shifted: ClassVar[str] = "make it a regressor: y ~ t + z"
    outcome_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, value in (("lower", self.lower), ("upper", self.upper)):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if value is not None and not number:
                raise OptionError(f"{self._shown()}: {name}= is a number, or None where there is no such limit.")
        if self.lower is None and self.upper is None:
            raise OptionError(f"{self._shown()} has no limit: give lower=, upper= or both, or use family='gaussian'.")
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise OptionError(f"{self._shown()}: lower= has to be below upper=.")
        if self.mean_of not in MEANS:
            raise OptionError(f"{self._shown()}: mean_of= is {' or '.join(map(repr, MEANS))}.")

    def _shown(self) -> str:
        return f"{type(self).__name__}(lower={self.lower!r}, upper={self.upper!r}, mean_of={self.mean_of!r})"

    def start(self, u: Units) -> Tensor:
        """Least squares."""
        d = u.d.reshape(-1, *u.d.shape[-2:])[0]  # (n, K): of the first group, where each has its own
        coefficients = torch.linalg.lstsq(d, u.y[:, None], driver="gelsd").solution[:, 0]
        spread = (u.y - d @ coefficients).square().mean().sqrt()
        return torch.cat([coefficients, spread.clamp_min(1e-3 * float(u.y.std()))[None].log()])

    def _ends(self, u: Units, theta: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The limits in standard deviations from d'theta; (...) each."""
        eta, inverse = index(u, theta), (-theta[..., -1]).exp()
        low = None if self.lower is None else (self.lower - eta) * inverse
        return low, None if self.upper is None else (self.upper - eta) * inverse

    def _outside(self, u: Units, outcome: str, wrong: Tensor, allowed: str, hint: str) -> None:
        if bool(wrong.any()):
            some = ", ".join(f"{v:g}" for v in u.y[wrong].unique()[:5].tolist())
            raise DataError(
                f"family={self.name!r} needs outcomes {allowed}, but {outcome!r} has {int(wrong.sum())} that are not "
                f"({some}). {hint}"
            )

    def _varies(self, y: Tensor, outcome: str) -> None:
        if not len(y) or float(y.max() - y.min()) <= 1e-12 * float(y.abs().max()):
            raise DataError(
                f"family={self.name!r} needs outcomes between its limits that vary, but {outcome!r} has "
                f"{len(y.unique())} distinct values there, in {len(y)} rows; check lower=, upper= and the subset."
            )


@dataclass(frozen=True)
class Tobit(Limited):
    """Tobit: y = lower or upper where a normal variable, of mean d'theta and standard deviation sigma(x), is beyond it.

    l is the negative log of the normal density between the limits, and of the mass beyond a limit at it (Tobin 1958,
    Amemiya 1973). Give a limit as None where there is none. Coefficients are changes of the latent mean. Predictions
    and effects are on E[y | d, x] as observed, piled up at the limits; with mean_of="latent", on d'theta, where the
    limits hide what is of interest.

    >>> import deepreg
    >>> deepreg.families.Tobit(lower=None, upper=40)
    Tobit(lower=None, upper=40, mean_of='observed')
    """

    name: ClassVar[str] = "tobit"

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        z = (u.y - index(u, theta)) * (-theta[..., -1]).exp()
        low, high = self._ends(u, theta)
        value = theta[..., -1] + 0.5 * z**2 + LOG_ROOT
        if low is not None:
            value = torch.where(u.y <= self.lower, -_log_ndtr(low), value)
        if high is not None:
            value = torch.where(u.y >= self.upper, -_log_ndtr(-high), value)
        return value

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x] as observed, or d'theta with mean_of="latent"; (..., P) -> (...)."""
        eta, (low, high) = index(u, theta), self._ends(u, theta)
        if self.mean_of == "latent":
            return eta
        sigma = theta[..., -1].exp()  # of lower + (latent - lower)+ - (latent - upper)+
        if low is None:
            assert high is not None
            return eta - sigma * _excess(-high)
        above = self.lower + sigma * _excess(-low)
        return above if high is None else above - sigma * _excess(-high)

    def check(self, u: Units, outcome: str) -> None:
        low, high = -math.inf if self.lower is None else self.lower, math.inf if self.upper is None else self.upper
        hint = f"Say what the limits are, families.{type(self).__name__}(lower=..., upper=...), or clip the outcome."
        wrong = (u.y < low) | (u.y > high)
        self._outside(u, outcome, wrong, f"from {low:g} to {high:g}", hint)
        self._varies(u.y[(u.y > low) & (u.y < high)], outcome)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """E[score score' | d, x]: the moments of the normal law between the limits, and the masses beyond them."""
        low, high = self._ends(u, theta)
        zero, one = torch.zeros_like(theta[..., -1]), torch.ones_like(theta[..., -1])
        m0, m1, m2, m3, m4 = _moments(low, high, zero, one)
        own, across, scale = m2, m3 - m1, m4 - 2 * m2 + m0
        for end, side in ((low, 1.0), (high, -1.0)):
            if end is not None:
                mass = torch.exp(-(end**2) - 2 * LOG_ROOT - _log_ndtr(side * end))
                own, across, scale = own + mass, across + mass * end, scale + mass * end**2
        return _assembled(u, theta, own, across, scale)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        return (index(u, theta) + theta[..., -1].exp() * noise).clamp(self.lower, self.upper)


@dataclass(frozen=True)
class Truncated(Limited):
    """Truncated regression: rows are there only where a normal outcome, of mean d'theta, is between the limits.

    l = -log(density / mass between the limits), with standard deviation exp(log_sigma(x)). Give a limit as None where
    there is none. Coefficients are changes of the mean in the population from which the rows were cut. Predictions and
    effects are on E[y | d, x] among rows that are there; with mean_of="latent", on d'theta, that of the population
    (averaged over the features of the rows that are there).
    """

    name: ClassVar[str] = "truncated"

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        z = (u.y - index(u, theta)) * (-theta[..., -1]).exp()
        log_mass, anchor = _log_mass(*self._ends(u, theta))
        return theta[..., -1] + LOG_ROOT + 0.5 * (z - anchor) * (z + anchor) + log_mass

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x] among rows that are there, or d'theta with mean_of="latent"; (..., P) -> (...)."""
        eta = index(u, theta)
        if self.mean_of == "latent":
            return eta
        low, high = self._ends(u, theta)
        near, far = _ratios(low, high)
        return eta + theta[..., -1].exp() * (near - far)

    def check(self, u: Units, outcome: str) -> None:
        low, high = -math.inf if self.lower is None else self.lower, math.inf if self.upper is None else self.upper
        hint = (
            f"Say what the limits are, families.{type(self).__name__}(lower=..., upper=...); rows at a limit belong to "
            "family='tobit'."
        )
        wrong = (u.y <= low) | (u.y >= high)
        self._outside(u, outcome, wrong, f"between {low:g} and {high:g}", hint)
        self._varies(u.y, outcome)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """The covariance of z / sigma and z^2 between the limits."""
        low, high = self._ends(u, theta)
        near, far = _ratios(low, high)
        one, zero = torch.ones_like(near), torch.zeros_like(near)
        a, b = zero if low is None else low, zero if high is None else high
        m1 = near - far
        m2 = one + a * near - b * far
        m3 = 2 * m1 + a**2 * near - b**2 * far
        m4 = 3 * m2 + a**3 * near - b**3 * far
        return _assembled(u, theta, m2 - m1**2, m3 - m1 * m2, m4 - m2**2)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        p = torch.rand(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        low, high = self._ends(u, theta)
        a = torch.full_like(p, -math.inf) if low is None else low
        b = torch.full_like(p, math.inf) if high is None else high
        side = torch.where(a + b > 0, -1.0, 1.0).to(p)  # the upper tail by the lower, which has more digits
        first, last = (
            torch.special.ndtr(torch.minimum(side * a, side * b)),
            torch.special.ndtr(torch.maximum(side * a, side * b)),
        )
        z = side * torch.special.ndtri(first + p.clamp(1e-12, 1 - 1e-12) * (last - first))
        return (index(u, theta) + theta[..., -1].exp() * z.clamp(a, b)).clamp(self.lower, self.upper)


def _excess(x: Tensor) -> Tensor:
    """E[(z + x)+] of a standard normal z, which is 0 or more; (...) -> (...)."""
    return x * torch.special.ndtr(x) + _density(x)


def _density(z: Tensor) -> Tensor:
    return (-0.5 * z**2 - LOG_ROOT).exp()


def _log_ndtr(x: Tensor) -> Tensor:
    """log P(z <= x); torch's own has no rule for vmap."""
    tail = _scaled(-x.clamp_max(0.0)).log() - 0.5 * x.clamp_max(0.0) ** 2
    return torch.where(x < 0, tail, torch.special.ndtr(x.clamp_min(0.0)).log())


def _moments(low: Tensor | None, high: Tensor | None, zero: Tensor, one: Tensor) -> tuple[Tensor, ...]:
    """Integrals of 1, z, ..., z^4 times the standard normal density between limits; (...) each."""
    a, fa, below = (zero, zero, zero) if low is None else (low, _density(low), torch.special.ndtr(low))
    b, fb, above = (zero, zero, zero) if high is None else (high, _density(high), torch.special.ndtr(-high))
    m0, m1 = one - below - above, fa - fb
    m2 = m0 + a * fa - b * fb
    return m0, m1, m2, 2 * m1 + a**2 * fa - b**2 * fb, 3 * m2 + a**3 * fa - b**3 * fb


def _log_mass(low: Tensor | None, high: Tensor | None) -> tuple[Tensor, Tensor]:
    """log(mass between limits) + anchor^2 / 2, and the anchor: the limit nearest to the mean where that is outside.

    Both in the tail, where mass and density are too small to be told from 0, and around the mean.
    """
    if low is None or high is None:
        end = low if low is not None else None if high is None else -high
        assert end is not None
        anchor = end.clamp_min(0.0)
        return torch.where(end > 0, _scaled(anchor).log(), torch.special.ndtr(-end.clamp_max(0.0)).log()), anchor
    turned = low + high < 0  # a mirror image keeps the limits above the mean, or around it
    a, b = torch.where(turned, -high, low), torch.where(turned, -low, high)
    anchor, wide = a.clamp_min(0.0), (b - a) * (b + a)
    beyond = torch.where(a > 0, b, anchor + 1.0)
    tail = _scaled(anchor) - (-0.5 * torch.where(a > 0, wide, 1.0)).exp() * _scaled(beyond)
    inner = torch.special.ndtr(torch.where(a > 0, 1.0, b)) - torch.special.ndtr(torch.where(a > 0, 0.0, a))
    return torch.where(a > 0, tail, inner).log(), anchor


def _scaled(x: Tensor) -> Tensor:
    """P(z > x) exp(x^2 / 2) for x of 0 or more."""
    return 0.5 * torch.special.erfcx(x / ROOT)


def _ratios(low: Tensor | None, high: Tensor | None) -> tuple[Tensor, Tensor]:
    """The density at each limit over the mass between them, 0 where there is no limit; (...) each."""
    log_mass, anchor = _log_mass(low, high)
    ratios = [
        torch.zeros_like(log_mass) if end is None
        else (-0.5 * (end - anchor) * (end + anchor) - LOG_ROOT - log_mass).exp()
        for end in (low, high)
    ]  # fmt: skip
    return ratios[0], ratios[1]


def _assembled(u: Units, theta: Tensor, own: Tensor, across: Tensor, scale: Tensor) -> Tensor:
    """The expected Hessian in d'theta and log_sigma, from its entries (...) at sigma 1; (..., P, P)."""
    precision = (-theta[..., -1]).exp()
    block = u.d[..., :, None] * u.d[..., None, :] * (precision**2 * own)[..., None, None]
    side = u.d * (precision * across)[..., None]
    top = torch.cat([block, side[..., None]], -1)
    return torch.cat([top, torch.cat([side, scale[..., None]], -1)[..., None, :]], -2)
