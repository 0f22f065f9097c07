"""Threads: how many of them work on small samples."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

THREADED = 20_000  # rows above which more than one thread is used


@contextmanager
def threads(rows: int) -> Iterator[None]:
    """One thread for small samples, where the others wait for each other longer than they work."""
    before = torch.get_num_threads()
    if rows <= THREADED:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
