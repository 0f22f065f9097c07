"""Targets of choices: predictions with errors, revenue and profit, and averages over sets whose law is not known."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

import deepreg
from deepreg import Randomised
from deepreg.errors import DeepregWarning, NotAvailable, OptionError
from deepreg.results import Results
from deepreg.targets import AME, WTP, ChoiceEffect, CompensatingVariation, Elasticity, Profit, Revenue

FIT = {"learners": "smooth", "folds": 3, "members": 1, "rng": 0, "progress": False}


@cache
def drawn(n: int = 2000, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Purchases whose prices depend on x; every fourth lacks b. The data, and what holds of each unit."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, n)
    price = rng.normal(size=(n, 3)) + np.stack([0.8 * x, -0.5 * x, 0 * x], 1) + 3
    quality, there = rng.normal(size=(n, 3)), np.ones((n, 3), dtype=bool)
    there[::4, 1] = False
    slope = -1.0 - 0.5 * x
    weight = np.exp(slope[:, None] * price + (0.5 + 0.3 * x)[:, None] * quality) * there
    p = weight / weight.sum(1, keepdims=True)
    y = (rng.uniform(size=(n, 1)) > p.cumsum(1)).sum(1)
    at4 = np.exp(slope * 4 + (0.5 + 0.3 * x) * quality[:, 0])
    at4 = at4 / (at4 + weight[:, 1:].sum(1))
    truth = {
        "own": slope * p[:, 0] * (1 - p[:, 0]), "cross": -slope * p[:, 0] * p[:, 1], "revenue": price[:, 0] * p[:, 0],
        "at 4": 4 * at4, "b": price[:, 1] * p[:, 1],
        "elastic": np.where(there[:, 1], slope * price[:, 1] * (1 - p[:, 1]), np.nan), "wtp": (0.5 + 0.3 * x) / -slope,
    }  # fmt: skip
    row, column = np.nonzero(there)
    frame = pd.DataFrame({"unit": row, "mode": np.array(list("abc"))[column], "x": x[row]})
    frame["price"], frame["quality"] = price[there], quality[there]
    return frame.assign(chosen=(column == y[row]) * 1), pd.DataFrame(truth)


def fitted(formula: str, data: pd.DataFrame, **options: object) -> Results:
    return deepreg.choice(formula, data, unit="unit", alternative="mode", **options).fit(**FIT)


@cache
def constant() -> Results:
    return fitted("chosen ~ price + quality + C(mode)", drawn()[0])


@cache
def functions() -> Results:
    return fitted("chosen ~ price + quality | x", drawn()[0])


# predictions ----------------------------------------------------------------------------------------------------------
def test_predictions_have_errors_where_coefficients_are_constant() -> None:
    result, data = constant(), drawn()[0]
    found = result.get_prediction().summary_frame(0.1)
    np.testing.assert_allclose(found["mean"], result.predict(), rtol=1e-12)
    assert found.index.equals(data.index)
    d = result.design.packing.unpack(result.design.frame, result.design.units.d).numpy()  # type: ignore[union-attr]
    p = result.predict().to_numpy()
    middle = pd.DataFrame(d * p[:, None]).groupby(data.unit.to_numpy()).transform("sum").to_numpy()
    gradient = p[:, None] * (d - middle)  # d P(j) / d theta = P(j) (d_j - E[d])
    error = np.sqrt(np.einsum("ij,jk,ik->i", gradient, result.cov_params().to_numpy(), gradient))
    np.testing.assert_allclose(found.mean_se, error, rtol=1e-8)
    np.testing.assert_allclose(found.mean_ci_upper - found["mean"], 1.6448536269514722 * error, rtol=1e-8)
    some = data[data.unit < 5].sample(frac=1, random_state=0)
    pd.testing.assert_series_equal(
        result.get_prediction(some).se_mean.sort_index(), found.mean_se[: len(some)], check_names=False
    )


def test_predictions_of_functions_have_none() -> None:
    result = functions()
    np.testing.assert_allclose(result.get_prediction().predicted_mean, result.predict(), rtol=1e-12)
    with pytest.raises(NotAvailable, match="no valid standard error"):
        result.get_prediction().conf_int()


# revenue and profit ---------------------------------------------------------------------------------------------------
def test_revenue_and_profit_of_an_alternative_by_hand() -> None:
    result, data = constant(), drawn()[0]
    share = result.predict()
    mine = data["mode"] == "b"
    n = data.unit.nunique()
    found = result.estimate(
        Revenue("price", of="b"), Revenue("price", of="b", at=2.5), Profit("price", cost=1.0, of="b", at=2.5),
        Profit("price", cost=lambda frame: 0.2 * frame.price, of="b"),
        Revenue("price", of="b", at=lambda frame: 0.9 * frame.price),
    )  # fmt: skip
    at = result.predict(data.assign(price=data.price.where(~mine, 2.5)))
    cheaper = result.predict(data.assign(price=data.price.where(~mine, 0.9 * data.price)))
    truth = [
        (data.price * share)[mine].sum() / n, 2.5 * at[mine].sum() / n, 1.5 * at[mine].sum() / n,
        0.8 * (data.price * share)[mine].sum() / n, 0.9 * (data.price * cheaper)[mine].sum() / n,
    ]  # fmt: skip
    np.testing.assert_allclose(found.value, truth, rtol=1e-9)
    assert found.names[:3] == (
        "Revenue price of b", "Revenue price of b at 2.5", "Profit price of b at 2.5, cost 1"
    )  # fmt: skip
    # the delta method, by differences in the coefficients
    theta, cov, u = torch.tensor(result.params.to_numpy()), result.cov_params().to_numpy(), result.design.units
    price = torch.zeros_like(u.mask)
    price[u.mask > 0] = torch.tensor(data.price.to_numpy())

    def revenue(at: torch.Tensor) -> torch.Tensor:
        return (price * result.structure.family.mean(u, at.expand(len(u.y), -1)))[:, 1]

    slope = torch.autograd.functional.jacobian(lambda at: revenue(at).mean(), theta).numpy()
    inner = revenue(theta).numpy()
    influence = (inner - inner.mean()) + (result.averages.psi[0].numpy() - theta.numpy()) @ slope  # type: ignore[index]
    np.testing.assert_allclose(found.std_error[0], influence.std() / n**0.5 * (n / (n - 4)) ** 0.5, rtol=1e-6)
    assert slope @ cov @ slope > 0


def test_averages_over_sets_whose_law_is_not_known() -> None:
    truth = drawn()[1].mean()
    found = functions().estimate(
        ChoiceEffect("price", of="a", on="a"), ChoiceEffect("price", of="a", on="b"), Revenue("price", of="a"),
        Revenue("price", of="a", at=4), Revenue("price", of="b"),
        ChoiceEffect("price", of="b", on="b", elasticity=True), WTP("quality", per="price"),
    )  # fmt: skip
    assert (abs(found.value - truth) < 4 * found.std_error).all()
    assert (found.std_error < 0.15).all() and (found.std_error > 0.001).all()


def test_averages_over_sets_that_were_drawn() -> None:
    data, truth = _independent()
    result = fitted("chosen ~ price + quality | x", data, assignment=Randomised(sets=100))
    found = result.estimate(Revenue("price", of="a"), Revenue("price", of="a", at=4), Revenue("price", of="b"))
    assert (abs(found.value - truth[["revenue", "at 4", "b"]].mean()) < 4 * found.std_error).all()
    assert (found.std_error < 0.1).all() and (found.std_error > 0.001).all()


def _independent() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same with prices that do not depend on x."""
    data, _ = drawn()
    x = data.groupby("unit").x.first().to_numpy()
    price = data.price - data["mode"].map({"a": 0.8, "b": -0.5, "c": 0.0}) * data.x
    slope, taste = -1.0 - 0.5 * x, 0.5 + 0.3 * x
    who, mode = data.unit.to_numpy(), data["mode"]

    def share(price: pd.Series) -> pd.Series:
        weight = np.exp(slope[who] * price + taste[who] * data.quality)
        return weight / weight.groupby(who).transform("sum")

    p = share(price)
    at4 = share(price.where(mode != "a", 4.0))
    wide = pd.DataFrame({"unit": who, "mode": mode, "p": p, "price": price, "at4": at4}).pivot(
        index="unit", columns="mode"
    )
    pa, pb = wide.p.a, wide.p.b.fillna(0)
    truth = {
        "own": slope * pa * (1 - pa), "cross": -slope * pa * pb, "revenue": wide.price.a * pa, "at 4": 4 * wide.at4.a,
        "b": wide.price.b.fillna(0) * pb, "elastic": slope * wide.price.b * (1 - wide.p.b), "wtp": taste / -slope,
    }  # fmt: skip
    rng = np.random.default_rng(5)
    drawn_y = (np.log(p) + rng.gumbel(size=len(p))).groupby(who).rank(ascending=False) == 1
    return data.assign(price=price, chosen=drawn_y * 1), pd.DataFrame(truth)


