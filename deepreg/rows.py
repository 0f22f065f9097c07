"""Rows: theta(x) at rows of data, with the covariance of its error, or with replicates of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from . import spread
from .design import Design
from .errors import DataError
from .estimates import Estimates
from .families import LinearSystem
from .law import FittedLaw
from .structure import Structure
from .theta import Theta


class Fit(Protocol):
    """What effects are made of: the fields of a result."""

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def scores(self) -> Any: ...
    @property
    def fitted(self) -> Theta | None: ...
    @property
    def law(self) -> FittedLaw | None: ...
    @property
    def averages(self) -> Estimates: ...


class Rows(NamedTuple):
    """theta(x) of some rows, with the covariance of its error where it was asked for."""

    design: Design
    labels: tuple[object, ...]
    theta: Tensor  # (m, P)
    covariance: Tensor | None  # (m, P, P)


@dataclass(frozen=True)
class Replicates:
    """theta(x) fitted again to halves of the rows, and the law of the treatment of each."""

    fitted: Theta
    law: FittedLaw | None

    def theta(self, x: Tensor, slopes: Tensor) -> Tensor:
        """(m, p) -> (B, m, P)."""
        return self.fitted.values(*_place(self.fitted, self.law, x, slopes)).cpu()


def linear(structure: Structure) -> bool:
    """Whether mean outcomes are linear in theta."""
    return structure.family.identity or isinstance(structure.family, LinearSystem)


def uniform(fit: Fit) -> bool:
    """Whether effects are the same at every x: no features, and controls that move none of them."""
    return bool(fit.scores.constant) or (linear(fit.structure) and not fit.design.features)


def theta_at(fit: Fit, new: object, regressors: bool = True) -> tuple[Design, Tensor]:
    """theta(x) of rows of `new`, those that have all it takes, or held out of the rows of the fit; (m, P)."""
    if new is None:
        return fit.design, fit.scores.theta.mean(0).cpu()
    design = fit.design.new(new, regressors=regressors)
    if fit.fitted is None:
        return design, fit.scores.everywhere.expand(design.n, -1).cpu()
    place = _place(fit.fitted, fit.law, design.inputs, fit.structure.slopes)
    return design, fit.fitted.values(*place).mean(0).cpu()


def _place(fitted: Theta, law: FittedLaw | None, x: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor | None]:
    """What theta(x) is evaluated at: x (m, p) on its device, and E[d | x]."""
    x = x.to(fitted.coordinates.start.device)
    return x, None if law is None else law.centre(x, slopes.to(x.device))


def rows_of(fit: Fit, new: object, count: int, observed: bool, errors: bool) -> Rows:
    """Rows of `new`, or those of the fit, held out; so many equal ones where effects are uniform.

    `observed` says whether the treatments of the rows are needed, `errors` whether the covariance is. Raises DataError
    for rows with missing values or unseen levels.
    """
    same, structure, design = uniform(fit), fit.structure, fit.design
    if new is not None or (same and observed):
        if new is not None:
            design = fit.design.new(new, unseen="raise", regressors=observed, controls=not linear(structure))
            if lost := len(design.index) - design.n:
                raise DataError(
                    f"X has {lost} of {len(design.index)} rows with missing or infinite values in columns of the "
                    "formula. Leave these rows out of X, or fill them in."
                )
        count = design.n
    if same:
        theta = torch.from_numpy(fit.averages.value).expand(count, -1)
        cov = torch.from_numpy(fit.averages.cov).expand(count, -1, -1) if errors else None
        return Rows(design, tuple(range(count)) if new is None else tuple(design.labels), theta, cov)
    assert fit.fitted is not None
    held_out = fit.scores.theta if new is None else None  # says what is missing in a result saved without its rows
    if held_out is not None and not errors:
        return Rows(design, tuple(design.labels), held_out.mean(0).cpu(), None)
    place = _place(fit.fitted, fit.law, design.inputs, structure.slopes)
    theta = (fit.fitted.values(*place) if held_out is None else held_out).mean(0).cpu()
    covariance = _covariance(fit, fit.fitted, *place) if errors else None
    return Rows(design, tuple(design.labels), theta, covariance)


def _covariance(fit: Fit, fitted: Theta, x: Tensor, centre: Tensor | None) -> Tensor:
    """That of the error of theta(x); for columns that the learners left constant, that of their averages."""
    average = torch.from_numpy(fit.averages.cov)
    found = spread.covariance(fitted, x, len(fit.averages.moments.value), centre).cpu()
    share = sum((mix for name, mix in fitted.mix.items() if name in fitted.learners), 0 * fitted.coordinates.start[0])
    moved = (fitted.coordinates.transform != 0).any(0).double() @ (share > 0).double()
    constant = moved.cpu() == 0
    constant[list(fit.structure.levels)] = False  # what E[d | x] moves
    constant[list(fit.structure.held)] = True
    either, both = constant[:, None] | constant, constant[:, None] & constant
    return torch.where(both, average, found.masked_fill(either, 0.0))
