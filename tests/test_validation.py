"""result.heterogeneity: the diagnostics on the scores, effects, folds, weights and clusters of a fit."""

import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg import heterogeneity as het
from deepreg.errors import DataError, DeepregWarning, FormulaError, NotAvailable, OptionError
from deepreg.results import Results

QUICK = {"folds": 2, "learners": "smooth", "rng": 0, "progress": False}
N = 300
RNG = np.random.default_rng(0)
DATA = pd.DataFrame({"x": RNG.normal(size=N), "g": RNG.choice(list("uv"), N), "arm": RNG.choice(list("abc"), N)})
DATA["t"] = RNG.normal(size=N) + 0.3 * DATA.x
DATA["w"] = RNG.uniform(0.5, 2, N)
DATA["firm"] = np.arange(N) // 3
DATA["y"] = DATA.x + (1 + DATA.x) * DATA.t + (DATA.arm == "b") * DATA.x + RNG.normal(size=N)
DATA["z"] = DATA.y + RNG.normal(size=N)
DATA["b"] = (DATA.y > 0).astype(int)
DATA.index = [f"row {i}" for i in range(N)]


def fit(formula: str = "y ~ t | x + g", data: pd.DataFrame = DATA, **options: object) -> Results:
    known = ("weights", "cluster", "family", "vcov")
    model = {name: value for name, value in options.items() if name in known}
    rest = {name: value for name, value in options.items() if name not in known}
    return deepreg.structural(formula, data, **model).fit(**(QUICK | rest))


@pytest.fixture(scope="module")
def clustered():
    return fit(weights="w", cluster="firm")


@pytest.fixture(scope="module")
def plain():
    return fit()


def test_scores_effects_weights_clusters_and_folds_are_those_of_the_fit(clustered) -> None:
    score = clustered.average_effect().psi[0, :, 0].numpy()
    effect = clustered.cate().iloc[:, 0].to_numpy()
    fold = clustered.splits.fold[0].numpy()
    found = clustered.heterogeneity
    how = {"weights": DATA.w.to_numpy(), "cluster": DATA.firm.to_numpy()}
    for got, want in (
        (found.rate(target="QINI"), het.rate(score, effect, target="QINI", **how)),
        (found.toc(share=[0.3, 1]), het.toc(score, effect, share=[0.3, 1], **how)),
        (found.gain(share=[0.3, 1]), het.gain(score, effect, share=[0.3, 1], **how)),
        (found.gates(groups=3), het.gates(score, effect, 3, folds=fold, **how)),
        (found.calibration(groups=3), het.calibration(score, effect, folds=fold, groups=3, **how)),
        (found.projection("x"), het.projection(score, DATA.x.to_numpy(), **how)),
    ):
        np.testing.assert_allclose(got.frame().to_numpy(), want.frame().to_numpy(), rtol=1e-9, atol=1e-12)
    columns = np.c_[DATA.x, DATA.g == "v"]
    test, want = found.test(), het.heterogeneity_test(score, effect, fold, covariates=columns, **how)
    np.testing.assert_allclose(test.frame().iloc[:, :4], want.frame().iloc[:, :4], rtol=1e-9)
    clan = het.clan(np.c_[DATA.x, DATA.g == "u", DATA.g == "v"], effect, 5, folds=fold, **how)
    np.testing.assert_allclose(found.clan().frame(), clan.frame(), rtol=1e-9, atol=1e-12)
    assert list(found.clan().estimate.index) == ["x", "g[u]", "g[v]"]
    assert list(found.projection().estimate.index) == ["Intercept", "g[T.v]", "x"]
    assert found.folds["repeat 1"].tolist() == fold.tolist() and found.folds.index.equals(DATA.index)


def test_the_covariance_is_that_of_the_result(clustered) -> None:
    robust = clustered.vcov("HC0").heterogeneity.rate()
    score, effect = clustered.average_effect().psi[0, :, 0].numpy(), clustered.cate().iloc[:, 0].to_numpy()
    want = het.rate(score, effect, weights=DATA.w.to_numpy())
    np.testing.assert_allclose(robust.std_error, want.std_error * ((N - 1) / N) ** 0.5, rtol=1e-9)
    line = clustered.vcov("robust").heterogeneity.projection("x")
    unclustered = het.projection(score, DATA.x.to_numpy(), weights=DATA.w.to_numpy(), vcov="HC3")
    np.testing.assert_allclose(line.std_error, unclustered.std_error, rtol=1e-9)


