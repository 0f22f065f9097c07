"""A target with every structural variable at one value for all rows, such as marginal effects at the means."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from .average import some_variable
from .base import Scenario, Target

PLACES = ("mean", "median", "zero")


@dataclass(frozen=True)
class At(Target):
    """E[target at d = value]: theta(x) of each row, with the structural variables at their mean, median or zero.

    The values are taken as known, as in statsmodels' get_margeff(at=); weights count in them. Raises OptionError for
    another place, and for a variable without a mean or median.

    >>> from deepreg.targets import AME, At
    >>> At(AME("price"), "median").place
    'median'
    """

    target: Target
    place: str
    values: tuple[tuple[str, float], ...] | None = None  # of the variables; those of the data unless given
    label: ClassVar[str] = "at"

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise OptionError(f"at={self.place!r}: allowed are 'overall', {', '.join(map(repr, PLACES))}.")

    def bind(self, design: Design) -> "At":
        values = self.values
        if values is None:
            values = tuple((v.name, _value(self.place, v.name, design)) for v in some_variable("At", design))
        return At(self.target.bind(design), self.place, values)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        where = self.place if self.place == "zero" else f"the {self.place}"
        return tuple(f"{name} at {where}" for name in self.target.names(structure, design))

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        values = dict(self.values or ())
        return tuple(
            values | {name: _moved(value, values) if callable(value) else value for name, value in edit.items()}
            for edit in self.target.scenarios(design)
        )

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        return self.target.numbers(design, frame.assign(**dict(self.values or ())))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return self.target.h(structure, theta, u, *scenarios)

    def combine(self, averages: Tensor) -> Tensor:
        return self.target.combine(averages)

    @property
    def averaged(self) -> bool:
        return self.target.averaged


def _moved(edit: Callable[[pd.DataFrame], Any], values: dict[str, float]) -> Callable[[pd.DataFrame], Any]:
    return lambda frame: edit(frame.assign(**values))


def _value(place: str, name: str, design: Design) -> float:
    column = design.frame[name]
    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise OptionError(
            f"at={place!r}: {name!r} is no number, so it has no {place}. Use at='overall', or name the levels: "
            f"estimate(targets.ATE({name!r}, hi=..., lo=...))."
        )
    values = torch.tensor(column.to_numpy(np.float64))
    if place == "zero":
        return 0.0
    if place == "mean":
        return float((values * design.weight).sum() / design.weight.sum())
    order = values.argsort()
    share = (design.weight[order] / design.weight.sum()).cumsum(0)
    half = values[order][[int(torch.searchsorted(share, 0.5 - 1e-12)), int(torch.searchsorted(share, 0.5 + 1e-12))]]
    return float(half.mean())
