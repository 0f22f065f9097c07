"""psi: a target's orthogonal scores (Farrell, Liang and Misra 2021, theorem 2), for functions and for constants."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .choicesets import Points
from .constant import classical
from .curve import Shared
from .design import Design, edited
from .errors import DataError, DeepregWarning, NotAvailable, OptionError
from .estimates import Estimates
from .nodes import is_scalar
from .projection import Spare
from .sampling import Moments, Sampling
from .structure import Structure
from .targets import Scenario, Target
from .units import BLOCK, Units, blocks


def check_sample(sample: str) -> None:
    """Raise OptionError unless there is such a sample."""
    if sample not in ("population", "fixed"):
        raise OptionError(f"sample={sample!r}: allowed are 'population' (default) and 'fixed'.")


class Evaluated(NamedTuple):
    """A target's values and gradients at some units."""

    h: Tensor  # (..., q)
    gradient: Tensor  # (..., q, P)


class _Influence(NamedTuple):
    psi: Tensor  # (R, n, q)
    plug_in: Tensor  # (R, q)
    pull: Tensor  # (R, n, q, C) derivative of each row's value in the constants, what varies following
    turn: Tensor  # (R, q, C) of the average, after combine()


class Terms(NamedTuple):
    """What the psi of a target is made of."""

    h: Tensor  # (R, n, q)
    gradient: Tensor  # (R, n, q, P)
    weight: Tensor  # (1 or R, n) w
    expected: Tensor  # (R, n, q, P) E[w gradient | x]; w gradient where theta is constant, of which the mean matters
    pull: Tensor  # (R, n, q, C) of it, the derivative in the constants, what varies following
    mass: Tensor  # (1 or R, 1) E[w]


