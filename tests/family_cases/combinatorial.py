"""The links of the combinatorial family, by nonlinear least squares written out in numpy."""

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.special import expit
from torch import Tensor

from deepreg.families import Combinatorial
from deepreg.units import Units

from .case import Case
from .classic import CONSTANT

MEANS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "multiplicative": lambda d, t: d[:, 0] * t[:, 0] * (1 + d[:, 1] * t[:, 1]) * (1 + d[:, 2] * t[:, 2]),
    "sigmoid": lambda d, t: expit((d * t).sum(1)),
    "gen_sigmoid_i": lambda d, t: t[:, 0] * expit(d[:, 1] * t[:, 1] + d[:, 2] * t[:, 2]),
    "gen_sigmoid_ii": lambda d, t: t[:, 3] * expit((d * t[:, :3]).sum(1)),
}


def normal(link: str, scale: float, shift: float) -> Callable[[Units, Tensor], np.ndarray]:
    def density(u: Units, theta: Tensor) -> np.ndarray:
        mean = shift + scale * MEANS[link](u.d.numpy(), theta.numpy())
        return -stats.norm.logpdf(u.y.numpy(), mean, scale)

    return density


def case(link: str, truth: tuple[float, ...], scale: float = 1.0, shift: float = 0.0, spread: float = 0.4) -> Case:
    family = Combinatorial(link, scale, shift)
    unit = (lambda size: 1.0) if link == "sigmoid" else (lambda size: size**2)
    density = normal(link, scale, shift)
    return Case(family, density, CONSTANT, truth, unit=unit, likelihood=False, spread=spread)


CASES = {
    "combinatorial": case("multiplicative", (2.0, 0.3, -0.2)),
    "combinatorial: sigmoid": case("sigmoid", (0.3, -0.5, 0.4), 12.0, -3.0),
    "combinatorial: gen_sigmoid_i": case("gen_sigmoid_i", (12.0, -0.5, 0.4)),
    "combinatorial: gen_sigmoid_ii": case("gen_sigmoid_ii", (0.6, -1.2, 1.0, 30.0)),
}
