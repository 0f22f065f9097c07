"""Sample: the complete rows of the caller's data that a formula can use, and why the others were left out."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api import types

from deepreg import columns as door
from deepreg import packing
from deepreg.errors import DataError, OptionError

CAUSES = {"outcome": "missing outcome", "regressors": "missing regressors"}
CAUSES |= {"features": "missing regressors", "controls": "missing regressors", "assignment": "missing assignment"}
CAUSES |= {
    "penalty": "missing in the penalty",
    "unit": "missing unit",
    "within": "missing time",
    "inflate": "missing regressors",
    "risk": "missing risk factor",
}


class Sample(NamedTuple):
    """Clean columns of the rows used, with weights, clusters and the count of rows left out by cause."""

    columns: dict[str, pd.Series]  # plain kinds (see columns.plain), complete, rows 0..n-1
    weight: np.ndarray  # (n,) ones when there is no weights column
    extra: pd.DataFrame  # the weights and cluster columns as the caller has them
    rows: np.ndarray  # (n,) positions in the caller's data
    index: pd.Index  # the caller's, all rows
    dropped: dict[str, int]
    offset: np.ndarray  # (n,) zeros where there is none
    ids: pd.Index | None = None  # of packed rows: all units of the data


def draw(
    table: Any,
    used: Mapping[str, Sequence[str]],
    *,
    weights: str | None = None,
    cluster: Sequence[str] = (),
    offsets: Mapping[str, str] | None = None,
    subset: str | None = None,
    missing: str = "drop",
    context: Mapping[str, Any] | None = None,
    packed: tuple[str, str] | None = None,
    alone: bool = True,
) -> Sample:
    """The rows where every column used (part of the formula -> names), the weights and the clusters are finite.

    `offsets` maps "offset" and "exposure" to their columns, if there are any. Infinite values count as missing. Where
    the columns of unit and alternative are `packed`, a row is left out with all of its unit, and unless they may be
    `alone`, units with one row are left out. Raises DataError for a column that cannot be used, and with
    missing="raise" for any row that would be left out.
    """
    index = door.index(table)
    within = dict(zip(("unit", "alternative"), packed or (), strict=False))
    reserved = list(
        dict.fromkeys([*([] if weights is None else [weights]), *cluster, *(offsets or {}).values(), *within.values()])
    )
    formula_columns = list(dict.fromkeys(name for part in used.values() for name in part))
    picked = door.pick(table, formula_columns)
    extra = pd.DataFrame(index=picked.index)
    added = [(one, role) for role, one in (offsets or {}).items()]
    for name, role in [(weights, "weights"), *((one, "cluster") for one in cluster), *added]:
        if name is not None:
            extra[name] = door.pick(table, [name], f"{role}={name!r}")[name]
    for role, name in within.items():  # as plain values, for a category may have levels that do not occur
        extra[name] = door.pick(table, [name], f"{role}={name!r}")[name].to_numpy()
    clean = {name: door.plain(picked[name]) for name in formula_columns}
    kept, dropped = np.ones(len(index), dtype=bool), dict[str, int]()
    if subset is not None:
        kept = _query(table, subset, context or {})
        dropped["subset"] = int((~kept).sum())

    holes: list[tuple[str, str, np.ndarray]] = []  # cause, column, where
    for part, part_columns in used.items():
        holes.extend((CAUSES[part], name, door.missing(clean[name])) for name in part_columns)
    weight = np.ones(len(index))
    if weights is not None:
        weight, absent = _weights(extra[weights], kept)
        holes.append(("missing weights", weights, absent))
    offset = np.zeros(len(index))
    for role, name in (offsets or {}).items():
        values, absent = _offset(extra[name], role, kept)
        offset += np.where(absent, 0.0, values)
        holes.append((f"missing {role}", name, absent))
    holes.extend(("missing cluster", name, extra[name].isna().to_numpy(dtype=bool)) for name in cluster)
    holes.extend((f"missing {role}", name, extra[name].isna().to_numpy(dtype=bool)) for role, name in within.items())
    if missing == "raise":
        _refuse(holes, kept)
    among = kept
    for cause, _, where in holes:
        dropped[cause] = dropped.get(cause, 0) + int((kept & where).sum())
        kept = kept & ~where
    ids = None
    if packed is not None:
        kept, more = packing.whole(extra[packed[0]], kept, among, alone)
        dropped, ids = dropped | more, pd.Index(extra[packed[0]].dropna().unique())
    rows = np.flatnonzero(kept)
    return Sample(
        columns={name: series.iloc[rows].reset_index(drop=True) for name, series in clean.items()},
        weight=weight[rows],
        offset=offset[rows],
        extra=extra[reserved].iloc[rows].reset_index(drop=True),
        rows=rows,
        index=index,
        dropped={cause: count for cause, count in dropped.items() if count},
        ids=ids,
    )


def without(sample: Sample, bad: np.ndarray, cause: str, unit: str | None) -> Sample:
    """The sample without the rows that are `bad` (n,), and without what else is left of their units."""
    kept, more = ~bad, dict[str, int]()
    if unit is not None:
        kept, more = packing.whole(sample.extra[unit], kept, np.ones_like(bad), alone=True)
    keep = np.flatnonzero(kept)
    more[cause] = int(bad.sum())
    dropped = sample.dropped | {one: sample.dropped.get(one, 0) + count for one, count in more.items() if count}
    return sample._replace(
        columns={name: series.iloc[keep].reset_index(drop=True) for name, series in sample.columns.items()},
        weight=sample.weight[keep],
        offset=sample.offset[keep],
        extra=sample.extra.iloc[keep].reset_index(drop=True),
        rows=sample.rows[keep],
        dropped=dropped,
    )


def codes(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Cluster membership as codes 0..G-1 in sorted order, one column per name: (n, len(names)) int64."""
    found = [
        pd.factorize(frame[name].astype("category").cat.remove_unused_categories(), sort=True)[0] for name in names
    ]
    return np.stack(found, axis=1).astype("int64") if found else np.empty((len(frame), 0), dtype="int64")


