"""Scorecards: held against all cards there are, and what is exported of them."""

import json
import math
import sqlite3
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from classical import classical

import deepreg
from deepreg.errors import DataError, FormulaError, NotAvailable, OptionError
from deepreg.scoring.lattice import LinearCards, LogitCards
from deepreg.scoring.model import FittedScorecard


@pytest.fixture(scope="module")
def cases() -> pd.DataFrame:
    return deepreg.simulate.recidivism(500, rng=4).frame


@pytest.fixture(scope="module")
def fit(cases: pd.DataFrame) -> FittedScorecard:
    return deepreg.scorecard("recid ~ cut(age, 4) + cut(priors, 3) + sex", cases, points=range(-3, 4), terms=3).fit()


def brute(x: np.ndarray, y: np.ndarray, k: int, most: int) -> list[tuple[float, tuple[int, ...]]]:
    """The loss of every card, by a logistic regression on its score."""
    found = []
    for card in product(range(-most, most + 1), repeat=x.shape[1]):
        if not 0 < np.count_nonzero(card) <= k or math.gcd(*card) != 1:
            continue
        d = np.column_stack([np.ones(len(y)), x @ card])
        b = np.zeros(2)
        for _ in range(12):
            p = 1 / (1 + np.exp(-d @ b))
            b = b + np.linalg.solve((d.T * (p * (1 - p))) @ d, d.T @ (y - p))
        if b[1] > 0:
            found.append((float(np.mean(np.logaddexp(0, d @ b) - y * (d @ b))), card))
    return sorted(found)


@pytest.mark.parametrize("binary", [True, False])
def test_the_pool_is_that_of_all_cards(binary: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2 if binary else 4, size=(300, 4)).astype(float)
    y = rng.binomial(1, 1 / (1 + np.exp(-(x @ [1.0, -0.7, 0.4, 0.0] - 0.5)))).astype(float)
    every = brute(x, y, 2, 2)
    lattice = LogitCards(torch.from_numpy(x), torch.from_numpy(y), torch.full((300,), 1 / 300, dtype=torch.float64),
                         np.array([-2, -1, 1, 2]), 2)  # fmt: skip
    assert lattice.binary == binary
    cards = lattice.search(10_000, 1000, 0.04)
    near = [(loss, card) for loss, card in every if loss <= every[0][0] * 1.04]
    assert len(near) > 1
    np.testing.assert_allclose(cards.values[: len(near)], [loss for loss, _ in near], atol=1e-9)
    assert {tuple(one) for one in cards.points[: len(near)].tolist()} == {card for _, card in near}
    assert cards.bound == pytest.approx(every[0][0], abs=1e-9)
    beam = lattice.search(1, 1000, 0.0)
    assert beam.bound <= every[0][0] + 1e-9 <= beam.values[0] + 2e-9


def test_points_are_searched_with_the_cut_points(fit: FittedScorecard, cases: pd.DataFrame) -> None:
    assert fit.exact
    assert fit.gap == 0
    card = fit.card()
    assert len(card.points) <= 3
    assert set(card.points) <= set(range(-3, 4))
    np.testing.assert_allclose(card.score(cases), fit.score())
    p = fit.predict()
    assert float(np.mean(np.where(cases["recid"] == 1, -np.log(p), -np.log(1 - p)))) == pytest.approx(
        fit.loss, abs=1e-10
    )
    assert p.mean() == pytest.approx(cases["recid"].mean(), abs=1e-9)  # the intercept is free
    pool = fit.pool()
    assert pool["behind"].iloc[0] == 0
    assert (pool["loss"] <= fit.loss * 1.005 + 1e-12).all()
    assert fit.card(1).table.as_text() != card.table.as_text()
    costs = card.costs["log loss"]
    assert costs["all columns, unrounded"] <= costs["same columns, unrounded"] <= costs["card"]
    assert costs["card"] <= costs["rounded coefficients"] + 1e-12 < costs["no columns"]
    assert card.risks["cases"].sum() == 500
    for text in (card.as_text(), card.as_html(), card.as_latex()):
        assert "age" in text
        assert "exact" in text
        assert "Cost of integers" in text


