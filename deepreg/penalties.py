"""Penalties: what a fit with constant coefficients pays besides its loss, a function of predictions, columns and
weights together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .design import Design
from .errors import DataError, OptionError
from .structure import Structure
from .units import Units

Function: TypeAlias = "Callable[[Seen], Tensor]"

# Rate: what is counted of the rows, and among which; each is a part of (flagged s, outcome y)
RATES: Mapping[str, tuple[str, str]] = {
    "fpr": ("false positive", "negative"),
    "tnr": ("true negative", "negative"),
    "fnr": ("false negative", "positive"),
    "tpr": ("true positive", "positive"),
    "fdr": ("false positive", "flagged"),
    "ppv": ("true positive", "flagged"),
    "for": ("false negative", "cleared"),
    "npv": ("true negative", "cleared"),
    "selection": ("flagged", "all"),
    "accuracy": ("right", "all"),
}
FORMS = ("squared", "absolute", "nij")


def part(name: str, s: Tensor, y: Tensor) -> Tensor:
    """Whether each row is of a part of the sample, by whether it is flagged (s) and its outcome (y); (..., n)."""
    parts: dict[str, Callable[[], Tensor]] = {
        "all": lambda: torch.ones_like(s),
        "flagged": lambda: s,
        "cleared": lambda: 1 - s,
        "positive": lambda: y.expand_as(s),
        "negative": lambda: (1 - y).expand_as(s),
        "true positive": lambda: s * y,
        "false positive": lambda: s * (1 - y),
        "true negative": lambda: (1 - s) * (1 - y),
        "false negative": lambda: (1 - s) * y,
        "right": lambda: s * y + (1 - s) * (1 - y),
    }
    return parts[name]()


def rates(name: str, s: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """A rate in each of L groups: sum of weights of what is counted over that of those among whom.

    s (..., n) says who is flagged, 0 to 1, y (n,) is the outcome, 0 or 1, weight (L, n); -> (..., L).
    """
    counted, among = (part(one, s, y) @ weight.mT for one in RATES[name])
    return counted / among


@dataclass(frozen=True)
class Seen:
    """What a penalty is a function of. Leading axes are a batch of theta's; rows are the last axis.

    Group rates are ratios of sums weighted by `weight`; as the weights enter, so does the sampling of the rows, into
    the standard errors.
    """

    structure: Structure
    units: Units
    theta: Tensor  # (..., P)
    loss: Tensor  # (...) the weighted mean loss
    mean: Callable[[], Tensor]
    weight: Tensor  # (n,)
    frame: pd.DataFrame  # the columns of the formula and those that the penalty names, n rows

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the P columns of theta."""
        return self.structure.names

    @property
    def y(self) -> Tensor:
        """The outcome; (n,)."""
        return self.units.y

    @cached_property
    def prediction(self) -> Tensor:
        """E[y | d] at theta; (..., n)."""
        return self.mean()


