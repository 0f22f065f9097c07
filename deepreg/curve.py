"""Curve: the functions of one variable that something is regressed on, and where the result is shown."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from .errors import DataError, OptionError
from .sampling import Sampling
from .variables import FEW


class Curve(NamedTuple):
    """Functions of a variable at its values and at the points where they are shown."""

    columns: np.ndarray  # (n, k)
    at: np.ndarray  # (m, k)
    points: pd.Index  # (m,) values of the variable


def is_smooth(values: pd.Series) -> bool:
    """Whether a variable is a number with more values than there can be levels."""
    number = pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)
    return bool(number) and values.nunique() > FEW


def indicators(values: pd.Series, cluster: Tensor) -> Curve:
    """An indicator of each level; DataError where one has a single row, or a single cluster of (n, 0|1|2)."""
    levels = pd.Categorical(values).remove_unused_categories()
    codes = np.asarray(levels.codes)
    for j, label in enumerate(levels.categories):
        mine = codes == j
        for what, count in [("row", mine.sum()), *(("cluster", len(code[mine].unique())) for code in cluster.T)]:
            if count < 2:
                raise DataError(
                    f"The level {label!r} has a single {what}, so its average has no error; merge it with another."
                )
    eye = np.eye(len(levels.categories))
    return Curve(eye[codes], eye, pd.Index(levels.categories))


def smooth(values: pd.Series, knots: int, points: Sequence[float] | None = None) -> Curve:
    """Natural cubic splines that are 1 at one knot and 0 at the others, and straight lines beyond the outer knots.

    Knots lie at even ranks from the 5th to the 95th percentile (as in Harrell 2015, section 2.4.6), points by default
    at 50 even values from the 1st to the 99th. Raises OptionError for fewer than three knots, and for points outside
    of the values.
    """
    if isinstance(knots, bool) or not isinstance(knots, int | np.integer) or knots < 3:
        raise OptionError(f"knots={knots!r}: give a whole number, at least 3.")
    v = values.to_numpy(np.float64)
    ranks = np.linspace(0.05, 0.95, int(knots))
    place = np.unique(np.quantile(v, ranks))
    if len(place) < knots:  # many rows share a value
        place = np.quantile(np.unique(v), ranks)
    low, high = np.quantile(v, [0.01, 0.99]) if np.ptp(np.quantile(v, [0.01, 0.99])) else (v.min(), v.max())
    shown = np.linspace(low, high, 50) if points is None else np.asarray(points, dtype=np.float64)
    if shown.ndim != 1 or not len(shown) or not ((shown >= v.min()) & (shown <= v.max())).all():
        raise OptionError(
            f"points={points!r}: give numbers from {v.min():g} to {v.max():g}, between which the values lie."
        )
    spline = CubicSpline(place, np.eye(len(place)), bc_type="natural")

    def columns(at: np.ndarray) -> np.ndarray:
        inside = at.clip(place[0], place[-1])
        return np.asarray(spline(inside) + (at - inside)[:, None] * spline(inside, 1))

    return Curve(columns(v), columns(shown), pd.Index(shown))


def matched(given: Any, rows: pd.Index | None, n: int, argument: str, noun: str = "label") -> pd.Series:
    """A value for each of the n rows used, none missing; a Series is matched by its index with the labels of the rows.

    Raises OptionError naming the argument.
    """
    if isinstance(given, pd.Series) and rows is not None and not given.index.equals(rows):
        if not given.index.is_unique or not rows.isin(given.index).all():
            raise OptionError(
                f"The index of {argument} does not name every row used once; give an array with one {noun} for "
                "each row used, in order, or a Series on the index of the data."
            )
        given = given.loc[rows]
    labels = pd.Series(given.array if isinstance(given, pd.Series) else given)
    if len(labels) != n:
        raise OptionError(f"{argument} has {len(labels)} {noun}s, but the fit used {n} rows.")
    if labels.isna().any():
        raise OptionError(
            f"{argument} has {int(labels.isna().sum())} missing {noun}s; fill them"
            f"{' or give them a group' if noun == 'label' else ''}."
        )
    return labels


class Shared(NamedTuple):
    """What constant columns of theta, which all rows share, add to the influence values: -mean(pull) moved."""

    pull: Tensor  # (R, n, q, C) of each row, the derivative of its value in the constants
    moved: Tensor  # (R, n, C) minus the influence values of the constants

    def select(self, pick: Sequence[int]) -> "Shared":
        """For some of the estimates."""
        return self._replace(pull=self.pull[:, :, list(pick)])

    def linear(self, turn: Tensor) -> "Shared":
        """For linear combinations turn (r, q) of the estimates."""
        return self._replace(pull=torch.einsum("rq,mnqc->mnrc", turn.to(self.pull), self.pull))

    def on(self, columns: Tensor) -> Tensor:
        """The same of averages with weights (n, k) in the place of means; (R, n, q, k)."""
        return -torch.einsum("mnqc,nk,mic->miqk", self.pull, columns, self.moved)


def enough(sampling: Sampling, columns: int) -> None:
    """Clustered errors of k coefficients need more than k clusters."""
    if sampling.kind != "cluster":
        return
    least = min(int(code.max()) + 1 for code in sampling.cluster.unbind(1))
    if least <= columns:
        raise OptionError(
            f"The curve has {columns} coefficients, but there are {least} clusters, which is too few for their "
            "errors; use fewer knots=, or fewer levels."
        )


def project(
    psi: Tensor, weight: Tensor, columns: np.ndarray, names: Sequence[str], shared: Shared | None = None
) -> Tensor:
    """Influence values of the coefficients of psi (R, n, q) on columns (n, k); (R, n, q, k). See Estimates.project.

    Of psi with constant columns of theta behind it, what they add is taken out of psi first, and comes in again with
    what the coefficients, not the means, owe to the constants.
    """
    p = torch.as_tensor(columns, device=psi.device)
    share = (weight / weight.sum())[:, None]
    size = (p**2 * share).sum(0).sqrt()
    gram = p.T @ (p * share) / size.outer(size)
    if not bool(gram.isfinite().all()) or float(torch.linalg.eigvalsh(gram)[0]) < 1e-10:
        raise OptionError(f"The columns {', '.join(names)} are collinear, or one of them is 0; leave some out.")
    turn = p @ (torch.linalg.inv(gram) / size.outer(size))  # (n, k)
    if shared is not None:
        psi = psi - shared.on(share)[..., 0]
    value = turn.T @ (psi * share)  # (R, k, q)
    rest = psi - p @ value
    found = value.mT[:, None] + rest[..., None] * turn[:, None, :]
    return found if shared is None else found + shared.on(turn * share)
