"""Curves: the targeting operator characteristic and gains over the share treated, with bands."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..errors import OptionError
from ..report.table import Table
from .diagnostic import Diagnostic
from .inputs import MANY, Sample, sample
from .ranking import Ranking

KINDS = {
    "toc": "Targeting operator characteristic",
    "gain": "Cumulative gain",
    "relative": "Gain over treating at random",
}


@dataclass(frozen=True, repr=False)
class Curve(Diagnostic):
    """A curve over the share treated, highest priority first; `estimates` has a point for each share and effect."""

    kind: str = "toc"
    share: np.ndarray = field(default_factory=lambda: np.ones(1))  # (q,) between 0 and 1
    names: tuple[str, ...] = ("effect",)
    seed: object = 0  # of the draws of the bands that are printed

    @property
    def title(self) -> str:
        return KINDS[self.kind]

    def effect(self, name: str | None = None) -> "Curve":
        """The curve of one effect, where there are several. Raises OptionError for an unknown name."""
        if len(self.names) == 1 and name in (None, *self.names):
            return self
        if name not in self.names:
            raise OptionError(f"effect={name!r}: the effects are {', '.join(map(repr, self.names))}.")
        j, q = self.names.index(name), len(self.share)
        some = self.estimates.select(self.estimates.names[j * q : (j + 1) * q])
        return Curve(some, self.notes, self.kind, self.share, (name,), self.seed)

    def band(self, alpha: float = 0.05, draws: int = 9999, rng: object = None) -> pd.DataFrame:
        """Limits that hold a whole curve with probability 1 - alpha: lower and upper, one row for each point.

        By Gaussian multipliers, as `Estimates.band`; `rng` is the seed of the curve unless given.
        """
        found = [
            self.effect(name).estimates.band(alpha, draws, self.seed if rng is None else rng)[["lower", "upper"]]
            for name in self.names
        ]
        return pd.concat(found)

    def frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """coef, std err, z, P>|z|, the interval of each point, and lower and upper of the band, by effect and share."""
        table = pd.concat([self.estimates.frame(alpha), self.band(alpha)], axis=1)
        index = pd.MultiIndex.from_product([self.names, self.share], names=["effect", "share"])
        table = table.set_axis(index)
        return table.droplevel("effect") if len(self.names) == 1 else table

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        """About ten points of each curve."""
        step = max(len(self.share) // 10, 1)
        shown = np.arange(len(self.share))[::-1][::step][::-1]
        parts = []
        for name in self.names:
            table = self.effect(name).frame(alpha).iloc[shown].drop(columns=["z", "P>|z|"])
            table = table.set_axis([f"{q:.2f}" for q in self.share[shown]])
            parts.append(Table.from_frame(table, title=name if len(self.names) > 1 else ""))
        return tuple(parts)


def toc(
    scores: object, priority: object, *, share: Sequence[float] | None = None, weights: object = None,
    cluster: object = None, seed: object = 0,
) -> Curve:  # fmt: skip
    """The targeting operator characteristic: the average effect of the top share q less the average of all.

    Parameters
    ----------
    scores : (n,) or (n, k)
        Orthogonal scores, a column for each effect; see `rate`.
    priority : (n,) or (n, k)
        Numbers known before the outcome, highest first.
    share : sequence of float, optional
        Increasing shares treated, above 0 and up to 1. By default 0.05, 0.06, ..., 1, from where the top holds 30 rows;
        of more than 100,000 rows 0.05, 0.1, ..., 1, since each share takes a number for each row.
    weights, cluster
        As in `rate`.
    seed : optional
        Of the draws of the band; whatever numpy's default_rng takes.

    Returns
    -------
    Curve
        With frame(), which has intervals of each point and a band that holds them all together.

    Raises
    ------
    DataError
        For missing values, with the number of rows, and for inputs of different rows.
    OptionError
        For shares out of order or out of range.

    Notes
    -----
    The influence value of G(q), the mean of score times being in the top q, is 1{in the top q} (score - s_q) + q s_q,
    with s_q the mean score around rank q; that of TOC(q) = G(q) / q - G(1) follows. The term with s_q is there because
    the border of the top q is estimated. TOC(1) is 0 with an error of 0. Estimates equal those of grf; see Yadlowsky
    et al. (2025), Journal of the American Statistical Association 120(549).

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import toc
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> toc(x + rng.normal(size=500), x, share=[0.5, 1]).frame()["coef"].round(2).tolist()
    [0.84, 0.0]
    """
    return _curve("toc", scores, priority, share, weights, cluster, seed)


def gain(
    scores: object, priority: object, *, relative: bool = False, share: Sequence[float] | None = None,
    weights: object = None, cluster: object = None, seed: object = 0,
) -> Curve:  # fmt: skip
    """The cumulative gain G(q): the average over all rows of the effects of the top share q; G(1) is the average.

    With `relative` it is G(q) - q G(1), the gain over treating the same share at random, which is 0 at 1. The other
    arguments, what is returned, what raises and the influence values are those of `toc`.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import gain
    >>> gain([1.0, 2.0, 3.0, 4.0], [1, 2, 3, 4], share=[0.25, 0.5, 1]).estimate.tolist()
    [1.0, 1.75, 2.5]
    """
    return _curve("relative" if relative else "gain", scores, priority, share, weights, cluster, seed)


def shares(given: Sequence[float] | None, n: int) -> np.ndarray:
    """The shares where a curve is shown; (q,). OptionError unless they increase, above 0 and up to 1."""
    if given is None:
        usual = np.arange(5, 101) / 100 if n <= MANY else np.arange(1, 21) / 20
        return usual[(usual >= min(30 / n, 0.5)) | (usual == 1)]
    found = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if found.ndim != 1 or not len(found) or not (found > 0).all() or found[-1] > 1 or (np.diff(found) <= 0).any():
        raise OptionError(f"share={given!r}: give increasing numbers above 0 and up to 1, for example [0.1, 0.5, 1].")
    return found


def _curve(
    kind: str, scores: object, priority: object, share: Sequence[float] | None, weights: object, cluster: object,
    seed: object,
) -> Curve:  # fmt: skip
    rows = sample(scores, weights, cluster, priority=priority)
    at, columns = shares(share, rows.n), rows.priorities(priority)
    psi = [influence(kind, rows, j, columns[:, j], at) for j in range(len(rows.names))]
    names = tuple(rows.label(f"{q:.10g}", j) for j in range(len(rows.names)) for q in at)
    return Curve(rows.estimates(names, np.concatenate(psi, 1)), (), kind, at, rows.names, seed)


def influence(kind: str, rows: Sample, j: int, priority: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Influence values of a curve at the shares (q,), around the curve; (n, q).

    With p the part of a row in the top q and s_q the mean score at its border, they are (p - q) (score - s_q) for the
    gain over treating at random, that plus q score for the gain, and that over q for the TOC.
    """
    ranking, score = Ranking.of(priority, rows.weight), rows.score[:, j]
    piece, part = ranking.pieces(share)
    part = part - share
    part[np.abs(part) < 1e-15] = 0.0  # a constant priority says nothing, not a rounding error
    if kind == "toc":
        part = part / share
    slope = part + share if kind == "gain" else part
    place = ranking.unsorted(piece)
    psi = slope[place]
    psi *= score[:, None]
    psi -= (part * _at_border(ranking, ranking.sorted(score), share))[place]
    return psi


def _at_border(ranking: Ranking, score: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The mean score of rows ranked around each share; (q,).

    The window has n^(4/5) / 4 rows and at least 20 on either side, as far as there are such.
    """
    n = len(score)
    half = max(20.0, n**0.8 / 4) / n
    low, high = np.clip(share - half, 0, 1), np.clip(share + half, 0, 1)
    found = (ranking.gain(score, high) - ranking.gain(score, low)) / (high - low)
    return np.asarray(found)
