"""Search for the best of many candidates: all of them where they are few, else a beam, and which of the two it was."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from .errors import DataError, OptionError
from .report.summary import Summary
from .report.table import Table

LIMIT = 100_000  # candidates up to which all are looked at
BATCH = 8192  # candidates handed to a criterion at a time
DIVE = 32  # partial candidates kept at each level while a first candidate to beat is looked for

Criterion = Callable[[np.ndarray], np.ndarray]  # positions (C, D) -> values (C,), the lower the better


@dataclass(frozen=True, repr=False, eq=False)
class Found:
    """The best candidate, those nearly as good, and what is known of the others.

    `bound` is a value below which no candidate of the space lies: the best value itself where the search was exact.
    """

    names: tuple[str, ...]
    options: tuple[tuple[Any, ...], ...]
    positions: np.ndarray  # (R, D) of the options of each candidate kept, best first
    values: np.ndarray  # (R,)
    size: int  # candidates there are
    evaluated: int  # candidates, and partial ones, whose value was computed
    bound: float = -math.inf
    note: str = ""  # how it was found, where that was no search

    @property
    def best(self) -> dict[str, Any]:
        """The best candidate: an option for each name."""
        return self.candidate(0)

    @property
    def value(self) -> float:
        """The criterion of the best candidate."""
        return float(self.values[0])

    @property
    def exact(self) -> bool:
        """Whether no candidate is better than the best one found."""
        return self.gap <= 1e-9 * (1 + abs(self.value))

    @property
    def gap(self) -> float:
        """How much better than the best one found a candidate could be; infinite where nothing is known of it."""
        return max(self.value - self.bound, 0.0)

    @property
    def method(self) -> str:
        """How the search went, as a sentence without its full stop."""
        if self.note:
            return self.note
        if self.exact:
            how = "all of them" if self.evaluated >= self.size else f"{self.evaluated:,} values, the others ruled out"
            return f"exact: the best of {_count(self.size)} candidates ({how})"
        known = "no bound on what was not looked at" if math.isinf(self.gap) else f"gap at most {self.gap:.3g}"
        return f"beam: {self.evaluated:,} values of {_count(self.size)} candidates ({known})"

    def candidate(self, rank: int) -> dict[str, Any]:
        """The options of the candidate of that rank, 0 for the best."""
        at = self.positions[rank]
        return {name: options[j] for name, options, j in zip(self.names, self.options, at, strict=True)}

    def ties(self, within: float = math.inf) -> pd.DataFrame:
        """Candidates at most `within` behind the best: an option for each name, the value, and how far behind it is."""
        near = int((self.values - self.value <= within).sum())
        table = pd.DataFrame([self.candidate(rank) for rank in range(near)], columns=list(self.names))
        return table.assign(value=self.values[:near], behind=self.values[:near] - self.value)

    @cached_property
    def _table(self) -> Table:
        frame = self.ties().head(10)
        words = frame[list(self.names)].astype(object).map(lambda one: "-" if pd.isna(one) else str(one))
        frame = pd.concat([words, frame[["value", "behind"]]], axis=1)
        return Table.from_frame(frame.set_axis(range(1, len(frame) + 1)), title="Best candidates")

    def summary(self) -> Summary:
        """The ten best candidates kept, and how they were searched."""
        return Summary("Search", (("Search:", self.method),), (self._table,))

    def __repr__(self) -> str:
        return self.summary().as_text()

    def _repr_html_(self) -> str:
        return self.summary().as_html()


def search(
    candidates: Mapping[str, Sequence[Any]],
    criterion: Callable[..., Any],
    *,
    method: str | None = None,
    batched: bool = False,
    bound: Criterion | None = None,
    start: Mapping[str, Any] | None = None,
    limit: int = LIMIT,
    width: int = 20,
    keep: int = 1000,
) -> Found:
    """The best of the candidates that one option of every name makes, and those next to it.

    All candidates are looked at where there are at most `limit`. Otherwise a beam is: from `start`, every change of one
    option in the `width` best candidates so far is tried until none enters them. A beam can end beside the best
    candidate, and the answer says so. With a `bound`, candidates are built option by option instead, and what cannot
    be better than the best so far is left out; the answer then has the gap that remains, 0 where nothing else was.

    Parameters
    ----------
    candidates : mapping
        Names and the options of each: the variables of a set and None, orders of a polynomial, cut points, integers.
    criterion : callable
        What is minimised: takes a candidate as a dict and gives a number, infinite for one that is not admissible. With
        `batched`, it takes positions among the options (C, D) and gives values (C,).
    method : "exact" or "beam", optional
        By default exact up to `limit` candidates, and with a bound.
    batched : bool
        Whether criterion takes many candidates at once.
    bound : callable, optional
        Takes positions of the first d names (C, d) and gives numbers (C,) that no completion is below. At most `limit`
        partial candidates are kept.
    start : mapping, optional
        Where the beam starts: by default at the first option of every name.
    limit, width, keep : int
        Candidates that are looked at one and all, kept in a beam, and returned.

    Returns
    -------
    Found
        With best, value, ties(), method, exact and gap.

    Raises
    ------
    OptionError
        For a name without options, an unknown method, or more candidates than `limit` with method="exact".
    DataError
        Where no candidate is admissible.

    References
    ----------
    Land and Doig (1960), Econometrica 28(3), for the bounds.

    Examples
    --------
    >>> import deepreg
    >>> found = deepreg.search({"a": range(-3, 4), "b": range(-3, 4)}, lambda c: (c["a"] - 1) ** 2 + (c["b"] + 2) ** 2)
    >>> found.best, found.value, found.exact
    ({'a': 1, 'b': -2}, 0.0, True)
    """
    names, options = tuple(candidates), tuple(tuple(each) for each in candidates.values())
    if not names or not all(options):
        empty = [name for name, each in zip(names, options, strict=True) if not each]
        raise OptionError(f"candidates= has no option for {empty[0]!r}." if empty else "candidates= is empty.")
    if method not in (None, "exact", "beam"):
        raise OptionError(
            f"method={method!r}: allowed are 'exact' and 'beam'; None chooses by the number of candidates."
        )
    shape = tuple(map(len, options))
    size = math.prod(shape)
    values = criterion if batched else _one_by_one(names, options, criterion)
    if bound is not None and method != "beam":
        found = branch(shape, values, bound, limit=limit, keep=keep)
    elif method == "exact" or (method is None and size <= limit):
        if size > limit:
            raise OptionError(
                f"method='exact' would look at {_count(size)} candidates, more than limit={limit:,}. Raise limit=, "
                "give fewer options, or use method='beam'."
            )
        found = _all(shape, values, keep)
    else:
        found = _beam(shape, values, _start(names, options, start), width, keep)
    return Found(names, options, *found)


def branch(
    shape: Sequence[int], criterion: Criterion, bound: Criterion, *, rank: Criterion | None = None, limit: int = LIMIT,
    keep: int = 1000, margin: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, int, int, float]:  # fmt: skip
    """Candidates built option by option, without those that `bound` rules out; what Found holds after its options.

    Candidates at most `margin` times the least value above it are found too. Where more than `limit` partial candidates
    are left at a level, those first in `rank` (by default in the bound) are kept, and the least bound of the others
    enters the gap.
    """
    dive = _descend(shape, criterion, bound, rank, DIVE, np.inf)
    least = dive[1].min(initial=np.inf)
    positions, values, seen, dropped = _descend(shape, criterion, bound, rank, limit, least + margin * abs(least))
    positions, values = np.concatenate([positions, dive[0]]), np.concatenate([values, dive[1]])
    positions, first = np.unique(positions, axis=0, return_index=True)
    positions, values = _sorted(positions, values[first], keep)
    near = values <= values[0] + margin * abs(values[0])
    positions, values = positions[near], values[near]
    return positions, values, math.prod(shape), seen + dive[2], float(min(dropped, values[0]))


def _descend(
    shape: Sequence[int], criterion: Criterion, bound: Criterion, rank: Criterion | None, width: int, most: float
) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Leaves with their values, how many values were computed, and the least bound of what was left out for `width`."""
    nodes, seen, dropped = np.zeros((1, 0), dtype=np.int64), 0, np.inf
    for level, count in enumerate(shape, 1):
        nodes = np.concatenate([np.repeat(nodes, count, 0), np.tile(np.arange(count), len(nodes))[:, None]], 1)
        value = _each(criterion if level == len(shape) else bound, nodes)
        seen += len(nodes)
        near = value <= most if np.isfinite(most) else np.isfinite(value)
        nodes, value = nodes[near], value[near]
        if len(nodes) > width and level < len(shape):
            order = np.argsort(value if rank is None else _each(rank, nodes), kind="stable")
            dropped = min(dropped, value[order[width:]].min())
            nodes, value = nodes[order[:width]], value[order[:width]]
    return nodes, value, seen, dropped


