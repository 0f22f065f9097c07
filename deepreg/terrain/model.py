"""Risk terrain models: counts of places explained by at most one risk factor of every set, the best ones searched."""

import fnmatch
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import columns as door
from .. import families
from ..call import Call
from ..design import Design, build
from ..errors import DataError, FormulaError, OptionError
from ..families import Family
from ..formula import near, split
from ..model import Model
from ..searching import LIMIT, Found, search
from ..seeds import generator
from ..structure import Structure
from ..submodels import Submodels
from ..threads import threads
from ..units import Units
from .dropout import dropout
from .factors import Candidates
from .fitted import Terrain

FAMILIES = ("poisson", "negbin")
SEARCHES = ("exact", "beam", "dropout")
LEAST_DISPERSION = -12.0  # of log_alpha, where a negative binomial count is a Poisson count


def rtm(
    formula: str,
    data: object,
    *,
    sets: Mapping[str, str | Sequence[str]],
    family: str = "best",
    none: bool = True,
    exposure: str | None = None,
    subset: str | None = None,
    missing: str = "drop",
    context: Mapping[str, object] | None = None,
) -> "RiskTerrain":
    """A risk terrain model: counts of places, with at most one risk factor out of every set, at its best scale.

    The mean is exp(b0 + what the formula names + b_1 z_1 + ... + b_S z_S), where z_s is one column of set s (a distance
    or a density of one kind of place, at one scale) and b_s > 0. `fit()` finds the columns by the likelihood: every
    choice of one column per set is a candidate, and those next to the best are kept.

    Parameters
    ----------
    formula : str
        "count ~ controls", without a bar: what is in every model. "count ~ 1" for no controls.
    data : pandas or polars DataFrame, pyarrow Table or Dataset, path of a file, or mapping of columns
        A row for each place.
    sets : mapping
        Names of sets, and the columns of each: a pattern such as "alc_*", or a list of names and patterns.
    family : "best", "poisson" or "negbin"
        "best" searches both, and takes what has the smaller BIC.
    none : bool
        Whether a set may be left out.
    exposure : str, optional
        Column of positive numbers the mean is proportional to, such as the area or the length of a street.
    subset, missing, context
        As in structural().

    Returns
    -------
    RiskTerrain
        Call `.fit()` on it.

    Raises
    ------
    OptionError, DataError, FormulaError
        Naming the set or the column: a pattern that matches nothing, a column in two sets, a set without a column that
        varies, a column that separates the places with events from those without.

    References
    ----------
    Caplan, Kennedy and Miller (2011), Justice Quarterly 28(2); Kennedy, Caplan and Piza (2011), Journal of Quantitative
    Criminology 27(3).

    Examples
    --------
    >>> import deepreg
    >>> places = deepreg.simulate.risk_terrain(600, rng=1).frame
    >>> model = deepreg.rtm("events ~ corner", places, sets={"bars": "bar_*", "stations": "station_*"})
    >>> model.fit().factors
    {'bars': 'bar_200', 'stations': 'station_300'}
    """
    if family not in ("best", *FAMILIES):
        raise OptionError(f"family={family!r}: counts of a risk terrain are 'poisson', 'negbin' or 'best' of the two.")
    if not isinstance(none, bool):
        raise OptionError(f"none={none!r}: give True where a set may be left out, else False.")
    if len(split(formula)) > 2:
        raise FormulaError(f"The formula {formula!r} has a bar, but the coefficients of a risk terrain are constant.")
    opened = door.table(data)
    known = door.names(opened)
    named = {name: _columns(name, given, known) for name, given in _mapping(sets).items()}
    _refuse_shared(named)
    frame = _numbers(opened, named)
    if context is None:
        caller = inspect.currentframe()
        back = caller.f_back if caller is not None else None
        context = {**back.f_globals, **back.f_locals} if back is not None else {}
    every = tuple(column for columns in named.values() for column in columns)
    options: dict[str, Any] = {"exposure": exposure, "subset": subset, "missing": missing, "context": context}
    design = build(formula, frame, beside={"risk": every}, **options)
    _refuse_used(named, design)
    for one in FAMILIES if family == "best" else (family,):
        families.get(one).check(design.units, design.outcome)
    kept, notes = _usable(named, design)
    call = Call(function="rtm", formula=formula)
    return RiskTerrain(design, frame, options, kept, FAMILIES if family == "best" else (family,), none, notes, call)


