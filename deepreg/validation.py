"""Validation: the diagnostics of heterogeneity, on the scores and the out-of-fold effects of a fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd

from . import asked, heterogeneity
from .arrays import quoted
from .curve import matched
from .design import Design, build
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .heterogeneity import Calibration, Clan, Curve, Diagnostic, Groups, HeterogeneityTest, Projection, Rate
from .heterogeneity.inputs import Sample, stacked
from .influence import Scores
from .kept import Kept
from .nodes import Nodes
from .splits import Splits
from .structure import Structure
from .summary import Facts

D = TypeVar("D", bound=Diagnostic)

RULES = (
    "Rows are ranked by effects predicted out of fold. Intervals are for these predictions, not for what is learned."
)
SIZE = "As tests for heterogeneity their z reject too often, since effects were cross-fitted: use heterogeneity.test()."


class Fitted(Protocol):
    """What diagnostics are made of."""

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def scores(self) -> Scores | Kept: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def splits(self) -> Splits | None: ...

    def cate(self, new: object = None) -> pd.DataFrame: ...
    def average_effect(self, effect: str | None = None) -> Estimates: ...


class Repeat(NamedTuple):
    """What one repeat of cross-fitting says of an effect."""

    rows: Sample
    priority: np.ndarray  # (n, q)
    fold: np.ndarray  # (n,)


@dataclass(frozen=True, repr=False)
class Validation:
    """Whether the differences between the effects of a fit are real. `result.heterogeneity` makes one.

    Scores are the influence values of the average effect, and priorities the effects E[H | x] at theta(x) of functions
    that did not see the row, so nothing is in sample. Weights, clusters and folds are those of the fit; over several
    repeats, values are medians, as in `Estimates`. The same functions for scores from elsewhere are in
    `deepreg.heterogeneity`.

    All raise OptionError for an unknown effect, and NotAvailable where theta is constant, so that all rows have the
    same coefficients, or where the result was saved without its rows.

    >>> import deepreg
    >>> sim = deepreg.simulate.tutorial(300, rng=0)
    >>> model = deepreg.structural("y ~ treatment | x0 + x1", sim.frame)
    >>> result = model.fit(folds=2, learners="smooth", rng=0, progress=False)
    >>> list(result.heterogeneity.calibration().estimate.index)
    ['average effect', 'slope']
    """

    result: Fitted

    def rate(self, effect: str | None = None, *, target: str = "AUTOC", priority: object = None) -> Rate:
        """The rank-weighted average treatment effect, `deepreg.heterogeneity.rate`: do the rows ranked first gain more?

        effect : a column of `cate()`; can be left out where there is one.
        target : "AUTOC" or "QINI".
        priority : numbers to rank by instead, one for each row used; a Series is matched by its index. Refused where
            they are effects predicted for the rows they were learned from, and it warns where they depend on the
            treatment given the features.
        """

        def one(each: Repeat) -> Rate:
            return heterogeneity.rate(each.rows, each.priority, target=target)

        return self._of(effect, priority, one, single=False)

    def toc(self, effect: str | None = None, *, share: Sequence[float] | None = None, priority: object = None,
            seed: object = 0) -> Curve:  # fmt: skip
        """The targeting curve with intervals and a band, `deepreg.heterogeneity.toc`; effect and priority as in rate().

        share : increasing shares treated, up to 1.
        seed : of the draws of the band.
        """

        def one(each: Repeat) -> Curve:
            return heterogeneity.toc(each.rows, each.priority, share=share, seed=seed)

        return self._of(effect, priority, one, single=False)

    def gain(self, effect: str | None = None, *, relative: bool = False, share: Sequence[float] | None = None,
             priority: object = None, seed: object = 0) -> Curve:  # fmt: skip
        """The cumulative gain, or with `relative` that over treating at random; else as toc()."""

        def one(each: Repeat) -> Curve:
            return heterogeneity.gain(
                each.rows, each.priority, relative=relative, share=share, seed=seed,
            )  # fmt: skip

        return self._of(effect, priority, one, single=False)

    def gates(self, effect: str | None = None, groups: int | Sequence[object] = 5, *, priority: object = None,
              seed: object = 0) -> Groups:  # fmt: skip
        """Average effects of quantile groups of the predicted effect, within folds: `deepreg.heterogeneity.gates`.

        groups : their number, or a label for each row used.
        """

        if np.ndim(groups):  # type: ignore[arg-type]
            groups = matched(groups, self.result.design.labels, self.result.design.n, "groups").to_numpy()

        def one(each: Repeat) -> Groups:
            fold = None if priority is not None else each.fold
            return heterogeneity.gates(each.rows, each.priority, groups, folds=fold, seed=seed)

        return self._of(effect, priority, one)

    def calibration(self, effect: str | None = None, groups: int = 5, *, seed: object = 0) -> Calibration:
        """The slope of effects on predicted effects, 1 where they are right: `deepreg.heterogeneity.calibration`."""

        def one(each: Repeat) -> Calibration:
            return heterogeneity.calibration(
                each.rows, each.priority, folds=each.fold, groups=groups, seed=seed,
            )  # fmt: skip

        return self._of(effect, None, one)

    def clan(self, effect: str | None = None, groups: int = 5) -> Clan:
        """How the features of the rows with the largest and the smallest predicted effects differ.

        Columns with levels count by the share of each level. See `deepreg.heterogeneity.clan`.
        """
        columns = self._features()

        def one(each: Repeat) -> Clan:
            features = Sample(columns.to_numpy(), tuple(columns), each.rows.sampling)
            return heterogeneity.clan(features, each.priority[:, 0], groups, folds=each.fold)

        return self._of(effect, None, one)

    def projection(self, formula: str | None = None, effect: str | None = None, *, vcov: str | None = None
                   ) -> Projection:  # fmt: skip
        """The best linear approximation of the effect, with a joint test: `deepreg.heterogeneity.projection`.

        formula : the right side of a regression on columns of the fit, for example "age + C(region)", with its
            intercept; by default all features.
        vcov : "HC3" (the default) or "HC0" to "HC2"; with clusters "cluster" (the default) or "CR3".
        """
        columns = self._columns(formula)

        def one(each: Repeat) -> Projection:
            return heterogeneity.projection(each.rows, columns, vcov=vcov)

        return self._of(effect, None, one, single=False)

    def test(self, effect: str | None = None, *, formula: str | None = None, sequential: object = None,
             target: str = "AUTOC") -> HeterogeneityTest:  # fmt: skip
        """Tests that all rows have the same effect, printed together: `deepreg.heterogeneity.heterogeneity_test`.

        The first is guarded against what cross-fitting does to such tests, a heuristic; the last is the joint test of
        projection(formula), which uses no predicted effects. Over repeats, statistics are medians.

        sequential : effects predicted from earlier folds alone, one for each row used; see
            `deepreg.heterogeneity.sequential_priority`, with `folds` for the labels.
        """
        columns, labels = self._columns(formula), self.result.design.labels
        if isinstance(sequential, pd.Series) and not sequential.index.equals(labels):
            raise OptionError(
                "sequential has another index than the rows used; type sequential.loc[folds.index], with folds = "
                "result.heterogeneity.folds."
            )
        found = [
            heterogeneity.heterogeneity_test(
                each.rows, each.priority, each.fold, sequential=sequential, covariates=columns, target=target,
            )
            for each in self._repeats(effect, None)
        ]  # fmt: skip
        return found[0] if len(found) == 1 else heterogeneity.median_test(found)

    @property
    def effects(self) -> list[str]:
        """The names that the methods take for `effect`: columns of `cate()`, or of several outcomes their effects."""
        found = []
        for column, target in asked.effects(self.result.design).items():
            names = target.names(self.result.structure, self.result.design)
            found += list(names) if len(names) > 1 else [column]
        return found

    @property
    def folds(self) -> pd.DataFrame:
        """The fold that held each row used out, a column for each repeat."""
        if self.result.splits is None:
            raise NotAvailable(f"folds needs the rows of a fit with features. {AGAIN}")
        fold = self.result.splits.fold.cpu().numpy().T
        return pd.DataFrame(fold, self.result.design.labels, [f"repeat {r + 1}" for r in range(fold.shape[1])])

    def _of(self, effect: str | None, priority: object, one: Callable[[Repeat], D], single: bool = True) -> D:
        """The diagnostic of every repeat, as one."""
        repeats = self._repeats(effect, priority, single)
        found = [one(each) for each in repeats]
        if len({each.estimates.names for each in found}) > 1:
            raise NotAvailable("Tied predictions give other groups in other repeats; use fewer groups.")
        notes = found[0].notes
        if not isinstance(found[0], Projection):
            notes += () if priority is not None else (RULES,)
            notes += (SIZE,) if isinstance(found[0], Rate) and priority is None else ()
        if (extreme := max(each.rows.extreme for each in repeats)) > 0.5:
            notes += (f"1% of the rows hold {extreme:.0%} of the variance of the scores: errors rest on few rows.",)
        merged = heterogeneity.merged(found, stacked([each.estimates for each in found]))
        return replace(merged, notes=notes)

    def _repeats(self, effect: str | None, priority: object, single: bool = True) -> list[Repeat]:
        result = self.result
        if result.facts.constant:
            raise NotAvailable(
                "heterogeneity needs a fit with features behind a bar: with constant coefficients there are no "
                "differences between effects to check."
            )
        scores = result.scores
        if isinstance(scores, Kept) or result.splits is None:
            raise NotAvailable(f"heterogeneity needs the rows of the fit, which were not saved. {AGAIN}")
        known = asked.effects(result.design)
        named = {
            name: (column, j)
            for column, target in known.items()
            for j, name in enumerate(target.names(result.structure, result.design))
        }
        column, pick = named.get(str(effect), (effect, None))
        average = result.average_effect(column)
        column = next(iter(known)) if column is None else column
        if len(average.names) > 1 and pick is None and single:
            raise OptionError(
                f"effect={effect!r} has several outcomes; give one of {', '.join(map(repr, average.names))}."
            )
        chosen = slice(None) if pick is None else slice(pick, pick + 1)
        names = average.names[chosen] if len(average.names) > 1 else (column,)
        assert average.psi is not None
        sampling = replace(
            average.sampling, weight=average.sampling.weight.cpu().double(), cluster=average.sampling.cluster.cpu()
        )
        if priority is None:
            place = scores.effects(known[column]).cpu().numpy()[..., chosen]
        else:
            place = self._checked(priority, column, scores)[None, :, None]
        psi, fold = average.psi.cpu().numpy()[..., chosen], result.splits.fold.cpu().numpy()
        place = np.broadcast_to(place, psi.shape)
        return [Repeat(Sample(psi[r], names, sampling), place[r], fold[r]) for r in range(len(psi))]

    def _checked(self, given: object, column: str, scores: Scores) -> np.ndarray:
        """A priority for each row used, that is neither in sample nor a function of the treatment; (n,)."""
        design = self.result.design
        values = matched(given, design.labels, design.n, "priority", "number").to_numpy(np.float64)
        every = self.result.cate(design.frame)
        seen = every.iloc[:, [str(name).startswith(column) for name in every]].to_numpy()
        if len(seen) == len(values) and any(np.allclose(values, one, 1e-6, 1e-9) for one in seen.T):
            raise OptionError(
                "priority is what cate(data) predicts for the rows of the fit, by functions that saw them, and finds "
                "heterogeneity where there is none. Leave it out, or give cate() without data, which is out of fold."
            )
        if (residual := _residual(column, design, scores)) is not None:
            heterogeneity.check_priority(values, residual)
        return values

    def _features(self) -> pd.DataFrame:
        """The features of the rows used as numbers, and indicators of levels."""
        design = self.result.design
        self._varying()
        names = [name for part in ("features", "controls") for name in design.recipe.used.get(part, ())]
        parts = []
        for name in dict.fromkeys(names):
            series = design.frame[name]
            number = pd.api.types.is_numeric_dtype(series.dtype)
            parts.append(
                series.astype(np.float64).to_frame()
                if number
                else pd.get_dummies(series, dtype=np.float64).rename(
                    columns=lambda level, name=name: f"{name}[{level}]"
                )
            )
        return pd.concat(parts, axis=1).reset_index(drop=True)

    def _columns(self, formula: str | None) -> pd.DataFrame:
        """The columns of a formula at the rows used, without the intercept."""
        design = self.result.design
        self._varying()
        if formula is None:
            parts = (design.recipe.features, design.recipe.controls)
            formula = " + ".join(dict.fromkeys(_typed(term) for part in parts if part for term in part.spec.formula))
        if not isinstance(formula, str) or "~" in formula or "|" in formula:
            raise OptionError(
                f"formula={formula!r}: give the right side of a regression, for example 'age + C(region)'."
            )
        left = "score_"
        while left in design.frame or left in formula:
            left += "_"
        frame = design.frame.assign(**{left: np.arange(len(design.frame), dtype=np.float64)})
        read = build(f"{left} ~ {formula}", frame, context=design.recipe.context, missing="raise")
        if read.terms[0] != "Intercept" or len(read.terms) < 2:
            raise OptionError(
                f"formula={formula!r} has the terms {', '.join(read.terms)}; give an intercept and others."
            )
        return pd.DataFrame(read.units.d[:, 1:].cpu().numpy(), columns=list(read.terms[1:]))

    def _varying(self) -> None:
        """Raise NotAvailable where there is nothing to check, before anything is read."""
        if self.result.facts.constant or isinstance(self.result.scores, Kept):
            self._repeats(None, None, False)


def _typed(term: Any) -> str:
    """A term of a formula that was read, so that it can be read again: names of columns in quotes where needed."""
    looked = ((factor.expr, factor.eval_method.value == "lookup") for factor in term.factors)
    return ":".join(quoted(name) if lookup else name for name, lookup in looked) or str(term)


def _residual(column: str, design: Design, scores: Scores) -> np.ndarray | None:
    """The treatment of an effect less its mean given x, indicators for levels; (n,), None where its law is unknown."""
    if not isinstance(scores.nodes, Nodes):
        return None
    for v in design.variables:
        if v.name != column and not column.startswith(f"{v.name}["):
            continue
        own, nodes = design.frame[v.name].to_numpy(), scores.nodes.values[v.name]
        if v.kind != "continuous":
            level = next((one for one in v.levels if column == f"{v.name}[{one}]"), v.levels[-1])
            own, nodes = own == level, nodes == level
        mean = (scores.nodes.weight.cpu().numpy() * nodes.astype(np.float64)).sum(-1).mean(0)
        return np.asarray(own.astype(np.float64) - mean)
    return None