def _query(table: Any, subset: str, context: Mapping[str, Any]) -> np.ndarray:
    if not isinstance(subset, str):
        raise OptionError(
            f"subset is a query string such as 'age >= 18 and city == \"Rome\"', not {type(subset).__name__}."
        )
    if isinstance(table, door.Stored):
        frame = table.select([name for name in table.columns if name in subset])  # the others are not in the query
    else:
        frame = (table if isinstance(table, pd.DataFrame) else table.to_pandas()).reset_index(drop=True)
    try:
        mask = frame.eval(subset, local_dict=dict(context), global_dict={}, engine="python")
    except Exception as error:  # whatever the user's expression raises
        raise DataError(f"subset={subset!r} cannot be evaluated on the data: {error}.") from error
    if np.shape(mask) != (len(frame),) or not types.is_bool_dtype(getattr(mask, "dtype", None)):
        raise DataError(
            f"subset={subset!r} is not a condition (true or false for each row). Type, for example, 'x > 0'."
        )
    return pd.Series(mask).fillna(False).to_numpy(dtype=bool)


def _weights(series: pd.Series, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    plain = door.plain(series)
    if not types.is_numeric_dtype(plain.dtype) or types.is_bool_dtype(plain.dtype):
        raise DataError(
            f"The weights {series.name!r} are not numbers (dtype {series.dtype}). Weights must be positive numbers."
        )
    values = plain.to_numpy(dtype="float64")
    bad = kept & np.isfinite(values) & (values <= 0)
    if bad.any():
        zero, negative = int((values[bad] == 0).sum()), int((values[bad] < 0).sum())
        raise DataError(
            f"The weights {series.name!r} must be positive: {zero} are zero and {negative} negative. "
            f"Leave these rows out: subset='{series.name} > 0'."
        )
    return values, ~np.isfinite(values)


def _offset(series: pd.Series, role: str, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is added to the index, the log of an exposure, and where it is missing; (n,) each."""
    plain = door.plain(series)
    if not types.is_numeric_dtype(plain.dtype) or types.is_bool_dtype(plain.dtype):
        raise DataError(f"The {role} {series.name!r} is not numbers (dtype {series.dtype}). Name a numeric column.")
    values = plain.to_numpy(dtype="float64")
    absent = ~np.isfinite(values)
    if role == "offset":
        return values, absent
    if bad := int((kept & ~absent & (values <= 0)).sum()):
        raise DataError(
            f"The exposure {series.name!r} must be positive, for its log is taken, but {bad} rows have 0 or less. "
            f"Leave them out: subset='{series.name} > 0'."
        )
    return np.log(np.where(values > 0, values, 1.0)), absent


def _refuse(holes: list[tuple[str, str, np.ndarray]], kept: np.ndarray) -> None:
    counts = {name: int((kept & where).sum()) for _, name, where in holes}
    if found := [f"{name!r} in {count}" for name, count in counts.items() if count]:
        raise DataError(
            f"Missing or infinite values, of {int(kept.sum())} rows: {', '.join(found)}. "
            "Fill or remove them, or pass missing='drop'."
        )
