"""Predictions of the mean outcome, with errors where there are valid ones."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from .errors import NotAvailable
from .families import Family
from .level import check_alpha
from .units import Units


@dataclass(frozen=True, eq=False)
class Prediction:
    """E[y | d, x] for each row, under statsmodels' names.

    With constant coefficients every row has a standard error (delta method) and an interval, that of the index turned
    into means as in statsmodels. With coefficients that are functions, the error of a single row's function has no
    normal law to build an interval on, so `se_mean` and `conf_int` raise NotAvailable; averages have errors, see
    `Results.estimate`.
    """

    index: pd.Index
    mean: np.ndarray  # (n,)
    slope: np.ndarray | None = None  # (n,) derivative of the mean in the index
    error: np.ndarray | None = None  # (n,) standard error of the index
    bounds: Family | None = None
    linear: np.ndarray | None = None  # (n,) the index

    @property
    def predicted_mean(self) -> pd.Series:
        """E[y | d, x]; (n,)."""
        return pd.Series(self.mean, self.index, name="mean")

    @property
    def se_mean(self) -> pd.Series:
        """Standard errors of the means; (n,). Raises NotAvailable where coefficients vary."""
        slope, error, _ = self._known()
        return pd.Series(np.abs(slope) * error, self.index, name="mean_se")

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of level 1 - alpha for the means, columns lower and upper; NotAvailable where coefficients vary."""
        alpha = check_alpha(alpha)
        _, error, linear = self._known()
        width = stats.norm.isf(alpha / 2) * error
        assert self.bounds is not None
        ends = np.stack([mean_at(self.bounds, linear - width), mean_at(self.bounds, linear + width)], 1)
        return pd.DataFrame(np.sort(ends, 1), self.index, ["lower", "upper"])

    def summary_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """Columns mean, mean_se, mean_ci_lower and mean_ci_upper; the mean alone where coefficients vary."""
        if self.error is None:
            return self.predicted_mean.to_frame()
        ends = self.conf_int(alpha)
        return pd.DataFrame({"mean": self.mean, "mean_se": self.se_mean, "mean_ci_lower": ends.lower,
                             "mean_ci_upper": ends.upper}, self.index)  # fmt: skip

    def _known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.slope is None or self.error is None or self.linear is None:
            raise NotAvailable(
                "A single row's prediction has no valid standard error where coefficients are functions of features. "
                "Averages have: estimate('ate'), estimate('ame'), or by() for averages within groups."
            )
        return self.slope, self.error, self.linear


def mean_at(family: Family, index: np.ndarray) -> np.ndarray:
    """The mean outcome at values of the linear index; (n,) -> (n,)."""
    return _mean(family, torch.from_numpy(index)).numpy()


def _mean(family: Family, index: Tensor) -> Tensor:
    theta = torch.ones(len(index), 1 + len(family.extra), dtype=index.dtype)
    return family.mean(Units(index, index[:, None], torch.ones_like(index)), theta)


def with_errors(family: Family, u: Units, theta: Tensor, cov: np.ndarray, index: pd.Index) -> Prediction:
    """Predictions at constant theta (P,) with covariance (P, P) of theta, for units with rows labelled by `index`."""
    k = u.d.shape[1]
    d = u.d.cpu()
    linear = (d @ theta[:k].cpu()).requires_grad_(True)
    with torch.enable_grad():
        mean = _mean(family, linear)
        (slope,) = torch.autograd.grad(mean.sum(), linear)
    variance = ((d @ torch.from_numpy(cov[:k, :k])) * d).sum(1)
    return Prediction(
        index, mean.detach().numpy(), slope.numpy(), variance.sqrt().numpy(), family, linear.detach().numpy()
    )
