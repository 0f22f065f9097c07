"""Data in text, Stata and Excel files: the fit is that of the same table in memory."""

import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg.design import build
from deepreg.errors import DataError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"y": RNG.normal(size=60), "t": RNG.integers(2, size=60), "x": RNG.normal(size=60).round(3)})
FRAME["region"] = np.where(RNG.normal(size=60) > 0, "north", "south")
FRAME.loc[3, "x"] = np.nan
WRITE = {
    "data.csv": lambda path: FRAME.to_csv(path, index=False),
    "DATA.CSV": lambda path: FRAME.to_csv(path, index=False),
    "data.csv.gz": lambda path: FRAME.to_csv(path, index=False),
    "my.data.csv.zip": lambda path: FRAME.to_csv(path, index=False),
    "data.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "data.dta": lambda path: FRAME.to_stata(path, write_index=False),
    "data.xlsx": lambda path: FRAME.to_excel(path, index=False),
}


@pytest.mark.parametrize("name", WRITE)
def test_a_design_from_a_file_is_that_of_the_table(tmp_path, name):
    WRITE[name](tmp_path / name)
    memory = build("y ~ t + C(region) | x", FRAME)
    for path in (tmp_path / name, str(tmp_path / name)):
        design = build("y ~ t + C(region) | x", path)
        np.testing.assert_array_equal(design.units.d, memory.units.d)
        np.testing.assert_allclose(design.units.y, memory.units.y, rtol=1e-15)
        np.testing.assert_allclose(design.x, memory.x, rtol=1e-6)
        assert design.dropped == memory.dropped == {"missing regressors": 1} and design.terms == memory.terms


def test_labelled_values_of_stata_are_categories(tmp_path):
    labelled = FRAME.assign(t=FRAME.t.map({0: "no", 1: "yes"}).astype("category")).dropna()
    labelled.to_stata(tmp_path / "a.dta", write_index=False)
    fit = deepreg.structural("y ~ t + x", tmp_path / "a.dta").fit()
    assert list(fit.params.index) == ["Intercept", "t[T.yes]", "x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, r"none\.csv' is read as the path of a file; nothing is there.*\.csv, \.tsv, \.dta, \.xlsx"),
        ("empty.csv", b"", r"empty\.csv' cannot be read as comma-separated text: No columns.*pass the table"),
        ("latin.csv", b"y,t\n\xe9,1\n", r"latin\.csv' cannot be read as comma-separated text: 'utf-8'"),
        ("broken.dta", b"no", r"broken\.dta' cannot be read as a Stata file"),
        ("broken.xlsx", b"no", r"broken\.xlsx' cannot be read as an Excel file"),
        ("table.rds", b"no", r"table\.rds' cannot be read as Parquet.*or end in \.csv"),
        ("table", b"no", r"table' cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    if name.endswith(("rds", "table")):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        build("y ~ t", tmp_path / name)


def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch):
    FRAME.to_excel(tmp_path / "a.xlsx", index=False)
    monkeypatch.setattr(
        "deepreg.readers.READERS", {".xlsx": ("an Excel file", lambda path: __import__("no_such_package"))}
    )
    with pytest.raises(DataError, match="read by a package that is not installed: No module named 'no_such_package'"):
        build("y ~ t", tmp_path / "a.xlsx")
