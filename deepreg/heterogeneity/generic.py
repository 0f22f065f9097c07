"""Generic machine learning: linear predictions and groups of effects from outcomes themselves, without scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, OptionError
from .diagnostic import Diagnostic
from .groups import grouped
from .inputs import Sample, sample
from .regression import regress

STRATEGIES = ("weighted", "transformed")


@dataclass(frozen=True, repr=False)
class Generic(Diagnostic):
    """Coefficients of the regressions of Chernozhukov, Demirer, Duflo and Fernández-Val."""

    @property
    def title(self) -> str:
        return "Effects by outcomes and known propensities"


def generic_blp(
    outcome: object, treatment: object, effect: object, *, propensity: object, baseline: object,
    strategy: str = "weighted", cluster: object = None, vcov: str | None = None,
) -> Generic:  # fmt: skip
    """The average effect and the calibration slope of a randomised experiment, without scores.

    "weighted" regresses y on 1, the baseline, t - p and (t - p)(S - mean S) with weights 1 / (p (1 - p));
    "transformed" regresses y H on 1, the baseline times H and S - mean S, with H = (t - p) / (p (1 - p)).

    Parameters
    ----------
    outcome : (n,)
    treatment : (n,)
        0 and 1.
    effect : (n,)
        Predicted effects S, from other rows.
    propensity : (n,) or float
        The known probability p of treatment given the features.
    baseline : (n,)
        Predicted outcomes without treatment, from other rows; they reduce errors only.
    strategy : "weighted" or "transformed"
    cluster, vcov
        As in `gates`.

    Returns
    -------
    Generic
        "average effect" and "slope".

    Raises
    ------
    DataError
        For a treatment other than 0 and 1, propensities outside (0, 1), and missing values.
    OptionError
        For another strategy.

    References
    ----------
    Chernozhukov, Demirer, Duflo and Fernández-Val (2025), Econometrica 93(4), strategies A and B.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import generic_blp
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=2000), rng.integers(0, 2, 2000)
    >>> y = (1 + x) * t + rng.normal(size=2000)
    >>> generic_blp(y, t, x, propensity=0.5, baseline=0 * y + x).estimate.round(1).to_dict()
    {'average effect': 1.0, 'slope': 1.0}
    """
    rows, left, moved = _regression(outcome, treatment, effect, propensity, baseline, strategy, cluster)
    s = rows.column(effect, "effect")
    deviation = (s - s.mean())[:, None]  # unweighted, whatever the propensities
    names = [f"nuisance {j}" for j in range(left.shape[1])]
    columns = np.c_[left, moved * np.c_[np.ones(rows.n), deviation]]
    found = regress(rows, columns, [*names, "average effect", "slope"], vcov)
    return Generic(found.select(["average effect", "slope"]))


def generic_gates(
    outcome: object, treatment: object, effect: object, groups: int | Sequence[object] = 5, *, propensity: object,
    baseline: object, strategy: str = "weighted", cluster: object = None, vcov: str | None = None,
) -> Generic:  # fmt: skip
    """Average effects of groups of a randomised experiment, without scores.

    The effect columns of `generic_blp` are replaced by indicators of the groups (times t - p if "weighted"). The other
    arguments and what raises are those of `generic_blp` and `gates`; groups have no weights.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import generic_gates
    >>> rng = np.random.default_rng(0)
    >>> x, t = rng.normal(size=2000), rng.integers(0, 2, 2000)
    >>> y = np.sign(x) * t + rng.normal(size=2000)
    >>> generic_gates(y, t, x, 2, propensity=0.5, baseline=0 * y + x).estimate.round(1).tolist()
    [-0.9, 1.0]
    """
    rows, left, moved = _regression(outcome, treatment, effect, propensity, baseline, strategy, cluster)
    member, names = grouped(sample(outcome), rows.column(effect, "effect"), groups)
    columns = np.c_[left, moved * np.eye(len(names))[member]]
    found = regress(rows, columns, [*(f"nuisance {j}" for j in range(left.shape[1])), *names], vcov)
    return Generic(found.select(names))


def _regression(
    outcome: object, treatment: object, effect: object, propensity: object, baseline: object, strategy: str,
    cluster: object,
) -> tuple[Sample, np.ndarray, np.ndarray]:  # fmt: skip
    """Rows with the left side and the weights, the columns that are no effects, and the factor of those that are."""
    if strategy not in STRATEGIES:
        raise OptionError(f"strategy={strategy!r}: allowed are {', '.join(map(repr, STRATEGIES))}.")
    plain = sample(outcome, None, cluster, treatment=treatment, effect=effect, baseline=baseline)
    if np.ndim(propensity) == 0:  # type: ignore[arg-type]
        propensity = np.full(plain.n, propensity)
    t, p, b = (
        plain.column(one, name)
        for one, name in ((treatment, "treatment"), (propensity, "propensity"), (baseline, "baseline"))
    )
    if not np.isin(t, (0, 1)).all() or not ((p > 0) & (p < 1)).all():
        raise DataError(
            f"treatment has the values {np.unique(t)[:5].tolist()} and propensity lies in [{p.min():g}, {p.max():g}]; "
            "give 0 and 1, and probabilities between them."
        )
    weight = 1 / (p * (1 - p))
    ones = np.ones(plain.n)
    if strategy == "weighted":
        return sample(outcome, weight, cluster), np.c_[ones, b], (t - p)[:, None]
    factor = (t - p) * weight
    return sample(plain.score[:, 0] * factor, None, cluster), (b * factor)[:, None], ones[:, None]
