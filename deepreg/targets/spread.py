"""Spread: how much an effect varies over the population, and in which share of it the effect is above a value."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from .average import Coefficient
from .base import Scenario, Target


@dataclass(frozen=True)
class _Of(Target):
    """Of the values that another target averages."""

    of: str | Target | None = None

    @property
    def inner(self) -> Target:
        """The target whose values are looked at: a coefficient by its name, all of them without."""
        return self.of if isinstance(self.of, Target) else Coefficient(self.of)

    def observed(self, design: Design) -> bool:
        return self.inner.observed(design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return self.inner.scenarios(design)

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        return self.inner.numbers(design, frame)

    def weight(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        return self.inner.weight(design, frame)

    def residual(self, design: Design, frame: pd.DataFrame) -> np.ndarray | None:
        return self.inner.residual(design, frame)

    def _bound(self, design: Design) -> Target:
        if self.of is not None and not isinstance(self.of, str | Target):
            raise OptionError(f"{type(self).__name__}({self.of!r}): give the name of a coefficient, or a target.")
        inner = self.inner.bind(design)
        if not inner.averaged:
            raise OptionError(
                f"{type(self).__name__}({inner!r}): it is a function of averages, and so has no values of rows. Give a "
                "target that is an average, such as ATE."
            )
        return inner


@dataclass(frozen=True)
class Spread(_Of):
    """Var(theta_j(x)), or the variance of the values of a target such as ATE, over the population: heterogeneity.

    E[b^2] - E[b]^2 by the delta method; all coefficients unless one, or a target, is named. Its square root is the
    standard deviation: `.map(torch.sqrt, ["sd"])`. Noise in the estimated functions is corrected for, so that an
    estimate can be below 0. At a variance of 0 its normal approximation fails, and with it interval and test: it is no
    test of whether there is heterogeneity. Raises OptionError for an unknown coefficient.

    >>> from deepreg.targets import ATE, Spread
    >>> Spread(ATE("t")).of
    ATE(name='t', hi=None, lo=None)
    """

    label: ClassVar[str] = "spread"

    def bind(self, design: Design) -> "Spread":
        return replace(self, of=self._bound(design))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"Var({name})" for name in self.inner.names(structure, design))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        value = self.inner.h(structure, theta, u, *scenarios)
        return torch.cat([value, value**2], -1)

    def combine(self, averages: Tensor) -> Tensor:
        mean, square = averages.chunk(2)
        return square - mean**2


@dataclass(frozen=True)
class ShareAbove(_Of):
    """The share of units whose effect b is above a cut, smoothed: E[sigmoid((b - cut) / bandwidth)].

    b is a coefficient theta_j(x), by its name, or a value of a target such as ATE. The share itself is no smooth
    function of theta and has no such estimate; this one counts units within about two bandwidths of the cut in part.
    A smaller bandwidth is nearer to the share and has larger errors: a tenth of the standard deviation of cate() is a
    start, and several should agree. Raises OptionError for an unknown coefficient, or without a bandwidth above 0.

    >>> from deepreg.targets import ShareAbove
    >>> ShareAbove("t", cut=1.0, bandwidth=0.2).cut
    1.0
    """

    cut: float = 0.0
    bandwidth: Any = None  # in units of the effect
    label: ClassVar[str] = "share_above"
    example: ClassVar[str] = "ShareAbove('t', cut=0, bandwidth=0.1)"

    def bind(self, design: Design) -> "ShareAbove":
        cut, width = (
            np.float64("nan") if one is None or isinstance(one, str) else one for one in (self.cut, self.bandwidth)
        )
        if np.ndim(cut) or np.ndim(width) or not np.isfinite(cut) or not 0 < width < np.inf:
            raise OptionError(
                f"ShareAbove({self.of!r}, cut={self.cut!r}, bandwidth={self.bandwidth!r}): give a number as cut=, and "
                "one above 0 as bandwidth=, in units of the effect; a tenth of the standard deviation of cate() is a "
                "start."
            )
        return replace(self, of=self._bound(design), cut=float(cut), bandwidth=float(width))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"Share with {name} > {self.cut:g}" for name in self.inner.names(structure, design))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        value = self.inner.h(structure, theta, u, *scenarios)
        return torch.sigmoid((value - self.cut) / self.bandwidth)
