"""Simulated data with known answers, and Monte Carlo studies of what an estimator makes of them."""

from .montecarlo import study, tabulate
from .processes import (
    Simulation,
    friedman,
    get,
    heteroskedastic,
    highdim,
    irm,
    linear_const,
    logit_continuous,
    names,
    no_effect,
    poisson_confounded,
    price,
    tutorial,
    tutoring,
)
from .selection import recidivism, risk_terrain

__all__ = [
    "Simulation",
    "friedman",
    "get",
    "heteroskedastic",
    "highdim",
    "irm",
    "linear_const",
    "logit_continuous",
    "names",
    "no_effect",
    "poisson_confounded",
    "price",
    "recidivism",
    "risk_terrain",
    "study",
    "tabulate",
    "tutorial",
    "tutoring",
]
