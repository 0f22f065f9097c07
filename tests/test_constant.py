"""Without a bar the coefficients are constant, and the fit has to be the one statsmodels makes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.tools.sm_exceptions import SpecificationWarning

import deepreg
from deepreg import targets
from deepreg.errors import NotAvailable, OptionError

FITS: dict[str, Callable[..., Any]] = {"linear": smf.ols, "logit": smf.logit, "poisson": smf.poisson}
BINARY = "affair ~ rate_marriage + age + educ + yrs_married + kids"
VISITS = "mdvis ~ lncoins + idp + lpi + fmde + physlm + disea + hlthg + hlthf + hlthp"


@cache
def load(name: str) -> pd.DataFrame:
    """A data set that ships with statsmodels, with what the formulas below need besides."""
    data = getattr(sm.datasets, name).load_pandas().data.reset_index(drop=True)
    if name == "randhie":
        data = data.iloc[::5].reset_index(drop=True)
    if name == "fair":
        data = data.assign(affair=(data.affairs > 0) * 1, kids=(data.children > 0) * 1)
    if name == "star98":
        data = data.assign(share=data.NABOVE / (data.NABOVE + data.NBELOW), taken=data.NABOVE + data.NBELOW)
    return data.assign(w=0.5 + np.arange(len(data)) % 5, g=np.arange(len(data)) // 7, h=np.arange(len(data)) % 23)


def reference(family: str, formula: str, data: pd.DataFrame, **kwargs: Any) -> Any:
    extra = {} if family == "linear" else {"disp": 0, "maxiter": 100, "tol": 1e-12}
    return FITS[family](formula, data).fit(**extra, **kwargs)


def assert_same(res: Any, params: Any, bse: Any, rtol: float = 1e-6) -> None:
    np.testing.assert_allclose(res.params, params, rtol=rtol)
    np.testing.assert_allclose(res.bse, bse, rtol=rtol)


CASES = [
    ("linear", "statecrime", "murder ~ urban + poverty + hs_grad + single"),
    ("linear", "statecrime", "np.log(violent) ~ urban * np.log(poverty) + I(white**2)"),
    ("linear", "statecrime", "murder ~ 0 + urban + single"),
    ("linear", "star98", "share ~ LOWINC + PERASIAN * PERBLACK + PERMINTE_AVYRSEXP_AVSAL"),
    ("linear", "fair", "affairs ~ C(occupation) * age + I(educ**2) + np.log(yrs_married)"),
    ("linear", "grunfeld", "invest ~ value + capital + C(firm)"),
    ("linear", "randhie", "np.log1p(mdvis) ~ lncoins * C(idp) + disea"),
    ("linear", "cpunish", "EXECUTIONS ~ INCOME"),
    ("linear", "cpunish", "EXECUTIONS ~ 1"),
    ("logit", "fair", "affair ~ rate_marriage + age + C(occupation) * religious"),
    ("logit", "anes96", "vote ~ logpopul + selfLR + age + educ * income + I(age**2)"),
    ("logit", "spector", "GRADE ~ GPA + TUCE + PSI"),
    ("logit", "spector", "GRADE ~ 0 + GPA + C(PSI)"),
    ("logit", "star98", "share ~ LOWINC + PERASIAN + PERHISP"),
    ("poisson", "randhie", VISITS),
    ("poisson", "cpunish", "EXECUTIONS ~ INCOME + PERPOVERTY + SOUTH + np.log(VC100k96)"),
    ("poisson", "fair", "affairs ~ C(rate_marriage) + age * educ"),
]
FITTED = [case for case in CASES if not (case[0] == "logit" and case[1] == "star98")]  # a share is no 0 or 1


@pytest.mark.parametrize(("family", "name", "formula"), FITTED)
def test_equals_statsmodels(family: str, name: str, formula: str) -> None:
    data = load(name)
    ref = reference(family, formula, data, cov_type="HC0")
    res = deepreg.structural(formula, data, family, vcov="HC0").fit()
    assert list(res.params.index) == list(ref.params.index)
    assert_same(res, ref.params, ref.bse)
    np.testing.assert_allclose(res.cov_params(), ref.cov_params(), rtol=1e-5, atol=1e-9 * ref.bse.max() ** 2)
    np.testing.assert_allclose(res.tvalues, ref.tvalues, rtol=1e-6)
    np.testing.assert_allclose(res.pvalues, 2 * stats.norm.sf(abs(ref.tvalues)), atol=1e-7)
    # HC1 is HC0 times n / (n - k) in every family, as for OLS; statsmodels leaves the factor out for logit and Poisson
    factor = np.sqrt(len(data) / (len(data) - len(ref.params)))
    assert_same(deepreg.structural(formula, data, family, vcov="HC1").fit(), ref.params, ref.bse * factor)
    if family == "linear":
        assert_same(res.vcov("HC1"), ref.params, reference(family, formula, data, cov_type="HC1").bse)


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize(
    ("family", "name", "formula", "by"),
    [
        ("linear", "grunfeld", "invest ~ value + capital", ("firm", "year")),
        ("linear", "fair", "affairs ~ C(occupation) * age", ("occupation_husb", "educ")),
        ("logit", "fair", "affair ~ rate_marriage + age + C(kids)", ("g", "h")),
        ("poisson", "randhie", "mdvis ~ lncoins + idp + lpi", ("g", "h")),
    ],
)
def test_clusters_equal_statsmodels(family: str, name: str, formula: str, by: tuple[str, str], ways: int) -> None:
    data = load(name)
    codes = np.column_stack([pd.factorize(data[one])[0] for one in by[:ways]])
    ref = reference(family, formula, data, cov_type="cluster", cov_kwds={"groups": codes.squeeze()})
    res = deepreg.structural(formula, data, family, cluster=by[0] if ways == 1 else by).fit()
    assert_same(res, ref.params, ref.bse)
    spelt = deepreg.structural(formula, data, family, vcov={"CRV1": " + ".join(by[:ways])}).fit()
    pd.testing.assert_series_equal(spelt.bse, res.bse)


@pytest.mark.parametrize("name", ["fair", "grunfeld"])
def test_weights_equal_weighted_least_squares(name: str) -> None:
    formula, data = {"fair": "affairs ~ age * religious", "grunfeld": "invest ~ value + capital"}[name], load(name)
    ref = smf.wls(formula, data, weights=data.w)
    for kind in ("HC0", "HC1"):
        res = deepreg.structural(formula, data, weights="w", vcov=kind).fit()
        assert_same(res, ref.fit().params, ref.fit(cov_type=kind).bse)
    groups = np.column_stack([data.g, data.h])
    for by, codes in (("g", groups[:, 0]), (("g", "h"), groups)):
        res = deepreg.structural(formula, data, weights="w", cluster=by).fit()
        assert_same(res, ref.fit().params, ref.fit(cov_type="cluster", cov_kwds={"groups": codes}).bse)


@pytest.mark.parametrize(("family", "outcome"), [("logit", "affair"), ("poisson", "affairs")])
def test_weights_equal_a_weighted_glm(family: str, outcome: str) -> None:
    formula, data = f"{outcome} ~ age * religious", load("fair")
    law = sm.families.Binomial() if family == "logit" else sm.families.Poisson()
    ref = smf.glm(formula, data, family=law, var_weights=data.w)
    with pytest.warns(SpecificationWarning, match="var_weights"):
        robust, clustered = (
            ref.fit(cov_type=kind, cov_kwds=kwds, tol=1e-12)
            for kind, kwds in (("HC0", None), ("cluster", {"groups": data.g.to_numpy()}))
        )
    assert_same(deepreg.structural(formula, data, family, weights="w", vcov="HC0").fit(), robust.params, robust.bse)
    res = deepreg.structural(formula, data, family, weights="w", cluster="g").fit()
    assert_same(res, clustered.params, clustered.bse)


def scaled(n: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    t, income, price = rng.normal(10, 1, n), rng.normal(5e5, 2e5, n), rng.normal(1e4, 3e3, n)
    eta = -1 + 0.5 * (t - 10) + income / 5e5 - price / 1e4
    return pd.DataFrame(
        {
            "t": t, "income": income, "price": price, "cost": 3e7 * eta + 1e7 * rng.normal(size=n),
            "bought": (rng.uniform(size=n) < 1 / (1 + np.exp(-eta))) * 1, "visits": rng.poisson(np.exp(eta)),
        }
    )  # fmt: skip


@pytest.mark.parametrize(("family", "y"), [("linear", "cost"), ("logit", "bought"), ("poisson", "visits")])
def test_units_of_measurement_do_not_matter(family: str, y: str) -> None:
    """Incomes of half a million, prices of ten thousand and their products: the reference is fitted in small units."""
    data = scaled()
    unit = {"t": 1.0, "income": 1e5, "price": 1e4}
    small = data.assign(**{name: data[name] / by for name, by in unit.items()})
    top = 1e7 if family == "linear" else 1.0
    ref = reference(family, f"{y} ~ t + income * price", small.assign(**{y: small[y] / top}), cov_type="HC0")
    by = np.array([1.0, 1.0, 1e5, 1e4, 1e9]) / top
    assert_same(deepreg.structural(f"{y} ~ t + income * price", data, family, vcov="HC0").fit(), ref.params / by,
                ref.bse / by)  # fmt: skip


def test_a_far_origin_does_not_matter() -> None:
    data = scaled()
    moved = data.assign(t=data.t + 1e4, cost=data.cost + 1e12)
    near, far = (deepreg.structural("cost ~ t + price", d).fit() for d in (data, moved))
    np.testing.assert_allclose(far.params[["t", "price"]], near.params[["t", "price"]], rtol=1e-6)
    np.testing.assert_allclose(far.bse[["t", "price"]], near.bse[["t", "price"]], rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "y", "unit"),
    [("linear", "cost", 1e-22), ("linear", "cost", 1e6), ("gaussian", "cost", 1e-22), ("poisson", "visits", 1e-15),
     ("poisson", "visits", 1e6)],
)  # fmt: skip
def test_units_of_the_outcome_do_not_matter(family: str, y: str, unit: float) -> None:
    data = scaled()
    other = data.assign(**{y: data[y] * unit})
    res, moved = (deepreg.structural(f"{y} ~ t + price", d, family).fit() for d in (data, other))
    slopes = ["t", "price"]
    by = 1.0 if family == "poisson" else unit
    np.testing.assert_allclose(moved.params[slopes], res.params[slopes] * by, rtol=1e-7)
    np.testing.assert_allclose(moved.bse[slopes], res.bse[slopes] * by, rtol=1e-7)


# marginal effects


@pytest.mark.parametrize(
    ("family", "name", "formula"),
    [("logit", "fair", BINARY), ("poisson", "randhie", "mdvis ~ lncoins + idp + lpi + physlm")],
)
def test_marginal_effects_equal_statsmodels(family: str, name: str, formula: str) -> None:
    data = load(name)
    ref = reference(family, formula, data, cov_type="HC0")
    res = deepreg.structural(formula, data, family, vcov="HC0").fit()
    for dummy in (False, True):
        expected, got = ref.get_margeff(dummy=dummy), res.get_margeff(dummy=dummy)
        assert [label.split()[1].rstrip(":") for label in got.names] == formula.split("~")[1].replace("+", "").split()
        np.testing.assert_allclose(got.value, expected.margeff, rtol=1e-6)
        np.testing.assert_allclose(got.std_error, expected.margeff_se, rtol=1e-5)
    for place in ("mean", "median", "zero"):
        for dummy in (False, True)[: 2 if place == "mean" else 1]:  # statsmodels has dummies for the mean alone
            expected, got = ref.get_margeff(at=place, dummy=dummy), res.get_margeff(place, dummy)
            assert all(label.endswith(f"at {'zero' if place == 'zero' else 'the ' + place}") for label in got.names)
            np.testing.assert_allclose(got.value, expected.margeff, rtol=1e-6)
            np.testing.assert_allclose(got.std_error, expected.margeff_se, rtol=1e-5)


def test_weights_count_in_the_means_and_medians_that_effects_are_taken_at() -> None:
    data = load("fair").iloc[::12].head(400)
    many = data.loc[data.index.repeat(np.arange(400) % 3 + 1)]
    weighted = deepreg.structural(BINARY, data.assign(w=np.arange(400) % 3 + 1), "logit", weights="w").fit()
    repeated = deepreg.structural(BINARY, many.reset_index(drop=True), "logit").fit()
    for place in ("mean", "median"):
        np.testing.assert_allclose(weighted.get_margeff(place).value, repeated.get_margeff(place).value, rtol=1e-7)


def test_marginal_effects_at_the_mean_average_over_theta() -> None:
    """With theta(x), the derivative at the mean of t is that of each row's own coefficients."""
    sim = deepreg.simulate.get("logit_continuous")(n=300, rng=0)
    res = deepreg.structural("y ~ t | x0 + x1", sim.frame, "logit").fit(
        folds=2, learners="smooth", rng=0, progress=False
    )
    found = res.get_margeff("mean")
    by_hand = res.estimate(targets.AME("t", at=float(sim.frame.t.mean())), sample="fixed")
    np.testing.assert_allclose(found.value, by_hand.value, rtol=1e-9)
    np.testing.assert_allclose(found.std_error, by_hand.std_error, rtol=1e-9)


