"""Refusals: what no design is made of, said in terms of the formula and the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepreg.columns import Column
from deepreg.errors import DataError, FormulaError, OptionError
from deepreg.formula import Parsed
from deepreg.recipe import Part

COLLINEAR = 1e-11  # a column of which less than this share is left after those before it is their combination


def groups(cluster: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of the cluster columns; OptionError for what is none."""
    if cluster is not None and (not isinstance(cluster, Sequence) or not all(isinstance(c, str) for c in cluster)):
        raise OptionError(f"cluster={cluster!r}: give the name of a column, or two names.")
    found = (cluster,) if isinstance(cluster, str) else tuple(cluster or ())
    if len(found) > 2 or len(set(found)) < len(found) or not all(isinstance(name, str) for name in found):
        raise OptionError(
            f"cluster={cluster!r} is not allowed. Type the name of a column, or of two: ('firm', 'year')."
        )
    return found


def check_width(terms: Sequence[str], matrix: np.ndarray, coded: bool, outcome: str) -> None:
    """DataError unless the outcome is one number or level; or, where wanted, Surv() or several numbers."""
    durations = terms[0].startswith("Surv(")
    fits = {"levels": coded, "durations": durations, "several": matrix.shape[1] == len(terms)}
    if matrix.shape[1] == 1 or fits.get(outcome, False):
        return
    hint = " Families of durations take Surv(time, event)." if durations else ""
    raise DataError(
        f"The outcome {' + '.join(terms)!r} makes {matrix.shape[1]} columns, not one number per row"
        f"{' and outcome' if len(terms) > 1 else ''}.{hint}"
    )


def refuse_arrays(borrowed: Mapping[str, Any], n: int, formula: str) -> None:
    """DataError for a variable of the caller's program that has a value for each row."""
    for name, value in borrowed.items():
        if not callable(value) and np.ndim(value) and len(value) == n:
            raise DataError(
                f"{name!r} in {formula!r} is not a column of the data but a variable of your program with {n} values, "
                f"which would not follow when rows are left out. Make it a column: data.assign({name}={name})."
            )


def check_outcome(parsed: Parsed, columns: Mapping[str, Column]) -> None:
    """DataError for an outcome that is text or a category."""
    for term in parsed.outcome:
        column = columns.get(str(term))
        if column is None or column.kind != "category":
            continue
        levels = column.levels
        raise DataError(
            f"The outcome {str(term)!r} is text or a category (levels {', '.join(map(repr, levels[:5]))}), but "
            f"must be a number. For an outcome of two classes type I({term} == {levels[-1]!r}) ~ ..., or code it in "
            f"the data: data[{str(term)!r}] == {levels[-1]!r}."
        )


def without_intercept(part: Part, parsed: Parsed, alternative: str) -> Part:
    """The part of a choice, in which the intercept cancels; FormulaError for one that was coded without it.

    Controls are refused as well: they would move an intercept.
    """
    formula = parsed.text
    if parsed.controls is not None:
        raise FormulaError(
            f"The formula {formula!r} has a third part. Controls move the intercept alone, and a choice has none: "
            "'chosen ~ price | income'."
        )
    if "Intercept" not in part.names:
        raise FormulaError(
            f"The formula {formula!r} takes the intercept out. A choice has none, and factors such as "
            f"C({alternative}) are coded with a base level as if there were one: leave '- 1' or '0 +' out."
        )
    if len(part.names) == 1:
        raise FormulaError(
            f"The formula {formula!r} has no structural term that could move a choice. Name an attribute of the "
            f"alternatives, or C({alternative}): 'chosen ~ price + C({alternative})'."
        )
    return part.without("Intercept")


def check_regressors(part: Part, d: np.ndarray, parsed: Parsed, collinear: bool = False) -> None:
    """DataError for regressors that are constant, too many, or collinear unless they may be; FormulaError for none."""
    n, k = d.shape
    formula = parsed.text
    empty = [str(term) for term, names in part.terms() if not names]
    span = d.max(axis=0) - d.min(axis=0) if k else np.empty(0)
    flat = [name for name, width in zip(part.names, span, strict=True) if not width and name != "Intercept"]
    if "Intercept" not in part.names:  # a constant column may then be the intercept itself, unless it is zero
        flat = [name for name in flat if not d[:, part.names.index(name)].any()]
    if empty or flat:
        raise DataError(
            f"The regressor {(empty + flat)[0]!r} of {formula!r} takes only one value in the {n} rows used, so it has "
            "no effect to estimate. Take it out of the formula, or use rows in which it varies."
        )
    if not k:
        raise FormulaError(f"The formula {formula!r} has no structural term. Type at least an intercept: 'y ~ 1 + t'.")
    if k > n:
        raise DataError(
            f"The structural terms of {formula!r} make {k} columns, but only {n} rows are used. Use fewer terms."
        )
    if collinear:
        return
    norms = np.sqrt((d**2).sum(axis=0))
    r = np.asarray(np.linalg.qr(d / norms, mode="r"))
    dependent = np.flatnonzero(np.abs(np.diag(r)) < COLLINEAR)
    if len(dependent):
        raise DataError(_collinear(d / norms, dependent, part.names, formula))


def _collinear(d: np.ndarray, dependent: np.ndarray, names: Sequence[str], formula: str) -> str:
    first = int(dependent[0])
    before = [j for j in range(first) if j not in dependent]
    share = np.linalg.lstsq(d[:, before], d[:, first], rcond=None)[0]
    partners = [names[j] for j, b in zip(before, share, strict=True) if abs(b) > 1e-8]
    more = (
        f" So {'is' if len(dependent) == 2 else 'are'} {', '.join(repr(names[j]) for j in dependent[1:6])}."
        if len(dependent) > 1
        else ""
    )
    return (
        f"The structural terms of {formula!r} are collinear: {names[first]!r} is a combination of "
        f"{', '.join(map(repr, partners))}, so their coefficients are not identified.{more} "
        f"Remove {names[first]!r} or one of the others."
    )
