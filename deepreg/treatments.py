"""Treatments given as arrays: their levels or numbers, the terms they make in a formula, and values to set them to."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import arrays
from . import columns as door
from .arrays import Matrix
from .errors import DataError, OptionError
from .targets.average import shown


@dataclass(frozen=True)
class Treatments:
    """The names of the treatments, and the levels of one that is discrete, the baseline first."""

    names: tuple[str, ...]
    levels: tuple[Any, ...]  # () of numbers
    vector: bool  # whether T was given as (n,)

    @classmethod
    def of(cls, T: Matrix, discrete: str | bool, categories: Any, featurized: bool) -> "Treatments":
        """Those of the array of a fit, read as StructuralModel says; raises OptionError and DataError."""
        return cls(tuple(T.frame), _levels(T, discrete, categories, featurized), T.vector)

    def coded(self, values: pd.Series) -> pd.Series | pd.Categorical:
        """The column of a formula: sorted categories, so that the baseline moves no effect, or the numbers."""
        return pd.Categorical(door.plain(values).astype(object), sorted(self.levels)) if self.levels else values

    @property
    def shape(self) -> tuple[int, ...]:
        """d_t: none of a vector of numbers, and the levels but the baseline."""
        return (len(self.levels) - 1,) if self.levels else () if self.vector else (len(self.names),)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names along the axis d_t."""
        return tuple(f"{self.names[0]}_{shown(level)}" for level in self.levels[1:]) or self.names

    def values(self, label: str, given: Any) -> Mapping[str, Any]:
        """A value, or values (m,), under the name of every treatment.

        Raises DataError for a level that is not one of them, another number of columns, or other names.
        """
        names, levels = self.names, self.levels
        found: Mapping[str, Any]
        if isinstance(given, Mapping):
            found = given
        elif np.ndim(given) == 0:
            found = dict.fromkeys(names, given)
        else:
            part = arrays.matrix(label, given, "t")
            if part.frame.shape[1] != len(names):
                raise DataError(
                    f"{label} has shape {part.frame.shape}, but T has {len(names)} columns: give one value for all "
                    f"rows, or {len(names)} for each."
                )
            strange = not part.vector and part.named and set(part.frame) != set(names)
            if strange:
                raise DataError(f"{label} must have the columns of T, {', '.join(names)}; it has {list(part.frame)}.")
            ordered = part.frame[list(names)] if part.named and not part.vector else part.frame
            found = {name: ordered.iloc[:, j].to_numpy() for j, name in enumerate(names)}
        return {name: _level(label, value, levels) for name, value in found.items()} if levels else found


def _levels(T: Matrix, wanted: str | bool, categories: Any, featurized: bool) -> tuple[Any, ...]:
    """The levels of a discrete treatment, the baseline first; () of numbers."""
    columns = [door.plain(T.frame[name]) for name in T.frame]
    texts = [isinstance(one.dtype, pd.CategoricalDtype | pd.BooleanDtype) for one in columns]
    if not (any(texts) if isinstance(wanted, str) else wanted):
        if any(texts):
            raise OptionError(f"discrete_treatment={wanted!r}, but T has levels; type discrete_treatment='auto'.")
        if not isinstance(categories, str):
            raise OptionError("categories= are those of a discrete treatment; type discrete_treatment=True.")
        return ()
    if len(columns) > 1:
        raise OptionError(
            f"A discrete treatment is one column, and T has {len(columns)}. Give the combinations as levels of one "
            "column, or indicators as numbers with discrete_treatment=False."
        )
    if featurized:
        raise OptionError("treatment_featurizer= is for numbers, and T is discrete: each level has its own effect.")
    one = columns[0]
    is_category = isinstance(one.dtype, pd.CategoricalDtype)
    found = one.cat.remove_unused_categories().cat.categories if is_category else np.unique(one.to_numpy())
    levels = list(found.tolist())
    if isinstance(categories, str):
        chosen = levels
    else:
        chosen = list(categories)
        if len(set(chosen)) < len(chosen) or set(chosen) != set(levels):
            raise OptionError(
                f"categories={chosen!r}: T has the levels {levels!r}; give each of them once, the baseline first."
            )
    if len(chosen) < 2:
        raise DataError(f"T has one level, {chosen[0]!r}; an effect needs two.")
    return tuple(chosen)


def terms(T: list[str], Z: list[str], phi: Any, frame: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The structural terms of treatments T in a formula, featurized by phi or moved by an instrument Z, and what
    they use by name. Raises OptionError for a phi that is no formula or transformer, or does not go with Z."""
    if Z:
        levels = any(isinstance(frame[name].dtype, pd.CategoricalDtype) for name in T)
        if len(Z) < len(T) or phi is not None or levels:
            raise OptionError(
                f"Z has {len(Z)} columns and T {len(T)}: there is an instrument or more for each treatment, and "
                "treatments are numbers without treatment_featurizer=. Code two levels as 0 and 1."
            )
        return f"[{' + '.join(map(arrays.quoted, T))} ~ {' + '.join(map(arrays.quoted, Z))}]", {}
    if phi is None:
        return " + ".join(map(arrays.quoted, T)), {}
    if isinstance(phi, str):
        return phi, {}
    if (
        isinstance(phi, type)
        or not callable(getattr(phi, "fit", None))
        or not callable(getattr(phi, "transform", None))
    ):
        raise OptionError(
            f"treatment_featurizer={phi!r}: give the terms of a formula, such as 't + I(t**2)', or an object with "
            "fit() and transform()."
        )
    name = arrays.free("phi", frame)
    return f"{name}({', '.join(map(arrays.quoted, T))})", {name: _featurized(phi, frame[T].to_numpy(), T)}


def _level(label: str, given: Any, levels: tuple[Any, ...]) -> Any:
    """Values as levels; DataError naming those that are none."""
    known = dict(zip(levels, levels, strict=True))
    each = [given] if np.ndim(given) == 0 else np.asarray(given).tolist()
    odd = next((one for one in each if one not in known), None)
    if odd is not None or None in each:
        raise DataError(
            f"{label} has {odd!r}, but the treatment has the levels {', '.join(map(repr, levels))}. For example "
            f"T0={levels[0]!r}, T1={levels[1]!r}."
        )
    found = [known[one] for one in each]
    return found[0] if np.ndim(given) == 0 else np.array(found, dtype=object)


def _featurized(phi: Any, T: np.ndarray, names: list[str]) -> Callable[..., Mapping[str, np.ndarray]]:
    """A function of the treatments for a formula, by a copy of the transformer that has seen those of the fit."""
    fitted = copy.deepcopy(phi).fit(T)
    named = getattr(fitted, "get_feature_names_out", None)
    labels = None if named is None else [str(name) for name in named(names)]

    def featurized(*columns: Any) -> Mapping[str, np.ndarray]:
        made = fitted.transform(np.column_stack([np.asarray(one, dtype=np.float64) for one in columns]))
        dense = np.asarray(made.todense() if hasattr(made, "todense") else made, dtype=np.float64)
        matrix = dense.reshape(len(dense), -1)
        return dict(zip(labels or map(str, range(matrix.shape[1])), matrix.T, strict=True))

    return featurized
