"""What flexibility changed: a fit beside another of the same rows, and the difference with its error."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from .errors import AGAIN, DataError, NotAvailable, OptionError
from .estimates import Estimates
from .report.table import Table
from .wald import WaldTest


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Coefficients of two fits to the same rows, their differences, and a test that all of these are 0.

    The errors of the differences are those of the difference of the two fits' influence functions, so they hold
    whether or not either fit is right, and whatever the correlation of the two.
    """

    difference: Estimates
    ours: np.ndarray  # (q,)
    theirs: np.ndarray  # (q,)

    @property
    def test(self) -> WaldTest | None:
        """The Wald test that no coefficient differs; None where no difference has a variance."""
        varying = [name for name, error in zip(self.difference.names, self.difference.std_error, strict=True)
                   if error > 0]  # fmt: skip
        return self.difference.select(varying).wald("no difference") if varying else None

    def frame(self) -> pd.DataFrame:
        """Columns coef, other, difference, std err, z and P>|z|."""
        columns = {
            "coef": self.ours, "other": self.theirs, "difference": self.difference.value,
            "std err": self.difference.std_error, "z": self.difference.zvalues, "P>|z|": self.difference.pvalues,
        }  # fmt: skip
        return pd.DataFrame(columns, index=list(self.difference.names))

    def table(self) -> Table:
        """The frame with its formats, and the joint test as a note."""
        test = self.test
        same = bool((self.difference.std_error == 0).all())
        note = (
            f"{test}." if test else "The two fits are the same." if same else "No difference has an error to test by."
        )
        return Table.from_frame(self.frame(), title="Comparison with another fit", notes=(note,))

    def __str__(self) -> str:
        return self.table().as_text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table().as_html()


def compare(ours: Estimates, other: Any, names: Mapping[str, str] | None, outcome: pd.Series) -> Comparison:
    """Compare average coefficients with the coefficients of a statsmodels fit to the same rows.

    `names` maps our names to those of the other fit; by default what has the same name in both is compared, but for
    the intercept, which depends on where the regressors have their origin. The other fit is a statsmodels result of a
    linear, discrete or generalised linear model; its influence function is -n H^{-1} s_i with its own scores s_i and
    Hessian H. Raises OptionError for another object or for names that are not there, DataError where the rows or the
    outcome are not the same.
    """
    if ours.psi is None or ours.rows is None:
        raise NotAvailable(f"compare() needs the rows of the fit, which were not saved. {AGAIN}")
    found = influence(other)
    common = [name for name in ours.names if name in found]
    chosen = {name: name for name in common if name != "Intercept"} if names is None else dict(names)
    for pair in chosen.items():
        for name, known, whose in zip(pair, (ours.names, tuple(found)), ("this fit", "the other fit"), strict=True):
            if name not in known:
                raise OptionError(f"names=: {name!r} is no coefficient of {whose}; there are {', '.join(known)}.")
    if not chosen:
        raise OptionError(
            f"No slope has the same name in both: {', '.join(ours.names)} here, {', '.join(found)} there. Say "
            f"which are the same, for example names={{{ours.names[-1]!r}: {next(iter(found.columns[-1:]))!r}}}."
        )
    mine = ours.select(list(chosen))
    if not (ours.rows.is_unique and found.index.is_unique and set(ours.rows) == set(found.index)):
        raise DataError(
            f"The fits use other rows: {len(ours.rows)} here, {len(found)} there, "
            f"{len(ours.rows.intersection(found.index))} in both by their index. Fit both to the same rows, for "
            "example to data without missing values, with an index that names each row once."
        )
    endog = pd.Series(np.asarray(other.model.endog, np.float64), found.index)[ours.rows]
    if not np.allclose(endog, outcome[ours.rows], rtol=1e-9, atol=0):
        raise DataError(f"The other fit has another outcome, {other.model.endog_names}. Fit both to the same one.")
    theirs = np.array([float(other.params[name]) for name in chosen.values()])
    moved = found.loc[ours.rows, list(chosen.values())].to_numpy(np.float64)  # (n, q), of sum 0
    weight = mine.sampling.weight.cpu() / mine.sampling.weight.sum().cpu()
    psi = torch.from_numpy(theirs) + torch.from_numpy(moved / len(moved)) / weight[:, None]
    assert mine.psi is not None
    gap = mine.psi - psi.to(mine.psi)
    same = gap.std(1, keepdim=True) < 1e-9 * mine.psi.std(1, keepdim=True)  # what rounding leaves of two equal fits
    gap = torch.where(same, 0.0, gap)
    return Comparison(
        replace(mine, psi=gap, known=None, plug_in=None, groupable=False, shared=None), mine.value, theirs
    )


def influence(other: Any) -> pd.DataFrame:
    """n times what each row adds to the coefficients of a statsmodels fit; a row for each row, a column for each."""
    model, params = getattr(other, "model", None), getattr(other, "params", None)
    if model is None or not isinstance(params, pd.Series) or not hasattr(model, "data"):
        raise OptionError(
            f"compare() takes a statsmodels result fitted with a formula or a DataFrame, not {type(other).__name__}; "
            "for example smf.ols('y ~ t + x', data).fit()."
        )
    from statsmodels.regression.linear_model import WLS

    if isinstance(model, WLS):  # OLS is one; a quantile regression has the same attributes and other scores
        x = np.asarray(model.wexog)
        score, hessian = x * (np.asarray(model.wendog) - x @ params.to_numpy())[:, None], -(x.T @ x)
    elif hasattr(model, "score_obs") and hasattr(model, "hessian"):
        score, hessian = np.asarray(model.score_obs(params.to_numpy())), np.asarray(model.hessian(params.to_numpy()))
    else:
        raise OptionError(
            f"compare() needs the scores of the other fit, which {type(model).__name__} does not give; use ols, wls, "
            "logit, probit, poisson or glm."
        )
    if (np.abs(score.sum(0)) > 1e-4 * np.abs(score).sum(0)).any():
        raise OptionError(
            "compare() needs the maximum of a likelihood, but the scores of the other fit do not sum to 0: it is "
            "penalised or constrained, or has not converged. Fit it without."
        )
    labels = model.data.row_labels
    labels = pd.RangeIndex(len(score)) if labels is None else pd.Index(labels)
    return pd.DataFrame(-len(score) * np.linalg.solve(hessian, score.T).T, index=labels, columns=params.index)
