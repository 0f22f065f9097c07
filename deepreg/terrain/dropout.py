"""Choice of one column out of every set by training with all others dropped at random."""

import numpy as np
import torch

from ..submodels import Submodels

RATE = 1e-3  # of Adam
STARTED = 0.1  # weights start between 0 and this: from 0, a rectified weight never moves


def dropout(
    models: Submodels, begin: torch.Tensor, base: int, options: tuple[tuple[int, ...], ...], steps: int,
    draws: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Positions among the options of every set of the largest weight, -1 as an option where none is above 0; (S,).

    In every step one column of each set is drawn, with weight max(w, 0), and Adam takes a step on the mean loss. This
    is the burn-in of a network that prunes all but the largest weight of each set. It starts from the fit without sets,
    `begin` (P,): from 0 the intercept drags all weights to 0, where rectified ones stay.
    """
    u, family = models.units, models.family
    columns = u.d.T.contiguous()  # (A, n)
    sets = [torch.tensor([one for one in each if one >= 0]) for each in options]
    theta = torch.zeros(len(columns) + len(family.extra), dtype=columns.dtype)
    theta[:base], theta[len(columns) :] = begin[:base], begin[base + len(sets) :]
    for one in sets:
        theta[one] = torch.from_numpy(draws.uniform(0, STARTED, len(one)))
    optimiser = torch.optim.Adam([theta], lr=RATE)
    always = torch.arange(base)
    for _ in range(steps):
        drawn = torch.stack([one[int(draws.integers(len(one)))] for one in sets])
        active = torch.cat([always, drawn])
        weight = torch.cat([theta[:base], theta[drawn].clamp_min(0.0)])
        eta = (weight @ columns[active])[None] + u.offset
        score = family.natural_derivatives(u, eta, *theta[len(columns) :, None, None].unbind(0))[0]
        gradient = torch.zeros_like(theta)
        gradient[active] = columns[active] @ score[0][0] / len(u.y)
        gradient[drawn] *= (theta[drawn] > 0).to(gradient)
        for j, one in enumerate(score[1:]):
            gradient[len(columns) + j] = one.mean()
        theta.grad = gradient
        optimiser.step()
    return np.array([_largest(theta, each) for each in options])


def _largest(theta: torch.Tensor, options: tuple[int, ...]) -> int:
    weights = [float(theta[one]) if one >= 0 else 0.0 for one in options]
    return int(np.argmax(weights))
