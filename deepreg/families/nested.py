"""The nested logit: alternatives of one nest are closer substitutes than others."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..units import Units
from .choice import Choice

FAR = 8.0  # of log lambda: where there is no homogeneous fit, it passes this on its way to infinity


@dataclass(frozen=True)
class NestedLogit(Choice):
    """Nested logit: P(j) = P(nest) P(j given the nest), with a dissimilarity lambda for each nest of two or more.

    With V_j = d_j'theta and I_k = log of the sum over nest k of exp(V_j / lambda_k),

        P(j) = exp(V_j / lambda_k - I_k) exp(lambda_k I_k) / sum over nests l of exp(lambda_l I_l)

    over the alternatives of the unit's choice set; one in no nest, or alone in its nest, has exp(V_j) in the sum and no
    lambda. Theta is the K coefficients, which are those of utility, then log lambda of each nest: any lambda above 0
    can be had, 1 in all nests is the conditional logit, and smaller ones are closer substitutes. Up to 1 the
    probabilities come from utilities that are maximised, whatever the attributes; above 1 they do so for some
    attributes at most, and are probabilities all the same. Nothing is cut off at 1. The expected Hessian is the sum
    over the alternatives of P(j) times the outer product of the score of j.

    nests : pairs of a name and the alternatives in it. `deepreg.choice(nests=...)` makes them.

    Raises OptionError for nests that are not of the alternatives, or overlap, or all hold one alternative; DataError
    where no choice set has two alternatives of a nest.

    Reference: McFadden (1978), in Spatial Interaction Theory; Train (2009), Discrete Choice Methods, chapter 4.

    >>> from deepreg.families import NestedLogit
    >>> NestedLogit(("air", "bus", "car"), (("air", ("air",)), ("ground", ("bus", "car")))).names(("price",))
    ('price', 'log_lambda[ground]')
    """

    nests: tuple[tuple[str, tuple[str, ...]], ...] = ()
    name: ClassVar[str] = "nested_logit"
    outcome_free: ClassVar[bool] = False
    advice: ClassVar[str] = "Drop the term, merge rare levels, or put fewer alternatives into nests."

    @classmethod
    def of(cls, nests: object) -> "NestedLogit":
        """From a mapping of names to alternatives; raises OptionError for anything else."""
        if not isinstance(nests, Mapping) or not all(
            isinstance(one, list | tuple | set | frozenset) and len(one) for one in nests.values()
        ):
            raise OptionError(
                f"nests={nests!r}: give a mapping from names of nests to the alternatives in each, for example "
                "nests={'ground': ['bus', 'train'], 'air': ['air']}."
            )
        return cls(nests=tuple((str(name), tuple(map(str, inside))) for name, inside in nests.items()))

    def among(self, alternatives: tuple[str, ...], named: bool) -> "NestedLogit":
        given = {name: list(inside) for name, inside in self.nests}
        if not named:
            raise OptionError(
                f"nests={given!r} are of named alternatives, but there are too many to have names of their own. Leave "
                "nests= out, or name groups of them in a column and give it as alternative=."
            )
        inside = [one for _, some in self.nests for one in some]
        if odd := [one for one in inside if one not in alternatives]:
            raise OptionError(
                f"nests={given!r}: {odd[0]!r} is no alternative; there are {', '.join(map(repr, alternatives))}."
            )
        if odd := [one for one in inside if inside.count(one) > 1]:
            raise OptionError(f"nests={given!r}: {odd[0]!r} is named twice. Put each alternative into one nest.")
        found = replace(self, alternatives=alternatives)
        if not found.extra:
            raise OptionError(
                f"nests={given!r}: each holds one alternative, which is the conditional logit. Leave nests= out, or "
                "put two alternatives or more into one."
            )
        if any(len(some) == len(alternatives) for _, some in self.nests):
            raise OptionError(
                f"nests={given!r}: one nest holds all {len(alternatives)} alternatives, so its lambda is a scale of "
                "all coefficients and not identified. Leave nests= out, or leave an alternative out of the nest."
            )
        return found

    @property
    def _several(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The nests that have a parameter."""
        return tuple((name, inside) for name, inside in self.nests if len(inside) > 1)

    @property
    def extra(self) -> tuple[str, ...]:
        return tuple(f"log_lambda[{name}]" for name, _ in self._several)

    def _places(self, size: int) -> tuple[tuple[list[int], ...], list[int]]:
        """The positions in each nest that has a parameter, and all others of so many."""
        nests = tuple([self.alternatives.index(one) for one in inside] for _, inside in self._several)
        taken = {place for nest in nests for place in nest}
        return nests, [place for place in range(size) if place not in taken]

    def check(self, u: Units, outcome: str) -> None:
        Choice.check(self, u, outcome)
        for (name, _), place in zip(self._several, self._places(u.d.shape[-2])[0], strict=True):
            if not bool((u.mask[..., place].sum(-1) > 1).any()):
                raise DataError(
                    f"family={self.name!r}: no choice set of {outcome!r} has two alternatives of the nest {name!r}, so "
                    "there is nothing to learn its lambda from. Leave it out of nests=."
                )

    def _log_chances(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """log P(j), minus infinity out of the choice set, and the log of the sum over nests; (..., J) and (...)."""
        utilities, out = self.utilities(u, theta), u.mask == 0
        nests, alone = self._places(u.d.shape[-2])
        logs, sums = [], []
        for place, log_scale in zip(nests, theta[..., u.d.shape[-1] :].unbind(-1), strict=True):
            scale, empty = log_scale.exp(), out[..., place].all(-1)
            scaled = utilities[..., place] / scale[..., None]
            scaled = scaled.masked_fill(out[..., place] & ~empty[..., None], -torch.inf)
            inclusive = scaled.logsumexp(-1)  # finite where the nest is empty
            logs.append(scaled + ((scale - 1) * inclusive)[..., None])
            sums.append((scale * inclusive).masked_fill(empty, -torch.inf)[..., None])
        rest = utilities[..., alone].masked_fill(out[..., alone], -torch.inf)
        total = torch.cat([*sums, rest], -1).logsumexp(-1)
        order = [place for nest in nests for place in nest] + alone
        back = sorted(range(len(order)), key=order.__getitem__)
        return (torch.cat([*logs, rest], -1)[..., back] - total[..., None]).masked_fill(out, -torch.inf), total

    def inclusive(self, u: Units, theta: Tensor) -> Tensor:
        return self._log_chances(u, theta)[1]

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return -torch.where(self.chosen(u), self._log_chances(u, theta)[0], 0.0).sum(-1)

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return self._log_chances(u, theta)[0].exp()

    def derivatives(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """By automatic differentiation, and symmetric to the last digit."""
        score, hessian = Choice.derivatives(self, u, theta)
        return score, (hessian + hessian.mT) / 2

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """Sum over j of P(j) s_j s_j', with s_j the gradient of log P(j): exact, for the likelihood is that of y."""
        chance, utilities, k = self.mean(u, theta), self.utilities(u, theta), u.d.shape[-1]
        nests, _ = self._places(u.d.shape[-2])
        slope = u.d.expand(*chance.shape, k).clone()  # of log P(j) less what is the same for all j, in the coefficients
        bends = []
        for place, log_scale in zip(nests, theta[..., k:].unbind(-1), strict=True):
            scale, inside = log_scale.exp()[..., None], chance[..., place]
            nest = inside.sum(-1, keepdim=True)  # P(nest)
            share = inside / torch.where(nest > 0, nest, 1.0)
            d, v = u.d[..., place, :], utilities[..., place]
            middle, mean = (share[..., None] * d).sum(-2, keepdim=True), (share * v).sum(-1, keepdim=True)
            slope[..., place, :] = d / scale[..., None] + (1 - 1 / scale[..., None]) * middle
            entropy = -torch.xlogy(share, share).sum(-1, keepdim=True)
            bend = (-nest * entropy).expand(chance.shape).clone()
            bend[..., place] += entropy + (mean - v) / scale**2
            bends.append(scale * bend)
        slope = slope - (chance[..., None] * slope).sum(-2, keepdim=True)
        each = torch.cat([slope, torch.stack(bends, -1)], -1) if bends else slope  # (..., J, P)
        return (each * chance[..., None]).mT @ each

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        scales = zip(self._several, theta[u.d.shape[-1] :], gradient[u.d.shape[-1] :], strict=True)
        for (name, _), at, slope in scales:
            if float(at.abs()) > FAR and float(at * slope) <= 0:
                where = "grows without bound" if float(at) > 0 else "runs to 0"
                return (
                    f"the lambda of the nest {name!r} {where}. The choices inside the nest do not tell its alternatives"
                    " apart as the utilities say; leave the nest out of nests=, or change what is in it."
                )
        return ""
