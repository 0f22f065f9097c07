"""The command line: fit, show, compare and simulate, with one-line errors."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepreg.errors import DeepregError, DeepregWarning, OptionError
from deepreg.files import replace_file

if TYPE_CHECKING:
    from deepreg.report.regression_table import RegressionTable
    from deepreg.report.summary import Summary
    from deepreg.report.table import Table

app = typer.Typer(
    name="deepreg",
    help="Regressions whose coefficients are functions of covariates.",
    epilog="Exit codes: 0 done; 1 the data, a file or a value do not fit; 2 the command is misspelt.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(str, Enum):
    """How a summary is written."""

    text = "text"
    markdown = "markdown"
    html = "html"
    latex = "latex"
    csv = "csv"


ENDINGS = {".txt": Format.text, ".md": Format.markdown, ".html": Format.html, ".tex": Format.latex, ".csv": Format.csv}
TABLES = (".tex", ".html", ".docx", ".md", ".csv", ".txt")

Printed = Annotated[Format, typer.Option("--format", help="How the table is printed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed: the same number gives the same digits.")]


@app.command()
def fit(
    data: Annotated[str, typer.Argument(help="A .csv, .tsv, .dta, .xlsx or Parquet file.")],
    formula: Annotated[str, typer.Argument(help='For example "y ~ t | x1 + C(region)".')],
    family: Annotated[
        str, typer.Option(help="linear, logit, poisson, negbin, weibull ...; an unknown name lists them.")
    ] = "linear",
    weights: Annotated[str | None, typer.Option(help="A column of sampling weights.")] = None,
    cluster: Annotated[list[str] | None, typer.Option(help="A column of clusters; twice for two ways.")] = None,
    offset: Annotated[str | None, typer.Option(help="A column that is added to the linear index.")] = None,
    exposure: Annotated[str | None, typer.Option(help="A column whose log is, of counts per exposure.")] = None,
    subset: Annotated[str | None, typer.Option(help='Rows to use, for example "age >= 18".')] = None,
    missing: Annotated[str, typer.Option(help="drop rows with missing values, or raise.")] = "drop",
    constant: Annotated[
        list[str] | None, typer.Option(help="A coefficient that does not vary; once for each of them.")
    ] = None,
    estimate: Annotated[
        list[str] | None, typer.Option(help="Print ate, att, atu, ame, mean or coefficient too.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Parts of the sample for cross-fitting.")] = 5,
    members: Annotated[int | None, typer.Option(help="Networks averaged in each fold.")] = None,
    repeats: Annotated[int, typer.Option(help="Independent cross-fits.")] = 1,
    learner: Annotated[list[str] | None, typer.Option(help="A learner of the stack; by default all.")] = None,
    rng: Seed = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    printed: Printed = Format.text,
    out: Annotated[
        Path | None, typer.Option(help="Write a report (.html), or the summary (.txt, .md, .tex, .csv).")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Write a table for a paper: .tex, .html, .docx ...")] = None,
    save: Annotated[Path | None, typer.Option(help="Save the fit, for show and compare.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit a regression and print its table.

    Behind the bar stands what the coefficients vary with. Without a bar they are constant, as in an ordinary
    regression.

    \b
    deepreg fit pupils.csv "grade ~ tutoring | prior_grade + C(school)" \\
        --cluster school --rng 0 --table table.tex --save fit.deepreg
    """
    with one_line_errors():
        as_wanted = None if out is None else of_ending(out, tuple(ENDINGS), "--out", overwrite)
        as_table = None if table is None else of_ending(table, TABLES, "--table", overwrite)
        if save is not None:
            free(save, "--save", overwrite)
        places = [place.resolve() for place in (out, table, save) if place is not None]
        if len(set(places)) < len(places):
            raise OptionError("--out, --table and --save name one file twice. Give each a file of its own.")
        from deepreg.api import structural
        from deepreg.targets import resolve

        model = structural(
            formula, data, family, weights=weights, cluster=cluster or None, offset=offset, exposure=exposure,
            subset=subset, missing=missing, constant=constant or None, context={},
        )  # fmt: skip
        for name in estimate or ():
            resolve(name, model.design)  # what cannot be estimated is said before a long fit, not after it
        result = model.fit(
            folds=folds, members=members, repeats=repeats, learners=learner or None, rng=rng, device=device
        )
        if save is not None:  # first, so that no later step can lose the fit
            result.save(save, overwrite=overwrite)
        summary = result.summary()
        typer.echo(written(summary, printed))
        if estimate:
            typer.echo("\n" + written(result.estimate(*estimate).table(), printed))
        if out is not None and as_wanted is not None:
            if as_wanted == ".html":
                result.report(out, overwrite=overwrite)
            else:
                put(out, written(summary, ENDINGS[as_wanted]))
        if table is not None and as_table is not None:
            from deepreg.report.etable import etable

            put_table(table, etable([result]), as_table)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A saved fit.")],
    estimate: Annotated[list[str] | None, typer.Option(help="Print ate, att, atu, ame or coefficient too.")] = None,
    printed: Printed = Format.text,
) -> None:
    """Print the table of a saved fit. Nothing in the file is executed.

    \b
    deepreg show fit.deepreg --format latex > table.tex
    """
    with one_line_errors():
        from deepreg.storage.loading import load

        result = load(file)
        typer.echo(written(result.summary(), printed))
        if estimate:
            typer.echo("\n" + written(result.estimate(*estimate).table(), printed))


