"""Choices among alternatives: beside statsmodels and Greene, with choice sets that differ and known functions."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from statsmodels.discrete.conditional_models import ConditionalLogit

import deepreg
from deepreg import Randomised, curvature, targets
from deepreg.errors import DataError, FormulaError, NotAvailable, OptionError
from deepreg.results import Results
from deepreg.targets import ATE, ChoiceEffect, Coefficient, CompensatingVariation

FIT = {"learners": "smooth", "folds": 3, "members": 1, "rng": 0, "progress": False}


@cache
def travel() -> pd.DataFrame:
    """210 trips by air, train, bus or car: Greene's data."""
    data = sm.datasets.modechoice.load_pandas().data.astype({"individual": int})
    names = {1: "air", 2: "train", 3: "bus", 4: "car"}
    return data.assign(mode=data["mode"].map(names), hinc_air=data.hinc * (data["mode"] == 1))


def fitted(formula: str, data: pd.DataFrame, **options: object) -> Results:
    return deepreg.choice(formula, data, unit="individual", alternative="mode", **options).fit(**FIT)


@cache
def drawn(n: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tasks of an experiment with random attributes, of which every fourth lacks one alternative; data and theta."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    theta = pd.DataFrame({"price": -1.2 - 0.8 * np.tanh(x[:, 0]), "time": -0.5 + 0.3 * x[:, 1]})
    theta["C(mode)[T.c]"] = 0.5 + 0.3 * x[:, 0]
    task = np.repeat(np.arange(n), 3)
    data = pd.DataFrame({"task": task, "mode": np.tile(["a", "b", "c"], n), "x0": x[task, 0], "x1": x[task, 1]})
    data["price"], data["time"] = rng.normal(size=3 * n), rng.normal(size=3 * n)
    own = theta.to_numpy()[task]
    utility = own[:, 0] * data.price + own[:, 1] * data.time + own[:, 2] * (data["mode"] == "c")
    data = data.assign(utility=utility + rng.gumbel(size=3 * n), mean=utility)[(task % 4 > 0) | (data["mode"] != "b")]
    best = data.groupby("task").utility.transform("max")
    return data.assign(chosen=(data.utility == best) * 1).drop(columns="utility"), theta


# constant coefficients ------------------------------------------------------------------------------------------------
def test_without_features_it_is_the_conditional_logit_of_greene_and_of_statsmodels() -> None:
    data = travel()
    result = fitted("choice ~ gc + ttme + hinc_air + C(mode, Treatment('car'))", data)
    names = [f"C(mode, Treatment('car'))[T.{one}]" for one in ("air", "bus", "train")]
    assert list(result.params.index) == [*names, "gc", "ttme", "hinc_air"]
    # Greene, Econometric Analysis, 5th edition, table 21.11: estimates and log-likelihood of the unweighted sample
    published = [5.2074, 3.1632, 3.8690, -0.0155, -0.0961, 0.0133]
    np.testing.assert_allclose(result.params, published, atol=6e-5)
    np.testing.assert_allclose(result.llf, -199.1284, atol=5e-5)
    d = np.stack([(data["mode"] == one) * 1.0 for one in ("air", "bus", "train")], 1)
    d = np.c_[d, data[["gc", "ttme", "hinc_air"]]]
    other = ConditionalLogit(data.choice, d, groups=data.individual).fit(disp=0, method="newton", xtol=1e-12)
    np.testing.assert_allclose(result.params, other.params, rtol=1e-6)
    np.testing.assert_allclose(result.llf, other.llf, rtol=1e-12)
    np.testing.assert_allclose(result.llnull, -210 * np.log(4))
    # the sandwich by hand: bread of statsmodels, scores d of the chosen alternative less its mean
    weight = np.exp(d @ other.params.to_numpy()).reshape(-1, 4)
    p = (weight / weight.sum(1, keepdims=True)).reshape(-1, 1)
    score = ((data.choice.to_numpy()[:, None] - p) * d).reshape(-1, 4, 6).sum(1)
    sandwich = other.cov_params().to_numpy() @ score.T @ score @ other.cov_params().to_numpy()
    np.testing.assert_allclose(result.vcov("HC0").cov_params(), sandwich, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(result.cov_params(), sandwich * 210 / 204, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(result.predict(), p[:, 0], rtol=1e-6)
    assert result.nobs == 210 and "air, bus, car, train" in str(result.summary())


def test_choice_sets_that_differ_are_those_of_statsmodels_on_the_long_rows() -> None:
    data = travel()
    out = (data["mode"] == "bus") & (data.individual % 3 == 0) & (data.choice == 0)
    short = data[~out].sample(frac=1, random_state=1)
    result = fitted("choice ~ gc + ttme + C(mode)", short)
    d = np.c_[pd.get_dummies(short["mode"], dtype=float).iloc[:, 1:], short[["gc", "ttme"]]]
    other = ConditionalLogit(short.choice, d, groups=short.individual).fit(disp=0, method="newton", xtol=1e-12)
    np.testing.assert_allclose(result.params, other.params, rtol=1e-6)
    np.testing.assert_allclose(result.llf, other.llf, rtol=1e-12)
    assert out.sum() > 30 and result.nobs == 210 and result.predict().index.equals(short.index)
    np.testing.assert_allclose(result.predict().groupby(short.individual).sum(), 1)


def test_many_alternatives_have_positions_and_no_names() -> None:
    data, _ = drawn()
    data = data[data.task < 300]
    named = deepreg.choice("chosen ~ price + time", data, unit="task", alternative="mode").fit()
    products = data.assign(product=np.arange(len(data)))
    many = deepreg.choice("chosen ~ price + time", products, unit="task", alternative="product").fit()
    np.testing.assert_allclose(named.params, many.params, rtol=1e-8)
    np.testing.assert_allclose(named.predict(), many.predict(), rtol=1e-8)
    assert many.design.units.d.shape == (300, 3, 2)
    with pytest.raises(OptionError, match="too many"):
        many.estimate(ChoiceEffect("price", of=3))


def test_what_describes_the_unit_may_move_the_constants() -> None:
    """C(mode) * psize is coded with psize, which cancels and has no coefficient."""
    result = fitted("choice ~ gc + C(mode) * psize", travel())
    assert [name for name in result.params.index if "psize" in name] == [
        f"C(mode)[T.{one}]:psize" for one in ("bus", "car", "train")
    ]
    by_hand = travel().assign(
        **{f"p_{one}": travel().psize * (travel()["mode"] == one) for one in travel()["mode"][:4]}
    )
    other = fitted("choice ~ gc + C(mode) + p_bus + p_car + p_train", by_hand)
    np.testing.assert_allclose(result.params.to_numpy()[4:], other.params[["p_bus", "p_car", "p_train"]], rtol=1e-8)
    np.testing.assert_allclose(result.predict(travel()), other.predict(), rtol=1e-9)


# functions ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "assignment", [pytest.param(None, marks=pytest.mark.slow), Randomised()], ids=["regressed", "randomised"]
)
def test_functions_are_recovered(assignment: Randomised | None) -> None:
    data, theta = drawn()
    formula = "chosen ~ price + time + C(mode) | x0 + x1"
    result = deepreg.choice(formula, data, unit="task", alternative="mode", assignment=assignment).fit(**FIT)
    wanted = theta[["price", "time", "C(mode)[T.c]"]].mean().reindex(result.params.index).fillna(0.0)
    assert (abs(result.params - wanted) < 4 * result.bse).all()
    loss = result.facts.loss
    assert loss["theta(x)"] < loss["homogeneous"] - 0.01
    own = result.theta()
    assert list(own.index) == list(range(1500))
    assert np.corrcoef(own.price, theta.price)[0, 1] > 0.75 and np.corrcoef(own.time, theta.time)[0, 1] > 0.75
    chance = np.exp(data["mean"])
    chance /= chance.groupby(data.task).transform("sum")
    assert float(((result.predict() - chance) ** 2).mean() ** 0.5) < 0.06
    header = str(result.summary())
    assert ("randomised choice sets" if assignment else "regressed Hessian") in header and "P(t|x)" not in header


@cache
def experiment() -> Results:
    data, _ = drawn()
    formula = "chosen ~ price + time + C(mode) | x0 + x1"
    return deepreg.choice(formula, data, unit="task", alternative="mode", assignment=Randomised()).fit(**FIT)


def test_effects_on_probabilities() -> None:
    data, theta = drawn()
    weight = np.exp(data["mean"])
    p = weight / weight.groupby(data.task).transform("sum")
    p = p.to_frame("p").assign(task=data.task, mode=data["mode"]).pivot(index="task", columns="mode", values="p")
    price, there = theta.price.to_numpy(), p.notna()
    p = p.fillna(0.0)
    result = experiment()
    found = result.estimate(ChoiceEffect("price", of="a"))
    assert found.names == ("price of a, P(a)", "price of a, P(b)", "price of a, P(c)")
    truth = [(price * p.a * (1 - p.a)).mean(), (-price * p.a * p.b).mean(), (-price * p.a * p.c).mean()]
    assert (abs(found.value - truth) < 4 * found.std_error).all() and (found.std_error < 0.01).all()
    np.testing.assert_allclose(found.value.sum(), 0, atol=1e-9)  # probabilities sum to 1
    one = result.estimate(ChoiceEffect("price", of="a", on="b"))
    np.testing.assert_allclose(one.value, found.value[1])
    # elasticities, over the tasks in which both were there
    lever = data.assign(price=data.price + 10)
    formula = "chosen ~ price + time + C(mode) | x0 + x1"
    moved = deepreg.choice(formula, lever, unit="task", alternative="mode", assignment=Randomised()).fit(**FIT)
    elastic = moved.estimate(*(ChoiceEffect("price", of="b", on=on, elasticity=True) for on in ("b", "c")))
    mine = lever[lever["mode"] == "b"].set_index("task").price.reindex(p.index)
    truth = [(price * mine * (1 - p.b))[there.b].mean(), (-price * mine * p.b)[there.b].mean()]
    assert (abs(elastic.value - truth) < 4 * elastic.std_error).all() and (elastic.std_error < 0.5).all()
    with pytest.raises(OptionError, match=r"choice sets differ.*on='a'"):
        result.estimate(ChoiceEffect("price", of="a", elasticity=True))


def test_effects_where_theta_is_constant_are_those_of_the_formula() -> None:
    result = fitted("choice ~ gc + ttme + C(mode)", travel())
    p = result.predict().to_numpy().reshape(-1, 4)  # air, train, bus, car
    found = result.estimate(ChoiceEffect("gc", of="train")).value
    slope = result.params.gc
    cross = [-slope * (p[:, 1] * p[:, j]).mean() for j in (0, 2, 3)]
    np.testing.assert_allclose(found, [*cross, slope * (p[:, 1] * (1 - p[:, 1])).mean()], rtol=1e-6)
    elastic = result.estimate(ChoiceEffect("gc", of="train", elasticity=True)).value
    gc = travel().gc.to_numpy().reshape(-1, 4)[:, 1]
    np.testing.assert_allclose(elastic[3], slope * (gc * (1 - p[:, 1])).mean(), rtol=1e-6)
    np.testing.assert_allclose(elastic[:3], -slope * (gc * p[:, 1]).mean(), rtol=1e-6)


def test_compensating_variation() -> None:
    data, theta = drawn()
    weight = np.exp(data["mean"]).groupby(data.task).sum()
    after = np.exp(data["mean"] - data.task.map(theta.price) * 0.5 * (data["mode"] == "a")).groupby(data.task).sum()
    truth = float(((np.log(after) - np.log(weight)) / -theta.price).mean())
    cut = CompensatingVariation("price", {"price": lambda frame: frame.price - 0.5 * (frame["mode"] == "a")})
    found = experiment().estimate(cut)
    assert abs(found.value[0] - truth) < 4 * found.std_error[0] < 0.06 and 0 < truth < 0.5
    all_cheaper = experiment().estimate(CompensatingVariation("price", {"price": lambda frame: frame.price - 0.5}))
    np.testing.assert_allclose(all_cheaper.value, 0.5, rtol=1e-6)
    for odd in (CompensatingVariation("price", {"colour": 1}), CompensatingVariation("price", {})):
        with pytest.raises(OptionError, match="'price', 'time'"):
            experiment().estimate(odd)


class Overlap(Coefficient):
    """A target with weights by residuals of rows."""

    def residual(self, design: object, frame: pd.DataFrame) -> np.ndarray:
        return frame.price.to_numpy()


def test_targets_of_ordinary_rows() -> None:
    """Functions of the coefficients are as ever; what is of a row and not of a unit is refused."""
    result = experiment()
    own = result.scores.theta[0, :, list(result.params.index).index("price")].numpy()  # type: ignore[union-attr]
    found = result.estimate(
        targets.WTP("time", per="price", of="averages"), targets.Spread("price"), targets.Custom(_double, "double")
    )
    np.testing.assert_allclose(
        found.value[[0, 2]], [-result.params.time / result.params.price, 2 * result.params.price]
    )
    np.testing.assert_allclose(found.plug_in[1], own.var(), rtol=1e-8)  # type: ignore[index]
    with pytest.raises(OptionError, match=r"from each row of the data, but a choice.*ChoiceEffect"):
        result.estimate(Overlap("price"))
    for silent in (targets.TailProbability(1), targets.ConditionalVariance()):
        with pytest.raises(NotAvailable, match="conditional_logit"):
            result.estimate(silent)
    with pytest.raises(NotAvailable, match="so do choices"):
        result.plot.overlap()


def _double(theta: pd.DataFrame) -> torch.Tensor:
    return 2 * theta["price"]  # type: ignore[return-value]


def test_a_regression_of_hessians_that_fails_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object, **options: object) -> None:
        raise torch.linalg.LinAlgError("linalg.cholesky: the input is not positive-definite")

    monkeypatch.setattr(curvature, "fit", failing)
    data, _ = drawn()
    model = deepreg.choice("chosen ~ price + time | x0", data[data.task < 300], unit="task", alternative="mode")
    with pytest.raises(DataError, match=r"of 2 coefficients .* 100 units .*fewer structural terms, .*Randomised\(\)"):
        model.fit(**FIT)
    rows = deepreg.structural("price ~ time | x0", data[data.task < 300])
    with pytest.raises(DataError, match=r"fewer structural terms, hessian='estimated', or more rows"):
        rows.fit(hessian="regressed", **FIT)


def test_randomised_averages_over_choice_sets() -> None:
    """Lambda(x) is the mean Hessian over all sets, written out for one x."""
    data, _ = drawn()
    some = data[data.task < 150]
    formula = "chosen ~ price + time | x0"
    model = deepreg.choice(formula, some, unit="task", alternative="mode", assignment=Randomised(sets=10**6, floor=0))
    result = model.fit(**FIT)
    d, mask, theta = result.design.units.d, result.design.units.mask, result.scores.theta[0, 7]
    p = torch.exp(d @ theta) * mask
    p = p / p.sum(1, keepdim=True)
    mean = (p[..., None] * d).sum(1)
    second = torch.einsum("nj,njk,njl->kl", p, d, d) / 150 - mean.T @ mean / 150
    np.testing.assert_allclose(result.scores.inverse[0, 7], torch.linalg.inv(second), rtol=1e-8)


def test_origin_and_unit_of_an_attribute_do_not_matter() -> None:
    data, _ = drawn()
    data = data[data.task < 400]
    shift = 1e5 * (1 + data.task % 7)
    moved = data.assign(time=data.time + shift, price=data.price * 1000)
    results = [
        deepreg.choice("chosen ~ price + time | x0", one, unit="task", alternative="mode", assignment=law).fit(**FIT)
        for law in (None, Randomised())
        for one in (data, moved)
    ]
    for a, b in (results[:2], results[2:]):
        np.testing.assert_allclose(b.params * [1000, 1], a.params, rtol=1e-5)
        np.testing.assert_allclose(b.bse * [1000, 1], a.bse, rtol=1e-5)
    networks = [
        deepreg.choice("chosen ~ time | x0", one, unit="task", alternative="mode").fit(
            learners="network", folds=3, members=1, rng=0, progress=False
        )
        for one in (data, moved)
    ]
    np.testing.assert_allclose(networks[0].params, networks[1].params, rtol=1e-2)


# data -----------------------------------------------------------------------------------------------------------------
def test_a_missing_alternative_takes_its_unit_along() -> None:
    data = travel().copy()
    data.loc[data.index[1], "gc"] = np.nan
    lone = data[(data.individual != 5) | (data.choice == 1)]
    result = fitted("choice ~ gc + ttme + C(mode) | hinc", lone)
    assert dict(result.design.dropped) == {
        "missing regressors": 1, "incomplete choice set": 3, "single alternative": 1,
    }  # fmt: skip
    assert result.nobs == 208 and result.predict().isna().sum() == 5
    assert list(result.theta().index[result.theta().isna().any(axis=1)]) == [1, 5]
    assert "5 (missing regressors 1" in str(result.summary())
    with pytest.raises(DataError, match="'gc' in 1"):
        fitted("choice ~ gc | hinc", data, missing="raise")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d.assign(choice=d.choice * (d.individual != 9)), "1 units chose none and 0 chose.*individual=9 "),
        (lambda d: d.assign(choice=d.choice.where(d.individual != 9, 1)), "0 units chose none and 1 chose.*chose 4"),
        (lambda d: d.assign(choice=2 * d.choice), "210 rows hold other values, for example 2"),
        (lambda d: pd.concat([d, d.iloc[[6]]]), "1 rows repeat an alternative.*mode='bus' of individual=2"),
        (lambda d: d.assign(hinc=d.hinc + (d.index == 5)), "The feature 'hinc'.*within 1 units.*individual=2"),
        (lambda d: d.assign(w=1 + d.index % 3), "The column 'w' must be the same.*within 210 units"),
        (lambda d: d.assign(gc=d.hinc * 2), "'gc' .*same for all alternatives.*behind the bar"),
        (lambda d: d.assign(ttme=d.gc * 2 + d.psize), "collinear.*'ttme' is a combination of 'gc'"),
    ],
)  # fmt: skip
def test_what_cannot_be_units_is_refused(edit: object, words: str) -> None:
    data = edit(travel().assign(w=1.0))  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        fitted("choice ~ gc + ttme | hinc", data, weights="w")


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("choice ~ 0 + gc + C(mode)", "takes the intercept out"),
        ("choice ~ 1", "no structural term that could move a choice"),
        ("choice ~ gc | hinc | psize", "third part"),
    ],
)
def test_formulas_that_are_of_no_choice(formula: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words):
        fitted(formula, travel())


