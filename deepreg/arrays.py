"""Arrays as tables: what people give without a formula, as named columns of one length."""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from . import columns as door
from .errors import DataError


class Matrix(NamedTuple):
    """The columns of an argument."""

    frame: pd.DataFrame  # (n, k), rows by the caller's index
    vector: bool  # whether it has no second axis
    named: bool  # whether the names are the caller's
    indexed: bool  # whether the index is the caller's


def opened(X: object) -> Any:
    """X as a table of named columns that is in memory; DataError for anything else."""
    frame = X if isinstance(X, pd.DataFrame) else nw.from_native(X, eager_only=True, pass_through=True)
    if not isinstance(frame, pd.DataFrame | nw.DataFrame):
        raise DataError(
            f"X is of type {type(X).__name__}, but the formula names columns: give a pandas or polars DataFrame. Of an "
            "array make one by pd.DataFrame(X, columns=[...]); after other steps of a pipeline type "
            "pipeline.set_output(transform='pandas')."
        )
    _check_names("X", frame)
    return frame


def _check_names(role: str, frame: Any) -> None:
    if unnamed := [name for name in frame.columns if not isinstance(name, str)]:
        raise DataError(
            f"{role} has columns whose names are not strings, such as {unnamed[0]!r}. Type {role}.rename(columns=str)."
        )


def vector(name: str, values: object, beside: Any) -> pd.Series:
    """y or the weights as a series of the length of X, in its order; DataError unless the rows are those of X."""
    series: Any = values
    if not isinstance(series, pd.Series):
        column = nw.from_native(series, series_only=True, pass_through=True)
        if isinstance(column, nw.Series):
            series = column.to_pandas()
        else:
            array = np.asarray(values)
            if array.ndim != 1:
                raise DataError(
                    f"{name} is of type {type(values).__name__} and shape {array.shape}; give one value for each row, "
                    f"in a Series or an array of shape (n,). Of one column, type np.ravel({name})."
                )
            series = pd.Series(array)
    elif isinstance(beside, pd.DataFrame) and len(series) == len(beside) and not series.index.equals(beside.index):
        raise _another_index(name, "X")
    if len(series) != len(beside):
        raise DataError(f"X has {len(beside)} rows, but {name} has {len(series)} values; give one for each row.")
    return series


def _another_index(name: str, first: str) -> DataError:
    return DataError(
        f"{name} has another index than {first}. Type {name}.loc[{first}.index] to match rows by their labels, or "
        f"{name}.set_axis({first}.index) where the rows are in the same order already."
    )


def numbers(values: pd.Series, role: str, other: str = "") -> np.ndarray:
    """The values as float64, NaN where missing; (n,)."""
    plain = door.plain(values.rename(role))
    if isinstance(plain.dtype, pd.CategoricalDtype):
        shown = ", ".join(map(repr, plain.cat.categories[:5]))
        raise DataError(
            f"{role} is text or a category ({shown}), but must be numbers. Type {role}.astype(float) where it holds "
            f"numbers{other}."
        )
    return plain.to_numpy(dtype="float64", na_value=np.nan)


def positive(given: pd.Series) -> np.ndarray:
    """Sampling weights (n,); DataError where they are not above 0."""
    weight = numbers(given, "sample_weight")
    if bad := int((weight <= 0).sum()):
        raise DataError(
            f"sample_weight must be positive, but is 0 or negative in {bad} of {len(weight)} rows. Leave them out "
            "of X, y and sample_weight: X[sample_weight > 0], and so on."
        )
    return weight


def free(name: str, taken: Iterable[str], text: str = "") -> str:
    """The name with as many underscores as make it one that is neither taken nor in the text of a formula."""
    words = {*taken, *re.findall(r"\w+", text)}
    while name in words:
        name += "_"
    return name


def quoted(name: str) -> str:
    """A column's name as a formula has it."""
    return name if name.isidentifier() else f"`{name}`"


def matrix(role: str, values: Any, prefix: str) -> Matrix:
    """One argument, an array, a list, a Series or a DataFrame, as columns; copies nothing back.

    Columns without names of their own are called `prefix`, or `prefix` and their number where there is a second axis.
    Raises DataError for anything that is not one or two axes of plain values.
    """
    table = values
    if not isinstance(values, pd.DataFrame | pd.Series):
        table = nw.from_native(values, eager_only=True, allow_series=True, pass_through=True)
        table = table.to_pandas() if isinstance(table, nw.DataFrame | nw.Series) else table
    indexed = table is values and isinstance(values, pd.DataFrame | pd.Series)
    if isinstance(table, pd.Series):
        named = isinstance(table.name, str) and table.name != "" and "`" not in table.name
        return Matrix(table.to_frame(table.name if named else prefix), True, named, indexed)
    if isinstance(table, pd.DataFrame):
        _check_names(role, table)
        door.require(table, table.columns, role)
        return Matrix(table.copy(deep=False), False, True, indexed)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{role} is no array: {error}. Give rows of one length.") from None
    if array.ndim not in (1, 2):
        raise DataError(
            f"{role} is of type {type(values).__name__} and shape {array.shape}; give (n,) or (n, k) values, a Series "
            "or a DataFrame."
        )
    each = {prefix: array} if array.ndim == 1 else {f"{prefix}{j}": array[:, j] for j in range(array.shape[1])}
    if array.ndim == 2 and len(each) == 1 and prefix in ("y", "t", "z"):
        each = {prefix: array[:, 0]}
    frame = pd.DataFrame({name: pd.Series(column).infer_objects() for name, column in each.items()})
    return Matrix(frame, array.ndim == 1, False, False)


def beside(parts: dict[str, Matrix]) -> pd.Index:
    """The index of all of them; DataError where lengths or labels of pandas objects differ, or values are missing."""
    first, *others = parts
    for role in others:
        one, many = len(parts[role].frame), len(parts[first].frame)
        if one != many:
            raise DataError(f"{first} has {many} rows, but {role} has {one}; give one for each row.")
    for role, part in parts.items():
        counts = {name: int(door.missing(door.plain(part.frame[name])).sum()) for name in part.frame}
        if shown := ", ".join(f"{count} in {name!r}" for name, count in counts.items() if count):
            raise DataError(f"{role} has missing or infinite values, {shown}. Leave these rows out, or fill them in.")
    labelled = [role for role, part in parts.items() if part.indexed]
    for role in labelled[1:]:
        if not parts[role].frame.index.equals(parts[labelled[0]].frame.index):
            raise _another_index(role, labelled[0])
    return parts[labelled[0] if labelled else first].frame.index
