"""Columns: the caller's data, of any kind allowed, as clean pandas columns: float, integer, bool or category."""

import os
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import narwhals as nw
import numpy as np
import pandas as pd
from pandas.api import types

from deepreg import readers
from deepreg.errors import DataError
from deepreg.formula import near

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

ALLOWED = (
    "a pandas or polars DataFrame, a pyarrow Table or Dataset, the path of a file, or a dict of equally long arrays"
)
OTHER = f"Files are Parquet, or end in {', '.join(readers.ENDINGS)}; open others yourself and pass the table."


@dataclass(frozen=True)
class Stored:
    """A table that stays on disk: one column at a time is read, and only those that are asked for."""

    dataset: "Dataset"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Stored":
        """A Parquet file, or a directory of them; DataError where it cannot be read."""
        try:
            from pyarrow import ArrowInvalid
            from pyarrow.dataset import dataset
        except ImportError:
            raise DataError(
                f"data={str(path)!r}: Parquet is read by pyarrow, which is not installed. Type pip install pyarrow."
            ) from None
        try:
            return cls(dataset(Path(path), format="parquet"))
        except (ArrowInvalid, OSError) as error:
            raise DataError(f"data={str(path)!r} cannot be read as Parquet: {error}. {OTHER}") from error

    @property
    def columns(self) -> list[str]:
        return list(self.dataset.schema.names)

    @cached_property
    def rows(self) -> int:
        return int(self.dataset.count_rows())

    def __len__(self) -> int:
        return self.rows

    def select(self, wanted: list[str]) -> pd.DataFrame:
        """Columns in the order of the file, as pyarrow turns them into pandas."""
        read = {}
        for name in wanted:
            column = self.dataset.to_table(columns=[name]).column(name)
            read[name] = column.to_pandas()
        return pd.DataFrame(read, index=pd.RangeIndex(self.rows), copy=False)


Table: TypeAlias = "pd.DataFrame | nw.DataFrame[Any] | Stored"


def table(data: Any) -> Table:
    """Open the caller's data without copying; DataError unless it is one of the kinds allowed."""
    if isinstance(data, pd.DataFrame):
        return data
    if isinstance(data, str | os.PathLike):
        place = Path(data)
        if not place.exists():
            raise DataError(f"data={str(data)!r} is read as the path of a file; nothing is there. {OTHER}")
        return readers.read(place) if readers.ending(place) in readers.READERS else Stored.open(place)
    arrow = sys.modules.get("pyarrow.dataset")  # who has a Dataset has imported it
    if arrow is not None and isinstance(data, arrow.Dataset):
        return Stored(data)
    if isinstance(data, Mapping):
        lengths = {str(name): np.shape(value)[:1] for name, value in data.items()}
        if not lengths or () in lengths.values() or len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name}: {length[0] if length else 'a scalar'}" for name, length in lengths.items())
            raise DataError(f"A dict of columns must hold equally long arrays; these have lengths {{{shown}}}.")
        return pd.DataFrame(dict(data))
    try:
        return nw.from_native(data, eager_only=True)
    except (TypeError, nw.exceptions.NarwhalsError) as error:
        hint = " Type data.collect() first." if hasattr(type(data), "collect") else ""
        raise DataError(f"The data are of type {type(data).__name__}; allowed are {ALLOWED}.{hint}") from error


def names(opened: Table) -> list[str]:
    """The column names of an opened table."""
    return [name for name in opened.columns if isinstance(name, str)]


def index(opened: Table) -> pd.Index:
    """The caller's row index; 0..n-1 for tables that have none."""
    return opened.index if isinstance(opened, pd.DataFrame) else pd.RangeIndex(len(opened))


def require(opened: Table, wanted: Iterable[str], purpose: str = "The formula") -> None:
    """DataError naming a wanted column that is missing or doubled; nothing is read."""
    known = names(opened)
    for name in wanted:
        if name not in known:
            raise DataError(f"{purpose} needs the column {name!r}, but the data do not have it. {near(name, known)}")
        if known.count(name) > 1:
            raise DataError(
                f"The data have {known.count(name)} columns named {name!r}; names must be unique. Rename or drop the "
                "others, for example data.loc[:, ~data.columns.duplicated()]."
            )


def pick(opened: Table, wanted: Iterable[str], purpose: str = "The formula") -> pd.DataFrame:
    """The wanted columns as a pandas frame with rows 0..n-1; DataError naming a column that is missing or doubled."""
    wanted = list(dict.fromkeys(wanted))
    require(opened, wanted, purpose)
    if isinstance(opened, pd.DataFrame):
        return opened[wanted].reset_index(drop=True)
    if isinstance(opened, Stored):
        return opened.select(wanted)
    picked = opened.select(wanted).to_pandas().reset_index(drop=True)
    if opened.implementation.is_polars():  # the codes of a polars Categorical say which value came first, not an order
        for name in (name for name in wanted if opened.schema[name] == nw.Categorical):
            picked[name] = picked[name].cat.reorder_categories(sorted(picked[name].cat.categories))
    return picked


