"""Shapes that the parts of a stored result must have to go together; checked before anything is computed from them."""

import itertools

import torch
from torch import Tensor

from ..additive import Additive
from ..coordinates import Coordinates
from ..covariance import ways
from ..design import Design
from ..errors import FileError
from ..families import Multinomial
from ..law import FittedLaw
from ..networks import MLP, Network, Partitioned, StackedMLP
from ..sampling import Sampling
from ..structure import Structure
from ..targets import Coefficient
from ..theta import Networks, Theta, Uncentred
from .kept import Kept
from .portable import Fit


def check(result: Fit) -> None:
    """Raise FileError where the shapes of a result contradict each other."""
    design, structure = result.design, result.structure
    _design(design)
    _equal("terms", structure.terms, design.terms)
    _equal("numbers of clusters", result.sampling.ways, ways(design))
    size, inputs = len(structure.names), len(design.features) + len(design.controls)
    if isinstance(result.scores, Kept):
        _kept(result.scores, structure, design, result.sampling)
    else:
        repeats = len(result.scores.theta)
        _shape("theta", result.scores.theta, repeats, design.n, size)
        _shape("score", result.scores.score, repeats, design.n, size)
        held = size if result.scores.constant else len(structure.held)
        _shape("turn", result.scores.turn, *result.scores.inverse.shape[:-1], held)
        _shape("back", result.scores.back, *result.scores.inverse.shape[:-2], held, size)
        _shape("weight", result.sampling.weight, design.n)
    _equal("constant", result.fitted is None, result.scores.constant)
    if result.fitted is not None:
        _theta(result.fitted, structure, inputs)
        centre = torch.zeros(len(result.fitted.coordinates.start), 1, len(design.terms))
        result.fitted.values(torch.zeros(1, inputs), centre)
    if result.track is not None:
        for losses in result.track:
            _shape("track", losses, len(result.track.step))
    if result.law is not None:
        _law(result.law, inputs)
        _shape("classes", result.law.cells.code, len(design.rows))


def _design(design: Design) -> None:
    rows = inside = len(design.rows)
    if design.packing is None:
        _shape("d", design.units.d, rows, len(design.terms))
    else:
        rows = len(design.packing.used)
        _shape("d", design.units.d, rows, design.packing.size, len(design.terms))
        _equal("units", rows <= inside and rows in (0, design.n), True)
    _shape("x", design.x, rows, len(design.features))
    _shape("w", design.w, rows, len(design.controls))
    _shape("cluster", design.cluster, rows, len(design.cluster_names))
    _shape("mask", design.units.mask, *design.units.d.shape[:-1])
    _shape("offset", design.units.offset, *(design.units.mask.shape if design.recipe.offsets else ()))
    _shape("weight", design.weight, rows)
    _shape("y", design.units.y, rows, *design.units.y.shape[1:2])
    _equal("rows of the frame", len(design.frame), inside)
    _equal("clusters", len(design.groups), len(design.cluster_names))
    if rows:
        _equal("rows", rows, design.n)
        _equal("rows of the data", len(design.index), inside + sum(design.dropped.values()))
        _equal("positions", bool(design.rows.min() >= 0 and design.rows.max() < len(design.index)), True)
    for part, names in (("regressors", design.terms), ("features", design.features), ("controls", design.controls)):
        if names:
            one = design.recipe.part(part)
            _equal(part, one.names, names)
            _equal(f"columns of the {part}", len(one.keep), len(names))
            for moment in (one.mean, one.sd):
                _equal(f"scaling of the {part}", moment is None or moment.shape == (len(names),), True)
            _equal(f"positions of the {part}", all(0 <= j < len(one.columns) for j in one.keep), True)


def _kept(kept: Kept, structure: Structure, design: Design, sampling: Sampling) -> None:
    for targets, sample, estimates in kept.answers:
        said = estimates.sampling.kind, estimates.sampling.ways, estimates.constant, estimates.sample
        _equal("covariance", said, (sampling.kind, sampling.ways, kept.constant, sample))
        _equal("names", estimates.names, tuple(name for t in targets for name in t.names(structure, design)))
        if estimates.known is None:
            raise FileError("its estimates have no moments")
        q, repeats = len(estimates.names), len(estimates.known.value)
        _equal("repeats", repeats > 0, True)
        _shape("value", estimates.known.value, repeats, q)
        _shape("covariance", estimates.known.covariance, repeats, q, q)
        _equal("plug-in", estimates.plug_in is None or estimates.plug_in.shape == (q,), True)
    _equal("averages", any(one.targets == (Coefficient(),) for one in kept.answers), True)
    _equal("constant theta", kept.everywhere is not None, kept.constant)
    if kept.everywhere is not None:
        _shape("constant theta", kept.everywhere, len(structure.names))


