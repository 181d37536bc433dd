"""The command line: fit, compare, boundary, lint, demo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions
from rich.rule import Rule
from rich.text import Text

from bayeslmm.arguments import choice
from bayeslmm.comparison import Comparison, compare, export
from bayeslmm.datasets import describe_dataset, load_dataset
from bayeslmm.design.lint import lint
from bayeslmm.design.names import on_terminal
from bayeslmm.design.readable import frame_columns
from bayeslmm.design.screen import Column, fill, screen_width, table_lines
from bayeslmm.errors import DesignError, StorageError
from bayeslmm.model import Model
from bayeslmm.outcome import run
from bayeslmm.reading import Options, read_data, read_table
from bayeslmm.results.summary import Summary, describe_vanished, reml_summary
from bayeslmm.writing import check_folder

__all__ = ["app", "as_table", "main", "read_data", "show_comparison", "show_summary"]

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
    try:
        return check_folder(folder)
    except StorageError as error:
        raise typer.BadParameter(str(error)) from error


def _known_detail(detail: str) -> str:
    """Refuse, before anything is computed, what no boundary report has."""
    from bayeslmm.boundary.build import DETAIL

    return _chosen("--detail", detail, DETAIL)


def _known_sections(names: list[str] | None) -> list[str]:
    """Names of sections, given together with commas or one by one."""
    from bayeslmm.boundary.build import OPTIONAL

    given = [name.strip() for text in names or () for name in text.split(",")]
    return [_chosen("--leave-out", name, OPTIONAL) for name in given if name]


def _chosen(option: str, value: str, known: Sequence[str]) -> str:
    try:
        return choice(option, value, known, DesignError)
    except DesignError as error:
        raise typer.BadParameter(str(error)) from error


Formula = Annotated[str, typer.Argument(help='lme4-style formula in quotes, e.g. "y ~ x + (x | g)".')]
Data = Annotated[
    str,
    typer.Option("--data", help="Name of a shipped data set, path of a CSV or parquet file, or - for standard input."),
]
Na = Annotated[
    list[str] | None,
    typer.Option(
        "--na",
        help="Word that means a missing value, in any column; may be given several times. Empty cells always do, and "
        "NA, NaN, null, None in columns of numbers; in columns of text these are levels.",
    ),
]
Sep = Annotated[str, typer.Option("--sep", help="Separator of the columns, e.g. ';' or tab; found out by default.")]
Decimal = Annotated[str, typer.Option("--decimal", help="Decimal sign of numbers: . or , ; found out by default.")]
Encoding = Annotated[str, typer.Option("--encoding", help="Encoding of the file, e.g. cp1252; found out by default.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Column or expression of precision weights.")]
Frequency = Annotated[
    str | None, typer.Option("--frequency", help="Column or expression of how many identical rows a row stands for.")
]
Detail = Annotated[
    str,
    typer.Option(
        "--detail",
        help="How much the boundary report says: brief (the verdict, the components and the criterion at zero), full, "
        "or auto (in full unless there is nothing to worry about).",
        callback=_known_detail,
    ),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(
        "--leave-out",
        metavar="NAME[,NAME]",
        help="Sections of the boundary report that are not computed: tests, zero_rate, posterior, penalised.",
        callback=_known_sections,
    ),
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
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the tidy table (fit.json, fit.csv).", callback=_usable_folder),
    ] = None,
) -> None:
    """Fit by REML (or ML) and print estimates and intervals."""
    from bayeslmm.report import FIT_FILES, write_estimates

    model = _model(formula, _read(data, na, sep, decimal, encoding), weights=weights, frequency=frequency)
    if out is not None:
        check_folder(out, FIT_FILES)
    result = model.fit(reml=not ml)
    tidy = result.tidy()
    # Files first: they are not lost if who reads the output closes it.
    paths = [] if out is None else write_estimates(tidy, out)
    console = _console()
    show_summary(reml_summary(result, tidy), console)
    if out is not None:
        _say(console, f"Wrote {' and '.join(map(str, paths))}.")


@app.command(name="compare")
def compare_command(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    method: Annotated[
        str, typer.Option("--method", help="auto, quadrature, importance, collapsed_nuts or nuts.")
    ] = "auto",
    draws: Annotated[int, typer.Option("--draws", help="Posterior draws over all chains.")] = 4000,
    seed: Seed = 1,
    out: Out = None,
    detail: Detail = "auto",
    leave_out: LeaveOut = None,
) -> None:
    """Fit by REML, sample the posterior, and print both side by side.

    --detail and --leave-out are about the boundary part of the report that --out writes.
    """
    model = _model(formula, _read(data, na, sep, decimal, encoding), weights=weights, frequency=frequency)
    name = "standard input" if data == "-" else Path(data).stem
    if out is not None:
        _check([(name, model)], out)
    both = compare(model.fit(), model.sample(draws, method=method, random_seed=seed))  # type: ignore[arg-type]
    paths = [] if out is None else _write([(name, both)], out, detail=detail, leave_out=leave_out or ())
    show_comparison(both, _console())
    if out is not None:
        _list(paths, out)


@app.command()
def boundary(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    seed: Seed = 1,
    detail: Detail = "auto",
    leave_out: LeaveOut = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report (boundary.html, .json).", callback=_usable_folder),
    ] = None,
) -> None:
    """Say what a variance of zero, or one near it, means for a fit, and what can be done."""
    from bayeslmm.report import BOUNDARY_FILES, write_boundary

    model = _model(formula, _read(data, na, sep, decimal, encoding), weights=weights, frequency=frequency)
    if out is not None:
        check_folder(out, BOUNDARY_FILES)
    report = model.fit(reml=not ml).boundary(random_seed=seed, detail=detail, leave_out=leave_out or ())  # type: ignore[arg-type]
    console = _console()
    paths = [] if out is None else write_boundary(report, out)
    _show(console, report.text(console.width))
    if out is not None:
        _say(console, f"Wrote {' and '.join(map(str, paths))}.")


@app.command(name="lint")
def lint_command(
    formula: Formula,
    data: Annotated[str | None, typer.Option("--data", help="Data set or file, for findings about columns.")] = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
) -> None:
    """Say where lme4, brms, bambi or formulae would read a formula differently."""
    report = lint(formula, None if data is None else _read(data, na, sep, decimal, encoding))
    console = _console()
    _show(console, report.text(console.width))


@app.command()
def demo(out: Out = Path("demo-output"), seed: Seed = 1) -> None:
    """Compare both engines on sleepstudy and on Dyestuff2, where REML says the variance is zero."""
    console, comparisons = _console(), list[tuple[str, Comparison]]()
    models = [(name, Model(describe_dataset(name)["formula"], load_dataset(name))) for name in DEMO]
    _check(models, out or Path("demo-output"))
    for name, model in models:
        entry = describe_dataset(name)
        both = compare(model.fit(), model.sample(random_seed=seed))
        console.print(Rule(Text(name, style="bold")))
        _say(console, f"{entry['description']}. Source: {entry['source']}.")
        show_comparison(both, console)
        comparisons.append((name, both))
    folder = out or Path("demo-output")
    _list(_write(comparisons, folder), folder)


def _read(data: str, na: list[str] | None, sep: str, decimal: str, encoding: str) -> Any:
    """The table of --data; what was decided when it was read is said before anything else."""
    reading = read_table(data, Options(tuple(na or ()), sep, decimal, encoding))
    _remark("standard input" if data == "-" else data, reading.notes)
    return reading.frame


def _model(formula: str, data: Any, **options: Any) -> Model:
    """The model, and what is odd about its data."""
    model = Model(formula, data, **options)
    _remark("data", model.design.notes.lines)
    return model


def _remark(about: str, notes: Sequence[str]) -> None:
    console = _Plain(stderr=True, width=screen_width(), markup=False, emoji=False)
    for note in notes:
        _say(console, f"Note ({about}): {note}")


class _Plain(Console):
    """A console on which a text is shown, and steers nothing."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(on_terminal(text), **options)