class Penalty(ABC):
    """What is added to the weighted mean loss. `columns` are those of the data that it needs besides the formula's."""

    @property
    def columns(self) -> tuple[str, ...]:
        return ()

    def __repr__(self) -> str:
        """The arguments that are not at their defaults."""
        given = [(one.name, getattr(self, one.name), one.default) for one in fields(self)]  # type: ignore[arg-type]
        shown = ", ".join(f"{name}={value!r}" for name, value, default in given if value != default)
        return f"{type(self).__name__}({shown})"

    def stages(self) -> tuple["Penalty", ...]:
        """Smoother versions to minimise one after the other, each from the minimum of the one before; itself last."""
        return (self,)

    def region(self, structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds around theta within which the penalty is convex, where it is in pieces; (..., P) -> (..., P) each."""
        return torch.full_like(theta, -torch.inf), torch.full_like(theta, torch.inf)

    def held(self, structure: Structure, theta: Tensor) -> Tensor:
        """The values at which the penalty has a kink and holds coefficients at a minimum theta, else NaN; (P,)."""
        return torch.full_like(theta, torch.nan)

    @abstractmethod
    def bind(self, design: Design, structure: Structure) -> Function:
        """The penalty of these rows, Seen -> (...). Raises OptionError or DataError where it cannot be had of them."""


@dataclass(frozen=True, repr=False)
class FromFunction(Penalty):
    """What from_function() makes."""

    of: Function
    columns: tuple[str, ...] = ()

    def bind(self, design: Design, structure: Structure) -> Function:
        return self.of


def from_function(function: Function, columns: Sequence[str] = ()) -> FromFunction:
    """A penalty of your own: a function of `Seen`, in torch, twice differentiable in theta and once in the weights.

    It gets predictions (..., n), outcomes, weights, theta (..., P), the weighted mean loss and the frame with the
    formula's columns and `columns`, and returns (...), what is added to the weighted mean loss.

    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"x": rng.normal(size=300)})
    >>> data["y"] = 2 * data.x + rng.normal(size=300)
    >>> ridge = deepreg.penalties.from_function(lambda seen: 0.5 * (seen.theta[..., 1:] ** 2).sum(-1))
    >>> slope = deepreg.structural("y ~ x", data, penalty=ridge).fit().params.x
    >>> bool(0.9 < slope < 1.1)
    True
    """
    if not callable(function):
        raise OptionError(f"from_function({function!r}): give a function of one argument, deepreg.penalties.Seen.")
    return FromFunction(function, tuple(columns))


def _scale(name: str, value: Any, least: float = 0.0) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= value < math.inf:
        raise OptionError(f"{name}={value!r}: give a number, {least:g} or more.")


@dataclass(frozen=True, repr=False)
class RateGap(Penalty):
    """Differences between the rates of groups at a threshold, such as false positive rates by race.

    A row is flagged by sigmoid((p - threshold) / tau), with p its prediction, which is differentiable where 1(p >
    threshold) is not: the gradient of a rate of hard decisions is 0, and a fit to it learns nothing. tau falls from
    stage to stage, each of which starts at the minimum of the one before. A rate is a ratio of weighted sums of a
    group, and its sampling enters the standard errors.

    With r_g the rates, "squared" adds strength times the mean over pairs of (r_g - r_h)^2 to the mean loss, "absolute"
    that of |r_g - r_h|, and "nij" makes the objective 1 - (1 - loss)(1 - strength |r_g - r_h|), the score of the NIJ
    recidivism challenge where the loss is Brier's. With `cap`, what is paid for is not the differences but what each
    rate has above the cap, as the mean over groups of (r_g - cap)_+^2, or of (r_g - cap)_+ for the other forms.

    Parameters
    ----------
    rate : str
        "fpr" (false positives among negatives), "fdr" (false positives among those flagged), "fnr", "tpr", "tnr",
        "ppv", "for" (false omissions), "npv", "selection" (those flagged among all) or "accuracy".
    group : str
        Column of the groups, two or more levels; it need not be in the formula.
    threshold : float or None
        None takes the prediction itself in the place of the flag: "fpr" is then the mean prediction of negatives, and
        the penalty quadratic where the prediction is linear (Mohler and Porter 2021).
    strength : float
        At least 0, on the scale of the mean loss.
    form : "squared", "absolute" or "nij"
    cap : float, optional
        The rate above which a group costs.
    emphasis : mapping, optional
        With cap: weights of levels of the group, 1 where they are not named.
    tau : float or sequence
        Scale of the sigmoid, of each stage; absolute values are rounded off at tau^2.

    Raises
    ------
    OptionError
        For an unknown rate or form, or a number out of range; in structural(), where the family has no single mean.
    DataError
        In structural(), naming the group: one level only, a group without the rows that its rate is of, or an outcome
        other than 0 and 1.

    References
    ----------
    Mohler and Porter (2021), A note on the multiplicative fairness score in the NIJ recidivism forecasting challenge,
    Crime Science 10; Agarwal et al. (2018), A reductions approach to fair classification, ICML.

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"g": rng.integers(2, size=400), "x": rng.normal(size=400)})
    >>> data["y"] = (data.x + data.g + rng.logistic(size=400) > 0).astype(int)
    >>> gap = deepreg.RateGap("fpr", group="g", threshold=0.5, strength=10.0)
    >>> fit = deepreg.structural("y ~ x + g", data, "logit", penalty=gap).fit()
    >>> bool(fit.params.g < deepreg.structural("y ~ x + g", data, "logit").fit().params.g)
    True
    """

    rate: str
    group: str
    threshold: float | None = 0.5
    strength: float = 1.0
    form: str = "squared"
    cap: float | None = None
    emphasis: Mapping[Any, float] | None = None
    tau: float | tuple[float, ...] = (0.05, 0.02, 0.01)

    def __post_init__(self) -> None:
        if self.rate not in RATES:
            raise OptionError(f"rate={self.rate!r}: allowed are {', '.join(map(repr, RATES))}.")
        if self.form not in FORMS:
            raise OptionError(f"form={self.form!r}: allowed are {', '.join(map(repr, FORMS))}.")
        if not isinstance(self.group, str):
            raise OptionError(f"group={self.group!r}: give the name of one column.")
        _scale("strength", self.strength)
        for name, value in (("threshold", self.threshold), ("cap", self.cap)):
            if value is not None:
                _scale(name, value)
        if self.emphasis is not None and self.cap is None:
            raise OptionError(f"emphasis={self.emphasis!r} weighs what groups have above a cap: give cap= too.")
        for name, value in (self.emphasis or {}).items():
            _scale(f"emphasis of {name!r}", value)
        if isinstance(self.tau, Sequence):
            object.__setattr__(self, "tau", tuple(self.tau))
        for one in self._scales or ("",):
            _scale("tau", one, 1e-6)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.group,)

    @property
    def _scales(self) -> tuple[float, ...]:
        return self.tau if isinstance(self.tau, tuple) else (self.tau,)

    def stages(self) -> tuple["RateGap", ...]:
        still = self.threshold is None and self.form == "squared"  # nothing in it is rounded off
        return tuple(replace(self, tau=one) for one in self._scales[-1:] if still) or tuple(
            replace(self, tau=one) for one in self._scales
        )

    def flagged(self, prediction: Tensor) -> Tensor:
        """How far each row is flagged, 0 to 1, at the last tau; the prediction itself without a threshold."""
        if self.threshold is None:
            return prediction
        return torch.sigmoid((prediction - self.threshold) / self._scales[-1])

    def bind(self, design: Design, structure: Structure) -> Function:
        check_outcome(f"penalty=RateGap({self.rate!r}, group={self.group!r})", self.rate, design, structure)
        if self.group not in design.frame:
            raise OptionError(
                f"group={self.group!r}: the fit keeps no such column. Give the penalty to structural(penalty=), which does."
            )
        code, levels = grouped(design.frame[self.group], self.group)
        if self.cap is None and len(levels) < 2:
            raise DataError(
                f"group={self.group!r} has one level, {levels[0]!r}, in the {design.n} rows used, and a gap is between "
                "two. Check subset=, name another column, or give cap=, the largest rate of every group."
            )
        for name in set(RATES[self.rate]) & {"positive", "negative"}:
            check_groups(self.group, levels, code, design.units.y, (name,))
        if odd := [one for one in self.emphasis or {} if one not in levels]:
            raise OptionError(f"emphasis has {odd[0]!r}, no level of {self.group!r}: {', '.join(map(repr, levels))}.")
        member = torch.nn.functional.one_hot(code, len(levels)).mT.to(torch.float64)  # (L, n)
        share = torch.tensor([float((self.emphasis or {}).get(one, 1.0)) for one in levels], dtype=torch.float64)
        pairs = torch.combinations(torch.arange(len(levels)), 2)
        rounding = self._scales[-1] ** 2

        def paid(seen: Seen) -> Tensor:
            place = seen.weight.device
            at = rates(self.rate, self.flagged(seen.prediction), seen.y, member.to(place) * seen.weight)  # (..., L)
            if self.cap is None:
                gap = at[..., pairs[:, 0]] - at[..., pairs[:, 1]]
                cost = (gap**2 if self.form == "squared" else _absolute(gap, rounding)).mean(-1)
            else:
                above = at - self.cap
                over = above.clamp_min(0) ** 2 if self.form == "squared" else (_absolute(above, rounding) + above) / 2
                cost = (over * share.to(place)).mean(-1)
            return self.strength * cost * (1 - seen.loss if self.form == "nij" else 1.0)

        return paid


@dataclass(frozen=True, repr=False)
class Rounding(Penalty):
    """Distances of coefficients from whole numbers: strength times the sum over slopes of |b - round(b)|.

    Intercepts and ancillary parameters are left alone. The penalty has a local minimum at every whole number, so the
    start decides between near ones: begin at the fit without a penalty, `fit(start="unpenalised")`, and compare with
    deepreg.scorecard(), which searches all of them. The scale of a variable decides what its whole numbers mean.
    A coefficient that ends at a whole number has no sampling error to first order; the errors of the others are those
    with it held there.

    Parameters
    ----------
    strength : float
        At least 0, on the scale of the mean loss; family "linear" has half the squared error as loss.
    step : float
        Multiples of this number count as whole.

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    >>> data["y"] = 1.9 * data.a + 1.2 * data.b + 0.5 + rng.normal(size=300)
    >>> model = deepreg.structural("y ~ a + b", data, penalty=deepreg.Rounding(0.4))
    >>> [round(float(b), 6) for b in model.fit(start="unpenalised").params[["a", "b"]]]
    [2.0, 1.0]
    """

    strength: float = 1.0
    step: float = 1.0
    rounding: float = 1e-8  # below which distances are rounded off, in steps

    def __post_init__(self) -> None:
        _scale("strength", self.strength)
        _scale("step", self.step, 1e-300)
        _scale("rounding", self.rounding, 1e-12)

    def stages(self) -> tuple["Rounding", ...]:
        steps = max(math.ceil(math.log10(0.1 / self.rounding)), 0)
        return tuple(replace(self, rounding=self.rounding * 10.0**j) for j in range(steps, -1, -1))

    def region(self, structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Half a step around the nearest whole number, and a little less so that it stays the nearest."""
        whole = (theta / self.step).round() * self.step
        half = torch.full_like(theta, (0.5 - 1e-9) * self.step)
        half = half.masked_fill(~_sloped(structure).to(theta.device), torch.inf)
        return whole - half, whole + half

    def held(self, structure: Structure, theta: Tensor) -> Tensor:
        whole = (theta / self.step).round() * self.step
        near = (theta - whole).abs() < 1e3 * self.rounding * self.step
        return torch.where(near & _sloped(structure).to(theta.device), whole, torch.nan)

    def bind(self, design: Design, structure: Structure) -> Function:
        place = _sloped(structure).nonzero()[:, 0]

        def paid(seen: Seen) -> Tensor:
            b = seen.theta[..., place.to(seen.theta.device)] / self.step
            return self.strength * self.step * _absolute(b - b.detach().round(), self.rounding).sum(-1)

        return paid


