"""The law of the outcome given treatment and features: tail probabilities, quantiles and the variance, averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from . import setting
from .average import ATE, shown
from .base import Scenario, Target
from .setting import Settings


@dataclass(frozen=True)
class TailProbability(Target):
    """E[P(y > cut | t, x)] for one or several cuts: a probability, with t as observed, or as set by `at`.

    `at` maps variables to settings as in `Contrast`, for example at={"t": 1}. The probability is that of the family's
    law, so the law has to be right, and not the mean alone. Raises NotAvailable for families that do not say it.

    >>> from deepreg.targets import TailProbability
    >>> TailProbability([10, 20], at={"t": 1}).cut
    [10, 20]
    """

    cut: Any
    at: Mapping[str, object] | Settings = ()
    label: ClassVar[str] = "tail_probability"
    example: ClassVar[str] = "TailProbability(10)"

    def bind(self, design: Design) -> "TailProbability":
        return replace(
            self, cut=_numbers("TailProbability(cut=)", self.cut), at=_bound("TailProbability", self.at, design)
        )

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"P({design.outcome} > {shown(cut)}){_where(self.at)}" for cut in self.cut)

    def observed(self, design: Design) -> bool:
        return setting.moves_any(tuple(self.at), design)  # type: ignore[arg-type]

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (setting.edit(tuple(self.at), design),)  # type: ignore[arg-type]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here = theta[..., 0].detach()
        below = [structure.family.cdf(scenarios[0], theta, torch.full_like(here, cut)) for cut in self.cut]
        return 1 - torch.stack(below, -1)


@dataclass(frozen=True)
class ConditionalVariance(Target):
    """E[Var(y | t, x)]: what treatment and features leave unexplained. Squared outcome units.

    `at` maps variables to settings as in `Contrast`; variables that it leaves out stay as observed. Raises NotAvailable
    for families that do not say the variance.

    >>> from deepreg.targets import ConditionalVariance
    >>> ConditionalVariance(at={"t": 1}).at
    {'t': 1}
    """

    at: Mapping[str, object] | Settings = ()
    label: ClassVar[str] = "conditional_variance"

    def bind(self, design: Design) -> "ConditionalVariance":
        return replace(self, at=_bound("ConditionalVariance", self.at, design))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return (f"Conditional variance of {design.outcome}{_where(self.at)}",)

    def observed(self, design: Design) -> bool:
        return setting.moves_any(tuple(self.at), design)  # type: ignore[arg-type]

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (setting.edit(tuple(self.at), design),)  # type: ignore[arg-type]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return structure.family.variance(scenarios[0], theta)[..., None]


@dataclass(frozen=True)
class QuantileEffect(ATE):
    """E[Q(q | t = hi, x) - Q(q | t = lo, x)], Q the quantile of y given t and x: the median unless q is given.

    The average over x of what moves the quantile of people alike in x; it is not the change of the quantile of the
    whole population. hi and lo are as in `ATE`; q is a number between 0 and 1, or several. The quantile is that of
    the family's law; raises NotAvailable for families that do not say it, OptionError for another q.

    >>> from deepreg.targets import QuantileEffect
    >>> QuantileEffect("t", q=(0.1, 0.9)).q
    (0.1, 0.9)
    """

    q: Any = 0.5
    label: ClassVar[str] = "quantile_effect"
    symbol: ClassVar[str] = "QuantileEffect"

    def bind(self, design: Design) -> "QuantileEffect":
        q = _numbers("QuantileEffect(q=)", self.q)
        if not all(0 < one < 1 for one in q):
            raise OptionError(f"QuantileEffect(q={self.q!r}): give numbers between 0 and 1, for example q=0.5.")
        return replace(self, q=q)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        pairs = self.pairs(design)
        return tuple(f"Q{shown(q)} {self.name}: {shown(hi)} vs {shown(lo)}" for q in self.q for hi, lo in pairs)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        here, quantile = theta[..., 0].detach(), structure.family.quantile
        each = [[quantile(s, theta, torch.full_like(here, q)) for s in scenarios] for q in self.q]
        changes = [hi - lo for of in each for hi, lo in zip(of[::2], of[1::2], strict=True)]
        return torch.stack(changes, -1)


def _numbers(label: str, given: object) -> tuple[float, ...]:
    several = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str)
    try:
        found = tuple(float(one) for one in (given if several else [given]))  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise OptionError(f"{label} got {given!r}; give a number, or a list of them.") from error
    if not found or not np.isfinite(found).all() or len(set(found)) < len(found):
        raise OptionError(f"{label} got {given!r}; give a finite number, or a list of different ones.")
    return found


def _bound(label: str, at: Mapping[str, object] | Settings, design: Design) -> Settings:
    return setting.bound_all(f"{label}(at=)", at, design) if at else ()


def _where(at: Any) -> str:
    return f" at {setting.text(at)}" if at else ""
