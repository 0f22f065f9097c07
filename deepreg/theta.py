"""theta(x): smooth functions and networks, stacked column by column on held-out rows, and their values anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from . import additive
from .additive import Additive
from .basis import Basis
from .coordinates import Centre, Coordinates, Standardised
from .networks import Architecture, Network, Partitioned
from .splits import Splits
from .stacking import stack
from .structure import Structure
from .trainers import History, Progress, Trainer
from .units import Units

Reads: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]] | None  # columns of x that are features, and controls

LEARNERS = ("constant", "smooth", "additive", "network")  # what can be stacked, from stiff to flexible

_CHUNK = 65536


@dataclass(frozen=True)
class Options:
    """How theta(x) is learned: learners, architecture, trainer, L2 penalty of networks, device and random numbers."""

    learners: tuple[str, ...]
    network: Architecture
    trainer: Trainer
    penalty: float
    device: torch.device
    generator: torch.Generator
    progress: Progress | None = None


@dataclass(frozen=True)
class Networks:
    """The networks of all replicates; the output of a group is the mean of its members'."""

    network: Network
    weights: Tensor  # (M, S) float32
    owner: Tensor  # (M,) long

    def outputs(self, x: Tensor) -> Tensor:
        """(n, p) -> (G, n, P) float64."""
        groups, parts = int(self.owner.max()) + 1, []
        x = x.to(self.weights)
        with torch.no_grad():
            for rows in x.split(_CHUNK):
                out = self.network.forward(self.weights, rows.expand(len(self.weights), *rows.shape)).double()
                total = torch.zeros(groups, *out.shape[1:], dtype=out.dtype, device=out.device)
                parts.append(total.index_add(0, self.owner, out) / self.owner.bincount()[:, None, None])
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Theta:
    """Fitted functions theta(x), one for each group of the splits.

    The outputs are the weighted sum of the learners', with a weight for each column; what is left to 1 is the weight
    of the homogeneous fit.
    """

    coordinates: Coordinates
    learners: Mapping[str, Additive | Networks]
    mix: Mapping[str, Tensor]  # (P,) weight of every learner, "constant" among them
    history: History | None  # of the networks
    known: tuple[Tensor, Tensor] | None = None  # the features it was fitted to, and the outputs there

    def outputs(self, x: Tensor) -> Tensor:
        """Stacked outputs of each group; (n, p) -> (G, n, P) float64."""
        if self.known is not None and x is self.known[0]:
            return self.known[1]
        start = self.coordinates.start
        total = start.new_zeros(len(start), len(x), start.shape[1])
        for name, learner in self.learners.items():
            if bool(self.mix[name].any()):
                total += learner.outputs(x) * self.mix[name]
        return total

    def values(self, x: Tensor, centre: Centre = None, homogeneous: bool = False) -> Tensor:
        """theta(x) of each group in the coordinates of the caller's data; (n, p) -> (G, n, P).

        `centre` is E[d | x] of each group where fitted with one; with `homogeneous`, the fit without features.
        """
        return self.coordinates.values(None if homogeneous else self.outputs(x), len(x), centre)


def fit(
    structure: Structure, u: Units, x: Tensor, weight: Tensor, splits: Splits, options: Options,
    centre: Centre = None, reads: Reads = None, own_outcome: bool = False,
) -> Theta:  # fmt: skip
    """Fit theta(x) on every replicate of the splits.

    u holds n units in float64, x is (n, p), weight (n,). Learners work in standardised coordinates, with d taken around
    E[d | x] (`centre`) or its mean, and are stacked on the rows that each group was kept from. `reads` gives the
    columns of x that all of theta, and that only the intercept and the ancillary parameters, may vary with. With
    `own_outcome`, u.y is (G, n, ...), an outcome for each group.
    """
    rows = (splits.train | splits.valid)[splits.first] * weight
    problem = Standardised.of(structure, u, weight, rows, centre, own_outcome)
    learners: dict[str, Additive | Networks] = {}
    history = None
    if {"smooth", "additive"} & set(options.learners):
        order = torch.arange(len(x), device=x.device)
        if len(x) > additive.SELECTION:
            order = torch.randperm(len(x), generator=options.generator).to(x.device)
        some, many = order[: additive.SELECTION], order[: additive.ESTIMATION]
        basis = Basis.of(x[some])
        more = (problem.target(many, rows), x[many]) if len(many) > len(some) else None
        allowed = _allowed(structure, basis, reads).to(x.device)
        surfaces = additive.fit(problem.target(some, rows), basis, x[some], allowed, more)
        learners |= {name: surface for name, surface in surfaces.items() if name in options.learners}
    if "network" in options.learners:
        network = _network(structure, options.network, x.shape[1], reads)
        initial = network.init(len(splits.owner), options.generator).to(x.device, torch.float32)
        weights, history = options.trainer.fit(
            problem.trained(network, x, weight, splits), initial, splits.train, splits.valid, options.penalty,
            generator=options.generator, progress=options.progress,
        )  # fmt: skip
        learners["network"] = Networks(network, weights, splits.owner)
    names = [name for name in LEARNERS if name in options.learners]
    shape = (len(splits.fold), len(x), len(structure.names))
    if len(names) == 1:
        shares = torch.ones(1, shape[-1], dtype=torch.float64, device=x.device)
    else:
        candidates = torch.zeros(len(names), *shape, dtype=torch.float64, device=x.device)
        for row, name in enumerate(names):
            if name != "constant":
                candidates[row] = held_out(learners[name].outputs(x), splits)
        shares = stack(candidates, problem.held_out_loss(splits, weight))
    found = Theta(problem.coordinates, learners, dict(zip(names, shares, strict=True)), history)
    return replace(found, known=(x, found.outputs(x)))


def held_out(values: Tensor, splits: Splits) -> Tensor:
    """For each repeat, the values of the group that held the row out; (G, n, ...) -> (R, n, ...)."""
    rows = torch.arange(values.shape[1], device=values.device)
    return values[splits.held_out, rows]


def _allowed(structure: Structure, basis: Basis, reads: Reads) -> Tensor:
    """Which functions of the features may move which outputs: slopes vary with no control; (groups, P) bool."""
    allowed = torch.ones(basis.groups, len(structure.names), dtype=torch.bool)
    if reads is not None and reads[1]:
        slopes = [j for j in range(len(structure.names)) if j not in structure.levels]
        controlled = basis.members()[:, list(reads[1])].any(1)
        allowed[controlled.nonzero(), slopes] = False
    return allowed


def _network(structure: Structure, architecture: Architecture, inputs: int, reads: Reads) -> Network:
    outputs, levels = len(structure.names), structure.levels
    if reads is None or not reads[1]:
        return architecture.build(inputs, outputs)
    features, controls = reads
    both = (*features, *controls)
    networks = (architecture.build(len(features), outputs), architecture.build(len(both), len(levels)))
    return Partitioned(networks, (features, both), (tuple(range(outputs)), levels), outputs)
