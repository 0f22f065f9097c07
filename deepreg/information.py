"""Lambda(x) and its inverse: integrated over points of the structural variables, floored, and held against the data."""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from .censoring import Censoring
from .choicesets import Points
from .errors import DataError
from .structure import Structure
from .units import Units, blocks

_REMEDY = (
    "Remove the features that decide either, or keep other rows with subset=. Where what little there is will do, "
    "lower the floor: hessian=deepreg.EstimatedLaw(floor=1e-5)."
)


class Lambda(NamedTuple):
    """The inverse of Lambda(x_i) at the held-out theta, and how far it can be trusted.

    Of the columns that vary with x alone; the rows and columns of constant ones are 0.
    """

    inverse: Tensor  # (R, n, P, P)
    smallest: float  # smallest eigenvalue relative to the mean Lambda, before flooring
    floored: Tensor  # (n,) bool: rows with an eigenvalue raised to the floor, in any repeat
    turn: Tensor  # (R, n, P, C) what the constant columns move, the others following by -Lambda_vv^{-1} Lambda_vc


def integrated(
    structure: Structure, theta: Tensor, nodes: Points, floor: float, unseen: Censoring | None = None
) -> Lambda:
    """Invert the node-weighted information at the held-out theta; (R, n, P) -> (R, n, P, P)."""
    value, family = theta.new_empty(*theta.shape, theta.shape[-1]), structure.family
    for rows, some, (u,) in nodes.units():
        at = theta[:, rows, None, :].expand(*u.y.shape, -1)
        each = family.information(u, at) if unseen is None else family.observed(u, at, unseen.seen(u.d, rows))
        value[:, rows] = (each * some.weight[..., None, None]).sum(2)
    return invert(value, floor, structure.levels, structure.held)


def invert(value: Tensor, floor: float, levels: Sequence[int] = (), held: Sequence[int] = ()) -> Lambda:
    """Inverse of Lambda(x), (R, n, P, P), with no part of it below `floor` relative to its mean over rows.

    The parts are the block of the `levels`, which are intercepts and ancillary parameters, and what they leave of that
    of the slopes: S = Lambda_ss - Lambda_sl Lambda_ll^{-1} Lambda_ls, for least squares the variance of d given x.
    Neither depends on the origin or the unit of d, nor on how far E[d | x] lies from its mean. Of `held` columns, which
    are constant, Lambda(x) need not say anything: their information is an average over rows.

    Raises DataError where the mean is singular, where less than `floor` of the variation of d is left given x, or where
    most rows are below it.
    """
    if held:
        return _around_constants(value, floor, levels, list(held))
    mean = value.mean((0, 1))
    eigenvalues = torch.linalg.eigvalsh(mean / mean.diagonal().outer(mean.diagonal()).sqrt())
    if not float(eigenvalues[0]) > 1e-10:
        raise DataError(
            "The mean of Lambda(x) is singular: given the features, some combination of the structural regressors does "
            "not vary, or the outcome hardly ever does. Remove the feature that decides the treatment, the redundant "
            "term, or the rows that say nothing."
        )
    first = sorted(levels)
    last = [j for j in range(value.shape[-1]) if j not in first]
    if not first or not last:
        return _above(value, floor)
    order = torch.tensor(first + last)
    there, back, cut = order[:, None], order.argsort(), len(first)
    value, mean = value[..., there, order], mean[there, order]
    level = _above(value[..., :cut, :cut], floor)
    across = value[..., cut:, :cut] @ level.inverse  # (R, n, S, L)
    left = value[..., cut:, cut:] - across @ value[..., :cut, cut:]
    given = _given(left.mean((0, 1)), mean, cut)
    if given < floor:
        raise DataError(
            f"The features decide some structural regressor: given them, a share of {max(given, 0):.1e} of its "
            f"variation is left, so averages over all rows are not identified. {_REMEDY}"
        )
    slope = _above(left, floor)
    moved = slope.inverse @ across
    inverse = torch.empty_like(value)
    inverse[..., :cut, :cut] = level.inverse + across.mT @ moved
    inverse[..., cut:, :cut] = -moved
    inverse[..., :cut, cut:] = -moved.mT
    inverse[..., cut:, cut:] = slope.inverse
    raised = level.floored | slope.floored
    _refuse(raised)
    return Lambda(inverse[..., back[:, None], back], min(level.smallest, slope.smallest), raised, inverse[..., :0])


def _above(value: Tensor, floor: float) -> Lambda:
    """The inverse with eigenvalues no smaller than `floor` relative to the mean over rows."""
    mean = value.mean((0, 1))
    lower = torch.linalg.cholesky(mean)
    half = torch.linalg.solve_triangular(lower, value, upper=False)
    white = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    if white.shape[-1] == 1:  # many times as fast
        return floored(white[..., 0], torch.ones_like(white), lower, floor)
    relative, vectors = torch.linalg.eigh(white)
    return floored(relative, vectors, lower, floor)


