"""Figures: the plots of a result, which take its arrays to the functions of `plots`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from . import asked, plots
from .constant.track import Track
from .curve import is_smooth
from .design import Design
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .influence import Scores
from .law import Overlap
from .level import check_alpha
from .nodes import Nodes
from .report.table import number
from .storage.kept import Kept
from .structure import Structure
from .summary import Facts
from .targets import Mean, Target
from .targets.average import some_variable, variable
from .trainers import History
from .validation import Validation
from .variables import Variable

if TYPE_CHECKING:
    from .plots import Axes


class Fitted(Protocol):
    """What plots are made of."""

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def scores(self) -> Scores | Kept: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def overlap(self) -> Overlap | None: ...
    @property
    def history(self) -> History | Track | None: ...
    @property
    def params(self) -> pd.Series: ...
    @property
    def effects(self) -> Estimates | None: ...
    @property
    def heterogeneity(self) -> Validation: ...

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame: ...
    def cate(self) -> pd.DataFrame: ...
    def average_effect(self, effect: str | None = None) -> Estimates: ...
    def estimate(self, *targets: str | Target | type[Target], sample: str = "population") -> Estimates: ...


@dataclass(frozen=True, repr=False)
class Figures:
    """Plots of a result. Each returns a matplotlib Axes: `ax` where given, else one of its own, outside of pyplot.

    `result.plot.cate().figure.savefig("cate.pdf")` writes one to a file; with `ax` it becomes a panel of a figure of
    yours. All raise OptionError for an unknown name, with the names there are, and NotAvailable without matplotlib or
    where there is nothing to show.

    >>> import deepreg
    >>> sim = deepreg.simulate.tutorial(300, rng=0)
    >>> result = deepreg.structural("y ~ treatment | x0", sim.frame).fit(folds=2, members=1, rng=0, progress=False)
    >>> result.plot.effect("x0").get_ylabel()
    'effect of treatment on y'
    """

    result: Fitted

    def coef(
        self, *others: Any, labels: Sequence[str] | None = None, of: str = "averages",
        keep: Sequence[str] | None = None, alpha: float = 0.05, ax: "Axes | None" = None,
    ) -> "Axes":  # fmt: skip
        """Average coefficients, or with of="effects" the effects of the summary, with intervals of level 1 - alpha.

        others : further results, drawn beside this one; those of statsmodels as well, for of="averages".
        labels : a name for each result, this one first.
        keep : the names to show, in this order; by default all but the intercept.
        """
        results = (self.result, *others)
        names = [f"({j + 1})" for j in range(len(results))] if labels is None else list(labels)
        if isinstance(labels, str) or len(names) != len(results) or len(set(names)) < len(names):
            raise OptionError(f"labels={labels!r}: give {len(results)} different names, one for each result.")
        if of not in ("averages", "effects"):
            raise OptionError(f"of={of!r}: allowed are 'averages' and 'effects'.")
        alpha = check_alpha(alpha)
        read = _averages if of == "averages" else _effects
        frames = {name: read(one, alpha) for name, one in zip(names, results, strict=True)}
        known = list(dict.fromkeys(name for frame in frames.values() for name in frame.index))
        chosen = [name for name in known if name != "Intercept"] or known
        if keep is not None:
            chosen = [keep] if isinstance(keep, str) else list(keep)
            if not chosen or (unknown := [name for name in chosen if name not in known]):
                what = unknown[0] if chosen else list(chosen)
                raise OptionError(f"keep={what!r}: there are {', '.join(map(repr, known))}.")
        frames = {name: frame.reindex(chosen) for name, frame in frames.items()}
        what = "effect" if of == "effects" else "coefficient" if self.result.facts.constant else "average coefficient"
        on = f" on {self.result.design.outcome}" if of == "effects" else f", outcome {self.result.design.outcome}"
        return plots.coefficients(frames, ax, xlabel=what + ("" if others else on))

    def cate(self, effect: str | None = None, *, alpha: float = 0.05, ax: "Axes | None" = None) -> "Axes":
        """Effects of the rows, held out, with the debiased average effect and its interval of level 1 - alpha.

        effect : a column of `cate()`; can be left out where there is one.

        As in Farrell, Liang and Misra (2021), figures 3 to 5. The spread holds the error of theta(x) as well.
        """
        self._varying("cate", "every row has the same effect coefficients; coef() shows them")
        average, column = self._average(effect)
        design = self.result.design
        low, high = average.interval(alpha)[0]
        shown = [number(float(value), "interval") for value in (average.value[0], low, high)]
        return plots.distribution(
            self.result.cate()[column].to_numpy()[design.rows], ax, weight=_weight(design), mean=average.value[0],
            interval=(low, high), label=f"average {shown[0]}, {_level(alpha)} interval {shown[1]} to {shown[2]}",
            xlabel=self._title(average, column),
        )  # fmt: skip

    def effect(
        self, feature: str, effect: str | None = None, *, alpha: float = 0.05, knots: int = 5, rng: object = 0,
        ax: "Axes | None" = None,
    ) -> "Axes":  # fmt: skip
        """The average effect as a function of one feature, with intervals of each point and a band for the whole curve.

        feature : a data column among the features or controls. A number gives a natural spline with so many knots,
        a column with levels an average for each; see `Estimates.curve`, which has the numbers.
        effect : a column of `cate()`; can be left out where there is one.
        """
        self._varying("effect", "no coefficient varies with a feature")
        self._rows("effect")
        average, column = self._average(effect)
        design = self.result.design
        known = list(dict.fromkeys(
            name for part in ("features", "controls") for name in design.recipe.used.get(part, ())
        ))  # fmt: skip
        if feature not in known:
            raise OptionError(f"feature={feature!r}: the features and controls are {', '.join(map(repr, known))}.")
        values = design.frame[feature]
        table = average.curve(values.array, alpha=alpha, knots=knots, rng=rng).loc[average.names[0]]
        smooth = is_smooth(values)
        return plots.curve(
            _banded(table, smooth), ax, average=average.value[0],
            values=values.to_numpy(np.float64) if smooth else None, level=_level(alpha), xlabel=feature,
            ylabel=self._title(average, column),
        )  # fmt: skip

    def dose(
        self, treatment: str | None = None, grid: Sequence[float] | None = None, *, alpha: float = 0.05,
        rng: object = 0, ax: "Axes | None" = None,
    ) -> "Axes":  # fmt: skip
        """The mean outcome if everyone were at a value of the treatment, with intervals and a band for all values.

        treatment : a structural variable; can be left out where there is one.
        grid : values; by default 25 from the 5th to the 95th percentile, or all levels. `targets.Mean` has the numbers.
        """
        self._rows("dose")
        design = self.result.design
        v = self._variable("dose", treatment)
        observed, smooth, at = design.frame[v.name], is_smooth(design.frame[v.name]), grid
        if grid is None and v.kind == "continuous":
            low, high = np.quantile(observed.to_numpy(np.float64), [0.05, 0.95])
            at = np.linspace(low, high, 25).tolist()
        target = Mean(v.name, at=at)
        found = self.result.estimate(target)
        points = pd.Index(target.values(design), dtype="float64" if smooth else None)
        if smooth and not (points.is_monotonic_increasing and points.is_unique):
            raise OptionError(f"grid={grid!r}: give values of {v.name} in increasing order.")
        table = pd.concat([found.frame(alpha), found.band(alpha, rng=rng)[["lower", "upper"]]], axis=1)
        return plots.curve(
            _banded(table.set_axis(points), smooth), ax, values=observed.to_numpy(np.float64) if smooth else None,
            level=_level(alpha), xlabel=v.name, ylabel=f"mean of {design.outcome}",
        )  # fmt: skip

    def toc(self, effect: str | None = None, *, alpha: float = 0.05, rng: object = 0, ax: "Axes | None" = None
            ) -> "Axes":  # fmt: skip
        """The effect in the top share of predicted effects less the average, by share, with intervals and a band.

        effect : a column of `cate()`; can be left out where there is one. The area under the curve is AUTOC.
        """
        found = self.result.heterogeneity.toc(effect, seed=rng).frame(alpha)
        return plots.gain(
            _banded(found, True), ax, random=False,
            level=_level(alpha), ylabel="effect in the top less average",
        )  # fmt: skip

    def gain(self, effect: str | None = None, *, alpha: float = 0.05, rng: object = 0, ax: "Axes | None" = None
             ) -> "Axes":  # fmt: skip
        """The gain per row of treating the share with the largest predicted effects, against treating at random."""
        found = self.result.heterogeneity.gain(effect, seed=rng).frame(alpha)
        return plots.gain(_banded(found, True), ax, level=_level(alpha))

    def calibration(
        self, effect: str | None = None, groups: int = 5, *, alpha: float = 0.05, rng: object = 0,
        ax: "Axes | None" = None,
    ) -> "Axes":  # fmt: skip
        """Estimated effects of groups of rows against what was predicted for them out of fold, and the linear fit."""
        found = self.result.heterogeneity.calibration(effect, groups, seed=rng)
        assert found.groups is not None
        table = found.groups.frame(alpha)
        table = table.rename(columns=dict(zip(table.columns[6:8], ("low", "high"), strict=True)))
        return plots.calibration(
            table, ax, average=found.groups.average, slope=float(found.estimate["slope"]),
            centre=float(found.groups.share @ found.groups.predicted), level=_level(alpha),
        )  # fmt: skip

    def gates(
        self, effect: str | None = None, groups: int = 5, *, alpha: float = 0.05, rng: object = 0,
        ax: "Axes | None" = None,
    ) -> "Axes":  # fmt: skip
        """Average effects of groups of rows by predicted effect, with intervals of each and of all, and the average."""
        found = self.result.heterogeneity.gates(effect, groups, seed=rng)
        table = found.frame(alpha).drop(columns=["predicted", "share"])
        return plots.curve(
            _banded(table, False), ax, average=found.average, level=_level(alpha), xlabel="group by predicted effect",
            ylabel="estimated effect",
        )  # fmt: skip

    def clan(self, effect: str | None = None, groups: int = 5, *, alpha: float = 0.05, ax: "Axes | None" = None
             ) -> "Axes":  # fmt: skip
        """How features differ between the groups of largest and smallest predicted effects, in standard deviations.

        At most the twelve features that differ most.
        """
        found = self.result.heterogeneity.clan(effect, groups)
        low, high = found.estimates.interval(alpha).T
        columns = {"coef": found.estimates.value, "lower": low, "upper": high}
        table = pd.DataFrame(columns, list(found.estimates.names)).div(found.spread, axis=0)
        most = table["coef"].abs().sort_values(ascending=False, kind="stable").index[:12]
        label = f"top less bottom of {groups} groups, in sd"
        return plots.coefficients({"": table.loc[[name for name in table.index if name in most]]}, ax, xlabel=label)

    def heterogeneity(
        self, effect: str | None = None, groups: int = 5, *, alpha: float = 0.05, rng: object = 0
    ) -> "list[Axes]":  # fmt: skip
        """Four panels: toc(), calibration(), gain() and clan(), with the numbers that go with them in the titles.

        Returns the four Axes; `result.plot.heterogeneity()[0].figure.savefig("heterogeneity.pdf")` writes the figure.
        """
        self._varying("heterogeneity", "every row has the same effect coefficients")
        found, panels = self.result.heterogeneity, plots.panels()
        self.toc(effect, alpha=alpha, rng=rng, ax=panels[0])
        self.calibration(effect, groups, alpha=alpha, rng=rng, ax=panels[1])
        self.gain(effect, alpha=alpha, rng=rng, ax=panels[2])
        self.clan(effect, groups, alpha=alpha, ax=panels[3])
        shown = (
            ("Targeting", found.rate(effect)), ("Calibration", found.calibration(effect, groups)),
            ("Gain", found.rate(effect, target="QINI")),
        )  # fmt: skip
        for ax, (title, one) in zip(panels, shown, strict=False):
            name = one.estimates.names[-1]
            value, error = (number(float(of.iloc[-1]), ".2f") for of in (one.estimate, one.std_error))
            ax.set_title(f"{title}: {name} {value} ({error})", fontsize=9, loc="left")
        panels[3].set_title("Who gains most and least", fontsize=9, loc="left")
        return panels

    def training(self, *, ax: "Axes | None" = None) -> "Axes":
        """Losses of the networks by step: median and range over all of them, beside the out-of-fold losses of the fit.

        The two levels are the loss of the homogeneous fit and that of theta(x), the stack of all learners.
        """
        history = self.result.history
        if history is None:
            raise NotAvailable("training() shows how networks were trained, and this fit has none.")
        if isinstance(history, Track):
            return history.plot(ax=ax)
        levels = {f"{name}, out of fold": value for name, value in self.result.facts.loss.items()}
        return plots.losses(history.train.cpu().numpy(), history.valid.cpu().numpy(), ax, lines=levels)

    def overlap(self, treatment: str | None = None, level: object = None, *, ax: "Axes | None" = None) -> "Axes":
        """How far the features decide a treatment, by the law of the treatment that did not see the row.

        A treatment with levels: the probability of `level` (by default the last) among the rows at it and the others,
        with dotted lines where probabilities are trimmed. A continuous one: sd(t | x) over sd(t).
        """
        self._varying("overlap", "constant coefficients need no law of the treatment")
        self._rows("overlap")
        found, design = self.result.overlap, self.result.design
        if found is None:
            raise NotAvailable(
                "overlap() needs the law of the treatment, which hessian='regressed' does without, and so do choices."
            )
        v = self._variable("overlap", treatment)
        weight = _weight(design)
        if v.kind == "continuous":
            assert found.scale is not None
            place = [one.name for one in design.variables if one.kind == "continuous"].index(v.name)
            shown = found.scale[:, place].cpu().numpy()
            top = max(1.0, float(shown.max())) * 1.02
            return plots.overlap(
                {"": shown}, ax, weights=None if weight is None else {"": weight}, limits=(0.0, top),
                xlabel=f"sd({v.name} | x) / sd({v.name})",
            )  # fmt: skip
        assert found.probability is not None
        level = v.levels[-1] if level is None else level
        if level not in v.levels:
            raise OptionError(f"level={level!r}: the levels of {v.name} are {', '.join(map(repr, v.levels))}.")
        scores = self.result.scores
        assert isinstance(scores, Scores) and isinstance(scores.nodes, Nodes)
        cells = scores.nodes.levels(v.name, found.probability.shape[1]) == level
        chance = found.probability.cpu().numpy()[:, cells].sum(1)
        bounds = []
        if len(cells) == len(v.levels) and float(found.floor.max()) > 0:  # several treatments are trimmed jointly
            floor = found.floor.cpu().numpy()
            bounds = [float(floor[cells][0])] + ([1 - float(floor[~cells][0])] if len(cells) == 2 else [])
        mine = (design.frame[v.name] == level).to_numpy()
        others = [one for one in v.levels if one != level]
        rest = f"{v.name} = {others[0]}" if len(others) == 1 else "other levels"
        rows = {rest: ~mine, f"{v.name} = {level}": mine}
        return plots.overlap(
            {name: chance[where] for name, where in rows.items()}, ax, bounds=bounds,
            weights=None if weight is None else {name: weight[where] for name, where in rows.items()},
            xlabel=f"P({v.name} = {level} | x)",
        )  # fmt: skip

    def _varying(self, plot: str, why: str) -> None:
        if self.result.facts.constant:
            raise NotAvailable(f"{plot}() needs a fit with features behind a bar: {why}.")

    def _rows(self, plot: str) -> None:
        if len(self.result.design.frame) < self.result.design.n:
            raise NotAvailable(f"{plot}() needs the rows of the fit, which were not saved. {AGAIN}")

    def _variable(self, plot: str, name: str | None) -> Variable:
        found = some_variable(plot, self.result.design)
        return found[0] if name is None and len(found) == 1 else variable(plot, name, self.result.design)

    def _average(self, effect: str | None) -> tuple[Estimates, str]:
        """The average of an effect, and the column of cate() that holds it."""
        average = self.result.average_effect(effect)
        return average, next(iter(asked.effects(self.result.design))) if effect is None else effect

    def _title(self, average: Estimates, column: str) -> str:
        name = average.names[0]
        outcome = self.result.design.outcome
        if name.startswith("AME"):
            return f"marginal effect of {column} on {outcome}"
        return f"effect of {column if name.endswith((': 1 vs 0', ': True vs False')) else name[4:]} on {outcome}"


def _averages(result: Any, alpha: float) -> pd.DataFrame:
    try:
        params, interval = pd.Series(result.params), pd.DataFrame(result.conf_int(alpha))
    except AttributeError as error:
        raise OptionError(f"coef() draws results with params and conf_int(), not {type(result).__name__}.") from error
    return pd.DataFrame(
        {"coef": params.to_numpy(), "lower": interval.iloc[:, 0].to_numpy(), "upper": interval.iloc[:, 1].to_numpy()},
        index=params.index,
    )


def _effects(result: Any, alpha: float) -> pd.DataFrame:
    try:
        found = result.effects
    except AttributeError as error:
        raise OptionError(f"of='effects' draws results of deepreg, not {type(result).__name__}.") from error
    if found is None:
        raise NotAvailable(
            "The summary has no effects beside the coefficients, which of='averages' shows: there is no treatment, or "
            "its effect is its coefficient."
        )
    low, high = found.interval(alpha).T
    return pd.DataFrame({"coef": found.value, "lower": low, "upper": high}, index=list(found.names))


def _banded(table: pd.DataFrame, smooth: bool) -> pd.DataFrame:
    """A table of estimates with a band, as `plots.curve` reads it: levels are words, also where they are numbers."""
    table = table.rename(columns=dict(zip(table.columns[4:6], ("low", "high"), strict=True)))
    return table if smooth else table.set_axis([f"{at:g}" if isinstance(at, float) else str(at) for at in table.index])


def _weight(design: Design) -> np.ndarray | None:
    return design.weight.numpy() if design.recipe.weights else None


def _level(alpha: float) -> str:
    return f"{100 * (1 - check_alpha(alpha)):.4g}%"