def test_new_cases_are_scored_and_missing_ones_are_not(fit: FittedScorecard) -> None:
    new = pd.DataFrame({"age": [20, 70, None], "priors": [0, 9, 1], "sex": ["m", "f", "m"]}, index=list("abc"))
    score = fit.score(new)
    assert score.index.tolist() == ["a", "b", "c"]
    assert score.isna().tolist() == [False, False, True]
    assert score[:2].tolist() == fit.card().score(new.iloc[:2]).tolist()


def test_exports_give_the_same_score_and_run_nothing_else() -> None:
    rng = np.random.default_rng(1)
    odd, level = 'a "b"; DROP TABLE t; --', "it's"
    data = pd.DataFrame({odd: rng.integers(0, 9, 300), "kind": rng.choice([level, "no'); import os #"], 300)})
    data["y"] = rng.binomial(1, 1 / (1 + np.exp(-(data[odd] / 3 - 1 + (data["kind"] == level)))))
    fit = deepreg.scorecard(f"y ~ cut(`{odd}`, 3) + kind", data, terms=3).fit()
    card = fit.card()
    assert len(card.points) == 3
    space: dict = {}
    exec(card.to_python(), space)
    rows = data.to_dict("records")
    assert [space["score"](row) for row in rows] == fit.score().tolist()
    np.testing.assert_allclose([space["risk"](row) for row in rows], fit.predict(), rtol=1e-12)
    store = sqlite3.connect(":memory:")
    store.create_function("EXP", 1, lambda one: None if one is None else math.exp(one))
    store.execute('CREATE TABLE "t" ("' + odd.replace('"', '""') + '" REAL, "kind" TEXT)')
    store.executemany('INSERT INTO "t" VALUES (?, ?)', [*data[[odd, "kind"]].itertuples(index=False), (None, level)])
    found = [row[2:] for row in store.execute(card.to_sql("t"))]
    assert [one for one, _ in found[:-1]] == fit.score().tolist()
    np.testing.assert_allclose([one for _, one in found[:-1]], fit.predict(), rtol=1e-12)
    assert found[-1] == (None, None)
    store.execute(f"SELECT {card.to_sql()} FROM t")


def test_a_term_that_is_no_column_is_not_exported(cases: pd.DataFrame) -> None:
    card = deepreg.scorecard("recid ~ I(age * priors) + sex", cases, terms=1, points=[1]).fit().card()
    if card.rules[0].kind == "other":
        with pytest.raises(NotAvailable, match=r"I\(age \* priors\)"):
            card.to_sql()
    both = deepreg.scorecard("recid ~ I(age * priors)", cases, terms=1).fit().card()
    with pytest.raises(NotAvailable, match="no column"):
        both.to_python()


def test_integers_near_the_best_are_those_of_enumeration() -> None:
    every = np.array(list(product(range(-9, 10), repeat=3)))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(80, 3)) @ (0.15 * np.eye(3) + 0.85)
        y = x @ [1.45, -2.55, 0.4] + rng.normal(size=80)
        values = np.sort(np.var(y[:, None] - x @ every.T, axis=0))
        cards = LinearCards(x, y, None, 3).search(10_000, 1000, 0.1)
        near = values[values <= 1.1 * values[0]]
        assert len(cards.values) == len(near)
        np.testing.assert_allclose(cards.values, near)


def test_integer_least_squares_is_enumeration() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3)) @ (0.15 * np.eye(3) + 0.85)
    y = x @ [1.45, -2.55, 0.4] + rng.normal(size=80)
    data = pd.DataFrame(x, columns=list("abc")).assign(y=y)
    cards = {card: float(np.var(y - x @ card)) for card in product(range(-9, 10), repeat=3)}
    best = min(cards, key=lambda one: cards[one])
    fit = deepreg.scorecard("y ~ a + b + c", data, family="linear").fit(pool=0.05)
    assert tuple(fit.cards.points[0]) == best
    assert best != tuple(np.round(np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0]))
    assert fit.loss == pytest.approx(cards[best])
    near = sorted(value for value in cards.values() if value <= 1.05 * cards[best])
    np.testing.assert_allclose(fit.cards.values[: len(near)], near)
    sparse = deepreg.scorecard("y ~ a + b + c", data, family="linear", terms=2).fit()
    assert sparse.loss == pytest.approx(min(v for card, v in cards.items() if np.count_nonzero(card) <= 2))
    card = fit.card()
    assert card.costs["MSE"]["all columns, unrounded"] < fit.loss
    np.testing.assert_allclose(fit.predict(), card.intercept + card.score(data))
    assert fit.predict().mean() == pytest.approx(y.mean())


