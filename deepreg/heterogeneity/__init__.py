"""Heterogeneity: whether differences between effects are real and worth acting on, from scores of any source.

Pure functions of arrays, whose answers are Estimates or hold some.
"""

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
from .losses import Losses, dr_loss, named, r_loss
from .policy import Regret, ValueCurve, policy_difference, policy_value, regret, value_against_cost
from .qini import QiniCurve, qini
from .rates import Rate, check_priority, rate
from .sensitivity import Sensitivity, sensitivity
from .testing import HeterogeneityTest, heterogeneity_test, median_test, sequential_priority
from .transformation import TransformedLoss, transformed_outcome, weighted_mse
from .trees import PolicyTree, PolicyTreeValue, policy_tree, policy_tree_value

__all__ = [
    "Calibration", "Clan", "Curve", "Diagnostic", "Generic", "Groups", "HeterogeneityTest", "Losses", "PolicyTree",
    "PolicyTreeValue", "Projection", "QiniCurve", "Rate", "Regret", "Residual", "Sensitivity", "TransformedLoss",
    "ValueCurve", "calibration", "calibration_score", "check_priority", "clan", "dr_loss", "gain", "gates",
    "generic_blp", "generic_gates", "heterogeneity_test", "median_test", "merged", "named", "policy_difference",
    "policy_tree", "policy_tree_value", "policy_value", "projection", "qini", "r_loss", "rate", "regret",
    "residual_calibration", "sensitivity", "sequential_priority", "toc", "transformed_outcome", "value_against_cost",
    "weighted_mse",
]  # fmt: skip
