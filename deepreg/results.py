"""What a fitted model knows: averages of theta(x) with their errors, theta(x) itself, tests, predictions, tables."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from . import asked, covariance, page, robustness
from .call import spelled
from .comparison import Comparison, compare
from .constant.track import Track
from .design import Design
from .effects import Effects, Question, answer
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .figures import Figures
from .heterogeneity.sensitivity import Sensitivity
from .influence import Scores
from .information import Lambda
from .law import FittedLaw, Overlap
from .measures import Measures
from .pointwise import Inference
from .prediction import Prediction, means, placed, predicted
from .report.summary import Summary
from .rows import theta_at
from .sampling import Sampling
from .splits import Splits
from .storage import persist
from .storage.kept import Kept
from .storage.portable import Asked
from .structure import Structure
from .summary import Facts, summarise
from .targets import Coefficient, Target, resolve
from .targets.average import some_variable
from .theta import Theta
from .trainers import History, Trainer
from .validation import Validation
from .wald import WaldTest


@dataclass(frozen=True, repr=False, eq=False)
class Results(Measures, Effects):
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
    overlap: Overlap | None = None
    again: Callable[..., "Results"] | None = None  # the same fit to another design, with options of fit() that differ
    track: Track | None = None  # of constant theta

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

    def tidy(self, style: str = "statsmodels", alpha: float = 0.05) -> pd.DataFrame:
        """`params` with errors, tests and intervals; column names of "statsmodels", "broom" (R) or "pyfixest"."""
        return self.averages.tidy(style, alpha)

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        table = self.tidy("pyfixest")
        return table.set_axis(["b", "se", "t", "p", "ci95l", "ci95u"], axis=1)

    @property
    def __maketables_depvar__(self) -> str:
        return self.design.outcome

    def __maketables_stat__(self, key: str) -> object:
        return {"N": self.nobs, "r2": self.rsquared, "pseudo_r2": self.prsquared, "ll": self.llf}.get(key)

    @property
    def fittedvalues(self) -> pd.Series | pd.DataFrame:
        """E[y | d, x] for the rows used, held out; on their index."""
        return self.predict().iloc[self.design.rows]

    @property
    def resid(self) -> pd.Series:
        """Outcome less `fittedvalues`. Raises NotAvailable where the outcome is no single number."""
        return (self._outcome("resid") - self.predict().iloc[self.design.rows]).rename("resid")

    def _outcome(self, wanted: str) -> pd.Series:
        family = self.structure.family
        if family.outcome != "number" or family.labels:
            raise NotAvailable(f"{wanted} needs an outcome that is one number, unlike that of family {family.name!r}.")
        return pd.Series(self.design.units.y.cpu().numpy(), self.design.labels)

    @property
    def history(self) -> History | Track | None:
        """Training and validation losses of every replicate network; None where no network was trained.

        Of constant theta, the losses in sample and out of it where fit() was given `trainer`, `holdout` or `track`.
        """
        return self.track if self.fitted is None else self.fitted.history

    def fit(
        self, *, start: "Results | Mapping[str, float] | None" = None, trainer: Trainer | None = None,
        holdout: object = None, track: int | None = None,
    ) -> "Results":  # fmt: skip
        """Constant theta fitted again to the same rows, with the options of its fit where they are not given anew.

        `fit(start=result)` goes on from there; the curves of `history` are then those of both. See `Model.fit`.
        """
        if self.again is None:
            raise NotAvailable(f"fit() needs the rows of the fit, which were not saved. {AGAIN}")
        given = {"start": start, "trainer": trainer, "holdout": holdout, "track": track}
        return self.again(self.design, **{name: one for name, one in given.items() if one is not None})

    # targets --------------------------------------------------------------------------------------------------------
    def estimate(self, *targets: str | Target | type[Target], sample: str = "population") -> Estimates:
        """Targets with influence-function errors and their joint covariance.

        Each target is a name, such as "ate", "ame" or "spread", a class or an object of `deepreg.targets`.
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

    def average_effect(self, effect: str | None = None) -> Estimates:
        """The average of one column of cate(), debiased: the ATE of a level, or the AME of a continuous variable.

        `effect` is the column's name, and can be left out where there is one. Raises OptionError naming the columns.
        """
        some_variable("average_effect", self.design)
        known = asked.effects(self.design)
        if effect is None and len(known) == 1:
            effect = next(iter(known))
        if effect not in known:
            raise OptionError(f"effect={effect!r}: give the name of one effect, of {', '.join(map(repr, known))}.")
        return self.estimate(known[effect])

    @cached_property
    def effects(self) -> Estimates | None:
        """The effects a summary shows: ATE, and AME where the coefficient does not already say it."""
        shown = asked.shown(self.design, self.structure, self.scores.integrable)
        return self.estimate(*shown) if shown else None

    def usual(self) -> tuple[tuple[Target, ...], ...]:
        """The targets that the summary and get_margeff() ask for together."""
        return asked.usual(self.design, self.structure, self.scores.integrable)

    def get_margeff(self, at: str = "overall", dummy: bool = False) -> Estimates:
        """Average marginal effects over the rows, in statsmodels' sense: variance given the features in hand.

        Derivatives for numeric variables and changes from the first level for the others; with `dummy`, changes from 0
        to 1 for variables of these two values. `at` is "overall", or "mean", "median" or "zero" of all structural
        variables. Use estimate("ame") for the average over the population.
        """
        return self.estimate(*asked.margins(self.design, dummy, at), sample="fixed")

    def sensitivity(
        self, *targets: str | Target | type[Target], cf_y: float = 0.03, cf_d: float = 0.03, rho: float = 1.0,
        null: float = 0.0, benchmarks: Sequence[str | Sequence[str]] = (),
    ) -> Sensitivity:  # fmt: skip
        """Bounds on averages under a confounder that nobody observed, and how strong it must be to overturn them.

        targets : as in estimate(), averages that are linear in E[y | d, x]; NotAvailable for others.
        cf_y, cf_d, rho, null : the strength of the confounder, as in `deepreg.heterogeneity.sensitivity`.
        benchmarks : features, or groups of them, to compare with: the model is fitted again without each.
        """
        return robustness.sensitivity(self, targets, cf_y=cf_y, cf_d=cf_d, rho=rho, null=null, benchmarks=benchmarks)

    # tests ----------------------------------------------------------------------------------------------------------
    def t_test(self, constraint: object) -> Estimates:
        """Each hypothesis on `params` on its own: t_test("tutoring = 2"), t_test("tutoring/Intercept = 1")."""
        return self.averages.t_test(constraint)

    def wald_test(self, constraint: object) -> WaldTest:
        """All hypotheses on `params` together, a chi-squared test."""
        return self.averages.wald_test(constraint)

    def compare(self, other: object, names: Mapping[str, str] | None = None) -> Comparison:
        """What flexibility changed: `params` beside the coefficients of a statsmodels fit to the same rows.

        Differences have errors from both fits' influence functions, and are tested together. `names` maps coefficients
        of this fit to those of the other where they are called differently.
        """
        return compare(self.averages, other, names, self._outcome("compare()"))

    def vcov(self, kind: str | Mapping[str, str], data: object = None) -> "Results":
        """A new result with another covariance: "robust" ("HC1"), "HC0", or "cluster" ("CRV1") by the clusters.

        Without features also "classical" ("nonrobust", "iid"), the inverse Hessian of a likelihood and sigma^2
        (X'X)^{-1} of least squares; "expected", that with the expected Hessian; "opg", the outer product of gradients;
        and "HC2" and "HC3", with leverages (see `deepreg.constant.classical.covariance`). NotAvailable where there is
        none.
        {"CRV1": "g"} and {"CRV1": "g+h"} name the cluster columns: those given to structural(), others of the formula,
        or columns of `data`, the data of the fit. Folds stay as they were drawn; a note says where they cut clusters.
        """
        design, chosen = covariance.changed(self.design, self.structure, kind, data)
        scores = self.scores.under(chosen) if isinstance(kind, str) else self.scores
        cluster = design.cluster.to(self.sampling.weight.device)
        sampling = replace(self.sampling, kind=chosen, cluster=cluster, ways=covariance.ways(design))
        call = self.facts.call.then("vcov", spelled(kind), *(() if data is None else ("data",)))
        facts = replace(self.facts, notes=covariance.noted(self.facts.notes, design, chosen), call=call)
        return replace(self, design=design, scores=scores, sampling=sampling, facts=facts)

    def get_robustcov_results(
        self, cov_type: str = "HC1", groups: str | Sequence[str] | None = None, data: object = None
    ) -> "Results":
        """vcov() as statsmodels spells it: cov_type "HC0", "HC1" or "cluster"; `groups` is one column name, or two."""
        return self.vcov(cov_type if groups is None else covariance.spelled(cov_type, groups), data)

    # per row --------------------------------------------------------------------------------------------------------
    def theta(self, new: object = None) -> pd.DataFrame:
        """theta(x) for each row, columns named as `params`.

        The fitted rows by default, each by networks that never saw it, on the caller's index with NaN for dropped
        rows; or other data, by the average of all networks. Of a choice model, a row for each unit, by its id.
        """
        design, values = self._at(new, regressors=False)
        return placed(design, values.cpu().numpy(), self.structure.names)

    def cate(self, new: object = None) -> pd.DataFrame:
        """Effect of each treatment for each row: level changes, and derivatives at the row's own treatment.

        Points, not intervals; see theta() for which rows and networks. For continuous treatments, and where there are
        several structural variables, `new` must hold them.
        """
        some_variable("cate", self.design)
        effects = asked.effects(self.design)
        design, values = self._at(new, regressors=not asked.whole(effects, self.design))
        return placed(design, asked.per_row(effects, design, self.structure, values), self.structure.each(effects))

    def predict(self, new: object = None) -> pd.Series | pd.DataFrame:
        """E[y | d, x] for each row at its own structural variables, a column for each mean; rows as in theta().

        Of a choice model, the probability of each row's alternative, on the caller's index.
        """
        design, values = self._at(new)
        return means(design, self.structure, values)

    def get_prediction(self, new: object = None) -> Prediction:
        """Predictions of the mean, with errors and intervals where coefficients are constant; rows used."""
        design, values = self._at(new)
        cov = self.averages.cov if self.scores.constant else None
        return predicted(design, self.structure.family, values, cov)

    def _at(self, new: object, regressors: bool = True) -> tuple[Design, Tensor]:
        return theta_at(self, new, regressors)

    def _ask(self, question: Question, X: object, errors: bool) -> Inference:
        return answer(self, question, X, errors)

    # tables ---------------------------------------------------------------------------------------------------------
    def summary(self, alpha: float = 0.05) -> Summary:
        """The table: header, average coefficients, effects, diagnostics and notes."""
        return summarise(self.facts, self.design, self.averages, self.effects, alpha, self.structure)

    def report(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, templates: str | os.PathLike[str] | None = None
    ) -> Path:
        """Write one HTML page with the tables, plots, a reading of the diagnostics and the call; returns its path.

        The page fetches nothing and runs nothing, so it can be mailed or printed. `templates` is a folder with a
        `report.html.j2` of your own. Needs matplotlib. Raises OptionError for a place that cannot be written to.
        """
        return page.write(self, path, overwrite, None if templates is None else Path(templates))

    @property
    def plot(self) -> Figures:
        """Plots: coef(), cate(), effect(), dose(), heterogeneity(), training() and overlap(). Needs matplotlib."""
        return Figures(self)

    @property
    def heterogeneity(self) -> Validation:
        """Whether differences between effects are real: test(), rate(), toc(), gain(), gates(), calibration() ..."""
        return Validation(self)

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