@pytest.mark.parametrize("family", ["logit", "poisson"])
def test_marginal_effects_through_interactions_and_powers(family: str) -> None:
    """statsmodels moves one column at a time; the effect of a variable moves every column it enters."""
    data = load("fair")
    formula = f"{'affair' if family == 'logit' else 'affairs'} ~ age * religious + I(age**2)"
    ref = reference(family, formula, data, cov_type="HC0")
    res = deepreg.structural(formula, data, family, vcov="HC0").fit()
    got = res.estimate(targets.AME("age"), sample="fixed")

    def effect(params: np.ndarray) -> float:
        up, down = (ref.model.predict(params, columns(data.age + by)) for by in (1e-3, -1e-3))
        return float((up - down).mean() / 2e-3)

    def columns(age: pd.Series) -> np.ndarray:
        x = {"Intercept": age * 0 + 1, "age": age, "religious": data.religious, "age:religious": age * data.religious}
        return np.column_stack([(x | {"I(age ** 2)": age**2})[one] for one in ref.model.exog_names])

    at = ref.params.to_numpy()
    steps = 1e-4 * ref.bse.to_numpy()
    slope = np.array([
        (effect(at + one) - effect(at - one)) / (2 * s) for s, one in zip(steps, np.diag(steps), strict=True)
    ])  # fmt: skip
    np.testing.assert_allclose(got.value, [effect(at)], rtol=1e-5)
    np.testing.assert_allclose(got.std_error, [np.sqrt(slope @ ref.cov_params().to_numpy() @ slope)], rtol=1e-4)


