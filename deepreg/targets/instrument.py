"""Effects of an instrumented treatment: what the instrument does to the outcome, over what it does to the treatment."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from .base import Target
from .ratio import NEAR, warn_near_zero


def _slopes(structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
    """gamma(x) and pi(x): what the instrument does to the outcome, and to the treatment."""
    reduced, first = structure.stages
    return theta[..., structure.names.index(reduced)], theta[..., structure.names.index(first)]


def _treatment(structure: Structure, label: str) -> str:
    """The instrumented treatment; raises OptionError in a model without an instrument."""
    if structure.instrument is None:
        raise OptionError(f"{label} needs an instrument; write the formula as 'y ~ [t ~ z] | x'.")
    return structure.family.labels[1]


@dataclass(frozen=True)
class LATE(Target):
    """E[gamma(x)] / E[pi(x)]: the effect of z on y over its effect on t, each averaged over the features.

    With t and z of 0 and 1 and no defiers it is the average effect of t among compliers, those whom z moves (Imbens and
    Angrist 1994; with features Froelich 2007). With another z it is a weighted average of effects, with weights pi(x).
    Outcome per unit of t.
    """

    label: ClassVar[str] = "late"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return (f"LATE {_treatment(structure, 'LATE')}",)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return torch.stack(_slopes(structure, theta), -1)

    def combine(self, averages: Tensor) -> Tensor:
        return averages[:1] / averages[1:]


@dataclass(frozen=True)
class IVEffect(Target):
    """E[gamma(x) / pi(x)]: the effect of the instrumented treatment at each x, averaged over the features.

    It exists where the instrument moves the treatment at every x: a DeepregWarning counts rows where pi(x) is near 0,
    and then LATE is the one to report. Outcome per unit of t.
    """

    label: ClassVar[str] = "iv_effect"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return (f"E[effect of {_treatment(structure, 'IVEffect')} at x]",)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        gamma, pi = _slopes(structure, theta)
        warn_near_zero("IVEffect", "the first stage pi(x)", pi, NEAR, "Use LATE, the ratio of averages.")
        return (gamma / pi)[..., None]
