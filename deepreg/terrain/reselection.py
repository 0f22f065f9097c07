"""Reselection: a search over columns again in bootstrap samples, all samples at once."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..errors import OptionError
from ..report.printed import Printed
from ..report.summary import Summary
from ..report.table import Table
from ..seeds import generator
from ..submodels import IndexLoss
from ..units import blocks
from .factors import Candidates

SURE = 5.0  # standard errors of a difference of BIC behind which no sample prefers a candidate
SLACK = 10.0  # of the BIC, added to them
REFITTED = 10  # candidates fitted to each sample
ENTRIES = 2_000_000  # scores held at a time


@dataclass(frozen=True, repr=False, eq=False)
class Stability(Printed):
    """How often bootstrap samples chose each column, and each combination of them."""

    columns: pd.DataFrame  # set, column, share of the samples, and whether it is the fit's
    models: pd.DataFrame  # a column for each set, and the share, most frequent first
    draws: int
    looked: int  # candidates that a sample could prefer
    of: int  # candidates

    def summary(self) -> Summary:
        """Both tables; of the combinations, the ten most frequent."""
        shares = Table.from_frame(self.columns.set_index("column"), title="Share of samples that choose a column",
                                  formats={"share": ".2f"})  # fmt: skip
        shown = self.models.head(10)
        models = Table.from_frame(shown.set_axis(range(1, len(shown) + 1)), formats={"share": ".2f"},
                                  title="Share of samples that choose a model")  # fmt: skip
        header = (("Bootstrap samples:", f"{self.draws:,}"), ("Candidates:", f"{self.looked:,} of {self.of:,}"))
        return Summary("Stability of the selection", header, (shares, models))

    def as_text(self) -> str:
        return self.summary().as_text()

    def as_html(self) -> str:
        return self.summary().as_html()

    def as_latex(self) -> str:
        return self.summary().as_latex()


def reselect(pool: Candidates, draws: int, rng: object) -> Stability:
    """The search again with multinomial weights of the rows; see Terrain.stability."""
    if not isinstance(draws, int) or draws < 2:
        raise OptionError(f"draws={draws!r}: give a number of bootstrap samples, for example 100.")
    n = len(pool.models.units.y)
    counts = generator(rng).multinomial(n, np.full(n, 1 / n), size=draws)
    share = torch.from_numpy(counts / n)  # (B, n)
    positions, theta = _possible(pool)
    rough = screened(pool, positions, theta, share)  # (C, B)
    first = rough.argsort(0)[:REFITTED]  # (R, B)
    which, sample = first.T.reshape(-1), torch.arange(draws).repeat_interleave(len(first))
    columns = pool.columns(positions[which.numpy()])
    fits = pool.models.fit(columns, share, theta[which], sample)
    values = pool.values_of(fits.loss, fits.theta, columns, n).reshape(draws, -1)  # (B, R)
    best = which.reshape(draws, -1)[torch.arange(draws), values.argmin(1)]
    chosen = positions[best.numpy()]  # (B, S)
    return _tabled(pool, chosen, len(positions))


def _possible(pool: Candidates) -> tuple[np.ndarray, Tensor]:
    """The candidates that some sample could prefer to the best one, and their theta."""
    values, models = pool.values, pool.models
    order = np.flatnonzero(np.isfinite(values))
    order = order[np.argsort(values[order], kind="stable")]
    n, flat = len(models.units.y), torch.ones_like(models.units.y)[None]
    reference, spread = None, []
    positions, theta = pool.positions[order], pool.theta[torch.from_numpy(order)]
    for part in blocks(len(positions), max(1, ENTRIES // n)):
        loss = _rows(pool, positions[part], theta[part], flat)[0]
        reference = loss[:1] if reference is None else reference
        spread.append((loss - reference).std(1) * n**0.5)
    behind = values[order] - values[order[0]]
    kept = behind <= SLACK + SURE * 2 * torch.cat(spread).numpy()
    return positions[kept], theta[torch.from_numpy(kept)]


def _rows(pool: Candidates, positions: np.ndarray, theta: Tensor, share: Tensor) -> tuple[Tensor, IndexLoss, tuple]:
    """The loss of each row (C, n) at theta, the loss object, and its natural arguments."""
    models = pool.models
    loss = IndexLoss(models.family, models.units, models.regressors(pool.columns(positions)), share)
    z = loss.natural(theta)
    return models.family.natural_loss(models.units, *z), loss, z


def screened(pool: Candidates, positions: np.ndarray, theta: Tensor, share: Tensor) -> Tensor:
    """The BIC in each sample, less a constant, after one Newton step with the Hessian of all rows; (C, B)."""
    models, found = pool.models, []
    n, flat = len(models.units.y), torch.ones_like(models.units.y)[None] / len(models.units.y)
    for part in blocks(len(positions), max(1, ENTRIES // (n * theta.shape[1]))):
        each, loss, z = _rows(pool, positions[part], theta[part], flat)
        score = models.family.natural_derivatives(models.units, *z)[0]
        turned = (loss.d * score[0][:, None]) @ share.T  # (C, K, B)
        rest = [(one.expand_as(each) @ share.T)[:, None] for one in score[1:]]
        gradient = torch.cat([turned, *rest], 1)
        hessian = loss.derivatives(theta[part])[1]
        none = torch.cat([pool.columns(positions[part]) < 0, hessian.new_zeros(len(each), len(rest)).bool()], 1)
        hessian = hessian + torch.diag_embed(none.to(hessian))
        gain = (gradient * torch.linalg.solve(hessian, gradient)).sum(1) / 2
        size = pool.base + (pool.columns(positions[part])[:, pool.base :] >= 0).sum(1)
        found.append(2 * n * (each @ share.T - gain) + size[:, None].to(each) * float(np.log(n)))
    return torch.cat(found)


def _tabled(pool: Candidates, chosen: np.ndarray, looked: int) -> Stability:
    draws, named, rows = len(chosen), pool.named(), []
    fitted = pool.found.best
    for s, name in enumerate(pool.names):
        for at, times in Counter(chosen[:, s].tolist()).most_common():
            column = named[s][at]
            rows.append((name, column or "none", times / draws, "yes" if column == fitted[name] else ""))
    columns = pd.DataFrame(rows, columns=["set", "column", "share", "chosen by the fit"])
    every = Counter(map(tuple, chosen.tolist())).most_common()
    models = pd.DataFrame(
        [[named[s][at] or "none" for s, at in enumerate(one)] for one, _ in every], columns=list(pool.names)
    )
    models["share"] = [times / draws for _, times in every]
    return Stability(columns, models, draws, looked, int(np.prod(pool.shape)))
