"""Counts and ordered classes with constant coefficients are those of statsmodels; with functions, those drawn."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from statsmodels.discrete.truncated_model import TruncatedLFNegativeBinomialP, TruncatedLFPoisson
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.tools.numdiff import approx_fprime

import deepreg
from deepreg import families
from deepreg.errors import DataError
from deepreg.results import Results

COUNTS = ("negbin", "zip", "zinb", "hurdle_poisson", "hurdle_negbin")
LEVELS = ("poor", "fair", "good", "best")


def counts(name: str, level: float, n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Counts with a mean near `level` where they are not 0 for another reason."""
    rng = np.random.default_rng(seed)
    t, x = rng.integers(0, 2, n), rng.normal(5, 2, n)
    mean = level * np.exp(0.4 * t + 0.15 * (x - 5))
    y = rng.poisson(mean * (rng.gamma(2, 0.5, n) if name in ("negbin", "zinb", "hurdle_negbin") else 1))
    if name.startswith("hurdle"):
        y = y + (y == 0)
    if name != "negbin":
        y = y * (rng.random(n) < expit(1 - 0.5 * t + 0.1 * (x - 5)))
    return pd.DataFrame({"y": y, "t": t, "x": x})


def ordered(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    t, x = rng.integers(0, 2, n), rng.normal(5, 2, n)
    latent = 0.7 * t + 0.3 * (x - 5) + rng.logistic(size=n)
    grade = pd.Categorical.from_codes(np.digitize(latent, [-1, 0.5, 2]), LEVELS, ordered=True)
    return pd.DataFrame({"y": grade, "t": t, "x": x})


def fitted(name: str, data: pd.DataFrame, formula: str = "y ~ t + x") -> Results:
    return deepreg.structural(formula, data, name).fit().vcov("HC0")


def sandwich(model, at: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """HC0 errors from statsmodels' scores, with their derivative as the Hessian; that of its ZIP is another."""
    inverse = np.linalg.inv(approx_fprime(at, model.score, centered=True))
    scores = model.score_obs(at)
    return np.sqrt(np.diag(inverse @ (scores.T @ scores) @ inverse))


def reference(name: str, data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, float]:
    """statsmodels' parameters in our order and scale, their HC0 errors, and the log-likelihood."""
    y, x = data["y"], sm.add_constant(data[["t", "x"]])
    options: dict[str, Any] = {"disp": 0, "maxiter": 5000, "method": "bfgs", "gtol": 1e-8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name.startswith("hurdle"):
            truncated = TruncatedLFPoisson if name == "hurdle_poisson" else TruncatedLFNegativeBinomialP
            models = [truncated(y[y > 0], x[y > 0]), sm.Logit((y > 0) * 1, x)]
        elif name == "negbin":
            models = [sm.NegativeBinomial(y, x, loglike_method="nb2")]
        else:
            inflated = sm.ZeroInflatedPoisson if name == "zip" else sm.ZeroInflatedNegativeBinomialP
            models = [inflated(y, x, exog_infl=x)]
        if name == "zinb":  # from its own start it ends at a negative variance
            options["start_params"] = [-1, 0.5, -0.1, np.log(data["y"].mean()) - 0.75, 0.4, 0.15, 0.5]
        fits = [model.fit(**options) for model in models]
        found = np.concatenate([fit.params.to_numpy() for fit in fits])
        error = np.concatenate([sandwich(m, f.params.to_numpy()) for m, f in zip(models, fits, strict=True)])
    size = len(found)
    order = {"negbin": [0, 1, 2, 3], "zip": [3, 4, 5, 0, 1, 2], "zinb": [3, 4, 5, 0, 1, 2, 6],
             "hurdle_poisson": [0, 1, 2, 3, 4, 5], "hurdle_negbin": [0, 1, 2, 4, 5, 6, 3]}[name]  # fmt: skip
    found, error = found[order], error[order]
    if size % 3:  # alpha, of which we have the log
        error[-1] /= found[-1]
        found[-1] = np.log(found[-1])
    return found, error, sum(fit.llf for fit in fits)


@pytest.mark.parametrize(
    ("name", "level"),
    [*((name, level) for name in COUNTS for level in (3, 30, 500) if (name, level) != ("zinb", 3)), ("negbin", 0.5)],
)
def test_counts_equal_statsmodels(name: str, level: float) -> None:
    data = counts(name, level)
    ours = fitted(name, data)
    params, errors, llf = reference(name, data)
    np.testing.assert_allclose(ours.params, params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.bse, errors, rtol=1e-4)
    np.testing.assert_allclose(ours.llf, llf, rtol=1e-9)


@pytest.mark.parametrize(("name", "distribution"), [("ordered_logit", "logit"), ("ordered_probit", "probit")])
def test_ordered_classes_equal_statsmodels(name: str, distribution: str) -> None:
    """Whose thresholds are the first cut point and the logs of the gaps between the others."""
    data = ordered()
    ours = fitted(name, data)
    model = OrderedModel(data["y"], data[["t", "x"]], distr=distribution)
    ref = model.fit(method="bfgs", disp=0, maxiter=2000, gtol=1e-9, cov_type="HC0")
    t, x, first, *gaps = ref.params
    assert list(ours.params.index) == ["Intercept", "t", "x", "log_gap fair|good", "log_gap good|best"]
    np.testing.assert_allclose(ours.params, [-first, t, x, *gaps], rtol=1e-5)
    np.testing.assert_allclose(ours.bse, ref.bse.iloc[[2, 0, 1, 3, 4]], rtol=1e-4)
    np.testing.assert_allclose([ours.llf, ours.llnull, ours.prsquared], [ref.llf, ref.llnull, ref.prsquared])
    np.testing.assert_allclose(ours.predict(), ref.predict(), atol=1e-7)
    assert list(ours.predict().columns) == [f"P({level})" for level in LEVELS]


def test_two_ordered_classes_are_a_binary_regression() -> None:
    data = ordered().assign(high=lambda frame: (frame["y"] >= "good") * 1)
    ours = fitted("ordered_logit", data, "high ~ t + x")
    logit = fitted("logit", data, "high ~ t + x")
    np.testing.assert_allclose(ours.params, logit.params, rtol=1e-8)
    np.testing.assert_allclose(ours.bse, logit.bse, rtol=1e-8)


def test_marginal_effects_of_a_dispersed_count_equal_statsmodels() -> None:
    data = counts("negbin", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ref = sm.NegativeBinomial(data["y"], sm.add_constant(data[["t", "x"]])).fit(disp=0, cov_type="HC0", gtol=1e-9)
    margins, theirs = fitted("negbin", data).get_margeff(), ref.get_margeff()
    np.testing.assert_allclose(margins.value, theirs.margeff, rtol=1e-4)
    np.testing.assert_allclose(margins.std_error, theirs.margeff_se, rtol=1e-3)


def test_what_is_not_identified_is_named() -> None:
    rng = np.random.default_rng(2)
    t = rng.integers(0, 2, 400)
    data = pd.DataFrame({"t": t, "even": rng.binomial(4, 0.5, 400), "x": rng.normal(size=400)})
    data["some"] = rng.poisson(3, 400) * (rng.random(400) < np.where(t == 1, 0.6, 1))
    zeros = int((data["even"] == 0).sum())
    asked = {
        ("negbin", "even ~ t"): ("no more than Poisson counts do", "log_alpha runs to minus infinity", "'poisson'"),
        ("zip", "even ~ t"): (f"{zeros} of the 400 counts are 0", "no zeros in excess", "Choose family='poisson'"),
        ("zinb", "some ~ x"): ("log_alpha runs to minus infinity", "Choose family='zip'"),
        ("zip", "some ~ t"): ("one of zero: Intercept, zero: t.", "no zeros are in excess in some of the rows"),
        ("hurdle_negbin", "z ~ t"): ("log_alpha runs to infinity", "Choose family='hurdle_poisson'"),
    }
    data["z"] = np.where(rng.random(400) < 0.5, 0, np.where(rng.random(400) < 0.9, 1, 40))
    for (name, formula), words in asked.items():
        with pytest.raises(DataError) as caught:
            deepreg.structural(formula, data, name).fit()
        for word in words:
            assert word in str(caught.value), (name, formula, str(caught.value))


def test_levels_of_text_are_ordered_by_the_caller() -> None:
    data = ordered().assign(text=lambda frame: frame["y"].astype(str))
    model = deepreg.structural("text ~ t", data, "ordered_logit")
    assert model.structure.family.labels == ("P(best)", "P(fair)", "P(good)", "P(poor)")
    model = deepreg.structural("y ~ t", data[data["y"] != "fair"], "ordered_probit")
    assert model.structure.family == families.OrderedProbit(("poor", "good", "best"))
    assert families.OrderedLogit().extra == families.OrderedLogit().labels == ()


def varying(name: str, n: int = 1500) -> tuple[pd.DataFrame, float]:
    """An outcome whose intercept and effect are functions of x, and the average effect, of P(best) where ordered."""
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(2, n))
    t = (t > 0) * 1
    effect, level = 0.4 + 0.3 * np.sin(x), 1 + 0.5 * x
    if name.startswith("ordered"):
        noise = rng.logistic(size=n) if name == "ordered_logit" else rng.normal(size=n)
        y = np.digitize(level + 2 * effect * t + noise, [0, 1, 2])
        many = rng.logistic(size=(500, 1)) if name == "ordered_logit" else rng.normal(size=(500, 1))
        means = [(level + 2 * effect * d + many > 2).mean() for d in (1, 0)]
    else:

        def expected(d: object) -> np.ndarray:
            rate = np.exp(level + effect * d)
            if name == "negbin":
                return rate
            keep = expit(1 + 0.5 * x)
            return keep * rate / (-np.expm1(-rate) if name == "hurdle_poisson" else 1)

        rate = np.exp(level + effect * t)
        y = rng.poisson(rate * (rng.gamma(2, 0.5, n) if name in ("negbin", "zinb") else 1))
        if name.startswith("hurdle"):
            y = np.ceil(y)
            while (y == 0).any():
                y = np.where(y == 0, rng.poisson(rate), y)
        if name != "negbin":
            y = y * (rng.random(n) < expit(1 + 0.5 * x))
        means = [expected(d).mean() for d in (1, 0)]
    return pd.DataFrame({"y": y, "t": t, "x": x}), means[0] - means[1]


@pytest.mark.parametrize(
    "name",
    [
        "negbin",
        "zip",
        pytest.param("zinb", marks=pytest.mark.slow),
        "hurdle_poisson",
        "ordered_logit",
        "ordered_probit",
    ],
)
def test_functions_of_features_are_found(name: str) -> None:
    data, truth = varying(name)
    found = deepreg.structural("y ~ t | x", data, name).fit(learners="smooth", folds=2, rng=0, progress=False)
    assert found.llf > deepreg.structural("y ~ t", data, name).fit().llf  # held out, against fitted to all rows
    effect = found.ate()
    assert abs(effect.value[-1] - truth) < 4 * effect.std_error[-1]
    assert 0 < effect.std_error[-1] < 0.3 * data["y"].std()
