"""One fitted model as a column of a table of regressions: what a reader of the table may ask of it.

There is one reader for each library, chosen by what the model offers. No library is imported for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deepreg import asked
from deepreg.errors import OptionError
from deepreg.estimates import Estimates
from deepreg.report.covariance import Covariance
from deepreg.results import Results
from deepreg.summary import describe


@dataclass(frozen=True, eq=False)
class Column:
    """The estimates of one model, each array (q,) in the order of `names`, and facts about the fit.

    `interval(alpha)` is (q, 2). `fit` holds fit statistics by their names in `etable(stats=)`, but "covariance", which
    says how the standard errors were computed; `remarks` are whatever else belongs below the table. Raises OptionError
    where a name occurs twice, or where arrays are not of the length of `names`.
    """

    head: str
    outcome: str
    names: tuple[str, ...]
    value: np.ndarray
    error: np.ndarray
    statistic: np.ndarray
    pvalue: np.ndarray
    interval: Callable[[float], np.ndarray]
    fit: Mapping[str, float | str]
    covariance: Covariance
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = [name for i, name in enumerate(self.names) if name in self.names[:i]]
        if twice:
            raise OptionError(
                f"The model {self.head!r} has two rows called {twice[0]!r}, and a table cannot tell them apart; rename "
                "one of the variables and fit it again."
            )
        for part in (self.value, self.error, self.statistic, self.pvalue):
            if part.shape != (len(self.names),):
                raise OptionError(
                    f"The model {self.head!r} has {len(self.names)} names, but numbers of shape {part.shape}; etable "
                    "reads models with one vector of coefficients."
                )

    def fitted(self, key: str) -> float | str:
        """A fit statistic by its name; NaN where the model has none."""
        return self.covariance.header() if key == "covariance" else self.fit.get(key, math.nan)


def read(model: Any, effects: bool = False, place: str = "the model") -> Column:
    """The column of a fitted model; `effects` asks a deepreg Results for its effects instead of its coefficients.

    Raises OptionError for an object that no reader understands, naming its type and what it lacks, and for a model
    without effects at `place`.
    """
    if isinstance(model, Results):
        return _results(model, effects, place)
    if isinstance(model, Estimates):
        return _estimates(model)
    lacking = {}
    for library, (needs, reader) in READERS.items():
        lacking[library] = [name for name in needs if not hasattr(model, name)]
        if not lacking[library]:
            return reader(model)
    nearest = min(lacking, key=lambda library: len(lacking[library]) / len(READERS[library][0]))
    kind = type(model)
    hint = " Call .fit() first." if hasattr(model, "fit") else ""
    raise OptionError(
        f"etable cannot read an object of type {kind.__module__}.{kind.__qualname__}: it lacks "
        f"{', '.join(lacking[nearest])}, which results of {nearest} have. Give fitted models of deepreg, "
        f"{', '.join(READERS)}.{hint}"
    )


def _series(part: Any, names: Sequence[str] | None = None) -> np.ndarray:
    """Numbers as floats; a Series that is not in the order of `names` is refused rather than misread."""
    if names is not None and isinstance(part, pd.Series) and list(map(str, part.index)) != list(names):
        raise OptionError(f"Names of a model disagree: {list(part.index)} and {list(names)}.")
    return np.asarray(part, dtype=float)


# ---- deepreg


def _effects(model: Results, head: str, place: str) -> tuple[Estimates, list[str]]:
    """The effects that can be had, and the variables whose effects cannot."""
    design = model.design
    every, found = asked.effects(design), asked.possible(design, model.structure, model.scores.integrable)
    if found:
        had = {target.name for target in found.values()}
        lacking = dict.fromkeys(str(target.name) for target in every.values() if target.name not in had)
        return model.estimate(*found.values()), list(lacking)
    instead = "model.estimate('coefficient')"
    if not every:
        why = f"its formula, {design.formula!r}, has no treatment"
    else:
        names = list(dict.fromkeys(str(target.name) for target in every.values()))
        why = f"that of {' and '.join(names)} needs the law of the treatment, which hessian='regressed' does without"
        if all(asked.is_coefficient(name, model.structure) for name in names):
            instead += ", as each coefficient is the effect of its variable"
    raise OptionError(
        f"effects=True: {place} ({head}) has no effects: {why}. Leave the model out, set effects=False, or give "
        f"estimates in its place: {instead}."
    )


def _results(model: Results, effects: bool, place: str) -> Column:
    design, constant = model.design, model.facts.constant
    family = model.structure.family.describe()
    head = f"{'Constant coefficients' if constant else 'Structural'}, {family}"
    shown, what, lacking = model.averages, "averages of coefficient functions", list[str]()
    if effects:
        shown, lacking = _effects(model, head, place)
        head, what = f"{head}, average effects", "average effects"
    header = dict(model.facts.header)
    measure, value = ("r2", model.rsquared) if np.isnan(model.prsquared) else ("pseudo_r2", model.prsquared)
    fit: dict[str, float | str] = {"n": float(model.nobs), "family": family, measure: value}
    fit["ll"] = model.llf
    remarks = []
    if constant:
        fit |= {"aic": model.aic, "bic": model.bic}
        if shown.held:
            remarks.append(f"{', '.join(shown.held)} at a bound, without an error")
    else:
        folds, members, repeats = header["Folds, members, repeats:"].split(" x ")
        fit |= {"features": header["Features:"], "folds": folds, "members": members, "repeats": repeats}
        fit |= {"controls": header["Controls:"]} if "Controls:" in header else {}
        again = f", {repeats} repeats" if repeats != "1" else ""
        remarks.append(f"{what}, debiased; {folds}-fold cross-fitting{again}; measures of fit are out of fold")
    if lacking:
        remarks.append(f"no effect of {' and '.join(lacking)}, which needs the law of the treatment")
    missing = sum(count for cause, count in design.dropped.items() if cause != "subset")
    if missing:
        rows = "row" if missing == 1 else "rows"
        remarks.append(f"n = {model.nobs:,} after dropping {missing:,} {rows} with missing values")
    if design.recipe.weights:
        remarks.append(f"weighted by {design.recipe.weights}")
    return _column(shown, head, design.outcome, fit, tuple(remarks))


def _estimates(model: Estimates) -> Column:
    fit: dict[str, float | str] = {} if model.psi is None else {"n": float(model.psi.shape[1])}
    return _column(model, "Estimates", "", fit, tuple(note.rstrip(".") for note in model.table().notes))


def _column(
    shown: Estimates, head: str, outcome: str, fit: Mapping[str, float | str], remarks: tuple[str, ...]
) -> Column:
    return Column(
        head, outcome, shown.names, shown.value, shown.std_error, shown.zvalues, shown.chances(), shown.interval,
        fit, describe(shown), remarks,
    )  # fmt: skip


# ---- statsmodels

LINEAR = {"OLS", "WLS", "GLS"}
FAMILIES = {"OLS": "linear", "WLS": "linear", "GLS": "linear", "Logit": "logit", "Probit": "probit",
            "Poisson": "poisson"}  # fmt: skip


def _statsmodels(model: Any) -> Column:
    params, kind = model.params, type(model.model).__name__
    if np.ndim(params) != 1:
        raise OptionError(
            f"{kind} has coefficients of shape {np.shape(params)}, a column for each outcome; etable reads models with "
            "one vector of coefficients. Fit the outcomes one by one."
        )
    labels = params.index if isinstance(params, pd.Series) else model.model.exog_names
    names = tuple(map(str, labels))
    fit = _fit_of_statsmodels(model, kind)
    return Column(
        _head_of_statsmodels(model, kind), str(model.model.endog_names), names,
        _series(params), _series(model.bse, names), _series(model.tvalues, names), _series(model.pvalues, names),
        lambda alpha: _series(model.conf_int(alpha)), fit, _covariance_of_statsmodels(model),
    )  # fmt: skip


def _head_of_statsmodels(model: Any, kind: str) -> str:
    return f"Generalized linear, {type(model.model.family).__name__}" if kind == "GLM" else kind


def _fit_of_statsmodels(model: Any, kind: str) -> dict[str, float | str]:
    fit: dict[str, float | str] = {}
    if hasattr(model, "nobs"):
        fit["n"] = float(model.nobs)
    fit |= _likelihood_of_statsmodels(model)
    if kind in LINEAR:
        centred = bool(getattr(model, "k_constant", 1))
        fit["r2" if centred else "r2_uncentred"] = float(model.rsquared)
    elif kind == "GLM":
        fit["pseudo_r2"] = float(model.pseudo_rsquared(kind="mcf"))  # as prsquared of the others
    elif hasattr(model, "prsquared"):
        fit["pseudo_r2"] = float(model.prsquared)
    if kind in FAMILIES:
        fit["family"] = FAMILIES[kind]
    elif kind == "GLM":
        fit["family"] = type(model.model.family).__name__.lower()
    return fit


def _likelihood_of_statsmodels(model: Any) -> dict[str, float | str]:
    """Log-likelihood and criteria, of a GLM the BIC that comes from the likelihood and not from the deviance."""
    names = {"ll": "llf", "aic": "aic", "bic": "bic_llf" if hasattr(model, "bic_llf") else "bic"}
    return {key: float(getattr(model, name)) for key, name in names.items() if hasattr(model, name)}


def _ways(groups: Any) -> tuple[tuple[str, int], ...]:
    """Name, "" where there is none, and number of the clusters of each column of an array, Series or DataFrame."""
    if groups is None:
        return ()
    table = groups if isinstance(groups, pd.DataFrame) else pd.DataFrame(groups)
    return tuple(
        (name if isinstance(name, str) else "", len(pd.unique(table.iloc[:, j]))) for j, name in enumerate(table)
    )


def _covariance_of_statsmodels(model: Any) -> Covariance:
    kind = str(getattr(model, "cov_type", ""))
    if kind == "cluster":
        return Covariance(kind, _ways(getattr(model, "cov_kwds", {}).get("groups")))
    return Covariance("classical" if kind == "nonrobust" else kind)


def _margins(model: Any) -> Column:
    """What get_margeff() of a discrete model of statsmodels returns; its results know the model."""
    fitted, options = model.results, getattr(model, "margeff_options", {})
    kind = type(fitted.model).__name__
    if np.ndim(model.margeff) != 1:
        raise OptionError(
            f"get_margeff() of {kind} has effects of shape {np.shape(model.margeff)}; etable reads one vector. Use "
            "at='overall', and a model of one outcome."
        )
    names = tuple(map(str, model.summary_frame().index))
    at, method = options.get("at", "overall"), options.get("method", "dydx")
    what = "average marginal effects" if at == "overall" else f"marginal effects at the {at} of the regressors"
    what += "" if method == "dydx" else f" ({method})"
    return Column(
        f"{_head_of_statsmodels(fitted, kind)}, {what}", str(fitted.model.endog_names), names,
        _series(model.margeff), _series(model.margeff_se), _series(model.tvalues), _series(model.pvalues),
        lambda alpha: _series(model.conf_int(alpha)), _fit_of_statsmodels(fitted, kind),
        _covariance_of_statsmodels(fitted)._replace(delta=True), (what,),
    )  # fmt: skip


# ---- pyfixest

PYFIXEST = {"Feols": "OLS", "Fepois": "Poisson", "Feiv": "Two-stage least squares", "Felogit": "Logit",
            "Feprobit": "Probit", "Fegaussian": "Gaussian"}  # fmt: skip


def _pyfixest(model: Any) -> Column:
    value = model.coef()
    names = tuple(map(str, value.index))
    kind = type(model).__name__
    fit: dict[str, float | str] = {"n": float(model._N)}  # documented, though it begins with an underscore
    pseudo = getattr(model, "_pseudo_r2", None)
    if pseudo is not None:
        fit["pseudo_r2"] = float(pseudo)
    elif kind == "Feols":
        fit["r2"] = float(model._r2)
    if model._fixef:
        fit["fixed_effects"] = ", ".join(str(model._fixef).split("+"))
    fit |= {"family": FAMILIES[PYFIXEST[kind]]} if PYFIXEST.get(kind) in FAMILIES else {}
    detail = str(model._vcov_type_detail)
    clusters = [(str(name), int(count)) for name, count in zip(model._clustervar or [], model._G or [], strict=False)]
    kind_of_errors = "cluster" if clusters else {"iid": "classical", "hetero": "HC1"}.get(detail, detail)
    return Column(
        PYFIXEST.get(kind, kind), str(model._depvar), names,
        _series(value), _series(model.se(), names), _series(model.tstat(), names), _series(model.pvalue(), names),
        lambda alpha: _series(model.confint(alpha=alpha)), fit, Covariance(kind_of_errors, tuple(clusters)),
    )  # fmt: skip


# ---- linearmodels

LINEARMODELS = {"IV2SLS": "Two-stage least squares", "IVLIML": "LIML", "IVGMM": "GMM", "PanelOLS": "OLS",
                "PooledOLS": "OLS", "BetweenOLS": "Between", "FirstDifferenceOLS": "First differences",
                "RandomEffects": "Random effects", "FamaMacBeth": "Fama-MacBeth"}  # fmt: skip


def _linearmodels(model: Any) -> Column:
    names = tuple(map(str, model.params.index))
    kind = type(model.model).__name__
    fit: dict[str, float | str] = {"n": float(model.nobs)}
    absorbed = list(getattr(model, "included_effects", []))
    if absorbed:  # as a regression on dummies would report it
        fit["r2"], fit["fixed_effects"] = float(model.rsquared_inclusive), ", ".join(map(str, absorbed))
    else:
        fit["r2" if getattr(model, "has_constant", True) else "r2_uncentred"] = float(model.rsquared)
    pairs = [row for table in model.summary.tables[:1] for row in table.data]
    words = [str(cell).strip() for row in pairs for cell in row]
    kind_of_errors = words[words.index("Cov. Estimator:") + 1].lower() if "Cov. Estimator:" in words else ""
    said = {"unadjusted": "classical", "homoskedastic": "classical", "heteroskedastic": "robust",
            "clustered": "cluster"}.get(kind_of_errors, kind_of_errors)  # fmt: skip
    ways = _ways(getattr(model, "cov_config", {}).get("clusters")) if said == "cluster" else ()  # of IV, not of panels
    dependent = model.model.dependent
    outcome = getattr(dependent, "vars", None) or getattr(dependent, "cols", [""])
    return Column(
        LINEARMODELS.get(kind, kind), str(outcome[0]), names, _series(model.params), _series(model.std_errors, names),
        _series(model.tstats, names), _series(model.pvalues, names),
        lambda alpha: _series(model.conf_int(level=1 - alpha)), fit, Covariance(said, ways),
    )  # fmt: skip


READERS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], Column]]] = {
    "statsmodels": (("model", "params", "bse", "tvalues", "pvalues", "conf_int"), _statsmodels),
    "statsmodels' get_margeff()": (("margeff", "margeff_se", "tvalues", "pvalues", "conf_int", "results"), _margins),
    "pyfixest": (("coef", "se", "tstat", "pvalue", "confint", "_N"), _pyfixest),
    "linearmodels": (("model", "params", "std_errors", "tstats", "pvalues", "conf_int"), _linearmodels),
}
