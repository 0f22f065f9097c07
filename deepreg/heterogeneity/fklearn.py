"""fklearn: its functions for validating effects, with its names, arguments and numbers.

They compare outcomes of treated and untreated rows and know no errors: fit for randomised treatments, and for reading
what was computed elsewhere. `rate`, `gain` and `gates` are the same ideas on orthogonal scores, with errors.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, OptionError

Effect = Callable[[pd.DataFrame, str, str], float]


def linear_effect(df: pd.DataFrame, treatment: str, outcome: str) -> float:
    """The slope of the outcome on the treatment: cov(t, y) / var(t).

    Examples
    --------
    >>> import pandas as pd
    >>> from deepreg.heterogeneity.fklearn import linear_effect
    >>> linear_effect(pd.DataFrame({"t": [0.0, 0, 1, 1], "y": [1.0, 3, 4, 6]}), "t", "y")
    3.0
    """
    t, y = df[treatment].to_numpy(np.float64), df[outcome].to_numpy(np.float64)
    both = ~(np.isnan(t) | np.isnan(y))
    t, y = t[both] - t[both].mean(), y[both]
    with np.errstate(divide="ignore", invalid="ignore"):  # a single treatment has no effect
        return float(np.divide(t @ (y - y.mean()), t @ t))


def pearson_effect(df: pd.DataFrame, treatment: str, outcome: str) -> float:
    """Pearson's correlation of treatment and outcome; it has no unit of an effect."""
    return float(df[[treatment, outcome]].corr().loc[treatment, outcome])


def spearman_effect(df: pd.DataFrame, treatment: str, outcome: str) -> float:
    """Spearman's correlation of treatment and outcome; it has no unit of an effect."""
    return float(df[[treatment, outcome]].corr(method="spearman").loc[treatment, outcome])


def logistic_coefficient_effect(df: pd.DataFrame, treatment: str, outcome: str) -> float:
    """The coefficient of the treatment in a logistic regression of an outcome of 0 and 1, without a penalty.

    Raises DataError for other outcomes, and where treatment and outcome are separated.
    """
    from statsmodels.discrete.discrete_model import Logit
    from statsmodels.tools.sm_exceptions import PerfectSeparationError, PerfectSeparationWarning

    y, t = df[outcome].to_numpy(np.float64), df[treatment].to_numpy(np.float64)
    if not np.isin(y, (0, 1)).all():
        raise DataError(f"outcome={outcome!r} has values other than 0 and 1; use linear_effect.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerfectSeparationWarning)
            fit = Logit(y, np.c_[np.ones(len(t)), t]).fit(disp=0, tol=1e-12)
    except (PerfectSeparationError, PerfectSeparationWarning, np.linalg.LinAlgError):
        raise DataError(f"{treatment!r} separates the values of {outcome!r}, so there is no coefficient.") from None
    return float(fit.params[1])


def exponential_coefficient_effect(df: pd.DataFrame, treatment: str, outcome: str) -> float:
    """a1 of the least-squares fit of a0 exp(a1 t) to the outcome: log(mean treated / mean untreated) of a binary t.

    fklearn starts at a0 = a1 = 1 in units of the outcome and can run away (-39.8 for grades, where this is 0.084); here
    the outcome is divided by its mean and the start is no effect. Raises DataError where there is no solution.
    """
    from scipy.optimize import curve_fit

    y, t = df[outcome].to_numpy(np.float64), df[treatment].to_numpy(np.float64)
    try:
        found, _ = curve_fit(lambda at, a0, a1: a0 * np.exp(a1 * at), t, y / y.mean(), p0=(1.0, 0.0))
    except RuntimeError:
        raise DataError(f"No a0 exp(a1 {treatment}) fits {outcome!r} best; use linear_effect.") from None
    return float(found[1])


def effect_by_segment(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, segments: int = 10,
    effect_fn: Effect = linear_effect,
) -> pd.Series:  # fmt: skip
    """The effect within quantile groups of the prediction, lowest first; indexed by the intervals.

    Raises OptionError where quantiles are tied.

    Examples
    --------
    >>> import pandas as pd
    >>> from deepreg.heterogeneity.fklearn import effect_by_segment
    >>> df = pd.DataFrame({"t": [0, 1] * 4, "y": [1, 2, 1, 2, 1, 4, 1, 4], "p": range(8)})
    >>> effect_by_segment(df, "t", "y", "p", segments=2).tolist()
    [1.0, 3.0]
    """
    _check(df, treatment, outcome, prediction)
    try:
        band = pd.qcut(df[prediction], q=segments)
    except ValueError as error:
        raise OptionError(
            f"prediction={prediction!r} has tied quantiles for segments={segments!r} ({error}); use fewer segments, or "
            "gates(), which keeps tied rows together."
        ) from None
    parts = {key: effect_fn(part, treatment, outcome) for key, part in df.groupby(band, observed=False)}
    index = pd.CategoricalIndex(list(parts), categories=band.cat.categories, ordered=True, name=f"{prediction}_band")
    return pd.Series(list(parts.values()), index=index)


def cumulative_effect_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> np.ndarray:  # fmt: skip
    """The effect among the rows of highest prediction, for min_rows, min_rows + n // steps, ... and all n rows.

    NaN where the top rows have a single treatment. Tied predictions keep the order of the rows. Raises OptionError for
    fewer rows than steps.

    Examples
    --------
    >>> import pandas as pd
    >>> from deepreg.heterogeneity.fklearn import cumulative_effect_curve
    >>> df = pd.DataFrame({"t": [0, 1] * 4, "y": [1, 2, 1, 2, 1, 4, 1, 4], "p": range(8)})
    >>> cumulative_effect_curve(df, "t", "y", "p", min_rows=4, steps=2).tolist()
    [3.0, 2.0]
    """
    return _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)[1]


