"""result.heterogeneity: comparison of models, policies, trees and budgets, and tests by refits to earlier folds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg import heterogeneity as het
from deepreg import repeats
from deepreg.errors import DeepregWarning, NotAvailable, OptionError
from deepreg.results import Results

QUICK = {"folds": 3, "learners": "smooth", "rng": 0, "progress": False}
N = 300
RNG = np.random.default_rng(1)
DATA = pd.DataFrame({"x": RNG.normal(size=N), "arm": RNG.choice(list("abc"), N), "firm": np.arange(N) // 3})
DATA["t"] = (RNG.normal(size=N) + 0.3 * DATA.x > 0).astype(int)
DATA["w"] = RNG.uniform(0.5, 2, N)
DATA["y"] = DATA.x + (0.2 + DATA.x) * DATA.t + (DATA.arm == "b") * DATA.x + RNG.normal(size=N)
DATA["z"] = DATA.y + RNG.normal(size=N)
DATA.index = [f"row {i}" for i in range(N)]
RULES = {"x > 0": DATA.x > 0, "half": np.full(N, 0.5)}
HOW = {"weights": DATA.w.to_numpy(), "cluster": DATA.firm.to_numpy()}


def fit(formula: str = "y ~ t | x", data: pd.DataFrame = DATA, repeats: int = 1, **options: object) -> Results:
    return deepreg.structural(formula, data, **options).fit(**QUICK, repeats=repeats)


@pytest.fixture(scope="module")
def clustered() -> Results:
    return fit(weights="w", cluster="firm")


@pytest.fixture(scope="module")
def twice() -> Results:
    return fit(repeats=2)


@pytest.fixture(scope="module")
def arms() -> Results:
    return fit("y ~ C(arm) | x")


def parts(result: Results, effect: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    return result.average_effect(effect).psi[0, :, 0].numpy(), result.cate()[effect or "t"].to_numpy()


def same(found: object, want: object) -> None:
    np.testing.assert_allclose(found.frame(), want.frame(), rtol=1e-8, atol=1e-12)


def test_losses_and_policies_are_those_of_the_scores(clustered) -> None:
    check, (score, effect) = clustered.heterogeneity, parts(clustered)
    given = {"x": DATA.x.to_numpy(), "half": effect / 2}
    shuffled = {"x": DATA.x.sample(frac=1, random_state=0), "half": effect / 2}  # a Series is matched by its index
    same(check.losses(shuffled), het.dr_loss(score, {"fit": effect, **given}, **HOW))
    same(check.policy_value(RULES, cost=0.3), het.policy_value(score, RULES_OF, cost=0.3, **HOW))
    same(check.policy_difference(RULES, "treat"), het.policy_difference(score, RULES_OF, "treat", **HOW))
    same(check.regret(RULES, cost=0.3), het.regret(score, RULES_OF, cost=0.3, **HOW))
    same(check.value_against_cost(costs=[0, 0.5]), het.value_against_cost(score, effect, [0, 0.5], **HOW))
    same(check.qini(cost=2.0), het.qini(score, effect, 2.0, **HOW))
    fold = clustered.splits.fold[0].numpy()
    tree = het.policy_tree_value(score, DATA[["x"]].to_numpy(), depth=1, folds=fold, **HOW)
    same(check.tree(depth=1), tree)
    assert "x <= " in str(check.tree(depth=1, formula="x + I(x**2)").tree)


RULES_OF = {name: np.asarray(rule) for name, rule in RULES.items()}


def test_the_r_loss_takes_residuals_out_of_fold(clustered) -> None:
    theta, nodes = clustered.scores.theta[0].numpy(), clustered.scores.nodes
    mean = (nodes.weight[0].numpy() * (nodes.values["t"][0] == 1)).sum(-1)
    y = DATA.y.to_numpy() - theta[:, 0] - theta[:, 1] * mean
    want = het.r_loss(y, DATA.t - mean, {"fit": theta[:, 1], "x": DATA.x.to_numpy()}, **HOW)
    same(clustered.heterogeneity.losses({"x": DATA.x}, loss="R"), want)


def test_of_all_arms_there_is_a_joint_choice(arms) -> None:
    check = arms.heterogeneity
    score, effect = (np.stack(both, 1) for both in zip(parts(arms, "arm[b]"), parts(arms, "arm[c]"), strict=True))
    every = pd.DataFrame(np.c_[np.zeros(N), score], columns=list("abc"))
    rules = {"b or a": np.where(DATA.x > 0, "b", "a")}
    same(check.policy_value(rules, cost=[0, 0.1, 0.2]), het.policy_value(every, rules, cost=[0, 0.1, 0.2]))
    same(check.regret(rules), het.regret(every, rules))
    same(check.qini(cost=[1.0, 2.0]), het.qini(score, effect, [1.0, 2.0]))
    fold = arms.splits.fold[0].numpy()
    same(check.tree(depth=1), het.policy_tree_value(every, DATA.x.to_numpy(), depth=1, folds=fold))
    alone = check.policy_value({"b": DATA.x > 0}, "arm[b]")
    same(alone, het.policy_value(score[:, 0], {"b": DATA.x.to_numpy() > 0}))
    same(check.losses(effect="arm[c]"), het.dr_loss(score[:, 1], {"fit": effect[:, 1]}))


def test_over_repeats_values_are_medians_and_rules_that_are_learned_take_averages(twice) -> None:
    check = twice.heterogeneity
    each = repeats.of(twice, None)
    score, place = ([getattr(one, of) for one in each] for of in ("rows", "priority"))
    values = [het.policy_value(one, RULES_OF).value for one in score]
    np.testing.assert_allclose(check.policy_value(RULES).value, np.median(values, 0), rtol=1e-12)
    losses = [het.dr_loss(one, {"fit": p[:, 0]}).estimates.value for one, p in zip(score, place, strict=True)]
    np.testing.assert_allclose(check.losses().estimates.value, np.median(losses, 0), rtol=1e-12)
    mean = (score[0].score + score[1].score) / 2, (place[0] + place[1]) / 2
    same(check.qini(), het.qini(mean[0], mean[1]))
    same(check.value_against_cost(), het.value_against_cost(mean[0], mean[1][:, 0]))


def test_regret_is_paired_and_its_limits_count_that_the_best_was_chosen() -> None:
    score = 0.1 + RNG.normal(size=400)
    rule = RNG.normal(size=400) > 0
    found = het.regret(score, {"some": rule})
    values = het.policy_value(score, {"some": rule, "all: none": 0 * score, "all: treat": 0 * score + 1})
    np.testing.assert_allclose(found.values.value, values.value, rtol=1e-12)
    best = int(values.value.argmax())
    assert found.best == values.names[best]
    for name, value, error in zip(found.estimates.names, found.estimate, found.std_error, strict=True):
        gap = found.values.select([found.best]).value[0] - values.select([name]).value[0]
        each = {"some": rule * 1.0, "all: none": 0 * score, "all: treat": 0 * score + 1}
        paired = (each[found.best] - each[name]) * score
        assert value == pytest.approx(gap) and error == pytest.approx(paired.std(ddof=1) / 20)
    frame = found.frame()
    assert frame.index[0] == found.best and (frame.upper >= frame.regret).all()
    assert frame.regret.iloc[0] == 0 and frame["std err"].iloc[0] == 0
    two = het.regret(score, {"none too": np.zeros(400)})  # a policy twice: one difference, of which |z| counts
    error = score.std(ddof=1) / 20
    want = np.maximum(0, score.mean() * np.array([1, -1]) + 1.96 * error)
    np.testing.assert_allclose(two.upper()[["all: none", "all: treat"]], want, rtol=0.03)


def test_the_limits_of_regrets_cover() -> None:
    """Three policies of the same value: the one that looks best is not, and limits have to say so together."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        score, coin = rng.normal(size=200), rng.integers(0, 2, 200)
        covered += bool((het.regret(score, {"coin": coin}).upper(draws=999) >= 0).all())
    truth = 0
    for _ in range(300):  # treating all is better by 0.2 than nobody, and by 0.1 than a coin
        score, coin = 0.2 + rng.normal(size=200), rng.integers(0, 2, 200)
        upper = het.regret(score, {"coin": coin}).upper(draws=999)
        truth += bool((upper >= pd.Series({"coin": 0.1, "all: none": 0.2, "all: treat": 0.0})[upper.index]).all())
    assert covered == 300 and truth / 300 > 0.93


