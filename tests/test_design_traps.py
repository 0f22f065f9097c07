"""The thirteen silent traps of building columns from formulas, one test each."""

import copy
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from deepreg.design import Design, build
from deepreg.errors import DataError, DeepregWarning


def frame(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "t": rng.normal(size=n) + 4.0,
            "x": rng.normal(size=n),
            "arm": np.resize(["a", "b", "c"], n),
            "flag": np.resize([True, False], n),
        }
    )


def d(design: Design) -> np.ndarray:
    return design.units.d.numpy()


def test_trap_01_one_missing_value_in_a_stateful_transform_drops_one_row() -> None:
    data = frame()
    data.loc[5, "t"] = np.nan
    for transform in ("center", "scale", "standardize"):
        design = build(f"y ~ {transform}(t)", data)
        assert len(d(design)) == 39
        assert design.dropped == {"missing regressors": 1}
        np.testing.assert_allclose(d(design)[:, 1].mean(), 0.0, atol=1e-12)


@pytest.mark.parametrize("dtype", [object, "str", "string", "string[pyarrow]", "category"])
def test_trap_02_text_without_c_is_a_factor_in_every_text_dtype(dtype: object) -> None:
    data = frame()
    design = build("y ~ arm | x", data.assign(arm=data["arm"].astype(dtype)))
    assert design.terms == ("Intercept", "arm[T.b]", "arm[T.c]")
    np.testing.assert_array_equal(d(design)[:, 1], data["arm"] == "b")
    assert design.variables[0].levels == ("a", "b", "c")


def test_trap_03_numbers_in_object_columns_stay_numbers() -> None:
    data = frame()
    expected = d(build("y ~ t", data.round(3)))
    as_object = data.round(3).assign(t=data["t"].round(3).astype(object))
    as_decimal = data.round(3).assign(t=[Decimal(f"{value:.3f}") for value in data["t"]])
    for odd in (as_object, as_decimal):
        design = build("y ~ t", odd)
        assert design.terms == ("Intercept", "t")
        np.testing.assert_array_equal(d(design), expected)
    with pytest.raises(DataError, match=r"'t' holds values of mixed.*astype"):
        build("y ~ t", data.assign(t=[1, "one"] * 20))


def test_trap_04_unseen_levels_are_found_and_named() -> None:
    data = frame()
    design = build("y ~ t | C(arm)", data)
    new = data.assign(arm=["z", "q", *data["arm"][2:]])
    with pytest.warns(DeepregWarning, match=r"'arm' has levels 'z', 'q' not seen.*'a', 'b', 'c'.*2 rows") as caught:
        other = design.new(new)
    assert len(caught) == 1
    np.testing.assert_array_equal(other.rows, np.arange(2, 40))
    assert other.dropped == {"unseen level": 2}
    np.testing.assert_allclose(other.x.numpy(), design.x.numpy()[2:], atol=1e-12)
    with pytest.raises(DataError, match="'z'"):
        design.new(new, unseen="raise")
    with pytest.raises(DataError, match=r"'arm' has level 'z' not seen in training. Levels: 'a', 'b', 'c'"):
        build("y ~ arm", data).at(arm="z")


def test_trap_05_other_kinds_at_prediction_are_refused_and_predicting_changes_nothing() -> None:
    data = frame()
    design = build("y ~ arm + center(t) + bs(x, df=4)", data)
    spec = design.recipe.regressors.spec
    before = copy.deepcopy(
        (
            spec.transform_state,
            {k: (v[0], v[1]["categories"]) for k, v in spec.encoder_state.items() if "categories" in v[1]},
        )
    )
    with pytest.raises(DataError, match=r"'arm' has levels? 1, 2, 3 not seen"):
        design.new(data.assign(arm=np.resize([1, 2, 3], 40)), unseen="raise")
    with pytest.raises(DataError, match="'t' was a number"):
        design.new(data.assign(t="high"))
    shifted = design.new(data.assign(t=data["t"] + 10.0))
    np.testing.assert_allclose(d(shifted)[:, 3], d(design)[:, 3] + 10.0)
    after = (
        spec.transform_state,
        {k: (v[0], v[1]["categories"]) for k, v in spec.encoder_state.items() if "categories" in v[1]},
    )
    assert before == after
    np.testing.assert_array_equal(design.at().d.numpy(), d(design))


def test_trap_06_states_and_levels_come_from_the_rows_used() -> None:
    data = frame()
    data.loc[0, ["t", "arm"]] = [1e6, "only here"]
    data.loc[0, "x"] = np.nan
    design = build("y ~ center(t) + arm | x", data)
    assert design.terms == ("Intercept", "arm[T.b]", "arm[T.c]", "center(t)")
    np.testing.assert_allclose(d(design)[:, 3], data["t"][1:] - data["t"][1:].mean())
    coded = data.assign(arm=pd.Categorical(data["arm"]))
    assert build("y ~ center(t) + arm | x", coded).terms == design.terms
    assert "C(arm)[only here]" not in build("y ~ center(t) | x + C(arm)", data).features


