"""Sampling: the mean of influence values and its covariance, for rows with weights and in clusters."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ROUNDING = 64 * np.finfo(np.float64).eps  # of the terms that cancel, what is left of a variance without digits

_ROWS = 16384  # at a time, so that their values stay in the processor's memory


class Moments(NamedTuple):
    """The estimates of every repeat and their covariance in it: all that functions of estimates and tests need."""

    value: Tensor  # (R, q)
    covariance: Tensor  # (R, q, q)

    def turned(self, turn: Tensor, value: Tensor) -> "Moments":
        """`value` (R, r), of which turn (R or 1, r, q) is the derivative at the estimates."""
        covariance = turn @ self.covariance @ turn.mT
        size = (turn.abs() @ self.covariance.diagonal(dim1=1, dim2=2).abs().sqrt()[..., None])[..., 0]
        below = covariance.abs() <= _ROUNDING * size[:, :, None] * size[:, None, :]
        return Moments(value, torch.where(below, 0.0, covariance))


@dataclass(frozen=True)
class Sampling:
    """How rows were sampled: weights, clusters and the small-sample factor of the covariance.

    kind "HC0" has no factor; "HC1" n/(n - parameters); "cluster" G/(G - 1) (n - 1)/(n - parameters) with one or two
    cluster variables. An average of influence values has one parameter, so that "HC1" divides by n - 1.
    """

    weight: Tensor  # (n,)
    cluster: Tensor  # (n, 0|1|2) long
    kind: str
    parameters: int = 1
    ways: tuple[tuple[str, int], ...] = ()  # name and number of the clusters, () where they are unknown

    def moments(self, psi: Tensor) -> Moments:
        """The weighted mean of psi and its covariance, on the CPU; (R, n, q) -> (R, q) and (R, q, q)."""
        mean = self._mean(psi)
        return Moments(mean.cpu(), self.covariance(psi, mean).cpu())

    def _mean(self, psi: Tensor) -> Tensor:
        return (psi * (self.weight / self.weight.sum())[:, None]).sum(1)

    def covariance(self, psi: Tensor, mean: Tensor | None = None) -> Tensor:
        """Covariance of the weighted mean of psi, which is `mean` (R, q) where known; (R, n, q) -> (R, q, q)."""
        n, weight = psi.shape[1], self.weight / self.weight.sum()
        mean = (self._mean(psi) if mean is None else mean)[:, None]
        if self.kind != "cluster":
            total = torch.zeros(len(psi), psi.shape[2], psi.shape[2], dtype=psi.dtype, device=psi.device)
            for block, share in zip(psi.split(_ROWS, 1), weight.split(_ROWS), strict=True):
                rows = (block - mean) * share[:, None]
                total += rows.mT @ rows
            return total * (1.0 if self.kind == "HC0" else _ratio(n, n - self.parameters))
        rows = (psi - mean) * weight[:, None]  # (R, n, q)
        ways = [self.cluster[:, j] for j in range(self.cluster.shape[1])]
        pieces = [(ways[0], 1.0)] if len(ways) == 1 else [
            (ways[0], 1.0), (ways[1], 1.0), (torch.unique(self.cluster, dim=0, return_inverse=True)[1], -1.0)
        ]  # fmt: skip
        total = torch.zeros(len(psi), psi.shape[2], psi.shape[2], dtype=psi.dtype, device=psi.device)
        for code, sign in pieces:  # Cameron, Gelbach and Miller (2011): one way plus the other minus their crossing
            count = int(code.max()) + 1
            sums = torch.zeros(len(psi), count, psi.shape[2], dtype=psi.dtype, device=psi.device)
            sums = sums.index_add(1, code, rows)
            factor = sign * _ratio(count, count - 1) * _ratio(n - 1, n - self.parameters)
            total += factor * (sums.mT @ sums)
        return total


def _ratio(above: int, below: int) -> float:
    return above / below if below > 0 else math.nan  # one row, or one cluster, has no variance
