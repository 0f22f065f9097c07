"""Panels: long data, a row for each person and time, as units with their times inside."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api import types
from torch import Tensor

from deepreg import columns as door
from deepreg.design import Design, build
from deepreg.errors import DataError, FormulaError
from deepreg.families import Family
from deepreg.formula import read, split
from deepreg.packing import check_constant, plain
from deepreg.recipe import TRANSFORMS
from deepreg.units import NOTHING, Units


@dataclass(frozen=True, eq=False)
class Waves:
    """The person and the time of each row, persons in the order of their ids, and times within them in order."""

    ids: pd.Index  # (n,)
    code: np.ndarray  # (rows,) position among ids
    place: np.ndarray  # (rows,) 0 for the first time of a person
    time: np.ndarray  # (rows,)

    @classmethod
    def of(cls, ids: pd.Index, unit: pd.Series, within: pd.Series) -> "Waves":
        """DataError where a person has two rows for one time."""
        code = np.asarray(ids.get_indexer(pd.Index(np.asarray(unit))), dtype=np.int64)
        time = within.to_numpy(dtype=np.float64)
        twice = pd.DataFrame({"code": code, "time": time}).duplicated().to_numpy()
        if twice.any():
            first = int(np.flatnonzero(twice)[0])
            raise DataError(
                f"{int(twice.sum())} rows repeat a time of their person, for example {within.name}={time[first]:g} of "
                f"{unit.name}={plain(ids[code[first]])!r}. Keep one row for each person and time: "
                f"data.drop_duplicates([{unit.name!r}, {within.name!r}])."
            )
        order = np.lexsort((time, code))
        start = np.searchsorted(code[order], np.arange(len(ids)))
        place = np.empty(len(code), dtype=np.int64)
        place[order] = np.arange(len(code)) - start[code[order]]
        return cls(ids, code, place, time)

    @property
    def counts(self) -> np.ndarray:
        """How many rows each person has; (n,)."""
        return np.bincount(self.code, minlength=len(self.ids))

    def pack(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Values of rows by person and time, `fill` where there is no row; (rows, ...) -> (n, T, ...) with T >= 1."""
        size = max(int(self.place.max(initial=0)) + 1, 1)
        packed = values.new_full((len(self.ids), size, *values.shape[1:]), fill)
        packed[torch.from_numpy(self.code), torch.from_numpy(self.place)] = values
        return packed


