"""What a fitted model knows: averages of theta(x) with their errors, theta(x) itself, tests, predictions, tables."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from . import hypotheses, persist
from .curvature import Lambda
from .design import Design
from .errors import DataError, NotAvailable, OptionError
from .estimates import Estimates, Sampling, WaldTest
from .influence import Scores
from .kept import Kept
from .law import FittedLaw
from .portable import Asked
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
    scores: Scores | Kept
    sampling: Sampling
    facts: Facts
    splits: Splits | None = None
    fitted: Theta | None = None
    law: FittedLaw | None = None
    curvature: Lambda | None = None

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
        return self.design.n

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
        return self.scores.answer(chosen, names, sample, self.sampling)

    def ate(self, sample: str = "population") -> Estimates:
        """Average treatment effects of every discrete treatment, each level against its base level."""
        return self.estimate("ate", sample=sample)

    def _effects(self) -> tuple[ATE | AME, ...]:
        """One target for each structural variable: ATE of levels, AME of a continuous variable."""
        return tuple(
            ATE(v.name) if v.kind == "discrete" else AME(v.name).bind(self.design) for v in self.design.variables
        )

    @cached_property
    def effects(self) -> Estimates | None:
        """The effects a summary shows: ATE, and AME where the coefficient does not already say it."""
        shown = self._shown()
        return self.estimate(*shown) if shown else None

    def _shown(self) -> tuple[ATE | AME, ...]:
        shown = [t for t in self._effects() if isinstance(t, ATE) or not self._is_coefficient(str(t.name))]
        return tuple(t for t in shown if self.scores.integrable or not t.observed(self.design))

    def usual(self) -> tuple[tuple[Target, ...], ...]:
        """The targets that the summary and get_margeff() ask for together."""
        if not self.design.variables:
            return ()
        return tuple(t for t in (self._shown(), self._margins(False), self._margins(True)) if t)

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
        return self.estimate(*self._margins(dummy), sample="fixed")

    def _margins(self, dummy: bool) -> tuple[ATE | AME, ...]:
        return tuple(
            AME(v.name) if v.kind == "continuous" or (v.name in self.structure.terms
                                                      and not (dummy and v.levels == (0, 1))) else ATE(v.name)
            for v in some_variable("get_margeff", self.design)
        )  # fmt: skip

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
        chosen = covariance_kind(kind, self.design)
        return replace(self, scores=self.scores.under(chosen), sampling=replace(self.sampling, kind=chosen))

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
        edits = [edit for target in self._effects() for edit in target.scenarios(self.design)]
        whole = len(self.design.variables) == 1 and not any(callable(v) for edit in edits for v in edit.values())
        design, values = self._at(new, regressors=not whole)
        columns, names = [], []
        for target in self._effects():
            h = target.h(self.structure, values, design.units, *(
                _units(design, edit) for edit in target.scenarios(self.design))).cpu().numpy()  # fmt: skip
            columns.append(h)
            levels = target.pairs(self.design) if isinstance(target, ATE) else []
            several = len(levels) > 1
            names += [f"{target.name}[{hi}]" for hi, _ in levels] if several else [str(target.name)]
        return self._rows(design, np.concatenate(columns, 1), names)

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
            assert self.scores.everywhere is not None
            return design, self.scores.everywhere.expand(len(design.frame), -1).cpu()
        x = design.inputs.to(self.fitted.coordinates.start.device)
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

    # files ----------------------------------------------------------------------------------------------------------
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        data: bool = False,
        overwrite: bool = False,
        targets: Asked | Iterable[Asked] = (),
    ) -> None:
        """Write the result to one file that `deepreg.load` reads, safetensors with a JSON document in its header.

        The file holds theta(x), the estimates that go by a name, and what rebuilds the design on other data; no row,
        and so the size does not grow with the data. `targets` are further ones to keep the estimates of; those in a
        tuple are estimated together. With data=True the rows go in too, and what is loaded does all that this result
        does. Writing is atomic, and an existing file is replaced only with overwrite=True.

        Raises OptionError for a place that cannot be written to, NotAvailable where the result holds code of yours: a
        network, or a term beyond arithmetic. Of functions that the formula borrows, and of a family of yours, the name
        is kept; load() asks for them.
        """
        persist.save(self, path, data, overwrite, targets)

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
        for name, groups in zip(design.cluster_names, design.groups, strict=True):
            if groups < 2:
                raise DataError(
                    f"cluster={name!r} has one cluster in the {design.n} rows used, but errors need at least two; "
                    "name another column, or use vcov='robust'."
                )
    return COVARIANCES[kind]
