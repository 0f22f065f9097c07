"""Sensitivity to confounders that nobody observed: DoubleML's numbers, exact algebra, refits, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from scipy import stats

import deepreg
from deepreg import robustness
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.estimates import Estimates
from deepreg.heterogeneity.sensitivity import Sensitivity, benchmark, of_parts, part_names, sensitivity
from deepreg.results import Results
from deepreg.sampling import Moments, Sampling
from deepreg.targets import resolve

HERE = Path(__file__).parent / "reference" / "heterogeneity" / "sensitivity"
FAST: dict[str, Any] = {"learners": "smooth", "folds": 2, "rng": 0, "progress": False}
N = 300


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x1, x2, x3 = rng.normal(size=(3, N))
    t = (rng.uniform(size=N) < 0.3).astype(int)
    y = 1 + x1 + 0.5 * x2 + t * (1 + 0.5 * x3) + rng.normal(size=N)
    columns = {"y": y, "t": t, "x1": x1, "x2": x2, "x3": x3, "b": (y > 1).astype(int), "k": np.arange(N) % 3}
    return pd.DataFrame({**columns, "dose": x1 + rng.normal(size=N), "w": rng.uniform(0.5, 2, N)})


def fit(formula: str = "y ~ t | x1 + x2 + x3", **options: Any) -> Results:
    return deepreg.structural(formula, frame(), **options).fit(**FAST)


@pytest.fixture(scope="module")
def result() -> Results:
    return fit()


# arrays ---------------------------------------------------------------------------------------------------------------
def of_doubleml(row: Any, rows: pd.DataFrame) -> Sensitivity:
    """The same from its nuisances, without a small-sample factor."""
    if row.kind == "PLR":
        residual, moment = np.sqrt(rows.PLR_psi_sigma2 + row.sigma2), np.full(len(rows), row.nu2)
    else:
        g0, g1, e = (rows[f"{row.kind}_ml_{name}"] for name in ("g0", "g1", "m"))
        residual, share = rows.y - np.where(rows.d == 1, g1, g0), rows.d.mean()
        moment = 1 / e + 1 / (1 - e)
        if row.kind == "ATTE":
            moment *= rows.d * e / share**2
    strength = {"cf_y": row.cf_y, "cf_d": row.cf_d, "rho": row.rho, "null": row.null}
    made = sensitivity(rows[f"{row.kind}_psi"], residual, rows[f"{row.kind}_representer"], moment=moment, **strength)
    sampling = replace(made.parts.sampling, kind="HC0")
    return of_parts(replace(made.parts, sampling=sampling), **strength)


@pytest.mark.parametrize("case", range(9))
def test_bounds_are_those_of_doubleml(case: int) -> None:
    want = pd.read_csv(HERE / "numbers.csv").iloc[case]
    made = of_doubleml(want, pd.read_csv(HERE / "rows.csv"))
    np.testing.assert_allclose(made.parts.value, want[["theta", "sigma2", "nu2"]].tolist(), rtol=1e-7)
    np.testing.assert_allclose(made.estimates.value, want[["lower", "upper"]].tolist(), rtol=1e-7)
    np.testing.assert_allclose(made.estimates.std_error, want[["lower_se", "upper_se"]].tolist(), rtol=1e-7)
    shown = made.frame().iloc[0]
    np.testing.assert_allclose(shown[["conf lower", "conf upper"]], want[["lower_ci", "upper_ci"]].tolist(), rtol=1e-7)
    np.testing.assert_allclose(
        shown[["RV", "RVa"]], want[["rv", "rva"]].tolist(), atol=2e-5
    )  # DoubleML's own precision


def test_a_robustness_value_is_where_the_bound_is_null() -> None:
    want = pd.read_csv(HERE / "numbers.csv").iloc[0]
    made = of_doubleml(want, pd.read_csv(HERE / "rows.csv"))
    rv, rva = made.robustness().iloc[0]
    np.testing.assert_allclose(made.bounds(rv, rv).value[0], 0, atol=1e-9)
    near = made.bounds(rva, rva)
    np.testing.assert_allclose(near.value[0] - stats.norm.ppf(0.95) * near.std_error[0], 0, atol=1e-9)
    ratio = want.theta / np.sqrt(want.sigma2 * want.nu2)
    np.testing.assert_allclose(rv, (np.sqrt(ratio**4 + 4 * ratio**2) - ratio**2) / 2, rtol=1e-9)
    assert made.robustness(null=float(want.theta) - 0.01)["RVa"].iloc[0] == 0
    assert made.robustness(null=1e6)["RV"].iloc[0] == 1


@pytest.mark.parametrize("case", range(9))
def test_benchmarks_are_those_of_doubleml(case: int) -> None:
    want = pd.read_csv(HERE / "gains.csv").iloc[case]

    def known(suffix: str) -> Sensitivity:
        value = torch.tensor([[want[f"{name}{suffix}"] for name in ("theta", "sigma2", "nu2")]])
        sampling = Sampling(torch.ones(2), torch.zeros(2, 0).long(), "HC0")
        parts = Estimates(
            part_names(["t"]), None, sampling, known=Moments(value, torch.eye(3, dtype=value.dtype)[None])
        )
        return of_parts(parts, cf_y=0.1, cf_d=0.1, rho=1.0, null=0.0)

    made = benchmark(known(""), known("_short"), "x").iloc[0]
    np.testing.assert_allclose(
        made[["cf_y", "cf_d", "rho", "change"]].tolist(),
        want[["cf_y", "cf_d", "rho", "delta_theta"]].tolist(),
        rtol=1e-7,
    )


def test_weights_count_as_copies_of_rows() -> None:
    rng = np.random.default_rng(0)
    score, r, alpha = rng.normal(1, 1, 40), rng.normal(size=40), rng.normal(size=40)
    times = np.arange(40) % 3 + 1
    one = sensitivity(score, r, alpha, weights=times)
    other = sensitivity(*(np.repeat(v, times) for v in (score, r, alpha)))
    np.testing.assert_allclose(one.estimates.value, other.estimates.value)
    clustered = sensitivity(*(np.repeat(v, times) for v in (score, r, alpha)), cluster=np.repeat(np.arange(40), times))
    np.testing.assert_allclose(one.estimates.std_error, clustered.estimates.std_error)


NOISE = np.random.default_rng(0).normal(size=(3, 50))
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cf_y": 1.0}, OptionError, "cf_y=1.0"),
    ({"cf_d": -0.1}, OptionError, "cf_d=-0.1"),
    ({"rho": 1.5}, OptionError, "rho=1.5"),
    ({"null": np.nan}, OptionError, "null=nan"),
    ({"moment": np.zeros(50)}, DataError, "no square has as its mean"),
    ({"moment": np.zeros((50, 2))}, OptionError, "give the same"),
    ({"weights": np.zeros(50)}, DataError, "weights"),
]


@pytest.mark.parametrize(("options", "error", "text"), REFUSED)
def test_what_is_no_strength_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        sensitivity(*NOISE, **options)


# fits -----------------------------------------------------------------------------------------------------------------
def test_the_bound_of_least_squares_is_the_bias_of_what_was_left_out() -> None:
    d = frame()
    short = deepreg.structural("y ~ t + x2 + x3", d).fit()
    long = deepreg.structural("y ~ t + x2 + x3 + x1", d).fit()

    def representer(result: Results, name: str) -> torch.Tensor:
        j = result.structure.names.index(name)
        x = result.design.units.d
        return x @ torch.linalg.inv(x.T @ x / N)[j]

    r, e = (torch.tensor(one.resid.to_numpy()) for one in (short, long))
    for name in ("t", "x2", "x3"):
        a, b = representer(short, name), representer(long, name)
        cf_y, cf_d = float(1 - e.square().mean() / r.square().mean()), float(1 - a.square().mean() / b.square().mean())
        rho = float(torch.corrcoef(torch.stack([r - e, b - a]))[0, 1])
        made = short.sensitivity(deepreg.targets.Coefficient(name), cf_y=cf_y, cf_d=cf_d, rho=rho)
        assert np.isclose(made.estimates.value, long.params[name], rtol=1e-9).sum() == 1


@pytest.mark.parametrize("family", ["linear", "logit", "probit", "poisson"])
@pytest.mark.parametrize("target", ["ate", "att", "atu", "mean"])
def test_the_representer_is_the_coefficient_of_the_residual(family: str, target: str) -> None:
    made = fit("b ~ t | x1 + x2", family=family, weights="w", assignment=deepreg.KnownLaw(probability=0.3))
    t, scores = made.design.units.d[:, 1], made.scores
    outcome = robustness.residuals(scores)
    for one in resolve(target, made.design):
        found = robustness.representer(scores, one, outcome)
        at = scores.terms(one)
        mean = scores.psi(one)[0].mul(scores._share()[:, None]).sum(1, keepdim=True)
        direct = at.weight[..., None] * (at.h - mean) / at.mass[..., None] + found.alpha * outcome.residual[..., None]
        np.testing.assert_allclose(scores.psi(one)[0], direct + mean, rtol=1e-8, atol=1e-10)
        mass = float(at.mass)
        want = {
            "ate": t / 0.3 - (1 - t) / 0.7, "att": (t - (1 - t) * 3 / 7) / mass,
            "atu": (t * 7 / 3 - (1 - t)) / mass, "mean": torch.stack([(1 - t) / 0.7, t / 0.3], -1),
        }[target]  # fmt: skip
        alpha = found.alpha[0] if target == "mean" else found.alpha[0, :, 0]
        np.testing.assert_allclose(alpha, want, rtol=1e-7, atol=1e-12)


def test_a_continuous_treatment_has_the_representer_of_a_partially_linear_model() -> None:
    made = fit("y ~ dose | x1 + x2", assignment=deepreg.KnownLaw(mean="x1", sd=1.0))
    outcome = robustness.residuals(made.scores)
    (target,) = resolve("ame", made.design)
    alpha = robustness.representer(made.scores, target, outcome).alpha
    np.testing.assert_allclose(alpha[0, :, 0], frame().dose - frame().x1, atol=1e-4)


def test_scores_of_the_square_follow_from_weights(result: Results) -> None:
    """The derivative of E[alpha^2] of the ATT in the weight of a row is what its score says."""
    made = fit("y ~ t | x1", assignment=deepreg.KnownLaw(probability=0.3)).scores
    (target,) = resolve("att", result.design)
    outcome = robustness.residuals(made)

    def square(weight: torch.Tensor) -> torch.Tensor:
        found = robustness.representer(
            replace(made, design=replace(made.design, weight=weight)), target, outcome
        ).square
        return (found[0, :, 0] * weight).sum() / weight.sum()

    ones = torch.ones(N, dtype=torch.float64)
    score = robustness.representer(made, target, outcome).square[0, :, 0]
    for i in (0, 3, 7, 11):
        step = torch.zeros(N, dtype=torch.float64).index_fill(0, torch.tensor([i]), 1e-4)
        slope = (square(ones + step) - square(ones - step)) / 2e-4
        np.testing.assert_allclose(slope * N, score[i] - score.mean(), rtol=1e-5)


def test_a_fit_gives_what_its_arrays_give(result: Results) -> None:
    made = result.sensitivity("ate", "att", cf_y=0.1, cf_d=0.2, rho=0.5)
    assert made.targets == ("ATE t: 1 vs 0", "ATT t: 1 vs 0")
    outcome = robustness.residuals(result.scores)
    (target,) = resolve("ate", result.design)
    found = robustness.representer(result.scores, target, outcome)
    moment = (found.square + found.alpha**2) / 2
    psi = result.estimate("ate").psi
    assert psi is not None
    arrays = (psi[0, :, 0], outcome.residual[0], found.alpha[0, :, 0])
    one = sensitivity(*(a.numpy() for a in arrays), moment=moment[0, :, 0].numpy(), cf_y=0.1, cf_d=0.2, rho=0.5)
    np.testing.assert_allclose(made.estimates.value[[0, 2]], one.estimates.value, rtol=1e-10)
    np.testing.assert_allclose(made.estimates.std_error[[0, 2]], one.estimates.std_error, rtol=1e-10)
    np.testing.assert_allclose(made.parts.value[:2], result.estimate("ate", "att").value)


def test_benchmarks_are_fits_without_the_feature(result: Results) -> None:
    made = result.sensitivity("ate", benchmarks=["x1", ("x1", "x3")])
    assert made.benchmarks is not None
    long = of_parts(made.parts, cf_y=0.03, cf_d=0.03, rho=1.0, null=0.0)
    for left, name in (("x2 + x3", "x1"), ("x2", "x1, x3")):
        short = fit(f"y ~ t | {left}").sensitivity("ate")
        want = benchmark(long, short, name)
        pd.testing.assert_frame_equal(made.benchmarks.loc[[name]], want)
    assert "Without these features" in str(made)
    assert made.benchmarks["cf_y"].iloc[0] > 0.3
    points = [line for line in made.plot().lines if line.get_label().startswith("like")]
    assert len(points) == 2


def test_a_feature_is_found_under_what_the_formula_makes_of_it() -> None:
    made = fit("y ~ t | x1 + C(k) | np.exp(x2)").design
    assert robustness.without(made, ["k"]).features == ("x1",)
    short = robustness.without(made, ["x2", "x1"])
    assert short.controls == ()
    assert (short.w.shape, short.x.shape) == ((N, 0), (N, 3))  # an indicator of each level
    with pytest.raises(OptionError, match="'x' is no feature"):
        robustness.without(made, ["x"])


def test_contours_are_bounds(result: Results) -> None:
    made = result.sensitivity("ate", rho=0.7)
    surface = made.contour(limit=0.3)
    y, d = surface.index[12], surface.columns[20]
    np.testing.assert_allclose(surface.loc[y, d], made.bounds(y, d).value[0])
    sure = made.contour(limit=0.3, confidence=True)
    bound = made.bounds(y, d)
    np.testing.assert_allclose(sure.loc[y, d], bound.value[0] - stats.norm.ppf(0.95) * bound.std_error[0])
    above = result.sensitivity("ate", null=5.0).contour(limit=0.3)
    assert above.loc[y, d] > made.estimates.value.mean()
    assert isinstance(made.plot(), Axes)
    with pytest.raises(OptionError, match="limit=2"):
        made.contour(limit=2)
    with pytest.raises(OptionError, match="target='a'"):
        made.plot("a")


def test_repeats_are_medians() -> None:
    made = deepreg.structural("y ~ t | x1 + x2", frame()).fit(**FAST, repeats=3)
    found = made.sensitivity("ate", cf_y=0.2, cf_d=0.1)
    value = found.parts.moments.value
    bias = np.sqrt(0.2 * 0.1 / 0.9) * (value[:, 1] * value[:, 2]).sqrt()
    np.testing.assert_allclose(found.estimates.value[0], np.median(value[:, 0] - bias))


NOT_LINEAR: list[tuple[str, dict[str, Any], Any, str]] = [
    ("y ~ t | x1", {}, "spread", "linear in E"),
    ("b ~ t | x1", {"family": "logit"}, "coefficient", "linear in E"),
    ("b ~ dose | x1", {"family": "logit"}, "ame", "few levels"),
    ("y ~ t | x1", {"family": "gaussian"}, "ate", "not those of a mean alone"),
    ("k ~ t | x1", {"family": "multinomial"}, "ate", "one number"),
    ("y ~ [t ~ b] | x1", {}, "late", "one number"),
]


@pytest.mark.parametrize(("formula", "options", "target", "text"), NOT_LINEAR)
def test_what_has_no_bound_is_refused(formula: str, options: dict[str, Any], target: str, text: str) -> None:
    with pytest.raises(NotAvailable, match=text):
        fit(formula, **options).sensitivity(target)


def test_a_saved_result_has_bounds_with_its_data_and_no_refits(result: Results, tmp_path: Path) -> None:
    result.save(tmp_path / "with", data=True)
    result.save(tmp_path / "without")
    loaded = deepreg.load(tmp_path / "with")
    np.testing.assert_array_equal(loaded.sensitivity("ate").estimates.value, result.sensitivity("ate").estimates.value)
    with pytest.raises(NotAvailable, match="repeat it without"):
        loaded.sensitivity("ate", benchmarks=["x1"])
    with pytest.raises(NotAvailable, match="rows of the fit"):
        deepreg.load(tmp_path / "without").sensitivity("ate")
    with pytest.raises(OptionError, match="needs a target"):
        result.sensitivity()
