"""A loss, a link and a trainer of one's own for an outcome of 0 and 1, and the curves of a fit."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch
from scipy import stats

import deepreg
from deepreg.errors import NotAvailable, OptionError
from deepreg.families import CLogLog, Logit, Probability, Probit

N = 360
RNG = np.random.default_rng(11)
DATA = pd.DataFrame({"score": RNG.normal(size=N), "age": RNG.normal(35, 10, N), "race": RNG.choice(list("abc"), N)})
CHANCE = 1 / (1 + np.exp(-(DATA.score - 0.05 * (DATA.age - 35))))
DATA["recid"] = (RNG.uniform(size=N) < CHANCE) * 1
TRAIN, TEST = DATA.iloc[:240], DATA.iloc[240:]
FORMULA = "recid ~ score + age + C(race)"
CLAMP = {"loss": "brier", "link": "clamp", "bounds": {"score": (0, None)}}


def brier(res, data=TRAIN):
    return float(((data.recid - res.predict(data)) ** 2).mean())


@pytest.fixture(scope="module")
def tracked():
    return deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(trainer=deepreg.Adam(steps=300), holdout=TEST, track=100, rng=0)


def test_the_brier_score_of_a_line_is_least_squares():
    res = deepreg.logit(FORMULA, TRAIN, loss="brier", link="identity", vcov="HC0").fit()
    other = smf.ols(FORMULA, TRAIN).fit(cov_type="HC0")
    np.testing.assert_allclose(res.params, other.params, rtol=1e-8)
    np.testing.assert_allclose(res.bse, other.bse, rtol=1e-7)
    np.testing.assert_allclose(res.predict(), other.predict(), rtol=1e-8)
    assert math.isnan(res.llf) and math.isnan(res.aic)


def test_a_loss_that_is_the_likelihood_is_that_family():
    for alias, own, link in (("logit", Logit(), "probit"), ("probit", Probit(), "sigmoid"), ("logit", Logit(), None)):
        family = getattr(deepreg, alias)(FORMULA, TRAIN, loss="logit", link=link).structure.family
        assert family == {"probit": Probit(), "sigmoid": Logit(), None: own}[link]
    assert deepreg.structural(FORMULA, TRAIN, "cloglog", loss="logit").structure.family == CLogLog()
    assert deepreg.structural(FORMULA, TRAIN, "probit", loss="brier").structure.family == Probability("brier", "probit")
    res = deepreg.logit(FORMULA, TRAIN, link=lambda eta: torch.sigmoid(2 * eta)).fit(cov="classical")
    other = smf.logit(FORMULA, TRAIN).fit(disp=0, tol=1e-12)
    np.testing.assert_allclose(2 * res.params, other.params, rtol=1e-7)
    np.testing.assert_allclose(2 * res.bse, other.bse, rtol=1e-6)
    assert res.llf == pytest.approx(other.llf, rel=1e-10)


@pytest.mark.parametrize("link", ["sigmoid", "probit", "cloglog", "clamp"])
def test_the_minimum_and_its_errors_are_those_of_the_sandwich_by_hand(link):
    """Gradients and Hessian of the mean loss by differences, on the caller's columns."""
    res = deepreg.logit("recid ~ score + age", TRAIN, loss="brier", link=link, vcov="HC0").fit()
    x, y = sm.add_constant(TRAIN[["score", "age"]]).to_numpy(), TRAIN.recid.to_numpy()
    mean = {"sigmoid": lambda z: 1 / (1 + np.exp(-z)), "cloglog": lambda z: 1 - np.exp(-np.exp(z)),
            "probit": stats.norm.cdf, "clamp": lambda z: z.clip(0, 1)}[link]  # fmt: skip
    at = res.params.to_numpy()
    steps = 1e-5 / np.abs(x).max(0)

    def score(b):
        return np.stack([((mean(x @ (b + d)) - y) ** 2 - (mean(x @ (b - d)) - y) ** 2) / (2 * s)
                         for s, d in zip(steps, np.diag(steps), strict=True)], 1)  # fmt: skip

    np.testing.assert_allclose(score(at).mean(0), 0, atol=1e-7)
    hessian = np.stack([(score(at + 10 * d) - score(at - 10 * d)).sum(0) / (20 * s)
                        for s, d in zip(steps, np.diag(steps), strict=True)])  # fmt: skip
    inverse = np.linalg.inv((hessian + hessian.T) / 2)
    np.testing.assert_allclose(res.cov_params(), inverse @ score(at).T @ score(at) @ inverse, rtol=2e-3)


