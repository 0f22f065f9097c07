"""Results: what a fitted model says of itself, row by row and on other data, and what a fit leaves untouched."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import stats

import deepreg
from deepreg import targets
from deepreg.errors import DataError, DeepregWarning, OptionError
from deepreg.results import Results

FAST: dict[str, Any] = {"folds": 2, "members": 1, "rng": 3, "progress": False}
N = 300


def frame(n: int = N, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z, noise = rng.normal(size=(3, n))
    arm = rng.choice(["a", "b", "c"], n)
    d = (rng.uniform(size=n) < 1 / (1 + np.exp(-x / 2))) * 1
    t = rng.normal(2 + 0.3 * x, 1)
    eta = 0.3 + 0.5 * x + d * (0.4 - 0.5 * x) + 0.2 * (t - 2) + 0.3 * (arm == "b")
    data = {
        "y": eta + noise, "b": (rng.uniform(size=n) < 1 / (1 + np.exp(-eta))) * 1, "c": rng.poisson(np.exp(eta / 2)),
        "d": d, "t": t, "arm": arm, "x": x, "z": z, "k": rng.choice(["u", "v", "w"], n), "w": rng.uniform(0.5, 2, n),
        "g": np.arange(n) // 5, "h": np.arange(n) % 30,
    }  # fmt: skip
    return pd.DataFrame(data, index=pd.Index([f"row{i // 2}" for i in range(n)], name="id"))


def fit(formula: str, data: Any = None, family: str = "linear", options: Any = None, **kwargs: Any) -> Results:
    model = deepreg.structural(formula, frame() if data is None else data, family, **kwargs)
    return model.fit(**{**FAST, **(options or {})})


@pytest.fixture(scope="module")
def res() -> Results:
    return fit("y ~ d + t | x + C(k) | z", cluster=("g", "h"))


FAMILIES = pytest.mark.parametrize(
    ("family", "y"), [("linear", "y"), ("gaussian", "y"), ("logit", "b"), ("poisson", "c")]
)


@pytest.fixture(scope="module")
def every() -> dict[str, Results]:
    return {f: fit(f"{y} ~ d | x", family=f) for f, y in (("linear", "y"), ("gaussian", "y"), ("logit", "b"),
                                                          ("poisson", "c"))}  # fmt: skip


# the table


def test_the_members_of_a_regression(res: Results) -> None:
    names = ["Intercept", "d", "t"]
    z = res.params / res.bse
    for series in (res.params, res.bse, res.tvalues, res.pvalues):
        assert isinstance(series, pd.Series) and list(series.index) == names and series.dtype == np.float64
    np.testing.assert_allclose(res.tvalues, z)
    np.testing.assert_allclose(res.pvalues, 2 * stats.norm.sf(abs(z)))
    np.testing.assert_allclose(np.sqrt(np.diag(res.cov_params())), res.bse)
    assert list(res.cov_params().index) == list(res.cov_params().columns) == names
    for alpha in (0.05, 0.2):
        interval, width = res.conf_int(alpha), stats.norm.isf(alpha / 2) * res.bse
        assert list(interval.columns) == [0, 1] and list(interval.index) == names
        np.testing.assert_allclose(interval, np.c_[res.params - width, res.params + width])
    assert res.nobs == N and res.history is not None and "y ~ d + t | x" in repr(res)


def test_average_coefficients_are_debiased_averages(res: Results) -> None:
    e = res.averages
    np.testing.assert_allclose(res.params, e.psi[0].mean(0))
    assert e.plug_in is not None
    np.testing.assert_allclose(e.plug_in, res.theta().mean(), rtol=1e-10)
    assert 0 < np.max(np.abs(e.plug_in - e.value) / e.std_error) < 3


def test_targets_come_with_their_joint_covariance(res: Results) -> None:
    joint = res.estimate("ate", "ame", targets.Coefficient("d"), targets.ATE("t", hi=3, lo=1))
    assert joint.names == ("ATE d: 1 vs 0", "AME t", "d", "ATE t: 3 vs 1")
    np.testing.assert_allclose(joint.value[[0, 2]], res.params["d"])
    np.testing.assert_allclose(joint.value[3], 2 * res.params["t"])
    np.testing.assert_allclose(joint.value[1], res.params["t"], rtol=1e-7)  # by central differences
    np.testing.assert_allclose(joint.cov[0, 2], joint.cov[0, 0])
    pd.testing.assert_frame_equal(res.ate().frame(), res.estimate("ate").frame())
    pd.testing.assert_frame_equal(res.estimate("ate").frame(), res.estimate(targets.ATE).frame())


def test_means_in_an_experiment_are_near_those_of_the_arms_and_less_noisy() -> None:
    data = frame(1200).assign(arm=lambda f: f["arm"].where(f["arm"] != "c", "a"))
    data["y"] = data["y"] + 2 * data["x"]
    one = fit("y ~ arm | x", data, assignment=deepreg.KnownLaw(probability={"a": 2 / 3, "b": 1 / 3}))
    means, arms = one.estimate(targets.Mean), data.groupby("arm")["y"]
    assert means.names == ("Mean arm: a", "Mean arm: b")
    raw = arms.std() / np.sqrt(arms.size())
    np.testing.assert_array_less(abs(means.value - arms.mean()), 3 * raw)
    np.testing.assert_array_less(means.std_error, 0.95 * raw)
    np.testing.assert_allclose(means.psi[..., 1] - means.psi[..., 0], one.ate().psi[..., 0], atol=1e-10)


def test_a_dose_response_of_a_linear_model_is_a_line(res: Results) -> None:
    doses = np.linspace(1, 3, 5)
    means = res.estimate(targets.Mean("t", at=doses))
    np.testing.assert_allclose(np.diff(means.value), 0.5 * res.params["t"])
    np.testing.assert_allclose(means.value, means.value[0] + (doses - 1) * res.params["t"])


def test_a_fixed_sample_leaves_out_the_spread_of_the_features(res: Results) -> None:
    whole, fixed = res.ate(), res.ate(sample="fixed")
    np.testing.assert_allclose(fixed.value, whole.value)
    h = res.cate()["d"].to_numpy()
    np.testing.assert_allclose(whole.psi[0, :, 0] - fixed.psi[0, :, 0], h - h.mean(), atol=1e-8)


def test_hypotheses(res: Results) -> None:
    test = res.t_test("d - t = 0.1")
    row = np.array([0.0, 1.0, -1.0])
    error = np.sqrt(row @ res.cov_params().to_numpy() @ row)
    np.testing.assert_allclose(test.zvalues, (row @ res.params.to_numpy() - 0.1) / error)
    wald = res.wald_test("d = 0, t = 0.2")
    gap, cov = res.params[["d", "t"]] - [0, 0.2], res.cov_params().loc[["d", "t"], ["d", "t"]]
    np.testing.assert_allclose(wald.statistic, gap @ np.linalg.solve(cov, gap))
    assert wald.df == 2 and wald.label == "d = 0; t = 0.2"


def test_another_covariance_is_another_result(res: Results) -> None:
    before = res.bse.copy()
    robust, plain = res.vcov("robust"), res.vcov("HC0")
    assert robust is not res and isinstance(robust, Results)
    pd.testing.assert_series_equal(res.bse, before)
    pd.testing.assert_series_equal(robust.params, res.params)
    np.testing.assert_allclose(plain.bse * np.sqrt(N / (N - 1)), robust.bse)
    np.testing.assert_allclose(robust.bse, res.averages.psi[0].std(0) / N**0.5)
    assert (abs(robust.bse / res.bse - 1) > 1e-3).all()
    pd.testing.assert_series_equal(robust.vcov("CRV1").bse, res.bse)


def test_results_are_frozen(res: Results) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        res.design = None  # type: ignore[misc, assignment]
    params = res.params
    params["d"] = 99.0
    rows = res.theta()
    rows.loc[:] = 99.0
    assert res.params["d"] != 99 and not (res.theta() == 99).any().any()


def test_the_summary_in_every_format(res: Results) -> None:
    summary = res.summary(alpha=0.1)
    text, html, latex = str(summary), summary.as_html(), summary.as_latex()
    csv, markdown = summary.as_csv(), summary.as_markdown()
    assert text == summary.as_text() and max(map(len, text.splitlines())) <= 78
    for one in (text, html, latex, csv, markdown):
        for word in ("Dep. Variable", "Intercept", "ATE d: 1 vs 0", "0.95]"):
            assert word in one
    assert all(word in csv for word in ("g (60", "h (30"))
    assert f"{res.params['d']:.4f}" in text and repr(float(res.params["d"])) in csv
    assert "NaN" not in text and "nan" not in text.replace("Covariance", "")


@FAMILIES
def test_every_family_reports(family: str, y: str, every: dict[str, Results]) -> None:
    one = every[family]
    assert f"structural, {family}" in str(one.summary()) and (one.bse > 0).all()
    extra = ["log_sigma"] if family == "gaussian" else []
    assert list(one.params.index) == list(one.theta().columns) == ["Intercept", "d", *extra]
    theta, d = one.theta(), frame()["d"]
    eta = theta["Intercept"] + theta["d"] * d
    links: dict[str, Callable[..., Any]] = {"logit": lambda v: 1 / (1 + np.exp(-v)), "poisson": np.exp}
    link = links.get(family, lambda v: v)
    np.testing.assert_allclose(one.predict(), link(eta), rtol=1e-10)
    both = link(theta["Intercept"] + theta["d"]) - link(theta["Intercept"])
    np.testing.assert_allclose(one.cate()["d"], both, rtol=1e-8, atol=1e-12)
    margin = one.get_margeff(dummy=True)
    np.testing.assert_allclose(margin.value, one.ate().value)
    assert margin.names == ("ATE d: 1 vs 0",) and one.get_margeff().names == ("AME d",)
    assert one.predict().name == y


# rows


def test_the_effect_of_a_row_is_its_coefficient(res: Results) -> None:
    theta, cate = res.theta(), res.cate()
    assert list(cate.columns) == ["d", "t"]
    np.testing.assert_allclose(cate, theta[["d", "t"]], rtol=1e-6, atol=1e-9)


def test_levels_name_their_columns() -> None:
    one = fit("y ~ arm * t | x")
    theta, t = one.theta(), frame()["t"]
    cate = one.cate()
    assert list(cate.columns) == ["arm[b]", "arm[c]", "t"]
    np.testing.assert_allclose(cate["arm[c]"], theta["arm[T.c]"] + theta["arm[T.c]:t"] * t, rtol=1e-9, atol=1e-12)
    slope = theta["t"] + sum(theta[f"arm[T.{a}]:t"] * (frame()["arm"] == a) for a in "bc")
    np.testing.assert_allclose(cate["t"], slope, rtol=1e-6, atol=1e-8)
    assert one.ate().names == ("ATE arm: b vs a", "ATE arm: c vs a")


@pytest.fixture(scope="module")
def holes() -> tuple[pd.DataFrame, Results]:
    data = frame()
    data.iloc[[0, 7], data.columns.get_loc("x")] = np.nan
    data.iloc[11, data.columns.get_loc("y")] = np.inf
    return data, fit("y ~ d | x + C(k)", data, subset="w > 0.6")


def test_rows_keep_their_places(holes: tuple[pd.DataFrame, Results]) -> None:
    data, one = holes
    used = (data["w"] > 0.6) & data["x"].notna() & np.isfinite(data["y"])
    assert one.nobs == used.sum() < N
    for rows in (one.theta(), one.cate(), one.predict()):
        pd.testing.assert_index_equal(rows.index, data.index)
        missing = rows.isna().any(axis=1) if isinstance(rows, pd.DataFrame) else rows.isna()
        np.testing.assert_array_equal(~missing, used)
    alone = fit("y ~ d | x + C(k)", data[used].reset_index(drop=True))
    np.testing.assert_array_equal(one.theta()[used], alone.theta())
    pd.testing.assert_series_equal(one.params, alone.params)


def test_new_rows(holes: tuple[pd.DataFrame, Results]) -> None:
    _, one = holes
    new = frame(20, seed=9)[["x", "k", "d"]]  # no outcome, no weight
    theta = one.theta(new)
    pd.testing.assert_index_equal(theta.index, new.index)
    assert theta.notna().all().all() and list(theta.columns) == ["Intercept", "d"]
    np.testing.assert_allclose(one.predict(new), theta["Intercept"] + theta["d"] * new["d"])
    np.testing.assert_allclose(one.cate(new)["d"], theta["d"])
    np.testing.assert_allclose(one.theta(new.iloc[[4]]), theta.iloc[[4]], rtol=1e-5)  # no row depends on another
    turned = one.theta(new.iloc[::-1])
    np.testing.assert_allclose(turned.iloc[::-1], theta, rtol=1e-5)
    assert one.theta(new.iloc[:0]).shape == (0, 2)
    pd.testing.assert_frame_equal(one.theta(pl.from_pandas(new)), theta.reset_index(drop=True))
    gone = new.assign(x=[np.nan, *new["x"][1:]])
    assert one.predict(gone).isna().tolist() == [True] + [False] * 19


def test_new_rows_that_do_not_fit(holes: tuple[pd.DataFrame, Results]) -> None:
    _, one = holes
    new = frame(20, seed=9)
    with pytest.raises(DataError, match="'x'"):
        one.theta(new.drop(columns="x"))
    with pytest.raises(DataError, match="type list"):
        one.theta([1, 2])
    with pytest.warns(DeepregWarning, match=r"'k' has level 'q' not seen"):
        assert one.theta(new.assign(k=["q", *new["k"][1:]])).isna().all(axis=1).tolist() == [True] + [False] * 19


def test_a_constant_theta_is_the_same_everywhere() -> None:
    one = deepreg.structural("y ~ d + t", frame()).fit()
    assert (one.theta().nunique() == 1).all() and one.history is None
    new = frame(5, seed=8)
    np.testing.assert_allclose(one.predict(new), one.params["Intercept"] + new[["d", "t"]] @ one.params[["d", "t"]])
    np.testing.assert_allclose(one.theta(new), np.tile(one.params, (5, 1)))


# inputs and seeds


def test_kinds_of_tables_agree(every: dict[str, Results]) -> None:
    data = frame()[["y", "d", "x"]]
    for other in (pl.from_pandas(data), pl.from_pandas(data).to_arrow(), {k: v.to_numpy() for k, v in data.items()}):
        one = fit("y ~ d | x", other)
        pd.testing.assert_series_equal(one.params, every["linear"].params)
        pd.testing.assert_frame_equal(one.cate(), every["linear"].cate().reset_index(drop=True))


def test_one_seed_gives_the_same_digits_and_another_does_not() -> None:
    options = {"folds": 3, "members": 2, "repeats": 2}
    a, b = (fit("b ~ d | x", family="logit", options=options) for _ in range(2))
    np.testing.assert_array_equal(a.theta(), b.theta())
    np.testing.assert_array_equal(a.averages.psi, b.averages.psi)
    np.testing.assert_array_equal(a.bse, b.bse)
    assert str(a.summary()) == str(b.summary())
    c = fit("b ~ d | x", family="logit", options=options | {"rng": 4})
    assert (c.params != a.params).all()
    seeded = fit("b ~ d | x", family="logit", options=options | {"rng": np.random.default_rng(3)})
    np.testing.assert_array_equal(seeded.params, a.params)


@pytest.mark.parametrize("rng", [3, None])
def test_a_fit_leaves_the_world_as_it_was(rng: int | None) -> None:
    """Neither the global random states nor the caller's data, context or torch settings move."""
    data = frame()
    before, kept = data.copy(deep=True), (torch.get_rng_state(), np.random.get_state(), random.getstate())
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    one = fit("y ~ d + t | x + C(k)", data, options={"rng": rng}, weights="w", cluster="g")
    for call in (one.summary, one.ate, one.cate, one.theta, one.get_margeff, lambda: one.predict(data)):
        call()
    pd.testing.assert_frame_equal(data, before)
    assert torch.equal(torch.get_rng_state(), kept[0]) and random.getstate() == kept[2]
    numpy_state = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, kept[1], strict=True))
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()) == (dtype, grad, threads)


