"""Risk terrain models: what is chosen and how surely, what a forecast catches, and bad input."""

import json
import math
import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from classical import classical

import deepreg
from deepreg.errors import DataError, FormulaError, OptionError
from deepreg.terrain import hotspots
from deepreg.terrain.fitted import Terrain
from deepreg.terrain.reselection import screened

SETS = {"bars": "bar_*", "stations": "station_*"}


@pytest.fixture(scope="module")
def places() -> pd.DataFrame:
    return deepreg.simulate.risk_terrain(700, rng=2).frame


@pytest.fixture(scope="module")
def fit(places: pd.DataFrame) -> Terrain:
    return deepreg.rtm("events ~ corner", places, sets=SETS).fit()


def test_the_best_of_all_single_fits_is_chosen(places: pd.DataFrame) -> None:
    rare = places["events"].rank(method="first") > 698  # the two busiest places
    quiet = places["events"].where(places.index < 300, 9) <= (places.index < 9)  # with a coefficient below 0
    places = places.assign(bar_50=rare * 1, bar_900=quiet * 1)
    columns = [[None, *(one for one in places if one.startswith("bar"))], [None, "station_300"]]
    found = {}
    for pair in product(*columns):
        chosen = [one for one in pair if one]
        alone = deepreg.structural(" + ".join(["events ~ corner", *chosen]), places, family="poisson").fit()
        if (alone.params[chosen] > 0).all():
            found[pair] = -2 * alone.llf + len(alone.params) * math.log(alone.nobs)
    sets = {"bars": "bar_*", "stations": ["station_300"]}
    pool = deepreg.rtm("events ~ corner", places, sets=sets, family="poisson").fit().candidates["poisson"]
    best = min(found, key=lambda one: found[one])
    assert tuple(pool.found.best.values()) == best
    assert pool.found.value == pytest.approx(found[best], abs=1e-8)
    assert pool.found.size == 18
    assert len(pool.found.values) == len(found)
    # the rule "largest coefficient of each set" picks the rare column
    singles = [deepreg.structural(f"events ~ corner + {one}", places, family="poisson").fit().params.iloc[-1]
               for one in columns[0][1:]]  # fmt: skip
    assert columns[0][1 + int(np.argmax(singles))] == "bar_50" != best[0]


def test_both_families_are_searched_and_the_smaller_bic_taken(fit: Terrain) -> None:
    values = {name: one.found.value for name, one in fit.candidates.items()}
    assert fit.family == min(values, key=lambda name: values[name])
    assert fit.bic == pytest.approx(values[fit.family], abs=1e-7)
    assert fit.aic == pytest.approx(-2 * fit.llf + 2 * len(fit.params))
    ties = fit.ties(within=8)
    assert set(ties["family"]) == {"poisson", "negbin"}
    assert ties["behind"].is_monotonic_increasing
    assert ties["weight"].sum() == pytest.approx(1)
    size = ties[["bars", "stations"]].notna().sum(axis=1) + 2 + (ties["family"] == "negbin")
    np.testing.assert_allclose(-2 * ties["llf"] + size * math.log(700), ties["bic"])


def test_ratios_are_flagged_as_conditional_on_the_selection(fit: Terrain) -> None:
    table = fit.irr()
    frame = table.to_frame()
    np.testing.assert_allclose(frame["IRR"], np.exp(fit.params[list(frame.index)]))
    np.testing.assert_allclose(frame["std err"], frame["IRR"] * fit.results.bse[list(frame.index)])
    for text in (table.as_text(), table.as_html(), table.as_latex(), fit.summary().as_text()):
        assert "conditional on the selection" in " ".join(text.split())
    assert "exact: the best of 49 candidates" in " ".join(fit.summary().as_text().replace("\n", " ").split())


def test_reselection_is_the_search_in_each_sample(fit: Terrain) -> None:
    """Against all candidates fitted to each bootstrap sample."""
    pool = fit.candidates[fit.family]
    stability = fit.stability(draws=12, rng=3)
    counts = np.random.default_rng(3).multinomial(700, np.full(700, 1 / 700), size=12)
    positions = np.stack(np.unravel_index(np.arange(49), pool.shape), 1)
    chosen, columns = [], pool.columns(positions)
    for weight in counts:
        fits = pool.models.fit(columns, torch.from_numpy(weight / 700)[None], pool.start(positions))
        chosen.append(int(pool.values_of(fits.loss, fits.theta, columns, 700).argmin()))
    named = pool.named()
    expected = pd.Series([named[0][positions[one][0]] or "none" for one in chosen]).value_counts() / 12
    found = stability.columns.query("set == 'bars'").set_index("column")["share"]
    assert found.to_dict() == expected.to_dict()
    assert stability.models["share"].sum() == pytest.approx(1)
    assert stability.looked <= stability.of == 49
    assert "Stability" in stability.as_html()


