"""Constant columns of theta: partialling out, orthogonality with what varies, invariance, and where they show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import population
import pytest
import statsmodels.formula.api as smf
import torch
from typer.testing import CliRunner

import deepreg
from deepreg import targets
from deepreg.cli import app
from deepreg.curvature import KnownLaw
from deepreg.errors import DataError, OptionError
from deepreg.sampling import Sampling
from deepreg.theta import held_out

QUICK = {"learners": "smooth", "folds": 2, "members": 1, "rng": 0, "progress": False}
FORMULA = "y ~ t | x + z"


def frame(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x, z, noise = rng.normal(size=(3, n))
    t = 3 + 0.7 * x + rng.normal(size=n)
    eta = 0.4 * np.sin(x) + 0.5 * (t - 3)
    return pd.DataFrame(
        {
            "x": x, "z": z, "t": t, "y": eta + noise, "b": (rng.random(n) < population.sigmoid(eta)) * 1,
            "c": rng.poisson(np.exp(eta / 2)), "g": np.where(z > 0.3, "high", "low"), "k": np.arange(n) // 3,
            "d": (rng.random(n) < population.sigmoid(x)) * 1, "w": rng.uniform(0.5, 2, n),
            "n": rng.negative_binomial(2, 2 / (2 + np.exp(eta / 2))), "s": rng.beta(2, 2 * np.exp(-eta / 2)),
        }
    )  # fmt: skip


def fit(constant, formula=FORMULA, data=None, family="linear", **options):
    data = frame() if data is None else data
    return deepreg.structural(formula, data, family, constant=constant, **options).fit(**QUICK)


# estimates ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("cluster", [None, "k"])
def test_a_constant_slope_is_that_of_partialling_out(weights, cluster):
    """Robinson (1988): least squares of y - E[y | x] on t - E[t | x], with the sandwich errors of that regression."""
    data = frame()
    res = fit("t", data=data, weights=weights, cluster=cluster)
    x = res.design.inputs
    mean = held_out(res.law.centre(x, res.structure.slopes), res.splits.held_out)[0, :, 1].numpy()
    theta, weight = res.theta(), data.w if weights else np.ones(len(data))
    gap, left = data.t - mean, data.y - theta.Intercept - theta.t * mean
    beta = (weight * gap * left).sum() / (weight * gap**2).sum()
    score = weight * gap * (left - beta * gap)
    n, groups = len(data), data.k.nunique()
    factor = groups / (groups - 1) if cluster else n / (n - 1)
    score = score.groupby(data.k).sum() if cluster else score
    assert res.params.t == pytest.approx(beta, rel=1e-12)
    assert res.bse.t == pytest.approx(np.sqrt(factor * (score**2).sum()) / (weight * gap**2).sum(), rel=1e-12)
    assert theta.t.to_numpy() == pytest.approx(beta, rel=1e-12)


@pytest.mark.parametrize(("family", "outcome"), [("linear", "y"), ("logit", "b"), ("poisson", "c")])
def test_with_all_columns_constant_the_fit_is_the_classical_one(family, outcome):
    data = frame()
    res = fit(["t", "Intercept"], f"{outcome} ~ t | x + z", family=family)
    bare = deepreg.structural(f"{outcome} ~ t", data, family).fit()
    pd.testing.assert_series_equal(res.params, bare.params, check_exact=True)
    pd.testing.assert_frame_equal(res.cov_params(), bare.cov_params(), check_exact=True)
    peer = {"linear": smf.ols, "logit": smf.logit, "poisson": smf.poisson}[family]
    there = peer(f"{outcome} ~ t", data).fit(cov_type="HC0", **({} if family == "linear" else {"disp": 0}))
    assert res.params.to_numpy() == pytest.approx(there.params.to_numpy(), abs=1e-6)
    assert res.vcov("HC0").bse.to_numpy() == pytest.approx(there.bse.to_numpy(), abs=1e-6)
    assert res.estimate("ame").value[0] == bare.estimate("ame").value[0]
    assert "Regression Results" in str(res.summary())


CASES = [("linear", "y", {}), ("logit", "b", {}), ("poisson", "c", {}), ("negbin", "n", {}), ("beta", "s", {})]


@pytest.mark.parametrize(("family", "outcome", "options"), CASES)
@pytest.mark.parametrize("which", [1, -1])
def test_a_constant_column_is_one_number_for_all_rows_and_others_vary(family, outcome, options, which):
    formula = f"{outcome} ~ t | x + z"
    names = deepreg.structural(formula, frame(), family).structure.names
    res = fit(names[which], formula, family=family)
    theta, new = res.theta(), res.theta(frame(20, 7))
    one = theta[names[which]].iloc[0]
    assert theta[names[which]].to_numpy() == pytest.approx(one, rel=1e-12)
    assert new[names[which]].to_numpy() == pytest.approx(one, rel=1e-12)
    others = [name for name in names if name != names[which]]
    assert (theta[others].std() > 1e-6).all() and (new[others].std() > 1e-6).all()
    assert abs(one - res.params[names[which]]) < 2 * res.bse[names[which]]


@pytest.mark.parametrize("learners", ["constant", "additive", "uncentred", "network", None])
def test_every_learner_respects_a_constant_column(learners):
    data = frame(200)
    res = deepreg.structural("y ~ t | x | z", data, constant="t").fit(
        **QUICK | {"learners": learners, "members": 2, "trainer": deepreg.LBFGS(steps=5)}
    )
    at = res.fitted.coordinates
    for name, learner in res.fitted.learners.items():  # what it would be without being replaced in the end
        x = res.design.inputs
        centre = res.law.centre(x, res.structure.slopes)
        outputs = learner.outputs(x, centre) if name == "uncentred" else learner.outputs(x)
        slope = at.around(outputs)[..., 1]
        assert slope.std(1).max() < 1e-6, name
        assert name == "constant" or at.around(outputs)[..., 0].std(1).min() > 1e-3, name
    assert res.theta().t.nunique() == 1


@pytest.mark.parametrize("constant", ["t", "Intercept", "log_sigma", ["Intercept", "t"], ["Intercept", "log_sigma"]])
def test_units_of_outcome_and_regressor_change_nothing_but_units(constant):
    data = frame()
    before = fit(constant, family="gaussian")
    after = fit(constant, data=data.assign(y=50 * data.y + 1000, t=data.t / 1000), family="gaussian")
    assert after.params.t == pytest.approx(50_000 * before.params.t, rel=1e-6)
    assert after.bse.t == pytest.approx(50_000 * before.bse.t, rel=1e-6)
    assert after.params.Intercept == pytest.approx(50 * before.params.Intercept + 1000, rel=1e-6)
    assert (before.theta()[list(before.structure.constant)].std() < 1e-12).all()
    assert after.theta().t.to_numpy() == pytest.approx(50_000 * before.theta().t.to_numpy(), rel=1e-4)


@pytest.mark.parametrize("constant", ["t", "log_sigma", ["Intercept", "t"]])
def test_the_origin_of_a_regressor_changes_no_slope(constant):
    """Unless the intercept is constant where slopes vary: it is the intercept where t is 0, and another model then."""
    data = frame()
    before = fit(constant, family="gaussian")
    after = fit(constant, data=data.assign(t=data.t + 10_000), family="gaussian")
    assert after.params.t == pytest.approx(before.params.t, rel=1e-5)
    assert after.bse.t == pytest.approx(before.bse.t, rel=1e-5)
    assert after.theta().t.to_numpy() == pytest.approx(before.theta().t.to_numpy(), rel=1e-3)


def test_a_constant_intercept_is_that_at_zero():
    rng = np.random.default_rng(0)
    x = rng.normal(size=800)
    t = 3 + 0.7 * x + rng.normal(size=800)
    data = pd.DataFrame({"x": x, "t": t, "y": 2 + (1 + 0.5 * np.sin(x)) * t + 0.1 * rng.normal(size=800)})
    res = fit("Intercept", "y ~ t | x", data)
    assert res.theta().Intercept.iloc[0] == pytest.approx(2, abs=0.06) and res.theta().Intercept.nunique() == 1
    assert np.abs(res.theta().t - 1 - 0.5 * np.sin(x)).mean() < 0.03
    assert res.bse.Intercept < 0.95 * fit(None, "y ~ t | x", data).bse.Intercept


def test_a_constant_coefficient_needs_no_variation_at_every_x():
    """Where features decide t in part of the sample, Lambda(x) is singular there; a constant needs its mean alone."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    t = np.where(x > 0, rng.normal(size=400), x) + 0.01 * rng.normal(size=400)
    data = pd.DataFrame({"x": x, "t": t, "y": np.cos(x) + 0.5 * t + rng.normal(size=400)})
    free, held = fit(None, "y ~ t | x", data), fit("t", "y ~ t | x", data)
    assert free.curvature.floored.sum() > 50 and held.curvature.floored.sum() == 0
    assert held.bse.t < 0.5 * free.bse.t and abs(held.params.t - 0.5) < 3 * held.bse.t


