"""psi: a target's orthogonal scores (Farrell, Liang and Misra 2021, theorem 2), for functions and for constants."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .choicesets import Points
from .design import Design, edited
from .errors import DataError, DeepregWarning, NotAvailable, OptionError
from .estimates import Estimates
from .nodes import is_scalar
from .sampling import Sampling
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


@dataclass(frozen=True)
class Scores:
    """What psi is made of: theta at the held-out rows, score, inverse Lambda and the law of the treatment.

    With constant theta, R = 1, every row has the same theta and Lambda, and `nodes` is None: E[. | x] is then an
    average over the rows.
    """

    structure: Structure
    design: Design
    u: Units
    theta: Tensor  # (R, n, P)
    score: Tensor  # (R, n, P)
    inverse: Tensor  # (R, n, P, P)
    nodes: Points | None
    constant: bool

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
        parts = [self.psi(t, sample) for t in targets]
        psi, plug_in = torch.cat([p for p, _ in parts], -1), torch.cat([p for _, p in parts], -1)
        frame = self.design.frame
        whole = all(t.weight(self.design, frame) is None and t.residual(self.design, frame) is None for t in targets)
        averaged = all(t.averaged for t in targets)
        groupable = whole and averaged and sample == "population" and not self.constant
        return Estimates(
            names, psi, sampling, plug_in.quantile(0.5, dim=0).cpu().numpy(), rows=self.design.labels,
            groupable=groupable, constant=self.constant, sample=sample, delta=not averaged,
        )  # fmt: skip

    def psi(self, target: Target, sample: str = "population") -> tuple[Tensor, Tensor]:
        """psi (R, n, q) and the plug-in values (R, q).

        mu = E[w H] / E[w], psi = (w (H - mu) - E[w H_theta | x] Lambda(x)^{-1} l_theta) / E[w] + mu, and its weighted
        mean is the estimate. `sample="fixed"` leaves out w (H - mu): the variance given the features. A target that
        combines averages has the psi of its linearisation around them.
        Raises OptionError for another `sample`, NotAvailable where E[. | x] needs a law of the treatment.
        """
        check_sample(sample)
        frame = self.design.frame
        at = self._evaluate(target, self.u, self._scenarios(target), self.theta, 0)
        w = self._weights(target, frame) * self._overlap(target, frame)  # (1 or R, n)
        row_weight = self.design.weight.to(self.theta.device) / self.design.weight.sum()
        share = w * row_weight
        if self.constant:
            gradient = (at.gradient * share[..., None, None]).sum(1, keepdim=True)  # (1, 1, q, P)
        elif target.observed(self.design):
            gradient = self._given_x(target)
        else:
            gradient = at.gradient
        correction = -(gradient @ (self.inverse @ self.score[..., None]))[..., 0]  # (R, n, q)
        mass = share.sum(1, keepdim=True)  # (1 or R, 1)
        plug_in = (at.h * share[..., None]).sum(1) / mass  # (R, q)
        mu = plug_in + (correction * row_weight[:, None]).sum(1) / mass
        spread = w[..., None] * (at.h - mu[:, None, :]) if sample == "population" else 0.0
        psi = (spread + correction) / mass[..., None]
        centred = psi - (psi * row_weight[:, None]).sum(1, keepdim=True)
        if target.averaged:
            return centred + mu[:, None, :], plug_in
        parts = [_linearised(target, *each) for each in zip(centred, mu, strict=True)]
        return torch.stack(parts), torch.stack([target.combine(each) for each in plug_in])

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
        self._refuse_alternatives(target)
        return [like._replace(d=torch.tensor(numbers).to(like.d).reshape(*like.d.shape[:-1], -1))]

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
                "alternative. Use targets.ChoiceEffect, CompensatingVariation, WTP or Custom."
            )

    def _law(self, target: Target) -> Points:
        if self.nodes is None:
            if self.design.packing is not None:
                raise NotAvailable(
                    f"{type(target).__name__} averages over the observed attributes, which needs their law given x. "
                    "Where choice sets were drawn independently of x, give choice(assignment=deepreg.Randomised()); "
                    "without features nothing is needed."
                )
            raise NotAvailable(
                f"{type(target).__name__} averages over the observed treatment, which needs the law of the treatment "
                "given x; fit with hessian='estimated' (the default) or assignment=, not hessian='regressed'."
            )
        return self.nodes

    def _given_x(self, target: Target) -> Tensor:
        """E[w H_theta | x] by the nodes of the law of the treatment; (R, n, q, P)."""
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
            found.append((at.gradient * weight[..., None, None]).sum(2))
        return torch.cat(found, 1)


def _linearised(target: Target, psi: Tensor, mu: Tensor) -> Tensor:
    """Influence values of combine(averages) with its value; of the averages, psi (n, q) around 0, and mu (q,)."""
    with torch.enable_grad():
        turn = torch.autograd.functional.jacobian(target.combine, mu)  # (r, q)
    return psi @ turn.mT + target.combine(mu)


def _part(u: Units, axis: int, rows: slice) -> Units:
    """The units at some places of an axis."""
    return Units(*(part.narrow(axis, rows.start, rows.stop - rows.start) for part in u))


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
