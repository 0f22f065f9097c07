"""Coverage of targeting curves, and size and power of the tests for heterogeneity, appended to a table by draw.

    python benchmarks/heterogeneity.py bands --draws 1000 --n 1000
    python benchmarks/heterogeneity.py tests --draws 100 --n 600 --beta 0 0.3 --learners network smooth

Every row is a draw of one setting; a draw that is in the table is not made again, so that a study can be stopped and
continued. Draws are the same whatever else is asked for. The summary of the table is printed; a JSON file beside it
holds the settings and versions of every run.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np
import pandas as pd
from ledger import record
from scipy import stats

import deepreg
from deepreg import heterogeneity as het

SHARE = np.arange(0.05, 1, 0.05)
TRUTH = {"toc": stats.norm.pdf(stats.norm.isf(SHARE)) / SHARE / 1.25**0.5, "AUTOC": 0.9032 / 1.25**0.5}
TRUTH["QINI"] = 1 / (2 * np.pi**0.5) / 1.25**0.5


def bands(draw: int, n: int, **_: object) -> dict[str, float]:
    """Effects are 1 + x with x ~ N(0, 1), priorities x + noise of variance 1/4; scores have noise of variance 4."""
    rng = np.random.default_rng([draw, n])
    x = rng.normal(size=n)
    score = 1 + x + 2 * rng.normal(size=n)
    priority = x + 0.5 * rng.normal(size=n)
    curve = het.toc(score, priority, share=SHARE.tolist(), seed=draw)
    frame, truth = curve.frame(), TRUTH["toc"]
    found = {"band": float(((frame["lower"] <= truth) & (truth <= frame["upper"])).all())}
    each = (frame["[0.025"] <= truth) & (truth <= frame["0.975]"])
    found |= {"all pointwise": float(each.all())} | {f"q={q:.2f}": float(ok) for q, ok in zip(SHARE, each, strict=True)}
    for target in ("AUTOC", "QINI"):
        low, high = het.rate(score, priority, target=target).conf_int().to_numpy()[0]
        found[target] = float(low <= TRUTH[target] <= high)
    return found


def tests(draw: int, n: int, beta: float, learners: str) -> dict[str, float]:
    """z of every test in the experiment y = x0 + min(x2, 0) + (1 + beta x1) t + e with ten features."""
    rng = np.random.default_rng([draw, n])
    x = rng.normal(size=(n, 10))
    t = rng.integers(0, 2, n)
    y = x[:, 0] + np.minimum(x[:, 2], 0) + (1 + beta * x[:, 1]) * t + rng.normal(size=n)
    data = pd.DataFrame(x, columns=[f"x{j}" for j in range(10)]).assign(t=t, y=y)
    formula = "y ~ t | " + " + ".join(f"x{j}" for j in range(10))
    model = deepreg.structural(formula, data, assignment=deepreg.KnownLaw(0.5))
    chosen = None if learners == "default" else learners
    result = model.fit(folds=5, members=1, learners=chosen, rng=draw, progress=False)
    table = result.heterogeneity.test().frame()
    found = {name: float(z) for name, z in table["statistic"].items()}
    found["AUTOC, pooled"] = float(result.heterogeneity.rate().estimates.zvalues[0])
    line = result.heterogeneity.projection().estimates
    loose = line.select(line.names[1:]).wald().pvalue
    for name, p in (("projection on covariates", table["P>|z|"].iloc[-1]), ("projection, chi-squared", loose)):
        found[name] = float(stats.norm.isf(p / 2))
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Coverage, size and power of the diagnostics of heterogeneity.")
    parser.add_argument("study", choices=["bands", "tests"])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--n", type=int, default=600)
    parser.add_argument("--beta", type=float, nargs="+", default=[0.0])
    parser.add_argument("--learners", nargs="+", default=["network"], help="of deepreg, or 'default'")
    parser.add_argument("--out", type=Path, default=None, help="default: benchmarks/heterogeneity-STUDY.csv")
    options = parser.parse_args(arguments)
    out = options.out or Path(__file__).with_name(f"heterogeneity-{options.study}.csv")
    settings = [{"n": options.n}]
    if options.study == "tests":
        settings = [{"n": options.n, "beta": b, "learners": name} for name in options.learners for b in options.beta]
    keys = ["draw", *settings[0]]
    done = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=keys)
    known = set(done[keys].itertuples(index=False, name=None))
    run = bands if options.study == "bands" else tests
    wanted = [(draw, one) for draw in range(options.draws) for one in settings if (draw, *one.values()) not in known]
    if wanted:
        record(out, {name: getattr(options, name) for name in ("study", "draws", "n", "beta", "learners")})
    for draw, setting in wanted:
        row = pd.DataFrame([{"draw": draw, **setting, **run(draw, **setting)}])
        row.to_csv(out, mode="a", header=not out.exists(), index=False, float_format="%.6g")
    table = pd.read_csv(out).drop(columns="draw")
    groups = table.groupby(keys[1:])
    if options.study == "bands":
        print(groups.mean().T.round(3).to_string(), "\ndraws:", groups.size().tolist())
        return
    rejects = groups.agg(lambda z: float((z.abs() > stats.norm.isf(0.025)).mean()))
    spread = groups.std()
    print("Rejected at 5%, two-sided\n", rejects.T.round(3).to_string())
    print("Standard deviation of z\n", spread.T.round(3).to_string(), "\ndraws:", groups.size().tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
