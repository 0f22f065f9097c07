"""Several instruments and several treatments: against two-stage least squares, and a truth that is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from linearmodels.iv import IV2SLS

import deepreg
from deepreg import targets
from deepreg.errors import DeepregWarning
from deepreg.results import Results
from deepreg.targets import LATE, IVEffect

FAST = {"learners": "smooth", "folds": 2, "rng": 0, "progress": False}


def sample(n: int = 1500, seed: int = 0, second: float = 1.0) -> pd.DataFrame:
    """Two confounded treatments with effects 1 + x / 2 and -0.5 + 0.3 x, and three instruments that are correlated."""
    rng = np.random.default_rng(seed)
    x, s, u, v = rng.uniform(-1, 1, n), rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    z1, common = rng.integers(0, 2, n), rng.normal(size=n)
    z2, z3 = common + 0.3 * z1 + rng.normal(size=n), common + 0.2 * s + rng.normal(size=n)
    t1 = (1.2 + 0.4 * x) * z1 + (0.4 - 0.2 * x) * z2 + 0.2 * z3 + u + 0.5 * s
    t2 = second * (0.3 * z1 + (0.6 + 0.3 * x) * z2 - 0.5 * z3) + v + 0.5 * u
    y = 1 + x + (1 + x / 2) * t1 + (-0.5 + 0.3 * x) * t2 + 2 * u - v + s + rng.normal(size=n)
    w = rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "t1": t1, "t2": t2, "z1": z1, "z2": z2, "z3": z3, "x": x, "s": s, "w": w}).assign(
        g=pd.cut(z2, [-np.inf, -0.5, 0.5, np.inf], labels=["a", "b", "c"]).astype(str), u=u
    )


DATA = sample()


@cache
def varying() -> Results:
    return deepreg.structural("y ~ [t1 + t2 ~ z1 + z2 + z3] | x", sample(2500, 1)).fit(**FAST)


# constant coefficients ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("instruments", ["z1 + z2", "z1 + z2 + z3", "z1 + C(g)"])
@pytest.mark.parametrize("treatments", ["t1", "t1 + t2"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_constant_coefficients_are_those_of_two_stage_least_squares(
    instruments: str, treatments: str, weights: str | None
) -> None:
    formula = f"y ~ [{treatments} ~ {instruments}] + s"
    ours = deepreg.structural(formula, DATA, vcov="HC0", weights=weights).fit().estimate("late")
    by_hand = instruments.replace("C(g)", "gb + gc")
    data = DATA.assign(gb=(DATA.g == "b") * 1.0, gc=(DATA.g == "c") * 1.0)
    ref = IV2SLS.from_formula(
        f"y ~ 1 + s + [{treatments} ~ {by_hand}]", data, weights=None if weights is None else DATA[weights]
    ).fit(cov_type="robust")
    names = treatments.split(" + ")
    assert list(ours.names) == [f"LATE {one}" for one in names]
    np.testing.assert_allclose(ours.value, ref.params[names], rtol=1e-8)
    exact = instruments == "z1 + z2" and treatments == "t1 + t2"
    # where the instruments do not agree to the last digit, the delta method also counts what moves their weights
    np.testing.assert_allclose(ours.std_error, ref.std_errors[names], rtol=1e-8 if exact else 0.05)


def test_the_first_stage_is_judged_jointly_and_given_the_other_treatments() -> None:
    result = deepreg.structural("y ~ [t1 ~ z1 + z2 + z3] + s", DATA, vcov="HC0").fit()
    first = smf.ols("t1 ~ z1 + z2 + z3 + s", DATA).fit(cov_type="HC0", use_t=False)
    joint = first.wald_test("z1 = 0, z2 = 0, z3 = 0", scalar=True).statistic / 3
    text = str(result.summary())
    assert f"{joint:.1f}" in text and "First-stage F:" in text and "z1, z2, z3 for t1" in text and "weak" not in text
    # Sanderson and Windmeijer: two-stage least squares of a treatment on the other, and its residual on the instruments
    both = deepreg.structural("y ~ [t1 + t2 ~ z1 + z2 + z3] + s", DATA, vcov="HC0").fit()
    text = " ".join(str(both.summary()).split())
    for one, other in (("t1", "t2"), ("t2", "t1")):
        share = IV2SLS.from_formula(f"{one} ~ 1 + s + [{other} ~ z1 + z2 + z3]", DATA).fit().params[other]
        left = smf.ols("left ~ z1 + z2 + z3 + s", DATA.assign(left=DATA[one] - share * DATA[other]))
        wald = left.fit(cov_type="HC0", use_t=False).wald_test("z1 = 0, z2 = 0, z3 = 0", scalar=True).statistic
        assert f"{wald / 2:.1f}" in text
    assert text.count("given the others:") == 2
    weak = " ".join(str(deepreg.structural("y ~ [t1 + t2 ~ z1 + z2]", sample(second=0.02)).fit().summary()).split())
    assert "The instruments are weak for t2" in weak
    few = " ".join(str(deepreg.structural("y ~ [u ~ z1 + z2]", DATA.assign(u=DATA.u * 1.0)).fit().summary()).split())
    assert "The instruments are weak: the F statistic of their average effect" in few


# functions ------------------------------------------------------------------------------------------------------------
def test_effects_that_vary_are_recovered() -> None:
    result = varying()
    found = result.estimate("late", IVEffect())
    assert list(found.names) == ["LATE t1", "LATE t2", "E[effect of t1 at x]", "E[effect of t2 at x]"]
    x = np.random.default_rng(0).uniform(-1, 1, 10**6)
    zero = 0 * x
    pi = np.stack(
        [np.stack([1.2 + 0.4 * x, 0.4 - 0.2 * x, 0.2 + zero]), np.stack([0.3 + zero, 0.6 + 0.3 * x, -0.5 + zero])]
    )
    beta = np.stack([1 + x / 2, -0.5 + 0.3 * x])
    gamma = (pi * beta[:, None]).sum(0).mean(1)
    spread, average = np.array(result.structure.instruments.spread), pi.mean(2)  # type: ignore[union-attr]
    moved = average @ spread
    late = np.linalg.solve(moved @ average.T, moved @ gamma)
    error = np.abs(found.value - [*late, 1.0, -0.5]) / found.std_error
    assert (error < 3.5).all() and (found.std_error < 0.2).all()


@pytest.mark.slow
def test_one_of_several_instruments_gives_what_two_do_where_both_are_right() -> None:
    data = sample(2000, 2)
    data = data.assign(rest=data.y - (-0.5 + 0.3 * data.x) * data.t2)
    formulas = ("rest ~ [t1 ~ z1] | x", "rest ~ [t1 ~ z1 + z2 + z3] | x")
    each = [deepreg.structural(formula, data).fit(**FAST).estimate(IVEffect()) for formula in formulas]
    assert all(abs(one.value[0] - 1) < 3.5 * one.std_error[0] for one in each)
    assert each[1].std_error[0] < each[0].std_error[0]  # more instruments say more


@pytest.mark.parametrize("target", [LATE(), IVEffect()], ids=["late", "iv_effect"])
def test_errors_in_theta_are_corrected(target: targets.Target) -> None:
    """The derivative of the estimate in theta vanishes where theta is right, and that of the plug-in does not."""
    result = varying()
    scores, data = result.scores, result.design.frame
    x = torch.tensor(data.x.to_numpy())
    names = result.structure.names
    size = 2 * torch.rand(len(names), generator=torch.Generator().manual_seed(3)) - 1
    bend = (0.5 + x)[:, None] * size
    bound = target.bind(result.design)
    estimate, plain = [], []
    for step in (0.02, -0.02):
        theta = scores.theta + step * bend  # type: ignore[union-attr]
        score = result.structure.family.derivatives(scores.u, theta)[0]  # type: ignore[union-attr]
        moved = replace(scores, theta=theta, score=score)  # type: ignore[type-var]
        psi, plug_in = moved.psi(bound)
        estimate.append(psi.mean(1)[0])
        plain.append(plug_in[0])
    before, after = (plain[0] - plain[1]).abs(), (estimate[0] - estimate[1]).abs()
    assert bool((before > 0.002).all()) and bool((after < 0.15 * before.max()).all())


def test_the_first_stages_have_to_move_the_treatments_apart() -> None:
    data = sample(1000).assign(t2=lambda d: d.x * (d.z1 + d.z2) + d.t2 - 0.6 * d.z2)
    result = deepreg.structural("y ~ [t1 + t2 ~ z1 + z2] | x", data).fit(**FAST)
    with pytest.warns(DeepregWarning, match=r"determinant of the first stages Pi\(x\) is near 0"):
        result.estimate(IVEffect())


def test_a_file_keeps_the_instruments(tmp_path) -> None:
    result = deepreg.structural("y ~ [t1 ~ z1 + s] | x", DATA[:400]).fit(**FAST)
    result.save(tmp_path / "fit")
    again = deepreg.load(tmp_path / "fit")
    assert str(again.summary()) == str(result.summary())
    np.testing.assert_array_equal(again.estimate("late").value, result.estimate("late").value)
    assert result.facts.call.code().splitlines()[1] == "    'y ~ [t1 ~ z1 + s] | x',"
