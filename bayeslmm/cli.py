"""The command line: fit, compare, boundary, lint, demo."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions
from rich.rule import Rule
from rich.text import Text

from bayeslmm.comparison import Comparison, compare, export
from bayeslmm.datasets import describe_dataset, load_dataset
from bayeslmm.design.lint import lint
from bayeslmm.design.names import on_terminal
from bayeslmm.design.readable import frame_columns
from bayeslmm.design.screen import Column, fill, screen_width, table_lines
from bayeslmm.errors import BayesLMMError, DatasetError
from bayeslmm.model import Model
from bayeslmm.results.summary import Summary, describe_vanished, reml_summary

app = typer.Typer(
    help="Linear mixed models: one lme4-style formula, REML and posterior compared.\n\n"
    'Example: bayeslmm compare "Reaction ~ Days + (Days | Subject)" --data sleepstudy --out results',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DEMO = ("sleepstudy", "Dyestuff2")


def _usable_folder(folder: Path | None) -> Path | None:
    """Refuse, before anything is computed, a folder that cannot be made or written to."""
    if folder is None:
        return None
    place = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    if not place.is_dir():
        raise typer.BadParameter(f"{str(place)!r} is a file. Give a folder; it is made if it does not exist.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{str(place)!r} cannot be written to. Give another folder.")
    return folder


Formula = Annotated[str, typer.Argument(help='lme4-style formula in quotes, e.g. "y ~ x + (x | g)".')]
Data = Annotated[str, typer.Option("--data", help="Name of a shipped data set, or path of a CSV or parquet file.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Column or expression of precision weights.")]
Frequency = Annotated[
    str | None, typer.Option("--frequency", help="Column or expression of how many identical rows a row stands for.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the draws.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for figures, numbers (JSON) and an HTML report.", callback=_usable_folder),
]


@app.command()
def fit(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the tidy table (fit.json, fit.csv).", callback=_usable_folder),
    ] = None,
) -> None:
    """Fit by REML (or ML) and print estimates and intervals."""
    result = Model(formula, read_data(data), weights=weights, frequency=frequency).fit(reml=not ml)
    console, tidy = _console(), result.tidy()
    show_summary(reml_summary(result, tidy), console)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        tidy.to_csv(out / "fit.csv", index=False)
        tidy.to_json(out / "fit.json", orient="records", indent=2)
        _say(console, f"Wrote {out / 'fit.csv'} and {out / 'fit.json'}.")


@app.command(name="compare")
def compare_command(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    method: Annotated[
        str, typer.Option("--method", help="auto, quadrature, importance, collapsed_nuts or nuts.")
    ] = "auto",
    draws: Annotated[int, typer.Option("--draws", help="Posterior draws over all chains.")] = 4000,
    seed: Seed = 1,
    out: Out = None,
) -> None:
    """Fit by REML, sample the posterior, and print both side by side."""
    model = Model(formula, read_data(data), weights=weights, frequency=frequency)
    both = compare(model.fit(), model.sample(draws, method=method, random_seed=seed))  # type: ignore[arg-type]
    show_comparison(both, _console())
    if out is not None:
        _write([(Path(data).stem, both)], out)


@app.command()
def boundary(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    seed: Seed = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report (boundary.html, .json).", callback=_usable_folder),
    ] = None,
) -> None:
    """Say what a variance of zero, or one near it, means for a fit, and what can be done."""
    result = Model(formula, read_data(data), weights=weights, frequency=frequency).fit(reml=not ml)
    report, console = result.boundary(random_seed=seed), _console()
    _show(console, report.text(console.width))
    if out is not None:
        from bayeslmm.report import write_boundary

        paths = write_boundary(report, out)
        _say(console, f"Wrote {' and '.join(map(str, paths))}.")


@app.command(name="lint")
def lint_command(
    formula: Formula,
    data: Annotated[str | None, typer.Option("--data", help="Data set or file, for findings about columns.")] = None,
) -> None:
    """Say where lme4, brms, bambi or formulae would read a formula differently."""
    report = lint(formula, None if data is None else read_data(data))
    console = _console()
    _show(console, report.text(console.width))


@app.command()
def demo(out: Out = Path("demo-output"), seed: Seed = 1) -> None:
    """Compare both engines on sleepstudy and on Dyestuff2, where REML says the variance is zero."""
    console, comparisons = _console(), list[tuple[str, Comparison]]()
    for name in DEMO:
        entry = describe_dataset(name)
        model = Model(entry["formula"], load_dataset(name))
        both = compare(model.fit(), model.sample(random_seed=seed))
        console.print(Rule(Text(name, style="bold")))
        _say(console, f"{entry['description']}. Source: {entry['source']}.")
        show_comparison(both, console)
        comparisons.append((name, both))
    _write(comparisons, out or Path("demo-output"))


def read_data(name: str) -> Any:
    """A shipped data set, or a CSV or parquet file.

    Raises
    ------
    DatasetError
        Neither, a file type that is not read, or a file without a table.
    """
    import pandas as pd

    path = Path(name)
    suffix = path.suffix.lower()
    if not path.exists() and suffix == "":
        return load_dataset(name)
    if not path.exists():
        raise DatasetError(f"There is no file {name!r}. Give the path of a CSV or parquet file, or a data set's name.")
    if suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except ImportError as error:
            raise DatasetError(
                f"Reading {name!r} needs pyarrow, which is not installed: pip install pyarrow."
            ) from error
    if suffix in (".csv", ".tsv", ".txt"):
        try:
            return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",")
        except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{name!r} cannot be read as a table ({error}). The first line has to hold the names of the columns, "
                "the others one row each, in UTF-8."
            ) from error
    raise DatasetError(f"{name!r} is neither CSV (.csv, .tsv) nor parquet (.parquet).")


class _Plain(Console):
    """A console on which a text is shown, and steers nothing."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(on_terminal(text), **options)


