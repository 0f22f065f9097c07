"""Heterogeneity: whether estimated differences between effects are real, from scores and priorities of any source."""

from .curves import Curve, gain, toc
from .diagnostic import Diagnostic, merged
from .generic import Generic, generic_blp, generic_gates
from .groups import Clan, Groups, calibration_score, clan, gates
from .linear import (
    Calibration,
    Projection,
    Residual,
    calibration,
    projection,
    residual_calibration,
)
from .rates import Rate, check_priority, rate
from .testing import HeterogeneityTest, heterogeneity_test, median_test, sequential_priority
from .transformation import TransformedLoss, transformed_outcome, weighted_mse

__all__ = [
    "Calibration", "Clan", "Curve", "Diagnostic", "Generic", "Groups", "HeterogeneityTest", "Projection", "Rate",
    "Residual", "TransformedLoss", "calibration", "calibration_score", "check_priority", "clan", "gain", "gates",
    "generic_blp", "generic_gates", "heterogeneity_test", "median_test", "merged", "projection", "rate",
    "residual_calibration", "sequential_priority", "toc", "transformed_outcome", "weighted_mse",
]  # fmt: skip
