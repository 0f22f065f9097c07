"""The summary of a fit: which facts, estimates and warnings go into its header, tables and notes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .call import Call
from .constant.certificate import Certificate
from .design import Design
from .estimates import Estimates
from .goodness import Goodness
from .instruments import strengths
from .report.covariance import Covariance
from .report.summary import Summary
from .report.table import Table
from .structure import Structure

WEAK = 10  # first-stage F below which an instrument is called weak


@dataclass(frozen=True)
class Facts:
    """What the model knows of its own fit, for the reader of the table."""

    model: str
    header: tuple[tuple[str, str], ...]
    diagnostics: tuple[tuple[str, str | float | int], ...]
    notes: tuple[str, ...]
    constant: bool
    goodness: Goodness
    call: Call
    loss: Mapping[str, float] = field(default_factory=dict)  # out of fold, of the homogeneous fit and of theta(x)
    certificate: Certificate | None = None  # of constant theta


def summarise(
    facts: Facts, design: Design, averages: Estimates, effects: Estimates | None, alpha: float, structure: Structure,
) -> Summary:  # fmt: skip
    """Assemble the summary in statsmodels' layout."""
    dropped = sum(design.dropped.values())
    left = {cause: count for cause, count in design.dropped.items() if count}
    causes = ", ".join(f"{cause} {count:,}" if len(left) > 1 else cause for cause, count in left.items())
    header = (
        ("Dep. Variable:", design.outcome),
        ("Model:", facts.model),
        ("No. Observations:", f"{design.n:,}"),
        ("Dropped rows:", f"{dropped:,}" + (f" ({causes})" if causes else "")),
        ("Covariance:", describe(averages).header()),
        *((("Alternatives:", _alternatives(design)),) if design.packing is not None else ()),
        *((("Weights:", design.recipe.weights),) if design.recipe.weights else ()),
        *((f"{role.capitalize()}:", name) for role, name in design.recipe.offsets.items()),
        *facts.header,
        *(() if structure.penalised else _fit(facts, design.n)),
    )
    tables = [
        Table.from_frame(averages.frame(alpha), title="Coefficients" if facts.constant else "Average coefficients")
    ]
    if effects is not None:
        tables.append(Table.from_frame(effects.frame(alpha), title="Effects"))
    diagnostics = list(facts.diagnostics)
    moved = None if facts.constant else largest_correction(averages)
    if moved is not None:
        diagnostics.append(("Largest correction:", f"{moved:.2f} std err"))
    notes = list(facts.notes)
    for name, strength in _strengths(structure, averages):
        diagnostics.append((f"First-stage F{name}:", f"{strength:.1f}"))
        if strength < WEAK:
            notes.append(_weak(structure, name, strength))
    if diagnostics:
        tables.append(Table.from_pairs(diagnostics, title="Diagnostics"))
    return Summary(
        f"{'Regression' if facts.constant else 'Structural Regression'} Results", header, tuple(tables),
        (*notes, *design.notes),
    )  # fmt: skip


def _fit(facts: Facts, n: int) -> list[tuple[str, str]]:
    """Log-likelihood and criteria of constant theta, where there is a likelihood."""
    if facts.certificate is None or not math.isfinite(facts.goodness.llf):
        return []
    free = facts.certificate.free
    values = {
        "Log-Likelihood:": facts.goodness.llf,
        "AIC:": facts.goodness.aic(free),
        "BIC:": facts.goodness.bic(free, n),
    }
    return [(name, f"{value:,.3f}") for name, value in values.items()]


def _strengths(structure: Structure, averages: Estimates) -> list[tuple[str, float]]:
    """First-stage F's, with what their names end with where there are several."""
    if structure.instruments is None:
        return []
    names = [name for stage in structure.stages[1:] for name in stage]
    first, treatments = averages.select(tuple(names)), structure.family.labels[1:]
    slopes = first.value.reshape(len(treatments), -1)
    found = strengths(np.array(structure.instruments.spread), slopes, first.cov, treatments)
    return [("" if len(treatments) == 1 else f", {name} given the others", strength) for name, strength in found]


def _weak(structure: Structure, name: str, strength: float) -> str:
    """The note on weak instruments."""
    assert structure.instruments is not None
    if name:
        what = f"The instruments are weak for {name[2:]}: the conditional F statistic is {strength:.1f}"
        return f"{what}, below {WEAK}, where the normal law describes a ratio badly (Sanderson and Windmeijer 2016)."
    one = len(structure.instruments.terms) == 1
    what, whose = ("instrument is", "its") if one else ("instruments are", "their")
    return (
        f"The {what} weak: the F statistic of {whose} average effect on the treatment is {strength:.1f}, below {WEAK}, "
        "where the normal law describes a ratio badly (Staiger and Stock 1997)."
    )


def _alternatives(design: Design) -> str:
    inside = design.packing
    assert inside is not None
    return ", ".join(inside.names) if inside.alternatives and inside.size <= 6 else f"{inside.size} at most"


def largest_correction(averages: Estimates) -> float | None:
    """The largest distance of an average from its plug-in, in standard errors; None where there are no plug-ins."""
    if averages.plug_in is None:
        return None
    error = np.where(averages.std_error > 0, averages.std_error, np.nan)
    return float(np.nanmax(np.abs(averages.value - averages.plug_in) / error))


def describe(estimates: Estimates) -> Covariance:
    """How the standard errors of estimates were computed."""
    sampling, constant = estimates.sampling, estimates.constant
    given = "" if estimates.sample == "population" else "regressors" if constant else "features"
    return Covariance(sampling.kind, sampling.ways, not constant, given, estimates.delta)
