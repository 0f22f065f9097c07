"""Scorecards: regressions whose coefficients are small integers, the best ones searched with a certificate."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from .. import families
from ..design import Design, build
from ..errors import DataError, FormulaError, OptionError
from ..formula import split
from ..searching import Found
from ..threads import threads
from .card import Card
from .lattice import Cards, LinearCards, LogitCards, logistic
from .rules import rules

LIMIT = 200_000  # partial cards kept at a level
SEPARATED = 1e-6  # mean loss below which outcomes are separated


def scorecard(
    formula: str,
    data: object,
    *,
    family: str = "logit",
    points: Iterable[int] | None = None,
    terms: int | None = None,
    subset: str | None = None,
    missing: str = "drop",
    context: Mapping[str, object] | None = None,
) -> "Scorecard":
    """A scorecard: at most `terms` columns with integer points, whose sum predicts the outcome best.

    family="logit" is P(y = 1) = sigmoid(a + b score) with a and b > 0 free: what the points are is their ratios.
    family="linear" is E[y] = a + score, the integer least squares problem. Minimises the mean loss over all cards,
    cut points included: `cut(age)` is a column for each of nine cut points, age >= 30 and so on, and those that get
    points are searched with everything else.

    Parameters
    ----------
    formula : str
        "y ~ terms", without a bar. `cut(x)` takes `cut(x, 20)` for more cut points and `cut(x, at=[18, 25])` for some.
    data : pandas or polars DataFrame, pyarrow Table or Dataset, path of a file, or mapping of columns
    family : "logit" or "linear"
    points : integers, optional
        Allowed points; 0 is always. By default -5 to 5, and for family="linear" every integer.
    terms : int, optional
        Columns with points, at most; by default 5, and for family="linear" all.
    subset, missing, context
        As in structural().

    Returns
    -------
    Scorecard
        Call `.fit()` on it.

    Raises
    ------
    OptionError, DataError, FormulaError
        Naming the argument or the column: points that are not whole, a constant column, a column that separates the
        outcome.

    References
    ----------
    Ustun and Rudin (2019), Journal of Machine Learning Research 20(150); Liu, Zhong, Li, Seltzer and Rudin (2022),
    Advances in Neural Information Processing Systems 35.

    Examples
    --------
    >>> import deepreg
    >>> cases = deepreg.simulate.recidivism(500, rng=0).frame
    >>> fit = deepreg.scorecard("recid ~ cut(age, 3) + cut(priors, 3) + sex", cases, terms=2).fit()
    >>> len(fit.card().points), fit.exact
    (2, True)
    """
    if family not in ("logit", "linear"):
        raise OptionError(f"family={family!r}: a scorecard is 'logit', of 0 and 1, or 'linear'.")
    if len(split(formula)) > 2:
        raise FormulaError(f"The formula {formula!r} has a bar, but the points of a scorecard are constant.")
    allowed = _points(points, family)
    if context is None:
        caller = inspect.currentframe()
        back = caller.f_back if caller is not None else None
        context = {**back.f_globals, **back.f_locals} if back is not None else {}
    design = build(formula, data, subset=subset, missing=missing, context=context, collinear=family == "logit")
    families.get(family).check(design.units, design.outcome)
    if "Intercept" not in design.terms or len(design.terms) < 2:
        raise FormulaError(f"The formula {formula!r} needs an intercept and a term: 'y ~ cut(age) + sex'.")
    p = len(design.terms) - 1
    most = (5 if family == "logit" else p) if terms is None else terms
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise OptionError(f"terms={terms!r}: give how many columns may have points, 1 or more.")
    if family == "logit":
        _refuse_separation(design)
    return Scorecard(design, family, allowed, min(most, p))


def _points(given: Any, family: str) -> np.ndarray | None:
    if given is None:
        return None if family == "linear" else np.array([one for one in range(-5, 6) if one])
    values = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    whole = [one for one in values if isinstance(one, int | np.integer) and not isinstance(one, bool)]
    found = sorted({int(one) for one in whole} - {0})
    if len(whole) < len(values) or not found:
        raise OptionError(f"points={given!r}: give whole numbers, for example range(-5, 6).")
    return np.array(found)


def _refuse_separation(design: Design) -> None:
    """DataError for a column that separates 0 from 1."""
    y = design.units.y.numpy() > 0
    for name, one in zip(design.terms[1:], design.units.d[:, 1:].numpy().T, strict=True):
        low, high = one[y], one[~y]
        if low.min() > high.max() or high.min() > low.max():
            raise DataError(
                f"The column {name!r} separates {design.outcome!r} perfectly: all values where that is 1 are on "
                "one side of those where it is 0. No score has a finite slope then; leave the column out, or use it as "
                "the rule it is."
            )


@dataclass(frozen=True, repr=False, eq=False)
class Scorecard:
    """A scorecard that is ready to fit. Made by `deepreg.scorecard`; frozen."""

    design: Design
    family: str
    points: np.ndarray | None
    terms: int

    def __repr__(self) -> str:
        return f"<deepreg Scorecard {self.design.formula!r}, family={self.family!r}, {self.terms} terms, not fitted>"

    def fit(self, *, limit: int = LIMIT, pool: float = 0.005, keep: int = 1000) -> "FittedScorecard":
        """Search all cards; those whose loss is at most `pool` times the best above it are kept for pool().

        Where more than `limit` partial cards cannot be ruled out at a level, the best of them go on, and the result
        has the gap that is left instead of a certificate. Raises DataError where the card separates the outcome.
        """
        if not isinstance(pool, int | float) or not 0 <= pool < 1:
            raise OptionError(f"pool={pool!r}: give a share of the loss, such as 0.005.")
        with threads(self.design.n):
            cards = self._lattice().search(limit, keep, pool)
        if self.family == "logit" and cards.values[0] < SEPARATED:
            used = [name for name, one in zip(self.design.terms[1:], cards.points[0], strict=True) if one]
            raise DataError(
                f"{', '.join(map(repr, used))} together separate {self.design.outcome!r} perfectly, so that no score "
                "has a finite slope. Use fewer terms=, or leave one of them out."
            )
        return FittedScorecard(self.design, self.family, cards, self.points)

    def _lattice(self) -> LogitCards | LinearCards:
        x, y = self.design.units.d[:, 1:], self.design.units.y
        if self.family == "linear":
            return LinearCards(x.numpy(), y.numpy(), self.points, self.terms)
        rows, place, count = x.unique(dim=0, return_inverse=True, return_counts=True)
        ones = torch.zeros(len(rows), dtype=y.dtype).scatter_add_(0, place, y)
        assert self.points is not None, "points of a logit card have a default"
        return LogitCards(rows, ones / count, count.to(y) / len(y), self.points, self.terms)


@dataclass(frozen=True, repr=False, eq=False)
class FittedScorecard:
    """The best card, those next to it, and what is known of all others."""

    design: Design
    family: str
    cards: Cards
    points: np.ndarray | None

    @property
    def found(self) -> Found:
        """The search, as `search()` returns it: with exact, gap and method."""
        names = self.design.terms[1:]
        options = tuple(tuple(np.unique(one).tolist()) for one in self.cards.points.T)
        at = np.stack([np.searchsorted(each, one) for each, one in zip(options, self.cards.points.T, strict=True)], 1)
        return Found(names, options, at, self.cards.values, self.cards.size, self.cards.evaluated, self.cards.bound)

    @property
    def loss(self) -> float:
        """The mean log loss of the card, or its mean squared error."""
        return float(self.cards.values[0])

    @property
    def exact(self) -> bool:
        """Whether the search has certified that no card is better."""
        return self.found.exact

    @property
    def gap(self) -> float:
        """How much less the loss of a better card could be; 0 with a certificate."""
        return self.found.gap

    def card(self, rank: int = 0) -> Card:
        """The card of that rank in the pool, 0 for the best."""
        if not isinstance(rank, int) or not 0 <= rank < len(self.cards.values):
            raise OptionError(f"rank={rank!r}: the pool has cards 0 to {len(self.cards.values) - 1}.")
        points = self.cards.points[rank]
        every, x, y = rules(self.design)[1:], self.design.units.d[:, 1:].numpy(), self.design.units.y.numpy()
        used = np.flatnonzero(points)
        score = x @ points
        intercept, slope = self._line(score[:, None], y)
        eta = intercept + slope[0] * score
        predicted = 1 / (1 + np.exp(-eta)) if self.family == "logit" else eta
        by = pd.DataFrame({"predicted": predicted, "observed": y, "cases": 1}).groupby(np.round(score, 10))
        risks = by.agg({"predicted": "mean", "observed": "mean", "cases": "sum"})
        risks.index = [f"{one:g}" for one in risks.index]
        return Card(
            tuple(every[j] for j in used), tuple(int(points[j]) for j in used), intercept, float(slope[0]),
            self.family == "logit", self.design.outcome, risks, self._costs(points), self.found.method,
        )  # fmt: skip

    def pool(self) -> pd.DataFrame:
        """All cards found next to the best: points of every column used in any, the loss, and how far behind it is."""
        used = np.flatnonzero((self.cards.points != 0).any(0))
        labels = [rule.label for rule in rules(self.design)[1:]]
        table = pd.DataFrame(self.cards.points[:, used], columns=[labels[j] for j in used])
        return table.assign(loss=self.cards.values, behind=self.cards.values - self.loss)

    def score(self, new: object = None) -> pd.Series:
        """The score of the rows used, or of other data; on the caller's index, NaN where a value is missing."""
        design = self.design if new is None else self.design.new(new)
        score = design.units.d[:, 1:].numpy() @ self.cards.points[0]
        return (
            pd.Series(score, index=design.rows).reindex(range(len(design.index))).set_axis(design.index).rename("score")
        )

    def predict(self, new: object = None) -> pd.Series:
        """The probability of 1, or the expected outcome; rows as in score()."""
        card = self.card()
        eta = card.intercept + card.slope * self.score(new)
        return (1 / (1 + np.exp(-eta)) if self.family == "logit" else eta).rename("predicted")

    def _line(self, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Intercept and slopes of the outcome on columns; for a linear card, whose slope is 1, the intercept."""
        if self.family == "linear":
            return float((y - x[:, 0]).mean()), np.ones(1)
        theta = self._logistic(x, y)[0]
        return float(theta[0]), theta[1:]

    def _logistic(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
        found = logistic(
            torch.from_numpy(x.T.copy())[None], torch.from_numpy(y)[None], torch.full((1, len(y)), 1 / len(y)).double()
        )
        return found.theta[0].numpy(), float(found.loss[0])

    def _costs(self, points: np.ndarray) -> pd.DataFrame:
        """The loss of the card beside those of the same columns unrounded and rounded, of all columns, and of none."""
        x, y = self.design.units.d[:, 1:].numpy(), self.design.units.y.numpy()
        used = np.flatnonzero(points)
        if self.family == "linear":
            return self._linear_costs(points, used, x, y)
        own, _ = self._logistic(x[:, used], y)
        most = float(np.abs(self.points).max()) if self.points is not None else 5.0
        rough = np.round(own[1:] * most / np.abs(own[1:]).max())
        every = {
            "card": x @ points, "rounded coefficients": x[:, used] @ rough,
            "same columns, unrounded": x[:, used] @ own[1:],
            "all columns, unrounded": x @ self._logistic(x, y)[0][1:],
        }  # fmt: skip
        rows = {name: (self._logistic(one[:, None], y)[1], _auc(one, y)) for name, one in every.items()}
        rows["no columns"] = (self._logistic(np.zeros((len(y), 1)), y)[1], 0.5)
        frame = pd.DataFrame(rows, index=["log loss", "AUC"]).T
        frame.insert(1, "above the card", frame["log loss"] - frame.loc["card", "log loss"])
        return frame

    def _linear_costs(self, points: np.ndarray, used: np.ndarray, x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
        def error(score: np.ndarray) -> float:
            return float(np.var(y - score))

        def line(columns: np.ndarray) -> np.ndarray:
            centred = columns - columns.mean(0)
            return np.asarray(np.linalg.lstsq(centred, y - y.mean(), rcond=None)[0])

        own = line(x[:, used])
        rows = {
            "card": error(x @ points), "rounded coefficients": error(x[:, used] @ np.round(own)),
            "same columns, unrounded": error(x[:, used] @ own), "all columns, unrounded": error(x @ line(x)),
            "no columns": error(0 * y),
        }  # fmt: skip
        frame = pd.DataFrame({"MSE": rows})
        return frame.assign(
            **{"above the card": frame["MSE"] - frame.loc["card", "MSE"], "R²": 1 - frame["MSE"] / np.var(y)}
        )

    def __repr__(self) -> str:
        return f"<deepreg FittedScorecard of {self.design.formula!r}: loss {self.loss:.6f}, {self.found.method}>"


def _auc(score: np.ndarray, y: np.ndarray) -> float:
    """The chance that a case of 1 scores above one of 0, ties counted as half."""
    ranks, ones = stats.rankdata(score), int(y.sum())
    return float((ranks[y > 0].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))
