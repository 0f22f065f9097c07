"""Projection: E[. | x] by a regression on rows that a group's functions have not seen, where there is no law to use."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .families import LinearSystem
from .networks import MLP
from .splits import Splits
from .structure import Structure
from .theta import Options, fit
from .trainers import LBFGS
from .units import Units

_LEARNERS = ("smooth",)  # weights of a stack would be learned on the held-out rows


@dataclass(frozen=True)
class Spare:
    """The rows kept from each group's theta(x), and theta there: what a regression of its gradients is fitted to.

    With G groups, of which each row was held out by one in every repeat. What is learned of the spare rows is used for
    held-out rows alone, so that an error in it multiplies scores with mean zero that it does not depend on.
    """

    theta: Tensor  # (G, n, P) of each group at all rows
    x: Tensor  # (n, p)
    weight: Tensor  # (n,)
    splits: Splits

    def given_x(self, values: Tensor) -> Tensor:
        """E[values | x] at held-out rows, values being those at each group's theta; (G, n, q, P) -> (R, n, q, P)."""
        return torch.stack([self._regression(one) for one in values.unbind(2)], 2)

    def _regression(self, y: Tensor) -> Tensor:
        """Least squares of each column on smooth functions of x; (G, n, P) -> (R, n, P)."""
        kept = (self.splits.spare * self.weight)[..., None]
        middle = (y * kept).sum((0, 1)) / kept.sum((0, 1))
        size = (((y - middle) ** 2 * kept).sum((0, 1)) / kept.sum((0, 1))).sqrt()
        size = torch.where(size > 1e-12 * middle.abs(), size, 1.0)
        family = LinearSystem(tuple(map(str, range(y.shape[-1]))), (1.0,) * y.shape[-1])
        ones = torch.ones_like(self.weight)
        u = Units((y - middle) / size, ones[:, None], ones)
        options = Options(_LEARNERS, MLP(), LBFGS(), 0.0, y.device, torch.Generator().manual_seed(0))
        third, structure = self.splits.on_spare(), Structure(family, ("Intercept",))
        fitted = fit(structure, u, self.x, self.weight, third, options, own_outcome=True)
        return fitted.held_out(self.x, self.splits) * size + middle
