"""How well a fit predicts: log-likelihood and R squared, out of fold where theta varies with x."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import DataError
from .structure import Structure
from .units import Units


class Goodness(NamedTuple):
    """NaN where a family has none."""

    llf: float  # log-likelihood of the rows at theta
    llnull: float  # the same with nothing but an intercept, fitted to all rows
    rsquared: float  # of the mean

    def aic(self, parameters: int) -> float:
        """Akaike's criterion."""
        return -2 * self.llf + 2 * parameters

    def bic(self, parameters: int, n: int) -> float:
        """Schwarz's criterion."""
        return -2 * self.llf + parameters * math.log(n)


def goodness(structure: Structure, u: Units, theta: Tensor, weight: Tensor) -> Goodness:
    """At the theta (R, n, P) of the rows, held out or constant; means over the repeats. Weights are scaled to sum to n.

    R squared is 1 - sum w (y - mean)^2 / sum w (y - average)^2 with E[y | d, x] as the mean, for outcomes that are
    one number. Out of fold both can be worse than those of the intercept alone.
    """
    family, weight = structure.family, weight * (len(weight) / weight.sum())
    llf = [family.log_likelihood(u, one, weight) for one in theta]
    if u.mask.dim() > 1:  # a choice has no intercept: equal chances of all alternatives
        return Goodness(sum(llf) / len(llf), family.log_likelihood(u, 0 * theta[0], weight), float("nan"))
    alone = Structure(family, ("Intercept",))
    constant = u._replace(d=torch.ones_like(u.d[:, :1]))
    try:
        least = alone.pooled(constant, weight[None]).theta
        llnull = family.log_likelihood(constant, least.expand(len(u.d), -1), weight)
    except DataError:  # a family that needs more than an intercept
        llnull = float("nan")
    fit = sum(llf) / len(llf)
    if family.outcome != "number" or family.labels or not family.predicts:
        return Goodness(fit, llnull, float("nan"))
    average = (weight * u.y).sum() / weight.sum()
    left = torch.stack([(weight * (u.y - family.mean(u, one)) ** 2).sum() for one in theta]).mean()
    return Goodness(fit, llnull, float(1 - left / (weight * (u.y - average) ** 2).sum()))
