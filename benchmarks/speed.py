"""Time and memory of default fits on one core, each in a process of its own, appended to benchmarks/speed.csv.

    python benchmarks/speed.py --designs tutorial highdim --n 2000 10000
    python benchmarks/speed.py --designs irm --n 1000 10000 100000 1000000 --single --flops

Absolute times differ between machines and moments; their ratio to a 1536 x 1536 float32 product in the same process
travels better. The limit on memory is four times the data in single precision and a GB. With --flops a second fit
counts the floating-point operations of its matrix products, to be compared with the rate of the product.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import ledger
import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

import deepreg

TABLE = Path(__file__).with_suffix(".csv")


def measure(design: str, n: int, single: bool, flops: bool) -> dict[str, float | int | str]:
    """One default fit in this process."""
    torch.set_num_threads(1)
    warm = deepreg.simulate.get(design)(n=500, rng=0)
    deepreg.structural(warm.formula, warm.frame, family=warm.family).fit(folds=2, rng=0, progress=False)
    idle = ledger.resident("VmRSS")
    sim = deepreg.simulate.get(design)(n=n, rng=1)
    frame, formula, family = sim.frame, sim.formula, sim.family
    if single:
        frame = frame.astype(dict.fromkeys(frame.select_dtypes("float64"), np.float32))
    del sim
    ledger.forget_peak()
    unit, wall, cpu = ledger.product(), time.perf_counter(), time.process_time()
    deepreg.structural(formula, frame, family=family).fit(rng=0, progress=False).summary()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak, unit = ledger.resident("VmHWM"), min(unit, ledger.product())
    found: dict[str, float | int | str] = {
        "design": design, "n": n, "columns": frame.shape[1], "cpu": cpu, "wall": wall, "product": unit,
        "products": cpu / unit, "idle_mb": idle, "peak_mb": peak, "limit_mb": 4 * 4 * frame.size / 2**20 + 1024,
    }  # fmt: skip
    if flops:
        with FlopCounterMode(display=False) as counter:
            deepreg.structural(formula, frame, family=family).fit(rng=0, progress=False)
        found["gflop"] = counter.get_total_flops() / 1e9
        found["share_of_product_rate"] = counter.get_total_flops() / cpu / (2 * 1536**3 / unit)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of default fits on simulated designs, on one core.")
    parser.add_argument("--n", type=int, nargs="+", default=[10_000], help="rows (default: 10000)")
    names = ["tutorial", "tutorial_confounded", "tutoring", "logit_continuous"]
    parser.add_argument("--designs", nargs="+", default=names, choices=deepreg.simulate.names(), metavar="NAME")
    parser.add_argument("--single", action="store_true", help="give the data in single precision")
    parser.add_argument("--flops", action="store_true", help="count floating-point operations in a second fit")
    parser.add_argument("--out", type=Path, default=TABLE, help=f"table to append to (default: {TABLE.name})")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("designs", "n", "single", "flops")}
    run = 0
    for n in options.n:
        for design in options.designs:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                found = process.submit(measure, design, n, options.single, options.flops).result()
            run = run or ledger.record(options.out, settings)
            ledger.append(options.out, pd.DataFrame([{"run": run, **found}]))
            print(
                f"{design}: n = {n:,}, {found['cpu']:.2f} s, {found['products']:.0f} products of 1536, "
                f"{found['peak_mb']:.0f} of {found['limit_mb']:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
