"""Repeats: scores, effects predicted out of fold and folds of an effect, for each repeat of cross-fitting."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import asked
from .arrays import quoted
from .curve import matched
from .design import Design, build
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .heterogeneity import check_priority, sequential_priority
from .heterogeneity.inputs import Sample
from .influence import Scores
from .nodes import Nodes
from .splits import Splits
from .storage.kept import Kept
from .structure import Structure
from .summary import Facts
from .targets import Target
from .units import Units


class Fitted(Protocol):
    """What diagnostics are made of."""

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def scores(self) -> Scores | Kept: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def splits(self) -> Splits | None: ...
    @property
    def again(self) -> "Callable[[Design], Any] | None": ...

    def cate(self, new: object = None) -> pd.DataFrame: ...
    def average_effect(self, effect: str | None = None) -> Estimates: ...


class Repeat(NamedTuple):
    """What one repeat of cross-fitting says of an effect."""

    rows: Sample
    priority: np.ndarray  # (n, q)
    fold: np.ndarray  # (n,)


def of(result: Fitted, effect: str | None, priority: object = None, single: bool = True) -> list[Repeat]:
    """Of one effect, or of all with single=False and effect=None; a priority given takes the place of the predicted.

    Raises OptionError for an unknown effect, NotAvailable where coefficients are constant or rows were not saved.
    """
    if result.facts.constant:
        raise NotAvailable(
            "heterogeneity needs a fit with features behind a bar: with constant coefficients there are no "
            "differences between effects to check."
        )
    scores = result.scores
    if isinstance(scores, Kept) or result.splits is None:
        raise NotAvailable(f"heterogeneity needs the rows of the fit, which were not saved. {AGAIN}")
    known = asked.effects(result.design)
    column, pick = where(result, effect)
    average = result.average_effect(column)
    column = next(iter(known)) if column is None else column
    if len(average.names) > 1 and pick is None and single:
        raise OptionError(f"effect={effect!r} has several outcomes; give one of {', '.join(map(repr, average.names))}.")
    chosen = slice(None) if pick is None else slice(pick, pick + 1)
    names = average.names[chosen] if len(average.names) > 1 else (column,)
    assert average.psi is not None
    sampling = replace(
        average.sampling, weight=average.sampling.weight.cpu().double(), cluster=average.sampling.cluster.cpu()
    )
    if priority is None:
        place = scores.effects(known[column]).cpu().numpy()[..., chosen]
    else:
        place = checked(result, priority, column, scores)[None, :, None]
    psi, fold = average.psi.cpu().numpy()[..., chosen], result.splits.fold.cpu().numpy()
    place = np.broadcast_to(place, psi.shape)
    return [Repeat(Sample(psi[r], names, sampling), place[r], fold[r]) for r in range(len(psi))]


def where(result: Fitted, effect: str | None) -> tuple[str | None, int | None]:
    """The column of cate() and, where an effect of one of several outcomes was named, its position there."""
    named = {
        name: (column, j)
        for column, target in asked.effects(result.design).items()
        for j, name in enumerate(target.names(result.structure, result.design))
    }
    return named.get(str(effect), (effect, None))


def checked(
    result: Fitted, given: object, column: str, scores: Scores | Kept, argument: str = "priority"
) -> np.ndarray:
    """A priority for each row used, that is neither in sample nor a function of the treatment; (n,)."""
    design = result.design
    values = matched(given, design.labels, design.n, argument, "number").to_numpy(np.float64)
    every = result.cate(design.frame)
    seen = every.iloc[:, [str(name).startswith(column) for name in every]].to_numpy()
    if len(seen) == len(values) and any(np.allclose(values, one, 1e-6, 1e-9) for one in seen.T):
        raise OptionError(
            f"{argument} is what cate(data) predicts for the rows of the fit, by functions that saw them, and finds "
            "heterogeneity where there is none. Leave it out, or give cate() without data, which is out of fold."
        )
    assert isinstance(scores, Scores)
    if (residual := treatment_residual(column, design, scores)) is not None:
        check_priority(values, residual.mean(0))
    return values


def _typed(term: Any) -> str:
    """A term of a formula that was read, so that it can be read again: names of columns in quotes where needed."""
    looked = ((factor.expr, factor.eval_method.value == "lookup") for factor in term.factors)
    return ":".join(quoted(name) if lookup else name for name, lookup in looked) or str(term)


def treatment_residual(column: str, design: Design, scores: Scores) -> np.ndarray | None:
    """The treatment less its mean given x, or of an effect an indicator; (R, n), None where the law is unknown."""
    if not isinstance(scores.nodes, Nodes):
        return None
    for v in design.variables:
        if v.name != column and not column.startswith(f"{v.name}["):
            continue
        own, nodes = design.frame[v.name].to_numpy(), scores.nodes.values[v.name]
        if v.kind != "continuous":
            level = next((one for one in v.levels if column == f"{v.name}[{one}]"), v.levels[-1])
            own, nodes = own == level, nodes == level
        mean = (scores.nodes.weight.cpu().numpy() * nodes.astype(np.float64)).sum(-1)
        return np.asarray(own.astype(np.float64) - mean)
    return None


def features(result: Fitted) -> pd.DataFrame:
    """The features of the rows used as numbers, and indicators of levels."""
    design = result.design
    varying(result)
    names = [name for part in ("features", "controls") for name in design.recipe.used.get(part, ())]
    parts = []
    for name in dict.fromkeys(names):
        series = design.frame[name]
        number = pd.api.types.is_numeric_dtype(series.dtype)
        parts.append(
            series.astype(np.float64).to_frame()
            if number
            else pd.get_dummies(series, dtype=np.float64).rename(columns=lambda level, name=name: f"{name}[{level}]")
        )
    return pd.concat(parts, axis=1).reset_index(drop=True)


def columns(result: Fitted, formula: str | None) -> pd.DataFrame:
    """The columns of a formula at the rows used, without the intercept."""
    design = result.design
    varying(result)
    if formula is None:
        parts = (design.recipe.features, design.recipe.controls)
        formula = " + ".join(dict.fromkeys(_typed(term) for part in parts if part for term in part.spec.formula))
    if not isinstance(formula, str) or "~" in formula or "|" in formula:
        raise OptionError(f"formula={formula!r}: give the right side of a regression, for example 'age + C(region)'.")
    left = "score_"
    while left in design.frame or left in formula:
        left += "_"
    frame = design.frame.assign(**{left: np.arange(len(design.frame), dtype=np.float64)})
    read = build(f"{left} ~ {formula}", frame, context=design.recipe.context, missing="raise")
    if read.terms[0] != "Intercept" or len(read.terms) < 2:
        raise OptionError(f"formula={formula!r} has the terms {', '.join(read.terms)}; give an intercept and others.")
    return pd.DataFrame(read.units.d[:, 1:].cpu().numpy(), columns=list(read.terms[1:]))


def varying(result: Fitted) -> None:
    """Raise NotAvailable where there is nothing to check, before anything is read."""
    if result.facts.constant or isinstance(result.scores, Kept):
        of(result, None, None, False)


# ---- residuals


@dataclass(frozen=True)
class _Outcome(Target):
    """E[y | d, x] at the treatment as observed."""

    label: ClassVar[str] = "outcome"

    def observed(self, design: Design) -> bool:
        return True

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return structure.mean(u, theta)


def residuals(result: Fitted, effect: str | None) -> tuple[np.ndarray, np.ndarray, Sample]:
    """y - E[y | x] and t - E[t | x] of every repeat (R, n), by functions that did not see the row, and its Sample.

    Raises NotAvailable unless y is a number, and one treatment has two levels or is continuous.
    """
    first, scores, design = of(result, effect)[0], result.scores, result.design
    column = effect or next(iter(asked.effects(design)))
    assert isinstance(scores, Scores)
    moved = treatment_residual(column, design, scores)
    single = len(asked.effects(design)) == len(design.variables) == 1 and scores.structure.family.outcome == "number"
    if moved is None or not single or scores.structure.family.labels:
        raise NotAvailable(
            "The R loss needs an outcome that is one number, and one treatment that has two levels or is continuous, "
            "whose law is known; use loss='DR'."
        )
    y = (scores.u.y - scores.effects(_Outcome())[..., 0]).cpu().numpy()
    return y, np.broadcast_to(moved, y.shape), first.rows


# ---- refits


def sequential(result: Fitted, effect: str | None, fold: np.ndarray) -> np.ndarray:
    """Effects of each fold (n,) by the same fit to the rows of the folds before it, see `sequential_priority`.

    Effects that depend on the treatment are those at the mean of continuous treatments, and at the base of others.
    Raises NotAvailable where the fit cannot be repeated.
    """
    design, again = result.design, result.again
    if again is None:
        raise NotAvailable(f"sequential=True fits again to earlier folds. {AGAIN}")
    names = names_of(result)
    place = 0 if effect is None else names.index(effect)
    frame = design.frame
    if not asked.whole(asked.effects(design), design):
        at = {v.name: frame[v.name].mean() if v.kind == "continuous" else v.levels[0] for v in design.variables}
        frame = frame.assign(**at)

    def learned(known: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.asarray(again(some(design, known)).cate(frame.iloc[new]))[:, place]

    return sequential_priority(learned, fold)


def some(design: Design, keep: np.ndarray) -> Design:
    """The design of some of its rows, by their positions."""
    rows = torch.as_tensor(keep)
    cluster = design.cluster[rows]
    if cluster.shape[1]:
        cluster = torch.stack([torch.unique(c, return_inverse=True)[1] for c in cluster.unbind(1)], 1)
    return replace(
        design, units=design.units.each(lambda part: part[rows]), x=design.x[rows], w=design.w[rows],
        weight=design.weight[rows], cluster=cluster, frame=design.frame.iloc[keep], rows=design.rows[keep],
        n=len(keep), groups=tuple(int(c.max()) + 1 for c in cluster.unbind(1)),
    )  # fmt: skip


def names_of(result: Fitted) -> list[str]:
    """The names of effects: columns of `cate()`, or of several outcomes their effects."""
    found = []
    for column, target in asked.effects(result.design).items():
        names = target.names(result.structure, result.design)
        found += list(names) if len(names) > 1 else [column]
    return found
