"""Estimates: covariances against their formulas, and what follows from influence values by linear algebra."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from deepreg.errors import DeepregWarning, NotAvailable, OptionError
from deepreg.estimates import Estimates
from deepreg.sampling import Sampling
from deepreg.wald import WaldTest

N, NAMES = 240, ("a", "b", "c")


def psi(repeats: int = 1, n: int = N, q: int = 3, seed: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[1.0, 0.4, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.5]], dtype=torch.float64)[:q, :q]
    shared = torch.randn(1, n, q, generator=g, dtype=torch.float64)
    own = torch.randn(repeats, n, q, generator=g, dtype=torch.float64)
    return (shared + 0.3 * own) @ mix + torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)[:q]


def codes() -> torch.Tensor:
    row = torch.arange(N)
    return torch.stack([row // 12, row % 15], 1)


def estimates(
    kind: str = "HC1", ways: int = 0, weighted: bool = False, repeats: int = 1, parameters: int = 1
) -> Estimates:
    weight = torch.arange(N, dtype=torch.float64) % 4 + 0.5 if weighted else torch.ones(N, dtype=torch.float64)
    return Estimates(NAMES, psi(repeats), Sampling(weight, codes()[:, :ways], kind, parameters))


def by_hand(e: Estimates, layer: int = 0) -> np.ndarray:
    """The covariance of a weighted mean by the textbook, one loop over clusters."""
    values, weight = e.psi[layer].numpy(), e.sampling.weight.numpy()
    n, k = len(values), e.sampling.parameters
    share = weight / weight.sum()
    rows = share[:, None] * (values - share @ values)
    if e.sampling.kind != "cluster":
        return np.asarray(rows.T @ rows) * (1.0 if e.sampling.kind == "HC0" else n / (n - k))

    def way(labels: list[Any]) -> np.ndarray:
        groups = sorted(set(labels))
        sums = [rows[[label == g for label in labels]].sum(0) for g in groups]
        size = len(groups)
        return np.sum([np.outer(s, s) for s in sums], axis=0) * size / (size - 1) * (n - 1) / (n - k)

    columns = e.sampling.cluster.numpy().T.tolist()
    if len(columns) == 1:
        return way(columns[0])
    return way(columns[0]) + way(columns[1]) - way(list(zip(*columns, strict=True)))


@pytest.mark.parametrize("parameters", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "ways"), [("HC0", 0), ("HC1", 0), ("HC1", 2), ("cluster", 1), ("cluster", 2)])
def test_covariance_by_hand(kind: str, ways: int, weighted: bool, parameters: int) -> None:
    e = estimates(kind, ways, weighted, parameters=parameters)
    np.testing.assert_allclose(e.cov, by_hand(e), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(e.std_error, np.sqrt(np.diag(by_hand(e))), rtol=1e-12)
    np.testing.assert_allclose(e.value, np.average(e.psi[0], axis=0, weights=e.sampling.weight), rtol=1e-12)


def test_one_parameter_gives_the_standard_error_of_a_mean() -> None:
    e = estimates("HC1")
    np.testing.assert_allclose(e.std_error, e.psi[0].std(0) / N**0.5, rtol=1e-12)
    np.testing.assert_allclose(e.cov, np.cov(e.psi[0].T) / N, rtol=1e-12)


def test_weights_count_by_their_ratios() -> None:
    e = estimates("HC1", weighted=True)
    scaled = Estimates(NAMES, e.psi, Sampling(e.sampling.weight * 7e5, e.sampling.cluster, "HC1"))
    np.testing.assert_allclose(scaled.cov, e.cov, rtol=1e-12)


def test_a_cluster_for_each_row_is_no_clustering() -> None:
    each = Sampling(torch.ones(N, dtype=torch.float64), torch.arange(N)[:, None], "cluster")
    np.testing.assert_allclose(Estimates(NAMES, psi(), each).cov, estimates("HC1").cov, rtol=1e-12)


def test_a_negative_two_way_variance_is_nan_and_said() -> None:
    row = torch.arange(8)
    values = torch.tensor([1.0, -1, -1, 1, 1, -1, -1, 1], dtype=torch.float64)[None, :, None]  # sums to 0 either way
    cluster = torch.stack([row // 2 % 2, row % 2], 1)
    e = Estimates(("a",), values, Sampling(torch.ones(8, dtype=torch.float64), cluster, "cluster"))
    with pytest.warns(DeepregWarning, match="two-way clustered variance of a is negative"):
        assert np.isnan(e.std_error).all()
    with pytest.raises(OptionError, match="a has no variance"):
        e.wald()


@pytest.mark.parametrize(("kind", "cluster"), [("HC1", 0), ("cluster", 1)])
def test_one_row_has_no_error(kind: str, cluster: int) -> None:
    sampling = Sampling(torch.ones(1, dtype=torch.float64), torch.zeros(1, cluster, dtype=torch.long), kind)
    assert np.isnan(Estimates(NAMES, psi(n=1), sampling).std_error).all()


# repeats


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_repeats_by_the_median(repeats: int) -> None:
    e = estimates("cluster", 1, weighted=True, repeats=repeats)
    values = np.stack([np.average(layer, axis=0, weights=e.sampling.weight) for layer in e.psi])
    middle = np.median(values, axis=0)
    variances = np.stack([np.diag(by_hand(e, r)) + (values[r] - middle) ** 2 for r in range(repeats)])
    np.testing.assert_allclose(e.value, middle, rtol=1e-12)
    np.testing.assert_allclose(e.std_error**2, np.median(variances, axis=0), rtol=1e-12)
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(e.interval(0.1), np.c_[e.value - z * e.std_error, e.value + z * e.std_error])
    assert np.linalg.eigvalsh(e.cov)[0] > 0
    np.testing.assert_allclose(e.cov, e.cov.T)


def test_the_frame_prints_what_the_estimates_hold() -> None:
    e = estimates("HC1", repeats=3)
    table = e.frame(0.1)
    assert list(table.columns) == ["coef", "std err", "z", "P>|z|", "[0.05", "0.95]"]
    assert list(table.index) == list(NAMES)
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(table["[0.05"], table["coef"] - z * table["std err"])
    np.testing.assert_allclose(table["0.95]"], table["coef"] + z * table["std err"])
    np.testing.assert_allclose(table["P>|z|"], 2 * stats.norm.cdf(-abs(table["coef"] / table["std err"])))
    shown = str(e)
    assert all(name in shown for name in NAMES) and f"{table['coef'].iloc[0]:.4f}" in shown
    assert "<table" in e._repr_html_() and "tabular" in e.summary().as_latex()


# functions of estimates


def test_delta_method_by_finite_differences() -> None:
    e = estimates("cluster", 2, weighted=True)
    made = e.map(lambda v: torch.stack([v[0] / v[2], (v[1] * v[2]).exp() / 1000, v[0] ** 2]), ["r", "e", "s"])

    def fn(v: np.ndarray) -> np.ndarray:
        return np.array([v[0] / v[2], np.exp(v[1] * v[2]) / 1000, v[0] ** 2])

    jacobian = np.stack([(fn(e.value + 1e-6 * d) - fn(e.value - 1e-6 * d)) / 2e-6 for d in np.eye(3)], 1)
    assert made.names == ("r", "e", "s")
    np.testing.assert_allclose(made.value, fn(e.value), rtol=1e-12)
    np.testing.assert_allclose(made.cov, jacobian @ e.cov @ jacobian.T, rtol=1e-6)


def test_linear_functions_and_their_null() -> None:
    e = estimates("HC1", weighted=True, repeats=1)
    matrix = np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]])
    made = e.linear(matrix, np.array([3.0, 0.5]), ["a - b", "2*b + c"])
    np.testing.assert_allclose(made.value, matrix @ e.value)
    np.testing.assert_allclose(made.cov, matrix @ e.cov @ matrix.T)
    np.testing.assert_allclose(made.zvalues, (made.value - [3.0, 0.5]) / made.std_error)


def test_select_by_name() -> None:
    e = estimates()
    chosen = e.select(["c", "a"])
    assert chosen.names == ("c", "a")
    np.testing.assert_array_equal(chosen.value, e.value[[2, 0]])
    np.testing.assert_allclose(chosen.cov, e.cov[np.ix_([2, 0], [2, 0])], rtol=1e-12)
    with pytest.raises(OptionError, match=r"called 'd'; there are a, b, c"):
        e.select(["a", "d"])


# tests and bands


def test_wald_by_hand() -> None:
    e = estimates("cluster", 1)
    null = np.array([1.1, -2.0, 4.0])
    test = e.linear(np.eye(3), null, NAMES).wald("all")
    statistic = (e.value - null) @ np.linalg.solve(e.cov, e.value - null)
    np.testing.assert_allclose([test.statistic, test.pvalue], [statistic, stats.chi2.sf(statistic, 3)], rtol=1e-9)
    assert (test.df, test.label) == (3, "all")
    assert str(WaldTest(12.3456, 2, 0.0021, "a")) == "Wald test: chi2(2) = 12.346, p = 0.002  [a]"
    assert str(WaldTest(99.0, 1, 1e-9)) == "Wald test: chi2(1) = 99.000, p < 0.001"


def test_wald_is_free_of_units() -> None:
    e = estimates()
    scaled = e.linear(np.diag([1e-9, 1.0, 1e9]), np.zeros(3), NAMES)
    np.testing.assert_allclose(scaled.wald().statistic, e.wald().statistic, rtol=1e-8)


def test_wald_refuses_redundant_restrictions() -> None:
    e = estimates()
    with pytest.raises(OptionError, match="3 restrictions are linearly dependent"):
        e.linear(np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]), np.zeros(3), NAMES).wald()
    few = Sampling(torch.ones(N, dtype=torch.float64), (torch.arange(N) % 3)[:, None], "cluster")
    with pytest.raises(OptionError, match="as many as there are clusters"):
        Estimates(NAMES, psi(), few).wald()


def test_band_covers_all_at_once() -> None:
    """Over draws of the estimates, all inside the band about .9 of the time; the pointwise intervals much less."""
    e = estimates("HC0")
    lower_error = np.linalg.cholesky(e.cov)
    band = e.band(0.1, rng=1)
    width = (band["upper"] - band["lower"]).to_numpy() / 2
    np.testing.assert_allclose(width / e.std_error, np.full(3, (width / e.std_error)[0]))
    draws = np.random.default_rng(7).standard_normal((40_000, 3)) @ lower_error.T
    share = (np.abs(draws) <= width).all(1).mean()
    pointwise = (np.abs(draws) <= stats.norm.ppf(0.95) * e.std_error).all(1).mean()
    assert 0.89 < share < 0.91 and pointwise < 0.85


def test_band_of_one_and_of_independent_estimates() -> None:
    one = estimates().select(["a"])
    critical = (one.band(0.05, draws=200_000)["upper"] - one.value) / one.std_error
    assert abs(critical.iloc[0] - stats.norm.ppf(0.975)) < 0.02
    g = torch.Generator().manual_seed(1)
    values = torch.linalg.qr(torch.randn(N, 3, generator=g, dtype=torch.float64) - 0.0)[0]
    values = torch.linalg.qr(values - values.mean(0))[0]
    free = Estimates(NAMES, values[None], Sampling(torch.ones(N, dtype=torch.float64), codes()[:, :0], "HC1"))
    critical = (free.band(0.05, draws=200_000)["upper"] - free.value) / free.std_error
    np.testing.assert_allclose(critical, stats.norm.ppf(0.5 + 0.5 * 0.95 ** (1 / 3)), atol=0.02)


def test_a_band_repeats_with_its_seed() -> None:
    e = estimates()
    pd.testing.assert_frame_equal(e.band(rng=4), e.band(rng=4))
    assert not e.band(rng=4).equals(e.band(rng=5))


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, 5, float("nan"), "0.05", None])
def test_alpha_is_a_probability(alpha: object) -> None:
    e = estimates()
    for ask in (e.interval, e.frame, e.band):
        with pytest.raises(OptionError, match=r"alpha=.* between 0 and 1"):
            ask(alpha)  # type: ignore[arg-type]


# groups


@pytest.mark.parametrize(("kind", "ways"), [("HC1", 0), ("cluster", 1), ("cluster", 2)])
def test_groups_are_means_of_their_rows(kind: str, ways: int) -> None:
    e = estimates(kind, ways, weighted=True)
    labels = np.array(["low", "mid", "high"])[np.arange(N) // 4 % 3]
    table = e.by(labels)
    assert len(table) == 9 and list(table.index.names) == ["group", "estimate"]
    for label in ("low", "mid", "high"):
        rows = torch.from_numpy(labels == label)
        part = Sampling(e.sampling.weight[rows], e.sampling.cluster[rows], kind)
        manual = Estimates(NAMES, e.psi[:, rows], part)
        np.testing.assert_allclose(table.loc[label, "coef"], np.average(e.psi[0][rows], axis=0, weights=part.weight))
        np.testing.assert_allclose(table.loc[label, "std err"], np.sqrt(np.diag(by_hand(manual))), rtol=1e-10)
        assert (table.loc[label, "n"] == int(rows.sum())).all()


def test_groups_of_a_series_follow_its_index() -> None:
    e = replace(estimates(), rows=pd.RangeIndex(N) + 5)
    labels = pd.Series(np.where(np.arange(N + 10) % 3 == 0, "a", "b"))
    shuffled = labels.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(e.by(shuffled), e.by(labels.to_numpy()[5 : N + 5]))
    with pytest.raises(OptionError, match="does not name every row"):
        e.by(shuffled.iloc[:-5].set_axis(np.arange(N + 5) + 50))


def test_groups_take_any_labels_and_refuse_bad_ones() -> None:
    e = estimates()
    assert sorted(e.by(pd.Series(np.arange(N) % 2 == 0, index=np.arange(N) + 99)).index.levels[0]) == [False, True]
    assert e.by(pd.Categorical(np.resize(["x", "y"], N), categories=["y", "x", "unused"])).index.nlevels == 2
    assert set(e.by(np.resize(np.array(["x", 1], dtype=object), N)).index.get_level_values(0)) == {"x", 1}
    with pytest.raises(OptionError, match=r"3 labels, but the fit used 240 rows"):
        e.by(["a", "b", "a"])
    with pytest.raises(OptionError, match="2 missing labels"):
        e.by([None, None, *["a"] * (N - 2)])


def test_a_group_of_one_row_has_no_error() -> None:
    table = estimates().by(np.arange(N) == 7)
    assert np.isnan(table.loc[True, "std err"]).all() and np.isfinite(table.loc[False, "std err"]).all()
    np.testing.assert_allclose(table.loc[True, "coef"], estimates().psi[0, 7])


# moments


@pytest.mark.parametrize("repeats", [1, 3])
def test_all_but_groups_follows_from_moments(repeats: int) -> None:
    e = estimates("cluster", 2, weighted=True, repeats=repeats)
    bare = Estimates(NAMES, None, e.sampling, known=e.moments)
    made: list[Any] = [
        lambda v: v,
        lambda v: v.select(["c", "a"]),
        lambda v: v.linear(np.array([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]]), np.array([3.0, 0.5]), ["a - b", "2*b + c"]),
        lambda v: v.map(lambda t: torch.stack([t[0] / t[2], t[1] * t[2]]), ["r", "p"]),
    ]
    for make in made:
        one, other = make(e), make(bare)
        pd.testing.assert_frame_equal(one.frame(), other.frame(), check_exact=True)
        pd.testing.assert_frame_equal(one.band(rng=1), other.band(rng=1), check_exact=True)
        np.testing.assert_array_equal(one.cov, other.cov)
        assert one.wald() == other.wald() and other.psi is None
        again = Estimates(one.names, one.psi, one.sampling)  # what psi says of them by itself
        np.testing.assert_allclose(one.moments.value, again.moments.value, rtol=1e-12)
        np.testing.assert_allclose(one.moments.covariance, again.moments.covariance, rtol=1e-11)
    with pytest.raises(NotAvailable, match="data=True"):
        bare.by(np.zeros(N))


def test_what_rounding_leaves_of_a_variance_is_none() -> None:
    e = estimates("HC1", weighted=True)
    twice = Estimates((*NAMES, "d"), torch.cat([e.psi, e.psi[..., :1] * (1 + 1e-15)], -1), e.sampling)
    gap = twice.linear(np.array([[1.0, 0.0, 0.0, -1.0]]), np.zeros(1), ["a - d"])
    assert gap.cov[0, 0] == 0.0
    with pytest.raises(OptionError, match="a - d has no variance"):
        gap.wald()
    close = Estimates(("a", "d"), torch.cat([e.psi[..., :1], e.psi[..., :1] + 1e-4 * e.psi[..., 1:2]], -1), e.sampling)
    small = close.linear(np.array([[-1.0, 1.0]]), np.zeros(1), ["d - a"])
    np.testing.assert_allclose(small.std_error, 1e-4 * e.std_error[1], rtol=1e-6)
