"""What does it cost to flag two groups at the same rate? 4,000 simulated people, half of them held out."""

import numpy as np
import pandas as pd

import deepreg

rng = np.random.default_rng(0)
people = pd.DataFrame({"group": rng.choice(["a", "b"], size=4000), "age": rng.uniform(18, 60, 4000)})
people["priors"] = rng.poisson(1.5 + 1.2 * (people.group == "b"))
people["again"] = (0.4 * people.priors - 0.05 * people.age + 0.5 + rng.logistic(size=4000) > 0).astype(int)
train, test = people[:2000], people[2000:]

gap = deepreg.RateGap("fpr", group="group", threshold=0.4, strength=1.0)
fit = deepreg.logit("again ~ priors + age", train, loss="brier", penalty=gap).fit(start="unpenalised")
print(fit.summary())
print(deepreg.fairness(fit, test, group="group", thresholds=0.4).parity().round(3))
costs = deepreg.tradeoff(fit, [0, 1, 10], holdout=test)
print(costs)
costs.plot()  # a matplotlib Axes
