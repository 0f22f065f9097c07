"""Whether every family finds the theta(x) that its outcomes were drawn at: bias, error of theta(x), coverage.

    python benchmarks/recovery.py --families gamma weibull --draws 100     # draws that are not in the table yet
    python benchmarks/recovery.py --report                                 # the table of all there are

Four features, uniform on (-sqrt 3, sqrt 3), so of variance 1; a binary treatment with propensity
sigmoid(x0/2 + 2 x1/5); and for the columns of theta(x), around the constants of `SETTINGS`,

    levels      c + .3 sin(3 x0 / 2) + .2 x1
    slopes      c + .25 tanh(3 x1 / 2) + .12 (x2^2 - 1)
    ancillary   c + .2 x2

whose means are c, exactly. Effects on the mean outcome are integrated by Gauss-Legendre quadrature. Every draw has
seeds of its own, made of the setting's name, the draw's number and --rng. Draws are in recovery_draws.csv.gz, a row for
each target; recovery.csv is the table of bias, spread and coverage, and recovery.json has the versions of every run.
"""

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np
import pandas as pd
import torch
from ledger import record, replace
from scipy.special import expit, lambertw

from deepreg import Randomised, families, simulate
from deepreg.families import Family
from deepreg.simulate import Simulation
from deepreg.structure import Structure
from deepreg.targets import OptimalPrice
from deepreg.units import Units

TABLE = Path(__file__).with_suffix(".csv")
DRAWS = TABLE.with_name("recovery_draws.csv.gz")
EDGE = 3**0.5


class Setting(NamedTuple):
    """A family, the mean of each column of its theta(x), the outcome in the formula, and the share censored."""

    family: Family
    means: tuple[float, ...]
    outcome: str = "y"
    treatments: tuple[str, ...] = ("t",)
    censored: float = 0.0


def _of(name: str, *means: float, **options: Any) -> Setting:
    return Setting(families.get(name), means, **options)


SURVIVAL = {"outcome": "Surv(y, event)"}
SETTINGS = {
    **{name: _of(name, 0.3, 0.5) for name in ("linear", "logit", "probit", "fractional_logit", "fractional_probit")},
    "cloglog": _of("cloglog", -0.4, 0.5),
    "gaussian": _of("gaussian", 0.3, 0.5, -0.3),
    "lognormal": _of("lognormal", 0.3, 0.5, -0.4),
    "gamma": _of("gamma", 0.5, 0.4, 0.7),
    "inverse_gaussian": _of("inverse_gaussian", 0.3, 0.4, 1.0),
    "tweedie": _of("tweedie", 0.5, 0.4),
    "beta": _of("beta", 0.2, 0.5, 1.5),
    "poisson": _of("poisson", 0.5, 0.4),
    "negbin": _of("negbin", 0.7, 0.4, -0.7),
    "zip": _of("zip", 1.2, 0.3, -0.5, 0.4),
    "hurdle_poisson": _of("hurdle_poisson", 1.2, 0.3, 0.5, 0.4),
    "zinb": _of("zinb", 1.5, 0.3, -0.5, 0.4, -1.2),
    "hurdle_negbin": _of("hurdle_negbin", 1.5, 0.3, 0.5, 0.4, -1.2),
    "exponential": _of("exponential", 0.3, 0.5, **SURVIVAL),
    "weibull": _of("weibull", 0.3, 0.5, -0.3, **SURVIVAL),
    "gumbel": _of("gumbel", 0.3, 0.5, -0.3, **SURVIVAL),
    "exponential, 30% censored": _of("exponential", 0.3, 0.5, **SURVIVAL, censored=0.3),
    "weibull, 30% censored": _of("weibull", 0.3, 0.5, -0.3, **SURVIVAL, censored=0.3),
    "ordered_logit": Setting(families.OrderedLogit(tuple("abcd")), (0.6, 0.5, 0.0, 0.2)),
    "ordered_probit": Setting(families.OrderedProbit(tuple("abcd")), (0.6, 0.5, -0.3, -0.1)),
    "multinomial": Setting(families.Multinomial(tuple("abc")), (0.3, 0.5, -0.2, 0.4)),
    "tobit": Setting(families.Tobit(0.0), (0.5, 0.6, -0.2)),
    "truncated": Setting(families.Truncated(0.0), (1.2, 0.5, -0.4)),
    "linear_system": Setting(families.LinearSystem(("y1", "y2")), (0.3, 0.5, -0.2, 0.4), "y1 + y2"),
    "combinatorial": _of("combinatorial", 2.0, 0.3, -0.2, treatments=("t1", "t2")),
}
PRICES = {"linear demand": "linear", "logit demand": "logit"}
COST, PRICE = 0.5, OptimalPrice("price", cost=0.5, lo=0.6, hi=12.0)
CHOICES = {"choice, known sets": True, "choice, regressed": False}


