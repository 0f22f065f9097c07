"""Design: what it holds, and how it is edited and rebuilt."""

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from samples import frame

from deepreg.design import Variable, build
from deepreg.errors import DataError, DeepregWarning, FormulaError, OptionError

FORMULA = "y ~ t * arm + flag | x + C(g) + log(z) | w"


# what it holds


def test_the_three_parts_as_tensors() -> None:
    data = frame()
    design = build(FORMULA, data)
    assert design.terms == ("Intercept", "arm[T.b]", "arm[T.c]", "flag[T.True]", "t", "t:arm[T.b]", "t:arm[T.c]")
    assert design.features == ("x", "C(g)[9]", "C(g)[10]", "C(g)[12]", "log(z)")
    assert design.controls == ("w",)
    assert (design.outcome, design.formula) == ("y", FORMULA)
    np.testing.assert_array_equal(design.units.y, data["y"])
    np.testing.assert_array_equal(design.units.d[:, 6], data["t"] * (data["arm"] == "c"))
    assert design.units.mask.eq(1).all()
    log = np.log(data["z"])
    np.testing.assert_allclose(design.x[:, 4], ((log - log.mean()) / log.std(ddof=0)).clip(-5, 5), atol=1e-12)
    assert design.x.dtype == design.w.dtype == torch.float32 and len(design.x) == len(design.w) == 60
    tensors = (*design.units[:3], design.weight)
    assert all(tensor.dtype == torch.float64 and len(tensor) == 60 for tensor in tensors)
    assert design.weight.eq(1).all() and design.cluster.shape == (60, 0)
    assert design.dropped == {} and design.notes == ()


def test_without_a_bar_there_are_no_features() -> None:
    design = build("y ~ t", frame())
    assert design.x.shape == (60, 0) and design.w.shape == (60, 0)
    assert build("y ~ t | 1 | x", frame()).controls == ("x",)


def test_features_are_clipped_at_five_standard_deviations() -> None:
    data = frame()
    data.loc[0, "x"] = 1e4
    x = build("y ~ t | x", data).x
    assert x[0, 0] == 5.0 and x.abs().max() == 5.0


def test_variables_are_the_raw_columns_of_the_structural_part() -> None:
    ages = frame().assign(
        age=np.arange(60),
        rank=pd.Categorical(np.resize(["lo", "hi", "hi", "lo", "lo"], 60), ["lo", "hi"], ordered=True),
    )
    design = build("y ~ np.log(t) + C(g) + d + arm + flag + age + rank | x", ages, context={"np": np})
    assert {v.name: v for v in design.variables} == {
        "t": Variable("t", "continuous", ()),
        "g": Variable("g", "discrete", (9, 10, 12)),
        "d": Variable("d", "discrete", (0, 1)),
        "arm": Variable("arm", "discrete", ("a", "b", "c")),
        "flag": Variable("flag", "discrete", (False, True)),
        "age": Variable("age", "continuous", ()),
        "rank": Variable("rank", "discrete", ("lo", "hi")),
    }
    assert build("y ~ C(age % 40) + t", ages).variables[0].kind == "discrete"


def test_unused_categories_do_not_make_columns() -> None:
    data = frame().assign(arm=lambda f: pd.Categorical(f["arm"], categories=["c", "zz", "a", "b"]))
    assert build("y ~ arm", data).terms == ("Intercept", "arm[T.a]", "arm[T.b]")


def test_outcomes_may_be_expressions_or_booleans() -> None:
    data = frame()
    np.testing.assert_allclose(build("np.exp(y) ~ t", data, context={"np": np}).units.y, np.exp(data["y"]))
    np.testing.assert_array_equal(build("flag ~ t", data).units.y, data["flag"])
    np.testing.assert_array_equal(build("I(arm == 'b') ~ t", data).units.y, data["arm"] == "b")
    assert build("np.exp(y) ~ t", data, context={"np": np}).outcome == "np.exp(y)"


