"""Averages over the population: coefficients, and effects of moving a treatment between levels."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import DataError, OptionError
from ..structure import Structure
from ..units import Units
from ..variables import Variable
from .base import Scenario, Target


def variable(label: str, name: str | None, design: Design) -> Variable:
    """The structural variable of that name; raises OptionError naming the known ones."""
    known = {v.name: v for v in some_variable(label, design)}
    if name is None or name not in known:
        raise OptionError(
            f"{label}({name!r}): the structural variables of this model are {', '.join(map(repr, known))}."
        )
    return known[name]


def some_variable(label: str, design: Design) -> tuple[Variable, ...]:
    """The structural variables; raises OptionError where there are none."""
    if not design.variables:
        raise OptionError(
            f"{label}: the formula {design.formula!r} has no variable among its structural terms, so there is no "
            "effect. Name one, for example 'y ~ t'."
        )
    return design.variables


def _base(v: Variable, terms: tuple[str, ...]) -> object:
    """The level that the regression measures the others against: the one without a column; else the first."""
    word = rf"(?<!\w){re.escape(v.name)}(?!\w)[^:]*"
    bare = [
        level
        for level in v.levels
        if not any(re.fullmatch(rf".*{word}\[(T\.)?{re.escape(str(level))}\]", term) for term in terms)
    ]
    return bare[0] if len(bare) == 1 else v.levels[0]


def _shown(level: object) -> str:
    """A level without the decimals of a whole number."""
    return f"{level:.0f}" if isinstance(level, float) and level.is_integer() else str(level)


@dataclass(frozen=True)
class Coefficient(Target):
    """E[theta_j(x)]: the average of a regression coefficient over the features; all of them without a name.

    >>> from deepreg.targets import Coefficient
    >>> Coefficient("tutoring").name
    'tutoring'
    """

    name: str | None = None
    label: ClassVar[str] = "coefficient"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        if self.name is not None and self.name not in structure.names:
            raise OptionError(f"Coefficient({self.name!r}): the coefficients are {', '.join(structure.names)}.")
        return structure.names if self.name is None else (self.name,)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return theta if self.name is None else theta[..., [structure.names.index(self.name)]]


@dataclass(frozen=True)
class ATE(Target):
    """E[mean(t = hi) - mean(t = lo)]; without hi and lo, every level against the base level
    of the regression. Outcome units.

    A numeric treatment that is not discrete has no two natural levels: name them, or ask for its AME.
    Raises DataError with what to type where the levels are missing.

    >>> from deepreg.targets import ATE
    >>> ATE("dose", hi=3, lo=1)
    ATE(name='dose', hi=3, lo=1)
    """

    name: str | None = None
    hi: object = None
    lo: object = None
    label: ClassVar[str] = "ate"
    symbol: ClassVar[str] = "ATE"

    @classmethod
    def defaults(cls, design: Design) -> tuple[Target, ...]:
        found = tuple(cls(v.name) for v in some_variable(cls.symbol, design) if v.kind == "discrete")
        if not found:
            first = design.variables[0].name
            raise OptionError(
                f"{cls.symbol} needs a treatment with levels, but {', '.join(v.name for v in design.variables)} "
                f"is continuous: type targets.{cls.symbol}({first!r}, hi=..., lo=...), or estimate('ame')."
            )
        return found

    def observed(self, design: Design) -> bool:
        return len(design.variables) > 1  # the others stay as they are

    def pairs(self, design: Design) -> list[tuple[object, object]]:
        """(hi, lo) of each value."""
        v = variable(self.symbol, self.name, design)
        if (self.hi is None) != (self.lo is None):
            raise OptionError(f"{self.symbol}({self.name!r}, hi={self.hi!r}, lo={self.lo!r}): give both hi= and lo=.")
        if self.hi is not None and self.hi == self.lo:
            raise OptionError(
                f"{self.symbol}({self.name!r}, hi={self.hi!r}, lo={self.lo!r}): give two different values."
            )
        if self.hi is not None:
            return [(self.hi, self.lo)]
        if v.kind != "discrete":
            raise DataError(
                f"{self.symbol}({self.name!r}) needs two values, but {self.name!r} is continuous. "
                f"Name them: {self.symbol}({self.name!r}, hi=..., lo=...), or use AME({self.name!r})."
            )
        base = _base(v, design.terms)
        return [(level, base) for level in v.levels if level != base]

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"{self.symbol} {self.name}: {_shown(hi)} vs {_shown(lo)}" for hi, lo in self.pairs(design))

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple({str(self.name): value} for pair in self.pairs(design) for value in pair)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        mean = [structure.family.mean(s, theta) for s in scenarios]
        return torch.stack([hi - lo for hi, lo in zip(mean[::2], mean[1::2], strict=True)], -1)


@dataclass(frozen=True)
class ATT(ATE):
    """The average effect of hi against lo among the units observed at hi."""

    label: ClassVar[str] = "att"
    symbol: ClassVar[str] = "ATT"
    among: ClassVar[int] = 0  # which of (hi, lo) the population is observed at

    def observed(self, design: Design) -> bool:
        return True

    def pairs(self, design: Design) -> list[tuple[object, object]]:
        pairs = super().pairs(design)
        if len(pairs) > 1:
            hi, lo = pairs[0]
            raise DataError(
                f"{self.symbol}({self.name!r}) needs two levels, but {self.name!r} has "
                f"{[pairs[0][1], *(p[0] for p in pairs)]}. "
                f"Name them: {self.symbol}({self.name!r}, hi={hi!r}, lo={lo!r})."
            )
        return pairs

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        value = self.pairs(design)[0][self.among]
        chosen = (frame[self.name] == value).to_numpy(np.float64)
        if not chosen.any():
            raise DataError(f"{self.symbol}({self.name!r}): no row has {self.name} = {value!r}.")
        return chosen


@dataclass(frozen=True)
class ATU(ATT):
    """The average effect of hi against lo among the units observed at lo."""

    label: ClassVar[str] = "atu"
    symbol: ClassVar[str] = "ATU"
    among: ClassVar[int] = 1
