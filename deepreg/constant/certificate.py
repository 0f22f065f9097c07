"""Certificate: what says that a minimum is one."""

from typing import NamedTuple

import torch
from torch import Tensor

CONVERGED = 1e-4  # of the gradient in standard errors: a note says what is further from 0


class Certificate(NamedTuple):
    """How constant theta was found, and what the loss looks like there, all on the parameters that are free.

    `gradient` is the largest Newton step still to go, in standard errors of the parameter, so that it has no unit; the
    Hessian is that of the mean loss in units that make its diagonal 1. A minimum has a gradient of 0 and a smallest
    eigenvalue above 0; the smaller it is beside `condition`, their ratio, the less the rows tell some combination of
    the terms apart.
    """

    method: str
    steps: int
    starts: int
    gradient: float
    eigenvalue: float  # the smallest
    condition: float  # the largest over the smallest
    free: int  # parameters
    bound: tuple[str, ...] = ()  # parameters at one of their bounds
    reached: int = 1  # of the starts, how many ended there

    @property
    def converged(self) -> bool:
        """Whether it is a minimum."""
        return self.gradient < CONVERGED and self.eigenvalue > 0


def spectrum(hessian: Tensor) -> tuple[float, float]:
    """The smallest eigenvalue of a Hessian (P, P) with unit diagonal, and the largest over it; NaN of none."""
    if not len(hessian):
        return float("nan"), float("nan")
    unit = hessian.diagonal().abs().clamp_min(1e-300).rsqrt()
    values = torch.linalg.eigvalsh(unit[:, None] * hessian * unit)
    return float(values[0]), float(values[-1] / values[0])
