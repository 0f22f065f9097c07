"""Structural regressions as scikit-learn estimators, for its pipelines, searches and cross-validation."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from . import arrays, families
from . import columns as door
from .api import structural
from .curvature import Curvature, KnownLaw
from .errors import DataError, DeepregWarning, FormulaError, NotAvailable, OptionError
from .families import Family
from .formula import sides
from .model import Model
from .networks import Architecture
from .results import Results
from .trainers import Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise NotAvailable("scikit-learn is not installed; pip install scikit-learn.") from None


@dataclass(eq=False, repr=False, kw_only=True)  # a constructor that stores and does nothing else, as clone() asks
class Learner(BaseEstimator):
    """What all estimators share: the parameters of a fit, and the way to structural()."""

    family: str | Family | type[Family] = "linear"
    assignment: KnownLaw | None = None
    constant: str | Sequence[str] | None = None
    loss: str | Callable[..., Tensor] | None = None
    link: str | Callable[..., Tensor] | None = None
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None
    vcov: str | dict[str, str] | None = None
    folds: int = 5
    members: int | None = None
    repeats: int = 1
    learners: str | Sequence[str] | None = None
    network: Architecture | None = None
    trainer: Trainer | None = None
    penalty: float = 1e-3
    hessian: str | Curvature | None = None
    device: str = "auto"
    rng: int | np.random.Generator | np.random.SeedSequence | None = None
    progress: bool | None = False
    result_: Results = field(init=False)

    def _model(self, formula: str, frame: pd.DataFrame, **data: Any) -> Model:
        """The model of a formula on a frame; `data` are arguments of structural() about it."""
        return structural(
            formula, frame, self.family, assignment=self.assignment, constant=self.constant, loss=self.loss,
            link=self.link, bounds=self.bounds, vcov=self.vcov, **data,
        )  # fmt: skip

    def _learning(self) -> dict[str, Any]:
        """How functions are learned, in a fit and in its replicates."""
        return {
            "network": self.network, "trainer": self.trainer, "penalty": self.penalty, "learners": self.learners,
            "hessian": self.hessian, "device": self.device, "rng": self.rng,
        }  # fmt: skip

    def _result(self, model: Model) -> Results:
        return model.fit(
            folds=self.folds, members=self.members, repeats=self.repeats, progress=self.progress, **self._learning()
        )

    def _fitted(self) -> Results:
        """The result; NotFittedError before fit()."""
        check_is_fitted(self, "result_")
        return self.result_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.rng is None
        return tags


@dataclass(eq=False, repr=False)
class Structural(Learner):
    """What the estimators with a formula share: its way to the columns of X and back."""

    formula: str
    _: KW_ONLY
    weights: str | None = None
    cluster: str | Sequence[str] | None = None
    offset: str | None = None
    exposure: str | None = None
    missing: str = "drop"
    context: Mapping[str, object] | None = None

    def _learn(self, opened: Any, y: pd.Series, outcome: np.ndarray, sample_weight: object) -> None:
        """Fit to the opened X, with `outcome` (n,) under the name of y."""
        known = door.names(opened)
        name, whole = _whole(self.formula, y.name, known)
        added, weights = {name: outcome}, self.weights
        if sample_weight is not None:
            if weights is not None:
                raise OptionError(f"weights={weights!r} and sample_weight= both give weights; give one of them.")
            weights = arrays.free("sample_weight", [*known, name], self.formula)
            added[weights] = arrays.positive(arrays.vector("sample_weight", sample_weight, opened))
        frame = opened if isinstance(opened, pd.DataFrame) else door.pick(opened, known)
        self.result_ = self._result(self._model(
            whole, frame.assign(**added), weights=weights, cluster=self.cluster, offset=self.offset,
            exposure=self.exposure, missing=self.missing, context={} if self.context is None else self.context,
        ))  # fmt: skip
        self.feature_names_in_ = np.array(known, dtype=object)
        self.n_features_in_ = len(known)

    def _mean(self, X: object) -> np.ndarray:
        """E[y | X] of every row, by the average of the networks of all folds; (n,)."""
        result = self._fitted()
        opened = arrays.opened(X)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeepregWarning)
            try:
                mean = result.predict(opened).to_numpy()
            except DeepregWarning as told:  # levels not seen in the fit
                raise DataError(f"X has rows that cannot be predicted. {told} Take them out of X.") from None
        if np.isnan(mean).any():
            recipe = result.design.recipe
            used = [name for part, names in recipe.used.items() if part != "outcome" for name in names]
            used += [name for name in recipe.offsets.values() if name not in used]
            raise DataError(_incomplete(door.pick(opened, used)))
        return mean

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # of arrays; the formula needs the names of a frame
        tags.input_tags.categorical = tags.input_tags.string = True
        return tags


class StructuralRegressor(RegressorMixin, Structural):
    """`deepreg.structural(...).fit(...)` as a scikit-learn regressor, which predicts the mean outcome.

    Parameters are stored as they are, and checked by fit(). Those not listed are the arguments of the same name of
    `structural()` and `Model.fit()`. X is a pandas or polars DataFrame, since the formula names its columns: arrays are
    refused, and so scikit-learn's check_estimator, which gives arrays, passes over this estimator. Columns that the
    formula does not name are not used, and their order does not matter.

    Parameters
    ----------
    formula : str
        The right side of a formula, for example "t | x0 + x1". A left side must be the name of y.
    family : str or Family
        With a family for outcomes of 0 and 1, predictions are probabilities.
    weights, cluster, offset, exposure : str, optional
        Columns of X. Weights can be given as sample_weight= of fit() instead.
    missing : "drop" or "raise"
        What fit() does with incomplete rows. Predictions refuse them.
    context : mapping, optional
        Functions and constants that the formula uses by name. The names where fit() is called are not known to it.
    rng : optional
        A whole number makes fits repeat; without it every fit draws its own seed.

    Attributes
    ----------
    result_ : Results
        What structural(...).fit(...) returns on X with y as one more column, with all averages, effects and tests.
    feature_names_in_, n_features_in_
        The columns of X.

    Examples
    --------
    >>> import deepreg
    >>> from sklearn.model_selection import cross_val_score
    >>> frame = deepreg.simulate.tutorial(300, rng=0).frame
    >>> model = deepreg.StructuralRegressor("treatment | x0 + x1", learners="smooth", folds=2, rng=0)
    >>> len(cross_val_score(model, frame.drop(columns="y"), frame["y"], cv=3))
    3
    >>> list(model.fit(frame.drop(columns="y"), frame["y"]).result_.params.index)
    ['Intercept', 'treatment']
    """

    def fit(self, X: object, y: object, sample_weight: object = None) -> "StructuralRegressor":
        """Fit to a DataFrame X (n, p) and numbers y (n,), with positive weights (n,) if given.

        Raises DataError, FormulaError or OptionError as `structural()` does; DataError also where X is no DataFrame, or
        where y has another length or another index than X.
        """
        opened = arrays.opened(X)
        named = arrays.vector("y", y, opened)
        self._learn(
            opened, named, arrays.numbers(named, "y", "; for two classes use StructuralClassifier"), sample_weight
        )
        return self

    def predict(self, X: object) -> np.ndarray:
        """E[y | X], by the average of the networks of all folds; (n,).

        Rows of the fit are predicted by networks that have seen them; `result_.predict()` holds them out. Raises
        DataError, with columns and counts, for rows with missing values or unseen levels; NotFittedError before fit().
        """
        return self._mean(X)


@dataclass(eq=False, repr=False, kw_only=True)
class StructuralClassifier(ClassifierMixin, Structural):
    """`deepreg.structural(...).fit(...)` as a scikit-learn classifier of two classes.

    The classes are the sorted values of y, numbers or text; the outcome of the regression is 1 for the second. See
    StructuralRegressor for the parameters and for X. The family is one for outcomes of 0 and 1. Without features behind
    a bar `loss`, `link` and `bounds` make it a classifier by the Brier score or a loss of one's own, with coefficients
    that stay inside bounds, fitted by Newton's method or by `trainer`, such as Adam().

    Attributes
    ----------
    classes_ : (2,)
        The two classes.
    result_, feature_names_in_, n_features_in_
        As in StructuralRegressor.

    Examples
    --------
    >>> import deepreg
    >>> frame = deepreg.simulate.tutorial(300, rng=0).frame
    >>> late = frame.pop("y") > 3
    >>> model = deepreg.StructuralClassifier("treatment | x0 + x1", learners="smooth", folds=2, rng=0)
    >>> model.fit(frame, late).predict_proba(frame).shape
    (300, 2)
    >>> brier = deepreg.StructuralClassifier("treatment + x0", loss="brier", bounds={"x0": (0, None)})
    >>> bool(brier.fit(frame, late).result_.params["x0"] >= 0)
    True
    """

    family: str | Family | type[Family] = "logit"

    def fit(self, X: object, y: object, sample_weight: object = None) -> "StructuralClassifier":
        """Fit to a DataFrame X (n, p) and y (n,) of two classes, with positive weights (n,) if given.

        Raises what `StructuralRegressor.fit` raises; OptionError for a family whose outcomes are not 0 and 1; DataError
        where y has not two classes.
        """
        if not families.get(self.family).binary:
            known = ", ".join(repr(name) for name in families.names() if families.get(name).binary)
            raise OptionError(
                f"family={self.family!r} is not for two classes; allowed are {known}, or a Family with binary = True. "
                "For other outcomes use StructuralRegressor."
            )
        opened = arrays.opened(X)
        named = arrays.vector("y", y, opened)
        classes, outcome = _classes(named)
        self._learn(opened, named, outcome, sample_weight)
        self.classes_ = classes
        return self

    def predict_proba(self, X: object) -> np.ndarray:
        """The probabilities of `classes_`; (n, 2). See `StructuralRegressor.predict` for what raises.

        With link="identity" what lies beyond 0 and 1 is cut off there; `result_.predict()` has it as it is.
        """
        second = self._mean(X).clip(0.0, 1.0)
        return np.stack([1 - second, second], 1)

    def predict(self, X: object) -> np.ndarray:
        """The more probable class; (n,)."""
        chosen = self._mean(X) > 0.5
        return np.asarray(self.classes_[chosen.astype(int)])


def _classes(y: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The two classes (2,), sorted, and y as 0, 1 or NaN; (n,)."""
    there = ~door.missing(door.plain(y.rename("y")))
    given = y[there].to_numpy()
    classes, code = np.unique(given, return_inverse=True)
    if len(classes) != 2:
        shown = ", ".join(map(repr, classes[:5].tolist())) + (", ..." if len(classes) > 5 else "")
        raise DataError(
            f"y has {len(classes)} class{'' if len(classes) == 1 else 'es'} ({shown or 'no value'}); two are needed. "
            "Type y == 'a' or y > 0 to make two of more, or use StructuralRegressor for numbers."
        )
    outcome = np.full(len(y), np.nan)
    outcome[there] = code
    return classes, outcome


def _whole(text: str, name: object, known: list[str]) -> tuple[str, str]:
    """The name of the outcome among the columns, and the formula with its left side."""
    left, right = sides(text)
    usable = isinstance(name, str) and name != "" and "`" not in name
    if left is not None and (not usable or left.strip("`") != name):
        called = f"y is called {name!r}" if usable else "y has no name"
        raise FormulaError(
            f"The formula {text!r} names the outcome {left!r}, but {called}. Type formula={right!r}, and give y as the "
            "outcome itself, transformed if need be."
        )
    if usable and name in known:
        raise DataError(f"X has a column with the name of y, {name!r}. Type X.drop(columns={name!r}).")
    outcome = str(name) if usable else arrays.free("y", known, text)
    return outcome, f"{arrays.quoted(outcome)} ~ {right}"


def _incomplete(used: pd.DataFrame) -> str:
    counts = {name: int(door.missing(door.plain(used[name])).sum()) for name in used}
    shown = ", ".join(f"{name!r} in {count}" for name, count in counts.items() if count)
    return (
        f"X has missing or infinite values, of {len(used)} rows: {shown}. Fill them, for example with "
        "SimpleImputer().set_output(transform='pandas') before this step, or leave such rows out."
    )