def test_adam_and_newton_find_one_minimum(tracked):
    newton = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit()
    several = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(starts=20, rng=0)
    assert brier(several) <= brier(newton) + 1e-12 and several.certificate.starts == 20
    assert 1 <= several.certificate.reached <= 20  # cut off at 0 and 1, the loss has other minima
    assert deepreg.logit("recid ~ score", TRAIN).fit(starts=3, rng=0).certificate.reached == 3
    assert brier(tracked) == pytest.approx(brier(newton), abs=1e-7)
    np.testing.assert_allclose(tracked.params, newton.params, atol=1e-3)
    np.testing.assert_allclose(tracked.bse, newton.bse, rtol=1e-2)


def test_parameters_are_what_the_trainer_left_and_not_a_step_further():
    res = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(trainer=deepreg.Adam(steps=40), rng=0)
    assert brier(res) == pytest.approx(float(res.history.train[-1]), rel=1e-12)
    np.testing.assert_allclose(res.params, res.theta().iloc[0], rtol=1e-12)  # and not one Newton step from there
    assert not res.certificate.converged and res.certificate.gradient > 0.05
    assert any("stopped before the minimum" in note and "fit(start=)" in note for note in res.summary().notes)


def test_the_curves_are_the_losses_in_and_out_of_sample(tracked):
    curve = tracked.history
    assert curve.step.tolist() == [0, 100, 200, 300]
    assert float(curve.train[-1]) == pytest.approx(brier(tracked), rel=1e-12)
    assert float(curve.holdout[-1]) == pytest.approx(brier(tracked, TEST), rel=1e-12)
    frame = curve.frame()
    assert list(frame) == ["in sample", "out of sample"] and frame.index.tolist() == [0, 100, 200, 300]
    newton = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(holdout=TEST)
    assert newton.history.step.tolist() == list(range(newton.certificate.steps + 1))
    assert float(newton.history.holdout[-1]) == pytest.approx(brier(newton, TEST), rel=1e-12)
    assert float(newton.history.train[0]) == pytest.approx(float((TRAIN.recid**2).mean()), rel=1e-12)  # p is 0 there


def test_losses_are_in_the_units_of_the_outcome_and_weighted():
    data = DATA.assign(y=1e6 + 3e4 * DATA.score + 1e4 * RNG.normal(size=N), w=RNG.uniform(0.5, 2, N))
    fit, test = data.iloc[:240], data.iloc[240:]
    res = deepreg.ols("y ~ score + age", fit, weights="w").fit(trainer=deepreg.LBFGS(), holdout=test, rng=0)
    for rows, last in ((fit, res.history.train), (test, res.history.holdout)):
        by_hand = np.average(0.5 * (rows.y - res.predict(rows)) ** 2, weights=rows.w)
        assert float(last[-1]) == pytest.approx(by_hand, rel=1e-5)
    np.testing.assert_allclose(res.params, deepreg.ols("y ~ score + age", fit, weights="w").fit().params, rtol=1e-3)


def test_plots_of_the_curves(tracked):
    ax = tracked.history.plot(after=150)
    assert [line.get_xdata().tolist() for line in ax.lines] == [[200, 300], [200, 300]]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), tracked.history.holdout[2:])
    names = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert names == ["in sample", "out of sample"]
    alone = deepreg.logit(FORMULA, TRAIN).fit(track=1)
    assert len(alone.plot.training().lines) == 1
    with pytest.raises(OptionError, match="leaves no step: the last one is 300"):
        tracked.history.plot(after=301)


def test_a_fit_goes_on_from_another(tracked):
    more = tracked.fit(start=tracked, trainer=deepreg.Adam(steps=100, rate=0.01))
    assert more.history.step.tolist() == [0, 100, 200, 300, 400]
    assert brier(more) <= brier(tracked) + 1e-6
    warm = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(start=tracked)
    cold = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit()
    np.testing.assert_allclose(warm.params, cold.params, rtol=1e-8)
    assert warm.certificate.steps < cold.certificate.steps
    assert deepreg.logit(FORMULA, TRAIN).fit(start={"score": 1.0, "Intercept": 0.5}).certificate.converged
    assert "start=start" in warm.facts.call.code()


def test_early_stopping_keeps_the_weights_of_the_lowest_loss_out_of_sample():
    res = deepreg.logit(FORMULA, TRAIN).fit(trainer=deepreg.Adam(steps=300, patience=5), holdout=TEST, rng=0)
    curve = res.history.holdout
    assert len(curve) < 301 and float(curve.argmin()) == len(curve) - 6
    p = res.predict(TEST)
    loss = -(TEST.recid * np.log(p) + (1 - TEST.recid) * np.log(1 - p)).mean()
    assert loss == pytest.approx(float(curve.min()), rel=1e-10)


