"""Functions whose values and first two derivatives stay finite and exact far out, also in single precision."""

import math

import torch
from torch import Tensor

SMALL = 1e-2  # above it a formula, below it a series
LARGE = 30.0  # above it a series


def log_ndtr(s: Tensor) -> Tensor:
    """log Phi(s); torch's own has no rule for vmap, and loses second derivatives in single precision."""
    right = torch.log1p(-0.5 * torch.special.erfc(s.clamp_min(0.0) / math.sqrt(2)))
    left = torch.log(0.5 * torch.special.erfcx(-s.clamp_max(0.0) / math.sqrt(2))) - 0.5 * s * s
    return torch.where(s > 0, right, left)


def log_cloglog(eta: Tensor) -> Tensor:
    """log(1 - exp(-exp(eta)))."""
    small, large = eta.clamp_max(math.log(SMALL)).exp(), eta.clamp_min(math.log(SMALL)).exp()
    series = eta - small / 2 + small**2 / 24 - small**4 / 2880
    return torch.where(eta < math.log(SMALL), series, torch.log(-torch.expm1(-large)))


def exp_or_tangent(x: Tensor) -> Tensor:
    """exp(x), and beyond 29 its tangent, in double precision beyond 236: what has a finite square."""
    edge = math.log(torch.finfo(x.dtype).max) / 3
    return x.clamp_max(edge).exp() * (1 + (x - edge).clamp_min(0.0))


def stirling(log_k: Tensor) -> Tensor:
    """log Gamma(k) - k log k + k, by Stirling's series where the terms would cancel."""
    small, large = log_k.clamp_max(math.log(LARGE)).exp(), log_k.clamp_min(math.log(LARGE))
    inverse = (-large).exp()
    series = 0.5 * (math.log(2 * math.pi) - large) + inverse / 12 - inverse**3 / 360 + inverse**5 / 1260
    direct = torch.lgamma(1 + small) - (1 + small) * log_k + small  # Gamma(k) = Gamma(1 + k) / k: finite at 0
    return torch.where(log_k > math.log(LARGE), series, direct)


def trigamma_excess(log_k: Tensor) -> Tensor:
    """k^2 trigamma(k) - k: the information of a gamma law on the log of its shape."""
    small, inverse = log_k.clamp_max(math.log(LARGE)).exp(), (-log_k.clamp_min(math.log(LARGE))).exp()
    series = 0.5 + inverse / 6 - inverse**3 / 30 + inverse**5 / 42
    direct = 1 + small**2 * torch.special.polygamma(1, 1 + small) - small
    return torch.where(log_k > math.log(LARGE), series, direct)