def test_fits_to_earlier_folds_saw_no_later_one(clustered) -> None:
    fold = clustered.heterogeneity.folds["repeat 1"].to_numpy()
    ahead = repeats.sequential(clustered, None, fold)
    assert np.isnan(ahead[fold == 0]).all() and np.isfinite(ahead[fold > 0]).all()
    want = clustered.heterogeneity.test(sequential=ahead).frame()
    pd.testing.assert_frame_equal(clustered.heterogeneity.test(sequential=True).frame(), want)
    assert "AUTOC of later folds" in want.index and want.loc["AUTOC of later folds", "statistic"] > 2
    assert "AUTOC of later folds" not in clustered.heterogeneity.test(sequential=False).frame().index
    design = clustered.design
    y = design.units.y + 100.0 * design.units.y.new_tensor(fold == 2)
    other = replace(clustered, design=replace(design, units=design.units._replace(y=y)))
    again = repeats.sequential(other, None, fold)
    np.testing.assert_array_equal(again[fold == 1], ahead[fold == 1])
    np.testing.assert_array_equal(again[fold == 2], ahead[fold == 2])
    first = y + 100.0 * y.new_tensor(fold == 0) * design.x[:, 0]
    moved = replace(clustered, design=replace(design, units=design.units._replace(y=first)))
    assert (repeats.sequential(moved, None, fold)[fold == 1] != ahead[fold == 1]).all()


