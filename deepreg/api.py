"""The functions a user calls: read the formula, check the arguments, return a model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from . import covariance, families, instruments, penalties
from .call import Call, arguments
from .constant import bounds as limits
from .curvature import KnownLaw, Randomised
from .design import Design, build
from .errors import DataError, OptionError
from .families import Choice, ConditionalLogit, Family, Linear, LinearSystem, NestedLogit, probability
from .formula import instrumented, outcomes
from .model import Model
from .penalties import Penalty
from .structure import Structure


def structural(
    formula: str,
    data: object,
    family: str | Family | type[Family] | Callable[..., Tensor] = "linear",
    *,
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    offset: str | None = None,
    exposure: str | None = None,
    subset: str | None = None,
    missing: str = "drop",
    assignment: KnownLaw | None = None,
    constant: str | Sequence[str] | None = None,
    loss: str | Callable[..., Tensor] | None = None,
    link: str | Callable[..., Tensor] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    penalty: Penalty | Callable[..., Tensor] | None = None,
    vcov: str | dict[str, str] | None = None,
    cov_type: str | None = None,
    cov_kwds: Mapping[str, object] | None = None,
    context: Mapping[str, object] | None = None,
) -> Model:
    """A regression whose coefficients are functions of features: `outcome ~ structural terms | features | controls`.

    The first part is the regression an economist knows; every coefficient of it is a function theta(x) of the features
    behind the bar. Controls may move the intercept, ancillary parameters and the law of the treatment, never a slope.
    Without a bar theta is constant, and the fit is that of OLS, logit or Poisson regression with robust errors.
    The `|` is that of "regressors | what they vary with", not of fixed effects. With `[t ~ z]` among the structural
    terms, z is an instrument for t; there may be several of both, `[t1 + t2 ~ z1 + z2 + z3]`. `y1 + y2 ~ t | x` has
    several outcomes.

    Parameters
    ----------
    formula : str
        For example "final_grade ~ tutoring | struggling + prior_grade + C(grade_level)".
    data : pandas or polars DataFrame, pyarrow Table or Dataset, path of a file, or mapping of columns
        Never changed. Files are Parquet, .csv, .tsv, .dta (Stata) or .xlsx. Rows with missing or infinite values are
        dropped and counted, or refused (`missing`).
    family : str, Family or function
        "linear", "logit", "poisson" ...; see `deepreg.families.names()`. A function is a loss(y, d, theta) of your own,
        see `deepreg.families.from_loss`.
    weights : str, optional
        Column of positive sampling weights; they enter estimates and variances.
    cluster : str or two names, optional
        Columns of one- or two-way clusters, by which errors are clustered; no fold cuts a cluster of the first.
    offset, exposure : str, optional
        Columns, as in statsmodels: the offset is added to the linear index, with a coefficient of 1, and so is the log
        of the exposure, which is positive, for families whose mean is an exponential. Predictions need the columns, and
        effects leave them as they are. Lambda(x) takes the treatment as independent of them given the features: where
        it is not, make them features or controls too.
    subset : str, optional
        A pandas query that selects rows.
    missing : "drop" or "raise"
    assignment : KnownLaw, optional
        The known law of a randomised treatment.
    constant : str or sequence of str, optional
        Columns of theta, by their names in `result.params`, that are the same for all x while the others vary, such as
        "t" or an ancillary parameter like "log_sigma". A constant "t" of family "linear" is the coefficient of a
        partially linear model (Robinson 1988).
    loss, link : str or function, optional
        Another loss or link for an outcome of 0 and 1, with family "logit", "probit" or "cloglog": loss "logit",
        "brier", or a function loss(p, y) with a value for each row; link "sigmoid", "probit", "cloglog", "clamp",
        "identity", or a function of the index. See `deepreg.families.Probability`.
    bounds : mapping, optional
        Lower and upper limits of constant coefficients by their names in `result.params`, as {"score": (0, None)}; a
        name with a * stands for all it matches but intercepts. Coefficients end exactly at their bounds, and have then
        no error.
    penalty : Penalty or function, optional
        What a fit with constant coefficients pays besides its loss, such as `deepreg.RateGap` or `deepreg.Rounding`;
        see `deepreg.penalties`. Not the L2 penalty on the weights of networks, which is a number given to fit().
    vcov : str or {"CRV1": "column"} or {"CRV1": "a+b"}, optional
        "robust" ("HC1"), "HC0" or "cluster"; by default clustered where `cluster` is given, robust otherwise. Without
        features also "classical" ("nonrobust"), "expected", "opg", "HC2" and "HC3"; see `Results.vcov`.
    cov_type, cov_kwds : str and mapping, optional
        `vcov` as statsmodels spells it: "HC0", "HC1", or "cluster" with {"groups": "column"} or two names.
    context : mapping, optional
        Functions and constants that the formula may use by name; by default those where structural() is called.

    Returns
    -------
    Model
        Call `.fit(rng=0)` on it.

    Raises
    ------
    FormulaError, DataError, OptionError
        Naming the column or argument, what it holds, what is allowed and what to type instead.

    References
    ----------
    Farrell, Liang and Misra (2021), Econometrica 89(1); (2025), arXiv:2010.14694v3.

    Examples
    --------
    >>> import deepreg
    >>> sim = deepreg.simulate.tutorial(500, rng=0)
    >>> res = deepreg.structural("y ~ treatment | x0 + x1", sim.frame).fit(rng=0, progress=False)
    >>> list(res.params.index)
    ['Intercept', 'treatment']
    """
    chosen = probability.of(families.get(family), loss, link)
    if assignment is not None and not isinstance(assignment, KnownLaw):
        raise OptionError(f"assignment={assignment!r}: give deepreg.KnownLaw(probability=...) or KnownLaw(mean=, sd=).")
    options: dict[str, Any] = {"weights": weights, "cluster": cluster, "subset": subset, "missing": missing}
    options |= {"assignment": assignment, "constant": constant, "penalty": penalty}
    vcov = _covariance(vcov, cov_type, cov_kwds)
    options |= {"offset": offset, "exposure": exposure, "bounds": bounds}
    given = arguments({"family": family, "loss": loss, "link": link, **options, "vcov": vcov}, {"missing": "drop"})
    return _model(formula, data, chosen, vcov, context, Call(given, formula=formula), **options)


def choice(
    formula: str,
    data: object,
    *,
    unit: str,
    alternative: str,
    nests: Mapping[str, Sequence[object]] | None = None,
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    offset: str | None = None,
    subset: str | None = None,
    missing: str = "drop",
    assignment: Randomised | None = None,
    constant: str | Sequence[str] | None = None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
    vcov: str | dict[str, str] | None = None,
    cov_type: str | None = None,
    cov_kwds: Mapping[str, object] | None = None,
    context: Mapping[str, object] | None = None,
) -> Model:
    """A conditional or nested logit whose coefficients are functions of features: `chosen ~ attributes | features`.

    The data are long: a row for each alternative that a unit (a trip, a purchase, a task of an experiment) could have
    chosen, and 1 in the outcome of the one it chose. P(j) is proportional to exp(d_j'theta(x)), with d_j the structural
    terms of the row and x the features of the unit. Choice sets may differ between units.

    Parameters
    ----------
    formula : str
        For example "chosen ~ price + time + C(mode) | income". Terms are coded as in a regression with an intercept,
        which then cancels: C(mode) has a base alternative. Features are constant within a unit. Without a bar the fit
        is the conditional logit of McFadden (1974).
    data : pandas or polars DataFrame, pyarrow Table or Dataset, path of a file, or mapping of columns
        Never changed. A row with a missing value is left out with its whole unit, as is a unit with one alternative;
        both are counted in rows. Rows that `subset` takes away are taken as out of the choice set.
    unit, alternative : str
        Columns that say which unit a row belongs to, and which alternative it is.
    nests : mapping, optional
        Names of nests and the alternatives in each, as {"ground": ["bus", "train"], "air": ["air"]}; what no nest names
        stands alone. The fit is then a nested logit, whose log lambda of each nest is a function of the features too;
        see `deepreg.families.NestedLogit`.
    offset : str, optional
        Column of what is added to the utility of each alternative.
    weights, cluster : str, optional
        As in structural(), constant within a unit. Errors take units as independent: where the same person has several,
        give the person as `cluster`.
    subset, missing, constant, bounds, vcov, cov_type, cov_kwds, context
        As in structural().
    assignment : Randomised, optional
        Where choice sets were drawn independently of the features; otherwise Lambda(x) is a regression of Hessians.

    Returns
    -------
    Model
        Call `.fit(rng=0)` on it.

    Raises
    ------
    FormulaError, DataError, OptionError
        Naming the column or argument, an example unit, what is allowed and what to type instead.

    References
    ----------
    McFadden (1974), in Frontiers in Econometrics; Train (2009), Discrete Choice Methods with Simulation, chapter 4;
    Farrell, Liang and Misra (2021), Econometrica 89(1).

    Examples
    --------
    >>> import deepreg, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"trip": np.repeat(np.arange(200), 3), "mode": ["bus", "car", "train"] * 200})
    >>> data["price"], data["income"] = rng.uniform(1, 5, 600), np.repeat(rng.normal(size=200), 3)
    >>> utility = -data.price * np.exp(-0.5 * data.income) + rng.gumbel(size=600)
    >>> data["chosen"] = (utility == utility.groupby(data.trip).transform("max")).astype(int)
    >>> model = deepreg.choice("chosen ~ price + C(mode) | income", data, unit="trip", alternative="mode")
    >>> res = model.fit(learners="smooth", folds=3, rng=0, progress=False)
    >>> list(res.params.index)
    ['C(mode)[T.car]', 'C(mode)[T.train]', 'price']
    """
    if assignment is not None and not isinstance(assignment, Randomised):
        raise OptionError(f"assignment={assignment!r}: choices take deepreg.Randomised().")
    for name, value in (("unit", unit), ("alternative", alternative)):
        if not isinstance(value, str):
            raise OptionError(f"{name}= is a {type(value).__name__}; give the name of a column as a string.")
    if unit == alternative:
        raise OptionError(f"unit={unit!r} and alternative={alternative!r} are one column; give two.")
    options: dict[str, Any] = {"weights": weights, "cluster": cluster, "subset": subset, "missing": missing}
    options |= {"assignment": assignment, "constant": constant}
    vcov = _covariance(vcov, cov_type, cov_kwds)
    options |= {"offset": offset, "exposure": None, "bounds": bounds}
    chosen = ConditionalLogit() if nests is None else NestedLogit.of(nests)
    named = {"unit": unit, "alternative": alternative, "nests": nests}
    given = arguments({**named, **options, "vcov": vcov}, {"missing": "drop"})
    call, packed = Call(given, function="choice", formula=formula), (unit, alternative)
    return _model(formula, data, chosen, vcov, context, call, packed=packed, **options)


def _covariance(
    vcov: str | dict[str, str] | None, cov_type: str | None, cov_kwds: Mapping[str, object] | None
) -> str | dict[str, str] | None:
    return vcov if cov_type is None and cov_kwds is None else covariance.translated(cov_type, cov_kwds, vcov)


def _model(
    formula: str, data: object, chosen: Family, vcov: Any, context: Any, call: Call, *, weights: Any, cluster: Any,
    subset: Any, missing: Any, assignment: KnownLaw | Randomised | None, constant: Any,
    offset: Any, exposure: Any, bounds: Any = None, penalty: Any = None, packed: tuple[str, str] | None = None,
) -> Model:  # fmt: skip
    """The model of structural() and choice(), which call this and nothing between, for the names of their caller."""
    texts: tuple[tuple[str, Any], ...] = (
        ("formula", formula), ("weights", weights), ("subset", subset), ("offset", offset), ("exposure", exposure)
    )  # fmt: skip
    for name, value in texts:
        if value is not None and not isinstance(value, str):
            what = "the formula" if name == "formula" else "a query" if name == "subset" else "the name of a column"
            raise OptionError(f"{name}= is a {type(value).__name__}; give {what} as a string.")
    if isinstance(vcov, dict):
        if cluster is not None:
            raise OptionError("cluster= and vcov={'CRV1': ...} both name clusters; give one of them.")
        cluster, vcov = covariance.named(vcov), "cluster"
    named = context is not None
    if context is None:
        frame = inspect.currentframe()
        caller = frame.f_back.f_back if frame is not None and frame.f_back is not None else None
        context = {**caller.f_globals, **caller.f_locals} if caller is not None else {}
    check_context(context)
    text, chosen, written = _system(formula, chosen)
    check_offset(chosen, offset, exposure)
    paid = None if penalty is None else penalties.get(penalty)
    design = build(
        text,
        data,
        weights=weights,
        cluster=cluster,
        offset=offset,
        exposure=exposure,
        subset=subset,
        missing=missing,
        beside={
            "assignment": assignment.columns if isinstance(assignment, KnownLaw) else (),
            "penalty": () if paid is None else paid.columns,
        },
        outcome=chosen.outcome,
        context=context,
        packed=packed,
    )
    if design.packing is not None and isinstance(chosen, Choice):
        chosen = chosen.among(design.packing.names, bool(design.packing.alternatives))
    chosen.check(design.units, design.outcome)
    chosen, units = chosen.bind(design.units, design.levels)
    design = replace(design, units=units)
    kind = vcov if vcov is not None else ("cluster" if design.cluster_names else "robust")
    if assignment is not None and not design.features and not design.controls:
        raise OptionError(
            f"assignment={assignment!r} says how the treatment was assigned given features, but {formula!r} has none: "
            "theta is constant and its errors need no law of the treatment. Leave assignment= out, or add features."
        )
    several = instruments.among(design, written) if written else None
    structure = _with_constants(Structure(chosen, design.terms, several), constant, design)
    structure = replace(structure, bounds=limits.read(bounds, structure, bool(design.features or design.controls)))
    covariance.known(kind, design, structure)
    if assignment is not None and not structure.free:
        raise OptionError(
            f"assignment={assignment!r} says how the treatment was assigned given features, but constant={constant!r} "
            "leaves no column of theta to vary with them. Leave assignment= out, or hold fewer columns constant."
        )
    if design.n <= len(structure.names):
        raise DataError(
            f"{design.n} {'rows' if packed is None else 'units'} are used for the {len(structure.names)} coefficients "
            f"{', '.join(structure.names)}, which leaves none to judge their errors by. Use fewer terms, or more rows."
        )
    if named and design.recipe.context:
        call = call._replace(model=(*call.model, ("context", "context")))
    if paid is not None:
        penalties.check(paid, design, structure)
        structure = replace(structure, penalised=True)
    return Model(design, structure, kind, assignment, call, paid)


def _with_constants(structure: Structure, given: Any, design: Design) -> Structure:
    """The structure with those columns of theta constant; OptionError for names that are none of them."""
    if given is None:
        return structure
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    known = structure.names
    if not names or any(name not in known or names.count(name) > 1 for name in names):
        raise OptionError(
            f"constant={given!r}: give one or more columns of theta, each once; this model has "
            f"{', '.join(map(repr, known))}."
        )
    if not design.features and not design.controls:
        raise OptionError(
            f"constant={given!r}: {design.formula!r} has no features, so all of theta is constant. Leave constant= "
            "out, or put behind a bar what the other columns vary with."
        )
    return replace(structure, constant=tuple(name for name in known if name in names))


def check_offset(family: Family, offset: str | None, exposure: str | None) -> None:
    """OptionError for families without an index that they could be added to."""
    given = f"offset={offset!r}" if exposure is None else f"exposure={exposure!r}"
    if (offset is not None or exposure is not None) and family.shifted:
        raise OptionError(f"{given}: family={family.name!r} takes none; with z in its place, {family.shifted}.")
    if exposure is not None and not family.log_link:
        known = [name for name in families.names() if families.get(name).log_link]
        raise OptionError(
            f"{given}: the mean of family={family.name!r} is not proportional to an exposure, as that of "
            f"{', '.join(map(repr, known))} is. Give offset=, what is added to the linear index."
        )


def _system(formula: str, chosen: Family) -> tuple[str, Family, tuple[str, ...]]:
    """Formula and family as equations with the same regressors, where there are several, and the instruments."""
    found = instrumented(formula)
    if found is None and outcomes(formula) < 2:
        return formula, chosen, ()
    if not isinstance(chosen, Linear | LinearSystem):
        what = "several outcomes" if found is None else "an instrument"
        raise OptionError(f"family={chosen.name!r}: {formula!r} has {what}, which family='linear' takes.")
    return (formula if found is None else found.formula), LinearSystem(), () if found is None else found.instruments


def check_context(context: object) -> None:
    if not isinstance(context, Mapping) or not all(isinstance(name, str) for name in context):
        raise OptionError(
            f"context={context!r}: give a mapping from names to functions and constants, e.g. {{'f': f}}."
        )
