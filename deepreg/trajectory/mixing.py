"""Fitting a mixture: starts from persons sorted into groups, the EM algorithm, then Newton's method to the end."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families import Mixture
from ..minimise import Minimum, State, minimise
from ..structure import score_of
from ..units import Units

SORTED, CLIMBED, REFINED = 3, 10, 100  # steps with given groups, of the EM algorithm, and of Newton's method
ROUND = 4  # steps after which the problems that are done are left behind
_SAME = 1e-8  # of the mean loss: two starts that differ by less have found the same maximum
_VOID = 1e-7  # of the information in a person, for regressors of variance 1: what has less runs off to infinity
_THIN = 1e-3  # of the spread of the outcome: a smaller standard deviation is that of a group without one


@dataclass(frozen=True)
class Basis:
    """Units whose columns are orthogonal within each block, and the way back: theta = turn @ theta'."""

    units: Units
    turn: Tensor  # (P, P)


class Maximum(NamedTuple):
    """The best of the starts, for each of B sets of weights."""

    theta: Tensor  # (B, P)
    value: Tensor  # (B,) mean loss
    gradient: Tensor  # (B,) largest entry of the gradient of the mean loss, in the coordinates it was found in
    smallest: Tensor  # (B,) least eigenvalue of the Hessian, for regressors of variance 1
    flat: Tensor  # (B, P) bool: runs off to infinity, or is at the bound of a scale
    covariance: Tensor  # (B, P, P) of a sum over units of weight 1: inverse of the Hessian of the summed loss
    starts: Tensor  # (B, S) mean loss that each start has come to


def basis(mixture: Mixture, u: Units, nested: tuple[int, ...]) -> Basis:
    """Gram-Schmidt in each block of columns, the columns `nested` last, so that groups may lack the last of them."""
    there = u.mask > 0
    turned, size = u.d.clone(), u.d.shape[-1]
    whole = torch.eye(size, dtype=u.d.dtype)
    for block in (*mixture.slices, slice(mixture.inner, size)):
        columns = list(range(block.start, block.stop))
        columns = [j for j in columns if j not in nested] + [j for j in columns if j in nested]
        rows = u.d[:, :1, columns][:, 0] if block.start >= mixture.inner else u.d[..., columns][there]
        r = torch.linalg.qr(rows / len(rows) ** 0.5, mode="r").R
        back = torch.linalg.inv(r * r.diagonal().sign()[:, None])
        turned[..., columns] = u.d[..., columns] @ back
        whole[torch.tensor(columns)[:, None], torch.tensor(columns)] = back
    spread = mixture.spread
    turn = torch.linalg.pinv(spread.flatten(0, 1)) @ torch.einsum("ef,kfp->kep", whole, spread).flatten(0, 1)
    return Basis(u._replace(d=turned), turn)


def fit(
    mixture: Mixture, u: Units, weight: Tensor, starts: int, nested: tuple[int, ...], rng: np.random.Generator
) -> Maximum:
    """Maximum likelihood for each of B sets of weights of the persons (B, n), each from its own `starts`.

    Starts sort persons by how they differ from a fit with one group, along its level first and along random directions
    then, cut them into groups, and let each group have a curve of its own; EM and Newton's method go on from there, all
    of them together.
    """
    found = basis(mixture, u, nested)
    sets, starts = len(weight), starts if mixture.groups > 1 else 1
    share = (weight / weight.sum(1, keepdim=True)).repeat_interleave(starts, 0)  # (B S, n)
    lower = _lower(mixture, u)
    theta = _alone(mixture, found.units)
    if mixture.groups > 1:
        known = _sorted(mixture, found.units, theta, sets, starts, rng)
        first = theta[0].new_zeros(len(mixture.places))
        one = replace(mixture, groups=1, uses=((True,) * mixture.inner,), risk=0).places
        column = {places[0][1]: float(value) for places, value in zip(one, theta[0], strict=True)}
        for p, places in enumerate(mixture.places):
            first[p] = column.get(places[0][1], 0.0)
        theta = first.expand(sets * starts, -1).clone()
        theta = _search(mixture, found.units, share, theta, lower, SORTED, known=known).theta
        theta = _search(mixture, found.units, share, theta, lower, CLIMBED, complete=True).theta
    else:
        theta = theta.expand(sets * starts, -1).clone()
    end = _refined(mixture, found.units, share, theta, lower)
    return _best(end, found, sets, weight, _unit(mixture, u))


