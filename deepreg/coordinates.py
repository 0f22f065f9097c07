"""The coordinates learners work in: outputs of order one with an identity curvature, whatever the units of the data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from . import stacking
from .evidence import Target
from .families import Family
from .networks import Network
from .splits import Splits
from .structure import Pooled, Structure, score_of
from .trainers import History, Loss, Problem
from .units import Units, blocks, chosen

_STEP = 1e-4  # of a difference quotient

Centre: TypeAlias = Tensor | None  # (G, n, K) E[d | x] of each group, None: the mean of d


@dataclass(frozen=True)
class Coordinates:
    """theta = start + transform @ outputs, for outcomes and regressors that were standardised.

    With L L' the Hessian of a group's homogeneous fit and s the size of one unit's Newton step there, transform is
    s L'^{-1} and the loss is divided by s^2: at outputs of 0 the mean Hessian is the identity and a score has mean
    square 1. Constant columns are the last of the triangular order, so that their outputs alone move them; in the end
    `constants` takes their place, one value for all groups.
    """

    structure: Structure
    start: Tensor  # (G, P)
    transform: Tensor  # (G, P, P)
    unit: Tensor  # (G,) by which the loss is divided
    centre: Tensor  # (K,) origin of d where no law of d given x is used
    shift: float
    scale: float
    level: float  # mean of the offset, which is taken around it
    constants: Tensor  # (C,) of the constant columns, for the standardised outcome and regressors

    def around(self, outputs: Tensor) -> Tensor:
        """theta of each group for the standardised outcome and regressors; (G, n, P) -> (G, n, P)."""
        return self.start[:, None, :] + outputs @ self.transform.mT

    def owned(self, owner: Tensor) -> Callable[[Tensor], Tensor]:
        """The same for rows that belong to one group each, owner (R, n); a function (R, n, P) -> (R, n, P)."""
        start, turn = self.start[owner], self.transform[owner]  # once, however often the function is called
        return lambda outputs: start + (turn * outputs[..., None, :]).sum(-1)

    def values(self, outputs: Tensor, centre: Centre = None, owner: Tensor | None = None) -> Tensor:
        """theta of each group in the coordinates of the caller's data; shapes as in `around`, or `owned`.

        `centre` is E[d | x], shaped as the outputs, where fitted with one.
        """
        theta = self.around(outputs) if owner is None else self.owned(owner)(outputs)
        intercept, held = self.structure.intercept, list(self.structure.held)
        theta[..., held] = self.constants
        if intercept is None:
            return theta
        if self.structure.shiftable:
            theta = self.structure.moved(theta, self.centre if centre is None else centre)
        theta = self.structure.family.unstandardise(theta, self.shift, self.scale, intercept)
        theta[..., intercept] -= self.level
        return theta


@dataclass(frozen=True)
class Standardised:
    """Units in a group's coordinates, and the problems that learners solve there."""

    coordinates: Coordinates
    units: Units  # d is (1 or G, n, ..., K)
    weight: Tensor  # (n,)
    fitted: Tensor  # (G, n) bool: the rows of each group's training and validation
    own_outcome: bool  # whether y is (G, n, ...)

    @classmethod
    def of(
        cls, structure: Structure, u: Units, weight: Tensor, fitted: Tensor, centre: Centre, own_outcome: bool
    ) -> "Standardised":
        """From n units in float64."""
        family, intercept, k = structure.family, structure.intercept, len(structure.terms)
        y, shift, scale = (u.y, 0.0, 1.0) if intercept is None else family.standardise(u)
        mean = torch.zeros(k, dtype=u.d.dtype, device=u.d.device)
        d = family.around(u).d[None]  # (1, n, ..., K)
        if structure.shiftable:
            mean = (u.d * weight[:, None]).sum(0) / weight.sum()
            mean[intercept] = 0.0
            d = d - (mean if centre is None else centre)  # (1 or G, n, K)
        level = 0.0 if intercept is None else float(u.offset.mean())
        around = Units(y, d, u.mask, u.offset - level)
        pooled = structure.pooled(around, weight[None], fitted)
        transform, size = _metric(pooled, structure.levels, structure.held)
        transform = transform * size[:, None, None]
        constants = pooled.theta[:, list(structure.held)].mean(0)
        coordinates = Coordinates(structure, pooled.theta, transform, size**2, mean, shift, scale, level, constants)
        return cls(coordinates, around, weight, fitted, own_outcome)

    def _among(self, rows: Tensor) -> Units:
        y = self.units.y[:, rows] if self.own_outcome else self.units.y[rows]
        return Units(y, self.units.d[:, rows], self.units.mask[rows], chosen(self.units.offset, rows))

    def target(self, rows: Tensor) -> Target:
        """The problem of empirical Bayes on some rows."""
        at, family = self.coordinates, self.coordinates.structure.family
        u = self._among(rows)
        turn, unit = at.transform[:, None], at.unit[:, None]
        kept = self.fitted[:, rows] * self.weight[rows]

        def value(out: Tensor) -> Tensor:
            return family.loss(u, at.around(out)) / unit

        def derivatives(out: Tensor) -> tuple[Tensor, Tensor]:
            score, curvature = torch.empty_like(out), out.new_empty(*out.shape, out.shape[-1])
            for block in blocks(out.shape[1]):  # differentiating takes many times the memory of the result
                there, theta = self._among(rows[block]), at.around(out[:, block])
                if family.closed and not family.outcome_free:
                    gradient, hessian = score_of(family, there, theta), family.information(there, theta)
                else:
                    gradient, hessian = family.derivatives(there, theta)
                if not family.closed:  # the nearest positive semi-definite one
                    values, vectors = torch.linalg.eigh(hessian)
                    hessian = (vectors * values.clamp_min(0.0)[..., None, :]) @ vectors.mT
                score[:, block] = gradient @ at.transform / unit[..., None]
                curvature[:, block] = turn.mT @ hessian @ turn / unit[..., None, None]
            return score, curvature

        def restriction(out: Tensor, covariance: Tensor, block: slice) -> Tensor:
            around = turn @ covariance @ turn.mT / unit[..., None, None] ** 2
            added = _bending(family, self._among(rows[block]), at.around(out), around)
            return added @ at.transform

        share = kept * (kept.sum(1) / (kept**2).sum(1))[:, None]
        return Target(value, derivatives, share, restriction if family.extra else None)

    def trained(self, network: Network, x: Tensor, splits: Splits) -> Problem:
        """The problem of the networks."""
        at, (y, d, mask, offset) = self.coordinates, self.units
        base, turn, unit = at.start.float(), at.transform.float(), at.unit.float()

        def loss(replicates: Tensor, rows: Tensor) -> Loss:
            group = splits.owner[replicates]
            outcome = y[group[:, None], rows] if self.own_outcome else y[rows]
            around = d[(group % len(d))[:, None], rows]
            units = Units(outcome.float(), around.float(), mask[rows].float(), chosen(offset, rows).float())
            origin, rotation, scale = base[group][:, None, :], turn[group].mT, unit[group][:, None]
            return lambda out: at.structure.family.loss(units, origin + out @ rotation) / scale

        return Problem(network, x.float(), loss, self.weight.float())

    def told(self, history: History, splits: Splits) -> History:
        """A history of the networks with its losses in the units of the caller's data."""
        at, nothing = self.coordinates, torch.zeros_like(self.weight)
        offset, one = (
            at.structure.family.unstandardise_loss(self.units, loss, at.scale) for loss in (nothing, nothing + 1)
        )
        unit = at.unit[splits.owner] * (one - offset)[0]

        def told(value: Tensor, rows: Tensor) -> Tensor:
            level = torch.stack([(offset[mine] * self.weight[mine]).sum() / self.weight[mine].sum() for mine in rows])
            return value * unit + level

        return history._replace(train=told(history.train, splits.train), valid=told(history.valid, splits.valid))

    def held_out_loss(self, owner: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """The mean loss of held-out outputs (R, b, P) on some rows (b,), which the groups in owner (R, b) hold out."""
        loss, place = self._loss_of_theta(owner, rows), self.coordinates.owned(owner)
        return lambda out: loss(place(out))

    def _loss_of_theta(self, owner: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
        at = self.coordinates
        y = self.units.y[owner, rows] if self.own_outcome else self.units.y[rows]
        d = self.units.d[owner % len(self.units.d), rows]
        u = Units(y, d, self.units.mask[rows], chosen(self.units.offset, rows))
        share = self.weight[rows] / self.weight[rows].sum() / len(owner) / at.unit.mean()
        return lambda theta: (at.structure.family.loss(u, theta) * share).sum()

    def with_constants(self, out: Tensor, owner: Tensor, rows: Tensor) -> Coordinates:
        """The coordinates with the constants that minimise the loss of held-out outputs, as in held_out_loss().

        The other columns stay as they are. In a linear model with d around E[d | x] this is least squares of the
        outcome on d, both less their means given x (Robinson 1988).
        """
        at, held = self.coordinates, torch.tensor(self.coordinates.structure.held, device=out.device)
        if not len(held):
            return at
        loss, theta = self._loss_of_theta(owner, rows), at.owned(owner)(out)

        def value(constants: Tensor) -> Tensor:
            return loss(theta.index_copy(-1, held, constants.expand(*theta.shape[:-1], -1)))

        return replace(at, constants=stacking.newton(value, theta[..., held].mean((0, 1))))


def _bending(family: Family, u: Units, theta: Tensor, covariance: Tensor) -> Tensor:
    """Half the trace of covariance times the derivatives of the curvature of the coefficients; (..., P) -> (..., P).

    By each of the ancillary parameters, in central differences, and 0 by the coefficients themselves.
    """
    size = theta.shape[-1] - len(family.extra)
    inside = covariance[..., :size, :size]

    def weighed(at: Tensor) -> Tensor:
        return 0.5 * (family.curvature(u, at) * inside).sum((-1, -2))

    result = torch.zeros_like(theta)
    for j in range(size, theta.shape[-1]):
        step = torch.zeros_like(theta[..., :1, :])
        step[..., j] = _STEP
        result[..., j] = (weighed(theta + step) - weighed(theta - step)) / (2 * _STEP)
    return result


def _metric(pooled: Pooled, levels: tuple[int, ...], held: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """L'^{-1} with L L' the Hessian, and the root mean square of L^{-1} score; (G, P, P) and (G,).

    The levels come first in the triangular order, so that slopes are turned among themselves alone and what moves
    only a level never moves a slope; constant columns come last, so that nothing that varies moves them.
    """
    size = pooled.hessian.shape[-1]
    order = [*levels, *(j for j in range(size) if j not in (*levels, *held)), *held]
    back = torch.tensor(order).argsort().tolist()
    lower = torch.linalg.cholesky(pooled.hessian[:, order][:, :, order])
    eye = torch.eye(size, dtype=lower.dtype, device=lower.device).expand_as(lower)
    transform = torch.linalg.solve_triangular(lower.mT, eye, upper=True)[:, back][:, :, back]
    whitened = transform.mT @ pooled.score @ transform
    return transform, whitened.diagonal(dim1=1, dim2=2).mean(1).sqrt().clamp_min(1e-12)
