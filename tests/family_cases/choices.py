"""Conditional logit."""

import numpy as np
from scipy.special import log_softmax
from torch import Tensor

from deepreg import families
from deepreg.units import Units

from .case import Case


def conditional(u: Units, theta: Tensor) -> np.ndarray:
    utility = np.einsum("njk,nk->nj", u.d.numpy(), theta.numpy())
    there = np.where(u.mask.numpy() > 0, utility, -np.inf)
    return -log_softmax(there, 1)[np.arange(len(utility)), u.y.numpy().astype(int)]


def of_conditional(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    d, y = u.d.numpy(), u.y.numpy().astype(int)
    weight = u.mask.numpy() * np.exp(np.einsum("njk,nk->nj", d, theta.numpy()))
    p = weight / weight.sum(1, keepdims=True)
    mean = np.einsum("nj,njk->nk", p, d)
    second = np.einsum("nj,njk,njl->nkl", p, d, d)
    return mean - d[np.arange(len(d)), y], second - mean[:, :, None] * mean[:, None, :]


CASES = {
    "conditional_logit": Case(
        families.ConditionalLogit(("bus", "car", "walk", "train")), conditional, (
            ([0.0, 4, 5], ["0 to 3", "2 other values", "deepreg.choice"]),
            ([0.5, 1, 1], ["1 other values"]),
        ), (0.3, -0.5, 0.4), of_conditional, inside=4,
    ),
}  # fmt: skip
