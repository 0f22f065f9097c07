"""Constant coefficients of families for binary, positive and bounded outcomes equal those of statsmodels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import optimize, stats
from scipy.special import expit
from statsmodels.othermod.betareg import BetaModel

import deepreg
from deepreg.errors import DataError, OptionError
from deepreg.results import Results


def drawn(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    t, x = rng.integers(0, 2, n), rng.normal(size=n)
    eta = 0.2 + 0.5 * t - 0.3 * x
    m, p = np.exp(eta), expit(eta)
    return pd.DataFrame(
        {
            "t": t, "x": x, "b": (eta + rng.normal(size=n) > 0) * 1, "inside": rng.beta(4 * p, 4 * (1 - p)),
            "share": rng.binomial(5, p) / 5, "gamma": rng.gamma(2.0, m / 2), "wald": rng.wald(m, 3.0),
            "lognormal": np.exp(eta + 0.6 * rng.normal(size=n)),
            "claims": rng.gamma(2.0, m / 2) * rng.binomial(1, 0.6, n),
        }
    )  # fmt: skip


DATA = drawn()


def fitted(outcome: str, family: Any, data: pd.DataFrame = DATA) -> Results:
    return deepreg.structural(f"{outcome} ~ t + x", data, family, vcov="HC0").fit()


def glm(outcome: str, law: Any, data: pd.DataFrame = DATA) -> Any:
    return smf.glm(f"{outcome} ~ t + x", data, family=law).fit(cov_type="HC0", tol=1e-13, maxiter=200)


def assert_equal(ours: Results, theirs: Any, rtol: float = 1e-5) -> None:
    names = list(theirs.params.index)
    assert list(ours.params.index)[: len(names)] == names
    np.testing.assert_allclose(ours.params[names], theirs.params, rtol=rtol)
    np.testing.assert_allclose(ours.bse[names], theirs.bse, rtol=1e-4)


def test_probit() -> None:
    ours, theirs = fitted("b", "probit"), smf.probit("b ~ t + x", DATA).fit(disp=0, cov_type="HC0", tol=1e-13)
    assert_equal(ours, theirs)
    np.testing.assert_allclose([ours.llf, ours.llnull, ours.prsquared], [theirs.llf, theirs.llnull, theirs.prsquared])
    margins = theirs.get_margeff()
    np.testing.assert_allclose(ours.get_margeff().value, margins.margeff, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(), theirs.predict(), rtol=1e-8)


def test_cloglog() -> None:
    theirs = glm("b", sm.families.Binomial(sm.families.links.CLogLog()))
    ours = fitted("b", "cloglog")
    assert_equal(ours, theirs)
    np.testing.assert_allclose([ours.llf, ours.llnull], [theirs.llf, theirs.llnull])


@pytest.mark.parametrize("family", ["probit", "cloglog"])
def test_a_regressor_far_from_zero_and_a_rare_outcome(family: str) -> None:
    data = DATA.assign(x=1e6 + 1e4 * DATA.x, b=(DATA.b * (np.arange(len(DATA)) % 12 == 0)).astype(int))
    near = fitted("b", family, DATA.assign(b=data.b))
    assert 5 < data.b.sum() < 30
    np.testing.assert_allclose(fitted("b", family, data).params["x"] * 1e4, near.params["x"], rtol=1e-6)


@pytest.mark.parametrize("family", ["probit", "cloglog", "fractional_probit"])
@pytest.mark.parametrize("by", ["x", "t"])
def test_separated_outcomes_are_refused(family: str, by: str) -> None:
    """Also where the tails of the loss are so flat that Newton's method stops in them."""
    data = DATA.assign(b=(DATA.x > 0) * 1 if by == "x" else np.where(DATA.t == 1, 1, DATA.b))
    with pytest.raises(DataError, match=f"family='{family}'.*separated by"):
        fitted("b", family, data)


@pytest.mark.parametrize(("family", "link"), [("fractional_logit", "Logit"), ("fractional_probit", "Probit")])
def test_fractional(family: str, link: str) -> None:
    theirs = glm("share", sm.families.Binomial(getattr(sm.families.links, link)()))
    ours = fitted("share", family)
    assert (DATA.share == 0).sum() > 0 and (DATA.share == 1).sum() > 0
    assert_equal(ours, theirs)
    mean, y = theirs.predict(), DATA.share
    np.testing.assert_allclose(ours.llf, (y * np.log(mean) + (1 - y) * np.log1p(-mean)).sum())
    np.testing.assert_allclose(ours.predict(), mean, rtol=1e-7)


