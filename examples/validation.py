"""Validating predicted effects: what three tools say in sample, and what they say out of fold and with errors.

The pupils, the three predictions and the tools are those of a common tutorial (random forests by scikit-learn).
"""

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from sklearn.ensemble import RandomForestRegressor

import deepreg
from deepreg import heterogeneity as het
from deepreg.heterogeneity import fklearn

T, Y, X = "tutoring", "final_grade", ["struggling", "prior_grade", "grade_level"]


def main() -> None:
    df = deepreg.datasets.tutoring()
    forest = RandomForestRegressor(random_state=42)
    df["random_pred"] = np.random.default_rng(42).uniform(-10, 10, len(df))
    df["ml_pred"] = forest.fit(df[[*X, T]], df[Y]).predict(df[[*X, T]])  # from the treatment, too
    treated, others = df[df[T] == 1], df[df[T] == 0]
    one, none = (RandomForestRegressor(random_state=42).fit(some[X], some[Y]) for some in (treated, others))
    df["t_learner_pred"] = one.predict(df[X]) - none.predict(df[X])  # for the rows it was learned from
    names = ["random_pred", "ml_pred", "t_learner_pred"]

    right = "struggling + prior_grade + C(grade_level)"
    y, t = (smf.ols(f"{name} ~ {right}", df).fit().resid for name in (Y, T))
    table = pd.DataFrame(
        {"AUC": [fklearn.relative_cumulative_gain_curve(df, T, Y, one).mean() for one in names]}, names
    )
    table["weighted MSE"] = het.weighted_mse(df[names], y, t).estimate
    print(f"In sample, without errors\n{table.round(6)}\n")
    assert np.allclose(table["AUC"], [0.447308, -1.738130, 1.893262], atol=5e-3)  # forests of scikit-learn 1.7
    assert np.allclose(table["weighted MSE"], [195.063677, 4603.560260, 75.627922], rtol=1e-3)

    # Out of fold: effects of functions that did not see the pupil, scores that need no luck of the draw, and errors.
    model = deepreg.structural(f"{Y} ~ {T} | {right}", df, assignment=deepreg.KnownLaw(0.5))
    result = model.fit(learners=("constant", "smooth", "additive"), rng=0, progress=False)
    effect, found = result.cate()[T], result.heterogeneity
    priorities = {name: df[name] for name in names} | {"out of fold": effect, "true effect": df["true_cate"]}
    score = np.asarray(result.ate().psi)[0]
    print(het.rate(score, priorities, target="QINI"))
    print(found.test())
    print(found.calibration())

    constant = pd.Series(result.ate().value[0], df.index)
    loss = het.weighted_mse(pd.DataFrame({"constant": constant, "out of fold": effect, "truth": df["true_cate"]}), y, t)
    print(loss, loss.estimates.pairwise(), sep="\n")
    assert found.test().pvalue < 0.001 and abs(found.rate(target="QINI").estimate.item() - 1.06) < 0.15


if __name__ == "__main__":
    main()
