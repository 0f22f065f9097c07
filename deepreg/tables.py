"""Tables: pandas values as arrays, codes and plain levels, and back."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import torch

from .errors import FileError, NotAvailable

_NUMBERS = "biuf"  # kinds of numpy's dtypes that are kept as they are
_LEVELS = (bool, int, float, str)


def of_array(values: np.ndarray) -> tuple[object, ...]:
    """Numbers with their type, times as whole numbers, anything else as codes of its levels; any shape."""
    if values.dtype.kind in _NUMBERS:
        wide = "int64" if values.dtype.kind == "u" else values.dtype
        return ("numbers", str(values.dtype), _tensor(values.astype(wide)))
    if values.dtype.kind == "M":
        return ("times", str(values.dtype), _tensor(values.astype("int64")))
    code, levels = pd.factorize(values.ravel().astype(object), use_na_sentinel=True)
    return ("levels", _tensor(code.reshape(values.shape)), _plain(levels))


def to_array(plain: Any) -> np.ndarray:
    """The array of of_array()."""
    if plain[0] in ("numbers", "times"):
        dtype = np.dtype(plain[1])
        if dtype.kind not in _NUMBERS + "M" or plain[1] != str(dtype):
            raise FileError(f"it has an array of type {plain[1]!r}")
        return np.asarray(plain[2].numpy().astype(dtype))
    _, code, levels = plain
    code, every = code.numpy(), np.array([*levels, np.nan], dtype=object)
    if code.size and not (code.min() >= -1 and code.max() < len(levels)):
        raise FileError("it has codes without a level")
    return np.asarray(every[code])


def of_dtype(dtype: pd.CategoricalDtype) -> tuple[object, ...]:
    """The levels of a category in their order."""
    return (of_index(dtype.categories), bool(dtype.ordered))


def to_dtype(plain: Any) -> pd.CategoricalDtype:
    """The dtype of of_dtype()."""
    return pd.CategoricalDtype(to_index(plain[0]), ordered=plain[1])


def of_index(index: pd.Index) -> tuple[object, ...]:
    """An index with its names; NotAvailable for levels that are no numbers, text or plain times."""
    if isinstance(index, pd.RangeIndex):
        return ("range", _name(index.name), index.start, index.stop, index.step)
    if isinstance(index, pd.MultiIndex):
        parts = tuple(of_index(index.get_level_values(j)) for j in range(index.nlevels))
        return ("several", None, *parts)
    return ("index", _name(index.name), str(index.dtype), *_series(index.to_series()))


def to_index(plain: Any) -> pd.Index:
    """The index of of_index()."""
    if plain[0] == "range":
        return pd.RangeIndex(*plain[2:], name=plain[1])
    if plain[0] == "several":
        return pd.MultiIndex.from_arrays([to_index(part) for part in plain[2:]])
    values = _restored(plain[2], plain[3:])
    return pd.Index(values.array, dtype=values.dtype, name=plain[1])


def of_frame(frame: pd.DataFrame) -> tuple[object, ...]:
    """Columns of a frame with rows 0..n-1."""
    columns = ((str(name), str(series.dtype), *_series(series)) for name, series in frame.items())
    return (len(frame), *columns)


def to_frame(plain: Any) -> pd.DataFrame:
    """The frame of of_frame()."""
    rows = pd.RangeIndex(plain[0])
    columns = {name: _restored(dtype, rest) for name, dtype, *rest in plain[1:]}
    if odd := [name for name, series in columns.items() if len(series) != len(rows)]:
        raise FileError(f"its column {odd[0]!r} has not {len(rows)} rows")
    return pd.DataFrame(columns, index=rows, copy=False)


def _series(series: pd.Series) -> tuple[object, ...]:
    if isinstance(series.dtype, pd.CategoricalDtype):
        return ("category", series.dtype, _tensor(series.cat.codes.to_numpy().astype("int64")))
    if isinstance(series.dtype, np.dtype):
        return of_array(series.to_numpy())
    return of_array(series.astype(object).to_numpy())


def _restored(dtype: str, plain: Any) -> pd.Series:
    if plain[0] == "category":
        return pd.Series(pd.Categorical.from_codes(plain[2].numpy(), dtype=plain[1]))
    values = to_array(plain)
    if plain[0] != "levels":
        return pd.Series(values)
    if dtype not in ("object", "str", "string", "boolean", "Int64", "Int32", "Float64"):
        raise FileError(f"it has a column of type {dtype!r}")
    filled = [None if dtype == "object" and pd.isna(one) else one for one in values]
    return pd.Series(filled, dtype=dtype)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, order="C"))


def _plain(levels: Any) -> tuple[object, ...]:
    found = tuple(one.item() if isinstance(one, np.generic) else one for one in levels)
    if odd := [one for one in found if type(one) not in _LEVELS]:
        raise NotAvailable(
            f"{odd[0]!r} is a {type(odd[0]).__name__}, and levels that a file holds are numbers or text. Turn the "
            "column or index that holds it into text: data[name].astype(str), or data.reset_index()."
        )
    return found


def _name(name: Hashable) -> Hashable:
    if name is not None and type(name) not in _LEVELS:
        raise NotAvailable(
            f"The index is called {name!r}, which a file does not hold. Rename it, or data.reset_index()."
        )
    return name
