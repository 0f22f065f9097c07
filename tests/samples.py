"""Data that several test files use."""

import numpy as np
import pandas as pd


def frame(n: int = 60) -> pd.DataFrame:
    """A column of every kind."""
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "t": rng.normal(size=n) + 3.0,
            "d": np.resize([0, 1], n),
            "x": rng.normal(size=n),
            "z": rng.exponential(size=n),
            "g": np.resize([9, 10, 12], n),
            "arm": np.resize(["a", "b", "c", "b", "a"], n),
            "flag": np.resize([True, True, False, True, False, False, True], n),
            "w": rng.uniform(0.5, 2.0, n),
            "firm": np.resize(["p", "q", "r", "s", "t"], n),
            "year": np.resize([2001, 2000], n),
        }
    )
