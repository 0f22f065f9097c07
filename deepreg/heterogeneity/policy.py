"""Policies by scores: the value of assignments that are given, and of treating where an effect exceeds its cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import charts, multiple
from ..errors import OptionError
from ..estimates import Estimates
from ..level import check_alpha
from ..report.table import Table
from .diagnostic import Diagnostic
from .inputs import MANY, Sample, array, sample

if TYPE_CHECKING:
    from ..charts import Axes

GIVEN = "Errors take the rule as given: known before, or learned from other rows."
NONE, TREAT = "none", "treat"  # the two arms of a single score: nothing, whose score is 0, and the treatment


def points(n: int) -> int:
    """Where a curve of n rows is shown unless asked for, each of which takes a number for each row."""
    return 50 if n <= MANY else 20


class Arms(NamedTuple):
    """Scores of each arm net of its cost, and the names of the arms."""

    rows: Sample
    names: tuple[str, ...]
    net: np.ndarray  # (n, arms)


def arms(scores: Any, cost: Any, weights: Any, cluster: Any, **beside: Any) -> Arms:
    """A single score (n,) is that of "treat" against "none"; the columns of a frame name the arms. See policy_value."""
    rows = sample(scores, weights, cluster, **beside)
    gamma, names = rows.score, rows.names
    if gamma.shape[1] == 1:
        gamma, names = np.c_[np.zeros(rows.n), gamma], (NONE, TREAT)
    elif not isinstance(scores, pd.DataFrame | Sample):
        names = tuple(str(j) for j in range(gamma.shape[1]))
    price = array(0.0 if cost is None else cost, "cost")
    n, many = gamma.shape
    if price.ndim == 0:
        price = np.where(np.arange(many) > 0, price, 0.0)
    elif many == 2 and price.shape == (n,):
        price = np.c_[np.zeros(n), price]
    if price.shape not in ((many,), (n, many)):
        raise OptionError(
            f"cost has shape {price.shape}; give a number, one for each of the {many} arms, or an array of shape "
            f"({n}, {many})."
        )
    return Arms(rows, names, gamma - price)


def policy_value(
    scores: Any, policies: Mapping[str, Any], *, cost: Any = None, weights: Any = None, cluster: Any = None
) -> Estimates:
    """Mean score of the arm that each policy assigns, less its cost: E[Y(policy)], with a joint covariance.

    With a single score, of an effect, it is E[policy (effect - cost)], the gain over treating nobody. The errors
    take policies as given: a rule known before, or one learned from other rows (out of fold). For a rule learned from
    the same scores the value is too high; `policy_tree_value` learns one out of fold.

    The target `deepreg.targets.PolicyValue` is the same average for a model of this package, whose scores it makes
    itself; this takes the scores of any model, and costs.

    Parameters
    ----------
    scores : (n,) or (n, arms) or DataFrame
        Orthogonal scores: of an effect, or of the mean outcome under each arm. Columns name the arms; those of an array
        are called "0", "1" and so on, and those of a single score "none" and "treat".
    policies : mapping of names to (n,)
        The name of an arm for each row. With two arms also true and false, or a number from 0 to 1, the probability of
        the second.
    cost : number, (arms,), (n,) for two arms, or (n, arms), optional
        In units of the outcome. A number is the cost of every arm but the first.
    weights, cluster : (n,), optional

    Returns
    -------
    Estimates
        One for each policy. `pairwise()` compares them, `band()` has joint intervals, and
        `deepreg.best_combination(values, base=None)` the regret of each against the best.

    Raises
    ------
    OptionError, DataError
        For another shape, missing values, or a policy that assigns something else than the arms.

    References
    ----------
    Athey and Wager (2021), Econometrica 89(1), equation (7).

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import policy_value
    >>> effect = np.array([3.0, -1.0, 2.0, -2.0])
    >>> policy_value(effect, {"all": np.ones(4), "positive": effect > 0}, cost=0.5).value.tolist()
    [0.0, 1.0]
    """
    if not isinstance(policies, Mapping) or not policies:
        raise OptionError("policies is no mapping; give {'name': an array with an arm for each row}.")
    found = arms(scores, cost, weights, cluster, **policies)
    shares = [assigned(rule, found.names, found.rows.n, name) for name, rule in policies.items()]
    return found.rows.estimates(tuple(policies), np.stack([(share * found.net).sum(1) for share in shares], 1))


def policy_difference(
    scores: Any, policies: Mapping[str, Any], against: str, *, cost: Any = None, weights: Any = None,
    cluster: Any = None,
) -> Estimates:  # fmt: skip
    """Value of each policy less that of one, paired: how much it gains on it, or as the negative of it, its regret.

    `against` is one of the policies, or an arm, which all rows then get; parameters and errors as in `policy_value`.

    >>> import numpy as np
    >>> from deepreg.heterogeneity import policy_difference
    >>> effect = np.array([3.0, -1.0, 2.0, -2.0])
    >>> policy_difference(effect, {"positive": effect > 0}, "treat").names
    ('positive - treat',)
    """
    found = arms(scores, cost, weights, cluster)
    if against not in policies and against not in found.names:
        raise OptionError(
            f"against={against!r}: give a policy, of {', '.join(policies)}, or an arm, of {', '.join(found.names)}."
        )
    others = {name: rule for name, rule in policies.items() if name != against}
    base = policies[against] if against in policies else np.repeat(against, found.rows.n)
    values = policy_value(scores, {**others, against: base}, cost=cost, weights=weights, cluster=cluster)
    turn = np.c_[np.eye(len(others)), -np.ones(len(others))]
    return replace(values.linear(turn, np.zeros(len(others)), [f"{name} - {against}" for name in others]), null=None)


@dataclass(frozen=True, repr=False)
class Regret(Diagnostic):
    """What policies lose against the best of them: its value less theirs, paired.

    `estimates` are those of all policies but the best, whose name is `best`; their errors take for granted that it is
    the best. `frame()` has upper limits that do not.
    """

    values: Estimates = field(kw_only=True)  # (k,) of all policies

    @property
    def title(self) -> str:
        return f"Regret against {self.best}"

    @property
    def best(self) -> str:
        """The policy with the largest estimated value."""
        return self.values.names[int(self.values.value.argmax())]

    def over(self, several: "Sequence[Regret]", estimates: Estimates) -> "Regret":
        """`estimates` are the values."""
        return regret_of(estimates)

    def upper(self, alpha: float = 0.05, draws: int = 9999, rng: object = 0) -> pd.Series:
        """Limits that the regrets of all k policies against the best in truth are below, with probability 1 - alpha.

        The largest over j of value(j) - value(k) + c se(j, k), with c the quantile of the largest deviation of all
        pairs, by Gaussian multipliers: multiple comparisons with the best (Hsu 1984, Annals of Statistics 12(3)).
        """
        alpha, value, cov = check_alpha(alpha), self.values.value, self.values.cov
        variance = np.diag(cov)
        error = np.sqrt(np.clip(variance[:, None] + variance - 2 * cov, 0, None))  # [k, j]
        normal = multiple.normal_draws(cov, draws, rng)
        apart = normal[:, None, :] - normal[:, :, None]  # (draws, k, j)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(error > 1e-12 * variance.max() ** 0.5, apart / error, 0.0)
        limit = float(np.quantile(z.max((1, 2)), 1 - alpha))
        found = (value - value[:, None] + limit * error).max(1)
        return pd.Series(found, list(self.values.names))

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """By policy, the best first: its value, regret, std err, interval, and upper limit (see `upper`)."""
        low, high = self.estimates.interval(check_alpha(alpha)).T
        columns = {"regret": self.estimates.value, "std err": self.estimates.std_error, "low": low, "high": high}
        table = pd.DataFrame(columns, list(self.estimates.names)).sort_values("regret", kind="stable")
        table = pd.concat([pd.DataFrame(dict.fromkeys(columns, 0.0), [self.best]), table])
        table.insert(0, "value", pd.Series(self.values.value, list(self.values.names))[table.index])
        return table.assign(upper=self.upper(alpha)[table.index])


def regret(
    scores: Any, policies: Mapping[str, Any], *, cost: Any = None, weights: Any = None, cluster: Any = None
) -> Regret:
    """What each policy loses against the best of them and of giving one arm to all, with paired errors.

    Parameters
    ----------
    scores, policies, cost, weights, cluster
        As in `policy_value`. Each arm for all is a policy besides, called "all: treat" and so on.

    Returns
    -------
    Regret
        Influence values are those of the best value less each other one. Where two policies are about as good, the
        best is chosen by noise, and its value is too high; `upper` counts that.

    Raises
    ------
    OptionError, DataError
        As `policy_value`.

    References
    ----------
    Athey and Wager (2021), Econometrica 89(1); Hsu (1984), Annals of Statistics 12(3).

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import regret
    >>> effect = np.array([3.0, -1.0, 2.0, -2.0])
    >>> found = regret(effect, {"positive": effect > 0})
    >>> found.best, found.estimate.to_dict()
    ('positive', {'all: none': 1.25, 'all: treat': 0.75})
    """
    found = arms(scores, cost, weights, cluster)
    every = {f"all: {arm}": np.repeat(arm, found.rows.n) for arm in found.names}
    return regret_of(policy_value(scores, {**policies, **every}, cost=cost, weights=weights, cluster=cluster))


def regret_of(values: Estimates) -> Regret:
    """Of the values of policies."""
    names = values.names
    best = int(values.value.argmax())
    turn = np.delete(np.eye(len(names))[best] - np.eye(len(names)), best, 0)
    others = [name for j, name in enumerate(names) if j != best]
    notes = (f"{names[best]!r} is taken for the best; `upper` holds whichever is, for all policies together.", GIVEN)
    return Regret(replace(values.linear(turn, np.zeros(len(others)), others), null=None), notes, values=values)


def assigned(rule: Any, known: Sequence[str], rows: int, name: str) -> np.ndarray:
    """The probability of each arm in each row under a policy; (n, arms)."""
    given, many = np.asarray(rule), len(known)
    if given.shape != (rows,):
        raise OptionError(f"Policy {name!r} has shape {given.shape}; give an arm for each of the {rows} rows.")
    if given.dtype.kind not in "biuf":
        found = given.astype(str)[:, None] == np.asarray(known)
        if not found.any(1).all():
            odd = given[~found.any(1)][0]
            raise OptionError(f"Policy {name!r} assigns {odd!r}, which is no arm; there are {', '.join(known)}.")
        return found.astype(np.float64)
    share = array(given, f"Policy {name!r}")
    if many > 2:
        if known != tuple(str(j) for j in range(many)) or not np.isin(share, np.arange(many)).all():
            raise OptionError(f"Policy {name!r} holds numbers; give the name of an arm, of {', '.join(known)}.")
        return (share[:, None] == np.arange(many)).astype(np.float64)
    if not ((share >= 0) & (share <= 1)).all():
        raise OptionError(f"Policy {name!r} has values outside of 0 to 1; give the probability of {known[1]!r}.")
    return np.c_[1 - share, share]


@dataclass(frozen=True, repr=False)
class ValueCurve(Diagnostic):
    """The value of treating where the priority is above the cost, along the cost, beside treating all and nobody.

    `estimates` are the values of the rule at each of m costs.
    """

    cost: np.ndarray = field(kw_only=True)  # (m,)
    score: torch.Tensor = field(kw_only=True)  # (n, 1)
    share: np.ndarray = field(kw_only=True)  # (m,) treated

    @property
    def title(self) -> str:
        return "Value against cost"

    @cached_property
    def everyone(self) -> Estimates:
        """The value of treating all. (m,)"""
        return replace(self.estimates, psi=(self.score - torch.as_tensor(self.cost))[None], known=None)

    @cached_property
    def advantage(self) -> Estimates:
        """Value of the rule less that of the better of all and nobody, as estimated; paired. (m,)

        Where all and nobody are equally good, noise decides which is better, and the advantage is a little too low.
        """
        assert self.estimates.psi is not None
        better = torch.as_tensor(self._all > 0).to(self.score)
        psi = torch.addcmul(self.estimates.psi, self.score, better, value=-1.0)
        return replace(self.estimates, psi=psi.add_(better * torch.as_tensor(self.cost)), known=None)

    @property
    def _all(self) -> np.ndarray:
        """Values of treating all, without their errors; (m,)."""
        weight = self.estimates.sampling.weight
        return float(weight @ self.score[:, 0] / weight.sum()) - self.cost

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """By cost: share treated, value, std err, its interval and joint band, value of treating all, advantage."""
        low, high = self.estimates.interval(check_alpha(alpha)).T
        band = self.estimates.band(alpha)
        columns = {
            "share": self.share, "value": self.estimates.value, "std err": self.estimates.std_error, "low": low,
            "high": high, "lower": band["lower"].to_numpy(), "upper": band["upper"].to_numpy(),
            "all": self._all, "advantage": self.advantage.value, "advantage se": self.advantage.std_error,
        }  # fmt: skip
        return pd.DataFrame(columns, index=pd.Index(self.cost, name="cost"))

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        """The columns of the frame without intervals."""
        shown = ["share", "value", "std err", "all", "advantage", "advantage se"]
        return (Table.from_frame(self.frame(alpha)[shown].rename(index=lambda cost: f"{cost:.4g}")),)

    def plot(self, ax: "Axes | None" = None, *, alpha: float = 0.05) -> "Axes":
        """Value along the cost with its joint band, beside treating all; treating nobody is the line at 0."""
        frame = self.frame(alpha)
        everyone = frame[["all"]].where(frame[["all"]] >= float(frame["lower"].min()))  # far below it is no alternative
        frames = {"treat where above cost": frame[["value", "lower", "upper"]], "treat all": everyone}
        return charts.lines(frames, ax, xlabel="cost of treatment", ylabel="value")


def value_against_cost(
    scores: Any, priority: Any, costs: Sequence[float] | None = None, *, weights: Any = None, cluster: Any = None
) -> ValueCurve:
    """E[1{priority > c} (effect - c)] along the cost c, with paired comparisons to treating all and nobody.

    Parameters
    ----------
    scores : (n,)
        Orthogonal scores of the effect.
    priority : (n,)
        What is compared with the cost: a predicted effect, in units of the outcome, that never saw the row's outcome.
    costs : sequence of numbers, optional
        By default 50 (of more than 100,000 rows 20) from 0 (or the least priority, where that is above) to the 99th
        percentile of the priority.
    weights, cluster : (n,), optional

    Returns
    -------
    ValueCurve

    Raises
    ------
    OptionError, DataError
        For another shape and for missing values.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import value_against_cost
    >>> effect = np.arange(10.0)
    >>> value_against_cost(effect, effect, [0.0, 8.0]).estimates.value.tolist()
    [4.5, 0.1]
    """
    rows = sample(scores, weights, cluster, priority=priority)
    if len(rows.names) > 1:
        raise OptionError(f"scores has {len(rows.names)} columns; give those of one effect.")
    s, w = rows.column(priority, "priority"), rows.weight
    high = float(np.quantile(s, 0.99))
    low = min(max(0.0, float(s.min())), high - 1e-3 * abs(high))
    c = np.linspace(low, high, points(rows.n)) if costs is None else np.atleast_1d(array(costs, "costs"))
    net, treated = rows.score - c, s[:, None] > c  # (n, m)
    net *= treated
    value = rows.estimates(tuple(f"cost {one:.4g}" for one in c), net)
    share = (w @ treated) / w.sum()
    return ValueCurve(value, (GIVEN,), cost=c, score=torch.as_tensor(rows.score), share=share)
