"""Fits to many choices of columns at once: held against single fits, and derivatives against autodiff."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from classical import classical

import deepreg
from deepreg import families
from deepreg.families.base import Family
from deepreg.submodels import Submodels
from deepreg.units import Units

NAMES = ("poisson", "negbin", "logit", "probit", "gamma")


def draw(name: str, n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 4))
    mean = np.exp(0.4 * x[:, 0] + 0.3 * x[:, 1] - 0.2 * x[:, 2]) * rng.gamma(2, 0.5, n)
    y = {"logit": mean > 1, "probit": mean > 1, "gamma": mean}.get(name, rng.poisson(mean))
    return pd.DataFrame({"y": np.asarray(y, float), **{f"x{j}": x[:, j] for j in range(4)}})


def submodels(name: str, data: pd.DataFrame, bounded: float = -torch.inf) -> Submodels:
    d = torch.from_numpy(np.column_stack([np.ones(len(data)), data.iloc[:, 1:]]))
    u = Units(torch.from_numpy(data["y"].to_numpy(copy=True)), d, torch.ones(len(data)).double())
    lower = torch.tensor([-torch.inf, *[bounded] * 4]).double()
    return Submodels(families.get(name), u, lower)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_in_the_index_are_those_of_the_loss(name: str) -> None:
    family, data = families.get(name), draw(name, 40)
    u = submodels(name, data).units
    z = (torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).double(),
         *(torch.tensor([[-2.0], [0.0], [1.0]]).double() for _ in family.extra))  # fmt: skip
    torch.testing.assert_close(family.natural_loss(u, *z), Family.natural_loss(family, u, *z), rtol=1e-12, atol=1e-12)
    own, expected = family.natural_derivatives(u, *z), Family.natural_derivatives(family, u, *z)
    for one, other in zip(own[0], expected[0], strict=True):
        torch.testing.assert_close(one.expand_as(other), other, rtol=1e-11, atol=1e-11)
    for row, other_row in zip(own[1], expected[1], strict=True):
        for one, other in zip(row, other_row, strict=True):
            torch.testing.assert_close(one.expand_as(other), other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_each_choice_is_the_fit_of_its_own_regression(name: str) -> None:
    data = draw(name)
    choices = torch.tensor([[0, 1, 2], [0, 4, 1], [0, 3, -1], [0, -1, -1]])
    weight = torch.ones(1, len(data)).double()
    fits = submodels(name, data).fit(choices, weight)
    for choice, theta in zip(choices.tolist(), fits.theta, strict=True):
        terms = " + ".join(["1", *(f"x{j - 1}" for j in choice[1:] if j > 0)])
        alone = deepreg.structural(f"y ~ {terms}", data, family=name).fit()
        used = [k for k, j in enumerate(choice) if j >= 0]
        found = [*theta[used].tolist(), *theta[3:].tolist()]
        np.testing.assert_allclose(found, alone.params, rtol=1e-6, atol=1e-7)
        assert all(theta[k] == 0 for k, j in enumerate(choice) if j < 0)


def test_weights_of_each_choice_are_its_own() -> None:
    data, models = draw("poisson"), submodels("poisson", draw("poisson"))
    weight = torch.from_numpy(np.random.default_rng(0).multinomial(200, np.full(200, 1 / 200), size=2)).double()
    choices = torch.tensor([[0, 1], [0, 1], [0, 2]])
    fits = models.fit(choices, weight, rows=torch.tensor([1, 0, 1]))
    again = data.loc[np.repeat(np.arange(200), weight[1].long().numpy())]
    for row, term in ((0, "x0"), (2, "x1")):
        alone = deepreg.structural(f"y ~ {term}", again, family="poisson").fit()
        np.testing.assert_allclose(fits.theta[row], alone.params, rtol=1e-7)


def test_a_bound_holds_and_a_fit_that_does_not_exist_is_infinite() -> None:
    data = draw("poisson").assign(x3=lambda one: (one.index < 20) * 1.0)
    data.loc[data.index < 20, "y"] = 0.0  # the coefficient of x3 runs off to minus infinity
    choices = torch.tensor([[0, 1, 3], [0, 1, 4]])
    free = submodels("poisson", data).fit(choices, torch.ones(1, 200).double())
    assert free.loss.isfinite().tolist() == [True, False]
    held = submodels("poisson", data, 0.0).fit(choices, torch.ones(1, 200).double())
    assert held.theta[:, 2].tolist() == [0.0, 0.0]
    assert held.loss.isfinite().all()


def test_non_negative_poisson_regression_is_glmnets() -> None:
    data = pd.read_csv(classical("rtm/rtm_sim.csv"))
    reference = json.loads(classical("nonneg/poisson_nonneg_rtm_sim.json").read_text())
    d, y = (torch.from_numpy(data[one].to_numpy("float64", copy=True)) for one in (reference["names"], "Viol_2011"))
    lower = torch.tensor([-torch.inf] * 3 + [0.0] * 36).double()
    models = Submodels(families.get("poisson"), Units(y, d, torch.ones_like(y)), lower)
    fit = models.fit(torch.arange(39)[None], torch.ones(1, len(y)).double())
    assert -float(fit.loss[0]) * len(y) - float((y + 1).lgamma().sum()) == pytest.approx(-2515.648891, abs=1e-6)
    np.testing.assert_allclose(fit.theta[0].numpy(), reference["params"], atol=2e-5)
    assert int(fit.held.sum()) == sum(one < 1e-7 for one in reference["params"][3:])
