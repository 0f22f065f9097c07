"""The law of the structural variables given x, as quadrature nodes: known by design, or estimated on the same splits.

Discrete variables are classified jointly (one class for each combination of levels that occurs); each continuous one
is location plus scale times an empirical standardised residual, given x and the class.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .design import Design
from .errors import DataError
from .families import Gaussian, Multinomial
from .nodes import Nodes
from .splits import Splits
from .structure import Structure
from .theta import Options, Theta, fit
from .units import Units, blocks


@dataclass(frozen=True)
class Cells:
    """Combinations of levels of the discrete structural variables."""

    table: pd.DataFrame  # one row for each class, one column for each discrete variable
    code: Tensor  # (n,) long

    @classmethod
    def of(cls, design: Design, only: str | None = None) -> "Cells":
        """Those of all discrete variables, or of one."""
        names = [v.name for v in design.variables if v.kind == "discrete" and only in (None, v.name)]
        if not names:
            return cls(pd.DataFrame(index=[0]), torch.zeros(len(design.frame), dtype=torch.long))
        grouped = design.frame.groupby(names, sort=True, observed=True)
        table = grouped.size().index.to_frame(index=False)
        return cls(_typed(table, design), torch.tensor(grouped.ngroup().to_numpy(), dtype=torch.long))

    @classmethod
    def named(cls, design: Design, rows: Iterable[tuple[object, ...]]) -> "Cells":
        """The given combinations of levels of the discrete variables, whether or not they occur.

        The code of a row whose combination is none of them is -1.
        """
        names = [v.name for v in design.variables if v.kind == "discrete"]
        table = pd.DataFrame(list(rows), columns=names)
        observed = pd.MultiIndex.from_frame(design.frame[names].astype(object))
        code = pd.MultiIndex.from_frame(table.astype(object)).get_indexer(observed)
        return cls(_typed(table, design), torch.tensor(code, dtype=torch.long))

    def label(self, c: int) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.table.iloc[c].items())


def _typed(table: pd.DataFrame, design: Design) -> pd.DataFrame:
    """With the dtypes of the data, so that the formula reads a node as it reads a row."""
    return table.astype({name: design.frame[name].dtype for name in table.columns})


class Overlap(NamedTuple):
    """How much each row could have had another treatment, by the law that did not see it; means over repeats."""

    probability: Tensor | None  # (n, C) of each class before trimming; None without discrete variables
    scale: Tensor | None  # (n, V) sd(t | x, class) over sd(t) of each continuous variable, least class; None without
    floor: Tensor  # (C,) what probabilities are raised to
    trimmed: int  # rows

    @property
    def least(self) -> Tensor | None:
        """The probability of each row's least probable class; (n,)."""
        return None if self.probability is None else self.probability.min(-1).values

    @property
    def spread(self) -> float | None:
        """The median of sd(t | x) over sd(t), the least of the continuous variables."""
        return None if self.scale is None else float(self.scale.median(0).values.min())


