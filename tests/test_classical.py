"""Constant coefficients with every covariance: the numbers of statsmodels, and of formulas where it has none."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch
from references import reference
from scipy.special import gammaln

import deepreg
from deepreg import targets
from deepreg.errors import NotAvailable, OptionError
from deepreg.results import Results

KINDS = ("classical", "HC0", "HC1", "HC2", "HC3")


@cache
def fair(every: int = 12) -> pd.DataFrame:
    data = sm.datasets.fair.load_pandas().data.iloc[::every].reset_index(drop=True)
    return data.assign(affair=(data.affairs > 0) * 1, w=data.yrs_married + 1, g=np.arange(len(data)) % 23)


FORMULA = "affair ~ rate_marriage + age + religious"


def same(res: Results, other, rtol: float = 1e-6, scale: float = 1.0) -> None:
    np.testing.assert_allclose(res.params, other.params, rtol=1e-8)
    np.testing.assert_allclose(res.bse * scale, other.bse, rtol=rtol)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("kind", KINDS)
def test_least_squares_has_the_errors_of_statsmodels(kind, weights):
    formula, data = "affairs ~ rate_marriage + age * religious", fair()
    model = smf.ols(formula, data) if weights is None else smf.wls(formula, data, weights=data.w)
    other = model.fit(cov_type="nonrobust" if kind == "classical" else kind)
    res = deepreg.ols(formula, data, weights=weights).fit(cov=kind)
    same(res, other)
    np.testing.assert_allclose(res.cov_params(), other.cov_params(), rtol=1e-6, atol=1e-12)
    assert res.cov_type == other.cov_type
    if weights is None:
        assert (res.llf, res.aic, res.bic) == pytest.approx((other.llf, other.aic, other.bic), rel=1e-12)


@pytest.mark.parametrize(("alias", "fit"), [("logit", smf.logit), ("probit", smf.probit), ("poisson", smf.poisson)])
def test_likelihoods_have_the_errors_of_statsmodels(alias, fit):
    formula = FORMULA if alias != "poisson" else "affairs ~ rate_marriage + age"
    other = fit(formula, fair()).fit(disp=0, tol=1e-12)
    res = getattr(deepreg, alias)(formula, fair()).fit(cov="classical")
    same(res, other)
    assert (res.llf, res.aic, res.bic) == pytest.approx((other.llf, other.aic, other.bic), rel=1e-10)
    score = other.model.score_obs(other.params)
    np.testing.assert_allclose(res.vcov("opg").bse, np.diag(np.linalg.inv(score.T @ score)) ** 0.5, rtol=1e-7)
    law = {"logit": sm.families.Binomial(), "poisson": sm.families.Poisson(),
           "probit": sm.families.Binomial(sm.families.links.Probit())}[alias]  # fmt: skip
    same(res.vcov("expected"), smf.glm(formula, fair(), family=law).fit(tol=1e-12))


def test_negative_binomial_and_gamma_regressions_have_the_errors_of_statsmodels():
    data, formula = fair(6), "affairs ~ rate_marriage + age"
    counts = data.assign(affairs=data.affairs.round())
    model = smf.negativebinomial(formula, counts)
    near = model.fit(disp=0, method="bfgs", maxiter=500, gtol=1e-6).params
    other = model.fit(disp=0, start_params=near, method="newton", maxiter=100, tol=1e-12)
    res = deepreg.negbin(formula, counts).fit(cov="classical")
    alpha = np.array([1, 1, 1, np.exp(res.params["log_alpha"])])  # statsmodels has alpha, and its error by its slope
    np.testing.assert_allclose(res.bse * alpha, other.bse, rtol=1e-6)
    assert (res.llf, res.aic, res.bic) == pytest.approx((other.llf, other.aic, other.bic), rel=1e-9)
    some = data[data.affairs > 0]
    law = sm.families.Gamma(sm.families.links.Log())
    other = smf.glm(formula, some, family=law).fit(tol=1e-13)
    res = deepreg.structural(formula, some, "gamma").fit(cov="expected")
    scale = (other.scale * np.exp(res.params["log_shape"])) ** 0.5  # by Pearson's statistic there, likelihood here
    np.testing.assert_allclose(res.params[:-1], other.params, rtol=1e-8)
    np.testing.assert_allclose(res.bse[:-1] * scale, other.bse, rtol=1e-6)


def test_weights_are_precisions_as_in_a_glm():
    data = fair()
    other = smf.glm(FORMULA, data, family=sm.families.Binomial(), var_weights=data.w).fit(tol=1e-12)
    same(deepreg.logit(FORMULA, data, weights="w").fit(cov="classical"), other)
    law = sm.families.Tweedie(sm.families.links.Log(), var_power=1.5)
    other = smf.glm("affairs ~ age + religious", data, family=law).fit(tol=1e-13, maxiter=200)
    same(deepreg.structural("affairs ~ age + religious", data, "tweedie").fit(cov="expected"), other)


@pytest.mark.parametrize("alias", ["logit", "probit", "poisson"])
def test_leverages_are_those_of_generalised_linear_models(alias):
    """h = diag(W^1/2 X (X'WX)^-1 X' W^1/2) with the weights of Fisher scoring, as R's sandwich::vcovHC takes them."""
    data = fair(40)
    res = getattr(deepreg, alias)("affair ~ age + religious", data).fit()
    law = {"logit": sm.families.Binomial(), "poisson": sm.families.Poisson(),
           "probit": sm.families.Binomial(sm.families.links.Probit())}[alias]  # fmt: skip
    other = smf.glm("affair ~ age + religious", data, family=law).fit(tol=1e-13)
    x, weight = other.model.exog, other.model.hessian_factor(other.params, observed=False)
    h = weight * np.einsum("ij,jk,ik->i", x, np.linalg.inv((x * weight[:, None]).T @ x), x)
    hessian = -other.model.hessian(other.params, observed=True)
    for kind, power in (("HC2", 0.5), ("HC3", 1.0)):
        score = other.model.score_obs(other.params) / (1 - h)[:, None] ** power
        meat = np.linalg.inv(hessian) @ score.T @ score @ np.linalg.inv(hessian)
        np.testing.assert_allclose(res.vcov(kind).bse, np.diag(meat) ** 0.5, rtol=1e-7)


@pytest.mark.parametrize("sample", ["population", "fixed"])
def test_effects_have_the_errors_of_the_covariance(sample):
    """By the delta method given the features; over the population with the variance of the rows' own effects."""
    data = fair()
    other = smf.logit(FORMULA, data).fit(disp=0, tol=1e-12)
    margins = other.get_margeff()
    res = deepreg.logit(FORMULA, data).fit(cov="classical")
    found = res.estimate(*(targets.AME(name) for name in other.params.index[1:]), sample=sample)
    np.testing.assert_allclose(found.value, margins.margeff, rtol=1e-8)
    p = res.predict().to_numpy()
    own = np.outer(p * (1 - p), res.params[1:]).var(0) / len(p) if sample == "population" else 0.0
    np.testing.assert_allclose(found.std_error**2, margins.margeff_se**2 + own, rtol=1e-6)
    robust = {kind: res.vcov(kind).estimate(targets.AME("age"), sample=sample).std_error for kind in ("HC0", "HC3")}
    assert robust["HC3"] > robust["HC0"]
    same = deepreg.ols(FORMULA, data).fit(cov="HC3").estimate(targets.AME("age"), sample=sample)
    np.testing.assert_allclose(same.std_error, smf.ols(FORMULA, data).fit(cov_type="HC3").bse[["age"]], rtol=1e-9)


def test_tests_and_tables_take_the_covariance():
    data, formula = fair(), "affairs ~ rate_marriage + age"
    other, res = smf.ols(formula, data).fit(), deepreg.ols(formula, data).fit(cov="classical")
    wald = res.wald_test("age = 0, rate_marriage = 0")
    assert wald.statistic == pytest.approx(float(other.wald_test(np.eye(3)[1:], use_f=False, scalar=True).statistic))
    difference = "age - rate_marriage = 0"
    np.testing.assert_allclose(res.t_test(difference).std_error, np.ravel(other.t_test(difference).sd), rtol=1e-8)
    text = res.summary().as_text()
    for words in ("classical", f"{other.llf:,.3f}", f"{other.aic:,.3f}", f"{other.bic:,.3f}"):
        assert words in text
    frame = deepreg.etable([res, other], stats=["ll", "aic", "bic", "covariance"]).to_frame()
    for label, value in (("Log-likelihood", other.llf), ("AIC", other.aic), ("BIC", other.bic)):
        np.testing.assert_allclose(frame.loc[label].to_numpy(float).ravel(), value, rtol=1e-12)
    row = res.glance().iloc[0]
    assert (row.aic, row.bic, row.cov_type) == (res.aic, res.bic, "nonrobust")


def test_clusters_can_be_named_in_fit():
    data, formula = fair(), "affairs ~ rate_marriage + g"
    other = smf.ols(formula, data).fit(cov_type="cluster", cov_kwds={"groups": data.g})
    same(deepreg.ols(formula, data).fit(cov={"CRV1": "g"}), other)


def test_what_a_covariance_needs():
    data = fair()
    with pytest.raises(NotAvailable, match=r"vcov='HC3' is of constant coefficients.*take the features out"):
        deepreg.ols("affairs ~ age | religious", data, vcov="HC3")
    with pytest.raises(NotAvailable, match="vcov='nonrobust' is of constant coefficients"):
        deepreg.ols("affairs ~ age | religious", data).fit(cov="nonrobust")
    with pytest.raises(NotAvailable, match=r"leverage of each row.*'negbin' is none"):
        deepreg.negbin("affairs ~ age", data.assign(affairs=data.affairs.round())).fit(cov="HC2")
    with pytest.raises(NotAvailable, match="expected Hessian of family 'probability'"):
        deepreg.logit("affair ~ age", data, link=lambda eta: torch.sigmoid(2 * eta), vcov="expected")
    with pytest.raises(NotAvailable, match="needs a likelihood, and the loss of family 'linear_system'"):
        deepreg.ols("affairs + age ~ religious", data).fit(cov="classical")
    with pytest.raises(OptionError, match="vcov='HC9' is not known"):
        deepreg.ols("affairs ~ age", data).fit(cov="HC9")
    assert np.isnan(deepreg.ols("affairs ~ age | religious", data).fit(
        folds=2, learners="smooth", rng=0, progress=False).aic)  # fmt: skip


def test_the_certificate_says_that_a_minimum_is_one():
    res = deepreg.logit(FORMULA, fair()).fit()
    made = res.certificate
    assert made.converged and made.gradient < 1e-9 and made.method == "Newton" and made.free == 4 and made.starts == 1
    x = sm.add_constant(fair()[["rate_marriage", "age", "religious"]]).to_numpy()
    x[:, 1:] = (x[:, 1:] - x[:, 1:].mean(0)) / x[:, 1:].std(0)
    p = res.predict().to_numpy()
    hessian = (x * (p * (1 - p))[:, None]).T @ x
    unit = np.diag(hessian) ** -0.5
    values = np.linalg.eigvalsh(hessian * np.outer(unit, unit))
    assert (made.eigenvalue, made.condition) == pytest.approx((values[0], values[-1] / values[0]))
    with pytest.raises(NotAvailable, match="certificate is of constant theta"):
        deepreg.ols("affairs ~ age | religious", fair()).fit(folds=2, learners="smooth", progress=False).certificate  # noqa: B018


def test_columns_that_are_nearly_alike_and_columns_that_separate_are_named():
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "c"])
    data = data.assign(near=data.a + 3e-4 * data.c, y=(data.b > 0) * 1, k=rng.poisson(1, 300))
    notes = deepreg.ols("k ~ a + near + b", data).fit().summary().notes
    assert any("hardly tell a, near apart" in note for note in notes)
    assert not deepreg.ols("k ~ a + b", data).fit().summary().notes
    with pytest.raises(deepreg.DataError, match="separated by b, which foretell"):
        deepreg.logit("y ~ a + b", data).fit()