def test_the_population_effect_adds_the_variance_of_the_rows() -> None:
    """psi of E[p'] has the row's own derivative in it, which get_margeff conditions on."""
    data = load("fair")
    res = deepreg.structural(BINARY, data, "logit", vcov="HC0").fit()
    fixed, whole = res.get_margeff(), res.estimate(*(targets.AME(v.name) for v in res.design.variables))
    np.testing.assert_allclose(fixed.value, whole.value, rtol=1e-12)
    slope = np.asarray(res.predict() * (1 - res.predict()))[:, None] * res.params.to_numpy()[1:]
    score = (data.affair - res.predict()).to_numpy()[:, None] * np.column_stack([np.ones(len(data)), data[[
        "rate_marriage", "age", "educ", "yrs_married", "kids"]]])  # fmt: skip
    x = score / (data.affair - res.predict()).to_numpy()[:, None]
    p = res.predict().to_numpy()
    hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x)
    third = ((p * (1 - p) * (1 - 2 * p))[:, None] * x).mean(0)
    gradient = np.outer(res.params.to_numpy()[1:], third) + (p * (1 - p)).mean() * np.eye(6)[1:]
    psi = slope - slope.mean(0) + score @ np.linalg.inv(hessian) @ gradient.T
    np.testing.assert_allclose(whole.std_error, np.sqrt((psi**2).sum(0)) / len(x), rtol=1e-6)


