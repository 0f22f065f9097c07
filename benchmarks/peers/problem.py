"""What an estimator gets to see of a simulation, and what it answers."""

import contextlib
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import formulaic
import numpy as np

from deepreg.simulate import Simulation

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Answer(NamedTuple):
    """An estimate of the headline target, its standard error, and the coefficient beta(x) of every row, or None."""

    estimate: float
    se: float
    cate: Array | None = None


class Rows(NamedTuple):
    """The coefficient beta(x) of every row, and the standard errors that its intervals are made of; (n,) each."""

    estimate: Array
    stderr: Array


class Problem(NamedTuple):
    """Outcome y (n,), treatment t (n,), features x (n, p) with categories as indicators, all float64."""

    y: Array
    t: Array
    x: Array
    binary: bool  # whether the treatment is


class NotApplicable(Exception):
    """The method is not made for this kind of treatment or outcome."""


def target(sim: Simulation) -> str:
    """The headline target: "ate" where the treatment is binary, "ame" where it is continuous."""
    return "ate" if "ate" in sim.truth else "ame"


def treatment(sim: Simulation) -> str:
    return str(sim.theta.columns[1])


def problem(sim: Simulation) -> Problem:
    """The arrays of a simulation; the features are those after the bar of its formula."""
    outcome, features = sim.formula.split("~")[0].strip(), sim.formula.split("|")[1]
    x = formulaic.model_matrix(features, sim.frame).drop(columns="Intercept").to_numpy(float)
    t = sim.frame[treatment(sim)].to_numpy(float)
    return Problem(sim.frame[outcome].to_numpy(float), t, x, set(np.unique(t)) <= {0.0, 1.0})


def binary(sim: Simulation, method: str) -> Problem:
    """The arrays of a simulation whose treatment is binary; NotApplicable where it is not."""
    found = problem(sim)
    if not found.binary:
        raise NotApplicable(f"{method} needs a binary treatment")
    return found


def need(module: str) -> Any:
    """A module of a library that deepreg itself does not need; ImportError says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} cannot be imported ({error}). Install the peers into an environment of their own: "
            "pip install torch==2.13.0 && pip install -r benchmarks/peers-requirements.txt"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log records below errors: peers are measured, not debugged."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
