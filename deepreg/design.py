"""Design: a formula and data turned into the tensors a model is fitted to, on one row-filtered frame."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deepreg import columns as door
from deepreg import packing, refusals
from deepreg.columns import Column
from deepreg.errors import DataError, DeepregWarning, OptionError
from deepreg.formula import Parsed, near, read
from deepreg.packing import Packing
from deepreg.recipe import TRANSFORMS, Part, Recipe, Unseen, finite, learn, levels
from deepreg.sample import Sample, codes, draw, without
from deepreg.units import NOTHING, Units
from deepreg.variables import Variable


@dataclass(frozen=True, eq=False)
class Design:
    """The tensors of `outcome ~ regressors | features | controls` on the rows used, and how to rebuild them elsewhere.

    units.y is (n,), units.d (n, K) with columns named by `terms` as statsmodels names them; x (n, p) and w (n, q) are
    the features and controls, standardised, clipped at +-5 standard deviations and in single precision. The other
    tensors are float64 but for cluster (n, 0|1|2), which holds codes 0..G-1.

    Rows that were packed, by build(packed=...), are the alternatives inside n units: units.y is (n,) the position
    chosen, units.d (n, J, K) and units.mask (n, J). `frame`, `index` and `rows` are then those of the rows, all other
    tensors have a unit in each row, and no variable is the same thing for all of a unit, so `variables` is empty.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> data = {"y": rng.normal(size=50), "t": rng.normal(size=50), "x": rng.normal(size=50)}
        >>> design = build("y ~ t | x", data)
        >>> design.terms, tuple(design.at(t=1.0).d.shape)
        (('Intercept', 't'), (50, 2))
    """

    units: Units
    x: Tensor  # (n, p)
    w: Tensor  # (n, q)
    terms: tuple[str, ...]
    features: tuple[str, ...]
    controls: tuple[str, ...]
    outcome: str
    variables: tuple[Variable, ...]
    weight: Tensor  # (n,)
    cluster: Tensor  # (n, 0|1|2) long
    cluster_names: tuple[str, ...]
    frame: pd.DataFrame
    index: pd.Index
    rows: np.ndarray  # (n,) positions in the caller's data
    dropped: Mapping[str, int]
    recipe: Recipe
    formula: str
    notes: tuple[str, ...] = ()
    n: int = 0  # rows used, and clusters of each kind among them, also where the rows themselves were left behind
    groups: tuple[int, ...] = ()
    packing: Packing | None = None

    @property
    def labels(self) -> pd.Index:
        """The caller's names of the n units: index labels of the rows used, or the ids of what rows were packed to."""
        return self.index[self.rows] if self.packing is None else self.packing.index

    @property
    def editable(self) -> tuple[Variable, ...]:
        """The raw columns among the structural terms that a target may edit."""
        return self.variables if self.packing is None else self.packing.attributes

    @property
    def levels(self) -> tuple[Any, ...]:
        """The levels of an outcome that is text or a category, in order; the names of several outcomes; else ()."""
        names = self.recipe.outcome.names
        return self.recipe.levels or (names if len(names) > 1 else ())

    @property
    def inputs(self) -> Tensor:
        """Features and controls side by side, as networks read them; (n, p + q)."""
        return torch.cat([self.x, self.w], 1) if self.w.shape[1] else self.x

    def structural(self, frame: pd.DataFrame) -> Tensor:
        """The structural columns d (len(frame), K) for an edited copy of rows of `self.frame`; any number of rows.

        Packed, (units, J, K), for rows that are. Raises DataError where the frame lacks a variable, holds a level not
        seen in training, or gives a value that is not finite.
        """
        formed, unseen = self.recipe.conform(frame, ["regressors"])
        if not unseen:
            matrix, unseen = self.recipe.matrix("regressors", formed)
        if unseen:
            raise DataError(" ".join(map(_unseen, unseen)))
        part = self.recipe.regressors
        matrix = part.scaled(finite(matrix, part.columns, " after the edit", "Choose values for which it is."))
        d = torch.from_numpy(np.ascontiguousarray(matrix))
        return d if self.packing is None else self.packing.pack(frame, d)

    def at(self, **values: Any) -> Units:
        """The same units with structural variables set to a scalar, an array (n,), or a callable of `self.frame`.

        Raises DataError for a name that is not a structural variable, an array of another length, or an unseen level.
        """
        names = [variable.name for variable in self.editable]
        inside = [] if self.packing is None else [self.packing.unit, self.packing.alternative]
        edited = self.frame[list(dict.fromkeys([*names, *inside]))].copy(deep=False)
        for name, value in values.items():
            if name not in names:
                raise DataError(
                    f"{name!r} is no variable of the structural terms of {self.formula!r}. {near(name, names)}"
                )
            edited[name] = self._value(name, value)
        return self.units._replace(d=self.structural(edited))

    def new(
        self, data: Any, outcome: bool = False, unseen: str = "nan", regressors: bool = True, controls: bool = True
    ) -> "Design":
        """The same design on other data, with the transforms, levels and scaling of training.

        Rows with missing values or unseen levels are left out: `rows` holds the positions used, `index` all of the
        caller's rows. unseen="raise" makes an unseen level a DataError; by default one warning names it. Without
        `outcome`, y is NaN, weights are 1 and there are no clusters; without `regressors`, d is NaN; `controls`
        left out are at their means: those columns are not needed then.
        """
        if unseen not in ("nan", "raise"):
            raise OptionError(f"unseen={unseen!r} is not known. Type 'nan' (leave such rows out) or 'raise'.")
        skipped = {"outcome": outcome, "regressors": regressors, "controls": controls}
        return _rebuild(self, data, {part for part, wanted in skipped.items() if not wanted}, unseen)

    def without_rows(self) -> "Design":
        """Everything but the rows: enough for `new` and `structural`, of a size that does not grow with the data."""
        return replace(
            self,
            units=self.units.each(lambda part: part[:0]),
            x=self.x[:0],
            w=self.w[:0],
            weight=self.weight[:0],
            cluster=self.cluster[:0],
            frame=self.frame[list(self.recipe.columns)].iloc[:0],
            index=pd.RangeIndex(0),
            rows=self.rows[:0],
            packing=None if self.packing is None else self.packing.empty(),
        )

    def first(self, frame: pd.DataFrame, values: np.ndarray) -> np.ndarray:
        """Values for each unit, from values for each of its rows in (an edit of rows of) `self.frame`."""
        return values if self.packing is None else values[self.packing.first(frame)]

    def _value(self, name: str, value: Any) -> Any:
        if callable(value):
            value = value(self.frame)
        shape = np.shape(value)
        if shape == ():
            return value
        if shape != (len(self.frame),):
            raise DataError(
                f"at({name}=...) got shape {shape}; the design has {len(self.frame)} rows. Pass a scalar, an "
                f"array of {len(self.frame)} values (of an array v for all {len(self.index)} rows of the data, "
                "v[design.rows]), or a function of the frame."
            )
        return value.array if isinstance(value, pd.Series) else np.asarray(value)


