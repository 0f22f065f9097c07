"""Factors: the candidates of a choice of at most one column out of every set, and what each is worth."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import NotAvailable
from ..searching import Found
from ..submodels import Submodels


@dataclass(frozen=True, eq=False)
class Candidates:
    """Choices of one column out of each of S sets, beside `base` columns that are always there.

    Positions (C, S) count the options of each set; an option is the number of a column, or -1 for none.
    """

    models: Submodels
    base: int
    labels: tuple[str, ...]  # of all columns
    names: tuple[str, ...]  # of the sets
    options: tuple[tuple[int, ...], ...]
    begin: Tensor | None = None  # (1, P) theta without any set
    before: "Candidates | None" = None  # the same candidates under another family, to start from
    result: Found | None = None
    positions: np.ndarray = field(default_factory=lambda: np.empty((0, 0), int))  # (C, S) of all that were looked at
    values: np.ndarray = field(default_factory=lambda: np.empty(0))  # (C,) their BIC
    theta: Tensor = field(default_factory=lambda: torch.empty(0))  # (C, P)

    @property
    def found(self) -> Found:
        """What the search found."""
        if self.result is None:
            raise NotAvailable("These candidates were not searched yet.")
        return self.result

    @property
    def shape(self) -> tuple[int, ...]:
        """How many options each set has."""
        return tuple(map(len, self.options))

    def named(self) -> tuple[tuple[str | None, ...], ...]:
        """The options of each set as names of columns, None for none."""
        return tuple(tuple(None if one < 0 else self.labels[one] for one in each) for each in self.options)

    def columns(self, positions: np.ndarray) -> Tensor:
        """The columns of each candidate, -1 for none; (C, S) -> (C, base + S) long."""
        chosen = np.stack([np.array(each)[positions[:, s]] for s, each in enumerate(self.options)], 1)
        always = torch.arange(self.base).expand(len(positions), -1)
        return torch.cat([always, torch.from_numpy(chosen)], 1)

    def fixed(self) -> float:
        """What the log-likelihood has besides minus n times the mean loss."""
        u = self.models.units
        return -float((self.models.family.normaliser(u) * u.mask).sum())

    def started(self, before: "Candidates | None") -> "Candidates":
        """With the fit without any set, and where another family's fits are, to start from."""
        empty = torch.cat([torch.arange(self.base), -torch.ones(len(self.options), dtype=torch.long)])[None]
        begin = self.models.fit(empty, torch.ones_like(self.models.units.y)[None]).theta
        return replace(self, begin=begin, before=before)

    def start(self, positions: np.ndarray) -> Tensor:
        """Where Newton's method starts for each candidate; (C, P)."""
        assert self.begin is not None, "started() comes first"
        start = self.begin.expand(len(positions), -1).clone()
        if self.before is None or not len(self.before.positions):
            return start
        known = np.ravel_multi_index(self.before.positions.T, self.shape)
        wanted = np.ravel_multi_index(positions.T, self.shape)
        order = np.argsort(known)
        at = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
        width = self.base + len(self.options)
        there = torch.from_numpy(known[at] == wanted)[:, None]
        start[:, :width] = torch.where(there, self.before.theta[torch.from_numpy(at), :width], start[:, :width])
        return start

    def values_of(self, loss: Tensor, theta: Tensor, columns: Tensor, n: float) -> Tensor:
        """The BIC of fits, infinite for those that are not admissible; (C,)."""
        chosen = columns[:, self.base :] >= 0
        beta = theta[:, self.base : columns.shape[1]]
        size = self.base + chosen.sum(1) + len(self.models.family.extra)
        bic = 2 * n * loss + size.to(loss) * float(np.log(n))
        return torch.where((chosen & (beta <= 0)).any(1), torch.inf, bic)

    def score(self, positions: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """The BIC (C,) and theta (C, P) of candidates."""
        columns, u = self.columns(positions), self.models.units
        fits = self.models.fit(columns, torch.ones_like(u.y)[None], self.start(positions))
        values = self.values_of(fits.loss, fits.theta, columns, len(u.y)) - 2 * self.fixed()
        return values.numpy(), fits.theta

    def pruned(self, positions: np.ndarray) -> np.ndarray:
        """The candidate without the sets whose coefficient is not above 0; (S,)."""
        columns = self.columns(positions[None])
        theta = self.models.fit(columns, torch.ones_like(self.models.units.y)[None], self.start(positions[None])).theta
        out = (theta[0, self.base : columns.shape[1]] <= 0).numpy()
        none = np.array(
            [each.index(-1) if -1 in each else at for each, at in zip(self.options, positions, strict=True)]
        )
        return np.where(out, none, positions)

    def after(self, found: Found, positions: np.ndarray, values: np.ndarray, theta: Tensor) -> "Candidates":
        """With what a search found, and all that it looked at."""
        return replace(self, result=found, positions=positions, values=values, theta=theta)
