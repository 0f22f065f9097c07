"""Losses, policies, Qini curves and policy trees: other software's numbers, brute force, and what is refused."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from scipy.optimize import linprog

import deepreg
from deepreg.errors import DataError, OptionError
from deepreg.heterogeneity import (
    QiniCurve,
    dr_loss,
    policy_difference,
    policy_tree,
    policy_tree_value,
    policy_value,
    qini,
    r_loss,
    value_against_cost,
)
from deepreg.heterogeneity.search import best_splits, coded
from deepreg.heterogeneity.trees import descend, grow
from deepreg.targets import Mean, PolicyValue

HERE = Path(__file__).parent / "reference" / "heterogeneity"


@pytest.fixture(scope="module")
def data() -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(HERE / "policy" / f"{name.lower()}.csv.gz") for name in "ABC"}


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(HERE / name)


# losses ---------------------------------------------------------------------------------------------------------------
def residuals(d: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    return d.y - (d.e * d.m1 + (1 - d.e) * d.m0), d.w - d.e


def test_losses_are_those_of_causalml(data: dict[str, pd.DataFrame]) -> None:
    table = read("losses/causalml.csv")
    for name in "AB":
        d = data[name]
        part = table[(table["data"] == name) & table.priority.isin(d.columns)].set_index("priority")
        for stat, made in (("dr_loss", dr_loss(d.dr, d[part.index.unique()])),
                           ("r_loss", r_loss(*residuals(d), d[part.index.unique()]))):  # fmt: skip
            want = part[part.stat == stat]
            assert len(want) >= 4
            np.testing.assert_allclose(made.estimate[want.index], want.value, rtol=1e-7)


def test_the_score_is_econmls(data: dict[str, pd.DataFrame]) -> None:
    table = read("losses/residuals.csv")
    for name, part in table.groupby("data"):
        d = data[str(name)]
        made = r_loss(*residuals(d), d[part.priority])
        np.testing.assert_allclose(made.score.value, part.r_score, rtol=1e-7)
        np.testing.assert_allclose([made.constant, made.estimate["constant"]], part.iloc[0, 2:4].tolist(), rtol=1e-7)
    rows, table = read("losses/rscorer_rows.csv.gz"), read("losses/rscorer.csv")
    made = r_loss(rows.y_res, rows.t_res, data["B"][table.priority])
    np.testing.assert_allclose(made.score.value, table.r_score, rtol=2e-7)  # residuals are stored with 12 digits


def test_differences_of_losses_are_paired(data: dict[str, pd.DataFrame]) -> None:
    d = data["A"]
    made = dr_loss(d.dr, d[["s_oof", "true_cate"]])
    gap = (d.dr - d.s_oof) ** 2 - (d.dr - d.true_cate) ** 2
    found = made.difference("s_oof", "true_cate")
    np.testing.assert_allclose([found.value[0], found.std_error[0]], [gap.mean(), gap.std() / len(d) ** 0.5])
    shown = [made.estimate["s_oof"], made.std_error["s_oof"], made.estimate["true_cate"], *found.value]
    assert [f"{x:.2f}" for x in [*shown, *found.std_error]] == ["118.70", "3.80", "113.38", "5.32", "1.24"]
    better = (d.dr - d.dr.mean()) ** 2 - (d.dr - d.s_oof) ** 2
    np.testing.assert_allclose(made.gain.value[0], better.mean())
    np.testing.assert_allclose(made.gain.std_error[0], better.std() / len(d) ** 0.5)
    assert made.frame().loc["s_oof", "gain"] == made.gain.value[0]
    assert "DR loss" in str(made)
    assert "<table" in made._repr_html_()


def test_weights_and_clusters_of_losses(data: dict[str, pd.DataFrame]) -> None:
    d = data["B"]
    made = dr_loss(d.dr, d.s_oof, weights=d.weight, cluster=d.cluster)
    loss = (d.dr - d.s_oof) ** 2
    mean = np.average(loss, weights=d.weight)
    sums = (d.weight * (loss - mean) / d.weight.sum()).groupby(d.cluster).sum()
    want = np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))
    np.testing.assert_allclose([made.estimate["s_oof"], made.std_error["s_oof"]], [mean, want])
    assert made.constant == pytest.approx(np.average(d.dr, weights=d.weight))


# values of policies ---------------------------------------------------------------------------------------------------
def test_a_policy_value_is_the_mean_score_of_its_arms(data: dict[str, pd.DataFrame]) -> None:
    d = data["C"]
    gamma = d[["gamma0", "gamma1", "gamma2"]]
    best = d[["m0", "m1", "m2"]].to_numpy().argmax(1)
    rules = {"best": np.array(gamma.columns)[best], "second": np.repeat("gamma1", len(d))}
    net = gamma.to_numpy() - np.array([0.0, 0.5, 1.0])
    made = policy_value(gamma, rules, cost=[0.0, 0.5, 1.0])
    each = np.c_[net[np.arange(len(d)), best], net[:, 1]]
    np.testing.assert_allclose(made.value, each.mean(0))
    np.testing.assert_allclose(made.std_error, each.std(0, ddof=1) / len(d) ** 0.5)
    paired = policy_difference(gamma, rules, "gamma1", cost=[0.0, 0.5, 1.0])
    gap = each[:, 0] - each[:, 1]
    np.testing.assert_allclose([paired.value[0], paired.std_error[0]], [gap.mean(), gap.std(ddof=1) / len(d) ** 0.5])
    np.testing.assert_allclose(paired.value[1], 0.0, atol=1e-12)
    np.testing.assert_allclose(
        policy_value(gamma.to_numpy(), {"best": best}).value, policy_value(gamma, rules).value[0]
    )
    regret = deepreg.best_combination(made, base=None).table["behind"]
    np.testing.assert_allclose(regret["second"], made.value.max() - made.value[1])


def test_scores_of_a_fit_give_the_value_that_its_target_gives() -> None:
    sim = deepreg.simulate.tutorial(300, rng=0)
    fit = deepreg.structural("y ~ treatment | x0 + x1", sim.frame).fit(
        learners="smooth", folds=2, rng=0, progress=False
    )
    rule = (sim.frame.x0 > 0).to_numpy().astype(int)
    want = fit.estimate(PolicyValue(rule))
    means = fit.estimate(Mean("treatment"))
    assert means.psi is not None
    made = policy_value(means.psi[0].numpy(), {"rule": rule})
    np.testing.assert_allclose([made.value, made.std_error], [want.value, want.std_error], rtol=1e-10)


def test_value_against_cost_is_the_value_of_each_rule(data: dict[str, pd.DataFrame]) -> None:
    d = data["A"]
    costs = [0.0, 3.0, 5.9]
    made = value_against_cost(d.dr, d.s_oof, costs)
    for j, cost in enumerate(costs):
        one = policy_value(d.dr, {"rule": d.s_oof > cost, "all": np.ones(len(d))}, cost=cost)
        np.testing.assert_allclose([made.estimates.value[j], made.everyone.value[j]], one.value)
        np.testing.assert_allclose([made.std_error.iloc[j], made.everyone.std_error[j]], one.std_error)
        treated = (d.s_oof > cost) * (d.dr - cost)
        gap = treated - (d.dr - cost if (d.dr - cost).mean() > 0 else 0.0)
        np.testing.assert_allclose(made.advantage.value[j], gap.mean())
        np.testing.assert_allclose(made.advantage.std_error[j], gap.std() / len(d) ** 0.5)
        assert made.share[j] == (d.s_oof > cost).mean()
    assert isinstance(value_against_cost(d.dr, d.s_oof).plot(), Axes)
    assert "advantage" in str(made)


EFFECT = np.arange(6.0)
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: policy_value(EFFECT, {"a": np.full(6, 2.0)}), OptionError, "outside of 0 to 1"),
    (lambda: policy_value(EFFECT, {"a": np.repeat("b", 6)}), OptionError, "no arm; there are none, treat"),
    (lambda: policy_value(EFFECT, {"a": np.ones(5)}), OptionError, r"shape \(5,\)"),
    (lambda: policy_value(EFFECT, {}), OptionError, "no mapping"),
    (lambda: policy_value(EFFECT, {"a": np.ones(6)}, cost=[1.0, 2.0, 3.0]), OptionError, "cost has shape"),
    (lambda: policy_value(np.r_[EFFECT[:5], np.nan], {"a": np.ones(6)}), DataError, "in 1 of 6 rows"),
    (lambda: policy_difference(EFFECT, {"a": np.ones(6)}, "c"), OptionError, "against='c'"),
    (lambda: value_against_cost(np.c_[EFFECT, EFFECT], EFFECT), OptionError, "2 columns"),
    (lambda: dr_loss(EFFECT, {"constant": EFFECT}), OptionError, "called 'constant'"),
    (lambda: dr_loss(EFFECT, EFFECT).difference("a", "constant"), OptionError, "no loss of 'a'"),
    (lambda: r_loss(EFFECT, 0 * EFFECT, EFFECT), OptionError, "treatment is 0"),
    (lambda: qini(EFFECT, EFFECT, cost=0.0), DataError, "not above 0"),
    (lambda: qini(EFFECT, -EFFECT), DataError, "No reward is above 0"),
    (lambda: qini(EFFECT, np.c_[EFFECT, EFFECT]), OptionError, "reward"),
    (lambda: qini(EFFECT, EFFECT).at(-1.0), OptionError, "0 or more"),
    (lambda: qini(EFFECT, EFFECT).difference(qini(EFFECT[1:], EFFECT[1:]), 0.5), OptionError, "other rows"),
    (lambda: policy_tree(EFFECT, EFFECT, depth=9), OptionError, "0 to 6"),
    (lambda: policy_tree(EFFECT, EFFECT, cuts=0), OptionError, "cuts=0"),
    (lambda: policy_tree(EFFECT, pd.DataFrame({"a": list("bcdefg")})), DataError, "get_dummies"),
    (lambda: policy_tree(EFFECT, EFFECT[1:]), DataError, "5 rows"),
    (lambda: policy_tree(EFFECT, EFFECT).value(EFFECT, EFFECT), OptionError, "policy_tree_value"),
    (lambda: policy_tree(EFFECT, pd.DataFrame({"a": EFFECT})).predict(pd.DataFrame({"b": EFFECT})), OptionError, "'a'"),
    (lambda: policy_tree_value(EFFECT, EFFECT, folds=1), OptionError, "folds=1"),
    (lambda: policy_tree_value(EFFECT, EFFECT, folds=np.ones(6)), OptionError, "one value"),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_what_is_no_policy_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


# Qini curves ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def curves(data: dict[str, pd.DataFrame]) -> dict[str, QiniCurve]:
    a, b, c = (data[name] for name in "ABC")
    two = c[["gamma1", "gamma2"]].to_numpy() - c[["gamma0"]].to_numpy()
    reward, cost = np.c_[c.m1 - c.m0, c.m2 - c.m0], c[["cost1", "cost2"]].to_numpy()
    first = 1e-12 * np.arange(len(a))  # of rows with one prediction, maq takes the first
    return {
        "A_uniform_cost_s_oof": qini(a.dr, a.s_oof - first),
        "B_uniform_cost_s_oof": qini(b.dr, b.s_oof),
        "B_uniform_cost_no_covariates": qini(b.dr, np.full(len(b), b.s_oof.mean())),
        "C_two_arms": qini(two, reward, cost),
        "C_arm1_only": qini(two[:, 0], reward[:, 0], cost[:, 0]),
        "C_two_arms_no_covariates": qini(two, np.tile(reward.mean(0), (len(c), 1)), np.tile(cost.mean(0), (len(c), 1))),
    }


def test_gains_under_a_budget_are_maqs(curves: dict[str, QiniCurve]) -> None:
    table = read("policy/maq.csv")
    for name, curve in curves.items():
        want = table[table.curve == name]
        assert len(want) >= 8
        np.testing.assert_allclose(curve.at(want.spend.to_numpy()).value, want.gain, rtol=1e-7)
    for one, other, name in (
        ("C_two_arms", "C_arm1_only", "C_two_arms minus C_arm1_only"),
        ("B_uniform_cost_s_oof", "B_uniform_cost_no_covariates", "B s_oof minus no_covariates"),
    ):
        want = table[table.curve == name]
        assert len(want) == 2
        np.testing.assert_allclose(curves[one].difference(curves[other], want.spend).value, want.gain, rtol=1e-7)


def test_errors_of_gains_are_those_of_the_bootstrap(curves: dict[str, QiniCurve]) -> None:
    table = read("policy/bootstrap.csv")
    for name, want in table.groupby("curve"):
        np.testing.assert_allclose(curves[str(name)].at(want.spend.to_numpy()).std_error, want.se, rtol=0.03)
    maq = read("policy/maq.csv").set_index(["curve", "spend"])
    a = curves["A_uniform_cost_s_oof"].at([0.2, 0.5, 1.0])
    np.testing.assert_allclose(a.std_error, maq.se["A_uniform_cost_s_oof"][[0.2, 0.5, 1.0]], rtol=0.03)
    b = curves["B_uniform_cost_s_oof"]
    paired = b.difference(curves["B_uniform_cost_no_covariates"], [0.3, 0.5])
    np.testing.assert_allclose(paired.std_error, maq.se["B s_oof minus no_covariates"], rtol=0.03)


def test_the_budget_is_used_as_linear_programming_would() -> None:
    rng = np.random.default_rng(3)
    n, arms = 12, 3
    reward, cost = rng.normal(0.5, 1, (n, arms)), rng.uniform(0.5, 2, (n, arms))
    curve = qini(reward, reward, cost)
    once = np.kron(np.eye(n), np.ones(arms))
    for budget in (0.1, 0.4, 0.8, 1.2, 3.0):
        bounds = np.vstack([cost.ravel() / n, once])
        best = linprog(-reward.ravel() / n, A_ub=bounds, b_ub=np.r_[budget, np.ones(n)])
        np.testing.assert_allclose(curve.at(budget).value[0], -best.fun, rtol=1e-9)
    assert curve.limit == pytest.approx(float(curve.path.spend[-1]))


def test_rows_of_one_ratio_are_taken_together(data: dict[str, pd.DataFrame]) -> None:
    d, order = data["A"], np.random.default_rng(0).permutation(2000)
    rounded = d.s_oof.round(0)
    one, other = qini(d.dr, rounded), qini(d.dr[order], rounded[order])
    spend = [0.13, 0.5, 0.77]
    np.testing.assert_allclose(one.at(spend).value, other.at(spend).value, rtol=1e-12)
    np.testing.assert_allclose(one.at(spend).std_error, other.at(spend).std_error, rtol=1e-10)
    random = qini(d.dr, np.ones(len(d)))
    np.testing.assert_allclose(random.at(0.3).value[0], 0.3 * d.dr.mean())
    np.testing.assert_allclose(random.at(0.3).std_error[0], 0.3 * d.dr.std() / len(d) ** 0.5)


def test_weights_count_as_copies_of_rows(data: dict[str, pd.DataFrame]) -> None:
    d = data["B"].iloc[:200]
    times = np.arange(200) % 3 + 1
    often = d.loc[d.index.repeat(times)]
    one, other = qini(d.dr, d.s_oof, weights=times), qini(often.dr, often.s_oof)
    np.testing.assert_allclose(one.at([0.1, 0.3, 0.6]).value, other.at([0.1, 0.3, 0.6]).value, rtol=1e-12)
    np.testing.assert_allclose(one.share(0.3).value, one.at(0.3).value / one.at(one.limit).value)
    clustered = qini(often.dr, often.s_oof, cluster=often.index)
    robust = qini(d.dr, d.s_oof, weights=times)
    np.testing.assert_allclose(clustered.at(9.0).std_error, robust.at(9.0).std_error, rtol=1e-12)


def test_areas_and_plots_of_curves(curves: dict[str, QiniCurve]) -> None:
    curve, other = curves["B_uniform_cost_s_oof"], curves["B_uniform_cost_no_covariates"]
    grid = np.linspace(0, 1, 2001)
    area = np.trapezoid(curve.at(grid).value - other.at(grid).value, grid)
    np.testing.assert_allclose(curve.area_between(other, 1.0).value[0], area, rtol=1e-3)
    ax = curve.plot(others={"at random": other}, label="by effect")
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["by effect", "at random"]
    assert ax.lines[0].get_ydata()[0] == 0.0
    assert "predicted rewards end" in str(curve)


# policy trees ---------------------------------------------------------------------------------------------------------
def test_trees_are_those_of_policytree(data: dict[str, pd.DataFrame]) -> None:
    for _, row in read("policy/policytree.csv").iterrows():
        d = data[row["data"]]
        if row["data"] == "C":
            gamma, x, cost = d[["gamma0", "gamma1", "gamma2"]], d[["x1", "x2", "x3", "x4"]].round(1), None
        else:
            columns = ["struggling", "prior_grade", "grade_level"] if row["data"] == "A" else ["x1", "x2", "x3"]
            x, cost = d[columns].round(1), [0.0, row.cost]
            arms = (d.m0 + (1 - d.w) / (1 - d.e) * (d.y - d.m0), d.m1 + d.w / d.e * (d.y - d.m1))
            gamma = pd.DataFrame(dict(zip(["control", "treated"], arms, strict=True)))
        tree = policy_tree(gamma, x, depth=row.depth, cost=cost)
        assert tree.exact
        arm = tree.predict(x)
        net = gamma.to_numpy() - np.array(cost if cost else [0, 0, 0])
        gain = (net * (arm[:, None] == np.array(gamma.columns))).sum(1) - net[:, 0]
        np.testing.assert_allclose(gain.mean(), row.in_sample_gain, rtol=1e-7)
        np.testing.assert_allclose(gain.std(ddof=1) / len(d) ** 0.5, row.se, rtol=1e-7)
        np.testing.assert_allclose((arm != gamma.columns[0]).mean(), row.share_treated, rtol=1e-12)


def exhaustive(x: np.ndarray, net: np.ndarray, depth: int) -> float:
    """The largest sum of scores of any tree, by trying all."""
    alone = float(net.sum(0).max()) if len(net) else 0.0
    if depth == 0 or not len(net):
        return alone
    found = [alone]
    for p, cut in itertools.chain(*([(p, c) for c in np.unique(x[:, p])] for p in range(x.shape[1]))):
        left = x[:, p] <= cut
        found.append(exhaustive(x[left], net[left], depth - 1) + exhaustive(x[~left], net[~left], depth - 1))
    return max(found)


@pytest.mark.parametrize("seed", range(12))
def test_trees_are_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, arms = int(rng.integers(4, 22)), int(rng.integers(2, 5))
    x = np.c_[rng.normal(size=n), rng.integers(0, 3, n), rng.normal(size=n).round(1)]
    net = rng.normal(size=(n, arms))
    for depth in (0, 1, 2):
        tree = policy_tree(net, x, depth=depth)
        np.testing.assert_allclose(tree.in_sample * n, exhaustive(x, net, depth), rtol=1e-9)
        chosen = tree.predict(x).astype(int)
        np.testing.assert_allclose(net[np.arange(n), chosen].mean(), tree.in_sample)
    deeper = policy_tree(net, x, depth=3)
    assert not deeper.exact
    assert "greedy" in str(deeper)
    assert tree.in_sample - 1e-12 <= deeper.in_sample <= exhaustive(x, net, 3) / n + 1e-12


def test_many_trees_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(1)
    x, net = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    weights = rng.uniform(0, 2, (4, 60)) * (rng.uniform(size=(4, 60)) > 0.3)
    together = grow(coded(x, None), net, weights, 2)
    leaf = descend(together.feature, together.cut, x)
    for j, weight in enumerate(weights):
        used = weight > 0
        alone = policy_tree(net[used], x[used], weights=weight[used])
        mean = (net[np.arange(60), together.arm[j, leaf[j]]] * weight).sum() / weight.sum()
        np.testing.assert_allclose(mean, alone.in_sample, rtol=1e-10)
        assert list(together.arm[j, leaf[j]][used]) == list(alone.predict(x[used]).astype(int))


def test_candidate_cuts_can_be_fewer() -> None:
    rng = np.random.default_rng(2)
    x, net = rng.normal(size=(80, 2)), rng.normal(size=(80, 2))
    few = policy_tree(net, x, cuts=4)
    known = [np.quantile(column, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf") for column in x.T]
    assert all(cut in known[f] for f, cut in zip(few.feature, few.cut, strict=True) if np.isfinite(cut))
    rounded = np.stack([np.searchsorted(k, column) for k, column in zip(known, x.T, strict=True)], 1)
    np.testing.assert_allclose(few.in_sample * 80, exhaustive(rounded.astype(float), net, 2), rtol=1e-9)
    assert not few.exact
    assert "4 cuts" in str(few)
    assert policy_tree(net, x, cuts=79).in_sample == pytest.approx(policy_tree(net, x).in_sample)


def test_a_tree_reads_as_rules(data: dict[str, pd.DataFrame]) -> None:
    d = data["A"]
    tree = policy_tree(d.dr, d[["struggling", "prior_grade", "grade_level"]], cost=5.9)
    assert tree.rules().splitlines() == [
        "prior_grade <= 72.6:",
        "    struggling <= 0: none",
        "    struggling > 0: treat",
        "prior_grade > 72.6:",
        "    prior_grade <= 74.7: treat",
        "    prior_grade > 74.7: none",
    ]
    assert f"{tree.in_sample:.3f}" == "1.672"
    assert "too high" in str(tree)
    nothing = policy_tree(-np.ones(20), np.arange(20.0))
    assert nothing.rules() == "none"
    assert set(nothing.predict(np.arange(5.0))) == {"none"}


def test_a_tree_is_valued_out_of_fold(data: dict[str, pd.DataFrame]) -> None:
    d = data["A"]
    x = d[["struggling", "prior_grade", "grade_level"]]
    made = policy_tree_value(d.dr, x, cost=5.9, folds=d.fold)
    arms = np.empty(len(d), dtype=object)
    for fold in range(5):
        other, mine = d.fold != fold, (d.fold == fold).to_numpy()
        arms[mine] = policy_tree(d.dr[other], x[other], cost=5.9).predict(x[mine])
    assert (made.policy == arms).all()
    each = (arms == "treat") * (d.dr - 5.9)
    assert made.estimate["tree, out of fold"] == pytest.approx(each.mean())
    assert made.std_error["tree, out of fold"] == pytest.approx(each.std() / len(d) ** 0.5)
    assert made.estimate["tree - all: none"] == pytest.approx(each.mean())
    assert each.mean() < made.tree.in_sample
    half = d.fold < 2
    fresh = policy_tree(d.dr[half], x[half], cost=5.9).value(d.dr[~half], x[~half], cost=5.9)
    assert fresh.value[0] < made.tree.in_sample
    drawn = policy_tree_value(d.dr[:300], x[:300], depth=1, cluster=np.arange(300) // 3, folds=4)
    assert drawn.estimates.sampling.kind == "cluster"


def test_folds_that_are_drawn_keep_clusters_together() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(30), 4)
    x = np.repeat(rng.normal(size=30), 4)[:, None]
    score = np.repeat(rng.normal(size=30), 4)  # a row tells what its cluster's others are
    made = policy_tree_value(score, x, depth=2, cluster=cluster, folds=5)
    arms = pd.Series(made.policy).groupby(cluster).nunique()
    assert (arms == 1).all()
    feature, code = best_splits(coded(x, None), np.c_[0 * score, score], np.ones((1, 120)), deep=False)
    assert feature.shape == code.shape == (1,)
