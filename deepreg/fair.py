"""Fairness: what the predictions of a fit do to groups, in the rows of the fit and in others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import columns as door
from . import covariance
from .design import Design
from .errors import AGAIN, DataError, NotAvailable, OptionError
from .estimates import Estimates
from .heterogeneity.diagnostic import Summarised
from .parity import LABELS, SCORES, Measure, measures
from .penalties.rates import RATES, check_groups, check_outcome, grouped
from .report.summary import Summary
from .report.table import Table
from .sampling import Sampling
from .structure import Structure

SHOWN = ("fpr", "fnr", "fdr", "for", "selection", "accuracy")  # 1 less these are the others


class Fitted(Protocol):
    """What fairness is computed from."""

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def scores(self) -> Any: ...

    def predict(self, new: object = None) -> Any: ...


@dataclass(frozen=True, repr=False, eq=False)
class Fairness(Summarised):
    """Rates by group, parities and scores, each with a standard error, for the rows of the fit and for a holdout.

    `estimates` maps "train" and "holdout" to the numbers with their joint covariance, for tests and functions of them,
    under names such as "fpr at 0.5, g=1". Errors are those of drawing the rows, with the fitted coefficients taken as
    given: what they say of the rows of the fit is no more than a description, of others it is an honest interval.
    """

    group: str
    levels: tuple[Any, ...]
    thresholds: tuple[float, ...]
    estimates: Mapping[str, Estimates]
    known: Mapping[str, tuple[Measure, ...]]  # without influence values
    counts: Mapping[str, tuple[int, ...]]  # rows of each level
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """A row for each number: sample, threshold, metric, group, value and std err; group None is all rows."""
        parts = []
        for sample, found in self.known.items():
            errors = dict(zip(self.estimates[sample].names, self.estimates[sample].std_error, strict=True))
            parts += [
                (sample, one.threshold, one.metric, one.group, one.value, errors.get(_name(one, self.group), math.nan))
                for one in found
            ]
        found = pd.DataFrame(parts, columns=["sample", "threshold", "metric", "group", "value", "std err"])
        return found.assign(group=pd.Series([one[3] for one in parts], dtype=object))

    def by_group(self, threshold: float | None = None, sample: str | None = None) -> pd.DataFrame:
        """Rates at a threshold, a row for each group, with the base rate, mean prediction, Brier score and AUC.

        By default at the first threshold, and in the holdout where there is one.
        """
        found = self._at(threshold, sample)
        found = found[found["metric"].isin([*RATES, *SCORES]) & found["group"].notna()]
        table = found.pivot(index="group", columns="metric", values="value")
        return table.loc[list(self.levels), [*RATES, *SCORES]].rename_axis(index=self.group, columns=None)

    def parity(self, threshold: float | None = None, sample: str | None = None) -> pd.DataFrame:
        """Differences and ratios between groups at a threshold, called as in fairlearn, with value and std err."""
        found = self._at(threshold, sample)
        found = found[~found["metric"].isin([*RATES, *SCORES])]
        return found.set_index("metric")[["value", "std err"]].rename_axis(index=None)

    def _at(self, threshold: float | None, sample: str | None) -> pd.DataFrame:
        threshold = self.thresholds[0] if threshold is None else threshold
        sample = list(self.known)[-1] if sample is None else sample
        if threshold not in self.thresholds:
            raise OptionError(f"threshold={threshold!r}: there are {', '.join(map(str, self.thresholds))}.")
        if sample not in self.known:
            raise OptionError(f"sample={sample!r}: there are {', '.join(map(repr, self.known))}.")
        found = self.frame()
        return found[(found["sample"] == sample) & (found["threshold"].isna() | (found["threshold"] == threshold))]

    def tables(self) -> tuple[Table, ...]:
        """Scores, and for every threshold the rates and the parities."""
        whole = self.frame()
        parts: list[tuple[str, float | None, tuple[str, ...]]] = [("Scores", None, SCORES)]
        for threshold in self.thresholds:
            parts.append((f"Rates at {threshold:g}", threshold, SHOWN))
            parts.append(
                (f"Parity at {threshold:g}", threshold, tuple(n for n in LABELS if n not in (*RATES, *SCORES)))
            )
        return tuple(self._table(whole, *one) for one in parts)

    def _table(self, whole: pd.DataFrame, title: str, threshold: float | None, metrics: Sequence[str]) -> Table:
        among = whole[whole["metric"].isin(metrics)]
        among = among[among["threshold"].isna() if threshold is None else among["threshold"] == threshold]
        rows: dict[str, dict[str, float]] = {}
        for metric in metrics:
            for one in among[among["metric"] == metric].itertuples(index=False):
                name = LABELS[metric] + ("" if one.group is None or pd.isna(one.group) else f", {one.group}")
                rows.setdefault(name, {}).update({str(one.sample): one.value, f"{one.sample} s.e.": one[5]})
        return Table.from_frame(pd.DataFrame.from_dict(rows, orient="index"), title=title)

    def summary(self) -> Summary:
        """Header, tables and notes."""
        header = [("Group:", self.group), ("Thresholds:", ", ".join(f"{one:g}" for one in self.thresholds))]
        for sample, counts in self.counts.items():
            each = ", ".join(f"{level}: {count:,}" for level, count in zip(self.levels, counts, strict=True))
            header.append((f"Rows, {sample}:", each))
        notes = (
            "A row is flagged where its prediction is above the threshold. False positive rate: flagged among those "
            "with outcome 0; false discovery rate: outcome 0 among those flagged.",
            "Differences are the most less the least of the groups, ratios the least over the most.",
            "Errors are those of drawing the rows, given the fitted coefficients.",
        )
        return Summary("Fairness", tuple(header), self.tables(), (*notes, *self.notes))


def fairness(
    result: Fitted, holdout: object = None, *, group: str, thresholds: float | Sequence[float] = 0.5,
    data: object = None,
) -> Fairness:  # fmt: skip
    """Error rates of each group where predictions above a threshold are acted on, and how far groups are apart.

    Parameters
    ----------
    result : Results
        A fit to an outcome of 0 and 1, by any family with one mean. With features, predictions of its own rows are out
        of fold.
    holdout : data of any kind that structural() takes, optional
        Rows that the fit has not seen, with the columns of the formula, the outcome and the group.
    group : str
        Column of the groups, two or more levels.
    thresholds : float or sequence
        Rows with predictions above it are flagged.
    data : the data of the fit, optional
        Where the group is no column of the formula or of the penalty.

    Returns
    -------
    Fairness
        frame(), by_group(), parity(), estimates and summary(). Numbers are those of fairlearn's MetricFrame and
        parity measures; by name there are both the false positive rate and the false discovery rate.

    Raises
    ------
    DataError
        Naming the group: missing in some rows, a single level, or one without an outcome of 0 or of 1.
    OptionError
        For a threshold that is no number, or a group that the fit keeps no column of.
    NotAvailable
        Where the result was saved without its rows.

    References
    ----------
    Hardt, Price and Srebro (2016), Equality of opportunity in supervised learning, NeurIPS 29; Weerts et al. (2023),
    Fairlearn, Journal of Machine Learning Research 24.

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"g": rng.integers(2, size=600), "x": rng.normal(size=600)})
    >>> data["y"] = (data.x + 0.5 * data.g + rng.logistic(size=600) > 0).astype(int)
    >>> fit = deepreg.structural("y ~ x + g", data[:400], "logit").fit()
    >>> found = deepreg.fairness(fit, data[400:], group="g", thresholds=[0.5])
    >>> found.by_group(0.5)[["fpr", "fdr"]].shape
    (2, 2)
    """
    several = (thresholds,) if isinstance(thresholds, int | float | np.number) else tuple(thresholds)
    if not several or any(isinstance(one, bool) or not isinstance(one, int | float | np.number) for one in several):
        raise OptionError(f"thresholds={thresholds!r}: give one or more numbers.")
    if not isinstance(group, str):
        raise OptionError(f"group={group!r}: give the name of one column.")
    design = result.design
    if len(design.rows) < design.n:
        raise NotAvailable(f"fairness() needs the rows of the fit, which were not saved. {AGAIN}")
    check_outcome("fairness()", "fpr", design, result.structure)
    instead = "give the data of the fit as data=."
    column = covariance.of_rows(design, [group], data, f"group={group!r}", instead)[group]
    prediction = torch.from_numpy(result.predict().to_numpy()[design.rows])
    samples = {"train": (design, prediction, column)}
    if holdout is not None:
        new = design.new(holdout, outcome=True)
        prediction = torch.from_numpy(result.predict(holdout).to_numpy()[new.rows])
        samples["holdout"] = (new, prediction, door.pick(door.table(holdout), [group], "group=").iloc[new.rows][group])
    return _measured(result.sampling.kind, group, samples, tuple(float(one) for one in several))


def _measured(
    kind: str, group: str, samples: Mapping[str, tuple[Design, Tensor, pd.Series]], thresholds: tuple[float, ...]
) -> Fairness:  # fmt: skip
    estimates: dict[str, Estimates] = {}
    known: dict[str, tuple[Measure, ...]] = {}
    counts: dict[str, tuple[int, ...]] = {}
    seen: dict[str, tuple[Any, ...]] = {}
    for sample, (design, prediction, column) in samples.items():
        code, levels = grouped(column, group, f" of {sample}")
        if len(levels) < 2:
            raise DataError(
                f"group={group!r} has one level, {levels[0]!r}, in the {design.n} rows of {sample}, and parity is "
                "between two. Name another column, or check the rows."
            )
        check_groups(group, levels, code, design.units.y, ("negative", "positive"), f" in {sample}")
        seen[sample] = levels
        every = tuple(measures(prediction, design.units.y, code, levels, design.weight, thresholds))
        there = [one for one in every if math.isfinite(one.value)]
        psi = torch.stack([one.psi + one.value for one in there], 1)[None]
        clustered = kind == "cluster" and design.cluster.shape[1] > 0
        sampling = Sampling(
            design.weight, design.cluster, "cluster" if clustered else "HC1", 1, covariance.ways(design)
        )
        names = tuple(_name(one, group) for one in there)
        estimates[sample] = Estimates(names, psi, sampling, rows=design.labels, groupable=False)
        known[sample] = tuple(one._replace(psi=one.psi[:0]) for one in every)
        counts[sample] = tuple(code.bincount().tolist())
    levels, *others = seen.values()
    for other in others:
        if odd := [one for one in (*levels, *other) if one not in levels or one not in other]:
            raise DataError(
                f"The group {group}={odd[0]!r} is in the {'fit' if odd[0] in levels else 'holdout'} alone. Leave it "
                "out of the data, or merge it with another level."
            )
    return Fairness(group, levels, thresholds, estimates, known, counts, _undefined(known, group))


def _undefined(known: Mapping[str, tuple[Measure, ...]], group: str) -> tuple[str, ...]:
    """What is not defined, as nobody is flagged or everybody is."""
    parts = [
        f"{_name(one, group)} ({sample})"
        for sample, found in known.items()
        for one in found
        if not math.isfinite(one.value)
    ]
    return (f"Not defined, as nobody or everybody is flagged: {'; '.join(parts)}.",) if parts else ()


def _name(one: Measure, group: str) -> str:
    at = "" if one.threshold is None else f" at {one.threshold:g}"
    return f"{one.metric}{at}" + ("" if one.group is None else f", {group}={one.group}")
