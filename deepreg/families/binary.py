"""The family for an outcome that is 0 or 1."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family, index


@dataclass(frozen=True)
class Logit(Family):
    """Bernoulli likelihood with P(y = 1) = sigmoid(d'theta): l = softplus(d'theta) - y d'theta."""

    name: ClassVar[str] = "logit"
    binary: ClassVar[bool] = True

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return torch.nn.functional.softplus(eta) - u.y * eta

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return torch.sigmoid(index(u, theta))

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        eta = index(u, theta)
        return torch.sigmoid(eta) * torch.sigmoid(-eta)

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        return torch.where(y < 1, torch.sigmoid(-index(u, theta)), 1.0) * (y >= 0)

    def check(self, u: Units, outcome: str) -> None:
        values = u.y.unique()
        if not bool(((values == 0) | (values == 1)).all()):
            shown = ", ".join(f"{v:g}" for v in values[:5].tolist())
            raise DataError(
                f"family='logit' needs an outcome of 0 and 1, but {outcome!r} has {len(values)} distinct values "
                f"({shown}{', ...' if len(values) > 5 else ''}). Recode it, for example "
                f"`I(({outcome} > {float(values.median()):g}) * 1)`, or choose family='linear'."
            )
        if len(values) < 2:
            raise DataError(
                f"family='logit' needs both 0 and 1 in {outcome!r}, but every row is {float(values[0]):g}; "
                "check the subset or the coding."
            )

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(u, theta), generator=generator)
