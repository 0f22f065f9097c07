"""The family for an outcome of several classes without an order."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family


@dataclass(frozen=True)
class Multinomial(Family):
    """Multinomial logit: P(y = c) proportional to exp(d'theta_c), with theta of the first class 0.

    Classes are the levels of a text or categorical outcome in their order, or the distinct values of a numeric one.
    Coefficients are named "class: term", and means are the probabilities of all classes. McFadden (1974).
    """

    classes: tuple[str, ...] = ()
    name: ClassVar[str] = "multinomial"
    shifted: ClassVar[str] = "make it a regressor: y ~ t + z"
    outcome: ClassVar[str] = "levels"

    @classmethod
    def of(cls, count: int) -> "Multinomial":
        """For classes that are known by their positions."""
        return cls(tuple(map(str, range(count))))

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(f"{c}: " for c in self.classes[1:])

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"P({c})" for c in self.classes)

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple["Multinomial", Units]:
        classes, y = coded(u.y, levels)
        return Multinomial(classes), u._replace(y=y)

    def check(self, u: Units, outcome: str) -> None:
        check_classes(self.name, u.y, outcome)

    def logits(self, u: Units, theta: Tensor) -> Tensor:
        """d'theta_c of all classes, 0 for the first; (..., P) -> (..., C)."""
        k = u.d.shape[-1]
        if k == 1:  # summing a short axis is slow
            return torch.nn.functional.pad(theta * u.d, (1, 0))
        each = theta.unflatten(-1, (len(self.classes) - 1, k)) * u.d[..., None, :]
        return torch.nn.functional.pad(each.sum(-1), (1, 0))

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        logits = self.logits(u, theta)
        chosen = u.y[..., None] == torch.arange(len(self.classes), device=theta.device)  # (..., C)
        return logits.logsumexp(-1) - (logits * chosen).sum(-1)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return self.logits(u, theta).softmax(-1)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        chance = self.mean(u, theta)
        return torch.multinomial(chance.flatten(0, -2), 1, generator=generator).reshape(chance.shape[:-1]).to(theta)


MOST = 50  # classes of an outcome


def check_classes(family: str, y: Tensor, outcome: str) -> None:
    """Raise DataError unless outcomes (n,) have two classes or more, and not too many."""
    found = len(y.unique())
    if not 2 <= found <= MOST:
        raise DataError(
            f"family={family!r} needs an outcome of 2 to {MOST} classes, but {outcome!r} has {found} distinct "
            "values in the rows used. Merge classes, or choose another family."
        )


def coded(y: Tensor, levels: tuple[object, ...]) -> tuple[tuple[str, ...], Tensor]:
    """Names of the classes that occur, and the outcome as their positions; (n,) -> (n,).

    The values of y are positions among `levels`, or numbers where there are none.
    """
    values, code = y.unique(return_inverse=True)
    names = [str(levels[int(v)]) if levels else f"{v:g}" for v in values.tolist()]
    return tuple(names), code.to(y.dtype)
