"""The family of the engine's own regression of the curvature on x."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..units import Units
from .base import Family


@dataclass(frozen=True)
class Precision(Family):
    """The inverse of E[y | x] for a random positive semi-definite y (..., P, P), positive definite by construction.

    With L lower triangular and exp on its diagonal, the loss tr(L' y L) / 2 - log|L| (Stein 1956) is minimised in
    expectation at L L' = E[y | x]^{-1}, and a linear change of coordinates of y changes L with it.
    """

    order: int = 1
    name: ClassVar[str] = "precision"
    outcome_free: ClassVar[bool] = False  # so its Hessian may be indefinite

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        rows, columns = torch.tril_indices(self.order, self.order)
        return tuple(f"L[{i},{j}]" for i, j in zip(rows.tolist(), columns.tolist(), strict=True))

    def factor(self, theta: Tensor) -> Tensor:
        """The triangular factor L; (..., P(P+1)/2) -> (..., P, P)."""
        rows, columns = torch.tril_indices(self.order, self.order, device=theta.device)
        filled = torch.where(rows == columns, theta.exp(), theta)
        place = torch.nn.functional.one_hot(rows * self.order + columns, self.order**2).to(theta.dtype)
        return (filled @ place).unflatten(-1, (self.order, self.order))

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        factor = self.factor(theta)
        fit = 0.5 * (factor * (u.y @ factor)).sum((-1, -2))
        return fit - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        factor = self.factor(theta)
        return factor @ factor.mT

    def start(self, u: Units) -> Tensor:
        return torch.zeros(self.order * (self.order + 1) // 2, dtype=torch.float64, device=u.d.device)
