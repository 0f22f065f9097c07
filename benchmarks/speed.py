"""Seconds of a default fit on one core, beside the time of a 1536 x 1536 float32 product in the same process.

    python benchmarks/speed.py --n 10000

Absolute times differ between machines and moments; the ratio to the product travels better.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import torch

import deepreg


def product() -> float:
    """Seconds of one product, the least of ten."""
    a, times = torch.randn(1536, 1536), []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time default fits on simulated designs, on one core.")
    parser.add_argument("--n", type=int, default=10_000, help="rows (default: 10000)")
    names = ["tutorial", "tutorial_confounded", "tutoring", "logit_continuous"]
    parser.add_argument("--designs", nargs="+", default=names, choices=deepreg.simulate.names(), metavar="NAME")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.designs:
        sim = deepreg.simulate.get(name)(n=options.n, rng=1)
        unit, start = product(), time.perf_counter()
        deepreg.structural(sim.formula, sim.frame, family=sim.family).fit(rng=0, progress=False).summary()
        seconds = time.perf_counter() - start
        print(f"{name}: n = {options.n:,}, {seconds:.2f} s, {seconds / unit:.0f} products of 1536", flush=True)


if __name__ == "__main__":
    main()
