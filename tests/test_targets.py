"""What every target promises, over the registry: derivatives, orthogonality, names, files; and their closed forms."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from population import exact, mean_psi, scores
from scipy import stats
from scipy.optimize import minimize_scalar

import deepreg
from deepreg import targets
from deepreg.errors import DataError, DeepregWarning, NotAvailable, OptionError
from deepreg.targets import Target

X = 40  # values of x in a population, each with nine prices
ROWS = tuple(np.repeat(0.5 + np.random.default_rng(5).uniform(size=X), 9).tolist())


def above(frame):
    return np.where(frame.x > 0, 2.0, 1.0)


def lower(frame):
    return frame.t - 0.3 * (frame.x > 0)


def shorter(frame):
    return frame.time - 0.4 * (frame["mode"] != "b")


CASES: dict[str, list[tuple[str, Target]]] = {
    "coefficient": [
        ("binary", targets.Coefficient()),
        ("price", targets.Coefficient("t")),
        ("choices", targets.Coefficient()),
    ],
    "mean": [("binary", targets.Mean("t")), ("price", targets.Mean("t", at=(2, 3)))],
    "ate": [("binary", targets.ATE("t")), ("price", targets.ATE("t", hi=3, lo=2))],
    "att": [("binary", targets.ATT("t"))],
    "atu": [("binary", targets.ATU("t"))],
    "ato": [("binary", targets.ATO("t"))],
    "ame": [("price", targets.AME("t")), ("price", targets.AME("t", at=2.0))],
    "contrast": [
        ("binary", targets.Contrast({"t": 1}, {"t": 0})),
        ("price", targets.Contrast({"t": "cost"}, {"t": lower})),
        ("price", targets.Contrast({"t": ROWS}, {"t": 0.5})),
    ],
    "elasticity": [
        ("price", targets.Elasticity("t")),
        ("price", targets.Elasticity("t", at=2.0)),
        ("price", targets.Elasticity("t", semi=True)),
    ],
    "wtp": [
        ("price", targets.WTP("Intercept", per="t")),
        ("price", targets.WTP("Intercept", per="t", of="averages")),
        ("choices", targets.WTP("time", per="price")),
    ],
    "revenue": [
        ("price", targets.Revenue("t")),
        ("price", targets.Revenue("t", at=3.0)),
        ("price", targets.Revenue("t", at=lower)),
    ],
    "profit": [
        ("price", targets.Profit("t", cost="cost")),
        ("price", targets.Profit("t", cost=1.0, at=3.0)),
        ("price", targets.Profit("t", cost="cost", at=ROWS)),
        ("price", targets.Profit("t", cost=ROWS)),
    ],
    "optimal_price": [
        ("price", targets.OptimalPrice("t", cost="cost", lo=0.1, hi=12.0)),
        ("price", targets.OptimalPrice("t", cost=0.8, lo=0.5, hi=12.0)),
    ],
    "consumer_surplus": [("price", targets.ConsumerSurplus("t", lo=1.0, hi=3.0))],
    "policy_value": [
        ("binary", targets.PolicyValue(lambda frame: (frame.x > 0) * 1)),
        ("price", targets.PolicyValue(lower)),
        ("price", targets.PolicyValue("cost")),
    ],
    "policy_difference": [
        ("binary", targets.PolicyDifference(lambda frame: (frame.x > 0) * 1)),
        ("price", targets.PolicyDifference(above, other=2.5)),
        ("price", targets.PolicyDifference(lower)),
    ],
    "tail_probability": [
        ("price", targets.TailProbability((0, 2))),
        ("binary", targets.TailProbability(0.5, at={"t": 1})),
    ],
    "conditional_variance": [
        ("price", targets.ConditionalVariance()),
        ("binary", targets.ConditionalVariance(at={"t": 1})),
    ],
    "quantile_effect": [("binary", targets.QuantileEffect("t", q=(0.1, 0.7)))],
    "spread": [
        ("price", targets.Spread()),
        ("price", targets.Spread("t")),
        ("binary", targets.Spread(targets.ATE("t"))),
        ("price", targets.Spread(targets.AME("t"))),
        ("choices", targets.Spread("time")),
    ],
    "combinations": [("binary", targets.Combinations())],
    "choice_effect": [
        ("choices", targets.ChoiceEffect("price", of="a")),
        ("choices", targets.ChoiceEffect("price", of="b", on="a", elasticity=True)),
    ],
    "compensating_variation": [
        (
            "choices",
            targets.CompensatingVariation("price", {"time": shorter}),
        ),
    ],
    "share_above": [
        ("binary", targets.ShareAbove("t", cut=0.8, bandwidth=0.1)),
        ("price", targets.ShareAbove(targets.AME("t"), cut=-0.7, bandwidth=0.2)),
    ],
    "custom": [
        ("price", targets.Custom(lambda theta: theta["Intercept"] * theta["t"], "product")),
        ("price", targets.Custom(lambda theta, hi, lo: [hi / lo, hi - lo], ("ratio", "gap"), ({"t": 2}, {"t": lower}))),
    ],
}
LAWS = {"tail_probability": ("gaussian", "logit", "poisson"), "conditional_variance": ("gaussian", "logit", "poisson")}
LAWS["quantile_effect"] = ("gaussian",)
EVERY = [
    pytest.param(family, kind, target, id=f"{family}-{name}-{i}")
    for name, found in CASES.items()
    for i, (kind, target) in enumerate(found)
    for family in (("conditional_logit",) if kind == "choices" else LAWS.get(name, ("linear", "logit", "poisson")))
]


class OfDearUnits(targets.ChoiceEffect):
    """With a weight that depends on what was drawn."""

    def weight(self, design, frame):
        return np.asarray(frame.price.groupby(frame.unit).transform("max"), dtype=np.float64)


EVERY.append(pytest.param("conditional_logit", "choices", OfDearUnits("price", of="a"), id="weights-of-units"))


def test_there_is_a_case_for_every_target():
    elsewhere = {"late", "iv_effect"}  # they need an instrument, see test_instruments
    assert sorted({*CASES, *elsewhere}) == targets.names()
    for name, found in CASES.items():
        assert {target.label for _, target in found} == {name}


@pytest.mark.parametrize(("family", "kind", "target"), EVERY)
def test_an_error_in_theta_that_depends_on_x_moves_psi_only_in_second_order(family, kind, target):
    population = exact(family, kind, X)
    design, theta = population.design, population.theta
    x = torch.tensor(design.first(design.frame, design.frame.x.to_numpy()))
    truth, plain = mean_psi(population, theta, target)
    np.testing.assert_allclose(truth, plain, rtol=1e-8, atol=1e-10)
    direction = torch.stack([1 + torch.cos(x), 0.15 * x + 0.2, 0.3 + torch.sin(x)], 1)[:, : theta.shape[-1]]
    c = 0.002
    found = [mean_psi(population, theta + by * direction, target) for by in (c, c / 2)]
    error, half, plug_half = found[0][0] - truth, found[1][0] - truth, found[1][1] - truth
    moved = np.abs(plug_half) > 1e-5 * np.abs(truth)  # the direction matters to the plug-in
    assert moved.any()
    assert (np.abs(half[moved]) < 0.1 * np.abs(plug_half[moved])).all()
    quadratic = np.abs(error) > 1e-9 * (1 + np.abs(truth))
    np.testing.assert_allclose(error[quadratic] / half[quadratic], 4, rtol=0.25)


@pytest.mark.parametrize(("family", "kind", "target"), EVERY)
def test_gradients_by_finite_differences(family, kind, target):
    population = exact(family, kind, X)
    target, theta = target.bind(population.design), population.theta
    found = scores(population, theta)
    scenarios = found._scenarios(target)
    at = found._evaluate(target, found.u, scenarios, theta, 0)
    assert at.h.shape == (1, population.design.n, at.gradient.shape[2]) and bool(at.h.isfinite().all())
    if target.averaged:
        assert len(target.names(population.structure, population.design)) == at.h.shape[-1]
    for j, step in enumerate(1e-5 * torch.eye(theta.shape[-1], dtype=torch.float64)):
        up, down = (found._evaluate(target, found.u, scenarios, theta + by * step, 0).h for by in (1, -1))
        np.testing.assert_allclose(at.gradient[..., j], (up - down) / 2e-5, rtol=1e-4, atol=1e-6)
    mean = at.h.mean((0, 1))
    turn = torch.autograd.functional.jacobian(target.combine, mean)
    assert turn.shape == (len(target.names(population.structure, population.design)), len(mean))
    for j, step in enumerate(1e-6 * torch.eye(len(mean), dtype=torch.float64)):
        slope = (target.combine(mean + step) - target.combine(mean - step)) / 2e-6
        np.testing.assert_allclose(turn[:, j], slope, rtol=1e-5, atol=1e-8)


def test_overlap_weights_are_those_of_the_propensity_and_bear_an_error_in_it():
    population = exact("linear", "binary", X)
    frame, nodes = population.design.frame, population.nodes
    x = frame.x.to_numpy()
    e, effect = 1 / (1 + np.exp(-0.8 * x)), 0.8 + 0.4 * np.sin(x)
    truth = np.average(effect, weights=e * (1 - e) * frame.w)
    np.testing.assert_allclose(mean_psi(population, population.theta, targets.ATO("t"))[0], truth, rtol=1e-10)
    errors = []
    for c in (0.02, 0.01):
        wrong = torch.tensor(np.stack([1 - e, e], 1) + c * np.cos(x)[:, None] * np.array([-1, 1]))[None]
        moved = population._replace(nodes=replace(nodes, weight=wrong))
        errors.append(mean_psi(moved, population.theta, targets.ATO("t"))[0][0] - truth)
    assert 1e-7 < abs(errors[1]) < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def estimate(population, *chosen):
    """Plug-in values at the true theta."""
    return np.concatenate([mean_psi(population, population.theta, one)[1] for one in chosen])


def test_closed_forms_of_linear_demand():
    population = exact("linear", "price", X)
    frame, theta = population.design.frame, population.theta[0].numpy()
    a, b, p, cost, w = theta[:, 0], theta[:, 1], frame.t, frame.cost, frame.w

    def mean(values):
        return np.average(values, weights=w)

    best = (cost - a / b) / 2  # of (p - cost) (a + b p)
    rows = np.asarray(ROWS)
    both = mean(b**2) - mean(b) ** 2
    expected = [
        (targets.Elasticity("t"), mean(b * p / (a + b * p))),
        (targets.Elasticity("t", at=2.0), mean(2 * b / (a + 2 * b))),
        (targets.Elasticity("t", semi=True), mean(b / (a + b * p))),
        (targets.WTP("Intercept", per="t"), -mean(a / b)),
        (targets.WTP("Intercept", per="t", of="averages"), -mean(a) / mean(b)),
        (targets.Revenue("t"), mean(p * (a + b * p))),
        (targets.Revenue("t", at=ROWS), mean(rows * (a + b * rows))),
        (targets.Profit("t", cost="cost", at=3.0), mean((3 - cost) * (a + 3 * b))),
        (targets.Profit("t", cost=ROWS), mean((p - rows) * (a + b * p))),
        (targets.ConsumerSurplus("t", lo=1, hi=3), mean(2 * a + 4 * b)),
        (targets.PolicyValue(lower), mean(a + b * lower(frame))),
        (targets.PolicyDifference(lower), mean(b * (lower(frame) - p))),
        (targets.PolicyDifference(above, other="cost"), mean(b * (above(frame) - cost))),
        (targets.Contrast({"t": "cost"}, {"t": ROWS}), mean(b * (cost - rows))),
        (targets.Spread("t"), both),
        (targets.Spread(targets.ATE("t", hi=3, lo=1)), 4 * both),
        (targets.ShareAbove("t", cut=-0.7, bandwidth=1e-5), mean(b > -0.7)),
        (targets.Custom(lambda theta, at: theta["t"] * at, "x", ({"t": 2},)), mean(b * (a + 2 * b))),
    ]
    np.testing.assert_allclose(
        estimate(population, *(one for one, _ in expected)), [value for _, value in expected], rtol=1e-7
    )
    found = estimate(population, targets.OptimalPrice("t", cost="cost", lo=0.1, hi=12))
    np.testing.assert_allclose(found, [mean(best), mean((best - cost) * (a + b * best))], rtol=1e-9)


def test_the_law_of_the_outcome():
    population = exact("gaussian", "price", X)
    frame, (a, b, s) = population.design.frame, population.theta[0].numpy().T
    scale = np.exp(s)
    chosen = [
        targets.TailProbability((1, 2), at={"t": 3}), targets.TailProbability(2.5), targets.ConditionalVariance(),
        targets.QuantileEffect("t", 3, 2, q=(0.5, 0.9)),
    ]  # fmt: skip
    rows = [
        stats.norm.sf(1, a + 3 * b, scale), stats.norm.sf(2, a + 3 * b, scale),
        stats.norm.sf(2.5, a + b * frame.t, scale), scale**2, b, b,
    ]  # fmt: skip
    np.testing.assert_allclose(estimate(population, *chosen), [np.average(v, weights=frame.w) for v in rows], rtol=1e-9)


@pytest.mark.parametrize("family", ["logit", "poisson"])
def test_the_optimal_price_is_that_of_a_search_and_its_gradient_that_of_finite_differences(family):
    population = exact(family, "price", X)
    theta, cost = population.theta[0].numpy(), population.design.frame.cost.to_numpy()
    target = targets.OptimalPrice("t", cost="cost", lo=0.1, hi=14.0).bind(population.design)
    of = scores(population, population.theta)
    found = of._evaluate(target, of.u, of._scenarios(target), population.theta, 0)
    demand = {"logit": lambda z: 1 / (1 + np.exp(-z)), "poisson": np.exp}[family]

    def best(at, cost):
        search = minimize_scalar(lambda p: -(p - cost) * demand(at[0] + at[1] * p), bounds=(0.1, 14.0),
                                 method="bounded", options={"xatol": 1e-9})  # fmt: skip
        return np.array([search.x, -search.fun])

    for i in range(0, len(theta), 90):
        np.testing.assert_allclose(found.h[0, i], best(theta[i], cost[i]), rtol=1e-6)
        for j, step in enumerate(np.eye(2) * 1e-3):
            slope = (best(theta[i] + step, cost[i]) - best(theta[i] - step, cost[i])) / 2e-3
            np.testing.assert_allclose(found.gradient[0, i, :, j], slope, rtol=1e-3, atol=1e-4)


def test_an_optimal_price_at_the_bounds_is_counted_or_refused():
    population = exact("linear", "price", X)
    _, b = population.theta[0].numpy().T
    cost = population.design.frame.cost.to_numpy()
    best = (cost - population.theta[0, :, 0].numpy() / b) / 2
    hi = float(np.quantile(best, 0.8))
    with pytest.warns(DeepregWarning, match=rf"greatest at a bound in {np.mean(best >= hi):.1%} of the rows"):
        found = estimate(population, targets.OptimalPrice("t", cost="cost", lo=0.1, hi=hi))
    assert found[0] == pytest.approx(np.average(np.minimum(best, hi), weights=population.design.frame.w))
    with pytest.raises(OptionError, match=r"in 100.0% of the rows.*Widen lo and hi"):
        estimate(population, targets.OptimalPrice("t", cost="cost", lo=0.1, hi=1.0))


def test_a_ratio_with_a_denominator_near_zero_warns():
    population = exact("linear", "price", X)
    theta = population.theta.clone()
    theta[:, :18, 1] *= -0.01
    with pytest.warns(DeepregWarning, match=r"coefficient of t is near 0.* in 5.0% of the rows.*of='averages'"):
        mean_psi(population, theta, targets.WTP("Intercept", per="t"))
    mean_psi(population, theta, targets.WTP("Intercept", per="t", of="averages"))
    theta[:, :18] = torch.tensor([1.0, -1.0])
    with pytest.warns(DeepregWarning, match=r"the mean of the outcome is 0, or on the other side of it, in 5.0%"):
        mean_psi(population, theta, targets.Elasticity("t"))


# of fits


@pytest.fixture(scope="module")
def sales():
    rng = np.random.default_rng(1)
    x, ad = rng.normal(size=400), rng.choice(["none", "radio"], 400)
    frame = pd.DataFrame({"x": x, "ad": ad, "price": 3 + 0.3 * x + 0.8 * rng.normal(size=400), "cost": 1 + 0.2 * x**2})
    frame["buys"] = rng.poisson(np.exp(4 + 0.2 * (ad == "radio") - (0.8 + 0.05 * np.sin(x)) * frame.price))
    return frame


@pytest.fixture(scope="module")
def fit(sales):
    made = deepreg.structural("buys ~ price + ad | x + cost", sales, "poisson")
    return made.fit(folds=2, learners="smooth", rng=0, progress=False)


FITTED = [
    targets.Contrast({"price": 2.5, "ad": "radio"}, {"price": 3, "ad": "none"}),
    targets.Contrast({"price": 2.5}, {"price": 3.0, "ad": "none"}, called="offer"),
    targets.Elasticity("price"), targets.Elasticity("price", at=3.0), targets.WTP("ad[T.radio]", "price", "averages"),
    targets.Revenue("price"), targets.Profit("price", "cost", at=3), targets.ConsumerSurplus("price", 2, 3),
    targets.OptimalPrice("price", "cost", 0.5, 12), targets.PolicyValue("none", name="ad"),
    targets.PolicyDifference("radio", name="ad"), targets.TailProbability(1), targets.ATO("ad"),
    targets.ConditionalVariance(at={"ad": "none"}), targets.Spread("price"), targets.Spread(targets.ATE("ad")),
    targets.ShareAbove("price", -0.5, 0.1), targets.Contrast({"price": np.full(400, 2.0)}, {"price": 3.0}),
]  # fmt: skip


def test_targets_of_a_fit_have_names_and_errors_and_come_back_from_a_file(fit, tmp_path):
    found = fit.estimate(*FITTED)
    assert len(set(found.names)) == len(found.names)
    assert np.isfinite(found.value).all() and (found.std_error > 0).all()
    assert found.names[:4] == (
        "price = 2.5, ad = radio vs price = 3, ad = none", "offer", "Elasticity price", "Elasticity price at 3",
    )  # fmt: skip
    for name in ("OptimalPrice", "Profit at optimal"):
        assert any(one.startswith(name[:6]) for one in found.names)
    fit.save(tmp_path / "fit", targets=[tuple(FITTED)])
    loaded = deepreg.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(loaded.estimate(*FITTED).frame(), found.frame())
    for one in FITTED:  # by themselves
        pd.testing.assert_frame_equal(loaded.estimate(one).frame(), found.frame().loc[list(loaded.estimate(one).names)])
    pd.testing.assert_frame_equal(loaded.estimate("spread").frame(), fit.estimate(targets.Spread).frame())


def test_bare_names_stand_for_the_variables_they_apply_to(fit):
    assert fit.estimate("elasticity").names == ("Elasticity price",)
    assert fit.estimate("ato").names == ("ATO ad: radio vs none",)
    assert fit.estimate("spread").names == ("Var(Intercept)", "Var(ad[T.radio])", "Var(price)")
    assert fit.estimate(targets.ConditionalVariance).names == ("Conditional variance of buys",)
    for name in targets.names():
        cls = targets.classes()[targets.names().index(name)]
        if cls.example:
            with pytest.raises(
                OptionError, match=rf"{cls.__name__} has to be told more, for example targets.{cls.__name__}\("
            ):
                fit.estimate(name)


def test_what_a_file_cannot_hold(fit, tmp_path):
    for one in (
        targets.PolicyValue(lambda frame: frame.cost, name="price"),
        targets.Contrast({"price": above_three}, {"price": 3.0}),
        targets.Custom(lambda theta: theta["price"], "price"),
        targets.Spread(targets.Custom(lambda theta: theta["price"], "price")),
    ):
        assert np.isfinite(fit.estimate(one).value).all()
        with pytest.raises(NotAvailable, match=r"has a function in it. Give the values .* as an array"):
            fit.save(tmp_path / "fit", targets=[one])


def above_three(frame):
    return frame.price.clip(lower=3.0)


def test_values_of_each_row_are_arrays_columns_or_series_by_their_index(fit, sales):
    rule = sales.cost * 2
    asked = [
        targets.PolicyValue(one, "price") for one in (lambda frame: frame.cost * 2, rule.to_numpy(), rule, list(rule))
    ]
    first, *others = (fit.estimate(one).frame().to_numpy() for one in asked)
    for other in others:
        np.testing.assert_array_equal(first, other)
    shuffled = fit.estimate(targets.PolicyValue(rule.sample(frac=1, random_state=0), "price"))
    np.testing.assert_array_equal(first, shuffled.frame().to_numpy())
    assert fit.estimate(targets.PolicyValue(above_three, "price")).names == ("Value of above_three",)
    swapped = {"price": 2.0, "ad": lambda frame: np.where(frame.price > 3, "radio", "none")}  # the price it was
    by_hand = {"price": 2.0, "ad": np.where(sales.price > 3, "radio", "none")}
    one, other = (fit.estimate(targets.Contrast(hi, {"price": 2.0, "ad": "none"})) for hi in (swapped, by_hand))
    assert one.plug_in == pytest.approx(other.plug_in) and one.plug_in[0] > 0.01


def test_a_rule_of_the_features_alone_needs_no_law_of_the_treatment(sales):
    made = deepreg.structural("buys ~ price | x + cost", sales, "poisson")
    regressed = made.fit(folds=3, learners="smooth", hessian="regressed", rng=0, progress=False)
    regressed.estimate(targets.PolicyValue(lambda frame: frame.x + 3), targets.Revenue("price", at="cost"))
    for one in (
        targets.PolicyValue(above_three), targets.PolicyDifference(lambda frame: frame.x + 3), targets.Revenue("price"),
        targets.PolicyValue(lambda frame: frame["price"]), targets.Elasticity("price"), targets.TailProbability(1),
    ):  # fmt: skip
        with pytest.raises(NotAvailable, match="assignment="):
            regressed.estimate(one)


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        (targets.Contrast({"z": 1}, {"price": 1}), OptionError, "structural variables of this model are 'price', 'ad'"),
        (targets.Contrast({"price": 1}, {"price": 1}), OptionError, "both price = 1; give two different"),
        (targets.Contrast({}, {"price": 1}), OptionError, r"give variables and their values, for example \{'t': 1\}"),
        (targets.Contrast(3, {"price": 1}), OptionError, "hi=.* got 3"),
        (targets.Contrast({"ad": "tv"}, {"ad": "none"}), OptionError, "'tv' is neither a level of 'ad' nor a column"),
        (targets.Contrast({"price": "buys"}, {"price": 1}), OptionError, "'buys' is the outcome"),
        (targets.Contrast({"price": [1.0, 2]}, {"price": 1}), OptionError, "2 values, but the fit used 400 rows"),
        (targets.Contrast({"price": np.nan}, {"price": 1}), OptionError, "nan is no value"),
        (targets.Contrast({"price": None}, {"price": 1}), OptionError, "None is no value"),
        (targets.PolicyValue(1), OptionError, "what the rule assigns, of 'price', 'ad': give name='price'"),
        (targets.PolicyValue(lambda frame: [1, 2], "price"), DataError, r"shape \(2,\) for a frame of"),
        (targets.PolicyValue(lambda frame: "tv", "ad"), DataError, "'tv' not seen in training"),
        (targets.Elasticity("ad"), OptionError, r"Elasticity\('ad'\): 'ad' is not a number"),
        (targets.WTP("time", per="price"), OptionError, "'time' is no coefficient; there are Intercept, ad"),
        (targets.WTP("price", per="price"), OptionError, "two different coefficients"),
        (targets.WTP("Intercept", per="price", of="row"), OptionError, "allowed are 'rows' and 'averages'"),
        (targets.Revenue("ad"), OptionError, "'ad' is not a number, and so no price"),
        (targets.Revenue("price", at="expenses"), OptionError, "'expenses' is no column of the formula; columns are"),
        (targets.Profit("price", cost="ad"), DataError, "ad does not hold numbers"),
        (targets.Profit("price", cost=lambda frame: frame.x / 0), DataError, "rule holds 3600 values|holds 400 values"),
        (targets.ConsumerSurplus("price", 3, 2), OptionError, "lo below hi"),
        (targets.ConsumerSurplus("price", "a", 2), OptionError, "give two prices"),
        (targets.OptimalPrice("ad", 1, 1, 2), OptionError, "no price"),
        (targets.ATO("price"), DataError, "needs a treatment of two levels"),
        (targets.TailProbability([1, 1]), OptionError, "a list of different ones"),
        (targets.TailProbability("a"), OptionError, "got 'a'; give a number"),
        (targets.QuantileEffect("ad", q=1), OptionError, "between 0 and 1"),
        (targets.QuantileEffect("ad"), NotAvailable, "'poisson' states the mean .* no quantiles"),
        (targets.Spread("q"), OptionError, "the coefficients are"),
        (targets.Spread(3), OptionError, "name of a coefficient, or a target"),
        (targets.Spread(targets.WTP("ad[T.radio]", "price", "averages")), OptionError, "a function of averages"),
        (targets.ShareAbove("price"), OptionError, "one above 0 as bandwidth="),
        (targets.ShareAbove("price", "a", 1), OptionError, "a number as cut="),
        (targets.Custom(3, "x"), OptionError, "give a function"),
        (targets.Custom(lambda theta: theta["price"], ("a", "b")), OptionError, "has 2 names"),
        (targets.Custom(lambda theta: theta["price"].mean(), "a"), OptionError, r"shapes \[\(\)\]"),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused_with_what_to_type(fit, target, error, words):
    with pytest.raises(error, match=words):
        fit.estimate(target)


def test_several_means_and_kinks(sales):
    rng = np.random.default_rng(0)
    mode = rng.choice(["bus", "car"], len(sales))
    chosen = deepreg.structural("mode ~ price | x", sales.assign(mode=mode), "multinomial")
    several = chosen.fit(folds=2, learners="smooth", rng=0, progress=False)
    assert several.estimate("elasticity", targets.Revenue("price", at=3)).names == (
        "Elasticity price, P(bus)", "Elasticity price, P(car)",
        "Revenue price at 3, P(bus)", "Revenue price at 3, P(car)",
    )  # fmt: skip
    with pytest.raises(OptionError, match=r"OptimalPrice needs one mean.*P\(bus\), P\(car\).*family='logit'"):
        several.estimate(targets.OptimalPrice("price", 1, 2, 4))
    with pytest.raises(NotAvailable, match="how likely outcomes below"):
        several.estimate(targets.TailProbability(1))
    kinked = deepreg.structural("buys ~ price + I(price > 3) | x", sales).fit(folds=2, learners="smooth", rng=0)
    with pytest.raises(OptionError, match="no smooth functions of price between"):
        kinked.estimate(targets.OptimalPrice("price", 1, 1, 6))


def test_functions_of_averages_say_so_and_have_no_groups(fit):
    spread = fit.estimate(targets.Spread("price"))
    by_hand = fit.estimate(
        targets.Custom(lambda theta: [theta["price"], theta["price"] ** 2], ("mean", "square"))
    ).map(lambda v: v[1:] - v[:1] ** 2, ["Var(price)"])  # fmt: skip
    np.testing.assert_allclose(spread.frame(), by_hand.frame(), rtol=1e-8)
    assert spread.delta and not spread.groupable and not fit.estimate("ato").groupable
    with pytest.raises(OptionError, match="averages over all rows"):
        spread.by(np.arange(400) % 2)
