"""Recipe: everything learned from the training data that rebuilds the columns of a formula on other data."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from formulaic import ModelSpec, SimpleFormula
from formulaic.errors import DataMismatchWarning, FormulaicError
from formulaic.materializers import ClusterBy, PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.parser.types import Factor, Term
from formulaic.transforms import TRANSFORMS as FORMULAIC
from formulaic.transforms import basis_spline, cyclic_cubic_spline, natural_cubic_spline
from formulaic.utils.stateful_transforms import stateful_transform
from interface_meta import override

from deepreg.columns import Column
from deepreg.errors import DataError, FormulaError
from deepreg.formula import check_stored

Spec: TypeAlias = ModelSpec
CATEGORICAL = Factor.Kind.CATEGORICAL
CLIP = 5.0  # standard deviations at which a standardised feature is cut off
MEND = "Restrict the rows, e.g. subset='x > 0', or write a term that is defined for all of them, e.g. np.log1p(x)."


def _spline(basis: Any, extend: bool) -> Any:
    """A formulaic spline whose columns are numbered from 0 as in patsy, and which extends beyond the training range."""

    def spline(x: Any, *args: Any, _state: dict[str, Any], **kwargs: Any) -> FactorValues[Any]:
        if extend and _state:  # a derivative steps a little outside the range; at the fit nothing lies outside
            kwargs.setdefault("extrapolation", "extend")
        columns = basis(x, *args, _state=_state, **kwargs)
        return FactorValues(dict(enumerate(columns.values())), metadata=columns.__formulaic_metadata__)

    return stateful_transform(spline)


def _durations(time: Any, event: Any) -> FactorValues[Any]:
    """The outcome of a duration: how long, and 1 where it ended then, 0 where it was still going on."""
    return FactorValues({"time": np.asarray(time, dtype="float64"), "event": np.asarray(event, dtype="float64")},
                        kind="numerical", spans_intercept=False)  # fmt: skip


@stateful_transform
def _standardize(
    x: Any, center: bool = True, rescale: bool = True, ddof: int = 0, *, _state: dict[str, Any]
) -> np.ndarray:
    """patsy's standardize() and scale(): the sd is about the mean and divides by n, where formulaic differs."""
    values = np.asarray(x, dtype="float64")
    if not _state:
        _state.update(mean=values.mean(axis=0), sd=values.std(axis=0, ddof=ddof))
    values = values - _state["mean"] if center else values
    return values / _state["sd"] if rescale else values


@stateful_transform
def _cut(x: Any, cuts: int = 9, at: Any = None, *, _state: dict[str, Any]) -> FactorValues[Any]:
    """Indicators of x >= c at the observed values c next to `cuts` quantiles, at all of them where they are few, or at
    those in `at`; together any step function of x with steps there."""
    values = np.asarray(x, dtype="float64")
    if not _state:
        levels = np.unique(values)[1:]
        if at is not None:
            levels = np.unique(np.asarray(at, dtype="float64"))
        elif len(levels) > cuts:
            levels = np.unique(np.quantile(values, np.arange(1, cuts + 1) / (cuts + 1), method="higher"))
            levels = levels[levels > values.min()]
        _state.update(at=levels)
    named = {f">= {int(one) if one == int(one) else float(one)!r}": (values >= one) * 1.0 for one in _state["at"]}
    return FactorValues(named, kind="numerical", spans_intercept=False)


TRANSFORMS: Mapping[str, Any] = {
    **{name: transform for name, transform in FORMULAIC.items() if name != "hashed"},  # buckets have no names
    "Surv": _durations,
    "cut": _cut,
    "standardize": _standardize,
    "scale": _standardize,
    "bs": _spline(basis_spline, extend=True),
    "cr": _spline(natural_cubic_spline, extend=False),
    "cs": _spline(natural_cubic_spline, extend=False),
    "cc": _spline(cyclic_cubic_spline, extend=False),
}


