"""Sensitivity numbers of DoubleML 0.11.4 on a confounded sample; writes rows.csv, numbers.csv and gains.csv here."""

from pathlib import Path

import doubleml as dml
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression

HERE = Path(__file__).parent
rng = np.random.default_rng(5)
n = 400
x = rng.normal(size=(n, 3))
d = (rng.uniform(size=n) < 1 / (1 + np.exp(-0.8 * x[:, 0] + 0.5 * x[:, 1]))).astype(float)
y = 1 + x[:, 0] + 0.5 * x[:, 1] + d * (1 + 0.5 * x[:, 2]) + rng.normal(size=n)
data = pd.DataFrame(np.round(np.c_[y, d, x], 6), columns=["y", "d", "x1", "x2", "x3"])
folds = np.arange(n) % 5
samples = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(5)]


def fitted(kind: str, features: list[str]) -> dml.DoubleMLIRM | dml.DoubleMLPLR:
    source = dml.DoubleMLData(data[["y", "d", *features]], "y", "d")
    if kind == "PLR":
        model = dml.DoubleMLPLR(source, LinearRegression(), LinearRegression(), n_folds=5, draw_sample_splitting=False)
    else:
        model = dml.DoubleMLIRM(
            source, LinearRegression(), LogisticRegression(C=1e6), n_folds=5, score=kind, draw_sample_splitting=False
        )
    model.set_sample_splitting([samples])
    return model.fit()


rows, numbers, gains = [data], [], []
for kind in ("ATE", "ATTE", "PLR"):
    long = fitted(kind, ["x1", "x2", "x3"])
    elements = long.framework.sensitivity_elements
    seen = long.sensitivity_elements
    predictions = {name: value[:, 0, 0] for name, value in long.predictions.items() if value is not None}
    held = {
        "psi": long.framework.scaled_psi[:, 0, 0] + long.coef[0],
        "representer": seen["riesz_rep"][:, 0, 0],
        "psi_sigma2": seen["psi_sigma2"][:, 0, 0],
        "psi_nu2": seen["psi_nu2"][:, 0, 0],
        **predictions,
    }
    rows.append(pd.DataFrame({f"{kind}_{name}": value for name, value in held.items()}))
    for cf_y, cf_d, rho, null in ((0.03, 0.03, 1.0, 0.0), (0.1, 0.05, 0.5, 0.5), (0.2, 0.3, -0.8, 2.0)):
        long.sensitivity_analysis(cf_y=cf_y, cf_d=cf_d, rho=rho, level=0.95, null_hypothesis=null)
        found = long.sensitivity_params
        numbers.append(
            {
                "kind": kind, "cf_y": cf_y, "cf_d": cf_d, "rho": rho, "null": null,
                "sigma2": elements["sigma2"][0, 0, 0], "nu2": elements["nu2"][0, 0, 0],
                "theta": long.coef[0], "theta_se": long.se[0],
                "lower": found["theta"]["lower"][0], "upper": found["theta"]["upper"][0],
                "lower_se": found["se"]["lower"][0], "upper_se": found["se"]["upper"][0],
                "lower_ci": found["ci"]["lower"][0], "upper_ci": found["ci"]["upper"][0],
                "rv": found["rv"][0], "rva": found["rva"][0],
            }
        )  # fmt: skip
    for without in (["x1"], ["x2"], ["x1", "x2"]):
        short = fitted(kind, [name for name in ("x1", "x2", "x3") if name not in without])
        gain = dml.utils.gain_statistics(long, short)
        part = short.framework.sensitivity_elements
        gains.append(
            {
                "kind": kind, "without": "+".join(without), "var_y": data.y.var(ddof=0),
                "sigma2": elements["sigma2"][0, 0, 0], "nu2": elements["nu2"][0, 0, 0], "theta": long.coef[0],
                "sigma2_short": part["sigma2"][0, 0, 0], "nu2_short": part["nu2"][0, 0, 0],
                "theta_short": short.coef[0], **{name: value[0] for name, value in gain.items()},
            }
        )  # fmt: skip
pd.concat(rows, axis=1).to_csv(HERE / "rows.csv", index=False, float_format="%.12g")
pd.DataFrame(numbers).to_csv(HERE / "numbers.csv", index=False, float_format="%.14g")
pd.DataFrame(gains).to_csv(HERE / "gains.csv", index=False, float_format="%.14g")
