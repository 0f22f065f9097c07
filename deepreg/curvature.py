"""Lambda(x) = E[Hessian | x]: integrated over a known or an estimated law of the treatment, or regressed on x."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import censoring, law
from .censoring import Censoring
from .choicesets import DrawnSets, Law, Points
from .design import Design
from .errors import DataError, OptionError
from .families.nuisance import Precision
from .information import Lambda, floored, integrated, invert
from .law import Cells, FittedLaw
from .splits import Splits
from .structure import Structure
from .theta import Options, Theta, fit
from .units import Units

_SHARE = 0.1  # of the mean Hessian in what is regressed, taken out again afterwards
_DRAWN = "assignment=Randomised() where choice sets were drawn independently of the features, "


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
    that is below a quarter); `floor` the least eigenvalue, relative to its mean over rows, of the block of Lambda(x)
    that belongs to intercepts and ancillary parameters, and of what it leaves to the slopes, which for least squares is
    the variance of d given x. Rows touched by either are counted and printed; where more than half are, or less than a
    share `floor` of the variation of d is left, fitting raises DataError. Raises OptionError outside [0, .5).

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
        return integrated(structure, theta, nodes, self.floor, _censoring(structure, u, x, weight, splits, options))


Chance: TypeAlias = float | str  # a number, or the column that holds it


@dataclass(frozen=True)
class KnownLaw:
    """The law of the treatment that the experimenter drew from: exact, with nothing to estimate.

    probability : for discrete treatments. A number or a column name: the probability of the second of two levels.
        A mapping from level to number or column name: one entry per level, summing to 1 in each row.
        Of several treatments drawn independently, a mapping from the name of each to one of the above. Of several drawn
        jointly, a mapping from combinations to numbers or column names, e.g. {(0, 0): 0.5, (1, 0): 0.25, (0, 1): 0.25}:
        the levels in the order of the formula, and only the combinations that could be drawn.
    mean, sd : for one continuous treatment. A number or a column name each; the shape is that of the residuals.

    Raises OptionError or DataError where the given law does not fit the treatment, naming both.

    >>> from deepreg import KnownLaw
    >>> KnownLaw(probability={"coupon": 0.5, "banner": {"none": 0.4, "small": 0.3, "large": 0.3}}).label
    'known law of t'
    """

    probability: Chance | Mapping[object, Chance | Mapping[object, Chance]] | None = None
    mean: Chance | None = None
    sd: Chance | None = None
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
        found = [*_leaves(self.probability), self.mean, self.sd]
        return tuple(dict.fromkeys(value for value in found if isinstance(value, str)))

    def law(self, design: Design, x: Tensor, splits: Splits, options: Options) -> FittedLaw | None:
        kinds = {v.kind for v in design.variables}
        if kinds != {"continuous" if self.probability is None else "discrete"} or (
            self.probability is None and len(design.variables) > 1
        ):
            names = ", ".join(f"{v.name} ({v.kind})" for v in design.variables)
            raise OptionError(
                f"assignment={self!r} describes {'discrete treatments' if self.probability is not None else 'one'}"
                f"{' continuous treatment' if self.probability is None else ''}, but the structural variables are "
                f"{names}. Leave assignment= out to estimate their law."
            )
        if self.probability is not None:
            cells, chance = self._chances(design)
            chance = chance.to(x.device)
            nothing = torch.zeros(1, 0, dtype=torch.float64, device=x.device)
            return FittedLaw(design, cells, (), chance, (), nothing, torch.ones_like(chance[0, :1]), 0 * chance[0])
        cells = Cells.of(design)
        name = design.variables[0].name
        mean, sd = (_column(design, value).to(x.device) for value in (self.mean, self.sd))
        if not bool((sd > 0).all()):
            raise DataError(f"KnownLaw(sd={self.sd!r}) has values that are not above 0.")
        t = torch.tensor(design.frame[name].to_numpy(np.float64), device=x.device)
        shape, mass = law.representative(((t - mean) / sd)[:, None], design.weight.to(x.device), options.generator)
        shape = (shape - mass @ shape) / (mass @ (shape - mass @ shape) ** 2).sqrt()  # the known mean and sd, exactly
        known = FittedLaw(design, cells, (name,), None, ((mean, sd),), shape, mass, 0 * mean[:1])
        return known.within_support(x, splits)

    def _chances(self, design: Design) -> tuple[Cells, Tensor]:
        """The combinations that can be drawn, and the probability of each in each row (n, C)."""
        names = [v.name for v in design.variables]
        given: Any = self.probability
        if isinstance(given, Mapping) and set(given) == set(names):
            each = [self._marginal(design, name, given[name]) for name in names]
            chance = each[0][1]
            for _, other in each[1:]:
                chance = (chance[:, :, None] * other[:, None, :]).flatten(1)
            return Cells.named(design, product(*(levels for levels, _ in each))), chance
        if len(names) == 1:
            levels, chance = self._marginal(design, names[0], given)
            return Cells.named(design, [(level,) for level in levels]), chance
        if not isinstance(given, Mapping) or not all(isinstance(k, tuple) and len(k) == len(names) for k in given):
            example = ", ".join(f"{name!r}: 0.5" for name in names)
            first = ", ".join(repr(v.levels[0]) for v in design.variables)
            raise OptionError(
                f"KnownLaw(probability={given!r}) does not describe {', '.join(names)}. Name each where they were "
                f"drawn independently, probability={{{example}}}, or the combinations of their levels that could be "
                f"drawn, probability={{({first}): ..., ...}}."
            )
        for place, v in enumerate(design.variables):
            if odd := [key[place] for key in given if key[place] not in v.levels]:
                raise OptionError(
                    f"KnownLaw(probability=...) names {odd[0]!r} for {v.name!r}, which has levels {list(v.levels)}."
                )
        cells = Cells.named(design, given)
        if other := int((cells.code < 0).sum()):
            row = design.frame[names].iloc[int((cells.code < 0).nonzero()[0, 0])].to_dict()
            raise DataError(
                f"KnownLaw(probability=...) names {len(given)} combinations, but {other} rows have another, such as "
                f"{row}. Give its probability, or drop such rows with subset=."
            )
        chance = torch.stack([_column(design, self._one(one)) for one in given.values()], 1)
        return cells, _checked(chance, given, names)

    def _marginal(self, design: Design, name: str, given: Any) -> tuple[list[object], Tensor]:
        """The levels of one treatment and the probability of each in each row (n, C)."""
        levels = Cells.of(design, name).table[name].tolist()
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
            chance = torch.stack([_column(design, self._one(given[level])) for level in levels], 1)
        return levels, _checked(chance, given, [name])

    def _one(self, value: object) -> Chance:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value
        raise OptionError(f"KnownLaw(probability={self.probability!r}): {value!r} is no number and no column.")

    def inverse(
        self, structure: Structure, u: Units, x: Tensor, weight: Tensor, theta: Tensor, every: Callable[[], Tensor],
        splits: Splits, nodes: Points | None, options: Options,
    ) -> Lambda:  # fmt: skip
        assert nodes is not None
        return integrated(structure, theta, nodes, 1e-6, _censoring(structure, u, x, weight, splits, options))


def _leaves(given: object) -> Iterator[object]:
    """The numbers and columns in a probability."""
    if isinstance(given, Mapping):
        for value in given.values():
            yield from _leaves(value)
    else:
        yield given


def _checked(chance: Tensor, given: object, names: list[str]) -> Tensor:
    """The probabilities of levels or combinations in each row (n, C), which sum to 1."""
    bad = int(((chance <= 0) | (chance >= 1)).any(1).sum()) + int(((chance.sum(1) - 1).abs() > 1e-6).sum())
    if bad:
        raise DataError(
            f"KnownLaw(probability={given!r}) has {bad} rows outside (0, 1) or not summing to 1 over what it names of "
            f"{', '.join(map(repr, names))}. An effect is not identified where a level cannot occur: drop those rows."
        )
    return chance


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
        try:
            fitted: Theta = fit(Structure(family, ()), empty, x, weight, third, options, own_outcome=True)
            precision = family.mean(empty, fitted.held_out(x, splits))  # (R, n, P, P)
            eigenvalues, vectors = torch.linalg.eigh(precision)
        except (DataError, torch.linalg.LinAlgError) as error:
            law = "" if not structure.family.lawful else "hessian='estimated', " if u.mask.dim() == 1 else _DRAWN
            raise DataError(
                f"The regression of the Hessians of {len(structure.names)} coefficients on the features failed, with "
                f"{int((rows > 0).sum(1).min())} units in a spare fold. Use fewer structural terms, {law}or more rows."
            ) from error
        unit = lower[splits.held_out]  # (R, n, P, P)
        relative = (1 / eigenvalues - _SHARE) / (1 - _SHARE)
        if structure.held:
            half = unit @ vectors
            return invert((half * relative[..., None, :]) @ half.mT, self.floor, held=structure.held)
        return floored(relative, vectors, unit, self.floor)


def _censoring(
    structure: Structure, u: Units, x: Tensor, weight: Tensor, splits: Splits, options: Options
) -> Censoring | None:
    """The law of when rows were last seen, where some outcomes are censored."""
    if not structure.family.censored:
        return None
    return censoring.learn(structure.terms, u, x, weight, splits, options)
