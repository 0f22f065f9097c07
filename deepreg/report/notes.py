"""The notes below a table of regressions, generated from what its models say of themselves."""

from collections.abc import Mapping, Sequence

from deepreg.report.column import Column

IN = {"se": "parentheses", "t": "parentheses", "p": "parentheses", "ci": "brackets"}


def notes(panels: Mapping[str, Sequence[Column]], stat: str | None, alpha: float, starred: bool) -> list[str]:
    """What stands below the coefficients and how it was computed, then what else the models remark.

    Models that say the same are named together; where all do, none is named.
    """
    whole = [columns for columns in panels.values() if columns]
    where = [
        (f"{title}, " * (len(whole) > 1) + f"column {i}", column)
        for title, columns in panels.items()
        for i, column in enumerate(columns, 1)
    ]
    errors = _grouped([(place, column.covariance.phrase()) for place, column in where])
    return [*_first(errors, stat, alpha, starred), *_remarks(where)]


def _first(errors: Mapping[str, list[str]], stat: str | None, alpha: float, starred: bool) -> list[str]:
    if stat is None and not starred:
        return []
    what = {"se": "", "t": "t statistics", "p": "p-values", "ci": f"{100 * (1 - alpha):g}% confidence intervals"}
    if len(errors) == 1:
        (phrase,) = errors
        if stat is None:
            return [f"Stars are based on {phrase}."]
        comma = "," if "," in phrase else ""
        if stat == "se":
            return [f"{_capital(phrase)}{comma} in parentheses."]
        return [f"{_capital(what[stat])} in {IN[stat]}, from {phrase}."]
    places = "; ".join(f"{phrase} in {_places(found)}" for phrase, found in errors.items())
    if stat is None:
        return [f"Stars are based on {places}."]
    if stat == "se":
        return [f"In parentheses: {places}."]
    return [f"{_capital(what[stat])} in {IN[stat]}, from {places}."]


def _remarks(where: Sequence[tuple[str, Column]]) -> list[str]:
    said = _grouped([(place, remark) for place, column in where for remark in column.remarks])
    everywhere = [remark for remark, places in said.items() if len(places) == len(where)]
    together: dict[tuple[str, ...], list[str]] = {}
    for remark, places in said.items():
        if remark not in everywhere:
            together.setdefault(tuple(places), []).append(remark)
    return [
        *(f"{_capital(remark)}." for remark in everywhere),
        *(f"{_capital(_places(list(places)))}: {'; '.join(remarks)}." for places, remarks in together.items()),
    ]


def _grouped(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place, phrase in pairs:
        found.setdefault(phrase, []).append(place)
    return found


def _places(places: Sequence[str]) -> str:
    """columns 1, 2 and 4 for those places."""
    if len(places) == 1 or not all(place.startswith("column ") for place in places):
        return " and ".join(places)
    numbers = [place.removeprefix("column ") for place in places]
    return f"columns {', '.join(numbers[:-1])} and {numbers[-1]}"


def _capital(text: str) -> str:
    return text if text.startswith(("n =", "t stat", "p-val")) else text[:1].upper() + text[1:]