# tests


@pytest.mark.parametrize("family", ["linear", "logit", "poisson"])
def test_hypotheses_equal_statsmodels(family: str) -> None:
    data = load("fair")
    formula = f"{'affair' if family == 'logit' else 'affairs'} ~ age + religious + C(occupation)"
    ref = reference(family, formula, data, cov_type="HC0")
    res = deepreg.structural(formula, data, family, vcov="HC0").fit()
    for hypothesis in ("age = 0.01", "age - religious = 0", "2*age + religious = 0.1", "C(occupation)[T.3.0] = 0"):
        expected, got = ref.t_test(hypothesis, use_t=False), res.t_test(hypothesis)
        np.testing.assert_allclose(got.value, np.squeeze(expected.effect), rtol=1e-6)
        np.testing.assert_allclose(got.std_error, np.squeeze(expected.sd), rtol=1e-6)
        np.testing.assert_allclose(got.zvalues, np.squeeze(expected.tvalue), rtol=1e-6)
        np.testing.assert_allclose(got.pvalues, np.squeeze(expected.pvalue), rtol=1e-5)
        np.testing.assert_allclose(got.interval(0.1), np.atleast_2d(expected.conf_int(0.1)), rtol=1e-6)
    matrix = np.eye(len(ref.params))[[1, 2]]
    for joint in ("age = 0, religious = 0.1", "age = religious = 0", matrix, (matrix, np.array([0.02, -0.1]))):
        expected, wald = ref.wald_test(joint, use_f=False, scalar=True), res.wald_test(joint)
        np.testing.assert_allclose(wald.statistic, expected.statistic, rtol=1e-6)
        np.testing.assert_allclose(wald.pvalue, expected.pvalue, rtol=1e-5, atol=1e-300)
        assert wald.df == expected.df_denom == 2


