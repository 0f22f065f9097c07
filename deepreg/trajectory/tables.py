"""The tables of a fitted trajectory model, from its numbers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..estimates import Estimates
from ..families import Mixture
from ..report.summary import Summary
from ..report.table import Table
from .mixing import Maximum
from .panels import People

SURE, CLEAR = 0.7, 5.0  # APPA and OCC below which Nagin (2005) calls a group badly told apart
_SAME = 1e-8


@dataclass(frozen=True)
class Fitted:
    """What the tables read of a fitted model."""

    mixture: Mixture
    people: People
    found: Maximum
    cov_type: str
    labels: list[str]
    persons: int
    nobs: int
    llf: float
    aic: float
    bic: float
    bic_obs: float
    entropy: float
    posterior: Tensor
    shares: Tensor
    estimates: Estimates
    troubles: tuple[str, ...]


def groups(made: Fitted) -> pd.DataFrame:
    """pi, share, persons, APPA and OCC of each group."""
    p, count = made.posterior, made.mixture.groups
    likeliest = p.argmax(1)
    size = torch.bincount(likeliest, minlength=count)
    pi = made.shares.mean(0)
    inside = (torch.nn.functional.one_hot(likeliest, count) * p).sum(0) / size  # NaN where no one is
    with np.errstate(divide="ignore", invalid="ignore"):
        occ = (inside / (1 - inside)) / (pi / (1 - pi))
    columns: dict[str, Any] = {
        "pi": pi.numpy(), "share": (size / len(p)).numpy(), "persons": size.numpy(), "APPA": inside.numpy(),
        "OCC": occ.numpy(),
    }  # fmt: skip
    return pd.DataFrame(columns, index=made.labels)


def adequacy(made: Fitted) -> Summary:
    """The table of groups, with a header of what a report of trajectories should say."""
    frame = groups(made)
    several = made.mixture.groups > 1
    table = Table.from_frame(
        frame if several else frame[["pi", "share", "persons"]],
        title="Groups",
        formats={"pi": ".3f", "share": ".3f", **({"APPA": ".3f", "OCC": ".4g"} if several else {})},
    )
    notes = list(made.troubles)
    empty = [name for name, size in frame["persons"].items() if size == 0]
    if empty:
        notes.append(f"No person's likeliest group is {', '.join(map(str, empty))}, so it has no APPA and no OCC.")
    weak = frame.index[(frame["APPA"] < SURE) | (frame["OCC"] < CLEAR)] if several else []
    if len(weak):
        notes.append(
            f"Badly told apart by the rules of Nagin (2005), APPA of at least {SURE:g} and OCC of at least {CLEAR:g}: "
            f"{', '.join(weak)}."
        )
    header = (*_facts(made), ("Relative entropy:", f"{made.entropy:.3f}"), *_certificate(made))
    return Summary("Adequacy of the Groups", header, (table,), tuple(notes))


def summarise(made: Fitted, alpha: float) -> Summary:
    """Coefficients group by group, what all groups share, and membership."""
    frame = made.estimates.frame(alpha)
    pi = made.shares.mean(0)
    tables = []
    for label, share in zip(made.labels, pi, strict=True):
        own = [name for name in frame.index if name.startswith(f"{label}: ")]
        tables.append(_block(frame, own, f"{label}: ", f"{label.capitalize()} ({float(share):.1%})"))
    shared = [name for name in frame.index if not name.startswith(("group ", "P(group "))]
    if shared:
        tables.append(_block(frame, shared, "", "The same in all groups"))
    for label in made.labels[1:]:
        own = [name for name in frame.index if name.startswith(f"P({label}): ")]
        tables.append(_block(frame, own, f"P({label}): ", f"Membership of {label}, log odds against group 1"))
    notes = list(made.troubles)
    dropped = sum(made.people.curve.dropped.values())
    if dropped:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in made.people.curve.dropped.items())
        notes.append(f"{dropped:,} rows were left out: {causes}.")
    header = (*_facts(made), *_fit(made))
    return Summary("Group-Based Trajectories", header, tuple(tables), (*notes, *made.people.curve.notes))


def _block(frame: pd.DataFrame, names: list[str], prefix: str, title: str) -> Table:
    return Table.from_frame(frame.loc[names].rename(index=lambda name: name.removeprefix(prefix)), title=title)


def _facts(made: Fitted) -> tuple[tuple[str, str], ...]:
    counts = made.people.waves.counts
    low, high, alone = int(counts.min()), int(counts.max()), int((counts == 1).sum())
    waves = f"{low}" if low == high else f"{low} to {high}"
    per = made.people.curve.recipe.offsets
    return (
        ("Dep. Variable:", made.people.curve.outcome),
        ("Family:", made.mixture.component.name),
        ("Groups:", str(made.mixture.groups)),
        ("No. Persons:", f"{made.persons:,}"),
        ("No. Observations:", f"{made.nobs:,}"),
        ("Times per person:", waves),
        *((("Persons with one:", f"{alone:,}"),) if alone else ()),
        *((f"{role.capitalize()}:", name) for role, name in per.items()),
    )


def _fit(made: Fitted) -> tuple[tuple[str, str], ...]:
    kinds = {"classical": "observed information", "robust": "robust, by person"}
    return (
        ("Covariance:", kinds[made.cov_type]),
        ("Log-Likelihood:", f"{made.llf:,.3f}"),
        ("AIC:", f"{made.aic:,.3f}"),
        ("BIC (persons):", f"{made.bic:,.3f}"),
        ("BIC (observations):", f"{made.bic_obs:,.3f}"),
        ("Relative entropy:", f"{made.entropy:.3f}"),
        *_certificate(made),
    )


def reached(found: Maximum) -> tuple[int, int]:
    """How many of the starts came to the maximum, and how many there were."""
    values, best = found.starts[0], found.value[0]
    return int(((values - best).abs() < _SAME * (1 + best.abs())).sum()), len(values)


def _certificate(made: Fitted) -> tuple[tuple[str, str], ...]:
    hits, starts = reached(made.found)
    return (
        ("Starts at maximum:", f"{hits} of {starts}"),
        ("Largest gradient:", f"{float(made.found.gradient[0]):.1e}"),
        ("Least eigenvalue:", f"{float(made.found.smallest[0]):.2g}"),
    )
