"""How many groups: fits with different numbers of them, by information criteria and by held-out persons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import OptionError
from ..families import Mixture
from ..report.printed import Printed
from ..report.table import Table
from . import mixing
from .fitted import TrajectoryResults, ordered
from .panels import People
from .tables import reached

CRITERIA = {"bic": "BIC", "bic_obs": "BIC obs", "aic": "AIC", "icl": "ICL", "cv": "CV"}
FEW = 5  # starts in each fold, where the fit to all persons has at least as many


@dataclass(frozen=True, repr=False, eq=False)
class GroupChoice(Printed):
    """Fits with different numbers of groups. Printing it shows the table."""

    results: Mapping[int, TrajectoryResults]
    held_out: Mapping[int, float]  # log-likelihood of persons that were left out, where asked
    by: tuple[str, ...]

    @property
    def flawed(self) -> tuple[int, ...]:
        """The numbers of groups that the data do not hold."""
        return tuple(number for number, made in self.results.items() if made.troubles)

    def frame(self) -> pd.DataFrame:
        """One row for each number of groups."""
        rows = []
        for made in self.results.values():
            p = made.posterior.argmax(1)
            smallest = float(torch.bincount(p, minlength=made.mixture.groups).min()) / len(p)
            hits, starts = reached(made.found)
            rows.append({
                "P": len(made.theta), "llf": made.llf, "AIC": made.aic, "BIC": made.bic, "BIC obs": made.bic_obs,
                "ICL": made.icl, "entropy": made.entropy, "smallest": smallest,
                "CV": self.held_out.get(made.mixture.groups, np.nan), "at max": f"{hits}/{starts}",
            })  # fmt: skip
        return pd.DataFrame(rows, index=pd.Index(list(self.results), name="groups"))

    @property
    def best(self) -> dict[str, int]:
        """The number of groups that each criterion takes: the least, or of "cv" the largest."""
        frame = self.frame()
        return {name: int(frame["CV"].idxmax() if name == "cv" else frame[CRITERIA[name]].idxmin()) for name in self.by}

    def table(self) -> Table:
        """The frame with the criteria that were asked for, and what they take as notes."""
        frame = self.frame()
        left = [label for name, label in CRITERIA.items() if name not in self.by]
        found = ", ".join(f"{CRITERIA[name]} {number}" for name, number in self.best.items())
        notes = [f"Number of groups by each criterion: {found}."]
        if self.flawed:
            notes.append(
                f"With {', '.join(map(str, self.flawed))} groups one is as good as empty, two are one, or a parameter "
                "runs off to infinity: the data hold fewer."
            )
        notes.append("Standard errors of a fit that was chosen so are given the choice.")
        shown = frame.drop(columns=left)
        decimals = {name: ".1f" for name in shown if name not in ("P", "entropy", "smallest", "at max")}
        return Table.from_frame(
            shown,
            title="Number of Groups",
            formats={**decimals, "entropy": ".2f", "smallest": ".2f"},
            notes=tuple(notes),
        )

    def as_text(self) -> str:
        """78 columns wide."""
        return self.table().as_text()

    def as_html(self) -> str:
        """A `<table>`."""
        return self.table().as_html()

    def as_latex(self) -> str:
        """A booktabs table."""
        return self.table().as_latex()


def choose(
    people: People, mixtures: Mapping[int, Mixture], starts: int, by: Sequence[str], folds: int,
    rng: np.random.Generator, formula: str,
) -> GroupChoice:  # fmt: skip
    """Fit each mixture to all persons and, for "cv", to all but those of each fold, the folds at once.

    Raises OptionError for an unknown criterion, or more folds than persons.
    """
    unknown = [name for name in by if name not in CRITERIA]
    if unknown or not by:
        raise OptionError(f"by={list(by)!r}: allowed are {', '.join(map(repr, CRITERIA))}.")
    n = len(people.waves.ids)
    if not 2 <= folds <= n:
        raise OptionError(f"folds={folds!r}: give a whole number from 2 to the number of persons, {n}.")
    fold = torch.from_numpy(rng.permutation(np.arange(n) % folds))
    kept = (fold[None] != torch.arange(folds)[:, None]).double()  # (F, n)
    results: dict[int, TrajectoryResults] = {}
    held: dict[int, float] = {}
    every = torch.ones(1, n, dtype=torch.float64)
    for number, mixture in mixtures.items():
        found = mixing.fit(mixture, people.units, every, starts, people.moving, rng)
        results[number] = ordered(people, mixture, found, formula, "classical")
        if "cv" in by:
            fits: Any = mixing.fit(mixture, people.units, kept, min(starts, FEW), people.moving, rng)
            loss = mixture.loss(people.units, fits.theta[:, None]) + mixture.normaliser(people.units)  # (F, n)
            held[number] = -float((loss * (1 - kept)).sum())
    return GroupChoice(results, held, tuple(by))
