"""Units: the exchangeable things a model is fitted to, with everything that happens inside one as trailing axes."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

NOTHING = torch.zeros((), dtype=torch.float64)  # the offset of units without one
BLOCK = 16384  # rows worked on at a time where the work needs memory for each


class Units(NamedTuple):
    """Outcome, structural regressors and presence mask of n exchangeable units, all float64.

    For ordinary rows `inside` is empty: y is (n,), d is (n, K) and mask is (n,). An offset is added to the first linear
    index.
    """

    y: Tensor  # (n, *outcome)
    d: Tensor  # (n, *inside, K)
    mask: Tensor  # (n, *inside), 1 = present
    offset: Tensor = NOTHING  # (n, *inside), or () where there is none

    def each(self, change: Callable[[Tensor], Tensor]) -> "Units":
        """The units with every part changed, but for an offset that is not there."""
        y, d, mask, offset = self
        return Units(change(y), change(d), change(mask), change(offset) if offset.dim() else offset)


def chosen(offset: Tensor, rows: Tensor | slice) -> Tensor:
    """The offset of some rows."""
    return offset[rows] if offset.dim() else offset


def release(rows: int) -> None:
    """Hand freed memory back to the system between the stages of a fit to many rows.

    glibc keeps what arrays below 32 MB leave behind, and of a million rows most arrays are such.
    """
    if rows > 10 * BLOCK and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has nothing to trim, or trims by itself
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def blocks(rows: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover so many rows, in order; of no rows, one that is empty."""
    return (slice(start, min(start + size, rows)) for start in range(0, max(rows, 1), size))
