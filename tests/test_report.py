"""Tables and summaries: what they print, what they escape, what they refuse."""

import csv
import dataclasses
import io
import math
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from deepreg.errors import NotAvailable, OptionError
from deepreg.report.render import own_templates, wrap
from deepreg.report.summary import Summary
from deepreg.report.table import Table, number

COLUMNS = ["coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
LONG = "C(county)[T.Los Angeles County, California]:C(arm)[T.treated_b]"
HOSTILE = [
    "<script>alert('x')</script>",
    "a_b%&#$",
    "50% & more",
    "{x} ~ ^ \\ |",
    "*[x](http://y) _z_",
    "[T.b]",
    "a\nb",
    "λ",
]
SUMMARY = """
                        Structural Regression Results
==============================================================================
Dep. Variable:            final_grade    No. Observations:               2,000
Model:             structural, linear    Cross-fitting:  5 folds x 4 members x
Features:  struggling + prior_grade +                                 1 repeat
                       C(grade_level)
==============================================================================
                               coef  std err        z   P>|z|   [0.025  0.975]
------------------------------------------------------------------------------
Intercept                   70.9200   0.1900  373.263  <0.001   70.550  71.290
tutoring                    -6.3500   2.7000   -2.352   0.019  -11.642  -1.058
==============================================================================
                                   Effects
------------------------------------------------------------------------------
                               coef  std err        z   P>|z|   [0.025  0.975]
------------------------------------------------------------------------------
ATE tutoring (1 vs 0)        6.3512
==============================================================================
                                 Diagnostics
------------------------------------------------------------------------------
Held-out loss:                 0.4312    Members trained:                1,020
Largest share of one row in the sum of psi squared:                       0.4%
==============================================================================

Notes:
[1] Standard errors from the influence function (Farrell, Liang and Misra),
    heteroscedasticity-robust.
[2] Read me."""


def frame(names=("Intercept", "tutoring")) -> pd.DataFrame:
    rows = [[70.92, 0.19, 373.26315, 0.0, 70.55, 71.29], [-6.35, 2.7, -2.3519, 0.0187, -11.6419, -1.0581]]
    return pd.DataFrame([rows[i % 2] for i in range(len(names))], index=list(names), columns=COLUMNS)


@pytest.fixture
def summary() -> Summary:
    effects = pd.DataFrame([[6.3512] + [math.nan] * 5], index=["ATE tutoring (1 vs 0)"], columns=COLUMNS)
    diagnostics = [
        ("Held-out loss:", 0.4312),
        ("Members trained:", 1020),
        ("Largest share of one row in the sum of psi squared:", "0.4%"),
    ]
    return Summary(
        "Structural Regression Results",
        (
            ("Dep. Variable:", "final_grade"),
            ("Model:", "structural, linear"),
            ("Features:", "struggling + prior_grade + C(grade_level)"),
            ("No. Observations:", "2,000"),
            ("Cross-fitting:", "5 folds x 4 members x 1 repeat"),
        ),
        (
            Table.from_frame(frame()),
            Table.from_frame(effects, title="Effects"),
            Table.from_pairs(diagnostics, title="Diagnostics"),
        ),
        (
            "Standard errors from the influence function (Farrell, Liang and Misra), heteroscedasticity-robust.",
            "Read me.",
        ),
    )


class Page(HTMLParser):
    """The texts of an HTML fragment by tag, and the tags that were never closed or not ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.scopes: list[str | None] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
        self.open.append(tag)
        self.texts.setdefault(tag, []).append("")
        if tag == "th":
            self.scopes.append(dict(attrs).get("scope"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


def test_text_is_statsmodels_layout(summary):
    assert str(summary) == summary.as_text() == repr(summary) == SUMMARY.strip("\n")


@pytest.mark.parametrize(
    "names", [["t"], [LONG], ["x" * 60, LONG * 3], HOSTILE], ids=["short", "long", "longest", "hostile"]
)
def test_no_line_is_wider_than_78_and_rules_are_78(names, summary):
    table = Table.from_frame(frame(names), title="A title " * 20, notes=("A note " * 40,))
    long = dataclasses.replace(
        summary,
        header=(*summary.header, (LONG, LONG), ("x" * 90, "y" * 90), ("Features:", "feature_name + " * 30)),
        body=(table,),
    )
    for text in (table.as_text(), long.as_text()):
        lines = text.splitlines()
        assert max(map(len, lines)) == 78
        assert {len(line) for line in lines if set(line) <= {"=", "-"} and line} == {78}
        assert all(line == line.rstrip() for line in lines)


def test_a_long_name_wraps_beside_its_numbers_and_loses_nothing():
    lines = Table.from_frame(frame([LONG, "t"])).as_text().splitlines()
    assert sum("70.9200" in line and "71.290" in line for line in lines) == 1
    start = next(i for i, line in enumerate(lines) if "70.9200" in line)
    stop = next(i for i, line in enumerate(lines) if line.startswith("t "))
    width = lines[start].index("70.9200")
    assert "".join(line[:width] for line in lines[start:stop]).replace(" ", "") == LONG.replace(" ", "")


def test_a_long_header_value_is_given_the_whole_width_below(summary):
    features = " + ".join(f"feature_{i}" for i in range(30))
    text = dataclasses.replace(summary, header=(("Features:", features), *summary.header)).as_text()
    block = text.split("=" * 78)[1].strip("\n").splitlines()
    assert block[0].startswith("Dep. Variable:")
    start = next(i for i, line in enumerate(block) if line.startswith("Features:") and "feature_0" in line)
    assert " ".join(" ".join(block[start:]).split()) == f"Features: {features}"
    assert len(block) - start == 6


def test_control_characters_reach_no_terminal():
    assert "\x1b" not in Table.from_frame(frame(["a\x1b[31mb"]), title="\x07").as_text()


def test_columns_that_do_not_fit_continue_below():
    wide = pd.DataFrame([[float(i) for i in range(20)]], index=["t"], columns=[f"model {i}" for i in range(20)])
    text = Table.from_frame(wide).as_text()
    assert max(map(len, text.splitlines())) == 78
    assert all(f"model {i}" in text and f"{i}.0000" in text for i in range(20))


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("C(arm)[T.b]:price", 12, ["C(arm)[T.b]:", "price"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("", 3, [""]),
    ],
)
def test_wrap_breaks_at_spaces_then_punctuation_then_anywhere(text, width, lines):
    assert wrap(text, width) == lines


@pytest.mark.parametrize(
    ("x", "form", "printed"),
    [
        (70.92, "estimate", "70.9200"),
        (-1.23456, "estimate", "-1.2346"),
        (0.0, "estimate", "0.0000"),
        (-0.0, "estimate", "0.0000"),
        (123456.7, "estimate", "1.235e+05"),
        (0.000312345, "estimate", "0.0003123"),
        (-0.0000123456, "estimate", "-1.235e-05"),
        (-0.00041234, "interval", "-0.000412"),
        (0.00110, "estimate", "0.0011"),  # and its interval must not exclude it:
        (0.00119, "interval", "0.00119"),
        (5.8251, "interval", "5.825"),
        (-0.0001, "statistic", "0.000"),
        (-2.3519, "statistic", "-2.352"),
        (0.0, "pvalue", "<0.001"),
        (0.00099, "pvalue", "<0.001"),
        (0.001, "pvalue", "0.001"),
        (0.04567, "pvalue", "0.046"),
        (1.0, "pvalue", "1.000"),
        (2000.0, "count", "2,000"),
        (0.5, ".1%", "50.0%"),
        (math.nan, "pvalue", ""),
        (math.inf, "estimate", "inf"),
    ],
)
def test_numbers(x, form, printed):
    assert number(x, form) == printed


def test_formats_are_chosen_by_column_and_by_the_caller():
    data = pd.DataFrame(
        {"coef": [1.0], "P>|t|": [1e-9], "[0.05": [0.5], "0.95]": [1.5], "t": [9.0], "n": [2000]}, index=["a"]
    )
    assert Table.from_frame(data).cells == (("1.0000", "<0.001", "0.500", "1.500", "9.000", "2,000"),)
    assert Table.from_frame(data, formats={"coef": ".2f", "n": "estimate"}).cells[0][::5] == ("1.00", "2000.0000")


def test_from_frame_keeps_words_and_takes_missing_of_every_kind():
    data = pd.DataFrame({"a": pd.array([1.5, None], dtype="Float64"), "b": ["word", None]}, index=["x", "y"])
    assert Table.from_frame(data).cells == (("1.5000", "word"), ("", ""))


def test_html_is_accessible_small_and_reads_back_as_floats():
    table = Table.from_frame(frame(["Intercept", "tutoring", "price"]), title="Coefficients")
    html = table.as_html()
    page = Page(html)
    assert page.texts["caption"] == ["Coefficients"]
    assert page.scopes == ["col"] * 6 + ["row"] * 3
    assert len(html.encode()) < 3000
    cells = page.texts["td"][1:]
    assert [float(c) for i, c in enumerate(cells) if i % 6 != 3] == [
        float(c) for row in table.cells for i, c in enumerate(row) if i != 3
    ]
    assert cells[3::6] == ["<0.001", "0.019", "<0.001"]
    assert "http" not in html


def test_read_html_reads_the_table_back(summary):
    pytest.importorskip("lxml")
    read = pd.read_html(io.StringIO(summary.body[0].as_html()), index_col=0)[0]
    assert list(read.index) == ["Intercept", "tutoring"]
    assert list(read.columns) == COLUMNS
    assert read["coef"].tolist() == [70.92, -6.35]
    assert len(pd.read_html(io.StringIO(summary.as_html()))) == 4


@pytest.mark.parametrize("hostile", HOSTILE)
def test_html_shows_hostile_text_as_it_is(hostile, summary):
    data = frame([hostile]).rename(columns={"coef": hostile})
    table = Table.from_frame(data, title=hostile, notes=(hostile,))
    whole = dataclasses.replace(summary, title=hostile, header=((hostile, hostile),), body=(table,), notes=(hostile,))
    for html in (table.as_html(), whole.as_html()):
        page = Page(html)
        assert {hostile} >= set(page.texts["caption"])
        assert hostile in page.texts["th"]
        assert f"[1] {hostile}" in page.texts["p"]
    assert page.texts["th"].count(hostile) == 3
    assert hostile in page.texts["td"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b%&#$", r"a\_b\%\&\#\$"),
        ("50% & more", r"50\% \& more"),
        ("{x} ~ ^ \\", r"\{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("P>|z|<", r"P\textgreater{}\textbar{}z\textbar{}\textless{}"),
        ("[T.b]", "{[}T.b]"),
        ("*x", "{*}x"),
        ("a\n\nb", "a b"),
        ("a--b", "a-{}-b"),
        ("λς ΑΩ", r"\ensuremath{\lambda}\ensuremath{\varsigma} \ensuremath{A}\ensuremath{\Omega}"),
    ],
)
def test_latex_escapes_everything_everywhere(text, escaped, summary):
    table = Table.from_frame(frame([text]).rename(columns={"coef": text}), title=text, notes=(text,))
    for tex in (table.as_latex(), dataclasses.replace(summary, title=text, body=(table,), notes=()).as_latex()):
        assert f"\n{escaped} & " in tex
        assert f"\n & {escaped} & " in tex
        assert f"\\item {escaped}\n" in tex
        assert f"\\caption{{{escaped}" in tex
    assert f"\\caption{{{escaped}}}" in table.as_latex(caption=text)


def test_latex_is_one_booktabs_table_with_real_minus_signs():
    table = Table.from_frame(frame().assign(coef=[1.5, -0.0000123456]), title="Coefficients", notes=("Robust.",))
    lines = table.as_latex(label="tab:a_b").splitlines()
    assert lines[0] == r"% Requires: \usepackage{booktabs,threeparttable}"
    assert [line for line in lines if line.startswith(("\\begin", "\\end"))] == [
        r"\begin{table}[htbp]",
        r"\begin{threeparttable}",
        r"\begin{tabular}{@{}lrrrrrr@{}}",
        r"\end{tabular}",
        r"\begin{tablenotes}[flushleft]",
        r"\end{tablenotes}",
        r"\end{threeparttable}",
        r"\end{table}",
    ]
    assert r"\label{tab:a_b}" in lines
    row = r"tutoring & $-$1.235$\times 10^{-5}$ & 2.7000 & $-$2.352 & 0.019 & $-$11.642 & $-$1.058 \\"
    assert row in lines


def test_latex_fragment_is_the_tabular_alone(summary):
    tex = summary.body[0].as_latex(fragment=True, caption="no", label="no")
    assert tex.splitlines()[0] == r"% Requires: \usepackage{booktabs}"
    assert tex.splitlines()[1].startswith(r"\begin{tabular}")
    assert tex.endswith(r"\end{tabular}")
    assert summary.as_latex(fragment=True).count(r"\begin{") == 3


def test_latex_summary_is_one_environment_per_table_with_header_and_notes_under_the_first(summary):
    first, second, third = summary.as_latex(label="tab:fit").split("\n\n")
    assert r"\caption{Structural Regression Results}" in first
    assert r"\item Dep. Variable: final\_grade. Model: structural, linear." in first
    assert r"\item Read me." in first
    assert r"\caption{Effects}" in second and r"\label{tab:fit-2}" in second and "tablenotes" not in second
    assert r"Members trained: & 1,020 \\" in third and r"\midrule" not in third


def test_latex_gives_long_names_a_paragraph():
    tex = Table.from_frame(frame([LONG])).as_latex()
    assert tex.startswith(r"% Requires: \usepackage{array,booktabs,threeparttable}")
    assert r"\begin{tabular}{@{}>{\raggedright\arraybackslash}p{" in tex
    assert r"California]\allowbreak{}:\allowbreak{}C(arm)\allowbreak{}{[}T" in tex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs a TeX engine")
def test_latex_compiles(summary, tmp_path):
    table = Table.from_frame(frame([*HOSTILE[1:-1], LONG]), title=HOSTILE[1], notes=tuple(HOSTILE[:-1]))
    body = dataclasses.replace(summary, body=(*summary.body, table)).as_latex(label="tab:a_b")
    packages = r"\documentclass{article}\usepackage{array,booktabs,threeparttable}\begin{document}"
    (tmp_path / "page.tex").write_text(f"{packages}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert b"Overfull" not in done.stdout


def test_markdown_is_a_table_with_its_markup_escaped():
    names = ["a|b", "<script>", "final_grade", "_x_", "*x*", "[x](y)", "$x$"]
    lines = Table.from_frame(frame(names), title="a|b", notes=("<b>",)).as_markdown().splitlines()
    assert lines[0] == r"**a\|b**"
    assert lines[2] == r"| | coef | std err | z | P>\|z\| | [0.025 | 0.975] |"
    assert lines[3] == "|:---" + "|---:" * 6 + "|"
    shown = [line.split(" | ")[0].removeprefix("| ") for line in lines[4 : 4 + len(names)]]
    assert shown == [r"a\|b", r"\<script>", "final_grade", r"\_x\_", r"\*x\*", r"[x]\(y)", r"\$x\$"]
    assert lines[5].endswith("| -6.3500 | 2.7000 | -2.352 | 0.019 | -11.642 | -1.058 |")
    assert lines[-1] == r"[1] \<b>"


def test_markdown_summary_holds_every_part(summary):
    text = summary.as_markdown()
    assert "\n\n\n" not in text
    assert "value" not in text  # a list of labels and values has no heading
    for part in (
        "**Structural Regression Results**",
        "| Model: | structural, linear |",
        "**Effects**",
        "| Members trained: | 1,020 |",
    ):
        assert part in text.splitlines()
    assert text.endswith("[2] Read me.")


def test_csv_keeps_every_digit_and_reads_back(summary):
    data = frame([LONG, 'a,"b"']).assign(coef=[1 / 3, math.nan])
    read = pd.read_csv(io.StringIO(Table.from_frame(data).as_csv()), index_col=0)
    pd.testing.assert_frame_equal(read, data)
    rows = list(csv.reader(io.StringIO(summary.as_csv())))
    assert rows[0] == ["Structural Regression Results"]
    assert rows[3] == ["Features:", "struggling + prior_grade + C(grade_level)"]
    assert ["Effects"] in rows and ["tutoring", *map(str, frame().loc["tutoring"])] in rows
    assert rows[-1] == ["Read me."]


def test_to_frame_returns_the_numbers(summary):
    pd.testing.assert_frame_equal(summary.to_frame(), frame())
    assert set(summary.to_frame().dtypes) == {pd.Series([1.0]).dtype}
    with pytest.raises(NotAvailable, match="no table"):
        dataclasses.replace(summary, body=()).to_frame()


def test_add_extra_txt_returns_a_new_summary(summary):
    before = summary.as_text()
    longer = summary.add_extra_txt(["First.", "Second."])
    assert summary.as_text() == before
    assert longer.notes == (*summary.notes, "First.", "Second.")
    assert longer.as_text() == before + "\n[3] First.\n[4] Second."
    with pytest.raises(OptionError, match="list"):
        summary.add_extra_txt("one string")


def test_notebooks_show_html_and_latex(summary):
    assert summary._repr_html_() == summary.as_html()
    assert summary._repr_latex_() == summary.as_latex()
    assert summary.body[0]._repr_html_() == summary.body[0].as_html()
    assert summary.body[0]._repr_latex_() == summary.body[0].as_latex()
    assert str(summary.body[0]) == summary.body[0].as_text()


def test_the_second_table_holds_the_coefficients_as_in_statsmodels(summary):
    assert summary.tables[1] is summary.body[0]
    assert summary.tables[0].pairs == summary.header


def test_notes_of_tables_are_numbered_after_those_of_the_summary(summary):
    table = dataclasses.replace(summary.body[0], notes=("Of the table.",))
    assert dataclasses.replace(summary, body=(table,)).as_text().endswith("[2] Read me.\n[3] Of the table.")


def test_everything_is_frozen(summary):
    for thing in (summary, summary.body[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.title = "other"


def test_the_callers_templates_come_first_and_are_escaped(summary, tmp_path):
    (tmp_path / "table.html.j2").write_text("<b>{{ table.rows[0] }}</b>", encoding="utf-8")
    (tmp_path / "table.tex.j2").write_text(r"\VAR{table.rows[0]}", encoding="utf-8")
    table = Table.from_frame(frame(["<a_b>"]))
    assert table.as_html(templates=tmp_path) == "<b>&lt;a_b&gt;</b>"
    assert table.as_latex(templates=str(tmp_path)) == r"\textless{}a\_b\textgreater{}"
    assert table.as_text(templates=tmp_path) == table.as_text()
    assert "<b>Intercept</b>" in summary.as_html(templates=tmp_path)
    assert table.as_html() != table.as_html(templates=tmp_path)


def test_own_templates_are_the_packages_or_the_checkouts_never_a_strangers(tmp_path):
    package = tmp_path / "deepreg"
    stranger = tmp_path / "templates"
    package.mkdir()
    stranger.mkdir()
    with pytest.raises(NotAvailable, match="missing"):
        own_templates(package)
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "other"\n', encoding="utf-8")
    with pytest.raises(NotAvailable, match="missing"):
        own_templates(package)
    project.write_text('[tool.hatch]\n"templates" = "deepreg/templates"\n', encoding="utf-8")
    assert own_templates(package) == stranger
    (package / "templates").mkdir()
    assert own_templates(package) == package / "templates"
    assert {path.suffix for path in Path(own_templates()).iterdir()} == {".j2"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: Table.from_frame(frame(), formats={"coef": "coefficient"}), "'coefficient'.*'estimate'"),
        (lambda t: Table.from_frame(frame(), formats={"cof": "estimate"}), "cof.*coef"),
        (lambda t: Table.from_pairs([("a", 1.0)], format="d"), "'d' is unknown"),
        (lambda t: dataclasses.replace(t, rows=("one",)), "1 rows"),
        (lambda t: dataclasses.replace(t, formats=("estimate",)), "1 formats"),
        (lambda t: t.as_html(templates="no/such/folder"), "no/such/folder"),
        (lambda t: t.as_latex(label="a}b"), "a}b"),
    ],
)
def test_a_wrong_option_is_answered_with_what_is_allowed(wrong, message):
    with pytest.raises(OptionError, match=message):
        wrong(Table.from_frame(frame()))


@pytest.mark.parametrize("form", ["as_text", "as_html", "as_latex", "as_markdown", "as_csv"])
def test_empty_tables_and_summaries_still_print(form):
    for table in (
        Table.from_frame(pd.DataFrame(columns=COLUMNS, dtype=float)),
        Table.from_frame(pd.DataFrame(index=["a"])),
    ):
        assert getattr(table, form)()
        assert getattr(Summary("Nothing", (), (table,)), form)()
    getattr(Summary("Nothing", (), ()), form)()
