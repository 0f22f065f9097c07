"""The study of the intervals of rows: what it counts, and that no draw is done twice."""

import sys
from pathlib import Path

import numpy as np
import pytest

from deepreg import simulate

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # last: its coverage.py must hide nothing
import intervals
from peers import registry
from peers.problem import NotApplicable, Rows, treatment


@pytest.fixture(autouse=True)
def table(monkeypatch, tmp_path):
    monkeypatch.setattr(intervals, "TABLE", tmp_path / "intervals.csv")
    return tmp_path / "intervals.csv"


def off(sim, seed):
    """Errors of 0, 1.7 and 3 standard errors, one in three each."""
    truth = sim.theta[treatment(sim)].to_numpy(float)
    return Rows(truth + np.resize([0.0, 3.4, -6.0], len(truth)), np.full(len(truth), 2.0))


def test_coverage_is_the_share_of_rows_inside():
    found = intervals.measure(simulate.get("price")(n=300, rng=0), off, 0)
    assert found["cover90"] == pytest.approx(1 / 3) and found["cover95"] == pytest.approx(2 / 3)
    assert found["width95"] == pytest.approx(4 * 1.959964) and found["stderr"] == 2
    assert found["rmse"] == pytest.approx(np.sqrt((3.4**2 + 36) / 3))


def test_draws_are_done_once_and_what_cannot_be_done_is_left_out(monkeypatch, table, capsys):
    done = []

    def method(sim, seed):
        done.append(seed)
        if sim.family != "linear":
            raise NotApplicable("")
        return off(sim, seed)

    def rows(name):
        if name == "linear_dml":
            raise ImportError("econml is not there")
        return method

    monkeypatch.setattr(registry, "rows", rows)
    designs, methods = ["price", "logit_continuous"], ["deepreg", "linear_dml"]
    intervals.run(designs, methods, 60, 1)
    assert intervals.known()[intervals.KEYS].to_numpy().tolist() == [["price", 60, "deepreg", 0]]
    assert "linear_dml is skipped: econml is not there" in capsys.readouterr().err
    done.clear()
    intervals.run(["price"], methods, 60, 3)
    assert done == [1, 2] and len(intervals.known()) == 3
    intervals.report()
    assert "deepreg" in capsys.readouterr().out


def test_the_rows_of_this_package_have_its_errors():
    import deepreg

    sim = simulate.get("price")(n=100, rng=0)
    found = registry.rows("deepreg")(sim, 0)
    result = deepreg.structural(sim.formula, sim.frame).fit(rng=0, progress=False)
    np.testing.assert_allclose(found.estimate, result.theta(sim.frame).iloc[:, 1])
    np.testing.assert_allclose(found.stderr, result.const_marginal_effect_inference(sim.frame).stderr)
    with pytest.raises(NotApplicable):
        registry.rows("deepreg")(simulate.get("logit_continuous")(n=100, rng=0), 0)
