"""The uncertainty of theta(x) at single rows: of its coefficients, of the choice among learners, and between folds."""

import torch
from torch import Tensor

from .coordinates import Centre
from .theta import Learner, Networks, Theta, Uncentred, outputs_of
from .units import blocks

_ROWS = 2048


def covariance(theta: Theta, x: Tensor, repeats: int, centre: Centre = None) -> Tensor:
    """The covariance of the error of theta(x), averaged over groups, at each row; (n, p) -> (n, P, P).

    The sum of three parts. What the data leave open given the penalties, the posterior covariance of smooth functions:
    such intervals cover on average over x, bias of smoothing included (Wahba 1983; Nychka 1988). The variance between
    the learners that are stacked, in the shares they have. And the jackknife variance between the groups of each
    repeat, each of which was kept from one fold (Efron and Stein 1981), for what was selected and how networks began.
    """
    return torch.cat([
        _at(theta, x[rows], repeats, None if centre is None else centre[:, rows])
        for rows in blocks(len(x), _ROWS)
    ])  # fmt: skip


def _at(theta: Theta, x: Tensor, repeats: int, centre: Centre) -> Tensor:
    total = theta.outputs(x, centre)  # (G, n, P)
    folds = len(total) // repeats
    root, between = (total.new_zeros(*total.shape, total.shape[-1]) for _ in range(2))
    for name, share in theta.mix.items():
        apart = -total
        if name in theta.learners and bool(share.any()):
            learner = theta.learners[name]
            apart = outputs_of(learner, x, centre) - total
            values, vectors = torch.linalg.eigh(_of_learner(learner, x, folds, centre))
            # learners saw the same rows, so that their errors add up as if perfectly correlated
            root += share[:, None] * (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mT
        weighed = apart * share.sqrt()
        between += weighed[..., :, None] * weighed[..., None, :]
    turn = _turn(theta, total, centre)
    inside = (turn @ (root @ root.mT + between) @ turn.mT).mean(0)
    return inside + _jackknife(theta.coordinates.values(total, centre), folds).mean(0)


def _turn(theta: Theta, outputs: Tensor, centre: Centre) -> Tensor:
    """The derivative of theta(x) by the outputs, of which it is an affine function; (G, n, P, P)."""
    zero, one = torch.zeros_like(outputs), torch.eye(outputs.shape[-1]).to(outputs)
    start = theta.coordinates.values(zero, centre)
    return torch.stack([theta.coordinates.values(zero + unit, centre) - start for unit in one], -1)


def _of_learner(learner: Learner, x: Tensor, folds: int, centre: Centre) -> Tensor:
    """The covariance of a learner's outputs; (n, p) -> (G, n, P, P)."""
    if isinstance(learner, Networks):
        return _jackknife(learner.outputs(x), folds).repeat_interleave(folds, 0)
    if not isinstance(learner, Uncentred):
        return learner.spread(x)
    assert centre is not None
    own, shared = learner.own, learner.shared
    zero = own.start.new_zeros(*centre.shape[:2], len(own.structure.names))
    eye = torch.eye(zero.shape[-1]).to(zero)

    def moved(outputs: Tensor) -> Tensor:
        return own.structure.moved(own.around(outputs), own.centre - centre)

    turn = torch.stack([moved(zero + unit) - moved(zero) for unit in eye], -1)
    turn = torch.linalg.inv(shared.transform)[:, None] @ turn
    return turn @ learner.surface.spread(x) @ turn.mT


def _jackknife(values: Tensor, folds: int) -> Tensor:
    """The covariance of what all rows would give, by the groups of each repeat; (R K, n, P) -> (R, n, P, P)."""
    each = values.unflatten(0, (-1, folds))
    apart = each - each.mean(1, keepdim=True)
    return (folds - 1) / folds * torch.einsum("rknp,rknq->rnpq", apart, apart)