# orthogonality --------------------------------------------------------------------------------------------------------
def derivative(found, direction, target, value=None):
    """Of the mean of psi, or of another value of the scores, and of the plug-in, as theta moves in a direction."""
    ends = []
    for step in (1e-4, -1e-4):
        scores = population.scores(found, found.theta + step * direction)
        weight = found.design.weight / found.design.weight.sum()
        psi, plug_in = scores.psi(target.bind(found.design))
        ends.append(((psi[0] * weight[:, None]).sum(0) if value is None else value(scores), plug_in[0]))
    return [float((up - down).abs().max()) / 2e-4 for up, down in zip(*ends, strict=True)]


def moved(found, size):
    """A smooth function of x in the columns that vary, a number in those that do not."""
    x = torch.tensor(found.design.frame["x"].to_numpy(float))
    every = torch.stack([1 + x.cos(), 0.7 + 0.5 * x, 0.6 - 0.3 * x.sin()], 1)[None, :, :size]
    held = list(found.structure.held)
    every[..., held] = torch.tensor([1.0, -0.8, 0.6], dtype=every.dtype)[held]
    return every


ASKED = {
    "binary": [targets.ATE("t"), targets.ATT("t"), targets.ATU("t"), targets.ATO("t"), targets.Mean("t")],
    "continuous": [targets.AME("t"), targets.AME("t", at=0.4), targets.Mean("t", at=0.7)],
}


