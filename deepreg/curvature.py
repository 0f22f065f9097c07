"""Lambda(x) = E[Hessian | x]: integrated over a known or an estimated law of the treatment, or regressed on x."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from . import law
from .choicesets import DrawnSets, Law, Points
from .design import Design
from .errors import DataError, OptionError
from .families.nuisance import Precision
from .law import Cells, FittedLaw
from .splits import Splits
from .structure import Structure
from .theta import Options, Theta, fit
from .units import Units

_SHARE = 0.1  # of the mean Hessian in what is regressed, taken out again afterwards


class Lambda(NamedTuple):
    """The inverse of Lambda(x_i) at the held-out theta, and how far it can be trusted."""

    inverse: Tensor  # (R, n, P, P)
    smallest: float  # smallest eigenvalue relative to the mean Lambda, before flooring
    floored: Tensor  # (n,) bool: rows with an eigenvalue raised to the floor, in any repeat


class Curvature(Protocol):
    """How Lambda(x) is learned. `law` comes before theta is trained, `inverse` after.

    theta is that of the group that held each row out (R, n, P); every() gives each group's at all rows (G, n, P).
    """

    label: str
    three_way: bool

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> Law | None: ...
    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda: ...  # fmt: skip


def _check_fraction(owner: str, **values: Any) -> None:
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value < 0.5:
            raise OptionError(f"{owner}({name}={value!r}): give a fraction from 0 up to 0.5.")


@dataclass(frozen=True)
class EstimatedLaw:
    """Lambda(x) = sum over t of P(t | x) E[Hessian | t, x; theta(x)], the law of t learned on the same splits.

    `trim` is the least class probability, as in trimmed propensity scores (times four times the class's share where
    that is below a quarter); `floor` the least eigenvalue of Lambda(x) relative to its mean over rows. Rows touched by
    either are counted and printed; where more than half are trimmed, fitting raises DataError. Raises OptionError
    outside [0, .5).

    Reference: Farrell, Liang and Misra (2021), section 4; the law replaces the regression of Hessians on x.
    """

    trim: float = 0.01
    floor: float = 1e-3
    label = "estimated law of t"
    three_way = False

    def __post_init__(self) -> None:
        _check_fraction("EstimatedLaw", trim=self.trim, floor=self.floor)

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> FittedLaw | None:
        return law.estimate(design, x, splits, options, self.trim)

    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda:  # fmt: skip
        assert nodes is not None
        return integrated(structure, theta, nodes, self.floor)


@dataclass(frozen=True)
class KnownLaw:
    """The law of the treatment that the experimenter drew from: exact, with nothing to estimate.

    probability : for discrete treatments. A number or a column name: the probability of the second of two levels.
        A mapping from level to number or column name: one entry per level, summing to 1 in each row.
    mean, sd : for one continuous treatment. A number or a column name each; the shape is that of the residuals.

    Raises OptionError or DataError where the given law does not fit the treatment, naming both.

    >>> from deepreg import KnownLaw
    >>> KnownLaw(probability=0.5).label
    'known law of t'
    """

    probability: float | str | Mapping[object, float | str] | None = None
    mean: float | str | None = None
    sd: float | str | None = None
    label = "known law of t"
    three_way = False

    def __post_init__(self) -> None:
        moments = (self.mean is not None) + (self.sd is not None)
        if (self.probability is None) == (moments == 0) or moments == 1:
            raise OptionError(
                f"KnownLaw(probability={self.probability!r}, mean={self.mean!r}, sd={self.sd!r}): give either "
                "probability= for a discrete treatment, or both mean= and sd= for a continuous one."
            )
        if isinstance(self.probability, int | float) and not 0 < self.probability < 1:
            raise OptionError(f"KnownLaw(probability={self.probability!r}): give a number between 0 and 1.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The data columns it names."""
        chances = self.probability.values() if isinstance(self.probability, Mapping) else (self.probability,)
        return tuple(dict.fromkeys(v for v in (*chances, self.mean, self.sd) if isinstance(v, str)))

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> FittedLaw | None:
        cells = Cells.of(design)
        kinds = [v.kind for v in design.variables]
        if len(kinds) != 1 or (kinds[0] == "discrete") != (self.probability is not None):
            names = ", ".join(f"{v.name} ({v.kind})" for v in design.variables)
            raise OptionError(
                f"assignment={self!r} describes one {'discrete' if self.probability is not None else 'continuous'} "
                f"treatment, but the structural variables are {names}. Leave assignment= out to estimate their law."
            )
        if self.probability is not None:
            chance = self._chances(design, cells).to(x.device)
            nothing = torch.zeros(1, 0, dtype=torch.float64, device=x.device)
            return FittedLaw(design, cells, (), chance, (), nothing, torch.ones_like(chance[0, :1]), 0 * chance[0])
        name = design.variables[0].name
        mean, sd = (_column(design, value).to(x.device) for value in (self.mean, self.sd))
        if not bool((sd > 0).all()):
            raise DataError(f"KnownLaw(sd={self.sd!r}) has values that are not above 0.")
        t = torch.tensor(design.frame[name].to_numpy(np.float64), device=x.device)
        shape, mass = law.representative(((t - mean) / sd)[:, None], design.weight.to(x.device), options.generator)
        shape = (shape - mass @ shape) / (mass @ (shape - mass @ shape) ** 2).sqrt()  # the known mean and sd, exactly
        known = FittedLaw(design, cells, (name,), None, ((mean, sd),), shape, mass, 0 * mean[:1])
        return known.within_support(x, splits)

    def _chances(self, design: Design, cells: Cells) -> Tensor:
        name, levels = cells.table.columns[0], cells.table.iloc[:, 0].tolist()
        given = self.probability
        if not isinstance(given, Mapping):
            if len(levels) != 2:
                raise OptionError(
                    f"KnownLaw(probability={given!r}) is one number or column, but {name!r} has levels {levels}; "
                    f"give a mapping, e.g. probability={{{', '.join(f'{v!r}: ...' for v in levels)}}}."
                )
            second = _column(design, given)
            chance = torch.stack([1 - second, second], 1)
        else:
            if set(given) != set(levels):
                raise OptionError(f"KnownLaw(probability=...) names {list(given)}, but {name!r} has levels {levels}.")
            chance = torch.stack([_column(design, given[level]) for level in levels], 1)
        bad = int(((chance <= 0) | (chance >= 1)).any(1).sum()) + int(((chance.sum(1) - 1).abs() > 1e-6).sum())
        if bad:
            raise DataError(
                f"KnownLaw(probability={given!r}) has {bad} rows outside (0, 1) or not summing to 1 over the levels "
                f"{levels} of {name!r}. An effect is not identified where a level cannot occur: drop those rows."
            )
        return chance

    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda:  # fmt: skip
        assert nodes is not None
        return integrated(structure, theta, nodes, 1e-6)