@dataclass(frozen=True, repr=False, eq=False)
class RiskTerrain:
    """A risk terrain model that is ready to fit. Made by `deepreg.rtm`; frozen."""

    design: Design  # of what is in every model
    frame: pd.DataFrame  # the caller's data
    options: Mapping[str, Any]
    sets: Mapping[str, tuple[str, ...]]
    families: tuple[str, ...]
    none: bool
    notes: tuple[str, ...]
    call: Call

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(columns)}" for name, columns in self.sets.items())
        return f"<deepreg RiskTerrain {self.design.formula!r}, sets {sizes}, not fitted>"

    def fit(
        self, *, search: str | None = None, limit: int = LIMIT, width: int = 20, steps: int = 10_000,
        rng: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> Terrain:  # fmt: skip
        """Find one column of every set by the BIC, and fit that model.

        search : "exact" looks at every candidate and is the default up to `limit` of them; "beam" changes one set at a
            time from the `width` best; "dropout" trains all columns with one of each set at a time, drawn at random for
            `steps` steps from `rng`, and keeps the largest coefficient of each set, which favours rare columns.

        A candidate is admissible where the coefficients of its sets are above 0: otherwise it is no better than the one
        without them. Raises OptionError for an unknown search, DataError where no candidate is admissible.
        """
        if search is not None and search not in SEARCHES:
            raise OptionError(f"search={search!r}: allowed are {', '.join(map(repr, SEARCHES))}.")
        units, lower = self._units()
        found: dict[str, Candidates] = {}
        before = None
        for name in self.families:
            pool = self._pool(families.get(name), units, lower)
            with threads(self.design.n):
                found[name] = before = self._searched(pool, search, limit, width, steps, rng, before)
        best = min(found, key=lambda name: found[name].found.value)
        return Terrain(self._final(best, found[best]), self.sets, found, best, self.notes, self.frame)

    def _units(self) -> tuple[Units, Tensor]:
        """The units with the columns of all sets after those of every model, and the bounds of their coefficients."""
        u = self.design.units
        more = [column for columns in self.sets.values() for column in columns]
        extra = torch.from_numpy(self.design.frame[more].to_numpy("float64"))
        lower = torch.cat([u.d.new_full((u.d.shape[1],), -torch.inf), u.d.new_zeros(len(more))])
        return u._replace(d=torch.cat([u.d, extra], 1)), lower

    def _pool(self, family: Family, units: Units, lower: Tensor) -> "Candidates":
        k, options, at = self.design.units.d.shape[1], [], self.design.units.d.shape[1]
        for columns in self.sets.values():
            options.append(([-1] if self.none else []) + list(range(at, at + len(columns))))
            at += len(columns)
        models = Submodels(family, units, lower, LEAST_DISPERSION)
        labels = (*self.design.terms, *(column for columns in self.sets.values() for column in columns))
        return Candidates(models, k, labels, tuple(self.sets), tuple(map(tuple, options)))

    def _searched(
        self, pool: Candidates, how: str | None, limit: int, width: int, steps: int, rng: Any,
        before: Candidates | None,
    ) -> Candidates:  # fmt: skip
        pool = pool.started(before)
        assert pool.begin is not None, "started() fits it"
        if how == "dropout":
            picked = dropout(pool.models, pool.begin[0], pool.base, pool.options, steps, generator(rng))
            chosen = pool.pruned(picked)
            values, theta = pool.score(chosen[None])
            if not np.isfinite(values[0]):
                raise DataError("The columns that dropout picked have no fit together. Use search='exact'.")
            size = int(np.prod([len(one) for one in pool.options]))
            note = f"dropout: the largest coefficient of each set after {steps:,} steps, of {size:,} candidates"
            found = Found(pool.names, pool.named(), chosen[None], values, size, 1, note=note)
            return pool.after(found, chosen[None], values, theta)
        seen: list[tuple[np.ndarray, np.ndarray, Tensor]] = []

        def criterion(positions: np.ndarray) -> np.ndarray:
            values, theta = pool.score(positions)
            seen.append((positions, values, theta))
            return values

        candidates = dict(zip(pool.names, pool.named(), strict=True))
        if not self.none:
            self._check_signs(pool)
        found = search(candidates, criterion, method=how, batched=True, limit=limit, width=width)
        positions, each, thetas = zip(*seen, strict=True)
        return pool.after(found, np.concatenate(positions), np.concatenate(each), torch.cat(thetas))

    def _check_signs(self, pool: Candidates) -> None:
        """DataError for a set that has to be in the model, and of which no column has a coefficient above 0 alone."""
        for name, options in zip(pool.names, pool.options, strict=True):
            alone = torch.tensor([[*range(pool.base), one] for one in options])
            fits = pool.models.fit(alone, torch.ones_like(pool.models.units.y)[None])
            if not bool((fits.theta[:, pool.base] > 0).any()):
                raise DataError(
                    f"The set {name!r} has no column with a coefficient above 0, even alone, but none=False asks for "
                    "one of every set. Use none=True, or leave the set out."
                )

    def _final(self, family: str, pool: Candidates) -> Any:
        """The chosen model, fitted as any other regression, to the rows of the search."""
        chosen = [one for one in pool.found.best.values() if one is not None]
        every = tuple(column for columns in self.sets.values() for column in columns)
        text = " + ".join([self.design.formula, *(f"`{one}`" for one in chosen)])
        design = build(text, self.frame, beside={"risk": every}, **self.options)
        kind = families.get(family)
        bound, units = kind.bind(design.units, design.levels)
        design = replace(design, units=units, dropped=self.design.dropped)
        return Model(design, Structure(bound, design.terms), "robust", None, self.call).fit()


def _mapping(sets: object) -> Mapping[str, str | Sequence[str]]:
    if not isinstance(sets, Mapping) or not sets or not all(isinstance(name, str) for name in sets):
        raise OptionError(f"sets={sets!r}: give names of sets with the columns of each, e.g. {{'bars': 'bar_*'}}.")
    return sets


def _columns(name: str, given: object, known: Sequence[str]) -> tuple[str, ...]:
    """The columns of a set, in the order of the data; OptionError for what matches none."""
    patterns = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    if not patterns or not all(isinstance(one, str) for one in patterns):
        raise OptionError(f"sets[{name!r}]={given!r}: give a pattern such as 'bar_*', or a list of columns.")
    for pattern in patterns:
        if pattern not in known and not fnmatch.filter(known, pattern):
            raise OptionError(
                f"sets[{name!r}]: no column of the data matches {pattern!r}. {near(pattern.rstrip('*?'), known)}"
            )
    return tuple(one for one in known if any(one == p or fnmatch.fnmatchcase(one, p) for p in patterns))


def _refuse_shared(named: Mapping[str, tuple[str, ...]]) -> None:
    owner: dict[str, str] = {}
    for name, columns in named.items():
        for column in columns:
            if column in owner:
                raise OptionError(
                    f"sets: the column {column!r} is in {owner[column]!r} and in {name!r}. Give each column to one set."
                )
            owner[column] = name


def _refuse_used(named: Mapping[str, tuple[str, ...]], design: Design) -> None:
    used = {one for names in design.recipe.used.values() for one in names} | set(design.recipe.offsets.values())
    for name, columns in named.items():
        if both := [column for column in columns if column in used]:
            raise OptionError(
                f"sets[{name!r}] holds {both[0]!r}, which the formula or exposure= has already. Take it out of one."
            )


def _numbers(opened: Any, named: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """The data as a frame, with booleans of the sets as 0 and 1; DataError for a column of a set that is no number."""
    every = [column for columns in named.values() for column in columns]
    frame = opened if isinstance(opened, pd.DataFrame) else door.pick(opened, door.names(opened))
    clean = {column: door.plain(frame[column]) for column in every}
    for name, columns in named.items():
        for column in columns:
            if not pd.api.types.is_numeric_dtype(clean[column].dtype):
                raise DataError(
                    f"sets[{name!r}]: the column {column!r} is no number. Code it as 0 and 1, or leave it out."
                )
    return frame.assign(**{one: series.astype("float64") for one, series in clean.items()})


def _usable(named: Mapping[str, tuple[str, ...]], design: Design) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The columns of each set that vary, and notes on others; DataError for a set without any, or that separates."""
    kept, notes = {}, []
    events = design.units.y.numpy() > 0
    for name, columns in named.items():
        values = {column: design.frame[column].to_numpy("float64") for column in columns}
        flat = [column for column, one in values.items() if one.min() == one.max()]
        if len(flat) == len(columns):
            raise DataError(
                f"The set {name!r} has no usable column: {', '.join(map(repr, flat))} take{'s' * (len(flat) == 1)} one "
                f"value in all {design.n:,} rows used. Leave the set out, or widen its columns."
            )
        for column, one in values.items():
            if column not in flat and not events[one == one.min()].any():
                raise DataError(
                    f"The column {column!r} of the set {name!r} separates the places: none with {column} = "
                    f"{one.min():g} has any {design.outcome!r}, so its coefficient is infinite. Leave the column out."
                )
        if flat:
            notes.append(f"Of the set {name!r}, {', '.join(flat)} took one value and was left out.")
        kept[name] = tuple(column for column in columns if column not in flat)
    return kept, tuple(notes)
