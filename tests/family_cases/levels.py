"""The ordered logit and probit."""

import numpy as np
from scipy import stats
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case, Density, K, parts


def ordered(law) -> Density:  # type: ignore[no-untyped-def]
    def density(u: Units, theta: Tensor) -> np.ndarray:
        y, _, eta, t = parts(u, theta)
        gaps = np.exp(t[:, K:])
        cuts = np.c_[np.full(len(y), -np.inf), np.zeros(len(y)), gaps.cumsum(1), np.full(len(y), np.inf)]
        rows, c = np.arange(len(y)), y.astype(int)
        return -np.log(law.cdf(cuts[rows, c + 1] - eta) - law.cdf(cuts[rows, c] - eta))

    return density


IMPOSSIBLE = (
    ([1.0, 1, 1], ["2 to 50 classes", "1 distinct"]),
    (list(range(60)), ["60 distinct values", "Merge classes"]),
)
CLASSES, TRUTH = ("poor", "fair", "good", "best"), (0.6, -0.5, 0.4, -0.2, 0.1)
CASES = {
    "ordered_logit": Case(families.OrderedLogit(CLASSES), ordered(stats.logistic), IMPOSSIBLE, TRUTH),
    "ordered_probit": Case(families.OrderedProbit(CLASSES), ordered(stats.norm), IMPOSSIBLE, TRUTH),
}