@dataclass(frozen=True)
class Scores:
    """What psi is made of: theta at the held-out rows, score, inverse Lambda and the law of the treatment.

    Of C constant columns of theta, `turn` says what they move and `back` how the score moves them
    (information.of_constants). With constant theta, R = 1, all columns are such, every row has the same theta, and
    `nodes` is None. Without a law of choice sets, `spare` holds rows on which E[. | x] is regressed.
    """

    structure: Structure
    design: Design
    u: Units
    theta: Tensor  # (R, n, P)
    score: Tensor  # (R, n, P)
    inverse: Tensor  # (R, n, P, P), or 1 for R and n
    turn: Tensor  # (R, n, P, C), or 1 for R and n
    back: Tensor  # (R, n, C, P), or 1 for R and n
    nodes: Points | None
    constant: bool
    spare: Spare | None = None

    @property
    def integrable(self) -> bool:
        """Whether averages over the observed treatment can be had."""
        return self.constant or self.nodes is not None

    @property
    def everywhere(self) -> Tensor | None:
        """theta (P,) where it is the same for all rows, else None."""
        return self.theta[0, 0] if self.constant else None

    def under(self, kind: str) -> "Scores":
        """The scores to estimate another covariance from: these."""
        return self

    def answer(self, targets: Sequence[Target], names: tuple[str, ...], sample: str, sampling: Sampling) -> Estimates:
        """The values of the targets by their names, with their joint covariance; raises what psi() raises."""
        parts = [self._influence(t, sample) for t in targets]
        psi, plug_in = torch.cat([one.psi for one in parts], -1), torch.cat([one.plug_in for one in parts], -1)
        frame = self.design.frame
        whole = all(t.weight(self.design, frame) is None and t.residual(self.design, frame) is None for t in targets)
        averaged = all(t.averaged for t in targets)
        groupable = whole and averaged and sample == "population" and not self.constant
        shared = None
        if groupable and self.shared.shape[-1]:
            shared = Shared(torch.cat([one.pull for one in parts], 2), self.shared)
        turn, known = torch.cat([one.turn for one in parts], 1), None
        if sampling.kind in classical.KINDS:
            covariance = self._covariance(psi[0], turn[0], sample, sampling)
            known = Moments(sampling.moments(psi).value, covariance[None].cpu())
        held = self._held(names, turn[0])
        if held:
            known = sampling.moments(psi) if known is None else known
            for one in {*held} & {*self.structure.names}:  # a mean of one number may differ from it in the last digit
                known.value[:, names.index(one)] = self.theta[0, 0, self.structure.names.index(one)].cpu()
        return Estimates(
            names, psi, sampling, plug_in.quantile(0.5, dim=0).cpu().numpy(), rows=self.design.labels, known=known,
            groupable=groupable, constant=self.constant, sample=sample, delta=not averaged, shared=shared, held=held,
        )  # fmt: skip

    def _held(self, names: tuple[str, ...], turn: Tensor) -> tuple[str, ...]:
        """Those that no free parameter moves, by their derivatives (q, P); none without bounds and penalties."""
        if not (self.structure.bounds or self.structure.penalised):
            return ()
        loose = (turn * self.back[0, 0].diagonal()).any(1).tolist()
        return tuple(name for name, free in zip(names, loose, strict=True) if not free)

    def _covariance(self, psi: Tensor, turn: Tensor, sample: str, sampling: Sampling) -> Tensor:
        """Of averages with derivatives `turn` (q, P) in constant theta, where that has a covariance of its own; (q, q).

        The rows' own values add their variance; given a likelihood they do not move with the scores, with leverages
        they do, as in the covariance without.
        """
        inverse, plain = self.back[0, 0], replace(sampling, kind="HC0")
        of_theta = classical.covariance(
            sampling.kind, self.structure, self.u, self.theta[0, 0], self.score[0], inverse, sampling.weight
        )
        moved = -self.shared[0] @ turn.mT  # (n, q) what psi has of the scores
        if sampling.kind in classical.LEVERAGE:
            of_theta = of_theta - plain.covariance(self.shared)[0]
            own = plain.covariance((psi if sample == "population" else moved)[None])[0]
        else:
            own = plain.covariance((psi - moved)[None])[0] if sample == "population" else 0.0
        return own + turn @ of_theta @ turn.mT

    def psi(self, target: Target, sample: str = "population") -> tuple[Tensor, Tensor]:
        """psi (R, n, q) and the plug-in values (R, q).

        mu = E[w H] / E[w], psi = (w (H - mu) - E[w H_theta | x] Lambda(x)^{-1} l_theta) / E[w] + mu, and its weighted
        mean is the estimate. With columns v that vary, constant columns c and A = Lambda_vv^{-1} Lambda_vc, Lambda and
        l_theta are those of v, and E[w (H_c - H_v A)] I^{-1} s / E[w] is subtracted too. `sample="fixed"` leaves out
        w (H - mu): the variance given the features. A target that combines averages has the psi of its linearisation
        around them.
        Raises OptionError for another `sample`, NotAvailable where E[. | x] needs a law of the treatment.
        """
        found = self._influence(target, sample)
        return found.psi, found.plug_in

    def _influence(self, target: Target, sample: str) -> "_Influence":
        check_sample(sample)
        at, row_weight = self.terms(target), self._share()
        w, mass = at.weight, at.mass
        correction = -(at.expected @ (self.inverse @ self.score[..., None]))[..., 0]  # (R, n, q)
        correction = correction - self.shared @ self._mean(at.pull).mT
        plug_in = (at.h * (w * row_weight)[..., None]).sum(1) / mass  # (R, q)
        mu = plug_in + (correction * row_weight[:, None]).sum(1) / mass
        spread = w[..., None] * (at.h - mu[:, None, :]) if sample == "population" else 0.0
        psi = (spread + correction) / mass[..., None]
        centred = psi - (psi * row_weight[:, None]).sum(1, keepdim=True)
        turn = self._mean(at.pull) / mass[..., None]
        if target.averaged:
            return _Influence(centred + mu[:, None, :], plug_in, at.pull, turn)
        with torch.enable_grad():
            slope = torch.stack([torch.autograd.functional.jacobian(target.combine, one) for one in mu])  # (R, r, q)
        value = torch.stack([target.combine(one) for one in mu])[:, None, :]
        plug_in = torch.stack([target.combine(one) for one in plug_in])
        return _Influence(centred @ slope.mT + value, plug_in, at.pull, slope @ turn)

    def effects(self, target: Target) -> Tensor:
        """E[H | x] at the theta of the functions that did not see the row: a function of x alone; (R, n, q)."""
        if target.observed(self.design):
            return self._integrated(target).h
        return self._evaluate(target, self.u, self._scenarios(target), self.theta, 0).h

    def terms(self, target: Target) -> Terms:
        """What psi() is made of. Raises what it raises."""
        frame = self.design.frame
        at = self._evaluate(target, self.u, self._scenarios(target), self.theta, 0)
        w = self._weights(target, frame) * self._overlap(target, frame)  # (1 or R, n)
        share = w * self._share()
        if self.constant:
            expected = at.gradient * w[..., None, None]
        elif target.observed(self.design):
            expected = self._given_x(target)
        else:
            expected = at.gradient
        return Terms(at.h, at.gradient, w, expected, expected @ self.turn, share.sum(1, keepdim=True))

    def carried(self, at: Terms) -> Tensor:
        """What psi subtracts for each unit of the score, times E[w]: a function of x; (R, n, q, P)."""
        return at.expected @ self.inverse + self._mean(at.pull)[:, None] @ self.back

    @property
    def shared(self) -> Tensor:
        """Minus the influence values of the constants, I^{-1} s; (R, n, C)."""
        return (self.back @ self.score[..., None])[..., 0]

    def _mean(self, pull: Tensor) -> Tensor:
        """(R, n, q, C) -> (R, q, C)."""
        return (pull * self._share()[:, None, None]).sum(1)

    def _share(self) -> Tensor:
        """The share of each row in averages; (n,)."""
        return self.design.weight.to(self.theta.device) / self.design.weight.sum()

    def _scenarios(self, target: Target) -> list[Units]:
        edits, frame = target.scenarios(self.design), self.design.frame
        found = self._shared(edits)
        if found is None:
            found = [self._d(edited(frame, edit)) for edit in edits]
        return [*(self.u._replace(d=d) for d in found), *self._numbers(target, frame, self.u)]

    def _shared(self, edits: Sequence[Scenario]) -> list[Tensor] | None:
        """d of edits that set every variable to one value for all rows, read at once; None of others."""
        names = {v.name for v in self.design.variables}
        if (
            not edits
            or not names
            or not all(set(edit) == names and all(map(is_scalar, edit.values())) for edit in edits)
        ):
            return None
        try:
            values = self._d(pd.DataFrame({name: [edit[name] for edit in edits] for name in names}))
        except DataError:  # better said of one edit than of all of them
            return None
        return [one.expand(self.u.d.shape) for one in values]

    def _numbers(self, target: Target, frame: pd.DataFrame, like: Units) -> list[Units]:
        """The target's own numbers as one more units, where it has some."""
        numbers = target.numbers(self.design, frame)
        if numbers is None:
            return []
        values, packing = torch.tensor(numbers).to(like.d), self.design.packing
        if packing is None:
            return [like._replace(d=values.reshape(*like.d.shape[:-1], -1))]
        inside = packing.pack(frame, values)  # (units, J, k), of which there may be more before them
        return [like._replace(d=inside.expand(*like.d.shape[:-1], -1))]

    def _d(self, frame: pd.DataFrame) -> Tensor:
        return self.design.structural(frame).to(self.u.d)

    def _evaluate(
        self, target: Target, u: Units, scenarios: Sequence[Units], theta: Tensor, axis: int
    ) -> Evaluated:  # fmt: skip
        """Block by block of theta's last axis but one, `axis` of the units: many scenarios need small blocks."""
        parts = []
        each = max(len(scenarios), 1) * u.mask.shape[axis + 1 :].numel()
        for rows in blocks(theta.shape[-2], max(16 * BLOCK // each, 1)):
            own = theta[..., rows, :].detach().requires_grad_(True)
            with torch.enable_grad():
                h = target.h(self.structure, own, _part(u, axis, rows), *(_part(s, axis, rows) for s in scenarios))
                gradient = _forward(h, own) if h.shape[-1] > own.shape[-1] else backward(h, own)
            parts.append(Evaluated(h.detach(), gradient))
        return parts[0] if len(parts) == 1 else Evaluated(
            torch.cat([part.h for part in parts], -2), torch.cat([part.gradient for part in parts], -3)
        )  # fmt: skip

    def _weights(self, target: Target, frame: pd.DataFrame) -> Tensor:
        weight = target.weight(self.design, frame)
        if weight is None:
            weight = np.ones(len(frame))
        return torch.as_tensor(self.design.first(frame, weight), dtype=torch.float64, device=self.theta.device)

    def _overlap(self, target: Target, frame: pd.DataFrame) -> Tensor:
        """(r - E[r | x])^2 of each row, 1 where the target has no such weights; (1 or R, n)."""
        r = self._residual(target, frame)
        if r is None:
            return torch.ones(1, 1, dtype=torch.float64, device=self.theta.device)
        if self.constant:
            weight = self.design.weight.to(r)
            return ((r - (r * weight).sum() / weight.sum()) ** 2)[None]
        return (r - self._expected(target)) ** 2

    def _expected(self, target: Target) -> Tensor:
        """E[r | x]; (R, n)."""
        return torch.cat([self._centred(target, some)[1] for _, some in self._law(target).parts()], 1)

    def _centred(self, target: Target, nodes: Points) -> tuple[Tensor, Tensor]:
        """r - E[r | x] at the nodes (R, n, Q), and E[r | x] (R, n)."""
        r = self._residual(target, nodes.frame())
        assert r is not None
        r = r.reshape(nodes.weight.shape)
        mean = (r * nodes.weight).sum(-1)
        return r - mean[..., None], mean

    def _residual(self, target: Target, frame: pd.DataFrame) -> Tensor | None:
        r = target.residual(self.design, frame)
        if r is None:
            return None
        self._refuse_alternatives(target)
        return torch.tensor(r, dtype=torch.float64, device=self.theta.device)

    def _refuse_alternatives(self, target: Target) -> None:
        if self.design.packing is not None:
            raise OptionError(
                f"{type(target).__name__} takes a number from each row of the data, but a choice has a row for each "
                "alternative. Use targets.ChoiceEffect, CompensatingVariation, Revenue, Profit, WTP or Custom."
            )

    def _law(self, target: Target) -> Points:
        if self.nodes is None:
            raise NotAvailable(
                f"{type(target).__name__} averages over the observed treatment, which needs the law of the treatment "
                "given x; fit with hessian='estimated' (the default) or assignment=, not hessian='regressed'."
            )
        return self.nodes

    def _given_x(self, target: Target) -> Tensor:
        """E[w H_theta | x]; (R, n, q, P)."""
        if self.spare is not None:
            return self._regressed(target, self.spare)
        return self._integrated(target).gradient

    def _integrated(self, target: Target) -> Evaluated:
        """E[w H | x] (R, n, q) and E[w H_theta | x] (R, n, q, P) by the nodes of the law of the treatment."""
        found, nodes = [], self._law(target)
        weighted = target.weight(self.design, self.design.frame) is not None
        numbered = target.numbers(self.design, self.design.frame) is not None
        centred = target.residual(self.design, self.design.frame) is not None
        for rows, some, (u, *scenarios) in nodes.units(target.scenarios(self.design)):
            weight, frame = some.weight, some.frame() if weighted or numbered else None
            if frame is not None and weighted:
                weight = weight * some.spread(self._weights(target, frame))
            if centred:
                weight = weight * self._centred(target, some)[0] ** 2
            if frame is not None:
                scenarios += self._numbers(target, frame, u)
            theta = self.theta[:, rows, None, :].expand(*u.y.shape, -1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeepregWarning)  # what there is to say was said of the rows
                at = self._evaluate(target, u, scenarios, theta, 2)
            h, gradient = (at.h * weight[..., None]).sum(2), (at.gradient * weight[..., None, None]).sum(2)
            found.append(Evaluated(h, gradient))
        return Evaluated(*(torch.cat(parts, 1) for parts in zip(*found, strict=True)))

    def _regressed(self, target: Target, spare: Spare) -> Tensor:
        """E[w H_theta | x] by a regression on x, of the rows that each group's theta has not seen; (R, n, q, P)."""
        scenarios, weight = self._scenarios(target), self._weights(target, self.design.frame)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeepregWarning)  # what there is to say was said of the rows
            gradient = self._evaluate(target, self.u, scenarios, spare.theta, 0).gradient  # (G, n, q, P)
        return spare.given_x(gradient * weight[:, None, None])


def _part(u: Units, axis: int, rows: slice) -> Units:
    """The units at some places of an axis."""
    return u.each(lambda part: part.narrow(axis, rows.start, rows.stop - rows.start))


def backward(h: Tensor, theta: Tensor) -> Tensor:
    """The gradient of each row's h (..., q) in its theta (..., P), one pass for each value; (..., q, P)."""
    rows = [
        torch.autograd.grad(h[..., j].sum(), theta, retain_graph=True, materialize_grads=True)[0]
        for j in range(h.shape[-1])
    ]
    return torch.stack(rows, -2)


def _forward(h: Tensor, theta: Tensor) -> Tensor:
    """The same, one pass for each parameter: the gradient of v'h is linear in v, with the wanted matrix as slope."""
    v = torch.zeros_like(h, requires_grad=True)
    (along,) = torch.autograd.grad(h, theta, v, create_graph=True, materialize_grads=True)
    columns = [
        torch.autograd.grad(along[..., p].sum(), v, retain_graph=True, materialize_grads=True)[0]
        for p in range(theta.shape[-1])
    ]
    return torch.stack(columns, -1)
