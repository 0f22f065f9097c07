"""The Target protocol: a function of theta and of counterfactual units, whose average is estimated."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pandas as pd
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units

Scenario = Mapping[str, object]  # variable -> value, array or callable(frame)


@dataclass(frozen=True)
class Target:
    """mu = E[w H(theta(x); scenarios)] / E[w], vector-valued, or a smooth function of such averages.

    A target knows no family: it edits data (`scenarios`) and combines what the structure says of them (`h`).
    """

    label: ClassVar[str]
    kept: ClassVar[bool] = True  # whether a saved result answers it without having been asked to
    example: ClassVar[str] = ""  # what to type, where the bare name does not say enough

    @property
    def bare(self) -> bool:
        """Whether it is its class without a choice, and so stands for defaults()."""
        return all(_same(getattr(self, one.name), one.default) for one in fields(self))

    @classmethod
    def defaults(cls, design: Design) -> "tuple[Target, ...]":
        """What the bare name of the target stands for in this model."""
        if cls.example:
            raise OptionError(f"{cls.__name__} has to be told more, for example targets.{cls.example}.")
        return (cls(),)

    def observed(self, design: Design) -> bool:
        """Whether h or the weight depends on structural variables as observed: psi then needs E[w H_theta | x]."""
        return False

    def bind(self, design: Design) -> "Target":
        """The target with whatever it takes from the data filled in."""
        return self

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        """A name for each of the q values; raises where the target does not apply, saying what to type."""
        raise NotImplementedError

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        """Edits of the data, each giving one set of counterfactual units."""
        return ()

    def residual(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        """Numbers r (rows,) of (an edit of) the frame that multiply the weights by (r - E[r | x])^2.

        An error in E[r | x] then changes the average in second order only.
        """
        return None

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        """Numbers (rows, J) of each row of (an edit of) the frame that h needs besides theta, such as a price.

        h is given one more units, the last, whose d they are.
        """
        return None

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        """Values for each unit; theta (..., P) -> (..., q)."""
        raise NotImplementedError

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        """Weight of each row of (an edit of) the frame; None for an unweighted average."""
        return None

    def combine(self, averages: Tensor) -> Tensor:
        """What is asked, as a smooth function of the averages of h; (q,) -> (r,)."""
        return averages

    @property
    def averaged(self) -> bool:
        """Whether the averages themselves are asked, and not a function of them."""
        return type(self).combine is Target.combine


def _same(value: object, default: object) -> bool:
    several = isinstance(value, np.ndarray | pd.Series)  # whose comparison has a value for each entry
    return value is default or (not several and bool(value == default))
