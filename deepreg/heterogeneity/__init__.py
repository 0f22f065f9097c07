"""Diagnostics of effects that differ between rows: pure functions of arrays, whose answers are Estimates."""

from .losses import Losses, dr_loss, r_loss
from .policy import ValueCurve, policy_difference, policy_value, value_against_cost
from .qini import QiniCurve, qini
from .sensitivity import Sensitivity, sensitivity
from .trees import PolicyTree, PolicyTreeValue, policy_tree, policy_tree_value

__all__ = [
    "Losses",
    "PolicyTree",
    "PolicyTreeValue",
    "QiniCurve",
    "Sensitivity",
    "ValueCurve",
    "dr_loss",
    "policy_difference",
    "policy_tree",
    "policy_tree_value",
    "policy_value",
    "qini",
    "r_loss",
    "sensitivity",
    "value_against_cost",
]
