"""What a fitted model knows: averages of theta(x) with their errors, theta(x) itself, tests, predictions, tables."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import hypotheses
from .curvature import Lambda
from .design import Design
from .errors import DataError, NotAvailable, OptionError
from .estimates import Estimates, Sampling, WaldTest
from .figures import Figures
from .influence import Scores
from .law import FittedLaw, Overlap
from .report.summary import Summary
from .splits import Splits
from .structure import Structure
from .summary import Facts, summarise
from .targets import AME, ATE, Coefficient, Target, resolve
from .targets.average import some_variable
from .theta import Theta
from .trainers import History


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """A fitted structural regression. Nothing in it changes; methods that alter return a new object.

    `params`, `bse`, `tvalues`, `pvalues`, `conf_int()` and `cov_params()` have statsmodels' meaning, for the averages
    E[theta_j(x)] over the population (for the coefficients themselves where theta is constant).
    """

    design: Design
    structure: Structure
    scores: Scores
    sampling: Sampling
    facts: Facts
    splits: Splits | None = None
    fitted: Theta | None = None
    law: FittedLaw | None = None
    curvature: Lambda | None = None
    overlap: Overlap | None = None

    # averages -------------------------------------------------------------------------------------------------------
    @cached_property
    def averages(self) -> Estimates:
        """E[theta_j(x)] for every column of theta, as Estimates."""
        return self.estimate(Coefficient())

    def _series(self, values: np.ndarray) -> pd.Series:
        return pd.Series(values, index=list(self.structure.names))

    @property
    def params(self) -> pd.Series:
        """Average coefficients, named as OLS names them."""
        return self._series(self.averages.value)

    @property
    def bse(self) -> pd.Series:
        """Standard errors of `params`."""
        return self._series(self.averages.std_error)

    @property
    def tvalues(self) -> pd.Series:
        """`params` over `bse`; their reference law is the normal."""
        return self._series(self.averages.zvalues)

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided normal p-values of `params` = 0."""
        return self._series(self.averages.pvalues)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals of level 1 - alpha: columns 0 and 1, one row for each of `params`."""
        return pd.DataFrame(self.averages.interval(alpha), index=list(self.structure.names))

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of `params`."""
        names = list(self.structure.names)
        return pd.DataFrame(self.averages.cov, index=names, columns=names)

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self.design.frame)

    @property
    def history(self) -> History | None:
        """Training and validation losses of every replicate network; None where theta is constant."""
        return None if self.fitted is None else self.fitted.history

    # targets --------------------------------------------------------------------------------------------------------
    def estimate(self, *targets: str | Target | type[Target], sample: str = "population") -> Estimates:
        """Targets with influence-function errors and their joint covariance.

        Each target is a name ("ate", "ame", "att", "atu", "coefficient"), a class or an object of `deepreg.targets`.
        `sample="fixed"` gives the variance given the features in hand, instead of that for the population.
        Raises OptionError, DataError or NotAvailable where a target does not apply, saying what to type.
        """
        if not targets:
            raise OptionError("estimate() needs a target, for example estimate('ate').")
        chosen = [t for target in targets for t in resolve(target, self.design)]
        names = tuple(name for t in chosen for name in t.names(self.structure, self.design))
        parts = [self.scores.psi(t, sample) for t in chosen]
        psi, plug_in = torch.cat([p for p, _ in parts], -1), torch.cat([p for _, p in parts], -1)
        rows = self.design.index[self.design.rows]
        whole = all(t.weight(self.design, self.design.frame) is None for t in chosen)
        groupable = whole and sample == "population" and not self.scores.constant
        return Estimates(
            names, psi, self.sampling, plug_in.quantile(0.5, dim=0).cpu().numpy(), rows=rows, groupable=groupable
        )

    def ate(self, sample: str = "population") -> Estimates:
        """Average treatment effects of every discrete treatment, each level against its base level."""
        return self.estimate("ate", sample=sample)

    def _effects(self) -> dict[str, ATE | AME]:
        """The target of each column of cate(): a level against the base level, or a derivative."""
        found: dict[str, ATE | AME] = {}
        for v in self.design.variables:
            if v.kind == "continuous":
                found[v.name] = AME(v.name).bind(self.design)
                continue
            pairs = ATE(v.name).pairs(self.design)
            found |= {f"{v.name}[{hi}]" if len(pairs) > 1 else v.name: ATE(v.name, hi, lo) for hi, lo in pairs}
        return found

    def average_effect(self, effect: str | None = None) -> Estimates:
        """The average of one column of cate(), debiased: the ATE of a level, or the AME of a continuous variable.

        `effect` is the column's name, and can be left out where there is one. Raises OptionError naming the columns.
        """
        some_variable("average_effect", self.design)
        known = self._effects()
        if effect is None and len(known) == 1:
            effect = next(iter(known))
        if effect not in known:
            raise OptionError(f"effect={effect!r}: give the name of one effect, of {', '.join(map(repr, known))}.")
        return self.estimate(known[effect])

    @cached_property
    def effects(self) -> Estimates | None:
        """The effects a summary shows: ATE, and AME where the coefficient does not already say it."""
        shown = [t for t in self._effects().values() if isinstance(t, ATE) or not self._is_coefficient(str(t.name))]
        if self.scores.nodes is None and not self.scores.constant:
            shown = [t for t in shown if not t.observed(self.design)]
        return self.estimate(*shown) if shown else None

    def _is_coefficient(self, name: str) -> bool:
        """Whether a variable's effect is its coefficient: an identity link, and no other term that holds it."""
        word = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        holding = [term for term in self.structure.terms if word.search(term)]
        return self.structure.family.identity and holding == [name]

    def get_margeff(self, at: str = "overall", dummy: bool = False) -> Estimates:
        """Average marginal effects over the rows, in statsmodels' sense: variance given the features in hand.

        Derivatives for numeric variables and changes from the first level for the others; with `dummy`, changes from 0
        to 1 for variables of these two values. Use estimate("ame") for the average over the population.
        """
        if at != "overall":
            raise OptionError(
                f"at={at!r}: allowed is 'overall'. For one value of t, estimate(targets.AME('t', at=...))."
            )
        chosen = [
            AME(v.name) if v.kind == "continuous" or (v.name in self.structure.terms
                                                      and not (dummy and v.levels == (0, 1))) else ATE(v.name)
            for v in some_variable("get_margeff", self.design)
        ]  # fmt: skip
        return self.estimate(*chosen, sample="fixed")

    # tests ----------------------------------------------------------------------------------------------------------
    def t_test(self, constraint: object) -> Estimates:
        """Each linear restriction on `params` on its own, e.g. t_test("tutoring = 2"): estimate, error, z, p."""
        matrix, value, labels = hypotheses.read(constraint, self.structure.names)
        return self.averages.linear(matrix, value, labels)

    def wald_test(self, constraint: object) -> WaldTest:
        """All linear restrictions on `params` together, a chi-squared test."""
        matrix, value, labels = hypotheses.read(constraint, self.structure.names)
        shown = "; ".join(f"{label} = {v:g}" for label, v in zip(labels, value, strict=True))
        return self.averages.linear(matrix, value, labels).wald(shown)

    def vcov(self, kind: str) -> "Results":
        """A new result with another covariance: "robust" ("HC1"), "HC0", or "cluster" ("CRV1") by the clusters."""
        return replace(self, sampling=replace(self.sampling, kind=covariance_kind(kind, self.design)))

    # per row --------------------------------------------------------------------------------------------------------
    def theta(self, new: object = None) -> pd.DataFrame:
        """theta(x) for each row, columns named as `params`.

        The fitted rows by default, each by networks that never saw it, on the caller's index with NaN for dropped
        rows; or other data, by the average of all networks.
        """
        design, values = self._at(new, regressors=False)
        return self._rows(design, values.cpu().numpy(), list(self.structure.names))

    def cate(self, new: object = None) -> pd.DataFrame:
        """Effect of each treatment for each row: level changes, and derivatives at the row's own treatment.

        Points, not intervals; see theta() for which rows and networks. For continuous treatments, and where there are
        several structural variables, `new` must hold them.
        """
        some_variable("cate", self.design)
        effects = self._effects()
        edits = [edit for target in effects.values() for edit in target.scenarios(self.design)]
        whole = len(self.design.variables) == 1 and not any(callable(v) for edit in edits for v in edit.values())
        design, values = self._at(new, regressors=not whole)
        columns = []
        for target in effects.values():
            h = target.h(self.structure, values, design.units, *(
                _units(design, edit) for edit in target.scenarios(self.design))).cpu().numpy()  # fmt: skip
            columns.append(h)
        return self._rows(design, np.concatenate(columns, 1), list(effects))

    def predict(self, new: object = None) -> pd.Series:
        """E[y | d, x] for each row at its own structural variables; rows as in theta()."""
        design, values = self._at(new)
        mean = self.structure.family.mean(design.units, values.cpu())
        return self._rows(design, mean[:, None].numpy(), [self.design.outcome]).iloc[:, 0]

    def _at(self, new: object, regressors: bool = True) -> tuple[Design, Tensor]:
        if new is None:
            return self.design, self.scores.theta.mean(0).cpu()
        design = self.design.new(new, regressors=regressors)
        if self.fitted is None:
            return design, self.scores.theta[0, :1].expand(len(design.frame), -1).cpu()
        x = design.inputs.to(self.scores.theta.device)
        centre = None if self.law is None else self.law.centre(x, free_of_intercept(self.structure, x))
        return design, self.fitted.values(x, centre).mean(0).cpu()

    def _rows(self, design: Design, values: np.ndarray, names: list[str]) -> pd.DataFrame:
        full = np.full((len(design.index), len(names)), np.nan)
        full[design.rows] = values
        return pd.DataFrame(full, index=design.index, columns=names)

    # tables ---------------------------------------------------------------------------------------------------------
    def summary(self, alpha: float = 0.05) -> Summary:
        """The table: header, average coefficients, effects, diagnostics and notes."""
        return summarise(self.facts, self.design, self.averages, self.effects, self.sampling, alpha)

    @property
    def plot(self) -> Figures:
        """Plots of the result: coef(), cate(), effect(), dose(), training() and overlap(). Needs matplotlib."""
        return Figures(self)

    def __repr__(self) -> str:
        return f"<deepreg Results of {self.design.formula!r}: {len(self.structure.names)} averages, n = {self.nobs:,}>"