def _theta(theta: Theta, structure: Structure | None, inputs: int) -> None:
    at = theta.coordinates
    size = _coordinates(at)
    groups = len(at.start)
    if structure is not None:
        _equal("structure", at.structure, structure)
    _equal("learners", set(theta.learners) - set(theta.mix), set())
    if theta.history is not None:
        train, valid, best, limited = theta.history
        _shape("history", train, len(train), len(best))
        _shape("history", valid, *train.shape)
        _shape("history", best, len(limited))
    for share in theta.mix.values():
        _shape("mix", share, size)
    for learner in theta.learners.values():
        if isinstance(learner, Networks):
            _networks(learner, groups, inputs, size)
        elif isinstance(learner, Uncentred):
            _additive(learner.surface, groups, inputs, size)
            for one in (learner.own, learner.shared):
                _equal("coordinates", (_coordinates(one), len(one.start)), (size, groups))
        else:
            _additive(learner, groups, inputs, size)


def _coordinates(at: Coordinates) -> int:
    _equal("dimensions", at.start.dim(), 2)
    groups, size = at.start.shape
    _equal("columns of theta", len(at.structure.names), size)
    _equal("groups", groups > 0, True)
    _shape("transform", at.transform, groups, size, size)
    _shape("unit", at.unit, groups)
    _shape("centre", at.centre, len(at.structure.terms))
    _shape("constants", at.constants, len(at.structure.held))
    return int(size)


def _additive(surface: Additive, groups: int, inputs: int, size: int) -> None:
    _equal("features", surface.basis.features, inputs)
    for smooth in surface.basis.smooths:
        if smooth is not None:
            _equal("dimensions", smooth.turn.dim(), 2)
            _shape("knots", smooth.knots, len(smooth.turn))
            _shape("line", smooth.line, 2, smooth.turn.shape[1])
    _shape("functions", surface.groups, surface.groups.numel())
    if surface.groups.numel():
        _equal("functions", bool(surface.groups.min() >= 0 and surface.groups.max() < surface.basis.groups), True)
    width = surface.basis.columns(torch.zeros(1, inputs), surface.groups)[0].shape[1]
    _shape("coefficient", surface.coefficient, groups, width, size)
    if surface.posterior is not None:
        index, sizes, covariance = surface.posterior
        _equal("coefficients", (len(sizes), sum(sizes)), (size, index.shape[1]))
        _shape("coefficients", index, groups, sum(sizes))
        _equal("columns", bool(((index >= 0) & (index < width)).all()), True)
        _shape("covariance", covariance, groups, sum(sizes), sum(sizes))
    _shape("active", surface.active, groups, surface.groups.numel(), size)


def _networks(learner: Networks, groups: int, inputs: int, size: int) -> None:
    network, owner = learner.network, learner.owner
    _shape("weights", learner.weights, len(learner.weights), _weights(network, inputs, size))
    _shape("owner", owner, len(learner.weights))
    _equal("networks of each group", owner.unique().tolist(), list(range(groups)))


def _weights(network: Network, inputs: int, size: int) -> int:
    """Number of weights, by arithmetic alone."""
    if isinstance(network, Partitioned):
        _equal("outputs", network.outputs, size)
        total = 0
        for one, reads, moves in zip(network.networks, network.reads, network.moves, strict=True):
            _equal("reads", set(reads) <= set(range(inputs)) and set(moves) <= set(range(size)), True)
            total += _weights(one, len(reads), len(moves))
        return total
    if not isinstance(network, StackedMLP) or type(network.config) is not MLP:
        raise FileError("its network is none of this package")
    _equal("inputs", (network.inputs, network.outputs), (inputs, size))
    widths = (inputs, *network.config.hidden)
    hidden = sum((a + 1) * b for a, b in itertools.pairwise(widths))
    last = widths[-1] * size if network.config.hidden else 0
    return hidden + last + size + (inputs * size if network.config.skip else 0)


def _law(law: FittedLaw, inputs: int) -> None:
    classes, variables = len(law.cells.table), len(law.continuous)
    _equal("moments", len(law.moments), variables)
    _shape("mass", law.mass, len(law.mass))
    _shape("shape", law.shape, len(law.mass), variables)
    _shape("floor", law.floor, classes)
    if law.support is not None:
        _shape("support", law.support, 2, variables)
    if isinstance(law.classifier, Theta):
        _theta(law.classifier, None, inputs)
        _equal("classes", law.classifier.coordinates.structure.family, Multinomial.of(classes))
    for moment in law.moments:
        if not isinstance(moment, Theta):
            raise FileError("its law of the treatment is given row by row")
        _theta(moment, None, inputs + (classes if classes > 1 else 0))
        _equal("moments", moment.coordinates.start.shape[1], 2)


def _shape(name: str, tensor: Tensor, *shape: int) -> None:
    _equal(f"shape of {name}", tuple(tensor.shape), shape)


def _equal(name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise FileError(f"{name}: {found!r:.60} where {wanted!r:.60} belongs")
