"""Conditional and nested logit."""

import numpy as np
import torch
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


def nested(u: Units, theta: Tensor) -> np.ndarray:
    """Choices of bus (0), car (1), walk (2) and train (3) as in Train (2009), equations 4.2 to 4.5, unit by unit."""
    d, t, there = u.d.numpy(), theta.numpy(), u.mask.numpy() > 0
    found = []
    for i, chosen in enumerate(u.y.numpy().astype(int)):
        v = d[i] @ t[i, :3]
        scale = {"public": np.exp(t[i, 3]), "own": np.exp(t[i, 4])}
        nests = {"public": [0, 3], "own": [1, 2]}
        inside = {
            name: np.sum(np.exp(v[[j for j in nest if there[i, j]]] / scale[name])) for name, nest in nests.items()
        }
        mine = "public" if chosen in nests["public"] else "own"
        nest = inside[mine] ** scale[mine] / sum(inside[name] ** scale[name] for name in nests)
        found.append(-np.log(nest * np.exp(v[chosen] / scale[mine]) / inside[mine]))
    return np.array(found)


CASES = {
    "conditional_logit": Case(
        families.ConditionalLogit(("bus", "car", "walk", "train")), conditional, (
            ([0.0, 4, 5], ["0 to 3", "2 other values", "deepreg.choice"]),
            ([0.5, 1, 1], ["1 other values"]),
        ), (0.3, -0.5, 0.4), of_conditional, inside=4,
    ),
    "nested_logit": Case(
        families.NestedLogit(
            ("bus", "car", "walk", "train"), (("public", ("train", "bus")), ("own", ("car", "walk")))
        ), nested, (
            ([0.0, 4, 5], ["0 to 3", "2 other values", "deepreg.choice"]),
            ([0.5, 1, 1], ["1 other values"]),
        ), (0.4, -0.7, 0.5, -1.8, -1.6), inside=4,
    ),
    "nested_logit: some alone": Case(
        families.NestedLogit(("bus", "car", "walk", "train"), (("public", ("train", "bus")), ("car", ("car",)))),
        lambda u, theta: nested(u, torch.cat([theta, 0 * theta[:, :1]], 1)), (), (0.5, -0.7, 0.5, 0.3), inside=4,
    ),
}  # fmt: skip
