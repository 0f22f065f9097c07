"""What a fitted group-based trajectory model knows: curves, membership, adequacy, forecasts, tests and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from .. import charts
from ..errors import OptionError
from ..estimates import Estimates
from ..families import Mixture
from ..level import check_alpha
from ..report.summary import Summary
from ..sampling import Moments, Sampling
from ..structure import score_of
from ..wald import WaldTest
from .mixing import Maximum
from .panels import People
from .tables import Fitted, adequacy, summarise

if TYPE_CHECKING:
    from ..plots import Axes as Axes

SMALL = 0.01  # of the persons: a group with a smaller share is as good as empty
_TWIN = 1e-3  # of the log-likelihood of any person: groups that differ by less are one
_STEP = 1e-5  # of a parameter, for derivatives by central differences
SHOWN = 100  # persons that a plot shows unless asked otherwise


@dataclass(frozen=True, repr=False, eq=False)
class TrajectoryResults:
    """A fitted mixture over persons. Nothing in it changes; methods that alter return a new object.

    Groups are numbered by their mean outcome, from the lowest. `params` holds their coefficients as "group 1: term",
    those of the multinomial logit of membership as "P(group 2): term", against group 1.
    """

    people: People
    mixture: Mixture
    theta: Tensor  # (P,)
    covariance: Tensor  # (P, P) inverse of the observed information
    flat: tuple[str, ...]  # parameters that run off to infinity
    found: Maximum
    formula: str
    cov_type: str

    # parameters ---------------------------------------------------------------------------------------------------
    @property
    def names(self) -> tuple[str, ...]:
        """Names of the P parameters."""
        return self.mixture.names(self.people.terms)

    @cached_property
    def estimates(self) -> Estimates:
        """The parameters with their covariance, for tests and functions of them."""
        n = len(self.people.waves.ids)
        sampling = Sampling(torch.ones(n, dtype=torch.float64), torch.zeros(n, 0).long(), "HC0")
        score = score_of(self.mixture, self.people.units, self.theta.expand(n, -1))
        psi = self.theta - n * score @ self.covariance
        covariance = self.covariance if self.cov_type == "classical" else sampling.covariance(psi[None])[0]
        gone = torch.tensor([name in self.flat for name in self.names])
        covariance = torch.where(gone[:, None] | gone[None], torch.nan, covariance)
        known = Moments(self.theta[None], covariance[None])
        return Estimates(self.names, psi[None], sampling, groupable=False, known=known, constant=True)

    def vcov(self, cov: str) -> "TrajectoryResults":
        """The same fit with "classical" (observed information) or "robust" (sandwich over persons) errors."""
        if cov not in ("classical", "robust"):
            raise OptionError(f"cov={cov!r} is not known; allowed are 'classical' and 'robust'.")
        return replace(self, cov_type=cov)

    def _series(self, values: np.ndarray) -> pd.Series:
        return pd.Series(values, index=list(self.names))

    @property
    def params(self) -> pd.Series:
        """Coefficients of the groups, then of membership."""
        return self._series(self.estimates.value)

    @property
    def bse(self) -> pd.Series:
        """Standard errors; NaN for what runs off to infinity."""
        return self._series(self.estimates.std_error)

    @property
    def tvalues(self) -> pd.Series:
        """`params` over `bse`; their reference law is the normal."""
        return self._series(self.estimates.zvalues)

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided normal p-values of `params` = 0."""
        return self._series(self.estimates.pvalues)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of level 1 - alpha: columns 0 and 1, one row for each of `params`."""
        return pd.DataFrame(self.estimates.interval(alpha), index=list(self.names))

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of `params`."""
        return pd.DataFrame(self.estimates.cov, index=list(self.names), columns=list(self.names))

    def t_test(self, constraint: object) -> Estimates:
        """Hypotheses one by one, e.g. t_test("group 1: age = group 2: age"); see `Estimates.t_test`."""
        return self.estimates.t_test(constraint)

    def wald_test(self, constraint: object) -> WaldTest:
        """Hypotheses together, a chi-squared test; see `Estimates.wald_test`."""
        return self.estimates.wald_test(constraint)

    # fit ------------------------------------------------------------------------------------------------------------
    @property
    def nobs(self) -> int:
        """Rows: times of persons."""
        return len(self.people.waves.code)

    @property
    def persons(self) -> int:
        """n, the units of the likelihood."""
        return len(self.people.waves.ids)

    @cached_property
    def llf(self) -> float:
        """Log-likelihood."""
        return float(self._likelihood(self.people).sum())

    @property
    def aic(self) -> float:
        """-2 llf + 2 P."""
        return -2 * self.llf + 2 * len(self.theta)

    @property
    def bic(self) -> float:
        """-2 llf + P log(persons)."""
        return -2 * self.llf + len(self.theta) * float(np.log(self.persons))

    @property
    def bic_obs(self) -> float:
        """-2 llf + P log(rows), as some programs have it; times of one person are not independent."""
        return -2 * self.llf + len(self.theta) * float(np.log(self.nobs))

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy of the posterior probabilities (Biernacki, Celeux and Govaert 2000)."""
        p = self.posterior
        return self.bic - 2 * float(torch.special.xlogy(p, p).sum())

    @property
    def entropy(self) -> float:
        """Relative entropy, 1 where every person certainly belongs to one group; 1 with one group."""
        p, groups = self.posterior, self.mixture.groups
        return 1.0 if groups == 1 else 1 + float(torch.special.xlogy(p, p).sum() / (len(p) * np.log(groups)))

    def _likelihood(self, people: People) -> Tensor:
        u = people.units
        return -self.mixture.loss(u, self.theta) - self.mixture.normaliser(u)

    def log_likelihood(self, data: Any = None) -> pd.Series:
        """Of each person, by default of the fit; (n,). 0 for a person without an outcome."""
        people = self.people if data is None else self.people.new(data)
        return pd.Series(self._likelihood(people).numpy(), index=people.waves.ids, name="log_likelihood")

    @cached_property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with the groups, a sentence each: empty ones, twins, and what runs off to infinity."""
        shares, found = self.shares.mean(0), []
        small = [f"{name} ({float(one):.1%})" for name, one in zip(self.labels, shares, strict=True) if one < SMALL]
        if small:
            found.append(
                f"As good as empty: {', '.join(small)} of {self.persons:,} persons. The data hold fewer than groups="
                f"{self.mixture.groups}."
            )
        u = self.people.units
        own = self.mixture.joint(u, self.theta) - self.mixture.log_shares(u, self.theta)
        apart = (own[:, :, None] - own[:, None]).abs().amax(0)  # (K, K)
        twins = [f"{self.labels[k]} and {self.labels[j]}" for j, k in (apart < _TWIN).nonzero().tolist() if k < j]
        if twins:
            found.append(
                f"One curve for two groups: {', '.join(twins)}, so nothing tells their shares apart. The data hold "
                f"fewer than groups={self.mixture.groups}."
            )
        gone = [name for name in self.flat if not (twins and name.startswith("P("))]
        if gone:
            found.append(
                f"The likelihood has no maximum: {', '.join(gone)} run off to infinity, so they have no standard "
                "errors. An outcome may be all but certain in the group, or there are no zeros in excess in it; ask "
                "for fewer groups, lower orders, or other terms in inflate=."
            )
        return tuple(found)

    # groups ---------------------------------------------------------------------------------------------------------
    @property
    def labels(self) -> list[str]:
        """Names of the groups."""
        return [f"group {k + 1}" for k in range(self.mixture.groups)]

    @cached_property
    def posterior(self) -> Tensor:
        """The probability of each group given risk factors and outcomes of each person of the fit; (n, K)."""
        return self.mixture.posterior(self.people.units, self.theta)

    @cached_property
    def shares(self) -> Tensor:
        """pi_k(x) of each person of the fit; (n, K)."""
        return self.mixture.log_shares(self.people.units, self.theta).exp()

    def membership(self, data: Any = None) -> pd.DataFrame:
        """The probability of each group given what is known of a person, the likeliest group, and the times there are.

        For the persons of the fit, or for others: with any number of rows, and with risk factors alone where no row
        has an outcome. One row for each person, NaN where a risk factor is missing.
        """
        people = self.people if data is None else self.people.new(data)
        p = self.mixture.posterior(people.units, self.theta).numpy()
        frame = pd.DataFrame(p, index=people.waves.ids, columns=self.labels)
        group = pd.array(np.where(np.isfinite(p).all(1), p.argmax(1) + 1, 0), dtype="Int64")
        group[np.asarray(~np.isfinite(p).all(1))] = pd.NA
        return frame.assign(group=group, waves=people.waves.counts)

    @property
    def facts(self) -> Fitted:
        """What the tables are made of."""
        return Fitted(**{one.name: getattr(self, one.name) for one in fields(Fitted)})

    def adequacy(self) -> Summary:
        """How well persons are told apart: per group pi, share, APPA and OCC, and the relative entropy, with notes.

        pi is the mean of pi_k(x), share that of persons whose likeliest group it is, APPA their mean probability of
        it, and OCC the odds of APPA over those of pi (Nagin 2005, chapter 5). The header lists what GRoLTS asks to be
        reported (van de Schoot et al. 2017). `to_frame()` has the numbers.
        """
        return adequacy(self.facts)

    def summary(self, alpha: float = 0.05) -> Summary:
        """The table: a block of coefficients for each group, then of membership."""
        return summarise(self.facts, alpha)

    def curves(self, within: Sequence[float] | None = None, alpha: float = 0.05) -> pd.DataFrame:
        """The mean outcome of each group over time with intervals; index (group, time), columns coef, lower and upper.

        within : times, by default 50 from the first to the last. Where the curve has other regressors, it is the mean
            over the persons with theirs as last known; with an exposure, it is of an exposure of 1. Intervals are by
            the delta method, of each point, on the scale of the logarithm or logit where outcomes have a bound there.
        """
        times = self._times(within)
        others = bool(set(self.people.regressors) - set(self.people.curve.recipe.offsets.values()))
        u = self.people.at(self.people.last if others else self.people.last.iloc[:1], times, exposed=False)

        def mean(theta: Tensor) -> Tensor:  # (G, P) -> (G, K, T)
            return self.mixture.means(u, theta[:, None]).mean(1)

        index = pd.MultiIndex.from_product([self.labels, times], names=["group", self.people.within])
        return self._frame(mean, index, alpha)

    def forecast(self, data: Any = None, *, within: Sequence[float], alpha: float = 0.05) -> pd.DataFrame:
        """E[y] of persons at other times given what is known of them: the groups' curves, by their probabilities.

        data : persons as in membership(), by default those of the fit. Other regressors and the exposure are as last
            known. Index (person, time), columns coef, lower and upper: the mean and its interval by the delta method,
            which has the error of the parameters and not that of a single outcome.
        """
        people = self.people if data is None else self.people.new(data)
        times = self._times(within)
        u = replace(self.people, last=people.last).at(people.last, times, exposed=True)

        def mean(theta: Tensor) -> Tensor:  # (G, P) -> (G, n, T)
            p = self.mixture.posterior(people.units, theta[:, None])
            return (p[..., None] * self.mixture.means(u, theta[:, None])).sum(2)

        index = pd.MultiIndex.from_product([people.waves.ids, times], names=[self.people.unit, self.people.within])
        return self._frame(mean, index, alpha)

    def _times(self, within: Sequence[float] | None) -> np.ndarray:
        if within is None:
            return np.linspace(self.people.waves.time.min(), self.people.waves.time.max(), 50)
        times = np.asarray(list(within))
        if times.ndim != 1 or not len(times) or times.dtype.kind not in "iuf" or not np.isfinite(times).all():
            raise OptionError(f"within={within!r}: give times as numbers, for example range(20, 25).")
        return times

    def _frame(self, mean: Callable[[Tensor], Tensor], index: pd.MultiIndex, alpha: float) -> pd.DataFrame:
        alpha = check_alpha(alpha)
        to, back = _scale(self.mixture)
        value = to(mean(self.theta[None])[0]).flatten()  # (q,)
        slopes = torch.stack([self._slope(lambda at: to(mean(at)), j).flatten() for j in range(len(self.theta))], 1)
        robust = None if self.cov_type == "classical" else self.estimates.sampling.covariance(self.estimates.psi)[0]
        covariance = self.covariance if robust is None else robust
        width = float(stats.norm.isf(alpha / 2)) * ((slopes @ covariance) * slopes).sum(1).clamp_min(0).sqrt()
        columns = {"coef": value, "lower": value - width, "upper": value + width}
        return pd.DataFrame({name: back(one).numpy() for name, one in columns.items()}, index=index)

    def _slope(self, fn: Callable[[Tensor], Tensor], j: int) -> Tensor:
        step = torch.zeros_like(self.theta)
        step[j] = _STEP * (1 + float(self.theta[j].abs()))
        high, low = fn(torch.stack([self.theta + step, self.theta - step]))
        return (high - low) / (2 * step[j])

    def plot(
        self, ax: "Axes | None" = None, *, ci: bool = True, spaghetti: bool | int = False, alpha: float = 0.05,
    ) -> "Axes":  # fmt: skip
        """The curves of the groups, with bands (`ci`) and the outcomes of persons behind them (`spaghetti`).

        spaghetti : True for 100 persons evenly spread over the ids, or how many. Returns a matplotlib Axes.
        """
        frame = self.curves(alpha=alpha)
        percent = 100 * self.shares.mean(0)
        shown = {
            f"{label} ({float(share):.0f}%)": frame.loc[label] if ci else frame.loc[label, ["coef"]]
            for label, share in zip(self.labels, percent, strict=True)
        }
        waves, outcome = self.people.waves, self.people.curve.outcome
        per = self.people.curve.recipe.offsets.get("exposure")
        count = SHOWN if spaghetti is True else int(spaghetti)
        behind = []
        if count:
            rate = self.people.curve.units.y
            rate = rate / self.people.curve.units.offset.exp() if per is not None else rate
            chosen = np.unique(np.linspace(0, len(waves.ids) - 1, min(count, len(waves.ids))).astype(int))
            for one in chosen:
                rows = np.flatnonzero(waves.code == one)
                rows = rows[np.argsort(waves.place[rows])]
                behind.append((waves.time[rows], rate.numpy()[rows]))
        label = outcome if per is None else f"{outcome} / {per}"
        return charts.lines(shown, ax, xlabel=self.people.within, ylabel=label, behind=behind)