def test_predicted_effects_are_functions_of_the_features_alone() -> None:
    """The derivative at the row's own treatment is not; the mean over the law of the treatment is."""
    result = fit("b ~ t | x", family="logit")
    score = result.scores.effects(deepreg.targets.AME("t").bind(result.design))[0, :, 0].numpy()
    order = DATA.x.argsort().to_numpy()
    fold = result.splits.fold[0].numpy()[order]
    for k in range(2):
        rough, smooth = (np.abs(np.diff(v[order][fold == k], 2)).sum() for v in (result.cate().t.to_numpy(), score))
        assert smooth < 0.2 * rough
    nodes, (a, b) = result.scores.nodes, result.scores.theta[0].numpy().T
    p = 1 / (1 + np.exp(-a[:, None] - b[:, None] * nodes.values["t"][0]))
    np.testing.assert_allclose(score, (nodes.weight[0].numpy() * p * (1 - p)).sum(1) * b, atol=1e-7)


def test_over_repeats_values_are_medians() -> None:
    result = fit("y ~ t | x", repeats=3)
    psi, fold = result.average_effect().psi[..., 0].numpy(), result.splits.fold.numpy()
    effect = result.scores.effects(deepreg.targets.AME("t").bind(result.design))[..., 0].numpy()
    found = result.heterogeneity
    each = [het.rate(psi[r], effect[r]) for r in range(3)]
    value = np.median([one.estimate.item() for one in each])
    assert found.rate().estimate.item() == pytest.approx(value, rel=1e-12)
    variance = np.median([one.std_error.item() ** 2 + (one.estimate.item() - value) ** 2 for one in each])
    assert found.rate().std_error.item() == pytest.approx(variance**0.5, rel=1e-9)
    tests = [het.heterogeneity_test(psi[r], effect[r], fold[r]).statistic for r in range(3)]
    assert found.test().statistic == pytest.approx(np.median(tests), rel=1e-9)
    slopes = [het.calibration(psi[r], effect[r], folds=fold[r]) for r in range(3)]
    assert found.calibration().estimate["slope"] == pytest.approx(np.median([s.estimate["slope"] for s in slopes]))
    assert found.calibration().groups.predicted[0] == pytest.approx(np.mean([s.groups.predicted[0] for s in slopes]))
    assert found.clan().frame().shape == (1, 8) and found.folds.shape == (N, 3)


def test_one_of_several_effects_goes_by_its_name() -> None:
    result = fit("y ~ C(arm) | x")
    arms = result.heterogeneity
    with pytest.raises(OptionError, match=r"'arm\[b\]', 'arm\[c\]'"):
        arms.rate()
    for name in ("arm[b]", "arm[c]"):
        want = het.rate(result.average_effect(name).psi[0], result.cate()[name].to_numpy())
        np.testing.assert_allclose(arms.rate(name).frame(), want.frame(), rtol=1e-9)
    both = fit("y + z ~ t | x").heterogeneity
    assert list(both.rate().estimate.index) == ["AUTOC: AME t, y", "AUTOC: AME t, z"]
    with pytest.raises(OptionError, match="'AME t, y', 'AME t, z'"):
        both.gates()
    one = both.gates("AME t, z")
    assert one.average == pytest.approx(fit("y + z ~ t | x").estimate("ame").value[1])
    assert both.rate("AME t, z").estimate.item() == pytest.approx(both.rate().estimate.iloc[1])


