"""Data that stay on disk: the same numbers as in memory, and only the columns that are needed."""

import builtins
import pathlib
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import deepreg
from deepreg.columns import Stored
from deepreg.design import build
from deepreg.errors import DataError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("pyarrow.dataset")

FORMULA = "y ~ t | x + C(region)"


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 400
    x = rng.normal(size=n)
    t = rng.integers(0, 2, n)
    return pd.DataFrame(
        {
            "y": 1 + x + t * (1 + x) + rng.normal(size=n),
            "t": t,
            "x": np.where(np.arange(n) % 50 == 7, np.nan, x),
            "region": rng.choice(["north", "south", "west"], n),
            "w": rng.uniform(1, 2, n),
            "firm": rng.integers(0, 40, n),
            "unused": pd.date_range("2020-01-01", periods=n),
        }
    )


@pytest.fixture(scope="module")
def path(frame, tmp_path_factory):
    place = tmp_path_factory.mktemp("data") / "pupils.parquet"
    frame.to_parquet(place, row_group_size=90)
    return place


@pytest.fixture(scope="module")
def partitioned(frame, tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    for start in range(0, len(frame), 150):
        parquet.write_table(pa.Table.from_pandas(frame[start : start + 150]), place / f"part-{start:04}.parquet")
    return place


def same(one, two):
    for a, b in ((one.units.y, two.units.y), (one.units.d, two.units.d), (one.x, two.x), (one.weight, two.weight)):
        assert torch.equal(a, b)
    assert torch.equal(one.cluster, two.cluster)
    assert (one.dropped, one.terms, one.features) == (two.dropped, two.terms, two.features)
    np.testing.assert_array_equal(one.rows, two.rows)


@pytest.mark.parametrize("kind", ["path", "text", "dataset", "directory"])
def test_a_design_from_disk_is_that_of_the_same_rows_in_memory(frame, path, partitioned, kind):
    stored = {"path": path, "text": str(path), "dataset": datasets.dataset(path), "directory": partitioned}[kind]
    options = {"weights": "w", "cluster": "firm", "subset": "w > 1.2 and region != 'west'"}
    design = build(FORMULA, stored, **options)
    same(design, build(FORMULA, pa.Table.from_pandas(frame), **options))
    same(design, build(FORMULA, frame, **options))
    assert design.dropped["subset"] > 100 and 1 <= design.dropped["missing regressors"] <= 8


def test_a_fit_and_its_predictions_from_disk_are_those_from_memory(frame, path):
    fast = {"folds": 2, "learners": "smooth", "rng": 0, "progress": False}
    memory, disk = (deepreg.structural(FORMULA, data).fit(**fast) for data in (frame, str(path)))
    pd.testing.assert_series_equal(memory.params, disk.params, check_exact=True)
    pd.testing.assert_series_equal(memory.bse, disk.bse, check_exact=True)
    pd.testing.assert_frame_equal(memory.theta(), disk.theta(), check_exact=True)
    pd.testing.assert_series_equal(memory.predict(frame), disk.predict(path), check_exact=True)


def test_only_the_columns_of_the_formula_are_read(path):
    read = []

    class Watched:
        schema = datasets.dataset(path).schema

        def count_rows(self):
            return datasets.dataset(path).count_rows()

        def to_table(self, columns):
            read.append(columns)
            return datasets.dataset(path).to_table(columns=columns)

    stored = Stored(Watched())
    assert stored.columns == datasets.dataset(path).schema.names and len(stored) == 400
    picked = stored.select(["y", "region"])
    assert read == [["y"], ["region"]]  # one at a time
    assert list(picked) == ["y", "region"] and isinstance(picked.index, pd.RangeIndex)


def test_every_column_is_read_once(path, monkeypatch):
    read, select = [], Stored.select
    monkeypatch.setattr(Stored, "select", lambda self, wanted: read.extend(wanted) or select(self, wanted))
    build(FORMULA, path, cluster="firm", beside={"assignment": ("w",)})
    assert sorted(read) == ["firm", "region", "t", "w", "x", "y"]


def test_a_column_that_the_file_lacks_is_named_with_those_near(path):
    with pytest.raises(DataError, match=r"uses 'regoin'.*'region'"):
        build("y ~ t | regoin", path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.parquet", None, r"none\.parquet' is read as the path of a file; nothing is there"),
        ("text.parquet", b"y,t\n1,2\n", r"text\.parquet' cannot be read as Parquet.*or end in \.csv"),
    ],
)
def test_what_is_no_parquet_file_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        build("y ~ t", tmp_path / name)


def test_without_pyarrow_the_error_says_what_to_install(path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="pip install pyarrow"):
        Stored.open(pathlib.Path(path))


def test_new_rows_with_levels_unseen_in_training_are_left_out_as_in_memory(frame, path, tmp_path):
    res = deepreg.structural(FORMULA, path).fit(folds=2, learners="smooth", rng=0, progress=False)
    new = frame.head(5).assign(region=["north", "east", "west", "south", "north"])
    new.to_parquet(tmp_path / "new.parquet")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predicted = res.theta(tmp_path / "new.parquet")
    assert [str(one.message)[:40] for one in caught] and predicted["t"].isna().tolist() == [False, True, *[False] * 3]
