"""theta(x): networks trained from the homogeneous fit, one group for each fold, and their values anywhere."""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .networks import Architecture, Network, Partitioned
from .splits import Splits
from .structure import Pooled, Structure
from .trainers import History, Loss, Problem, Progress, Trainer
from .units import Units

Centre: TypeAlias = Tensor | None  # (G, n, K) E[d | x] of each group, None: the mean of d
Reads: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]] | None  # columns of x that are features, and controls

_CHUNK = 65536


@dataclass(frozen=True)
class Options:
    """How networks are trained: architecture, trainer, L2 penalty, device and random numbers."""

    network: Architecture
    trainer: Trainer
    penalty: float
    device: torch.device
    generator: torch.Generator
    progress: Progress | None = None


@dataclass(frozen=True)
class Theta:
    """Fitted functions theta(x), one for each group of the splits, in the coordinates of the caller's data.

    A group's theta is start + transform @ (mean of its members' outputs), for outcomes and regressors that were
    standardised; values() maps back.
    """

    structure: Structure
    network: Network
    weights: Tensor  # (M, S) float32
    owner: Tensor  # (M,) long
    start: Tensor  # (G, P)
    transform: Tensor  # (G, P, P)
    centre: Tensor  # (K,) origin of d where no law of d given x is used
    shift: float
    scale: float
    history: History

    def outputs(self, x: Tensor) -> Tensor:
        """Mean output of each group's members; (n, p) -> (G, n, P) float64."""
        groups, parts = int(self.owner.max()) + 1, []
        x = x.to(self.weights)
        with torch.no_grad():
            for rows in x.split(_CHUNK):
                out = self.network.forward(self.weights, rows.expand(len(self.weights), *rows.shape)).double()
                total = torch.zeros(groups, *out.shape[1:], dtype=out.dtype, device=out.device)
                parts.append(total.index_add(0, self.owner, out) / self.owner.bincount()[:, None, None])
        return torch.cat(parts, 1)

    def values(self, x: Tensor, centre: Centre = None, homogeneous: bool = False) -> Tensor:
        """theta(x) of each group; (n, p) -> (G, n, P). `centre` is E[d | x] of each group where fitted with one.

        With `homogeneous`, the constant theta that training started from.
        """
        theta = self.start[:, None, :].expand(-1, len(x), -1).clone()
        if not homogeneous:
            theta += self.outputs(x) @ self.transform.mT
        intercept = self.structure.intercept
        if intercept is None or not self.structure.movable:
            return theta
        k = len(self.structure.terms)
        origin = centre if centre is not None else self.centre
        theta[..., intercept] -= (origin * theta[..., :k]).sum(-1)  # the origin's intercept entry is 0
        return self.structure.family.unstandardise(theta, self.shift, self.scale, intercept)


def fit(
    structure: Structure, u: Units, x: Tensor, weight: Tensor, splits: Splits, options: Options,
    centre: Centre = None, reads: Reads = None, own_outcome: bool = False,
) -> Theta:  # fmt: skip
    """Train theta(x) on every replicate of the splits.

    u holds n units in float64, x is (n, p), weight (n,). Training happens in coordinates in which neither the origin
    nor the unit of d, y or theta matters: y is standardised where the family allows; d is taken around E[d | x]
    (`centre`) or its mean; theta = start + s L'^{-1} out with start the group's homogeneous fit, L L' its Hessian and s
    the size of one unit's Newton step. `reads` gives the columns of x that all of theta, and that only the intercept
    and the ancillary parameters, may vary with. With `own_outcome`, u.y is (G, n, ...), an outcome for each group.
    """
    family, intercept, k = structure.family, structure.intercept, len(structure.terms)
    y, shift, scale = family.standardise(u) if structure.movable else (u.y, 0.0, 1.0)
    mean, d = torch.zeros(k, dtype=u.d.dtype, device=u.d.device), u.d[None]  # (1, n, K)
    if structure.movable:
        mean = (u.d * weight[:, None]).sum(0) / weight.sum()
        mean[intercept] = 0.0
        d = d - (mean if centre is None else centre)  # (1 or G, n, K)
    around = Units(y, d, u.mask)
    pooled = structure.pooled(around, (splits.train | splits.valid)[splits.first] * weight)
    transform, size = _metric(pooled, _levels(structure))
    transform = transform * size[:, None, None]
    network = _network(structure, options.network, x.shape[1], reads)
    small_y, small_d, small_mask = y.float(), d.float(), u.mask.float()
    base, turn, unit = pooled.theta.float(), transform.float(), (size**2).float()

    def at(replicates: Tensor, rows: Tensor) -> Loss:
        group = splits.owner[replicates]
        outcome = small_y[group[:, None], rows] if own_outcome else small_y[rows]
        units = Units(outcome, small_d[(group % len(small_d))[:, None], rows], small_mask[rows])
        origin, rotation, scale = base[group][:, None, :], turn[group].mT, unit[group][:, None]
        return lambda out: family.loss(units, origin + out @ rotation) / scale

    problem = Problem(network, x.float(), at, weight.float())
    initial = network.init(len(splits.owner), options.generator).to(x.device, torch.float32)
    weights, history = options.trainer.fit(
        problem, initial, splits.train, splits.valid, options.penalty,
        generator=options.generator, progress=options.progress,
    )  # fmt: skip
    return Theta(structure, network, weights, splits.owner, pooled.theta, transform, mean, shift, scale, history)


def held_out(values: Tensor, splits: Splits) -> Tensor:
    """For each repeat, the values of the group that held the row out; (G, n, ...) -> (R, n, ...)."""
    rows = torch.arange(values.shape[1], device=values.device)
    return values[splits.held_out, rows]


def _levels(structure: Structure) -> tuple[int, ...]:
    """The columns of theta that controls may move: the intercept and the ancillary parameters."""
    k = len(structure.terms)
    return tuple(j for j in range(len(structure.names)) if j >= k or j == structure.intercept)


def _metric(pooled: Pooled, levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """L'^{-1} with L L' the Hessian, and the root mean square of L^{-1} score; (G, P, P) and (G,).

    The levels come first in the triangular order, so that slopes are turned among themselves alone and what moves
    only a level never moves a slope.
    """
    size = pooled.hessian.shape[-1]
    order = [*levels, *(j for j in range(size) if j not in levels)]
    back = torch.tensor(order).argsort().tolist()
    lower = torch.linalg.cholesky(pooled.hessian[:, order][:, :, order])
    eye = torch.eye(size, dtype=lower.dtype, device=lower.device).expand_as(lower)
    transform = torch.linalg.solve_triangular(lower.mT, eye, upper=True)[:, back][:, :, back]
    whitened = transform.mT @ pooled.score @ transform
    return transform, whitened.diagonal(dim1=1, dim2=2).mean(1).sqrt().clamp_min(1e-12)


def _network(structure: Structure, architecture: Architecture, inputs: int, reads: Reads) -> Network:
    outputs, levels = len(structure.names), _levels(structure)
    if reads is None or not reads[1]:
        return architecture.build(inputs, outputs)
    features, controls = reads
    both = (*features, *controls)
    networks = (architecture.build(len(features), outputs), architecture.build(len(both), len(levels)))
    return Partitioned(networks, (features, both), (tuple(range(outputs)), levels), outputs)
