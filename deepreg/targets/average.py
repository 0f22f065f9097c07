"""Averages over the population: coefficients, and effects of moving a treatment between levels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

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

_OF_CHOICES = {  # what answers the question where the alternatives have their own values
    "": "Use targets.ChoiceEffect({which}) for the effect of one alternative's attribute, or estimate('coefficient').",
    "Elasticity": "Use targets.ChoiceEffect({which}, on=..., elasticity=True) for own and cross elasticities.",
    "Revenue": "Name the one whose price it is: targets.Revenue({which}, at=...).",
    "Profit": "Name the one whose price it is: targets.Profit({which}, cost=..., at=...).",
    "ConsumerSurplus": "Use targets.CompensatingVariation('price', {{'price': lambda frame: ...}}) for a change of it.",
    "OptimalPrice": "Compare prices with targets.Profit({which}, cost=..., at=...).",
}  # fmt: skip


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
    if design.packing is not None:
        numeric = [v.name for v in design.packing.attributes if v.sd is not None]
        which = f"{(numeric or ['price'])[0]!r}, of={design.packing.names[0]!r}"
        raise OptionError(
            f"{label} moves a variable for all of a row, but a choice is among alternatives that have their own "
            f"values. {_OF_CHOICES.get(label, _OF_CHOICES['']).format(which=which)}"
        )
    if not design.variables:
        raise OptionError(
            f"{label}: the formula {design.formula!r} has no variable among its structural terms, so there is no "
            "effect. Name one, for example 'y ~ t'."
        )
    return design.variables


def base_level(v: Variable, terms: tuple[str, ...]) -> object:
    """The level that the regression measures the others against: the one without a column; else the first."""
    word = rf"(?<!\w){re.escape(v.name)}(?!\w)[^:]*"
    bare = [
        level
        for level in v.levels
        if not any(re.fullmatch(rf".*{word}\[(T\.)?{re.escape(str(level))}\]", term) for term in terms)
    ]
    return bare[0] if len(bare) == 1 else v.levels[0]


def shown(level: object) -> str:
    """A level in ten digits at most, a whole number without decimals."""
    if not isinstance(level, float):
        return str(level)
    return f"{level:.0f}" if level.is_integer() else f"{level:.10g}"


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
class Mean(Target):
    """E[mean(t = value)] for each value of `at`, by default every level: the outcome if everyone were at it.

    A continuous variable has no levels: name the values, one or several; together they are its dose-response.
    Raises DataError with what to type where they are missing, OptionError for an empty list.

    >>> from deepreg.targets import Mean
    >>> Mean("dose", at=(0, 1, 2))
    Mean(name='dose', at=(0, 1, 2))
    """

    name: str | None = None
    at: object = None
    label: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        if self.name is None and self.at is not None:
            raise OptionError(f"Mean(at={self.at!r}): name the variable, for example Mean('t', at=...).")

    @classmethod
    def defaults(cls, design: Design) -> tuple[Target, ...]:
        found = tuple(cls(v.name) for v in some_variable("Mean", design) if v.kind == "discrete")
        if not found:
            first = design.variables[0].name
            raise OptionError(
                f"Mean needs a treatment with levels, but {', '.join(v.name for v in design.variables)} is continuous: "
                f"type targets.Mean({first!r}, at=[...])."
            )
        return found

    def bind(self, design: Design) -> "Mean":
        return self if self.at is None else replace(self, at=tuple(self.values(design)))

    def observed(self, design: Design) -> bool:
        return len(design.variables) > 1  # the others stay as they are

    def values(self, design: Design) -> list[object]:
        """The values the variable is set to."""
        v = variable("Mean", self.name, design)
        if self.at is None and v.kind != "discrete":
            raise DataError(
                f"Mean({v.name!r}) needs values, but {v.name!r} is continuous. Type Mean({v.name!r}, at=[...])."
            )
        at: Any = v.levels if self.at is None else self.at
        several = isinstance(at, Sequence | np.ndarray | pd.Series | pd.Index) and not isinstance(at, str)
        found = list(at) if several and np.ndim(at) == 1 else [at]
        if any(np.ndim(value) for value in found):
            raise OptionError(f"Mean({v.name!r}, at={self.at!r}): give one value of {v.name}, or a list of them.")
        texts = [shown(value) for value in found]
        if len(set(texts)) < len(texts):
            twice = next(one for one in texts if texts.count(one) > 1)
            raise OptionError(f"Mean({v.name!r}, at=...) has two values that print as {twice}; give each value once.")
        if not found:
            raise OptionError(f"Mean({v.name!r}, at={self.at!r}): give one value of {v.name}, or a list of them.")
        return found

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return structure.each(f"Mean {self.name}: {shown(value)}" for value in self.values(design))

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple({str(self.name): value} for value in self.values(design))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return torch.cat([structure.mean(s, theta) for s in scenarios], -1)


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
        base = base_level(v, design.terms)
        return [(level, base) for level in v.levels if level != base]

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        pairs = self.pairs(design)
        return structure.each(f"{self.symbol} {self.name}: {shown(hi)} vs {shown(lo)}" for hi, lo in pairs)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple({str(self.name): value} for pair in self.pairs(design) for value in pair)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        mean = [structure.mean(s, theta) for s in scenarios]
        return torch.cat([hi - lo for hi, lo in zip(mean[::2], mean[1::2], strict=True)], -1)


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

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
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


@dataclass(frozen=True)
class ATO(ATT):
    """The average effect of hi against lo in the overlap: each x weighs e(x)(1 - e(x)), e(x) = P(t = hi | x).

    It asks most of units that could have been at either level, and needs no trimming where overlap is thin. A row's
    weight is (1{t = hi} - e(x))^2, which has that mean and leaves errors in e(x) to second order. Li, Morgan and
    Zaslavsky (2018). Raises DataError where the treatment has more than two levels.
    """

    label: ClassVar[str] = "ato"
    symbol: ClassVar[str] = "ATO"

    def pairs(self, design: Design) -> list[tuple[object, object]]:
        levels = variable(self.symbol, self.name, design).levels
        if len(levels) != 2:
            raise DataError(
                f"ATO({self.name!r}) needs a treatment of two levels, but {self.name!r} has {len(levels) or 'none'}. "
                f"Keep two with subset=, or ask for ATT({self.name!r}, hi=..., lo=...)."
            )
        return super().pairs(design)

    def weight(self, design: Design, frame: pd.DataFrame) -> None:
        return None

    def residual(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        return (frame[self.name] == self.pairs(design)[0][0]).to_numpy(np.float64)