def test_a_newton_step_ranks_candidates_in_a_sample_as_their_fits_do(fit: Terrain) -> None:
    pool = fit.candidates["poisson"]
    share = torch.from_numpy(np.random.default_rng(5).multinomial(700, np.full(700, 1 / 700), size=3) / 700)
    first = np.argsort(pool.values)[:12]
    positions, theta = pool.positions[first], pool.theta[torch.from_numpy(first)]
    rough, columns = screened(pool, positions, theta, share), pool.columns(positions)
    for b in range(3):
        fits = pool.models.fit(columns, share[b : b + 1], theta)
        size = 2 + (columns[:, 2:] >= 0).sum(1)
        exact = 2 * 700 * fits.loss + size * math.log(700)
        assert float((rough[:, b] - exact).abs().max()) < 1  # its Hessian is that of all rows
        assert float((exact - exact.min()).max()) > 3


def test_beam_and_dropout_say_what_they_are(places: pd.DataFrame, fit: Terrain) -> None:
    model = deepreg.rtm("events ~ corner", places, sets=SETS, family="poisson")
    beam = model.fit(search="beam", width=3)
    assert beam.factors == fit.candidates["poisson"].found.best
    assert beam.candidates["poisson"].found.method.startswith("beam")
    dropped = model.fit(search="dropout", steps=100, rng=0)
    assert dropped.candidates["poisson"].found.method.startswith("dropout")
    assert dropped.bic >= beam.bic
    assert model.fit(search="dropout", steps=100, rng=0).factors == dropped.factors


def test_indices_of_a_forecast_by_hand() -> None:
    flag, events = np.array([True, True, False, False, False]), np.array([4.0, 0.0, 3.0, 1.0, 0.0])
    found = hotspots.hits(flag, events, np.ones(5))
    assert (found.places, found.events, found.hits, found.pai) == (2, 4.0, 0.5, 1.25)
    assert found.pei == pytest.approx(4 / 7)  # the two busiest places have 7
    assert hotspots.hits(flag, events, np.array([2.0, 2, 2, 2, 2])).pai == 1.25
    assert hotspots.recapture(flag, events, np.array([1.0, 1, 1, 1, 0])) == pytest.approx(2 / 4 / (4 / 8))
    assert hotspots.flagged(np.array([1.0, 3, 2, 0, 0]), top=0.4).tolist() == [False, True, True, False, False]


def test_places_are_counted_by_factor_and_mapped_to_the_callers_rows(places: pd.DataFrame) -> None:
    data = places.assign(bar_300=places["bar_300"].where(places.index != 5)).set_axis(np.arange(700) + 1000)
    fit = deepreg.rtm("events ~ corner", data, sets=SETS, family="poisson").fit()
    assert fit.results.design.dropped == {"missing risk factor": 1}
    table = fit.conjunctions(outcome="events_next")
    assert table["places"].sum() == 699
    assert table["expected"].sum() == pytest.approx(data["events"].drop(1005).sum())
    assert table["events_next"].sum() == data["events_next"].drop(1005).sum()
    assert ((table["lower"] <= table["ratio"]) & (table["ratio"] <= table["upper"])).all()
    mapped = fit.map(["x", "y"])
    assert mapped.index.tolist() == data.index.tolist()
    assert mapped["expected"].isna().tolist() == [label == 1005 for label in data.index]
    assert mapped["x"].tolist() == data["x"].tolist()
    assert mapped["risk"].min() == 1
    later = fit.pai(outcome="events_next", z=2)
    assert later.loc["events_next", "places"] == mapped["hot"].sum()
    hot = (mapped["hot"] == 1).to_numpy()
    caught = data["events_next"][hot].sum() / data["events_next"].drop(1005).sum()
    assert later.loc["events_next", "PAI"] == pytest.approx(caught / (hot.sum() / 699))


