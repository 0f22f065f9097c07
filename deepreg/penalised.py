"""Fits whose objective sees all rows at once: the minimum, its Hessian, and the influence of every row on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from .design import Design
from .errors import DataError
from .minimise import State, minimise
from .penalties.base import Function, Penalty, Seen
from .structure import Structure, derivatives_of
from .units import Units

PIECES = 50  # of a penalty that a search may go through


@dataclass(frozen=True, eq=False)
class Objective:
    """The weighted mean loss and a penalty, as a function of constant theta and of the weights of the rows.

    It is free of the scale of the weights. `turn` gives theta of the coordinates of `units`: theta = turn @ at.
    """

    structure: Structure
    design: Design
    penalty: Penalty
    units: Units
    weight: Tensor  # (n,)
    turn: Tensor  # (P, P)

    @cached_property
    def _paid(self) -> Function:
        return self.penalty.bind(self.design, self.structure)

    def parts(self, at: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The mean loss and the penalty; (..., P) -> (...) each."""
        family, rows = self.structure.family, at[..., None, :]
        weight = self.weight if weight is None else weight
        loss = (family.loss(self.units, rows) @ weight) / weight.sum()
        mean, theta = partial(family.mean, self.units, rows), at @ self.turn.mT
        return loss, self._paid(Seen(self.structure, self.units, theta, loss, mean, weight, self.design.frame))

    def bounds(self, at: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The region of the penalty around `at`, in its coordinates, within bounds; (..., P) each."""
        ends = self.penalty.region(self.structure, at @ self.turn.mT)
        low, high = (torch.where(end.isfinite(), end / self.turn.diagonal(), end) for end in ends)
        return torch.maximum(low, lower), torch.minimum(high, upper)

    def value(self, at: Tensor, weight: Tensor | None = None) -> Tensor:
        """What is minimised; (..., P) -> (...)."""
        loss, paid = self.parts(at, weight)
        return loss + paid

    def influence(self, at: Tensor) -> Tensor:
        """What each row does to the gradient, by its share of the weights; (P,) -> (n, P).

        s_i = W d(gradient) / dw_i with W the sum of the weights: the infinitesimal jackknife (Jaeckel 1972; Giordano et
        al. 2019), of which -H^{-1} s_i are influence values. Of a mean of losses s_i is the score of the row; of
        ratios of sums it holds what the row does to each sum. Its weighted mean is 0, as the scale of the weights does
        not matter.
        """
        at = at.detach().requires_grad_(True)
        weight = self.weight.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.value(at, weight), at, create_graph=True)
            each = [torch.autograd.grad(one, weight, retain_graph=True)[0] for one in gradient]
        return torch.stack(each, 1) * self.weight.sum()


class Found(NamedTuple):
    """A minimum of an objective."""

    at: Tensor  # (P,)
    hessian: Tensor  # (P, P)
    free: Tensor  # (P,) bool: neither at a bound nor held by the penalty
    held: Tensor  # (P,) where the penalty holds theta, NaN where it does not
    steps: int
    loss: float  # the mean loss
    paid: float  # the penalty
    values: Mapping[str, float]  # the objective at the minimum reached from each start

    @property
    def times(self) -> int:
        """How many starts led to it."""
        least = min(self.values.values())
        return sum(value - least < 1e-8 * (1 + abs(least)) for value in self.values.values())

    def header(self, penalty: Penalty) -> tuple[tuple[str, str], ...]:
        """What a summary says of it."""
        return (("Penalty:", repr(penalty)), ("Mean loss, penalty:", f"{self.loss:.6g}, {self.paid:.3g}"))

    def notes(self, names: Sequence[str], caution: str) -> tuple[str, ...]:
        """What the reader has to know, with what the penalty has to say of its errors."""
        first = (
            "Coefficients minimise the mean loss and the penalty. Errors are those of the infinitesimal jackknife, "
            "which counts what each row does to both."
        ) + (f" {caution}" if caution else "")
        held = [name for name, value in zip(names, self.held.tolist(), strict=True) if value == value]
        rest = [f"Held by the penalty, with no error: {', '.join(held)}. Errors of the others are given these."]
        reached = ", ".join(f"{value:.8g} from {name}" for name, value in self.values.items())
        starts = [f"The objective at the minima reached: {reached}."] if len(self.values) > 1 else []
        return (first, *(rest if held else []), *starts)


def minimum(objective: Objective, starts: Mapping[str, Tensor], lower: Tensor, upper: Tensor) -> Found:
    """The least of the minima reached from some starts (P,), within bounds (P,), through the stages of the penalty.

    Raises DataError where none is reached.
    """
    stages = [replace(objective, penalty=one) for one in objective.penalty.stages()]
    at, steps = torch.stack([*starts.values()]), 0
    for _ in range(PIECES):
        low, high = objective.bounds(at, lower, upper)
        at = at.clamp(low, high)
        for stage in stages:
            found = minimise(stage.value, partial(derivatives_of, stage.value), at, lower=low, upper=high)
            at, steps = found.theta, steps + found.steps
            left = ~found.free & (at > lower) & (at < upper)  # at the end of a piece of the penalty
            if bool(left.any()):
                break
        if not bool(left.any()):
            break
        across = 1e-6 * (high - low)
        at = torch.where(left, torch.where(at <= low, low - across, high + across), at)  # into the next piece
    values = torch.where(found.state == State.DONE, found.value, torch.inf)
    if not bool(values.isfinite().any()):
        raise DataError(
            f"The fit with penalty={objective.penalty!r} reached no minimum in {steps} Newton steps. Try a smaller "
            "strength, or fewer terms."
        )
    best, last = int(values.argmin()), stages[-1]
    point, free, hessian = at[best], found.free[best], found.hessian[best]
    held = last.penalty.held(objective.structure, objective.turn @ point)
    if bool((kink := held.isfinite()).any()):
        exact = torch.linalg.solve(objective.turn, torch.where(kink, held, objective.turn @ point))
        ends = (torch.where(kink, exact, end) for end in (lower, upper))
        again = minimise(
            last.value, partial(derivatives_of, last.value), exact[None], lower=next(ends), upper=next(ends)
        )
        point, free, hessian = again.theta[0], free & ~kink, again.hessian[0]
    loss, paid = last.parts(point)
    reached = dict(zip(starts, values.tolist(), strict=True))
    return Found(point, hessian, free, held, steps, float(loss), float(paid), reached)
