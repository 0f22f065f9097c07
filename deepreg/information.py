"""Lambda(x) and its inverse: integrated over points of the structural variables, floored, and held against the data."""

from typing import NamedTuple

import torch
from torch import Tensor

from .censoring import Censoring
from .choicesets import Points
from .errors import DataError
from .structure import Structure
from .units import Units, blocks


class Lambda(NamedTuple):
    """The inverse of Lambda(x_i) at the held-out theta, and how far it can be trusted."""

    inverse: Tensor  # (R, n, P, P)
    smallest: float  # smallest eigenvalue relative to the mean Lambda, before flooring
    floored: Tensor  # (n,) bool: rows with an eigenvalue raised to the floor, in any repeat


def integrated(
    structure: Structure, theta: Tensor, nodes: Points, floor: float, unseen: Censoring | None = None
) -> Lambda:
    """Invert the node-weighted information at the held-out theta; (R, n, P) -> (R, n, P, P)."""
    value, family = theta.new_empty(*theta.shape, theta.shape[-1]), structure.family
    for rows, some, (u,) in nodes.units():
        at = theta[:, rows, None, :].expand(*u.y.shape, -1)
        each = family.information(u, at) if unseen is None else family.observed(u, at, unseen.seen(u.d, rows))
        value[:, rows] = (each * some.weight[..., None, None]).sum(2)
    return invert(value, floor)


def invert(value: Tensor, floor: float) -> Lambda:
    """Inverse with eigenvalues no smaller than `floor` relative to the mean over rows, which is free of units."""
    mean = value.mean((0, 1))
    eigenvalues = torch.linalg.eigvalsh(mean / mean.diagonal().outer(mean.diagonal()).sqrt())
    if not float(eigenvalues[0]) > 1e-10:
        raise DataError(
            "The mean of Lambda(x) is singular: given the features, some combination of the structural regressors does "
            "not vary, or the outcome hardly ever does. Remove the feature that decides the treatment, the redundant "
            "term, or the rows that say nothing."
        )
    lower = torch.linalg.cholesky(mean)
    half = torch.linalg.solve_triangular(lower, value, upper=False)
    white = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    relative, vectors = torch.linalg.eigh(white)
    return floored(relative, vectors, lower, floor)


def agreement(structure: Structure, u: Units, theta: Tensor, weight: Tensor, lam: Lambda) -> tuple[float, float]:
    """The least and the largest eigenvalue of the mean of Lambda(x_i)^{-1} Hessian_i, at theta (R, n, P).

    Both are 1 in expectation where the laws behind Lambda describe the data. For least squares and a treatment of 0
    and 1 they are the means of t / p and (1 - t) / (1 - p).
    """
    total = torch.zeros_like(lam.inverse[0, 0])
    for rows in blocks(len(u.d)):
        part = Units(*(one[rows] for one in u))
        hessian = structure.family.derivatives(part, theta[:, rows])[1]
        total += (lam.inverse[:, rows] @ hessian * weight[rows, None, None]).sum((0, 1))
    values = torch.linalg.eigvals(total / (len(theta) * weight.sum())).real
    return float(values.min()), float(values.max())


def floored(relative: Tensor, vectors: Tensor, lower: Tensor, floor: float) -> Lambda:
    """Inverse of lower @ vectors @ diag(relative) @ vectors' @ lower', with `relative` raised to the floor.

    Raises DataError where most rows are touched: an average over rows that mostly say nothing is no estimate.
    """
    raised = (relative < floor).any(-1).any(0)  # (n,)
    if float(raised.double().mean()) > 0.5:
        raise DataError(
            f"In {int(raised.sum()):,} of {len(raised):,} rows the data say next to nothing on some coefficient: "
            "given the features, the treatment hardly varies there or the outcome is all but certain, so averages over "
            "all rows are not identified. Remove the features that decide either, or keep other rows with subset=. "
            "Where what little there is will do, lower the floor: hessian=deepreg.EstimatedLaw(floor=1e-5)."
        )
    back = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
    inverse = (back / relative.clamp_min(floor)[..., None, :]) @ back.mT
    return Lambda(inverse, float(relative.min()), raised)
