"""Robustness: what a fit knows of the sensitivity of its averages to confounders that nobody observed."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor

from .design import Design
from .errors import AGAIN, NotAvailable, OptionError
from .estimates import Estimates
from .heterogeneity.sensitivity import Sensitivity, benchmark, of_parts, part_names
from .influence import Scores, Terms
from .sampling import Sampling
from .storage.kept import Kept
from .targets import Target, resolve

ROUNDING = 1e-7  # relative, of what has to be equal


class Fitted(Protocol):
    """What sensitivity is computed from."""

    @property
    def design(self) -> Design: ...
    @property
    def scores(self) -> Scores | Kept: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def again(self) -> "Callable[[Design], Any] | None": ...


def sensitivity(
    result: Fitted, targets: Sequence[Any], *, cf_y: float, cf_d: float, rho: float, null: float,
    benchmarks: Sequence[str | Sequence[str]],
) -> Sensitivity:  # fmt: skip
    """See Results.sensitivity()."""
    strength: dict[str, float] = {"cf_y": cf_y, "cf_d": cf_d, "rho": rho, "null": null}
    found = of_parts(parts(result, targets), **strength)
    groups = [(one,) if isinstance(one, str) else tuple(one) for one in benchmarks]
    if not groups:
        return found
    if result.again is None:
        raise NotAvailable(f"benchmarks= needs the fit itself, to repeat it without a feature. {AGAIN}")
    tables = []
    for names in groups:
        short = result.again(without(result.design, names))
        tables.append(benchmark(found, of_parts(parts(short, targets), **strength), ", ".join(names)))
    return of_parts(found.parts, **strength, benchmarks=pd.concat(tables))


def without(design: Design, names: Sequence[str]) -> Design:
    """The design without the features and controls that are made of some columns. Raises OptionError where none is."""
    gone = []
    for name in names:
        word = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])")
        found = [one for one in (*design.features, *design.controls) if word.search(one)]
        if not found:
            known = ", ".join((*design.features, *design.controls)) or "none"
            raise OptionError(f"benchmarks={name!r} is no feature of {design.formula!r}; there are {known}.")
        gone += found
    keep, stay = ([j for j, one in enumerate(part) if one not in gone] for part in (design.features, design.controls))
    return replace(
        design, x=design.x[:, keep], w=design.w[:, stay], features=tuple(design.features[j] for j in keep),
        controls=tuple(design.controls[j] for j in stay),
    )  # fmt: skip


def parts(result: Fitted, targets: Sequence[Any]) -> Estimates:
    """The averages with E[(y - g)^2] and E[alpha^2], as `heterogeneity.sensitivity` has them."""
    scores, design = result.scores, result.design
    if isinstance(scores, Kept):
        raise NotAvailable(f"Sensitivity needs the rows of the fit, which were not saved. {AGAIN}")
    chosen = [one for target in targets for one in resolve(target, design)]
    if not chosen:
        raise OptionError("sensitivity() needs a target, for example sensitivity('ate').")
    names = tuple(name for one in chosen for name in one.names(scores.structure, design))
    outcome = residuals(scores)
    psi = torch.cat([scores.psi(one)[0] for one in chosen], -1)
    squares = torch.cat([representer(scores, one, outcome).square for one in chosen], -1)
    every = torch.cat([psi, outcome.residual[..., None] ** 2, squares], -1)
    return Estimates(part_names(names), every, result.sampling, rows=design.labels, constant=scores.constant)


class Outcome(NamedTuple):
    """Residuals y - g, and how scores and means depend on theta at K values of the regressors that make a basis."""

    residual: Tensor  # (R, n)
    slope: Tensor  # (R, n, P) the score is -slope * residual
    basis: Tensor  # (R, n, K, P) the same at each value
    mean: Tensor  # (R, n, K)
    turn: Tensor  # (R, n, K, P) derivatives of these means


def residuals(scores: Scores) -> Outcome:
    """The parts of the score. Raises NotAvailable where it is no multiple of y - E[y | d, x]."""
    structure, u, theta = scores.structure, scores.u, scores.theta
    family = structure.family
    if family.outcome != "number" or family.labels or not family.predicts or u.mask.dim() > 1:
        raise NotAvailable(
            f"Sensitivity bounds are for an outcome that is one number, unlike that of family {family.name!r}."
        )
    residual = u.y - family.mean(u, theta)
    slope = _slope(scores, u.d)
    gap = (scores.score + slope * residual[..., None]).abs().amax((0, 1))
    if (gap > ROUNDING * scores.score.abs().amax((0, 1)).clamp_min(1e-300)).any():
        raise NotAvailable(
            f"The estimating equations of family {family.name!r} are not those of a mean alone, so that the bias of an "
            "omitted confounder has no bound by residuals and weights. Fit the mean alone, for example with "
            "family='linear'."
        )
    k = u.d.shape[-1]
    at = torch.eye(k, dtype=u.d.dtype, device=u.d.device) if family.identity else torch.unique(u.d, dim=0)
    if theta.shape[-1] != k or len(at) != k:
        raise NotAvailable(
            f"With family {family.name!r} bounds need a treatment of few levels with a coefficient for each, but the "
            f"{k} regressors take {len(at):,} different values: the effect is then no linear function of E[y | d, x]. "
            "Use family='linear', or make the treatment a category, C(t), with all interactions."
        )
    each = [_mean(scores, one) for one in at]
    basis = torch.stack([_slope(scores, one) for one in at], 2)
    return Outcome(residual, slope, basis, torch.stack([m for m, _ in each], 2), torch.stack([t for _, t in each], 2))


def _slope(scores: Scores, d: Tensor) -> Tensor:
    """What the score loses where the outcome is one more than its mean; (R, n, P), for d (n, K) or (K,)."""
    family, u = scores.structure.family, scores.u._replace(d=d.expand(scores.u.d.shape))
    y = family.mean(u, scores.theta) + 1
    return -torch.stack([family.derivatives(u._replace(y=one), theta)[0] for one, theta in zip(y, scores.theta)])  # noqa: B905


def _mean(scores: Scores, d: Tensor) -> tuple[Tensor, Tensor]:
    """E[y | d, x] (R, n) at d (K,), and its derivative in theta (R, n, P)."""
    u, theta = scores.u._replace(d=d.expand(scores.u.d.shape)), scores.theta.detach().requires_grad_(True)
    with torch.enable_grad():
        mean = scores.structure.family.mean(u, theta)
        (turn,) = torch.autograd.grad(mean.sum(), theta)
    return mean.detach(), turn


class Representer(NamedTuple):
    """The Riesz representer of an average, and scores whose mean is the mean of its square."""

    alpha: Tensor  # (R, n, q)
    square: Tensor  # (R, n, q)


def representer(scores: Scores, target: Target, outcome: Outcome) -> Representer:
    """alpha = E[w h_theta | x] Lambda(x)^-1 slope / E[w], the coefficient of the residual in psi.

    Scores of E[alpha^2] are 2 m(w, alpha) - alpha^2, less 2 E[alpha^2] (w / E[w] - 1) for the weights of the average.
    Raises NotAvailable where the target is no average that is linear in E[y | d, x].
    """
    at = scores.terms(target)
    coefficient = _linear(target, at, outcome)  # (R, n, q, K)
    pull = scores.carried(at) / at.mass[..., None, None]  # (R, n, q, P)
    alpha = (pull @ outcome.slope[..., None])[..., 0]
    each = pull @ outcome.basis.mT  # (R, n, q, K)
    weight = (at.weight / at.mass)[..., None]
    square = 2 * weight * (coefficient * each).sum(-1) - alpha**2
    share = (scores.design.weight / scores.design.weight.sum()).to(alpha)
    mean = (square * share[:, None]).sum(1, keepdim=True)
    return Representer(alpha, square - 2 * mean * (weight - 1))


def _linear(target: Target, at: Terms, outcome: Outcome) -> Tensor:
    """Coefficients of h in the means of the basis; (R, n, q, K)."""
    found = torch.linalg.solve(outcome.turn.mT, at.gradient.mT).mT if target.averaged else None
    if found is not None:
        gap = (at.h - (found @ outcome.mean[..., None])[..., 0]).abs().amax()
        if gap <= ROUNDING * at.h.abs().amax().clamp_min(1e-300):
            return found
    raise NotAvailable(
        f"Sensitivity bounds are for averages that are linear in E[y | d, x], such as 'ate', 'att', 'mean' and policy "
        f"values, and 'ame' and 'coefficient' of family 'linear'; {type(target).__name__} is none here."
    )
