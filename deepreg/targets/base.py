"""The Target protocol: a function of theta and of counterfactual units, whose average is estimated."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pandas as pd
from torch import Tensor

from ..design import Design
from ..structure import Structure
from ..units import Units

Scenario = Mapping[str, object]  # variable -> value, array or callable(frame)


@dataclass(frozen=True)
class Target:
    """mu = E[w H(theta(x); scenarios)] / E[w], vector-valued.

    A target knows no family: it edits data (`scenarios`) and combines what the structure says of them (`h`).
    """

    label: ClassVar[str]

    @property
    def bare(self) -> bool:
        """Whether it is its class without a choice, and so stands for defaults()."""
        return all(getattr(self, one.name) == one.default for one in fields(self))

    @classmethod
    def defaults(cls, design: Design) -> "tuple[Target, ...]":
        """What the bare name of the target stands for in this model."""
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

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        """Values for each unit; theta (..., P) -> (..., q)."""
        raise NotImplementedError

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        """Weight of each row of (an edit of) the frame; None for an unweighted average."""
        return None
