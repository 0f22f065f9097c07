"""Effects on choices: of one alternative's attribute on the probabilities of all, and of changes on welfare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..packing import Packing
from ..structure import Structure
from ..units import Units
from .base import Scenario, Target
from .ratio import NEAR, warn_near_zero

_STEP = 1e-4  # in standard deviations of the attribute, or relative to it: truncation about 1e-8


@dataclass(frozen=True)
class ChoiceEffect(Target):
    """E[d P(j) / d attribute of one alternative] for every alternative j: its own and its cross marginal effects.

    With elasticity=True, E[d log P(j) / d log attribute], averaged over the units that could choose both; `on` names
    one j, as it must where choice sets differ. A marginal effect is 0 for units whose set lacks `of` or j. Raises
    OptionError naming the attributes or the alternatives.

    >>> from deepreg.targets import ChoiceEffect
    >>> ChoiceEffect("price", of="train", on="car").on
    'car'
    """

    name: str | None = None
    of: object = None
    on: object = None
    elasticity: bool = False
    step: float | None = None  # of the central difference; 1e-4 standard deviations, or relative to it, unless given
    label: ClassVar[str] = "choice_effect"

    @classmethod
    def defaults(cls, design: Design) -> tuple[Target, ...]:
        inside = some_sets("ChoiceEffect", design)
        name = next((v.name for v in inside.attributes if v.sd is not None), "price")
        raise OptionError(
            f"ChoiceEffect needs an attribute and the alternative that has it: type targets.ChoiceEffect({name!r}, "
            f"of={inside.names[0]!r})."
        )

    def observed(self, design: Design) -> bool:
        return True

    def bind(self, design: Design) -> "ChoiceEffect":
        inside = some_sets("ChoiceEffect", design)
        known = {v.name: v.sd for v in inside.attributes if v.sd is not None}
        if self.name not in known:
            raise OptionError(
                f"ChoiceEffect({self.name!r}): the numeric attributes of this model are "
                f"{', '.join(map(repr, known)) or 'none'}."
            )
        if self.step is not None and not self.step > 0:
            raise OptionError(f"ChoiceEffect({self.name!r}, step={self.step!r}): give a number above 0.")
        of = alternative(f"ChoiceEffect({self.name!r}, of={self.of!r})", self.of, inside)
        on = None if self.on is None else alternative(f"ChoiceEffect({self.name!r}, on={self.on!r})", self.on, inside)
        if self.elasticity and on is None and not bool(design.units.mask.all()):
            raise OptionError(
                f"ChoiceEffect({self.name!r}, of={of!r}, elasticity=True): choice sets differ, and so do the units "
                f"that the average is over. Name one alternative at a time, for example on={of!r}."
            )
        step = self.step or _STEP * (1.0 if self.elasticity else float(known[self.name] or 0.0))
        return replace(self, of=of, on=on, step=step)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        every = structure.each([f"{'elasticity ' if self.elasticity else ''}{self.name} of {self.of}"])
        return every if self.on is None else (every[self._place(structure)],)

    def _place(self, structure: Structure) -> int:
        return structure.family.labels.index(f"P({self.on})")

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        name, step, mine = str(self.name), float(self.step or 0.0), some_sets("ChoiceEffect", design).alternative

        def moved(by: float) -> Callable[[pd.DataFrame], np.ndarray]:
            def edit(frame: pd.DataFrame) -> np.ndarray:
                value = frame[name].to_numpy(np.float64)
                size = value if self.elasticity else np.ones_like(value)
                return np.where((frame[mine] == self.of).to_numpy(), value + by * size, value)

            return edit

        return ({name: moved(step)}, {name: moved(-step)})

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        up, down = (structure.mean(s, theta) for s in scenarios)
        if self.elasticity:
            up, down = (torch.where(one > 0, one, 1.0).log() for one in (up, down))
        slope = (up - down) / (2 * float(self.step or 0.0))
        return slope if self.on is None else slope[..., [self._place(structure)]]

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        """Of elasticities, 1 for the rows of units that could choose both; None where all could."""
        inside = some_sets("ChoiceEffect", design)
        if not self.elasticity or bool(design.units.mask.all()):
            return None
        both = [(frame[inside.alternative] == one).groupby(frame[inside.unit]) for one in (self.of, self.on)]
        return np.asarray(both[0].transform("any") & both[1].transform("any"), dtype=np.float64)


@dataclass(frozen=True)
class CompensatingVariation(Target):
    """E[change of the expected utility of choosing / marginal utility of money]: what a change is worth to a unit.

    `change` edits the data, column -> value or function of the frame, as in {"price": lambda frame: frame.price + 1};
    `price` is the coefficient whose negative is the marginal utility of money. (log-sum after - before) / -theta_price,
    in units of price and above 0 for what units gain. Theta_price has to stay away from 0, for a ratio has no mean
    otherwise. Raises OptionError naming coefficients or attributes. Small and Rosen (1981), Econometrica 49(1).

    >>> from deepreg.targets import CompensatingVariation
    >>> CompensatingVariation("price", {"time": lambda frame: 0.9 * frame.time}).price
    'price'
    """

    price: str | None = None
    change: Mapping[str, object] | tuple[tuple[str, object], ...] | None = None
    label: ClassVar[str] = "compensating_variation"

    @classmethod
    def defaults(cls, design: Design) -> tuple[Target, ...]:
        inside = some_sets("CompensatingVariation", design)
        name = inside.attributes[0].name if inside.attributes else "time"
        raise OptionError(
            "CompensatingVariation needs a price and a change: type targets.CompensatingVariation('price', "
            f"{{{name!r}: lambda frame: 0.9 * frame[{name!r}]}})."
        )

    def observed(self, design: Design) -> bool:
        return True

    def bind(self, design: Design) -> "CompensatingVariation":
        known = [v.name for v in some_sets("CompensatingVariation", design).attributes]
        change = dict(self.change) if isinstance(self.change, Mapping | tuple) else {}
        if not change or not set(change) <= set(known):
            raise OptionError(
                f"CompensatingVariation({self.price!r}, {self.change!r}): give the change as a mapping from attributes "
                f"({', '.join(map(repr, known))}) to values or functions of the frame."
            )
        return replace(self, change=tuple(change.items()))  # which can be hashed

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        if self.price not in structure.names:
            raise OptionError(
                f"CompensatingVariation({self.price!r}): the coefficients are {', '.join(structure.names)}."
            )
        return (f"compensating variation of {', '.join(dict(self.change or ()))}",)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (dict(self.change or ()),)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        before, after = (structure.family.inclusive(one, theta) for one in (u, *scenarios))
        price = theta[..., structure.names.index(str(self.price))]
        what = f"the coefficient of {self.price}"
        warn_near_zero("CompensatingVariation", what, price, NEAR, "Leave out of the features what moves it there.")
        return ((before - after) / price)[..., None]


def some_sets(label: str, design: Design) -> Packing:
    """Where the alternatives stand; raises OptionError for a model that is of no choices."""
    if design.packing is None:
        raise OptionError(
            f"{label} is about choices among alternatives, and {design.formula!r} has one row for each outcome. Fit "
            "deepreg.choice(), or ask for an ATE or AME."
        )
    return design.packing


def alternative(asked: str, value: object, inside: Packing) -> object:
    """The alternative that is meant by its value, or the text of it."""
    found = [one for one in inside.alternatives if one == value or str(one) == value]
    if not found:
        known = ", ".join(map(repr, inside.alternatives)) or "too many to have effects of their own"
        raise OptionError(f"{asked}: the alternatives are {known}.")
    return found[0]