@app.command()
def compare(
    files: Annotated[list[Path], typer.Argument(help="Saved fits, one for each column.")],
    style: Annotated[str, typer.Option(help="econ, aer, qje or plain.")] = "econ",
    effects: Annotated[bool, typer.Option("--effects", help="Average effects, not average coefficients.")] = False,
    printed: Printed = Format.text,
    out: Annotated[Path | None, typer.Option(help="Write the table: .tex, .html, .docx, .md, .csv, .txt.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print saved fits side by side.

    \b
    deepreg compare ols.deepreg flexible.deepreg --style aer --out table.tex
    """
    with one_line_errors():
        ending = None if out is None else of_ending(out, TABLES, "--out", overwrite)
        from deepreg.report.etable import etable
        from deepreg.storage.loading import load

        found = etable([load(file) for file in files], style=style, effects=effects)
        typer.echo(written(found, printed))
        if out is not None and ending is not None:
            put_table(out, found, ending)


@app.command()
def simulate(
    name: Annotated[str | None, typer.Argument(help="A design; without one, their names are printed.")] = None,
    n: Annotated[int, typer.Option(help="Rows.")] = 2000,
    rng: Seed = None,
    out: Annotated[Path | None, typer.Option(help="Write the data here, as .csv.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw data whose true effects are known, and print the formula and the truth.

    \b
    deepreg simulate tutorial --n 1000 --rng 0 --out data.csv
    """
    with one_line_errors():
        from deepreg import simulate as designs

        if name is None:
            typer.echo("\n".join(designs.names()))
            return
        if out is not None:
            of_ending(out, (".csv",), "--out", overwrite)
        drawn = designs.get(name)(n=n, rng=rng)
        truth = ", ".join(f"{target} = {value:.6g}" for target, value in drawn.truth.items())
        typer.echo(f"formula: {drawn.formula}\nfamily: {drawn.family}\ntruth: {truth}")
        if out is not None:
            put(out, drawn.frame.to_csv(index=False))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What is wrong with data, files or values in one line on the error stream, and exit code 1."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DeepregWarning)
            warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
            yield
    except DeepregError as error:
        typer.echo("error: " + " ".join(str(error).split()), err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"error: {error.filename or ''}: {error.strerror or error}", err=True)
        raise typer.Exit(1) from None


def of_ending(path: Path, allowed: tuple[str, ...], option: str, overwrite: bool) -> str:
    """The ending of a file that can be written; said before a long fit, not after it."""
    free(path, option, overwrite)
    if path.suffix.lower() not in allowed:
        raise OptionError(f"{option} {path}: the name has to end in {', '.join(allowed)}.")
    return path.suffix.lower()


def free(path: Path, option: str, overwrite: bool) -> None:
    """Raise OptionError where a file exists, or its folder does not."""
    if path.exists() and not overwrite:
        raise OptionError(f"{option} {path} exists. Add --overwrite to replace it, or choose another name.")
    if not path.parent.is_dir():
        raise OptionError(f"{option} {path}: there is no folder {path.parent}. Make it first.")


def written(table: "Summary | Table | RegressionTable", form: Format) -> str:
    return {
        Format.text: table.as_text, Format.markdown: table.as_markdown, Format.html: table.as_html,
        Format.latex: table.as_latex, Format.csv: table.as_csv,
    }[form]()  # fmt: skip


def put(path: Path, text: str) -> None:
    replace_file(path, (text.rstrip("\n") + "\n").encode())


def put_table(path: Path, table: "RegressionTable", ending: str) -> None:
    if ending == ".docx":
        table.to_docx(path)
    else:
        put(path, written(table, ENDINGS[ending]))


def main() -> None:
    """The console script `deepreg`."""
    app()


if __name__ == "__main__":
    main()