def _given(left: Tensor, mean: Tensor, cut: int) -> float:
    """The least share of the variation of the last regressors, past the `cut`, that is left given x."""
    whole = mean[cut:, cut:] - mean[cut:, :cut] @ torch.linalg.solve(mean[:cut, :cut], mean[:cut, cut:])
    lower = torch.linalg.cholesky(whole)
    half = torch.linalg.solve_triangular(lower, left, upper=False)
    return float(torch.linalg.eigvalsh(torch.linalg.solve_triangular(lower, half.mT, upper=False))[0])


def _around_constants(value: Tensor, floor: float, levels: Sequence[int], held: list[int]) -> Lambda:
    free = [j for j in range(value.shape[-1]) if j not in held]
    lam = invert(value[..., free, :][..., free], floor, [free.index(j) for j in levels])
    inverse = torch.zeros_like(value)
    inverse[..., torch.tensor(free)[:, None], torch.tensor(free)] = lam.inverse
    turn = value.new_zeros(*value.shape[:-1], len(held))
    turn[..., free, :] = -(lam.inverse @ value[..., free, :][..., held])
    turn[..., held, :] = torch.eye(len(held)).to(value)
    return lam._replace(inverse=inverse, turn=turn)


def of_constants(structure: Structure, u: Units, theta: Tensor, weight: Tensor, lam: Lambda) -> Tensor:
    """I^{-1} (-A, 1)', which turns a score into minus the influence value of the constants; (R, n, C, P).

    With v the columns that vary and c the constant ones, A = Lambda_vv^{-1} Lambda_vc: s = l_c - A'l_v, and I is the
    mean of (-A, 1)' l_theta_theta (-A, 1), whose expectation E[Lambda_cc - Lambda_cv A] an error in A changes in second
    order only. Of a Hessian that depends on the outcome it takes the expectation given d, where that is a formula: less
    noisy, and never indefinite. Raises DataError where the rows say nothing on some combination of the constants.
    """
    if not structure.held:
        return lam.turn.mT
    total, family = lam.turn.new_zeros(len(theta), len(structure.held), len(structure.held)), structure.family
    expected = family.closed and not family.censored  # which depends on when rows were last seen
    for rows in blocks(len(u.d)):
        part = u.each(itemgetter(rows))
        turn, at = lam.turn[:, rows], theta[:, rows]
        hessian = family.information(part, at) if expected else family.derivatives(part, at)[1]
        total += (turn.mT @ hessian @ turn * weight[rows, None, None]).sum(1)
    total = total / weight.sum()
    unit = total.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
    even = total * unit[:, :, None] * unit[:, None, :]
    if not bool((torch.linalg.eigvalsh(even)[:, 0] > 1e-10).all()):
        raise DataError(
            f"The rows say nothing on the constant columns {', '.join(structure.names[j] for j in structure.held)}, or "
            "on some combination of them: what they multiply is decided by the features, or moved by the columns that "
            "vary. Hold fewer constant, or remove the feature that decides them."
        )
    return (unit[..., None] * torch.linalg.inv(even) * unit[:, None])[:, None] @ lam.turn.mT


def agreement(structure: Structure, u: Units, theta: Tensor, weight: Tensor, lam: Lambda) -> tuple[float, float]:
    """The least and the largest eigenvalue of the mean of Lambda(x_i)^{-1} Hessian_i, at theta (R, n, P).

    Both are 1 in expectation where the laws behind Lambda describe the data. For least squares and a treatment of 0
    and 1 they are the means of t / p and (1 - t) / (1 - p).
    """
    total = torch.zeros_like(lam.inverse[0, 0])
    for rows in blocks(len(u.d)):
        part = u.each(itemgetter(rows))
        hessian = structure.family.derivatives(part, theta[:, rows])[1]
        total += (lam.inverse[:, rows] @ hessian * weight[rows, None, None]).sum((0, 1))
    free = list(structure.free)
    values = torch.linalg.eigvals(total[free][:, free] / (len(theta) * weight.sum())).real
    return float(values.min()), float(values.max())


def floored(relative: Tensor, vectors: Tensor, lower: Tensor, floor: float) -> Lambda:
    """Inverse of lower @ vectors @ diag(relative) @ vectors' @ lower', with `relative` raised to the floor.

    Raises DataError where most rows are touched: an average over rows that mostly say nothing is no estimate.
    """
    raised = (relative < floor).any(-1).any(0)  # (n,)
    _refuse(raised)
    back = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
    inverse = (back / relative.clamp_min(floor)[..., None, :]) @ back.mT
    return Lambda(inverse, float(relative.min()), raised, inverse[..., :0])


def _refuse(raised: Tensor) -> None:
    if float(raised.double().mean()) > 0.5:
        raise DataError(
            f"In {int(raised.sum()):,} of {len(raised):,} rows the data say next to nothing on some coefficient: "
            "given the features, the treatment hardly varies there or the outcome is all but certain, so averages over "
            f"all rows are not identified. {_REMEDY}"
        )
