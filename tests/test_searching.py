"""Searches: what is found, and what is said of it."""

import math

import numpy as np
import pytest

import deepreg
from deepreg.errors import DataError, OptionError
from deepreg.searching import branch

SPACE = {"a": range(-3, 4), "b": range(-3, 4), "c": ("x", "y", None)}


def bowl(candidate: dict) -> float:
    return (candidate["a"] - 1.2) ** 2 + (candidate["b"] + 1.9) ** 2 + {"x": 1, "y": 0.3, None: 0.5}[candidate["c"]]


def test_all_candidates_are_looked_at_and_ranked() -> None:
    found = deepreg.search(SPACE, bowl)
    assert (found.best, found.exact, found.gap, found.evaluated) == ({"a": 1, "b": -2, "c": "y"}, True, 0.0, 147)
    assert found.method == "exact: the best of 147 candidates (all of them)"
    ties = found.ties(within=0.25)
    assert ties["c"].fillna("none").tolist() == ["y", "none"]
    assert ties["behind"].tolist() == pytest.approx([0, 0.2])
    assert "147" in found.summary().as_latex()


def test_a_beam_says_that_it_knows_nothing_of_the_others() -> None:
    found = deepreg.search(SPACE, bowl, method="beam", width=2)
    assert found.best == deepreg.search(SPACE, bowl).best
    assert found.evaluated < 147
    assert not found.exact
    assert math.isinf(found.gap)
    assert found.method.startswith("beam: ")
    assert deepreg.search(SPACE, bowl, limit=10).method.startswith("beam: ")


def test_a_beam_that_is_stuck_says_so() -> None:
    """From (0, 0) no single change helps, though both together do."""

    def trap(candidate: dict) -> float:
        return -5.0 if candidate == {"a": 1, "b": 1} else candidate["a"] + candidate["b"]

    stuck = deepreg.search({"a": (0, 1), "b": (0, 1)}, trap, method="beam", width=1)
    assert (stuck.value, stuck.exact) == (0.0, False)
    assert deepreg.search({"a": (0, 1), "b": (0, 1)}, trap, method="beam", start={"a": 1, "b": 1}).value == -5.0


def quadratic() -> tuple:
    rng = np.random.default_rng(5)
    root = rng.normal(size=(5, 5))
    q, b = root @ root.T + 0.1 * np.eye(5), rng.normal(size=5) * 2
    inverse = np.linalg.inv(q)

    def bound(positions: np.ndarray) -> np.ndarray:  # the least over what is open
        d = positions.shape[1]
        gap = positions - 4 - b[:d]
        return np.einsum("ci,ij,cj->c", gap, np.linalg.inv(inverse[:d, :d]), gap)

    return bound, (9,) * 5


def test_bounds_find_what_enumeration_finds_with_fewer_values() -> None:
    bound, shape = quadratic()
    every = deepreg.search({str(j): range(-4, 5) for j in range(5)}, bound, batched=True)
    found = deepreg.search({str(j): range(-4, 5) for j in range(5)}, bound, batched=True, bound=bound)
    assert found.best == every.best
    assert found.exact
    assert found.evaluated < every.evaluated / 10
    near = int((every.values <= 10 * every.value).sum())
    values = branch(shape, bound, bound, margin=9.0)[1]
    assert near > 3
    np.testing.assert_allclose(values[:near], every.values[:near])


def test_a_search_that_leaves_candidates_out_has_an_honest_gap() -> None:
    bound, shape = quadratic()
    least = deepreg.search({str(j): range(-4, 5) for j in range(5)}, bound, batched=True).value
    shuffled = np.random.default_rng(0)
    positions, values, *_, floor = branch(shape, bound, bound, rank=lambda at: shuffled.random(len(at)), limit=3)
    assert floor <= least <= values[0]
    assert floor < values[0]
    assert len(positions) == len(values)


def test_what_cannot_be_searched_is_said() -> None:
    with pytest.raises(DataError, match="No candidate is admissible"):
        deepreg.search({"a": (1, 2)}, lambda _: math.inf)
    with pytest.raises(OptionError, match="no option for 'b'"):
        deepreg.search({"a": (1, 2), "b": ()}, bowl)
    with pytest.raises(OptionError, match="147 candidates, more than limit=9"):
        deepreg.search(SPACE, bowl, method="exact", limit=9)
    with pytest.raises(OptionError, match="'exact' and 'beam'"):
        deepreg.search(SPACE, bowl, method="greedy")
    with pytest.raises(OptionError, match=r"start= names \['d'\]"):
        deepreg.search(SPACE, bowl, method="beam", start={"d": 1})
    with pytest.raises(OptionError, match="none of its options"):
        deepreg.search(SPACE, bowl, method="beam", start={"a": 9})
