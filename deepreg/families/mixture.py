"""Mixtures: each unit belongs to one of several groups, and all that happens inside it follows the law of its group."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import OptionError
from ..units import Units, blocks, chosen
from .base import Family

_CELLS = 2**21  # numbers of each kind that are worked on at a time


@dataclass(frozen=True)
class Mixture(Family):
    """A finite mixture over units: l = -log sum_k pi_k(x) exp(-sum_t l_k(y_t, d_t)).

    Units hold the outcomes y (n, T) of a unit at up to T times, the regressors of each time d (n, T, D + R) and which
    times are there, mask (n, T). The first D columns of d are in blocks, one for each natural parameter of the
    component: `widths` columns for its indices, one of ones for an ancillary parameter. The last R, the same at all
    times, are the regressors of the multinomial logit pi_k(x), in which the first group has coefficients of 0.

    `uses` says which of the D columns each group has a coefficient for; ancillary parameters are the same in all
    groups where `common`. A free weight for each unit in the place of pi would be another model, without a likelihood
    for new units, whose groups are biased however many units there are (Neyman and Scott 1948).

    References: Nagin (1999), Psychological Methods 4(2); McLachlan and Peel (2000), Finite Mixture Models.

    >>> from deepreg.families import Mixture, Poisson
    >>> Mixture(Poisson(), 2, (2,), ((True, True), (True, False)), 1).names(("Intercept", "age", "Intercept"))
    ('group 1: Intercept', 'group 1: age', 'group 2: Intercept', 'P(group 2): Intercept')
    """

    component: Family
    groups: int
    widths: tuple[int, ...]
    uses: tuple[tuple[bool, ...], ...]  # (K, D)
    risk: int  # R
    common: bool = False
    begin: tuple[float, ...] = ()  # theta at which Newton's method starts: at zeros all groups are the same
    name: ClassVar[str] = "mixture"
    outcome_free: ClassVar[bool] = False
    advice: ClassVar[str] = "Ask for fewer groups, or fewer terms."

    def __post_init__(self) -> None:
        own = (*self.component.prefixes, *self.component.extra)
        if len(self.widths) != len(own) or len(self.uses) != self.groups or self.groups < 1:
            raise OptionError(
                f"Mixture: widths={self.widths!r} and uses= of {len(self.uses)} groups do not fit groups={self.groups} "
                f"and the {len(own)} parameters of family={self.component.name!r}; deepreg.trajectories makes them."
            )

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ()  # d enters through the indices of the groups

    @property
    def inner(self) -> int:
        """D, the columns of d that belong to the component."""
        return sum(self.widths)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The columns of d of each natural parameter."""
        ends = [sum(self.widths[: j + 1]) for j in range(len(self.widths))]
        return tuple(slice(end - width, end) for end, width in zip(ends, self.widths, strict=True))

    @cached_property
    def places(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """For each free parameter, the groups and columns of d that it is the coefficient of."""
        shared = range(self.inner - len(self.component.extra), self.inner) if self.common else range(0)
        own = [((k, j),) for k in range(self.groups) for j in range(self.inner) if self.uses[k][j] and j not in shared]
        all_ = [tuple((k, j) for k in range(self.groups)) for j in shared]
        last = [((k, self.inner + r),) for k in range(1, self.groups) for r in range(self.risk)]
        return (*own, *all_, *last)

    @cached_property
    def spread(self) -> Tensor:
        """What makes coefficients of every column of d in every group of the free parameters; (K, D + R, P)."""
        out = torch.zeros(self.groups, self.inner + self.risk, len(self.places), dtype=torch.float64)
        for p, places in enumerate(self.places):
            for k, j in places:
                out[k, j, p] = 1.0
        return out

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        def of(places: tuple[tuple[int, int], ...]) -> str:
            k, j = places[0]
            if len(places) > 1 or (self.common and self.inner - len(self.component.extra) <= j < self.inner):
                return terms[j]
            return f"P(group {k + 1}): {terms[j]}" if j >= self.inner else f"group {k + 1}: {terms[j]}"

        return tuple(map(of, self.places))

    def start(self, u: Units) -> Tensor:
        return torch.tensor(self.begin, dtype=u.d.dtype) if self.begin else super().start(u)

    def coefficients(self, theta: Tensor) -> Tensor:
        """Of every column of d in every group; (..., P) -> (..., K, D + R)."""
        return torch.einsum("...p,kep->...ke", theta, self.spread.to(theta))

    def rows(self, u: Units) -> Units:
        """The outcomes as units of the component, whose theta is then its natural parameters; (n, 1, T)."""
        return Units(u.y[..., None, :], u.d.new_ones(1), u.mask[..., None, :])

    def natural(self, u: Units, theta: Tensor) -> Tensor:
        """Natural parameters of the component in each group at each time; (..., n or 1, P) -> (..., n, K, T, S)."""
        full = self.coefficients(theta)
        z = [full[..., one] @ u.d[..., one].mT for one in self.slices]
        if u.offset.dim():
            z[0] = z[0] + u.offset[..., None, :]
        return torch.stack(z, -1)

    def log_shares(self, u: Units, theta: Tensor) -> Tensor:
        """log pi_k(x); (..., n or 1, P) -> (..., n, K)."""
        x = u.d[..., :1, self.inner :]  # (n, 1, R)
        return (self.coefficients(theta)[..., self.inner :] * x).sum(-1).log_softmax(-1)

    def joint(self, u: Units, theta: Tensor) -> Tensor:
        """log pi_k(x) - sum_t l_k; (..., n or 1, P) -> (..., n, K)."""
        loss = self.component.loss(self.rows(u), self.natural(u, theta))
        return self.log_shares(u, theta) - (loss * u.mask[..., None, :]).sum(-1)

    def posterior(self, u: Units, theta: Tensor) -> Tensor:
        """The probability of each group given all that is known of the unit; (..., P) -> (..., n, K)."""
        return self.joint(u, theta).softmax(-1)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return -self.joint(u, theta).logsumexp(-1)

    def normaliser(self, u: Units) -> Tensor:
        return (self.component.normaliser(u) * u.mask).sum(-1)

    def means(self, u: Units, theta: Tensor) -> Tensor:
        """E[y_t] in each group; (..., P) -> (..., n, K, T)."""
        return self.component.mean(self.rows(u), self.natural(u, theta))

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y_t | x] at each time, over the groups; (..., P) -> (..., n, T)."""
        return (self.log_shares(u, theta).exp()[..., None] * self.means(u, theta)).sum(-2)

    def summed(
        self, u: Units, theta: Tensor, weight: Tensor, shares: "Callable[[slice], Tensor] | None" = None,
        complete: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Gradient (G, P) and Hessian (G, P, P) of the weighted sum of losses, for G thetas (G, P) and weights (G, n).

        By Louis (1982): the Hessian is that of the complete data, in which groups are known, less what is lost for not
        knowing them. With `complete` it is the former alone, which is what the EM algorithm steps by (Lange 1995); with
        `shares` (G, b, K) of some units, those are the probabilities of the groups, in the gradient too.
        """
        spread = self.spread.to(theta)
        size = spread.shape[0] * spread.shape[1]
        gradient, hessian = theta.new_zeros(len(theta), size), theta.new_zeros(len(theta), size, size)
        for part, rows in self._parts(u, len(theta)):
            known = None if shares is None else shares(rows)
            one, two = self._derivatives(part, theta, weight[:, rows], known, complete)
            gradient += one
            hessian += two
        turn = spread.flatten(0, 1)  # (K E, P)
        return gradient @ turn, turn.T @ hessian @ turn

    def _parts(self, u: Units, problems: int) -> "Iterator[tuple[Units, slice]]":
        cells = problems * self.groups * u.y.shape[1] * len(self.widths) ** 2
        for rows in blocks(len(u.y), max(_CELLS // max(cells, 1), 1)):
            yield Units(u.y[rows], u.d[rows], u.mask[rows], chosen(u.offset, rows)), rows

    def _derivatives(
        self, u: Units, theta: Tensor, weight: Tensor, known: Tensor | None, complete: bool
    ) -> tuple[Tensor, Tensor]:
        """Of all coefficients of all groups, (G, K E) and (G, K E, K E) with E = D + R."""
        z = self.natural(u, theta[:, None])  # (G, n, K, T, S)
        units = self.rows(u)
        score, curvature = self.component.derivatives(units, z)
        there = u.mask[..., None, :, None]
        score = score * there
        log_pi = self.log_shares(u, theta[:, None])
        pi = log_pi.exp()
        if known is None:
            with torch.no_grad():
                p = (log_pi - (self.component.loss(units, z) * u.mask[..., None, :]).sum(-1)).softmax(-1)
        else:
            p = known
        x = u.d[:, 0, self.inner :]  # (n, R)
        own = [torch.einsum("gnkt,ntw->gnkw", score[..., s], u.d[..., one]) for s, one in enumerate(self.slices)]
        across = -x[None, :, None].expand(*p.shape, -1)
        v = torch.cat([*own, across], -1)  # (G, n, K, E): the score of l_k - log(pi_k's numerator)
        share = p * weight[..., None]
        gradient = share[..., None] * v
        gradient[..., self.inner :] += (pi * weight[..., None])[..., None] * x[:, None]
        groups, e = v.shape[2], v.shape[3]
        hessian = theta.new_zeros(len(theta), groups, e, groups, e)
        each = torch.arange(groups, device=theta.device)
        inside = hessian[:, each, :, each, :]  # (K, G, E, E), a copy
        heavy = (share[..., None] * u.mask[:, None])[..., None, None] * curvature  # (G, n, K, T, S, S)
        flat = heavy.movedim(2, 1).flatten(2, 3)  # (G, K, n T, S, S)
        for s, one in enumerate(self.slices):
            for r, other in enumerate(self.slices[: s + 1]):
                pairs = (u.d[..., one, None] * u.d[..., None, other]).flatten(0, 1)  # (n T, w, w')
                block = (flat[..., s, r] @ pairs.flatten(1)).unflatten(-1, pairs.shape[1:]).transpose(0, 1)
                inside[..., one, other] += block
                if r < s:
                    inside[..., other, one] += block.mT
        if not complete:
            inside -= torch.einsum("gnka,gnkb->kgab", share[..., None] * v, v)
        hessian[:, each, :, each, :] = inside
        if not complete:
            total = (p[..., None] * v).flatten(2)  # (G, n, K E)
            hessian += ((total * weight[..., None]).mT @ total).unflatten(2, (groups, e)).unflatten(1, (groups, e))
        spreadout = torch.diag_embed(pi) - pi[..., :, None] * pi[..., None, :]  # (G, n, K, K)
        logit = torch.einsum("gnkl,na,nb->gkalb", spreadout * weight[..., None, None], x, x)
        hessian[:, :, self.inner :, :, self.inner :] += logit
        return gradient.sum(1).flatten(1), hessian.flatten(3, 4).flatten(1, 2)
