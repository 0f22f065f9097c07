"""Combinatorial experiments: links, laws of several treatments, effects of all combinations, and the best of them."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import least_squares
from scipy.special import expit

import deepreg
from deepreg import KnownLaw, best_combination, influence, targets
from deepreg.errors import DataError, OptionError
from deepreg.estimates import Estimates
from deepreg.families import Combinatorial
from deepreg.sampling import Sampling
from deepreg.targets import ATE, Combinations

FAST = {"learners": ("smooth",), "folds": 2, "rng": 0, "progress": False}
LINKS = ("multiplicative", "sigmoid", "gen_sigmoid_i", "gen_sigmoid_ii")
TREATED = ("t1", "t2", "t3")
FORMULA = "y ~ t1 + t2 + t3"
EVEN = KnownLaw(probability=dict.fromkeys(TREATED, 0.5))
RUN = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0))  # m + 2 of the 2^m combinations


def family(link: str) -> Combinatorial:
    return Combinatorial(link, 8.0, 1.0) if link == "sigmoid" else Combinatorial(link)


def mean(link: str, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """theta (n, P) with the level or the intercept first and the scale last; t (n, 3)."""
    index = (theta[:, 1:4] * t).sum(1)
    return {
        "multiplicative": lambda: theta[:, 0] * (1 + theta[:, 1:4] * t).prod(1),
        "sigmoid": lambda: 1 + 8 * expit(theta[:, 0] + index),
        "gen_sigmoid_i": lambda: theta[:, 0] * expit(index),
        "gen_sigmoid_ii": lambda: theta[:, 4] * expit(theta[:, 0] + index),
    }[link]()


def theta(link: str, x: np.ndarray) -> np.ndarray:
    slopes = np.array([0.9, -0.7, 0.6]) * (1 + 0.3 * x[:, None])
    first = {"multiplicative": 4 + x, "sigmoid": 0.5 * x, "gen_sigmoid_i": 8 + x, "gen_sigmoid_ii": 0.3 + 0.3 * x}[link]
    size = {"multiplicative": 0.5, "sigmoid": 1.5, "gen_sigmoid_i": 1.5, "gen_sigmoid_ii": 1.8}[link]
    return np.c_[first, size * slopes, 9 + x]


def data(link: str, n: int, seed: int = 0, run: tuple[tuple[int, ...], ...] = (), noise: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, n)
    t = np.array(run)[rng.integers(len(run), size=n)] if run else rng.integers(0, 2, (n, 3))
    y = mean(link, theta(link, x), t) + noise * rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, **{name: t[:, j] for j, name in enumerate(TREATED)}})


def truth(link: str) -> pd.Series:
    """The average effect of every combination, by quadrature over the uniform x."""
    node, weight = np.polynomial.legendre.leggauss(40)
    levels = {
        t: weight @ mean(link, theta(link, node), np.tile(t, (40, 1))) / 2 for t in itertools.product((0, 1), repeat=3)
    }
    named = {"ATE " + ", ".join(f"{n}=1" for n, v in zip(TREATED, t, strict=True) if v) + " vs 0": t for t in levels}
    return pd.Series({name: levels[t] - levels[0, 0, 0] for name, t in named.items() if any(t)})


@pytest.mark.parametrize("link", LINKS)
def test_constant_coefficients_are_those_of_least_squares(link: str) -> None:
    frame = data(link, 400)
    t, y = frame[list(TREATED)].to_numpy(), frame.y.to_numpy()
    size = 5 if link == "gen_sigmoid_ii" else 4
    start = theta(link, np.zeros(1))[0, :size]

    def residual(at: np.ndarray) -> np.ndarray:
        return y - mean(link, np.tile(np.r_[at, 0], (400, 1)), t)

    fit = least_squares(residual, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    ours = deepreg.structural(FORMULA, frame, family(link), vcov="HC0").fit()
    names = ["scale" if link == "gen_sigmoid_i" else "Intercept", *TREATED, *(["scale"] if size == 5 else [])]
    assert list(ours.params.index) == names
    np.testing.assert_allclose(ours.params, fit.x, rtol=1e-5)

    # sandwich with the Hessian of half the squares, by differences of the gradient
    def scores(at: np.ndarray) -> np.ndarray:
        steps = 1e-5 * np.eye(size)
        return np.stack([(residual(at + s) ** 2 - residual(at - s) ** 2) / 4e-5 for s in steps], 1)

    bend = np.stack([(scores(fit.x + s) - scores(fit.x - s)).sum(0) / 2e-3 for s in 1e-3 * np.eye(size)])
    inverse = np.linalg.inv(bend)
    meat = scores(fit.x).T @ scores(fit.x)
    np.testing.assert_allclose(ours.bse, np.sqrt(np.diag(inverse @ meat @ inverse)), rtol=1e-3)
    np.testing.assert_allclose(ours.rsquared, 1 - (residual(fit.x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    np.testing.assert_allclose(ours.llf, -200 * (np.log(2 * np.pi * (residual(fit.x) ** 2).mean()) + 1))


@pytest.mark.parametrize("link", LINKS)
def test_all_effects_lie_in_the_joint_band(link: str) -> None:
    res = deepreg.structural(FORMULA + " | x", data(link, 2000, 3), family(link), assignment=EVEN).fit(**FAST)
    found, expected = res.estimate(Combinations()), truth(link)
    assert set(found.names) == set(expected.index) and found.names[0] == "ATE t1=1 vs 0"
    assert found.names[-1] == "ATE t1=1, t2=1, t3=1 vs 0"
    band, true = found.band(0.01, rng=0), expected[list(found.names)]
    assert ((band.lower < true) & (true < band.upper)).all()
    assert (found.std_error < 0.12).all()
    loss = dict(res.facts.diagnostics)
    assert float(loss["Loss, theta(x):"]) < 0.97 * float(loss["Loss, homogeneous:"])


def test_combinations_that_were_never_run_follow_from_the_link() -> None:
    law = KnownLaw(probability=dict.fromkeys(RUN, 0.2))
    frame = data("multiplicative", 2000, 1, RUN)
    res = deepreg.structural(FORMULA + " | x", frame, Combinatorial(), assignment=law).fit(**FAST)
    assert res.scores.nodes.weight.shape[2] == 5  # the law is that over what was run
    found, expected = res.estimate(Combinations()), truth("multiplicative")
    assert len(found.names) == 7
    assert (np.abs(found.value - expected[list(found.names)]) < 3.5 * found.std_error).all()
    assert (found.std_error < 0.25).all()
    learned = deepreg.structural(FORMULA + " | x", frame, Combinatorial()).fit(**FAST).estimate(Combinations())
    assert (np.abs(found.value - learned.value) < found.std_error).all()
    few = frame[(frame.t1 == 0) | (frame.t2 == 0)]
    with pytest.raises(DataError, match="has 5 parameters for 'y', but the rows used hold 4 combinations"):
        deepreg.structural(FORMULA, few, Combinatorial("gen_sigmoid_ii"))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_units_of_the_outcome_do_not_matter(link: str, unit: float) -> None:
    frame = data(link, 300, 2)
    other = frame.assign(y=frame.y * unit)
    scaled = Combinatorial(link, 8 * unit, unit) if link == "sigmoid" else family(link)
    for formula, options in ((FORMULA, {}), (FORMULA + " | x", FAST)):
        known = {"assignment": EVEN} if options else {}
        one = deepreg.structural(formula, frame, family(link), **known).fit(**options)
        two = deepreg.structural(formula, other, scaled, **known).fit(**options)
        factor = pd.Series([unit if name == "scale" or (link == "multiplicative" and name == "Intercept") else 1.0
                            for name in one.params.index], one.params.index)  # fmt: skip
        np.testing.assert_allclose(two.params / factor, one.params, rtol=1e-6)
        np.testing.assert_allclose(two.bse / factor, one.bse, rtol=1e-5)
        asked = (Combinations(),) if options else (Combinations(at={"t1": 1, "t3": 1}),)
        np.testing.assert_allclose(two.estimate(*asked).value / unit, one.estimate(*asked).value, rtol=1e-6)


def test_controls_move_the_level_and_no_effect() -> None:
    frame = data("multiplicative", 300).assign(w=np.random.default_rng(9).normal(size=300))
    for link, moving in (("multiplicative", "Intercept"), ("gen_sigmoid_i", "scale")):
        res = deepreg.structural(FORMULA + " | x | w", frame, Combinatorial(link), assignment=EVEN).fit(**FAST)
        there = [res.theta(frame.assign(w=w)).head(20) for w in (-1.0, 1.0)]
        np.testing.assert_allclose(there[0][list(TREATED)], there[1][list(TREATED)], rtol=1e-9)
        assert res.structure.levels == (0,) and res.structure.names[0] == moving


@pytest.mark.parametrize("link", LINKS)
def test_the_information_is_that_of_gauss_and_newton(link: str) -> None:
    own = family(link)
    u = deepreg.structural(FORMULA, data(link, 50), own).design.units
    at = torch.tensor(theta(link, np.linspace(-1, 1, 50))[:, : len(own.names(("Intercept", *TREATED)))])
    _, hessian = own.derivatives(u._replace(y=own.mean(u, at)), at)  # without residuals the Hessian is the information
    np.testing.assert_allclose(own.information(u, at), hessian, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"link": "logit"}, r"link='logit'.*'multiplicative', 'sigmoid'"),
        ({"link": "sigmoid", "scale": 0.0}, "finite scale above 0"),
        ({"link": "sigmoid", "shift": float("inf")}, "finite shift"),
        ({"scale": 2.0}, "known range of link='sigmoid'"),
    ],
)
def test_options_that_make_no_sense(options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Combinatorial(**options)


def test_formulas_and_data_that_do_not_fit_the_family() -> None:
    frame = data("multiplicative", 100)
    for formula in ("y ~ 0 + t1 + t2", "y ~ 1"):
        with pytest.raises(DataError, match="needs an intercept and at least one term"):
            deepreg.structural(formula, frame, Combinatorial())
    rng = np.random.default_rng(0)
    t = rng.integers(0, 2, (800, 3))
    steep = pd.DataFrame(t, columns=list(TREATED)).assign(y=np.exp(t.sum(1) + 0.1) + 0.01 * rng.normal(size=800))
    with pytest.raises(DataError, match=r"the scale is not identified. Use Combinatorial\(link='multiplicative'\)"):
        deepreg.structural(FORMULA, steep, Combinatorial("gen_sigmoid_ii")).fit()
    np.testing.assert_allclose(
        deepreg.structural(FORMULA, steep, Combinatorial()).fit().params[1:], np.e - 1, rtol=1e-2
    )


# laws of several treatments


def nodes(law: KnownLaw, frame: pd.DataFrame, formula: str = "y ~ t1 + t2 | x") -> pd.Series:
    """The weight of each combination in the first row."""
    found = deepreg.structural(formula, frame, assignment=law).fit(**FAST).scores.nodes
    values = [found.values[name][0, 0] for name in found.values]
    return pd.Series(found.weight[0, 0].numpy(), pd.MultiIndex.from_arrays(values))


def test_independent_treatments_have_the_product_of_their_probabilities() -> None:
    frame = data("multiplicative", 200).assign(p=0.3)
    arms = np.random.default_rng(1).choice(["a", "b", "c"], 200)
    weight = nodes(
        KnownLaw(probability={"arm": {"a": 0.2, "c": 0.5, "b": 0.3}, "t2": "p"}), frame.assign(arm=arms),
        "y ~ t2 + arm | x",
    )  # fmt: skip
    assert weight[1, "c"] == pytest.approx(0.3 * 0.5) and weight[0, "a"] == pytest.approx(0.7 * 0.2)
    assert len(weight) == 6 and weight.sum() == pytest.approx(1)
    unseen = frame[(frame.t1 == 0) | (frame.t2 == 0)]  # by chance, or a small sample
    assert nodes(KnownLaw(probability={"t1": 0.5, "t2": 0.5}), unseen)[1, 1] == 0.25


def test_a_joint_law_is_that_of_the_combinations_it_names() -> None:
    frame = data("multiplicative", 200, run=((0, 0, 0), (1, 0, 1), (0, 1, 1))).assign(p=0.25)
    weight = nodes(KnownLaw(probability={(1, 0): "p", (0, 0): 0.5, (0, 1): 0.25}), frame)
    assert weight.to_dict() == {(1, 0): 0.25, (0, 0): 0.5, (0, 1): 0.25}


@pytest.mark.parametrize(
    ("probability", "error", "words"),
    [
        (0.5, OptionError, r"does not describe t1, t2.*\{'t1': 0.5, 't2': 0.5\}.*\{\(0, 0\): ..., ...\}"),
        ({"t1": 0.5}, OptionError, "does not describe t1, t2"),
        ({(0, 0): 0.5, (1, 1): 0.5}, DataError, "names 2 combinations, but .* rows have another, such as {'t1': "),
        ({(0, 0): 0.5, (2, 1): 0.5}, OptionError, "names 2 for 't1'"),
        ({(0, 0): 0.5, (0, 1): 0.5, (1, 0): 0.5, (1, 1): 0.5}, DataError, "not summing to 1"),
        ({"t1": 0.5, "t2": {0: 0.5, 1: {0: 0.5}}}, OptionError, "is no number and no column"),
        ({"t1": 0.5, "t2": {0: 0.5}}, OptionError, "names .0., but 't2' has levels"),
        ({"t1": 0.5, "t2": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_laws_that_do_not_fit_several_treatments(probability: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        nodes(KnownLaw(probability=probability), data("multiplicative", 100))


# effects of combinations


def test_combinations_are_sums_of_coefficients_in_a_linear_model() -> None:
    frame = data("multiplicative", 300).assign(arm=lambda f: np.where(f.t3 == 1, "on", "off"))
    ols = deepreg.structural("y ~ t1 * t2 + C(arm, Treatment('off'))", frame).fit()
    found = ols.estimate("combinations")
    assert found.names[0] == "ATE t1=1 vs base" and found.names[-1] == "ATE t1=1, t2=1, arm=on vs base"
    b = ols.params
    assert found.value[-1] == pytest.approx(b.t1 + b.t2 + b["t1:t2"] + b.filter(like="T.on").iloc[0])
    some = ols.estimate(Combinations(("t2",), at=[{"t2": 1}]))
    assert some.names == ("ATE t2=1 vs 0",) and some.value[0] == pytest.approx(ols.estimate(ATE("t2")).value[0])
    np.testing.assert_allclose(some.std_error, ols.estimate(ATE("t2")).std_error)


def test_the_others_stay_as_observed_and_equal_the_ate() -> None:
    res = deepreg.structural(FORMULA + " | x", data("multiplicative", 300), Combinatorial(), assignment=EVEN).fit(
        **FAST
    )
    one, same = res.estimate(Combinations(["t2"])), res.estimate(ATE("t2"))
    np.testing.assert_allclose(one.value, same.value)
    np.testing.assert_allclose(one.std_error, same.std_error)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lambda: Combinations("t1"), "give the names of treatments"),
        (lambda: Combinations(("t1", "x")), "'x'"),
        (lambda: Combinations(("t1", "t1")), "different treatments"),
        (lambda: Combinations(at=[{"t1": 3}]), "'t1' at 3 is no level"),
        (lambda: Combinations(at=[{"t9": 1}]), "'t9' at 1 is no level"),
        (lambda: Combinations(at=[{"t1": 0}]), "from the base"),
        (lambda: Combinations(at=[{"t1": 1}, {"t1": 1, "t2": 0}]), "from the others"),
        (lambda: Combinations(at=3), "list of mappings"),
    ],
)
def test_combinations_that_there_are_not(target: object, words: str) -> None:
    res = deepreg.structural(FORMULA, data("multiplicative", 100)).fit()
    with pytest.raises(OptionError, match=words):
        res.estimate(target())  # type: ignore[operator]


def test_many_combinations_have_to_be_named() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 2, (200, 11)), columns=[f"t{j}" for j in range(11)]).assign(
        y=rng.normal(size=200)
    )
    res = deepreg.structural("y ~ " + " + ".join(frame.columns[:11]), frame).fit()
    with pytest.raises(OptionError, match="have 2,048 combinations"):
        res.estimate("combinations")
    assert res.estimate(Combinations(at=[dict.fromkeys(frame.columns[:11], 1)])).value.shape == (1,)


def test_gradients_by_forward_and_by_backward_passes_are_the_same() -> None:
    at = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    h = torch.stack([at[:, 0].exp() * at[:, 1], at[:, 3], 0 * at[:, 2] + 1, at.prod(1), at.sum(1), at[:, 1].sin()], -1)
    found = influence._forward(h, at)
    assert found.shape == (30, 6, 4)
    np.testing.assert_allclose(found, influence.backward(h, at), rtol=1e-12, atol=1e-14)


def test_256_combinations_are_quick() -> None:
    rng = np.random.default_rng(0)
    names = [f"t{j}" for j in range(8)]
    t = rng.integers(0, 2, (400, 8))
    frame = pd.DataFrame(t, columns=names).assign(x=rng.normal(size=400))
    frame["y"] = 3 * (1 + t * np.linspace(-0.3, 0.4, 8)).prod(1) + rng.normal(size=400)
    law = KnownLaw(probability=dict.fromkeys(names, 0.5))
    res = deepreg.structural("y ~ " + " + ".join(names) + " | x", frame, Combinatorial(), assignment=law).fit(**FAST)
    res.estimate("coefficient")
    start = time.process_time()
    found = res.estimate(Combinations())
    best = best_combination(found)
    assert time.process_time() - start < 15  # one pass for each of the 255 effects would take minutes
    assert len(found.names) == 255 and best.name == found.names[int(found.value.argmax())]


# the best combination


def several(value: np.ndarray, correlation: float, n: int = 400, seed: int | None = None) -> Estimates:
    """With noise of variance 1, and with the given averages where there is no seed."""
    g = np.random.default_rng(0 if seed is None else seed)
    noise = np.sqrt(1 - correlation) * g.normal(size=(n, len(value))) + np.sqrt(correlation) * g.normal(size=(n, 1))
    noise = noise - noise.mean(0) if seed is None else noise
    psi = torch.tensor(noise + value)[None]
    return Estimates(tuple("abcdefgh"[: len(value)]), psi, Sampling(torch.ones(n), torch.zeros(n, 0).long(), "HC1"))


def test_the_best_is_the_largest_and_the_base_competes() -> None:
    up = best_combination(several(np.array([0.5, 0.48, -0.5]), 0.5))
    assert up.name in "ab" and set(up.rivals) == {"a", "b"} - {up.name} and "Not told from it" in str(up)
    assert list(up.table.index[-2:]) == ["base", "c"] and up.table.behind.iloc[0] == 0
    down = best_combination(several(np.array([-0.5, -0.9]), 0.0), base="nothing")
    assert down.name == "nothing" and down.rivals == () and down.coef == 0
    assert best_combination(several(np.array([-0.5, -0.9]), 0.0), smallest=True).name == "b"
    assert "base" not in best_combination(several(np.array([-0.5, -0.9]), 0.0), base=None).table.index


def test_two_alternatives_are_a_one_sided_test() -> None:
    from scipy import stats

    e = several(np.array([0.1, 0.0]), 0.3)
    pair = e.pairwise(None)
    best = best_combination(e, base=None, draws=200_000)
    assert best.table["P(best)"].iloc[1] == pytest.approx(stats.norm.sf(abs(pair.zvalues[0])), abs=0.003)
    assert best.table["P(best)"].iloc[0] == 1


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_set_holds_the_best_as_often_as_it_says(correlation: float) -> None:
    """With all equal, each of them is the best, and is left out in 5% of the draws."""
    held = [best_combination(several(np.zeros(5), correlation, seed=s), base=None, draws=999).table.loc["c", "in set"]
            for s in range(400)]  # fmt: skip
    assert 0.92 < np.mean(held) < 0.98


def test_what_cannot_be_compared_is_refused() -> None:
    e = several(np.array([0.1, 0.0]), 0.3)
    for given, base in ((e.select(["a"]), None), (e, "a")):
        with pytest.raises(OptionError, match="two or more with different names"):
            best_combination(given, base=base)
    psi = e.psi.clone()
    psi[..., 0] = float("nan")
    with pytest.raises(OptionError, match="a has no standard error"):
        best_combination(Estimates(e.names, psi, e.sampling))
    with pytest.raises(OptionError, match="alpha=2"):
        best_combination(e, alpha=2)


def test_a_fit_survives_its_file(tmp_path) -> None:
    res = deepreg.structural(FORMULA + " | x", data("gen_sigmoid_ii", 300), Combinatorial("gen_sigmoid_ii"),
                             assignment=EVEN).fit(**FAST)  # fmt: skip
    res.save(tmp_path / "fit.deepreg", targets="combinations")
    again = deepreg.load(tmp_path / "fit.deepreg")
    assert again.structure.family == Combinatorial("gen_sigmoid_ii")
    np.testing.assert_array_equal(again.estimate("combinations").value, res.estimate("combinations").value)
    assert "combinatorial" in str(again.summary())
    assert targets.names().count("combinations") == 1