# ---- the numbers of the reference, on its data


@cache
def numbers() -> dict:
    return json.loads(reference("classical", "ols_glm", "statsmodels_reference.json").read_text())


@cache
def data_of(name: str) -> pd.DataFrame:
    return pd.read_csv(reference("classical", "ols_glm", name))


def compared(res: Results, name: str, kinds: dict[str, str], scale: float = 1.0, tail: tuple[float, ...] = ()) -> None:
    """Parameters, errors by the covariance that each is of, log-likelihood and criteria."""
    known = numbers()[name]
    size = len(known["params"]) - len(tail)
    np.testing.assert_allclose(res.params[:size], known["params"][:size], rtol=1e-8)
    for key, kind in kinds.items():
        found = res.vcov(kind).bse.to_numpy()[: size + len(tail)] * np.append(np.ones(size), tail) * scale
        np.testing.assert_allclose(found, known[key], rtol=1e-6, err_msg=key)
    assert (res.llf, res.aic, res.bic) == pytest.approx((known["llf"], known["aic"], known["bic"]), rel=1e-9)


def test_least_squares_of_the_reference():
    kinds = {"bse": "classical"} | {f"bse_{kind}": kind for kind in KINDS[1:]}
    for name, file in (("ols_statecrime", "statecrime.csv"), ("ols_fair", "fair.csv")):
        compared(deepreg.ols(numbers()[name]["formula"], data_of(file)).fit(), name, kinds)
    data, known = data_of("fair.csv").assign(w=lambda one: one.yrs_married + 1), numbers()["ols_fair"]
    res = deepreg.ols(known["formula"], data, cluster="occupation").fit()
    np.testing.assert_allclose(res.bse, known["bse_cluster_occupation"], rtol=1e-6)
    known = numbers()["wls_fair"]
    res = deepreg.ols(known["formula"], data, weights="w").fit(cov="classical")
    np.testing.assert_allclose(res.params, known["params"], rtol=1e-8)
    np.testing.assert_allclose(res.bse, known["bse"], rtol=1e-6)
    np.testing.assert_allclose(res.vcov("HC0").bse, known["bse_HC0"], rtol=1e-6)
    # weights are scaled to sum to n here, and taken as inverse variances in the likelihood of statsmodels
    assert res.llf + 0.5 * np.log(data.w / data.w.mean()).sum() == pytest.approx(known["llf"], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "family", "file", "kinds"),
    [
        ("logit_fair", "logit", "fair.csv", {"bse": "classical", "bse_HC0": "HC0", "bse_opg": "opg"}),
        ("probit_fair", "probit", "fair.csv", {"bse": "classical", "bse_HC0": "HC0"}),
        ("poisson_randhie", "poisson", "randhie.csv", {"bse": "classical", "bse_HC0": "HC0", "bse_opg": "opg"}),
        ("poisson_cpunish", "poisson", "cpunish.csv", {"bse": "classical", "bse_HC0": "HC0"}),
    ],
)
def test_one_index_of_the_reference(name, family, file, kinds):
    data = data_of(file)
    if file == "cpunish.csv":
        data = data.assign(LN_VC=np.log(data.VC100k96))
    compared(deepreg.structural(numbers()[name]["formula"], data, family).fit(), name, kinds)