@pytest.mark.parametrize(
    ("family", "held"),
    [("linear", (1,)), ("linear", (0,)), ("logit", (1,)), ("logit", (0,)), ("poisson", (1,)), ("gaussian", (2,)),
     ("gaussian", (1, 2)), ("gaussian", (0, 2))],
)  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "target"),
    [(kind, target) for kind, asked in ASKED.items() for target in (*asked, targets.Coefficient())],
    ids=lambda one: one if isinstance(one, str) else one.label,
)
def test_an_error_in_theta_is_of_second_order(family, held, kind, target):
    found = population.exact(family, kind, 60, held)
    mean, plug_in = derivative(found, moved(found, found.theta.shape[-1]), target)
    assert mean < 1e-5 < 0.05 < plug_in or (mean < 1e-5 and plug_in < 1e-9)  # such as ATE where t is not moved


def test_an_error_in_theta_is_of_second_order_in_group_averages_too():
    found = population.exact("logit", "binary", 60, (1,))
    weight, target = found.design.weight, targets.ATE("t")
    groups = found.design.frame["x"].to_numpy() > 0.2
    sampling = Sampling(weight, torch.zeros(len(weight), 0).long(), "HC1")

    def averages(scores):
        each = scores.answer([target], ("ATE",), "population", sampling).by(groups)
        return torch.tensor(each.coef.to_numpy())

    assert derivative(found, moved(found, 2), target, averages)[0] < 1e-5