def test_beta() -> None:
    model = BetaModel.from_formula("inside ~ t + x", DATA)
    theirs = model.fit(disp=0, cov_type="HC0", gtol=1e-9)
    ours = fitted("inside", "beta")
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-5)
    np.testing.assert_allclose(ours.bse, theirs.bse, rtol=1e-4)
    assert list(ours.params.index) == ["Intercept", "t", "x", "log_precision"]
    np.testing.assert_allclose([ours.llf, ours.llnull], [theirs.llf, theirs.llnull])


LAWS = {
    "gamma": ("gamma", sm.families.Gamma(sm.families.links.Log())),
    "inverse_gaussian": ("wald", sm.families.InverseGaussian(sm.families.links.Log())),
    "tweedie": ("claims", sm.families.Tweedie(sm.families.links.Log(), var_power=1.5)),
}


@pytest.mark.parametrize("family", LAWS)
@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e9])
def test_a_log_link(family: str, unit: float) -> None:
    outcome, law = LAWS[family]
    theirs = glm(outcome, law)
    ours = fitted(outcome, family, DATA.assign(**{outcome: DATA[outcome] * unit}))
    np.testing.assert_allclose(ours.params[["t", "x"]], theirs.params[["t", "x"]], rtol=1e-5)
    np.testing.assert_allclose(ours.bse[["Intercept", "t", "x"]], theirs.bse, rtol=1e-4)
    np.testing.assert_allclose(ours.params["Intercept"], theirs.params["Intercept"] + np.log(unit), rtol=1e-5)
    np.testing.assert_allclose(ours.get_margeff().value, theirs.get_margeff().margeff * unit, rtol=1e-5)


@pytest.mark.parametrize("family", ["gamma", "inverse_gaussian"])
def test_the_shape_is_that_of_the_maximum_likelihood(family: str) -> None:
    outcome, law = LAWS[family]
    ours, y = fitted(outcome, family), DATA[outcome]
    mean = glm(outcome, law).predict()
    if family == "gamma":

        def density(k: float) -> float:
            return stats.gamma.logpdf(y, k, scale=mean / k).sum()
    else:

        def density(k: float) -> float:
            return stats.invgauss.logpdf(y, mean / k, scale=k).sum()

    best = optimize.minimize_scalar(lambda log_k: -density(np.exp(log_k)), bracket=(0, 1), tol=1e-12)
    np.testing.assert_allclose(ours.params["log_shape"], best.x, rtol=1e-6)
    np.testing.assert_allclose(ours.llf, -best.fun)


def test_lognormal() -> None:
    theirs = smf.ols("np.log(lognormal) ~ t + x", DATA).fit(cov_type="HC0")
    ours = fitted("lognormal", "lognormal")
    assert_equal(ours, theirs)
    sigma = np.sqrt((theirs.resid**2).mean())
    np.testing.assert_allclose(ours.params["log_sigma"], np.log(sigma), rtol=1e-6)
    np.testing.assert_allclose(ours.llf, theirs.llf - np.log(DATA.lognormal).sum())
    np.testing.assert_allclose(ours.predict(), np.exp(theirs.fittedvalues + sigma**2 / 2), rtol=1e-6)


def test_tweedie_has_a_power_and_no_likelihood() -> None:
    law = sm.families.Tweedie(sm.families.links.Log(), var_power=1.2)
    ours = fitted("claims", deepreg.families.Tweedie(power=1.2))
    assert_equal(ours, glm("claims", law))
    assert np.isnan(ours.llf) and 0 < ours.rsquared < 1
    for wrong in (1, 2, 0.5, float("nan"), "1.5", True):
        with pytest.raises(OptionError, match=r"Tweedie\(power=.*between 1 and 2.*'poisson', at 2 'gamma'"):
            deepreg.families.Tweedie(power=wrong)


def test_an_option_is_kept_in_a_file(tmp_path: Path) -> None:
    fit = fitted("claims", deepreg.families.Tweedie(power=1.7))
    fit.save(tmp_path / "fit.deepreg")
    again = deepreg.load(tmp_path / "fit.deepreg")
    assert again.structure.family == deepreg.families.Tweedie(power=1.7)


