"""The targets that are asked for without being named: those of cate(), of the summary and of get_margeff()."""

import re
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from .design import Design
from .structure import Structure
from .targets import AME, ATE, LATE, At, Target
from .targets.average import some_variable


def effects(design: Design) -> dict[str, ATE | AME]:
    """The target of each column of cate(): a level against the base level, or a derivative."""
    found: dict[str, ATE | AME] = {}
    for v in design.variables:
        if v.kind == "continuous":
            found[v.name] = AME(v.name).bind(design)
            continue
        pairs = ATE(v.name).pairs(design)
        found |= {f"{v.name}[{hi}]" if len(pairs) > 1 else v.name: ATE(v.name, hi, lo) for hi, lo in pairs}
    return found


def whole(effects: Mapping[str, Target], design: Design) -> bool:
    """Whether effects say the values of all structural variables, so that those of the rows are not needed."""
    edits = [edit for target in effects.values() for edit in target.scenarios(design)]
    moves = any(callable(v) for edit in edits for v in edit.values())
    return len(design.variables) == 1 and not moves and not design.units.offset.dim()


def per_row(effects: Mapping[str, Target], design: Design, structure: Structure, theta: Tensor) -> np.ndarray:
    """The value of each effect at theta (n, P) of each row; (n, q)."""
    columns = []
    for target in effects.values():
        edited = (design.frame.assign(**edit) for edit in target.scenarios(design))
        counterfactual = (design.units._replace(d=design.structural(frame)) for frame in edited)
        columns.append(target.h(structure, theta, design.units, *counterfactual).cpu().numpy())
    return np.concatenate(columns, 1)


def possible(design: Design, structure: Structure, integrable: bool) -> dict[str, ATE | AME]:
    """Those of effects() that can be had: averages over the observed treatment need its law, `integrable`."""
    if not structure.family.predicts:
        return {}
    return {name: t for name, t in effects(design).items() if integrable or not t.observed(design)}


def shown(design: Design, structure: Structure, integrable: bool) -> tuple[Target, ...]:
    """The effects of a summary: ATE, and AME where the coefficient does not already say it and it can be had.

    With instruments, the local average effect.
    """
    if structure.instruments is not None:
        return (LATE(),)
    found = possible(design, structure, integrable).values()
    return tuple(t for t in found if isinstance(t, ATE) or not is_coefficient(str(t.name), structure))


def usual(design: Design, structure: Structure, integrable: bool) -> tuple[tuple[Target, ...], ...]:
    """The targets that the summary and get_margeff() ask for together."""
    if not design.variables:
        return ()
    several = (shown(design, structure, integrable), tuple(effects(design).values()))
    return tuple(t for t in (*several, *(margins(design, dummy) for dummy in (False, True))) if t)


def margins(design: Design, dummy: bool, at: str = "overall") -> tuple[Target, ...]:
    """The targets of get_margeff(): derivatives of numeric variables, changes of the others; see there for options."""
    found = tuple(
        AME(v.name) if v.kind == "continuous" or (v.name in design.terms
                                                  and not (dummy and v.levels == (0, 1))) else ATE(v.name)
        for v in some_variable("get_margeff", design)
    )  # fmt: skip
    return found if at == "overall" else tuple(At(target, at) for target in found)


def is_coefficient(name: str, structure: Structure) -> bool:
    """Whether a variable's effect is its coefficient: an identity link, and no other term that holds it."""
    word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    holding = [term for term in structure.terms if word.search(term)]
    return structure.family.identity and holding == [name]
