"""The methods by name, each in the module of its library, which is imported only when the method is asked for."""

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

from deepreg.simulate import Simulation

from .problem import Answer, Rows

Method: TypeAlias = Callable[[Simulation, int], Answer]

METHODS: dict[str, str] = {
    "oracle": "oracle:oracle",
    "ols": "statsmodels:ols",
    "ols_interacted": "statsmodels:ols_interacted",
    "deepreg": "deepreg:defaults",
    "dml_irm_lightgbm": "doubleml:dml_irm_lightgbm",
    "dml_plr_lightgbm": "doubleml:dml_plr_lightgbm",
    "causalml_x": "causalml:causalml_x",
    "linear_dml": "econml:linear_dml",
    "causal_forest_dml": "econml:causal_forest_dml",
    "dr_learner": "econml:dr_learner",
    "deep_inference": "deep_inference:deep_inference",
}


ROWS: dict[str, str] = {
    "deepreg": "deepreg:rows",
    "linear_dml": "econml:linear_dml_rows",
    "causal_forest_dml": "econml:causal_forest_rows",
}


def rows(name: str) -> Callable[[Simulation, int], Rows]:
    """What gives the rows of a draw errors; ImportError as load()."""
    found: Callable[[Simulation, int], Rows] = _found(ROWS[name])
    return found


def load(name: str) -> Method:
    """The method of a name; ImportError, naming what to install, where its library is missing."""
    method: Method = _found(METHODS[name])
    return method


def _found(place: str) -> Any:
    module, function = place.split(":")
    return getattr(importlib.import_module(f"{__package__}.{module}"), function)
