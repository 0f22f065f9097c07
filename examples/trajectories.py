"""Which courses do symptoms take, who takes which, and what comes next? 160 simulated patients over 8 visits."""

import numpy as np
import pandas as pd

import deepreg

rng = np.random.default_rng(1)
n, visits = 160, np.arange(8.0)
severe = rng.normal(size=n)
group = (severe + rng.logistic(size=n) > 0).astype(int)
rows = pd.DataFrame(
    {"patient": np.repeat(np.arange(n), 8), "visit": np.tile(visits, n), "severe": np.repeat(severe, 8)}
)
curve = np.where(np.repeat(group, 8) == 1, 8 - 0.3 * rows.visit, 8 - 2.0 * rows.visit + 0.15 * rows.visit**2)
rows["symptoms"] = (curve + rng.normal(size=len(rows)) * 1.5).clip(0, 10)  # a scale from 0 to 10
rows = rows[rng.random(len(rows)) < 0.85]  # missed visits

model = deepreg.trajectories(
    "symptoms ~ visit + I(visit**2) | severe",
    rows,
    unit="patient",
    within="visit",
    family=deepreg.families.Tobit(lower=0, upper=10),
    groups=2,
    starts=3,
)
fit = model.fit()
print(fit.summary())
print(fit.adequacy())

truth = pd.Series(group + 1, name="true")
print("\nPatients in the right group:", f"{(fit.membership()['group'] == truth).mean():.1%}")
first = rows[(rows.visit < 3) & (rows.patient < 3)]
print("\nFrom the first three visits:")
print(fit.membership(first).round(3))
print(fit.forecast(first, within=[6, 7]).round(2))
print(model.choose(groups=[1, 2], by=["bic", "icl"]))
