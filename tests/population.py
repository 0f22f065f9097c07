"""Populations of which every conditional expectation is a finite sum, and the mean of psi over them."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from deepreg.choicesets import ChoiceSets, Points
from deepreg.design import Design, build
from deepreg.families import ConditionalLogit, get
from deepreg.influence import Scores
from deepreg.information import integrated, of_constants
from deepreg.nodes import Nodes
from deepreg.structure import Structure, score_of
from deepreg.targets import Target


class Population(NamedTuple):
    """Some x, each with all its treatments; outcomes are the conditional means, so the score has mean zero."""

    design: Design
    structure: Structure
    theta: Tensor  # (1, n, P)
    nodes: Points


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@cache
def exact(family, kind, n=200, held=(), offset=False):
    """Of a family and n values of x; the treatment is "binary", "continuous", or a "price" in which demand falls.

    The columns of theta at the positions in `held` are constant. With `offset`, every other x has one of 1.
    Or "choices" out of sets that were drawn independently of x, of which the last lacks an alternative.
    """
    if kind == "choices":
        return choices(n)
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    theta = np.stack([0.3 * x, 0.8 + 0.4 * np.sin(x)], 1)
    if kind == "binary":
        e = sigmoid(0.8 * x)
        t, p = np.stack([np.zeros_like(x), np.ones_like(x)], 1), np.stack([1 - e, e], 1)
    else:
        points, mass = np.polynomial.hermite_e.hermegauss(9)
        t, p = 0.5 * x[:, None] + (0.6 + 0.2 * sigmoid(x))[:, None] * points, np.tile(mass / mass.sum(), (n, 1))
    noise = np.zeros(1)
    if kind == "price":
        t = 2.5 + 0.2 * t
        theta = np.stack([4 + 0.2 * np.cos(x), -0.7 + 0.1 * np.sin(x)], 1)
    if family == "gaussian":  # whose outcomes are a standard deviation above and below the mean
        theta, noise = np.c_[theta, 0.2 * np.sin(x)], np.array([-1.0, 1.0])
    theta[:, list(held)] = theta[:, list(held)].mean(0)
    q, twice = t.shape[1], len(noise)
    t, p = np.tile(t, (1, twice)), np.tile(p, (1, twice)) / twice
    frame = pd.DataFrame({"x": np.repeat(x, q * twice), "t": t.ravel(), "w": p.ravel()})
    frame["cost"] = 0.5 + 0.2 * np.cos(frame.x)
    rows = np.repeat(theta, q * twice, 0)
    frame["o"] = np.repeat(np.arange(n) % 2 * float(offset), q * twice)
    eta = frame.o + rows[:, 0] + rows[:, 1] * frame.t
    mean = {"logit": sigmoid(eta), "poisson": np.exp(eta)}.get(family, eta)
    frame["y"] = mean + np.tile(np.repeat(noise, q), n) * np.exp(rows[:, -1])
    design = build("y ~ t | x + cost", frame, weights="w", offset="o" if offset else None)
    names = get(family).names(design.terms)
    structure = Structure(get(family), design.terms, constant=tuple(names[j] for j in held))
    values = torch.tensor(np.repeat(t[:, :q], q * twice, 0)[None])
    weight = torch.tensor(np.repeat(p[:, :q] * twice, q * twice, 0)[None])
    return Population(design, structure, torch.tensor(rows)[None], Nodes(weight, {"t": values.numpy()}, design))


def choices(n):
    """Each x with each of four choice sets and every choice out of it, by its probability."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=n)
    theta = np.stack([-1.2 + 0.3 * np.sin(x), -0.5 + 0.2 * np.cos(x)], 1)  # of price and time
    sets = pd.DataFrame({"set": np.repeat(np.arange(4), 3), "mode": list("abc") * 4})
    sets["price"], sets["time"] = rng.uniform(0.5, 2, 12), rng.normal(size=12)
    sets = sets[(sets["set"] < 3) | (sets["mode"] != "b")]
    share = np.array([0.4, 0.3, 0.2, 0.1])
    units = []
    for i in range(n):
        for one, rows in sets.groupby("set"):
            p = np.exp(rows[["price", "time"]].to_numpy() @ theta[i])
            for y, chance in enumerate(p / p.sum()):
                chosen = (np.arange(len(rows)) == y) * 1
                units.append(rows.assign(unit=len(units), x=x[i], chosen=chosen, w=share[one] * chance, who=i))
    frame = pd.concat(units, ignore_index=True)
    design = build("chosen ~ price + time | x", frame, weights="w", packed=("unit", "mode"))
    structure = Structure(ConditionalLogit(design.packing.names), design.terms)
    first = frame[frame.who == 0].groupby("set").unit.transform("min") == frame.unit[frame.who == 0]
    rows = design.frame.iloc[np.flatnonzero(first)].reset_index(drop=True)
    nodes = ChoiceSets(rows, torch.tensor(share), (1, design.n), design)
    return Population(design, structure, torch.tensor(theta[frame.groupby("unit").who.first()])[None], nodes)


def scores(population: Population, theta: Tensor) -> Scores:
    """The scores of a fit that found this theta, and the true law of the treatment."""
    design, structure, _, nodes = population
    lam = integrated(structure, theta, nodes, 0.0)
    score = score_of(structure.family, design.units, theta)
    back = of_constants(structure, design.units, theta, design.weight, lam)
    return Scores(structure, design, design.units, theta, score, lam.inverse, lam.turn, back, nodes, constant=False)


def mean_psi(population: Population, theta: Tensor, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The mean of psi, and the plug-in; (q,) each."""
    psi, plug_in = scores(population, theta).psi(target.bind(population.design))
    weight = population.design.weight / population.design.weight.sum()
    return (psi[0] * weight[:, None]).sum(0).numpy(), plug_in[0].numpy()
