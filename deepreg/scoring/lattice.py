"""Lattices: integer points for the columns of a score, with bounds on what any choice of those still open can reach."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..families import Logit
from ..minimise import minimise
from ..searching import branch
from ..submodels import IndexLoss
from ..units import Units

CELLS = 10  # columns of 0 and 1 up to which their 2^k cells stand for the rows


class Cards(NamedTuple):
    """Integer cards, best first, and what is known of the others; as in `searching.Found`."""

    points: np.ndarray  # (R, p), 0 where a column has none
    values: np.ndarray  # (R,) mean loss
    size: int
    evaluated: int
    bound: float


class Line(NamedTuple):
    """Logistic regressions on the columns of G problems."""

    theta: Tensor  # (G, 1 + K)
    loss: Tensor  # (G,)
    least: Tensor  # (G,) no more than the infimum


def logistic(d: Tensor, y: Tensor, share: Tensor, lower: Tensor | None = None) -> Line:
    """Intercept and slopes of G logistic regressions; d (G, K, C), y and share (G or 1, C), lower (G, K) of the slopes.

    Columns of zeros have the slope 0. Where outcomes are separated, the loss is near its infimum, which no theta has.
    """
    d = torch.cat([torch.ones_like(d[:, :1]), d], 1)
    empty = ~(d != 0).any(2)
    low = torch.full_like(d[:, :, 0], -torch.inf)
    if lower is not None:
        low[:, 1:] = lower
    low, high = torch.where(empty, 0.0, low), torch.where(empty, 0.0, torch.inf)
    mean = (share * y).sum(1).clamp(1e-9, 1 - 1e-9)
    start = torch.zeros_like(low)
    start[:, 0] = mean.logit()
    loss = IndexLoss(Logit(), Units(y, d[0].T, torch.ones_like(y)), d, share)
    found = minimise(loss.value, loss.derivatives, start, lower=low, upper=high, steps=40)
    return Line(found.theta, found.value, found.value - found.decrement.clamp_min(0))


@dataclass(frozen=True, eq=False)
class LogitCards:
    """Scores m'x of at most k columns with integer points m, and P(y = 1) = sigmoid(a + b m'x), b > 0.

    A candidate is k columns, in order, and then their points. Given the columns, and the first of their points, the
    loss is not below that of the logistic regression on the score so far and the columns whose points are still open:
    the convex relaxation, as in the cutting planes of Ustun and Rudin (2019), JMLR 20.
    """

    x: Tensor  # (U, p) distinct rows
    y: Tensor  # (U,) share of 1
    share: Tensor  # (U,) of the rows, sums to 1
    points: np.ndarray  # integers, without 0
    k: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Options: p columns or none, k times, then the points of each."""
        return (self.x.shape[1] + 1,) * self.k + (len(self.points),) * self.k

    @cached_property
    def floor(self) -> float:
        """The loss of all columns, unrounded: no card is below it."""
        return float(logistic(self.x.T[None], self.y[None], self.share[None]).least)

    @cached_property
    def binary(self) -> bool:
        """Whether 2^k cells stand for the rows."""
        return bool(((self.x == 0) | (self.x == 1)).all()) and self.k <= CELLS and 2**self.k < len(self.x)

    def bound(self, nodes: np.ndarray) -> np.ndarray:
        """No completion of the first choices is below it; (C, d) -> (C,)."""
        return self._bounded(nodes, self.floor)

    def rank(self, nodes: np.ndarray) -> np.ndarray:
        """The loss of the columns chosen so far, and for points the bound; (C,)."""
        return self._bounded(nodes, None)

    def value(self, nodes: np.ndarray) -> np.ndarray:
        """The loss of cards, infinite for a multiple of another one; (C,)."""
        points = self.points[nodes[:, self.k :]] * (nodes[:, : self.k] < self.x.shape[1])
        return self._bounded(np.where(np.gcd.reduce(points, axis=1)[:, None] == 1, nodes, -1), None)

    def cards(self, nodes: np.ndarray) -> np.ndarray:
        """Points of every column; (C, 2k) -> (C, p)."""
        p = self.x.shape[1]
        card = np.zeros((len(nodes), p + 1), dtype=int)
        card[np.arange(len(nodes))[:, None], nodes[:, : self.k]] = self.points[nodes[:, self.k :]]
        return card[:, :p]

    def _bounded(self, nodes: np.ndarray, early: float | None) -> np.ndarray:
        columns, given = nodes[:, : self.k], nodes[:, self.k :]
        p, found = self.x.shape[1], np.full(len(nodes), np.inf)
        rising = (columns[:, 1:] > columns[:, :-1]) | (columns[:, 1:] == p)
        unused = columns[:, : given.shape[1]] == p
        allowed = rising.all(1) & (columns[:, 0] < p) & (nodes >= 0).all(1) & ~(unused & (given > 0)).any(1)
        if columns.shape[1] < self.k and early is not None:
            found[allowed] = early
        elif allowed.any():
            found[allowed] = self._relaxed(columns[allowed], self.points[given[allowed]])
        return found

    def _relaxed(self, columns: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The least loss with the points given, and any slopes for the columns without; (C, k), (C, j) -> (C,)."""
        supports, owner = np.unique(columns, axis=0, return_inverse=True)
        z, y, share = self._cells(torch.from_numpy(supports))
        owner = torch.from_numpy(owner.reshape(-1))
        z = z[owner] if len(z) > 1 else z.expand(len(owner), -1, -1)
        y, share = (one[owner] if len(one) > 1 else one for one in (y, share))
        j = points.shape[1]
        if not j:
            return logistic(z, y, share).least.numpy()
        score = (z[:, :j] * torch.from_numpy(points)[:, :, None]).sum(1, keepdim=True)
        d = torch.cat([score, z[:, j:]], 1)
        lower = torch.full_like(d[:, :, 0], -torch.inf)
        lower[:, 0] = 0.0
        return logistic(d, y, share, lower).least.numpy()

    def _cells(self, supports: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns (S or 1, k, C), share of 1 (S or 1, C) and weight (S or 1, C) of the cells of each support."""
        padded = torch.cat([self.x, torch.zeros_like(self.x[:, :1])], 1).T  # (p + 1, U)
        z, k = padded[supports], supports.shape[1]  # (S, k, U)
        if not self.binary:
            return z, self.y[None], self.share[None]
        power = 2 ** torch.arange(k)
        code = (z.long() * power[:, None]).sum(1)
        share, ones = (torch.zeros(len(supports), 2**k, dtype=z.dtype) for _ in range(2))
        share.scatter_add_(1, code, self.share.expand_as(code))
        ones.scatter_add_(1, code, (self.share * self.y).expand_as(code))
        cells = ((torch.arange(2**k)[None] // power[:, None]) % 2).to(z)[None]
        cells = cells.expand(len(supports), -1, -1) * (supports < self.x.shape[1])[:, :, None]
        return cells, torch.where(share > 0, ones / share.clamp_min(1e-300), 0.0), share

    def search(self, limit: int, keep: int, margin: float) -> Cards:
        """The best cards, and those whose loss is at most `margin` times the best above it."""
        nodes, values, _, seen, bound = branch(
            self.shape, self.value, self.bound, rank=self.rank, limit=limit, keep=keep, margin=margin
        )
        p, k, m = self.x.shape[1], self.k, len(self.points)
        size = sum(math.comb(p, used) * m**used for used in range(1, k + 1))
        return Cards(self.cards(nodes), values, size, seen, bound)


@dataclass(frozen=True, eq=False)
class LinearCards:
    """Integer coefficients w of a linear model with a free intercept, at most k of them not 0.

    With the least squares b and the covariance Q of the columns, the mean squared error is s0 + (w - b)'Q(w - b). Of
    the first coefficients alone it is not below s0 + (w_A - b_A)'(Q^-1_AA)^-1(w_A - b_A), the least over the others:
    the sphere decoder of Fincke and Pohst (1985), Mathematics of Computation 44.
    """

    x: np.ndarray  # (n, p)
    y: np.ndarray  # (n,)
    points: np.ndarray | None  # integers allowed; None for all
    k: int

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Q (p, p), b (p,) and s0."""
        x, y = self.x - self.x.mean(0), self.y - self.y.mean()
        q = x.T @ x / len(x)
        b = np.linalg.solve(q, x.T @ y / len(x))
        return q, b, float(((y - x @ b) ** 2).mean())

    def options(self, margin: float = 0.0) -> list[np.ndarray]:
        """The integers that each coefficient may be: those allowed, or those as good as a rounded solution."""
        q, b, s0 = self.moments
        if self.points is not None:
            return [np.union1d(self.points, [0])] * len(b)
        size = np.abs(b) / np.sqrt(np.diag(np.linalg.inv(q)))
        used = np.sort(np.argsort(-size)[: self.k])
        w = np.zeros(len(b))
        part = q[np.ix_(used, used)]
        w[used] = np.round(b[used] + np.linalg.solve(part, np.delete(q[used], used, 1) @ np.delete(b, used)))
        excess = (1 + margin) * (s0 + (w - b) @ q @ (w - b)) - s0
        radius = np.sqrt(excess * np.diag(np.linalg.inv(q))) + 1e-9
        return [np.union1d(np.arange(np.ceil(c - r), np.floor(c + r) + 1), [0]) for c, r in zip(b, radius, strict=True)]

    def error(self, w: np.ndarray) -> np.ndarray:
        """The least mean squared error with the first coefficients given; (C, d) -> (C,)."""
        q, b, s0 = self.moments
        d = w.shape[1]
        schur = np.linalg.inv(np.linalg.inv(q)[:d, :d])
        gap = w - b[:d]
        return np.where((w != 0).sum(1) <= self.k, s0 + np.einsum("ci,ij,cj->c", gap, schur, gap), np.inf)

    def search(self, limit: int, keep: int, margin: float) -> Cards:
        """The best cards, and those whose error is at most `margin` times the best above it."""
        options = self.options(margin)

        def error(nodes: np.ndarray) -> np.ndarray:
            return self.error(np.stack([options[j][nodes[:, j]] for j in range(nodes.shape[1])], 1))

        nodes, values, size, seen, bound = branch(
            [len(one) for one in options], error, error, limit=limit, keep=keep, margin=margin
        )
        points = np.stack([one[nodes[:, j]] for j, one in enumerate(options)], 1).astype(int)
        return Cards(points, values, size, seen, bound)
