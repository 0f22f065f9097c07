"""psi: a target's orthogonal scores (Farrell, Liang and Misra 2021, theorem 2), for functions and for constants."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .choicesets import Points
from .design import Design
from .errors import NotAvailable, OptionError
from .estimates import Estimates
from .sampling import Sampling
from .structure import Structure
from .targets import Target
from .units import Units


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
        rows = self.design.labels
        whole = all(t.weight(self.design, self.design.frame) is None for t in targets)
        groupable = whole and sample == "population" and not self.constant
        return Estimates(
            names, psi, sampling, plug_in.quantile(0.5, dim=0).cpu().numpy(), rows=rows, groupable=groupable,
            constant=self.constant, sample=sample,
        )  # fmt: skip

    def psi(self, target: Target, sample: str = "population") -> tuple[Tensor, Tensor]:
        """psi (R, n, q) and the plug-in values (R, q).

        mu = E[w H] / E[w], psi = (w (H - mu) - E[w H_theta | x] Lambda(x)^{-1} l_theta) / E[w] + mu, and its weighted
        mean is the estimate. `sample="fixed"` leaves out w (H - mu): the variance given the features.
        Raises OptionError for another `sample`, NotAvailable where E[. | x] needs a law of the treatment.
        """
        check_sample(sample)
        frame = self.design.frame
        at = self._evaluate(target, frame, self.u, self._units, self.theta)
        w = self._weights(target, frame)  # (n,)
        row_weight = self.design.weight.to(self.theta.device) / self.design.weight.sum()
        if self.constant:
            gradient = (at.gradient * (w * row_weight)[:, None, None]).sum(1, keepdim=True)  # (1, 1, q, P)
        elif target.observed(self.design):
            gradient = self._given_x(target)
        else:
            gradient = at.gradient
        correction = -(gradient @ (self.inverse @ self.score[..., None]))[..., 0]  # (R, n, q)
        mass = (w * row_weight).sum()
        plug_in = (at.h * (w * row_weight)[:, None]).sum(1) / mass  # (R, q)
        mu = plug_in + (correction * row_weight[:, None]).sum(1) / mass
        spread = w[:, None] * (at.h - mu[:, None, :]) if sample == "population" else 0.0
        psi = (spread + correction) / mass
        return psi - (psi * row_weight[:, None]).sum(1, keepdim=True) + mu[:, None, :], plug_in

    def _evaluate(
        self, target: Target, frame: pd.DataFrame, u: Units, units: Callable[[pd.DataFrame], Units], theta: Tensor
    ) -> Evaluated:
        scenarios = [units(frame.assign(**edit)) for edit in target.scenarios(self.design)]
        theta = theta.detach().requires_grad_(True)
        with torch.enable_grad():
            h = target.h(self.structure, theta, u, *scenarios)
            rows = [
                torch.autograd.grad(h[..., j].sum(), theta, retain_graph=True, materialize_grads=True)[0]
                for j in range(h.shape[-1])
            ]
        return Evaluated(h.detach(), torch.stack(rows, -2))

    def _units(self, frame: pd.DataFrame) -> Units:
        return self.u._replace(d=self.design.structural(frame).to(self.u.d))

    def _weights(self, target: Target, frame: pd.DataFrame) -> Tensor:
        weight = target.weight(self.design, frame)
        if weight is None:
            weight = np.ones(len(frame))
        return torch.as_tensor(self.design.first(frame, weight), dtype=torch.float64, device=self.theta.device)

    def _given_x(self, target: Target) -> Tensor:
        """E[w H_theta | x] by the nodes of the law of the treatment; (R, n, q, P)."""
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
        found = []
        for rows, some in self.nodes.parts():
            frame = some.frame()
            u = some.units(frame)
            theta = self.theta[:, rows, None, :].expand(*u.y.shape, -1)
            at = self._evaluate(target, frame, u, some.units, theta)
            weight = some.weight * some.spread(self._weights(target, frame))
            found.append((at.gradient * weight[..., None, None]).sum(2))
        return torch.cat(found, 1)
