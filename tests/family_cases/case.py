"""What the contract tests have to know of a family."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deepreg.families import Family
from deepreg.units import Units

N, K = 40, 3
Density = Callable[[Units, Tensor], np.ndarray]
Impossible = tuple[object, list[str]]  # outcomes that no family of the kind can have drawn, and words of the error


@dataclass(frozen=True)
class Case:
    """A family as structural() would bind it, and what it is compared with.

    `density` is the negative log density of each unit by other software, up to what is free of theta; `truth` the
    constant theta of the recovery test, for the terms Intercept, a and b; `derivatives` the score and the Hessian of a
    textbook, where there are such; `unit` what a difference of losses is multiplied by where the outcome is.
    """

    family: Family
    density: Density
    impossible: tuple[Impossible, ...]
    truth: tuple[float, ...]
    derivatives: Callable[[Units, Tensor], tuple[np.ndarray, np.ndarray]] | None = None
    unit: Callable[[float], float] = lambda scale: 1.0
    likelihood: bool = True  # whether draws are from the law that the loss is the likelihood of
    spread: float = 0.4  # of the theta that units are drawn at
    inside: int = 0  # alternatives inside a unit, of which the last is out of every third choice set; 0: there are none


def units(case: Case, n: int = N, seed: int = 2) -> tuple[Units, Tensor]:
    """Units drawn at theta (n, P)."""
    family, g = case.family, torch.Generator().manual_seed(seed)
    d = torch.cat([torch.ones(n, 1), torch.randn(n, K - 1, generator=g)], 1).double()
    mask = torch.ones(n, dtype=torch.float64)
    if case.inside:
        d, mask = torch.randn(n, case.inside, K, generator=g).double(), torch.ones(n, case.inside, dtype=torch.float64)
        mask[::3, -1] = 0.0
    size = len(family.names(("Intercept", "a", "b")))
    theta = case.spread * torch.randn(n, size, generator=g, dtype=torch.float64)
    empty = Units(torch.zeros(n, dtype=torch.float64), d, mask)
    return empty._replace(y=family.simulate(empty, theta, g)), theta


def parts(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, d, the first index and theta as arrays."""
    d, y, t = u.d.numpy(), u.y.numpy(), theta.numpy()
    return y, d, (d * t[:, : d.shape[1]]).sum(1), t


def outer(d: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return d[:, :, None] * d[:, None, :] * weight[:, None, None]
