"""Average marginal effects: derivatives of the mean with respect to a continuous treatment."""

from dataclasses import dataclass, replace
from numbers import Real
from typing import ClassVar, TypeVar

import numpy as np
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from ..variables import Variable
from .average import some_variable, variable
from .base import Scenario, Target

_STEP = 1e-4  # in standard deviations of t: truncation about 1e-9, rounding about 1e-12 of the mean's scale

A = TypeVar("A", bound="AME")


@dataclass(frozen=True)
class AME(Target):
    """E[d mean / d t] over the observed t ("overall"), or at one value of t for everyone. Outcome per unit of t.

    >>> from deepreg.targets import AME
    >>> AME("price", at=10.0)
    AME(name='price', at=10.0, step=None)
    """

    name: str | None = None
    at: float | None = None
    step: float | None = None  # of the central difference; 1e-4 standard deviations of t unless given
    label: ClassVar[str] = "ame"
    symbol: ClassVar[str] = "AME"

    @classmethod
    def defaults(cls, design: Design) -> tuple[Target, ...]:
        found = tuple(cls(v.name) for v in some_variable(cls.symbol, design) if v.kind == "continuous")
        if not found:
            known = ", ".join(v.name for v in design.variables)
            raise OptionError(
                f"{cls.symbol} needs a continuous treatment, but {known} has levels: "
                f"estimate('ate') gives the average effect of a change in level, and targets.{cls.symbol}('name') the "
                "derivative in a numeric one."
            )
        return found

    def _check(self, design: Design) -> Variable:
        v = variable(self.symbol, self.name, design)
        if v.sd is None:
            raise OptionError(f"{self.symbol}({v.name!r}): {v.name!r} is not a number; use ATE({v.name!r}).")
        at: object = self.at
        if at is not None and not isinstance(at, Real):
            raise OptionError(f"{self.symbol}({v.name!r}, at={at!r}): give one value of {v.name}, a number.")
        if self.step is not None and not self.step > 0:
            raise OptionError(
                f"{self.symbol}({v.name!r}, step={self.step!r}): give a number above 0, in units of {v.name}."
            )
        return v

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        name = self._check(design).name
        return structure.each([f"{self.symbol} {name}" + ("" if self.at is None else f" at {self.at:g}")])

    def observed(self, design: Design) -> bool:
        return self.at is None or len(design.variables) > 1

    def bind(self: A, design: Design) -> A:
        sd = self._check(design).sd
        return replace(self, step=_STEP * sd) if self.step is None and sd is not None else self

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        name, step = self._check(design).name, float(self.step or 0)

        def moved(by: float) -> object:
            if self.at is not None:
                return float(self.at) + by
            return lambda frame: np.asarray(frame[name], dtype=np.float64) + by

        return ({name: moved(step)}, {name: moved(-step)})

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        up, down = (structure.mean(s, theta) for s in scenarios)
        return (up - down) / (2 * float(self.step or 0))
