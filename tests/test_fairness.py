"""Rates of groups and their parities against fairlearn's numbers, their errors, and what closing a gap costs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from references import reference

import deepreg
from deepreg import RateGap, fairness, tradeoff
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.parity import measures
from deepreg.penalties.rates import RATES

N = 600
RNG = np.random.default_rng(3)
DATA = pd.DataFrame({"x": RNG.normal(size=N), "g": RNG.choice(["a", "b"], size=N), "w": RNG.integers(1, 4, N)})
DATA["b"], DATA["h"], DATA["firm"] = (DATA.g == "b") * 1, RNG.integers(3, size=N), RNG.integers(50, size=N)
DATA["y"] = (DATA.x + 0.8 * DATA.b + RNG.logistic(size=N) > 0) * 1
TRAIN, TEST = DATA[:400], DATA[400:]
PLAIN = deepreg.logit("y ~ x + b", TRAIN).fit()
FOUND = fairness(PLAIN, TEST, group="h", thresholds=[0.5, 0.7], data=TRAIN)
NAMES = {"fpr": "fpr", "fnr": "fnr", "tpr": "tpr", "selection": "sel", "accuracy": "acc", "ppv": "ppv"}


@pytest.mark.parametrize("method", ["logit_mle", "smooth_additive_lam10"])
@pytest.mark.parametrize("sample", ["train", "test"])
def test_rates_and_parities_are_those_of_fairlearn(method, sample):
    data = pd.read_csv(reference("classical", "fair", "NIJRecid.csv")).query(
        f"Training_Sample == {sample == 'train':d}"
    )
    known = json.loads(reference("classical", "fair", "fair_reference.json").read_text())[method][sample]
    p = pd.read_csv(reference("classical", "fair", "predictions.csv"))[f"{method}_{sample}"].dropna()
    columns = [torch.tensor(one.to_numpy()) for one in (p, data.Recidivism_Arrest_Year1 * 1.0, data.Race)]
    one = torch.ones(len(p), dtype=torch.float64)
    found = {each[:3]: each.value for each in measures(*columns, (0, 1), one, (0.25, 0.5))}
    for threshold in (0.25, 0.5):
        theirs = known[str(threshold)]
        for ours, name in NAMES.items():
            for group in (0, 1):
                assert found[ours, threshold, group] == pytest.approx(theirs["by_group"][name][str(group)], abs=1e-12)
        for name in ("demographic_parity_difference", "demographic_parity_ratio", "equalized_odds_difference",
                     "equal_opportunity_difference"):  # fmt: skip
            assert found[name, threshold, None] == pytest.approx(theirs[name], abs=1e-12), name
        assert found["false_positive_rate_difference", threshold, None] == pytest.approx(theirs["fpr_diff"], abs=1e-12)
        discovery = theirs["seed_fd_denominator_diff"]  # what the seed called a false positive rate
        assert found["false_discovery_rate_difference", threshold, None] == pytest.approx(discovery, abs=1e-12)
        assert found["nij_score", threshold, None] == pytest.approx(theirs["nijfm"], abs=1e-12)
        assert found["brier", None, None] == pytest.approx(theirs["brier"], abs=1e-12)
        assert found["auc", None, None] == pytest.approx(theirs["auc"], abs=1e-12)


def test_the_table_counts_what_it_says_in_both_samples():
    for sample, data in (("train", TRAIN), ("holdout", TEST)):
        p = PLAIN.predict(data)
        for threshold in (0.5, 0.7):
            table = FOUND.by_group(threshold, sample)
            for level in (0, 1, 2):
                flagged, y = (p > threshold)[data.h == level], data.y[data.h == level]
                assert table.loc[level, "fpr"] == pytest.approx(flagged[y == 0].mean())
                assert table.loc[level, "fdr"] == pytest.approx(1 - y[flagged].mean())
                assert table.loc[level, "for"] == pytest.approx(y[~flagged].mean())
            parity = FOUND.parity(threshold, sample)
            assert parity.value["false_positive_rate_difference"] == pytest.approx(np.ptp(table.fpr))
            assert parity.value["equal_opportunity_ratio"] == pytest.approx(table.tpr.min() / table.tpr.max())
            assert parity.value["equalized_odds_ratio"] == pytest.approx(
                min(table.tpr.min() / table.tpr.max(), table.fpr.min() / table.fpr.max())
            )


def test_errors_of_shares_and_of_their_differences():
    p, y = PLAIN.predict(TEST), TEST.y
    known = FOUND.frame().query("sample == 'holdout' and threshold == 0.5")
    variance = {}
    for level in (0, 1, 2):
        of = (TEST.h == level) & (y == 0)
        rate = (p > 0.5)[of].mean()
        variance[level] = rate * (1 - rate) / of.sum() * len(TEST) / (len(TEST) - 1)
        error = known.query("metric == 'fpr' and group == @level")["std err"].iloc[0]
        assert error == pytest.approx(variance[level] ** 0.5)
    table = FOUND.by_group(0.5)
    ends = variance[table.fpr.idxmax()] + variance[table.fpr.idxmin()]
    assert FOUND.parity(0.5)["std err"]["false_positive_rate_difference"] == pytest.approx(ends**0.5)


def test_the_error_of_an_area_is_that_of_delong():
    p, y = PLAIN.predict(TEST).to_numpy(), TEST.y.to_numpy()
    above = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    variance = above.mean(1).var() / (y == 1).sum() + above.mean(0).var() / (y == 0).sum()
    row = FOUND.frame().query("sample == 'holdout' and metric == 'auc' and group.isna()").iloc[0]
    assert row.value == pytest.approx(above.mean())
    assert row["std err"] == pytest.approx((variance * len(y) / (len(y) - 1)) ** 0.5)


def test_an_area_counts_ties_by_half():
    p, y = PLAIN.predict(TEST).round(1).to_numpy(), TEST.y.to_numpy(float)
    above = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    one = torch.ones(len(p), dtype=torch.float64)
    found = measures(torch.tensor(p), torch.tensor(y), torch.tensor(TEST.b.to_numpy()), (0, 1), one, [0.5])
    area = next(each.value for each in found if each.metric == "auc" and each.group is None)
    assert area == pytest.approx(above.mean(), rel=1e-12)


def test_weights_count_rows_and_clusters_move_errors():
    result = deepreg.logit("y ~ x + b", TRAIN, weights="w", cluster="firm").fit()
    weighted = fairness(result, TEST, group="g", data=TRAIN)
    many = TEST.loc[TEST.index.repeat(TEST.w)]
    single = fairness(result, many.assign(w=1), group="g", data=TRAIN)
    pd.testing.assert_frame_equal(weighted.by_group(), single.by_group())
    errors = weighted.estimates["holdout"]
    assert errors.sampling.kind == "cluster" and (errors.std_error > 0).all()
    np.testing.assert_allclose(errors.std_error, single.estimates["holdout"].std_error, rtol=1e-9)  # sums of clusters
    rows = fairness(deepreg.logit("y ~ x + b", TRAIN, weights="w").fit(), TEST, group="g", data=TRAIN)
    assert not np.allclose(errors.std_error, rows.estimates["holdout"].std_error, rtol=0.01)


def test_predictions_of_functions_are_out_of_fold():
    model = deepreg.structural("y ~ b | x", TRAIN, "logit")
    result = model.fit(folds=2, learners="smooth", rng=0, progress=False)
    found = fairness(result, TEST, group="b", thresholds=0.6)
    p = result.predict()
    rate = (p > 0.6)[(TRAIN.b == 1) & (TRAIN.y == 0)].mean()
    assert found.by_group(sample="train").loc[1, "fpr"] == pytest.approx(rate)


def test_the_summary_has_both_rates_by_name_and_can_be_written():
    text = FOUND.summary().as_text()
    for name in ("False positive rate, 0", "False discovery rate, 2", "Equalized odds diff.", "Rows, holdout:"):
        assert name in text
    assert "\\begin{tabular}" in FOUND.as_latex() and "<table" in FOUND.as_html()
    assert re.search(r"Rates at 0\.7", text) and "nan" not in text.lower().replace("finance", "")


def test_what_nobody_is_flagged_for_is_named_and_not_printed_as_a_number():
    found = fairness(PLAIN, TEST, group="h", thresholds=0.999, data=TRAIN)
    assert found.notes and "fdr at 0.999, h=0 (holdout)" in found.notes[0]
    assert "nan" not in found.summary().as_text().lower()
    gap = RateGap("fdr", "g", threshold=0.999)
    with pytest.raises(DataError, match=r"fdr at 0\.999, g=a in train is not defined at strength 0"):
        tradeoff(deepreg.logit("y ~ x + b", TRAIN, penalty=gap).fit(), [0])


# ---- the trade-off


def test_a_tradeoff_fits_every_strength_and_judges_it_by_the_holdout():
    gap = RateGap("fpr", "g", threshold=0.5, tau=0.05)
    result = deepreg.logit("y ~ x + b", TRAIN, penalty=gap).fit(start="unpenalised")
    found = tradeoff(result, [0, 1, 30], holdout=TEST)
    train, test = found.frame("train"), found.frame()
    assert train.gap.is_monotonic_decreasing and train.gap[30] < train.gap[0] / 3
    assert train.brier.is_monotonic_increasing
    plain = fairness(PLAIN, TEST, group="g", data=TRAIN)
    assert test.gap[0] == pytest.approx(plain.parity().value["false_positive_rate_difference"])
    assert test["std err"][0] == pytest.approx(plain.parity()["std err"]["false_positive_rate_difference"])
    np.testing.assert_allclose(found.results[1].params, result.params, rtol=1e-8)
    ax = found.plot()
    assert ax.get_xlabel() == "difference in false positive rate, g" and ax.get_ylabel() == "Brier score"
    assert [text.get_text() for text in ax.texts] == ["0", "1", "30"]
    np.testing.assert_allclose(ax.lines[1].get_xdata(), test.gap)
    assert "By strength, holdout" in str(found)
    capped = tradeoff(PLAIN, [0, 5], penalty=RateGap("fpr", "b", cap=0.2, tau=0.05))
    assert capped.frame().highest[5] < capped.frame().highest[0] and "highest" in capped.plot().get_xlabel()


CASES = {
    "missing": (DataError, "group='g' is missing in 3 of the 200 rows of holdout",
                lambda: fairness(PLAIN, TEST.assign(g=TEST.g.where(TEST.index > 402)), group="g", data=TRAIN)),
    "one level": (DataError, "group='one' has one level, 1",
                  lambda: fairness(PLAIN, group="one", data=TRAIN.assign(one=1))),
    "no negatives": (
        DataError, "group g='b' has no row with outcome 0 in holdout",
        lambda: fairness(PLAIN, TEST.assign(y=TEST.y.where(TEST.g != "b", 1)), group="g", data=TRAIN),
    ),
    "another level": (
        DataError, "group g='c' is in the holdout alone",
        lambda: fairness(PLAIN, TEST.assign(g=TEST.g.where(TEST.index % 3 > 0, "c")), group="g", data=TRAIN),
    ),
    "column": (OptionError, "group='race': the fit keeps no column 'race'", lambda: fairness(PLAIN, group="race")),
    "holdout": (DataError, "group= needs the column 'g'",
                lambda: fairness(PLAIN, TEST.drop(columns="g"), group="g", data=TRAIN)),
    "threshold": (OptionError, "thresholds='a'", lambda: fairness(PLAIN, group="b", thresholds="a")),
    "unasked": (OptionError, "threshold=0.6: there are 0.5, 0.7", lambda: FOUND.by_group(0.6)),
    "sample": (OptionError, "sample='test': there are 'train', 'holdout'", lambda: FOUND.parity(0.5, "test")),
    "outcome": (DataError, "needs an outcome of 0 and 1",
                lambda: fairness(deepreg.ols("x ~ b", TRAIN).fit(), group="b")),
    "no gap": (OptionError, "penalty=None", lambda: tradeoff(PLAIN)),
    "no threshold": (OptionError, "=0.5", lambda: tradeoff(PLAIN, penalty=RateGap("fpr", "b", threshold=None))),
    "kept": (OptionError, "keeps no such column", lambda: tradeoff(PLAIN, penalty=RateGap("fpr", "h"))),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused(case):
    error, message, ask = CASES[case]
    with pytest.raises(error, match=message):
        ask()


def test_a_result_without_its_rows_has_no_rates(tmp_path):
    PLAIN.save(tmp_path / "fit.deepreg")
    with pytest.raises(NotAvailable, match="rows of the fit"):
        fairness(deepreg.load(tmp_path / "fit.deepreg"), group="b")


def test_every_rate_is_in_the_table():
    assert list(FOUND.by_group())[: len(RATES)] == list(RATES)
