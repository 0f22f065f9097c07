"""The structural model without its functions: names of theta, and the homogeneous fit that networks start from."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import DataError
from .families import Family
from .minimise import Minimum, State, minimise
from .units import Units, blocks, chosen


class Pooled(NamedTuple):
    """The fit with constant theta, for each of G sets of weights."""

    theta: Tensor  # (G, P)
    hessian: Tensor  # (G, P, P) mean Hessian of the loss
    score: Tensor  # (G, P, P) mean outer product of the scores
    loss: Tensor  # (G,) mean loss


class Standard(NamedTuple):
    """Standardised units, and the way back: theta = turn @ theta' once the family has undone the outcome's."""

    units: Units
    turn: Tensor  # (P, P)
    shift: float
    scale: float
    level: float  # mean of the offset, which the units' is less of: the first intercept has it


class Instruments(NamedTuple):
    """The terms that move the outcomes after the first, the treatments, and through them the first."""

    terms: tuple[str, ...]  # Z
    spread: tuple[tuple[float, ...], ...]  # (Z, Z) their covariance, by which more of them than treatments are weighed


@dataclass(frozen=True)
class Structure:
    """A family, the structural terms its coefficients belong to, which are instruments, and what is constant."""

    family: Family
    terms: tuple[str, ...]
    instruments: Instruments | None = None
    constant: tuple[str, ...] = ()  # the columns of theta that are the same for all x
    bounds: tuple[tuple[str, float | None, float | None], ...] = ()  # name, lower and upper limit of constant theta
    penalised: bool = False  # whether constant theta minimises more than the mean loss

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the P columns of theta."""
        return self.family.names(self.terms)

    @property
    def held(self) -> tuple[int, ...]:
        """Positions of the constant columns of theta."""
        return tuple(j for j, name in enumerate(self.names) if name in self.constant)

    @property
    def free(self) -> tuple[int, ...]:
        """Positions of the columns of theta that vary with x."""
        return tuple(j for j, name in enumerate(self.names) if name not in self.constant)

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The lower and upper bounds of theta, infinite where there are none; (P,) each, of the kind of `like`."""
        known = {name: (low, high) for name, low, high in self.bounds}
        pairs = [known.get(name, (None, None)) for name in self.names]
        lower = [-math.inf if low is None else low for low, _ in pairs]
        upper = [math.inf if high is None else high for _, high in pairs]
        return torch.tensor(lower).to(like), torch.tensor(upper).to(like)

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The coefficients of the instruments: for the outcome (reduced form), and each treatment (first stages)."""
        if self.instruments is None:
            return ()
        return tuple(tuple(one + term for term in self.instruments.terms) for one in self.family.prefixes)

    @property
    def intercept(self) -> int | None:
        """Position of the intercept among the columns of theta, None in a model without one."""
        return self.terms.index("Intercept") if "Intercept" in self.terms else None

    @property
    def slopes(self) -> Tensor:
        """1 for every structural term but the intercept; (K,)."""
        return torch.tensor([float(term != "Intercept") for term in self.terms], dtype=torch.float64)

    @property
    def levels(self) -> tuple[int, ...]:
        """The columns of theta that controls may move: those intercepts and ancillary parameters that vary."""
        k, blocks = len(self.terms), max(len(self.family.prefixes), 1)
        return tuple(j for j in self.free if j >= blocks * k or j % k == self.intercept)

    @property
    def movable(self) -> bool:
        """Whether the origin of d is free: indices with an intercept, which absorbs any function of x."""
        return self.intercept is not None and bool(self.family.prefixes)

    @property
    def shiftable(self) -> bool:
        """Whether the origin of d can be any constant with constant columns remaining so.

        Where the intercept is constant and slopes vary, it is the intercept at one origin, the caller's, and no other.
        """
        free = set(self.free)
        return self.movable and all(one[self.intercept or 0] in free or free.isdisjoint(one) for one in self._indices)

    @property
    def absorbing(self) -> bool:
        """Whether the origin of d can be a function of x: every index has an intercept that varies to absorb it."""
        return self.movable and all(one[self.intercept or 0] in self.free for one in self._indices)

    @property
    def _indices(self) -> list[range]:
        """Positions of the coefficients of each linear index."""
        k = len(self.terms)
        return [range(block * k, block * k + k) for block in range(len(self.family.prefixes))]

    def moved(self, theta: Tensor, origin: Tensor) -> Tensor:
        """Theta for d, given theta for d - origin: every intercept gives what its slopes do at the origin.

        (..., P), (..., K) -> (..., P), in place. The intercept's entry of the origin is 0.
        """
        k = len(self.terms)
        for start in range(0, len(self.family.prefixes) * k, k):
            theta[..., start + (self.intercept or 0)] -= (origin * theta[..., start : start + k]).sum(-1)
        return theta

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x] of each of the M means, one unless the family has labels; (..., P) -> (..., M)."""
        mean = self.family.mean(u, theta)
        return mean if self.family.labels else mean[..., None]

    def each(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names of what is asked of every mean, in the order in which (..., names, M) is flattened."""
        labels = self.family.labels
        return tuple(f"{name}, {label}" for name in names for label in labels) if labels else tuple(names)

    def standard(self, u: Units) -> "Standard":
        """The units in coordinates in which neither origin nor unit of the outcome and the regressors matters.

        Computed by subtraction, so that a variable far from 0 keeps its digits. Regressors whose origin is not free
        stay as the family takes them around an origin of its own; without an intercept, so does the outcome.
        """
        turn = torch.eye(len(self.names), dtype=u.d.dtype, device=u.d.device)
        if self.intercept is None:
            return Standard(self.family.around(u), turn, 0.0, 1.0, 0.0)
        y, shift, unit = self.family.standardise(u)
        level = float(u.offset.mean())
        u = u._replace(y=y, offset=u.offset - level)
        if not self.movable:
            return Standard(u, turn, shift, unit, level)
        mean, scale = u.d.mean(0), u.d.std(0, correction=0)
        mean[self.intercept], scale[self.intercept] = 0.0, 1.0
        scale = torch.where(scale > 0, scale, 1.0)
        k = u.d.shape[1]
        for start in range(0, len(self.family.prefixes) * k, k):
            block = slice(start, start + k)
            turn[block, block] /= scale[:, None]
            turn[start + self.intercept, block] -= mean / scale
        return Standard(u._replace(d=(u.d - mean) / scale), turn, shift, unit, level)

    def pooled(self, u: Units, weight: Tensor, rows: Tensor | None = None) -> Pooled:
        """Newton's method for constant theta without bounds; weight is (G or 1, n), rows (G, n) bool says which each
        group uses, by default all, and u.d may be (n, K) or (G, n, K).

        Minimises the weighted mean loss to a gradient of 1e-10 in the metric of the Hessian. Raises DataError when the
        minimum does not exist (separated outcomes, collinear regressors, a parameter that runs off to infinity).
        """
        start = self.family.start(u).expand(len(weight if rows is None else rows), -1)
        found = self.minimum(u, weight, rows, start=start)
        self.refuse(u, found)
        return self._finish(partial(_parts, u, weight, rows), found.theta, found.hessian, found.value)

    def minimum(
        self, u: Units, weight: Tensor, rows: Tensor | None = None, *, start: Tensor, lower: Tensor | None = None,
        upper: Tensor | None = None, watch: Callable[[Tensor], None] | None = None, steps: int = 200,
    ) -> Minimum:  # fmt: skip
        """Where Newton's method ends from `start` (G, P), inside bounds (P,), whether or not that is a minimum.

        With one weight for all, the G problems are one from several starts. `watch` is called with theta (G, P) before
        every step. Raises DataError where the family sees a parameter run off to infinity.
        """
        family, parts = self.family, partial(_parts, u, weight, rows)

        def loss(at: Tensor, part: _Part) -> Tensor:  # (G, P) -> (G,)
            return (family.loss(part.units, at[:, None, :]) * part.weight).sum(1)

        def objective(at: Tensor) -> Tensor:
            return torch.stack([loss(at, part) for part in parts()]).sum(0)

        def derivatives(at: Tensor) -> tuple[Tensor, Tensor]:
            each = [derivatives_of(partial(loss, part=part), at) for part in parts()]
            gradient, hessian = (torch.stack(one).sum(0) for one in zip(*each, strict=True))
            return gradient, hessian

        def see(theta: Tensor, gradient: Tensor) -> None:
            for at, slope in zip(theta, gradient, strict=True):
                if reason := family.limit(u, at, slope):
                    raise DataError(f"family={family.name!r} has no homogeneous fit: {reason}")
                if not self.bounds and family.separated(u, at):
                    raise DataError(
                        f"family={family.name!r} has no homogeneous fit: the outcome is separated by "
                        f"{', '.join(self._largest(u, at))}, which foretell it in every row, so that coefficients grow "
                        f"without end. {family.advice}"
                    )
            if watch is not None:
                watch(theta)

        return minimise(objective, derivatives, start, lower=lower, upper=upper, watch=see, steps=steps)

    def refuse(self, u: Units, found: Minimum, done: bool = True) -> None:
        """DataError where the minimum does not exist; with `done`, also where it was not reached."""
        flat = found.state == State.FLAT
        if bool(flat.any()):  # what is left of the gradient is that of a parameter on its way to infinity
            raise self._singular(found.direction[flat][0])
        off = self._runs_off(u, found.theta, found.step)
        if done and bool(((found.state != State.DONE) | off).any()):
            names = self._largest(u, found.theta[(found.state != State.DONE) | off][0])
            raise DataError(
                f"The homogeneous fit of family={self.family.name!r} did not converge in {found.steps} Newton steps: "
                f"the outcome may be separated by {', '.join(names)}, or the terms collinear. {self.family.advice}"
            )

    def _singular(self, direction: Tensor) -> DataError:
        """What is said of a Hessian that vanishes along a direction (P,), in units in which its diagonal is 1."""
        found = [name for name, share in zip(self.names, direction, strict=True) if float(share) ** 2 > 0.05]
        return DataError(
            f"The Hessian of family={self.family.name!r} is singular at the homogeneous fit: the outcome is "
            f"separated by, or the rows carry no information on, one of {', '.join(found)}. {self.family.advice}"
        )

    def _runs_off(self, u: Units, theta: Tensor, step: Tensor) -> Tensor:
        """Whether a step too short to change the loss still moves an index: a flat tail of the loss; (G,)."""
        size, last = self._sizes(u), len(self.terms) * len(self.family.prefixes)
        at, change = (theta * size)[:, :last], (step * size)[:, :last]
        return (change.abs() > 1e-6 * (1 + at.abs())).any(1)

    def _largest(self, u: Units, theta: Tensor) -> list[str]:
        """The names of the parameters (P,) that move the index most."""
        size = (theta * self._sizes(u)) ** 2
        return [name for name, part in zip(self.names, size / size.sum(), strict=True) if not float(part) <= 0.05]

    def _sizes(self, u: Units) -> Tensor:
        """The root mean square of the regressor of each coefficient, 1 for ancillary parameters; (P,)."""
        size = u.d.flatten(0, -2).square().mean(0).sqrt().repeat(len(self.family.prefixes))
        return torch.cat([size, size.new_ones(len(self.names) - len(size))])

    def _finish(self, parts: "Callable[[], Iterator[_Part]]", theta: Tensor, hessian: Tensor, value: Tensor) -> Pooled:
        power = torch.zeros_like(hessian)
        for u, weight in parts():
            score = score_of(self.family, u, theta[:, None, :].expand(*weight.shape, theta.shape[1]))
            power += (score * weight[:, :, None]).mT @ score
        return Pooled(theta, hessian, power, value)


