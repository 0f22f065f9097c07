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

LEARNERS = ("constant", "smooth", "additive", "uncentred", "network")  # what can be stacked, from stiff to flexible

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
class Uncentred:
    """Smooth functions for theta with d taken around its mean, as outputs of coordinates that take d around E[d | x].

    The level of the outcome at the mean of d can be a simpler function than its level at E[d | x], and the other way
    round.
    """

    surface: Additive
    own: Coordinates
    shared: Coordinates

    def outputs(self, x: Tensor, centre: Tensor) -> Tensor:
        """(n, p) and E[d | x] (G, n, K) -> (G, n, P)."""
        theta = self.own.around(self.surface.outputs(x))
        k, intercept = len(self.own.structure.terms), self.own.structure.intercept
        theta[..., intercept] += ((centre - self.own.centre) * theta[..., :k]).sum(-1)
        back = torch.linalg.inv(self.shared.transform)
        return (theta - self.shared.start[:, None, :]) @ back.mT


Learner: TypeAlias = Additive | Networks | Uncentred


@dataclass(frozen=True)
class Theta:
    """Fitted functions theta(x), one for each group of the splits.

    The outputs are the weighted sum of the learners', with a weight for each column; what is left to 1 is the weight
    of the homogeneous fit.
    """

    coordinates: Coordinates
    learners: Mapping[str, Learner]
    mix: Mapping[str, Tensor]  # (P,) weight of every learner, "constant" among them
    history: History | None  # of the networks
    known: tuple[Tensor, Tensor] | None = None  # the features it was fitted to, and the outputs there

    def outputs(self, x: Tensor, centre: Centre = None) -> Tensor:
        """Stacked outputs of each group; (n, p) -> (G, n, P) float64."""
        if self.known is not None and x is self.known[0]:
            return self.known[1]
        start = self.coordinates.start
        total = start.new_zeros(len(start), len(x), start.shape[1])
        for name, learner in self.learners.items():
            if bool(self.mix[name].any()):
                total += _outputs(learner, x, centre) * self.mix[name]
        return total

    def values(self, x: Tensor, centre: Centre = None) -> Tensor:
        """theta(x) of each group in the coordinates of the caller's data; (n, p) -> (G, n, P).

        `centre` is E[d | x] of each group where fitted with one.
        """
        return self.coordinates.values(self.outputs(x, centre), centre)


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
    learners: dict[str, Learner] = {}
    history = None
    if {"smooth", "additive", "uncentred"} & set(options.learners):
        order = torch.arange(len(x), device=x.device)
        if len(x) > additive.SELECTION:
            order = torch.randperm(len(x), generator=options.generator).to(x.device)
        some, many = order[: additive.SELECTION], order[: additive.ESTIMATION]
        basis = Basis.of(x[some])
        allowed = _allowed(structure, basis, reads).to(x.device)

        def surfaces(of: Standardised, near: Additive | None = None) -> dict[str, Additive]:
            more = (of.target(many, rows), x[many]) if len(many) > len(some) else None
            return additive.fit(of.target(some, rows), basis, x[some], allowed, more, near)

        found: dict[str, Additive] = {}
        if {"smooth", "additive"} & set(options.learners):
            found = surfaces(problem)
            learners |= {name: surface for name, surface in found.items() if name in options.learners}
        moves = centre is not None and _moves(centre, u, weight)
        if "uncentred" in options.learners and (moves or "additive" not in options.learners):  # or they coincide
            plain = Standardised.of(structure, u, weight, rows, None, own_outcome)
            surface = surfaces(plain, found.get("additive"))["additive"]
            same = centre is None
            learners["uncentred"] = surface if same else Uncentred(surface, plain.coordinates, problem.coordinates)
    if "network" in options.learners:
        network = _network(structure, options.network, x.shape[1], reads)
        initial = network.init(len(splits.owner), options.generator).to(x.device, torch.float32)
        weights, history = options.trainer.fit(
            problem.trained(network, x, weight, splits), initial, splits.train, splits.valid, options.penalty,
            generator=options.generator, progress=options.progress,
        )  # fmt: skip
        learners["network"] = Networks(network, weights, splits.owner)
    names = [name for name in LEARNERS if name in learners or (name == "constant" and name in options.learners)]
    shape = (len(splits.fold), len(x), len(structure.names))
    if len(names) == 1:
        shares = torch.ones(1, shape[-1], dtype=torch.float64, device=x.device)
    else:
        candidates = torch.zeros(len(names), *shape, dtype=torch.float64, device=x.device)
        for row, name in enumerate(names):
            if name != "constant":
                candidates[row] = held_out(_outputs(learners[name], x, centre), splits)
        shares = stack(candidates, problem.held_out_loss(splits, weight))
    stacked = Theta(problem.coordinates, learners, dict(zip(names, shares, strict=True)), history)
    return replace(stacked, known=(x, stacked.outputs(x, centre)))


def _outputs(learner: Learner, x: Tensor, centre: Centre) -> Tensor:
    if isinstance(learner, Uncentred):
        assert centre is not None
        return learner.outputs(x, centre)
    return learner.outputs(x)


def _moves(centre: Tensor, u: Units, weight: Tensor) -> bool:
    """Whether E[d | x] varies enough for d around it to differ from d around its mean."""
    share = weight / weight.sum()

    def variance(d: Tensor) -> Tensor:
        return (share[:, None] * (d - (share[:, None] * d).sum(-2, keepdim=True)) ** 2).sum(-2)

    return bool((variance(centre).amax(0) > 0.01 * variance(u.d)).any())


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
