"""Whether intervals of single rows cover: beta(x) of every row, on average over rows and draws.

    python benchmarks/intervals.py --draws 20                          # draws that are not in the table yet
    python benchmarks/intervals.py --methods linear_dml --designs price
    python benchmarks/intervals.py --report                            # means of what there is

Each draw of a design of `deepreg.simulate` goes to every method; estimates and normal intervals of beta(x), the
coefficient of the treatment, are at the rows of the draw. intervals.csv has a row for each draw and method: the share
of rows inside 90% and 95% intervals, the mean width of the latter, the root mean squared error, the mean of the
standard errors, and seconds. intervals.json has the versions of every run. Peers whose library is missing are skipped.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np
import pandas as pd
from ledger import PACKAGES, record
from peers import registry
from peers.problem import NotApplicable, Rows, treatment

from deepreg import simulate
from deepreg.simulate import Simulation

TABLE = Path(__file__).with_suffix(".csv")
DESIGNS = ("tutorial", "tutoring", "friedman", "price", "highdim", "linear_const")
METHODS = ("deepreg", "linear_dml", "causal_forest_dml")
CRITICAL = {"cover90": 1.6448536269514722, "cover95": 1.959963984540054}
KEYS = ["design", "n", "method", "draw"]


def measure(sim: Simulation, method: Callable[[Simulation, int], Rows], draw: int) -> dict[str, float]:
    """One row of the table."""
    start = time.perf_counter()
    found = method(sim, draw)
    seconds = time.perf_counter() - start
    error = found.estimate - sim.theta[treatment(sim)].to_numpy(float)
    inside = {name: float(np.mean(np.abs(error) <= z * found.stderr)) for name, z in CRITICAL.items()}
    size = float(np.mean(found.stderr))
    rmse = float(np.sqrt(np.mean(error**2)))
    return {**inside, "width95": 2 * CRITICAL["cover95"] * size, "rmse": rmse, "stderr": size, "seconds": seconds}


def known() -> pd.DataFrame:
    return pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=[*KEYS, "run"])


def run(designs: list[str], methods: list[str], n: int, draws: int) -> None:
    """Every draw that the table lacks, each written down as soon as it is there."""
    ready: dict[str, Any] = {}
    for name in methods:
        try:
            ready[name] = registry.rows(name)
        except ImportError as error:
            print(f"{name} is skipped: {error}", file=sys.stderr)
    done = set(map(tuple, known()[KEYS].itertuples(index=False)))
    number = record(TABLE, {"designs": designs, "methods": list(ready), "n": n, "draws": draws}, (*PACKAGES, "econml"))
    for draw in range(draws):
        for design in designs:
            sim = None
            for name, method in ready.items():
                if (design, n, name, draw) in done:
                    continue
                sim = simulate.get(design)(n=n, rng=draw) if sim is None else sim
                try:
                    row = measure(sim, method, draw)
                except NotApplicable:
                    continue
                one = pd.DataFrame([{"design": design, "n": n, "method": name, "draw": draw, **row, "run": number}])
                one.round(5).to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False)
                print(one.drop(columns="run").to_string(header=False, index=False), flush=True)


def report() -> None:
    """Means over draws of every design and method."""
    table = known().drop(columns="run")
    means = table.groupby(["design", "n", "method"]).mean().drop(columns="draw")
    print(means.assign(draws=table.groupby(["design", "n", "method"]).size()).round(3).to_string())


if __name__ == "__main__":
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]  # or numba takes coverage.py for the package coverage
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", nargs="+", default=list(DESIGNS), choices=simulate.names())
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(registry.ROWS))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if not options.report:
        run(options.designs, options.methods, options.n, options.draws)
    report()