def test_weights_clusters_and_subset() -> None:
    data = frame()
    data.loc[7, "firm"] = None
    data.loc[8, "w"] = np.nan
    data.loc[9, "y"] = np.nan
    design = build("y ~ t | x", data, weights="w", cluster=["firm", "year"], subset="t > 2 and arm != 'a'")
    kept = (data["t"] > 2) & (data["arm"] != "a")
    expected = kept & data[["firm", "w", "y"]].notna().all(axis=1)
    np.testing.assert_array_equal(design.rows, np.flatnonzero(expected))
    assert design.dropped["subset"] == (~kept).sum()
    assert sum(design.dropped.values()) + len(design.rows) == 60
    np.testing.assert_array_equal(design.weight, data["w"][expected])
    assert design.cluster_names == ("firm", "year") and design.cluster.dtype == torch.long
    np.testing.assert_array_equal(design.cluster[:, 1], data["year"][expected] - 2000)
    assert sorted(set(design.cluster[:, 0].tolist())) == list(range(data["firm"][expected].nunique()))


def test_dropped_rows_are_counted_once_by_the_first_cause() -> None:
    data = frame()
    data.loc[[0, 1], "y"] = np.nan
    data.loc[[1, 2], "t"] = np.nan
    data.loc[3, "x"] = np.inf
    data.loc[[3, 4], "w"] = np.nan
    design = build("y ~ t | x", data, weights="w")
    assert design.dropped == {"missing outcome": 2, "missing regressors": 2, "missing weights": 1}
    np.testing.assert_array_equal(design.rows, np.arange(5, 60))


def test_a_dot_takes_every_column_not_used_elsewhere() -> None:
    design = build("y ~ t + d | .", frame(), weights="w", cluster="firm")
    assert {name.split("[")[0] for name in design.features} == {"x", "z", "g", "arm", "flag", "year"}
    assert "x" not in build("y ~ t | x | .", frame()).controls
    assert build("y ~ t + x | . - z - firm", frame()).recipe.used["features"] == ("d", "g", "arm", "flag", "w", "year")
    whole = build("y ~ . - d | x + arm + firm", frame())
    assert whole.terms == ("Intercept", "flag[T.True]", "t", "z", "g", "w", "year")


def test_constant_features_are_left_out_and_reported() -> None:
    data = frame().assign(k=1.0, site="only")
    design = build("y ~ t | x + k + site", data)
    assert design.features == ("x",) and design.x.shape == (60, 1)
    assert len(design.notes) == 2 and "'k'" not in design.notes[0] and design.notes[0].startswith("k is constant")
    assert design.new(data.assign(k=3.0)).x.equal(design.x)
    with pytest.raises(DataError, match=r"All features.*constant.*k"):
        build("y ~ t | k", data)


def test_the_callers_names_are_borrowed_by_name() -> None:
    data = frame()
    context = {"power": 2.0, "f": np.sqrt, "np": np, "unused": object(), "log": 3.0}
    design = build("y ~ I(t**power) | f(z) + log(z)", data, context=context)
    assert set(design.recipe.context) == {"power", "f"}
    np.testing.assert_allclose(design.units.d[:, 1], data["t"] ** 2)
    with pytest.raises(DataError, match=r"'v' in 'y ~ v' is not a column.*60 values.*data.assign\(v=v\)"):
        build("y ~ v", data, context={"v": np.arange(60.0)})


def test_small_integers_do_not_overflow() -> None:
    data = frame().assign(a=np.resize([200, 100], 60).astype("uint8"), b=np.resize([3, 200, 7], 60).astype("uint8"))
    product = data["a"].astype(float) * data["b"].astype(float)
    np.testing.assert_array_equal(build("y ~ a * b", data).units.d[:, 3], product)
    np.testing.assert_array_equal(build("y ~ I(a * b)", data).units.d[:, 1], product)


# data of every kind


