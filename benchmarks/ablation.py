"""What each part of the engine is worth: the same draws with parts left out, into benchmarks/ablation.csv.

    python benchmarks/ablation.py --designs tutorial friedman --draws 10 --n 2000

Prints, for each design, the root mean squared error of the treatment's theta(x) and of the effect, and seconds.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import pandas as pd
from ledger import append, record

from deepreg import LBFGS, MLP, AdamW, simulate
from deepreg.theta import LEARNERS

TABLE = Path(__file__).with_suffix(".csv")
PARTS: dict[str, dict[str, Any]] = {
    "default": {},
    "networks only": {"learners": ("network",)},
    "smooth only": {"learners": ("smooth",)},
    "additive only": {"learners": ("additive",)},
    **{f"without {one}": {"learners": tuple(other for other in LEARNERS if other != one)} for one in LEARNERS},
    "patience 20": {"trainer": LBFGS(patience=20)},
    "minibatches": {"trainer": AdamW()},
    "2 members": {"members": 2},
    "8 members": {"members": 8},
    "relu": {"network": MLP(activation="relu")},
    "64-64": {"network": MLP(hidden=(64, 64))},
    "10 folds": {"folds": 10},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the same draws with parts of the engine left out or changed.")
    parser.add_argument("--designs", nargs="+", default=simulate.names(), choices=simulate.names(), metavar="NAME")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--draws", type=int, default=10, help="data sets for each design (default: 10)")
    parser.add_argument("--n", type=int, default=2000, help="rows of each data set (default: 2000)")
    parser.add_argument("--rng", type=int, default=0, help="seed of the study (default: 0)")
    parser.add_argument("--out", type=Path, default=TABLE, help=f"table to append to (default: {TABLE.name})")
    options = parser.parse_args()
    run = 0
    for design in options.designs:
        for part in options.parts:
            rows = simulate.study(design, options.draws, options.n, rng=options.rng, fit_options=PARTS[part])
            effect = simulate.tabulate(rows).iloc[-1]
            term = next(name for name in rows if name.startswith("theta_rmse[") and "Intercept" not in name)
            found = {
                "design": design, "n": options.n, "draws": options.draws, "rng": options.rng, "part": part,
                "theta_rmse": rows.groupby("draw")[term].first().mean(), "effect_bias": effect.bias,
                "effect_rmse": effect.rmse, "se_ratio": effect.se_ratio, "seconds": effect.seconds,
            }  # fmt: skip
            print("  ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in found.values()), flush=True)
            run = run or record(options.out, {name: getattr(options, name) for name in ("draws", "n", "rng")})
            append(options.out, pd.DataFrame([{"run": run, **found}]))


if __name__ == "__main__":
    main()