def cumulative_gain_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> np.ndarray:  # fmt: skip
    """`cumulative_effect_curve` times the share of rows."""
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    return np.asarray(effect * rows / len(df))


def relative_cumulative_gain_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> np.ndarray:  # fmt: skip
    """`cumulative_effect_curve` less the effect of all rows, times the share of rows; its mean is called AUC."""
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    return np.asarray((effect - effect[-1]) * rows / len(df))


def effect_curves(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> pd.DataFrame:  # fmt: skip
    """The three curves beside the number and share of rows, and the gain of the same share drawn at random."""
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    share = rows / len(df)
    return pd.DataFrame({
        "samples_count": rows, "cumulative_effect_curve": effect, "samples_fraction": share,
        "cumulative_gain_curve": effect * share, "random_model_cumulative_gain_curve": share * effect[-1],
        "relative_cumulative_gain_curve": (effect - effect[-1]) * share,
    })  # fmt: skip


def area_under_the_cumulative_effect_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> float:  # fmt: skip
    """The absolute area between the cumulative effect and the effect of all rows.

    Absolute as in fklearn, so that a ranking and its reverse score alike; `rate` has a sign.
    """
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    return _area(effect - effect[-1], rows, len(df))


def area_under_the_cumulative_gain_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> float:  # fmt: skip
    """The absolute area under `cumulative_gain_curve`, absolute as in fklearn."""
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    return _area(effect * rows / len(df), rows, len(df))


def area_under_the_relative_cumulative_gain_curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int = 30, steps: int = 100,
    effect_fn: Effect = linear_effect,
) -> float:  # fmt: skip
    """The absolute area under `relative_cumulative_gain_curve`, absolute as in fklearn: `rate`'s QINI has a sign."""
    rows, effect = _curve(df, treatment, outcome, prediction, min_rows, steps, effect_fn)
    return _area((effect - effect[-1]) * rows / len(df), rows, len(df))


def _curve(
    df: pd.DataFrame, treatment: str, outcome: str, prediction: str, min_rows: int, steps: int, effect_fn: Effect
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of rows and the effects among so many; (points,) each."""
    _check(df, treatment, outcome, prediction)
    n = len(df)
    if not 1 <= steps <= n or min_rows < 1:
        raise OptionError(
            f"steps={steps!r} and min_rows={min_rows!r} for {n} rows: give at most as many steps as rows, and 1 row or "
            "more. gain() has no such limits."
        )
    rows = np.array([*range(min_rows, n, n // steps), n])
    ordered = df.sort_values(prediction, ascending=False, kind="stable")
    return rows, np.array([effect_fn(ordered.head(k), treatment, outcome) for k in rows])


def _area(curve: np.ndarray, rows: np.ndarray, n: int) -> float:
    return abs(float(curve @ (np.diff(rows, prepend=0) / n)))


def _check(df: Any, *names: str) -> None:
    if missing := [name for name in names if name not in df.columns]:
        raise DataError(f"The data have no column {missing[0]!r}; there are {', '.join(map(repr, df.columns))}.")
