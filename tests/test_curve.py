"""Curves: an effect regressed on one variable, against statsmodels, identities and the coverage of a simulation."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch

from deepreg.curve import is_smooth, smooth
from deepreg.errors import DataError, OptionError
from deepreg.estimates import Estimates, Sampling

N = 240


def estimates(kind: str = "HC1", weighted: bool = False, repeats: int = 1, n: int = N, seed: int = 0) -> Estimates:
    rng = np.random.default_rng(seed)
    psi = torch.tensor(rng.normal(size=(repeats, n, 2)) * [1, 3] + [1, -2])
    weight = torch.tensor(rng.uniform(0.5, 2, n)) if weighted else torch.ones(n, dtype=torch.float64)
    ways = 1 if kind == "cluster" else 0
    return Estimates(("a", "b"), psi, Sampling(weight, (torch.arange(n) // 6)[:, None][:, :ways], kind))


def feature(n: int = N) -> pd.Series:
    return pd.Series(np.random.default_rng(1).gamma(2.0, size=n), name="v")


def fitted(e: Estimates, columns: np.ndarray, j: int, layer: int = 0) -> sm.regression.linear_model.RegressionResults:
    """The same regression by statsmodels."""
    model = sm.WLS(e.psi[layer, :, j].numpy(), columns, weights=e.sampling.weight.numpy())
    if e.sampling.kind == "cluster":
        return model.fit(cov_type="cluster", cov_kwds={"groups": e.sampling.cluster[:, 0].numpy()})
    return model.fit(cov_type=e.sampling.kind)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["HC0", "HC1", "cluster"])
def test_a_projection_is_the_least_squares_of_statsmodels(kind: str, weighted: bool) -> None:
    e, v = estimates(kind, weighted), feature()
    columns = np.c_[np.ones(N), v, v**2]
    got = e.project(columns, ["1", "v", "v2"])
    assert got.names == ("a: 1", "a: v", "a: v2", "b: 1", "b: v", "b: v2")
    for j in range(2):
        want = fitted(e, columns, j)
        np.testing.assert_allclose(got.value[3 * j : 3 * j + 3], want.params, rtol=1e-9)
        np.testing.assert_allclose(got.cov[3 * j : 3 * j + 3, 3 * j : 3 * j + 3], want.cov_params(), rtol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["HC1", "cluster"])
def test_a_curve_is_the_least_squares_of_statsmodels_on_its_spline(kind: str, weighted: bool) -> None:
    e, v = estimates(kind, weighted), feature()
    points = [0.5, 1.0, 2.0, 4.0]
    table = e.curve(v, points=points, knots=4, alpha=0.1)
    basis = smooth(v, 4, points)
    for j, name in enumerate(e.names):
        want = fitted(e, basis.columns, j)
        part = table.loc[name]
        assert part.index.tolist() == points
        np.testing.assert_allclose(part["coef"], basis.at @ want.params, rtol=1e-8)
        error = np.sqrt(np.diag(basis.at @ want.cov_params() @ basis.at.T))
        np.testing.assert_allclose(part["std err"], error, rtol=1e-8)
        np.testing.assert_allclose(part["0.95]"] - part["coef"], 1.6448536 * error, rtol=1e-6)
        half = (part["upper"] - part["coef"]) / part["std err"]
        np.testing.assert_allclose(half, half.iloc[0])
        np.testing.assert_allclose(part["upper"] + part["lower"], 2 * part["coef"], atol=1e-9)
        assert 1.7 < half.iloc[0] < 2.5  # wider than one point's, narrower than Bonferroni's 2.24 and what it costs


def test_the_columns_span_the_natural_splines_of_patsy() -> None:
    from patsy import dmatrix

    v = feature()
    knots = np.quantile(v, np.linspace(0.05, 0.95, 5))
    inside = v[(v >= knots[0]) & (v <= knots[-1])]
    theirs = np.asarray(dmatrix("cr(v, knots=k, lower_bound=a, upper_bound=b) - 1",
                                {"v": inside, "k": knots[1:-1], "a": knots[0], "b": knots[-1]}))  # fmt: skip
    np.testing.assert_allclose(smooth(v, 5).columns[inside.index], theirs, atol=1e-9)


def test_beyond_the_outer_knots_a_curve_is_straight() -> None:
    v = feature()
    low, high = np.quantile(v, [0.05, 0.95])
    for a, b in ((v.min(), low), (high, v.max())):
        first, middle, last = smooth(v, 5, [a, (a + b) / 2, b]).at
        np.testing.assert_allclose(middle, (first + last) / 2, atol=1e-12)
    np.testing.assert_allclose(smooth(v, 5).columns @ np.quantile(v, np.linspace(0.05, 0.95, 5)), v)  # lines are kept
    a, b = low, np.quantile(v, 0.3)
    first, middle, last = smooth(v, 5, [a, (a + b) / 2, b]).at
    assert np.abs(middle - (first + last) / 2).max() > 0.05


@pytest.mark.parametrize("weighted", [False, True])
def test_levels_are_the_averages_of_groups(weighted: bool) -> None:
    e = estimates(weighted=weighted, repeats=3)
    for labels in (np.arange(N) % 3, pd.Categorical(np.array(["x", "z", "y"])[np.arange(N) % 3], ["z", "y", "x", "-"])):
        table, groups = e.curve(labels), e.by(labels)
        for name in e.names:
            part, want = table.loc[name], groups.xs(name, level="estimate")
            assert part.index.tolist() == want.index.tolist()
            np.testing.assert_allclose(part["coef"], want["coef"], rtol=1e-10)
            np.testing.assert_allclose(part["std err"], want["std err"], rtol=0.02)  # another small-sample factor
    assert e.curve(labels).loc["a"].index.tolist() == ["z", "y", "x"]  # in the order of the categories


def test_a_constant_times_a_curve_and_a_shift() -> None:
    e, v = estimates("cluster", weighted=True), feature()
    one = e.curve(v).loc["a"]
    moved = replace(e, psi=3 - 2 * e.psi).curve(1000 + 50 * v).loc["a"]
    np.testing.assert_allclose(moved.index, 1000 + 50 * one.index)
    np.testing.assert_allclose(moved["coef"], 3 - 2 * one["coef"], rtol=1e-7)
    np.testing.assert_allclose(moved["lower"], 3 - 2 * one["upper"], rtol=0.02)


def test_repeats_by_the_median_at_every_point() -> None:
    e, v = estimates(repeats=3), feature()
    each = np.stack([replace(e, psi=layer[None]).curve(v, knots=3).loc["b", "coef"] for layer in e.psi])
    np.testing.assert_allclose(e.curve(v, knots=3).loc["b", "coef"], np.median(each, 0), rtol=1e-9)


@pytest.mark.slow
def test_a_band_covers_the_whole_curve_as_often_as_it_says() -> None:
    """A quadratic effect, with errors whose spread depends on the variable; intervals of single points do not."""
    rng = np.random.default_rng(5)
    inside = pointwise = 0
    draws, n, points = 300, 400, np.linspace(-1.9, 1.9, 30)
    for _ in range(draws):
        v = rng.uniform(-2, 2, n)
        psi = torch.tensor(1 + 0.5 * v + (1 + 0.5 * np.abs(v)) * rng.normal(size=n))[None, :, None]
        sampling = Sampling(torch.ones(n, dtype=torch.float64), torch.zeros(n, 0).long(), "HC1")
        table = Estimates(("e",), psi, sampling).curve(v, points=points, draws=500).loc["e"]
        truth = 1 + 0.5 * points
        inside += bool(((table["lower"] <= truth) & (truth <= table["upper"])).all())
        pointwise += bool(((table["[0.025"] <= truth) & (truth <= table["0.975]"])).all())
    assert 0.91 < inside / draws < 0.98
    assert pointwise / draws < 0.88


def test_what_has_levels() -> None:
    assert is_smooth(pd.Series(np.arange(11.0))) and is_smooth(pd.Series(np.arange(11)))
    for levels in (np.arange(30) % 10, np.arange(30) % 2 == 0, [str(j) for j in range(30)]):
        assert not is_smooth(pd.Series(levels))


def test_a_variable_with_most_of_its_rows_at_one_value() -> None:
    v = np.where(np.arange(N) < 220, 0.0, np.arange(N))
    assert smooth(pd.Series(v), 5).columns.shape == (N, 5)
    table = estimates().curve(v).loc["a"]
    assert np.isfinite(table.to_numpy()).all() and (table["std err"] > 0).all()


def test_what_cannot_be_shown_is_said() -> None:
    e, v = estimates(), feature()
    with pytest.raises(OptionError, match=r"curve\(\) needs averages over all rows"):
        replace(e, groupable=False).curve(v)
    with pytest.raises(OptionError, match="values has 3 labels, but the fit used 240 rows"):
        e.curve([1.0, 2.0, 3.0])
    with pytest.raises(OptionError, match=r"knots=2: give a whole number, at least 3"):
        e.curve(v, knots=2)
    with pytest.raises(OptionError, match=r"points=\[-1\]: give numbers from 0.0"):
        e.curve(v, points=[-1])
    with pytest.raises(DataError, match="'b' has a single row"):
        e.curve(["a"] * (N - 1) + ["b"])
    with pytest.raises(DataError, match="'b' has a single cluster"):
        estimates("cluster").curve(["a"] * (N - 6) + ["b"] * 6)
    few = replace(e, sampling=Sampling(e.sampling.weight, (torch.arange(N) % 5)[:, None], "cluster"))
    with pytest.raises(OptionError, match="5 coefficients, but there are 5 clusters"):
        few.curve(v)
    with pytest.raises(OptionError, match="collinear"):
        e.project(np.ones((N, 2)), ["p", "q"])
    with pytest.raises(OptionError, match=r"shape \(240, 2\) for 1 names"):
        e.project(np.ones((N, 2)), ["p"])
