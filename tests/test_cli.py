"""The command line: what it prints and writes is what the library does, and errors are one line."""

import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

import deepreg
from deepreg.cli import app
from deepreg.page import page

FAST = ["--folds", "2", "--members", "1", "--learner", "smooth", "--rng", "0"]
FORMULA = "y ~ treatment | x0 + x1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli")
    deepreg.simulate.tutorial(n=300, rng=0).frame.assign(g=range(300)).to_csv(place / "data.csv", index=False)
    return place


@pytest.fixture(scope="module")
def result(folder):
    model = deepreg.structural(FORMULA, folder / "data.csv")
    return model.fit(folds=2, members=1, learners="smooth", rng=0, progress=False)


def run(*arguments, code=0):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == code, done.output
    if code == 1:
        assert done.stdout == "" and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr if code else done.stdout


def test_fit_prints_the_summary(folder, result):
    assert run("fit", folder / "data.csv", FORMULA, *FAST) == str(result.summary()) + "\n"
    both = run("fit", folder / "data.csv", FORMULA, *FAST, "--estimate", "ate", "--estimate", "att")
    assert both == f"{result.summary()}\n\n{result.estimate('ate', 'att')}\n"


def test_options_reach_the_library(folder):
    options = ["--family", "logit", "--subset", "x1 > 0", "--cluster", "g", "--format", "csv"]
    found = run("fit", folder / "data.csv", "treatment ~ x0", *options)
    model = deepreg.structural("treatment ~ x0", folder / "data.csv", "logit", subset="x1 > 0", cluster="g")
    assert found == model.fit().summary().as_csv() + "\n"


@pytest.mark.parametrize("form", ["text", "markdown", "html", "latex", "csv"])
def test_formats_are_those_of_the_summary(folder, result, form):
    run("fit", folder / "data.csv", FORMULA, *FAST, "--save", folder / f"{form}.deepreg")
    shown = run("show", folder / f"{form}.deepreg", "--format", form, "--estimate", "ate")
    summary, table = (getattr(one, f"as_{form}")() for one in (result.summary(), result.ate().table()))
    assert shown == f"{summary}\n\n{table}\n"


def test_files_hold_what_is_printed(folder, result):
    for ending, form in ((".txt", "text"), (".md", "markdown"), (".html", "html"), (".tex", "latex"), (".csv", "csv")):
        place, table = folder / f"out{ending}", folder / f"table{ending}"
        run("fit", folder / "data.csv", FORMULA, *FAST, "--out", place, "--table", table)
        shown = page(result) if ending == ".html" else getattr(result.summary(), f"as_{form}")()
        assert place.read_text("utf-8").rstrip("\n") == shown.rstrip("\n")
        assert table.read_text("utf-8").rstrip("\n") == getattr(deepreg.etable([result]), f"as_{form}")().rstrip("\n")
    run("fit", folder / "data.csv", FORMULA, *FAST, "--table", folder / "table.docx")
    assert (folder / "table.docx").read_bytes()[:2] == b"PK"


def test_saved_fits_side_by_side(folder, result):
    run("fit", folder / "data.csv", "y ~ treatment", "--save", folder / "a.deepreg")
    run("fit", folder / "data.csv", FORMULA, *FAST, "--save", folder / "b.deepreg")
    constant = deepreg.structural("y ~ treatment", folder / "data.csv").fit()
    shown = run("compare", folder / "a.deepreg", folder / "b.deepreg", "--style", "aer", "--out", folder / "c.tex")
    assert shown == deepreg.etable([constant, result], style="aer").as_text() + "\n"
    assert "threeparttable" in (folder / "c.tex").read_text("utf-8")
    effects = run("compare", folder / "a.deepreg", folder / "b.deepreg", "--effects")
    assert effects == deepreg.etable([constant, result], effects=True).as_text() + "\n"


def test_simulate_writes_data_and_says_the_truth(folder):
    assert run("simulate").split() == list(deepreg.simulate.names())
    shown = run("simulate", "irm", "--n", "50", "--rng", "3", "--out", folder / "irm.csv")
    drawn = deepreg.simulate.get("irm")(n=50, rng=3)
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "irm.csv"), drawn.frame.reset_index(drop=True), check_dtype=False
    )
    assert f"formula: {drawn.formula}\n" in shown and f"ate = {drawn.truth['ate']:.6g}" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "none.csv", "y ~ t"], "'none.csv' is read as the path of a file; nothing is there"),
        (["fit", "data.csv", "y ~ treatmnt"], "Did you mean 'treatment'?"),
        (["fit", "data.csv", "y ~ treatment", "--family", "logitt"], "'logitt'"),
        (["fit", "data.csv", "y ~ treatment", "--out", "a.pdf"], "--out a.pdf: the name has to end in .txt, .md"),
        (["fit", "data.csv", "y ~ treatment", "--table", "no/a.tex"], "--table no/a.tex: there is no folder no"),
        (["fit", "data.csv", "y ~ treatment", "--save", "data.csv"], "--save data.csv exists. Add --overwrite"),
        (["fit", "data.csv", "y ~ typer"], "uses 'typer', but the data have no such column"),
        (["fit", "data.csv", "y ~ x0 | x1", "--estimate", "ate"], "x0"),
        (["fit", "data.csv", "y ~ treatment", "--out", "a.txt", "--table", "./a.txt"], "name one file twice"),
        (["show", "data.csv"], "'data.csv' is no result of deepreg"),
        (["show", "none.deepreg"], "'none.deepreg' cannot be read"),
        (["compare", "none.deepreg"], "'none.deepreg' cannot be read"),
        (["simulate", "nothing"], "'nothing'"),
        (["simulate", "irm", "--n", "0"], "n=0"),
        (["simulate", "irm", "--out", "a.xlsx"], "--out a.xlsx: the name has to end in .csv"),
    ],
)
def test_errors_are_one_line_and_exit_with_1(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert message in run(*arguments, code=1)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_warnings_are_one_line(folder):
    pd.DataFrame(
        {"y": [1.0, 2, 3, 2, 5, 4], "t": [0, 1, 0, 1, 0, 1], "g": [0, 0, 1, 1, 2, 2], "h": [0, 1, 0, 1, 0, 1]}
    ).to_csv(folder / "tiny.csv", index=False)
    done = CliRunner().invoke(app, ["fit", str(folder / "tiny.csv"), "y ~ t", "--cluster", "g", "--cluster", "h"])
    assert done.exit_code == 0 and done.stderr.startswith("warning: The two-way clustered variance of")


@pytest.mark.parametrize("arguments", [["nosuch"], ["fit"], ["fit", "a.csv", "y ~ t", "--folds", "two"], ["show"]])
def test_a_misspelt_command_exits_with_2(arguments):
    assert "Usage:" in run(*arguments, code=2)


def test_help_teaches_and_loads_nothing_heavy():
    assert "deepreg fit pupils.csv" in run("fit", "--help")
    code = "import sys; sys.argv = ['deepreg', '--help']\nfrom deepreg.cli import main\n"
    code += "try: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "simulate" in done.stdout and "Exit codes" in done.stdout
    assert not {"torch", "pandas", "numpy", "statsmodels", "formulaic", "matplotlib"} & set(done.stdout.split())
