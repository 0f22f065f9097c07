"""Curve: the functions of one variable that something is regressed on, and where the result is shown."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline
from torch import Tensor

from .design import FEW
from .errors import DataError, OptionError


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
