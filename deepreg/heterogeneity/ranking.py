"""Ranking: rows in the order of a priority, highest first, and sums along it; the engine of the curves and RATE."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """n rows sorted by block, and in it by priority from the top; all arrays are in that order.

    Rows of the same priority are tied, and enter with the mean of their scores. Among them the heavier come first, so
    that no sum depends on the order in which the rows were given.
    """

    order: np.ndarray  # (n,) the position of each sorted row among the rows given
    weight: np.ndarray  # (n,)
    block: np.ndarray  # (n,) codes 0, 1, ...
    tie: np.ndarray  # (n,) codes of the groups of tied rows

    @classmethod
    def of(cls, priority: np.ndarray, weight: np.ndarray, block: np.ndarray | None = None) -> "Ranking":
        """Of priorities (n,) and weights (n,), within blocks (n,) where given."""
        block = np.zeros(len(priority), dtype=np.int64) if block is None else block
        order = np.lexsort((-weight, -priority, block))
        s, b = priority[order], block[order]
        new = np.r_[True, (s[1:] != s[:-1]) | (b[1:] != b[:-1])]
        return cls(order, weight[order], b, np.cumsum(new) - 1)

    @property
    def total(self) -> np.ndarray:
        """The weight of each block; (blocks,)."""
        return np.bincount(self.block, self.weight)

    @property
    def constant(self) -> np.ndarray:
        """Whether all rows of a block are tied; (blocks,)."""
        first = np.full(len(self.total), self.tie[-1] + 1)
        last = np.full(len(self.total), -1)
        np.minimum.at(first, self.block, self.tie)
        np.maximum.at(last, self.block, self.tie)
        return first == last

    def sorted(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values)[self.order]

    def unsorted(self, values: np.ndarray) -> np.ndarray:
        """Back in the order of the rows given."""
        found = np.empty_like(values)
        found[self.order] = values
        return found

    def among_ties(self, values: np.ndarray) -> np.ndarray:
        """The weighted mean of the tied rows, for each of them; (n,)."""
        return (np.bincount(self.tie, self.weight * values) / np.bincount(self.tie, self.weight))[self.tie]

    def down_to(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of the block from the top down to each one, itself included; (n,)."""
        summed = np.cumsum(values)
        before = np.r_[0.0, summed][np.searchsorted(self.block, np.arange(len(self.total)))]
        return summed - before[self.block]

    def from_here(self, values: np.ndarray) -> np.ndarray:
        """Sums over the rows of the block from each one to the bottom, itself included; (n,)."""
        return np.bincount(self.block, values)[self.block] - self.down_to(values) + values

    def centred(self, values: np.ndarray) -> np.ndarray:
        """Less the weighted mean of the block."""
        return values - (np.bincount(self.block, self.weight * values) / self.total)[self.block]

    def gain(self, score: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The mean of score times whether a row is among the top `share` (q,) of all rows, a single block; (q,).

        Rows across the border count with the part of their weight that is inside. `score` is sorted.
        """
        weight = np.r_[0.0, np.cumsum(self.weight)]
        summed = np.r_[0.0, np.cumsum(self.weight * self.among_ties(score))]
        total = weight[-1]
        return np.interp(share * total, weight, summed) / total

    def pieces(self, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The piece of each row (n,), and the part of a piece's rows among the top `share` (q,); (pieces, q).

        Of a single block. A piece lies between two of the shares, where the part is 0 or 1, or is a group of tied rows
        across one of them, so that there are at most 2 q + 1.
        """
        size = np.bincount(self.tie, self.weight)
        above, border = np.cumsum(size) - size, share * size.sum()
        across = np.searchsorted(above, border, side="left") - 1
        first = np.unique(np.r_[0, across, across + 1].clip(0, len(size) - 1))  # group that a piece starts with
        part = np.clip((border - above[first][:, None]) / size[first][:, None], 0.0, 1.0)
        rows = np.diff(np.searchsorted(self.tie, np.r_[first, len(size)]))
        return np.repeat(np.arange(len(first)), rows), np.where(share == 1, 1.0, part)
