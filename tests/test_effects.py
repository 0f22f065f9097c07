"""Effects of rows and populations: of results, and of models fitted to arrays."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import PolynomialFeatures

import deepreg
from deepreg import BootstrapInference, StructuralModel
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.pointwise import METHODS, Inference

N = 300
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 2))
W = RNG.normal(size=(N, 2))
T = 0.5 * W[:, 0] + RNG.normal(size=N)
ARM = RNG.choice(["a", "b", "c"], N)
Y = 0.5 * T**2 + X[:, 0] * T + W[:, 0] + RNG.normal(size=N) / 2
Y3 = (ARM == "b") * (1 + X[:, 0]) + 2.0 * (ARM == "c") + RNG.normal(size=N) / 2
LAW = deepreg.KnownLaw(mean=0.0, sd=1.0)  # where no law has to be learned
FAST = {"learners": "smooth", "folds": 2, "rng": 0}


def model(**options) -> StructuralModel:
    return StructuralModel(**{**FAST, **options})


@pytest.fixture(scope="module")
def plain():
    return model().fit(Y, T, X)


@pytest.fixture(scope="module")
def arms():
    return model().fit(pd.Series(Y3, name="score"), pd.Series(ARM, name="arm"), X)


@pytest.fixture(scope="module")
def curved():
    return model(treatment_featurizer=PolynomialFeatures(2, include_bias=False)).fit(Y, T, X, W)


@pytest.fixture(scope="module")
def bought():
    return model(family="logit").fit((Y > 1) * 1, T, X)


# ---- shapes


@pytest.mark.parametrize("d_y", [(), (1,), (2,)])
@pytest.mark.parametrize("d_t", [(), (1,), (2,), "levels"])
def test_shapes_are_those_of_the_arrays(d_y, d_t):
    outcome = np.stack([Y, Y3], 1)[:, : d_y[0]] if d_y else Y
    treatment = ARM if d_t == "levels" else np.stack([T, W[:, 1]], 1)[:, : d_t[0]] if d_t else T
    fitted = model().fit(outcome, treatment, X)
    axis, few = (2,) if d_t == "levels" else d_t, X[:7]
    here = {"T0": "a", "T1": "c"} if d_t == "levels" else {}
    at = "a" if d_t == "levels" else 0.5
    assert fitted.effect(few, **here).shape == (7, *d_y)
    assert fitted.marginal_effect(at, few).shape == (7, *d_y, *axis)
    assert fitted.const_marginal_effect(few).shape == (7, *d_y, *axis)
    np.testing.assert_allclose(fitted.marginal_effect(at, few), fitted.const_marginal_effect(few), atol=1e-7)
    for low, high, point in (
        (*fitted.effect_interval(few, **here), fitted.effect(few, **here)),
        (*fitted.marginal_effect_interval(at, few), fitted.marginal_effect(at, few)),
        (*fitted.const_marginal_effect_interval(few), fitted.const_marginal_effect(few)),
    ):
        assert low.shape == high.shape == point.shape and (low < point).all() and (point < high).all()
    assert np.shape(fitted.ate(**here)) == d_y and np.shape(fitted.marginal_ate(at)) == (*d_y, *axis)
    assert np.shape(fitted.const_marginal_ate()) == (*d_y, *axis) == fitted.const_marginal_ate_interval()[0].shape
    assert fitted.ate_interval(**here)[0].shape == d_y and fitted.marginal_ate_interval(at)[1].shape == (*d_y, *axis)
    if d_t == "levels":
        np.testing.assert_allclose(fitted.marginal_ate(at)[..., 1], fitted.ate(T0="a", T1="c"))
    elif d_t == (2,):
        whole = fitted.marginal_ate(at).sum(-1)
        np.testing.assert_allclose(whole, fitted.ate(), rtol=1e-6)
    frame = fitted.marginal_effect_inference(at, few).summary_frame()
    assert len(frame) == 7 * int(np.prod(d_y)) * int(np.prod(axis))
    assert list(frame) == ["point_estimate", "stderr", "zstat", "pvalue", "ci_lower", "ci_upper"]
    np.testing.assert_array_equal(frame.point_estimate, fitted.marginal_effect(at, few).ravel())


def test_the_treatment_featurized_has_its_own_axis(curved):
    assert curved.const_marginal_effect(X).shape == (N, 2) and curved.marginal_effect(T, X).shape == (N,)
    assert curved.marginal_ate(0.0).shape == () and curved.const_marginal_ate().shape == (2,)


@pytest.mark.parametrize("controls", [None, W])
def test_without_X_there_is_one_row_or_as_many_as_treatments(controls):
    fitted = model().fit(Y, T, W=controls)
    assert fitted.effect().shape == fitted.const_marginal_effect().shape == (1,)
    assert fitted.effect(T0=[0, 1, 2], T1=3).shape == (3,) == fitted.marginal_effect([1, 2, 3]).shape
    coefficient, error = fitted.result_.params["t"], fitted.result_.bse["t"]
    found = fitted.effect_inference(T1=2)
    assert found.point_estimate == pytest.approx(2 * coefficient) and found.stderr == pytest.approx(2 * error)
    assert fitted.ate(T1=2) == pytest.approx(2 * coefficient)
    with pytest.raises(DataError, match="without X"):
        fitted.effect(X)


def test_a_model_with_X_wants_its_rows(plain):
    with pytest.raises(DataError, match="give the rows X"):
        plain.effect()


# ---- T0 and T1


def test_scalars_are_full_arrays_and_mix(plain):
    zeros, twos = np.zeros(N), np.full((N, 1), 2.0)
    expected = plain.effect(X, T0=0, T1=2)
    for t0, t1 in ((zeros, twos), (0, twos), (zeros, 2), (list(zeros), pd.Series(np.ravel(twos)))):
        np.testing.assert_array_equal(plain.effect(X, T0=t0, T1=t1), expected)
    np.testing.assert_array_equal(plain.effect(X), plain.effect(X, T0=0, T1=1))
    with pytest.raises(TypeError):
        plain.effect(X, 0, 1)


def test_effects_are_differences(plain, curved, bought, arms):
    for fitted, (a, b, c) in ((plain, (0, 1, 3)), (curved, (0, 1, T)), (bought, (0, 1, T)), (arms, "abc")):
        one, two = fitted.effect(X, T0=a, T1=b), fitted.effect(X, T0=b, T1=c)
        np.testing.assert_array_equal(fitted.effect(X, T0=c, T1=c), 0)
        np.testing.assert_allclose(fitted.effect(X, T0=b, T1=a), -one, atol=1e-12)
        np.testing.assert_allclose(fitted.effect(X, T0=a, T1=c), one + two, atol=1e-12)
        assert (fitted.effect_inference(X, T0=c, T1=c).stderr == 0).all()


@pytest.mark.parametrize("wrong", [[0, 1], np.zeros((N, 2)), np.zeros(N - 1)])
def test_treatments_have_the_length_of_X(plain, wrong):
    with pytest.raises(DataError, match=r"one value|for each"):
        plain.effect(X, T0=wrong)
    with pytest.raises(DataError, match=r"one value|for each"):
        plain.marginal_effect(wrong, X)


def test_missing_treatments_are_refused(plain):
    with pytest.raises(DataError, match="missing or infinite"):
        plain.effect(X, T0=np.where(np.arange(N) < 3, np.nan, 0.0))
    with pytest.raises(DataError, match="missing or infinite"):
        plain.effect(X, T1=np.inf)


def test_rows_are_on_their_own(curved):
    order = RNG.permutation(N)
    whole = curved.effect_inference(X, T0=T, T1=1)
    mixed = curved.effect_inference(X[order], T0=T[order], T1=1)
    single = curved.effect_inference(X[5:6], T0=T[5:6], T1=1)
    for name in ("point_estimate", "stderr"):
        np.testing.assert_allclose(getattr(mixed, name), getattr(whole, name)[order], rtol=1e-9)
        np.testing.assert_allclose(getattr(single, name), getattr(whole, name)[5:6], rtol=1e-9)


# ---- discrete treatments


def test_the_first_sorted_level_is_the_baseline(arms):
    assert arms.cate_treatment_names() == ["arm_b", "arm_c"] and arms.cate_output_names() == ["score"]
    assert arms.cate_feature_names() == ["x0", "x1"]
    found = arms.const_marginal_effect(X)
    np.testing.assert_allclose(found[:, 0], arms.effect(X, T0="a", T1="b"))
    np.testing.assert_allclose(found[:, 1], arms.effect(X, T0="a", T1="c"))
    np.testing.assert_allclose(arms.effect(X, T0=ARM, T1="c")[ARM == "b"], (found[:, 1] - found[:, 0])[ARM == "b"])
    index = arms.marginal_effect_inference("a", X[:2]).summary_frame().index
    assert list(index) == [(0, "arm_b"), (0, "arm_c"), (1, "arm_b"), (1, "arm_c")]
    assert 0.5 < arms.ate(T0="a", T1="b") < 1.5 and 1.5 < arms.ate(T0="a", T1="c") < 2.5


def test_categories_move_the_baseline_and_not_the_effects(arms):
    other = model(categories=["c", "a", "b"]).fit(Y3, ARM, X)
    assert other.cate_treatment_names() == ["t_a", "t_b"]
    np.testing.assert_allclose(other.const_marginal_effect(X)[:, 0], other.effect(X, T0="c", T1="a"))
    found, expected = other.effect_inference(X, T0="b", T1="c"), arms.effect_inference(X, T0="b", T1="c")
    np.testing.assert_array_equal(found.point_estimate, expected.point_estimate)
    np.testing.assert_array_equal(found.stderr, expected.stderr)
    np.testing.assert_array_equal(other.ate_interval(T0="a", T1="b"), arms.ate_interval(T0="a", T1="b"))
    np.testing.assert_allclose(other.marginal_ate("a")[1], other.ate(T0="c", T1="b"))
    np.testing.assert_allclose(other.const_marginal_ate_interval(), other.marginal_ate_interval("b"))


def test_two_levels_besides_the_baseline_have_an_interval(arms):
    between = arms.effect_inference(X, T0="b", T1="c")
    alone = arms.const_marginal_effect_inference(X)
    independent = np.sqrt((alone.stderr**2).sum(1))
    assert (between.stderr > 0).all() and not np.allclose(between.stderr, independent, rtol=0.05)
    low, high = arms.ate_interval(T0="b", T1="c")
    assert low < 1 < high and high - low < 0.6


def test_unseen_levels_are_refused(arms):
    with pytest.raises(DataError, match="'z', but the treatment has the levels 'a', 'b', 'c'"):
        arms.effect(X, T0="a", T1="z")
    with pytest.raises(DataError, match="T0='a', T1='b'"):
        arms.effect(X)
    for wrong in (["a", "b"], ["a", "b", "c", "d"], ["a", "a", "b", "c"]):
        with pytest.raises(OptionError, match="levels"):
            model(categories=wrong).fit(Y3, ARM, X)
    with pytest.raises(DataError, match="one level"):
        model(discrete_treatment=True).fit(Y3, np.ones(N), X)


def test_numbers_are_levels_where_said():
    dose = RNG.integers(0, 3, N)
    numbers, levels = model().fit(Y3, dose, X), model(discrete_treatment=True).fit(Y3, dose, X)
    assert numbers.const_marginal_effect(X).shape == (N,) and levels.const_marginal_effect(X).shape == (N, 2)
    assert levels.cate_treatment_names() == ["t_1", "t_2"]
    assert levels.effect(X, T0=0.0, T1=True).shape == (N,)  # 0 and 1
    with pytest.raises(DataError, match="levels 0, 1, 2"):
        levels.effect(X, T1=0.5)
    flags = model().fit(Y3, dose > 0, X)
    assert flags.const_marginal_effect(X).shape == (N, 1) and flags.effect(X).shape == (N,)
    with pytest.raises(OptionError, match="one column"):
        model(discrete_treatment=True).fit(Y3, np.stack([dose, dose], 1), X)
    with pytest.raises(OptionError, match="has levels"):
        model(discrete_treatment=False).fit(Y3, ARM, X)


# ---- featurized treatments


@pytest.mark.parametrize("phi", ["t + I(t**2)", PolynomialFeatures(2, include_bias=False)])
def test_the_featurized_effect_is_theta_times_the_change_of_phi(phi):
    fitted = model(treatment_featurizer=phi).fit(Y, T, X, W)
    theta = fitted.const_marginal_effect(X)
    np.testing.assert_allclose(fitted.effect(X, T0=T, T1=2), theta[:, 0] * (2 - T) + theta[:, 1] * (4 - T**2))
    np.testing.assert_allclose(fitted.marginal_effect(T, X), theta[:, 0] + 2 * T * theta[:, 1], rtol=1e-6, atol=1e-8)
    assert fitted.const_marginal_ate()[1] == pytest.approx(0.5, abs=0.1)  # gamma of gamma t^2 + delta X t
    assert np.corrcoef(theta[:, 0], X[:, 0])[0, 1] > 0.9 and np.polyfit(X[:, 0], theta[:, 0], 1)[0] == pytest.approx(
        1, abs=0.2
    )
    low, high = fitted.effect_interval(X, T0=0, T1=1)
    assert np.mean((low < 0.5 + X[:, 0]) & (0.5 + X[:, 0] < high)) > 0.8
    error = fitted.marginal_effect_inference(1.0, X).stderr
    np.testing.assert_allclose(error, fitted.effect_inference(X, T0=1 - 1e-4, T1=1 + 1e-4).stderr / 2e-4, rtol=1e-5)


def test_a_spline_of_the_treatment():
    fitted = model(treatment_featurizer="bs(t, df=4)").fit(Y, T, X, W)
    slope = (fitted.effect(X, T0=0, T1=0.501) - fitted.effect(X, T0=0, T1=0.499)) / 2e-3
    np.testing.assert_allclose(fitted.marginal_effect(0.5, X), slope, rtol=1e-3, atol=1e-4)
    assert fitted.const_marginal_effect(X).shape == (N, 4)
    assert fitted.ate(T0=0, T1=1) == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize("phi", [3, np.square, PolynomialFeatures])
def test_a_featurizer_is_a_formula_or_a_transformer(phi):
    with pytest.raises(OptionError, match="treatment_featurizer="):
        model(treatment_featurizer=phi).fit(Y, T, X)
    with pytest.raises(OptionError, match="discrete"):
        model(treatment_featurizer="t").fit(Y3, ARM, X)


def test_the_transformer_given_is_not_fitted():
    phi = PolynomialFeatures(2, include_bias=False)
    model(treatment_featurizer=phi).fit(Y, T, X)
    assert not hasattr(phi, "n_features_in_")


# ---- other families and instruments


def test_effects_of_a_family_are_differences_of_its_mean(bought):
    frame = pd.DataFrame(X, columns=["x0", "x1"])
    means = [bought.result_.predict(frame.assign(t=t)).to_numpy() for t in (0.5, 2.0)]
    np.testing.assert_allclose(bought.effect(X, T0=0.5, T1=2.0), means[1] - means[0], atol=1e-12)
    step = 1e-5
    expected = bought.effect(X, T0=0.5 - step, T1=0.5 + step) / (2 * step)
    np.testing.assert_allclose(bought.marginal_effect(0.5, X), expected, rtol=1e-5, atol=1e-9)
    with pytest.raises(NotAvailable, match="index"):
        bought.const_marginal_effect(X)
    with pytest.raises(NotAvailable, match="index"):
        bought.const_marginal_ate()
    theta, cov = bought.result_.theta(frame).to_numpy(), 1e-6
    moved = [1 / (1 + np.exp(-(theta + shift) @ [1, 2.0])) - 1 / (1 + np.exp(-(theta + shift) @ [1, 0.5]))
             for shift in (np.array([cov, 0]), np.array([0, cov]))]  # fmt: skip
    gradient = (np.stack(moved, 1) - bought.effect(X, T0=0.5, T1=2.0)[:, None]) / cov
    found = bought.effect_inference(X, T0=0.5, T1=2.0).stderr
    spread = _covariance(bought.result_, frame)
    np.testing.assert_allclose(found, np.sqrt(np.einsum("np,npq,nq->n", gradient, spread, gradient)), rtol=1e-3)


def _covariance(result, frame):
    from deepreg import spread

    design = result.design.new(frame, regressors=False)
    centre = result.law.centre(design.inputs, result.structure.slopes)
    return spread.covariance(result.fitted, design.inputs, 1, centre).numpy()


def test_a_family_with_controls_needs_them_row_by_row():
    fitted = model(family="logit").fit((Y > 1) * 1, T, X, W)
    with pytest.raises(NotAvailable, match="controls W"):
        fitted.effect(X)
    frame = pd.DataFrame(np.hstack([X, W]), columns=["x0", "x1", "w0", "w1"])
    assert fitted.result_.effect(frame).shape == (N,) and -1 < fitted.ate() < 1


def test_an_instrument_divides():
    fitted = model().fit(Y, T, X, Z=W[:, 0])
    theta = fitted.result_.theta(pd.DataFrame(X, columns=["x0", "x1"]))
    ratio = (theta["y: z"] / theta["t: z"]).to_numpy()
    np.testing.assert_allclose(fitted.const_marginal_effect(X), ratio)
    np.testing.assert_allclose(fitted.effect(X, T0=T, T1=2), ratio * (2 - T))
    effect = fitted.result_.estimate("iv_effect")
    assert fitted.ate(T1=2) == pytest.approx(2 * effect.value[0])
    assert fitted.ate_inference(T1=2).stderr == pytest.approx(2 * effect.std_error[0])
    assert fitted.cate_output_names() == ["y"] and fitted.ate(T0=1, T1=1) == 0
    for wrong in ({"T": ARM}, {"T": np.stack([T, T], 1)}):
        with pytest.raises(OptionError, match="instrument"):
            model().fit(Y, wrong.get("T", T), X, Z=wrong.get("Z", W[:, 0]))


def test_several_instruments_move_several_treatments():
    rng = np.random.default_rng(4)
    Z, hidden = rng.normal(size=(N, 2)), rng.normal(size=N)
    both = Z @ np.array([[1.0, 0.2], [0.3, 1.0]]) + hidden[:, None] + rng.normal(size=(N, 2))
    outcome = both @ np.array([1.0, -0.5]) + hidden + rng.normal(size=N)
    fitted = model().fit(outcome, both, X, Z=Z)
    result = fitted.result_
    theta, (reduced, *first) = result.theta(pd.DataFrame(X, columns=["x0", "x1"])), result.structure.stages
    pi = np.stack([theta[list(stage)].to_numpy() for stage in first], 1)  # (n, T, Z)
    beta = np.linalg.solve(pi.transpose(0, 2, 1), theta[list(reduced)].to_numpy()[..., None])[..., 0]
    np.testing.assert_allclose(fitted.const_marginal_effect(X), beta)
    start, end = np.zeros((N, 2)), np.stack([np.ones(N), 2 * T], 1)
    np.testing.assert_allclose(fitted.effect(X, T0=start, T1=end), (beta * end).sum(1))
    np.testing.assert_allclose(fitted.effect(X, T0=0, T1=1), beta.sum(1))
    effect = result.estimate("iv_effect")
    assert fitted.ate() == pytest.approx(effect.value.sum())
    assert fitted.ate_inference().stderr == pytest.approx(effect.cov.sum() ** 0.5)


# ---- inference


def test_errors_of_rows_are_those_of_theta(plain):
    frame = pd.DataFrame(X, columns=["x0", "x1"])
    found = plain.effect_inference(X, T0=0, T1=2)
    np.testing.assert_allclose(found.stderr, 2 * np.sqrt(_covariance(plain.result_, frame)[:, 1, 1]), rtol=1e-9)
    np.testing.assert_allclose(found.point_estimate, 2 * plain.result_.theta(frame)["t"])


def test_columns_that_do_not_vary_have_the_error_of_their_average():
    frame = pd.DataFrame({"y": Y, "t": T, "x": X[:, 0]})
    result = deepreg.structural("y ~ t | x", frame).fit(learners="constant", folds=2, rng=0, progress=False)
    assert result.effect_inference(frame).stderr == pytest.approx(np.full(N, result.bse["t"]))


def test_the_rows_of_the_fit_are_held_out(plain):
    result = plain.result_
    np.testing.assert_allclose(result.effect(T0=0, T1=2), 2 * result.theta()["t"])
    assert not np.allclose(result.effect(), plain.effect(X))
    np.testing.assert_allclose(result.marginal_effect(0), result.cate()["t"])


def test_results_ask_by_the_names_of_treatments():
    frame = pd.DataFrame({"y": Y, "t": T, "arm": ARM, "x": X[:, 0]})
    result = deepreg.structural("y ~ t * C(arm) | x", frame).fit(**FAST, progress=False)
    with pytest.raises(OptionError, match="say which are meant"):
        result.effect(frame)
    with pytest.raises(OptionError, match="'z' is no treatment"):
        result.effect(frame, T0={"z": 0}, T1={"z": 1})
    at, theta = frame.assign(arm="b"), result.theta(frame)
    found = result.effect(at, T0={"t": 0}, T1={"t": 1})
    np.testing.assert_allclose(found, theta["t"] + theta["t:C(arm)[T.b]"])
    np.testing.assert_allclose(result.effect(frame, T0={"t": 0, "arm": "b"}, T1={"t": 1, "arm": "b"}), found)
    columns = result.marginal_effect_inference({"t": 0}, frame)
    assert columns.axes[1] == ("T", ("t", "arm_b", "arm_c"))
    np.testing.assert_allclose(columns.point_estimate[:, 1], theta["C(arm)[T.b]"])
    assert result.const_marginal_effect(frame).shape == (N, 5)


def test_a_saved_result_has_the_effects_of_new_rows(plain, tmp_path):
    plain.result_.save(tmp_path / "fit")
    loaded, frame = deepreg.load(tmp_path / "fit"), pd.DataFrame(X, columns=["x0", "x1"])
    np.testing.assert_array_equal(loaded.effect_interval(frame), plain.effect_interval(X))
    with pytest.raises(NotAvailable, match="rows of the fit"):
        loaded.effect()


def test_inference_none_gives_points():
    fitted = model().fit(Y, T, X, inference=None)
    assert fitted.effect(X).shape == (N,) and np.isfinite(fitted.ate())
    for ask in (lambda: fitted.effect_interval(X), lambda: fitted.ate_inference(), lambda: fitted.ate_interval(X)):
        with pytest.raises(NotAvailable, match="inference=None"):
            ask()


@pytest.mark.parametrize("wrong", ["bayes", 3, ["auto"]])
def test_unknown_inference_lists_what_there_is(wrong):
    with pytest.raises(OptionError, match="'auto', 'posterior'"):
        model().fit(Y, T, X, inference=wrong)


def test_intervals_narrow_as_alpha_grows(plain):
    widths = []
    for alpha in (0.01, 0.05, 0.1, 0.5):
        for low, high in (plain.effect_interval(X, alpha=alpha), plain.ate_interval(alpha=alpha)):
            widths.append(np.mean(high - low))
    assert (np.diff(widths[::2]) < 0).all() and (np.diff(widths[1::2]) < 0).all()
    for wrong in (-0.1, 1.1, "5%"):
        for ask in (plain.effect_interval, plain.ate_interval, plain.const_marginal_effect_interval):
            with pytest.raises(OptionError, match="alpha="):
                ask(X, alpha=wrong)


def test_an_inference_scales_and_moves(plain):
    found = plain.effect_inference(X)
    other = found.scale(-2).translate(3)
    np.testing.assert_allclose(other.point_estimate, 3 - 2 * found.point_estimate)
    np.testing.assert_allclose(other.stderr, 2 * found.stderr)
    np.testing.assert_allclose(other.conf_int(0.1)[0], 3 - 2 * found.conf_int(0.1)[1])
    np.testing.assert_allclose(found.zstat(1), (found.point_estimate - 1) / found.stderr)
    assert found.pvalue(found.point_estimate.mean()).max() <= 1 and np.allclose(other.pvalue(3), found.pvalue())
    low, high = found.conf_int(0.05)
    np.testing.assert_allclose((high - low) / 2, 1.959964 * found.stderr, rtol=1e-6)


def test_the_summary_of_rows(plain):
    found = plain.effect_inference(X)
    summary = found.population_summary()
    assert summary.mean_point == pytest.approx(found.point_estimate.mean())
    assert summary.stderr_mean == pytest.approx(found.stderr.mean())
    assert summary.std_point == pytest.approx(found.point_estimate.std())
    assert summary.stderr_point**2 == pytest.approx(found.point_estimate.var() + (found.stderr**2).mean())
    assert summary.percentile_point(0.2)[0] == pytest.approx(np.quantile(found.point_estimate, 0.1))
    assert summary.conf_int_point(0.1)[1] - summary.mean_point == pytest.approx(1.6448536 * summary.stderr_point)
    np.testing.assert_array_equal(summary.conf_int_mean(), summary.mean.conf_int())
    assert list(summary.summary_frame().columns) == list(found.summary_frame().columns)
    with pytest.raises(NotAvailable, match="an average already"):
        summary.mean.population_summary()
    assert plain.ate(X) == pytest.approx(summary.mean_point)


def test_an_inference_is_on_its_own(plain):
    fitted = copy.deepcopy(plain)
    found = fitted.effect_inference(X)
    before, again = found.point_estimate.copy(), pickle.loads(pickle.dumps(found))
    fitted.fit(Y + 100 * T, T, X)
    np.testing.assert_array_equal(found.point_estimate, before)
    np.testing.assert_array_equal(again.conf_int(), found.conf_int())
    assert isinstance(again, Inference)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(plain)).effect_interval(X), plain.effect_interval(X))


# ---- replicates


@pytest.fixture(scope="module")
def halved():
    return model(assignment=LAW).fit(Y, T, X, inference=BootstrapInference(n_bootstrap_samples=9))


def test_replicates_of_a_constant_have_the_robust_error():
    result = model(learners="constant", assignment=LAW)
    found = result.fit(Y, T, X, inference=BootstrapInference(n_bootstrap_samples=400)).effect_inference(X[:1], T1=2)
    assert len(result.replicates_.fitted.coordinates.start) == 400 == len(found.draws)
    robust = 2 * deepreg.structural("y ~ t", {"y": Y, "t": T}).fit().bse["t"]
    assert found.stderr[0] == pytest.approx(robust, rel=0.2)


def test_replicates_are_halves_of_all_rows_and_repeat(halved):
    found, plain = halved.effect_inference(X), model(assignment=LAW).fit(Y, T, X)
    np.testing.assert_array_equal(found.point_estimate, plain.effect(X))
    np.testing.assert_allclose(found.stderr, found.draws.std(0, ddof=1))
    assert found.draws.shape == (10, N) and (found.stderr > 0).all()
    again = model(assignment=LAW).fit(Y, T, X, inference=BootstrapInference(n_bootstrap_samples=10))
    np.testing.assert_array_equal(again.effect_interval(X), halved.effect_interval(X))
    few = halved.marginal_effect_inference(0.0, X[3:5])
    np.testing.assert_allclose(few.draws, found.draws[:, 3:5], rtol=1e-6)
    np.testing.assert_array_equal(halved.ate_interval(), plain.ate_interval())
    spread = found.scale(-2).translate(1)
    np.testing.assert_allclose(spread.draws, 1 - 2 * found.draws)
    summary = found.population_summary()
    assert summary.stderr_mean == pytest.approx(found.draws.mean(1).std(ddof=1)) and summary.stderr_mean > 0


def test_intervals_of_replicates_by_each_method(halved):
    found = halved.effect_inference(X)
    ends = {}
    for method in METHODS:
        halved.inference_ = BootstrapInference(10, method)
        ends[method] = halved.effect_interval(X, alpha=0.2)
    low, high = np.quantile(found.draws, [0.1, 0.9], axis=0)
    np.testing.assert_allclose(ends["percentile"], (low, high))
    np.testing.assert_allclose(ends["pivot"], (2 * found.point_estimate - high, 2 * found.point_estimate - low))
    np.testing.assert_allclose(ends["normal"][1], found.point_estimate + 1.2815516 * found.stderr, rtol=1e-5)


def test_replicates_of_levels_and_of_the_mean_of_a_family():
    bootstrap = BootstrapInference(n_bootstrap_samples=4)
    levels = model(hessian="regressed", folds=3).fit(np.stack([Y3, Y], 1), ARM, X, inference=bootstrap)
    found = levels.const_marginal_effect_inference(X[:5])
    assert found.draws.shape == (4, 5, 2, 2) and found.conf_int()[0].shape == (5, 2, 2)
    bought = model(family="logit").fit((Y > 1) * 1, 2 * X[:, 0] + T, X, inference=bootstrap)
    found = bought.effect_inference(X, T0=0, T1=2)
    assert np.abs(found.draws).max() <= 1 and np.abs(found.draws.mean(0) - found.point_estimate).mean() < 0.15


def test_replicates_need_features_and_a_number():
    with pytest.raises(OptionError, match="without them errors are those of averages"):
        model().fit(Y, T, inference="bootstrap")
    for wrong in ({"n_bootstrap_samples": 1}, {"n_bootstrap_samples": 2.5}, {"method": "bca"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            BootstrapInference(**wrong)


# ---- averages


def test_averages_are_those_of_the_population(plain, curved, arms):
    for fitted, target in (
        (plain, deepreg.targets.Contrast({"t": 2.0}, {"t": -1.0})),
        (curved, deepreg.targets.Contrast({"t": 2.0}, {"t": -1.0})),
    ):
        found, expected = fitted.ate_inference(T0=-1, T1=2), fitted.result_.estimate(target)
        assert found.mean_point == pytest.approx(expected.value[0], rel=1e-12)
        assert found.stderr_mean == pytest.approx(expected.std_error[0], rel=1e-12)
        assert found.stderr_mean < fitted.result_.effect_inference(T0=-1, T1=2).population_summary().stderr_mean
    found = arms.marginal_ate_inference("a")
    np.testing.assert_allclose(found.mean_point, arms.result_.ate().value)
    np.testing.assert_allclose(found.stderr_mean, arms.result_.ate().std_error)
    np.testing.assert_allclose(found.mean_point, arms.const_marginal_ate_inference().mean_point)


def test_the_treatment_as_it_was_is_observed(curved):
    rule = (X[:, 0] > 0) * 1.0
    lift = curved.result_.estimate(deepreg.targets.PolicyDifference(rule, "observed"))
    found = curved.ate_inference(T0=T, T1=rule)
    assert found.mean_point == pytest.approx(lift.value[0]) and found.stderr == pytest.approx(lift.std_error[0])
    ame = curved.result_.estimate("ame")
    found = curved.marginal_ate_inference(T)
    assert found.mean_point == pytest.approx(ame.value[0]) and found.stderr == pytest.approx(ame.std_error[0])
    expected = 0.5 * (np.mean(rule) - np.mean(T**2)) + np.mean(X[:, 0] * (rule - T))
    assert curved.ate(T0=T, T1=rule) == pytest.approx(expected, abs=0.15)
    low, high = curved.marginal_ate_interval(1.0, alpha=0.02)
    assert low < 1 + X[:, 0].mean() < high and high - low < 0.6
    assert curved.ate(T0=T, T1=T) == 0


# ---- errors


def test_bad_arrays_are_refused(plain):
    for arguments, said in (
        ((Y, T, np.where(X > 2, np.nan, X)), "X has missing or infinite values"),
        ((np.where(Y > 2, np.inf, Y), T, X), "Y has missing or infinite values"),
        ((Y, np.where(T > 2, np.nan, T), X), "T has missing or infinite values"),
        ((Y, T, X[:5]), "rows"),
        ((Y[:5], T, X), "rows"),
        ((Y, T, X[:, 0]), "rows and columns"),
        ((Y, T, X, W[:, 0]), "rows and columns"),
        ((Y, T, X[None]), "shape"),
        ((Y, T, [[1, 2], [3]]), "no array"),
    ):
        with pytest.raises(DataError, match=said):
            model().fit(*arguments)
    for rows, said in (
        (X[:, 0], "rows and columns"),
        (X[:, :1], "1 columns"),
        (np.where(X > 2, np.nan, X), "missing or infinite"),
        (np.where(X > 2, np.inf, X), "missing or infinite"),
    ):
        with pytest.raises(DataError, match=said):
            plain.effect(rows)
    with pytest.raises(DataError, match="sample_weight must be positive"):
        model().fit(Y, T, X, sample_weight=Y)


def test_before_the_fit_there_is_nothing():
    for ask in (lambda m: m.effect(X), lambda m: m.ate(), lambda m: m.const_marginal_effect(X),
                lambda m: m.cate_treatment_names()):  # fmt: skip
        with pytest.raises(NotFittedError, match="fit"):
            ask(model())


@pytest.mark.parametrize("wrong", [{"discrete_treatment": "yes"}, {"categories": "abc"}, {"categories": ["a"]}])
def test_options_are_checked(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        model(**wrong).fit(Y, T, X)


def test_columns_are_matched_by_name():
    frame = pd.DataFrame(X, columns=["age", "past sales"])
    fitted = model().fit(Y, T, frame)
    expected = fitted.effect(frame)
    np.testing.assert_array_equal(fitted.effect(frame[["past sales", "age"]]), expected)
    np.testing.assert_array_equal(fitted.effect(X), expected)
    for odd in (frame.rename(columns={"age": "AGE"}), frame[["age"]], frame.assign(more=1)):
        with pytest.raises(DataError, match="columns of the fit"):
            fitted.effect(odd)
    with pytest.raises(DataError, match="both have a column 'age'"):
        model().fit(Y, T, frame, frame[["age"]])
    with pytest.raises(DataError, match="another index"):
        model().fit(pd.Series(Y), T, frame.set_index(np.arange(N)[::-1]))
    with pytest.raises(DataError, match="not strings"):
        model().fit(Y, T, pd.DataFrame(X))


def test_all_kinds_of_arrays_agree_and_none_is_changed(plain):
    frame, more = pd.DataFrame(X, columns=["x0", "x1"]), pd.DataFrame({"t": T})
    before = [Y.copy(), T.copy(), X.copy(), frame.copy()]
    expected = plain.effect_interval(X, T0=T)
    for y, t, x in (
        (list(Y), list(T), X.tolist()),
        (pd.Series(Y), pd.Series(T, name="t"), frame),
        (polars.Series("y", Y), polars.Series("t", T), polars.from_pandas(frame)),
        (Y[:, None], more, frame),
    ):
        found = model().fit(y, t, x).effect_interval(x, T0=t)
        np.testing.assert_allclose(np.reshape(found, (2, N)), expected, rtol=1e-12)
    for now, then in zip([Y, T, X, frame], before, strict=True):
        np.testing.assert_array_equal(now, then)
    labelled = frame.set_axis([f"row {i}" for i in range(N)])
    fitted = model().fit(Y, T, labelled)
    assert list(fitted.effect_inference(labelled[:2]).summary_frame().index) == ["row 0", "row 1"]
    assert fitted.result_.cate().index.equals(labelled.index)


# ---- the fit


def test_a_seed_repeats_and_global_generators_stay(plain):
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    again = model().fit(Y, T, X)
    np.testing.assert_array_equal(again.effect_interval(X), plain.effect_interval(X))
    np.testing.assert_array_equal(again.ate_interval(), plain.ate_interval())
    assert not np.array_equal(model(rng=1).fit(Y, T, X).effect(X), plain.effect(X))
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_weights_and_groups_reach_the_fit(plain):
    np.testing.assert_allclose(
        model().fit(Y, T, X, sample_weight=np.ones(N)).effect_interval(X), plain.effect_interval(X), rtol=1e-6
    )
    weight, group = RNG.uniform(0.5, 2, N), np.arange(N) // 5
    fitted = model().fit(Y, T, X, sample_weight=weight, groups=group)
    assert fitted.result_.cov_type == "cluster" and fitted.result_.design.groups == (N // 5,)
    np.testing.assert_allclose(fitted.result_.design.weight, weight)
    assert fitted.ate() != plain.ate()


def test_it_is_an_estimator_of_scikit_learn(plain):
    fresh = model(treatment_featurizer="t")
    assert clone(fresh).get_params()["treatment_featurizer"] == "t"
    assert fresh.fit(Y, T, X) is fresh
    assert fresh.set_params(folds=3).get_params()["folds"] == 3