def plain(series: pd.Series) -> pd.Series:
    """One column as float64 (NaN = missing), int64, nullable boolean or category; DataError for anything else."""
    name, dtype = series.name, series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return series
    if types.is_bool_dtype(dtype):
        return series.astype("boolean")
    if types.is_complex_dtype(dtype):
        raise DataError(
            f"The column {name!r} holds complex numbers. Use real ones, for example np.abs(data[{name!r}])."
        )
    if types.is_numeric_dtype(dtype):
        return _number(series)
    inferred = "datetime" if _is_time(dtype) else types.infer_dtype(series, skipna=True)
    if inferred == "string":
        return series.astype(object).where(series.notna(), None).astype("category")
    if inferred == "boolean":
        return series.astype("boolean")
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return _number(series.astype(object).where(series.notna(), np.nan).astype("float64"), inferred == "integer")
    if inferred in ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64", "period"):
        raise DataError(
            f"The column {name!r} holds dates or times ({inferred}). Turn them into numbers or categories first: "
            f"data[{name!r}].dt.year, or (data[{name!r}] - data[{name!r}].min()).dt.days."
        )
    raise DataError(
        f"The column {name!r} holds values of mixed or unknown type ({inferred}, dtype {dtype}). Allowed are numbers, "
        f"booleans, strings and categories; type data[{name!r}].astype(float) or data[{name!r}].astype(str)."
    )


def missing(series: pd.Series) -> np.ndarray:
    """True where a plain column has no finite value."""
    if types.is_float_dtype(series.dtype):
        return ~np.isfinite(series.to_numpy())
    return series.isna().to_numpy(dtype=bool)


@dataclass(frozen=True, eq=False)
class Column:
    """What training has learned about one data column, so that edited or new values can be brought to the same form."""

    name: Hashable
    kind: str  # "number" | "integer" (a number inside C(), kept as it is) | "bool" | "category"
    dtype: Any = None  # the categories, in their order, of a "category"

    @classmethod
    def learn(cls, series: pd.Series, inside_c: bool) -> tuple["Column", pd.Series]:
        """The column's kind and its clean values, from plain values without missing ones."""
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.cat.remove_unused_categories()
            return cls(series.name, "category", series.dtype), series
        if types.is_bool_dtype(series.dtype):
            return cls(series.name, "bool"), series.astype(bool)
        return cls(series.name, "integer" if inside_c else "number"), series

    @property
    def levels(self) -> tuple[Any, ...]:
        """The levels of a category or bool, else ()."""
        if self.kind == "bool":
            return (False, True)
        return tuple(self.dtype.categories.tolist()) if self.kind == "category" else ()

    def conform(self, series: pd.Series) -> tuple[pd.Series, np.ndarray | None]:
        """The values in the form seen in training, and where they are levels never seen there (None: nowhere)."""
        if self.kind == "category":
            if series.dtype == self.dtype:
                return series, None
            known = self.dtype.categories
            if isinstance(series.dtype, pd.CategoricalDtype):
                code = np.append(known.get_indexer(series.cat.categories), -1)[series.cat.codes]
            else:
                code = known.get_indexer(pd.Index(series.astype(object), dtype=object))
            bad = code < 0
            return self._coded(code, series.index), bad if bad.any() else None
        if self.kind == "bool":
            if series.dtype == bool:
                return series, None
            bad = ~series.isin([0, 1]).to_numpy(dtype=bool)
            return series.where(~bad, False).astype(bool), bad if bad.any() else None
        return self._numeric(series), None

    def _coded(self, code: np.ndarray, rows: pd.Index) -> pd.Series:
        return pd.Series(pd.Categorical.from_codes(code, dtype=self.dtype), index=rows, name=self.name)

    def _numeric(self, series: pd.Series) -> pd.Series:
        if series.dtype == np.float64 or (self.kind == "integer" and series.dtype == np.int64):
            return series
        if not (types.is_numeric_dtype(series.dtype) or types.is_bool_dtype(series.dtype)):
            series = plain(series)
            if isinstance(series.dtype, pd.CategoricalDtype):
                raise DataError(
                    f"The column {self.name!r} was a number when the model was built, but now holds text such as "
                    f"{next(iter(series.dropna().unique()), None)!r}. Pass numbers."
                )
        if self.kind == "integer" and types.is_integer_dtype(series.dtype):
            return series.astype("int64")
        return pd.Series(series.to_numpy(dtype="float64", na_value=np.nan), index=series.index, name=self.name)


def _number(series: pd.Series, whole: bool = False) -> pd.Series:
    bits = getattr(series.dtype, "itemsize", 8)
    signed = types.is_signed_integer_dtype(series.dtype) or (types.is_unsigned_integer_dtype(series.dtype) and bits < 8)
    values = series.to_numpy(dtype="float64", na_value=np.nan)
    if (signed or whole) and np.isfinite(values).all() and (np.abs(values) < 2.0**53).all():
        values = values.astype("int64")
    return pd.Series(values, index=series.index, name=series.name)


def _is_time(dtype: Any) -> bool:
    if isinstance(dtype, pd.PeriodDtype) or types.is_timedelta64_dtype(dtype):
        return True
    return types.is_datetime64_any_dtype(dtype)