def test_options_are_named() -> None:
    data = travel()
    with pytest.raises(OptionError, match="one column"):
        deepreg.choice("choice ~ gc", data, unit="mode", alternative="mode")
    with pytest.raises(OptionError, match="unit= is a int"):
        deepreg.choice("choice ~ gc", data, unit=1, alternative="mode")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"unit='trip' needs the column 'trip'"):
        deepreg.choice("choice ~ gc", data, unit="trip", alternative="mode")
    with pytest.raises(OptionError, match=r"choices take deepreg\.Randomised"):
        fitted("choice ~ gc | hinc", data, assignment=deepreg.KnownLaw(0.5))
    with pytest.raises(OptionError, match="one row for each outcome"):
        deepreg.structural("gc ~ ttme | hinc", data).fit(hessian=Randomised(), **FIT)
    with pytest.raises(OptionError, match="law of a treatment"):
        deepreg.choice("choice ~ gc | hinc", data, unit="individual", alternative="mode").fit(hessian="estimated")
    with pytest.raises(OptionError, match="'psize' describes the unit"):
        fitted("choice ~ gc + C(mode) * psize | hinc", data, assignment=Randomised())
    with pytest.raises(DataError, match=r"deepreg\.choice"):
        deepreg.structural("choice ~ gc", data, family="conditional_logit")
    with pytest.raises(OptionError, match="2 or more"):
        Randomised(sets=1)
    result = fitted("choice ~ gc + C(mode) | hinc", data, assignment=Randomised())
    for target in ("ate", "ame", "mean", ATE("gc", 1, 0)):
        with pytest.raises(OptionError, match="ChoiceEffect"):
            result.estimate(target)
    with pytest.raises(OptionError, match="ChoiceEffect"):
        result.cate()
    for odd, words in (
        (ChoiceEffect("price", of="air"), "attributes of this model are 'gc'"),
        (ChoiceEffect("gc", of="bike"), "alternatives are 'air', 'bus', 'car', 'train'"),
        (ChoiceEffect("gc"), "of=None"), ("choice_effect", r"type targets.ChoiceEffect\('gc', of='air'\)"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            result.estimate(odd)  # type: ignore[arg-type]
    ordinary = deepreg.structural("gc ~ ttme", data).fit()
    with pytest.raises(OptionError, match="one row for each outcome"):
        ordinary.estimate(ChoiceEffect("gc", of="air"))


def test_predictions_elsewhere() -> None:
    data = travel()
    result = fitted("choice ~ gc + ttme + C(mode) | hinc", data)
    new = data[data.individual < 4].drop(columns="choice").sample(frac=1, random_state=2)
    found = result.predict(new)
    assert found.index.equals(new.index)
    np.testing.assert_allclose(found.groupby(new.individual).sum(), 1)
    # theta at features alone, or a row for each unit of long data
    both = result.theta(pd.DataFrame({"hinc": [20.0, 60.0]}, index=["poor", "rich"]))
    assert list(both.index) == ["poor", "rich"] and (both.loc["poor"] != both.loc["rich"]).any()
    np.testing.assert_allclose(
        result.theta(new).sort_index(), result.theta(new.groupby("individual").first()).sort_index()
    )
    lacking = new.assign(gc=new.gc.where(new.index != 1))
    assert result.predict(lacking).isna().sum() == 4
    with pytest.warns(deepreg.errors.DeepregWarning, match="'bike'"):
        other = result.predict(new.assign(mode=new["mode"].where(new.index != 1, "bike")))
    assert other.isna().sum() == 4 and set(other.index[other.isna()]) == {0, 1, 2, 3}
    # an alternative that training did not know, where no term asks for its name
    plain = fitted("choice ~ gc + ttme", data)
    wider = pd.concat([new, new[new["mode"] == "bus"].assign(mode="red bus")])
    chance = plain.predict(wider)
    np.testing.assert_allclose(chance.to_numpy().sum(), 3)
    wider = wider.assign(chance=chance.to_numpy())
    both_buses = wider.set_index(["individual", "mode"]).chance.unstack()
    np.testing.assert_allclose(both_buses["red bus"], both_buses["bus"])


def test_weights_and_clusters_are_of_units() -> None:
    data = travel().assign(w=lambda d: 1 + d.individual % 3, house=lambda d: d.individual // 5)
    result = fitted("choice ~ gc + ttme", data, weights="w", cluster="house")
    twice = pd.concat([data.assign(copy=k) for k in range(3)])
    twice = twice[twice["copy"] < twice.w].assign(individual=lambda d: d.individual * 10 + d["copy"])
    repeated = fitted("choice ~ gc + ttme", twice, cluster="house")
    np.testing.assert_allclose(result.params, repeated.params, rtol=1e-8)
    later = fitted("choice ~ gc + ttme", data, weights="w").vcov({"CRV1": "house"}, data)
    np.testing.assert_allclose(later.bse, result.bse, rtol=1e-12)
    with pytest.raises(DataError, match="'gc' must be the same"):
        fitted("choice ~ gc + ttme", data).vcov({"CRV1": "gc"}, data)


def test_rows_in_any_order_are_the_same_units() -> None:
    data, _ = drawn()
    data = data[data.task < 300]
    mixed = data.sample(frac=1, random_state=0).sort_values("task", kind="stable")
    a, b = (
        deepreg.choice("chosen ~ price + C(mode) | x0", one, unit="task", alternative="mode").fit(**FIT)
        for one in (data, mixed)
    )
    np.testing.assert_allclose(a.params, b.params, rtol=1e-9)
    np.testing.assert_allclose(a.predict(), b.predict()[a.predict().index], rtol=1e-7)


def test_it_is_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = travel()
    result = fitted("choice ~ gc + ttme + C(mode) | hinc", data, assignment=Randomised())
    target = ChoiceEffect("gc", of="air")
    for whole in (False, True):
        path = tmp_path / f"{whole}.deepreg"
        result.save(path, data=whole, targets=[target])
        back = deepreg.load(path)
        assert (back.params == result.params).all() and (back.bse == result.bse).all()
        np.testing.assert_array_equal(back.predict(data), result.predict(data))
        np.testing.assert_array_equal(back.estimate(target).cov, result.estimate(target).cov)
        assert str(back.summary()) == str(result.summary())
    assert "deepreg.choice(" in result.facts.call.code()
    by_size = result.estimate(Coefficient("gc")).by(data.groupby("individual").psize.first())
    assert by_size["n"].sum() == 210