@dataclass(frozen=True)
class FittedLaw:
    """A law of the structural variables given x: class probabilities, and location and scale of the continuous ones.

    What it returns has an entry for each group of the splits, fitted without that group's held-out rows; where splits
    are given, one for each repeat, by the group that held the row out.
    """

    design: Design
    cells: Cells
    continuous: tuple[str, ...]
    classifier: Theta | Tensor | None  # a fitted one; or known probabilities (n, C); or None: a single class
    moments: tuple[Theta | tuple[Tensor, Tensor], ...]  # fitted; or the known mean and standard deviation, each (n,)
    shape: Tensor  # (S, V) standardised residuals that stand for their joint law
    mass: Tensor  # (S,) their weights
    floor: Tensor  # (C,) least probability of each class
    support: Tensor | None = None  # (2, V) observed least and greatest values, where nodes must not leave them

    @property
    def everywhere(self) -> bool:
        """Whether it can be evaluated at other x than those of the design: a law given row by row cannot."""
        return not isinstance(self.classifier, Tensor) and all(isinstance(m, Theta) for m in self.moments)

    def on(self, design: Design) -> "FittedLaw":
        """The same law for the rows of that design, all or none, and without what it keeps of them to be quick."""
        classifier = self.classifier.plain() if isinstance(self.classifier, Theta) else self.classifier
        moments = tuple(moment.plain() if isinstance(moment, Theta) else moment for moment in self.moments)
        cells = replace(self.cells, code=self.cells.code[: len(design.rows)])
        return replace(self, design=design, cells=cells, classifier=classifier, moments=moments)

    def probability(self, x: Tensor, splits: Splits | None = None, trim: bool = True) -> Tensor:
        """P(class | x) of each group; (n, p) -> (G or 1, n, C)."""
        if isinstance(self.classifier, Theta):
            raw = Multinomial.of(len(self.cells.table)).mean(_alone(x), _values(self.classifier, x, splits))
            if not trim:
                return raw
            floored = raw.maximum(self.floor)
            return floored / floored.sum(-1, keepdim=True)
        if self.classifier is None:
            return torch.ones(1, len(x), 1, dtype=torch.float64, device=x.device)
        return self.classifier[None]

    def location_scale(self, x: Tensor, splits: Splits | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each continuous variable given x and class; (G or 1, n, C, V) each."""
        means, scales = [], []
        classes = len(self.cells.table)
        for moment in self.moments:
            if isinstance(moment, Theta):
                value = torch.stack([_values(moment, _with_class(x, c, classes), splits) for c in range(classes)], 2)
                means.append(value[..., 0])
                scales.append(value[..., 1].exp())
            else:
                means.append(moment[0][None, :, None].expand(1, -1, classes))
                scales.append(moment[1][None, :, None].expand(1, -1, classes))
        return torch.stack(means, -1), torch.stack(scales, -1)

    def _points(
        self, x: Tensor, shape: Tensor, mass: Tensor, splits: Splits | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Node weights (G, n, Q) and continuous values (G, n, Q, V), the classes outermost within Q."""
        probability = self.probability(x, splits)
        if not self.continuous:
            return probability, None
        mean, scale = self.location_scale(x, splits)
        value = mean[..., None, :] + scale[..., None, :] * shape  # (G, n, C, S, V)
        if self.support is not None:
            value = value.clamp(self.support[0], self.support[1])
        groups = max(len(probability), len(value))
        weight = (probability[..., None] * mass).expand(groups, -1, -1, -1).flatten(2)
        return weight, value.expand(groups, -1, -1, -1, -1).flatten(2, 3)

    def centre(self, x: Tensor, terms_free: Tensor) -> Tensor:
        """E[d | x] of each group, zero where `terms_free` (K,) is 0; (n, p) -> (G, n, K).

        Any function of x would be a valid origin for d, so three nodes stand for each continuous law here.
        """
        shape, mass = (self.shape, self.mass) if self.shape.shape[1] != 1 else _gauss(self.shape[:, 0], 3, self.mass)
        first, *others = blocks(len(x))
        part = self._centre(x[first], shape, mass) * terms_free
        found = part.new_empty(len(part), len(x), part.shape[2])
        found[:, first] = part
        for rows in others:
            found[:, rows] = self._centre(x[rows], shape, mass) * terms_free
        return found

    def _centre(self, x: Tensor, shape: Tensor, mass: Tensor) -> Tensor:
        weight, value = self._points(x, shape, mass)
        if value is None:
            d = self.design.structural(self.cells.table).to(weight)  # (C, K): the variables of part 1 alone decide
            return weight @ d
        groups, n, q = weight.shape
        cells = np.tile(np.repeat(np.arange(len(self.cells.table)), len(mass)), groups * n)
        frame = self.cells.table.iloc[cells].reset_index(drop=True).assign(
            **{name: value[..., j].reshape(-1).cpu().numpy() for j, name in enumerate(self.continuous)}
        )  # fmt: skip
        d = self.design.structural(frame).to(weight).unflatten(0, (groups, n, q))
        return (weight[..., None] * d).sum(2)

    def nodes(self, x: Tensor, splits: Splits) -> Nodes:
        """Quadrature for each row under the group that held it out."""
        weight, value = self._points(x, self.shape, self.mass, splits)
        weight = weight.expand(len(splits.fold), -1, -1)
        repeats, n, q = weight.shape
        cells = np.repeat(np.arange(len(self.cells.table)), q // len(self.cells.table))
        values = {
            name: np.broadcast_to(self.cells.table[name].to_numpy()[cells], (repeats, n, q))
            for name in self.cells.table.columns
        }
        if value is not None:
            value = value.expand(repeats, -1, -1, -1).cpu().numpy()
            values |= {name: value[..., j] for j, name in enumerate(self.continuous)}
        return Nodes(weight, values, self.design)

    def within_support(self, x: Tensor, splits: Splits) -> "FittedLaw":
        """The law with its nodes kept to the observed range where the formula has no value beyond it, as log(t) may."""
        if not self.continuous:
            return self
        nodes = self.nodes(x, splits)
        try:
            for _ in nodes.units():
                pass
        except DataError:
            t = torch.tensor(self.design.frame[list(self.continuous)].to_numpy(np.float64), device=x.device)
            return replace(self, support=torch.stack([t.amin(0), t.amax(0)]))
        return self

    def overlap(self, x: Tensor, splits: Splits) -> Overlap:
        """How much each row could have had another treatment."""
        scale = None
        if self.continuous:
            each = self.location_scale(x, splits)[1].mean(0)  # (n, C, V)
            sd = torch.tensor([float(self.design.frame[name].std()) for name in self.continuous]).to(each)
            scale = each.amin(1) / sd
        if self.classifier is None:
            return Overlap(None, scale, self.floor, 0)
        raw = self.probability(x, splits, trim=False)  # (R or 1, n, C)
        return Overlap(raw.mean(0), scale, self.floor, int((raw < self.floor).any(-1).any(0).sum()))


def _values(theta: Theta, x: Tensor, splits: Splits | None) -> Tensor:
    return theta.values(x) if splits is None else theta.held_out(x, splits)


def _alone(x: Tensor) -> Units:
    """Units with an intercept and nothing else."""
    ones = torch.ones(len(x), 1, dtype=torch.float64, device=x.device)
    return Units(0 * ones[:, 0], ones, ones[:, 0])


def _with_class(x: Tensor, c: int, classes: int) -> Tensor:
    """x with indicator columns of class c, where there are several."""
    if classes == 1:
        return x
    row = torch.nn.functional.one_hot(torch.tensor(c), classes).to(x)
    return torch.cat([x, row.expand(len(x), -1)], 1)


def estimate(design: Design, x: Tensor, splits: Splits, options: Options, trim: float) -> FittedLaw:
    """Fit the law of the structural variables given x, on the splits and with the trainer of theta itself."""
    cells = Cells.of(design)
    code, weight, classes = cells.code.to(x.device), design.weight.to(x.device), len(cells.table)
    _check_variation(cells, code, splits)
    classifier = None
    if classes > 1:
        u = _alone(x)._replace(y=code.double())
        classifier = fit(Structure(Multinomial.of(classes), ("Intercept",)), u, x, weight, splits, options)
    share = torch.nn.functional.one_hot(code, classes).double().T @ weight / weight.sum()
    floor = trim * (4 * share).clamp_max(1.0)  # what is rare for everyone is no sign of thin overlap
    continuous = tuple(v.name for v in design.variables if v.kind == "continuous")
    given = torch.cat([x, torch.nn.functional.one_hot(code, classes).to(x)], 1) if classes > 1 else x
    ones = torch.ones(len(x), 1, dtype=torch.float64, device=x.device)
    moments, residuals = [], []
    for name in continuous:
        y = torch.tensor(design.frame[name].to_numpy(np.float64), device=x.device)
        moment = fit(Structure(Gaussian(), ("Intercept",)), Units(y, ones, ones[:, 0]), given, weight, splits, options)
        mean, log_scale = moment.held_out(given, splits).unbind(-1)  # (R, n) each
        moments.append(moment)
        residuals.append(((y - mean) / log_scale.exp()).flatten())
    if continuous:
        shape, mass = representative(torch.stack(residuals, 1), weight.repeat(len(splits.fold)), options.generator)
    else:
        shape, mass = torch.zeros(1, 0, dtype=torch.float64, device=x.device), torch.ones_like(floor[:1])
    fitted = FittedLaw(design, cells, continuous, classifier, tuple(moments), shape, mass, floor)
    _check_overlap(fitted.overlap(x, splits), design, trim)
    return fitted.within_support(x, splits)


def _check_overlap(overlap: Overlap, design: Design, trim: float) -> None:
    """An average over rows that could mostly not have been treated otherwise is no estimate."""
    if overlap.spread is not None and overlap.spread < 0.01:
        names = ", ".join(v.name for v in design.variables if v.kind == "continuous")
        raise DataError(
            f"The features all but decide {names}: given them, the standard deviation is {overlap.spread:.2g} of what "
            "it is over all rows, so an effect cannot be told from theirs. Remove the features that decide it."
        )
    trimmed = overlap.trimmed
    if trimmed > 0.5 * len(design.frame):
        names = ", ".join(v.name for v in design.variables if v.kind == "discrete")
        raise DataError(
            f"The features all but decide {names}: in {trimmed:,} of {len(design.frame):,} rows some level has a "
            f"probability below {trim:g}, so effects averaged over all rows are not identified. Remove the features "
            "that decide the treatment, or keep rows where it could go either way with subset=."
        )


def _check_variation(cells: Cells, code: Tensor, splits: Splits) -> None:
    """Every class has to occur among the training rows of every group."""
    rows = (splits.train | splits.valid)[splits.first].double()
    count = rows @ torch.nn.functional.one_hot(code, len(cells.table)).double()  # (G, C)
    if bool((count == 0).any()):
        c = int((count == 0).any(0).nonzero()[0, 0])
        total = int((code == c).sum())
        raise DataError(
            f"{cells.label(c)} occurs in {total} rows only, and in none of the training rows of some fold, so what "
            "happens there cannot be learned. Merge rare levels, drop those rows with subset=, or use fewer folds."
        )


def representative(
    residuals: Tensor, weight: Tensor, generator: torch.Generator, draws: int = 128
) -> tuple[Tensor, Tensor]:
    """Points and weights with the weighted law of the residuals; (N, V), (N,) -> (S, V), (S,).

    One variable: the 9-point Gauss rule of the empirical law, exact for polynomials up to degree 17. Several: joint
    draws, moved to the sample's mean and covariance.
    """
    mass = weight / weight.sum()
    if residuals.shape[1] == 1:
        return _gauss(residuals[:, 0], 9, mass)
    pick = torch.multinomial(mass.cpu(), min(draws, len(mass)), generator=generator).to(residuals.device)
    points, mean = residuals[pick], mass @ residuals
    centred = residuals - mean
    want = torch.linalg.cholesky((centred.T * mass) @ centred)
    have = torch.linalg.cholesky(points.T.cov(correction=0))
    points = (points - points.mean(0)) @ torch.linalg.solve_triangular(have, want, upper=False, left=False).T
    return points + mean, torch.full_like(points[:, 0], 1 / len(points))


def _gauss(sample: Tensor, nodes: int, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss rule of a discrete measure by Lanczos with reorthogonalisation (Golub and Welsch 1969)."""
    basis, diagonal, off = [mass.sqrt() / mass.sum().sqrt()], [], []
    for _ in range(min(nodes, len(sample))):
        v = sample * basis[-1]
        diagonal.append(v @ basis[-1])
        for _ in range(2):
            q = torch.stack(basis)
            v = v - q.T @ (q @ v)
        norm = v.norm()
        if float(norm) < 1e-10 * float(sample.abs().max()):
            break
        off.append(norm)
        basis.append(v / norm)
    size = len(diagonal)
    jacobi = torch.diag(torch.stack(diagonal))
    if size > 1:
        side = torch.stack(off[: size - 1])
        jacobi = jacobi + torch.diag(side, 1) + torch.diag(side, -1)
    points, vectors = torch.linalg.eigh(jacobi)
    return points[:, None], vectors[0] ** 2
