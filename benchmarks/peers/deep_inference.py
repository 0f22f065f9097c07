"""deep-inference, another implementation of Farrell, Liang and Misra.

Defaults throughout: 50 folds, one network of 64-32 units for each, 200 epochs. Exceptions: target="ame" where the
outcome is binary, and seeds, through the global generators, which are the only way in.
"""

import numpy as np
import torch

from deepreg.simulate import Simulation

from .problem import Answer, NotApplicable, need, problem, quiet

library = need("deep_inference")


def deep_inference(sim: Simulation, seed: int) -> Answer:
    """structural_dml with the family of the simulation."""
    if sim.family == "poisson":
        raise NotApplicable("deep_inference gives no effect in counts")
    data = problem(sim)
    np.random.seed(seed)
    torch.manual_seed(seed)
    chosen = {"target": "ame"} if sim.family == "logit" else {}
    with quiet():
        found = library.structural_dml(data.y, data.t, data.x, family=sim.family, **chosen)
    return Answer(float(found.mu_hat), float(found.se), np.asarray(found.theta_hat)[:, 1])
