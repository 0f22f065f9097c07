"""What statsmodels' results are asked for: the same numbers where theta is constant, honest ones where it varies."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch

import deepreg
from deepreg.comparison import Comparison, influence
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.estimates import Estimates
from deepreg.sampling import Moments, Sampling

RNG = np.random.default_rng(0)
N = 300
ROW = np.arange(N)
DATA = pd.DataFrame({"x": RNG.normal(size=N), "t": RNG.normal(size=N) + 1, "g": ROW % 30})
DATA["h"] = RNG.integers(15, size=N)
DATA["y"] = 1 + DATA.t - DATA.x + RNG.normal(size=N) * (1 + DATA.x.abs())
DATA["b"] = (DATA.y > 1).astype(int)
DATA["k"] = RNG.poisson(np.exp(0.3 * DATA.t))
DATA["w"] = RNG.uniform(0.5, 2, N)
DATA.index = [f"row {i}" for i in range(N)]
FAMILIES = {
    "linear": ("y", lambda f, d: smf.ols(f, d).fit(cov_type="HC1")),
    "logit": ("b", lambda f, d: smf.logit(f, d).fit(cov_type="HC1", disp=0)),
    "poisson": ("k", lambda f, d: smf.poisson(f, d).fit(cov_type="HC1", disp=0)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_coefficients_have_the_numbers_of_statsmodels(family):
    outcome, fit = FAMILIES[family]
    formula = f"{outcome} ~ t + x"
    ours, theirs = deepreg.structural(formula, DATA, family).fit(), fit(formula, DATA)
    assert ours.llf == pytest.approx(theirs.llf, rel=1e-9)
    if family == "linear":
        assert ours.rsquared == pytest.approx(theirs.rsquared, rel=1e-9) and np.isnan(ours.prsquared)
    else:
        assert ours.prsquared == pytest.approx(theirs.prsquared, rel=1e-8)
        assert ours.llnull == pytest.approx(theirs.llnull, rel=1e-9)
    assert (ours.nobs, ours.df_model, ours.df_resid) == (theirs.nobs, theirs.df_model, theirs.df_resid)
    assert ours.cov_type == "HC1" and not ours.use_t and ours.k_constant == 1 and ours.cov_kwds == {}
    assert ours.model.endog_names == theirs.model.endog_names and ours.model.exog_names == theirs.model.exog_names
    assert ours.model.data.param_names == theirs.model.exog_names and ours.model.formula == formula
    assert ours.fittedvalues.index.equals(DATA.index) and ours.resid.index.equals(DATA.index)
    np.testing.assert_allclose(ours.fittedvalues, theirs.predict(), rtol=1e-6)
    np.testing.assert_allclose(ours.resid, DATA[outcome] - theirs.predict(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_with_errors_are_those_of_statsmodels(family):
    outcome, fit = FAMILIES[family]
    formula, new = f"{outcome} ~ t + x", DATA.iloc[:5] * 1.0
    kind = "HC1" if family == "linear" else "HC0"  # statsmodels' HC1 of discrete models has no factor
    ours, theirs = deepreg.structural(formula, DATA, family, vcov=kind).fit(), fit(formula, DATA).get_prediction(new)
    frame, expected = ours.get_prediction(new).summary_frame(0.1), theirs.summary_frame(0.1)
    names = {"mean": "mean", "mean_se": "mean_se", "mean_ci_lower": "mean_ci_lower", "mean_ci_upper": "mean_ci_upper"}
    if family != "linear":
        names = {"mean": "predicted", "mean_se": "se", "mean_ci_lower": "ci_lower", "mean_ci_upper": "ci_upper"}
    assert list(frame) == list(names) and list(frame.index) == list(new.index)
    for one, two in names.items():
        np.testing.assert_allclose(frame[one], expected[two], rtol=2e-6, err_msg=one)
    with pytest.raises(OptionError, match="alpha=2"):
        ours.get_prediction(new).conf_int(2)


@pytest.fixture(scope="module")
def varying():
    return deepreg.structural("y ~ t | x", DATA).fit(folds=2, learners="smooth", rng=0, progress=False)


def test_predictions_of_single_rows_have_no_errors_where_coefficients_vary(varying):
    predicted = varying.get_prediction(DATA.iloc[:3])
    pd.testing.assert_series_equal(predicted.predicted_mean, varying.predict(DATA.iloc[:3]), check_names=False)
    assert list(predicted.summary_frame()) == ["mean"]
    for ask in (lambda: predicted.se_mean, predicted.conf_int):
        with pytest.raises(NotAvailable, match=r"no valid standard error.*estimate\('ate'\)"):
            ask()


def test_fit_statistics_are_out_of_fold(varying):
    y, mean = DATA.y, varying.predict()
    assert varying.rsquared == pytest.approx(1 - ((y - mean) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert varying.llf == pytest.approx(-N / 2 * (np.log(2 * np.pi * ((y - mean) ** 2).mean()) + 1))
    assert varying.llnull == pytest.approx(smf.ols("y ~ 1", DATA).fit().llf)
    noise = DATA.assign(y=RNG.normal(size=N))
    useless = deepreg.structural("y ~ t | x", noise).fit(folds=2, learners="network", members=1, rng=0, progress=False)
    assert useless.rsquared < 0.02  # in sample it could not be below 0


def test_glance_and_tidy(varying):
    row = varying.glance().iloc[0]
    assert row.outcome == "y" and row.nobs == N and row.out_of_fold and row.family == "linear"
    assert row.llf == varying.llf and row.rsquared == varying.rsquared and row.dropped == 0
    broom = varying.tidy("broom", alpha=0.1)
    assert list(broom) == ["term", "estimate", "std.error", "statistic", "p.value", "conf.low", "conf.high"]
    np.testing.assert_array_equal(broom[["conf.low", "conf.high"]], varying.conf_int(0.1))
    assert list(varying.tidy("pyfixest")) == ["Estimate", "Std. Error", "t value", "Pr(>|t|)", "2.5%", "97.5%"]
    pd.testing.assert_frame_equal(varying.tidy(), varying.averages.frame())
    pairs = varying.estimate("coefficient", deepreg.targets.AME("t")).pairwise()
    np.testing.assert_allclose(pairs.tidy("broom")["p.value"], pairs.adjust("holm"))
    plain = pairs.select(pairs.names[:1])  # one test of three is no family of one
    assert plain.adjusted is None and list(plain.frame())[3] == "P>|z|"
    assert pairs.map(lambda v: v[:1], ["a"]).adjusted is None and pairs.t_test([1.0, 0, 0]).adjusted is None
    with pytest.raises(OptionError, match="style='r' is not known; allowed are 'statsmodels', 'broom', 'pyfixest'"):
        varying.tidy("r")


# ---- another fit


@pytest.mark.parametrize(
    "fit",
    [
        lambda: smf.ols("y ~ t + x", DATA).fit(cov_type="HC0"),
        lambda: smf.wls("y ~ t + x", DATA, weights=DATA.w).fit(cov_type="HC0"),
        lambda: smf.logit("b ~ t + x", DATA).fit(cov_type="HC0", disp=0),
        lambda: smf.probit("b ~ t + x", DATA).fit(cov_type="HC0", disp=0),
        lambda: smf.poisson("k ~ t + x", DATA).fit(cov_type="HC0", disp=0),
        lambda: smf.glm("k ~ t + x", DATA, family=sm.families.Poisson()).fit(cov_type="HC0"),
    ],
)
def test_influence_values_of_statsmodels_give_its_sandwich(fit):
    other = fit()
    values = influence(other).to_numpy()
    np.testing.assert_allclose(values.T @ values / N**2, other.cov_params(), rtol=1e-5)
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)


def test_the_same_fit_does_not_differ():
    ours = deepreg.structural("y ~ t + x", DATA).fit()
    same = ours.compare(smf.ols("y ~ t + x", DATA.sample(frac=1, random_state=0)).fit())  # rows in another order
    np.testing.assert_allclose(same.difference.value, 0, atol=1e-9)
    assert same.test is None and "The two fits are the same." in str(same)
    assert (same.difference.std_error == 0).all()


def test_a_difference_has_the_error_of_its_influence_values():
    ours, short = deepreg.structural("y ~ t + x", DATA).fit(), smf.ols("y ~ t", DATA).fit()
    found = ours.compare(short, {"Intercept": "Intercept", "t": "t"})
    assert ours.compare(short).difference.names == ("t",)
    both = influence(smf.ols("y ~ t + x", DATA).fit())[["Intercept", "t"]] - influence(short)
    np.testing.assert_allclose(found.difference.cov, np.cov(both.T) * (N - 1) / N**2 * N / (N - 3), rtol=1e-6)
    np.testing.assert_allclose(found.difference.value, ours.params[["Intercept", "t"]] - short.params, rtol=1e-9)
    frame = found.frame()
    np.testing.assert_allclose(frame["coef"] - frame["other"], frame["difference"])
    weighted = deepreg.structural("y ~ t + x", DATA, weights="w").fit()
    plain = weighted.compare(smf.wls("y ~ t", DATA, weights=DATA.w).fit())
    gap = (
        influence(smf.wls("y ~ t + x", DATA, weights=DATA.w).fit()).t
        - influence(smf.wls("y ~ t", DATA, weights=DATA.w).fit()).t
    )
    assert plain.difference.select(["t"]).std_error[0] == pytest.approx(
        (gap**2).sum() ** 0.5 / N * (N / (N - 3)) ** 0.5
    )


@pytest.mark.slow
def test_the_joint_test_has_its_size_where_both_fits_are_right():
    rng, rejected = np.random.default_rng(1), []
    for _ in range(300):
        x, t = rng.normal(size=(2, 200))
        x = x + t
        data = pd.DataFrame({"y": 1 + 2 * t + rng.normal(size=200) * (1 + t**2) ** 0.5, "t": t, "x": x + 1})
        test = deepreg.structural("y ~ t + x", data).fit().compare(smf.ols("y ~ t", data).fit()).test
        rejected.append(test.pvalue < 0.05)
    assert 0.02 <= np.mean(rejected) <= 0.09


def test_varying_coefficients_beside_ols(varying):
    found = varying.compare(smf.ols("y ~ I(1 * t) + x", DATA).fit(), names={"t": "I(1 * t)"})
    assert found.difference.names == ("t",) and found.test.df == 1
    assert found.difference.std_error[0] < 2 * varying.bse.t


def test_fits_that_cannot_be_compared(varying):
    ols = smf.ols("y ~ t", DATA).fit()
    with pytest.raises(DataError, match="299 there, 299 in both"):
        varying.compare(smf.ols("y ~ t", DATA.iloc[1:]).fit())
    with pytest.raises(OptionError, match=r"same name in both: Intercept, t here, x there.*names=\{'t': 'x'\}"):
        varying.compare(smf.ols("y ~ x - 1", DATA).fit())
    with pytest.raises(OptionError, match="'q' is no coefficient of the other fit; there are Intercept, t"):
        varying.compare(ols, {"t": "q"})
    with pytest.raises(OptionError, match="'q' is no coefficient of this fit"):
        varying.compare(ols, {"q": "t"})
    for other in (None, DATA, sm.OLS(DATA.y.to_numpy(), DATA[["t"]].to_numpy()).fit()):
        with pytest.raises(OptionError, match=r"compare\(\) takes a statsmodels result"):
            varying.compare(other)
    shrunk = smf.logit("b ~ t", DATA).fit_regularized(alpha=20.0, disp=0)
    with pytest.raises(OptionError, match="scores of the other fit do not sum to 0"):
        deepreg.structural("b ~ t", DATA, "logit").fit().compare(shrunk)
    with pytest.raises(DataError, match="another outcome, k"):
        varying.compare(smf.ols("k ~ t", DATA).fit())
    with pytest.raises(OptionError, match="needs the scores of the other fit, which QuantReg does not give"):
        varying.compare(smf.quantreg("y ~ t", DATA).fit())


# ---- other covariances


@pytest.mark.parametrize("ways", ["g", "g+h"])
def test_clusters_named_after_the_fit_are_those_named_before(ways):
    data = DATA.assign(x=DATA.x.where(ROW > 4))
    before = deepreg.structural("y ~ t + x", data, vcov={"CRV1": ways}).fit()
    fit = deepreg.structural("y ~ t + x", data).fit()
    for after in (fit.vcov({"CRV1": ways}, data), before.vcov("robust").vcov({"CRV1": ways})):
        pd.testing.assert_frame_equal(after.cov_params(), before.cov_params(), rtol=1e-12)
        assert after.cov_type == "cluster" and after.cov_kwds == {"groups": tuple(ways.split("+"))}
        assert str(after.summary()) == str(before.summary())
    assert fit.cov_type == "HC1"
    if ways == "g":
        again = before.vcov("HC1").get_robustcov_results("cluster", groups="g")
        pd.testing.assert_series_equal(again.bse, before.bse)
        pd.testing.assert_series_equal(before.get_robustcov_results().bse, fit.bse)


def test_folds_that_were_drawn_by_something_else_are_named(varying):
    text = str(varying.vcov({"CRV1": "g"}, DATA).summary())
    assert "Folds were not drawn by 'g'" in text and "clustered: g (30)" in text
    assert "Folds were not drawn" not in str(varying.summary())
    drawn = deepreg.structural("y ~ t | x", DATA, cluster="g").fit(folds=2, learners="smooth", rng=0, progress=False)
    away = drawn.vcov({"CRV1": "h"}, DATA)
    assert "Folds were not drawn by 'h'" in str(away.summary())
    for back in (away.vcov({"CRV1": "g"}, DATA), away.vcov("robust")):
        assert "Folds were not drawn" not in str(back.summary())


def test_a_difference_without_an_error_does_not_say_that_fits_are_the_same():
    moments = Moments(torch.tensor([[1.0, 2.0]]), torch.tensor([[[-1.0, 0.0], [0.0, -1.0]]]))  # as of two-way clusters
    sampling = Sampling(torch.ones(3), torch.zeros(3, 2).long(), "cluster")
    none = Estimates(("a", "b"), None, sampling, known=moments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", deepreg.DeepregWarning)  # says that a variance is negative
        shown = str(Comparison(none, np.array([2.0, 4.0]), np.array([1.0, 2.0])))
        assert "No difference has an error" in shown and "the same" not in shown
        pairs = none.pairwise()
        assert "b - a" in str(pairs) and np.isnan(pairs.chances()).all()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.vcov({"CRV1": "g"}), "the fit keeps no column 'g'; give the data of the fit as data="),
        (lambda r: r.vcov({"CRV1": "q"}, DATA), "'q'"),
        (lambda r: r.vcov({"CRV1": "g"}, DATA.iloc[1:]), "data= has 299 rows, but the fit was made from 300"),
        (lambda r: r.vcov({"CRV1": "g"}, DATA.sample(frac=1, random_state=0)), "data= has another index than the data"),
        (lambda r: r.get_robustcov_results("cluster", groups=DATA.g), "groups= is a Series; give the name of a column"),
        (lambda r: r.vcov({"CRV1": "g"}, DATA.assign(g=DATA.g.where(DATA.g > 0))), "'g' is missing in 10 of 300"),
        (lambda r: r.vcov({"CRV1": "g+h+x"}, DATA), "name one column, or two that differ"),
        (lambda r: r.vcov({"CRV3": "g"}, DATA), "allowed are {'CRV1': 'column'}"),
        (lambda r: r.vcov({"CRV1": "one"}, DATA.assign(one=1)), "has one cluster"),
        (lambda r: r.get_robustcov_results("HC1", groups="g"), "needs cov_type='cluster', not 'HC1'"),
        (lambda r: r.get_robustcov_results("HC4"), "vcov='HC4' is not known"),
    ],
)
def test_covariances_that_are_refused(varying, ask, message):
    with pytest.raises((OptionError, DataError)) as caught:
        ask(varying)
    assert message in str(caught.value)
