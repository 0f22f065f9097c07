"""Regressions by the names that economists call them: structural() with a family.

>>> import deepreg
>>> data = deepreg.datasets.tutoring().head(200)
>>> list(deepreg.ols("final_grade ~ tutoring", data).fit(cov="classical").params.index)
['Intercept', 'tutoring']
"""

from functools import partial

from ..api import structural

ols = partial(structural, family="linear")
logit = partial(structural, family="logit")
probit = partial(structural, family="probit")
poisson = partial(structural, family="poisson")
negbin = partial(structural, family="negbin")
