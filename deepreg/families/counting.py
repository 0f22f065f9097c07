"""Laws of a count given log mean and dispersion, with what truncation and inflation at zero need of them."""

import math
from typing import Protocol

import torch
from torch import Tensor

_SHIFT = 8  # by which arguments of the log gamma function are raised before its asymptotic series
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)  # of log gamma (Stirling)
_STEPS = 96  # of the trapezoidal rule in log s


class Law(Protocol):
    """P(y) at z = (log mean, *ancillary), each (...)."""

    extra: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]  # values to start each ancillary parameter from

    def log_mass(self, y: Tensor, *z: Tensor) -> Tensor:
        """log P(y); (...)."""

    def zero(self, *z: Tensor) -> Tensor:
        """-log P(0); (...)."""

    def slopes(self, *z: Tensor) -> tuple[Tensor, ...]:
        """The gradient of zero(); (...) each."""

    def information(self, *z: Tensor, own: bool = True) -> tuple[tuple[Tensor, ...], ...]:
        """E[Hessian of -log P(y)], S rows of S; (...) each. Without `own`, 0 for those of ancillary parameters."""

    def draw(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        """A count; (...)."""

    def draw_positive(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        """A count, given that it is not 0; (...)."""


class PoissonLaw:
    """Mean and variance exp(eta)."""

    extra: tuple[str, ...] = ()
    scales: tuple[tuple[float, ...], ...] = ()

    def log_mass(self, y: Tensor, *z: Tensor) -> Tensor:
        return y * z[0] - z[0].exp() - (y + 1).lgamma()

    def zero(self, *z: Tensor) -> Tensor:
        return z[0].exp()

    def slopes(self, *z: Tensor) -> tuple[Tensor, ...]:
        return (z[0].exp(),)

    def information(self, *z: Tensor, own: bool = True) -> tuple[tuple[Tensor, ...], ...]:
        return ((z[0].exp(),),)

    def draw(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        return torch.poisson(z[0].exp(), generator=generator)

    def draw_positive(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        mean = z[0].exp()  # events in [0, mean]: the first one, then those after it
        return 1 + torch.poisson((mean - _first(mean, generator)).clamp_min(0.0), generator=generator)


class NegbinLaw:
    """Mean mu = exp(eta) and variance mu + alpha mu^2: a Poisson law whose mean is gamma distributed."""

    extra: tuple[str, ...] = ("log_alpha",)
    scales: tuple[tuple[float, ...], ...] = ((-5.0, -3.5, -2.0, -1.0, 0.0, 1.0),)

    def log_mass(self, y: Tensor, *z: Tensor) -> Tensor:
        eta, log_alpha = z
        size = (-log_alpha).exp()
        return y * eta - (y + size) * _softplus(eta + log_alpha) + _rising(y, size) - (y + 1).lgamma()

    def table(self, y: Tensor, eta: Tensor, log_alpha: Tensor) -> Tensor:
        """log_mass() of counts y (n,), at a dispersion (G, 1) that is the same for all; (G, n).

        What depends on the count and the dispersion alone is computed once for each different count.
        """
        levels, place = y.unique(return_inverse=True)
        size = (-log_alpha).exp()
        fixed = _rising(levels, size) - (levels + 1).lgamma()
        return y * eta - (y + size) * _softplus(eta + log_alpha) + fixed[:, place]

    def slopes_of_table(
        self, y: Tensor, eta: Tensor, log_alpha: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        """Gradient and Hessian of -table() in eta and log_alpha; (G, n) each.

        Cameron and Trivedi (2013), section 3.3, in log alpha. With r = 1 / alpha and q = alpha mu / (1 + alpha mu),
        d/dr of r log(1 + alpha mu) is log(1 + alpha mu) - q.
        """
        levels, place = y.unique(return_inverse=True)
        size = (-log_alpha).exp()
        part = torch.sigmoid(eta + log_alpha)  # q
        total = (y + size) * part
        rise = torch.digamma(levels + size) - torch.digamma(size)
        bend = torch.polygamma(1, levels + size) - torch.polygamma(1, size)
        first = levels - size * rise  # of -rising in log alpha, where rising has -y log(r)
        second = size * rise + size.square() * bend
        logs = size * _softplus(eta + log_alpha)
        cross = total * (1 - part)
        of_alpha = total - logs - first[:, place]
        both = cross - 2 * size * part + logs - second[:, place]
        return (total - y, of_alpha), ((cross, cross - size * part), (cross - size * part, both))

    def zero(self, *z: Tensor) -> Tensor:
        eta, log_alpha = z
        return (-log_alpha).exp() * _softplus(eta + log_alpha)

    def slopes(self, *z: Tensor) -> tuple[Tensor, ...]:
        eta, log_alpha = z
        first = (-log_alpha).exp() * torch.sigmoid(eta + log_alpha)
        return first, first - self.zero(*z)

    def information(self, *z: Tensor, own: bool = True) -> tuple[tuple[Tensor, ...], ...]:
        eta, log_alpha = z
        slope = self.slopes(*z)[0]  # mu / (1 + alpha mu)
        return (slope, 0 * slope), (0 * slope, _of_log_alpha(eta, log_alpha) if own else 0 * slope)

    def draw(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        eta, log_alpha = torch.broadcast_tensors(*z)
        return _mixed((-log_alpha).exp(), (eta + log_alpha).exp(), generator)

    def draw_positive(self, generator: torch.Generator, *z: Tensor) -> Tensor:
        """From births at a rate that rises by 1 with each, up to time log(1 + alpha mu): the first, then the others."""
        eta, log_alpha = torch.broadcast_tensors(*z)
        size, time = (-log_alpha).exp(), _softplus(eta + log_alpha)
        left = (time - _first(size * time, generator) / size).clamp_min(0.0)
        return 1 + _mixed(size + 1, left.expm1(), generator)


def _softplus(x: Tensor) -> Tensor:
    return torch.nn.functional.softplus(x, threshold=50.0)


def _first(mass: Tensor, generator: torch.Generator) -> Tensor:
    """The first event of a Poisson process of rate 1, given that it comes before `mass`; (...)."""
    u = torch.rand(mass.shape, generator=generator, dtype=mass.dtype, device=mass.device)
    return -torch.log1p(u * torch.expm1(-mass))


def _mixed(size: Tensor, odds: Tensor, generator: torch.Generator) -> Tensor:
    """Negative binomial counts of mean size * odds; (...)."""
    return torch.poisson(torch._standard_gamma(size, generator=generator) * odds, generator=generator)


def _rising(y: Tensor, size: Tensor) -> Tensor:
    """log Gamma(y + size) - log Gamma(size) - y log(size), without their cancellation where size is large; (...)."""
    z = size + _SHIFT
    y, size = torch.broadcast_tensors(y, size)
    j = torch.arange(_SHIFT, dtype=size.dtype, device=size.device).reshape(-1, *[1] * size.dim())
    steps = torch.log1p(y / (size + j)).sum(0)
    body = (z + y - 0.5) * torch.log1p(y / z) - y + y * torch.log1p(_SHIFT / size)
    return body + _stirling(z + y) - _stirling(z) - steps


def _stirling(z: Tensor) -> Tensor:
    square, total = z**-2, torch.zeros_like(z)
    for term in reversed(_SERIES):
        total = total * square + term
    return total / z


def _of_log_alpha(eta: Tensor, log_alpha: Tensor) -> Tensor:
    """The information on log_alpha; (...).

    With r = 1 / alpha it is r^2 (E[psi'(r) - psi'(r + y)] - mu / (r (r + mu))), and psi'(r + y) is the integral of
    s exp(-(r + y) s) / (1 - exp(-s)) over s > 0. So the expectation is that of a function of exp(-s y), known for the
    negative binomial law, and one smooth integral replaces a sum over all counts. In log s the trapezoidal rule
    converges geometrically.
    """
    eta, log_alpha = torch.broadcast_tensors(eta, log_alpha)
    size, mu, ratio = (-log_alpha).exp(), eta.exp(), (eta + log_alpha).exp()
    least = torch.stack([0 * eta, -eta, -eta - log_alpha, log_alpha]).amin(0) + math.log(1e-6)
    step = (log_alpha + math.log(45.0) - least) / (_STEPS - 1)
    total = torch.zeros_like(eta)
    for k in range(_STEPS):
        s = (least + k * step).exp()
        gone = -torch.expm1(-s)
        with_law = -torch.expm1(-size * torch.log1p(ratio * gone)) * s / gone
        total = total + s * torch.exp(-size * s) * (with_law + torch.expm1(-mu * s))
    return (size**2 * step * total).clamp_min(0.0)