def edited(frame: pd.DataFrame, edit: Mapping[str, Any]) -> pd.DataFrame:
    """The frame after an edit, each variable of which is set by what the frame was before."""
    return frame.assign(**{name: value(frame) if callable(value) else value for name, value in edit.items()})


def build(
    formula: str,
    data: Any,
    *,
    weights: str | None = None,
    cluster: str | Sequence[str] | None = None,
    offset: str | None = None,
    exposure: str | None = None,
    subset: str | None = None,
    missing: str = "drop",
    beside: Mapping[str, Sequence[str]] | None = None,
    outcome: str = "number",
    context: Mapping[str, Any] | None = None,
    packed: tuple[str, str] | None = None,
    collinear: bool = False,
) -> Design:
    """Read a formula against data: the design of `outcome ~ structural terms | features | controls`.

    Here `|` reads "regressors | what they vary with". `data` is a pandas or polars DataFrame, a pyarrow Table or a
    dict of arrays, and is never changed. `weights` names a column of positive weights, `cluster` one or two columns,
    `offset` one of what is added to the linear index, `exposure` one of positive numbers whose log is,
    `subset` is a pandas query; missing="drop" leaves rows with missing or infinite values out and counts them by cause,
    "raise" refuses them. `beside` names more columns that have to be there and are kept, by what they are for.
    `outcome` says what it may be: "number"; "levels", text and categories too, of which y holds the positions among
    the levels; "durations", also Surv(time, event), of which y is (n, 2); or "several", y1 + y2, of which y is (n, m).
    `context` holds names the formula may use besides columns (functions, constants). `packed` names the columns of the
    unit and of the alternative inside it, of data with a row for each alternative: the outcome is then 1 for the
    alternative chosen and 0 for the others, features are constant within a unit, and structural terms have no
    intercept, though they are coded as with one. `collinear` says that the structural terms may be.

    Raises FormulaError or DataError, saying what to type instead.

    Examples:
        >>> build("y ~ t | x", {"y": [1., 2., 4., 3.], "t": [0, 1, 0, 1], "x": [1., 2., 3., None]}).dropped
        {'missing regressors': 1}
    """
    if missing not in ("drop", "raise"):
        raise OptionError(f"missing={missing!r} is not known. Type missing='drop' or missing='raise'.")
    context = dict(context or {})
    groups = refusals.groups(cluster)
    offsets = {role: one for role, one in (("offset", offset), ("exposure", exposure)) if one is not None}
    table = door.table(data)
    reserved = [*groups, *([] if weights is None else [weights]), *offsets.values(), *(packed or ())]
    parsed = read(formula, door.names(table), context, TRANSFORMS, reserved, outcome == "several")
    borrowed = {name: context[name] for name in sorted(parsed.borrowed)}
    refusals.refuse_arrays(borrowed, len(door.index(table)), formula)
    beside = {role: wanted for role, wanted in (beside or {}).items() if wanted}
    for role, wanted in beside.items():
        door.require(table, wanted, f"{role}=")
    needed = {**parsed.columns, **beside}
    sample = draw(
        table, needed, weights=weights, cluster=groups, offsets=offsets, subset=subset, missing=missing,
        context=context, packed=packed, alone=False,
    )  # fmt: skip
    if not len(sample.rows):
        raise DataError(f"No rows are left of {len(sample.index)}: {_shown(sample.dropped) or 'the data are empty'}.")
    learned = {name: Column.learn(series, name in parsed.categorical) for name, series in sample.columns.items()}
    columns = {name: column for name, (column, _) in learned.items()}
    frame = _frame({name: series for name, (_, series) in learned.items()}, sample)
    if outcome != "levels":
        refusals.check_outcome(parsed, columns)
    inside = None
    if packed is not None and sample.ids is not None:
        alike = sample.extra.drop(columns={*offsets.values()} - {weights, *groups})
        inside = Packing.of(frame, alike, sample.ids, packed, parsed.columns, columns)
    parts, matrices, notes = _learn(parsed, frame, columns, borrowed, outcome, inside)
    d = matrices["regressors"]
    if inside is not None:
        d = inside.within(frame, d)
    refusals.check_regressors(parts["regressors"], d, parsed, collinear)
    recipe = Recipe(
        formula, parts["outcome"], parts["regressors"], parts.get("features"), parts.get("controls"), columns=columns,
        used=dict(parsed.columns), weights=weights, cluster=groups, context=borrowed, offsets=offsets,
    )  # fmt: skip
    variables = () if inside is not None else parsed.columns["regressors"]
    of_rows = tuple(Variable.of(name, frame[name], columns[name]) for name in variables)
    return _design(recipe, matrices, sample, frame, of_rows, tuple(notes), inside)


