"""A risk score by the Brier score, with a coefficient that may not be negative, watched out of sample."""

import numpy as np
import pandas as pd

import deepreg

rng = np.random.default_rng(0)
n = 1200
people = pd.DataFrame(
    {"score": rng.normal(size=n), "noise": rng.normal(size=n), "age": rng.uniform(18, 60, n)},
)
chance = 1 / (1 + np.exp(-(0.8 * people.score - 0.2 * people.noise - 0.05 * (people.age - 35))))
people["recid"] = (rng.uniform(size=n) < chance) * 1
train, test = people.iloc[:800], people.iloc[800:]

formula, bounds = "recid ~ score + noise + age", {"score": (0, None), "noise": (0, None)}
model = deepreg.logit(formula, train, loss="brier", link="clamp", bounds=bounds)
fit = model.fit(trainer=deepreg.Adam(steps=300), holdout=test, track=50, rng=0)
print(fit.summary())
assert fit.track is not None
print(fit.track.frame().round(4))  # and fit.history.plot(after=50) with matplotlib

# The same by Newton's method with an active set, and by maximum likelihood with classical errors.
print(model.fit().certificate)
likelihood = deepreg.logit(formula, train).fit(cov="classical")
print(deepreg.etable([fit, likelihood], stats=["n", "ll", "aic"], style="plain"))

# Out of sample, the same loss for both.
for name, result in (("Brier", fit), ("likelihood", likelihood)):
    print(f"{name}: Brier score of {((test.recid - result.predict(test)) ** 2).mean():.4f} on new rows")
