"""Qini curves: what a budget obtains where predicted reward per cost is largest, with several arms and costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from .. import charts
from ..errors import DataError, OptionError
from ..estimates import Estimates
from ..level import check_alpha
from ..report.table import Table
from .diagnostic import Diagnostic
from .inputs import Sample, array, sample
from .policy import GIVEN, points

if TYPE_CHECKING:
    from ..charts import Axes


class Path(NamedTuple):
    """The steps from nothing to the last arm of every row, best first; steps of equal ratio are taken together."""

    row: np.ndarray  # (s,)
    gain: np.ndarray  # (s,) score of the step
    cost: np.ndarray  # (s,)
    group: np.ndarray  # (s,) of equal ratios
    spend: np.ndarray  # (g + 1,) mean cost after each group, from 0
    total: np.ndarray  # (g + 1,) mean score after each group, from 0


@dataclass(frozen=True, repr=False)
class QiniCurve(Diagnostic):
    """Mean score that the best use of a budget obtains, along the budget for each row, by predicted rewards.

    `estimates` are the gains at `spend`; `at()` gives other budgets, and curves from the same scores can be compared.
    """

    spend: np.ndarray = field(kw_only=True)  # (m,)
    limit: float = field(kw_only=True)  # mean cost of all steps with a positive reward: no more is spent
    path: Path = field(kw_only=True)
    rows: Sample = field(kw_only=True)
    window: float = field(kw_only=True)  # half the width, in spend, over which the gain of one more unit is read off

    @property
    def title(self) -> str:
        return "Gain by budget for each row"

    def at(self, spend: float | Sequence[float]) -> Estimates:
        """Gain at budgets for each row. Raises OptionError for a negative one."""
        return _at(self.path, self.rows, self.window, budgets(spend))

    def share(self, spend: float | Sequence[float]) -> Estimates:
        """Gain at budgets as a share of the gain at the limit, by the delta method."""
        b = budgets(spend)
        return self.at([*b, self.limit]).map(lambda v: v[:-1] / v[-1:], [f"share at spend {one:.4g}" for one in b])

    def difference(self, other: "QiniCurve", spend: float | Sequence[float]) -> Estimates:
        """Gain less that of another curve from the same rows, paired. Raises OptionError for other rows."""
        return self._minus(other, self.at(spend), other.at(spend))

    def area(self, limit: float | None = None) -> Estimates:
        """The area under the curve up to a budget, by default its limit; by the trapezoid rule on 200 points."""
        top = self.limit if limit is None else float(limit)
        b = np.linspace(0, top, 201)
        step = np.full(len(b), top / 200)
        step[[0, -1]] /= 2
        return replace(self.at(b.tolist()).linear(step, np.zeros(1), [f"area to spend {top:.4g}"]), null=None)

    def area_between(self, other: "QiniCurve", limit: float | None = None) -> Estimates:
        """The area between this curve and another from the same rows, paired, up to a budget (see `area`)."""
        top = self.limit if limit is None else float(limit)
        return self._minus(other, self.area(top), other.area(top))

    def _minus(self, other: "QiniCurve", mine: Estimates, theirs: Estimates) -> Estimates:
        if self.rows.n != other.rows.n or not np.array_equal(self.rows.weight, other.rows.weight):
            raise OptionError("The curves are of other rows or weights; make both from the same scores and weights=.")
        assert mine.psi is not None and theirs.psi is not None
        return replace(mine, psi=mine.psi - theirs.psi, known=None)

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """By spend: gain, std err, interval of each point, and joint band."""
        low, high = self.estimates.interval(check_alpha(alpha)).T
        band = self.estimates.band(alpha)
        columns = {
            "gain": self.estimates.value, "std err": self.estimates.std_error, "low": low, "high": high,
            "lower": band["lower"].to_numpy(), "upper": band["upper"].to_numpy(),
        }  # fmt: skip
        return pd.DataFrame(columns, index=pd.Index(self.spend, name="spend"))

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        return (Table.from_frame(self.frame(alpha).rename(index=lambda spend: f"{spend:.4g}")),)

    def plot(
        self, ax: "Axes | None" = None, *, others: Mapping[str, "QiniCurve"] | None = None, label: str = "by reward",
        alpha: float = 0.05,
    ) -> "Axes":  # fmt: skip
        """The curve with its joint band, and `others` beside it without theirs."""
        frames = {label: self.frame(alpha)[["gain", "lower", "upper"]]}
        frames |= {name: other.frame(alpha)[["gain"]] for name, other in (others or {}).items()}
        for frame in frames.values():
            frame.loc[0.0] = 0.0  # no budget, no gain
        frames = {name: frame.sort_index() for name, frame in frames.items()}
        return charts.lines(frames, ax, xlabel="spend for each row", ylabel="gain")


def qini(
    scores: Any, reward: Any, cost: Any = 1.0, *, spend: Sequence[float] | None = None, weights: Any = None,
    cluster: Any = None,
) -> QiniCurve:  # fmt: skip
    """The gain that a budget obtains if it goes where predicted reward per cost is largest; several arms and costs.

    Each row moves along the upper convex hull of its arms' (cost, reward) from (0, 0), nothing; all rows' steps are
    taken in the order of reward per cost, as long as the reward is above 0 and the budget lasts (the last step in
    part). With one arm and cost 1 this is a Qini curve, and the budget the share treated. Rows of the same ratio are
    taken together in equal parts, so the order of rows does not matter.

    Influence values are 1{taken} score - r (1{taken} cost - budget), r the gain of one more unit of budget: what the
    share of budget going elsewhere in other samples costs. They take rewards and costs as given functions.

    Parameters
    ----------
    scores : (n,) or (n, arms)
        Orthogonal scores of each arm's effect against nothing.
    reward : like scores
        Predicted effects, from functions that never saw the row's outcome. The same number in all rows compares with
        treating at random.
    cost : number, (arms,) or like scores
        Above 0, in any unit: that of the budget.
    spend : sequence of numbers, optional
        Budgets for each row; by default 50 (of more than 100,000 rows 20) up to the limit, at which all rewards above 0
        are taken.
    weights, cluster : (n,), optional

    Returns
    -------
    QiniCurve

    Raises
    ------
    OptionError, DataError
        For other shapes, missing values, a cost that is not above 0, and rewards that are nowhere above 0.

    References
    ----------
    Sverdrup, Wu, Athey and Wager (2025), "Qini curves for multi-armed treatment rules", Journal of Computational and
    Graphical Statistics 34(3).

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import qini
    >>> effect = np.array([4.0, 2.0, 1.0, -1.0])
    >>> qini(effect, effect, spend=[0.25, 0.5, 1.0]).estimates.value.tolist()
    [1.0, 1.5, 1.75]
    """
    rows = sample(scores, weights, cluster, reward=reward)
    n, arms = rows.score.shape
    predicted, price = array(reward, "reward").reshape(n, -1), array(cost, "cost")
    price = price[:, None] if price.shape == (n,) and arms == 1 else price
    if predicted.shape != rows.score.shape or price.shape not in ((), (arms,), (n, arms)):
        raise OptionError(
            f"scores have shape {rows.score.shape}, reward {predicted.shape} and cost {price.shape}; give a reward for "
            "each score, and a cost that is a number, one for each arm, or one for each score."
        )
    if not (price > 0).all():
        raise DataError("cost is not above 0 somewhere; an arm without a cost has no place under a budget.")
    path = steps(rows.score, predicted, np.broadcast_to(price, rows.score.shape), rows.weight)
    limit = float(path.spend[-1])
    some = np.bincount(path.row, minlength=n) > 0
    window = n**-0.2 / 16 * limit * float(rows.weight.sum() / rows.weight[some].sum())
    b = np.linspace(0, limit, points(n) + 1)[1:] if spend is None else budgets(spend)
    notes = (f"Nothing more is spent beyond {limit:.4g}, where predicted rewards end.", GIVEN)
    return QiniCurve(
        _at(path, rows, window, b), notes, spend=b, limit=limit, path=path, rows=rows, window=window
    )  # fmt: skip


def budgets(spend: Any) -> np.ndarray:
    """Budgets for each row; (m,). Raises OptionError for a negative one."""
    b = np.atleast_1d(array(spend, "spend"))
    if b.ndim != 1 or not (b >= 0).all():
        raise OptionError(f"spend={spend!r}: give budgets for each row, 0 or more.")
    return b


def _at(path: Path, rows: Sample, window: float, spend: np.ndarray) -> Estimates:
    names = tuple(f"spend {one:.4g}" for one in spend)
    return rows.estimates(names, influence(path, spend, rows.n, window))


def steps(gamma: np.ndarray, reward: np.ndarray, cost: np.ndarray, w: np.ndarray) -> Path:
    """The steps of all rows along their hulls, in order; arrays are (n, arms)."""
    n, arms = gamma.shape
    rows = np.arange(n)
    at, on = np.zeros(n, dtype=int), np.ones(n, dtype=bool)
    padded = [np.c_[np.zeros(n), part] for part in (gamma, reward, cost)]  # the first arm is nothing
    g, r, c = padded
    found = []
    for _ in range(arms):  # a hull has at most a corner for each arm
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = (r - r[rows, at][:, None]) / (c - c[rows, at][:, None])
        ratio = np.where(c > c[rows, at][:, None], ratio, -np.inf)
        best = ratio.max(1)
        on = on & (best > 0)
        # of arms on one line the dearest, whose step holds those of the others
        nxt = np.where(ratio == best[:, None], c, -np.inf).argmax(1)
        here = rows[on]
        a, b = at[on], nxt[on]
        found.append(np.stack([here, g[here, b] - g[here, a], c[here, b] - c[here, a], best[on]], 1))
        at = np.where(on, nxt, at)
    every = np.concatenate(found)
    if not len(every):
        raise DataError("No reward is above 0, so that nothing would be spent; rewards are effects against nothing.")
    every = every[np.argsort(-every[:, 3], kind="stable")]
    group = np.cumsum(np.r_[True, np.diff(every[:, 3]) != 0]) - 1
    row = every[:, 0].astype(int)
    share = w[row] / w.sum()
    spent, gained = (np.bincount(group, share * every[:, j]) for j in (2, 1))
    total = np.r_[0.0, np.cumsum(gained)]
    return Path(row, every[:, 1], every[:, 2], group, np.r_[0.0, np.cumsum(spent)], total)


def influence(path: Path, spend: np.ndarray, n: int, window: float) -> np.ndarray:
    """Influence values of the gain at budgets; (n, m)."""
    place = np.clip(np.searchsorted(path.spend, spend, side="left") - 1, 0, len(path.spend) - 2)
    width = path.spend[place + 1] - path.spend[place]
    part = np.clip((spend - path.spend[place]) / width, 0, 1)  # of the group at the margin
    low, high = np.clip(spend - window, 0, None), np.clip(spend + window, None, path.spend[-1])
    low = np.minimum(low, high - 1e-9 * path.spend[-1])
    r = (np.interp(high, path.spend, path.total) - np.interp(low, path.spend, path.total)) / (high - low)
    r = np.where(spend >= path.spend[-1], 0.0, r)  # the budget no longer binds
    taken = (path.group[:, None] < place) + (path.group[:, None] == place) * part  # (s, m)
    psi = np.zeros((n, len(spend)))
    np.add.at(psi, path.row, taken * (path.gain[:, None] - r * path.cost[:, None]))
    return psi + r * np.minimum(spend, path.spend[-1])
