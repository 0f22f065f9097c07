"""Predictions of the mean outcome, with errors where there are valid ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from .design import Design
from .errors import NotAvailable
from .families import Family
from .level import check_alpha
from .structure import Structure
from .units import Units


def placed(design: Design, values: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Values (n, q) of the units on the caller's index, or by the ids of packed units; NaN for dropped ones."""
    inside = design.packing
    index, rows = (design.index, design.rows) if inside is None else (inside.ids, inside.used)
    full = np.full((len(index), len(names)), np.nan)
    full[rows] = values
    return pd.DataFrame(full, index=index, columns=list(names))


def means(design: Design, structure: Structure, theta: Tensor) -> pd.Series | pd.DataFrame:
    """E[y | d, x] at theta (n, P) on the caller's index; of alternatives, the probability of each row's."""
    value = structure.mean(design.units, theta)
    if design.packing is not None:
        chance = np.full(len(design.index), np.nan)
        chance[design.rows] = design.packing.unpack(design.frame, value)
        return pd.Series(chance, design.index, name=design.outcome)
    labels = structure.family.labels
    frame = placed(design, value.numpy(), labels or [design.outcome])
    return frame if labels else frame.iloc[:, 0]


class Index(NamedTuple):
    """The linear index of each row, where the mean is a function of nothing else."""

    family: Family
    value: np.ndarray  # (n,)
    error: np.ndarray  # (n,)


@dataclass(frozen=True, eq=False)
class Prediction:
    """E[y | d, x] for each row, under statsmodels' names.

    With constant coefficients every row has a standard error (delta method) and an interval: that of the index turned
    into means as in statsmodels, and of the mean itself where a family has ancillary parameters. With coefficients that
    are functions, the error of a single row's function has no normal law to build an interval on, so `se_mean` and
    `conf_int` raise NotAvailable; averages have errors, see `Results.estimate`. Of choices, the mean is the probability
    of each row's alternative.
    """

    index: pd.Index
    mean: np.ndarray  # (n,)
    error: np.ndarray | None = None  # (n,) standard error of the mean
    linear: Index | None = None

    @property
    def predicted_mean(self) -> pd.Series:
        """E[y | d, x]; (n,)."""
        return pd.Series(self.mean, self.index, name="mean")

    @property
    def se_mean(self) -> pd.Series:
        """Standard errors of the means; (n,). Raises NotAvailable where coefficients vary."""
        return pd.Series(self._known(), self.index, name="mean_se")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of level 1 - alpha for the means, columns lower and upper; NotAvailable where coefficients vary."""
        error, width = self._known(), stats.norm.isf(check_alpha(alpha) / 2)
        if self.linear is None:
            ends = np.stack([self.mean - width * error, self.mean + width * error], 1)
        else:
            family, value, error = self.linear
            ends = np.stack([mean_at(family, value - width * error), mean_at(family, value + width * error)], 1)
        return pd.DataFrame(np.sort(ends, 1), self.index, ["lower", "upper"])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Columns mean, mean_se, mean_ci_lower and mean_ci_upper; the mean alone where coefficients vary."""
        if self.error is None:
            return self.predicted_mean.to_frame()
        ends = self.conf_int(alpha)
        return pd.DataFrame({"mean": self.mean, "mean_se": self.se_mean, "mean_ci_lower": ends.lower,
                             "mean_ci_upper": ends.upper}, self.index)  # fmt: skip

    def _known(self) -> np.ndarray:
        if self.error is None:
            raise NotAvailable(
                "A single row's prediction has no valid standard error where coefficients are functions of features. "
                "Averages have: estimate('ate'), estimate('ame'), or by() for averages within groups."
            )
        return self.error


def _of_alternatives(design: Design, family: Family, theta: Tensor, cov: np.ndarray | None) -> Prediction:
    """The probability of each row's alternative, by the delta method where theta is constant."""
    assert design.packing is not None
    u, at = Units(*(part.cpu() for part in design.units)), theta.cpu().clone().requires_grad_(True)
    index = design.index[design.rows]
    with torch.enable_grad():
        chance = family.mean(u, at)  # (n, J)
        mean = design.packing.unpack(design.frame, chance.detach()).numpy()
        if cov is None:
            return Prediction(index, mean)
        each = [torch.autograd.grad(one.sum(), at, retain_graph=True)[0] for one in chance.unbind(-1)]
    gradient = torch.stack(each, 1)  # (n, J, P)
    variance = ((gradient @ torch.from_numpy(cov)) * gradient).sum(-1)
    return Prediction(index, mean, design.packing.unpack(design.frame, variance).clamp_min(0).sqrt().numpy())


def mean_at(family: Family, index: np.ndarray) -> np.ndarray:
    """The mean outcome at values of the linear index, for families without ancillary parameters; (n,) -> (n,)."""
    value = torch.from_numpy(index)
    u = Units(value, value[:, None], torch.ones_like(value))
    return family.mean(u, torch.ones_like(u.d)).numpy()


def predicted(design: Design, family: Family, theta: Tensor, cov: np.ndarray | None) -> Prediction:
    """Predictions at theta (n, P) for the rows used, of choices the probability of each row's alternative; cov (P, P)
    is that of a constant theta.

    Raises NotAvailable for another family with several means.
    """
    if design.packing is not None:
        return _of_alternatives(design, family, theta, cov)
    u, index = design.units, design.labels
    if family.labels:
        raise NotAvailable(
            f"get_prediction() is about one mean, and family {family.name!r} has {len(family.labels)}: "
            f"{', '.join(family.labels)}. Use predict(), or estimate('mean') for averages with errors."
        )
    u, at = u.each(Tensor.cpu), theta.cpu().clone().requires_grad_(True)
    with torch.enable_grad():
        mean = family.mean(u, at)
        (gradient,) = torch.autograd.grad(mean.sum(), at)
    if cov is None:
        return Prediction(index, mean.detach().numpy())
    spread = torch.from_numpy(cov)
    error = ((gradient @ spread) * gradient).sum(1).sqrt().numpy()
    linear = None
    if at.shape[1] == u.d.shape[1]:
        variance = ((u.d @ spread) * u.d).sum(1)
        linear = Index(family, ((u.d * at.detach()).sum(1) + u.offset).numpy(), variance.sqrt().numpy())
    return Prediction(index, mean.detach().numpy(), error, linear)
