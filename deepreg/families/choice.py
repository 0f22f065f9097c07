"""The families for the choice of one alternative out of a set: what they share, and the conditional logit."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError
from ..units import Units
from .base import Family


@dataclass(frozen=True)
class Choice(Family):
    """What choices of one out of J alternatives share; a family adds its probabilities to it.

    Units hold the position chosen, y (n,), the attributes of the alternatives, d (n, J, K), and which of them could be
    chosen, mask (n, J). Means are the probabilities of the J alternatives, 0 for those out of the set.
    """

    alternatives: tuple[str, ...] = ()

    def among(self, alternatives: tuple[str, ...], named: bool) -> "Choice":
        """The family for alternatives of these names, or of so many positions where they are not `named`."""
        return replace(self, alternatives=alternatives)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"P({one})" for one in self.alternatives)

    def check(self, u: Units, outcome: str) -> None:
        if u.d.dim() < 3:
            raise DataError(
                f"family={self.name!r} needs the alternatives behind each choice {outcome!r}, a row of the data for "
                "each of them. Use deepreg.choice(formula, data, unit=..., alternative=...)."
            )
        bad = int(((u.y < 0) | (u.y >= u.d.shape[-2]) | (u.y != u.y.round())).sum())
        if bad:
            raise DataError(
                f"family={self.name!r} needs the position of the alternative chosen, 0 to {u.d.shape[-2] - 1}, but "
                f"{outcome!r} has {bad} other values. Use deepreg.choice(formula, data, unit=..., alternative=...)."
            )
        outside = int((u.mask.gather(-1, u.y.long()[:, None]) == 0).sum())
        if outside:
            raise DataError(
                f"family={self.name!r}: in {outside} units {outcome!r} is an alternative out of the choice set. Add it "
                "to the set, or leave these units out."
            )

    def around(self, u: Units) -> Units:
        middle = (u.d * u.mask[..., None]).sum(-2, keepdim=True) / u.mask.sum(-1)[..., None, None]
        return u._replace(d=(u.d - middle) * u.mask[..., None])

    def utilities(self, u: Units, theta: Tensor) -> Tensor:
        """d_j'theta with the first K columns of theta, and the offset; (..., P) -> (..., J)."""
        terms = [d * b[..., None] for d, b in zip(u.d.unbind(-1), theta.unbind(-1), strict=False)]
        return sum(terms[1:], terms[0]) + u.offset  # reducing a short axis is slow

    def chosen(self, u: Units) -> Tensor:
        """True at the alternative chosen; (..., J)."""
        return u.y[..., None] == torch.arange(u.d.shape[-2], device=u.d.device)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        chance = self.mean(u, theta)
        return torch.multinomial(chance.flatten(0, -2), 1, generator=generator).reshape(chance.shape[:-1]).to(theta)


@dataclass(frozen=True)
class ConditionalLogit(Choice):
    """Conditional logit: P(y = j) proportional to exp(d_j'theta) over the alternatives of the unit's choice set.

    Units hold the position chosen, y (n,), the attributes of J alternatives, d (n, J, K), and which of them could be
    chosen, mask (n, J). Means are the probabilities of the J alternatives, 0 for those out of the set. What is the same
    for all alternatives of a set cancels, so there is no intercept. `deepreg.choice` makes such units. McFadden (1974).

    >>> from deepreg.families import ConditionalLogit
    >>> ConditionalLogit(("bus", "car")).labels
    ('P(bus)', 'P(car)')
    """

    name: ClassVar[str] = "conditional_logit"

    def _present(self, u: Units, theta: Tensor) -> Tensor:
        """Utilities, minus infinity out of the choice set; (..., P) -> (..., J)."""
        return self.utilities(u, theta).masked_fill(u.mask == 0, -torch.inf)

    def inclusive(self, u: Units, theta: Tensor) -> Tensor:
        return self._present(u, theta).logsumexp(-1)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        utilities = self._present(u, theta)
        return utilities.logsumexp(-1) - torch.where(self.chosen(u), utilities, 0.0).sum(-1)

    def derivatives(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """E[d] - d of the alternative chosen, and the variance of d, over the probabilities of the alternatives."""
        chance = self.mean(u, theta.detach())
        mean = (chance[..., None] * u.d).sum(-2)  # (..., K)
        score = mean - (self.chosen(u)[..., None] * u.d).sum(-2)
        apart = u.d - mean[..., None, :]
        return score, (apart * chance[..., None]).mT @ apart

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return self._present(u, theta).softmax(-1)
