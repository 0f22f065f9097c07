"""Ratios of coefficients: willingness to pay, and other trade-offs."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..design import Design
from ..errors import DeepregWarning, OptionError
from ..structure import Structure
from ..units import Units
from .base import Target

NEAR = 0.1  # of the median size of a denominator: what is nearer to 0 than this is warned of


@dataclass(frozen=True)
class WTP(Target):
    """-E[theta_name(x) / theta_per(x)]: what a unit of `name` is worth, in units of `per`, averaged over the features.

    With of="averages" the ratio of the average coefficients, -E[theta_name] / E[theta_per], by the delta method: the
    trade-off of the whole group, which exists also where some rows have a price coefficient near 0. With of="rows" a
    DeepregWarning counts such rows: the mean and its error are then decided by few of them.
    Raises OptionError for a name that is no coefficient.

    >>> from deepreg.targets import WTP
    >>> WTP("time", per="price")
    WTP(name='time', per='price', of='rows')
    """

    name: str
    per: str
    of: str = "rows"
    label: ClassVar[str] = "wtp"
    example: ClassVar[str] = "WTP('time', per='price')"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        for name in (self.name, self.per):
            if name not in structure.names:
                raise OptionError(
                    f"WTP({self.name!r}, per={self.per!r}): {name!r} is no coefficient; there are "
                    f"{', '.join(structure.names)}."
                )
        if self.of not in ("rows", "averages"):
            raise OptionError(f"WTP(..., of={self.of!r}): allowed are 'rows' and 'averages'.")
        if self.name == self.per:
            raise OptionError(f"WTP({self.name!r}, per={self.per!r}): give two different coefficients.")
        return (f"WTP {self.name} per {self.per}" + (", ratio of averages" if self.of == "averages" else ""),)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        name, per = (theta[..., structure.names.index(one)] for one in (self.name, self.per))
        if self.of == "averages":
            return torch.stack([name, per], -1)
        warn_near_zero(f"WTP per {self.per}", f"the coefficient of {self.per}", per, NEAR, "Use of='averages'.")
        return (-name / per)[..., None]

    def combine(self, averages: Tensor) -> Tensor:
        return -averages[:1] / averages[1:] if self.of == "averages" else averages

    @property
    def averaged(self) -> bool:
        return self.of == "rows"


def warn_near_zero(label: str, what: str, values: Tensor, near: float, instead: str) -> None:
    """Warn where a denominator is nearer to 0 than so much of its median size, or on the other side of it."""
    values = values.detach()
    typical = values.median()
    share = float((values * typical.sign() <= near * typical.abs()).double().mean())
    if share:
        warnings.warn(
            f"{label}: {what} is {'near 0, or on' if near else '0, or on'} the other side of it, in {share:.1%} of the "
            f"rows, so that few rows decide the average of the ratio. {instead}",
            DeepregWarning,
            stacklevel=2,
        )
