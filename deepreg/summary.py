"""The summary of a fit: which facts, estimates and warnings go into its header, tables and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .call import Call
from .design import Design
from .estimates import Estimates
from .goodness import Goodness
from .report.covariance import Covariance
from .report.summary import Summary
from .report.table import Table

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


def summarise(
    facts: Facts, design: Design, averages: Estimates, effects: Estimates | None, alpha: float,
    stages: Sequence[str] = (),
) -> Summary:  # fmt: skip
    """Assemble the summary in statsmodels' layout; `stages` names the coefficients of an instrument."""
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
    if stages:
        strength = float(averages.select(stages[1:]).zvalues[0] ** 2)
        diagnostics.append(("First-stage F:", f"{strength:.1f}"))
        if strength < WEAK:
            notes.append(
                f"The instrument is weak: the F statistic of its average effect on the treatment is {strength:.1f}, "
                f"below {WEAK}, where the normal law describes a ratio badly (Staiger and Stock 1997)."
            )
    if diagnostics:
        tables.append(Table.from_pairs(diagnostics, title="Diagnostics"))
    return Summary(
        f"{'Regression' if facts.constant else 'Structural Regression'} Results", header, tuple(tables),
        (*notes, *design.notes),
    )  # fmt: skip


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
