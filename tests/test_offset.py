"""Offsets and exposure: beside statsmodels, in units of their own, at each row's value in effects, and on new data."""

import numpy as np
import pandas as pd
import population
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.discrete.conditional_models import ConditionalLogit
from test_held_constant import derivative, moved
from typer.testing import CliRunner

import deepreg
from deepreg import targets
from deepreg.cli import app
from deepreg.errors import DataError, OptionError

QUICK = {"learners": ["constant", "smooth"], "folds": 2, "members": 1, "rng": 0, "progress": False}


def frame(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x, t, o = rng.normal(size=(3, n))
    t, exposure = 0.5 * t + 0.3 * x, np.exp(3 + 0.7 * rng.normal(size=n))
    mean = exposure * np.exp(-2 + 0.4 * np.sin(x) + 0.5 * t)
    return pd.DataFrame(
        {
            "x": x, "t": t, "o": o, "e": exposure, "d": (t > 0.1) * 1, "c": rng.poisson(mean),
            "n": rng.negative_binomial(3, 3 / (3 + mean)), "g": rng.gamma(2, mean / 2),
            "b": (rng.random(n) < population.sigmoid(0.5 * t - o)) * 1, "s": rng.beta(2, 2, n),
            "k": rng.integers(0, 3, n), "time": rng.exponential(mean), "y": t + rng.normal(size=n),
        }
    )  # fmt: skip


# without features -----------------------------------------------------------------------------------------------------
def test_the_pooled_fit_is_that_of_statsmodels():
    data, log = frame(), sm.families.links.Log()
    both = {"offset": data.o, "exposure": data.e}
    cases = [
        ("c", "poisson", sm.families.Poisson(), {"offset": "o", "exposure": "e"}, both),
        ("g", "gamma", sm.families.Gamma(log), {"offset": "o", "exposure": "e"}, both),
        ("b", "logit", sm.families.Binomial(), {"offset": "o"}, {"offset": data.o}),
        ("b", "cloglog", sm.families.Binomial(sm.families.links.CLogLog()), {"offset": "o"}, {"offset": data.o}),
        ("g", "tweedie", sm.families.Tweedie(log, 1.5), {"exposure": "e"}, {"exposure": data.e}),
    ]
    for outcome, family, theirs, ours, given in cases:
        mine = deepreg.structural(f"{outcome} ~ t + x", data, family, **ours).fit()
        model = smf.glm(f"{outcome} ~ t + x", data, family=theirs, **given)
        peer = model.fit(cov_type="HC0", tol=1e-12, tol_criterion="params", maxiter=500)
        assert mine.params.to_numpy()[:3] == pytest.approx(peer.params.to_numpy(), abs=1e-6), family
        assert mine.vcov("HC0").bse.to_numpy()[:3] == pytest.approx(peer.bse.to_numpy(), rel=1e-6), family
        assert mine.predict().to_numpy() == pytest.approx(peer.fittedvalues.to_numpy(), rel=1e-6), family
        index = mine.get_prediction()
        if family in ("poisson", "logit"):
            assert index.linear.value == pytest.approx(np.asarray(peer.predict(which="linear")), rel=1e-6)
            assert mine.llnull == pytest.approx(peer.llnull, rel=1e-8)


def test_the_pooled_negative_binomial_is_that_of_statsmodels():
    data = frame()
    mine = deepreg.structural("n ~ t + x", data, "negbin", exposure="e").fit()
    peer = smf.negativebinomial("n ~ t + x", data, exposure=data.e).fit(disp=0, cov_type="HC0", method="newton")
    assert mine.params.to_numpy()[:3] == pytest.approx(peer.params.to_numpy()[:3], abs=1e-6)
    assert np.exp(mine.params.log_alpha) == pytest.approx(peer.params["alpha"], rel=1e-6)
    assert mine.vcov("HC0").bse.to_numpy()[:3] == pytest.approx(peer.bse.to_numpy()[:3], rel=1e-6)


def test_an_offset_is_a_regressor_whose_coefficient_is_one():
    data = frame()
    for family, outcome in (("zip", "c"), ("beta", "s"), ("ordered_logit", "k"), ("weibull", "time"), ("probit", "b")):
        whole = "Surv(time, one)" if family == "weibull" else outcome
        data = data.assign(one=1, z=0.5 * data.x - data.t)
        plain = deepreg.structural(f"{whole} ~ t + x", data, family).fit()
        turned = deepreg.structural(f"{whole} ~ t + x", data, family, offset="z").fit()
        shift = pd.Series({"t": 1.0, "x": -0.5}).reindex(plain.params.index, fill_value=0.0)  # what z is of t and x
        assert turned.params.to_numpy() == pytest.approx((plain.params + shift).to_numpy(), abs=1e-5), family
        assert turned.bse.to_numpy() == pytest.approx(plain.bse.to_numpy(), rel=1e-4), family


def test_choices_take_an_offset():
    rng = np.random.default_rng(0)
    n = 250
    data = pd.DataFrame({"trip": np.repeat(np.arange(n), 3), "mode": ["bus", "car", "rail"] * n})
    data["price"], data["o"], data["x"] = (
        rng.uniform(1, 3, 3 * n),
        rng.normal(size=3 * n),
        np.repeat(rng.normal(size=n), 3),
    )
    utility = data.o - data.price + rng.gumbel(size=3 * n)
    data["chosen"] = (utility == utility.groupby(data.trip).transform("max")) * 1
    how = {"unit": "trip", "alternative": "mode", "offset": "o"}
    mine = deepreg.choice("chosen ~ price", data, **how).fit()
    peer = ConditionalLogit(data.chosen, data[["price"]], groups=data.trip, offset=data.o).fit(disp=0)
    assert mine.params.price == pytest.approx(peer.params["price"], abs=1e-5)
    again = deepreg.choice("chosen ~ price + o", data, unit="trip", alternative="mode").fit()
    assert mine.params.price != again.params.price
    for law in ({"assignment": deepreg.Randomised(sets=50)}, {}):
        res = deepreg.choice("chosen ~ price | x", data, **how, **law).fit(**QUICK | {"folds": 3})
        assert res.params.price == pytest.approx(-1, abs=3 * res.bse.price)
    moved = res.predict(data.assign(o=data.o + np.repeat(np.arange(n), 3)))  # the same for all alternatives
    assert moved.to_numpy() == pytest.approx(res.predict(data).to_numpy())
    with pytest.raises(DataError, match="'o'"):
        res.predict(data.drop(columns="o"))


# with features --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("family", "outcome"), [("poisson", "c"), ("negbin", "n"), ("gamma", "g")])
@pytest.mark.parametrize("learners", ["smooth", "network"])
def test_ten_times_the_exposure_moves_the_intercept_alone(family, outcome, learners):
    data, how = frame(), QUICK | {"learners": learners, "trainer": deepreg.LBFGS(steps=10)}
    one = deepreg.structural(f"{outcome} ~ t | x", data, family, exposure="e").fit(**how)
    ten = deepreg.structural(f"{outcome} ~ t | x", data.assign(e=10 * data.e), family, exposure="e").fit(**how)
    gap = (ten.theta() - one.theta()).to_numpy()
    assert gap[:, 0] == pytest.approx(-np.log(10), abs=1e-6) and np.abs(gap[:, 1:]).max() < 1e-6
    assert ten.bse.to_numpy() == pytest.approx(one.bse.to_numpy(), rel=1e-6)
    for mine in (one, ten):
        assert mine.estimate("ame").value == pytest.approx(one.estimate("ame").value, rel=1e-6)
    assert one.params.t == pytest.approx(0.5, abs=4 * one.bse.t)


def test_an_offset_that_is_a_function_of_the_features_goes_into_the_intercept():
    data = frame(3000).assign(z=lambda f: 0.8 * f.x)
    how = QUICK | {"learners": "smooth"}
    plain = deepreg.structural("c ~ t | x", data, "poisson").fit(**how)
    res = deepreg.structural("c ~ t | x", data, "poisson", offset="z").fit(**how)
    gap = res.theta().Intercept + data.z - plain.theta().Intercept
    assert gap.abs().mean() < 0.2 * res.bse.Intercept
    assert plain.params.t == pytest.approx(res.params.t, abs=0.05 * res.bse.t)


@pytest.mark.parametrize("family", ["poisson", "logit"])
@pytest.mark.parametrize(
    ("kind", "target"),
    [("binary", targets.ATE("t")), ("binary", targets.ATT("t")), ("continuous", targets.AME("t")),
     ("continuous", targets.Mean("t", at=0.4)), ("binary", targets.Coefficient())],
    ids=lambda one: one if isinstance(one, str) else one.label,
)  # fmt: skip
def test_an_error_in_theta_is_of_second_order(family, kind, target):
    found = population.exact(family, kind, 60, offset=True)
    mean, plug_in = derivative(found, moved(found, 2), target)
    assert mean < 1e-5 < 1e-3 < plug_in


def test_effects_keep_the_exposure_of_each_row():
    data = frame()
    res = deepreg.structural("c ~ d | x", data, "poisson", exposure="e").fit(**QUICK)
    theta = res.theta()
    there = data.e * (np.exp(theta.Intercept + theta.d) - np.exp(theta.Intercept))
    assert res.cate().iloc[:, 0].to_numpy() == pytest.approx(there.to_numpy())
    assert res.ate().plug_in[0] == pytest.approx(there.mean())
    assert res.predict().to_numpy() == pytest.approx((data.e * np.exp(theta.Intercept + theta.d * data.d)).to_numpy())
    new = frame(10, 3)
    twice = res.predict(new.assign(e=2 * new.e)) / res.predict(new)
    assert twice.to_numpy() == pytest.approx(2.0)
    assert res.cate(new).iloc[:, 0].sum() == pytest.approx(res.cate(new.assign(e=2 * new.e)).iloc[:, 0].sum() / 2)
    assert np.isfinite(res.theta(new.drop(columns="e"))).all(axis=None)
    for ask in (res.predict, res.cate):
        with pytest.raises(DataError, match="exposure='e'"):
            ask(new.drop(columns="e"))


def test_files_the_summary_the_call_and_the_estimator_have_it(tmp_path):
    data = frame()
    res = deepreg.structural("c ~ t | x", data, "poisson", exposure="e", offset="o").fit(**QUICK)
    assert {"Exposure:": "e", "Offset:": "o"}.items() <= dict(res.summary().header).items()
    assert "exposure='e'" in res.facts.call.code() and "offset='o'" in res.facts.call.code()
    new = frame(9, 4)
    for rows in (True, False):
        res.save(tmp_path / f"{rows}", data=rows)
        again = deepreg.load(tmp_path / f"{rows}")
        pd.testing.assert_series_equal(again.predict(new), res.predict(new), check_exact=True)
        pd.testing.assert_frame_equal(again.cate(new), res.cate(new), check_exact=True)
    own = deepreg.StructuralRegressor("t | x", family="poisson", exposure="e", offset="o", **QUICK)
    own.fit(data.drop(columns="c"), data.c)
    assert own.predict(new) == pytest.approx(res.predict(new).to_numpy())
    with pytest.raises(DataError, match="'e'"):
        own.predict(new.assign(e=np.nan))
    data.to_csv(tmp_path / "data.csv", index=False)
    words = ["fit", str(tmp_path / "data.csv"), "c ~ t", "--family", "poisson", "--exposure", "e", "--offset", "o"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "Exposure:" in done.output and "Offset:" in done.output


def test_rows_without_an_exposure_are_left_out_and_counted():
    data = frame()
    data.loc[:4, "e"] = np.nan
    model = deepreg.structural("c ~ t", data, "poisson", exposure="e")
    assert model.design.dropped == {"missing exposure": 5}
    assert model.design.units.offset.numpy() == pytest.approx(np.log(data.e[5:]))
    with pytest.raises(DataError, match="'e' in 5"):
        deepreg.structural("c ~ t", data, "poisson", exposure="e", missing="raise")


@pytest.mark.parametrize(
    ("family", "outcome", "options", "error", "words"),
    [
        ("linear", "y", {"offset": "o"}, OptionError, r"I\(y - z\)"),
        ("gaussian", "y", {"exposure": "e"}, OptionError, r"exposure='e'.*I\(y - z\)"),
        ("multinomial", "k", {"offset": "o"}, OptionError, "regressor"),
        ("hurdle_poisson", "c", {"offset": "o"}, OptionError, "zip"),
        ("hurdle_negbin", "c", {"offset": "o"}, OptionError, "zip"),
        (deepreg.families.Tobit(lower=0), "y", {"offset": "o"}, OptionError, "regressor"),
        (lambda y, d, theta: (y - (d * theta).sum(-1)) ** 2, "y", {"offset": "o"}, OptionError, "u.offset"),
        ("logit", "b", {"exposure": "e"}, OptionError, "Give offset="),
        ("poisson", "c", {"exposure": "o"}, DataError, "must be positive"),
        ("poisson", "c", {"exposure": 3}, OptionError, "exposure= is a int"),
        ("poisson", "c", {"offset": "nowhere"}, DataError, "nowhere"),
        ("poisson", "c", {"offset": "text"}, DataError, "not numbers"),
    ],
)
def test_what_takes_no_offset_says_so(family, outcome, options, error, words):
    with pytest.raises(error, match=words):
        deepreg.structural(f"{outcome} ~ t", frame(60).assign(text="a"), family, **options)


def test_a_regressed_hessian_knows_no_offset_of_a_row():
    with pytest.raises(OptionError, match="averages over the offset"):
        deepreg.structural("c ~ t | x", frame(), "poisson", offset="o").fit(**QUICK, hessian="regressed")
