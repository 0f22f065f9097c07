"""Covariances of constant theta that are no sum over influence values: of a likelihood, and with leverages."""

from collections.abc import Iterator
from operator import itemgetter

import torch
from torch import Tensor

from ..errors import NotAvailable
from ..families import Family
from ..structure import Structure
from ..units import Units, blocks

LIKELIHOOD = ("classical", "expected", "opg")
LEVERAGE = {"HC2": 0.5, "HC3": 1.0}  # the power of 1 / (1 - leverage) that a score is multiplied by
KINDS = (*LIKELIHOOD, *LEVERAGE)


def check(kind: str, structure: Structure, constant: bool, given: str) -> None:
    """NotAvailable where a fit has no covariance of that kind, `given` by the caller, with what it has instead."""
    family = structure.family
    if kind not in KINDS:
        return
    if not constant:
        raise NotAvailable(
            f"vcov={given!r} is of constant coefficients. Here coefficients are functions of features, and the errors "
            "of their averages are those of influence functions, which need no law of the outcome: use vcov='robust', "
            "'HC0' or a cluster, or take the features out of the formula."
        )
    if structure.penalised:
        raise NotAvailable(
            f"vcov={kind!r} is of the minimum of a mean of losses, and this fit has a penalty that sees all rows at "
            "once. Its errors are those of the infinitesimal jackknife: use vcov='robust', 'HC0' or a cluster."
        )
    if kind in LIKELIHOOD and not family.likelihood:
        raise NotAvailable(
            f"vcov={given!r} needs a likelihood, and the loss of family {family.name!r} is none; use vcov='robust', "
            "'HC0' or a cluster."
        )
    if kind == "expected" and not family.closed:
        raise NotAvailable(
            f"vcov={given!r} needs the expected Hessian of family {family.name!r} as a formula, and it states none; "
            "use vcov='classical', which takes the Hessian of the rows."
        )
    if kind in LEVERAGE and not (family.closed and family.prefixes == ("",) and not family.extra):
        raise NotAvailable(
            f"vcov={given!r} needs the leverage of each row, which families with one linear index and no other "
            f"parameter have; {family.name!r} is none of them. Use vcov='robust', 'HC0' or a cluster."
        )


def covariance(
    kind: str, structure: Structure, u: Units, theta: Tensor, score: Tensor, inverse: Tensor, weight: Tensor
) -> Tensor:
    """The covariance of constant theta (P,), from scores (n, P) and the inverse of the mean Hessian; (P, P).

    With A the inverse of the weighted sum of Hessians and s_i the score, each times the weight of the row: "classical"
    is phi A, and phi^2 (sum s_i s_i')^{-1} is "opg", the outer product of gradients (Berndt, Hall, Hall and Hausman
    1974), where phi is 1 for a likelihood and the residual variance with n - P degrees of freedom for least squares;
    "expected" is "classical" with expected Hessians; and "HC2" and "HC3" are A (sum s_i s_i' / (1 - h_i)^q) A with
    q = 1 and 2, and h_i = tr(B^{-1} B_i) the leverage, B_i the expected Hessian of the row and B their sum (MacKinnon
    and White 1985). Weights are taken as they are
    given, as precisions. A parameter that is held, with a row of zeros in `inverse`, has a variance of 0.
    """
    total = inverse / weight.sum()
    free = (total.diagonal() > 0).nonzero()[:, 0]
    if kind in LEVERAGE:
        rows = (score @ total) * weight[:, None]
        leverage = _leverages(structure.family, u, theta, weight, free)
        rows = rows * ((1 - leverage) ** -LEVERAGE[kind])[:, None]
        return rows.mT @ rows
    scale = structure.family.dispersion(u, theta, weight, len(free))
    if kind == "classical":
        return scale * total
    if kind == "expected":
        return scale * _inverse(_information(structure.family, u, theta, weight), free)
    weighted = score * weight[:, None]
    return scale**2 * _inverse(weighted.mT @ weighted, free)


def _each(family: Family, u: Units, theta: Tensor, weight: Tensor) -> Iterator[Tensor]:
    """The expected Hessians of some rows after the other, times their weights; (b, P, P)."""
    for rows in blocks(len(weight)):
        some = weight[rows]
        yield family.information(u.each(itemgetter(rows)), theta.expand(len(some), -1)) * some[:, None, None]


def _information(family: Family, u: Units, theta: Tensor, weight: Tensor) -> Tensor:
    return torch.stack([each.sum(0) for each in _each(family, u, theta, weight)]).sum(0)


def _leverages(family: Family, u: Units, theta: Tensor, weight: Tensor, free: Tensor) -> Tensor:
    """The share of each row in the sum of expected Hessians, which add up to the number of parameters; (n,)."""
    inverse = _inverse(_information(family, u, theta, weight), free)
    return torch.cat([(each * inverse).sum((-1, -2)) for each in _each(family, u, theta, weight)])


def _inverse(matrix: Tensor, free: Tensor) -> Tensor:
    """The inverse on the rows and columns in `free`, 0 elsewhere; computed in units that make the diagonal 1."""
    inside = matrix[free][:, free]
    unit = inside.diagonal().clamp_min(1e-300).rsqrt()
    found = torch.zeros_like(matrix)
    found[free[:, None], free] = unit[:, None] * torch.linalg.pinv(unit[:, None] * inside * unit, hermitian=True) * unit
    return found
