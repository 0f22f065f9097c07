"""Units: the exchangeable things a model is fitted to, with everything that happens inside one as trailing axes."""

from typing import NamedTuple

from torch import Tensor


class Units(NamedTuple):
    """Outcome, structural regressors and presence mask of n exchangeable units, all float64.

    For ordinary rows `inside` is empty: y is (n,), d is (n, K) and mask is (n,).
    """

    y: Tensor  # (n, *outcome)
    d: Tensor  # (n, *inside, K)
    mask: Tensor  # (n, *inside), 1 = present
