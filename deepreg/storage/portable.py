"""Portable: a result as it goes into a file, without its rows unless asked, and what such a file may hold."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from .. import families, recipe, tables, targets
from ..additive import Additive
from ..basis import Basis, Smooth
from ..call import Call
from ..choicesets import ChoiceSets
from ..columns import Column
from ..constant.certificate import Certificate
from ..constant.track import Track
from ..coordinates import Coordinates
from ..design import Design
from ..errors import DeepregError, DeepregWarning, FormulaError, NotAvailable
from ..estimates import Estimates
from ..evidence import Posterior
from ..families import Family
from ..goodness import Goodness
from ..influence import Scores
from ..information import Lambda
from ..law import Cells, FittedLaw, Overlap
from ..networks import MLP, Network, Partitioned, StackedMLP, StackedModule
from ..nodes import Nodes
from ..packing import Packing
from ..projection import Spare
from ..sampling import Moments, Sampling
from ..splits import Splits
from ..structure import Instruments, Structure
from ..summary import Facts
from ..targets import Target
from ..theta import Networks, Theta, Uncentred
from ..trainers import History
from ..units import Units
from ..variables import Variable
from .document import Kind, Schema
from .kept import Answer, Kept


class Fit(Protocol):
    """What goes into a file: the fields of a result, and how it is asked."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def design(self) -> Design: ...
    @property
    def structure(self) -> Structure: ...
    @property
    def scores(self) -> Scores | Kept: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def fitted(self) -> Theta | None: ...
    @property
    def law(self) -> FittedLaw | None: ...
    @property
    def track(self) -> Track | None: ...
    def estimate(self, *targets: Target, sample: str) -> Estimates: ...
    def usual(self) -> tuple[tuple[Target, ...], ...]: ...


F = TypeVar("F", bound=Fit)
One: TypeAlias = str | Target | type[Target]
Asked: TypeAlias = One | tuple[One, ...]  # one target, or several to be estimated together


class Borrowed(NamedTuple):
    """A function, module or other object that a formula took from where it was written: load() is given it."""

    name: str


class Stored(NamedTuple):
    """The fields of a Recipe, with the values in its context that a file can hold."""

    formula: str
    parts: Mapping[str, recipe.Part]
    columns: Mapping[str, Column]
    used: Mapping[str, tuple[str, ...]]
    weights: str | None
    cluster: tuple[str, ...]
    context: Mapping[str, Any]
    offsets: Mapping[str, str]


_RECORDS = (
    Design, Units, Column, Variable, Stored, Borrowed, recipe.Part, Structure, Instruments, Facts, Call, Sampling,
    Estimates, Moments, Kept, Answer, Theta, Coordinates, Additive, Posterior, Basis, Smooth, Uncentred, Networks,
    StackedMLP, Partitioned, MLP, History, Goodness, Overlap, FittedLaw, Cells, Scores, Nodes, Splits, Lambda, Packing,
    ChoiceSets, Spare, Certificate, Track,
)  # fmt: skip
_HOLES = (Stored, Facts, Variable, Moments, Estimates, History, Goodness, Certificate, Track)


def _registered() -> tuple[type, ...]:
    return (*(type(families.get(name)) for name in families.names()), *targets.classes())


def schema(whole: type, family: Family | None, context: Mapping[str, object]) -> Schema:
    """What a file of a result of class `whole` may hold, with what its reader gives in the place of code."""
    kinds = (
        Kind("family", Family, lambda own: type(own).__name__, lambda name: family),
        Kind("recipe", recipe.Recipe, _stored, lambda stored: _restored(stored, context)),
        Kind("spec", recipe.Spec, recipe.stored, recipe.restored),
        Kind("frame", pd.DataFrame, tables.of_frame, tables.to_frame),
        Kind("index", pd.Index, tables.of_index, tables.to_index),
        Kind("levels", pd.CategoricalDtype, tables.of_dtype, tables.to_dtype),
        Kind("array", np.ndarray, tables.of_array, tables.to_array),
    )
    return Schema((whole, *_RECORDS, *_registered()), kinds, {Network: (StackedMLP, Partitioned)}, _HOLES)


