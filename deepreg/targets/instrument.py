"""Effects of instrumented treatments: what the instruments do to the outcome, over what they do to the treatments."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from .base import Target
from .ratio import NEAR, warn_near_zero


def _slopes(structure: Structure, theta: Tensor) -> tuple[Tensor, Tensor]:
    """gamma(x) and Pi(x): what the instruments do to the outcome (..., Z), and to the treatments (..., T, Z).

    Of more instruments than treatments, of combinations of them that are uncorrelated and of variance 1.
    """
    assert structure.instruments is not None
    reduced, *first = ([structure.names.index(name) for name in stage] for stage in structure.stages)
    gamma, pi = theta[..., reduced], torch.stack([theta[..., one] for one in first], -2)
    if pi.shape[-2] == pi.shape[-1]:
        return gamma, pi
    spread = torch.tensor(structure.instruments.spread, dtype=theta.dtype, device=theta.device)
    root = torch.linalg.cholesky(spread)
    return (gamma[..., None, :] @ root)[..., 0, :], pi @ root


def _solved(gamma: Tensor, pi: Tensor) -> Tensor:
    """beta with Pi' beta = gamma, by least squares where there are more instruments than treatments; (..., T)."""
    treatments, instruments = pi.shape[-2:]
    if treatments == instruments == 1:
        return gamma / pi[..., 0]
    if treatments == instruments:
        return torch.linalg.solve(pi.mT, gamma)
    return torch.linalg.solve(pi @ pi.mT, (pi @ gamma[..., None])[..., 0])


def _size(pi: Tensor) -> Tensor:
    """What beta is divided by: 0 where the instruments do not move the treatments apart; (...)."""
    return torch.linalg.det(pi) if pi.shape[-2] == pi.shape[-1] else torch.linalg.det(pi @ pi.mT).clamp_min(0).sqrt()


def _treatments(structure: Structure, label: str) -> tuple[str, ...]:
    """The instrumented treatments; raises OptionError in a model without an instrument."""
    if structure.instruments is None:
        raise OptionError(f"{label} needs an instrument; write the formula as 'y ~ [t ~ z] | x'.")
    return structure.family.labels[1:]


@dataclass(frozen=True)
class LATE(Target):
    """E[gamma(x)] / E[pi(x)]: the effect of z on y over its effect on t, each averaged over the features.

    With t and z of 0 and 1 and no defiers it is the average effect of t among compliers, those whom z moves (Imbens and
    Angrist 1994; with features Froelich 2007). With another z it is a weighted average of effects, with weights pi(x).

    Of several instruments with averages g (Z,) and P (T, Z), for T treatments, (P W P')^{-1} P W g, where W is the
    covariance of the instruments in the sample, given the other terms and the features: two-stage least squares of the
    averages, and without features of the data. For one treatment it is the effect by the instrument P z, a weighted
    average of effects with weights P W pi(x), which may be negative where an instrument moves the treatment the other
    way. With as many instruments as treatments W has no say. Outcome per unit of t.
    """

    treatments: int = 1  # of the model, which fills it in
    label: ClassVar[str] = "late"

    def bind(self, design: Design) -> "LATE":
        return replace(self, treatments=max(len(design.levels) - 1, 1))

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"LATE {name}" for name in _treatments(structure, "LATE"))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        gamma, pi = _slopes(structure, theta)
        return torch.cat([gamma, pi.flatten(-2)], -1)

    def combine(self, averages: Tensor) -> Tensor:
        gamma, *pi = averages.unflatten(-1, (1 + self.treatments, -1)).unbind(-2)
        return _solved(gamma, torch.stack(pi, -2))


@dataclass(frozen=True)
class IVEffect(Target):
    """E[gamma(x) / pi(x)]: the effect of the instrumented treatment at each x, averaged over the features.

    It exists where the instrument moves the treatment at every x: a DeepregWarning counts rows where pi(x) is near 0,
    and then LATE is the one to report. Outcome per unit of t.

    Of several instruments, E[(Pi(x) W Pi(x)')^{-1} Pi(x) W gamma(x)] with W as in LATE: at each x, two-stage least
    squares of the slopes there. Where the instruments agree, gamma(x) = Pi(x)' beta(x), it is E[beta(x)] whatever W;
    where they do not, W says how much each counts, and is taken as given. Of as many treatments as instruments it is
    E[Pi(x)'^{-1} gamma(x)]. The warning is of the determinant of Pi(x), or the root of that of Pi(x) W Pi(x)'.
    """

    label: ClassVar[str] = "iv_effect"

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(f"E[effect of {name} at x]" for name in _treatments(structure, "IVEffect"))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        gamma, pi = _slopes(structure, theta)
        what = "the first stage pi(x)" if pi.shape[-2] == 1 else "the determinant of the first stages Pi(x)"
        warn_near_zero("IVEffect", what, _size(pi), NEAR, "Use LATE, the ratio of averages.")
        return _solved(gamma, pi)
