"""Track: the loss of constant coefficients while they were fitted, in sample and out of it."""

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from .. import plots
from ..errors import OptionError

if TYPE_CHECKING:
    from ..plots import Axes


class Track(NamedTuple):
    """Mean losses after some of the steps, weighted as the rows are."""

    step: Tensor  # (T,) long
    train: Tensor  # (T,)
    holdout: Tensor  # (T,), NaN without such rows

    def frame(self) -> pd.DataFrame:
        """Columns "in sample" and "out of sample", a row for each step."""
        columns = {"in sample": self.train.tolist(), "out of sample": self.holdout.tolist()}
        return pd.DataFrame(columns, index=pd.Index(self.step.tolist(), name="step"))

    def plot(self, after: int = 0, *, ax: "Axes | None" = None) -> "Axes":
        """The curves from step `after` on, whose first steps would hide the others. Needs matplotlib.

        Raises OptionError where no step is left.
        """
        shown = self.step >= after
        if not bool(shown.any()):
            raise OptionError(f"plot(after={after}) leaves no step: the last one is {int(self.step[-1])}.")
        step, train, holdout = (one[shown].numpy() for one in self)
        return plots.losses(train[:, None], holdout[:, None], ax, at=step, names=("in sample", "out of sample"))

    def then(self, later: "Track") -> "Track":
        """This and, counted on from its last step, what a fit that started from there did."""
        joined = later._replace(step=later.step + self.step[-1])
        return Track(*(torch.cat([mine, theirs[1:]]) for mine, theirs in zip(self, joined, strict=True)))

    def every(self, track: int) -> "Track":
        """One in so many steps, the first and the last among them."""
        kept = (self.step % track == 0) | (self.step == self.step[-1])
        return Track(*(one[kept] for one in self))