def portable(result: F, data: bool, more: tuple[Asked, ...]) -> F:
    """The result as it goes into a file; NotAvailable where something in it is code."""
    _refuse_modules(result)
    try:
        result.design.recipe.check()
    except FormulaError as error:
        raise NotAvailable(
            f"A file cannot hold the formula {result.design.formula!r}: {error} Put it into a function, "
            "f(x), and give load(path, context={'f': f})."
        ) from error
    if isinstance(result.scores, Kept):
        if data:
            raise NotAvailable("data=True: this result was itself loaded from a file without its rows. Fit again.")
        return result
    fitted = None if result.fitted is None else replace(result.fitted, known=None)
    if data:
        law = None if result.law is None else result.law.on(result.design)
        return replace(result, fitted=fitted, law=law, again=None)
    bare = result.design.without_rows()
    sampling = replace(result.sampling, weight=bare.weight, cluster=bare.cluster)
    kept = Kept(
        _answers(result, sampling, more),
        sampling.kind,
        result.scores.constant,
        result.scores.integrable,
        result.scores.everywhere,
    )
    law = None if result.law is None else result.law.on(bare)
    return replace(
        result,
        design=bare,
        scores=kept,
        sampling=sampling,
        splits=None,
        fitted=fitted,
        law=law,
        curvature=None,
        overlap=None,
        again=None,
    )


def _answers(result: Fit, sampling: Sampling, more: Iterable[Asked]) -> tuple[Answer, ...]:
    """What a result is asked for by name, and the further targets, for both samples where they can be had."""
    asked: dict[tuple[Target, ...], bool] = {}  # whether it has to be had
    for target in targets.classes():
        if not target.kept:
            continue
        try:
            asked[targets.resolve(target, result.design)] = False
        except DeepregError:  # no such effect in this model
            continue
    for together in result.usual():
        asked.setdefault(_bound(together, result.design), False)
    for one in more:
        chosen = _bound(one if isinstance(one, tuple) else (one,), result.design)
        if odd := [target for target in chosen if type(target) not in _registered()]:
            raise NotAvailable(f"targets=[{odd[0]!r}]: a file holds no code, so the target has to be one of deepreg's.")
        if odd := [target for target in chosen if _coded(target)]:
            raise NotAvailable(
                f"targets=[{type(odd[0]).__name__}(...)]: a file holds no code, and this target has a function in it. "
                "Give the values that the function has for the rows used, as an array, or save without this target."
            )
        asked[chosen] = True
    answers = []
    for chosen, wanted in asked.items():
        for sample in ("population", "fixed"):
            try:
                with warnings.catch_warnings():
                    if not wanted:
                        warnings.simplefilter("ignore", DeepregWarning)  # nobody asked
                    found = result.estimate(*chosen, sample=sample)
            except DeepregError:
                if wanted:
                    raise
                continue
            bare = replace(found, psi=None, known=found.moments, sampling=sampling, rows=None, shared=None)
            answers.append(Answer(chosen, sample, bare))
    return tuple(answers)


def _coded(value: object) -> bool:
    """Whether there is a function among the fields of a target."""
    if isinstance(value, Target):
        return any(_coded(getattr(value, one.name)) for one in fields(value))
    return any(map(_coded, value)) if isinstance(value, tuple) else callable(value)


def _bound(together: Iterable[One], design: Design) -> tuple[Target, ...]:
    return tuple(bound for target in together for bound in targets.resolve(target, design))


def _refuse_modules(result: Fit) -> None:
    learner = None if result.fitted is None else result.fitted.learners.get("network")
    networks = [learner.network] if isinstance(learner, Networks) else []
    for network in networks:
        parts = network.networks if isinstance(network, Partitioned) else (network,)
        if odd := [part for part in parts if not isinstance(part, StackedMLP)]:
            what = "own torch module" if isinstance(odd[0], StackedModule) else type(odd[0]).__name__
            raise NotAvailable(
                f"The network of this fit is code of yours ({what}), which a file does not hold. Fit with MLP(), or "
                "with learners= other than 'network'."
            )


def _stored(own: recipe.Recipe) -> Stored:
    parts = {"outcome": own.outcome, "regressors": own.regressors, "features": own.features, "controls": own.controls}
    context = {name: value if _constant(value) else Borrowed(name) for name, value in own.context.items()}
    some = {name: part for name, part in parts.items() if part is not None}
    return Stored(own.formula, some, own.columns, own.used, own.weights, own.cluster, context, own.offsets)


def _restored(stored: Any, context: Mapping[str, object]) -> recipe.Recipe:
    if not isinstance(stored, Stored):
        raise TypeError("a recipe of another form")
    parts = dict(stored.parts)
    names = {name: context[name] if isinstance(value, Borrowed) else value for name, value in stored.context.items()}
    made = recipe.Recipe(
        stored.formula, parts["outcome"], parts["regressors"], parts.get("features"), parts.get("controls"),
        stored.columns, stored.used, stored.weights, stored.cluster, names, stored.offsets,
    )  # fmt: skip
    made.check()
    return made


def _constant(value: object) -> bool:
    """Whether a value is a number, a text, or a list, tuple or array of them."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if type(value) in (tuple, list):
        return all(map(_constant, value))  # type: ignore[call-overload]
    return value is None or isinstance(value, bool | int | float | str | np.generic)