def _all(shape: Sequence[int], criterion: Criterion, keep: int) -> tuple[np.ndarray, np.ndarray, int, int, float]:
    size = math.prod(shape)
    positions = np.stack(np.unravel_index(np.arange(size), shape), 1)
    positions, values = _sorted(positions, _each(criterion, positions), keep)
    return positions, values, size, size, float(values[0])


def _beam(
    shape: Sequence[int], criterion: Criterion, start: np.ndarray, width: int, keep: int
) -> tuple[np.ndarray, np.ndarray, int, int, float]:
    place = [(j, k) for j, count in enumerate(shape) for k in range(count)]
    which, to = (np.array(one) for one in zip(*place, strict=True))
    known, values = start[None], _each(criterion, start[None])
    beam = known
    while True:
        tried = np.repeat(beam, len(place), 0)
        tried[np.arange(len(tried)), np.tile(which, len(beam))] = np.tile(to, len(beam))
        every, first = np.unique(np.concatenate([known, tried]), axis=0, return_index=True)
        fresh = every[first >= len(known)]
        if not len(fresh):
            break
        known, values = np.concatenate([known, fresh]), np.concatenate([values, _each(criterion, fresh)])
        beam = known[np.argsort(values, kind="stable")[:width]]
    size, seen = math.prod(shape), len(known)
    known, values = _sorted(known, values, keep)
    return known, values, size, seen, float(values[0]) if seen == size else -math.inf