def test_priorities_that_cannot_be_trusted_are_refused_or_warn(plain) -> None:
    found = plain.heterogeneity
    with pytest.raises(OptionError, match="functions that saw them"):
        found.rate(priority=plain.cate(DATA).t)
    own = found.rate(priority=plain.cate().t)
    np.testing.assert_allclose(own.estimate, found.rate().estimate)
    assert not own.notes and "heterogeneity.test()" in str(found.rate())
    shuffled = DATA.x.sample(frac=1, random_state=0)  # a Series is matched by its index
    np.testing.assert_allclose(found.rate(priority=shuffled).estimate, found.rate(priority=DATA.x).estimate)
    with pytest.warns(DeepregWarning, match="with the treatment given the features"):
        found.toc(priority=DATA.t, share=[0.5, 1])
    arms = fit("y ~ C(arm) | x").heterogeneity
    with pytest.warns(DeepregWarning, match="with the treatment given the features"):
        arms.rate("arm[b]", priority=(DATA.arm == "b") * 1.0 - (DATA.arm == "c") + DATA.x / 10)
    arms.rate("arm[b]", priority=DATA.x)
    level = pd.Series(np.where(DATA.x > 0, "high", "low"), DATA.index)
    by = found.gates(groups=level.sample(frac=1, random_state=0))
    np.testing.assert_allclose(by.estimate, plain.average_effect().by(level)["coef"], rtol=1e-9)
    with pytest.raises(OptionError, match="sequential has another index"):
        found.test(sequential=pd.Series(DATA.x.to_numpy()))
    with pytest.raises(OptionError, match="priority has 299 numbers"):
        found.rate(priority=DATA.x.to_numpy()[1:])
    with pytest.raises(DataError, match="missing or infinite values in 1 of 300"):
        found.rate(priority=np.where(np.arange(N) == 3, np.inf, DATA.x))


def test_formulas_of_projections_are_read_as_regressions(plain) -> None:
    found = plain.heterogeneity.projection("x + I(x**2)", vcov="HC1")
    want = plain.average_effect().project(np.c_[np.ones(N), DATA.x, DATA.x**2], ["Intercept", "x", "I(x ** 2)"])
    np.testing.assert_allclose(found.estimate, want.value, rtol=1e-9)
    np.testing.assert_allclose(found.std_error, want.std_error, rtol=1e-9)
    for formula, error, says in (
        ("y ~ x", OptionError, "the right side"),
        (3, OptionError, "the right side"),
        ("0 + x", OptionError, "an intercept"),
        ("1", OptionError, "an intercept"),
        ("age", DataError, "no such column"),
        ("x +", FormulaError, "cannot be read"),
    ):
        with pytest.raises(error, match=says):
            plain.heterogeneity.projection(formula)


def test_few_rows_that_hold_the_variance_are_named() -> None:
    wild = DATA.assign(y=DATA.y + 1e3 * (np.arange(N) == 5) * DATA.t)
    assert "1% of the rows hold" in str(fit("y ~ t | x", wild).heterogeneity.rate())
    assert "1% of the rows" not in str(fit("y ~ t | x").heterogeneity.rate())


def test_a_sequential_test_by_refits(plain) -> None:
    fold = plain.heterogeneity.folds["repeat 1"]

    def learn(known: np.ndarray, new: np.ndarray) -> pd.Series:
        return fit(data=DATA.iloc[known]).cate(DATA.iloc[new]).t

    ahead = het.sequential_priority(learn, fold)
    table = plain.heterogeneity.test(sequential=ahead).frame()
    assert table.loc["AUTOC of later folds", "statistic"] > 3 and table.shape == (5, 6)


def test_without_differences_or_rows_there_is_nothing_to_check(plain, tmp_path) -> None:
    constant = deepreg.structural("y ~ t", DATA).fit().heterogeneity
    plain.save(tmp_path / "a")
    plain.save(tmp_path / "b", data=True)
    left = deepreg.load(tmp_path / "a").heterogeneity
    for method in ("rate", "toc", "gain", "gates", "calibration", "clan", "projection", "test"):
        with pytest.raises(NotAvailable, match="no differences between effects"):
            getattr(constant, method)()
        with pytest.raises(NotAvailable, match="which were not saved"):
            getattr(left, method)()
    with pytest.raises(NotAvailable, match="Fit again"):
        _ = left.folds
    again = deepreg.load(tmp_path / "b").heterogeneity
    np.testing.assert_allclose(
        again.test().frame().iloc[:, 0], plain.heterogeneity.test().frame().iloc[:, 0], rtol=1e-9
    )
    with pytest.raises(NotAvailable, match="law of the treatment"):
        fit("y ~ t | x", hessian="regressed", folds=3).heterogeneity.rate()
