"""Packing: rows of long data, one for each alternative of a unit, as units with the alternatives inside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deepreg.columns import Column
from deepreg.errors import DataError
from deepreg.variables import Variable

NAMED = 50  # alternatives up to which each has a position of its own
INCOMPLETE, ALONE = "incomplete choice set", "single alternative"  # why whole units are left out
_ONE = "The column", "Give each unit one value."


@dataclass(frozen=True, eq=False)
class Packing:
    """Columns that name the unit and the alternative of each row, and the positions of alternatives inside a unit.

    Up to 50 alternatives have a position each, by name; of more, the rows of a unit are its positions, in their order,
    and `alternatives` is empty. `ids` are all units of the data and `used` the positions among them of those that are
    left, n of them, in the order of their first rows.
    """

    unit: str
    alternative: str
    alternatives: tuple[Any, ...]
    size: int  # J
    attributes: tuple[Variable, ...]  # the raw columns among the structural terms
    ids: pd.Index
    used: np.ndarray  # (n,)

    @classmethod
    def of(
        cls, frame: pd.DataFrame, given: pd.DataFrame, ids: pd.Index, packed: tuple[str, str],
        used: Mapping[str, Sequence[str]], columns: Mapping[str, Column],
    ) -> "Packing":  # fmt: skip
        """From the rows used, as the formula reads them and as they were given; DataError where they are no units."""
        unit, alternative = packed
        _check(frame, given, packed, used)
        check_constant(given, unit, [name for name in given if name not in packed], *_ONE)  # weights and clusters
        code, names = pd.factorize(given[unit])
        known = sorted(given[alternative].unique().tolist(), key=lambda one: (str(type(one)), one))
        named = len(known) <= NAMED
        size = len(known) if named else int(np.bincount(code).max())
        mine = [name for name in used["regressors"] if name != alternative]
        attributes = tuple(Variable.of(name, frame[name], columns[name]) for name in mine)
        return cls(unit, alternative, tuple(known) if named else (), size, attributes, ids, ids.get_indexer(names))

    @property
    def names(self) -> tuple[str, ...]:
        """What the J positions are called."""
        return tuple(str(one) for one in self.alternatives or range(1, self.size + 1))

    @property
    def index(self) -> pd.Index:
        """The n units used, by their ids."""
        return self.ids[self.used]

    def empty(self) -> "Packing":
        """The same of no units."""
        return replace(self, ids=self.ids[:0], used=self.used[:0])

    def on(
        self, frame: pd.DataFrame, given: pd.DataFrame, ids: pd.Index, used: Mapping[str, Sequence[str]]
    ) -> "Packing":
        """The same for the rows of other data; alternatives that are new have positions after the others."""
        _check(frame, given, (self.unit, self.alternative), used)
        code, names = pd.factorize(given[self.unit])
        new = [one for one in given[self.alternative].unique().tolist() if one not in self.alternatives]
        known = (*self.alternatives, *new) if self.alternatives else ()
        size = len(known) or int(np.bincount(code).max(initial=self.size))
        return replace(self, alternatives=known, size=size, ids=ids, used=ids.get_indexer(names))

    def check_constant(self, frame: pd.DataFrame, names: Iterable[str]) -> None:
        """DataError naming a column that is not the same in all rows of a unit."""
        check_constant(frame, self.unit, names, *_ONE)

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        """The unit of each row, by the order of their first rows; (rows,)."""
        return np.array(pd.factorize(frame[self.unit])[0])  # of its own memory, as torch wants it

    def places(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """The unit and the position inside it of each row; (rows,) each."""
        code = self.codes(frame)
        if self.alternatives:
            return code, np.array(pd.Index(self.alternatives).get_indexer(pd.Index(frame[self.alternative].to_numpy())))
        return code, np.array(frame.groupby(code).cumcount())

    def pack(self, frame: pd.DataFrame, values: Tensor) -> Tensor:
        """Values of rows by unit and position, 0 where there is no row; (rows, ...) -> (units, J, ...)."""
        code, place = self.places(frame)
        count = int(code.max(initial=-1)) + 1
        packed = values.new_zeros(count, self.size, *values.shape[1:])
        packed[torch.from_numpy(code), torch.from_numpy(place)] = values
        return packed

    def unpack(self, frame: pd.DataFrame, values: Tensor) -> Tensor:
        """The values at the unit and position of each row; (units, J, ...) -> (rows, ...)."""
        code, place = self.places(frame)
        return values[torch.from_numpy(code), torch.from_numpy(place)]

    def within(self, frame: pd.DataFrame, d: np.ndarray) -> np.ndarray:
        """d less its mean in each unit, 0 where that is rounding; (rows, K)."""
        code = self.codes(frame)
        total = np.zeros((int(code.max(initial=-1)) + 1, d.shape[1]))
        np.add.at(total, code, d)
        apart = d - (total / np.bincount(code)[:, None])[code]
        return np.where(np.abs(apart) > 1e-12 * np.abs(d).max(axis=0, initial=0), apart, 0.0)

    def first(self, frame: pd.DataFrame) -> np.ndarray:
        """The first row of each unit; (units,)."""
        return np.unique(self.codes(frame), return_index=True)[1]


def whole(unit: pd.Series, kept: np.ndarray, among: np.ndarray, alone: bool) -> tuple[np.ndarray, dict[str, int]]:
    """The rows kept (rows,) without those of a unit that lacks some, and counts by cause of what is left out so.

    `among` are the rows there were before any was left out for what it lacks. Unless a unit may be `alone`, those with
    one row are left out, for they had no choice.
    """
    broken = unit.isin(unit[among & ~kept].dropna().unique()).to_numpy()
    left = kept & ~broken
    lonely = left & (unit.map(unit[left].value_counts()) == 1).to_numpy(dtype=bool) & (not alone)
    return left & ~lonely, {INCOMPLETE: int((kept & broken).sum()), ALONE: int(lonely.sum())}


def _check(
    frame: pd.DataFrame, given: pd.DataFrame, packed: tuple[str, str], used: Mapping[str, Sequence[str]]
) -> None:
    """DataError where an alternative stands twice in a choice set, or a feature differs within one."""
    unit, alternative = packed
    twice = given.duplicated([unit, alternative]).to_numpy()
    if twice.any():
        row = given[twice].iloc[0]
        raise DataError(
            f"{int(twice.sum())} rows repeat an alternative of their unit, for example {alternative}="
            f"{plain(row[alternative])!r} of {unit}={plain(row[unit])!r}. Keep one row for each alternative of each "
            f"unit: data.drop_duplicates([{unit!r}, {alternative!r}])."
        )
    mend = "Average it within the unit, or put it before the bar."
    check_constant(frame, unit, used.get("features", ()), "The feature", mend)


def check_constant(frame: pd.DataFrame, unit: str, names: Iterable[str], what: str, mend: str) -> None:
    """DataError naming a column that is not the same in all rows of a unit, and such a unit."""
    for name in names:
        different = frame.groupby(unit, observed=True, sort=False)[name].nunique() > 1
        if different.any():
            example = plain(different.index[different.to_numpy()][0])
            raise DataError(
                f"{what} {name!r} must be the same in all rows of a unit, but differs within "
                f"{int(different.sum())} units, for example {unit}={example!r}. {mend}"
            )


def chosen(packing: Packing, frame: pd.DataFrame, y: np.ndarray, outcome: str) -> np.ndarray:
    """The position chosen by each unit, from 0 and 1 (rows,); DataError unless each unit has chosen once. (units,)"""
    odd = (y != 0) & (y != 1)
    if odd.any():
        raise DataError(
            f"The outcome {outcome!r} says which alternative was chosen and must be 0 or 1, but {int(odd.sum())} rows "
            f"hold other values, for example {y[odd][0]:g}. Type, for example, I(({outcome} > 0) * 1)."
        )
    code, place = packing.places(frame)
    count = np.bincount(code, weights=y)
    if (bad := count != 1).any():
        first = int(np.flatnonzero(bad)[0])
        example = plain(packing.index[first])
        raise DataError(
            f"Every unit must have chosen one alternative, but by {outcome!r} {int((count == 0).sum())} units chose "
            f"none and {int((count > 1).sum())} chose several; for example {packing.unit}={example!r} "
            f"chose {int(count[first])}. Add the row of what was chosen, or leave these units out."
        )
    found = np.empty(len(count))
    found[code[y == 1]] = place[y == 1]
    return found


def cancelling(packing: Packing, frame: pd.DataFrame, d: np.ndarray, names: Sequence[str], formula: str) -> list[str]:
    """The columns of d (rows, K) that are there to code an interaction alone, being the same for all of a unit.

    DataError naming a column that cancels likewise and is in no interaction.
    """
    within = packing.within(frame, d)
    found = [name for name, one in zip(names, within.T, strict=True) if not one.any()]
    for name in found:
        if not any(name in other.split(":") for other in names if other not in found):
            raise DataError(
                f"The regressor {name!r} of {formula!r} is the same for all alternatives of each unit, so it cannot "
                "move the choice among them. Put it behind the bar, or let it move the constants of the alternatives: "
                f"C({packing.alternative}) * {name}."
            )
    return found


def plain(value: object) -> object:
    """A value as Python has it, whose text is that in the data."""
    return value.item() if isinstance(value, np.generic) else value
