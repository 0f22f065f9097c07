"""Regressions whose coefficients are functions of covariates, with influence-function inference.

The names below are loaded on first use, so that `import deepreg` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import DataError, DeepregError, DeepregWarning, FileError, FormulaError, NotAvailable, OptionError
from .version import version

if TYPE_CHECKING:
    from . import datasets, families, heterogeneity, interop, simulate, targets
    from .api import choice, load, structural
    from .best import best_combination
    from .curvature import EstimatedLaw, KnownLaw, Randomised, Regressed
    from .estimator import StructuralClassifier as StructuralClassifier
    from .estimator import StructuralRegressor as StructuralRegressor
    from .networks import MLP, Replicated
    from .pointwise import BootstrapInference
    from .report.etable import etable
    from .structural_model import StructuralModel as StructuralModel
    from .trainers import LBFGS, AdamW
    from .trajectory_model import trajectories

    __version__: str

_MODULES = ("datasets", "families", "heterogeneity", "interop", "simulate", "targets")
_OBJECTS = {
    "best_combination": "best",
    "choice": "api",
    "load": "api",
    "structural": "api",
    "trajectories": "trajectory_model",
    "BootstrapInference": "pointwise",
    "EstimatedLaw": "curvature",
    "KnownLaw": "curvature",
    "Randomised": "curvature",
    "Regressed": "curvature",
    "MLP": "networks",
    "Replicated": "networks",
    "AdamW": "trainers",
    "LBFGS": "trainers",
    "etable": "report.etable",
}
# These need scikit-learn. They stay out of __all__, so that `from deepreg import *` works without it.
_OPTIONAL = {
    "StructuralClassifier": "estimator",
    "StructuralRegressor": "estimator",
    "StructuralModel": "structural_model",
}

__all__ = [
    "LBFGS",
    "MLP",
    "AdamW",
    "BootstrapInference",
    "DataError",
    "DeepregError",
    "DeepregWarning",
    "EstimatedLaw",
    "FileError",
    "FormulaError",
    "KnownLaw",
    "NotAvailable",
    "OptionError",
    "Randomised",
    "Regressed",
    "Replicated",
    "__version__",
    "best_combination",
    "choice",
    "datasets",
    "etable",
    "families",
    "heterogeneity",
    "interop",
    "load",
    "simulate",
    "structural",
    "targets",
    "trajectories",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = version()
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    elif module := _OBJECTS.get(name, _OPTIONAL.get(name)):
        value = getattr(import_module(f"{__name__}.{module}"), name)
    else:
        offered = ", ".join([*__all__, *_OPTIONAL])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {offered}")
    globals()[name] = value  # the next look-up no longer comes here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_OPTIONAL})