def test_an_effect_of_a_linear_model_is_its_coefficient() -> None:
    res = deepreg.structural("affairs ~ kids + age", load("fair"), vcov="HC0").fit()
    effect = res.estimate(targets.ATE("kids"), targets.AME("age"))
    np.testing.assert_allclose(effect.value, res.params[["kids", "age"]], rtol=1e-8)
    np.testing.assert_allclose(effect.std_error, res.bse[["kids", "age"]], rtol=1e-6)


def test_means_of_a_regression_on_arms_are_those_of_the_arms() -> None:
    data = load("fair")
    res = deepreg.structural("affairs ~ C(kids)", data, vcov="HC0").fit()
    arms = data.groupby("kids").affairs
    means = res.estimate("mean")
    assert [name.split(": ")[1] for name in means.names] == [f"{level:g}" for level in arms.mean().index]
    np.testing.assert_allclose(means.value, arms.mean(), rtol=1e-8)
    np.testing.assert_allclose(means.std_error, np.sqrt(arms.var(ddof=0) / arms.size()), rtol=1e-8)
    change = means.linear(np.array([[-1.0, 1]]), np.zeros(1), ["change"])
    np.testing.assert_allclose(change.value, res.estimate("ate").value[0])
    np.testing.assert_allclose(change.std_error, res.estimate("ate").std_error[0])


@pytest.mark.parametrize("family", ["linear", "logit", "poisson"])
def test_the_mean_at_a_value_is_the_average_prediction_of_statsmodels(family: str) -> None:
    data = load("fair")
    formula = f"{'affair' if family == 'logit' else 'affairs'} ~ age + religious"
    ref = reference(family, formula, data, cov_type="HC0")
    res = deepreg.structural(formula, data, family, vcov="HC0").fit()
    ages = [20.0, 37.5]
    got = res.estimate(targets.Mean("age", at=ages), sample="fixed")
    assert got.names == ("Mean age: 20", "Mean age: 37.5")
    at, steps = ref.params.to_numpy(), 1e-4 * ref.bse.to_numpy()

    def mean(params: np.ndarray, age: float) -> float:
        x = np.column_stack([np.ones(len(data)), np.full(len(data), age), data.religious])
        return float(np.mean(ref.model.predict(params, x)))

    slope = np.array([
        [(mean(at + one, age) - mean(at - one, age)) / (2 * s) for s, one in zip(steps, np.diag(steps), strict=True)]
        for age in ages
    ])  # fmt: skip
    np.testing.assert_allclose(got.value, [mean(at, age) for age in ages], rtol=1e-7)
    np.testing.assert_allclose(got.cov, slope @ ref.cov_params().to_numpy() @ slope.T, rtol=1e-5)


def test_what_constant_coefficients_refuse() -> None:
    with pytest.raises(NotAvailable, match="is of constant coefficients"):
        deepreg.structural("affairs ~ age | religious", load("fair"), vcov="nonrobust")
    with pytest.raises(OptionError, match="needs clusters"):
        deepreg.structural("affairs ~ age", load("fair")).fit().vcov("cluster")
    with pytest.raises(deepreg.DataError, match=r"needs an outcome of 0 and 1, but 'share' has"):
        deepreg.structural(CASES[13][2], load("star98"), "logit")


def test_the_median_of_an_even_number_of_rows_is_between_two() -> None:
    data = pd.DataFrame({"y": [0.0, 1, 1, 0, 1, 1], "t": [4.0, 1, 2, 8, 16, 32]})
    design = deepreg.structural("y ~ t", data, "logit").design
    assert targets.At(targets.AME("t"), "median").bind(design).values == (("t", 6.0),)
