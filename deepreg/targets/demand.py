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
from .choice import alternative
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

    `at` is a number, the name of a column, an array with a value for each row used, or a function of the frame. Among
    alternatives, `of` names the one whose price it is: its price times its probability, 0 for units whose set lacks it,
    with all other prices as they are. Raises OptionError where the price is no numeric structural variable, `of` no
    alternative, or `at` is not one of these.

    >>> from deepreg.targets import Revenue
    >>> Revenue("price", at=10.0)
    Revenue(name='price', at=10.0, of=None)
    """

    name: str
    at: Any = None
    of: object = None
    label: ClassVar[str] = "revenue"
    example: ClassVar[str] = "Revenue('price', at=10)"

    def bind(self, design: Design) -> "Revenue":
        return replace(self, **bound_price("Revenue", self.name, self.at, self.of, design))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return _each(structure, f"Revenue {self.name}", self.of, _where(self.at))

    def observed(self, design: Design) -> bool:
        return self.of is not None or self.at is None or len(design.variables) > 1 or setting.moves(self.at, design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (at_price(self.name, self.at, self.of, design),)

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        return setting.numeric("Revenue", self.name if self.at is None else self.at, frame)[:, None]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here, price = scenarios
        return _sold(structure, here, theta, self.of) * _price(structure, price.d, self.of)


@dataclass(frozen=True)
class Profit(Target):
    """E[(price - cost) * mean(price)] per row, with the price as observed, or set by `at`; `cost` of a unit.

    Cost and `at` are numbers, names of columns, arrays with a value for each row used, or functions of the frame. A
    cost that varies has to be a function of the features, or independent of the price given them: put its column among
    the features. Among alternatives, `of` names the one that is sold, as in `Revenue`. Raises OptionError as `Revenue`,
    DataError where a cost is no finite number.

    >>> from deepreg.targets import Profit
    >>> Profit("price", cost=2.0, at=10.0)
    Profit(name='price', cost=2.0, at=10.0, of=None)
    """

    name: str
    cost: Any
    at: Any = None
    of: object = None
    label: ClassVar[str] = "profit"
    example: ClassVar[str] = "Profit('price', cost=2, at=10)"

    def bind(self, design: Design) -> "Profit":
        cost = setting.bound("Profit(cost=)", self.cost, design)
        return replace(self, cost=cost, **bound_price("Profit", self.name, self.at, self.of, design))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        more = f"{_where(self.at)}, cost {setting.called(self.cost)}"
        return _each(structure, f"Profit {self.name}", self.of, more)

    def observed(self, design: Design) -> bool:
        price = self.of is not None or self.at is None or setting.moves(self.at, design)
        return price or len(design.variables) > 1 or setting.moves(self.cost, design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (at_price(self.name, self.at, self.of, design),)

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        price = setting.numeric("Profit", self.name if self.at is None else self.at, frame)
        return np.stack([price, setting.numeric("Profit(cost=)", self.cost, frame)], -1)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here, numbers = scenarios
        margin = numbers.d[..., :1] - numbers.d[..., 1:]
        return _sold(structure, here, theta, self.of) * _price(structure, margin, self.of)


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


def bound_price(label: str, name: str, at: object, of: object, design: Design) -> dict[str, Any]:
    """What the price is set to, None as observed, and whose it is, checked: the fields `at` and `of`."""
    if of is None:
        check_price(label, name, design)
    elif design.packing is None:
        raise OptionError(f"{label}({name!r}, of={of!r}): {design.formula!r} is of no alternatives; leave of= out.")
    else:
        known = [v.name for v in design.packing.attributes if v.sd is not None]
        if name not in known:
            raise OptionError(
                f"{label}({name!r}, of={of!r}): the numeric attributes of this model are "
                f"{', '.join(map(repr, known)) or 'none'}."
            )
        of = alternative(f"{label}({name!r}, of={of!r})", of, design.packing)
    return {"at": None if at is None else setting.bound(f"{label}(at=)", at, design), "of": of}


def at_price(name: str, at: object, of: object, design: Design) -> Scenario:
    """The edit that sets the price, of one alternative where it is named."""
    if at is None:
        return {}
    if of is None or design.packing is None:
        return {name: lambda frame: setting.read(at, frame)}
    column = design.packing.alternative
    return {name: lambda frame: np.where(frame[column] == of, setting.read(at, frame), frame[name])}


def _place(structure: Structure, of: object) -> int:
    return structure.family.labels.index(f"P({of})")


def _each(structure: Structure, what: str, of: object, more: str) -> tuple[str, ...]:
    return structure.each([what + more]) if of is None else (f"{what} of {of}{more}",)


def _sold(structure: Structure, here: Units, theta: Tensor, of: object) -> Tensor:
    """Each mean, or the probability of one alternative; (..., M) or (..., 1)."""
    mean = structure.mean(here, theta)
    return mean if of is None else mean[..., [_place(structure, of)]]


def _price(structure: Structure, value: Tensor, of: object) -> Tensor:
    """A number of each row, (..., 1), or of the one alternative's among them, (..., J, 1) -> (..., 1)."""
    return value if of is None else value[..., _place(structure, of), :]


def _where(at: object) -> str:
    return "" if at is None else f" at {setting.called(at)}"
