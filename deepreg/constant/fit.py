"""The fit without features: constant theta by Newton's method or a trainer, and the results that follow from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..call import Call
from ..design import Design
from ..diagnostics import instrumented
from ..errors import NotAvailable, OptionError
from ..goodness import goodness
from ..influence import Scores
from ..minimise import Minimum, State
from ..penalised import Objective, minimum
from ..penalties import Penalty
from ..results import Results
from ..sampling import Sampling
from ..structure import Standard, Structure, score_of
from ..summary import Facts
from ..trainers import Problem, Progress, Trainer
from ..units import Units, chosen
from .certificate import Certificate, spectrum
from .track import Track

LIKE = 1e6  # the ratio of eigenvalues of a Hessian beyond which a note says what it is that rows hardly tell apart


@dataclass(frozen=True)
class Options:
    """How constant theta is found."""

    trainer: Trainer | None
    start: Results | Mapping[str, float] | str | None
    starts: int
    holdout: Design | None
    track: int | None
    generator: torch.Generator
    progress: Progress | None = None
    penalty: Penalty | None = None


class Place(NamedTuple):
    """Standardised units, in which theta is found, and the way back: turn @ (what the family makes of theta')."""

    structure: Structure
    standard: Standard

    @classmethod
    def of(cls, structure: Structure, u: Units) -> "Place":
        """Units around their origin, unless a bound on an intercept says where that is."""
        bounded = {name for name, *_ in structure.bounds}
        if not bounded.isdisjoint(prefix + "Intercept" for prefix in structure.family.prefixes):
            size = u.d.flatten(0, -2).square().mean(0).sqrt().clamp_min(1e-300)
            turn = torch.ones(len(structure.names)).to(u.d)
            turn[: len(size) * len(structure.family.prefixes)] = size.reciprocal().repeat(
                len(structure.family.prefixes)
            )
            return cls(structure, Standard(u._replace(d=u.d / size), turn.diag(), 0.0, 1.0, 0.0))
        return cls(structure, structure.standard(u))

    def within(self, theta: Tensor) -> Tensor:
        """theta (G, P) with the outcome's standardisation undone, and not yet the regressors'."""
        intercept, at = self.structure.intercept, self.standard
        if intercept is None:
            return theta
        theta = self.structure.family.unstandardise(theta.clone(), at.shift, at.scale, intercept)
        theta[..., intercept] -= at.level
        return theta

    def back(self, theta: Tensor) -> Tensor:
        """theta (G, P) in the caller's units."""
        return self.within(theta) @ self.standard.turn.T

    def into(self, theta: Tensor) -> Tensor:
        """theta (G, P) from the caller's units; of a finite number or a bound of either sign."""
        zero = torch.zeros_like(theta[:1])
        shift = self.within(zero)
        slope = self.within(zero + 1) - shift
        return (torch.linalg.solve(self.standard.turn, theta.T).T - shift) / slope

    def limits(self) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds (P,), infinite where there are none; those of the caller divide by a unit alone."""
        lower, upper = self.structure.limits(self.standard.turn)
        zero = torch.zeros_like(lower)[None]
        shift = self.within(zero)[0]
        slope = (self.within(zero + 1)[0] - shift) * self.standard.turn.diagonal()
        low, high = ((one - shift * self.standard.turn.diagonal()) / slope for one in (lower, upper))
        return torch.where(lower.isinf(), lower, low), torch.where(upper.isinf(), upper, high)

    def also(self, u: Units) -> Units:
        """Other units of the caller's, standardised in the same way."""
        at, k = self.standard, u.d.shape[-1]
        offset = u.offset - at.level if u.offset.dim() else u.offset
        return u._replace(d=u.d @ at.turn[:k, :k], y=(u.y - at.shift) / at.scale, offset=offset)


def fit(
    design: Design, structure: Structure, u: Units, weight: Tensor, sampling: Sampling, call: Call, options: Options,
    again: Callable[..., Results],
) -> Results:  # fmt: skip
    """The results of constant theta: psi is the influence function of an M-estimator, of the parameters that are free.

    Theta and its Hessian are found on regressors of mean 0 and unit variance.
    """
    place = Place.of(structure, u)
    turn, n = place.standard.turn, len(u.y)
    if options.penalty is None:
        at = _of_losses(place, u, weight, options)
    else:
        at = _of_penalty(place, design, u, weight, options)
    free, mean = at.free, at.hessian
    inverse = turn @ _inverse(mean, free) @ turn.T
    theta, score = at.theta[:, None, :].expand(1, n, -1), at.score
    share = (weight / weight.sum())[:, None]
    left = (score[0] * share).sum(0)
    if options.trainer is not None:  # it need not have come to where scores sum to 0
        score = score - left
    eigenvalue, condition = spectrum(mean[free][:, free])
    error = ((score[0] @ inverse * share) ** 2).sum(0).sqrt()
    gap = (inverse @ left).abs()
    held = tuple(name for name, loose in zip(structure.names, free.tolist(), strict=True) if not loose)
    certificate = Certificate(
        at.method, at.steps, at.starts, float(torch.where(gap > 0, gap / error, 0.0).max()), eigenvalue, condition,
        int(free.sum()), held, at.reached,
    )  # fmt: skip
    every = torch.eye(len(structure.names)).to(inverse)[None, None]
    inverse = inverse[None, None]
    scores = Scores(structure, design, u, theta, score, 0 * inverse, every, inverse, None, constant=True)
    notes = (*at.notes, *_notes(structure, certificate, mean, free), *structure.family.remarks(u, theta[0, 0]))
    facts = Facts(
        f"constant coefficients, {structure.family.describe()}", (*instrumented(structure), *at.header), (), notes,
        True, goodness(structure, u, theta, weight), call,
        certificate=certificate,
    )  # fmt: skip
    sampling = replace(sampling, parameters=certificate.free)
    return Results(design, structure, scores, sampling, facts, again=again, track=at.track)


class Reached(NamedTuple):
    """Where a search for constant theta ended, and what the rows say there."""

    theta: Tensor  # (1, P)
    free: Tensor  # (P,) bool
    hessian: Tensor  # (P, P) of the objective, in the coordinates of Place
    score: Tensor  # (1, n, P) what each row does to the gradient
    method: str
    steps: int
    starts: int
    reached: int  # starts that led here
    track: Track | None = None
    header: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def _of_losses(place: Place, u: Units, weight: Tensor, options: Options) -> Reached:
    """The least mean loss."""
    structure, turn = place.structure, place.standard.turn
    lower, upper = place.limits()
    units = place.standard.units
    if options.trainer is None:
        best, track, steps, reached = _newton(place, u, weight, lower, upper, options)
    else:
        best, track, steps, reached = *_trained(place, u, weight, lower, upper, options), 1
    if options.start is not None and isinstance(options.start, Results) and track is not None:
        track = track if options.start.track is None else options.start.track.then(track)
    if track is not None and options.trainer is not None:
        track = track.every(options.track or 1)
    free = best.free[0]
    units = units._replace(y=u.y, offset=u.offset)
    within = place.within(best.theta)
    mean = structure.minimum(units, weight[None], start=within, steps=0).hessian[0]
    theta = _exactly(structure, within @ turn.T, free)
    score = score_of(structure.family, u, theta[:, None, :].expand(1, len(u.y), -1))
    method = "Newton" if options.trainer is None else repr(options.trainer)
    return Reached(theta, free, mean, score, method, steps, options.starts, reached, track)


def _of_penalty(place: Place, design: Design, u: Units, weight: Tensor, options: Options) -> Reached:
    """The least mean loss and penalty."""
    structure, turn, penalty = place.structure, place.standard.turn, options.penalty
    assert penalty is not None
    units = place.standard.units._replace(y=u.y, offset=u.offset)
    objective = Objective(structure, design, penalty, units, weight, turn)
    ends = place.limits()
    starts: dict[str, Tensor] = {}
    if options.start in (None, "unpenalised"):
        plain = replace(options, start=None, starts=1)
        starts["the fit without the penalty"] = place.within(_newton(place, u, weight, *ends, plain)[0].theta)[0]
    if options.start != "unpenalised" or options.starts > 1:
        given = options if options.start != "unpenalised" else replace(options, start=None)
        several = place.within(_starts(place, *ends, given))
        name = "the start of the family" if options.start is None else "the start given"
        drawn = [name, *(f"draw {j}" for j in range(1, len(several)))]
        starts |= dict(zip(drawn, several, strict=True))
    lower, upper = (one / turn.diagonal() for one in structure.limits(turn))
    found = minimum(objective, starts, lower, upper)
    loose = found.free | found.held.isfinite()
    theta = _exactly(structure, torch.where(found.held.isnan(), turn @ found.at, found.held)[None], loose)
    alone = replace(objective, units=u, turn=torch.eye(len(turn)).to(turn))
    score = alone.influence(theta[0])[None]
    method = f"Newton, {len(penalty.stages())} stages of the penalty"
    return Reached(
        theta, found.free, found.hessian, score, method, found.steps, len(starts), found.times, None,
        found.header(penalty), found.notes(structure.names, penalty.caution),
    )  # fmt: skip


def _newton(
    place: Place, u: Units, weight: Tensor, lower: Tensor, upper: Tensor, options: Options
) -> tuple[Minimum, Track | None, int, int]:
    structure, units = place.structure, place.standard.units
    start = _starts(place, lower, upper, options)
    seen: list[tuple[float, float]] = []
    watched = options.track is not None or options.holdout is not None

    def watch(theta: Tensor) -> None:
        at = place.back(theta[:1])
        held = float("nan") if options.holdout is None else _mean_loss(structure, options.holdout, at)
        seen.append((_mean(structure, u, weight, at), held))

    found = structure.minimum(
        units, weight[None], start=start, lower=lower, upper=upper, watch=watch if watched else None
    )
    value = torch.where(found.state == State.DONE, found.value, torch.inf)
    best = int(value.argmin()) if bool(value.isfinite().any()) else int(found.value.argmin())
    one = Minimum(*(part[best : best + 1] if isinstance(part, Tensor) else part for part in found))
    structure.refuse(units, one)
    reached = int((value - one.value <= 1e-9 * (1 + one.value.abs())).sum())
    if not seen:
        return one, None, found.steps, reached
    train, holdout = (torch.tensor(part, dtype=torch.float64) for part in zip(*seen, strict=True))
    return one, Track(torch.arange(len(train)), train, holdout), found.steps, reached


def _trained(
    place: Place, u: Units, weight: Tensor, lower: Tensor, upper: Tensor, options: Options
) -> tuple[Minimum, Track, int]:
    """What a trainer makes of it, by the rows of the fit in sample and those held out beside them."""
    structure, family, at = place.structure, place.structure.family, place.standard
    units, every, other = at.units, weight, None
    train = torch.ones(1, len(weight), dtype=torch.bool, device=weight.device)
    valid = train
    if options.holdout is not None:
        there = options.holdout
        other = Units(*(part.to(weight.device) for part in there.units))
        both = zip(units, place.also(other), strict=True)
        units = Units(*(torch.cat(pair) if pair[0].dim() else pair[0] for pair in both))
        every = torch.cat([weight, there.weight.to(weight)])
        train = torch.arange(len(every), device=weight.device)[None] < len(weight)
        valid = ~train

    def at_rows(replicates: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
        part = Units(units.y[rows], units.d[rows], units.mask[rows], chosen(units.offset, rows))
        return lambda theta: family.loss(part, theta)

    bounded = bool(lower.isfinite().any() | upper.isfinite().any())
    inside = (lambda theta: torch.minimum(torch.maximum(theta, lower), upper)) if bounded else None
    network = Bias(len(structure.names))
    problem = Problem(network, weight.new_zeros(len(every), 0), at_rows, every, inside)
    assert options.trainer is not None
    theta, history = options.trainer.fit(
        problem, _starts(place, lower, upper, options), train, valid, 0.0, generator=options.generator,
        progress=options.progress,
    )  # fmt: skip
    found = structure.minimum(at.units, weight[None], start=theta.double(), lower=lower, upper=upper, steps=0)
    structure.refuse(at.units, found, done=False)
    steps = torch.arange(len(history.train))
    losses = [_told(place, u, weight, history.train[:, 0])]
    if options.holdout is None or other is None:
        losses.append(torch.full_like(losses[0], torch.nan))
    else:
        losses.append(_told(place, other, options.holdout.weight.to(weight), history.valid[:, 0]))
    return found, Track(steps, *(one.cpu() for one in losses)), len(steps) - 1


@dataclass(frozen=True)
class Bias:
    """A network that reads nothing: its weights are its outputs."""

    outputs: int

    @property
    def decay(self) -> Tensor:
        return torch.zeros(self.outputs)

    def init(self, replicates: int, generator: torch.Generator) -> Tensor:
        return torch.zeros(replicates, self.outputs)

    def forward(self, weights: Tensor, x: Tensor) -> Tensor:
        return weights[:, None, :]  # (M, 1, P), the same for all rows


def _starts(place: Place, lower: Tensor, upper: Tensor, options: Options) -> Tensor:
    """Where the search begins: the family's start or the caller's, and points drawn around it; (S, P)."""
    structure = place.structure
    first = structure.family.start(place.standard.units)[None]
    if options.start is not None and not isinstance(options.start, str):
        params = options.start.params if isinstance(options.start, Results) else options.start
        given = {name: float(params[name]) for name in structure.names if name in params}
        if not given:
            raise OptionError(
                f"start= names no parameter of this model, which has {', '.join(structure.names)}. Give a result or "
                "a mapping with values for some of them."
            )
        theta = place.back(first)
        for j, name in enumerate(structure.names):
            theta[:, j] = given.get(name, float(theta[0, j]))
        first = place.into(theta)
    draws = torch.randn(options.starts - 1, first.shape[1], generator=options.generator, dtype=torch.float64)
    start = torch.cat([first, first + draws.to(first)])
    return torch.minimum(torch.maximum(start, lower), upper)


def _inverse(mean: Tensor, free: Tensor) -> Tensor:
    """The inverse of a Hessian (P, P) on the free parameters, 0 elsewhere."""
    some = free.nonzero()[:, 0]
    inside = mean[some][:, some]
    unit = inside.diagonal().abs().clamp_min(1e-300).rsqrt()
    inverse = torch.zeros_like(mean)
    inverse[some[:, None], some] = torch.linalg.inv(inside * unit[:, None] * unit) * unit[:, None] * unit
    return inverse


def _exactly(structure: Structure, theta: Tensor, free: Tensor) -> Tensor:
    """theta (1, P) with what is held at a bound set to it, to the last digit."""
    lower, upper = structure.limits(theta)
    nearest = torch.where((theta - lower).abs() <= (theta - upper).abs(), lower, upper)
    return torch.where(free, theta, nearest)


def _mean(structure: Structure, u: Units, weight: Tensor, theta: Tensor) -> float:
    return float((structure.family.loss(u, theta.expand(len(weight), -1)) * weight).sum() / weight.sum())


def _mean_loss(structure: Structure, design: Design, theta: Tensor) -> float:
    u = Units(*(part.to(theta.device) for part in design.units))
    return _mean(structure, u, design.weight.to(theta), theta)


def _told(place: Place, u: Units, weight: Tensor, loss: Tensor) -> Tensor:
    """Mean losses (T,) of standardised outcomes in the units of the caller's."""
    zero = torch.zeros_like(weight)
    unstandardise, scale = place.structure.family.unstandardise_loss, place.standard.scale
    low, high = (unstandardise(place.also(u), one, scale) for one in (zero, zero + 1))
    level = ((low * weight).sum() / weight.sum()).to(loss)
    return loss * (high - low)[0].to(loss) + level


def held_out(design: Design, structure: Structure, data: object) -> Design:
    """The rows of `data` as the model reads them; NotAvailable for families whose outcomes are no numbers."""
    if structure.family.outcome != "number" or design.packing is not None:
        raise NotAvailable(f"holdout= is for outcomes that are one number, unlike that of {structure.family.name!r}.")
    other = design.new(data, outcome=True)
    structure.family.check(other.units, design.outcome)
    return other


def _notes(structure: Structure, made: Certificate, hessian: Tensor, free: Tensor) -> list[str]:
    notes = []
    limits = {name: (low, high) for name, low, high in structure.bounds}
    if at := [name for name in made.bound if name in limits]:
        shown = ", ".join(f"{name} {_shown(*limits[name])}" for name in at)
        notes.append(
            f"At a bound, and so without an error: {shown}. The other errors take "
            f"{'it' if len(at) == 1 else 'these'} as known."
        )
    names = [name for name, loose in zip(structure.names, free.tolist(), strict=True) if loose]
    if made.eigenvalue <= 0:
        notes.append(
            "The loss has no minimum here: its Hessian has an eigenvalue that is not positive. Errors mean nothing; "
            "start elsewhere, as with fit(starts=10), or train for longer."
        )
    elif made.condition > LIKE:
        inside = hessian[free][:, free]
        unit = inside.diagonal().abs().rsqrt()
        share = torch.linalg.eigh(unit[:, None] * inside * unit)[1][:, 0] ** 2
        like = ", ".join(name for name, part in zip(names, share.tolist(), strict=True) if part > 0.05)
        notes.append(
            f"The rows hardly tell {like} apart (condition number {made.condition:.1e}): check for collinearity."
        )
    if made.eigenvalue > 0 and not made.converged:
        notes.append(
            f"The trainer stopped before the minimum, up to {made.gradient:.2g} standard errors from it; errors take "
            "it for one. Train for longer, or go on with fit(start=)."
        )
    return notes


def _shown(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"({low:g} or more)" if low is not None else f"({high:g} or less)"
    return f"(fixed at {low:g})" if low == high else f"({low:g} to {high:g})"