def test_the_correction_is_that_of_theory() -> None:
    """psi of an effect under the default: its E[H_theta given x] is near that of the law the prices have."""
    result = functions()
    scores = result.scores
    target = ChoiceEffect("price", of="a", on="a").bind(result.design)
    found = scores._given_x(target)[0, :, 0].numpy()  # type: ignore[union-attr]
    theta = scores.theta[0].numpy()  # type: ignore[union-attr]
    x = result.design.frame.groupby("unit").x.first().to_numpy()
    rng = np.random.default_rng(1)
    for i in np.argsort(x)[[200, 1000, 1800]]:
        price = rng.normal(size=(40_000, 3)) + np.array([0.8, -0.5, 0.0]) * x[i] + 3
        d = np.stack([price, rng.normal(size=(40_000, 3))], -1)
        there = np.ones((40_000, 3))
        there[::4, 1] = 0
        at = torch.tensor(theta[i]).expand(40_000, -1).clone().requires_grad_(True)
        chance = (torch.tensor(d) @ at[..., None])[..., 0].masked_fill(torch.tensor(there) == 0, -torch.inf).softmax(-1)
        h = at[:, 0] * chance[:, 0] * (1 - chance[:, 0])
        (gradient,) = torch.autograd.grad(h.mean(), at)
        np.testing.assert_allclose(found[i], gradient.sum(0), atol=0.012)
    assert found.std(0).max() > 0.02  # it moves with x


