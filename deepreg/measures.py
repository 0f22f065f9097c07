"""Measures of a fit: log-likelihood, information criteria, R squared, degrees of freedom, by statsmodels' names."""

import math

import pandas as pd

from .constant.certificate import Certificate
from .design import Design
from .errors import NotAvailable
from .sampling import Sampling
from .specification import Specification
from .structure import Structure
from .summary import Facts


class Measures:
    """What tools for statsmodels' results ask a result for."""

    design: Design
    structure: Structure
    sampling: Sampling
    facts: Facts

    @property
    def nobs(self) -> int:
        """Rows used; choices, where each has several rows."""
        return self.design.n

    def glance(self) -> pd.DataFrame:
        """One row of facts about the fit; log-likelihoods and R squared are out of fold where theta varies."""
        names = ("nobs", "df_model", "df_resid", "cov_type", "llf", "llnull", "rsquared", "prsquared", "aic", "bic")
        first = {"outcome": self.design.outcome, "family": self.structure.family.name, "formula": self.design.formula}
        facts = {name: getattr(self, name) for name in names}
        last = {"dropped": sum(self.design.dropped.values()), "out_of_fold": not self.facts.constant}
        return pd.DataFrame([first | facts | last])

    @property
    def model(self) -> Specification:
        """Names of the outcome and the coefficients, as statsmodels' `result.model` has them."""
        return Specification.of(self.design, self.structure)

    @property
    def df_model(self) -> float:
        """Average coefficients besides the intercept, less those at a bound; no count of what the functions can do."""
        return float(self._free - self.k_constant)

    @property
    def df_resid(self) -> float:
        """Rows less average coefficients. Tests use the normal law, not this number."""
        return float(self.nobs - self._free)

    @property
    def _free(self) -> int:
        made = self.facts.certificate
        return len(self.structure.names) if made is None else made.free

    @property
    def k_constant(self) -> int:
        """1 with an intercept, 0 without."""
        return int(self.structure.intercept is not None)

    @property
    def use_t(self) -> bool:
        """False: reference laws are normal."""
        return False

    @property
    def cov_type(self) -> str:
        """'HC0', 'HC1' or 'cluster', of the influence values; where theta is constant also what else vcov() knows.

        "classical" goes by statsmodels' name for it, 'nonrobust'.
        """
        return "nonrobust" if self.sampling.kind == "classical" else self.sampling.kind

    @property
    def cov_kwds(self) -> dict[str, object]:
        """The names of the cluster columns, under statsmodels' key 'groups'."""
        return {"groups": self.design.cluster_names} if self.sampling.kind == "cluster" else {}

    @property
    def llf(self) -> float:
        """Log-likelihood at theta(x), out of fold where theta varies: a score of predictions, not a maximum."""
        return self.facts.goodness.llf

    @property
    def llnull(self) -> float:
        """Log-likelihood with an intercept alone, fitted to all rows; of choices, with equal chances."""
        return self.facts.goodness.llnull

    @property
    def prsquared(self) -> float:
        """McFadden's 1 - llf / llnull, out of fold where theta varies; NaN for densities, which have rsquared."""
        family = self.structure.family
        return float("nan") if family.identity or family.density else 1 - self.llf / self.llnull

    @property
    def rsquared(self) -> float:
        """1 - residual over total sum of squares of the outcome, out of fold where theta varies."""
        return self.facts.goodness.rsquared

    @property
    def aic(self) -> float:
        """-2 llf + 2 k with k parameters, those at a bound left out; NaN where theta varies or is penalised."""
        made = self.facts.certificate
        return math.nan if made is None or self.structure.penalised else self.facts.goodness.aic(made.free)

    @property
    def bic(self) -> float:
        """-2 llf + k log n, with k as in `aic`."""
        made = self.facts.certificate
        return math.nan if made is None or self.structure.penalised else self.facts.goodness.bic(made.free, self.nobs)

    @property
    def certificate(self) -> Certificate:
        """How constant theta was found and whether it is a minimum. NotAvailable where theta varies."""
        if self.facts.certificate is None:
            raise NotAvailable("A certificate is of constant theta; of functions see summary() and plot.training().")
        return self.facts.certificate
