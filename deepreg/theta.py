"""theta(x): smooth functions and networks, stacked column by column on held-out rows, and their values anywhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from . import additive
from .additive import Additive
from .basis import Basis
from .coordinates import Centre, Coordinates, Standardised
from .networks import MLP, Architecture, Network, Partitioned
from .splits import Splits
from .stacking import stack
from .structure import Structure
from .trainers import History, Progress, Trainer
from .units import Units, blocks, release

Reads: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]] | None  # columns of x that are features, and controls

_ROWS = 8192  # rows evaluated at a time, so that what is in between stays in the cache

LEARNERS = ("constant", "smooth", "additive", "uncentred", "network")  # what can be stacked, from stiff to flexible


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

    @property
    def nuisance(self) -> "Options":
        """Those of the law of the treatment: a law by less than all learners would confound."""
        return replace(self, learners=LEARNERS)


@dataclass(frozen=True)
class Networks:
    """The networks of all replicates; the output of a group is the mean of its members'."""

    network: Network
    weights: Tensor  # (M, S) float32
    owner: Tensor  # (M,) long

    def outputs(self, x: Tensor) -> Tensor:
        """(n, p) -> (G, n, P) float64."""
        groups, x = int(self.owner.max()) + 1, x.to(self.weights)
        with torch.no_grad():
            out = self.network.forward(self.weights, x.expand(len(self.weights), *x.shape)).double()
        total = torch.zeros(groups, *out.shape[1:], dtype=out.dtype, device=out.device)
        return total.index_add(0, self.owner, out) / self.owner.bincount()[:, None, None]

    def bare(self) -> "Networks":
        return self


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
        theta = self.own.structure.moved(theta, self.own.centre - centre)
        back = torch.linalg.inv(self.shared.transform)
        return (theta - self.shared.start[:, None, :]) @ back.mT

    def bare(self) -> "Uncentred":
        return replace(self, surface=self.surface.bare())


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
    known: tuple[Tensor, Tensor] | None = None  # the features it was fitted to, and the held-out outputs (R, n, P)

    def outputs(self, x: Tensor, centre: Centre = None) -> Tensor:
        """Stacked outputs of each group; (n, p) -> (G, n, P) float64."""
        each = {name: outputs_of(one, x, centre) for name, one in self.learners.items() if bool(self.mix[name].any())}
        return self.stacked(each, (len(self.coordinates.start), len(x)))

    def stacked(self, each: Mapping[str, Tensor], shape: tuple[int, int]) -> Tensor:
        """The weighted sum of learners' outputs (*shape, P)."""
        total = self.coordinates.start.new_zeros(*shape, self.coordinates.start.shape[1])
        for name, outputs in each.items():
            total += outputs * self.mix[name]
        return total

    def values(self, x: Tensor, centre: Centre = None) -> Tensor:
        """theta(x) of each group in the coordinates of the caller's data; (n, p) -> (G, n, P).

        `centre` is E[d | x] of each group where fitted with one.
        """
        found = self.coordinates.start[:, None, :].repeat(1, len(x), 1)
        for rows in blocks(len(x), _ROWS):
            around = None if centre is None else centre[:, rows]
            found[:, rows] = self.coordinates.values(self.outputs(x[rows], around), around)
        return found

    def plain(self) -> "Theta":
        """The functions alone, without how they were trained, their uncertainty and their values at the rows."""

        learners = {name: one.bare() for name, one in self.learners.items()}
        return replace(self, learners=learners, history=None, known=None)

    def held_out(self, x: Tensor, splits: Splits, centre: Centre = None) -> Tensor:
        """For each repeat, theta(x) of the group that held the row out; (n, p) -> (R, n, P)."""
        owner = splits.held_out
        if self.known is not None and x is self.known[0]:
            found = self.known[1].clone()
        else:
            found = _apart(self.outputs, x, owner, centre)
        for rows in blocks(len(x), _ROWS):
            mine = owner[:, rows]
            around = None if centre is None else held_out(centre[:, rows], mine)
            found[:, rows] = self.coordinates.values(found[:, rows], around, mine)
        return found


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
    release(len(x))
    problem = Standardised.of(structure, u, weight, splits.fitted, centre, own_outcome)
    learners: dict[str, Learner] = {}
    history = None
    if {"smooth", "additive", "uncentred"} & set(options.learners):
        order = torch.arange(len(x), device=x.device)
        if len(x) > additive.SELECTION:
            order = torch.randperm(len(x), generator=options.generator).to(x.device)
        some, many = order[: additive.SELECTION], order[: additive.ESTIMATION]
        basis = Basis.of(x[some])
        allowed = _allowed(structure, basis, reads).to(x.device)
        select = bool({"additive", "uncentred"} & set(options.learners))

        def surfaces(of: Standardised, near: Additive | None = None) -> dict[str, Additive]:
            release(len(x))
            more = (of.target(many), x[many]) if len(many) > len(some) else None
            return additive.fit(of.target(some), basis, x[some], allowed, more, near, select)

        found: dict[str, Additive] = {}
        if {"smooth", "additive"} & set(options.learners):
            found = surfaces(problem)
            learners |= {name: surface for name, surface in found.items() if name in options.learners}
        moves = centre is not None and _moves(centre, u, weight)
        if "uncentred" in options.learners and (moves or "additive" not in options.learners):  # or they coincide
            plain = Standardised.of(structure, u, weight, splits.fitted, None, own_outcome)
            surface = surfaces(plain, found.get("additive"))["additive"]
            same = centre is None
            learners["uncentred"] = surface if same else Uncentred(surface, plain.coordinates, problem.coordinates)
    release(len(x))
    if "network" in options.learners:
        network = _network(structure, options.network, x.shape[1], reads)
        initial = network.init(len(splits.owner), options.generator).to(x.device, torch.float32)
        weights, history = options.trainer.fit(
            problem.trained(network, x, splits), initial, splits.train, splits.valid, options.penalty,
            generator=options.generator, progress=options.progress,
        )  # fmt: skip
        learners["network"] = Networks(network, weights, splits.owner)
        history = problem.told(history, splits)
    names = [name for name in LEARNERS if name in learners or (name == "constant" and name in options.learners)]
    owner, judged = splits.held_out, torch.arange(len(x), device=x.device)
    if len(x) > additive.ESTIMATION:  # weights need no more rows than the functions did
        judged = torch.randperm(len(x), generator=options.generator)[: additive.ESTIMATION].to(x.device)

    around = None if centre is None else centre[:, judged]
    each = {name: _apart(partial(outputs_of, learner), x[judged], owner[:, judged], around)
            for name, learner in learners.items()}  # fmt: skip
    if len(names) == 1:
        shares = torch.ones(1, len(structure.names), dtype=torch.float64, device=x.device)
    else:
        nothing = torch.zeros_like(next(iter(each.values())))
        candidates = torch.stack([each.get(name, nothing) for name in names])
        shares = stack(candidates, problem.held_out_loss(owner[:, judged], judged))
    fitted = Theta(problem.coordinates, learners, dict(zip(names, shares, strict=True)), history)
    mixed = fitted.stacked(each, owner[:, judged].shape)
    fitted = replace(fitted, coordinates=problem.with_constants(mixed, owner[:, judged], judged))
    all_judged = len(judged) == len(x)
    known = mixed if all_judged else _apart(fitted.outputs, x, owner, centre)
    return replace(fitted, known=(x, known))


