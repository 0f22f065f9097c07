"""Adjusted p-values, pairwise differences, equivalence and nonlinear hypotheses, against others' and by simulation."""

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats._delta_method import NonlinearDeltaCov
from statsmodels.stats.multitest import multipletests

from deepreg import multiple
from deepreg.errors import OptionError
from deepreg.estimates import Estimates
from deepreg.sampling import Sampling

NAMES = ("a", "b", "c")


def estimates(n: int = 400, seed: int = 0, shift: float = 0.1) -> Estimates:
    g = torch.Generator().manual_seed(seed)
    mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    psi = torch.randn(1, n, 3, generator=g, dtype=torch.float64) @ mix + shift
    return Estimates(NAMES, psi, Sampling(torch.ones(n), torch.zeros(n, 0).long(), "HC1"))


@pytest.mark.parametrize("method", [m for m in multiple.ADJUSTMENTS if m != "romano_wolf"])
def test_adjusted_p_values_are_those_of_statsmodels(method: str) -> None:
    e = estimates()
    np.testing.assert_allclose(e.adjust(method), multipletests(e.pvalues, method=method)[1])


def test_romano_wolf_of_independent_tests_is_the_step_down_of_sidak() -> None:
    z = np.array([2.6, -0.4, 2.2, 3.1])
    expected = multipletests(2 * stats.norm.sf(np.abs(z)), method="holm-sidak")[1]
    found = multiple.adjust(z, np.eye(4), "romano_wolf", 400_000, 0)
    np.testing.assert_allclose(found, expected, atol=0.003)
    one = multiple.adjust(z, np.ones((4, 4)), "romano_wolf", 400_000, 0)  # one test, made four times
    np.testing.assert_allclose(one, 2 * stats.norm.sf(np.abs(z)), atol=0.003)


def test_romano_wolf_holds_the_familywise_error() -> None:
    rng, correlation = np.random.default_rng(0), 0.5 + 0.5 * np.eye(5)
    z = rng.standard_normal((1000, 5)) @ np.linalg.cholesky(correlation).T
    z[:, 0] += 5  # a false null beside four true ones
    p = np.stack([multiple.adjust(one, correlation, "romano_wolf", 999, i) for i, one in enumerate(z)])
    assert (p[:, 0] < 0.05).mean() > 0.95
    assert 0.03 < (p[:, 1:].min(1) < 0.05).mean() < 0.07


def test_pairs_are_differences_with_adjusted_p_values() -> None:
    e = estimates()
    pairs = e.pairwise("bonferroni")
    assert pairs.names == ("b - a", "c - a", "c - b")
    np.testing.assert_allclose(pairs.value, [e.value[1] - e.value[0], e.value[2] - e.value[0], e.value[2] - e.value[1]])
    np.testing.assert_allclose(pairs.std_error[0] ** 2, e.cov[0, 0] + e.cov[1, 1] - 2 * e.cov[0, 1])
    np.testing.assert_allclose(pairs.frame()["P>|z| bonferroni"], np.minimum(3 * pairs.pvalues, 1))
    assert "adjusted for 3 tests (bonferroni)" in str(pairs)
    plain = e.pairwise(None).frame()["P>|z|"]
    np.testing.assert_allclose(plain, pairs.pvalues)
    with pytest.raises(OptionError, match="a is the only one"):
        e.select(["a"]).pairwise()
    with pytest.raises(OptionError, match=r"adjust='holms' is no adjustment.*None, 'holm'"):
        e.pairwise("holms")
    for odd in (-1, "a"):
        with pytest.raises(OptionError, match="give a whole number or a numpy Generator"):
            e.band(rng=odd)
    with pytest.raises(OptionError, match="method='none'"):
        e.adjust("none")


def test_equivalence_is_the_larger_of_two_one_sided_tests() -> None:
    e = estimates()
    table = e.equivalence(-0.2, 0.3).to_frame()
    below = stats.norm.sf((e.value + 0.2) / e.std_error)
    above = stats.norm.sf((0.3 - e.value) / e.std_error)
    np.testing.assert_allclose(table["P low"], below)
    np.testing.assert_allclose(table["P high"], above)
    np.testing.assert_allclose(table["P outside"], np.maximum(below, above))
    inside = (table["[0.05"] > -0.2) & (table["0.95]"] < 0.3)  # rejects at 5% where the 90% interval is within
    assert ((table["P outside"] < 0.05) == inside).all() and inside.any() and not inside.all()
    for bounds in ((0.3, -0.2), (0, 0), (0, np.inf), ("a", 1), (np.nan, 1)):
        with pytest.raises(OptionError, match="equivalence"):
            e.equivalence(*bounds)


def test_nonlinear_hypotheses_by_the_delta_method() -> None:
    e = estimates(shift=2.0)
    found = e.t_test("a/b = 1, exp(c) - a = 3")
    other = NonlinearDeltaCov(lambda v: np.array([v[0] / v[1], np.exp(v[2]) - v[0]]), e.value, e.cov)
    np.testing.assert_allclose(found.value, other.predicted())
    np.testing.assert_allclose(found.cov, other.cov(), rtol=1e-6)
    np.testing.assert_allclose(found.zvalues, (other.predicted() - [1, 3]) / other.se_vectorized(), rtol=1e-6)
    gap = found.value - [1, 3]
    joint = e.wald_test("a/b = 1, exp(c) - a = 3")
    np.testing.assert_allclose(joint.statistic, gap @ np.linalg.solve(found.cov, gap))
    assert joint.df == 2 and joint.label == "a / b = 1; exp(c) - a = 3"
    with pytest.raises(OptionError, match="has no finite value at the estimates"):
        e.t_test("log(a - 5) = 1")
    linear, delta = e.t_test("a - b = 1"), e.t_test("a - b*1**a = 1")
    np.testing.assert_allclose(delta.frame(), linear.frame(), rtol=1e-12)
