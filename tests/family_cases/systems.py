"""Several linear equations."""

import numpy as np
from scipy import stats
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, K, parts


def system(u: Units, theta: Tensor) -> np.ndarray:
    y, d, _, t = parts(u, theta)
    eta = np.stack([(d * t[:, :K]).sum(1), (d * t[:, K:]).sum(1)], 1)
    return -stats.norm.logpdf(y, eta, [1.0, 2.0]).sum(1)


CASES = {
    "linear_system": Case(
        families.LinearSystem(("wage", "hours"), (1.0, 2.0)),
        system,
        (([2.5, 2.5, 2.5], ["outcomes that vary", "number 1", "is 2.5 in all 3 rows"]),),
        (0.3, -0.5, 0.4, 0.2, 0.1, -0.3),
        likelihood=False,
    ),
}