def _apart(outputs: Callable[[Tensor, Centre], Tensor], x: Tensor, owner: Tensor, centre: Centre) -> Tensor:
    """Outputs (G, n, P) of the group that owns each row, block by block; (R, n) -> (R, n, P)."""
    parts = []
    for rows in blocks(len(x), _ROWS):
        around = None if centre is None else centre[:, rows]
        parts.append(held_out(outputs(x[rows], around), owner[:, rows]))
    return torch.cat(parts, 1)


def outputs_of(learner: Learner, x: Tensor, centre: Centre) -> Tensor:
    """Outputs of each group, for d around `centre`; (n, p) -> (G, n, P)."""
    if isinstance(learner, Uncentred):
        assert centre is not None
        return learner.outputs(x, centre)
    return learner.outputs(x)


def _moves(centre: Tensor, u: Units, weight: Tensor) -> bool:
    """Whether E[d | x] varies enough for d around it to differ from d around its mean."""
    share = weight / weight.sum()

    def variance(d: Tensor) -> Tensor:
        return share @ (d - share @ d) ** 2

    return any(bool((variance(mine) > 0.01 * variance(u.d)).any()) for mine in centre)


def held_out(values: Tensor, owner: Tensor) -> Tensor:
    """The values of the group that owns each row, in each repeat; (G, n, ...) and (R, n) -> (R, n, ...)."""
    return values[owner, torch.arange(values.shape[1], device=values.device)]


def _allowed(structure: Structure, basis: Basis, reads: Reads) -> Tensor:
    """Which functions of the features may move which outputs: slopes vary with no control, constant columns with
    nothing; (groups, P) bool."""
    allowed = torch.ones(basis.groups, len(structure.names), dtype=torch.bool)
    allowed[1:, list(structure.held)] = False
    if reads is not None and reads[1]:
        slopes = [j for j in range(len(structure.names)) if j not in structure.levels]
        controlled = basis.members()[:, list(reads[1])].any(1)
        allowed[controlled.nonzero(), slopes] = False
    return allowed


def _network(structure: Structure, architecture: Architecture, inputs: int, reads: Reads) -> Network:
    outputs, free, held, levels = len(structure.names), structure.free, structure.held, structure.levels
    features, controls = (tuple(range(inputs)), ()) if reads is None else reads
    if not controls and not held:
        return architecture.build(inputs, outputs)
    parts = [(architecture.build(len(features), len(free)), features, free)]
    if controls and levels:
        both = (*features, *controls)
        parts.append((architecture.build(len(both), len(levels)), both, levels))
    if held:
        parts.append((MLP(hidden=()).build(0, len(held)), (), held))  # reads nothing: a bias for each
    networks, reading, moving = zip(*parts, strict=True)
    return Partitioned(networks, reading, moving, outputs)
