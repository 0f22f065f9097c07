"""Losses and networks of one's own: plain functions as families, and training loops by hand."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch

import deepreg
from deepreg import families
from deepreg.errors import NotAvailable, OptionError
from deepreg.networks import MLP, StructuralNet
from deepreg.units import Units

DATA = deepreg.simulate.tutorial(400, rng=0).frame
FAST = {"learners": "smooth", "folds": 3, "rng": 0, "progress": False}


def squares(y, d, theta):
    return 0.5 * (y - (d * theta).sum(-1)) ** 2


def index(d, theta):
    return (d * theta).sum(-1)


def normal(y, d, theta):
    log_sigma = theta[..., -1]
    return log_sigma + 0.5 * ((y - (d * theta[..., :-1]).sum(-1)) * (-log_sigma).exp()) ** 2


def test_a_plain_loss_with_constant_theta_is_the_m_estimator() -> None:
    ours = deepreg.structural("y ~ treatment + x0", DATA, squares).fit()
    ref = deepreg.structural("y ~ treatment + x0", DATA).fit()
    pd.testing.assert_series_equal(ours.params, ref.params, rtol=1e-9)
    pd.testing.assert_series_equal(ours.bse, ref.bse, rtol=1e-9)
    assert np.isnan(ours.llf) and np.isnan(ours.rsquared) and ours.effects is None


def test_ancillary_parameters_are_named_and_start_where_told() -> None:
    family = families.from_loss(normal, extra=["log_sigma"], start=(0.0, 0.0, 0.5))
    ours = deepreg.structural("y ~ treatment", DATA, family).fit()
    ref = deepreg.structural("y ~ treatment", DATA, "gaussian").fit()
    assert list(ours.params.index) == ["Intercept", "treatment", "log_sigma"]
    np.testing.assert_allclose(ours.params, ref.params, rtol=1e-6)
    np.testing.assert_allclose(ours.bse, ref.bse, rtol=1e-6)
    assert family.start(ours.design.units).tolist() == [0.0, 0.0, 0.5]


def test_theta_that_varies_is_that_of_the_family_with_regressed_hessians() -> None:
    family = families.from_loss(squares, mean=index)
    ours = deepreg.structural("y ~ treatment | x0 + x1", DATA, family).fit(**FAST)
    ref = deepreg.structural("y ~ treatment | x0 + x1", DATA).fit(hessian="regressed", **FAST)
    assert dict(ours.facts.header)["Lambda(x):"] == "regressed Hessian"
    np.testing.assert_allclose(ours.params, ref.params, atol=0.3 * ref.bse.max())
    np.testing.assert_allclose(ours.ate().value, ref.ate().value, atol=0.3 * ref.bse.max())
    assert np.corrcoef(ours.cate().iloc[:, 0], ref.cate().iloc[:, 0])[0, 1] > 0.97
    pd.testing.assert_series_equal(ours.predict().rename("y"), ours.fittedvalues.rename("y"))


def test_without_a_mean_there_are_coefficients_and_no_effects() -> None:
    result = deepreg.structural("y ~ treatment | x0", DATA, squares).fit(**FAST)
    assert "Effects" not in result.summary().as_text()
    for ask in (result.ate, result.predict, result.cate):
        with pytest.raises(NotAvailable, match="from_loss\\(loss, mean="):
            ask()


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (lambda y, d, theta: squares(y, d, theta).mean(), r"to \(\), but has to give \(2, 400\)"),
        (lambda y, d, theta: squares(y, d, theta)[..., None], r"\(2, 400, 1\).*sum over the last axis"),
        (lambda y, d, theta: index(d, theta).log() * y, "not finite in 400 of 400 rows; give from_loss"),
        (families.from_loss(squares, start=(0.0,)), "start=.* has 1 values, but theta has 2 columns"),
    ],
)
def test_losses_that_cannot_be_used_are_refused_at_the_door(family, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        deepreg.structural("y ~ treatment", DATA, family)


def test_a_saved_result_asks_for_the_loss(tmp_path) -> None:
    result = deepreg.structural("y ~ treatment", DATA, squares).fit()
    result.save(tmp_path / "fit")
    with pytest.raises(OptionError, match="family of your own, FromLoss"):
        deepreg.load(tmp_path / "fit")
    again = deepreg.load(tmp_path / "fit", family=families.from_loss(squares))
    pd.testing.assert_series_equal(again.bse, result.bse, check_exact=True)


def test_a_network_and_the_loss_of_a_family_train_by_hand() -> None:
    """Full-batch Adam on the loss of the linear family comes close to interacted least squares."""
    x = torch.tensor(DATA[["x0", "x1"]].to_numpy(), dtype=torch.float32)
    d = torch.stack([torch.ones(400), torch.tensor(DATA.treatment.to_numpy(), dtype=torch.float32)], 1)
    u, family = Units(torch.tensor(DATA.y.to_numpy(), dtype=torch.float32), d, torch.ones(400)), families.Linear()
    net = StructuralNet(2, 2, MLP(hidden=(8,)), rng=0)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = family.loss(u, net(x)).mean()
        loss.backward()
        optimiser.step()
    ols = smf.ols("y ~ treatment * (x0 + x1)", DATA).fit()
    assert float(loss.detach()) < 0.5 * ols.mse_resid
    assert net(x).shape == (400, 2)


def test_a_network_is_seeded_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (StructuralNet(3, 2, rng=seed).weights for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
