"""Settings: what a variable is set to, or a cost is: one value, a column, a value for each row, or a rule."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..curve import matched
from ..design import Design
from ..errors import DataError, OptionError
from ..variables import Variable
from .average import shown, variable
from .base import Scenario

Settings = tuple[tuple[str, object], ...]  # variables and what each is set to


def bound(label: str, given: object, design: Design, of: Variable | None = None) -> object:
    """A setting that can be compared and kept: an array as a tuple with a value for each row used.

    `of` is the variable that is set, None for a number such as a cost; `label` begins the errors. Raises OptionError
    for a name that is neither a level nor a column, for the outcome, and for an array of another length.
    """
    if callable(given):
        return given
    if isinstance(given, str):
        if not _is_level(given, of) and given not in design.frame:
            known = ", ".join(map(repr, design.frame.columns))
            what = f"neither a level of {of.name!r} nor a column" if of else "no column"
            raise OptionError(
                f"{label}: {given!r} is {what} of the formula; columns are {known}. Name one of them, or give an array "
                "with a value for each row used, or a function of the frame."
            )
        if given in design.recipe.used["outcome"] and not _is_level(given, of):
            raise OptionError(f"{label}: {given!r} is the outcome, which a setting cannot depend on. Name another.")
        return given
    if np.ndim(given) == 0:  # type: ignore[arg-type]
        value = given.item() if isinstance(given, np.generic) else given
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            raise OptionError(
                f"{label}: {given!r} is no value; give a number or a level, the name of a column, an array with a "
                "value for each row used, or a function of the frame."
            )
        return value
    if design.packing is not None:
        raise OptionError(
            f"{label}: an array has a value for each row, and a choice has several rows. Give one value, the name of a "
            "column, or a function of the frame such as lambda frame: 0.9 * frame.price."
        )
    rows = design.index[design.rows] if len(design.rows) else None
    return tuple(matched(given, rows, design.n, label, "value").tolist())


def read(given: object, frame: pd.DataFrame, of: Variable | None = None) -> Any:
    """The values of a bound setting in (an edit of) the frame, whose index holds the positions of the rows used."""
    if callable(given):
        value = given(frame)
        if np.ndim(value) > 1 or (np.ndim(value) == 1 and len(value) != len(frame)):
            raise DataError(
                f"The rule returned values of shape {np.shape(value)} for a frame of {len(frame)} rows; return one "
                "value for each row, or one for all, for example `lambda frame: frame.x > 0`."
            )
        return value.array if isinstance(value, pd.Series) else value
    if isinstance(given, str) and not _is_level(given, of):
        return frame[given].array
    if isinstance(given, tuple):
        return np.asarray(given)[frame.index]
    return given


def numeric(label: str, given: object, frame: pd.DataFrame) -> np.ndarray:
    """The values as numbers (rows,); DataError where they are not finite numbers."""
    try:
        values = np.broadcast_to(np.asarray(read(given, frame), dtype=np.float64), len(frame))
    except (TypeError, ValueError) as error:
        raise DataError(f"{label}: {called(given)} does not hold numbers; give numbers.") from error
    if not np.isfinite(values).all():
        raise DataError(f"{label}: {called(given)} holds {int((~np.isfinite(values)).sum())} values that are no finite "
                        "numbers; give a finite number for every row.")  # fmt: skip
    return values


def moves(given: object, design: Design, of: Variable | None = None) -> bool:
    """Whether a bound setting depends on the structural variables as observed."""
    names = [v.name for v in design.variables]
    if isinstance(given, str):
        return given in names and not _is_level(given, of)
    if not callable(given):
        return False
    try:
        return not np.array_equal(given(design.frame.drop(columns=names)), given(design.frame))
    except (KeyError, AttributeError, NameError):  # it asked for one of them
        return True


def bound_all(label: str, given: Mapping[str, object] | Settings, design: Design) -> Settings:
    """Bound settings of one or several variables, given by their names."""
    pairs: Iterable[tuple[str, object]] = given.items() if isinstance(given, Mapping) else given
    if not isinstance(given, Mapping | tuple) or not given:
        raise OptionError(f"{label} got {given!r}; give variables and their values, for example {{'t': 1}}.")
    return tuple((name, bound(label, value, design, variable(label, name, design))) for name, value in pairs)


def edit(settings: Settings, design: Design) -> Scenario:
    """The edit of the data that makes the settings."""
    return {name: _reader(value, variable("", name, design)) for name, value in settings}


def _reader(given: object, of: Variable) -> object:
    return lambda frame: read(given, frame, of)


def moves_any(settings: Settings, design: Design) -> bool:
    """Whether settings depend on the structural variables as observed: on some, or by leaving one as it is."""
    left = {v.name for v in design.variables} - {name for name, _ in settings}
    return bool(left) or any(moves(value, design, variable("", name, design)) for name, value in settings)


def text(settings: Settings) -> str:
    """A short name of settings for tables."""
    return ", ".join(f"{name} = {called(value)}" for name, value in settings)


def called(given: object) -> str:
    """A short name for tables."""
    if callable(given):
        name = getattr(given, "__name__", "<lambda>")
        return "rule" if name == "<lambda>" else str(name)
    return "given" if isinstance(given, tuple) else shown(given)


def _is_level(given: str, of: Variable | None) -> bool:
    return of is not None and given in of.levels