def test_a_density_has_an_r_squared_of_the_mean_and_none_of_likelihoods() -> None:
    fits = [fitted("inside", "beta"), fitted("gamma", "gamma"), fitted("claims", "tweedie"), fitted("b", "probit")]
    assert [np.isnan(fit.prsquared) for fit in fits] == [True, True, True, False]
    table = deepreg.etable(fits).to_frame()
    assert list(table.loc["R²"].iloc[0].notna()) == [True, True, True, False]
    residual = DATA.inside - BetaModel.from_formula("inside ~ t + x", DATA).fit(disp=0, gtol=1e-9).predict()
    np.testing.assert_allclose(fits[0].rsquared, 1 - (residual**2).mean() / DATA.inside.var(ddof=0), rtol=1e-6)


LINK = {"probit": stats.norm.cdf, "fractional_probit": stats.norm.cdf, "cloglog": lambda eta: -np.expm1(-np.exp(eta)),
        "fractional_logit": expit, "beta": expit}  # fmt: skip
DRAW: dict[str, Any] = {
    **dict.fromkeys(("probit", "cloglog"), lambda rng, m, k: rng.binomial(1, m)),
    **dict.fromkeys(("fractional_logit", "fractional_probit"), lambda rng, m, k: rng.binomial(4, m) / 4),
    "beta": lambda rng, m, k: rng.beta(k * m, k * (1 - m)),
    "gamma": lambda rng, m, k: rng.gamma(k, m / k),
    "inverse_gaussian": lambda rng, m, k: rng.wald(m, k),
    "lognormal": lambda rng, m, k: m * np.exp(rng.normal(size=len(m)) / k - 0.5 / k**2),
    "tweedie": lambda rng, m, k: rng.gamma(2.0, m / 2 / 0.6) * rng.binomial(1, 0.6, len(m)),
}


@pytest.mark.parametrize("family", DRAW)
def test_functions_of_the_features(family: str) -> None:
    """Coefficients and shape are curved in x, and the treatment is more likely where its effect is large."""
    rng, n = np.random.default_rng(11), 1500
    x, z = rng.uniform(-1, 1, (2, n))
    t = rng.binomial(1, expit(1.5 * x))
    index = 0.6 * np.sin(3 * x) + 0.3 * z - 0.3, 0.5 + 0.6 * x
    low, high = (LINK.get(family, np.exp)(index[0] + level * index[1]) for level in (0, 1))
    y = DRAW[family](rng, np.where(t == 1, high, low), 3 * np.exp(0.5 * x))
    data = pd.DataFrame({"y": y, "t": t, "x": x, "z": z})
    fit = deepreg.structural("y ~ t | x + z", data, family).fit(learners=("smooth",), folds=2, rng=0, progress=False)
    effect = fit.ate()
    assert abs(effect.value[0] - (high - low).mean()) < 4 * effect.std_error[0]
    assert effect.std_error[0] < 0.1 and effect.std_error[0] < (high - low).mean() / 3
    losses = fit.facts.loss
    assert losses["theta(x)"] < losses["homogeneous"] - 0.005


@pytest.mark.parametrize("spread", [1e-3, 1e-4, 1e-5])
def test_shares_that_hardly_vary_around_their_mean_have_a_precision(spread: float) -> None:
    """The precision is m (1 - m) over the variance, where the loss would cancel if it were taken from logarithms."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    m = expit(-0.3 + 0.5 * x)
    y = m + spread * rng.normal(size=300) * (m * (1 - m)) ** 0.5
    found = deepreg.structural("y ~ x", pd.DataFrame({"y": y, "x": x}), "beta").fit()
    np.testing.assert_allclose(found.params[["Intercept", "x"]], [-0.3, 0.5], atol=2 * spread)
    np.testing.assert_allclose(found.params["log_precision"], -2 * np.log(spread), atol=0.3)


def test_shares_that_do_not_vary_around_their_mean_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=300)
    data = pd.DataFrame({"y": expit(-0.3 + 0.5 * x), "x": x})
    with pytest.raises(DataError, match=r"all but exactly, so the precision passes 7e\+10.*fractional_logit") as caught:
        deepreg.structural("y ~ x", data, "beta").fit()
    assert "separated" not in str(caught.value) and "collinear" not in str(caught.value)
