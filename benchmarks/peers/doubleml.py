"""DoubleML with LightGBM: average effects only.

Defaults throughout: 5 folds, LightGBM's 100 trees of 31 leaves. Exceptions: one thread, no messages, and seeds, that of
the folds through NumPy's global generator, which is the only way in.
"""

from typing import Any

import numpy as np

from deepreg.simulate import Simulation

from .problem import Answer, Problem, binary, need, problem, quiet

dml = need("doubleml")
lightgbm = need("lightgbm")


def _learner(classify: bool, seed: int) -> Any:
    kind = lightgbm.LGBMClassifier if classify else lightgbm.LGBMRegressor
    return kind(n_jobs=1, verbose=-1, random_state=seed)


def _answer(model: Any, data: Problem, seed: int, outcome: Any) -> Answer:
    np.random.seed(seed)
    with quiet():
        fitted = model(dml.DoubleMLData.from_arrays(data.x, data.y, data.t), outcome, _learner(data.binary, seed)).fit()
    return Answer(float(fitted.coef[0]), float(fitted.se[0]))


def dml_irm_lightgbm(sim: Simulation, seed: int) -> Answer:
    """DoubleMLIRM, the interactive model; a binary outcome is classified."""
    data = binary(sim, "DoubleMLIRM")
    return _answer(dml.DoubleMLIRM, data, seed, _learner(sim.family == "logit", seed))


def dml_plr_lightgbm(sim: Simulation, seed: int) -> Answer:
    """DoubleMLPLR: its effect is constant, so it estimates an average weighted by the variance of t given x."""
    return _answer(dml.DoubleMLPLR, problem(sim), seed, _learner(sim.family == "logit", seed))