def test_group_averages_make_up_the_whole_and_have_the_error_of_a_constant():
    data = frame()
    res = fit("t", "b ~ t | x + z", family="logit")
    effects, slopes = res.estimate("ame"), res.estimate(targets.Coefficient("t"))
    each = effects.by(data.g)
    assert (each.coef * each.n).sum() / len(data) == pytest.approx(effects.value[0], rel=1e-10)
    factor = np.sqrt((len(data) - 1) / (len(data) - 2))  # two groups, where there was one
    by = slopes.by(data.g)
    assert by.coef.to_numpy() == pytest.approx(slopes.value[0], rel=1e-10)
    assert by["std err"].to_numpy() == pytest.approx(factor * slopes.std_error[0], rel=1e-10)
    assert list(each.index.get_level_values("group")) == ["high", "low"]


def test_group_averages_of_what_varies_are_means_of_psi_where_constants_have_no_part():
    """The intercept at E[t | x] owes nothing to the slope of a linear model, and a least-squares mean is simple."""
    data = frame()
    res = fit("log_sigma", family="gaussian")
    mine, plain = res.estimate(targets.Coefficient("t")), fit(None, family="gaussian")
    psi = mine.psi[0, :, 0].numpy()
    for label, row in mine.by(data.g).groupby(level="group"):
        assert row.coef.iloc[0] == pytest.approx(psi[data.g == label].mean(), rel=1e-6)
    assert mine.value[0] == pytest.approx(plain.params.t, abs=0.02)


# where it is asked for, and where it shows ----------------------------------------------------------------------------
def test_choices_take_constant_columns():
    rng = np.random.default_rng(0)
    n = 300
    x = np.repeat(rng.normal(size=n), 3)
    data = pd.DataFrame({"trip": np.repeat(np.arange(n), 3), "mode": ["bus", "car", "rail"] * n, "x": x})
    data["price"], data["time"] = rng.uniform(1, 3, 3 * n), rng.normal(size=3 * n)
    utility = -data.price + np.sin(x) * data.time + rng.gumbel(size=3 * n)
    data["chosen"] = (utility == utility.groupby(data.trip).transform("max")) * 1
    for how in ({"assignment": deepreg.Randomised()}, {}):
        model = deepreg.choice(
            "chosen ~ price + time | x", data, unit="trip", alternative="mode", constant="price", **how
        )
        res = model.fit(**QUICK | {"folds": 3})
        theta = res.theta()
        assert theta.price.nunique() == 1 and theta.time.std() > 0.3
        assert abs(res.params.price + 1) < 3 * res.bse.price
        assert "constant='price'" in res.facts.call.code()


def test_the_summary_the_call_and_a_file_say_what_is_constant(tmp_path):
    res = fit(["log_sigma", "t"], family="gaussian")
    assert dict(res.facts.header)["Constant:"] == "t, log_sigma" and "t, log_sigma" in str(res.summary())
    assert "constant=['log_sigma', 't']" in res.facts.call.code()
    for data in (True, False):
        path = tmp_path / f"{data}.deepreg"
        res.save(path, data=data)
        again = deepreg.load(path)
        assert again.structure.constant == ("t", "log_sigma")
        pd.testing.assert_series_equal(again.bse, res.bse, check_exact=True)
        pd.testing.assert_frame_equal(again.theta(frame(9, 5)), res.theta(frame(9, 5)), check_exact=True)
    again = deepreg.load(tmp_path / "True.deepreg")
    pd.testing.assert_frame_equal(again.estimate("ame").by(frame().g), res.estimate("ame").by(frame().g))


