"""Trade-off: what closing a gap between groups costs in accuracy, over strengths of the penalty."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from . import charts
from .errors import AGAIN, DataError, NotAvailable, OptionError
from .fair import Fairness, fairness
from .heterogeneity.diagnostic import Summarised
from .parity import LABELS
from .penalties import RateGap
from .report.summary import Summary
from .report.table import Table

if TYPE_CHECKING:
    from .plots import Axes


class Fitted(Protocol):
    """What can be fitted again."""

    @property
    def design(self) -> Any: ...
    @property
    def again(self) -> Any: ...


@dataclass(frozen=True, repr=False, eq=False)
class Tradeoff(Summarised):
    """Brier score, area under the curve and gap between groups of the fit at each strength of its penalty.

    `results` are the fits, in the order of the strengths.
    """

    penalty: RateGap
    strengths: tuple[float, ...]
    results: tuple[Any, ...]
    table: pd.DataFrame  # sample, strength, brier, auc, gap, std err, highest

    def frame(self, sample: str | None = None) -> pd.DataFrame:
        """brier, auc, gap (most less least rate), its std err and the highest rate; a row for each strength.

        Of the holdout where there is one, else of the rows of the fit; or of `sample`, "train" or "holdout".
        """
        names = list(dict.fromkeys(self.table["sample"]))
        sample = names[-1] if sample is None else sample
        if sample not in names:
            raise OptionError(f"sample={sample!r}: there are {', '.join(map(repr, names))}.")
        return self.table[self.table["sample"] == sample].drop(columns="sample").set_index("strength")

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """The Brier score over the gap, or the highest rate where the penalty has a cap; with 95% intervals."""
        across, frames = "gap" if self.penalty.cap is None else "highest", {}
        for sample in dict.fromkeys(self.table["sample"]):
            found = self.frame(sample)
            frame = pd.DataFrame({"x": found[across], "y": found["brier"]})
            if across == "gap":
                half = 1.96 * found["std err"]
                frame = frame.assign(lower=(found["gap"] - half).clip(lower=0), upper=found["gap"] + half)
            frames[sample] = frame
        what = _written(self.penalty.rate)
        label = f"{'difference in' if across == 'gap' else 'highest'} {what}, {self.penalty.group}"
        return charts.path(frames, ax, xlabel=label, ylabel="Brier score")

    def summary(self) -> Summary:
        """A table for each sample."""
        header = (("Penalty:", repr(self.penalty)), ("Group:", self.penalty.group))
        names = list(dict.fromkeys(self.table["sample"]))
        tables = []
        for name in names:
            found = self.frame(name)
            found.index = pd.Index([f"{one:g}" for one in found.index])
            tables.append(Table.from_frame(found, title=f"By strength, {name}"))
        notes = (
            f"gap: the most less the least {_written(self.penalty.rate)} of the groups where predictions above "
            f"{self.penalty.threshold:g} are flagged; highest: the highest of them.",
            "Errors are those of drawing the rows, given the fitted coefficients.",
        )
        return Summary("Trade-off", header, tuple(tables), notes)


def tradeoff(
    result: Fitted, strengths: Sequence[float] = (0.0, 0.1, 1.0, 10.0), *, holdout: object = None,
    penalty: RateGap | None = None,
) -> Tradeoff:  # fmt: skip
    """The same fit at several strengths of its penalty: how much of a gap each closes, and what that costs.

    Parameters
    ----------
    result : Results
        A fit with penalty=RateGap(...), or a plain one where `penalty` is given and its group is in the formula.
    strengths : sequence of float
        0 is the plain fit.
    holdout : data of any kind that structural() takes, optional
        Rows that the fit has not seen. A gap that is closed in the rows of the fit is not closed in others; only these
        say by how much.
    penalty : RateGap, optional
        By default that of the result.

    Returns
    -------
    Tradeoff
        frame(), plot(), summary() and the fits as `results`.

    Raises
    ------
    OptionError
        Without a RateGap that has a threshold, or for strengths that are no numbers of 0 or more.
    NotAvailable
        Where the result was loaded from a file, and so cannot be fitted again.
    DataError
        What fairness() raises.

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"g": rng.integers(2, size=400), "x": rng.normal(size=400)})
    >>> data["y"] = (data.x + data.g + rng.logistic(size=400) > 0).astype(int)
    >>> gap = deepreg.RateGap("fpr", group="g", tau=0.05)
    >>> fit = deepreg.structural("y ~ x + g", data, "logit", penalty=gap).fit(start="unpenalised")
    >>> found = deepreg.tradeoff(fit, [0, 10]).frame()
    >>> bool(found.gap[10] < found.gap[0])
    True
    """
    if result.again is None:
        raise NotAvailable(f"tradeoff() fits again, which a result from a file cannot. {AGAIN}")
    penalty = result.again.penalty if penalty is None else penalty
    if not isinstance(penalty, RateGap) or penalty.threshold is None:
        raise OptionError(
            f"tradeoff() with penalty={penalty!r}: give deepreg.RateGap('fpr', group='g', threshold=0.5), to "
            "structural() or here; its rates are measured at the threshold."
        )
    parts, fits = [], []
    for strength in strengths:
        fit = result.again.under(replace(penalty, strength=strength))(result.design)
        found = fairness(fit, holdout, group=penalty.group, thresholds=penalty.threshold)
        parts += [_row(found, penalty, strength, sample) for sample in found.estimates]
        fits.append(fit)
    return Tradeoff(penalty, tuple(map(float, strengths)), tuple(fits), pd.DataFrame(parts))


def _written(rate: str) -> str:
    """The name of a rate inside a sentence."""
    return LABELS[rate][0].lower() + LABELS[rate][1:]


def _row(found: Fairness, penalty: RateGap, strength: float, sample: str) -> dict[str, Any]:
    """What a fit comes to in a sample."""
    estimates, rate = found.estimates[sample], penalty.rate
    whole = found.frame()
    whole = whole[(whole["sample"] == sample)].set_index("metric")
    names = [f"{rate} at {penalty.threshold:g}, {penalty.group}={one}" for one in found.levels]
    if odd := [name for name in names if name not in estimates.names]:
        raise DataError(
            f"{odd[0]} in {sample} is not defined at strength {strength:g}, as nobody or everybody is flagged there. "
            "Choose another threshold, or leave the strength out."
        )
    each = estimates.select(tuple(names))
    most, least = int(each.value.argmax()), int(each.value.argmin())
    variance = each.cov[most, most] + each.cov[least, least] - 2 * each.cov[most, least]
    overall = {name: float(whole.loc[name, "value"].iloc[0]) for name in ("brier", "auc")}
    return {
        "sample": sample, "strength": float(strength), **overall, "gap": each.value[most] - each.value[least],
        "std err": float(np.sqrt(max(variance, 0.0))), "highest": each.value[most],
    }  # fmt: skip
