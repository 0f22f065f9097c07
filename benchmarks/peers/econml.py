"""EconML's estimators, at their defaults: models chosen by cross-validation among linear ones and forests ("auto").

Exceptions: discrete_treatment where the treatment is binary, discrete_outcome where the outcome is, n_jobs=1, and
seeds. The standard error of an average is the one the library calls that of the mean (`stderr_mean`); that of the
forest, where the treatment is binary, comes with its doubly robust average (`ate_`). Effects on a binary outcome are
differences of probabilities, so beta(x), which lives on the scale of the index, is not among the answers there.
"""

from typing import Any

from deepreg.simulate import Simulation

from .problem import Answer, NotApplicable, Problem, Rows, binary, need, problem, quiet

dml = need("econml.dml")
dr = need("econml.dr")


def _options(sim: Simulation, data: Problem, seed: int) -> dict[str, Any]:
    return {
        "discrete_outcome": sim.family == "logit",
        "discrete_treatment": data.binary,
        "random_state": seed,
    }


def _average(sim: Simulation, data: Problem, fitted: Any) -> Answer:
    """The mean of the effects of all rows."""
    found = fitted.ate_inference(data.x)
    cate = fitted.effect(data.x).ravel() if sim.family == "linear" else None
    return Answer(float(found.mean_point), float(found.stderr_mean), cate)


def linear_dml(sim: Simulation, seed: int) -> Answer:
    """LinearDML: the effect is linear in x."""
    data = problem(sim)
    with quiet():
        fitted = dml.LinearDML(**_options(sim, data, seed)).fit(data.y, data.t, X=data.x)
        return _average(sim, data, fitted)


def causal_forest_dml(sim: Simulation, seed: int) -> Answer:
    """CausalForestDML: the effect is a forest."""
    data = problem(sim)
    with quiet():
        fitted = dml.CausalForestDML(n_jobs=1, **_options(sim, data, seed)).fit(data.y, data.t, X=data.x)
        found = _average(sim, data, fitted)
        if not data.binary:
            return found
        return Answer(float(fitted.ate_.item()), float(fitted.ate_stderr_.item()), found.cate)


def linear_dml_rows(sim: Simulation, seed: int) -> Rows:
    """Effects of rows by LinearDML, with its own errors."""
    return _rows(sim, seed, dml.LinearDML)


def causal_forest_rows(sim: Simulation, seed: int) -> Rows:
    """Effects of rows by CausalForestDML, with errors by its bootstrap of little bags."""
    return _rows(sim, seed, dml.CausalForestDML, n_jobs=1)


def _rows(sim: Simulation, seed: int, model: Any, **options: Any) -> Rows:
    if sim.family != "linear":
        raise NotApplicable("beta(x) moves an index there, and no effect")
    data = problem(sim)
    with quiet():
        fitted = model(**options, **_options(sim, data, seed)).fit(data.y, data.t, X=data.x)
        found = fitted.effect_inference(data.x)
    return Rows(found.point_estimate.ravel(), found.stderr.ravel())


def dr_learner(sim: Simulation, seed: int) -> Answer:
    """DRLearner: a linear regression of doubly robust scores on x."""
    data = binary(sim, "DRLearner")
    if sim.family not in ("linear", "logit"):
        raise NotApplicable("DRLearner needs a continuous or binary outcome")
    with quiet():
        model = dr.DRLearner(discrete_outcome=sim.family == "logit", random_state=seed)
        return _average(sim, data, model.fit(data.y, data.t, X=data.x))
