"""Half-sample bootstrap errors of Qini curves, from the definition and row by row; writes bootstrap.csv here."""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DRAWS = 20_000
a, b, c = (pd.read_csv(HERE / f"{name}.csv.gz") for name in "abc")


def hull(reward: list[float], cost: list[float]) -> list[int]:
    """The arms on the upper convex hull from (0, 0), as long as the reward grows."""
    at, path = (0.0, 0.0), []
    while True:
        slopes = [(r - at[1]) / (k - at[0]) if k > at[0] else -np.inf for r, k in zip(reward, cost, strict=True)]
        best = int(np.argmax(slopes))
        if slopes[best] <= 0:
            return path
        path.append(best)
        at = cost[best], reward[best]


def bootstrap(name: str, scores: np.ndarray, reward: np.ndarray, cost: np.ndarray, spend: list[float]) -> pd.DataFrame:
    steps = []
    for i in range(len(scores)):
        at = (0.0, 0.0, 0.0)
        for arm in hull(list(reward[i]), list(cost[i])):
            new = float(scores[i, arm]), float(reward[i, arm]), float(cost[i, arm])
            steps.append((i, new[0] - at[0], new[2] - at[2], (new[1] - at[1]) / (new[2] - at[2])))
            at = new
    table = np.array(sorted(steps, key=lambda step: -step[3]))
    row, gain, price = table[:, 0].astype(int), table[:, 1], table[:, 2]
    rng, n, found = np.random.default_rng(1), len(scores), []
    for _ in range(DRAWS):
        weight = np.zeros(n)
        weight[rng.permutation(n)[: n // 2]] = 2 / n
        used = weight[row]
        found.append(np.interp(spend, np.r_[0, np.cumsum(used * price)], np.r_[0, np.cumsum(used * gain)]))
    return pd.DataFrame({"curve": name, "spend": spend, "se": np.std(found, 0)})


two = c[["gamma1", "gamma2"]].to_numpy() - c[["gamma0"]].to_numpy()
predicted = np.c_[c.m1 - c.m0, c.m2 - c.m0]
costs = c[["cost1", "cost2"]].to_numpy()
one = np.ones((2000, 1))
grid = [round(0.1 * k, 1) for k in range(1, 10)]
parts = [
    bootstrap("A_uniform_cost_s_oof", a[["dr"]].to_numpy(), a[["s_oof"]].to_numpy(), one, grid),
    bootstrap("B_uniform_cost_s_oof", b[["dr"]].to_numpy(), b[["s_oof"]].to_numpy(), one, grid),
    bootstrap("C_two_arms", two, predicted, costs, [round(1.5 * g, 2) for g in grid]),
    bootstrap("C_arm1_only", two[:, :1], predicted[:, :1], costs[:, :1], [round(0.7 * g, 2) for g in grid]),
]
pd.concat(parts).to_csv(HERE / "bootstrap.csv", index=False, float_format="%.8g")