def test_the_design_of_some_rows_is_that_of_their_data(clustered) -> None:
    keep = np.arange(20, 120)[::2]
    made = repeats.some(clustered.design, keep)
    want = deepreg.structural("y ~ t | x", DATA.iloc[keep], weights="w", cluster="firm").design
    for found, expected in zip((*made.units[:2], made.weight, made.cluster),
                               (*want.units[:2], want.weight, want.cluster), strict=True):  # fmt: skip
        np.testing.assert_allclose(found, expected)
    assert made.n == len(keep) and made.groups == want.groups and list(made.labels) == list(DATA.index[keep])


def test_effects_at_other_treatments_do_not_enter_refits() -> None:
    data = DATA.assign(t=DATA.t + RNG.normal(size=N), b=(DATA.y > 0).astype(int), x=DATA.x.round())
    result = fit("b ~ t | x", data, family="logit")
    fold = result.splits.fold[0].numpy()
    columns = {"x": data.x, "effect": repeats.sequential(result, None, fold), "own": result.cate().t}
    last = pd.DataFrame(columns)[fold == 2]
    assert (last.groupby("x").effect.nunique() == 1).all() and (last.groupby("x").own.nunique() > 1).any()


def test_what_cannot_be_compared_is_refused(clustered, arms, tmp_path) -> None:
    check = clustered.heterogeneity
    for call, says in (
        (lambda: check.losses(loss="mse"), "'DR' and 'R'"),
        (lambda: check.losses({"fit": DATA.x}), "call it something else"),
        (lambda: check.losses({"mine": clustered.cate(DATA).t}), "functions that saw them"),
        (lambda: check.losses({"mine": DATA.x[1:].to_numpy()}), r"predictions 'mine' has 299 numbers"),
        (lambda: check.policy_value([1, 0]), "no mapping"),
        (lambda: check.policy_value({"a": DATA.x[1:].to_numpy() > 0}), "policy 'a' has 299 arms"),
        (lambda: arms.heterogeneity.losses(), r"arm\[b\]"),
        (lambda: fit("y + z ~ t | x").heterogeneity.tree(), "ATE t: 1 vs 0, y"),
    ):
        with pytest.raises(OptionError, match=says):
            call()
    with pytest.raises(NotAvailable, match="use loss='DR'"):
        arms.heterogeneity.losses(effect="arm[b]", loss="R")
    with pytest.warns(DeepregWarning, match="with the treatment given the features"):
        check.losses({"t": DATA.t})
    clustered.save(tmp_path / "a", data=True)
    with pytest.raises(NotAvailable, match="fits again"):
        deepreg.load(tmp_path / "a").heterogeneity.test(sequential=True)
