"""The law of when rows were last seen, given d and x: what the expected Hessian of censored durations depends on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .errors import DataError
from .families import Exponential
from .splits import Splits
from .structure import Structure
from .theta import Options, fit
from .units import NOTHING, Units


@dataclass(frozen=True)
class Censoring:
    """Proportional hazards: P(still seen at t | d, x) = exp(-H(t) exp(-d'gamma(x))), and 0 after the last row.

    H takes any form, so that rows may all have been last seen at the end of a study.
    """

    times: Tensor  # (m,) observed, ascending
    hazard: Tensor  # (m,) H at the times
    gamma: Tensor  # (R, n, K), by the group that held the row out

    def seen(self, d: Tensor, rows: slice) -> Callable[[Tensor], Tensor]:
        """The probability that some rows, with regressors d (R, b, Q, K), are still seen at times (..., R, b, Q)."""
        rate = (-(d * self.gamma[:, rows, None, :]).sum(-1)).exp()
        return lambda time: (-self.until(time) * rate).exp() * (time <= self.times[-1])

    def until(self, time: Tensor) -> Tensor:
        """H at any times, of any shape."""
        before = torch.searchsorted(self.times, time.contiguous(), right=True)
        return torch.nn.functional.pad(self.hazard, (1, 0))[before]


def learn(terms: tuple[str, ...], u: Units, x: Tensor, weight: Tensor, splits: Splits, options: Options) -> Censoring:
    """Fit the law to rows whose event is flipped: H by Nelson and Aalen, then H(t) as an exponential duration.

    H is a function of time alone, of which a row that is held out has decided one part in n.
    """
    time, ended = u.y.unbind(-1)
    times, place = time.unique(return_inverse=True)
    nothing = torch.zeros_like(times)
    left = nothing.index_add(0, place, weight * (1 - ended))
    leaving = nothing.index_add(0, place, weight * ended)  # an end comes first among equal times
    present = nothing.index_add(0, place, weight).flip(0).cumsum(0).flip(0) - leaving
    hazard = (left / torch.where(present > 0, present, 1.0)).cumsum(0)
    baseline = Censoring(times, hazard, u.d.new_zeros(len(splits.fold), *u.d.shape))
    flipped = u._replace(y=torch.stack([baseline.until(time), 1 - ended], -1), offset=NOTHING)
    few = replace(options, learners=("constant", "smooth"))
    try:
        gamma = fit(Structure(Exponential(censored=True), terms), flipped, x, weight, splits, few)
    except DataError:  # next to none are censored in some group: then the same hazard is as good for all
        return baseline
    return replace(baseline, gamma=gamma.held_out(x, splits))