def _sorted(positions: np.ndarray, values: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values, kind="stable")[:keep]
    order = order[np.isfinite(values[order])]
    if not len(order):
        raise DataError("No candidate is admissible: the criterion is infinite, or no number, for every one looked at.")
    return positions[order], values[order]


def _each(criterion: Criterion, positions: np.ndarray) -> np.ndarray:
    """The criterion of (C, D), batch by batch, infinite where it is no number; (C,)."""
    parts = [np.asarray(criterion(positions[at : at + BATCH]), float) for at in range(0, len(positions), BATCH)]
    values = np.concatenate(parts) if parts else np.empty(0)
    if values.shape != (len(positions),):
        raise OptionError(
            f"criterion gave {values.shape} values for {len(positions)} candidates; with batched=True it takes "
            "positions (C, D) and gives an array (C,)."
        )
    return np.where(np.isnan(values), np.inf, values)


def _one_by_one(
    names: tuple[str, ...], options: tuple[tuple[Any, ...], ...], criterion: Callable[[dict[str, Any]], float]
) -> Criterion:
    def values(positions: np.ndarray) -> np.ndarray:
        each = ([one[j] for one, j in zip(options, row, strict=True)] for row in positions)
        return np.array([criterion(dict(zip(names, row, strict=True))) for row in each], float)

    return values


def _start(names: tuple[str, ...], options: tuple[tuple[Any, ...], ...], start: Mapping[str, Any] | None) -> np.ndarray:
    given = dict(start or {})
    if set(given) - set(names):
        raise OptionError(f"start= names {sorted(set(given) - set(names))}, but candidates= has {list(names)}.")
    for name, each in zip(names, options, strict=True):
        if name in given and given[name] not in each:
            raise OptionError(f"start= has {given[name]!r} for {name!r}, which is none of its options.")
    return np.array(
        [each.index(given[name]) if name in given else 0 for name, each in zip(names, options, strict=True)]
    )


def _count(size: int) -> str:
    return f"{size:,}" if size < 10**9 else f"{size:.1e}"