def test_what_no_card_is_made_of_is_said(cases: pd.DataFrame) -> None:
    def refused(error: type[Exception], match: str, formula: str = "recid ~ sex", **options: object) -> None:
        data = options.pop("data", cases)
        with pytest.raises(error, match=match):
            deepreg.scorecard(formula, data, **options).fit()  # type: ignore[arg-type]

    refused(OptionError, "'logit', of 0 and 1, or 'linear'", family="poisson")
    refused(OptionError, "give whole numbers", points=[0.5])
    refused(OptionError, "give whole numbers", points=[0])
    refused(OptionError, "terms=0", terms=0)
    refused(FormulaError, "has a bar", "recid ~ sex | age")
    refused(FormulaError, "needs an intercept and a term", "recid ~ 0 + sex")
    refused(DataError, "'one' .* takes only one value", "recid ~ sex + one", data=cases.assign(one=1))
    refused(
        DataError,
        "'again' separates 'recid' perfectly",
        "recid ~ sex + again",
        data=cases.assign(again=1 - cases.recid),
    )
    half = cases.assign(u=(cases.recid == 1) & (cases.age > 40), v=(cases.recid == 1) & (cases.age <= 40))
    refused(DataError, "together separate 'recid' perfectly", "recid ~ u + v", data=half * 1)
    with pytest.raises(OptionError, match="the pool has cards 0 to"):
        deepreg.scorecard("recid ~ sex", cases).fit().card(99)


def test_the_reference_cards() -> None:
    data = pd.read_csv(classical("scorecard/mammo_data.csv"))
    reference = json.loads(classical("scorecard/scorecard_reference.json").read_text())
    data = data.assign(y=(data.iloc[:, 0] > 0) * 1).iloc[:, 1:]
    formula = "y ~ " + " + ".join(data.columns[:-1])
    fit = deepreg.scorecard(formula, data, points=range(-5, 6), terms=3).fit()
    assert fit.loss == pytest.approx(0.4685838675, abs=1e-10)
    assert fit.exact
    card = dict(zip((one.column for one in fit.card().rules), fit.card().points, strict=True))
    assert card == {"IrregularShape": 4, "CircumscribedMargin": -5, "Age_geq_60": 3}
    assert fit.card().costs["log loss"]["all columns, unrounded"] == pytest.approx(
        reference["mammo_full_logit"]["logloss"], abs=1e-6
    )


def test_the_reference_integers() -> None:
    reference = json.loads(classical("integer/integer_reference.json").read_text())
    data = pd.read_csv(classical("ols_glm/drvisits_gsem_mixture.csv"))
    x = data[reference["vars"]]
    data = ((x - x.min()) / (x.max() - x.min())).assign(drvisits=data["drvisits"])
    fit = deepreg.scorecard("drvisits ~ " + " + ".join(x), data, family="linear").fit()
    assert fit.cards.points[0].tolist() == [1, 1, 0, 3, 1, 15]
    assert fit.loss == pytest.approx(46.144865, abs=1e-6)
    for rank, one in enumerate(reference["exact_integer_top5"]):
        assert fit.cards.points[rank].tolist() == one["coef"]
        assert fit.cards.values[rank] == pytest.approx(one["mse"], abs=1e-9)
    for toy in reference["toys"]:
        frame = pd.read_csv(classical(f"integer/{toy['case']}.csv"))
        cards = LinearCards(frame.iloc[:, 1:].to_numpy(), frame["y"].to_numpy(), None, 9).search(100_000, 10, 0.0)
        assert cards.points[0].tolist() == toy["exact"]
        assert cards.bound == cards.values[0]
