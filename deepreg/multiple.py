"""Several tests at once: draws of their joint null law, and p-values adjusted for there being several."""

import numpy as np
from scipy import stats

from .errors import OptionError
from .seeds import generator

ADJUSTMENTS = ("holm", "romano_wolf", "bonferroni", "sidak", "hommel", "fdr_bh", "fdr_by")


def known(method: object, name: str, none: bool = False) -> None:
    """Raise OptionError unless `method` is an adjustment, or None where that is allowed."""
    if method not in ADJUSTMENTS and not (none and method is None):
        allowed = ", ".join(map(repr, (*((None,) if none else ()), *ADJUSTMENTS)))
        raise OptionError(f"{name}={method!r} is no adjustment of p-values; allowed are {allowed}.")


def null_draws(correlation: np.ndarray, draws: int, rng: object) -> np.ndarray:
    """|z| of q tests under the joint null, by Gaussian multipliers (Chernozhukov, Chetverikov and Kato 2013).

    correlation is (q, q), with zeros for what has no variance; returns (draws, q).
    """
    return np.abs(normal_draws(correlation, draws, rng))


def normal_draws(covariance: np.ndarray, draws: int, rng: object) -> np.ndarray:
    """Draws of a normal law of mean 0; (q, q) -> (draws, q)."""
    if not isinstance(draws, int | np.integer) or draws < 1:
        raise OptionError(f"draws={draws!r}: give a whole number of multiplier draws above 0, for example 9999.")
    normal = generator(rng).standard_normal((draws, len(covariance)))
    values, vectors = np.linalg.eigh(covariance)
    return normal @ (vectors * np.sqrt(np.clip(values, 0, None))).T


def adjust(z: np.ndarray, correlation: np.ndarray, method: str, draws: int, rng: object) -> np.ndarray:
    """Two-sided p-values of z (q,) adjusted for there being q tests; (q,). See Estimates.adjust."""
    known(method, "method")
    if method != "romano_wolf":
        from statsmodels.stats.multitest import multipletests

        return multipletests(2 * stats.norm.sf(np.abs(z)), method=method)[1]
    order = np.argsort(-np.abs(z), kind="stable")
    null = null_draws(correlation, draws, rng)[:, order]
    most = np.maximum.accumulate(null[:, ::-1], 1)[:, ::-1]  # the largest among those not yet rejected
    chance = (1 + (most >= np.abs(z)[order]).sum(0)) / (1 + draws)
    found = np.empty(len(z))
    found[order] = np.maximum.accumulate(chance)
    return found