def _sloped(structure: Structure) -> Tensor:
    """Which columns of theta are slopes of an index; (P,) bool."""
    slopes = structure.slopes.repeat(max(len(structure.family.prefixes), 1)) > 0
    return torch.cat([slopes, torch.zeros(len(structure.names) - len(slopes), dtype=torch.bool)])


def _absolute(x: Tensor, rounding: float) -> Tensor:
    """|x|, smooth around 0."""
    return (x**2 + rounding**2).sqrt() - rounding


def grouped(column: pd.Series, name: str, where: str = "") -> tuple[Tensor, tuple[Any, ...]]:
    """Codes (n,) and levels, in order, of a column of groups. Raises DataError where some are missing."""
    if absent := int(column.isna().sum()):
        raise DataError(
            f"group={name!r} is missing in {absent} of the {len(column)} rows{where}; fill it, for example with a level of its "
            "own, or drop them."
        )
    code, levels = pd.factorize(np.asarray(column), sort=True)
    return torch.as_tensor(code, dtype=torch.long), tuple(levels.tolist())


def get(given: Any) -> Penalty:
    """The penalty meant by structural(penalty=...), an object or a function. Raises OptionError for anything else."""
    if isinstance(given, Penalty):
        return given
    if callable(given) and not isinstance(given, type):
        return from_function(given)
    raise OptionError(
        f"penalty={given!r}: give an object such as deepreg.RateGap('fpr', group='g') or deepreg.Rounding(0.4), or a "
        "function of deepreg.penalties.Seen. The L2 penalty on the weights of networks is a number given to fit()."
    )


