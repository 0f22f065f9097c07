"""Several outcomes, and instruments: against two-stage least squares, and a truth that is known."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from linearmodels.iv import IV2SLS

import deepreg
from deepreg import targets
from deepreg.errors import DataError, DeepregWarning, FormulaError, OptionError

FAST = {"learners": "smooth", "folds": 2, "rng": 0, "progress": False}


def sample(n: int = 1500, first: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """A confounded treatment whose effect 1 + x / 2 and whose first stage 0.8 + 0.15 x vary together."""
    rng = np.random.default_rng(seed)
    x, s, z, u = rng.uniform(-2, 2, n), rng.normal(size=n), rng.integers(0, 2, n), rng.normal(size=n)
    t = 0.3 + first * (0.8 + 0.15 * x) * z + u + 0.5 * rng.normal(size=n)
    y = 1 + x + (1 + x / 2) * t + 2 * u + rng.normal(size=n)
    return pd.DataFrame({"y": y, "t": t, "z": z, "x": x, "s": s, "g": np.where(z, "b", "a")})


DATA = sample()


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_constant_coefficients_are_those_of_two_stage_least_squares(scale: float) -> None:
    data = DATA.assign(t=DATA.t * scale)
    ours = deepreg.structural("y ~ [t ~ z] + s", data, vcov="HC0").fit().estimate("late")
    ref = IV2SLS.from_formula("y ~ 1 + s + [t ~ z]", data).fit(cov_type="robust")
    np.testing.assert_allclose(ours.value, [ref.params.t], rtol=1e-8)
    np.testing.assert_allclose(ours.std_error, [ref.std_errors.t], rtol=1e-8)


def test_the_summary_names_the_instrument_and_its_strength() -> None:
    result = deepreg.structural("y ~ [t ~ z] + s", DATA, vcov="HC0").fit()
    text = str(result.summary())
    first = smf.ols("t ~ z + s", DATA).fit(cov_type="HC0")
    assert "z for t" in text and f"{first.tvalues.z**2:.1f}" in text and "LATE t" in text and "weak" not in text
    assert "The instrument is weak" in str(
        deepreg.structural("y ~ [t ~ z]", sample(first=0.05)).fit().summary()
    ).replace("\n    ", " ")
    assert result.facts.call.code().splitlines()[1] == "    'y ~ [t ~ z] + s',"


def test_effects_that_vary_are_averaged_by_rows_and_by_the_first_stage() -> None:
    data = sample(4000, seed=1)
    result = deepreg.structural("y ~ [t ~ z] | x", data).fit(**FAST)
    late = (0.8 + 0.15 / 2 * 4 / 3) / 0.8  # E[x^2] is 4/3
    found = result.estimate("late", targets.IVEffect())
    assert list(found.names) == ["LATE t", "E[effect of t at x]"]
    error = np.abs(found.value - [late, 1.0]) / found.std_error
    assert (error < 3.5).all() and (found.std_error < [0.2, 0.3]).all()
    averages = result.params
    np.testing.assert_allclose(found.value[0], averages["y: z"] / averages["t: z"], rtol=1e-9)
    by_hand = result.averages.map(lambda v: v[1:2] / v[3:4], ["late"])
    np.testing.assert_allclose(found.std_error[0], by_hand.std_error[0], rtol=1e-9)


def test_a_first_stage_that_vanishes_somewhere_is_warned_of() -> None:
    rng = np.random.default_rng(3)
    data = sample(800).assign(t=lambda d: 1.5 * d.x * d.z + rng.normal(size=800))
    result = deepreg.structural("y ~ [t ~ z] | x", data).fit(**FAST)
    with pytest.warns(DeepregWarning, match="first stage .* Use LATE"):
        result.estimate(targets.IVEffect())


def test_several_outcomes_are_several_regressions_with_a_joint_covariance() -> None:
    both = deepreg.structural("y + t ~ z + s", DATA, vcov="HC0").fit()
    for outcome in ("y", "t"):
        alone = smf.ols(f"{outcome} ~ z + s", DATA).fit(cov_type="HC0")
        mine = both.params.filter(like=f"{outcome}: ")
        np.testing.assert_allclose(mine, alone.params, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(both.bse[mine.index], alone.bse, rtol=1e-8)
    assert list(both.ate().names) == ["ATE z: 1 vs 0, y", "ATE z: 1 vs 0, t"]
    assert both.predict().columns.tolist() == ["y", "t"]
    varying = deepreg.structural("y + t ~ z | x", DATA).fit(**FAST)
    alone = deepreg.structural("y ~ z | x", DATA).fit(**FAST)
    assert abs(varying.ate().value[0] - alone.ate().value[0]) < 0.2 * alone.ate().std_error[0]


def test_a_file_keeps_the_instrument(tmp_path) -> None:
    result = deepreg.structural("y ~ [t ~ z] | x", DATA).fit(**FAST)
    result.save(tmp_path / "fit")
    again = deepreg.load(tmp_path / "fit")
    assert str(again.summary()) == str(result.summary())
    assert again.estimate("late").value == result.estimate("late").value


@pytest.mark.parametrize(
    ("formula", "family", "error", "words"),
    [
        ("y ~ [t ~ z] | x", "logit", OptionError, "family='logit'.*an instrument, which family='linear' takes"),
        ("y + t ~ z", "poisson", OptionError, "several outcomes, which family='linear' takes"),
        ("y ~ [t ~ z * x]", "linear", DataError, r"instrument 'z \* x'.*is none of the terms.*z1 \+ z2 \+ z1:z2"),
        ("y ~ [t ~ z] + [s ~ x]", "linear", FormulaError, "before the bar, and there is one"),
        ("y ~ [t + s ~ z]", "linear", FormulaError, "2 treatments and 1 instruments. Give at least one for each"),
        ("y ~ s | [t ~ z]", "linear", FormulaError, "where none is taken"),
        ("y + g ~ z", "linear", DataError, "outcome 'g' is text"),
    ],
)
def test_what_cannot_be_is_refused(formula: str, family: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        deepreg.structural(formula, DATA, family)


def test_targets_of_instruments_ask_for_one() -> None:
    result = deepreg.structural("y ~ t", DATA).fit()
    for target in ("late", "iv_effect"):
        with pytest.raises(OptionError, match="needs an instrument"):
            result.estimate(target)
