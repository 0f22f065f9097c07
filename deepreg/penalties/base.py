"""The Penalty protocol: what a fit with constant coefficients pays besides its loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units

Function: TypeAlias = "Callable[[Seen], Tensor]"


@dataclass(frozen=True)
class Seen:
    """What a penalty is a function of. Leading axes are a batch of theta's; rows are the last axis.

    Group rates are ratios of sums weighted by `weight`; as the weights enter, so does the sampling of the rows, into
    the standard errors.
    """

    structure: Structure
    units: Units
    theta: Tensor  # (..., P)
    loss: Tensor  # (...) the weighted mean loss
    mean: Callable[[], Tensor]
    weight: Tensor  # (n,)
    frame: pd.DataFrame  # the columns of the formula and those that the penalty names, n rows

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the P columns of theta."""
        return self.structure.names

    @property
    def y(self) -> Tensor:
        """The outcome; (n,)."""
        return self.units.y

    @cached_property
    def prediction(self) -> Tensor:
        """E[y | d] at theta; (..., n)."""
        return self.mean()


class Penalty(ABC):
    """What is added to the weighted mean loss. `columns` are those of the data that it needs besides the formula's."""

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    @property
    def caution(self) -> str:
        """What a reader of its standard errors has to know; "" where there is nothing."""
        return ""

    def __repr__(self) -> str:
        """The arguments that are not at their defaults."""
        given = [(one.name, getattr(self, one.name), one.default) for one in fields(self)]  # type: ignore[arg-type]
        shown = ", ".join(f"{name}={value!r}" for name, value, default in given if value != default)
        return f"{type(self).__name__}({shown})"

    def stages(self) -> tuple["Penalty", ...]:
        """Smoother versions to minimise one after the other, each from the minimum of the one before; itself last."""
        return (self,)

    def region(self, structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds around theta within which the penalty is convex, where it is in pieces; (..., P) -> (..., P) each."""
        return torch.full_like(theta, -torch.inf), torch.full_like(theta, torch.inf)

    def held(self, structure: Structure, theta: Tensor) -> Tensor:
        """The values at which the penalty has a kink and holds coefficients at a minimum theta, else NaN; (P,)."""
        return torch.full_like(theta, torch.nan)

    @abstractmethod
    def bind(self, design: Design, structure: Structure) -> Function:
        """The penalty of these rows, Seen -> (...). Raises OptionError or DataError where it cannot be had of them."""


@dataclass(frozen=True, repr=False)
class FromFunction(Penalty):
    """What from_function() makes."""

    of: Function
    columns: tuple[str, ...] = ()

    def bind(self, design: Design, structure: Structure) -> Function:
        return self.of


def from_function(function: Function, columns: Sequence[str] = ()) -> FromFunction:
    """A penalty of your own: a function of `Seen`, in torch, twice differentiable in theta and once in the weights.

    It gets predictions (..., n), outcomes, weights, theta (..., P), the weighted mean loss and the frame with the
    formula's columns and `columns`, and returns (...), what is added to the weighted mean loss.

    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"x": rng.normal(size=300)})
    >>> data["y"] = 2 * data.x + rng.normal(size=300)
    >>> ridge = deepreg.penalties.from_function(lambda seen: 0.5 * (seen.theta[..., 1:] ** 2).sum(-1))
    >>> slope = deepreg.structural("y ~ x", data, penalty=ridge).fit().params.x
    >>> bool(0.9 < slope < 1.1)
    True
    """
    if not callable(function):
        raise OptionError(f"from_function({function!r}): give a function of one argument, deepreg.penalties.Seen.")
    return FromFunction(function, tuple(columns))


def get(given: Any) -> Penalty:
    """The penalty meant by structural(penalty=...), an object or a function. Raises OptionError for anything else."""
    if isinstance(given, Penalty):
        return given
    if callable(given) and not isinstance(given, type):
        return from_function(given)
    raise OptionError(
        f"penalty={given!r}: give an object such as deepreg.RateGap('fpr', group='g') or deepreg.Rounding(0.4), or a "
        "function of deepreg.penalties.Seen. The L2 penalty on the weights of networks is a number given to fit()."
    )


def check(penalty: Penalty, design: Design, structure: Structure) -> None:
    """Raise OptionError where theta varies, and what bind() raises."""
    if design.features or design.controls:
        raise OptionError(
            f"penalty={penalty!r} is part of the objective of a fit with constant coefficients, but {design.formula!r} "
            "has features. Averages of theta(x) are debiased, which would undo what the penalty did to it. Leave "
            "penalty= out, or the part behind the bar."
        )
    penalty.bind(design, structure)


def check_number(name: str, value: Any, least: float = 0.0) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= value < math.inf:
        raise OptionError(f"{name}={value!r}: give a number, {least:g} or more.")


def absolute(x: Tensor, rounding: float) -> Tensor:
    """|x|, smooth around 0."""
    return (x**2 + rounding**2).sqrt() - rounding
