"""Hotspots: how many events of a period fall into places that a forecast flagged, against their share of the area."""

from typing import NamedTuple

import numpy as np

from ..errors import OptionError


class Hits(NamedTuple):
    """What a flag of places is worth for the events of one period."""

    places: int  # flagged
    area: float  # their share of the area
    events: float  # in them
    hits: float  # their share of all events
    pai: float  # hits / area
    pei: float  # pai over the largest that so much area can have


def flagged(score: np.ndarray, z: float | None = None, top: float | None = None) -> np.ndarray:
    """Places more than z standard deviations above the mean score, or the share `top` of them that score highest; (n,).

    Raises OptionError unless one of the two is given, and for a rule that flags no place.

    >>> import numpy as np
    >>> flagged(np.array([0.0, 0.0, 0.0, 9.0]), z=1.5)
    array([False, False, False,  True])
    """
    if (z is None) == (top is None):
        raise OptionError(f"z={z!r}, top={top!r}: give one of them, for example z=2 or top=0.05.")
    if top is not None:
        if not isinstance(top, int | float) or not 0 < top < 1:
            raise OptionError(f"top={top!r}: give a share of the places between 0 and 1, for example 0.05.")
        order = np.argsort(-score, kind="stable")
        flag = np.zeros(len(score), dtype=bool)
        flag[order[: max(1, round(top * len(score)))]] = True
        return flag
    if not isinstance(z, int | float):
        raise OptionError(f"z={z!r}: give a number of standard deviations, for example 2.")
    flag = np.asarray(score > score.mean() + z * score.std())
    if not flag.any():
        raise OptionError(
            f"z={z:g} flags no place: the highest score is {(score.max() - score.mean()) / score.std():.2f}."
        )
    return flag


def hits(flag: np.ndarray, events: np.ndarray, area: np.ndarray) -> Hits:
    """The prediction accuracy index and the prediction efficiency index of flagged places; (n,) each.

    PAI = (events flagged / all events) / (area flagged / all area), of Chainey, Tompson and Uhlig (2008), Security
    Journal 21; PEI = PAI / PAI*, of Hunt (2016), where PAI* flags the places with most events for their area, up to the
    area that was flagged.
    """
    total, whole = events.sum(), area.sum()
    order = np.lexsort((-events, -events / area))
    used = area[order].cumsum() <= area[flag].sum() * (1 + 1e-12)
    most = events[order][used].sum() / total / (area[flag].sum() / whole)
    share, found = float(area[flag].sum() / whole), float(events[flag].sum() / total)
    return Hits(int(flag.sum()), share, float(events[flag].sum()), found, found / share, found / share / most)


def recapture(flag: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """The recapture rate index: growth of the events in flagged places over growth of all events.

    Levine (2008), Security Journal 21.

    >>> import numpy as np
    >>> recapture(np.array([True, False]), np.array([4.0, 4.0]), np.array([3.0, 1.0]))
    1.5
    """
    return float(after[flag].sum() / before[flag].sum() / (after.sum() / before.sum()))