def _console() -> Console:
    # Labels such as sd_g[x] are not markup, terms such as a:b:c no emoji.
    return _Plain(width=screen_width(), markup=False, emoji=False)


def _write(comparisons: list[tuple[str, Comparison]], folder: Path) -> None:
    import matplotlib

    from bayeslmm.report import write

    matplotlib.use("Agg")
    console = _console()
    _say(console, f"\nWritten to {folder}:")
    for path in write(comparisons, folder):
        _say(console, f"  {path.name}")


def show_comparison(both: Comparison, console: Console) -> None:
    """Print a comparison, folded where the console is narrow."""
    for line in both.header:
        _say(console, line)
    for vanished in both.reml.optimum.vanished:
        _say(console, describe_vanished(both.design, vanished), style="yellow")
    table = as_table("", both.printable(), export.blocks(both))
    console.print("", table, "", sep="\n", soft_wrap=True, highlight=False)


def show_summary(summary: Summary, console: Console) -> None:
    """Print a summary."""
    title, _, rest = summary.text(console.width).partition("\n")
    _show(console, title, style="bold")
    _show(console, rest)


@dataclass(frozen=True)
class FoldedTable:
    """A table that rich shows in blocks as wide as the console.

    Attributes
    ----------
    title : str
    columns : tuple of Column
        That of the labels first.
    """

    title: str
    columns: tuple[Column, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        labels, *columns = self.columns
        lines = table_lines([labels], columns, options.max_width)
        yield Text("\n".join([self.title, *lines] if self.title else lines), no_wrap=True, overflow="ignore")


def as_table(title: str, frame: Any, groups: Mapping[str, Sequence[str]] | None = None) -> FoldedTable:
    """A table of a data frame for rich; nothing is cut."""
    labels, columns = frame_columns(frame, groups)
    return FoldedTable(title, (*labels, *columns))


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print sentences, broken at spaces where the console ends."""
    _show(console, fill(text, console.width, "  "), style)


def _show(console: Console, text: str, style: str | None = None) -> None:
    """Print lines that fit; what does not is left whole to the terminal."""
    console.print(text, style=style, soft_wrap=True, highlight=False)


def main() -> None:
    """Entry point: errors of the package are printed as text, without a traceback."""
    try:
        app()
    except BayesLMMError as error:
        console = _Plain(stderr=True, width=screen_width(), markup=False, emoji=False)
        _show(console, fill(f"Error: {error}", console.width), style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
