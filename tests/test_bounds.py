"""Bounds on constant coefficients: true ones, with an active set, and errors on what is free."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import statsmodels.formula.api as smf
import torch
from references import reference

import deepreg
from deepreg import targets
from deepreg.errors import NotAvailable, OptionError

N = 400
RNG = np.random.default_rng(4)
DATA = pd.DataFrame(RNG.normal(size=(N, 4)), columns=["a", "b", "c", "e"])
DATA["y"] = 1 + DATA.a - 0.5 * DATA.b + 0.05 * DATA.c + RNG.normal(size=N)
DATA["k"] = RNG.poisson(np.exp(0.3 * DATA.a - 0.3 * DATA.b))
DATA["q"] = (DATA.y > 1) * 1
DATA["w"], DATA["far"] = RNG.uniform(0.5, 2, N), 1e4 + 50 * DATA.b


def test_a_bound_that_binds_is_reached_to_the_last_digit_and_the_rest_is_the_fit_without():
    res = deepreg.ols("y ~ a + b + c", DATA, bounds={"b": (0, None), "a": (None, 0.25), "c": (-5, 5)}).fit(cov="HC1")
    assert res.params["b"] == 0 and res.params["a"] == 0.25
    other = smf.ols("I(y - 0.25 * a) ~ c", DATA).fit(cov_type="HC0")
    np.testing.assert_allclose(res.params[["Intercept", "c"]], other.params, rtol=1e-9)
    np.testing.assert_allclose(res.vcov("HC0").bse[["Intercept", "c"]], other.bse, rtol=1e-9)
    np.testing.assert_allclose(res.bse[["Intercept", "c"]], other.bse * (N / (N - 2)) ** 0.5, rtol=1e-9)
    classical = smf.ols("I(y - 0.25 * a) ~ c", DATA).fit()
    np.testing.assert_allclose(res.vcov("classical").bse[["Intercept", "c"]], classical.bse, rtol=1e-9)
    assert res.certificate.bound == ("a", "b") and res.certificate.free == 2
    assert res.aic == pytest.approx(classical.aic, rel=1e-12) and res.df_model == 1 and res.df_resid == N - 2
    for numbers in (res.bse, res.tvalues, res.pvalues, res.conf_int()[0]):
        assert numbers.isna().tolist() == [False, True, True, False]


@pytest.mark.parametrize("alias", ["logit", "poisson", "probit"])
@pytest.mark.parametrize("names", [("b",), ("Intercept", "far"), ("b", "c", "e")])
def test_the_minimum_is_that_of_another_minimiser(alias, names):
    """L-BFGS-B on the caller's columns, and the conditions of Karush, Kuhn and Tucker at ours."""
    outcome = "k" if alias == "poisson" else "q"
    formula = f"{outcome} ~ a + " + ("far" if "far" in names else "b + c + e")
    bounds = dict.fromkeys(names, (0, 0.1))
    res = getattr(deepreg, alias)(formula, DATA, bounds=bounds).fit()
    family, u = res.structure.family, res.design.units
    theta = np.array(res.params)
    scale = np.array([1, *np.abs(u.d.numpy()).max(0)[1:]])

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(x / scale, requires_grad=True)
        value = family.loss(u, at).mean()
        value.backward()
        return value.item(), at.grad.numpy() / scale

    box = [(0, 0.1 * s) if name in names else (None, None) for name, s in zip(res.params.index, scale, strict=True)]
    start = np.clip(0 * theta, *zip(*[(-9 if a is None else a, 9 if b is None else b) for a, b in box], strict=True))
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=box,
                                    options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000})  # fmt: skip
    value, gradient = loss(theta * scale)
    assert value <= found.fun + 1e-10
    for name, b, slope in zip(res.params.index, theta, gradient, strict=True):
        inside = name not in names or 0 < b < 0.1
        assert (abs(slope) < 1e-8) if inside else (slope > 0 if b == 0 else slope < 0), name


def test_bounds_that_do_not_bind_change_nothing():
    plain = deepreg.poisson("k ~ a + far", DATA, weights="w").fit()
    for bounds in ({"a": (-3, 3)}, {"*": (-3, None)}, {"Intercept": (-1e4, 1e4)}, {"a": (None, None)}):
        res = deepreg.poisson("k ~ a + far", DATA, weights="w", bounds=bounds).fit()
        np.testing.assert_allclose(res.params, plain.params, rtol=1e-9)
        np.testing.assert_allclose(res.cov_params(), plain.cov_params(), rtol=1e-7)
        assert res.certificate.bound == () and not res.summary().notes


