"""Diagnostics of heterogeneity: identities, brute force, edge cases and small simulations."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy import stats

from deepreg import heterogeneity as het
from deepreg.errors import DataError, DeepregWarning, OptionError
from deepreg.heterogeneity import fklearn

N = 60
RNG = np.random.default_rng(5)
X = RNG.normal(size=N)
SCORE = X + RNG.normal(size=N)
TIED = np.round(X)
WEIGHT = RNG.uniform(0.5, 2, N)
CLUSTER = np.arange(N) // 4
FOLD = np.arange(N) % 3


def slowly(score: np.ndarray, priority: np.ndarray, weight: np.ndarray, target: str) -> float:
    """RATE by its definition, row by row: tied rows have their mean score, the heavier of them come first."""
    order = sorted(range(len(score)), key=lambda i: (-priority[i], -WEIGHT[i]))
    total = weight.sum()
    average = (weight * score).sum() / total
    found = above = summed = 0.0
    for i in order:
        tied = priority == priority[i]
        above += weight[i]
        summed += weight[i] * (weight[tied] * score[tied]).sum() / weight[tied].sum()
        found += weight[i] / total * (summed / above - average) * (above / total if target == "QINI" else 1.0)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("priority", [X, TIED], ids=["distinct", "tied"])
@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_influence_values_are_the_derivatives_in_the_weights(target: str, priority: np.ndarray, weighted: bool) -> None:
    weight = WEIGHT if weighted else np.ones(N)
    found = het.rate(SCORE, priority, target=target, weights=weight)
    assert found.estimate[target] == pytest.approx(slowly(SCORE, priority, weight, target), rel=1e-12)
    step, slopes = 1e-5, []
    for i in range(N):
        move = step * (np.arange(N) == i)
        ends = (slowly(SCORE, priority, weight + sign * move, target) for sign in (1, -1))
        slopes.append((next(ends) - next(ends)) / (2 * step))
    psi = found.estimates.psi[0, :, 0].numpy() - found.estimate[target]
    want = np.array(slopes) * weight.sum()
    if priority is TIED:  # the place of a row among those it is tied with is no part of it
        tie = np.unique(TIED, return_inverse=True)[1]

        def mean(values: np.ndarray) -> np.ndarray:
            return np.bincount(tie, weight * values) / np.bincount(tie, weight)

        np.testing.assert_allclose(mean(psi), mean(want), atol=1e-7)
        np.testing.assert_allclose(psi, want, atol=3 / N)
    else:
        np.testing.assert_allclose(psi, want, atol=1e-7)
    share = weight / weight.sum()
    assert found.std_error[target] == pytest.approx((((share * psi) ** 2).sum() * N / (N - 1)) ** 0.5, rel=1e-9)


@pytest.mark.parametrize("priority", [X, TIED], ids=["distinct", "tied"])
def test_no_number_depends_on_the_order_of_the_rows(priority: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(N)
    for diagnostic in (
        lambda i: het.rate(SCORE[i], priority[i], weights=WEIGHT[i], cluster=CLUSTER[i]).frame(),
        lambda i: het.rate(SCORE[i], priority[i], target="QINI").frame(),
        lambda i: het.toc(SCORE[i], priority[i], share=[0.2, 0.45, 1], weights=WEIGHT[i]).conf_int(),
        lambda i: het.gates(SCORE[i], priority[i], 3, folds=FOLD[i], weights=WEIGHT[i]).conf_int(),
        lambda i: het.calibration(SCORE[i], priority[i], folds=FOLD[i], groups=3, cluster=CLUSTER[i]).frame(),
        lambda i: het.heterogeneity_test(SCORE[i], priority[i], FOLD[i], covariates=X[i]).frame().iloc[:, :-1],
    ):
        one, two = diagnostic(np.arange(N)), diagnostic(order)
        np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), rtol=1e-9, atol=1e-12)


def test_a_whole_weight_is_so_many_rows() -> None:
    """Up to the discrete sum of AUTOC, the curve of rows with weight 2 is that of rows that are there twice."""
    twice = np.arange(N) % 2 + 1
    many = np.repeat(np.arange(N), twice)
    for one, two in (
        (het.toc(SCORE, X, share=[0.3, 0.8], weights=twice), het.toc(SCORE[many], X[many], share=[0.3, 0.8])),
        (het.gain(SCORE, X, share=[0.3, 1], weights=twice), het.gain(SCORE[many], X[many], share=[0.3, 1])),
        (het.projection(SCORE, X, weights=twice), het.projection(SCORE[many], X[many])),
        (het.gates(SCORE, FOLD, FOLD, weights=twice), het.gates(SCORE[many], FOLD[many], FOLD[many])),
    ):
        np.testing.assert_allclose(one.estimate, two.estimate, rtol=1e-12)


def test_curves_say_the_same_in_other_units() -> None:
    share = [0.25, 0.6, 1]
    toc, gain, relative = (
        het.toc(SCORE, X, share=share), het.gain(SCORE, X, share=share), het.gain(SCORE, X, share=share, relative=True)
    )  # fmt: skip
    np.testing.assert_allclose(relative.estimate, toc.estimate.to_numpy() * share, atol=1e-14)
    np.testing.assert_allclose(relative.std_error, toc.std_error.to_numpy() * share, atol=1e-14)
    np.testing.assert_allclose(gain.estimate - np.array(share) * SCORE.mean(), relative.estimate, atol=1e-14)
    assert gain.estimate.iloc[-1] == pytest.approx(SCORE.mean(), rel=1e-12)
    assert gain.std_error.iloc[-1] == pytest.approx(SCORE.std(ddof=1) / N**0.5, rel=1e-9)
    assert toc.estimate.iloc[-1] == toc.std_error.iloc[-1] == relative.std_error.iloc[-1] == 0
    assert (gain.frame()[["lower", "upper"]].diff(axis=1)["upper"] > 2 * 1.96 * gain.std_error.to_numpy()).all()


def test_many_rows_have_a_coarser_grid() -> None:
    assert len(het.curves.shares(None, 100_000)) == 96 and len(het.curves.shares(None, 100_001)) == 20
    assert het.curves.shares(None, 100)[0] == 0.3 and het.curves.shares(None, 3)[0] == 0.5


def test_groups_of_ties_have_the_curve_of_their_means() -> None:
    """At the border of a tied group the curve's influence values are those of means of groups that are given."""
    group = np.repeat([2.0, 1.0, 0.0], 20)
    found = het.gain(SCORE, group, share=[1 / 3, 2 / 3, 1])
    inside = np.stack([SCORE * (group >= 2), SCORE * (group >= 1), SCORE], 1)
    np.testing.assert_allclose(found.estimate, inside.mean(0), rtol=1e-12)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_a_constant_priority_has_no_rate_and_no_error(target: str) -> None:
    with pytest.warns(DeepregWarning, match="the same for all 60 rows"):
        found = het.rate(SCORE, np.ones(N), target=target, weights=WEIGHT)
    assert found.estimate[target] == 0 and found.std_error[target] == 0 and found.pvalue[target] == 1
    flat = het.toc(SCORE, np.ones(N), share=[0.4, 1], weights=WEIGHT)
    np.testing.assert_allclose(flat.estimate, 0, atol=1e-12)
    np.testing.assert_allclose(flat.std_error, 0, atol=1e-12)
    assert het.heterogeneity_test(SCORE, np.ones(N), FOLD).pvalue == 1
    with pytest.raises(DataError, match="the same for all rows"):
        het.gates(SCORE, np.ones(N))
    with pytest.raises(DataError, match="the same for all rows"):
        het.calibration(SCORE, np.ones(N), groups=CLUSTER)