def _column(design: Design, value: float | str | None) -> Tensor:
    """A number for every row, or the column of that name; (n,)."""
    if isinstance(value, str):
        return torch.tensor(design.frame[value].to_numpy(np.float64))
    assert value is not None
    return torch.full((len(design.frame),), float(value), dtype=torch.float64)


@dataclass(frozen=True)
class Randomised:
    """Lambda(x) for choice sets that were drawn independently of x, as in conjoint and stated-choice experiments.

    Lambda(x) is the mean, over observed choice sets, of the Hessian at theta(x): nothing is regressed, and averages
    over the observed attributes can be had. `sets` of the units' choice sets are drawn for it, or all where there are
    fewer; `floor` is the least eigenvalue of Lambda(x) relative to its mean over units. What experimenters did not
    draw has no place among the structural terms: put what describes the unit behind the bar. Raises OptionError for
    fewer than 2 sets, and for models whose structural terms hold a column that describes the unit.

    >>> from deepreg import Randomised
    >>> Randomised().label
    'randomised choice sets'
    """

    sets: int = 200
    floor: float = 1e-3
    label = "randomised choice sets"
    three_way = False

    def __post_init__(self) -> None:
        _check_fraction("Randomised", floor=self.floor)
        if isinstance(self.sets, bool) or not isinstance(self.sets, int) or self.sets < 2:
            raise OptionError(f"Randomised(sets={self.sets!r}): give a whole number of choice sets, 2 or more.")

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> Law | None:
        if design.packing is None:
            raise OptionError(
                f"{self!r} is of choice sets, but {design.formula!r} has one row for each outcome. For a treatment "
                "that was assigned at random give KnownLaw(...)."
            )
        each = design.frame.groupby(design.packing.unit, observed=True, sort=False)
        for one in design.packing.attributes:
            if not (each[one.name].nunique() > 1).any():
                raise OptionError(
                    f"{self!r}: {one.name!r} describes the unit, being the same for all its alternatives, and was not "
                    f"drawn with the choice set. Put it behind the bar of {design.formula!r} alone, or leave "
                    "Randomised() out."
                )
        return DrawnSets.of(design, self.sets, options.generator, x.device)

    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda:  # fmt: skip
        assert nodes is not None
        return integrated(structure, theta, nodes, self.floor)


