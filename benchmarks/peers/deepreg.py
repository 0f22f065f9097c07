"""This package at its defaults."""

import deepreg
from deepreg.simulate import Simulation

from .problem import Answer, target, treatment


def defaults(sim: Simulation, seed: int) -> Answer:
    """structural(...).fit() as anyone would type it."""
    result = deepreg.structural(sim.formula, sim.frame, family=sim.family).fit(rng=seed, progress=False)
    found = result.estimate(target(sim))
    cate = result.theta()[treatment(sim)].to_numpy()  # (n,) held out
    return Answer(float(found.value[0]), float(found.std_error[0]), cate)
