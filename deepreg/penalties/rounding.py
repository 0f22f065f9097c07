"""Rounding: a penalty that pulls coefficients to whole numbers."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..design import Design
from ..structure import Structure
from .base import Function, Penalty, Seen, absolute, check_number


@dataclass(frozen=True, repr=False)
class Rounding(Penalty):
    """Distances of coefficients from whole numbers: strength times the sum over slopes of |b - round(b)|.

    Intercepts and ancillary parameters are left alone. The penalty has a local minimum at every whole number, so the
    start decides between near ones: begin at the fit without a penalty, `fit(start="unpenalised")`, and compare with
    deepreg.scorecard(), which searches all of them. The scale of a variable decides what its whole numbers mean.
    A coefficient that ends at a whole number has no sampling error to first order; the errors of the others are those
    with it held there.

    Parameters
    ----------
    strength : float
        At least 0, on the scale of the mean loss; family "linear" has half the squared error as loss.
    step : float
        Multiples of this number count as whole.

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    >>> data["y"] = 1.9 * data.a + 1.2 * data.b + 0.5 + rng.normal(size=300)
    >>> model = deepreg.structural("y ~ a + b", data, penalty=deepreg.Rounding(0.4))
    >>> [round(float(b), 6) for b in model.fit(start="unpenalised").params[["a", "b"]]]
    [2.0, 1.0]
    """

    strength: float = 1.0
    step: float = 1.0
    rounding: float = 1e-8  # below which distances are rounded off, in steps

    def __post_init__(self) -> None:
        check_number("strength", self.strength)
        check_number("step", self.step, 1e-300)
        check_number("rounding", self.rounding, 1e-12)

    def stages(self) -> tuple["Rounding", ...]:
        steps = max(math.ceil(math.log10(0.1 / self.rounding)), 0)
        return tuple(replace(self, rounding=self.rounding * 10.0**j) for j in range(steps, -1, -1))

    def region(self, structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Half a step around the nearest whole number, and a little less so that it stays the nearest."""
        whole = (theta / self.step).round() * self.step
        half = torch.full_like(theta, (0.5 - 1e-9) * self.step)
        half = half.masked_fill(~_sloped(structure).to(theta.device), torch.inf)
        return whole - half, whole + half

    def held(self, structure: Structure, theta: Tensor) -> Tensor:
        whole = (theta / self.step).round() * self.step
        near = (theta - whole).abs() < 1e3 * self.rounding * self.step
        return torch.where(near & _sloped(structure).to(theta.device), whole, torch.nan)

    def bind(self, design: Design, structure: Structure) -> Function:
        place = _sloped(structure).nonzero()[:, 0]

        def paid(seen: Seen) -> Tensor:
            b = seen.theta[..., place.to(seen.theta.device)] / self.step
            return self.strength * self.step * absolute(b - b.detach().round(), self.rounding).sum(-1)

        return paid


def _sloped(structure: Structure) -> Tensor:
    """Which columns of theta are slopes of an index; (P,) bool."""
    slopes = structure.slopes.repeat(max(len(structure.family.prefixes), 1)) > 0
    return torch.cat([slopes, torch.zeros(len(structure.names) - len(slopes), dtype=torch.bool)])