@pytest.mark.parametrize("n", [2, 3, 5, 29, 31])
def test_any_number_of_rows_from_two_has_a_curve(n: int) -> None:
    score, place = SCORE[:n], X[:n]
    found = het.toc(score, place)
    assert found.share[-1] == 1 and np.isfinite(found.frame()[["coef", "lower", "upper"]].to_numpy()).all()
    for target in ("AUTOC", "QINI"):
        assert np.isfinite(het.rate(score, place, target=target).std_error.item())
    assert str(found) and found._repr_html_() and found.as_latex()


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: het.rate(np.where(X > 1, np.nan, SCORE), X), DataError, f"scores has missing .* in {(X > 1).sum()} of 60"),
    (lambda: het.rate(SCORE, np.where(X > 1, np.inf, X)), DataError, f"priority has .* in {(X > 1).sum()} of 60"),
    (lambda: het.toc(SCORE, X[1:]), DataError, r"priority has shape \(59,\)"),
    (lambda: het.rate(SCORE, ["a"] * N), DataError, "priority cannot be read as numbers"),
    (lambda: het.rate(SCORE[:1], X[:1]), DataError, "scores has 1 row"),
    (lambda: het.rate(SCORE, X, target="AUC"), OptionError, "'AUTOC', 'QINI'"),
    (lambda: het.rate(SCORE, X, weights=WEIGHT - 1), DataError, f"and {(WEIGHT <= 1).sum()} values of 0 or less"),
    (lambda: het.rate(SCORE, X, cluster=np.ones(N)), DataError, "cluster has one cluster"),
    (lambda: het.rate(SCORE, X, cluster=[None, *range(N - 1)]), DataError, "cluster has 1 missing labels of 60"),
    (lambda: het.rate(pd.Series(SCORE), pd.Series(X, index=range(1, N + 1))), OptionError, "another index than scores"),
    (
        lambda: het.rate(pd.Series(SCORE), {"a": X, "b": pd.Series(X, index=range(1, N + 1))}),
        OptionError,
        "priority 'b' has another index",
    ),
    (
        lambda: het.gates(pd.Series(SCORE), X, folds=pd.Series(FOLD, index=range(1, N + 1))),
        OptionError,
        "folds has another index",
    ),
    (lambda: het.toc(SCORE, X, share=[0.5, 0.2]), OptionError, "increasing numbers"),
    (lambda: het.gain(SCORE, X, share=[0, 1]), OptionError, "above 0"),
    (lambda: het.toc(np.c_[SCORE, SCORE], X).effect("a"), OptionError, "'effect 1', 'effect 2'"),
    (lambda: het.gates(SCORE, X, 1), OptionError, "groups=1"),
    (lambda: het.gates(SCORE, X, np.arange(N)), DataError, "a single row"),
    (lambda: het.gates(np.c_[SCORE, SCORE], X), DataError, "has 2 columns"),
    (lambda: het.projection(SCORE, np.c_[X, X]), OptionError, "collinear"),
    (lambda: het.projection(SCORE, X, vcov="cluster"), OptionError, "without clusters"),
    (lambda: het.projection(SCORE, X, cluster=CLUSTER, vcov="HC3"), OptionError, "with clusters"),
    (lambda: het.projection(SCORE, X, cluster=np.c_[CLUSTER, FOLD], vcov="CR3"), OptionError, "one cluster variable"),
    (lambda: het.projection(SCORE, CLUSTER == 3, cluster=CLUSTER, vcov="CR3"), OptionError, "Without one of"),
    (lambda: het.projection(SCORE, np.arange(N) == 3), OptionError, "use 'HC1'"),
    (lambda: het.heterogeneity_test(SCORE, X), OptionError, "holdout"),
    (lambda: het.heterogeneity_test(SCORE, X, "none"), OptionError, "'holdout'"),
    (lambda: het.heterogeneity_test(SCORE, X, np.arange(N)), DataError, "A fold has a single row"),
    (lambda: het.heterogeneity_test(SCORE, X, FOLD, sequential=X[1:]), DataError, r"sequential has shape \(59,\)"),
    (lambda: het.sequential_priority(lambda known, new: X, FOLD), DataError, "fit returned"),
    (lambda: het.generic_blp(SCORE, X, X, propensity=0.5, baseline=X), DataError, "give 0 and 1"),
    (lambda: het.generic_blp(SCORE, FOLD > 0, X, propensity=1.0, baseline=X), DataError, "probabilities"),
    (lambda: het.generic_blp(SCORE, FOLD > 0, X, propensity=0.5, baseline=X, strategy="A"), OptionError, "'weighted'"),
    (lambda: het.transformed_outcome([1.0, 2.0], [0.0, 1.0]), DataError, "0 in 1 of 2 rows"),
    (lambda: het.weighted_mse(X, SCORE, 0 * X), DataError, "0 in all rows"),
    (lambda: het.clan(X, X, names=["a", "b"]), OptionError, "one for each of the 1 covariates"),
]


