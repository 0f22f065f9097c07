"""Nested logits: beside the textbook, pylogit and the conditional logit, with known functions and elasticities."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy.optimize import minimize

import deepreg
from deepreg import Randomised, families, targets
from deepreg.errors import DataError, OptionError
from deepreg.results import Results
from deepreg.targets import ChoiceEffect, CompensatingVariation
from deepreg.units import Units

FIT = {"learners": "smooth", "folds": 3, "members": 1, "rng": 0, "progress": False}
GROUND = {"ground": ["train", "bus", "car"], "air": ["air"]}
FORMULA = "choice ~ gc + ttme + hinc_air + C(mode, Treatment('car'))"


@cache
def travel() -> pd.DataFrame:
    data = sm.datasets.modechoice.load_pandas().data.astype({"individual": int})
    names = {1: "air", 2: "train", 3: "bus", 4: "car"}
    return data.assign(mode=data["mode"].map(names), hinc_air=data.hinc * (data["mode"] == 1))


def fitted(formula: str, data: pd.DataFrame, nests: object = None, **options: object) -> Results:
    model = deepreg.choice(formula, data, unit="individual", alternative="mode", nests=nests, **options)
    return model.fit(**FIT)


def textbook(data: pd.DataFrame, d: np.ndarray, nests: list[list[str]], theta: np.ndarray) -> np.ndarray:
    """Probabilities (rows,) as in Train (2009), equation 4.2; theta are coefficients, and lambda of each nest."""
    v, lam = d @ theta[: d.shape[1]], theta[d.shape[1] :]
    inside, top = np.zeros(len(v)), np.zeros(len(v))
    total = np.zeros(int(data.individual.max()) + 1)
    for nest, scale in zip(nests, lam, strict=True):
        mine = data["mode"].isin(nest).to_numpy()
        who = data.individual.to_numpy()[mine]
        each = np.exp(v[mine] / scale)
        among = np.bincount(who, each, len(total))
        total += np.where(among > 0, among, 1.0) ** scale * (among > 0)
        inside[mine], top[mine] = each / among[who], among[who] ** scale
    return inside * top / total[data.individual.to_numpy()]


def attributes(data: pd.DataFrame) -> np.ndarray:
    d = np.stack([(data["mode"] == one) * 1.0 for one in ("air", "bus", "train")], 1)
    return np.c_[d, data[["gc", "ttme", "hinc_air"]]]


# constant coefficients ------------------------------------------------------------------------------------------------
def test_without_features_it_is_the_nested_logit_of_pylogit() -> None:
    result = fitted(FORMULA, travel(), GROUND)
    assert result.params.index[-1] == "log_lambda[ground]" and len(result.params) == 7
    # pylogit 1.0.1, create_choice_model(model_type="Nested Logit"), which has logit(1 / lambda) as its parameter
    stored = [2.671792, 2.143070, 2.621666, -0.01506367, -0.05978931, 0.01466870]
    np.testing.assert_allclose(result.params.to_numpy()[:-1], stored, rtol=1e-5)
    scale = np.exp(result.params["log_lambda[ground]"])
    np.testing.assert_allclose(scale, 1 / (1 + np.exp(-0.06835059)), rtol=1e-5)
    np.testing.assert_allclose(result.llf, -194.94393943930433, rtol=1e-12)


@pytest.mark.parametrize("short", [False, True], ids=["full sets", "short sets"])
def test_it_is_the_maximum_of_the_textbook_likelihood(short: bool) -> None:
    data = travel()
    if short:  # where one is left of the nest, or none
        lacks = (data["mode"] == "bus") & (data.individual % 3 == 0) | (data["mode"] == "train") & (
            data.individual % 2 == 0
        )
        data = data[~(lacks & (data.choice == 0))].sample(frac=1, random_state=1)
    d, y = attributes(data), data.choice.to_numpy() == 1
    nests = [["train", "bus"], ["car"], ["air"]]
    result = fitted(FORMULA, data, {"public": ["train", "bus"]})

    def loss(theta: np.ndarray) -> float:
        scales = [np.exp(theta[6]), 1.0, 1.0]
        return -np.log(textbook(data, d, nests, np.r_[theta[:6], scales])[y]).sum()

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-5, "maxiter": 1000})
    polished = minimize(loss, best.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 20000})
    np.testing.assert_allclose(result.llf, -polished.fun, rtol=1e-9)
    np.testing.assert_allclose(result.params, polished.x, rtol=2e-3, atol=1e-6)
    assert loss(result.params.to_numpy()) <= polished.fun + 1e-8
    theta = np.r_[result.params[:6], np.exp(result.params.iloc[6]), 1.0, 1.0]
    np.testing.assert_allclose(result.predict(), textbook(data, d, nests, theta), rtol=1e-9)
    np.testing.assert_allclose(result.predict().groupby(data.individual).sum(), 1)
    if short:
        left = data[data["mode"].isin(["train", "bus"])].groupby("individual").size()
        assert (left == 1).sum() > 20 and len(left) < 210


def test_the_errors_are_those_of_the_sandwich() -> None:
    result = fitted(FORMULA, travel(), GROUND)
    family, u = result.structure.family, result.design.units
    theta = torch.tensor(result.params.to_numpy())
    losses = lambda at: family.loss(u, at.expand(210, -1))  # noqa: E731
    bread = torch.linalg.inv(torch.autograd.functional.hessian(lambda at: losses(at).sum(), theta))
    scores = torch.autograd.functional.jacobian(losses, theta)  # (210, 7)
    meat = scores.mT @ scores
    np.testing.assert_allclose(result.vcov("HC0").cov_params(), bread @ meat @ bread, rtol=1e-6, atol=1e-12)


def test_lambda_of_one_is_the_conditional_logit() -> None:
    nested = families.NestedLogit(("a", "b", "c", "d"), (("x", ("a", "d")), ("y", ("b", "c"))))
    plain = families.ConditionalLogit(("a", "b", "c", "d"))
    g = torch.Generator().manual_seed(0)
    d, theta = torch.randn(50, 4, 2, generator=g).double(), torch.randn(50, 2, generator=g).double()
    mask = torch.ones(50, 4).double()
    mask[::2, 0], mask[::3, 3] = 0, 0
    u = Units(torch.full((50,), 1.0).double(), d, mask)
    both = torch.cat([theta, torch.zeros(50, 2).double()], 1)
    for name in ("loss", "mean", "inclusive"):
        np.testing.assert_allclose(getattr(nested, name)(u, both), getattr(plain, name)(u, theta), rtol=1e-13, atol=0)
    np.testing.assert_allclose(nested.information(u, both)[:, :2, :2], plain.information(u, theta), atol=1e-14)
    lone = families.NestedLogit(("a", "b", "c", "d"), (("x", ("a",)),))
    np.testing.assert_array_equal(lone.information(u, theta).shape, (50, 2, 2))
    np.testing.assert_allclose(lone.loss(u, theta), plain.loss(u, theta), rtol=1e-13)


# effects --------------------------------------------------------------------------------------------------------------
def test_effects_are_those_of_the_formula_and_of_finite_differences() -> None:
    data, result = travel(), fitted(FORMULA, travel(), GROUND)
    beta, scale = result.params.gc, float(np.exp(result.params["log_lambda[ground]"]))
    p = pd.DataFrame(result.predict().to_numpy().reshape(-1, 4), columns=["air", "train", "bus", "car"])
    gc = data.gc.to_numpy().reshape(-1, 4)[:, 1]
    inside = p.train / (1 - p.air)
    # Train (2009), section 4.2.2, and the derivatives of equation 4.2: own, within the nest, and in another nest
    extra = (1 - scale) / scale
    truth = {
        "train": beta * gc * (1 - p.train + extra * (1 - inside)), "bus": -beta * gc * (p.train + extra * inside),
        "car": -beta * gc * (p.train + extra * inside), "air": -beta * gc * p.train,
    }  # fmt: skip
    elastic = result.estimate(ChoiceEffect("gc", of="train", elasticity=True))
    for name, value in zip(elastic.names, elastic.value, strict=True):
        one = name.split("P(")[1][:-1]
        np.testing.assert_allclose(value, truth[one].mean(), rtol=1e-6)
    slopes = result.estimate(ChoiceEffect("gc", of="train"))
    dearer = data.assign(gc=data.gc + 0.01 * (data["mode"] == "train"))
    cheaper = data.assign(gc=data.gc - 0.01 * (data["mode"] == "train"))
    moved = (result.predict(dearer) - result.predict(cheaper)) / 0.02
    by_hand = moved.groupby(data["mode"]).mean()
    np.testing.assert_allclose(slopes.value, by_hand[["air", "bus", "car", "train"]], rtol=1e-5)
    np.testing.assert_allclose(slopes.value.sum(), 0, atol=1e-10)


def test_welfare_is_the_log_of_the_sum_over_nests() -> None:
    data, result = travel(), fitted(FORMULA, travel(), GROUND)
    scale = float(np.exp(result.params["log_lambda[ground]"]))

    def expected(frame: pd.DataFrame) -> np.ndarray:
        v = (attributes(frame) @ result.params.to_numpy()[:6]).reshape(-1, 4)
        return np.log(np.exp(v[:, 0]) + np.exp(v[:, 1:] / scale).sum(1) ** scale)

    faster = lambda frame: frame.assign(ttme=np.where(frame["mode"] == "bus", frame.ttme / 2, frame.ttme))  # noqa: E731
    truth = (expected(faster(data)) - expected(data)).mean() / -result.params.gc
    found = result.estimate(CompensatingVariation("gc", {"ttme": lambda frame: faster(frame).ttme}))
    np.testing.assert_allclose(found.value, truth, rtol=1e-9)


# functions ------------------------------------------------------------------------------------------------------------
@cache
def drawn(n: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tasks with random attributes, in which buses of two colours share part of what the model does not see."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=n)
    theta = pd.DataFrame({"price": -1.5 - 0.6 * x, "log_lambda[bus]": -0.7 + 0.4 * x})
    price, there = rng.normal(size=(n, 4)), np.ones((n, 4), dtype=bool)
    there[::5, 1] = False  # red and blue bus, car, train: every fifth task has one bus
    family = families.NestedLogit(("blue", "car", "red", "train"), (("bus", ("blue", "red")),))
    u = Units(torch.zeros(n).double(), torch.tensor(price)[..., None], torch.tensor(there).double())
    y = family.simulate(u, torch.tensor(theta.to_numpy()), torch.Generator().manual_seed(seed)).long().numpy()
    names = np.array(["blue", "car", "red", "train"])
    row, column = np.nonzero(there)
    long = {"individual": row, "mode": names[column], "x": x[row], "price": price[there], "choice": column == y[row]}
    return pd.DataFrame(long).astype({"choice": int}), theta


@pytest.mark.parametrize("assignment", [None, Randomised()], ids=["regressed", "randomised"])
def test_functions_are_recovered(assignment: Randomised | None) -> None:
    data, theta = drawn()
    result = fitted("choice ~ price | x", data, {"bus": ["blue", "red"]}, assignment=assignment)
    assert list(result.params.index) == list(theta)
    assert (abs(result.params - theta.mean()) < 4 * result.bse).all() and (result.bse < [0.1, 0.2]).all()
    assert result.facts.loss["theta(x)"] < result.facts.loss["homogeneous"]
    own = result.theta()
    assert all(np.corrcoef(own[name], theta[name])[0, 1] > 0.8 for name in theta)
    if assignment is not None:
        found = result.estimate(
            ChoiceEffect("price", of="red", on="blue"),
            targets.Custom(lambda theta: theta["log_lambda[bus]"].exp(), "lambda"),
        )
        family = result.structure.family
        at = torch.tensor(theta.to_numpy())
        u = result.design.units
        shift = torch.zeros_like(u.d)
        shift[:, 2] = 1e-5
        change = family.mean(u._replace(d=u.d + shift), at) - family.mean(u._replace(d=u.d - shift), at)
        truth = [float(change[:, 0].mean() / 2e-5), float(np.exp(theta["log_lambda[bus]"]).mean())]
        assert (abs(found.value - truth) < 4 * found.std_error).all() and (found.std_error < 0.1).all()


# what is refused ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("nests", "words"),
    [
        (["train", "bus"], "give a mapping from names of nests"),
        ({"ground": "train"}, "give a mapping from names of nests"),
        ({"ground": []}, "give a mapping from names of nests"),
        ({"ground": ["train", "tram"]}, "'tram' is no alternative; there are 'air', 'bus', 'car', 'train'"),
        ({"ground": ["train", "bus"], "fast": ["train", "air"]}, "'train' is named twice"),
        ({"ground": ["train"], "air": ["air"]}, "conditional logit. Leave nests= out"),
        ({"all": ["train", "bus", "car", "air"]}, "scale of all coefficients and not identified"),
    ],
)
def test_nests_that_are_none(nests: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        fitted("choice ~ gc", travel(), nests)


def test_nests_that_the_data_say_nothing_on() -> None:
    data = travel()
    one = data[(data["mode"] != "bus") | (data.choice == 1)]
    one = one[(one["mode"] != "train") | (one.groupby("individual")["mode"].transform(lambda m: "bus" not in set(m)))]
    with pytest.raises(DataError, match="no choice set of 'choice' has two alternatives of the nest 'public'"):
        fitted("choice ~ gc", one, {"public": ["train", "bus"]})
    many = data.assign(mode=data.index)
    with pytest.raises(OptionError, match="too many to have names"):
        fitted("choice ~ gc", many, {"public": [1, 2]})
    with pytest.raises(DataError, match=r"lambda of the nest 'pair' .*leave the nest out"):
        fitted("choice ~ noise", _without_utility(), {"pair": ["a", "b"]})


def _without_utility() -> pd.DataFrame:
    """Choices inside the nest follow the utilities to the letter, and nests are chosen by coin."""
    rng = np.random.default_rng(0)
    n = 300
    noise = rng.normal(size=(n, 3))
    better = np.where(noise[:, 0] > noise[:, 1], 0, 1)
    y = np.where(rng.uniform(size=n) < 0.5, better, 2)
    frame = {"individual": np.repeat(np.arange(n), 3), "mode": np.tile(["a", "b", "c"], n), "noise": noise.ravel()}
    return pd.DataFrame({**frame, "choice": (np.arange(3) == y[:, None]).ravel() * 1})


def test_a_saved_fit_predicts_the_same(tmp_path: object) -> None:
    data, _ = drawn()
    result = fitted("choice ~ price | x", data[data.individual < 300], {"bus": ["blue", "red"]})
    path = f"{tmp_path}/fit.deepreg"
    result.save(path)
    again = deepreg.load(path)
    np.testing.assert_array_equal(again.params, result.params)
    np.testing.assert_allclose(again.predict(data), result.predict(data), rtol=1e-12)
    assert "nests={'bus': ['blue', 'red']}" in result.facts.call.code()
