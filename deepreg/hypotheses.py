"""Linear hypotheses as people write them, turned into a matrix, the hypothesised values and a label for each row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from patsy import PatsyError
from patsy.constraint import linear_constraint

from .errors import OptionError


class Restrictions(NamedTuple):
    """matrix @ params = value."""

    matrix: np.ndarray  # (r, q)
    value: np.ndarray  # (r,)
    labels: tuple[str, ...]


def read(constraint: object, names: Sequence[str]) -> Restrictions:
    """Restrictions from "a = 2, b = a", a list of such strings, a matrix, or a (matrix, value) pair.

    Raises OptionError with the known names where the text cannot be read or the matrix has the wrong width.
    """
    if isinstance(constraint, str):
        # patsy reads one string with commas as several constraints, but splits names that hold a comma
        texts: object = [part.strip() for part in constraint.split(",")] if "," in constraint else constraint
        texts = constraint if any("," in name for name in names) else texts
    else:
        texts = constraint
    try:
        if isinstance(texts, str) or (isinstance(texts, list | tuple) and all(isinstance(c, str) for c in texts)):
            read = linear_constraint(texts if isinstance(texts, str) else list(texts), list(names))
            matrix, value = read.coefs, read.constants.ravel()
        elif isinstance(texts, tuple) and len(texts) == 2:
            matrix, value = np.atleast_2d(np.asarray(texts[0], float)), np.atleast_1d(np.asarray(texts[1], float))
        else:
            matrix = np.atleast_2d(np.asarray(texts, float))
            value = np.zeros(len(matrix))
    except (PatsyError, IndexError, TypeError, ValueError) as error:  # IndexError: patsy's answer to an empty text
        raise OptionError(
            f"The hypothesis {constraint!r} cannot be read ({_reason(error)}). Write it with the names of "
            f"the estimates, {', '.join(names)}: for example '{names[-1]} = 2' or '{names[0]} - {names[-1]} = 0'."
        ) from None
    if matrix.shape[1] != len(names) or len(value) != len(matrix):
        raise OptionError(
            f"The restriction has shape {matrix.shape} with {len(value)} values, but there are {len(names)} estimates "
            f"({', '.join(names)}): one column for each, and one value for each row."
        )
    if not (len(value) and np.isfinite(matrix).all() and np.isfinite(value).all() and matrix.any(1).all()):
        raise OptionError(
            f"The hypothesis {constraint!r} restricts nothing, or not by finite numbers: every row of the matrix needs "
            f"a number other than 0 for one of {', '.join(names)}."
        )
    value = value + 0.0  # no minus zero
    return Restrictions(matrix, value, tuple(_label(row, names) for row in matrix))


def _reason(error: Exception) -> str:
    return "it is empty" if isinstance(error, IndexError) else str(error).splitlines()[0]


def _label(row: np.ndarray, names: Sequence[str]) -> str:
    parts = [(w, name) for w, name in zip(row, names, strict=True) if w]
    text = "".join(
        f" {'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g}*'}{name}" for w, name in parts
    ).removeprefix(" + ")  # fmt: skip
    return text.replace(" - ", "-", 1) if text.startswith(" - ") else text or "0"