def test_adam_trains_networks_too():
    trainer = deepreg.Adam(steps=60, rate=0.02, patience=20)
    res = deepreg.ols("age ~ score | recid + C(race)", DATA).fit(
        trainer=trainer, learners="network", folds=2, members=1, rng=0, progress=False)  # fmt: skip
    history = res.history
    assert history.train.shape[1] == 2 and (history.train[-1] < history.train[0]).all()


def test_predictions_beyond_0_and_1_are_said():
    line = deepreg.logit("recid ~ score + age", TRAIN, loss="brier", link="identity").fit()
    beyond = int(((line.predict() < 0) | (line.predict() > 1)).sum())
    assert beyond and any(f"{beyond} rows have their index below 0 or above 1" in note for note in line.summary().notes)
    assert ("Model:", "constant coefficients, brier loss, identity link") in line.summary().header


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "mse"}, "loss='mse': allowed are 'logit', 'brier', or a function"),
        ({"link": "tanh"}, "link='tanh': allowed are 'sigmoid'"),
        ({"link": "clamp"}, r"loss='logit' takes the logarithm.*Use loss='brier'"),
        ({"loss": torch.nn.BCELoss}, r"give a function, for example BCELoss\(\)"),
        ({"loss": torch.nn.BCELoss()}, "a value for each row.*reduction='none'"),
        (
            {"link": lambda eta: eta.log(), "loss": "brier"},
            "not finite; use functions that are defined at an index of 0",
        ),
    ],
)
def test_what_is_no_loss_or_link(options, said):
    with pytest.raises(OptionError, match=said):
        deepreg.logit(FORMULA, TRAIN, **options)


def test_what_constant_fits_refuse():
    with pytest.raises(OptionError, match=r"loss= is of an outcome of 0 and 1.*not 'linear'"):
        deepreg.ols(FORMULA, TRAIN, loss="brier")
    with pytest.raises(NotAvailable, match="vcov='opg' needs a likelihood"):
        deepreg.logit(FORMULA, TRAIN, loss="brier").fit(cov="opg")
    model = deepreg.logit(FORMULA, TRAIN)
    for options, said in (
        ({"starts": 0}, "starts=0: give a whole number"), ({"track": 1.5}, r"track=1\.5: give a whole number"),
        ({"start": {"nope": 1}}, "start= names no parameter"), ({"start": 3}, "start= is 3; give a result"),
        ({"trainer": "adam"}, r"for example Adam\("),
        ({"starts": 2, "trainer": deepreg.Adam()}, "starts= is for Newton"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=said):
            model.fit(**options)
    with pytest.raises(OptionError, match="holdout= is for constant coefficients"):
        deepreg.logit("recid ~ score | age", TRAIN).fit(holdout=TEST)
    with pytest.raises(NotAvailable, match="holdout= is for outcomes that are one number"):
        deepreg.structural("race ~ score", TRAIN, "multinomial").fit(holdout=TEST)
    with pytest.raises(OptionError, match=r"Adam\(rate=0\): give a number above 0"):
        deepreg.Adam(rate=0)


def test_own_functions_are_given_to_load(tmp_path):
    def loss(p, y):
        return (p - y).abs() ** 1.5

    family = Probability(loss, "probit")
    res = deepreg.probit("recid ~ score", TRAIN, loss=loss).fit(trainer=deepreg.Adam(steps=20), rng=0)
    res.save(tmp_path / "own.deepreg")
    with pytest.raises(OptionError, match=r"family of your own, Probability"):
        deepreg.load(tmp_path / "own.deepreg")
    again = deepreg.load(tmp_path / "own.deepreg", family=family)
    pd.testing.assert_series_equal(again.predict(TEST), res.predict(TEST))
    named = deepreg.logit("recid ~ score", TRAIN, **CLAMP).fit(holdout=TEST)
    named.save(tmp_path / "named.deepreg")
    read = deepreg.load(tmp_path / "named.deepreg")
    assert read.structure == named.structure and torch.equal(read.history.holdout, named.history.holdout)


def test_the_classifier_takes_them():
    from sklearn.base import clone

    frame, bought = TRAIN.drop(columns="recid"), TRAIN.recid.map({0: "no", 1: "yes"})
    model = deepreg.StructuralClassifier("score + age + C(race)", trainer=deepreg.Adam(steps=50), rng=0, **CLAMP)
    chances = clone(model).fit(frame, bought).predict_proba(frame)
    res = deepreg.logit(FORMULA, TRAIN, **CLAMP).fit(trainer=deepreg.Adam(steps=50), rng=0)
    np.testing.assert_allclose(chances[:, 1], res.predict(), rtol=1e-12)
    line = deepreg.StructuralClassifier("score + age", loss="brier", link="identity").fit(frame, bought)
    assert line.result_.predict().min() < 0 and line.predict_proba(frame).min() == 0
