"""Averages of effects over the population of a fit, with influence-function errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .effects import Change, Derivative, Question, changes, levels_of
from .errors import OptionError
from .estimates import Estimates
from .results import Results
from .targets import AME, Coefficient, Contrast, IVEffect, Target


def average(result: Results, question: Question, errors: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors of a question about treatments, NaN unless asked for; each (M C,), M outcomes first.

    Values that are those of every row of the fit count as observed, so that the law of the treatment enters.
    """
    found = _estimates(result, question)
    structure = result.structure
    outcomes = len(structure.family.labels or ("",)) if structure.instruments is None else 1
    error = found.std_error if errors else np.full(len(found.value), np.nan)
    by_outcome = (one.reshape(-1, outcomes).T.ravel() for one in (found.value, error))
    value, error = by_outcome
    return value, error


def _estimates(result: Results, question: Question) -> Estimates:
    """The estimates, those of one treatment for every outcome after the other."""
    structure, design = result.structure, result.design
    if structure.instruments is not None:
        return _instrumented(result, question)
    if isinstance(question, Change):
        hi, lo = (_setting(result, given) for given in (question.T1, question.T0))
        if _same(hi, lo):
            nothing = np.zeros((len(structure.family.labels or ("",)), len(structure.names)))
            return result.averages.linear(nothing, nothing[:, 0], [f"no change {j}" for j in range(len(nothing))])
        return result.estimate(Contrast(hi, lo))
    if not isinstance(question, Derivative):
        k = len(structure.terms)
        columns = [j for j in range(k) if j != structure.intercept]
        blocks = range(len(structure.family.prefixes))
        return result.estimate(Coefficient()).select([structure.names[b * k + j] for j in columns for b in blocks])
    at, per = _setting(result, question.T), list[float]()
    targets: list[Target] = []
    observed = all(isinstance(value, str) and value == name for name, value in at.items())
    for v in design.variables:
        if levels_of(design, v.name):
            pairs = changes(design, v.name, question.levels)
            targets += [Contrast({**at, v.name: hi}, {**at, v.name: lo}, f"{v.name}: {hi} vs {lo}") for hi, lo in pairs]
            per += [1.0] * len(pairs)
            continue
        step = float(AME(v.name).bind(design).step or 0)
        value = at[v.name]
        if observed:
            targets, per = [*targets, AME(v.name)], [*per, 1.0]
        elif isinstance(value, str):
            raise OptionError(
                f"T is that of the fit in {v.name!r} but not in the other treatments; give values that do not depend "
                "on it, or all treatments as they were."
            )
        else:
            up, down = (np.asarray(value, dtype=np.float64) + move for move in (step, -step))
            hi, lo = ({**at, v.name: one if one.ndim else float(one)} for one in (up, down))
            targets, per = [*targets, Contrast(hi, lo, f"derivative in {v.name}")], [*per, 2 * step]
    return _scaled(result.estimate(*targets), np.repeat(per, len(structure.family.labels or ("",))))


def _scaled(found: Estimates, per: np.ndarray) -> Estimates:
    return found.linear(np.diag(1 / per), np.zeros(len(per)), found.names)


def _instrumented(result: Results, question: Question) -> Estimates:
    effect: Target = IVEffect()
    found = result.estimate(effect)
    if not isinstance(question, Change):
        return found
    changes = [(question.T0[name], question.T1[name]) for name in question.T0]
    if any(np.ndim(one) for both in changes for one in both):
        raise OptionError(
            "The average effect of instrumented treatments is for one change: give T0 and T1 as values, one for each "
            "treatment."
        )
    turn = np.array([[float(after) - float(before) for before, after in changes]])
    return found.linear(turn, np.zeros(1), found.names[:1])


def _setting(result: Results, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the treatments, and the name of the treatment in the place of values that are the observed ones."""
    frame = result.design.frame
    return {name: name if _is_observed(value, frame[name].to_numpy()) else value for name, value in given.items()}


def _is_observed(value: Any, observed: np.ndarray) -> bool:
    return np.ndim(value) == 1 and len(value) == len(observed) and bool((np.asarray(value) == observed).all())


def _same(hi: Mapping[str, Any], lo: Mapping[str, Any]) -> bool:
    return all(bool(np.all(np.asarray(hi[name] == lo[name]))) for name in hi)