def test_trap_07_infinite_values_are_missing_and_undefined_terms_are_errors() -> None:
    data = frame()
    data.loc[[1, 2], "x"] = [np.inf, -np.inf]
    data.loc[3, "y"] = np.inf
    design = build("y ~ t | x", data)
    assert design.dropped == {"missing outcome": 1, "missing regressors": 2}
    np.testing.assert_array_equal(design.rows, [0, *range(4, 40)])
    with pytest.raises(DataError, match="'x' in 2"):
        build("y ~ t | x", data, missing="raise")
    with pytest.raises(DataError, match=r"'np.log\(x\)' in \d+ of 37 rows"):
        build("y ~ t | np.log(x)", data)
    with pytest.raises(DataError, match=r"'np.log\(t - 100\)' in 39 of 39 rows"):
        build("y ~ np.log(t - 100)", data)


def test_trap_08_polars_null_and_nan_are_both_missing() -> None:
    data = pl.from_pandas(frame()).with_row_index("i")
    data = data.with_columns(
        t=pl.when(pl.col("i") == 3).then(None).when(pl.col("i") == 4).then(float("nan")).otherwise("t")
    )
    assert data["t"].null_count() == 1 and data["t"].is_nan().sum() == 1
    design = build("y ~ t", data)
    assert design.dropped == {"missing regressors": 2}
    np.testing.assert_array_equal(design.rows, [0, 1, 2, *range(5, 40)])


def test_trap_09_a_duplicate_index_with_a_missing_row_is_fine() -> None:
    data = frame()
    data.index = np.resize([7, 7, 8], 40)
    data.iloc[2, data.columns.get_loc("t")] = np.nan
    design = build("y ~ t + arm | x", data)
    np.testing.assert_array_equal(design.rows, [0, 1, *range(3, 40)])
    np.testing.assert_array_equal(design.index, data.index)
    np.testing.assert_array_equal(d(design)[:, 3], data["t"].to_numpy()[design.rows])
    np.testing.assert_array_equal(design.frame.index, np.arange(39))


def test_trap_10_rows_dropped_in_training_do_not_persist() -> None:
    data = frame()
    data.loc[[0, 1], "t"] = np.nan
    design = build("y ~ t + arm | x", data)
    whole = design.new(frame())
    np.testing.assert_array_equal(whole.rows, np.arange(40))
    np.testing.assert_array_equal(d(whole)[:, 3], frame()["t"])
    other = frame()
    other.loc[9, "x"] = np.nan
    np.testing.assert_array_equal(design.new(other).rows, [*range(9), *range(10, 40)])
    assert design.structural(pd.concat([design.frame] * 3)).shape == (114, 4)


def test_trap_11_dates_are_an_error_with_a_hint() -> None:
    data = frame()
    days = pd.Series(pd.date_range("2024-01-01", periods=40))
    for odd in (days, days.dt.date, days - days[0], days.dt.tz_localize("UTC"), days.dt.to_period("D")):
        with pytest.raises(DataError, match=r"'t' holds dates or times.*dt\.year"):
            build("y ~ t", data.assign(t=odd))
    with pytest.raises(DataError, match="'when' holds dates"):
        build("y ~ t | .", data.assign(when=days))
    assert build("y ~ t", data.assign(when=days), cluster="when").cluster.max() == 39


def test_trap_12_variables_inside_stateful_calls_are_known() -> None:
    data = frame()
    data.loc[4, "x"] = np.nan
    for term in ("center(x)", "center(np.exp(x))", "bs(x, df=4)", "Q('x')", "I((x + t).clip(0))", "scale(center(x))"):
        design = build(f"y ~ {term}", data)
        assert [v.name for v in design.variables if v.name != "t"] == ["x"], term
        assert design.dropped == {"missing regressors": 1}, term
        assert np.isfinite(d(design)).all()
    with pytest.raises(DataError, match=r"uses 'xx'.*Did you mean 'x'"):
        build("y ~ center(xx)", data)
    with pytest.raises(DataError, match="column 'x'"):
        build("y ~ t | center(x)", data).new(data.drop(columns="x"))


def test_trap_13_booleans_are_named_as_in_patsy() -> None:
    data = frame()
    design = build("y ~ flag * t", data)
    assert design.terms == ("Intercept", "flag[T.True]", "t", "flag[T.True]:t")
    np.testing.assert_array_equal(d(design)[:, 1], data["flag"])
    assert build("y ~ flag * t", data.assign(flag=data["flag"].astype("boolean"))).terms == design.terms
    np.testing.assert_array_equal(design.at(flag=1).d.numpy(), design.at(flag=True).d.numpy())
    assert design.at(flag=0).d.numpy()[:, 1].sum() == 0
    with pytest.raises(DataError, match="'flag' has level 2 not seen"):
        design.at(flag=2)
