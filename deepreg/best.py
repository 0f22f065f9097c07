"""The best of several estimates, and which of the others cannot be told from it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from . import multiple
from .errors import OptionError
from .estimates import Estimates
from .level import check_alpha

CLEAR = 1e-4  # a p-value below it is left at its Bonferroni bound


class Best(NamedTuple):
    """The largest of some estimates, and the others that may be the largest in truth."""

    name: str
    coef: float
    rivals: tuple[str, ...]  # those that cannot be told from the best, largest first
    table: pd.DataFrame  # all of them, largest first

    def __str__(self) -> str:
        others = "\n".join(f"  {name}: {self.table.coef[name]:.4g}" for name in self.rivals) or "  none"
        return f"Best: {self.name}, {self.coef:.4g}\nNot told from it:\n{others}"


def best_combination(
    estimates: Estimates, *, base: str | None = "base", smallest: bool = False, alpha: float = 0.05,
    draws: int = 9999, rng: object = 0,
) -> Best:  # fmt: skip
    """The largest of the estimates, and the set of those that hold the largest in truth with probability 1 - alpha.

    "k is the best" is rejected where max_j (value_j - value_k) / se(j - k) is above the 1 - alpha quantile of the
    same maximum under equality, by Gaussian multipliers with the covariance of the estimates. What is not rejected is
    the confidence set of Hsu's (1984) multiple comparisons with the best, for estimates that are correlated. The table
    has coef, std err, behind (the best estimate less this one), P(best) (the p-value of "k is the best") and in set;
    lower and upper are the joint band of all, so that those of the best are valid although it was chosen.

    Parameters
    ----------
    estimates : Estimates
        For example `result.estimate(targets.Combinations())`.
    base : str or None
        What to call the base, whose effect of 0 competes with the estimates; None where they are no effects against a
        base, such as those of the target Mean.
    smallest : bool
        Whether the smallest is the best, as for costs.
    alpha, draws, rng
        As in `Estimates.band`.

    Returns
    -------
    Best
        With name, coef, rivals and table.

    Raises
    ------
    OptionError
        For fewer than two alternatives, a name of the base that an estimate has, or an estimate without an error.

    References
    ----------
    Hsu (1984), Annals of Statistics 12(3); Chernozhukov, Chetverikov and Kato (2013), Annals of Statistics 41(6).

    Examples
    --------
    >>> import torch
    >>> from deepreg import best_combination
    >>> from deepreg.estimates import Estimates
    >>> from deepreg.sampling import Sampling
    >>> noise = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> psi = noise + torch.tensor([1.0, 1.02, 0.2])
    >>> several = Estimates(("a", "b", "c"), psi, Sampling(torch.ones(400), torch.zeros(400, 0).long(), "HC1"))
    >>> best_combination(several).rivals
    ('a',)
    """
    alpha = check_alpha(alpha)
    names = (*estimates.names, *(() if base is None else (base,)))
    if len(names) < 2 or len(set(names)) < len(names):
        raise OptionError(
            f"best_combination() compares {', '.join(map(repr, names))}, base={base!r} among them: give two or more "
            "with different names."
        )
    if not np.isfinite(estimates.std_error).all():
        none = estimates.names[int(np.flatnonzero(~np.isfinite(estimates.std_error))[0])]
        raise OptionError(f"best_combination(): {none} has no standard error; select() the other estimates.")
    more = int(base is not None)
    value, cov = np.pad(estimates.value, (0, more)), np.pad(estimates.cov, (0, more))
    chance = _chances(-value if smallest else value, cov, draws, rng)
    behind = value - value.min() if smallest else value.max() - value
    band = estimates.band(alpha, draws, rng)
    table = pd.DataFrame(
        {
            "coef": value, "std err": np.sqrt(np.diag(cov)), "behind": behind, "P(best)": chance,
            "in set": chance > alpha,
            "lower": np.pad(band.lower.to_numpy(), (0, more)), "upper": np.pad(band.upper.to_numpy(), (0, more)),
        },
        index=list(names),
    ).iloc[np.argsort(behind, kind="stable")]  # fmt: skip
    rivals = tuple(str(name) for name in table.index[1:][table["in set"].to_numpy()[1:]])
    return Best(str(table.index[0]), float(table.coef.iloc[0]), rivals, table)


def _chances(value: np.ndarray, cov: np.ndarray, draws: int, rng: object) -> np.ndarray:
    """For each k, the p-value of value_k being the largest: no value_j exceeds it; (q,)."""
    variance = np.diag(cov)
    error = np.sqrt(np.clip(variance[:, None] + variance - 2 * cov, 0, None))  # [k, j], of the difference
    known = error <= 1e-12 * np.sqrt(variance.max())
    gap = value - value[:, None]  # [k, j] = value_j - value_k
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(known, np.where(gap > 0, np.inf, -np.inf), gap / error)
    most = z.max(1)
    found = np.minimum((len(value) - 1) * stats.norm.sf(most), 1.0)
    near = np.flatnonzero((found >= CLEAR) & (most > 0))
    found[most <= 0] = 1.0  # the best itself
    if len(near):
        normal = multiple.normal_draws(cov, draws, rng)  # (draws, q)
        for k in near:
            others = ~known[k]
            null = ((normal[:, others] - normal[:, [k]]) / error[k, others]).max(1)
            found[k] = (1 + (null >= most[k]).sum()) / (1 + draws)
    return found
