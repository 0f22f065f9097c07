"""Simulated panels of persons in groups, with known curves and risk factors, and fits to them."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import deepreg
from deepreg.families import Tobit
from deepreg.trajectory.fitted import TrajectoryResults

CURVE = "s + I(s**2)"

CURVES = {
    "gaussian": [[1, 0.5, 0], [0, 0, 1.5], [-1, -0.8, 0.4]],
    "poisson": [[-1, 0.2, -0.3], [0.8, -0.9, -0.4], [1.2, 0.6, 0.3]],
    "logit": [[-2.2, 0.3, 0.2], [0.2, 2.5, -0.4], [1.5, -0.8, 0.9]],
    "zip": [[0.2, 0.2, -0.3], [1.3, -0.9, -0.4], [1.6, 0.6, 0.3]],
    "cnorm": [[1, 2.0, 0], [4, 0, 1.5], [7, -2.5, 0.4]],
}
ZEROS = np.array([[-0.3, 0.8], [-1.2, 0.5], [-1.8, -0.6]])


@cache
def unbalanced() -> pd.DataFrame:
    """300 persons in three groups with 4 to 10 of 11 times each, two risk factors and an outcome of each family."""
    rng = np.random.default_rng(20240607)
    n = 300
    r1, r2 = rng.normal(size=n), rng.binomial(1, 0.4, n)
    odds = np.exp(np.c_[np.ones(n), r1, r2] @ np.array([[0, 0, 0], [0.3, 0.8, -0.5], [-0.6, -0.7, 1.0]]).T)
    group = np.array([rng.choice(3, p=p) for p in odds / odds.sum(1, keepdims=True)])
    rows = []
    for i in range(n):
        times = rng.integers(4, 11)
        rows += [(i, (t - 5) / 5, group[i], r1[i], r2[i]) for t in np.sort(rng.choice(np.arange(11), times, False))]
    data = pd.DataFrame(rows, columns=["id", "s", "group", "r1", "r2"])
    d, at = np.c_[np.ones(len(data)), data.s, data.s**2], data.group.to_numpy()

    def index(family: str) -> np.ndarray:
        return (d * np.array(CURVES[family])[at]).sum(1)

    data["y_gaussian"] = index("gaussian") + rng.normal(size=len(data)) * np.array([0.5, 0.7, 0.6])[at]
    data["y_poisson"] = rng.poisson(np.exp(index("poisson")))
    data["y_logit"] = rng.binomial(1, 1 / (1 + np.exp(-index("logit"))))
    zero = (d[:, :2] * ZEROS[at]).sum(1)
    data["y_zip"] = np.where(rng.random(len(data)) < 1 / (1 + np.exp(-zero)), 0, rng.poisson(np.exp(index("zip"))))
    data["y_cnorm"] = np.clip(index("cnorm") + 1.6 * rng.normal(size=len(data)), 0, 8)
    return data.round(8)


@cache
def two_curves() -> pd.DataFrame:
    """100 persons at 11 times on a line or a parabola, with uniform noise of at most .05; `true` is the curve."""
    state = np.random.RandomState(10)
    t, person, group = np.tile(np.arange(11), 100), np.repeat(np.arange(100), 11), np.repeat([0, 1], 550)
    s = (t - 5.5) / 5.5
    true = np.where(group == 0, 1 + 0.5 * s, 1.5 * s**2)
    noise = state.uniform(-0.05, 0.05, size=len(true))
    return pd.DataFrame({"id": person, "s": s, "group": group, "true": true, "y": true + noise})


def model(formula: str, data: pd.DataFrame, family: Any = "poisson", groups: int = 2, **options: Any) -> Any:
    options = {"unit": "id", "within": "s", "starts": 2} | options
    return deepreg.trajectories(formula, data, family=family, groups=groups, **options)


@cache
def fitted(name: str) -> TrajectoryResults:
    outcome, _, risk = name.partition("_")
    family = Tobit(0, 8) if outcome == "cnorm" else outcome
    scale = "group" if outcome == "gaussian" else "common"
    formula = f"y_{outcome} ~ {CURVE}" + (" | r1 + r2" if risk else "")
    inflate = "s" if outcome == "zip" else None
    return model(formula, unbalanced(), family, 3, scale=scale, inflate=inflate).fit()