def test_what_is_at_a_bound_is_printed_without_an_error_and_said():
    res = deepreg.logit("q ~ a + b", DATA, bounds={"b": (0, None)}).fit()
    text = res.summary().as_text()
    assert re.search(r"^b +0\.0000 *$", text, re.MULTILINE) and "without an error: b (0 or more)" in text
    assert re.search(r"^AME b +0\.0000 *$", text, re.MULTILINE)
    assert np.isfinite(res.estimate(targets.AME("a")).std_error).all()
    assert np.isnan(res.t_test("b = 1").std_error).all() and np.isfinite(res.t_test("a + b = 1").std_error).all()
    with pytest.raises(OptionError, match="b has no variance to test with"):
        res.wald_test("b = 0")
    table = deepreg.etable([res], style="plain").as_text()
    assert (
        "nan" not in table
        and "b at a bound, without an error" in " ".join(table.split()).lower()
        and re.search(r"^b +0\.000 *$", table, re.MULTILINE)
    )


def test_a_name_with_a_star_stands_for_all_but_intercepts():
    res = deepreg.ols("y ~ a + b + c", DATA, bounds={"*": (0, None), "c": (0, 0)}).fit()
    assert res.structure.bounds == (("a", 0.0, None), ("b", 0.0, None), ("c", 0.0, 0.0))
    assert "c (fixed at 0)" in res.summary().notes[0]


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"nope": (0, 1)}, "'nope'.*names no parameter; there are 'Intercept', 'a', 'b'"),
        ({"a": (1, 0)}, "lower limit comes first"),
        ({"a": 3}, "give two numbers, or None"),
        ({"a": (0, float("nan"))}, "give two numbers, or None"),
        ({"a": (float("inf"), None)}, "lower limit comes first"),
        ("a", "give a mapping from names to limits"),
    ],
)
def test_bounds_that_are_none(bounds, said):
    with pytest.raises(OptionError, match=said):
        deepreg.ols("y ~ a + b", DATA, bounds=bounds)


def test_bounds_are_of_constant_coefficients():
    with pytest.raises(OptionError, match="coefficients are functions of features, whose averages no bound"):
        deepreg.ols("y ~ a | b", DATA, bounds={"a": (0, None)})
    with pytest.raises(OptionError, match=r"keeps no bounds.*give Adam"):
        deepreg.logit("q ~ a", DATA, bounds={"a": (0, 1)}).fit(trainer=deepreg.LBFGS())


def test_adam_ends_at_the_bounds_too():
    model = deepreg.logit("q ~ a + b", DATA, bounds={"b": (0, None), "a": (None, 0.5)})
    res, exact = model.fit(trainer=deepreg.Adam(steps=200), rng=0), model.fit()
    assert res.params["b"] == 0 and res.params["a"] == 0.5 and res.certificate.bound == exact.certificate.bound
    np.testing.assert_allclose(res.params, exact.params, atol=1e-5)
    np.testing.assert_allclose(res.bse, exact.bse, rtol=1e-4)


def test_a_separated_outcome_has_a_fit_inside_bounds():
    data = DATA.assign(q=(DATA.a > 0) * 1)
    res = deepreg.logit("q ~ a + b", data, bounds={"a": (0, 5)}).fit()
    assert res.params["a"] == 5 and res.certificate.converged


def test_a_bounded_fit_is_saved(tmp_path):
    res = deepreg.logit("q ~ a + b", DATA, bounds={"b": (0, None)}).fit()
    res.save(tmp_path / "fit.deepreg")
    again = deepreg.load(tmp_path / "fit.deepreg")
    pd.testing.assert_series_equal(again.bse, res.bse)
    assert again.certificate == res.certificate and again.summary().as_text() == res.summary().as_text()
    with pytest.raises(NotAvailable, match="rows of the fit"):
        again.fit(start=again)


def test_the_risk_terrain_of_the_reference():
    """36 coefficients of 0 or more, of which 24 are 0; the reference is L-BFGS, with gradients up to 2e-5."""
    known = json.loads(reference("classical", "nonneg", "poisson_nonneg_rtm_sim.json").read_text())
    data = pd.read_csv(reference("classical", "rtm", "rtm_sim.csv"))
    names = known["names"][1:]
    bounds = dict.fromkeys(("alc_*", "met_*", "c31_*"), (0, None))
    res = deepreg.poisson(f"Viol_2011 ~ {' + '.join(names)}", data, bounds=bounds).fit()
    assert res.llf == pytest.approx(-2515.648891, abs=1e-6)
    np.testing.assert_allclose(res.params, known["params"], atol=5e-6)
    assert ((res.params == 0).to_numpy() == (np.array(known["params"]) == 0)).all() and (res.params == 0).sum() == 24
    assert res.certificate.converged and res.bse.isna().sum() == 24
