"""Regression: least squares of scores on columns, with covariances that hold for few rows or clusters."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..curve import project
from ..errors import OptionError
from ..estimates import Estimates
from ..sampling import Moments
from .inputs import Sample

VCOVS = ("HC0", "HC1", "HC2", "HC3", "cluster", "CR3")


def regress(rows: Sample, columns: np.ndarray, names: Sequence[str], vcov: str | None = None) -> Estimates:
    """Coefficients of each score on columns (n, k), named "score: column", or "column" of a single score.

    vcov is "HC0" to "HC3" for rows on their own, the default being "HC3", and for clusters "cluster" (CR1, the default)
    or "CR3", the jackknife over clusters (MacKinnon, Nielsen and Webb 2023), of which "HC3" is the case with a cluster
    for each row. Raises OptionError for another, and for collinear columns.
    """
    clusters = rows.sampling.cluster.shape[1] if rows.sampling.kind == "cluster" else 0
    allowed = VCOVS[4:] if clusters else VCOVS[:4]
    vcov = ("cluster" if clusters else "HC3") if vcov is None else vcov
    if vcov not in allowed:
        raise OptionError(f"vcov={vcov!r}: {'with' if clusters else 'without'} clusters, allowed are {allowed}.")
    if vcov == "CR3" and clusters > 1:
        raise OptionError("vcov='CR3' leaves out one cluster at a time and knows one cluster variable; use 'cluster'.")
    score = torch.as_tensor(rows.score)[None]  # (1, n, m)
    psi = project(score, rows.sampling.weight, columns, names).flatten(2)
    labels = tuple(
        name if len(rows.names) == 1 else f"{one}: {name}" for one in rows.names for name in names
    )  # fmt: skip
    kind = vcov if vcov in ("HC0", "HC1", "cluster") else "HC0"
    sampling = replace(rows.sampling, kind=kind, parameters=len(names))
    known = None
    if vcov in ("HC2", "HC3", "CR3"):
        value, covariance = _adjusted(rows, psi[0], np.asarray(columns, dtype=np.float64), vcov)
        known = Moments(value[None], covariance[None])
    return Estimates(labels, psi, sampling, known=known, groupable=False)


def freedom(rows: Sample, columns: np.ndarray, hypothesis: np.ndarray) -> float:
    """Degrees of freedom of the robust covariance of `hypothesis` (q, k) times the coefficients on columns (n, k).

    A sum of squares is chi-squared with those of a Wishart matrix that has the same total variance, where errors of
    rows are normal with one variance (Pustejovsky and Tipton 2018, Journal of Business & Economic Statistics 36(4),
    approximate Hotelling test; leverages, of a smaller order, are left aside). With u the rows' parts of the estimate,
    scaled so that the sum of u u' is 1, and A its sum over a cluster, they are q (q + 1) over the sum of
    tr(A)^2 + tr(A^2); m scores together multiply q and the first part by m and m^2, the second by m. Of two clusters
    the fewer.
    """
    x, w, many = np.asarray(columns, dtype=np.float64), rows.weight / rows.weight.sum(), rows.score.shape[1]
    part = (x * w[:, None]) @ np.linalg.solve((x * w[:, None]).T @ x, hypothesis.T)  # (n, q)
    part = np.linalg.solve(np.linalg.cholesky(part.T @ part), part.T).T
    q = part.shape[1] * many
    size = (part**2).sum(1)
    if rows.sampling.kind != "cluster":
        return float(q * (q + 1) / ((many**2 + many) * (size**2).sum()))
    found = []
    for code in rows.sampling.cluster.numpy().T:
        within = np.stack([np.bincount(code, a * b) for a in part.T for b in part.T], 1)  # (G, q q)
        found.append(q * (q + 1) / (many**2 * np.bincount(code, size) @ np.bincount(code, size)
                                    + many * (within**2).sum()))  # fmt: skip
    return float(min(found))


def _adjusted(rows: Sample, psi: Tensor, columns: np.ndarray, vcov: str) -> tuple[Tensor, Tensor]:
    """Coefficients (m k,) and their covariance (m k, m k) from residuals that are divided by what leverage leaves."""
    x = torch.as_tensor(columns)
    share = rows.sampling.weight / rows.sampling.weight.sum()
    value = share @ psi  # (m k,)
    gram = x.T @ (x * share[:, None])
    part = (psi - value) * share[:, None]  # what each row moves the coefficients by, were it not leverage
    if vcov != "CR3":
        leverage = share * (x * torch.linalg.solve(gram, x.T).T).sum(1)  # (n,)
        left = (1 - leverage).clamp_min(0.0)
        moved = part / left[:, None] ** (0.5 if vcov == "HC2" else 1.0)
        if not bool(moved.isfinite().all()):
            raise OptionError(f"A row has columns that no other row has, so vcov={vcov!r} has no value; use 'HC1'.")
        return value, moved.T @ moved
    code = rows.sampling.cluster[:, 0]
    count, k = int(code.max()) + 1, x.shape[1]
    grams = torch.zeros(count, k, k, dtype=x.dtype).index_add(0, code, x[:, :, None] * (x * share[:, None])[:, None, :])
    sums = torch.zeros(count, psi.shape[1], dtype=x.dtype).index_add(0, code, part).unflatten(1, (-1, k))
    # sums are gram^-1 s with s the scores of the cluster; without it, gram^-1 s becomes (gram - its gram)^-1 s
    rest = gram - grams  # (G, k, k)
    if float(torch.linalg.eigvalsh(rest)[:, 0].min()) <= 1e-12 * float(torch.linalg.eigvalsh(gram)[-1]):
        raise OptionError("Without one of the clusters the columns are collinear, so vcov='CR3' has no value.")
    moved = torch.linalg.solve(rest[:, None], (gram @ sums[..., None]))[..., 0].flatten(1)
    return value, moved.T @ moved