def _console() -> Console:
    # Labels such as sd_g[x] are not markup, terms such as a:b:c no emoji.
    return _Plain(width=screen_width(), markup=False, emoji=False)


def _check(models: list[tuple[str, Model]], folder: Path) -> None:
    from bayeslmm.report import check_report

    check_report([(name, model.design) for name, model in models], folder)


def _write(comparisons: list[tuple[str, Comparison]], folder: Path, **boundary: Any) -> list[Path]:
    import matplotlib

    from bayeslmm.report import write

    matplotlib.use("Agg")
    return write(comparisons, folder, **boundary)


def _list(paths: list[Path], folder: Path) -> None:
    console = _console()
    _say(console, f"\nWritten to {folder}:")
    for path in paths:
        _say(console, f"  {path.name}")


def show_comparison(both: Comparison, console: Console) -> None:
    """Print a comparison, folded where the console is narrow."""
    for line in both.header:
        _say(console, line)
    for vanished in both.reml.optimum.vanished:
        _say(console, describe_vanished(both.design, vanished), style="yellow")
    frame = both.printable()
    table = as_table("", frame, export.blocks(both, frame))
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
    """Entry point: whatever goes wrong is said in words, without a traceback."""
    run(app, _complain)


def _complain(text: str) -> None:
    console = _Plain(stderr=True, width=screen_width(), markup=False, emoji=False)
    # On one line: what reads errors reads lines, and a terminal folds them itself.
    _show(console, text, style="red")


if __name__ == "__main__":
    main()