class Materializer(PandasMaterializer):
    """formulaic's pandas materializer, with text and booleans as factors (as in patsy) and numbers always float64.

    With `number=True`, for an outcome, a boolean is 0 or 1.
    """

    REGISTER_NAME = "deepreg"
    REGISTER_INPUTS = ()
    REGISTER_PRECEDENCE = 0

    @override
    def _is_categorical(self, values: Any) -> bool:
        if super()._is_categorical(values):
            return True
        kind = getattr(getattr(values, "dtype", None), "kind", "f")
        return kind in ("OUS" if self.params.get("number") else "bOUS")

    @override
    def _cluster_terms(self, terms: Any, cluster_by: Any = ClusterBy.NONE) -> Any:
        """patsy's order: terms of the same numeric factors together, those of none first, then by degree."""
        if cluster_by is ClusterBy.NONE:
            return terms
        buckets: dict[frozenset[str], list[Any]] = {frozenset(): []}
        for term in terms:
            kinds = {factor.expr: self.factor_cache[factor.expr].metadata.kind for factor in term.factors}
            numeric = frozenset(expr for expr, kind in kinds.items() if kind is Factor.Kind.NUMERICAL)
            buckets.setdefault(numeric, []).append(term)
        return [term for bucket in buckets.values() for term in sorted(bucket, key=lambda one: one.degree)]

    @override
    def _encode_numerical(self, values: Any, metadata: Any, encoder_state: Any, spec: Any, drop_rows: Any) -> Any:
        return np.asarray(values, dtype="float64")


