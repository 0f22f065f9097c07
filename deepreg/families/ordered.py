"""Families for an outcome of several classes in an order: the ordered logit and the ordered probit."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..units import Units
from .base import Family, chained, natural, started
from .categorical import check_classes, coded


@dataclass(frozen=True)
class OrderedLogit(Family):
    """Classes in order, by where a latent d'theta + e falls among cut points, e logistic (proportional odds).

    P(y <= c) = F(k_c - d'theta). The first cut point is 0, so the intercept is minus what other software calls the
    first cut point; k_c = k_{c-1} + exp(log_gap), so cut points cannot cross and their distances vary with x. Classes
    are the levels of a text or categorical outcome in their order, or the distinct values of a numeric one. The
    ancillary parameters are named by the cut points a gap lies between, "log_gap b|c" being the log of the width of
    class b on the latent scale, below class c. Means are the probabilities of all classes. McCullagh (1980).
    """

    classes: tuple[str, ...] = ()
    name: ClassVar[str] = "ordered_logit"
    outcome: ClassVar[str] = "levels"
    outcome_free: ClassVar[bool] = False

    @property
    def extra(self) -> tuple[str, ...]:
        return tuple(f"log_gap {low}|{high}" for low, high in zip(self.classes[1:], self.classes[2:], strict=False))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"P({c})" for c in self.classes)

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple[Family, Units]:
        classes, y = coded(u.y, levels)
        return replace(self, classes=classes), u._replace(y=y)

    def check(self, u: Units, outcome: str) -> None:
        check_classes(self.name, u.y, outcome)

    # the law of e
    def below(self, x: Tensor) -> Tensor:
        """log F(x); (...)."""
        return torch.nn.functional.logsigmoid(x)

    def between(self, low: Tensor, gap: Tensor) -> Tensor:
        """log (F(low + gap) - F(low)); (...)."""
        return self.below(low + gap) + self.below(-low) + (-torch.expm1(-gap)).log()

    def log_density(self, x: Tensor) -> Tensor:
        """log F'(x); (...)."""
        return self.below(x) + self.below(-x)

    def quantile_of(self, p: Tensor) -> Tensor:
        """The p-quantile of e; (...)."""
        return p.logit()

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        eta, *gaps = natural(u, theta)
        gap = _stack([torch.ones_like(eta), *(log_gap.exp() for log_gap in gaps)])  # (..., C - 1)
        above = torch.cat([torch.zeros_like(gap[..., :1]), gap[..., 1:]], -1).cumsum(-1)  # the cut above each class
        at = u.y[..., None] == torch.arange(len(self.classes), device=theta.device)  # (..., C)
        own = at[..., :-1].to(above)
        low, width = ((above - gap) * own).sum(-1), (gap * own).sum(-1)
        first, last = at[..., 0], at[..., -1]
        width = torch.where(last, 1.0, width)
        inner = self.between(low - eta, width)
        return -torch.where(first, self.below(-eta), torch.where(last, self.below(eta - above[..., -1]), inner))

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        each = [self.loss(u._replace(y=torch.full_like(u.y, c)), theta) for c in range(len(self.classes))]
        return torch.stack(each, -1).neg().exp()

    def start(self, u: Units) -> Tensor:
        count = u.y.flatten().long().bincount(minlength=len(self.classes)).double()
        cuts = self.quantile_of(count.cumsum(0)[:-1] / count.sum())  # (C - 1,)
        return started(u, torch.cat([-cuts[:1], cuts.diff().log()]))

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """The sum over classes of the outer product of the slopes of P(y = c), over P(y = c)."""
        eta, *gaps = torch.broadcast_tensors(*natural(u, theta))
        size = len(self.classes)
        gap = _stack([torch.zeros_like(eta), *(log_gap.exp() for log_gap in gaps)])  # (..., C - 1)
        log_density = self.log_density(gap.cumsum(-1) - eta[..., None])
        steps = torch.ones(size - 1, size - 1, dtype=eta.dtype, device=eta.device).tril()
        turn = torch.cat([-torch.ones_like(gap[..., None]), (steps * gap[..., None, :])[..., 1:]], -1)  # of the cuts
        chance = self.mean(u, theta).log()
        share = torch.nn.functional.pad
        up = share((log_density - 0.5 * chance[..., :-1]).exp()[..., None] * turn, (0, 0, 0, 1))
        down = share((log_density - 0.5 * chance[..., 1:]).exp()[..., None] * turn, (0, 0, 1, 0))
        root = up - down  # (..., C, S)
        return chained(root.mT @ root, u)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        chance = self.mean(u, theta)
        return torch.multinomial(chance.flatten(0, -2), 1, generator=generator).reshape(chance.shape[:-1]).to(theta)


@dataclass(frozen=True)
class OrderedProbit(OrderedLogit):
    """Classes in order, by where a latent d'theta + e falls among cut points, e standard normal.

    Cut points, names and means are those of "ordered_logit". Aitchison and Silvey (1957).
    """

    name: ClassVar[str] = "ordered_probit"

    def below(self, x: Tensor) -> Tensor:
        left, right = x.clamp_max(0.0), x.clamp_min(0.0)
        tail = (0.5 * torch.special.erfcx(-left / math.sqrt(2))).log() - 0.5 * left**2
        return torch.where(x < 0, tail, torch.log1p(-0.5 * torch.erfc(right / math.sqrt(2))))

    def between(self, low: Tensor, gap: Tensor) -> Tensor:
        flipped = 2 * low + gap > 0  # the tail in which both ends are small
        low = torch.where(flipped, -low - gap, low)
        high = self.below(low + gap)
        return high + (-torch.expm1(self.below(low) - high)).log()

    def log_density(self, x: Tensor) -> Tensor:
        return -0.5 * x**2 - 0.5 * math.log(2 * math.pi)

    def quantile_of(self, p: Tensor) -> Tensor:
        return torch.special.ndtri(p)


def _stack(parts: list[Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*parts), -1)