class _Part(NamedTuple):
    """Some units, and the share of each group's weight that each of them has."""

    units: Units
    weight: Tensor  # (G, b)


def _parts(u: Units, weight: Tensor, kept: Tensor | None) -> Iterator[_Part]:
    """The units block by block: y and d have their rows first, or second where each group has its own."""
    n = weight.shape[1]

    def share(rows: slice) -> Tensor:
        return weight[:, rows] if kept is None else kept[:, rows] * weight[:, rows]

    total = torch.stack([share(rows).sum(1, keepdim=True) for rows in blocks(n)]).sum(0)

    def of(values: Tensor, rows: slice) -> Tensor:
        return values[rows] if len(values) == n else values[:, rows]

    for rows in blocks(n):
        part = Units(of(u.y, rows), of(u.d, rows), u.mask[rows], chosen(u.offset, rows))
        yield _Part(part, share(rows) / total)


def score_of(family: Family, u: Units, theta: Tensor) -> Tensor:
    """The score of each unit at theta; (..., P) -> (..., P)."""
    theta = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(family.loss(u, theta).sum(), theta)[0]


def derivatives_of(objective: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (G, P) and Hessian (G, P, P) of objective(theta), one value per group."""
    theta = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(theta).sum(), theta, create_graph=True)
        rows = [torch.autograd.grad(gradient[:, j].sum(), theta, retain_graph=True)[0] for j in range(theta.shape[1])]
    return gradient.detach(), torch.stack(rows, 1)
