"""RateGap: a penalty on differences between the rates of groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..design import Design
from ..errors import DataError, OptionError
from ..structure import Structure
from .base import Function, Penalty, Seen, absolute, check_number
from .rates import RATES, check_groups, check_outcome, grouped, rates

FORMS = ("squared", "absolute", "nij")


SMOOTH = 0.05  # scale of the sigmoid at which errors of first order were those of a bootstrap


@dataclass(frozen=True, repr=False)
class RateGap(Penalty):
    """Differences between the rates of groups at a threshold, such as false positive rates by race.

    A row is flagged by sigmoid((p - threshold) / tau), with p its prediction, which is differentiable where 1(p >
    threshold) is not: the gradient of a rate of hard decisions is 0, and a fit to it learns nothing. tau falls from
    stage to stage, each of which starts at the minimum of the one before. A rate is a ratio of weighted sums of a
    group, and its sampling enters the standard errors. Errors are of first order: with few rows within the last tau of
    the threshold the objective is rough and they are too small, so that a larger one, such as tau=0.05, gives better
    errors and a less exact gap.

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
        check_number("strength", self.strength)
        for name, value in (("threshold", self.threshold), ("cap", self.cap)):
            if value is not None:
                check_number(name, value)
        if self.emphasis is not None and self.cap is None:
            raise OptionError(f"emphasis={self.emphasis!r} weighs what groups have above a cap: give cap= too.")
        for name, value in (self.emphasis or {}).items():
            check_number(f"emphasis of {name!r}", value)
        if isinstance(self.tau, Sequence):
            object.__setattr__(self, "tau", tuple(self.tau))
        for one in self._scales or ("",):
            check_number("tau", one, 1e-6)

    @property
    def caution(self) -> str:
        if self.threshold is None or self._scales[-1] >= SMOOTH or self.strength == 0:
            return ""
        return (
            f"They are of first order, and with tau={self._scales[-1]:g} can be too small, down to half: few rows lie "
            "that near the threshold. For errors to rely on give tau=0.05, or bootstrap."
        )

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
                f"group={self.group!r}: the fit keeps no such column. Give the penalty to structural(penalty=), "
                "which does."
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
                cost = (gap**2 if self.form == "squared" else absolute(gap, rounding)).mean(-1)
            else:
                above = at - self.cap
                over = above.clamp_min(0) ** 2 if self.form == "squared" else (absolute(above, rounding) + above) / 2
                cost = (over * share.to(place)).mean(-1)
            return self.strength * cost * (1 - seen.loss if self.form == "nij" else 1.0)

        return paid