def check(penalty: Penalty, design: Design, structure: Structure) -> None:
    """Raise OptionError where theta varies, and what bind() raises."""
    if design.features or design.controls:
        raise OptionError(
            f"penalty={penalty!r} is part of the objective of a fit with constant coefficients, but {design.formula!r} "
            "has features. Averages of theta(x) are debiased, which would undo what the penalty did to it. Leave "
            "penalty= out, or the part behind the bar."
        )
    penalty.bind(design, structure)


def check_outcome(asking: str, rate: str, design: Design, structure: Structure) -> None:
    """Raise OptionError for families without a single mean, DataError for outcomes other than 0 and 1."""
    family = structure.family
    if design.packing is not None or family.labels:
        raise OptionError(f"{asking} is about one prediction of 0 or 1 for each row; family {family.name!r} has more.")
    if not family.predicts:
        raise OptionError(f"{asking} needs predictions: give families.from_loss(loss, mean=lambda d, theta: ...).")
    values = design.units.y.unique()
    if rate != "selection" and not bool(((values == 0) | (values == 1)).all()):
        raise DataError(
            f"{asking} needs an outcome of 0 and 1, but {design.outcome!r} has {len(values)} distinct values. Recode "
            "it, or take rate='selection', which needs predictions alone."
        )


def check_groups(
    group: str, levels: tuple[Any, ...], code: Tensor, y: Tensor, parts: Sequence[str], where: str = ""
) -> None:
    """Raise DataError for a group without positives or negatives, whichever of them is among the parts."""
    for name in parts:
        count = torch.zeros(len(levels), dtype=y.dtype).index_add(0, code, part(name, y, y).cpu())
        if bool((count == 0).any()):
            lacking = levels[int(count.argmin())]
            value, about = ("0", "false positive") if name == "negative" else ("1", "false negative")
            raise DataError(
                f"The group {group}={lacking!r} has no row with outcome {value}{where}, so that it has no {about} "
                f"rate. Leave it out by subset=\"{group} != {lacking!r}\", or merge it with another level."
            )
