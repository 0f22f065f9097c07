"""Newton's method for many small problems at once, with bounds, and what certifies that a minimum was found."""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

FLAT = 1e-9  # of the largest eigenvalue of the Hessian: a smaller one is 0


class State(IntEnum):
    """How a problem ended."""

    RUNNING = 0  # the limit on steps came first
    DONE = 1
    FLAT = 2  # the Hessian vanishes along a direction in which the loss hardly falls any more
    LOST = 3  # derivatives that are not finite, or all 0


class Minimum(NamedTuple):
    """Where each of G problems ended. Derivatives are those at theta, which is a minimum where state is DONE."""

    theta: Tensor  # (G, P)
    value: Tensor  # (G,)
    gradient: Tensor  # (G, P)
    hessian: Tensor  # (G, P, P)
    free: Tensor  # (G, P) bool: not held at a bound
    state: Tensor  # (G,) int, of State
    decrement: Tensor  # (G,) g'H^{-1}g of the free parameters: twice what a Newton step would still gain
    smallest: Tensor  # (G,) least eigenvalue of the Hessian of the free parameters, scaled to a diagonal of 1
    direction: Tensor  # (G, P) its eigenvector, in those units
    step: Tensor  # (G, P) the step that was not taken any more
    steps: int


class _Move(NamedTuple):
    """A Newton step, and the Hessian it was made from."""

    step: Tensor  # (G, P), 0 where held
    decrement: Tensor  # (G,)
    eigenvalues: Tensor  # (G, P) of the scaled Hessian, ascending; NaN where it is not finite
    direction: Tensor  # (G, P)


def minimise(
    objective: Callable[[Tensor], Tensor],
    derivatives: Callable[[Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    lower: Tensor | None = None,
    upper: Tensor | None = None,
    watch: Callable[[Tensor, Tensor], None] | None = None,
    steps: int = 200,
) -> Minimum:
    """Minimise G functions of P parameters, each on its own, by Newton's method with a line search.

    objective : (G, P) -> (G,), infinite or NaN where a function is not defined.
    derivatives : (G, P) -> gradient (G, P) and Hessian (G, P, P).
    start : (G, P), inside the bounds; G problems may be one function from G starts.
    lower, upper : (P,) or (G, P), infinite where there is none. At a bound that the gradient pushes against, a
        parameter is held, exactly on the bound, as it is between equal bounds, and Newton's step is that of the others
        (the active sets of Nocedal and Wright 2006, chapter 16).
    watch : called with theta and the gradient before every step; what it raises ends the search.
    steps : the largest number of them.

    Where a function is not convex, eigenvalues of the Hessian are taken at their absolute value, so that steps descend.
    A problem is done when a step would gain less than 1e-20, in units of 1 + |value|. Those that are done, flat or lost
    stay where they are while the others go on.
    """
    low = torch.full_like(start, -torch.inf) if lower is None else lower.expand_as(start)
    high = torch.full_like(start, torch.inf) if upper is None else upper.expand_as(start)
    theta, value = start.clone(), objective(start)
    state = torch.full((len(start),), State.RUNNING, device=start.device)
    for taken in range(steps + 1):
        gradient, hessian = derivatives(theta)
        if watch is not None:
            watch(theta, gradient)
        move, held = _active(gradient, hessian, theta, low, high)
        least, extent, size = move.eigenvalues[:, 0], move.eigenvalues.abs().amax(1), 1 + value.abs()
        flat = (least < FLAT * extent) & (move.decrement < 1e-8 * size)
        done = move.decrement < 1e-20 * size
        for found, kind in ((done, State.DONE), (flat, State.FLAT), (~(extent > 1e-12), State.LOST)):
            state = torch.where(found, kind, state)
        running = state == State.RUNNING
        if taken == steps or not bool(running.any()):
            break
        step = torch.where(running[:, None], move.step, 0.0)
        theta, value = _searched(objective, theta, value, gradient, step, low, high)
    return Minimum(
        theta, value, gradient, hessian, ~held, state, move.decrement, least, move.direction, move.step, taken
    )


def _active(gradient: Tensor, hessian: Tensor, theta: Tensor, low: Tensor, high: Tensor) -> tuple[_Move, Tensor]:
    """The Newton step of the parameters that are not held at a bound, and which are; (G, P) bool."""
    bottom, top = theta <= low, theta >= high
    held = (bottom & (gradient > 0)) | (top & (gradient < 0)) | (bottom & top)
    move = _newton(gradient, hessian, held)
    # what the gradient pulls off its bound can be pushed back through it by the others' part of the step
    while bool((out := (bottom & (move.step < 0)) | (top & (move.step > 0))).any()):
        held = held | out
        move = _newton(gradient, hessian, held)
    return move, held


def _newton(gradient: Tensor, hessian: Tensor, held: Tensor) -> _Move:
    scale = hessian.diagonal(dim1=1, dim2=2).abs().clamp_min(1e-300).rsqrt()  # unit diagonal: free of units
    scaled = hessian * scale[:, :, None] * scale[:, None, :]
    finite = scaled.isfinite().all(2).all(1)
    alone = torch.eye(held.shape[1], dtype=torch.bool, device=held.device)
    for one in (held[:, :, None], held[:, None, :]):
        scaled = torch.where(one, alone.to(scaled), scaled)
    values, vectors = torch.linalg.eigh(torch.where(finite[:, None, None], scaled, alone.to(scaled)))
    size = values.abs()  # descends where not convex
    inverse = size.clamp_min(1e-10 * size.amax(1, keepdim=True)).reciprocal()
    pull = torch.where(held, 0.0, scale * gradient)
    rotated = (vectors.mT @ pull[:, :, None])[:, :, 0]
    step = -scale * (vectors @ (inverse * rotated)[:, :, None])[:, :, 0]
    decrement = (inverse * rotated**2).sum(1)
    return _Move(
        torch.where(held | ~finite[:, None], 0.0, step), decrement, torch.where(finite[:, None], values, torch.nan),
        vectors[:, :, 0],
    )  # fmt: skip


def _searched(
    objective: Callable[[Tensor], Tensor], theta: Tensor, value: Tensor, gradient: Tensor, step: Tensor, low: Tensor,
    high: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The point along the step, bent along the bounds at first and else up to the first of them, and its value."""
    reach = torch.where(step < 0, (low - theta) / step, torch.where(step > 0, (high - theta) / step, torch.inf))
    first = reach.amin(1)
    end = torch.where(step < 0, low, high)

    def at(length: Tensor) -> Tensor:
        return torch.where(reach <= length[:, None], end, theta + length[:, None] * step)

    length = torch.ones_like(value)
    for _ in range(60):
        trial = at(length)
        fallen = ((theta - trial) * gradient).sum(1)
        after = objective(trial)
        worse = ~(after <= value - 1e-4 * fallen.clamp_min(0) + 1e-14 * (1 + value.abs()))
        if not bool(worse.any()):
            break
        length = torch.where(worse, torch.minimum(length * 0.5, first), length)
    return trial, after