def _design(
    recipe: Recipe,
    matrices: Mapping[str, np.ndarray],
    sample: Sample,
    frame: pd.DataFrame,
    variables: tuple[Variable, ...],
    notes: tuple[str, ...],
    inside: Packing | None,
) -> Design:
    rows = slice(None) if inside is None else inside.first(frame)  # the first of each unit
    weight = sample.weight[rows]
    n = len(weight)
    groups = tuple(name for name in recipe.cluster if name in sample.extra)
    code = codes(sample.extra.iloc[rows], groups)
    controls = recipe.controls.names if recipe.controls else ()
    y = matrices.get("outcome", np.full((n, 1), np.nan))  # (n, 1), or (n, 2) of durations
    if "outcome" in matrices and recipe.levels:
        y = y @ np.arange(len(recipe.levels))[:, None]
    if "outcome" in matrices and inside is not None:
        y = packing.chosen(inside, frame, y[:, 0], recipe.outcome.label)[:, None]
    d = _tensor(matrices.get("regressors", np.full((len(frame), len(recipe.regressors.names)), np.nan)))
    mask = torch.ones(len(frame), dtype=torch.float64)
    offset = _tensor(sample.offset) if recipe.offsets else NOTHING
    if inside is not None:
        d, mask = inside.pack(frame, d), inside.pack(frame, mask)
        offset = inside.pack(frame, offset) if recipe.offsets else offset
    return Design(
        units=Units(_tensor(y[:, 0] if y.shape[1] == 1 else y), d, mask, offset),
        x=_tensor(matrices.get("features", np.empty((n, 0))), "float32"),
        w=_tensor(
            matrices.get("controls", np.zeros((n, len(recipe.controls.names) if recipe.controls else 0))), "float32"
        ),
        terms=recipe.regressors.names,
        features=recipe.features.names if recipe.features else (),
        controls=controls,
        outcome=recipe.outcome.label,
        variables=variables,
        weight=_tensor(weight),
        cluster=torch.from_numpy(code),
        cluster_names=groups,
        frame=frame,
        index=sample.index,
        rows=sample.rows,
        dropped=sample.dropped,
        recipe=recipe,
        formula=recipe.formula,
        notes=notes,
        n=n,
        groups=tuple((code.max(axis=0) + 1).tolist()) if n else (0,) * len(groups),
        packing=inside,
    )