def test_bad_input_names_the_set_or_the_column(places: pd.DataFrame) -> None:
    def refused(error: type[Exception], match: str, data: pd.DataFrame = places, **options: object) -> None:
        given = {"sets": SETS} | options
        formula = str(given.pop("formula", "events ~ corner"))
        with pytest.raises(error, match=match):
            deepreg.rtm(formula, data, **given).fit()  # type: ignore[arg-type]

    refused(OptionError, r"sets\['parks'\]: no column of the data matches 'park_\*'", sets={"parks": "park_*"})
    refused(OptionError, "'bar_100' is in 'a' and in 'b'", sets={"a": "bar_*", "b": ["bar_100"]})
    refused(OptionError, r"sets\['bars'\] holds 'corner'", sets={"bars": ["bar_100", "corner"]})
    refused(OptionError, "give names of sets", sets={})
    refused(OptionError, "'poisson', 'negbin' or 'best'", family="logit")
    refused(FormulaError, "has a bar", formula="events ~ corner | bar_100")
    flat = places.assign(**{f"bar_{reach}": 0 for reach in range(100, 700, 100)})
    refused(DataError, "The set 'bars' has no usable column", flat)
    refused(DataError, "'bar_300' is no number", places.assign(bar_300="near"))
    apart = places.assign(bar_300=(places["events"] > 0) * 1)
    refused(DataError, "'bar_300' of the set 'bars' separates", apart)
    away = places.assign(**{f"bar_{reach}": (places["events"] == 0) * 1.0 for reach in range(100, 700, 100)})
    refused(DataError, "The set 'bars' has no column with a coefficient above 0", away, none=False, family="poisson")
    with pytest.raises(OptionError, match="allowed are 'exact', 'beam', 'dropout'"):
        deepreg.rtm("events ~ corner", places, sets=SETS).fit(search="greedy")
    one = deepreg.rtm("events ~ corner", places.assign(bar_600=1, bar_500=places["bar_500"] > 0), sets=SETS)
    assert one.notes == ("Of the set 'bars', bar_600 took one value and was left out.",)
    assert "bar_500" in one.sets["bars"]


def test_what_cannot_be_answered_is_said(fit: Terrain) -> None:
    with pytest.raises(OptionError, match="flags no place"):
        fit.pai(z=99)
    with pytest.raises(DataError, match="nothing_here"):
        fit.pai(outcome="nothing_here")
    with pytest.raises(OptionError, match="within="):
        fit.ties(within=-1)
    with pytest.raises(OptionError, match="draws="):
        fit.stability(draws=1)


def test_the_reference_terrain() -> None:
    data = pd.read_csv(classical("rtm/rtm_sim.csv"))
    reference = json.loads(classical("rtm/rtm_reference.json").read_text())
    sets = {"alcohol": "alc_*", "metro": "met_dis_*", "disorder": "c31_*"}
    began = time.process_time()
    fit = deepreg.rtm("Viol_2011 ~ Intersection + PercSidewalk", data, sets=sets, family="poisson").fit()
    assert time.process_time() - began < 15  # three times the seconds of an idle processor
    assert list(fit.factors.values()) == ["alc_kde_200", "met_dis_300", "c31_kde_400"]
    assert fit.llf == pytest.approx(-2517.365263, abs=1e-6)
    assert fit.bic == pytest.approx(5084.494824, abs=1e-6)
    for rank, one in enumerate(reference["by_bic"]):
        assert list(fit.ties(within=20)[list(sets)].iloc[rank].dropna()) == one["selected"]
        assert fit.ties(within=20)["llf"].iloc[rank] == pytest.approx(one["llf"], abs=1e-6)
    assert fit.pai(outcome="Viol_2012", z=2)["PAI"].tolist() == pytest.approx([3.2253, 2.7581], abs=5e-5)
    best = reference["by_bic"][0]
    robust = fit.results.vcov("HC0").bse.rename({"Intercept": "Const"})
    np.testing.assert_allclose(robust[list(best["params"])], best["bse_HC0"], rtol=1e-6)
    few = {
        "alcohol": ["alc_kde_*"],
        "metro": ["met_dis_300", "met_dis_400"],
        "disorder": ["c31_kde_400", "c31_kde_500"],
    }
    both = deepreg.rtm("Viol_2011 ~ Intersection + PercSidewalk", data, sets=few).fit()
    assert (both.family, list(both.factors.values())) == ("negbin", list(fit.factors.values()))
    assert both.bic == pytest.approx(5083.654, abs=1e-3)
