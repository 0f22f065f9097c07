"""Monte Carlo studies: bias, spread and coverage of an estimator over repeated draws of a simulation."""

import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import norm

from ..errors import OptionError
from ..seeds import generator
from .processes import Process, Seed, Simulation, get, whole

Fit: TypeAlias = Callable[[pd.DataFrame, str, str, int], Mapping[str, tuple[float, float]]]


class _Draw(NamedTuple):
    number: int
    process: Process
    n: int
    fit: Fit | None
    fit_options: Mapping[str, Any]
    seed: np.random.SeedSequence


def _fit(sim: Simulation, rng: int, **fit_options: Any) -> tuple[dict[str, tuple[float, float]], pd.DataFrame]:
    """Estimate and standard error of every target with this package's defaults, and theta(x) held out (n, P)."""
    from .. import api  # here, because drawing data needs none of it

    if sim.model == "choice":
        model = api.choice(sim.formula, sim.frame, **sim.options)
    else:
        model = api.structural(sim.formula, sim.frame, family=sim.family, **sim.options)
    result = model.fit(rng=rng, progress=False, **fit_options)
    found: dict[str, tuple[float, float]] = {}
    if sim.targets:
        table = result.estimate(*sim.targets)
        found = {
            name: (float(b), float(se)) for name, b, se in zip(table.names, table.value, table.std_error, strict=True)
        }
    for target in (one for one in sim.truth if one not in found):
        if target in sim.theta.columns:
            found[target] = float(result.params[target]), float(result.bse[target])
        else:
            table = result.estimate(target)
            found[target] = float(table.value[0]), float(table.std_error[0])
    return found, result.theta()


def _run(draw: _Draw) -> list[dict[str, Any]]:
    """The rows of one draw, one for each target."""
    for_data, for_fit = draw.seed.spawn(2)
    sim = draw.process(n=draw.n, rng=for_data)
    seed = int(for_fit.generate_state(1)[0] >> 1)  # below 2^31, which every generator takes
    start = time.perf_counter()
    if draw.fit is None:
        found, theta = _fit(sim, seed, **draw.fit_options)
        wrong = (theta[sim.theta.columns].to_numpy() - sim.theta.to_numpy()) ** 2  # (n, P)
        rmse = dict(zip(sim.theta.columns, np.sqrt(wrong.mean(0)), strict=True))
    else:
        found = dict(draw.fit(sim.frame, sim.formula, sim.family, seed))
        rmse = dict.fromkeys(sim.theta.columns, float("nan"))
    shared = {"seconds": time.perf_counter() - start} | {f"theta_rmse[{term}]": rmse[term] for term in rmse}
    if unknown := found.keys() - sim.truth.keys():
        raise OptionError(
            f"fit returned {sorted(unknown)}, but the targets of this simulation are {sorted(sim.truth)}."
        )
    return [
        {"draw": draw.number, "target": target, "truth": sim.truth[target], "estimate": value, "se": se, **shared}
        for target, (value, se) in found.items()
    ]


def _one_thread() -> None:
    """Workers share the cores as processes, not as threads."""
    import torch

    torch.set_num_threads(1)


def study(
    simulation: str | Process,
    draws: int,
    n: int,
    fit: Fit | None = None,
    rng: Seed = None,
    n_jobs: int = 1,
    fit_options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Draw data from a simulation again and again and estimate its targets each time.

    Without `fit` the estimator is `structural(...).fit(**fit_options)`. With it, `fit(frame, formula, family, seed)`
    returns {target: (estimate, standard error)} for some or all of the simulation's targets. Draws and seeds depend on
    `rng` alone, not on `n_jobs`. With `n_jobs` > 1, worker processes are started afresh: a script that calls this needs
    the guard `if __name__ == "__main__":`, and `simulation` and `fit` must be functions that can be imported.

    Returns one row for each draw and target: draw, target, truth, estimate, se, seconds (of the fit), and for each term
    the root mean squared error of theta(x) over the rows of the draw, theta_rmse[term] (NaN where `fit` is given).
    Raises OptionError for an unknown name, for `draws` or `n_jobs` below 1, and for `fit_options` beside `fit`.

        >>> def difference(frame, formula, family, seed):
        ...     groups = frame.groupby("treatment").y
        ...     return {"ate": (groups.mean().diff()[1], (groups.var() / groups.size()).sum() ** 0.5)}
        >>> table = tabulate(study("tutorial", draws=100, n=400, fit=difference, rng=0))
        >>> bool(table.coverage["ate"] > 0.9)
        True
    """
    if fit is not None and fit_options is not None:
        raise OptionError("fit_options are passed to structural(...).fit; give either fit or fit_options, not both.")
    process = get(simulation) if isinstance(simulation, str) else simulation
    root: Any = generator(rng).bit_generator.seed_seq
    seeds = root.spawn(whole("draws", draws))
    tasks = [_Draw(number, process, n, fit, fit_options or {}, seed) for number, seed in enumerate(seeds)]
    if whole("n_jobs", n_jobs) == 1:
        return pd.DataFrame([row for task in tasks for row in _run(task)])
    try:
        pickle.dumps(tasks[0])
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise OptionError(
            f"n_jobs={n_jobs} sends simulation, fit and fit_options to other processes, which failed: {error}. "
            "Define them at the top level of a module, or use n_jobs=1."
        ) from error
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        return pd.DataFrame([row for rows in pool.map(_run, tasks) for row in rows])


def tabulate(frame: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Summarise a study: one row for each target.

    With estimates b_r, standard errors s_r, truth b and R draws: bias = mean(b_r) - b, rmse = sqrt(mean((b_r - b)^2)),
    sd of b_r, mean_se = mean(s_r), se_ratio = mean_se / sd, coverage = share of |b_r - b| <= z s_r, its Monte Carlo
    standard error coverage_error = sqrt(coverage (1 - coverage) / R), and length = 2 z mean_se, all in the units of the
    target. A draw without an estimate makes bias and rmse NaN and counts as not covered. Seconds and theta_rmse are
    means over the draws. Raises OptionError where `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise OptionError(
            f"level={level!r} is not a confidence level. Give a number between 0 and 1, for example 0.95."
        )
    z = norm.ppf((1 + level) / 2)
    rows = {}
    for target, group in frame.groupby("target", sort=False):
        error, sd, mean_se = group.estimate - group.truth, group.estimate.std(), group.se.mean(skipna=False)
        coverage = (error.abs() <= z * group.se).mean()
        rows[target] = {
            "truth": group.truth.iloc[0],
            "draws": len(group),
            "bias": error.mean(skipna=False),
            "rmse": (error**2).mean(skipna=False) ** 0.5,
            "sd": sd,
            "mean_se": mean_se,
            "se_ratio": mean_se / sd,
            "coverage": coverage,
            "coverage_error": (coverage * (1 - coverage) / len(group)) ** 0.5,
            "length": 2 * z * mean_se,
            **group.filter(regex=r"^(seconds$|theta_rmse\[)").mean().to_dict(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("target")
