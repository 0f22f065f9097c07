"""theta(x) as a sum of smooth functions of single features and of pairs, selected and smoothed by the evidence."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import evidence
from .basis import Basis
from .evidence import Fit, Posterior, Target

SELECTION, ESTIMATION = 10_000, 100_000  # rows that functions are chosen, and then fitted, on at most
LEVEL = 0.1  # false discovery rate at which a function stays
_DENSE = 400  # coefficients that are fitted together before any is judged
_ENTER = 10  # functions that may enter in one round, in each set of weights
_ROUNDS = 3


@dataclass(frozen=True)
class Additive:
    """Outputs that are linear in selected functions of the features, one set of coefficients for each group."""

    basis: Basis
    groups: Tensor  # (k,) of the basis
    active: Tensor  # (G, k, P) which of them move which outputs
    coefficient: Tensor  # (G, q, P)
    posterior: Posterior | None = None  # of the coefficients

    def outputs(self, x: Tensor) -> Tensor:
        """(n, p) -> (G, n, P)."""
        return evidence.outputs_of(self.basis.columns(x, self.groups)[0], self.coefficient)

    def bare(self) -> "Additive":
        """Without the uncertainty of its coefficients."""
        return replace(self, posterior=None)

    def spread(self, x: Tensor) -> Tensor:
        """The covariance of the outputs given the data; (n, p) -> (G, n, P, P)."""
        assert self.posterior is not None
        return self.posterior.of_outputs(self.basis.columns(x, self.groups)[0])


def fit(
    target: Target, basis: Basis, x: Tensor, allowed: Tensor,
    more: tuple[Target, Tensor] | None = None, near: Additive | None = None, select: bool = True,
) -> dict[str, Additive]:  # fmt: skip
    """Two fits: "smooth", with all functions of single features; "additive", with those and products that stand out.

    x is (n, p); allowed (groups, P) says which functions may move which outputs. Where there are too many functions
    to begin with all of them, the first fit has the linear ones. Selection goes forward by score tests at the current
    fit, and backward by the evidence that each function adds, at a false discovery rate among all there are. Each of
    the G sets of weights selects for itself. Where the data are many, `more` holds the target and the features of the
    rows that the selected functions are fitted to in the end. Selection can begin with the functions of a fit to
    nearly the same target; there is no first fit then. Without `select` there is nothing but the first.
    """
    p, sets, outputs = basis.features, len(target.weight), allowed.shape[1]
    groups = torch.arange(basis.mains, device=x.device)
    columns, place = basis.columns(x, groups)
    leading, owner = basis.leading(x)
    pairs = basis.pairs.to(x.device)
    exists = torch.bincount(place, minlength=basis.mains) > 0
    mains = (allowed[: basis.mains] & exists[:, None]).expand(sets, -1, -1)
    surfaces: dict[str, Additive] = {}

    def enter(products: Tensor) -> None:
        nonlocal columns, place, groups
        if len(products):
            extra, where = basis.columns(x, basis.mains + products)
            columns, place = torch.cat([columns, extra], 1), torch.cat([place, len(groups) + where])
            groups = torch.cat([groups, basis.mains + products])

    if near is None:
        active = mains.clone()
        if columns.shape[1] * outputs > _DENSE:
            active[:, 1 + p :] = False
    else:
        enter(near.groups[near.groups >= basis.mains] - basis.mains)
        active = torch.zeros(sets, len(groups), outputs, dtype=torch.bool, device=x.device)
        active[:, (near.groups[:, None] == groups).nonzero()[:, 1]] = near.active
    found = evidence.maximise(target, columns, place, active)
    if near is None:
        surfaces["smooth"] = _surface(basis, groups, place, active, found, None)
    if not select:
        return surfaces
    everything = torch.cat([mains, allowed[basis.mains :].expand(sets, -1, -1)], 1)
    everything[:, 0] = False
    for left in reversed(range(_ROUNDS)):
        chance = torch.ones_like(everything, dtype=columns.dtype)
        chance[:, groups] = evidence.tail(found.gain)
        worth = evidence.discoveries(chance, everything, LEVEL)[:, groups]
        lost = bool((active & ~worth)[:, 1:].any())
        active = active & torch.cat([active[:, :1], worth[:, 1:]], 1)
        if lost:
            found = evidence.maximise(target, columns, place, active, found)
        if not left:
            break
        score = target.derivatives(evidence.outputs_of(columns, found.coefficient))[0]
        if found.restriction is not None:
            score = score + found.restriction
        chance = torch.cat([
            evidence.surprise(columns, place, len(groups), score, target.weight)[:, : basis.mains],
            evidence.surprise_of_products(leading, owner, pairs, score, target.weight),
        ], 1)  # fmt: skip
        inside = torch.zeros_like(everything)
        inside[:, groups] = active
        new = _promising(chance, everything & ~inside)
        hits = new.any(0).any(-1)
        hits[groups] = False  # those are there, if not in every set
        entering = hits.nonzero()[:, 0] - basis.mains
        enter(entering)
        active = torch.cat([active, active.new_zeros(sets, len(entering), outputs)], 1) | new[:, groups]
        found = evidence.maximise(target, columns, place, active, found)
    return surfaces | {"additive": _surface(basis, groups, place, active, found, more)}


def _promising(chance: Tensor, tested: Tensor) -> Tensor:
    """The functions with the least p-values below a half, at most so many in each set."""
    p = torch.where(tested, chance, 2.0).flatten(1)
    limit = p.kthvalue(min(_ENTER, p.shape[1]), dim=1).values.clamp_max(0.5)
    return tested & (chance <= limit[:, None, None])


def _surface(
    basis: Basis, groups: Tensor, place: Tensor, active: Tensor, found: Fit, more: tuple[Target, Tensor] | None
) -> Additive:
    """Without the functions that nothing uses, and fitted to more rows."""
    used = active.any(0).any(-1)
    groups, active, coefficient = groups[used], active[:, used], found.coefficient[:, used[place]]
    left = (used[place].cumsum(0) - 1).clamp_min(0)
    posterior = found.posterior._replace(index=left[found.posterior.index])
    if more is not None:
        target, x = more
        columns, place = basis.columns(x, groups)
        before = Fit(coefficient, found.precision[:, used], found.gain[:, used], posterior)
        fitted = evidence.maximise(target, columns, place, active, before, steps=3)
        coefficient, posterior = fitted.coefficient, fitted.posterior
    return Additive(basis, groups, active, coefficient, posterior)
