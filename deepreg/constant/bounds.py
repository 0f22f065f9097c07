"""Bounds: limits of constant parameters, read from what the caller names."""

import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from ..errors import OptionError
from ..structure import Structure

Bounds: TypeAlias = tuple[tuple[str, float | None, float | None], ...]


def read(given: Any, structure: Structure, varying: bool) -> Bounds:
    """The lower and upper limit of each parameter that `given` names, None for none.

    Names are those of `result.params`; one with a * stands for all that it matches, but no intercept. Raises
    OptionError for a name that is none, limits that are no two numbers in order, and where theta varies with features.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise OptionError(f"bounds={given!r}: give a mapping from names to limits, such as {{'score': (0, None)}}.")
    if varying:
        raise OptionError(
            "bounds= are of constant coefficients, and here coefficients are functions of features, whose averages no "
            "bound on a parameter holds. Take the features out of the formula, or leave bounds= out."
        )
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, limits in given.items():
        low, high = _limits(name, limits)
        for one in _named(name, structure):
            found[one] = (low, high)
    return tuple((name, *found[name]) for name in structure.names if name in found)


def _named(name: str, structure: Structure) -> list[str]:
    known = structure.names
    if name in known:
        return [name]
    intercepts = {prefix + "Intercept" for prefix in structure.family.prefixes}
    pattern = ".*".join(map(re.escape, name.split("*")))
    matched = [one for one in known if one not in intercepts and re.fullmatch(pattern, one)] if "*" in name else []
    if not matched:
        raise OptionError(f"bounds={{{name!r}: ...}} names no parameter; there are {', '.join(map(repr, known))}.")
    return matched


def _limits(name: str, limits: Any) -> tuple[float | None, float | None]:
    pair = tuple(limits) if isinstance(limits, tuple | list) else ()
    numbers = [one for one in pair if one is not None]
    real = all(isinstance(one, int | float) and not isinstance(one, bool) and not math.isnan(one) for one in numbers)
    if len(pair) != 2 or not real:
        raise OptionError(f"bounds={{{name!r}: {limits!r}}}: give two numbers, or None for no limit, as (0, None).")
    low, high = (None if one is None or math.isinf(one) else float(one) for one in pair)
    if pair[0] == math.inf or pair[1] == -math.inf or (low is not None and high is not None and low > high):
        raise OptionError(f"bounds={{{name!r}: {limits!r}}}: the lower limit comes first, and is not above the other.")
    return low, high