class Unseen(NamedTuple):
    """Rows whose value of one factor is not a level known from training."""

    factor: str
    rows: np.ndarray  # (n,) bool
    values: tuple[Any, ...]
    levels: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the formula: formulaic's spec, its column names, and the scaling when the part feeds a network."""

    spec: ModelSpec
    columns: tuple[str, ...]  # names of the spec's columns
    names: tuple[str, ...]  # of the columns kept
    keep: tuple[int, ...]  # their positions among the spec's columns
    mean: np.ndarray | None = None  # (len(keep),)
    sd: np.ndarray | None = None

    @property
    def label(self) -> str:
        """The name of its column; of several, that of the term they come from."""
        return self.names[0] if len(self.names) == 1 else str(next(iter(self.spec.formula)))

    def terms(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every term of the part with the names of its columns."""
        return [(str(term), tuple(columns)) for term, _, columns in self.spec.structure or ()]

    def scale(self, matrix: np.ndarray) -> tuple["Part", tuple[str, ...]]:
        """The part with the means and sds of a training matrix, without constant columns, and the names of those."""
        mean, sd = matrix.mean(axis=0), matrix.std(axis=0)
        varies = (matrix.max(axis=0) > matrix.min(axis=0)) & (sd > 1e-12 * np.abs(mean))
        keep = np.flatnonzero(varies)
        dropped = tuple(name for name, one in zip(self.names, varies, strict=True) if not one)
        names = tuple(self.names[j] for j in keep)
        return replace(self, names=names, keep=tuple(keep.tolist()), mean=mean[keep], sd=sd[keep]), dropped

    def without(self, name: str) -> "Part":
        """The part without one column, which its terms are still coded with."""
        keep = tuple(j for j in self.keep if self.columns[j] != name)
        return replace(self, names=tuple(self.columns[j] for j in keep), keep=keep)

    def scaled(self, matrix: np.ndarray) -> np.ndarray:
        """The kept columns; where there is a scaling, standardised with training means and sds and clipped at +-5."""
        kept = matrix if len(self.keep) == matrix.shape[1] else matrix[:, self.keep]
        if self.mean is None or self.sd is None:
            return kept
        scaled = kept - self.mean
        scaled /= self.sd
        return np.clip(scaled, -CLIP, CLIP, out=scaled)


@dataclass(frozen=True, eq=False)
class Recipe:
    """Formula, specs, scaling, levels and the borrowed names: rebuilds a design without the training data."""

    formula: str
    outcome: Part
    regressors: Part
    features: Part | None
    controls: Part | None
    columns: Mapping[str, Column]  # every data column of the formula
    used: Mapping[str, tuple[str, ...]]  # part -> its data columns
    weights: str | None
    cluster: tuple[str, ...]
    context: Mapping[str, Any]  # names the formula borrowed from where it was written
    offsets: Mapping[str, str]  # "offset" and "exposure" -> its column, where there is one

    def part(self, name: str) -> Part:
        """One part by name; DataError when the formula has none of that name."""
        part = {"outcome": self.outcome, "features": self.features, "controls": self.controls}.get(
            name, self.regressors
        )
        if part is None:
            raise DataError(f"The formula {self.formula!r} has no {name}.")
        return part

    @property
    def levels(self) -> tuple[Any, ...]:
        """The levels of the outcome where it is text or a category."""
        return levels(self.outcome)

    def check(self) -> None:
        """Raise FormulaError unless a file may hold the formula, for its terms are evaluated on other data."""
        parts = {"outcome": self.outcome, "regressors": self.regressors, "features": self.features}
        for name, part in (parts | {"controls": self.controls}).items():
            if part is not None:  # only its own columns will be there; another name would be looked up in Python
                check_stored(part.spec.formula, self.used[name], {*TRANSFORMS, *self.context})

    def conform(
        self, data: Mapping[str, pd.Series] | pd.DataFrame, parts: Iterable[str]
    ) -> tuple[pd.DataFrame, list[Unseen]]:
        """The data columns of some parts in the form seen in training, and the values that are no known level."""
        formed: dict[str, pd.Series] = {}
        unseen: list[Unseen] = []
        for name in dict.fromkeys(name for part in parts for name in self.used[part]):
            if name not in data:
                raise DataError(f"The frame has no column {name!r}, which {self.formula!r} needs.")
            series, column = data[name], self.columns[name]
            formed[name], bad = column.conform(series)
            if bad is not None:
                unseen.append(Unseen(name, bad, tuple(series[bad].drop_duplicates().tolist()), column.levels))
        return pd.DataFrame(formed, copy=False), unseen

    def matrix(self, part: str, formed: pd.DataFrame) -> tuple[np.ndarray, list[Unseen]]:
        """The unscaled columns of one part for conformed data, and the factor values that are no known level."""
        return evaluate(part, self.part(part), formed, self.context)


def levels(part: Part) -> tuple[Any, ...]:
    """The levels of a part that is one categorical factor, with a column for each; () of any other."""
    found = [state.get("categories") for kind, state in part.spec.encoder_state.values() if kind is CATEGORICAL]
    return tuple(found[0]) if len(found) == 1 and len(part.columns) == len(found[0]) else ()


def learn(
    part: str, formula: SimpleFormula, frame: pd.DataFrame, context: Mapping[str, Any]
) -> tuple[ModelSpec, np.ndarray]:
    """Fit one part's transforms and levels on complete rows; returns its spec and columns (n, k).

    The regressors are coded as statsmodels codes them; features and controls get one column for every level, so that a
    level unseen in training can be told from a base level.
    """
    regressors = part == "regressors"
    spec = _blank(formula, regressors)
    materializer = Materializer(frame, context={**TRANSFORMS, **context}, number=part == "outcome")
    _evaluate_factors(materializer, spec)
    for factor, values in _factors(materializer):
        if holes := int(pd.isna(pd.Series(values)).sum()):
            raise DataError(f"The term {factor!r} is undefined in {holes} of {len(frame)} complete rows. {MEND}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataMismatchWarning)  # said as an error just below
        warnings.filterwarnings("ignore", "Constructing a Categorical", DeprecationWarning)
        matrix = _materialize(materializer, spec)
    spec = replace(matrix.model_spec, materializer=None, materializer_params=None)
    for one in _unseen(materializer, spec.encoder_state):
        raise DataError(
            f"The term {one.factor!r} names the levels {', '.join(map(repr, one.levels))}, but "
            f"{int(one.rows.sum())} rows hold {', '.join(map(repr, one.values[:5]))}. Add these levels, or leave the "
            "rows out with subset=."
        )
    return spec, finite(_plain_matrix(matrix, len(frame)), spec.column_names, f" in the {part}")


def _blank(formula: SimpleFormula, full_rank: bool) -> ModelSpec:
    return ModelSpec(
        formula=formula,
        ensure_full_rank=full_rank,
        cluster_by="numerical_factors" if full_rank else "none",
        na_action="ignore",
        output="numpy",
    )


def stored(spec: ModelSpec) -> dict[str, Any]:
    """What a fitted spec is rebuilt from, as plain values: its terms and the state of its transforms and levels."""
    return {
        "full rank": spec.ensure_full_rank,
        "terms": tuple(tuple((one.expr, one.eval_method.value) for one in term.factors) for term in spec.formula),
        "transforms": spec.transform_state,
        "levels": {expr: (kind.value, state.get("categories")) for expr, (kind, state) in spec.encoder_state.items()},
    }


def restored(plain: Mapping[str, Any]) -> ModelSpec:
    """The spec of stored(); nothing is evaluated."""
    terms = [Term([Factor(expr, eval_method=how) for expr, how in factors]) for factors in plain["terms"]]
    levels = {
        str(expr): (Factor.Kind(kind), {} if found is None else {"categories": list(found)})
        for expr, (kind, found) in plain["levels"].items()
    }
    states = {str(expr): dict(state) for expr, state in plain["transforms"].items()}
    spec = _blank(SimpleFormula(terms, _ordering="none"), bool(plain["full rank"]))
    return replace(spec, transform_state=states, encoder_state=levels)


def evaluate(name: str, part: Part, frame: pd.DataFrame, context: Mapping[str, Any]) -> tuple[np.ndarray, list[Unseen]]:
    """The columns (n, k) of a fitted part on other rows; where levels are unseen, those rows and no columns."""
    spec = part.spec
    if not len(frame):
        return np.empty((0, len(part.columns))), []
    states = {key: dict(state) for key, state in spec.transform_state.items()}
    encoders = {key: (kind, dict(state)) for key, (kind, state) in spec.encoder_state.items()}
    spec = replace(spec, transform_state=states, encoder_state=encoders)  # formulaic writes into both
    materializer = Materializer(frame, context={**TRANSFORMS, **context}, number=name == "outcome")
    _evaluate_factors(materializer, spec)
    for expr, factor in materializer.factor_cache.items():
        if expr in encoders and factor.metadata.kind is not encoders[expr][0]:
            raise DataError(
                f"The term {expr!r} was {encoders[expr][0].value} in training but is {factor.metadata.kind.value} now. "
                "Make it return the same kind of values for any data."
            )
    if unseen := _unseen(materializer, encoders):
        return np.empty((0, len(part.columns))), unseen
    return _plain_matrix(_materialize(materializer, spec), len(frame)), []


def finite(matrix: np.ndarray, columns: Iterable[str], where: str, mend: str = MEND) -> np.ndarray:
    """The matrix itself; DataError naming the columns that are not finite."""
    if np.isfinite(matrix).all():
        return matrix
    bad = (~np.isfinite(matrix)).sum(axis=0)
    shown = ", ".join(
        f"{name!r} in {count} of {len(matrix)} rows" for name, count in zip(columns, bad, strict=True) if count
    )
    raise DataError(f"Not a finite number{where}: {shown}. {mend}")


def _evaluate_factors(materializer: Materializer, spec: ModelSpec) -> None:
    try:
        with np.errstate(all="ignore"):
            for factor in dict.fromkeys(factor for term in spec.formula for factor in term.factors):
                materializer._evaluate_factor(factor, spec, set())
    except FormulaicError as error:
        raise FormulaError(f"A term of the formula cannot be computed: {error}") from error


def _factors(materializer: Materializer) -> list[tuple[str, Any]]:
    cache = materializer.factor_cache
    found = [
        (expr, one.values.__wrapped__) for expr, one in cache.items() if one.metadata.kind is Factor.Kind.CATEGORICAL
    ]
    return [(expr, values) for expr, values in found if not isinstance(values, dict)]


def _unseen(materializer: Materializer, encoders: Mapping[str, Any]) -> list[Unseen]:
    unseen = []
    for factor, values in _factors(materializer):
        levels = tuple(encoders[factor][1]["categories"])
        series, known = pd.Series(values), set(levels)
        if extra := [value for value in series.unique().tolist() if value not in known]:
            rows = series.isin(extra).to_numpy(dtype=bool)
            unseen.append(Unseen(factor, rows, tuple(extra), levels))
    return unseen


def _materialize(materializer: Materializer, spec: ModelSpec) -> Any:
    try:
        with np.errstate(all="ignore"):
            return materializer.get_model_matrix(spec)
    except (FormulaicError, ValueError, TypeError) as error:
        raise FormulaError(
            f"The terms {', '.join(map(str, spec.formula))} cannot be turned into columns: {error}"
        ) from error


def _plain_matrix(matrix: Any, rows: int) -> np.ndarray:
    values = np.asarray(matrix, dtype="float64")
    return values if values.size else np.empty((rows, 0))
