"""trajectories(): groups of persons whose outcomes follow different curves over time, and who belongs to which."""

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .. import families
from ..api import check_context, check_offset
from ..errors import DataError, DeepregWarning, OptionError
from ..families import Family, Mixture
from ..networks import Architecture
from ..seeds import generator
from ..theta import LEARNERS
from . import mixing
from .fitted import TrajectoryResults, ordered
from .learned import LearnedMembership, learn
from .number import GroupChoice, choose
from .panels import People, people

SCALES = ("common", "group")
COVARIANCES = ("classical", "robust")


@dataclass(frozen=True, repr=False, eq=False)
class TrajectoryModel:
    """A group-based trajectory model that is ready to fit. Made by `deepreg.trajectories`; frozen."""

    people: People
    groups: int
    orders: tuple[int, ...] | None
    scale: str
    starts: int
    formula: str

    def __repr__(self) -> str:
        name = self.people.component.name
        return f"<deepreg TrajectoryModel {self.formula!r}, family={name!r}, groups={self.groups}, not fitted>"

    def mixture(self, groups: int | None = None) -> Mixture:
        """The mixture with so many groups; orders are those given where there are as many, else the formula's."""
        count, widths = self.groups if groups is None else groups, self.people.widths
        moving = self.people.moving
        orders = self.orders if self.orders is not None and len(self.orders) == count else (len(moving),) * count
        left = [set(moving[order:]) for order in orders]
        uses = tuple(tuple(j not in out for j in range(sum(widths))) for out in left)
        risk = len(self.people.factors)
        return Mixture(self.people.component, count, widths, uses, risk, common=self.scale == "common")

    def fit(
        self, *, cov: str = "classical", starts: int | None = None,
        rng: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> TrajectoryResults:  # fmt: skip
        """Maximum likelihood from several starts, and the groups in the order of their mean outcome.

        cov : "classical", the inverse of the observed information, or "robust", the sandwich over persons.
        starts : how many, instead of those of the model.
        rng : whatever numpy.random.default_rng accepts; the same value gives the same digits.

        Warns where a parameter runs off to infinity, or a group is as good as empty. Raises OptionError for an unknown
        option, DataError where the groups are more than the data can hold.
        """
        if cov not in COVARIANCES:
            raise OptionError(f"cov={cov!r} is not known; allowed are 'classical' and 'robust'.")
        count = self.starts if starts is None else _whole("starts", starts)
        mixture = self.mixture()
        holds(mixture, self.people)
        every = torch.ones(1, len(self.people.waves.ids), dtype=torch.float64)
        found = mixing.fit(mixture, self.people.units, every, count, self.people.moving, generator(rng))
        made = ordered(self.people, mixture, found, self.formula, cov)
        for trouble in made.troubles:
            warnings.warn(trouble, DeepregWarning, stacklevel=2)
        return made

    def choose(
        self, groups: Iterable[int] = range(1, 7), by: str | Sequence[str] = ("bic", "icl", "cv"), *, folds: int = 5,
        rng: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> GroupChoice:  # fmt: skip
        """Fits with different numbers of groups side by side, and which number each criterion takes.

        groups : the numbers to try. `orders` count for the number they were given for; others have full order.
        by : of "bic" (n persons), "bic_obs" (rows), "aic", "icl" (BIC with the entropy of the groups) and "cv", the
            log-likelihood of persons in folds that had no part in the fit.
        folds : parts of the persons for "cv", fitted all at once.

        Raises OptionError for an unknown criterion or number.
        """
        wanted = [by] if isinstance(by, str) else list(by)
        numbers = [_whole("groups", one) for one in groups]
        if not numbers:
            raise OptionError("groups= is empty; give numbers of groups, for example range(1, 7).")
        mixtures = {number: self.mixture(number) for number in numbers}
        for one in mixtures.values():
            holds(one, self.people)
        return choose(self.people, mixtures, self.starts, wanted, _whole("folds", folds), generator(rng), self.formula)

    def learn(
        self, *, folds: int = 5, learners: Sequence[str] = LEARNERS, network: Architecture | None = None,
        rng: int | np.random.Generator | np.random.SeedSequence | None = 0,
    ) -> LearnedMembership:  # fmt: skip
        """Membership as a function of the risk factors, learned by cross-fitting while curves stay constant.

        folds : parts of the persons, each judged by functions learned on the others.
        learners, network : what the functions are stacked from, as in `Model.fit`.
        rng : whatever numpy.random.default_rng accepts.

        Raises OptionError without risk factors or with one group.
        """
        if not self.people.risky or self.groups < 2:
            raise OptionError(
                f"learn() makes membership a function of risk factors, but {self.formula!r} has "
                f"{'one group' if self.people.risky else 'none'}. Put them behind a bar, with groups= of 2 or more."
            )
        names = (learners,) if isinstance(learners, str) else tuple(learners)
        if not names or not set(names) <= set(LEARNERS):
            raise OptionError(f"learners={learners!r}: give one or more of {', '.join(map(repr, LEARNERS))}.")
        mixture = self.mixture()
        holds(mixture, self.people)
        return learn(self.people, mixture, self.starts, _whole("folds", folds), names, network, generator(rng))


def holds(mixture: Mixture, people: People) -> None:
    """DataError where there are fewer persons than parameters, or fewer distinct persons than groups."""
    n, size = len(people.waves.ids), len(mixture.places)
    if n <= size:
        raise DataError(
            f"groups={mixture.groups} makes {size} parameters, but there are {n} persons ({people.unit!r}). Ask for "
            "fewer groups, lower orders or fewer risk factors."
        )
    lines = torch.cat([people.units.y, people.units.mask, people.units.d.flatten(1)], 1)
    if (count := len(torch.unique(lines, dim=0))) < mixture.groups:
        raise DataError(
            f"groups={mixture.groups}, but only {count} of {n} persons differ from each other. Ask for at most {count}."
        )


def trajectories(
    formula: str,
    data: object,
    *,
    unit: str,
    within: str,
    family: str | Family | type[Family],
    groups: int,
    orders: Sequence[int] | None = None,
    inflate: str | None = None,
    exposure: str | None = None,
    offset: str | None = None,
    scale: str = "common",
    starts: int = 20,
    subset: str | None = None,
    missing: str = "drop",
    context: Mapping[str, object] | None = None,
) -> TrajectoryModel:
    """A group-based trajectory model: `outcome ~ curve over time | risk factors of belonging to a group`.

    Persons belong to one of K groups. In group k the outcome at time t follows the family with the index d_t'beta_k;
    which group it is depends on the risk factors x by a multinomial logit, pi_k(x). The likelihood of a person is
    sum_k pi_k(x) prod_t f(y_t | d_t'beta_k), a finite mixture; both parts are estimated together.

    Parameters
    ----------
    formula : str
        For example "offenses ~ poly(age, 2, raw=True) | poverty + school". Before the bar stand the curve and what
        changes with time; behind it, risk factors that are the same in all rows of a person. Without a bar, all
        persons have the same probabilities.
    data : pandas or polars DataFrame, pyarrow Table or Dataset, path of a file, or mapping of columns
        Long: a row for each person and time, in any order, and not as many for each. Rows with missing values are
        left out and counted; a person with one row stays.
    unit, within : str
        Columns that say which person a row is of, and at what time: a number.
    family : str or Family
        "gaussian", "logit", "poisson", "negbin", "zip" ..., or `families.Tobit(lower=0, upper=8)` for a censored
        normal outcome. It needs a likelihood, so "linear" is not among them.
    groups : int
        K. See `TrajectoryModel.choose`.
    orders : sequence of int, optional
        For each group, how many of the curve's columns that are made of the time it has, in the order of the formula:
        (2, 2, 1) are two parabolas and a straight line where the formula is a parabola. By default all. Groups are
        numbered by their mean outcome after the fit, so which of them is the line is found by the likelihood.
    inflate : str, optional
        Terms of the zeros in excess for "zip", "zinb" and the hurdles, for example "age"; by default a constant for
        each group.
    exposure, offset : str, optional
        As in structural(): the log of the exposure is added to the index, with a coefficient of 1.
    scale : "common" or "group"
        Whether log_sigma or log_alpha are the same in all groups.
    starts : int
        Starting points. All are followed to the end, together; the table says how many came to the maximum.
    subset, missing, context
        As in structural().

    Returns
    -------
    TrajectoryModel
        Call `.fit()` or `.choose(groups=range(1, 7))` on it.

    Raises
    ------
    FormulaError, DataError, OptionError
        Naming the column, argument or group, an example person, what is allowed and what to type instead.

    References
    ----------
    Nagin (1999), Psychological Methods 4(2); Nagin (2005), Group-Based Modeling of Development; Jones, Nagin and Roeder
    (2001), Sociological Methods & Research 29(3).

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> person, wave = np.repeat(np.arange(100), 5), np.tile(np.arange(5.0), 100)
    >>> rate = np.where(person % 2, 0.3 + 0.3 * wave, 0.2)
    >>> data = pd.DataFrame({"id": person, "wave": wave, "arrests": rng.poisson(rate)})
    >>> m = deepreg.trajectories("arrests ~ wave", data, unit="id", within="wave", family="poisson", groups=2, starts=5)
    >>> f = m.fit()
    >>> list(f.params.index[:2]), f.membership().shape
    (['group 1: Intercept', 'group 1: wave'], (100, 4))
    """
    component = families.get(family)
    if not component.likely or not component.prefixes or len(component.prefixes) > 2:
        better = "'gaussian'" if component.name == "linear" else "'gaussian', 'logit', 'poisson', 'negbin' or 'zip'"
        raise OptionError(
            f"family={component.name!r} states no likelihood of an outcome over time that a mixture could weigh by; "
            f"choose {better}."
        )
    texts = (("formula", formula), ("unit", unit), ("within", within), ("inflate", inflate), ("subset", subset))
    for name, value in (*texts, ("exposure", exposure), ("offset", offset)):
        if not isinstance(value, str) and not (value is None and name not in ("formula", "unit", "within")):
            raise OptionError(f"{name}= is a {type(value).__name__}; give a string.")
    if unit == within:
        raise OptionError(f"unit={unit!r} and within={within!r} are one column; give two.")
    if inflate is not None and len(component.prefixes) == 1:
        raise OptionError(f"inflate={inflate!r}: family={component.name!r} has no zeros in excess; choose 'zip'.")
    if scale not in SCALES:
        raise OptionError(f"scale={scale!r}: allowed are 'common' and 'group'.")
    count = _whole("groups", groups)
    check_offset(component, offset, exposure)
    if context is None:
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        context = {**caller.f_globals, **caller.f_locals} if caller is not None else {}
    check_context(context)
    found = people(
        formula, data, component, unit=unit, within=within, inflate=inflate, offset=offset, exposure=exposure,
        subset=subset, missing=missing, context=context,
    )  # fmt: skip
    return TrajectoryModel(
        found, count, _orders(orders, count, found, formula), scale, _whole("starts", starts), formula
    )


def _orders(given: Any, groups: int, people: People, formula: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    most = len(people.moving)
    orders = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    whole = all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= most for one in orders)
    if len(orders) != groups or not whole:
        columns = ", ".join(people.curve.terms[j] for j in people.moving) or "none"
        raise OptionError(
            f"orders={given!r}: give {groups} whole numbers, one for each group, from 0 to {most}: {formula!r} has the "
            f"columns of {people.within!r}: {columns}."
        )
    return orders


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise OptionError(f"{name}={value!r}: give a whole number, 1 or more.")
    return int(value)
