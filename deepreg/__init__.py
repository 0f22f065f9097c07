"""Regressions whose coefficients are functions of covariates, with influence-function inference.

The names below are loaded on first use, so that `import deepreg` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import DataError, DeepregError, DeepregWarning, FileError, FormulaError, NotAvailable, OptionError
from .version import version

if TYPE_CHECKING:
    from . import datasets, families, heterogeneity, interop, penalties, simulate, targets
    from .api import choice, structural
    from .best import best_combination
    from .constant.aliases import logit, negbin, ols, poisson, probit
    from .curvature import EstimatedLaw, KnownLaw, Randomised, Regressed
    from .estimator import StructuralClassifier as StructuralClassifier
    from .estimator import StructuralRegressor as StructuralRegressor
    from .fair import fairness
    from .networks import MLP, Replicated
    from .penalties import RateGap, Rounding
    from .pointwise import BootstrapInference
    from .report.etable import etable
    from .scoring.model import scorecard
    from .searching import search
    from .storage.loading import load
    from .structural_model import StructuralModel as StructuralModel
    from .terrain.model import rtm
    from .tradeoffs import tradeoff
    from .trainers import LBFGS, Adam, AdamW
    from .trajectory.model import trajectories

    __version__: str

_MODULES = ("datasets", "families", "heterogeneity", "interop", "penalties", "simulate", "targets")
_OBJECTS = {
    "best_combination": "best",
    "choice": "api",
    "load": "storage.loading",
    "rtm": "terrain.model",
    "scorecard": "scoring.model",
    "search": "searching",
    "structural": "api",
    "logit": "constant.aliases",
    "negbin": "constant.aliases",
    "ols": "constant.aliases",
    "poisson": "constant.aliases",
    "probit": "constant.aliases",
    "trajectories": "trajectory.model",
    "BootstrapInference": "pointwise",
    "EstimatedLaw": "curvature",
    "KnownLaw": "curvature",
    "Randomised": "curvature",
    "Regressed": "curvature",
    "MLP": "networks",
    "Replicated": "networks",
    "Adam": "trainers",
    "RateGap": "penalties",
    "Rounding": "penalties",
    "AdamW": "trainers",
    "LBFGS": "trainers",
    "etable": "report.etable",
    "fairness": "fair",
    "tradeoff": "tradeoffs",
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
    "Adam",
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
    "RateGap",
    "Regressed",
    "Replicated",
    "Rounding",
    "__version__",
    "best_combination",
    "choice",
    "datasets",
    "etable",
    "fairness",
    "families",
    "heterogeneity",
    "interop",
    "load",
    "logit",
    "negbin",
    "ols",
    "penalties",
    "poisson",
    "probit",
    "rtm",
    "scorecard",
    "search",
    "simulate",
    "structural",
    "targets",
    "tradeoff",
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
