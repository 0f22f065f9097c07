"""Tables look as they did when they were last looked at, and two runs of one seed write the same bytes."""

from pathlib import Path

import pandas as pd
import pytest
import snapshots

import deepreg
from deepreg.results import Results

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", snapshots.EXACT | snapshots.PLACES)
def test_a_table_looks_as_it_did(name: str) -> None:
    for file, content in snapshots.snapshots(name):
        kept = (snapshots.PLACE / file).read_text(encoding="utf-8")
        assert content == kept, f"{file} changed; look at it, and run `python tests/snapshots.py` to keep it"


def test_no_snapshot_is_left_over() -> None:
    written = {file for name in snapshots.EXACT | snapshots.PLACES for file, _ in snapshots.snapshots(name)}
    assert {one.name for one in snapshots.PLACE.iterdir()} == written


def test_masks_hide_digits_and_keep_heads() -> None:
    text = "[0.025 0.975] {[}0.025 P <0.001 &lt;0.001 -12.5 $-$0.50 1 vs 0 (0.25) 1.5e-12"
    assert snapshots.masked(text) == (
        "[0.025 0.975] {[}0.025 P <0.001 &lt;0.001 -99.9 $-$9.99 1 vs 0 (9.99) 9.9e-99"
    )  # fmt: skip
    assert snapshots.shortened("1.23456789,0.1,2,-3.00000001") == "1.23457,0.1,2,-3"


@pytest.mark.parametrize(
    ("formula", "learners"),
    [
        ("grade ~ tutored | prior", ("smooth", "network")),
        pytest.param("grade ~ tutored + hours | prior + C(arm)", "smooth", marks=pytest.mark.slow),
    ],
)
def test_two_runs_of_one_seed_write_the_same_bytes(formula: str, learners: object, tmp_path: Path) -> None:
    def fit(data: pd.DataFrame) -> Results:
        model = deepreg.structural(formula, data, cluster="school")
        return model.fit(learners=learners, folds=2, members=2, rng=7, progress=False)

    def written(place: Path) -> dict[str, bytes]:
        result = fit(snapshots.data().copy())
        summary = result.summary()
        texts = (summary.as_text(), summary.as_html(), summary.as_latex(), summary.as_csv(), summary.as_markdown())
        place.mkdir()
        result.save(place / "fit.deepreg")
        result.save(place / "rows.deepreg", data=True)
        result.report(place / "page.html")
        files = {one.name: one.read_bytes() for one in sorted(place.iterdir())}
        return files | {str(i): text.encode() for i, text in enumerate(texts)}

    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert list(one) == list(two) and len(one) == 8
    assert [name for name in one if one[name] != two[name]] == []