@dataclass(frozen=True, eq=False)
class People:
    """Persons with their times: the units of a mixture over persons, and how to make them of other data.

    Three designs on the same rows: of the curve, of zeros in excess (None where they are constant, or there are none),
    and of the risk factors, a row for each person (None where there are none).
    """

    unit: str
    within: str
    component: Family
    curve: Design
    zeros: Design | None
    risk: Design | None
    waves: Waves
    units: Units
    last: pd.DataFrame  # (n) what was last known of each person, at the positions of waves.ids

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of d for each natural parameter of the component."""
        second = (1 if self.zeros is None else len(self.zeros.terms),) * (len(self.component.prefixes) - 1)
        return (len(self.curve.terms), *second, *(1 for _ in self.component.extra))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the columns of d: of the curve, of zeros, ancillary parameters, and risk factors."""
        second = ("Intercept",) if self.zeros is None else self.zeros.terms
        later = [prefix + term for prefix in self.component.prefixes[1:] for term in second]
        return (*self.curve.terms, *later, *self.component.extra, *self.factors)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the columns that membership depends on."""
        return ("Intercept",) if self.risk is None else self.risk.terms

    @property
    def moving(self) -> tuple[int, ...]:
        """Columns of the curve that are made of the time, in the order of the formula: those that `orders` counts."""
        used = {name: term for term, names in self.curve.recipe.regressors.terms() for name in names}
        timed = {term for term in used.values() if self.within in _words(term)}
        return tuple(j for j, name in enumerate(self.curve.terms) if used[name] in timed)

    @property
    def risky(self) -> tuple[str, ...]:
        """The columns of the data behind the bar."""
        return () if self.risk is None else self.risk.recipe.used["regressors"]

    def of(self, curve: Design, zeros: Design | None, risk: Tensor, waves: Waves) -> Units:
        """Units of designs on the same rows, and risk factors (n, R) of the persons."""
        rows, ones = len(waves.code), torch.ones(len(waves.code), 1, dtype=torch.float64)
        second = [] if len(self.component.prefixes) == 1 else [ones if zeros is None else zeros.units.d]
        inner = torch.cat([curve.units.d, *second, *(ones for _ in self.component.extra)], 1)
        d = waves.pack(inner)
        d = torch.cat([d, risk[:, None].expand(-1, d.shape[1], -1)], 2)
        offset = waves.pack(curve.units.offset) if curve.units.offset.dim() else NOTHING
        y = waves.pack(curve.units.y, self.some)
        return Units(y, d, waves.pack(torch.ones(rows, dtype=torch.float64)), offset)

    @property
    def some(self) -> float:
        """An outcome that there can be, for where there is none."""
        return float(self.units.y.flatten()[0])

    def new(self, data: Any, outcome: bool = True) -> "People":
        """Other persons, with the rows of theirs that have all they need; those without an outcome have no times.

        DataError where a column is missing, a person has two rows for one time, or risk factors differ within one.
        """
        table = door.table(data)
        known = door.names(table)
        wanted = self.curve.recipe.used["outcome"]
        seen = outcome and all(name in known for name in wanted)
        needed = [self.unit, *self.risky, *((*self.regressors, self.within, *wanted) if seen else ())]
        extra = [name for name in (self.within, *self.regressors) if name in known]
        frame = door.pick(table, [*needed, *extra], "The table of new persons")
        frame = frame[frame[self.unit].notna()].reset_index(drop=True)
        ids = pd.Index(np.sort(np.asarray(frame[self.unit].unique())), name=self.unit)
        check_constant(frame, self.unit, self.risky, *RISK)
        last = _last(frame, self.unit, self.within, ids)
        risk = torch.ones(len(ids), 1, dtype=torch.float64)
        if self.risk is not None:
            made = self.risk.new(last, unseen="raise")
            risk = torch.full((len(ids), len(self.factors)), torch.nan, dtype=torch.float64)
            risk[torch.from_numpy(made.rows)] = made.units.d
        rows = frame[frame[self.within].notna()] if seen else _empty([*needed, self.within, *self.regressors, *wanted])
        curve, zeros = self.curve.new(rows, outcome=True, unseen="raise"), None
        rows = rows.iloc[curve.rows]
        if self.zeros is not None:
            zeros = self.zeros.new(rows, unseen="raise")
            if len(zeros.rows) < len(rows):
                rows = rows.iloc[zeros.rows]
                curve = self.curve.new(rows, outcome=True)
        both = torch.cat([self.units.y[self.units.mask > 0], curve.units.y])  # what a sample must have, the fit's has
        self.component.check(curve.units._replace(y=both), self.curve.outcome)
        waves = Waves.of(ids, rows[self.unit], rows[self.within])
        units = self.of(curve, zeros, risk, waves)
        return replace(self, curve=curve, zeros=zeros, waves=waves, units=units, last=last)

    @property
    def regressors(self) -> tuple[str, ...]:
        """The columns of the data before the bar but for the time, and of an exposure."""
        used = [*self.curve.recipe.used["regressors"], *self.curve.recipe.offsets.values()]
        if self.zeros is not None:
            used += self.zeros.recipe.used["regressors"]
        return tuple(name for name in dict.fromkeys(used) if name != self.within)

    def at(self, frame: pd.DataFrame, times: np.ndarray, exposed: bool) -> Units:
        """Units of persons as in the frame (m rows), at other times; their log exposure or offset where `exposed`.

        DataError where a column of theirs is missing.
        """
        count = len(times)
        rows = frame.iloc[np.repeat(np.arange(len(frame)), count)].reset_index(drop=True)
        rows = rows.assign(**{self.within: np.tile(times, len(frame))})
        ones = torch.ones(len(rows), 1, dtype=torch.float64)
        parts = [self.curve.structural(rows)]
        if len(self.component.prefixes) > 1:
            parts.append(ones if self.zeros is None else self.zeros.structural(rows))
        parts += [ones for _ in self.component.extra]
        d = torch.cat([*parts, ones.new_zeros(len(rows), len(self.factors))], 1).unflatten(0, (len(frame), count))
        offset = NOTHING
        if exposed and self.curve.recipe.offsets:
            offset = torch.zeros(len(frame), count, dtype=torch.float64)
            for role, name in self.curve.recipe.offsets.items():
                values = torch.from_numpy(frame[name].to_numpy(dtype=np.float64, na_value=np.nan).copy())
                offset = offset + (values.log() if role == "exposure" else values)[:, None]
        return Units(torch.full_like(d[..., 0], self.some), d, torch.ones_like(d[..., 0]), offset)


RISK = ("The risk factor", "Average it within the person, or put it before the bar.")


def _empty(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="float64") for name in names})


def _last(frame: pd.DataFrame, unit: str, within: str, ids: pd.Index) -> pd.DataFrame:
    """What was last known of each person: the last value that is there of each column."""
    ordered = frame.sort_values(within, kind="stable", na_position="first") if within in frame else frame
    return ordered.groupby(unit, observed=True).last().reindex(ids).reset_index()


def _words(text: str) -> set[str]:
    word = "".join(one if one.isalnum() or one in "_." else " " for one in text)
    return set(word.split())


def people(
    formula: str, data: Any, component: Family, *, unit: str, within: str, inflate: str | None, offset: str | None,
    exposure: str | None, subset: str | None, missing: str, context: Mapping[str, Any],
) -> People:  # fmt: skip
    """Read `outcome ~ curve | risk factors` against long data; raises as build(), and for rows that are no panel."""
    texts = split(formula)
    if "controls" in texts:
        raise FormulaError(
            f"The formula {formula!r} has a third part. Trajectories take two: 'outcome ~ curve | risk factors'."
        )
    table = door.table(data)
    for role, name in (("unit", unit), ("within", within)):
        door.require(table, [name], f"{role}=")
    left, reserved = texts["outcome"], [name for name in (unit, within, offset, exposure) if name is not None]
    asked = {"risk": texts.get("features"), "inflate": inflate}

    def columns(text: str) -> tuple[str, ...]:
        parsed = read(f"{left} ~ {text}", door.names(table), context, TRANSFORMS, reserved)
        return parsed.columns["regressors"]

    more = {role: columns(text) for role, text in asked.items() if text is not None}
    curve = build(
        f"{left} ~ {texts['regressors']}", table, offset=offset, exposure=exposure, subset=subset, missing=missing,
        context=context, beside={"unit": (unit,), "within": (within,), **more},
    )  # fmt: skip
    component.check(curve.units, curve.outcome)
    frame = curve.frame
    if not types.is_numeric_dtype(frame[within]):
        raise DataError(f"within={within!r} is text or a category; times are numbers, such as an age or a wave.")
    ids = pd.Index(np.sort(np.asarray(frame[unit].unique())), name=unit)
    waves = Waves.of(ids, frame[unit], frame[within])
    check_constant(frame, unit, more.get("risk", ()), *RISK)
    zeros = None if inflate is None else build(f"{left} ~ {inflate}", frame, context=context)
    last = _last(frame, unit, within, ids)
    risk = build(f"{left} ~ {asked['risk']}", last, context=context) if "risk" in more else None
    made = People(unit, within, component, curve, zeros, risk, waves, curve.units, last)
    factors = torch.ones(len(ids), 1, dtype=torch.float64) if risk is None else risk.units.d
    return replace(made, units=made.of(curve, zeros, factors, waves))
