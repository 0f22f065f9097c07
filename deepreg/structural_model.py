"""StructuralModel: a structural regression from arrays Y, T, X, W and Z, asked for the effects of T at X."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from . import arrays
from .arrays import Matrix
from .effects import Change, Derivative, Effects, Question, Slopes, answer, check_linear
from .errors import DataError, NotAvailable, OptionError
from .estimator import Learner
from .pointwise import BootstrapInference, Inference, Population
from .population import average
from .rows import Replicates, linear
from .treatments import Treatments, terms

INFERENCE = ("auto", "posterior", "bootstrap")
PREFIX = {"Y": "y", "T": "t", "X": "x", "W": "w", "Z": "z", "sample_weight": "weight", "groups": "group"}


class Layout(NamedTuple):
    """What the arrays of the fit looked like: the names and shapes that questions and answers have."""

    features: tuple[str, ...]
    named: bool  # whether the names of the features are the caller's
    treatments: Treatments
    outcome: tuple[int, ...]  # d_y
    featurized: tuple[int, ...]  # d_ft


@dataclass(eq=False, repr=False, kw_only=True)
class StructuralModel(Effects, Learner):
    """Effects of treatments T on outcomes Y that vary with features X, from arrays.

    Y = theta(X)'phi(T) + g(X, W) + error, or a family of outcomes around such an index: the regression
    `Y ~ phi(T) | X | W` of `deepreg.structural`, which it fits. Controls W move the level of the outcome and the law of
    T, never an effect. Parameters are stored as they are and checked by fit(). Those not listed are the arguments of
    the same name of `structural()` and `Model.fit()`.

    Parameters
    ----------
    family : str or Family
        Of the outcome. Effects are differences of its mean, also where that is not linear in theta(x).
    discrete_treatment : "auto" or bool
        Whether T is one column of levels, of which the first is the baseline. By default text, categories, and true and
        false are levels, and numbers are numbers.
    categories : "auto" or list
        The levels in order, the baseline first; by default sorted. The order moves no effect of a level on another, and
        not the table of result_, whose baseline is the first level of the sorted ones.
    treatment_featurizer : formula or transformer, optional
        phi: the terms of a formula in the names of T, such as "t + I(t**2)" or "bs(t, df=4)" (T without names is t, or
        t0, t1 ...); or an object with fit() and transform(), such as PolynomialFeatures(2, include_bias=False).
    rng : optional
        A whole number makes fits repeat; without it every fit draws its own seed.

    Attributes
    ----------
    result_ : Results
        What structural(...).fit(...) returns, with all averages, targets, tests and tables.
    layout_ : Layout
        Names and shapes of the arrays of the fit.

    Examples
    --------
    >>> import numpy as np, deepreg
    >>> rng = np.random.default_rng(0)
    >>> X, T = rng.normal(size=(300, 1)), rng.normal(size=300)
    >>> Y = (1 + X[:, 0]) * T + rng.normal(size=300)
    >>> model = deepreg.StructuralModel(learners="smooth", folds=2, rng=0).fit(Y, T, X)
    >>> model.effect(X, T0=0, T1=2).shape
    (300,)
    >>> low, high = model.ate_interval(T0=0, T1=1, alpha=0.1)
    >>> bool(low < 1 < high)
    True
    """

    discrete_treatment: str | bool = "auto"
    categories: str | Sequence[Any] = "auto"
    treatment_featurizer: Any = None
    layout_: Layout = field(init=False)
    inference_: str | BootstrapInference | None = field(init=False)
    replicates_: Replicates | None = field(init=False)

    def fit(
        self, Y: object, T: object, X: object = None, W: object = None, Z: object = None, *,
        inference: str | BootstrapInference | None = "auto", sample_weight: object = None, groups: object = None,
    ) -> "StructuralModel":  # fmt: skip
        """Fit to outcomes Y (n,) or (n, d_y), treatments T (n,) or (n, d_t), features X (n, d_x), controls W (n, d_w).

        Z (n,) or (n, d_z) are instruments for T, numbers both, at least as many as treatments. `inference` says how
        rows get errors: "auto" or "posterior", see `deepreg.effects.Effects`; "bootstrap" or a BootstrapInference, by
        fits to random halves of the rows, all of them learned at once; or None, for points alone. `sample_weight` (n,)
        are positive; errors are clustered by `groups` (n,), or two columns of them. Arrays, lists, Series and
        DataFrames, of pandas or polars, can be mixed; pandas objects have one index. Returns the model itself.

        Raises DataError for missing or infinite values, different lengths or labels, and columns named alike;
        OptionError for an unknown option.
        """
        self._check(inference)
        chosen = BootstrapInference() if inference == "bootstrap" else inference
        given = {"Y": Y, "T": T, "X": X, "W": W, "Z": Z, "sample_weight": sample_weight, "groups": groups}
        parts = {role: arrays.matrix(role, one, PREFIX[role]) for role, one in given.items() if one is not None}
        for role in ("X", "W"):
            if role in parts and parts[role].vector:
                raise DataError(
                    f"{role} has shape ({len(parts[role].frame)},), but must have rows and columns: type "
                    f"np.reshape({role}, (-1, 1)) for one column, or {role}.to_frame() of a Series."
                )
        index = arrays.beside(parts)
        parts = _apart(parts)
        columns = {role: list(part.frame) for role, part in parts.items()}
        phi = self.treatment_featurizer
        treatments = Treatments.of(parts["T"], self.discrete_treatment, self.categories, phi is not None)
        frame = pd.concat([part.frame.reset_index(drop=True) for part in parts.values()], axis=1).set_axis(index)
        frame[columns["T"][0]] = treatments.coded(frame[columns["T"][0]])
        if "sample_weight" in parts:
            frame[columns["sample_weight"][0]] = arrays.positive(parts["sample_weight"].frame.iloc[:, 0])
        front, context = terms(columns["T"], columns.get("Z", []), phi, frame)
        behind = [columns.get("X", []), columns.get("W", [])]
        formula = " + ".join(map(arrays.quoted, columns["Y"])) + " ~ " + front
        if any(behind):
            formula += " | " + (" + ".join(map(arrays.quoted, behind[0])) or "1")
        if behind[1]:
            formula += " | " + " + ".join(map(arrays.quoted, behind[1]))
        fitting = self._model(
            formula, frame, weights=next(iter(columns.get("sample_weight", [])), None),
            cluster=columns.get("groups"), missing="raise", context=context,
        )  # fmt: skip
        result = self._result(fitting)
        self.replicates_ = None
        if isinstance(chosen, BootstrapInference):
            self.replicates_ = fitting.replicates(chosen.n_bootstrap_samples, **self._learning())
        structure, labels = result.structure, result.structure.family.labels
        slopes = len(structure.terms) - (structure.intercept is not None)
        several = bool(labels) and structure.instruments is None
        d_y = (len(labels),) if several else () if parts["Y"].vector else (1,)
        self.result_, self.inference_ = result, chosen
        self.layout_ = Layout(
            tuple(columns.get("X", [])), "X" in parts and parts["X"].named, treatments, d_y,
            treatments.shape if phi is None else (slopes,),
        )  # fmt: skip
        return self

    def ate(self, X: object = None, *, T0: object = 0, T1: object = 1) -> np.ndarray:
        """E[Y(T1) - Y(T0)] over the population that was sampled, or the mean of effect() over rows X; (*d_y).

        Without X it is debiased by influence functions. T0 and T1 are then values, or arrays with a value for each row
        of the fit: what a rule of X says, or T as it was.
        """
        return self._average(Change(T0, T1), X, False).mean_point

    def ate_inference(self, X: object = None, *, T0: object = 0, T1: object = 1) -> Population:
        """ate() with errors, tests and intervals: those of the influence function, for the population.

        Of rows X, the standard error is the largest that the mean of the rows can have.
        """
        return self._average(Change(T0, T1), X, True)

    def ate_interval(
        self, X: object = None, *, T0: object = 0, T1: object = 1, alpha: float = 0.05
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of ate(), of level 1 - alpha; (*d_y) each."""
        return self.ate_inference(X, T0=T0, T1=T1).conf_int_mean(alpha)

    def marginal_ate(self, T: object, X: object = None) -> np.ndarray:
        """The average of marginal_effect() at T, over the population or over rows X, as in ate(); (*d_y, *d_t)."""
        return self._average(Derivative(T), X, False).mean_point

    def marginal_ate_inference(self, T: object, X: object = None) -> Population:
        """marginal_ate() with errors, tests and intervals, as in ate_inference()."""
        return self._average(Derivative(T), X, True)

    def marginal_ate_interval(
        self, T: object, X: object = None, *, alpha: float = 0.05
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of marginal_ate(), of level 1 - alpha; (*d_y, *d_t) each."""
        return self.marginal_ate_inference(T, X).conf_int_mean(alpha)

    def const_marginal_ate(self, X: object = None) -> np.ndarray:
        """The average of const_marginal_effect(), over the population or over rows X, as in ate(); (*d_y, *d_ft)."""
        return self._average(Slopes(), X, False).mean_point

    def const_marginal_ate_inference(self, X: object = None) -> Population:
        """const_marginal_ate() with errors, tests and intervals, as in ate_inference()."""
        return self._average(Slopes(), X, True)

    def const_marginal_ate_interval(
        self, X: object = None, *, alpha: float = 0.05
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Lower and upper bounds of const_marginal_ate(), of level 1 - alpha; (*d_y, *d_ft) each."""
        return self.const_marginal_ate_inference(X).conf_int_mean(alpha)

    def cate_feature_names(self) -> list[str]:
        """The names of the columns of X."""
        self._fitted()
        return list(self.layout_.features)

    def cate_treatment_names(self) -> list[str]:
        """The names along the axis d_t: treatments, or "arm_b" for a level b of arm."""
        self._fitted()
        return list(self.layout_.treatments.labels)

    def cate_output_names(self) -> list[str]:
        """The names of the outcomes."""
        structure = self._fitted().structure
        labels = structure.family.labels if structure.instruments is None else structure.family.labels[:1]
        return list(labels or (self.result_.design.outcome,))

    @property
    def _d_y(self) -> tuple[int, ...]:
        """The axes of the outcomes, which EconML's SingleTreePolicyInterpreter looks for under this name."""
        self._fitted()
        return self.layout_.outcome

    def _ask(self, question: Question, X: object, errors: bool) -> Inference:
        result = self._fitted()
        self._check_errors(errors)
        if X is None and self.layout_.features:
            raise DataError(
                "The model was fitted with X, and effects vary with it: give the rows X. Those of the fit, held out, "
                "are result_.effect(T0=, T1=); their average is ate()."
            )
        asked = self._set(question)
        method = self.inference_.method if isinstance(self.inference_, BootstrapInference) else "normal"
        found = answer(result, asked, None if X is None else self._rows(X), errors, self.replicates_, method)
        return self._shaped(found, asked)

    def _average(self, question: Question, X: object, errors: bool) -> Population:
        result = self._fitted()
        self._check_errors(errors)
        if X is not None:
            return self._ask(question, X, errors).population_summary()
        asked = self._set(question)
        rows = self._shaped(answer(result, asked, None, errors), asked)
        point, error = average(result, asked, errors)
        shape = rows.point_estimate.shape[1:]
        return Population(Inference(point.reshape(shape), error.reshape(shape), rows.axes[1:]), rows)

    def _shaped(self, found: Inference, question: Question) -> Inference:
        """The answer with the axes that the arrays of the fit had."""
        at = self.layout_
        d_t = (
            ()
            if isinstance(question, Change)
            else at.featurized
            if isinstance(question, Slopes)
            else at.treatments.shape
        )
        shape = (len(found.point_estimate), *at.outcome, *d_t)
        labels = dict(found.axes)
        treatments = labels.get("T", tuple(self.cate_treatment_names()))
        axes = (("X", labels["X"]), *((("Y", tuple(self.cate_output_names())),) if at.outcome else ()),
                *((("T", treatments),) if d_t else ()))  # fmt: skip
        draws = None if found.draws is None else found.draws.reshape(-1, *shape)
        point, error = found.point_estimate.reshape(shape), found.stderr.reshape(shape)
        return replace(found, point_estimate=point, stderr=error, axes=axes, draws=draws)

    def _rows(self, X: object) -> pd.DataFrame:
        """New rows under the names of the fit."""
        wanted, result = list(self.layout_.features), self.result_
        if result.design.controls and not linear(result.structure):
            raise NotAvailable(
                f"With family {result.structure.family.name!r} the effect at X depends on the controls W as well. Give "
                "result_.effect() a DataFrame with the columns of both, or fit with the columns of W in X."
            )
        if not wanted:
            raise DataError("The model was fitted without X, so effects are the same for all rows: leave X out.")
        given = arrays.matrix("X", X, PREFIX["X"])
        if given.vector:
            raise DataError(
                f"X has shape ({len(given.frame)},), but must have rows and columns: type np.reshape(X, (1, -1)) for "
                "one row, or np.reshape(X, (-1, 1)) for one feature."
            )
        have = list(given.frame)
        if given.named and set(have) != set(wanted):
            odd = [*(f"{name!r} is missing" for name in wanted if name not in have),
                   *(f"{name!r} is not one of them" for name in have if name not in wanted)]  # fmt: skip
            raise DataError(f"X must have the columns of the fit, {', '.join(map(repr, wanted))}: {', '.join(odd)}.")
        if len(have) != len(wanted):
            raise DataError(
                f"X has {len(have)} columns, but the model was fitted with {len(wanted)}: {', '.join(wanted)}."
            )
        return given.frame[wanted] if given.named else given.frame.set_axis(wanted, axis=1)

    def _set(self, question: Question) -> Question:
        """The question with values under the names of the treatments."""
        read = self.layout_.treatments.values
        if isinstance(question, Change):
            return Change(read("T0", question.T0), read("T1", question.T1))
        levels = self.layout_.treatments.levels
        if isinstance(question, Slopes) and levels:  # theta(x) with the baseline that was asked for
            check_linear(self.result_.structure)
            question = Derivative(levels[0])
        return Derivative(read("T", question.T), levels) if isinstance(question, Derivative) else question

    def _check(self, inference: object) -> None:
        if isinstance(self.discrete_treatment, str) and self.discrete_treatment != "auto":
            raise OptionError(f"discrete_treatment={self.discrete_treatment!r}: allowed are 'auto', True and False.")
        if isinstance(self.categories, str) and self.categories != "auto":
            raise OptionError(f"categories={self.categories!r}: give 'auto' or a list of levels, the baseline first.")
        if inference is not None and inference not in INFERENCE and not isinstance(inference, BootstrapInference):
            raise OptionError(
                f"inference={inference!r}: allowed are {', '.join(map(repr, INFERENCE))}, None, and an object "
                f"BootstrapInference(n_bootstrap_samples=..., method=...)."
            )

    def _check_errors(self, errors: bool) -> None:
        if errors and self.inference_ is None:
            raise NotAvailable("The model was fitted with inference=None; type fit(..., inference='auto') for errors.")


def _apart(parts: dict[str, Matrix]) -> dict[str, Matrix]:
    """The parts with columns whose names differ: those of the caller stay, or are refused where two are alike."""
    own = [(name, role) for role, part in parts.items() if part.named for name in part.frame]
    known: dict[str, str] = {}
    for name, role in own:
        if name in known:
            raise DataError(
                f"{known[name]} and {role} both have a column {name!r}. Rename one of them, or leave it out of "
                "one: what is in X is controlled for."
            )
        known[name] = role
    apart = {}
    for role, part in parts.items():
        names = list(part.frame) if part.named else [arrays.free(name, known) for name in part.frame]
        known |= dict.fromkeys(names, role)
        apart[role] = part._replace(frame=part.frame.set_axis(names, axis=1))
    return apart
