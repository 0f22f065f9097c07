"""Bias, spread and coverage of the default estimator on simulated data, appended to benchmarks/coverage.csv.

    python benchmarks/coverage.py --designs tutorial friedman --draws 200 --n 2000 --jobs 2

Each row of the table belongs to a run; benchmarks/coverage.json holds the settings and versions of every run.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, and for the worker processes

import pandas as pd
from ledger import append, record

from deepreg import simulate

TABLE = Path(__file__).with_suffix(".csv")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Monte Carlo study of the default estimator on simulated designs.")
    parser.add_argument("--designs", nargs="+", default=simulate.names(), choices=simulate.names(), metavar="NAME")
    parser.add_argument("--draws", type=int, default=200, help="data sets for each design (default: 200)")
    parser.add_argument("--n", type=int, default=2000, help="rows of each data set (default: 2000)")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes (default: 1)")
    parser.add_argument("--rng", type=int, default=0, help="seed of the study (default: 0)")
    parser.add_argument("--out", type=Path, default=TABLE, help=f"table to append to (default: {TABLE.name})")
    parser.add_argument("--fit", type=json.loads, default={}, help='options of fit() as JSON, e.g. {"members": 8}')
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    run = 0
    for design in options.designs:
        rows = simulate.study(
            design, draws=options.draws, n=options.n, rng=options.rng, n_jobs=options.jobs, fit_options=options.fit
        )
        table = simulate.tabulate(rows).reset_index()
        print(f"\n{design}, n = {options.n}\n{table.round(4).to_string(index=False)}", flush=True)
        run = run or record(options.out, {name: getattr(options, name) for name in ("draws", "n", "rng", "fit")})
        labels = pd.DataFrame({"run": run, "design": design, "n": options.n}, table.index)
        append(options.out, pd.concat([labels, table], axis=1))


if __name__ == "__main__":
    main(sys.argv[1:])
