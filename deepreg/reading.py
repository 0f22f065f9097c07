"""Reading: what the diagnostics of a fit say, as sentences."""

from collections.abc import Iterator
from typing import NamedTuple

from .estimates import Estimates
from .heterogeneity import Calibration, Curve, Groups
from .law import Overlap
from .report.table import number
from .summary import Facts, largest_correction

TESTED = (
    "The tests ask whether all rows could have the same effect: the guarded ones whether effects predicted out of fold "
    "rank and scale the rows, the last one whether effects change with the features along straight lines; a small "
    "P>|z| speaks for differences."
)


class Reading(NamedTuple):
    """A sentence, and a word for the impatient."""

    word: str  # "good", "note" or "caution"
    text: str


def readings(facts: Facts, averages: Estimates, overlap: Overlap | None) -> Iterator[Reading]:
    """Whether the coefficients vary, whether treatments overlap, and how much was corrected, in this order."""
    if facts.constant:
        yield Reading("note", "The coefficients are constants, so nothing was learned about how they vary.")
        return
    yield _gain(facts)
    if overlap is not None and overlap.least is not None:
        yield _choice(float(overlap.least.min()), float(overlap.least.median()), overlap.trimmed, len(overlap.least))
    if overlap is not None and overlap.spread is not None:
        word = "good" if overlap.spread > 0.3 else "note" if overlap.spread > 0.1 else "caution"
        share = f"{overlap.spread:.0%} of its standard deviation"
        yield Reading(word, f"Given the features, the treatment still varies by {share} at the median row.")
    moved = largest_correction(averages)
    if moved is not None:
        yield _correction(moved)
    told = dict(facts.diagnostics)
    floored, limited = str(told["Lambda floored:"]), str(told.get("At the step limit:", "0 of"))
    if not floored.startswith("0 "):
        text = f"In {floored} the data say next to nothing on some coefficient, and averages lean on the other rows."
        yield Reading("caution", text)
    if not limited.startswith("0 of"):
        yield Reading("note", f"{limited} were still improving when their training ended.")


def _gain(facts: Facts) -> Reading:
    before, after = facts.loss["homogeneous"], facts.loss["theta(x)"]
    explained = f"Out of fold, R squared is {facts.goodness.rsquared:.2f}."
    if after < before:
        lower = f"lowers the loss from {before:.4g} to {after:.4g}"
        return Reading("good", f"On held-out rows, letting the coefficients vary {lower}. {explained}")
    none = "functions predict no better than constants: there is no sign that the coefficients vary with the features"
    return Reading("note", f"On held-out rows, {none}. {explained}")


def _choice(least: float, middle: float, trimmed: int, rows: int) -> Reading:
    numbers = f"the least probability of a level is {least:.3f}, at the median row {middle:.3f}"
    if trimmed > 0.05 * rows:
        text = f"In {trimmed:,} rows ({trimmed / rows:.0%}) some level hardly occurs at their features ({numbers})"
        return Reading("caution", f"{text}, so averages over all rows lean on extrapolation.")
    if trimmed or least < 0.05:
        text = f"Some rows have a treatment level that is improbable at their features: {numbers}"
        return Reading("note", f"{text}; {trimmed:,} rows were trimmed.")
    return Reading("good", f"Every row could have had another treatment: {numbers}.")


def _correction(moved: float) -> Reading:
    if moved < 1:
        text = f"The correction moved no average by more than {moved:.2f} of its standard error"
        return Reading("good", f"{text}: the functions alone would have said nearly the same.")
    text = f"The correction moved an average by {moved:.1f} standard errors"
    return Reading("note", f"{text}: the result leans on it, and with it on the law of the treatment.")


# ---- heterogeneity, a sentence for each picture


def calibration_read(found: Calibration) -> str:
    """What the slope says."""
    return (
        f"Estimated against predicted effects of groups: the slope, {_told(found.slope)}, is 1 where predictions are "
        "as far apart as effects, and 0 where they say nothing."
    )


def groups_read(found: Groups) -> str:
    """What the outer groups differ by."""
    most = len(found.estimates.names)
    return (
        f"Average effects of {most} groups by predicted effect, the largest last: the last less the first is "
        f"{_told(found.difference)}."
    )


def gain_read(found: Curve) -> str:
    """What targeting gains over chance, of the first share of a relative curve."""
    top = f"{found.share[0]:.0%}"
    return (
        "Gain per row of treating first where the predicted effect is largest, and along the dashed line at random: "
        f"among {top} treated the difference is {_told(found.estimates)}."
    )


def _told(found: Estimates) -> str:
    """The first estimate with its interval."""
    (low, high), value = found.interval()[0], float(found.value[0])
    ends = f" (95% interval {number(low, 'interval')} to {number(high, 'interval')})" if low == low else ""
    return number(value, "interval") + ends
