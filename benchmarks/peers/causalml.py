"""causalml's X-learner with LightGBM.

Defaults throughout: the propensity of its elastic-net logistic regression, the analytic interval, LightGBM's 100 trees
of 31 leaves. Exceptions: one thread, no messages, and seeds. The standard error is the interval's length over 3.92.
"""

import numpy as np
from scipy.stats import norm

from deepreg.simulate import Simulation

from .problem import Answer, NotApplicable, binary, need, quiet

meta = need("causalml.inference.meta")
lightgbm = need("lightgbm")


def causalml_x(sim: Simulation, seed: int) -> Answer:
    """BaseXRegressor: the average effect and, from the fitted effect models, the effect of every row."""
    if sim.family != "linear":
        raise NotApplicable("BaseXRegressor needs a continuous outcome")
    data = binary(sim, "BaseXRegressor")
    t = data.t.astype(int)
    np.random.seed(seed)
    with quiet():
        learner = meta.BaseXRegressor(lightgbm.LGBMRegressor(n_jobs=1, verbose=-1, random_state=seed))
        value, low, high = learner.estimate_ate(data.x, t, data.y)
        cate = learner.predict(data.x, p=learner.propensity)[:, 0]  # (n,)
    return Answer(float(value[0]), float(high[0] - low[0]) / (2 * float(norm.ppf(0.975))), cate)