def test_a_file_holds_networks_with_constant_columns(tmp_path):
    res = deepreg.structural("y ~ t | x | z", frame(200), constant="t").fit(
        **QUICK | {"learners": "network", "trainer": deepreg.LBFGS(steps=3)}
    )
    res.save(tmp_path / "fit.deepreg")
    new = frame(9, 5)
    pd.testing.assert_frame_equal(deepreg.load(tmp_path / "fit.deepreg").theta(new), res.theta(new), check_exact=True)


def test_the_estimator_and_the_command_line_take_constant_columns(tmp_path):
    data = frame()
    res = fit("t")
    own = deepreg.StructuralRegressor("t | x + z", constant="t", **QUICK).fit(data.drop(columns="y"), data.y)
    assert own.result_.params.t == res.params.t
    data.to_csv(tmp_path / "data.csv", index=False)
    done = CliRunner().invoke(
        app,
        ["fit", str(tmp_path / "data.csv"), FORMULA, "--constant", "t", "--learner", "smooth", "--folds", "2",
         "--members", "1", "--rng", "0"],
    )  # fmt: skip
    assert done.exit_code == 0 and "Constant:" in done.output and f"{res.params.t:.4f}"[:6] in done.output


def test_several_equations_hold_one_coefficient_of_one():
    data = frame().assign(y2=lambda f: f.y + f.z)
    res = deepreg.structural("y + y2 ~ t | x + z", data, constant="y2: t").fit(**QUICK)
    theta = res.theta()
    assert theta["y2: t"].nunique() == 1 and theta["y: t"].std() > 1e-6
    alone = fit("t", "y2 ~ t | x + z", data)
    assert res.params["y2: t"] == pytest.approx(alone.params.t, abs=0.3 * alone.bse.t)


@pytest.mark.parametrize(
    ("constant", "formula", "words"),
    [
        ("price", FORMULA, "'Intercept', 't'"),
        (["t", "t"], FORMULA, "each once"),
        ([], FORMULA, "one or more"),
        (3, FORMULA, "constant=3"),
        ("t", "y ~ t", "has no features"),
        ([["t"]], FORMULA, "columns of theta"),
    ],
)
def test_names_that_are_no_columns_are_refused(constant, formula, words):
    with pytest.raises(OptionError, match=words):
        deepreg.structural(formula, frame(), constant=constant)


def test_a_known_assignment_has_no_use_where_nothing_varies():
    with pytest.raises(OptionError, match="leaves no column of theta to vary"):
        deepreg.structural("y ~ d | x", frame(), constant=["Intercept", "d"], assignment=KnownLaw(probability=0.5))


def test_constants_on_which_the_rows_say_nothing_are_refused():
    data = frame().assign(copy=lambda f: f.x**2)
    with pytest.raises(DataError):
        fit(["t", "copy"], "y ~ t + copy | x", data)


def test_a_family_without_a_law_holds_constants_by_a_regressed_hessian():
    data = frame(400)
    res = deepreg.structural("c ~ t | x", data, "poisson", constant="t").fit(
        **QUICK | {"folds": 3}, hessian="regressed"
    )
    same = fit("t", "c ~ t | x", data, "poisson")
    assert res.params.t == pytest.approx(same.params.t, abs=same.bse.t) and res.theta().t.nunique() == 1
    assert res.bse.t == pytest.approx(same.bse.t, rel=0.15)


def test_estimates_by_groups_follow_selections_and_combinations():
    data = frame()
    res = fit("t", "b ~ t | x + z", family="logit")
    every = res.estimate("coefficient")
    one = every.select(["Intercept"]).by(data.g)
    pd.testing.assert_frame_equal(one, every.by(data.g).xs("Intercept", level="estimate", drop_level=False))
    sum_of_both = every.linear(np.array([[1.0, 2.0]]), np.zeros(1), ["both"])
    by, each = replace(sum_of_both, null=None).by(data.g).coef, every.by(data.g).coef.unstack()
    assert by.to_numpy() == pytest.approx((each.Intercept + 2 * each.t).to_numpy())