def _scale(mixture: Mixture) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """The scale on which intervals are symmetric, and the way back."""
    if mixture.component.log_link:
        return torch.log, torch.exp
    if mixture.component.binary:
        return torch.logit, torch.sigmoid
    return (lambda value: value), (lambda value: value)


def ordered(people: People, mixture: Mixture, found: Maximum, formula: str, cov: str) -> TrajectoryResults:
    """The results of the first set of weights, groups in the order of their mean outcome."""
    u, theta = people.units, found.theta[0]
    level = (mixture.means(u, theta) * u.mask[:, None]).sum((0, 2))  # (K,)
    order = level.argsort().tolist()
    after = replace(mixture, uses=tuple(mixture.uses[k] for k in order))
    full = mixture.spread[order]
    full[:, mixture.inner :] = full[:, mixture.inner :] - full[:1, mixture.inner :]  # against the first of them
    turn = torch.linalg.pinv(after.spread.flatten(0, 1)) @ full.flatten(0, 1)
    turn = torch.where(turn.abs() < 1e-12, 0.0, turn)
    names = after.names(people.terms)
    flat = tuple(name for name, one in zip(names, (turn.abs() @ found.flat[0].double() > 0), strict=True) if one)
    covariance = turn @ found.covariance[0] @ turn.T
    return TrajectoryResults(people, after, turn @ theta, covariance, flat, found, formula, cov)
