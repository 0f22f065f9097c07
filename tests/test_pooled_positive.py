"""Constant coefficients of families for binary, positive and bounded outcomes equal those of statsmodels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import deepreg
from deepreg.results import Results


def drawn(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    t, x = rng.integers(0, 2, n), rng.normal(size=n)
    eta = 0.2 + 0.5 * t - 0.3 * x
    return pd.DataFrame({"t": t, "x": x, "b": (eta + rng.normal(size=n) > 0) * 1})


DATA = drawn()


def fitted(outcome: str, family: Any, data: pd.DataFrame = DATA) -> Results:
    return deepreg.structural(f"{outcome} ~ t + x", data, family, vcov="HC0").fit()


def glm(outcome: str, law: Any, data: pd.DataFrame = DATA) -> Any:
    return smf.glm(f"{outcome} ~ t + x", data, family=law).fit(cov_type="HC0", tol=1e-13, maxiter=200)


def assert_equal(ours: Results, theirs: Any, rtol: float = 1e-5) -> None:
    names = list(theirs.params.index)
    assert list(ours.params.index)[: len(names)] == names
    np.testing.assert_allclose(ours.params[names], theirs.params, rtol=rtol)
    np.testing.assert_allclose(ours.bse[names], theirs.bse, rtol=1e-4)


def test_probit() -> None:
    ours, theirs = fitted("b", "probit"), smf.probit("b ~ t + x", DATA).fit(disp=0, cov_type="HC0", tol=1e-13)
    assert_equal(ours, theirs)
    np.testing.assert_allclose([ours.llf, ours.llnull, ours.prsquared], [theirs.llf, theirs.llnull, theirs.prsquared])
    margins = theirs.get_margeff()
    np.testing.assert_allclose(ours.get_margeff().value, margins.margeff, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(), theirs.predict(), rtol=1e-8)


def test_cloglog() -> None:
    theirs = glm("b", sm.families.Binomial(sm.families.links.CLogLog()))
    ours = fitted("b", "cloglog")
    assert_equal(ours, theirs)
    np.testing.assert_allclose([ours.llf, ours.llnull], [theirs.llf, theirs.llnull])


@pytest.mark.parametrize("family", ["probit", "cloglog"])
def test_a_regressor_far_from_zero_and_a_rare_outcome(family: str) -> None:
    data = DATA.assign(x=1e6 + 1e4 * DATA.x, b=(DATA.b * (np.arange(len(DATA)) % 12 == 0)).astype(int))
    near = fitted("b", family, DATA.assign(b=data.b))
    assert 5 < data.b.sum() < 30
    np.testing.assert_allclose(fitted("b", family, data).params["x"] * 1e4, near.params["x"], rtol=1e-6)
