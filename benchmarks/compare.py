"""deepreg and its peers on the same simulated data, row by row into a table, and a report of the table.

    python benchmarks/compare.py --designs tutorial friedman --methods oracle ols --n 2000 10000 --draws 20
    python benchmarks/compare.py --redo deepreg --n 2000        # run one method again, on the data of before: the rows
                                                                # it is about to replace are taken out first
    python benchmarks/compare.py --report --plots /tmp/plots    # benchmarks/compare.md, and figures

The data of a draw depend on --rng, the design, n and the number of the draw alone. What is in the table already is not
run again, so an interrupted study goes on where it stopped, and methods and draws can be added later. The peers need an
environment of their own, see benchmarks/peers-requirements.txt. benchmarks/compare.json notes settings and versions.
"""

import argparse
import csv
import os
import sys
import time
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np
import torch
from compare_report import report
from ledger import forget_peak, product, record, replace, resident
from peers import METHODS, Method, load, target

from deepreg import simulate
from deepreg.simulate import Simulation

TABLE = Path(__file__).with_suffix(".csv")
DESIGNS = (
    "tutorial",
    "tutorial_confounded",
    "tutoring",
    "tutoring_confounded",
    "logit_continuous",
    "highdim",
    "linear_const",
    "friedman",
    "irm",
    "price",
)
PACKAGES = (
    "deepreg-structural",
    "causalml",
    "deep-inference",
    "DoubleML",
    "econml",
    "lightgbm",
    "numpy",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "torch",
)


class Key(NamedTuple):
    """What a row of the table is about; there is one row for each."""

    design: str
    n: int
    rng: int
    draw: int
    method: str


class Row(NamedTuple):
    """A row of the table. Times are in seconds, memory is in MB; `matmul` is measured right before the method runs."""

    design: str
    n: int
    rng: int
    draw: int
    method: str
    estimate: float
    se: float
    truth: float
    cate_rmse: float
    cpu: float
    wall: float
    rss_mb: float
    matmul: float
    failed: str
    run: int


# ---- the table: one line for each row, so that a kill loses no more than the line being written


def mend(table: Path) -> None:
    """Make a table with a header, and without the unfinished last line of a run that was killed."""
    text = table.read_bytes() if table.exists() else b""
    header = ",".join(Row._fields)
    whole = text[: text.rfind(b"\n") + 1]
    if not whole:
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(header + "\n", encoding="utf-8", newline="")
        return
    if whole.split(b"\n", 1)[0].decode() != header:
        raise SystemExit(f"{table} has other columns than {header}. Give another file to --out.")
    if whole != text:
        replace(table, whole)


def keys(table: Path) -> set[Key]:
    """The keys of the rows that are there."""
    with table.open(encoding="utf-8", newline="") as lines:
        return {key(row) for row in csv.DictReader(lines)}


def key(row: dict[str, str]) -> Key:
    return Key(row["design"], int(row["n"]), int(row["rng"]), int(row["draw"]), row["method"])


def drop(table: Path, unwanted: Collection[Key]) -> None:
    """Take the rows of these keys out of the table."""
    head, *lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line, row in zip(lines, csv.DictReader([head, *lines]), strict=True) if key(row) not in unwanted]
    replace(table, "".join([head, *kept]).encode())


def append(table: Path, row: Row) -> None:
    """One write of one line, on the disk before the next method starts."""
    with table.open("a", encoding="utf-8", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerow([f"{v:.10g}" if isinstance(v, float) else v for v in row])
        lines.flush()
        os.fsync(lines.fileno())


# ---- one row


def draw(design: str, n: int, rng: int, number: int) -> tuple[Simulation, int]:
    """The data of a draw and the seed of the methods, the same for all of them, whatever else is run."""
    seed = np.random.SeedSequence(rng, spawn_key=(zlib.crc32(design.encode()), n, number))
    for_data, for_methods = seed.spawn(2)
    return simulate.get(design)(n=n, rng=for_data), int(for_methods.generate_state(1)[0] >> 1)


def measure(at: Key, method: Method, run: int) -> Row:
    """Run a method on a draw. What it raises becomes the text in `failed`."""
    sim, seed = draw(at.design, at.n, at.rng, at.draw)
    truth, unit, nan = sim.truth[target(sim)], product(), float("nan")
    forget_peak()
    before, wall, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    estimate = se = rmse = nan
    failed = ""
    try:
        estimate, se, cate = method(sim, seed)
    except Exception as error:  # the study goes on, whatever a peer raises
        failed, cate = " ".join(f"{type(error).__name__}: {error}".split())[:300], None
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    grown = max(resident("VmHWM") - before, 0.0)
    if cate is not None:
        rmse = float(np.sqrt(np.mean((cate - sim.theta.iloc[:, 1].to_numpy()) ** 2)))
    return Row(*at, estimate, se, truth, rmse, cpu, wall, grown, unit, failed, run)


# ---- a run


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare deepreg with its peers on the same simulated data.")
    parser.add_argument("--designs", nargs="+", default=DESIGNS, choices=simulate.names(), metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME", help=f"of: {', '.join(METHODS)}")
    parser.add_argument("--redo", nargs="+", default=[], choices=METHODS, metavar="NAME", help="run these methods anew")
    parser.add_argument("--n", type=int, nargs="+", default=[2000], help="rows of a data set (default: 2000)")
    parser.add_argument("--draws", type=int, default=20, help="data sets for each design and n (default: 20)")
    parser.add_argument("--rng", type=int, default=0, help="seed of the study (default: 0)")
    parser.add_argument("--out", type=Path, default=TABLE, help=f"table to add to (default: {TABLE.name})")
    parser.add_argument("--report", action="store_true", help="run nothing; write the report of the table beside it")
    parser.add_argument("--plots", type=Path, help="with --report: the folder for figures")
    options = parser.parse_args(arguments)
    if options.plots and not options.report:
        parser.error("--plots needs --report")
    options.methods = list(dict.fromkeys([*(options.methods or ([] if options.redo else METHODS)), *options.redo]))
    return options


def wanted(options: argparse.Namespace) -> Iterator[Key]:
    """In the order of running: small data first, then method by method."""
    for n in options.n:
        for method in options.methods:
            for design in options.designs:
                for number in range(options.draws):
                    yield Key(design, n, options.rng, number, method)


def fill(table: Path, todo: Iterable[Key], methods: dict[str, Method], run: int) -> None:
    for at in todo:
        row = measure(at, methods[at.method], run)
        append(table, row)
        said = row.failed or f"{row.estimate - row.truth:+.4f} ({row.se:.4f}), CATE {row.cate_rmse:.3f}"
        print(f"{at.method} {at.design} n={at.n} draw {at.draw}: {said}, {row.cpu:.1f} s", flush=True)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.report:
        print(report(options.out, options.plots))
        return
    torch.set_num_threads(1)
    mend(options.out)
    chosen = list(wanted(options))
    if again := {at for at in chosen if at.method in options.redo}:
        drop(options.out, again)
    there = keys(options.out)
    todo = [at for at in chosen if at not in there]
    print(f"{len(todo)} rows to run, {len(chosen) - len(todo)} are there", flush=True)
    if not todo:
        return
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]  # or numba takes coverage.py for the package coverage
    methods = {name: load(name) for name in dict.fromkeys(at.method for at in todo)}
    settings = {name: getattr(options, name) for name in ("designs", "methods", "redo", "n", "draws", "rng")}
    fill(options.out, todo, methods, record(options.out, settings, PACKAGES))


if __name__ == "__main__":
    main(sys.argv[1:])
