"""Submodels: one family fitted to many choices of the columns of the same rows, all choices of a block at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .families import Family
from .minimise import State, minimise
from .units import Units, blocks

ENTRIES = 1_000_000  # numbers in the regressors of a block of choices
OFF = 1e-6  # a last step that moves an index by more than it, and the loss by nothing: a coefficient that runs off


class Fits(NamedTuple):
    """Where the fits of C choices of columns ended."""

    theta: Tensor  # (C, P), 0 where no column was chosen
    loss: Tensor  # (C,) weighted mean loss; infinite where there is no minimum
    held: Tensor  # (C, P) bool: at a bound


@dataclass(frozen=True)
class Submodels:
    """A family, n rows with all the columns that may be chosen, and bounds of the coefficients by column.

    The family's loss reads the regressors through linear indices alone, as those of counts, shares and classes do.
    """

    family: Family
    units: Units  # d is (n, A)
    lower: Tensor  # (A,), minus infinity where a column has no bound
    least: float = -torch.inf  # of the ancillary parameters

    def fit(self, columns: Tensor, weight: Tensor, start: Tensor | None = None, rows: Tensor | None = None) -> Fits:
        """Newton's method for each choice; columns (C, K) long, -1 for none, weight (C or 1, n), start (C, P).

        `rows` (C,) says which row of the weights a choice has, where they are fewer than the choices.
        """
        found = [self._block(columns[part], _of(weight, rows, part), None if start is None else start[part])
                 for part in self._blocks(columns)]  # fmt: skip
        return Fits(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _blocks(self, columns: Tensor) -> Iterator[slice]:
        size = max(1, ENTRIES // (len(self.units.y) * columns.shape[1]))
        return blocks(len(columns), size)

    def regressors(self, columns: Tensor) -> Tensor:
        """(C, K) -> (C, K, n), 0 where there is no column."""
        return torch.cat([self.units.d, 0 * self.units.d[:, :1]], 1).T[columns]

    def _block(self, columns: Tensor, weight: Tensor, start: Tensor | None) -> Fits:
        d = self.regressors(columns)
        share = weight / weight.sum(1, keepdim=True)
        none = columns < 0
        padded = torch.cat([self.lower, self.lower.new_zeros(1)])
        lower, upper = padded[columns], torch.where(none, 0.0, torch.inf)
        extra = lower.new_full((len(columns), len(self.family.extra)), torch.inf)
        lower, upper = torch.cat([lower, torch.full_like(extra, self.least)], 1), torch.cat([upper, extra], 1)
        if start is None:
            start = self.started(columns)
        loss = IndexLoss(self.family, self.units, d, share)
        found = minimise(loss.value, loss.derivatives, start.clamp(lower, upper), lower=lower, upper=upper, steps=60)
        size = (d.square() @ share[:, :, None])[:, :, 0].sqrt()
        at, step = (one[:, : d.shape[1]] * size for one in (found.theta, found.step))
        far = (step.abs() > OFF * (1 + at.abs())).any(1)
        lost = (found.state != State.DONE) | far
        return Fits(found.theta, torch.where(lost, torch.inf, found.value), ~found.free)

    def started(self, columns: Tensor) -> Tensor:
        """The family's start for the first column alone, which all choices share; (C, P)."""
        u = self.units
        first = u._replace(d=u.d[:, columns[0, :1]])
        at = self.family.start(first)
        start = at.new_zeros(len(columns), columns.shape[1] + len(self.family.extra))
        start[:, 0] = at[0]
        if self.family.extra:
            start[:, columns.shape[1] :] = at[1:]
        return start


def _of(weight: Tensor, rows: Tensor | None, part: slice) -> Tensor:
    if rows is not None:
        return weight[rows[part]]
    return weight[part] if len(weight) > 1 else weight


class IndexLoss(NamedTuple):
    """The weighted loss of a family with one linear index, at G constant thetas."""

    family: Family
    units: Units
    d: Tensor  # (G, K, n)
    share: Tensor  # (G or 1, n), sums to 1

    def natural(self, theta: Tensor) -> tuple[Tensor, ...]:
        """The index (G, n) and the ancillary parameters (G, 1)."""
        k = self.d.shape[1]
        eta = (theta[:, None, :k] @ self.d)[:, 0]
        return (eta + self.units.offset if self.units.offset.dim() else eta, *theta[:, k:, None].unbind(1))

    def value(self, theta: Tensor) -> Tensor:
        """(G, P) -> (G,)."""
        loss = self.family.natural_loss(self.units, *self.natural(theta))
        return (loss * self.share).sum(1)

    def derivatives(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """(G, P) -> gradient (G, P), Hessian (G, P, P): those in the index, times the regressors."""
        score, core = self.family.natural_derivatives(self.units, *self.natural(theta))
        score = tuple(one * self.share for one in score)
        core = tuple(tuple(one * self.share for one in row) for row in core)
        gradient = (self.d @ score[0][:, :, None])[:, :, 0]
        hessian = (self.d * core[0][0][:, None]) @ self.d.mT
        if len(score) == 1:
            return gradient, hessian
        gradient = torch.cat([gradient, torch.stack([one.sum(1) for one in score[1:]], 1)], 1)
        side = self.d @ torch.stack(core[0][1:], 2)
        rest = torch.stack([torch.stack([one.sum(1) for one in row[1:]], 1) for row in core[1:]], 1)
        return gradient, torch.cat([torch.cat([hessian, side], 2), torch.cat([side.mT, rest], 2)], 1)
