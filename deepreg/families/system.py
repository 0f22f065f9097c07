"""Several linear equations with the same regressors: several outcomes at once, and instrumental variables."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, index, weighted


@dataclass(frozen=True)
class LinearSystem(Family):
    """Least squares for each of m outcomes: l = sum_j ((y_j - d'theta_j) / s_j)^2 / 2, with s_j the outcome's sd.

    The division makes the equations count alike, whatever the units of the outcomes. Coefficients are named
    "outcome: term". Equation by equation this is "linear"; together, estimates of different equations have a joint
    covariance.
    """

    equations: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    name: ClassVar[str] = "linear_system"
    shifted: ClassVar[str] = "take it from the outcome: I(y - z) ~ ..."
    outcome: ClassVar[str] = "several"

    @property
    def likelihood(self) -> bool:
        return False

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(f"{name}: " for name in self.equations)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.equations

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple["LinearSystem", Units]:
        return LinearSystem(tuple(map(str, levels)), tuple(u.y.std(0, correction=0).tolist())), u

    def check(self, u: Units, outcome: str) -> None:
        y = u.y.reshape(len(u.y), -1)
        flat = (y.amax(0) - y.amin(0) <= 1e-12 * y.abs().amax(0)).nonzero()
        if len(flat):
            raise DataError(
                f"family={self.name!r} needs outcomes that vary, but number {int(flat[0]) + 1} of {outcome!r} is "
                f"{float(y[0, flat[0]]):g} in all {len(y)} rows used; check the subset, or leave it out."
            )

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        unit = torch.tensor(self.scales, dtype=theta.dtype, device=theta.device)
        return 0.5 * ((u.y - self.mean(u, theta)) / unit).square().sum(-1)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """d d' / s_j^2 for each equation, free of y and theta."""
        block = weighted(u, torch.ones_like(u.d[..., 0]))  # (..., K, K)
        unit = torch.tensor(self.scales, dtype=theta.dtype, device=theta.device)
        return torch.kron(unit.pow(-2).diag(), block)

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """NaN: least squares states no joint law of the outcomes."""
        return float("nan")

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return torch.stack([index(u, theta, j) for j in range(len(self.equations))], -1)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """With independent normal noise of variance 1, where least squares assumes no law."""
        mean = self.mean(u, theta)
        return mean + torch.randn(mean.shape, generator=generator, dtype=theta.dtype, device=theta.device)