def test_what_is_regressed_are_rows_that_nothing_else_has_seen() -> None:
    """E[. | x] at a row depends on the values of its group's spare rows, and on those alone."""
    spare = functions().scores.spare  # type: ignore[union-attr]
    groups, n, _ = spare.theta.shape
    splits = spare.splits
    used = splits.train[splits.first] | splits.valid[splits.first]
    own = splits.fold[0] == torch.arange(groups)[:, None]
    assert not bool((splits.spare & (used | own)).any()) and bool((splits.spare | used | own).all())
    values = torch.randn(groups, n, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = spare.given_x(values)
    assert found.shape == (1, n, 1, 2)
    other = torch.where(splits.spare[..., None, None], values, values + 5 * spare.x[:, :1, None].double())
    np.testing.assert_allclose(spare.given_x(other), found, rtol=1e-9, atol=1e-9)
    line = 2 + 3 * spare.x[:, 0].double()
    known = spare.given_x(line[:, None, None].expand(groups, n, 1, 2))[0, :, 0, 0]
    np.testing.assert_allclose(known, line, rtol=0.02, atol=0.02)


class Half(ChoiceEffect):
    """A target in which every row weighs a half."""

    def weight(self, design: object, frame: pd.DataFrame) -> np.ndarray:
        return np.full(len(frame), 0.5)


def test_weights_of_a_target_are_averaged_given_x() -> None:
    """E[w H_theta given x] of an elasticity over the sets with b, three quarters of them."""
    result = functions()
    target = ChoiceEffect("price", of="b", on="b", elasticity=True).bind(result.design)
    found = result.scores._given_x(target)[0, :, 0].numpy()  # type: ignore[union-attr]
    theta, x = result.scores.theta[0].numpy(), result.design.frame.groupby("unit").x.first().to_numpy()  # type: ignore[union-attr]
    i, rng = int(np.argsort(x)[1000]), np.random.default_rng(1)
    price = rng.normal(size=(40_000, 3)) + np.array([0.8, -0.5, 0.0]) * x[i] + 3
    d = torch.tensor(np.stack([price, rng.normal(size=(40_000, 3))], -1))
    at = torch.tensor(theta[i]).expand(40_000, -1).clone().requires_grad_(True)
    chance = (d @ at[..., None])[..., 0].softmax(-1)[:, 1]
    (gradient,) = torch.autograd.grad((0.75 * at[:, 0] * d[:, 1, 0] * (1 - chance)).mean(), at)
    np.testing.assert_allclose(found[i], gradient.sum(0), atol=0.08)
    plain = ChoiceEffect("price", of="a", on="a").bind(result.design)
    half = Half("price", of="a", on="a").bind(result.design)
    of_plain, of_half = (result.scores._given_x(one) for one in (plain, half))  # type: ignore[union-attr]
    np.testing.assert_allclose(of_half, 0.5 * of_plain, rtol=1e-6)
    for one in (Revenue("price", of="b", at=2), Profit("price", cost=1, of="b", at=2), Revenue("price", of="b")):
        assert one.bind(result.design).observed(result.design)


def test_an_error_in_theta_is_corrected() -> None:
    """The derivative of the estimate in theta vanishes where it is right: the score offsets what the plug-in moves."""
    result = functions()
    scores, target = result.scores, ChoiceEffect("price", of="a", on="a").bind(result.design)
    u, family = result.design.units, result.structure.family
    x = torch.tensor(result.design.frame.groupby("unit").x.first().to_numpy())
    truth = torch.stack([-1.0 - 0.5 * x, 0.5 + 0.3 * x], 1)
    projected = scores._given_x(target)[0]  # type: ignore[union-attr]
    bend = torch.stack([torch.ones_like(x), x], 1) * torch.tensor([1.0, -1.0])

    def value(step: float) -> tuple[float, float]:
        at = truth + step * bend
        chance = family.mean(u, at)[:, 0]
        plain = at[:, 0] * chance * (1 - chance)
        score = family.derivatives(u, at)[0]
        moved = (projected @ scores.inverse[0] @ score[..., None])[:, 0, 0]  # type: ignore[union-attr]
        return float(plain.mean()), float((plain - moved).mean())

    up, down = value(0.05), value(-0.05)
    assert abs(up[0] - down[0]) > 0.004
    assert abs(up[1] - down[1]) < 0.25 * abs(up[0] - down[0])


# what is said ---------------------------------------------------------------------------------------------------------
def test_what_to_type_instead() -> None:
    result = constant()
    for target, words in (
        (Revenue("price"), r"targets.Revenue\('price', of='a', at=...\)"),
        (Profit("price", cost=1), r"targets.Profit\('price', of='a', cost=..., at=...\)"),
        (Elasticity("price"), r"ChoiceEffect\('price', of='a', on=..., elasticity=True\)"),
        (AME("price"), r"targets.ChoiceEffect\('price', of='a'\)"),
        (deepreg.targets.OptimalPrice("price", cost=1, lo=1, hi=2), r"Compare prices with targets.Profit"),
        (deepreg.targets.ConsumerSurplus("price", lo=1, hi=2), r"CompensatingVariation\('price', {'price'"),
        (Revenue("price", of="tram"), "the alternatives are 'a', 'b', 'c'"),
        (Revenue("x", of="a"), "numeric attributes of this model are 'price', 'quality'"),
        (Revenue("price", of="a", at=np.ones(2000)), "an array has a value for each row, and a choice has several"),
        (Revenue("price", of="a", at="cost"), "'cost' is no column"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            result.estimate(target)
    ordinary = deepreg.structural("chosen ~ price", drawn()[0]).fit()
    with pytest.raises(OptionError, match="is of no alternatives; leave of= out"):
        ordinary.estimate(Revenue("price", of="a"))


def test_ratios_to_a_price_that_changes_sign_are_warned_of() -> None:
    data, _ = drawn()
    flat = data.assign(price=data.price * np.where(data.x > 0.2, -1, 1))
    result = fitted("chosen ~ price + quality | x", flat[flat.unit < 500], assignment=Randomised(sets=50))
    for target in (WTP("quality", per="price"), CompensatingVariation("price", {"quality": lambda f: f.quality + 1})):
        with pytest.warns(DeepregWarning, match="coefficient of price is near 0, or on the other side"):
            result.estimate(target)


def test_a_saved_fit_with_its_rows_still_averages(tmp_path: object) -> None:
    result = fitted("chosen ~ price | x", drawn()[0][lambda d: d.unit < 300])
    target = Revenue("price", of="a")
    result.save(f"{tmp_path}/fit.deepreg", data=True)
    again = deepreg.load(f"{tmp_path}/fit.deepreg").estimate(target)
    np.testing.assert_allclose(again.value, result.estimate(target).value, rtol=1e-12)