def _units(design: Design, edit):  # type: ignore[no-untyped-def]
    d = design.structural(design.frame.assign(**edit))
    return design.units._replace(d=d)


def free_of_intercept(structure: Structure, like: Tensor) -> Tensor:
    """1 for every structural term but the intercept; (K,)."""
    free = torch.ones(len(structure.terms), dtype=torch.float64, device=like.device)
    if structure.intercept is not None:
        free[structure.intercept] = 0.0
    return free


COVARIANCES = {"robust": "HC1", "HC1": "HC1", "HC0": "HC0", "cluster": "cluster", "CRV1": "cluster"}


def covariance_kind(kind: str, design: Design) -> str:
    """The covariance meant by a name.

    Raises NotAvailable for "iid", OptionError for an unknown name or for clusters that were not given, DataError where
    there is a single cluster.
    """
    if kind in ("iid", "nonrobust", "classical"):
        raise NotAvailable(
            f"vcov={kind!r} assumes errors of one variance, which influence functions neither need nor use; "
            "use vcov='robust', or name a cluster."
        )
    if not isinstance(kind, str) or kind not in COVARIANCES:
        raise OptionError(f"vcov={kind!r} is not known; allowed are {', '.join(map(repr, COVARIANCES))}.")
    if COVARIANCES[kind] == "cluster" and not design.cluster_names:
        raise OptionError(f"vcov={kind!r} needs clusters, but none were given: structural(..., cluster='column').")
    if COVARIANCES[kind] == "cluster":
        for name, code in zip(design.cluster_names, design.cluster.unbind(1), strict=True):
            if not bool((code != code[0]).any()):
                raise DataError(
                    f"cluster={name!r} has one cluster in the {len(code)} rows used, but errors need at least two; "
                    "name another column, or use vcov='robust'."
                )
    return COVARIANCES[kind]
