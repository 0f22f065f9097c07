"""Diagnostics of heterogeneity against grf, DoubleML, GenericML, EconML and fklearn on the same inputs."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepreg import heterogeneity as het
from deepreg.errors import DeepregWarning
from deepreg.heterogeneity import fklearn

PLACE = Path(__file__).parent / "reference" / "heterogeneity"
EXACT = {"rtol": 1e-7, "atol": 1e-12}


@cache
def read(name: str) -> pd.DataFrame:
    path = next(PLACE.glob(f"{name}.csv*"))
    return pd.read_csv(path)


def rows_of(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame)
    return frame


RATES = list(read("grf_rate").itertuples(index=False))


@pytest.mark.parametrize("want", RATES, ids=lambda r: "-".join(map(str, (*r[:4], *r[4:6]))))
def test_rates_are_those_of_grf(want) -> None:
    data = read(want.data.lower())
    chosen = want.priority.split(" - ")
    priority = {name: data[name] for name in chosen} if len(chosen) == 2 else data[want.priority]
    options = {
        "weights": data["weight"] if want.weights else None,
        "cluster": data["cluster"] if want.clusters else None,
    }

    def ours() -> het.Rate:
        return het.rate(data[want.scores], priority, target=want.target, **options)

    if want.priority == "s_const":
        with pytest.warns(DeepregWarning, match="the same for all 2000 rows"):
            found = ours()
        assert found.estimate.iloc[0] == found.std_error.iloc[0] == 0 and found.pvalue.iloc[0] == 1
        return
    found = ours()
    # grf's AUTOC depends on the order of tied rows where they have different weights: by 4e-5 (sd) here
    loose = want.target == "AUTOC" and want.weights and want.priority == "s_ties"
    np.testing.assert_allclose(found.estimate.iloc[-1], want.estimate, rtol=1e-4 if loose else 1e-7)
    np.testing.assert_allclose(found.std_error.iloc[-1], want[7], rtol=0.03)


TOCS = [key for key, _ in read("grf_toc").groupby(["data", "scores", "weights", "clusters", "priority"])]


@pytest.mark.parametrize("key", [key for key in TOCS if " - " not in key[4] and key[4] != "s_const"], ids=str)
def test_curves_are_those_of_grf(key) -> None:
    name, scores, weights, clusters, priority = key
    data = read(name.lower())
    want = rows_of(read("grf_toc"), data=name, scores=scores, weights=weights, clusters=clusters, priority=priority)
    options = {"weights": data["weight"] if weights else None, "cluster": data["cluster"] if clusters else None}
    found = het.toc(data[scores], data[priority], share=want["q"], **options)
    np.testing.assert_allclose(found.estimate, want["estimate"], rtol=1e-7, atol=1e-10)
    assert found.estimate.iloc[-1] == found.std_error.iloc[-1] == 0
    # half-samples draw other rows to the border of the top q, which adds noise of their single scores to theirs
    ratio = found.std_error.to_numpy()[:-1] / want["std.err"].to_numpy()[:-1]
    assert abs(np.median(ratio) - 1) < 0.03 and ratio.min() > 0.88 and ratio.max() < 1.06


def test_values_of_the_top_are_those_of_econml() -> None:
    """Its thresholds are percentiles of other rows; at the share above each, the curves are ours."""
    percent = np.linspace(5, 95, 50)
    for name in "AB":
        data, curves = read(name.lower()), rows_of(read("econml_curves"), data=name, priority="s_oof")
        apart = data["train"] == 1
        some = data[~apart]
        share = (some["s_oof"].to_numpy() >= np.percentile(data["s_oof"][apart], percent)[:, None]).mean(1)
        at, first = np.unique(share, return_index=True)
        for metric, ours in (("toc", het.toc), ("qini", het.gain)):
            want = rows_of(curves, metric=metric)["value"].to_numpy()[first]
            options = {} if metric == "toc" else {"relative": True}
            found = ours(some["dr"], some["s_oof"], share=at, **options)
            np.testing.assert_allclose(found.estimate, want, **EXACT)


PERCENT = np.linspace(5, 95, 50)


INTEGRALS = rows_of(read("econml_drtester"), stat="qini_integral").query("data != 'C'")


@pytest.mark.parametrize("name, priority", list(INTEGRALS[["data", "priority"]].itertuples(index=False, name=None)))
def test_integrals_are_those_of_econml(name: str, priority: str) -> None:
    """Left sums over thresholds of other rows. Its error of the QINI is that of policies that are given, against the
    same share at random; that of its TOC is no influence function of it, and is not compared."""
    data, want = read(name.lower()), read("econml_drtester")
    want = want[(want["data"] == name) & (want["priority"] == priority)].set_index("stat")
    apart = data["train"] == 1
    some = data[~apart]
    cuts = np.percentile(data[priority][apart], PERCENT)
    top = some[priority].to_numpy()[:, None] >= cuts
    share, step = top.mean(0), np.r_[np.diff(PERCENT) / 100, 0.0]
    at, place = np.unique(share, return_inverse=True)
    for metric, ours in (("toc", het.toc), ("qini", het.gain)):
        found = ours(some["dr"], some[priority], share=at, **({} if metric == "toc" else {"relative": True}))
        area = step @ found.estimate.to_numpy()[place]
        np.testing.assert_allclose(area, want.loc[f"{metric}_integral", "estimate"], **EXACT)
    policies = {f"top {k}": top[:, k] * 1.0 for k in range(50)} | {f"any {k}": np.full(len(some), p) for k, p in
                                                                  enumerate(share)}  # fmt: skip
    values = het.policy_value(some["dr"] - some["dr"].mean(), policies)
    area = values.linear(np.r_[step, -step][None], np.zeros(1), ["area"])
    np.testing.assert_allclose(area.value[0], want.loc["qini_integral", "estimate"], **EXACT)
    error = area.std_error[0] * (1 - 1 / len(some)) ** 0.5  # EconML divides by n
    np.testing.assert_allclose(error, want.loc["qini_integral", "se"], **EXACT)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
@pytest.mark.parametrize("fit", ["B", "Bcl"])
def test_rates_of_scores_of_a_forest_are_those_of_grf(fit: str, target: str) -> None:
    forest, data = rows_of(read("forests"), fit=fit).reset_index(drop=True), read("b")
    how = {"weights": data["weight"], "cluster": data["cluster"]} if fit == "Bcl" else {}
    want = rows_of(read("grf_rate_forest"), fit=fit, target=target).iloc[0]
    found = het.rate(forest["score"], data["s_oof"], target=target, **how)
    np.testing.assert_allclose(found.estimate.item(), want["estimate"], rtol=1e-7)
    np.testing.assert_allclose(found.std_error.item(), want["se"], rtol=0.03)


@pytest.mark.parametrize("fit", ["B", "Bcl", "D"])
def test_averages_of_scores_are_those_of_grf(fit: str) -> None:
    """Over all rows, and by overlap the slope of residuals; among the treated it normalises weights by arms."""
    forest = rows_of(read("forests"), fit=fit).reset_index(drop=True)
    data = read("d" if fit == "D" else "b")
    how = {"weights": data["weight"], "cluster": data["cluster"]} if fit == "Bcl" else {}
    want = rows_of(read("grf_ate"), fit=fit, method="AIPW").set_index("target")
    found = het.policy_value(forest["score"], {"treat": np.ones(len(data))}, **how)
    np.testing.assert_allclose(found.value[0], want.loc["all", "estimate"], **EXACT)
    np.testing.assert_allclose(found.std_error[0], want.loc["all", "std.err"], **EXACT)
    treatment = data["t" if fit == "D" else "w"] - forest["W.hat"]
    slope = het.projection(
        data["y"] - forest["Y.hat"], treatment.to_numpy(), names=["t"], vcov="CR3" if how else "HC3", **how
    )  # fmt: skip
    np.testing.assert_allclose(slope.estimate["t"], want.loc["overlap", "estimate"], **EXACT)
    if not how:  # with weights and clusters sandwich's leverages are others, see below
        np.testing.assert_allclose(slope.std_error["t"], want.loc["overlap", "std.err"], **EXACT)


COVARIANCES = [(fit, vcov) for fit in ("B", "D") for vcov in ("HC0", "HC1", "HC2", "HC3")]


@pytest.mark.parametrize("fit, vcov", [*COVARIANCES, ("Bcl", "HC1"), ("Bcl", "HC3")])
def test_calibration_and_projection_are_those_of_grf(fit: str, vcov: str) -> None:
    forest = rows_of(read("forests"), fit=fit).reset_index(drop=True)
    data = read("d" if fit == "D" else "b")
    n, treatment = len(data), data["t" if fit == "D" else "w"]
    clustered = fit == "Bcl"
    ours = {"HC1": "cluster", "HC3": "CR3"}[vcov] if clustered else vcov
    options = {"cluster": data["cluster"] if clustered else None, "vcov": ours}
    weights = data["weight"] if clustered else pd.Series(1.0, data.index)
    factor = (n / (n - 1)) ** 0.5 if vcov == "HC0" else 1.0  # sandwich's HC0 counts each row as a cluster
    # sandwich 3.0-2 applies the leverage of a cluster to weight times residual: the same without weights only
    precise = {"rtol": 5e-3} if clustered and vcov == "HC3" else EXACT
    found = het.residual_calibration(
        data["y"] - forest["Y.hat"], treatment - forest["W.hat"], forest["tau.hat"], weights=weights, **options
    )
    want = rows_of(read("grf_test_calibration"), fit=fit, vcov=vcov)
    np.testing.assert_allclose(found.estimate, want["estimate"], **EXACT)
    np.testing.assert_allclose(found.std_error * factor, want["se"], **precise)
    for target, more in (("all", 1.0), ("overlap", forest["W.hat"] * (1 - forest["W.hat"]))):
        if fit == "D" and target == "overlap":
            continue
        want = rows_of(read("grf_best_linear_projection"), fit=fit, vcov=vcov, target=target)
        got = het.projection(forest["score"], data[["x1", "x2", "x3"]], weights=weights * more, **options)
        np.testing.assert_allclose(got.estimate, want["estimate"], **EXACT)
        np.testing.assert_allclose(got.std_error * factor, want["se"], **precise)


@pytest.mark.parametrize("vcov", ["HC0", "HC3"])
@pytest.mark.parametrize("name", ["A", "B"])
def test_groups_are_those_of_doubleml(name: str, vcov: str) -> None:
    data, want = read(name.lower()), rows_of(read("doubleml_gate"), data=name, cov=vcov)
    found = het.gates(data["dr"], data["s_oof"], 5, vcov=vcov)
    np.testing.assert_allclose(found.estimate, want["coef"], **EXACT)
    np.testing.assert_allclose(found.std_error, want["se"], **EXACT)
    np.testing.assert_allclose(found.conf_int(), want[["lo", "hi"]], rtol=1e-7, atol=1e-10)
    width = found.band()["upper"] - found.estimate
    np.testing.assert_allclose(width, want["joint_hi"] - want["coef"], rtol=0.02)


@pytest.mark.parametrize("vcov", ["HC0", "HC1", "HC2", "HC3", "cluster"])
def test_projections_are_those_of_doubleml(vcov: str) -> None:
    for name, columns in (("A", ["struggling", "prior_grade", "grade_level"]), ("B", ["x1", "x2", "x3"])):
        if vcov == "cluster" and name == "A":
            continue
        data, want = read(name.lower()), rows_of(read("doubleml_blp"), data=name, cov=vcov)
        cluster = data["cluster"] if vcov == "cluster" else None
        found = het.projection(data["dr"], data[columns], cluster=cluster, vcov=vcov)
        np.testing.assert_allclose(found.estimate, want["coef"], **EXACT)
        np.testing.assert_allclose(found.std_error, want["se"], **EXACT)


@pytest.mark.parametrize("vcov", ["HC0", "HC1", "HC2", "HC3"])
@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("name", ["A", "B"])
def test_regressions_of_outcomes_are_those_of_genericml(name: str, transformed: bool, vcov: str) -> None:
    data = read(name.lower())
    strategy = "transformed" if transformed else "weighted"
    options = {"propensity": data["e"], "baseline": data["m0"], "strategy": strategy, "vcov": vcov}
    for proxy in ("s_oof", "s_random"):
        chosen = {"data": name, "proxy": proxy, "HT": transformed, "vcov": vcov}
        want = rows_of(read("genericml_blp"), **chosen)
        found = het.generic_blp(data["y"], data["w"], data[proxy], **options)
        np.testing.assert_allclose(found.estimate, want["Estimate"], **EXACT)
        np.testing.assert_allclose(found.std_error, want["Std. Error"], **EXACT)
        want = rows_of(read("genericml_gates"), **chosen)
        found = het.generic_gates(data["y"], data["w"], data[proxy], 5, **options)
        apart = found.estimates.t_test("5 of 5 - 1 of 5 = 0")
        np.testing.assert_allclose([*found.estimate, *apart.value], want["Estimate"], **EXACT)
        np.testing.assert_allclose([*found.std_error, *apart.std_error], want["Std. Error"], **EXACT)


@pytest.mark.parametrize("proxy", ["s_oof", "s_random"])
@pytest.mark.parametrize("name", ["A", "B"])
def test_who_is_in_the_outer_groups_is_what_genericml_says(name: str, proxy: str) -> None:
    data, want = read(name.lower()), rows_of(read("genericml_clan"), data=name, proxy=proxy)
    want = want[want["what"].str.startswith("CLAN")]
    found = het.clan(data[[what.split(":")[1] for what in want["what"]]], data[proxy], 5)
    np.testing.assert_allclose(found.estimate, want["value"], **EXACT)
    np.testing.assert_allclose(found.std_error, want["se"], **EXACT)
    frame = found.frame()
    np.testing.assert_allclose(frame["top"] - frame["bottom"], frame["coef"], rtol=1e-12)


@pytest.mark.parametrize("name", ["A", "B"])
def test_slopes_and_groups_are_those_of_econml(name: str) -> None:
    """Its errors of the slope assume errors of one variance and are not compared, nor groups with rows at their edges,
    which it counts twice."""
    data = read(name.lower())
    apart = data["train"] == 1
    for proxy in ("s_oof", "s_random", *(["s_prognostic"] if name == "B" else [])):
        want = rows_of(read("econml_drtester"), data=name, priority=proxy).set_index("stat")["estimate"]
        some, cuts = data[~apart], np.quantile(data[proxy][apart], np.linspace(0, 1, 5))
        found = het.calibration(some["dr"], some[proxy], groups=4)
        np.testing.assert_allclose(found.estimate["slope"], want["blp_slope"], **EXACT)
        group = np.searchsorted(cuts, some[proxy]) - 1
        inside = (group >= 0) & (group < 4)  # it drops rows outside of the range of the other ones
        kept = some[inside]
        gates = het.gates(kept["dr"], kept[proxy], group[inside])
        rows = rows_of(read("econml_groups"), data=name, priority=proxy)
        np.testing.assert_allclose(gates.estimate, rows["gate"], **EXACT)
        np.testing.assert_allclose(gates.predicted, rows["g_cate"], **EXACT)
        score = het.calibration_score(
            gates.estimate.to_numpy(), gates.predicted, gates.share * inside.mean(), some["dr"].mean()
        )
        np.testing.assert_allclose(score, want["cal_r_squared"], **EXACT)


def pupils() -> pd.DataFrame:
    data = read("fklearn_data")
    return data.assign(true_cate_pred=data["true_cate"], neg_true_cate_pred=-data["true_cate"])


@pytest.mark.parametrize("prediction", read("fklearn_summary")["prediction"])
def test_curves_and_areas_are_those_of_fklearn(prediction: str) -> None:
    args = (pupils(), "tutoring", "final_grade", prediction)
    want = rows_of(read("fklearn_curves"), prediction=prediction).drop(columns="prediction").reset_index(drop=True)
    pd.testing.assert_frame_equal(fklearn.effect_curves(*args), want, rtol=1e-10, atol=1e-10)
    for name in ("cumulative_effect_curve", "cumulative_gain_curve", "relative_cumulative_gain_curve"):
        np.testing.assert_allclose(getattr(fklearn, name)(*args), want[name], rtol=1e-10, atol=1e-10)
        area = rows_of(read("fklearn_summary"), prediction=prediction)[f"area_under_the_{name}"].item()
        np.testing.assert_allclose(getattr(fklearn, f"area_under_the_{name}")(*args), area, rtol=1e-10)


@pytest.mark.parametrize("prediction", ["random_pred", "ml_pred", "t_learner_pred"])
def test_segments_are_those_of_fklearn(prediction: str) -> None:
    want = rows_of(read("fklearn_segments"), prediction=prediction)
    found = fklearn.effect_by_segment(pupils(), "tutoring", "final_grade", prediction)
    np.testing.assert_allclose(found, want["effect"], rtol=1e-10)
    np.testing.assert_allclose([one.left for one in found.index], want["left"], rtol=1e-9)
    np.testing.assert_allclose([one.right for one in found.index], want["right"], rtol=1e-9)


def test_effects_are_those_of_fklearn_where_these_converge() -> None:
    data, want = pupils(), read("fklearn_summary").iloc[0]
    args = (data, "tutoring", "final_grade")
    for name, column in (
        ("linear", "ate_linear_effect"),
        ("pearson", "pearson_effect"),
        ("spearman", "spearman_effect"),
    ):
        np.testing.assert_allclose(getattr(fklearn, f"{name}_effect")(*args), want[column], rtol=1e-9)
    mean = data.groupby("tutoring")["final_grade"].mean()
    np.testing.assert_allclose(fklearn.exponential_coefficient_effect(*args), np.log(mean[1] / mean[0]), rtol=1e-6)
    data = data.assign(final_grade=(data["final_grade"] > 70).astype(int))
    odds = data.groupby("tutoring")["final_grade"].mean().pipe(lambda p: p / (1 - p))
    found = fklearn.logistic_coefficient_effect(data, "tutoring", "final_grade")
    np.testing.assert_allclose(found, np.log(odds[1] / odds[0]), rtol=1e-9)


def test_the_scores_of_in_sample_predictions_are_the_known_ones() -> None:
    data = pupils()
    t = np.where(data["tutoring"] == 1, 1, -1) * np.sqrt(data["wt"])
    y = data["y_star"] * t
    names = ["random_pred", "ml_pred", "t_learner_pred"]
    found = het.weighted_mse(data[names], y, t)
    np.testing.assert_allclose(found.estimate, [195.06367653, 4603.56026006, 75.6279215791], rtol=1e-8)
    auc = [fklearn.relative_cumulative_gain_curve(data, "tutoring", "final_grade", one).mean() for one in names]
    np.testing.assert_allclose(auc, [0.447308, -1.738130, 1.893262], atol=6e-7)
    target, weight = het.transformed_outcome(y, t)
    np.testing.assert_allclose(target, data["y_star"], rtol=1e-9)
    np.testing.assert_allclose(weight, data["wt"], rtol=1e-9)


def test_out_of_fold_predictions_are_worse_than_in_sample_ones_look() -> None:
    data, want = read("a"), read("honest").set_index("prediction")
    for name, column in (("random_pred", "s_random"), ("oracle true_cate", "true_cate"),
                         ("t_learner out-of-fold, min_samples_leaf=10", "s_oof")):  # fmt: skip
        for target in ("QINI", "AUTOC"):
            found = het.rate(data["dr"], data[column], target=target)
            np.testing.assert_allclose(found.estimate.item(), want.loc[name, f"dr_{target.lower()}"], rtol=1e-7)
            np.testing.assert_allclose(found.std_error.item(), want.loc[name, f"dr_{target.lower()}_se"], rtol=0.01)
