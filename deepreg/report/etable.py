"""Several regressions side by side: models read, rows chosen and named, numbers printed, notes written."""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from deepreg.errors import DeepregWarning, OptionError
from deepreg.level import check_alpha
from deepreg.report import notes as below
from deepreg.report.column import Column, read
from deepreg.report.printing import BELOW, STATS, Numbers, Printing
from deepreg.report.regression_table import Panel, RegressionTable
from deepreg.report.style import style_of, thresholds
from deepreg.results import Results

Selector: TypeAlias = str | re.Pattern[str]

USUAL = ("n", "r2", "r2_uncentred", "pseudo_r2", "fixed_effects", "features", "controls")
LAST = ("Intercept", "const", "_cons")  # printed below the other rows unless `order` says otherwise


def etable(
    models: Any = None,
    *,
    style: str = "econ",
    stat: str | None = "se",
    digits: int = 3,
    alpha: float = 0.05,
    effects: bool = False,
    keep: Selector | Sequence[Selector] | None = None,
    drop: Selector | Sequence[Selector] | None = None,
    order: Selector | Sequence[Selector] | None = None,
    labels: Mapping[str, str] | None = None,
    heads: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    panels: Mapping[str, Sequence[Any]] | None = None,
    stats: Sequence[str] | None = None,
    stars: Sequence[float] | None = None,
    notes: Sequence[str] = (),
    title: str = "",
) -> RegressionTable:
    """Regressions side by side in one table, one column for each model, ready for a paper.

    Rows are matched by the names the models give them. Two names that differ are two rows, unless `labels` gives both
    the same label. The intercept comes last, the other rows in the order of their first appearance.

    Parameters
    ----------
    models : model or list of models
        Results and Estimates of deepreg; results of statsmodels and their get_margeff(); of pyfixest; of linearmodels.
    style : str
        "econ" has stars at 10, 5 and 1 percent and their legend; "aer" no stars and at most 9 columns; "qje" a double
        rule, small capitals and no stars unless asked for; "plain" neither stars nor numbered columns.
    stat : "se", "t", "p", "ci" or None
        What stands below each coefficient; "ci" is the interval of level 1 - alpha.
    digits : int
        Decimals; more where they would print as zero a number that is not. p-values have three.
    effects : bool
        Show average effects of deepreg's Results (the ATE of each variable with levels, the AME of each continuous
        one) instead of average coefficients. Effects that a fit with hessian="regressed" lacks are named below.
    keep, drop, order : name, compiled pattern, or a list of them
        Rows to keep, to leave out, to put first. A string is the exact name of a row; re.compile("...") finds every
        name it matches anywhere.
    labels : mapping
        From names of rows and outcomes to what is printed for them.
    heads : list of str
        One for each column; by default what kind of model it is.
    groups : list of str
        A further head for each column, equal neighbours merged and "" for none; by default the outcomes, as far as
        they are known. Give [] for no groups.
    panels : mapping
        From the title of a panel to the names of its rows (or patterns); or, with `models` left out, to a list of its
        models, as many in each panel.
    stats : list of str
        Fit statistics below the coefficients, of "n", "r2", "r2_uncentred", "pseudo_r2", "fixed_effects", "family",
        "features", "controls", "covariance", "folds", "members", "repeats", "ll", "aic" and "bic"; by default those of
        the first four and of "fixed_effects", "features" and "controls" that some model has. Blank where a model has
        none.
    stars : list of float
        Falling levels for one star, two and so on, instead of those of the style; () for none.
    notes : list of str
        After the notes that are generated.
    title : str
        The caption.

    Returns
    -------
    RegressionTable
        Print it, or write it with to_latex(), to_html() or to_docx().

    Raises
    ------
    OptionError
        For an option that is not known or does not fit, for an object that cannot be read, for a model in which two
        rows have one name, and with effects=True for a model without effects.

    Warns
    -----
    DeepregWarning
        Where a style has fewer columns than there are models.

    Examples
    --------
    >>> import deepreg
    >>> data = deepreg.datasets.tutoring().head(300)
    >>> small = deepreg.structural("final_grade ~ tutoring", data=data).fit()
    >>> large = deepreg.structural("final_grade ~ tutoring + prior_grade", data=data).fit()
    >>> table = deepreg.etable([small, large], keep="tutoring", style="plain")
    >>> table.to_frame().shape
    (4, 2)
    """
    chosen = style_of(style)
    levels = thresholds(stars, chosen)
    _check(stat, digits)
    alpha = check_alpha(alpha)
    by_title, by_name = _panels(models, panels)
    columns = {
        title: [read(model, effects, f"{title}, " * bool(title) + f"column {i}") for i, model in enumerate(found, 1)]
        for title, found in by_title.items()
    }
    if effects and not any(isinstance(model, Results) for found in by_title.values() for model in found):
        raise OptionError(
            "effects=True is about results of deepreg, and there are none; of statsmodels, give model.get_margeff()."
        )
    every = [column for found in columns.values() for column in found]
    count = len(next(iter(columns.values())))
    named = _labels(labels, every)
    printing = Printing(stat, digits, alpha, levels)
    printed: list[Panel] = []
    numbers: list[tuple[str, Numbers]] = []
    shown = _names(every, keep, drop, order)
    for panel, found in columns.items():
        names = [name for name in shown if any(name in column.names for column in found)]
        fit, fit_numbers = printing.fit(found, _stats(stats, found))
        for name, part in ({panel: names} if by_name is None else _sorted_into(by_name, names)).items():
            rows, row_numbers = printing.rows(found, _merged(part, named, found))
            printed.append(Panel(name, tuple(rows), tuple(fit) if len(columns) > 1 else ()))
            numbers += [(name, one) for one in row_numbers]
        numbers += [(panel, one) for one in fit_numbers]
    if chosen.most is not None and count > chosen.most:
        warnings.warn(
            f"style={style!r} has at most {chosen.most} columns, and there are {count}; split the table.",
            DeepregWarning, stacklevel=2,
        )  # fmt: skip
    titles = _heads(heads, columns, count)
    legend = tuple(("*" * i, f"{v:.2f}" if round(v, 2) == v else f"{v:g}") for i, v in enumerate(levels, 1))
    return RegressionTable(
        title, _groups(groups, columns, count, named), titles, tuple(printed), tuple(fit) if len(columns) == 1 else (),
        (*below.notes(columns, stat, alpha, bool(levels)), *_texts("notes", notes)), legend, chosen,
        _frame(numbers, titles, panels is not None),
    )  # fmt: skip


