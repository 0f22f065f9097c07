"""Effects at single rows: differences and derivatives of the mean outcome, with the error of theta(x) behind them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .design import Design
from .errors import DataError, NotAvailable, OptionError
from .influence import backward
from .pointwise import Inference
from .rows import Fit, Replicates, Rows, linear, rows_of
from .structure import Structure
from .targets import AME, ATE, IVEffect
from .targets.average import shown, some_variable
from .units import Units


@dataclass(frozen=True)
class Change:
    """What moving the treatments from T0 to T1 does; each a value, an array, or a mapping from names to those."""

    T0: Any
    T1: Any


@dataclass(frozen=True)
class Derivative:
    """What a small change of the treatments does at T; of a treatment with levels, each level against the first."""

    T: Any
    levels: tuple[Any, ...] = ()  # of a single treatment, in order, where it is not that of the regression


@dataclass(frozen=True)
class Slopes:
    """The coefficients theta(x) of the structural terms but the intercept, which say all effects."""


Question = Change | Derivative | Slopes


class Effects:
    """The effects of single rows, in the shapes of arrays.

    tau(t0, t1, x) = E[Y(t1) - Y(t0) | x] is effect(), its gradient at t is marginal_effect(), and where the mean is
    linear in theta(x), const_marginal_effect() is theta(x) itself. Each is (m, *d_y, *d_t): d_y is there with several
    outcomes, d_t with several treatments, and with the K - 1 levels besides the first of one that has levels; effect()
    has no d_t. `_interval` forms return lower and upper bounds, `_inference` forms an object of
    `deepreg.pointwise.Inference`.

    Errors of a row are those of theta(x): the posterior covariance of its smooth functions, the variance between
    learners and the jackknife variance between folds, carried over by the delta method. Such intervals cover on average
    over x and not at every x (Wahba 1983; Nychka 1988). Averages over a population have intervals that need no such
    qualification: `estimate()`, and its `by()`, `project()` and `curve()`.
    """

    def _ask(self, question: Question, X: object, errors: bool) -> Inference:
        raise NotImplementedError

    def effect(self, X: object = None, *, T0: object = 0, T1: object = 1) -> np.ndarray:
        """E[Y(T1) - Y(T0) | x] of each row, the difference of the means also where the mean is not linear; (m, *d_y).

        T0 and T1 are values for all rows, arrays with a value for each, (m,) or (m, d_t), or mappings from the names of
        treatments to those; treatments that a mapping leaves out stay as X has them.
        Raises DataError for a level or a column that the fit did not see, for missing values, and for another length.
        """
        return self._ask(Change(T0, T1), X, False).point_estimate

    def effect_inference(self, X: object = None, *, T0: object = 0, T1: object = 1) -> Inference:
        """effect() with errors, tests and intervals."""
        return self._ask(Change(T0, T1), X, True)

    def effect_interval(
        self, X: object = None, *, T0: object = 0, T1: object = 1, alpha: float = 0.05
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of effect(), of level 1 - alpha; (m, *d_y) each."""
        return self.effect_inference(X, T0=T0, T1=T1).conf_int(alpha)

    def marginal_effect(self, T: object, X: object = None) -> np.ndarray:
        """The gradient of E[Y(t) | x] at T; of a treatment with levels, each level against the first; (m, *d_y, *d_t).

        T is as T1 in effect(). Derivatives are central differences over 1e-4 standard deviations of the treatment.
        """
        return self._ask(Derivative(T), X, False).point_estimate

    def marginal_effect_inference(self, T: object, X: object = None) -> Inference:
        """marginal_effect() with errors, tests and intervals."""
        return self._ask(Derivative(T), X, True)

    def marginal_effect_interval(
        self, T: object, X: object = None, *, alpha: float = 0.05
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of marginal_effect(), of level 1 - alpha; (m, *d_y, *d_t) each."""
        return self.marginal_effect_inference(T, X).conf_int(alpha)

    def const_marginal_effect(self, X: object = None) -> np.ndarray:
        """theta(x) of the structural terms but the intercept; (m, *d_y, *d_ft).

        Raises NotAvailable where the mean is not linear in theta(x): its effects then depend on the treatment.
        """
        return self._ask(Slopes(), X, False).point_estimate

    def const_marginal_effect_inference(self, X: object = None) -> Inference:
        """const_marginal_effect() with errors, tests and intervals."""
        return self._ask(Slopes(), X, True)

    def const_marginal_effect_interval(self, X: object = None, *, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of const_marginal_effect(), of level 1 - alpha; (m, *d_y, *d_ft) each."""
        return self.const_marginal_effect_inference(X).conf_int(alpha)


class Column(NamedTuple):
    """One treatment of marginal_effect(): a number that is moved up and down by a step, or a level and the first."""

    name: str
    variable: str = ""
    up: Any = None
    down: Any = None
    step: float | None = None


def check_linear(structure: Structure) -> None:
    """Raise NotAvailable where theta(x) is no effect."""
    if not linear(structure):
        raise NotAvailable(
            f"const_marginal_effect() is theta(x) where it is the effect itself, but with family "
            f"{structure.family.name!r} theta(x) moves an index behind the mean. Use effect(X, T0=, T1=) or "
            "marginal_effect(T, X) for the mean outcome, and theta(X) of the result for the coefficients."
        )


def treatments(fit: Fit) -> tuple[str, ...]:
    """The names of what effects are of: the structural variables, or the instrumented treatments."""
    if fit.structure.instruments is not None:
        return fit.structure.family.labels[1:]
    return tuple(v.name for v in some_variable("effect()", fit.design))


def answer(
    fit: Fit, question: Question, new: object, errors: bool, replicates: Replicates | None = None,
    method: str = "normal",
) -> Inference:  # fmt: skip
    """Points, and errors where asked for, of rows of `new` or of the fit: by replicates, or by the delta method.

    The rows of the fit are held out; without features there is one row, or as many as the treatments have.
    """
    known = treatments(fit)
    if isinstance(question, Slopes):
        settings = []
        check_linear(fit.structure)
    else:
        given = (question.T0, question.T1) if isinstance(question, Change) else (question.T,)
        labels = ("T0", "T1") if isinstance(question, Change) else ("T",)
        settings = [_setting(label, one, known) for label, one in zip(labels, given, strict=True)]
    counts = {len(v) for setting in settings for v in setting.values() if np.ndim(v)}
    left_out = any(set(known) - set(setting) for setting in settings)
    by_delta = errors and replicates is None
    rows = rows_of(fit, new, max(counts, default=1), left_out, by_delta)
    if off := counts - {len(rows.theta)}:
        raise DataError(
            f"The treatments have {min(off)} values, but there are {len(rows.theta)} rows; give one value for each "
            "row, or one for all."
        )
    names, outcomes = _columns(fit, question), _outcomes(fit.structure)
    theta = rows.theta.detach().requires_grad_(by_delta)
    with torch.set_grad_enabled(by_delta):
        h = _values(fit.structure, question, settings, rows, theta, names)  # (m, M, C)
        flat = h.flatten(1)
        gradient = backward(flat, theta) if by_delta else None  # (m, M C, P)
    axes: list[tuple[str, tuple[object, ...]]] = [("X", rows.labels)]
    shape = [len(rows.theta)]
    if len(outcomes) > 1:
        axes.append(("Y", outcomes))
        shape.append(len(outcomes))
    if not (isinstance(question, Change) or (len(names) == 1 and names[0].name in known)):
        axes.append(("T", tuple(one.name for one in names)))
        shape.append(len(names))
    error = np.full(shape, np.nan)
    if gradient is not None and rows.covariance is not None:
        variance = ((gradient @ rows.covariance) * gradient).sum(-1)
        error = variance.clamp_min(0).sqrt().reshape(shape).numpy()
    draws = None
    if errors and replicates is not None:
        each = replicates.theta(rows.design.inputs, fit.structure.slopes)
        draws = _values(fit.structure, question, settings, rows, each, names).reshape(-1, *shape).numpy()
        error = draws.std(0, ddof=1)
    return Inference(flat.detach().reshape(shape).numpy().copy(), error, tuple(axes), draws, method)


def _setting(label: str, given: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """A value, or a value for each row, of every treatment that is set."""
    if isinstance(given, Mapping):
        if odd := [name for name in given if name not in known]:
            raise OptionError(f"{label}: {odd[0]!r} is no treatment of this model; they are {', '.join(known)}.")
        return {name: _one(f"{label}[{name!r}]", value) for name, value in given.items()}
    if isinstance(given, pd.DataFrame):
        return _setting(label, {name: given[name] for name in given}, known)
    values = given if np.ndim(given) == 0 else np.asarray(given)
    if np.ndim(values) == 2 and values.shape[1] == len(known):
        return {name: _one(label, values[:, j]) for j, name in enumerate(known)}
    if len(known) > 1:
        example = ", ".join(f"{name!r}: ..." for name in known)
        raise OptionError(
            f"{label}={given!r} for the treatments {', '.join(known)}: say which are meant, {label}={{{example}}}, or "
            f"give an array of {len(known)} columns."
        )
    return {known[0]: _one(label, values)}


def _one(label: str, given: Any) -> Any:
    """One treatment's value, or its values (m,), none of them missing."""
    values = given if np.ndim(given) == 0 else np.asarray(given)
    if np.ndim(values) > 1:
        raise DataError(f"{label} has shape {np.shape(values)}; give one value, or an array of one for each row.")
    odd = pd.isna(values) | (np.isinf(values) if np.asarray(values).dtype.kind in "fc" else False)
    if np.any(odd):
        raise DataError(f"{label} has {int(np.sum(odd))} values that are missing or infinite; give a value for each.")
    return values


def _outcomes(structure: Structure) -> tuple[object, ...]:
    return (structure.family.labels or ("",)) if structure.instruments is None else structure.family.labels[:1]


def _columns(fit: Fit, question: Question) -> list[Column]:
    """The treatments that the answer has a column for."""
    design, structure = fit.design, fit.structure
    if isinstance(question, Change):
        return [Column("")]
    if structure.instruments is not None:
        return [Column(name) for name in treatments(fit)]
    if isinstance(question, Slopes):
        single = len(design.variables) == 1 and len(structure.terms) - (structure.intercept is not None)
        each = list(_derivatives(design, ()))
        if single and single == len(each):  # a coefficient for each treatment, which names it
            return each
        return [Column(name) for j, name in enumerate(structure.terms) if j != structure.intercept]
    return list(_derivatives(design, question.levels))


def levels_of(design: Design, name: str) -> bool:
    """Whether a treatment has levels, and not numbers with a derivative."""
    return design.recipe.columns[name].kind != "number"


def changes(design: Design, name: str, levels: tuple[Any, ...]) -> list[tuple[object, object]]:
    """Each level of a treatment and the one it is measured against: the first of `levels`, or the regression's."""
    return [(level, levels[0]) for level in levels[1:]] or ATE(name).pairs(design)


def _derivatives(design: Design, levels: tuple[Any, ...]) -> Iterator[Column]:
    for v in design.variables:
        if not levels_of(design, v.name):
            step = float(AME(v.name).bind(design).step or 0)
            yield Column(v.name, v.name, step=step)
        else:
            for hi, lo in changes(design, v.name, levels):
                yield Column(f"{v.name}_{shown(hi)}", v.name, hi, lo)


def _values(
    structure: Structure, question: Question, settings: list[dict[str, Any]], rows: Rows, theta: Tensor,
    columns: list[Column],
) -> Tensor:  # fmt: skip
    """The answer for each row; (..., m, P) -> (..., m, M, C)."""
    if isinstance(question, Slopes) or structure.instruments is not None:
        slopes = _slopes(structure, theta, rows.design.units)
        if isinstance(question, Change):
            before, after = settings
            change = [torch.as_tensor(_numbers(name, after[name]) - _numbers(name, before[name])) for name in before]
            moved = torch.stack(torch.broadcast_tensors(*(torch.atleast_1d(one) for one in change)), -1)  # (m or 1, T)
            return (slopes * moved[:, None]).sum(-1, keepdim=True)
        return slopes
    if isinstance(question, Change):
        before, after = (structure.mean(_units(rows, setting), theta) for setting in settings)
        return (after - before)[..., None]
    at = settings[0]
    parts = []
    for one in columns:
        up, down, per = one.up, one.down, 1.0
        if one.step is not None:
            there = at[one.variable] if one.variable in at else rows.design.frame[one.variable]
            value = _numbers(one.variable, there)
            up, down, per = value + one.step, value - one.step, 2 * one.step
        above, below = (structure.mean(_units(rows, at | {one.variable: to}), theta) for to in (up, down))
        parts.append((above - below) / per)
    return torch.stack(parts, -1)


def _slopes(structure: Structure, theta: Tensor, u: Units) -> Tensor:
    """The coefficients of every term but the intercept, or the effects of instrumented treatments; (..., M, C)."""
    if structure.instruments is not None:
        return IVEffect().h(structure, theta, u)[..., None, :]
    k, blocks = len(structure.terms), len(structure.family.prefixes)
    kept = [j for j in range(k) if j != structure.intercept]
    return theta[..., : blocks * k].unflatten(-1, (blocks, k))[..., kept]


def _units(rows: Rows, setting: Mapping[str, Any]) -> Units:
    """The rows with treatments as they are set, and the others as they are; each row once where it is one for all."""
    names = [v.name for v in rows.design.variables]
    values = {name: setting[name] if name in setting else rows.design.frame[name].array for name in names}
    alike = not any(np.ndim(value) for value in values.values())
    frame = pd.DataFrame(values, index=range(1 if alike else len(rows.theta)))
    d = rows.design.structural(frame).expand(len(rows.theta), -1)
    one = torch.ones(len(d), dtype=torch.float64)
    return Units(torch.full_like(one, torch.nan), d, one)


def _numbers(name: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"The treatment {name!r} is a number, but {given!r} was given.") from None
