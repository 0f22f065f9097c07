"""Linear predictions of the effect: its slope on predicted effects, on scores or on residuals, and on covariates."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..errors import DataError
from ..estimates import Estimates
from ..report.table import Table
from ..wald import WaldTest, hotelling
from .diagnostic import Diagnostic
from .groups import Groups, gates_of
from .inputs import Sample, codes, sample, stacked
from .regression import freedom, regress


@dataclass(frozen=True, repr=False)
class Calibration(Diagnostic):
    """The average effect and the slope of scores on predicted effects, with the groups that a plot shows."""

    groups: Groups | None = None

    @property
    def title(self) -> str:
        return "Calibration of predicted effects"

    def over(self, several: "Sequence[Calibration]", estimates: Estimates) -> "Calibration":
        binned = [one.groups for one in several if one.groups is not None]
        return replace(
            self, estimates=estimates, groups=binned[0].over(binned, stacked([one.estimates for one in binned]))
        )  # fmt: skip

    @property
    def slope(self) -> Estimates:
        """The slope alone; t_test("slope = 1") says whether predictions are too far apart, or too close."""
        return self.estimates.select(["slope"])

    @property
    def calibrated(self) -> WaldTest:
        """The test that the slope is 1."""
        return self.slope.wald_test("slope = 1")

    def r_squared(self) -> float:
        """How well predictions meet the effects of the groups, 1 where they are right; see `calibration_score`."""
        assert self.groups is not None
        return self.groups.r_squared()

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        assert self.groups is not None
        notes = (f"{self.calibrated}", f"R squared of the groups: {self.r_squared():.3f}.")
        return (Table.from_frame(self.frame(alpha), notes=notes), self.groups.tables(alpha)[0])


def calibration(
    scores: object, effect: object, *, folds: object = None, groups: int | Sequence[object] = 5,
    weights: object = None, cluster: object = None, vcov: str | None = None, seed: object = 0,
) -> Calibration:  # fmt: skip
    """The best linear prediction of the effect by predicted effects: average effect and slope.

    The scores are regressed on an intercept for each fold and the predicted effect. The slope is Cov(effect, predicted)
    / Var(predicted) within folds: 1 where predictions are right on average, below 1 where they are too far apart, 0
    where they say nothing. Without intercepts of the folds, the folds' different average effects would enter it.

    Parameters
    ----------
    scores : (n,)
        Orthogonal scores; see `rate`.
    effect : (n,)
        Effects predicted out of fold, in units of the outcome.
    folds : (n,), optional
        The fold that held a row out; without it there is one intercept.
    groups, weights, cluster, vcov, seed
        As in `gates`; the groups are those of the calibration plot.

    Returns
    -------
    Calibration
        `estimates` has "average effect" and "slope"; calibrated is the test that the slope is 1.

    Raises
    ------
    DataError
        For missing values, with the number of rows, and for effects that are the same for all rows.

    References
    ----------
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93(4), definition of BLP.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import calibration
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> calibration(x + rng.normal(size=500), 2 * x).estimate.round(2).to_dict()
    {'average effect': -0.1, 'slope': 0.5}
    """
    rows = sample(scores, weights, cluster, effect=effect, folds=folds, groups=groups)
    return calibration_of(rows, rows.column(effect, "effect"), folds, groups, vcov, seed)


def calibration_of(
    rows: Sample, effect: np.ndarray, folds: object, groups: int | Sequence[object], vcov: str | None, seed: object
) -> Calibration:
    """calibration() of checked inputs."""
    binned = gates_of(rows, effect, groups, folds, vcov, seed)
    return Calibration(slopes(rows, effect, folds, vcov), groups=binned)


def slopes(rows: Sample, effect: np.ndarray, folds: object, vcov: str | None = None) -> Estimates:
    """ "average effect" and "slope" of the regression on the effect and an intercept for each fold."""
    weight = rows.weight / rows.weight.sum()
    fold = np.zeros(rows.n, dtype=np.int64) if folds is None else codes(folds, rows.n, "folds")[0]
    indicator = np.eye(int(fold.max()) + 1)[fold][:, 1:]
    within = effect - (np.bincount(fold, weight * effect) / np.bincount(fold, weight))[fold]
    if not np.ptp(effect) or (within**2).max() <= 1e-20 * (effect**2).max():
        raise DataError("effect is the same for all rows of a fold, so there is no slope; predict effects that differ.")
    columns = np.c_[np.ones(rows.n), indicator - weight @ indicator, within]
    names = ["average effect", *(f"fold {j + 2}" for j in range(indicator.shape[1])), "slope"]
    return regress(rows, columns, names, vcov).select(["average effect", "slope"])


@dataclass(frozen=True, repr=False)
class Residual(Diagnostic):
    """Coefficients of the outcome's residual on the treatment's, times effects; p-values are one-sided, as in grf."""

    @property
    def title(self) -> str:
        return "Calibration of predicted effects, by residuals"

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """coef, std err, z, P>z (one-sided) and the interval."""
        table = self.estimates.frame(alpha)
        table.insert(3, "P>z", self.pvalue_one_sided)
        return table.drop(columns="P>|z|")


def residual_calibration(
    outcome_residual: object, treatment_residual: object, effect: object, *, weights: object = None,
    cluster: object = None, vcov: str | None = None,
) -> Residual:  # fmt: skip
    """Calibration without scores: y - E[y|x] on (t - E[t|x]) times the mean effect and times the deviations from it.

    Parameters
    ----------
    outcome_residual, treatment_residual : (n,)
        y - E[y | x] and t - E[t | x], out of fold; the treatment can be continuous.
    effect : (n,)
        Effects predicted out of fold.
    weights, cluster, vcov
        As in `gates`.

    Returns
    -------
    Residual
        "mean prediction" is 1 where the average effect is right, "differential prediction" where differences are. Its
        one-sided p-value is a test for heterogeneity.

    Raises
    ------
    DataError
        For missing values, with the number of rows.

    References
    ----------
    Chernozhukov et al. (2025), Econometrica 93(4); the form, and the numbers, of grf's test_calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import residual_calibration
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=500), rng.normal(size=500)
    >>> residual_calibration((1 + x) * t + rng.normal(size=500), t, 1 + x).estimate.round(1).to_dict()
    {'mean prediction': 1.0, 'differential prediction': 1.0}
    """
    rows = sample(
        outcome_residual, weights, cluster, treatment_residual=treatment_residual, effect=effect
    )  # fmt: skip
    t, s = rows.column(treatment_residual, "treatment_residual"), rows.column(effect, "effect")
    mean = float(rows.weight @ s / rows.weight.sum())
    names = ["mean prediction", "differential prediction"]
    return Residual(regress(rows, np.c_[t * mean, t * (s - mean)], names, vcov))


@dataclass(frozen=True, repr=False)
class Projection(Diagnostic):
    """Coefficients of the effect on covariates, with the joint test of all but the intercept."""

    freedom: float = float("inf")  # degrees of freedom of the covariance of all but the intercept

    @property
    def title(self) -> str:
        return "Best linear projection of the effect"

    @property
    def test(self) -> WaldTest:
        """The joint F test that no covariate moves the effect: no heterogeneity along them."""
        kept = [name for name in self.estimates.names if name.split(": ")[-1] != "Intercept"]
        return hotelling(self.estimates.select(kept).wald("no covariate moves the effect"), self.freedom)

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        return (Table.from_frame(self.frame(alpha), notes=(f"{self.test}",)),)


def projection(
    scores: object, covariates: object, *, names: Sequence[str] | None = None, weights: object = None,
    cluster: object = None, vcov: str | None = None,
) -> Projection:  # fmt: skip
    """The best linear approximation of the effect by covariates: least squares of the scores on them.

    Parameters
    ----------
    scores : (n,) or (n, k)
        Orthogonal scores; see `rate`.
    covariates : DataFrame or (n, m)
        Numbers, without an intercept, which is added.
    names : sequence of str, optional
        Of the columns of an array.
    weights : (n,), optional
        Positive weights; times e(x) (1 - e(x)) they give the projection for the population of overlap.
    cluster, vcov
        As in `gates`.

    Returns
    -------
    Projection
        With the joint Wald test of all covariates as `test`. A robust covariance of many coefficients is noisy, and
        chi-squared tests with it reject too often, so the test is the approximate Hotelling test of Pustejovsky and
        Tipton (2018), Journal of Business & Economic Statistics 36(4): F with fewer degrees of freedom than rows.

    Raises
    ------
    DataError
        For missing values, with the number of rows.
    OptionError
        For collinear covariates.

    References
    ----------
    Semenova and Chernozhukov (2021), Econometrics Journal 24(2); grf's best_linear_projection.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import projection
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> projection(1 + x + rng.normal(size=500), x, names=["x"]).estimate.round(1).to_dict()
    {'Intercept': 0.9, 'x': 1.0}
    """
    rows = sample(scores, weights, cluster, covariates=covariates)
    columns, labels = numbers(covariates, rows.n, names)
    return projection_of(rows, columns, labels, vcov)


def projection_of(rows: Sample, columns: np.ndarray, names: Sequence[str], vcov: str | None = None) -> Projection:
    """projection() of checked inputs: columns (n, m) without the intercept."""
    every = np.c_[np.ones(rows.n), columns]
    found = regress(rows, every, ["Intercept", *names], vcov)
    return Projection(found, freedom=freedom(rows, every, np.eye(every.shape[1])[1:]))


def numbers(given: object, n: int, names: Sequence[str] | None = None) -> tuple[np.ndarray, list[str]]:
    """Covariates as columns (n, m) and their names; DataError for missing values."""
    found = sample(given)
    labels = list(found.names) if isinstance(given, pd.DataFrame) else [f"x{j + 1}" for j in range(len(found.names))]
    labels = labels if names is None or isinstance(given, pd.DataFrame) else list(names)
    if found.n != n or len(labels) != found.score.shape[1]:
        raise DataError(f"covariates has shape {found.score.shape}, with {len(labels)} names, for {n} scores.")
    return found.score, labels