@pytest.mark.parametrize("kind", ["polars", "arrow", "dict", "lists", "arrow-backed", "nullable", "polars-categorical"])
def test_every_kind_of_table_gives_the_same_design(kind: str) -> None:
    data = frame()
    data.loc[4, "x"] = np.nan
    expected = build(FORMULA, data, cluster="firm")
    arrow = pa.Table.from_pandas(data)
    table: Any = {
        "polars": pl.from_pandas(data),
        "arrow": arrow,
        "dict": {name: data[name].to_numpy() for name in data},
        "lists": {name: data[name].tolist() for name in data},
        "arrow-backed": arrow.to_pandas(types_mapper=pd.ArrowDtype),
        "nullable": data.convert_dtypes(),
        "polars-categorical": pl.from_pandas(data).with_columns(pl.col("arm").cast(pl.Categorical)),
    }[kind]
    design = build(FORMULA, table, cluster="firm")
    assert (design.terms, design.features, design.dropped) == (expected.terms, expected.features, expected.dropped)
    for mine, theirs in zip(
        (*design.units, design.x, design.cluster), (*expected.units, expected.x, expected.cluster), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert len(design.index) == 60


def test_the_callers_data_are_not_changed() -> None:
    data = frame().astype({"arm": object})
    data.loc[4, "x"] = np.nan
    before = data.copy(deep=True)
    design = build(FORMULA, data, weights="w", cluster="firm", subset="t > 1")
    kept = design.frame.copy(deep=True)
    design.at(t=0.0, arm="b", flag=False)
    design.structural(design.frame.assign(t=1.0))
    design.new(data)
    pd.testing.assert_frame_equal(data, before)
    pd.testing.assert_frame_equal(design.frame, kept)


def test_the_design_lives_without_the_data_and_travels() -> None:
    design = build(FORMULA, frame())
    copy = pickle.loads(pickle.dumps(design))
    torch.testing.assert_close(copy.at(t=1.5, arm="c").d, design.at(t=1.5, arm="c").d)
    assert len(pickle.dumps(design.recipe)) < 20_000


# edited data


def test_at_takes_scalars_arrays_and_functions() -> None:
    data = frame()
    design = build("y ~ t * arm | x", data)
    d = design.at(t=2.0, arm="c").d
    np.testing.assert_array_equal(d[0], [1, 0, 1, 2, 0, 2])
    assert d.eq(d[0]).all()
    np.testing.assert_array_equal(design.at(t=np.arange(60.0)).d[:, 3], np.arange(60.0))
    np.testing.assert_array_equal(design.at(t=lambda f: f["t"] * 2).d[:, 3], 2 * data["t"])
    np.testing.assert_array_equal(
        design.at(t=pd.Series(np.arange(60.0), index=range(60, 0, -1))).d[:, 3], np.arange(60.0)
    )
    units = design.at(arm=lambda f: np.where(f["t"] > 3, "b", "a"))
    np.testing.assert_array_equal(units.d[:, 1], data["t"] > 3)
    assert units.y is design.units.y and units.mask is design.units.mask
    torch.testing.assert_close(design.at().d, design.units.d, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"x": 1.0}, r"'x' is no variable.*Known: 't', 'arm'"),
        ({"T": 1.0}, r"Did you mean 't'\?"),
        ({"arm": "z"}, r"'arm' has level 'z' not seen in training. Levels: 'a', 'b', 'c'"),
        ({"arm": 1}, r"'arm' has level 1 not seen"),
        ({"t": "high"}, r"'t' was a number.*'high'"),
        ({"t": np.ones(3)}, r"shape \(3,\).*60 rows.*design\.rows"),
        ({"t": np.nan}, r"Not a finite number after the edit: 't' in 60"),
        ({"t": [1.0, np.inf] * 30}, r"'t' in 30 of 60 rows"),
    ],
)
def test_at_refuses_what_it_cannot_place(edit: Mapping[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        build("y ~ t * arm | x", frame()).at(**edit)


def test_edits_of_numbers_inside_c_must_be_levels() -> None:
    design = build("y ~ C(g)", frame())
    np.testing.assert_array_equal(design.at(g=10.0).d[0], [1, 1, 0])
    np.testing.assert_array_equal(design.at(g=12).d[0], [1, 0, 1])
    with pytest.raises(DataError, match=r"'C\(g\)' has level 11 not seen in training. Levels: 9, 10, 12"):
        design.at(g=11)


def test_structural_takes_any_number_of_rows() -> None:
    design = build(FORMULA, frame())
    stacked = pd.concat([design.frame.assign(t=value) for value in range(20)], ignore_index=True)
    d = design.structural(stacked)
    assert d.shape == (1200, 7) and d.dtype == torch.float64
    for value in (0, 7, 19):
        torch.testing.assert_close(d[60 * value : 60 * (value + 1)], design.at(t=value).d)
    torch.testing.assert_close(design.structural(design.frame.iloc[[5, 3]]), design.units.d[[5, 3]])
    assert design.structural(design.frame.iloc[:0]).shape == (0, 7)
    with pytest.raises(DataError, match="no column 't'"):
        design.structural(design.frame.drop(columns="t"))


def test_a_spline_extends_beyond_the_training_range_only_after_training() -> None:
    data = frame()
    design = build("y ~ bs(t, df=4)", data)
    step = 1e-4
    up, down = design.at(t=lambda f: f["t"] + step).d, design.at(t=lambda f: f["t"] - step).d
    slope = (up - down) / (2 * step)
    np.testing.assert_allclose(slope[:, 1:].sum(dim=1) + 0.0, _spline_slope(data["t"], design, step), atol=1e-5)
    with pytest.raises(FormulaError, match=r"extend beyond"):
        build("y ~ bs(t, df=4, upper_bound=3.0)", data)


def _spline_slope(t: pd.Series, design: Any, step: float) -> np.ndarray:
    """Forward differences, which at the lower end stay inside the range."""
    inside = np.where(t + 2 * step > t.max(), -step, step)
    one = design.at(t=lambda f: f["t"] + inside).d.numpy()[:, 1:].sum(axis=1)
    two = design.at(t=lambda f: f["t"] + 2 * inside).d.numpy()[:, 1:].sum(axis=1)
    zero = design.units.d.numpy()[:, 1:].sum(axis=1)
    return (-1.5 * zero + 2 * one - 0.5 * two) / inside


# other data


def test_new_uses_the_scaling_and_states_of_training() -> None:
    data = frame()
    design = build("y ~ center(t) + arm | x + C(g)", data, weights="w", cluster="firm")
    other = design.new(data.iloc[[9]].drop(columns=["y", "w", "firm"]))
    torch.testing.assert_close(other.x, design.x[[9]])
    torch.testing.assert_close(other.units.d, design.units.d[[9]])
    assert other.units.y.isnan().all() and other.weight.eq(1).all() and other.cluster.shape == (1, 0)
    whole = design.new(data, outcome=True)
    torch.testing.assert_close(whole.units.y, design.units.y)
    torch.testing.assert_close(whole.weight, design.weight)
    torch.testing.assert_close(whole.cluster, design.cluster)
    assert whole.features == design.features and whole.variables == design.variables
    torch.testing.assert_close(whole.at(t=1.0).d, design.at(t=1.0).d)


def test_new_leaves_out_rows_it_cannot_place_and_says_so_once() -> None:
    data = frame()
    design = build("y ~ t * arm | x + C(g)", data)
    odd = data.copy()
    odd.index = pd.Index([f"row {i}" for i in range(60)])
    odd.iloc[0, odd.columns.get_loc("g")] = 99
    odd.iloc[1, odd.columns.get_loc("arm")] = "z"
    odd.iloc[2, odd.columns.get_loc("x")] = np.inf
    with pytest.warns(DeepregWarning) as caught:
        other = design.new(odd)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "'arm' has level 'z'" in text and "'C(g)' has level 99" in text and "2 rows are left out" in text
    np.testing.assert_array_equal(other.rows, np.arange(3, 60))
    assert other.index.equals(odd.index) and len(other.index) == 60
    assert other.dropped == {"missing regressors": 1, "unseen level": 2}
    torch.testing.assert_close(other.x, design.x[3:])
    with pytest.raises(DataError, match="Pass unseen='nan'"):
        design.new(odd, unseen="raise")
    with pytest.raises(OptionError, match="unseen='drop'"):
        design.new(odd, unseen="drop")


def test_new_with_no_usable_row_is_empty() -> None:
    design = build("y ~ t * arm | x + C(g)", frame())
    other = design.new(frame().assign(t=np.nan))
    assert other.units.d.shape == (0, 6) and other.x.shape == (0, 4) and len(other.rows) == 0


def test_new_accepts_polars_and_dict() -> None:
    design = build("y ~ t * arm | x", frame())
    torch.testing.assert_close(design.new(pl.from_pandas(frame())).units.d, design.units.d)
    one = design.new({"t": [1.0], "arm": ["b"], "x": [0.0]})
    np.testing.assert_array_equal(one.units.d, [[1, 1, 0, 1, 1, 0]])