def _refined(mixture: Mixture, u: Units, share: Tensor, theta: Tensor, lower: Tensor) -> Minimum:
    """Newton's method to the end, in rounds that leave behind what is done."""
    end = _search(mixture, u, share, theta, lower, ROUND)
    for _ in range(REFINED // ROUND):
        running = end.state == State.RUNNING
        if not bool(running.any()):
            break
        more = _search(mixture, u, share[running], end.theta[running], lower, ROUND)
        for whole, part in zip(end[:-1], more[:-1], strict=True):  # the last is a count
            whole[running] = part
    return end


def _search(
    mixture: Mixture, u: Units, share: Tensor, theta: Tensor, lower: Tensor, steps: int, complete: bool = False,
    known: Tensor | None = None,
) -> Minimum:  # fmt: skip
    """Newton's method for each start, with the Hessian of complete data, or groups that are known (G, n, K)."""
    shares: Callable[[slice], Tensor] | None = None if known is None else lambda rows: known[:, rows]

    def objective(at: Tensor) -> Tensor:
        if known is None:
            return (mixture.loss(u, at[:, None]) * share).sum(1)
        return -((mixture.joint(u, at[:, None]) * known).sum(2) * share).sum(1)

    derivatives = partial(mixture.summed, u, weight=share, shares=shares, complete=complete or known is not None)
    return minimise(objective, derivatives, theta, lower=lower, steps=steps)


def _lower(mixture: Mixture, u: Units) -> Tensor:
    """Bounds (P,): a group of persons on one curve would have a standard deviation of 0 and an infinite likelihood."""
    out = torch.full((len(mixture.places),), -torch.inf, dtype=torch.float64)
    scale = mixture.component.extra.index("log_sigma") if "log_sigma" in mixture.component.extra else None
    if scale is not None:
        column = mixture.inner - len(mixture.component.extra) + scale
        least = (u.y[u.mask > 0].std() * _THIN).clamp_min(1e-300).log()
        for p, places in enumerate(mixture.places):
            out[p] = least if places[0][1] == column else out[p]
    return out


def _alone(mixture: Mixture, u: Units) -> Tensor:
    """The fit with one group, of all columns and without risk factors; (1, P_1)."""
    one = replace(mixture, groups=1, uses=((True,) * mixture.inner,), risk=0)
    there = u.mask > 0
    y = u.y[there]
    flat = Units(y, torch.ones_like(y)[:, None], torch.ones_like(y))
    level = mixture.component.start(flat)  # of constants, (S,)
    parts = []
    for value, block in zip(level, mixture.slices, strict=True):
        d = u.d[..., block][there]
        parts.append(value * torch.linalg.lstsq(d, torch.ones(len(d), 1, dtype=d.dtype), driver="gelsd").solution[:, 0])
    alone = u._replace(d=u.d[..., : mixture.inner])
    share = torch.full((1, len(u.y)), 1 / len(u.y), dtype=u.y.dtype)
    return _search(one, alone, share, torch.cat(parts)[None], _lower(one, u), 50).theta


def _sorted(mixture: Mixture, u: Units, theta: Tensor, sets: int, starts: int, rng: np.random.Generator) -> Tensor:
    """Groups to start from: probabilities (B S, n, K) that say which of K parts of the sorted persons one is in.

    The first start is the same for all weights: by level, in parts of one size.
    """
    one = replace(mixture, groups=1, uses=((True,) * mixture.inner,), risk=0)
    alone = u._replace(d=u.d[..., : mixture.inner])
    n, k = len(u.y), mixture.groups
    score = score_of(one, alone, theta.expand(n, -1))[:, : mixture.widths[0]]
    score = -score / u.mask.sum(1, keepdim=True)
    values, vectors = torch.linalg.eigh(score.T @ score / n)
    level = score[:, 0]
    apart = score @ (vectors * (values.clamp_min(1e-12 * float(values.max()))).rsqrt())  # unit variance all ways
    direction = torch.from_numpy(rng.normal(size=(sets * starts, score.shape[1])))
    along = direction @ apart.T / direction.norm(dim=1, keepdim=True)
    noise = torch.from_numpy(rng.choice([0.0, 0.3, 1.0], size=(sets * starts, 1)) * rng.normal(size=(sets * starts, n)))
    along = torch.where(torch.from_numpy(rng.random((sets * starts, 1)) < 0.4), level / level.std(), along) + noise
    cut = torch.from_numpy(rng.dirichlet(np.full(k, 8.0), size=sets * starts)).cumsum(1)  # (B S, K)
    along[::starts], cut[::starts] = level, torch.arange(1, k + 1, dtype=torch.float64) / k
    place = along.argsort(1).argsort(1)
    part = torch.searchsorted(cut[:, :-1].contiguous() * n, place + 0.5)
    if len(set(mixture.uses)) > 1:  # which part has which order is open
        order = torch.from_numpy(np.argsort(rng.random((sets * starts, k)), 1))
        order[::starts] = torch.arange(k)
        part = order.gather(1, part)
    return 0.9 * torch.nn.functional.one_hot(part, k).to(u.y) + 0.1 / k


def _unit(mixture: Mixture, u: Units) -> Tensor:
    """What a parameter is measured in: the spread of the outcome, or 1 where the index is a logarithm; (P,)."""
    free = mixture.component.log_link or mixture.component.binary
    spread = 1.0 if free else float(u.y[u.mask > 0].std().clamp_min(1e-300))
    first = [places[0][1] < mixture.widths[0] for places in mixture.places]
    return torch.where(torch.tensor(first), spread, 1.0).double()


def _best(end: Minimum, found: Basis, sets: int, weight: Tensor, unit: Tensor) -> Maximum:
    """The best start of each set of weights, those at a bound or without an end left out where others are there."""
    value = end.value.unflatten(0, (sets, -1))
    regular = ((end.state == State.DONE) & end.free.all(1)).unflatten(0, (sets, -1))
    usable = ((end.state != State.LOST) & end.free.all(1)).unflatten(0, (sets, -1)) & value.isfinite()
    ranked = torch.where(usable, value, torch.where(value.isfinite(), value + 1e6, torch.inf))
    ranked = torch.where(regular, ranked - _SAME, ranked)
    pick = ranked.argmin(1) + torch.arange(sets) * value.shape[1]
    hessian, gradient = end.hessian[pick], end.gradient[pick]
    values, vectors = torch.linalg.eigh(hessian * unit[:, None] * unit)
    gone = values < _VOID  # (B, P)
    inverse = torch.where(gone, 0.0, values.clamp_min(1e-300).reciprocal())
    turn = found.turn @ (unit[:, None] * vectors)  # (B, P, P)
    covariance = (turn * inverse[:, None, :]) @ turn.mT / weight.sum(1)[:, None, None]
    share = (vectors**2 * gone[:, None, :]).sum(2)
    share = torch.where(end.free[pick], share, 1.0)
    flat = ((found.turn != 0).to(share)[None] * share[:, None, :]).amax(2) > 0.05
    return Maximum(
        end.theta[pick] @ found.turn.T, value.flatten()[pick], gradient.abs().amax(1), values[:, 0], flat, covariance,
        value,
    )  # fmt: skip