def _frame(numbers: Sequence[tuple[str, Numbers]], heads: Sequence[str], panels: bool) -> pd.DataFrame:
    """The numbers as a data frame, its index with the panels where there are any."""
    keys = [(panel, one.row, one.statistic)[not panels :] for panel, one in numbers]
    index = pd.MultiIndex.from_tuples(keys, names=("panel", "row", "statistic")[not panels :])
    columns = [f"({i}) {head}".rstrip() for i, head in enumerate(heads, 1)]
    return pd.DataFrame([one.values for _, one in numbers], index=index, columns=columns)


# ---- options


def _check(stat: object, digits: object) -> None:
    if stat is not None and stat not in BELOW:
        raise OptionError(f"stat={stat!r} is not known; allowed are {', '.join(map(repr, BELOW))} and None.")
    if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= 12:
        raise OptionError(f"digits={digits!r}: give a whole number of decimals from 0 to 12, for example 3.")


def _texts(option: str, given: object, count: int | None = None) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise OptionError(f"{option}={given!r}: give a list of strings, for example [{str(given)!r}].")
    if count is not None and len(given) != count:
        raise OptionError(f"{option}= has {len(given)} entries, but the table has {count} columns; give one for each.")
    return tuple(given)


def _panels(
    models: Any, panels: Mapping[str, Sequence[Any]] | None
) -> tuple[dict[str, list[Any]], dict[str, list[Selector]] | None]:
    """Models by the title of their panel, and row names by the title of theirs; None where there are no such panels."""
    if panels is not None and not isinstance(panels, Mapping):
        raise OptionError(f"panels={panels!r}: give a mapping from titles to names of rows or to models.")
    given = {title: list(part) if isinstance(part, list | tuple) else [part] for title, part in (panels or {}).items()}
    if panels is not None and not all(given.values()):
        raise OptionError(f"panels={panels!r}: give a mapping from titles to names of rows or to models, none empty.")
    names = {title: [one for one in part if isinstance(one, str | re.Pattern)] for title, part in given.items()}
    if names != given:
        if models is not None:
            raise OptionError("panels= holds models, so leave the first argument out; or give panels= names of rows.")
        sizes = {title: len(part) for title, part in given.items()}
        if len(set(sizes.values())) > 1:
            raise OptionError(f"Panels of models stand below each other in the same columns; these have {sizes}.")
        return given, None
    found = list(models) if isinstance(models, list | tuple) else [models]
    if models is None or not found:
        raise OptionError("etable needs models: a list of fitted models, or panels={'Panel A. ...': [model, ...]}.")
    return {"": found}, names or None


