"""Validation: the diagnostics of heterogeneity, on the scores and the out-of-fold effects of a fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from . import heterogeneity, repeats
from .curve import matched
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .heterogeneity import (
    Calibration,
    Clan,
    Curve,
    Diagnostic,
    Groups,
    HeterogeneityTest,
    Losses,
    PolicyTreeValue,
    Projection,
    QiniCurve,
    Rate,
    Regret,
    ValueCurve,
)  # fmt: skip
from .heterogeneity.inputs import Sample, stacked

D = TypeVar("D", bound=Diagnostic)

RULES = (
    "Rows are ranked by effects predicted out of fold. Intervals are for these predictions, not for what is learned."
)
FIT = "fit"  # the predictions of the fit among others
SIZE = "As tests for heterogeneity their z reject too often, since effects were cross-fitted: use heterogeneity.test()."


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

    result: repeats.Fitted

    def rate(self, effect: str | None = None, *, target: str = "AUTOC", priority: object = None) -> Rate:
        """The rank-weighted average treatment effect, `deepreg.heterogeneity.rate`: do the rows ranked first gain more?

        effect : a column of `cate()`; can be left out where there is one.
        target : "AUTOC" or "QINI".
        priority : numbers to rank by instead, one for each row used; a Series is matched by its index. Refused where
            they are effects predicted for the rows they were learned from, and it warns where they depend on the
            treatment given the features.
        """

        def one(each: repeats.Repeat) -> Rate:
            return heterogeneity.rate(each.rows, each.priority, target=target)

        return self._of(effect, priority, one, single=False)

    def toc(self, effect: str | None = None, *, share: Sequence[float] | None = None, priority: object = None,
            seed: object = 0) -> Curve:  # fmt: skip
        """The targeting curve with intervals and a band, `deepreg.heterogeneity.toc`; effect and priority as in rate().

        share : increasing shares treated, up to 1.
        seed : of the draws of the band.
        """

        def one(each: repeats.Repeat) -> Curve:
            return heterogeneity.toc(each.rows, each.priority, share=share, seed=seed)

        return self._of(effect, priority, one, single=False)

    def gain(self, effect: str | None = None, *, relative: bool = False, share: Sequence[float] | None = None,
             priority: object = None, seed: object = 0) -> Curve:  # fmt: skip
        """The cumulative gain, or with `relative` that over treating at random; else as toc()."""

        def one(each: repeats.Repeat) -> Curve:
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

        def one(each: repeats.Repeat) -> Groups:
            fold = None if priority is not None else each.fold
            return heterogeneity.gates(each.rows, each.priority, groups, folds=fold, seed=seed)

        return self._of(effect, priority, one)

    def calibration(self, effect: str | None = None, groups: int = 5, *, seed: object = 0) -> Calibration:
        """The slope of effects on predicted effects, 1 where they are right: `deepreg.heterogeneity.calibration`."""

        def one(each: repeats.Repeat) -> Calibration:
            return heterogeneity.calibration(
                each.rows, each.priority, folds=each.fold, groups=groups, seed=seed,
            )  # fmt: skip

        return self._of(effect, None, one)

    def clan(self, effect: str | None = None, groups: int = 5) -> Clan:
        """How the features of the rows with the largest and the smallest predicted effects differ.

        Columns with levels count by the share of each level. See `deepreg.heterogeneity.clan`.
        """
        columns = repeats.features(self.result)

        def one(each: repeats.Repeat) -> Clan:
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
        columns = repeats.columns(self.result, formula)

        def one(each: repeats.Repeat) -> Projection:
            return heterogeneity.projection(each.rows, columns, vcov=vcov)

        return self._of(effect, None, one, single=False)

    def test(self, effect: str | None = None, *, formula: str | None = None, sequential: object = None,
             target: str = "AUTOC") -> HeterogeneityTest:  # fmt: skip
        """Tests that all rows have the same effect, printed together: `deepreg.heterogeneity.heterogeneity_test`.

        The first is guarded against what cross-fitting does to such tests, a heuristic; the last is the joint test of
        projection(formula), which uses no predicted effects. Over repeats, statistics are medians.

        sequential : True to fit again to earlier folds alone, K - 1 times for each repeat, which makes tests that
            need no guard; or effects so predicted, one for each row used, see
            `deepreg.heterogeneity.sequential_priority`, with `folds` for the labels.
        """
        columns, labels = repeats.columns(self.result, formula), self.result.design.labels
        if isinstance(sequential, pd.Series) and not sequential.index.equals(labels):
            raise OptionError(
                "sequential has another index than the rows used; type sequential.loc[folds.index], with folds = "
                "result.heterogeneity.folds."
            )
        every, ahead = repeats.of(self.result, effect), [sequential]
        if isinstance(sequential, bool):
            ahead = [repeats.sequential(self.result, effect, one.fold) if sequential else None for one in every]
        found = [
            heterogeneity.heterogeneity_test(
                each.rows, each.priority, each.fold, sequential=one, covariates=columns, target=target,
            )
            for each, one in zip(every, ahead * (len(every) // len(ahead)), strict=True)
        ]  # fmt: skip
        return found[0] if len(found) == 1 else heterogeneity.median_test(found)

    # models and policies --------------------------------------------------------------------------------------------
    def losses(self, predictions: Any = None, effect: str | None = None, *, loss: str = "DR") -> Losses:
        """Losses of predicted effects, and of the best constant, with paired differences: which model is better?

        predictions : a name and numbers for each row used, of any model that did not see the row: a mapping, a
            DataFrame, a Series (matched by its index) or an array. Those of the fit, out of fold, are called "fit".
        loss : "DR", `deepreg.heterogeneity.dr_loss`, or "R", `r_loss`, for one treatment of two levels or continuous.
        """
        if loss not in ("DR", "R"):
            raise OptionError(f"loss={loss!r}: allowed are 'DR' and 'R'.")
        every, given = repeats.of(self.result, effect), self._named(predictions, effect)
        if FIT in given:
            raise OptionError(f"predictions holds one called {FIT!r}, as those of the fit are; call it something else.")
        rules = [{FIT: each.priority[:, 0], **given} for each in every]
        if loss == "DR":
            found = [heterogeneity.dr_loss(each.rows, rule) for each, rule in zip(every, rules, strict=True)]
        else:
            y, t, rows = repeats.residuals(self.result, effect)
            found = [
                heterogeneity.r_loss(replace(rows, score=y[r][:, None]), t[r], rule) for r, rule in enumerate(rules)
            ]
        return heterogeneity.merged(found, stacked([one.estimates for one in found]))

    def policy_value(self, policies: Mapping[str, Any], effect: str | None = None, *, cost: Any = None) -> Estimates:
        """The mean gain of policies over the base level for all, net of cost: `deepreg.heterogeneity.policy_value`.

        policies : a mapping of names to an arm for each row used, "none" or "treat" (or true and false, or the
            probability of treatment); with several arms, and no `effect`, the name of a level. A Series is matched by
            its index.
        cost : as in `deepreg.heterogeneity.policy_value`.
        """
        rules = self._policies(policies)
        return stacked([heterogeneity.policy_value(one, rules, cost=cost) for one in self._arms(self._joint(effect))])

    def policy_difference(
        self, policies: Mapping[str, Any], against: str, effect: str | None = None, *, cost: Any = None
    ) -> Estimates:
        """The value of each policy less that of one of them, or of an arm for all; paired. Else as policy_value()."""
        rules = self._policies(policies)
        return stacked(
            [heterogeneity.policy_difference(one, rules, against, cost=cost) for one in self._arms(self._joint(effect))]
        )

    def regret(self, policies: Mapping[str, Any], effect: str | None = None, *, cost: Any = None) -> Regret:
        """What each policy loses against the best of them, and of an arm for all: `deepreg.heterogeneity.regret`."""
        rules = self._policies(policies)
        found = [heterogeneity.regret(one, rules, cost=cost) for one in self._arms(self._joint(effect))]
        return found[0].over(found, stacked([one.values for one in found]))

    def value_against_cost(self, effect: str | None = None, costs: Sequence[float] | None = None) -> ValueCurve:
        """The value of treating where the predicted effect is above the cost: `heterogeneity.value_against_cost`.

        Of several repeats with the averages of scores and of predicted effects, as tree() and qini().
        """
        mean = self._average(repeats.of(self.result, effect))
        return heterogeneity.value_against_cost(mean.rows, mean.priority[:, 0], costs)

    def tree(
        self, effect: str | None = None, *, formula: str | None = None, depth: int = 2, cost: Any = None,
        cuts: int | None = None,
    ) -> PolicyTreeValue:  # fmt: skip
        """The best policy tree and its value out of fold, in the folds of the fit: `policy_tree_value`.

        formula : the columns that it may cut, as in projection(); by default all features.
        depth, cost, cuts : as in `deepreg.heterogeneity.policy_tree`; depth 1 and 2 are exact.
        """
        mean = self._average(self._joint(effect))
        columns = repeats.features(self.result) if formula is None else repeats.columns(self.result, formula)
        [scores] = self._arms([mean])
        return heterogeneity.policy_tree_value(
            scores, columns, depth=depth, cost=cost, cuts=cuts, folds=mean.fold
        )  # fmt: skip

    def qini(self, effect: str | None = None, cost: Any = 1.0, *, spend: Sequence[float] | None = None) -> QiniCurve:
        """The gain of a budget that goes where predicted effect per cost is largest: `deepreg.heterogeneity.qini`.

        Of all arms of a treatment, unless `effect` names one; cost and spend as there.
        """
        mean = self._average(self._joint(effect))
        return heterogeneity.qini(mean.rows, mean.priority, cost, spend=spend)

    @property
    def effects(self) -> list[str]:
        """The names that the methods take for `effect`: columns of `cate()`, or of several outcomes their effects."""
        return repeats.names_of(self.result)

    @property
    def folds(self) -> pd.DataFrame:
        """The fold that held each row used out, a column for each repeat."""
        if self.result.splits is None:
            raise NotAvailable(f"folds needs the rows of a fit with features. {AGAIN}")
        fold = self.result.splits.fold.cpu().numpy().T
        return pd.DataFrame(fold, self.result.design.labels, [f"repeat {r + 1}" for r in range(fold.shape[1])])

    def _named(self, predictions: Any, effect: str | None) -> dict[str, np.ndarray]:
        """Predictions by name, of the rows used, that are not in sample."""
        column = repeats.where(self.result, effect)[0] or self.effects[0]
        named = {} if predictions is None else heterogeneity.named(predictions)
        return {
            name: repeats.checked(self.result, one, column, self.result.scores, f"predictions {name!r}")
            for name, one in named.items()
        }

    def _policies(self, policies: Mapping[str, Any]) -> dict[str, np.ndarray]:
        design = self.result.design
        if not isinstance(policies, Mapping):
            raise OptionError("policies is no mapping; give {'name': an arm for each row used}.")
        return {name: matched(rule, design.labels, design.n, f"policy {name!r}", "arm").to_numpy()
                for name, rule in policies.items()}  # fmt: skip

    def _joint(self, effect: str | None) -> list[repeats.Repeat]:
        """Of one effect, or where none is named of all levels of the treatment against the base."""
        names, levels = self.effects, self.result.design.variables[0].levels if self.result.design.variables else ()
        if effect is not None or len(names) < 2 or len(names) != len(levels) - 1:
            return repeats.of(self.result, effect)
        found = []
        for every in zip(*(repeats.of(self.result, name) for name in names), strict=True):
            score = np.concatenate([one.rows.score for one in every], 1)
            rows = Sample(score, tuple(names), every[0].rows.sampling)
            found.append(repeats.Repeat(rows, np.concatenate([one.priority for one in every], 1), every[0].fold))
        return found

    def _arms(self, every: Sequence[repeats.Repeat]) -> list[Sample]:
        """Scores of an effect, or of all arms of the treatment, the base first with scores of 0."""
        if len(every[0].rows.names) == 1:
            return [each.rows for each in every]
        names = tuple(map(str, self.result.design.variables[0].levels))
        return [Sample(np.c_[np.zeros(each.rows.n), each.rows.score], names, each.rows.sampling) for each in every]

    @staticmethod
    def _average(every: Sequence[repeats.Repeat]) -> repeats.Repeat:
        """Scores and predicted effects averaged over repeats: as orthogonal, and as much out of fold, as in each."""
        rows = replace(every[0].rows, score=np.mean([each.rows.score for each in every], 0))
        return repeats.Repeat(rows, np.mean([each.priority for each in every], 0), every[0].fold)

    def _of(self, effect: str | None, priority: object, one: Callable[[repeats.Repeat], D], single: bool = True) -> D:
        """The diagnostic of every repeat, as one."""
        every = repeats.of(self.result, effect, priority, single)
        found = [one(each) for each in every]
        if len({each.estimates.names for each in found}) > 1:
            raise NotAvailable("Tied predictions give other groups in other repeats; use fewer groups.")
        notes = found[0].notes
        if not isinstance(found[0], Projection):
            notes += () if priority is not None else (RULES,)
            notes += (SIZE,) if isinstance(found[0], Rate) and priority is None else ()
        if (extreme := max(each.rows.extreme for each in every)) > 0.5:
            notes += (f"1% of the rows hold {extreme:.0%} of the variance of the scores: errors rest on few rows.",)
        merged = heterogeneity.merged(found, stacked([each.estimates for each in found]))
        return replace(merged, notes=notes)