def _learn(
    parsed: Parsed, frame: pd.DataFrame, columns: Mapping[str, Column], borrowed: Mapping[str, Any], outcome: str,
    inside: Packing | None,
) -> tuple[dict[str, Part], dict[str, np.ndarray], list[str]]:  # fmt: skip
    parts: dict[str, Part] = {}
    matrices: dict[str, np.ndarray] = {}
    notes: list[str] = []
    formed = frame.assign(**{name: column.conform(frame[name])[0] for name, column in columns.items()})
    each = formed if inside is None else formed.iloc[inside.first(frame)].reset_index(drop=True)
    for name, terms in parsed.parts.items():
        of_units = name in ("features", "controls")
        spec, matrix = learn(name, terms, each if of_units else formed, borrowed)
        part = Part(spec, names := tuple(spec.column_names), names, tuple(range(matrix.shape[1])))
        if name == "regressors" and inside is not None:
            part = refusals.without_intercept(part, parsed, inside.alternative)
            for one in packing.cancelling(inside, frame, part.scaled(matrix), part.names, parsed.text):
                part = part.without(one)
        if name == "outcome":
            refusals.check_width([str(term) for term in terms], matrix, bool(levels(part)), outcome)
        if name in ("features", "controls") and matrix.shape[1]:
            part, found = part.scale(matrix)
            if not part.names:
                raise DataError(
                    f"All {name} of {parsed.text!r} are constant in the {len(matrix)} rows used ({', '.join(found)}). "
                    "Name columns that vary, or drop the bar."
                )
            notes.extend(f"{one} is constant in the rows used and was left out of the {name}." for one in found)
        parts[name], matrices[name] = part, part.scaled(matrix)
    return parts, matrices, notes


def _rebuild(trained: Design, data: Any, skipped: set[str], policy: str) -> Design:
    recipe, outcome = trained.recipe, "outcome" not in skipped
    used = {part: names for part, names in recipe.used.items() if part not in skipped}
    table, inside = door.table(data), trained.packing
    packed = None if inside is None else (inside.unit, inside.alternative)
    if packed is not None and "regressors" in skipped and not set(packed) <= set(door.names(table)):
        inside = packed = None  # features alone: each row is a unit
    sample = draw(
        table, used, weights=recipe.weights if outcome else None, cluster=recipe.cluster if outcome else (),
        offsets={} if "regressors" in skipped else recipe.offsets, packed=packed,
    )  # fmt: skip
    unseen: dict[str, Unseen] = {}
    while True:  # a level may only show after a transform, so leave rows out and look again
        formed, found = recipe.conform(sample.columns, used)
        matrices: dict[str, np.ndarray] = {}
        for part in used if not found else ():
            matrices[part], more = recipe.matrix(part, formed)
            found.extend(more)
        if not found:
            break
        unseen.update({one.factor: one for one in found if one.factor not in unseen})
        bad = np.logical_or.reduce([one.rows for one in found])
        sample = without(sample, bad, "unseen level", None if inside is None else inside.unit)
    if unseen:
        message = " ".join(map(_unseen, unseen.values()))
        if policy == "raise":
            raise DataError(message + " Pass unseen='nan' to leave such rows out.")
        count = sum(sample.dropped.get(cause, 0) for cause in ("unseen level", packing.INCOMPLETE))
        warnings.warn(f"{message} {count} row{'s are' if count > 1 else ' is'} left out.", DeepregWarning, stacklevel=5)
    for part, matrix in matrices.items():
        one = recipe.part(part)
        matrices[part] = one.scaled(finite(matrix, one.columns, f" in the {part}"))
    frame = _frame(formed, sample)
    if inside is not None and packed is not None and sample.ids is not None:
        inside = inside.on(frame, sample.extra, sample.ids, used)
        if "features" in matrices:
            matrices["features"] = matrices["features"][inside.first(frame)]
    return _design(recipe, matrices, sample, frame, trained.variables, trained.notes, inside)


def _unseen(one: Unseen) -> str:
    values = ", ".join(map(repr, one.values[:5])) + (" ..." if len(one.values) > 5 else "")
    return (
        f"{one.factor!r} has level{'s' if len(one.values) > 1 else ''} {values} not seen in training. "
        f"Levels: {', '.join(map(repr, one.levels[:20]))}{' ...' if len(one.levels) > 20 else ''}."
    )


def _frame(columns: Mapping[str, pd.Series], sample: Sample) -> pd.DataFrame:
    extra = {str(name): sample.extra[name] for name in sample.extra if name not in columns}
    return pd.DataFrame({**columns, **extra}, index=pd.RangeIndex(len(sample.rows)), copy=False)


def _shown(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in dropped.items())


def _tensor(values: np.ndarray, dtype: str = "float64") -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=dtype))