def _matching(option: str, given: Selector | Sequence[Selector], names: Sequence[str]) -> list[str]:
    """The names an option selects, in its order. Raises OptionError for a name or pattern that selects none."""
    found: list[str] = []
    if not isinstance(given, str | re.Pattern | list | tuple):
        raise OptionError(f"{option}={given!r}: give the name of a row, a compiled pattern, or a list of them.")
    for one in [given] if isinstance(given, str | re.Pattern) else given:
        if not isinstance(one, str | re.Pattern):
            raise OptionError(f"{option}={one!r}: give the name of a row or a compiled pattern, re.compile('...').")
        hits = [name for name in names if (name == one if isinstance(one, str) else one.search(name))]
        if not hits:
            what = f"no row is called {one!r}" if isinstance(one, str) else f"no row matches {one.pattern!r}"
            raise OptionError(f"{option}=: {what}; there are {', '.join(names)}. Patterns are re.compile('...').")
        found += [name for name in hits if name not in found]
    return found


def _names(columns: Sequence[Column], keep: Any, drop: Any, order: Any) -> list[str]:
    """The names of the rows to be shown, in order."""
    every = list(dict.fromkeys(name for column in columns for name in column.names))
    names = every if keep is None else [name for name in every if name in _matching("keep", keep, every)]
    if drop is not None:
        out = _matching("drop", drop, every)
        names = [name for name in names if name not in out]
    if not names:
        raise OptionError(f"keep= and drop= leave no row; there are {', '.join(every)}.")
    names = sorted(names, key=lambda name: name in LAST)
    first = [] if order is None else _matching("order", order, names)
    return [*first, *(name for name in names if name not in first)]


def _sorted_into(panels: Mapping[str, Sequence[Selector]], names: Sequence[str]) -> dict[str, list[str]]:
    found = {title: _matching(f"panels[{title!r}]", part, names) for title, part in panels.items()}
    placed = [name for part in found.values() for name in part]
    for name in names:
        if placed.count(name) != 1:
            where = "no panel" if name not in placed else "several panels"
            raise OptionError(f"The row {name!r} is in {where}; put it into one of {', '.join(panels)}, or drop= it.")
    return found


def _labels(labels: Mapping[str, str] | None, columns: Sequence[Column]) -> dict[str, str]:
    if labels is not None and not isinstance(labels, Mapping):
        raise OptionError(f"labels={labels!r}: give a mapping from names to what is printed for them.")
    given = dict(labels or {})
    known = list(dict.fromkeys(x for c in columns for x in (*c.names, c.outcome) if x))
    for name, label in given.items():
        if name not in known:
            raise OptionError(f"labels= names {name!r}, but rows and outcomes are {', '.join(known)}.")
        if not isinstance(label, str) or not label.strip():
            raise OptionError(f"labels={{{name!r}: {label!r}}}: give the label as a string that is not empty.")
    return given


def _merged(names: Sequence[str], labels: Mapping[str, str], columns: Sequence[Column]) -> dict[str, list[str]]:
    """Names by the label they are printed under. Raises OptionError where one model has two of them."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(labels.get(name, name), []).append(name)
    for label, same in found.items():
        for column in columns:
            both = [name for name in same if name in column.names]
            if len(both) > 1:
                raise OptionError(
                    f"{both[0]!r} and {both[1]!r} of the model {column.head!r} would share the row {label!r}; "
                    "give them different labels."
                )
    return found


def _heads(heads: Any, columns: Mapping[str, Sequence[Column]], count: int) -> tuple[str, ...]:
    if heads is not None:
        return _texts("heads", heads, count)
    kinds = [dict.fromkeys(found[j].head for found in columns.values()) for j in range(count)]
    return tuple(next(iter(kind)) if len(kind) == 1 else "" for kind in kinds)


def _groups(
    groups: Any, columns: Mapping[str, Sequence[Column]], count: int, labels: Mapping[str, str]
) -> tuple[str, ...]:
    if groups is not None:
        return _texts("groups", groups, count if groups else None)
    outcomes = [{found[j].outcome for found in columns.values()} for j in range(count)]
    names = [next(iter(of)) if len(of) == 1 else "" for of in outcomes]
    return tuple(labels.get(name, name) for name in names) if any(names) else ()


def _stats(stats: Any, columns: Sequence[Column]) -> tuple[str, ...]:
    if stats is None:
        return tuple(key for key in USUAL if any(key in column.fit for column in columns))
    wanted = _texts("stats", stats)
    unknown = [key for key in wanted if key not in STATS]
    if unknown:
        raise OptionError(f"stats= has {unknown[0]!r}, which is not known; allowed are {', '.join(STATS)}.")
    return wanted
