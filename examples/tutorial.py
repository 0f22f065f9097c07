"""Automatic derivatives beside those derived by hand, and the ATE beside the doubly robust formula."""

import torch

import deepreg
from deepreg.structure import score_of
from deepreg.units import Units


def main() -> None:
    df = deepreg.datasets.tutorial()
    res = deepreg.structural("y ~ treatment | x0 + x1 + x2 + x3 + x4", data=df).fit(rng=0)
    print(res.summary())

    # score, Hessian and gradient of the target: by hand for l = (y - a - b t)^2 / 2 and H = b
    theta, units = res.scores.theta[0], res.scores.u
    t = units.d[:, 1]
    residual = units.y - theta[:, 0] - theta[:, 1] * t
    by_hand = torch.stack([-residual, -residual * t], 1)
    score = score_of(res.structure.family, units, theta)
    assert torch.allclose(score, by_hand)
    hessian = res.structure.family.derivatives(units, theta)[1].mean(0)
    assert torch.allclose(hessian, torch.stack([torch.stack([t**0, t], 1), torch.stack([t, t**2], 1)], 1).mean(0))
    leaf = theta.clone().requires_grad_(True)
    target = deepreg.targets.Coefficient("treatment")
    (gradient,) = torch.autograd.grad(target.h(res.structure, leaf, Units(*units)).sum(), leaf)
    assert torch.equal(gradient, torch.tensor([0.0, 1.0], dtype=torch.float64).expand_as(gradient))

    # the doubly robust formula with the same theta(x) and the estimated propensity
    assert res.scores.nodes is not None
    e = res.scores.nodes.weight[0, :, 1]
    a, b = theta.T
    psi = b + t * (units.y - a - b) / e - (1 - t) * (units.y - a) / (1 - e)
    estimate, error = float(psi.mean()), float(psi.std() / len(psi) ** 0.5)
    low, high = res.ate().interval()[0]
    print(f"\nAverage of the true effects      {df.true_cate.mean():8.4f}")
    print(f"deepreg                          {res.ate().value[0]:8.4f}  [{low:.4f}, {high:.4f}]")
    ends = estimate - 1.96 * error, estimate + 1.96 * error
    print(f"doubly robust formula            {estimate:8.4f}  [{ends[0]:.4f}, {ends[1]:.4f}]")
    assert low < df.true_cate.mean() < high


if __name__ == "__main__":
    main()
