"""Pricing: the price at which each row's profit is greatest, by the implicit function theorem."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import DeepregWarning, OptionError
from ..structure import Structure
from ..units import Units
from . import setting
from .average import shown
from .base import Scenario, Target
from .demand import price_range

NODES = 17  # Chebyshev points between which the regressors are interpolated
GRID = 33  # prices among which the search begins
Profits = Callable[[Tensor], Tensor]  # of a price for each row
OFF = 0.377  # a place that is no Chebyshev point, at which the interpolation is checked


class Curves(NamedTuple):
    """The structural regressors of each row as functions of one price, by Chebyshev polynomials."""

    coefficients: tuple[Tensor, ...]  # (..., K) each
    lo: float
    hi: float

    @classmethod
    def through(cls, values: list[Tensor], lo: float, hi: float) -> "Curves":
        """From the regressors at prices(lo, hi)."""
        k, j = torch.arange(NODES).double()[:, None], torch.arange(NODES).double()[None, :]
        turn = torch.cos(torch.pi * k * (j + 0.5) / NODES) * (2 / NODES)  # (polynomial, price)
        turn[0] /= 2
        return cls(tuple((torch.stack(values, -1) @ turn.to(values[0]).T).unbind(-1)), lo, hi)

    def at(self, price: Tensor) -> Tensor:
        """Regressors at a price for each row; (...) -> (..., K)."""
        s = ((2 * price - self.lo - self.hi) / (self.hi - self.lo))[..., None]
        before, now = torch.ones_like(s), s
        total = self.coefficients[0] + self.coefficients[1] * s
        for one in self.coefficients[2:]:
            before, now = now, 2 * s * now - before
            total = total + one * now
        return total


def prices(lo: float, hi: float) -> list[float]:
    """The Chebyshev points, and one more to check with."""
    place = np.append(np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES), OFF)
    return [float(one) for one in lo + (hi - lo) * (1 + place) / 2]


@dataclass(frozen=True)
class OptimalPrice(Target):
    """The price p in [lo, hi] that maximises (p - cost) * mean(p) row by row: its average, and that of the profit.

    The optimum solves the first-order condition of each row and is a smooth function of theta(x) there (Farrell, Liang
    and Misra 2025, section 4); `cost` of a unit is as in `Profit`. Where profit is greatest at lo or hi the price does
    not respond to theta: such rows are counted in a DeepregWarning, and with more than half of them it is an
    OptionError. Raises OptionError also for families with several means, and where the regressors are no smooth
    functions of the price between lo and hi.

    >>> from deepreg.targets import OptimalPrice
    >>> OptimalPrice("price", cost=2.0, lo=1.0, hi=20.0)
    OptimalPrice(name='price', cost=2.0, lo=1.0, hi=20.0)
    """

    name: str
    cost: Any
    lo: float
    hi: float
    label: ClassVar[str] = "optimal_price"
    example: ClassVar[str] = "OptimalPrice('price', cost=2, lo=1, hi=20)"

    def bind(self, design: Design) -> "OptimalPrice":
        lo, hi = price_range("OptimalPrice", self.name, self.lo, self.hi, design)
        return replace(self, cost=setting.bound("OptimalPrice(cost=)", self.cost, design), lo=lo, hi=hi)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        if structure.family.labels:
            raise OptionError(
                f"OptimalPrice needs one mean, but family {structure.family.name!r} has several: "
                f"{', '.join(structure.family.labels)}. Fit whether one of them was chosen, with family='logit'."
            )
        which = f"{self.name}, cost {setting.called(self.cost)}"
        return f"Optimal {which}", f"Profit at optimal {which}"

    def observed(self, design: Design) -> bool:
        return len(design.variables) > 1 or setting.moves(self.cost, design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple({self.name: price} for price in prices(self.lo, self.hi))

    def numbers(self, design: Design, frame: pd.DataFrame) -> np.ndarray:
        return setting.numeric("OptimalPrice(cost=)", self.cost, frame)[:, None]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        *nodes, off, numbers = scenarios
        curves = Curves.through([one.d for one in nodes], self.lo, self.hi)
        self._check_smooth(curves, off.d)
        cost = numbers.d[..., 0]

        def profit(price: Tensor, theta: Tensor) -> Tensor:
            at = u._replace(d=curves.at(price))
            return (price - cost) * structure.mean(at, theta)[..., 0]

        known = theta.detach()
        start, inside = self._search(lambda price: profit(price, known), known[..., 0])
        self._check_inside(inside)
        slope, bend = _slopes(lambda at: profit(at, theta), start)
        step = torch.where(inside, slope / torch.where(inside, bend, -1.0), 0.0)  # of no length, but with a gradient
        optimum = start - step
        return torch.stack([optimum, profit(optimum, theta)], -1)

    def _search(self, profit: Profits, like: Tensor) -> tuple[Tensor, Tensor]:
        """The best price of each row (...), and whether it lies between the bounds."""
        grid = torch.linspace(self.lo, self.hi, GRID, dtype=like.dtype, device=like.device)
        with torch.no_grad():
            best = torch.stack([profit(one + 0 * like) for one in grid]).argmax(0)  # (...)
        low, high, price = grid[(best - 1).clamp_min(0)], grid[(best + 1).clamp_max(GRID - 1)], grid[best]
        slope, bend = (one.detach() for one in _slopes(profit, price))
        inside = ~((best == 0) & (slope <= 0)) & ~((best == GRID - 1) & (slope >= 0))
        for _ in range(100):
            low, high = torch.where(slope > 0, price, low), torch.where(slope > 0, high, price)
            newton = price - slope / bend
            step = torch.where((newton >= low) & (newton <= high) & (bend < 0), newton, (low + high) / 2) - price
            price = price + torch.where(inside, step, 0.0)
            slope, bend = (one.detach() for one in _slopes(profit, price))
            if bool(((step.abs() < 1e-9 * (self.hi - self.lo)) | ~inside).all()):
                break
        return price, inside & (bend < 0)

    def _check_smooth(self, curves: Curves, exact: Tensor) -> None:
        price = torch.tensor(prices(self.lo, self.hi)[-1]).to(exact)
        gap = (curves.at(price.expand(exact.shape[:-1])) - exact).abs().amax()
        if float(gap) > 1e-6 * (1 + float(exact.abs().amax())):
            raise OptionError(
                f"OptimalPrice({self.name!r}, lo={shown(self.lo)}, hi={shown(self.hi)}): the regressors are no smooth "
                f"functions of {self.name} between these prices, so the optimum is none of theta; narrow lo and hi, or "
                f"compare prices with targets.Profit({self.name!r}, cost=..., at=...)."
            )

    def _check_inside(self, inside: Tensor) -> None:
        share = 1 - float(inside.double().mean())
        if not share:
            return
        words = (
            f"OptimalPrice({self.name!r}, lo={shown(self.lo)}, hi={shown(self.hi)}): profit is greatest at a bound in "
            f"{share:.1%} of the rows"
        )
        if share > 0.5:
            raise OptionError(
                f"{words}, so there is no optimum to speak of. Widen lo and hi; if that does not help, demand does not "
                f"fall with {self.name} there: see cate()."
            )
        warnings.warn(
            f"{words}; there the price is taken as the bound, whatever theta is, and errors are too small. Widen lo "
            "and hi.",
            DeepregWarning,
            stacklevel=2,
        )


def _slopes(profit: Profits, price: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivative of each row's profit in its price; the first can be differentiated by theta."""
    price = price.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(profit(price).sum(), price, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), price, retain_graph=True)
    return slope, bend
