"""This package at its defaults."""

import deepreg
from deepreg.simulate import Simulation

from .problem import Answer, NotApplicable, Rows, target, treatment


def defaults(sim: Simulation, seed: int) -> Answer:
    """structural(...).fit() as anyone would type it."""
    result = deepreg.structural(sim.formula, sim.frame, family=sim.family).fit(rng=seed, progress=False)
    found = result.estimate(target(sim))
    cate = result.theta()[treatment(sim)].to_numpy()  # (n,) held out
    return Answer(float(found.value[0]), float(found.std_error[0]), cate)


def rows(sim: Simulation, seed: int) -> Rows:
    """Coefficients at the rows of the draw, with the errors of const_marginal_effect_inference()."""
    if sim.family != "linear":
        raise NotApplicable("beta(x) moves an index there, and no effect")
    result = deepreg.structural(sim.formula, sim.frame, family=sim.family).fit(rng=seed, progress=False)
    found = result.const_marginal_effect_inference(sim.frame)
    return Rows(found.point_estimate.reshape(len(sim.frame), -1)[:, 0], found.stderr.reshape(len(sim.frame), -1)[:, 0])
