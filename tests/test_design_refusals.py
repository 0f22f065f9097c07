"""Formulas, data and options that cannot be read: every refusal says what was given and what to type instead."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from samples import frame

from deepreg.design import build
from deepreg.errors import DataError, FormulaError, OptionError

# bad formulas


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y t", "no '~'.*type, for example"),
        ("y = t", "no '~'"),
        ("y ~ t ~ x", "more than one '~'"),
        ("~ t", "names no outcome.*'y ~ t'"),
        ("y ~", "structural terms are empty"),
        ("y ~ | x", r"structural terms are empty.*Type 'y ~ t \| x1"),
        ("y ~ t |", "features are empty.*no bar"),
        ("y ~ t | x |", "controls are empty"),
        ("y ~ t | | x", "features are empty"),
        ("y ~ t | x | z | w", "4 parts.*at most 3"),
        ("y + x ~ t", "2 outcomes; one is allowed"),
        ("y | x ~ t", "two outcomes"),
        ("1 ~ t", "0 outcomes"),
        ("y ~ 1 | x", r"no slope that could vary.*'y ~ t \| x'"),
        ("y ~ 0 | x", "no slope"),
        ("y ~ 0", "no structural term"),
        ("y ~ t + x | x + z", r"'x' stands on both sides of '\|'.*'y ~ t \| x \+ z' or 'y ~ t \+ x \| z'"),
        ("y ~ t + t:x | x", r"'x' stands on both sides.*'y ~ t \| x'"),
        ("y ~ t * x | z | np.log(x)", "'x' stands on both sides.*controls already move the intercept"),
        ("y ~ t | t", "'t' stands on both sides"),
        ("y ~ t | y", "outcome 'y' stands on both sides of '~'"),
        ("y ~ I(y**2)", "outcome 'y' stands on both sides"),
        ("y ~ . | .", "uses '.' in two parts"),
        (". ~ t", "'.' as outcome"),
        ("y ~ t +* x", "cannot be read.*Join terms by"),
        ("y ~ C(arm", "cannot be read"),
        ("y ~ 5", "cannot be read.*Numeric literals"),
        ("y ~ I(t +)", "cannot be read|not a valid"),
        ("y ~ [t ~ z] | x", "instrument"),
        ("y ~ I(t.__class__)", "'__class__'.*private"),
        ("y ~ f(t)[0", "cannot be read"),
        ("", "no '~'"),
        ("¿que?", "no '~'"),
    ],
)
def test_bad_formulas_are_answered_with_what_to_type(formula: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words) as caught:
        build(formula, frame(), context={"np": np})
    assert "\x1b" not in str(caught.value) and "⧛" not in str(caught.value)


def test_a_formula_is_a_string() -> None:
    with pytest.raises(FormulaError, match="is a string such as"):
        build(3, frame())  # type: ignore[arg-type]


def test_terms_that_cannot_be_computed_name_the_term() -> None:
    with pytest.raises(FormulaError, match=r"bs\(t, df=1\).*df"):
        build("y ~ bs(t, df=1)", frame())
    with pytest.raises(FormulaError, match=r"np\.logg\(t\)"):
        build("y ~ np.logg(t)", frame())


def test_bars_and_tildes_inside_brackets_and_quotes_belong_to_the_term() -> None:
    data = frame()
    design = build("y ~ I((d == 1) | flag) | I(arm == '|~') + x", data)
    np.testing.assert_array_equal(design.units.d[:, 1], (data["d"] == 1) | data["flag"])
    assert design.features == ("x",)
    assert build("y ~ `my | t` | x", data.rename(columns={"t": "my | t"})).terms == ("Intercept", "my | t")


# bad data


def bad(**columns: Any) -> pd.DataFrame:
    return frame().assign(**columns)


@pytest.mark.parametrize(
    ("formula", "data", "words"),
    [
        ("y ~ tt", frame(), r"uses 'tt'.*no such column. Did you mean 't'"),
        ("y ~ t | Arm", frame(), r"Did you mean 'arm'\?"),
        ("y ~ qqqqqq", frame(), r"Known: 'y', 't', 'd'"),
        ("arm ~ t", frame(), r"outcome 'arm' is text.*I\(arm == 'c'\) ~"),
        ("C(arm) ~ t", frame(), "makes 3 columns"),
        ("y ~ t", bad(t=2.0), "regressor 't'.*only one value in the 60 rows"),
        ("y ~ arm", bad(arm="a"), "regressor 'arm'.*only one value"),
        ("y ~ t + flag", bad(flag=True), "regressor 'flag'.*only one value"),
        ("y ~ 0 + t + k", bad(k=0.0), "regressor 'k'.*only one value"),
        ("y ~ C(g) * arm + t + x", frame().head(8), r"make 11 columns, but only 8 rows|only one value"),
        ("y ~ t + x + s", bad(s=frame()["t"] - 2 * frame()["x"]), "'s' is a combination of 't', 'x'"),
        ("y ~ t + u", bad(u=5 - frame()["t"]), "'u' is a combination of 'Intercept', 't'"),
        ("y ~ t", bad(t=1j), "'t' holds complex"),
        ("y ~ t", bad(t=[{}] * 60), "'t' holds values of mixed or unknown type"),
        ("y ~ t", bad(t=[b"a", b"b"] * 30), "'t' holds values of mixed or unknown type"),
        ("y ~ t", bad(t=np.nan), "No rows are left of 60: 60 missing regressors"),
        ("y ~ t", frame().head(0), "No rows are left of 0: the data are empty"),
        ("y ~ C(arm)", bad(C=1.0), r"column named 'C', which hides the function C\(\)"),
        ("y ~ open(t)", frame(), "uses 'open'"),
        ("y ~ t", pd.concat([frame(), frame()[["t"]]], axis=1), "2 columns named 't'"),
        ("y ~ C(arm, levels=['a', 'b'])", frame(), r"names the levels 'a', 'b', but 12 rows hold 'c'"),
        ("y ~ C(pd.cut(t, [2, 3, 4]))", frame(), r"'C\(pd.cut\(t, \[2, 3, 4\]\)\)' is undefined in \d+ of 60"),
        ("y ~ t | log(x)", frame(), r"in the features: 'log\(x\)' in \d+ of 60 rows.*subset="),
    ],
)
def test_bad_data_are_answered_with_what_to_type(formula: str, data: pd.DataFrame, words: str) -> None:
    with pytest.raises(DataError, match=words):
        build(formula, data, context={"np": np, "pd": pd})


def test_one_column_of_ones_may_be_the_intercept() -> None:
    assert build("y ~ 0 + const + t", bad(const=1.0)).terms == ("const", "t")
    with pytest.raises(DataError, match=r"'const'.*only one value"):
        build("y ~ const + t", bad(const=1.0))


def test_a_doubled_column_that_is_not_used_does_no_harm() -> None:
    assert build("y ~ t", pd.concat([frame(), frame()[["x"]]], axis=1)).terms == ("Intercept", "t")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "type list; allowed are a pandas or polars DataFrame, a pyarrow Table or Dataset, the path"),
        (None, "type NoneType"),
        ("data.csv", "path of a file; nothing is there"),
        (frame()["t"], "type Series"),
        (frame()[["y", "t"]].to_numpy(), "type ndarray"),
        (pl.from_pandas(frame()).lazy(), r"type LazyFrame.*data.collect\(\)"),
        ({"y": [1.0, 2.0], "t": [1.0]}, "lengths {y: 2, t: 1}"),
        ({"y": 1.0, "t": 2.0}, "y: a scalar"),
        ({}, "equally long"),
    ],
)
def test_data_of_another_kind_are_refused(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        build("y ~ t", data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": "wt"}, "weights='wt' needs the column 'wt'"),
        ({"weights": "arm"}, "weights 'arm' are not numbers"),
        ({"weights": "flag"}, "weights 'flag' are not numbers"),
        ({"weights": "d"}, "weights 'd' must be positive: 30 are zero and 0 negative.*subset='d > 0'"),
        ({"weights": "minus"}, "0 are zero and 60 negative"),
        ({"cluster": "frm"}, "cluster='frm' needs.*Did you mean 'firm'"),
        ({"subset": "nope > 1"}, "subset='nope > 1' cannot be evaluated"),
        ({"subset": "t +"}, "cannot be evaluated"),
        ({"subset": "t + 1"}, "is not a condition"),
        ({"subset": "t > 1e9"}, "No rows are left of 60: 60 subset"),
    ],
)
def test_bad_weights_clusters_and_subsets(options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        build("y ~ t", bad(minus=-1.0), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"missing": "ignore"},
        {"cluster": ["firm", "year", "g"]},
        {"cluster": ["g", "g"]},
        {"cluster": [3]},
        {"subset": 3},
    ],
)
def test_unknown_options_are_refused(options: Mapping[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        build("y ~ t", frame(), **options)


def test_missing_raise_names_columns_and_counts() -> None:
    data = frame()
    data.loc[[1, 2, 3], "t"] = [np.nan, np.inf, -np.inf]
    data.loc[5, "firm"] = None
    with pytest.raises(DataError, match="of 60 rows: 't' in 3, 'firm' in 1"):
        build("y ~ t", data, cluster="firm", missing="raise")
    assert build("y ~ t", data, subset="index > 5", cluster="firm", missing="raise").dropped == {"subset": 6}


def test_buckets_without_names_are_no_term() -> None:
    with pytest.raises(DataError, match="'hashed', but the data have no such column"):
        build("y ~ hashed(t, levels=3)", frame(), context={})