def _theta(structure: Structure, means: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """theta(x) (n, P) of features (n, 4)."""
    ancillary = len(structure.names) - len(structure.family.extra)
    shapes = [
        0.2 * x[:, 2] if j >= ancillary
        else 0.3 * np.sin(1.5 * x[:, 0]) + 0.2 * x[:, 1] if j in structure.levels
        else 0.25 * np.tanh(1.5 * x[:, 1]) + 0.12 * (x[:, 2] ** 2 - 1)
        for j in range(len(structure.names))
    ]  # fmt: skip
    return np.stack(shapes, 1) + np.array(means)


def _units(d: np.ndarray) -> Units:
    return Units(torch.zeros(len(d), dtype=torch.float64), torch.tensor(d), torch.ones(len(d), dtype=torch.float64))


@cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Points of the three features that matter, and weights; (Q, 3) and (Q,)."""
    points, weight = np.polynomial.legendre.leggauss(24)
    grid = np.stack(np.meshgrid(*[EDGE * points] * 3, indexing="ij"), -1).reshape(-1, 3)
    return grid, np.einsum("i,j,k->ijk", *[weight / 2] * 3).ravel()


@cache
def _truth(name: str) -> dict[str, float]:
    """The mean of each column of theta(x), and the average effect where there is one outcome with one treatment."""
    setting = SETTINGS[name]
    structure = Structure(setting.family, ("Intercept", *setting.treatments))
    truth = dict(zip(structure.names, setting.means, strict=True))
    if setting.family.labels or setting.family.identity or len(setting.treatments) > 1:
        return truth
    grid, share = _grid()
    theta = torch.tensor(_theta(structure, setting.means, grid))
    means = [setting.family.mean(_units(np.tile([1.0, t], (len(grid), 1))), theta).numpy() for t in (0, 1)]
    return truth | {"ate": float(share @ (means[1] - means[0]))}


def draw(name: str, n: int, rng: Any) -> Simulation:
    """n rows of a setting."""
    if name in CHOICES:
        return _choices(n, np.random.default_rng(rng), CHOICES[name])
    if name in PRICES:
        return _demand(n, np.random.default_rng(rng), PRICES[name])
    rng, setting = np.random.default_rng(rng), SETTINGS[name]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    x = rng.uniform(-EDGE, EDGE, (n, 4))
    propensity = expit(0.5 * x[:, 0] + 0.4 * x[:, 1])
    t = rng.binomial(1, propensity[:, None], (n, len(setting.treatments)))
    structure = Structure(setting.family, ("Intercept", *setting.treatments))
    theta = _theta(structure, setting.means, x)
    y = setting.family.simulate(_units(np.c_[np.ones(n), t]), torch.tensor(theta), generator).numpy()
    frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(4)])
    for k, treatment in enumerate(setting.treatments):
        frame[treatment] = t[:, k]
    if setting.outcome.startswith("Surv"):
        last = _last_seen(setting.censored, y[:, 0], rng)
        frame["y"], frame["event"] = np.minimum(y[:, 0], last), (y[:, 0] <= last) * 1
    elif " + " in setting.outcome:
        frame["y1"], frame["y2"] = y.T
    elif setting.family.outcome == "levels":
        frame["y"] = pd.Categorical.from_codes(y.astype(int), list(setting.family.classes), ordered=True)  # type: ignore[attr-defined]
    else:
        frame["y"] = y
    formula = f"{setting.outcome} ~ {' + '.join(setting.treatments)} | x0 + x1 + x2 + x3"
    law = pd.DataFrame({"mean": propensity, "sd": (propensity * (1 - propensity)) ** 0.5})
    columns = pd.DataFrame(theta, columns=list(structure.names))
    fitted = setting.family if setting.family.extra and hasattr(setting.family, "lower") else setting.family.name
    return Simulation(frame, columns, _truth(name), formula, fitted, law)


def _demand(n: int, rng: np.random.Generator, family: str) -> Simulation:
    """n buyers at prices that vary with x, and the price that is best for each, in closed form.

    The logit's solves (p - cost) b = 1 + exp(a - b p), which is Lambert's function.
    """

    def theta(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = (4.0 if family == "linear" else 2.0) + 0.3 * np.sin(1.5 * x[:, 0]) + 0.2 * x[:, 1]
        return level, -0.7 + 0.15 * np.tanh(1.5 * x[:, 1]) + 0.06 * (x[:, 2] ** 2 - 1)

    def best(x: np.ndarray) -> np.ndarray:
        a, b = theta(x)
        price = (
            COST / 2 - a / (2 * b) if family == "linear" else COST - (1 + lambertw(np.exp(a + b * COST - 1)).real) / b
        )
        sold = a + b * price
        return np.stack([price, (price - COST) * (sold if family == "linear" else expit(sold))], 1)

    grid, share = _grid()
    truth = dict(zip(("Optimal price, cost 0.5", "Profit at optimal price, cost 0.5"), share @ best(grid), strict=True))
    x = rng.uniform(-EDGE, EDGE, (n, 4))
    mean, (a, b) = 3 + 0.4 * x[:, 0], theta(x)
    frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(4)]).assign(price=rng.normal(mean, 0.8))
    sold = a + b * frame.price
    frame["y"] = sold + rng.normal(size=n) if family == "linear" else rng.binomial(1, expit(sold))
    columns, law = pd.DataFrame({"Intercept": a, "price": b}), pd.DataFrame({"mean": mean, "sd": 0.8})
    truth |= {"Intercept": 4.0 if family == "linear" else 2.0, "price": -0.7}
    return Simulation(frame, columns, truth, "y ~ price | x0 + x1 + x2 + x3", family, law, targets=(PRICE,))


def _last_seen(share: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """When each was last seen, were it to go on: exponential, so that about the share is censored; (n,)."""
    if not share:
        return np.full(len(time), np.inf)
    return rng.exponential(1.4 * np.mean(time) * (1 - share) / share, len(time))


def _choices(n: int, rng: np.random.Generator, known: bool) -> Simulation:
    """n choices among four alternatives, of which one in three sets lacks the last, by price and time."""
    x = rng.uniform(-EDGE, EDGE, (n, 4))
    price = -0.8 + 0.3 * np.sin(1.5 * x[:, 0]) + 0.1 * x[:, 1]
    theta = np.stack([price, -0.5 + 0.25 * np.tanh(1.5 * x[:, 1]) + 0.06 * (x[:, 2] ** 2 - 1)], 1)
    d = rng.uniform(0, 2, (n, 4, 2))
    utility = (d * theta[:, None]).sum(-1) + rng.gumbel(size=(n, 4))
    present = np.ones((n, 4), dtype=bool)
    present[:, 3] = rng.random(n) > 1 / 3
    utility[~present] = -np.inf
    chosen = np.arange(4) == utility.argmax(1)[:, None]
    frame = pd.DataFrame(
        {"unit": np.repeat(np.arange(n), 4), "mode": np.tile(list("abcd"), n), "y": chosen.ravel() * 1}
    )
    frame["price"], frame["time"] = d.reshape(-1, 2).T
    for j in range(4):
        frame[f"x{j}"] = np.repeat(x[:, j], 4)
    options: dict[str, Any] = {"unit": "unit", "alternative": "mode"} | ({"assignment": Randomised()} if known else {})
    columns, truth = pd.DataFrame(theta, columns=["price", "time"]), {"price": -0.8, "time": -0.5}
    formula, law = "y ~ price + time | x0 + x1 + x2 + x3", pd.DataFrame({"mean": [], "sd": []})
    return Simulation(frame[present.ravel()], columns, truth, formula, None, law, "choice", options)


def main(arguments: list[str]) -> None:
    every = [*SETTINGS, *PRICES, *CHOICES]
    parser = argparse.ArgumentParser(description="Recovery of theta(x) by every family.")
    parser.add_argument("--families", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--draws", type=int, default=100, help="data sets for each family (default: 100)")
    parser.add_argument("--n", type=int, default=4000, help="rows of each data set (default: 4000)")
    parser.add_argument("--rng", type=int, default=0, help="seed of the study (default: 0)")
    parser.add_argument("--report", action="store_true", help="print the table and run nothing")
    options = parser.parse_args(arguments)
    done = pd.read_csv(DRAWS) if DRAWS.exists() else pd.DataFrame({"setting": [], "draw": [], "run": []})
    if not options.report:
        torch.set_num_threads(1)
        run = record(TABLE, {name: getattr(options, name) for name in ("families", "draws", "n", "rng")})
        for name in options.families:
            known = set(done.draw[(done.setting == name)].astype(int))
            for number in sorted(set(range(options.draws)) - known):
                seed = np.random.SeedSequence([options.rng, zlib.crc32(name.encode()), number])
                process: Callable[..., Simulation] = partial(draw, name)
                rows = simulate.study(process, draws=1, n=options.n, rng=seed).assign(draw=number)
                rows.insert(0, "setting", name)
                rows.insert(0, "run", run)
                errors = rows.filter(like="theta_rmse")
                rows = rows.drop(columns=errors.columns)
                rows["theta_rmse"] = [
                    errors.get(f"theta_rmse[{target}]", pd.Series([np.nan])).iloc[0] for target in rows.target
                ]
                done = pd.concat([done, rows], ignore_index=True)
                if number % 10 == 9:
                    _write(done)
            _write(done)
            print(_table(done[done.setting == name]).round(4).to_string(), flush=True)
    print(_table(done).round(4).to_string())


def _write(done: pd.DataFrame) -> None:
    text = done.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
    replace(DRAWS, gzip.compress(text, mtime=0))
    replace(TABLE, _table(done).to_csv(float_format="%.5g", lineterminator="\n").encode())


def _table(done: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting and target."""
    tables = {name: simulate.tabulate(rows) for name, rows in done.groupby("setting", sort=False)}
    errors = done.groupby(["setting", "target"], sort=False).theta_rmse.mean()
    whole = pd.concat(tables, names=["setting"])
    whole["theta_rmse"] = errors.reindex(whole.index)
    return whole


if __name__ == "__main__":
    main(sys.argv[1:])