@pytest.mark.parametrize("call, error, says", BAD, ids=range(len(BAD)))
def test_what_cannot_be_is_refused(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


def test_two_priorities_are_compared_in_pairs() -> None:
    other = RNG.normal(size=N)
    both = het.rate(SCORE, {"x": X, "noise": other}, cluster=CLUSTER)
    assert list(both.estimate.index) == ["AUTOC: x", "AUTOC: noise", "AUTOC: x - noise"]
    one, two = het.rate(SCORE, X, cluster=CLUSTER), het.rate(SCORE, other, cluster=CLUSTER)
    assert both.estimate.iloc[2] == pytest.approx(one.estimate.item() - two.estimate.item())
    cov = both.estimates.cov
    assert cov[2, 2] == pytest.approx(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    assert both.std_error.iloc[0] == pytest.approx(one.std_error.item(), rel=1e-12)
    pd.testing.assert_frame_equal(
        het.rate(SCORE, pd.DataFrame({"x": X, "noise": other}), cluster=CLUSTER).frame(), both.frame()
    )


def test_every_effect_has_its_own_rate_and_curve() -> None:
    scores = pd.DataFrame({"b": SCORE, "c": -2 * SCORE})
    found = het.rate(scores, X)
    assert list(found.estimate.index) == ["AUTOC: b", "AUTOC: c"]
    np.testing.assert_allclose(found.estimate, [1, -2] * het.rate(SCORE, X).estimate.to_numpy())
    own = het.rate(scores, np.c_[X, TIED])
    np.testing.assert_allclose(own.estimate.iloc[1], -2 * het.rate(SCORE, TIED).estimate.item())
    curve = het.toc(scores, X, share=[0.5, 1])
    assert curve.frame().index.names == ["effect", "share"]
    pd.testing.assert_frame_equal(curve.frame().loc["b"], het.toc(SCORE, X, share=[0.5, 1]).frame())
    np.testing.assert_allclose(curve.effect("c").estimate, -2 * het.toc(SCORE, X, share=[0.5, 1]).estimate.to_numpy())
    tensors = het.rate(torch.tensor(SCORE), torch.tensor(X))
    assert tensors.estimate.item() == het.rate(SCORE, X).estimate.item()


@pytest.mark.parametrize("priority", [X, TIED], ids=["distinct", "tied"])
def test_influence_values_of_curves_are_those_of_their_definition(priority: np.ndarray) -> None:
    """p (score - s_q) + q s_q, p the part of a tied group in the top q and s_q the mean in 20 rows on either side."""
    share, total = np.array([0.11, 0.43, 0.8, 1.0]), WEIGHT.sum()
    above = np.array([WEIGHT[priority > p].sum() for p in priority])
    tied = np.array([WEIGHT[priority == p].sum() for p in priority])
    mean = np.array([np.average(SCORE[priority == p], weights=WEIGHT[priority == p]) for p in priority])

    def inside(q: float) -> np.ndarray:
        return np.clip((q * total - above) / tied, 0, 1)

    def summed(q: float) -> float:
        return float((WEIGHT * inside(q) * mean).sum() / total)

    border = []
    for q in share:
        low, high = max(q - 1 / 3, 0.0), min(q + 1 / 3, 1.0)  # 20 of 60 rows
        border.append((summed(high) - summed(low)) / (high - low))
    top = np.stack([inside(q) for q in share], 1)
    gained = top * (SCORE[:, None] - border) + share * border
    random = gained - share * SCORE[:, None]
    for found, want in (
        (het.gain(SCORE, priority, share=share, weights=WEIGHT), gained),
        (het.gain(SCORE, priority, share=share, weights=WEIGHT, relative=True), random),
        (het.toc(SCORE, priority, share=share, weights=WEIGHT), random / share),
    ):
        np.testing.assert_allclose(found.estimates.psi[0].numpy(), want, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("vcov", ["HC0", "HC1", "HC2", "HC3", "cluster"])
def test_regressions_have_the_errors_of_statsmodels(vcov: str, weighted: bool) -> None:
    weight = WEIGHT if weighted else np.ones(N)
    cluster = CLUSTER if vcov == "cluster" else None
    found = het.projection(SCORE, np.c_[X, X**2], weights=weight, cluster=cluster, vcov=vcov)
    options = {"cov_type": vcov} if cluster is None else {"cov_type": vcov, "cov_kwds": {"groups": cluster}}
    want = sm.WLS(SCORE, np.c_[np.ones(N), X, X**2], weights=weight).fit(**options)
    np.testing.assert_allclose(found.estimate, want.params, rtol=1e-9)
    np.testing.assert_allclose(found.estimates.cov, want.cov_params(), rtol=1e-8)
    test = want.wald_test(np.eye(3)[1:], use_f=False, scalar=True)
    rest = found.freedom - 1
    assert found.test.statistic == pytest.approx(test.statistic * rest / (2 * found.freedom), rel=1e-8)
    assert (found.test.df, found.test.df_denom) == (2, rest)
    assert found.test.pvalue == pytest.approx(stats.f.sf(found.test.statistic, 2, rest))


@pytest.mark.parametrize("cluster", [None, CLUSTER], ids=["rows", "clusters"])
@pytest.mark.parametrize("scores", [1, 2])
def test_degrees_of_freedom_are_those_of_the_noise_of_the_covariance(scores: int, cluster: np.ndarray | None) -> None:
    """Of 20,000 covariances of least squares, from errors themselves, which know no leverage."""
    columns = np.c_[np.ones(N), X, X**2]
    draws = np.random.default_rng(0).normal(size=(20_000, N, scores))
    part = (columns * WEIGHT[:, None]) @ np.linalg.inv((columns * WEIGHT[:, None]).T @ columns)[:, 1:]
    each = (draws[..., None] * part[:, None, :]).reshape(20_000, N, -1)
    if cluster is not None:
        each = np.add.reduceat(each, np.flatnonzero(np.diff(cluster, prepend=-1)), axis=1)
    root = np.linalg.cholesky(np.linalg.inv(np.kron(np.eye(scores), part.T @ part)))
    found = np.einsum("rna,rnb->rab", each @ root, each @ root)
    q = 2 * scores
    want = q * (q + 1) / found.var(0).sum()
    got = het.projection(draws[0], np.c_[X, X**2], weights=WEIGHT, cluster=cluster).freedom
    assert got == pytest.approx(want, rel=0.02)


def test_of_two_clusters_the_fewer_count_and_too_few_are_refused() -> None:
    pair = np.c_[np.arange(N) // 2, CLUSTER]
    both, few = (het.projection(SCORE, X, cluster=one).freedom for one in (pair, CLUSTER))
    assert both == pytest.approx(few)
    rare = (np.arange(N)[:, None] == np.arange(6)) * 1.0 + 1e-3 * RNG.normal(size=(N, 6))
    with pytest.raises(OptionError, match="too few rows or clusters"):
        _ = het.projection(SCORE, rare, vcov="HC1").test


@pytest.mark.slow
def test_the_joint_test_keeps_its_size_where_coefficients_are_many() -> None:
    """Chi-squared tests with the same covariances reject in 7% of these samples."""
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(1000, 200, 8))
    found = [het.projection(rng.normal(size=200), x) for x in columns]
    size = np.mean([one.test.pvalue < 0.05 for one in found])
    loose = np.mean([one.estimates.select(one.estimates.names[1:]).wald().pvalue < 0.05 for one in found])
    assert 0.03 < size < 0.07 < loose


@pytest.mark.parametrize("cluster", [CLUSTER, np.arange(N)], ids=["clusters", "rows"])
def test_the_jackknife_leaves_out_one_cluster_after_the_other(cluster: np.ndarray) -> None:
    columns = np.c_[np.ones(N), X]
    whole = sm.WLS(SCORE, columns, weights=WEIGHT).fit().params
    moved = []
    for g in np.unique(cluster):
        keep = cluster != g
        moved.append(sm.WLS(SCORE[keep], columns[keep], weights=WEIGHT[keep]).fit().params - whole)
    found = het.projection(SCORE, X, weights=WEIGHT, cluster=cluster, vcov="CR3")
    np.testing.assert_allclose(found.estimates.cov, np.array(moved).T @ np.array(moved), rtol=1e-9)
    if len(np.unique(cluster)) == N:
        np.testing.assert_allclose(found.std_error, het.projection(SCORE, X, weights=WEIGHT).std_error, rtol=1e-9)


def test_the_slope_has_an_intercept_for_each_fold() -> None:
    shifted = X + 10 * FOLD
    found = het.calibration(SCORE, shifted, folds=FOLD, groups=3, vcov="HC1")
    want = sm.OLS(SCORE, np.c_[np.eye(3)[FOLD], X]).fit(cov_type="HC1")
    assert found.estimate["slope"] == pytest.approx(want.params[3], rel=1e-9)
    assert found.std_error["slope"] == pytest.approx(want.bse[3], rel=1e-9)
    assert found.estimate["average effect"] == pytest.approx(SCORE.mean(), rel=1e-9)
    test = want.wald_test((np.eye(4)[3], 1.0), use_f=False, scalar=True)
    assert found.calibrated.statistic == pytest.approx(test.statistic, rel=1e-8)
    exact = het.calibration(2 * X, X, groups=3)
    assert exact.estimate["slope"] == pytest.approx(2) and het.calibration(X, X, groups=3).r_squared() == pytest.approx(
        1
    )
    assert "R squared of the groups" in str(found) and "slope = 1" in str(found)


def test_groups_are_formed_within_folds_and_keep_ties_together() -> None:
    found = het.gates(SCORE, X + 100 * FOLD, 4, folds=FOLD)
    np.testing.assert_allclose(found.share, 0.25)
    assert list(found.estimate.index) == ["1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    member, _ = het.groups.grouped(het.inputs.sample(SCORE), X + 100 * FOLD, 4, FOLD)
    for k in range(3):
        assert (np.bincount(member[k == FOLD]) == 5).all()
        assert (np.diff(member[k == FOLD][np.argsort(X[k == FOLD])]) >= 0).all()
    tied = het.gates(SCORE, TIED, 20)
    assert len(tied.estimate) == len(np.unique(TIED)) and tied.share.sum() == pytest.approx(1)
    heavy = het.gates(SCORE, X, 2, weights=np.where(np.median(X) < X, 3.0, 1.0))
    np.testing.assert_allclose(heavy.share, 0.5, atol=0.05)  # of the weight, not of the rows
    named = het.gates(SCORE, X, FOLD, weights=WEIGHT)
    want = [np.average(X[k == FOLD], weights=WEIGHT[k == FOLD]) for k in range(3)]
    np.testing.assert_allclose(named.predicted, want, rtol=1e-12)
    assert named.average == pytest.approx(np.average(SCORE, weights=WEIGHT))


def test_the_difference_and_the_equality_of_groups_are_tests_of_their_joint_covariance() -> None:
    found = het.gates(SCORE, X, 3, cluster=CLUSTER)
    value, cov = found.estimates.value, found.estimates.cov
    assert found.difference.value[0] == pytest.approx(value[2] - value[0])
    assert found.difference.std_error[0] == pytest.approx((cov[0, 0] + cov[2, 2] - 2 * cov[0, 2]) ** 0.5)
    turn = np.array([[-1, 1, 0], [-1, 0, 1]])
    apart = turn @ value
    raw = apart @ np.linalg.solve(turn @ cov @ turn.T, apart)
    assert found.equality.statistic == pytest.approx(raw * (found.freedom - 1) / (2 * found.freedom))
    line = het.projection(SCORE, (X[:, None] > np.quantile(X, [1 / 3, 2 / 3])) * 1.0, cluster=CLUSTER)
    assert found.freedom == pytest.approx(line.freedom)  # the same spaces
    assert "3 of 3 - 1 of 3" in str(found)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_test_sums_the_folds_and_guards_the_sum(weighted: bool) -> None:
    weight = WEIGHT if weighted else None
    found = het.heterogeneity_test(SCORE, X, FOLD, weights=weight, covariates=X, names=["x"], sequential=X)
    each = []
    for k in range(3):
        mine = k == FOLD
        one = het.rate(SCORE[mine], X[mine], weights=None if weight is None else weight[mine])
        each.append(one.estimate.item() / one.std_error.item())
    table = found.frame()
    assert table.statistic["AUTOC of folds, unguarded"] == pytest.approx(sum(each) / 3**0.5, rel=1e-9)
    assert found.statistic == pytest.approx(sum(each) / 6**0.5, rel=1e-9) == table.statistic.iloc[0]
    later = table.statistic["AUTOC of later folds"]
    assert later == pytest.approx(sum(each[1:]) / 2**0.5, rel=1e-9 if weight is None else 0.02)
    slope = het.calibration(SCORE, X, folds=FOLD, weights=weight)
    assert table.statistic["slope, guarded"] == pytest.approx(slope.estimates.zvalues[1] / 2**0.5, rel=1e-9)
    wald = het.projection(SCORE, X, weights=weight, names=["x"]).test
    assert table.loc["projection on covariates", ["statistic", "df", "P>|z|"]].tolist() == pytest.approx(
        [wald.statistic, 1, wald.pvalue]
    )
    assert found.pvalue == pytest.approx(2 * found.pvalue_one_sided) and "heuristic" in str(found)
    held = het.heterogeneity_test(SCORE, X, "holdout", weights=weight)
    one = het.rate(SCORE, X, weights=weight)
    assert held.statistic == pytest.approx(one.estimate.item() / one.std_error.item(), rel=1e-9)
    assert "guarded" not in str(held)


def test_clusters_across_folds_are_counted_once() -> None:
    """With clusters that lie in several folds, their z are correlated: the sum has the variance of all of them."""
    noise = np.repeat(np.random.default_rng(3).normal(size=20), 3)  # each cluster has a row in every fold
    cluster, z = np.repeat(np.arange(20), 3), []
    for one in (cluster, None):
        z.append(het.heterogeneity_test(noise, np.repeat(np.arange(20.0), 3), FOLD, cluster=one).statistic)
    assert z[1] / z[0] == pytest.approx(3**0.5, rel=0.05)


def test_earlier_folds_predict_later_ones() -> None:
    seen = []

    def fit(known: np.ndarray, new: np.ndarray) -> np.ndarray:
        seen.append((known.tolist(), new.tolist()))
        return new / 10

    found = het.sequential_priority(fit, ["b", "a", "c", "a"])
    assert seen == [([1, 3], [0]), ([0, 1, 3], [2])]
    np.testing.assert_array_equal(found, [0.0, np.nan, 0.2, np.nan])


def test_a_priority_that_depends_on_the_treatment_warns() -> None:
    rng = np.random.default_rng(0)
    t, x = rng.integers(0, 2, 400), rng.normal(size=400)
    assert abs(het.check_priority(x, t - 0.5)) < 0.2
    with pytest.warns(DeepregWarning, match="a correlation of 0.4"):
        het.check_priority(x + t, t - 0.5)
    assert het.check_priority(0 * x, t - 0.5) == 0


def test_the_error_of_a_weighted_mse_is_that_of_a_ratio() -> None:
    rng = np.random.default_rng(0)
    t, y = rng.normal(size=200), rng.normal(size=200)
    found = het.weighted_mse(pd.DataFrame({"a": y, "b": 0 * y}), y, t)
    loss = (y - t * y) ** 2
    value = loss.sum() / (t**2).sum()
    assert found.estimate["a"] == pytest.approx(value)
    psi = (loss - value * t**2) / (t**2).mean()
    assert found.std_error["a"] == pytest.approx(psi.std(ddof=1) / 200**0.5, rel=1e-9)
    gap = found.estimates.pairwise(None)
    direct = het.weighted_mse(y, y, t).estimates.psi - het.weighted_mse(0 * y, y, t).estimates.psi
    assert gap.std_error[0] == pytest.approx(float(direct[0, :, 0].std()) / 200**0.5, rel=1e-9)


def test_fklearn_refuses_what_it_cannot_draw() -> None:
    df = pd.DataFrame({"t": np.arange(N) % 2, "y": SCORE, "p": TIED})
    with pytest.raises(OptionError, match="at most as many steps as rows"):
        fklearn.cumulative_gain_curve(df, "t", "y", "p")
    with pytest.raises(OptionError, match="fewer segments"):
        fklearn.effect_by_segment(df, "t", "y", "p")
    with pytest.raises(DataError, match="no column 'q'"):
        fklearn.effect_by_segment(df, "t", "y", "q")
    with pytest.raises(DataError, match="other than 0 and 1"):
        fklearn.logistic_coefficient_effect(df, "t", "y")
    with pytest.raises(DataError, match="separates"):
        fklearn.logistic_coefficient_effect(df.assign(y=df.t), "t", "y")
    single = df.assign(p=-df.t + 0.001 * SCORE)  # the first 30 rows are untreated
    assert np.isnan(fklearn.cumulative_effect_curve(single, "t", "y", "p", steps=10)[0])
    whole = fklearn.cumulative_effect_curve(df, "t", "y", "p", min_rows=N, steps=10)
    assert whole.tolist() == pytest.approx([SCORE[1::2].mean() - SCORE[::2].mean()])


def test_bands_cover_the_whole_curve_and_rates_their_truth() -> None:
    """200 samples: three standard errors of a coverage of 95% are 4.6 points."""
    share, sizes = np.arange(0.1, 1, 0.1), 300
    rng = np.random.default_rng(0)
    many = rng.normal(size=(2, 200_000))
    place, effect = many[0], 1 + many[0] + 0 * many[1]
    order = np.argsort(-place)
    truth = np.cumsum(effect[order])[(share * 2e5).astype(int) - 1] / (share * 2e5) - effect.mean()
    area = {"AUTOC": float(np.mean(np.cumsum(effect[order]) / np.arange(1, 200_001) - effect.mean()))}
    inside, covered, pointwise = 0, 0, np.zeros(9)
    for _ in range(200):
        x = rng.normal(size=sizes)
        score = 1 + x + 2 * rng.normal(size=sizes)
        frame = het.toc(score, x, share=share).frame()
        inside += ((frame["lower"] <= truth) & (truth <= frame["upper"])).all()
        pointwise += ((frame["[0.025"] <= truth) & (truth <= frame["0.975]"])).to_numpy()
        low, high = het.rate(score, x).conf_int().to_numpy()[0]
        covered += low <= area["AUTOC"] <= high
    assert 0.9 < inside / 200 < 0.998 and 0.9 < covered / 200 < 0.998
    assert ((pointwise / 200 > 0.9) & (pointwise / 200 < 0.998)).all()
