"""Membership that is a function of risk factors: the logit of each group is learned, the curves stay constant."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import splits as cross_fitting
from .. import theta as surface
from ..families import Mixture
from ..networks import MLP, Architecture
from ..report.summary import Summary
from ..report.table import Table
from ..structure import Structure
from ..theta import Options, Theta
from ..trainers import LBFGS
from . import mixing
from .panels import People


@dataclass(frozen=True, repr=False, eq=False)
class LearnedMembership:
    """Groups whose curves are constants and whose log odds are functions of the risk factors, by cross-fitting.

    What it says of the persons of the fit is by functions that did not see them. It states no standard errors: those
    of the curves are in `TrajectoryModel.fit`, whose multinomial logit is the parametric counterpart.
    """

    people: People
    mixture: Mixture
    fitted: Theta
    theta: Tensor  # (n, P) held out
    centre: Tensor  # (p,) of the risk factors
    spread: Tensor  # (p,)
    likelihood: pd.Series  # held out, of no risk factors, the multinomial logit and the functions

    @property
    def labels(self) -> list[str]:
        """Names of the groups."""
        return [f"group {k + 1}" for k in range(self.mixture.groups)]

    def _at(self, data: Any) -> tuple[People, Tensor]:
        if data is None:
            return self.people, self.theta
        people = self.people.new(data)
        x = _inputs(people, self.mixture, self.centre, self.spread)
        return people, self.fitted.values(x).mean(0)

    def _units(self, people: People) -> Any:
        """The units with a constant in the place of the risk factors."""
        return people.units._replace(d=people.units.d[..., : self.mixture.inner + 1])

    def shares(self, data: Any = None) -> pd.DataFrame:
        """pi_k(x) of each person: held out for those of the fit, the mean over folds for others."""
        people, theta = self._at(data)
        p = self.mixture.log_shares(self._units(people), theta).exp()
        return pd.DataFrame(p.numpy(), index=people.waves.ids, columns=self.labels)

    def membership(self, data: Any = None) -> pd.DataFrame:
        """The probability of each group given risk factors and outcomes, as `TrajectoryResults.membership` has it."""
        people, theta = self._at(data)
        p = self.mixture.posterior(self._units(people), theta)
        return pd.DataFrame(p.numpy(), index=people.waves.ids, columns=self.labels)

    def summary(self) -> Summary:
        """Held-out log-likelihoods without risk factors, of the multinomial logit and of the functions; the curves."""
        constants = [j for j, name in enumerate(self.mixture.names(self._terms)) if not name.startswith("P(")]
        names = self.mixture.names(self._terms)
        curves = pd.DataFrame({"coef": self.theta[0, constants].numpy()}, index=[names[j] for j in constants])
        header = (
            ("Dep. Variable:", self.people.curve.outcome), ("Family:", self.mixture.component.name),
            ("Groups:", str(self.mixture.groups)), ("No. Persons:", f"{len(self.people.waves.ids):,}"),
        )  # fmt: skip
        tables = (
            Table.from_frame(
                self.likelihood.to_frame("log-likelihood"), title="Held-out persons", formats={"log-likelihood": ".3f"}
            ),
            Table.from_frame(curves, title="Curves"),
        )
        notes = (
            "Each person is judged by fits without them; only the curves of the functions are one value for all folds. "
            "Curves have no standard errors here.",
        )
        return Summary("Group-Based Trajectories, Membership Learned", header, tables, notes)

    @property
    def _terms(self) -> tuple[str, ...]:
        return (*self.people.terms[: self.mixture.inner], "Intercept")


def _inputs(people: People, mixture: Mixture, centre: Tensor, spread: Tensor) -> Tensor:
    """The risk factors but for the intercept, standardised; (n, p) float32."""
    return ((people.units.d[:, 0, mixture.inner + 1 :] - centre) / spread).clamp(-5, 5).float()


def learn(
    people: People, mixture: Mixture, starts: int, folds: int, learners: Sequence[str], network: Architecture | None,
    rng: np.random.Generator,
) -> LearnedMembership:  # fmt: skip
    """Fit the mixture without risk factors, and from its maximum the functions, on each fold's complement."""
    u, n = people.units, len(people.waves.ids)
    alone = replace(mixture, risk=1)
    units = u._replace(d=u.d[..., : mixture.inner + 1])
    draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
    splits = cross_fitting.make(
        n, folds=folds, members=1, repeats=1, generator=draws, cluster=None, stratum=None, spare=False
    )
    fold = splits.held_out[0]
    groups = len(splits.fitted)
    kept = (fold[None] != torch.arange(groups)[:, None]).double()
    likelihood = {}
    for name, one, some in (("no risk factors", alone, units), ("multinomial logit", mixture, u)):
        fits = mixing.fit(one, some, kept, starts, people.moving, rng)
        loss = one.loss(some, fits.theta[:, None]) + one.normaliser(some)
        likelihood[name] = -float((loss * (1 - kept)).sum())
    every = torch.ones(1, n, dtype=torch.float64)
    found = mixing.fit(alone, units, every, starts, people.moving, rng).theta[0]
    order = (alone.means(units, found) * u.mask[:, None]).sum((0, 2)).argsort().tolist()
    full = alone.spread[order]
    full[:, alone.inner :] = full[:, alone.inner :] - full[:1, alone.inner :]
    after = replace(alone, uses=tuple(alone.uses[k] for k in order))
    begin = torch.linalg.pinv(after.spread.flatten(0, 1)) @ full.flatten(0, 1) @ found
    started = replace(after, begin=tuple(begin.tolist()))
    terms = (*people.terms[: alone.inner], "Intercept")
    constant = tuple(name for name in started.names(terms) if not name.startswith("P("))
    structure = Structure(started, terms, None, constant)
    raw = u.d[:, 0, mixture.inner + 1 :]
    centre, spread = raw.mean(0), raw.std(0)
    x = _inputs(people, mixture, centre, spread)
    options = Options(tuple(learners), MLP() if network is None else network, LBFGS(), 1e-3, torch.device("cpu"), draws)
    reads = (tuple(range(x.shape[1])), ())
    fitted = surface.fit(structure, units, x, every[0], splits, options, None, reads)
    theta = fitted.held_out(x, splits)[0]
    likelihood["functions"] = -float((started.loss(units, theta) + started.normaliser(units)).sum())
    return LearnedMembership(people, started, fitted, theta, centre, spread, pd.Series(likelihood))
