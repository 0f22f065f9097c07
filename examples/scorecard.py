"""A score of three integers for another arrest, the best of all there are, as a table and as SQL."""

import deepreg

data = deepreg.simulate.recidivism(500, rng=0).frame
fit = deepreg.scorecard("recid ~ cut(age) + cut(priors) + sex", data, points=range(-5, 6), terms=3).fit()
print(fit.card())
print(fit.pool().head())
print(fit.card().to_sql("cases"))
