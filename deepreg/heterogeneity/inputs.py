"""Inputs: scores, priorities, weights and clusters as arrays of the same rows, refused where they are not."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..errors import DataError, OptionError
from ..estimates import Estimates
from ..sampling import Moments, Sampling

MANY = 100_000  # rows of which a curve has fewer points, since each takes a number for each row


@dataclass(frozen=True)
class Sample:
    """Scores of n rows for k effects, and how the rows were sampled."""

    score: np.ndarray  # (n, k)
    names: tuple[str, ...]  # (k,)
    sampling: Sampling

    @property
    def n(self) -> int:
        return len(self.score)

    @property
    def weight(self) -> np.ndarray:
        return self.sampling.weight.numpy()

    @property
    def extreme(self) -> float:
        """The share of the scores' variance that is in the 1% of rows farthest from the mean, of the worst effect."""
        away = (self.score - self.score.mean(0)) ** 2
        few = np.sort(away, 0)[-max(self.n // 100, 1) :].sum(0)
        return float((few / np.where(away.sum(0) > 0, away.sum(0), np.inf)).max())

    def column(self, given: object, name: str) -> np.ndarray:
        """One finite number for each row; (n,)."""
        values = array(given, name)
        if values.shape not in ((self.n,), (self.n, 1)):
            raise DataError(
                f"{name} has shape {values.shape}, but there are {self.n} scores; give one number for each of them."
            )
        return values.reshape(-1)

    def priorities(self, given: object) -> np.ndarray:
        """A priority for each effect, the same for all where one is given; (n, k)."""
        values = array(given, "priority")
        if values.shape not in ((self.n,), (self.n, 1), self.score.shape):
            raise DataError(
                f"priority has shape {values.shape}, but scores has {self.score.shape}; give one number for each row, "
                "or one for each row and score."
            )
        return np.broadcast_to(values.reshape(self.n, -1), self.score.shape)

    def estimates(self, names: tuple[str, ...], psi: np.ndarray, parameters: int = 1) -> Estimates:
        """Estimates of influence values (n, q) whose weighted means they are."""
        sampling = replace(self.sampling, parameters=parameters)
        return Estimates(names, torch.as_tensor(np.ascontiguousarray(psi))[None], sampling, groupable=False)

    def some(self, keep: np.ndarray) -> "Sample":
        """The rows where `keep` (n,) is true."""
        if keep.sum() < 2:
            raise DataError(f"{int(keep.sum())} of {self.n} rows are left, and an error needs two or more.")
        cluster = self.sampling.cluster[torch.as_tensor(keep)]
        if self.sampling.kind == "cluster":
            cluster = torch.stack([torch.unique(c, return_inverse=True)[1] for c in cluster.unbind(1)], 1)
        sampling = replace(self.sampling, weight=self.sampling.weight[torch.as_tensor(keep)], cluster=cluster, ways=())
        return Sample(self.score[keep], self.names, sampling)

    def label(self, what: str, j: int) -> str:
        """What is estimated, of the j-th effect where there are several."""
        return what if len(self.names) == 1 else f"{what}: {self.names[j]}"


def sample(scores: object, weights: object = None, cluster: object = None, **beside: object) -> Sample:
    """Scores (n,) or (n, k) with positive weights (n,) and one or two clusters (n,) or (n, 2).

    `beside` are further inputs by the names of their arguments: what pandas labels has to have the same labels.
    What is a Sample already is returned as it is. Raises DataError for missing values, with their number, and for rows
    that do not match.
    """
    if isinstance(scores, Sample):
        return scores
    _same_rows({"scores": scores, "weights": weights, "cluster": cluster, **beside})
    score = array(scores, "scores")
    if score.ndim not in (1, 2) or not score.size:
        raise DataError(f"scores has shape {score.shape}; give one row for each unit and one column for each effect.")
    score = score.reshape(len(score), -1)
    n = len(score)
    if n < 2:
        raise DataError(f"scores has {n} row; an error needs two or more.")
    weight = np.ones(n) if weights is None else array(weights, "weights")
    if weight.shape != (n,) or not (weight > 0).all():
        bad = int((weight <= 0).sum()) if weight.shape == (n,) else 0
        raise DataError(
            f"weights has shape {weight.shape} and {bad} values of 0 or less; give {n} positive numbers, and leave out "
            "rows that have no weight."
        )
    names = _names(scores, score.shape[1])
    codes = np.zeros((n, 0), dtype=np.int64) if cluster is None else _codes(cluster, n)
    kind = "cluster" if codes.shape[1] else "HC1"
    return Sample(score, names, Sampling(torch.as_tensor(weight), torch.as_tensor(codes), kind))


def array(given: object, name: str) -> np.ndarray:
    """Finite float64 numbers of whatever numpy reads; DataError with the number of rows where they are not."""
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    try:
        values = np.array(given, dtype=np.float64)  # a copy: what pandas lends cannot be written to
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be read as numbers ({error}); give numbers.") from None
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).reshape(len(values), -1).any(1).sum())
        raise DataError(
            f"{name} has missing or infinite values in {bad} of {len(values)} rows. Leave those rows out of everything "
            "that is given, or predict them first."
        )
    return values


def codes(given: object, n: int, name: str) -> tuple[np.ndarray, pd.Index]:
    """Codes 0, 1, ... of n labels in their order, and the labels; DataError where one is missing."""
    values = pd.Series(np.asarray(given))
    if len(values) != n:
        raise DataError(f"{name} has {len(values)} labels, but there are {n} scores; give one for each of them.")
    if values.isna().any():
        raise DataError(f"{name} has {int(values.isna().sum())} missing labels of {n}; fill them or leave them out.")
    found = pd.Categorical(values)
    return np.asarray(found.codes, dtype=np.int64), found.categories


def stacked(several: list[Estimates]) -> Estimates:
    """The same estimates from each repeat of cross-fitting as one: medians over the repeats, see Estimates."""
    if len(several) == 1:
        return several[0]
    first = several[0]
    psi = torch.cat([one.psi for one in several if one.psi is not None])
    known = Moments(*(torch.cat(parts) for parts in zip(*(one.moments for one in several), strict=True)))
    return Estimates(first.names, psi, first.sampling, null=first.null, known=known, groupable=False)


def _names(scores: Any, k: int) -> tuple[str, ...]:
    if isinstance(scores, pd.DataFrame):
        return tuple(map(str, scores.columns))
    return ("effect",) if k == 1 else tuple(f"effect {j + 1}" for j in range(k))


def _codes(cluster: object, n: int) -> np.ndarray:
    table = pd.DataFrame(np.asarray(cluster).reshape(len(np.asarray(cluster)), -1))
    if len(table.columns) > 2:
        raise DataError(f"cluster has {len(table.columns)} columns; give one or two.")
    found = np.stack([codes(table[name], n, "cluster")[0] for name in table], 1)
    if (few := found.max(0) < 1).any():
        raise DataError(
            f"cluster has one cluster{' in a column' if len(few) > 1 else ''} in {n} rows; errors need at least two. "
            "Leave cluster= out."
        )
    return found


def _same_rows(given: Mapping[str, object]) -> None:
    """Labels of rows are no decoration: two inputs with different ones are different rows."""
    labelled = {name: one.index for name, one in given.items() if isinstance(one, pd.Series | pd.DataFrame)}
    for name, index in labelled.items():
        first, labels = next(iter(labelled.items()))
        if not index.equals(labels):
            raise OptionError(
                f"{name} has another index than {first}. Type {name}.loc[{first}.index] to match rows by their labels, "
                f"or {name}.to_numpy() where the rows are in the same order already."
            )
