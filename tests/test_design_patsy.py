"""The structural columns and their names are those statsmodels' OLS would use (patsy 1.0)."""

import numpy as np
import pandas as pd
import patsy
import pytest
import statsmodels.formula.api as smf

from deepreg.design import build


def frame(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "t": rng.gamma(4.0, 1.0, size=n) + 0.2,
            "s": rng.normal(size=n),
            "x": rng.normal(size=n),
            "arm": rng.choice(["a", "b", "c"], n),
            "site": rng.choice(["u", "v"], n),
            "flag": rng.random(n) > 0.4,
            "grade": rng.integers(9, 12, n),
            "size": pd.Categorical(rng.choice(["small", "big"], n), categories=["small", "big"]),
        }
    )


SAME = [
    "t", "t + s", "t * s", "t:s", "t + t:s", "(t + s + x)**2", "t * s * x", "t + s - 1", "0 + t + s", "-1 + arm",
    "arm", "arm + t", "t + arm", "0 + arm", "arm * t", "t * arm", "t:arm", "arm + arm:t", "0 + arm:t", "t + x:arm",
    "arm:site", "arm * site", "arm * site * t", "(arm + site + t)**2", "arm/site", "t/arm", "0 + arm * site",
    "arm:site - 1", "arm:t + site:t", "t * x * arm",
    "C(arm)", "C(grade)", "C(grade) * t", "C(arm, Treatment('b'))", "C(arm, Treatment('c')) * t",
    "C(arm, Treatment(reference='b'))", "C(arm, Sum)", "C(arm, Sum) * t", "C(arm, Helmert)", "C(flag)",
    "flag", "flag * t", "0 + flag + arm", "flag:t", "flag * arm", "size", "size * t", "grade", "grade * t",
    "I(t**2)", "I(t ** 2)", "t + I(t**2) + I(t**3)", "I(t + s)", "I(t/s)", "I(t > 3)", "I(t > 3) * s", "t**2",
    "np.log(t)", "np.log(t) * arm", "np.exp(-t)", "np.maximum(t, 3)", "np.where(arm == 'a', 1, 0)", "I(-t)",
    "center(t)", "center(t) * arm", "standardize(t)", "scale(t)", "scale(t, center=False)", "standardize(t, ddof=1)",
    "bs(t, df=4)", "bs(t, df=5, degree=2)", "bs(t, df=4) * s", "bs(t, knots=[3.0, 5.0])", "Q('t')", "1",
    "cr(t, df=4) - 1", "cc(t, df=4) - 1", "0 + t + arm", "x:arm + t", "t:s + t",
    "(arm + t)**2 + x", "(t + s + x)**3", "x * arm + t / arm",
]  # fmt: skip


@pytest.mark.parametrize("structural", SAME)
def test_columns_and_names_are_patsys(structural: str) -> None:
    data = frame()
    design = build(f"y ~ {structural}", data, context={"np": np})
    theirs = patsy.dmatrix(structural, data, return_type="dataframe")
    assert list(design.terms) == list(theirs.columns)
    np.testing.assert_allclose(design.units.d.numpy(), theirs.to_numpy(), rtol=1e-10, atol=1e-10)


SPACE = {
    "C(arm, Poly)": "formulaic names the contrasts [.L] and [.Q], patsy .Linear and .Quadratic",
    "C(arm, Diff)": "formulaic labels a difference by its upper level, patsy by its lower one",
    'C(arm, Treatment("b"))': "formulaic writes every string with single quotes",
}


@pytest.mark.parametrize("structural", SPACE)
def test_where_spelling_differs_the_columns_span_the_same_space(structural: str) -> None:
    data = frame()
    mine = build(f"y ~ {structural}", data, context={"np": np}).units.d.numpy()
    theirs = np.asarray(patsy.dmatrix(structural, data))
    assert mine.shape == theirs.shape
    fitted = mine @ np.linalg.lstsq(mine, theirs, rcond=None)[0]
    np.testing.assert_allclose(fitted, theirs, atol=1e-8)


def test_poly_is_the_orthogonal_basis_of_the_powers() -> None:
    """poly() is not in patsy: its columns span 1, t, t**2, t**3 and are orthonormal."""
    data = frame()
    design = build("y ~ poly(t, 3)", data)
    assert design.terms == ("Intercept", "poly(t, 3)[1]", "poly(t, 3)[2]", "poly(t, 3)[3]")
    mine = design.units.d.numpy()
    np.testing.assert_allclose(mine[:, 1:].T @ mine[:, 1:], np.eye(3), atol=1e-10)
    powers = np.vander(data["t"], 4)
    np.testing.assert_allclose(mine @ np.linalg.lstsq(mine, powers, rcond=None)[0], powers, rtol=1e-9)


@pytest.mark.parametrize(
    "structural", ["t * arm + flag", "C(grade) + np.log(t) + I(t**2)", "0 + arm:t + x", "bs(t, df=4)"]
)
def test_terms_are_the_row_names_of_an_ols_fit(structural: str) -> None:
    data = frame()
    fit = smf.ols(f"y ~ {structural}", data).fit()
    design = build(f"y ~ {structural} | s", data, context={"np": np})
    assert list(design.terms) == list(fit.params.index)
    d, y = design.units.d.numpy(), design.units.y.numpy()
    np.testing.assert_allclose(np.linalg.lstsq(d, y, rcond=None)[0], fit.params, rtol=1e-8)


@pytest.mark.parametrize(
    "structural", ["t * arm", "center(t) * arm", "bs(t, df=4)", "C(grade):t", "flag * standardize(t)"]
)
def test_edited_rows_give_patsys_columns_for_new_data(structural: str) -> None:
    data = frame()
    design = build(f"y ~ {structural}", data)
    theirs = patsy.dmatrix(structural, data)
    edited = data.assign(t=data["t"].clip(1.0, 6.0), arm="c", flag=True, grade=10)
    expected = patsy.build_design_matrices([theirs.design_info], edited)[0]
    stacked = pd.concat([edited] * 3, ignore_index=True)
    np.testing.assert_allclose(design.structural(stacked).numpy(), np.tile(expected, (3, 1)), atol=1e-12)
