"""Demand: elasticities, revenue, profit and consumer surplus along one price."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from . import setting
from .average import shown, variable
from .base import Scenario, Target
from .marginal import AME
from .ratio import warn_near_zero

POINTS = 16  # of the Gauss-Legendre rule between two prices


@dataclass(frozen=True)
class Elasticity(AME):
    """E[d mean / d t * t / mean]: the change of the mean in percent for one percent more of t, averaged over the rows.

    Over the observed t, or at one value of t for everyone; for families with several means, of each. With `semi`,
    E[d mean / d t / mean]: the relative change for one more unit of t. The average of the rows' elasticities is not
    the elasticity of the average: a DeepregWarning says where means around 0 decide it.

    >>> from deepreg.targets import Elasticity
    >>> Elasticity("price", at=10.0).at
    10.0
    """

    semi: bool = False
    label: ClassVar[str] = "elasticity"
    symbol: ClassVar[str] = "Elasticity"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        found = super().names(structure, design)
        return tuple(f"Semi-e{name[1:]}" for name in found) if self.semi else found

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (*super().scenarios(design), {} if self.at is None else {str(self.name): float(self.at)})

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        return setting.numeric(self.symbol, str(self.name) if self.at is None else self.at, frame)[:, None]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        up, down, here, t = scenarios
        mean = structure.mean(here, theta)
        instead = "Choose a family of positive means."
        warn_near_zero(f"{self.symbol} {self.name}", "the mean of the outcome", mean, 0.0, instead)
        relative = super().h(structure, theta, u, up, down) / mean
        return relative if self.semi else relative * t.d


@dataclass(frozen=True)
class Revenue(Target):
    """E[price * mean(price)] per row, with the price as observed, or set by `at`. Units of price times outcome.

    `at` is a number, the name of a column, an array with a value for each row used, or a function of the frame.
    Raises OptionError where the price is no numeric structural variable, or `at` is not one of these.

    >>> from deepreg.targets import Revenue
    >>> Revenue("price", at=10.0)
    Revenue(name='price', at=10.0)
    """

    name: str
    at: Any = None
    label: ClassVar[str] = "revenue"
    example: ClassVar[str] = "Revenue('price', at=10)"

    def bind(self, design: Design) -> "Revenue":
        return replace(self, at=bound_price("Revenue", self.name, self.at, design))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return structure.each([f"Revenue {self.name}{_where(self.at)}"])

    def observed(self, design: Design) -> bool:
        return self.at is None or len(design.variables) > 1 or setting.moves(self.at, design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (at_price(self.name, self.at),)

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        return setting.numeric("Revenue", self.name if self.at is None else self.at, frame)[:, None]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here, price = scenarios
        return price.d * structure.mean(here, theta)


@dataclass(frozen=True)
class Profit(Target):
    """E[(price - cost) * mean(price)] per row, with the price as observed, or set by `at`; `cost` of a unit.

    Cost and `at` are numbers, names of columns, arrays with a value for each row used, or functions of the frame. A
    cost that varies has to be a function of the features, or independent of the price given them: put its column among
    the features. Raises OptionError as `Revenue`, DataError where a cost is no finite number.

    >>> from deepreg.targets import Profit
    >>> Profit("price", cost=2.0, at=10.0)
    Profit(name='price', cost=2.0, at=10.0)
    """

    name: str
    cost: Any
    at: Any = None
    label: ClassVar[str] = "profit"
    example: ClassVar[str] = "Profit('price', cost=2, at=10)"

    def bind(self, design: Design) -> "Profit":
        cost = setting.bound("Profit(cost=)", self.cost, design)
        return replace(self, at=bound_price("Profit", self.name, self.at, design), cost=cost)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return structure.each([f"Profit {self.name}{_where(self.at)}, cost {setting.called(self.cost)}"])

    def observed(self, design: Design) -> bool:
        price = self.at is None or setting.moves(self.at, design)
        return price or len(design.variables) > 1 or setting.moves(self.cost, design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (at_price(self.name, self.at),)

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        price = setting.numeric("Profit", self.name if self.at is None else self.at, frame)
        return np.stack([price, setting.numeric("Profit(cost=)", self.cost, frame)], -1)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here, numbers = scenarios
        price, cost = numbers.d[..., :1], numbers.d[..., 1:]
        return (price - cost) * structure.mean(here, theta)


@dataclass(frozen=True)
class ConsumerSurplus(Target):
    """E[integral of mean(p) over p from lo to hi] per row: what buyers lose where the price rises from lo to hi.

    The area left of demand, by a Gauss-Legendre rule of 16 prices: exact to rounding where the mean is smooth in the
    price. It leaves out income effects. Units of price times outcome.
    Raises OptionError where the price is no numeric structural variable, or not lo < hi.

    >>> from deepreg.targets import ConsumerSurplus
    >>> ConsumerSurplus("price", lo=1.0, hi=2.0)
    ConsumerSurplus(name='price', lo=1.0, hi=2.0)
    """

    name: str
    lo: float
    hi: float
    label: ClassVar[str] = "consumer_surplus"
    example: ClassVar[str] = "ConsumerSurplus('price', lo=8, hi=10)"

    def bind(self, design: Design) -> "ConsumerSurplus":
        lo, hi = price_range("ConsumerSurplus", self.name, self.lo, self.hi, design)
        return replace(self, lo=lo, hi=hi)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return structure.each([f"Consumer surplus {self.name}: {shown(self.lo)} to {shown(self.hi)}"])

    def observed(self, design: Design) -> bool:
        return len(design.variables) > 1

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        place = np.polynomial.legendre.leggauss(POINTS)[0]
        return tuple({self.name: self.lo + (self.hi - self.lo) * (1 + float(one)) / 2} for one in place)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        mass = np.polynomial.legendre.leggauss(POINTS)[1] * (self.hi - self.lo) / 2
        parts = (float(m) * structure.mean(s, theta) for m, s in zip(mass, scenarios, strict=True))
        return sum(parts, theta.new_zeros(()))


def check_price(label: str, name: str, design: Design) -> None:
    """Raise OptionError unless that is a numeric structural variable."""
    v = variable(label, name, design)
    if v.sd is None:
        raise OptionError(f"{label}({name!r}): {name!r} is not a number, and so no price.")


def price_range(label: str, name: str, lo: object, hi: object, design: Design) -> tuple[float, float]:
    """Two finite prices, lo < hi, of a numeric structural variable; raises OptionError of anything else."""
    check_price(label, name, design)
    try:
        low, high = float(lo), float(hi)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise OptionError(f"{label}(lo={lo!r}, hi={hi!r}): give two prices, for example lo=1, hi=2.") from error
    if not (np.isfinite([low, high]).all() and low < high):
        raise OptionError(f"{label}(lo={lo!r}, hi={hi!r}): give two finite prices, lo below hi.")
    return low, high


def bound_price(label: str, name: str, at: object, design: Design) -> object:
    """What the price is set to, checked; None as observed."""
    check_price(label, name, design)
    return None if at is None else setting.bound(f"{label}(at=)", at, design)


def at_price(name: str, at: object) -> Scenario:
    """The edit that sets the price."""
    return {} if at is None else {name: lambda frame: setting.read(at, frame)}


def _where(at: object) -> str:
    return "" if at is None else f" at {setting.called(at)}"