def test_a_clustered_logit_of_the_reference():
    known = numbers()["logit_fair"]
    res = deepreg.logit(known["formula"], data_of("fair.csv"), cluster="educ").fit()
    np.testing.assert_allclose(res.bse, known["bse_cluster_educ"], rtol=1e-6)


def test_a_negative_binomial_and_zeros_in_excess_of_the_reference():
    data, name = data_of("randhie.csv"), "negbin2_randhie"
    res = deepreg.negbin(numbers()[name]["formula"], data).fit()
    compared(res, name, {"bse": "classical", "bse_HC0": "HC0"}, tail=(np.exp(res.params["log_alpha"]),))
    known, formula = numbers()["zip_randhie"], "mdvis ~ lncoins + idp + lpi + disea + physlm"
    fixed = {"physlm": (0, 0)} | {f"zero: {name}": (0, 0) for name in ("lncoins", "idp", "lpi", "disea")}
    res = deepreg.structural(formula, data, "zip", bounds=fixed).fit(cov="classical")
    order = ["zero: Intercept", "zero: physlm", "Intercept", "lncoins", "idp", "lpi", "disea"]
    np.testing.assert_allclose(res.params[order], known["params"], rtol=1e-6)
    np.testing.assert_allclose(res.bse[order], known["bse"], rtol=8e-3)  # statsmodels' Hessian is not that of its score
    assert (res.llf, res.aic, res.bic) == pytest.approx((known["llf"], known["aic"], known["bic"]), rel=1e-10)


