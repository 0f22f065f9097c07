"""Functions of the features in groups: a linear term and a smooth departure from it for each, and their products."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .units import blocks

SMOOTHS = 8  # smooth functions of a feature, at most
PAIRED = 150  # features up to which products of two are looked at
LEADING = 3  # functions of a feature that enter its products: the linear one and the smoothest of the others


@dataclass(frozen=True)
class Smooth:
    """Natural cubic splines of one feature without their linear part, scaled so that a roughness penalty is a ridge.

    The mixed-model form of a smoothing spline (Ruppert, Wand and Carroll 2003, section 4.9): columns are ordered from
    smooth to rough, with the variance that a random function of unit mean square has in each direction.
    """

    knots: Tensor  # (k,)
    turn: Tensor  # (k, q)
    line: Tensor  # (2, q) intercept and slope removed from each column

    @classmethod
    def of(cls, v: Tensor, most: int) -> "Smooth | None":
        """From the values of a feature (n,); None where they are too few to bend."""
        levels = v.unique()
        size = min(most, len(levels) - 2)
        if size < 1:
            return None
        knots = _knots(v if len(levels) > 2 * most else levels, size + 2)
        if len(knots) < 3:  # most rows share a value
            knots = _knots(levels, size + 2)
        flat = torch.stack([torch.ones_like(knots), knots], 1)
        free = torch.linalg.qr(flat, mode="complete")[0][:, 2:]  # coefficients of functions that end in lines
        roughness = free.T @ (knots[:, None] - knots).abs() ** 3 @ free
        values, vectors = torch.linalg.eigh(roughness)
        turn = free @ vectors / values.abs().clamp_min(1e-10 * values.abs().max()).sqrt()
        raw = (v[:, None] - knots).abs() ** 3 @ turn
        away = v - v.mean()
        slope = away @ raw / (away @ away)  # not lstsq, whose last digit varies by chance
        line = torch.stack([raw.mean(0) - slope * v.mean(), slope])
        power = (raw - line[0] - v[:, None] * line[1]).square().mean(0)
        order = power.argsort(descending=True)
        unit = power.sum().sqrt()
        return cls(knots, turn[:, order] / unit, line[:, order] / unit)

    def __call__(self, v: Tensor) -> Tensor:
        return (v[:, None] - self.knots).abs() ** 3 @ self.turn - self.line[0] - v[:, None] * self.line[1]


def _knots(v: Tensor, most: int) -> Tensor:
    """Observed values, as far apart half in rank and half in value: quantiles alone leave a long tail without any."""
    v = v.sort().values
    place = torch.linspace(0, 1, len(v), dtype=v.dtype, device=v.device) + (v - v[0]) / (v[-1] - v[0])
    return v[torch.searchsorted(place, torch.linspace(0, 2, most, dtype=v.dtype, device=v.device))].unique()


@dataclass(frozen=True)
class Basis:
    """All functions of p features. Group 0 is the constant; then linear terms, smooth departures, and products.

    With p features, group 1 + j is linear in feature j, 1 + p + j its smooth departure, and 1 + 2 p + i the product of
    the features pairs[i].
    """

    smooths: tuple[Smooth | None, ...]

    @classmethod
    def of(cls, x: Tensor, most: int = SMOOTHS) -> "Basis":
        """From standardised features (n, p), with at most `most` smooth functions of each."""
        return cls(tuple(Smooth.of(v, most) for v in x.double().unbind(1)))

    @property
    def features(self) -> int:
        return len(self.smooths)

    @property
    def mains(self) -> int:
        """Number of groups that are not products."""
        return 1 + 2 * self.features

    @cached_property
    def pairs(self) -> Tensor:
        """The two features of each product; (p (p - 1) / 2, 2) long, and none where there are too many to look at."""
        p = self.features if self.features <= PAIRED else 0
        return torch.triu_indices(p, p, 1).T

    @property
    def groups(self) -> int:
        return self.mains + len(self.pairs)

    def members(self) -> Tensor:
        """The features each group reads, as indicators; (groups, p) bool."""
        eye = torch.eye(self.features, dtype=torch.bool)
        first, second = self.pairs.unbind(1)
        return torch.cat([torch.zeros(1, self.features, dtype=torch.bool), eye, eye, eye[first] | eye[second]])

    def leading(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The functions that enter products, and the feature of each; (n, a) float64 and (a,) long."""
        return _beside(x, lambda some: [self._lead(some, j) for j in range(self.features)])

    def columns(self, x: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """The functions of some groups, and the position in `groups` of each one's; (n, q) float64 and (q,) long."""
        return _beside(x, lambda some: [self._group(some, g) for g in groups.tolist()])

    def _group(self, x: Tensor, g: int) -> Tensor:
        p = self.features
        if g == 0:
            return torch.ones_like(x[:, :1])
        if g <= p:
            return x[:, g - 1 : g]
        if g < self.mains:
            smooth = self.smooths[g - 1 - p]
            return x[:, :0] if smooth is None else smooth(x[:, g - 1 - p])
        j, k = self.pairs[g - self.mains].tolist()
        sides = self._lead(x, j, self.smooths[k] is None), self._lead(x, k, self.smooths[j] is None)
        return (sides[0][:, :, None] * sides[1][:, None, :]).flatten(1)

    def _lead(self, x: Tensor, j: int, every: bool = False) -> Tensor:
        smooth, line = self.smooths[j], x[:, j : j + 1]
        return line if smooth is None else torch.cat([line, smooth(x[:, j])[:, : None if every else LEADING - 1]], 1)


def _beside(x: Tensor, pieces: Callable[[Tensor], list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Columns side by side (n, q) float64, and the position of the piece that each is from (q,)."""
    width = [piece.shape[1] for piece in pieces(x[:0].double())]
    place = torch.arange(len(width), device=x.device).repeat_interleave(torch.tensor(width, device=x.device))
    columns = torch.empty(len(x), sum(width), dtype=torch.float64, device=x.device)
    for rows in blocks(len(x)):
        torch.cat(pieces(x[rows].double()), 1, out=columns[rows])
    return columns, place