@dataclass(frozen=True)
class Regressed:
    """Lambda(x) by a network for its Cholesky factor, fitted to Hessians on a third part of the sample.

    For families whose Hessian depends on the outcome, or where the law of the treatment is out of reach. Noisier than
    the other two, and targets over the observed treatment (AME, ATT) are not available with it.
    """

    floor: float = 1e-2
    label = "regressed Hessian"
    three_way = True

    def __post_init__(self) -> None:
        _check_fraction("Regressed", floor=self.floor)

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> FittedLaw | None:
        return None

    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda:  # fmt: skip
        at = every()
        if structure.family.closed:  # E[Hessian | d, x] is less noisy and never indefinite
            hessian = structure.family.information(u, at)  # (G, n, P, P)
        else:
            hessian = structure.family.derivatives(u, at)[1]
        rows = splits.spare * weight
        mean = (hessian * rows[:, :, None, None]).sum(1) / rows.sum(1)[:, None, None]
        lower, failed = torch.linalg.cholesky_ex(mean)  # (G, P, P); the regression runs on whitened Hessians
        if bool(failed.any()):
            raise DataError(
                "The mean Hessian of the spare fold is not positive definite: too few rows, or a family whose Hessian "
                "is indefinite away from its minimum. Use fewer folds=, or hessian='estimated'."
            )
        half = torch.linalg.solve_triangular(lower[:, None], hessian, upper=False)
        white = torch.linalg.solve_triangular(lower[:, None], half.mT, upper=False)
        eye = torch.eye(hessian.shape[-1], dtype=white.dtype, device=white.device)
        white = (1 - _SHARE) * white + _SHARE * eye  # of full rank, or the fit may run away where Hessians have none
        family = Precision(hessian.shape[-1])
        third = splits.on_spare()
        empty = Units(white, u.d.flatten(1)[:, :0], u.mask)
        fitted: Theta = fit(Structure(family, ()), empty, x, weight, third, options, own_outcome=True)
        precision = family.mean(empty, fitted.held_out(x, splits))  # (R, n, P, P)
        unit = lower[splits.held_out]  # (R, n, P, P)
        eigenvalues, vectors = torch.linalg.eigh(precision)
        return _floored((1 / eigenvalues - _SHARE) / (1 - _SHARE), vectors, unit, self.floor)


def integrated(structure: Structure, theta: Tensor, nodes: Points, floor: float) -> Lambda:
    """Invert the node-weighted information at the held-out theta; (R, n, P) -> (R, n, P, P)."""
    value = theta.new_empty(*theta.shape, theta.shape[-1])
    for rows, some in nodes.parts():
        u = some.units(some.frame())
        at = theta[:, rows, None, :].expand(*u.y.shape, -1)
        value[:, rows] = (structure.family.information(u, at) * some.weight[..., None, None]).sum(2)
    return invert(value, floor)


def invert(value: Tensor, floor: float) -> Lambda:
    """Inverse with eigenvalues no smaller than `floor` relative to the mean over rows, which is free of units."""
    mean = value.mean((0, 1))
    eigenvalues = torch.linalg.eigvalsh(mean / mean.diagonal().outer(mean.diagonal()).sqrt())
    if not float(eigenvalues[0]) > 1e-10:
        raise DataError(
            "The mean of Lambda(x) is singular: given the features, some combination of the structural regressors does "
            "not vary, or the outcome hardly ever does. Remove the feature that decides the treatment, the redundant "
            "term, or the rows that say nothing."
        )
    lower = torch.linalg.cholesky(mean)
    half = torch.linalg.solve_triangular(lower, value, upper=False)
    white = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    relative, vectors = torch.linalg.eigh(white)
    return _floored(relative, vectors, lower, floor)


def _floored(relative: Tensor, vectors: Tensor, lower: Tensor, floor: float) -> Lambda:
    """Inverse of lower @ vectors @ diag(relative) @ vectors' @ lower', with `relative` raised to the floor.

    Raises DataError where most rows are touched: an average over rows that mostly say nothing is no estimate.
    """
    floored = (relative < floor).any(-1).any(0)  # (n,)
    if float(floored.double().mean()) > 0.5:
        raise DataError(
            f"In {int(floored.sum()):,} of {len(floored):,} rows the data say next to nothing on some coefficient: "
            "given the features, the treatment hardly varies there or the outcome is all but certain, so averages over "
            "all rows are not identified. Remove the features that decide either, or keep other rows with subset=."
        )
    back = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
    inverse = (back / relative.clamp_min(floor)[..., None, :]) @ back.mT
    return Lambda(inverse, float(relative.min()), floored)