def test_trials_and_amounts_of_the_reference():
    data, known = data_of("star98.csv"), numbers()["binomial_star98"]
    data = data.assign(trials=data.NABOVE + data.NBELOW, share=data.NABOVE / (data.NABOVE + data.NBELOW))
    formula = known["formula"].replace("NABOVE + NBELOW", "share")
    res = deepreg.structural(formula, data, "fractional_logit", weights="trials").fit(cov="classical")
    np.testing.assert_allclose(res.params, known["params"], rtol=1e-8)
    np.testing.assert_allclose(res.bse, known["bse"], rtol=1e-6)
    np.testing.assert_allclose(res.vcov("HC0").bse, known["bse_HC0"], rtol=1e-6)
    ways = gammaln(data.trials + 1) - gammaln(data.NABOVE + 1) - gammaln(data.NBELOW + 1)
    assert res.llf * data.trials.mean() + ways.sum() == pytest.approx(known["llf"], rel=1e-12)
    known, some = numbers()["gamma_fair_pos"], data_of("fair.csv").query("affairs > 0")
    res = deepreg.structural(known["formula"], some, "gamma").fit(cov="expected")
    scale = (known["scale"] * np.exp(res.params["log_shape"])) ** 0.5
    np.testing.assert_allclose(res.params[:-1], known["params"], rtol=1e-8)
    np.testing.assert_allclose(res.bse[:-1] * scale, known["bse"], rtol=1e-6)
    np.testing.assert_allclose(res.vcov("HC0").bse[:-1], known["bse_HC0"], rtol=1e-6)
    assert res.llf > known["llf"]  # at the dispersion that maximises it, not at Pearson's


def test_visits_to_the_doctor():
    data = data_of("drvisits_gsem_mixture.csv")
    res = deepreg.ols("drvisits ~ private + medicaid + age + educ + actlim + chronic", data).fit(cov="classical")
    assert float((res.resid**2).sum()) == pytest.approx(169513.01222522656, rel=1e-14)
    same(res, smf.ols("drvisits ~ private + medicaid + age + educ + actlim + chronic", data).fit())
