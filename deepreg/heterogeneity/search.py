"""Search: the best trees of depth 1 and 2 for several sets of weights at once, exact over all cut points.

A row goes left where its value of a feature is at most the cut. The reward of a set of rows is that of the arm that is
best for it, so the best depth-1 tree of a set is the largest, over features, cuts c and arms a, b, of
sum(score_b) + sum over rows left of c of (score_a - score_b): a largest prefix sum. For depth 2 it is wanted of every
set that a cut at the root leaves on one side. Adding rows in the order of the root's feature to a binary tree over the
values of the other feature, where every node holds its sum and its largest prefix sum, gives it after each row. All
versions of all nodes of a level are computed together, so that nothing loops over rows.
"""

from typing import NamedTuple

import numpy as np

NEVER = -1  # the code of a cut that sends every row to the right


class Features(NamedTuple):
    """Values of p features as codes in their order, and what the codes stand for."""

    code: np.ndarray  # (n, p)
    values: tuple[np.ndarray, ...]  # p times (levels,), increasing


def coded(x: np.ndarray, cuts: int | None) -> Features:
    """Codes of features (n, p); with `cuts`, values are first rounded up to that many of their quantiles, at most."""
    codes, values = [], []
    for column in x.T:
        known = np.unique(column)
        if cuts is not None and len(known) > cuts + 1:
            ranks = np.linspace(0, 1, cuts + 2)[1:]
            known = np.unique(np.quantile(column, ranks, method="inverted_cdf"))
        codes.append(np.searchsorted(known, column, side="left"))
        values.append(known)
    return Features(np.stack(codes, 1), tuple(values))


def best_splits(features: Features, scores: np.ndarray, weights: np.ndarray, deep: bool) -> tuple[np.ndarray, ...]:
    """Feature and code of the cut at the root of the best tree, of depth 1 or with `deep` 2, for each set of weights.

    scores are (n, arms), weights (m, n), 0 for rows that are no part of it. Ties go to the first feature, then the
    least cut. Returns (m,) features and (m,) codes; the code is NEVER where no cut gains anything on a single arm.
    """
    net = weights.T[:, :, None] * scores[:, None, :]  # (n, m, arms)
    m = len(weights)
    least = net.sum(0).max(1)  # of a single arm
    best, feature, cut = least, np.zeros(m, dtype=int), np.full(m, NEVER)
    slack = 1e-12 * np.abs(net).sum((0, 2))
    for p, code in enumerate(features.code.T):
        order = np.argsort(code, kind="stable")
        ends = np.flatnonzero(np.diff(code[order]))  # the last row of each value but the last
        if not len(ends):
            continue
        sorted_net = net[order]
        if deep:
            left, right = _grown(features, order, sorted_net, ends), _grown(features, order, sorted_net, ends, True)
        else:
            sums = np.cumsum(sorted_net, 0)
            left, right = sums[ends].max(2), (sums[-1] - sums[ends]).max(2)
        value = left + right  # (ends, m)
        place = value.argmax(0)
        found = value[place, np.arange(m)]
        better = found > best + slack
        best = np.where(better, found, best)
        feature = np.where(better, p, feature)
        cut = np.where(better, code[order][ends][place], cut)
    return feature, cut


def _grown(
    features: Features, order: np.ndarray, net: np.ndarray, ends: np.ndarray, backwards: bool = False
) -> np.ndarray:
    """The reward of the best depth-1 tree of the rows up to each end, or of those behind it; (ends, m).

    net is (n, m, arms) in the order of the root's feature.
    """
    n, m, arms = net.shape
    if backwards:
        order, net, ends = order[::-1], net[::-1], (n - 2 - ends)[::-1]
    total = np.cumsum(net, 0)[ends]  # (ends, m, arms)
    one, two = np.triu_indices(arms, 1)
    difference = (net[:, :, one] - net[:, :, two]).reshape(n, -1)
    high, low = np.zeros((2, len(ends), m * len(one)))
    step = np.searchsorted(ends, np.arange(n), side="left")  # the first end that holds the row
    for code in features.code.T:
        few = (len(ends) + 1) * (int(code.max()) + 1) <= n
        most, least = _table(step, code[order], difference) if few else _prefixes(code[order], difference)
        at = slice(len(ends)) if few else ends
        high, low = np.maximum(high, most[at]), np.minimum(low, least[at])
    high, low = high.reshape(-1, m, len(one)), low.reshape(-1, m, len(one))
    reward = np.maximum(total[:, :, two] + high, total[:, :, one] - low).max(2)
    return reward[::-1] if backwards else reward


def _table(step: np.ndarray, code: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What _prefixes() finds, after each step of rows and not each row, where steps and codes are few; (steps, k)."""
    shape = (int(step.max()) + 1, int(code.max()) + 1)
    cell = step * shape[1] + code
    each = np.stack([np.bincount(cell, one, shape[0] * shape[1]) for one in values.T], -1).reshape(*shape, -1)
    sums = each.cumsum(0).cumsum(1)
    return np.maximum(sums.max(1), 0.0), np.minimum(sums.min(1), 0.0)


def _prefixes(code: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """After each row, the largest and the least sum over rows so far with a code up to some c, or 0; twice (n, k).

    Nodes of a level lie one after the other, the rows of each in their order. Row i of a level stands for its node as
    it was after that row; index 0 for a node without rows.
    """
    n, k = values.shape
    row, first, last = np.arange(n), np.zeros(n, dtype=int), np.full(n, n - 1)
    count, merges = np.arange(n), []
    for bit in reversed(range(int(code.max()).bit_length())):
        right = (code[row] >> bit) & 1
        ones = np.cumsum(right)
        rights = ones - (ones - right)[first]  # of the node so far, this row included
        lefts = count - first + 1 - rights
        middle = first + lefts[last]  # where the right child begins
        merges.append((np.where(lefts > 0, first + lefts, 0), np.where(rights > 0, middle + rights, 0)))
        turned = right.astype(bool)
        place = np.where(turned, middle + rights, first + lefts) - 1
        moved = np.empty((3, n), dtype=int)
        moved[:, place] = row, np.where(turned, middle, first), np.where(turned, last, middle - 1)
        row, first, last = moved
    at = np.zeros((n + 1, 3 * k))  # sum, largest, least
    sums = np.cumsum(values[row], 0)
    sums -= np.where((first > 0)[:, None], sums[first - 1], 0.0)
    at[1:] = np.concatenate([sums, np.maximum(sums, 0.0), np.minimum(sums, 0.0)], 1)
    for left, right in reversed(merges):
        low, high = at.take(left, 0), at.take(right, 0)
        high += np.tile(low[:, :k], 3)
        at[1:, :k] = high[:, :k]
        np.maximum(low[:, k : 2 * k], high[:, k : 2 * k], out=at[1:, k : 2 * k])
        np.minimum(low[:, 2 * k :], high[:, 2 * k :], out=at[1:, 2 * k :])
    return at[1:, k : 2 * k], at[1:, 2 * k :]