def test_weights_count_by_their_ratios() -> None:
    data = frame()
    a = fit("y ~ d | x", data, weights="w")
    b = fit("y ~ d | x", data.assign(w=data["w"] * 1024), weights="w")  # a power of two: no digit changes
    pd.testing.assert_series_equal(a.params, b.params, rtol=1e-9)
    pd.testing.assert_series_equal(a.bse, b.bse, rtol=1e-9)
    plain = fit("y ~ d | x", data)
    assert (abs(plain.params / a.params - 1) > 1e-4).all()


def test_a_regressed_hessian_has_no_effect_over_the_observed_treatment() -> None:
    one = fit("y ~ d + t | x", options={"folds": 3, "hessian": "regressed"})
    assert (one.bse > 0).all() and "regressed" in str(one.summary())
    with pytest.raises(deepreg.NotAvailable, match="hessian='estimated'"):
        one.estimate("ame")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ({"cov_type": "HC0", "vcov": "HC1"}, ("vcov=", "cov_type=", "one of them")),
        ({"cov_kwds": {"groups": "g"}}, ("cov_type='cluster'",)),
        ({"cov_type": "cluster", "cov_kwds": {"maxlags": 2}}, ("maxlags", "groups")),
        ({"cov_type": "HC0", "cov_kwds": {"groups": "g"}}, ("groups='g'", "cov_type='cluster'")),
        ({"cov_type": "cluster", "cov_kwds": {"groups": [1, 2]}}, ("name of a column",)),
    ],
)
def test_statsmodels_spelling_of_the_covariance_is_checked(kinds, words) -> None:
    data = pd.DataFrame({"y": [1.0, 2, 4, 3, 5], "t": [0, 1, 0, 1, 1], "g": [1, 1, 2, 2, 3]})
    with pytest.raises(OptionError) as error:
        deepreg.structural("y ~ t", data, **kinds)
    assert all(word in str(error.value) for word in words)


def test_statsmodels_spelling_gives_the_same_errors() -> None:
    data = deepreg.datasets.tutoring().head(300)
    one = deepreg.structural(
        "final_grade ~ tutoring", data, cov_type="cluster", cov_kwds={"groups": "grade_level"}
    ).fit()
    other = deepreg.structural("final_grade ~ tutoring", data, vcov={"CRV1": "grade_level"}).fit()
    pd.testing.assert_series_equal(one.bse, other.bse, check_exact=True)
    assert one.cov_type == "cluster"
