"""The command line: fit, compare, anova, means, power, explore, to, boundary, lint, demo."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bayeslmm import __version__, command_means, commands
from bayeslmm.command_data import WORK, model_of, name_of, read, sample
from bayeslmm.command_results import check_files, finish, use_files
from bayeslmm.imports import load
from bayeslmm.option_values import in_options
from bayeslmm.options import (
    Data,
    Ddf,
    Decimal,
    Detail,
    Draws,
    Encoding,
    Formula,
    Formulas,
    Frequency,
    LeaveOut,
    Method,
    Ml,
    Na,
    NaAction,
    Out,
    Package,
    Prior,
    Residual,
    ResidualSd,
    Seed,
    Sep,
    Weights,
    usable_folder,
)
from bayeslmm.outcome import run

if TYPE_CHECKING:
    from rich.console import Console

    from bayeslmm.comparison import Comparison
    from bayeslmm.console import as_table, show_comparison, show_summary
    from bayeslmm.model import Model
    from bayeslmm.reading import read_data

__all__ = ["app", "as_table", "main", "read_data", "show_comparison", "show_summary"]

_HOMES = {
    "as_table": "bayeslmm.console",
    "read_data": "bayeslmm.reading",
    "show_comparison": "bayeslmm.console",
    "show_summary": "bayeslmm.console",
}


class _Commands(TyperGroup):
    """The commands with their first sentences, of which a list without frames would show what fits in one line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(500)) for name in self.list_commands(ctx)]
            )


# Frames around the help would take twice the time to load that the command line takes itself.
app = typer.Typer(
    cls=_Commands,
    help="Linear mixed models: one lme4-style formula, REML and posterior compared.\n\n"
    'Example: bayeslmm compare "Reaction ~ Days + (Days | Subject)" --data sleepstudy --out results',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
DEMO = ("sleepstudy", "Dyestuff2")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bayeslmm.cli' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bayeslmm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """What every command has."""


@app.command()
def fit(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    residual_sd: ResidualSd = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    ml: Ml = False,
    ddf: Ddf = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the table (fit.csv, fit.json), figures and an HTML report.",
            callback=usable_folder,
        ),
    ] = None,
) -> None:
    """Fit by REML (or ML) and print estimates and intervals.

    Example: bayeslmm fit "Yield ~ 1 + (1 | Batch)" --data Dyestuff

    Example: bayeslmm fit "Reaction ~ Days + (Days | Subject)" --data sleepstudy --ddf kenward-roger
    """
    load(*WORK)
    from bayeslmm.console import show_summary
    from bayeslmm.output import check_fit, write_fit
    from bayeslmm.results.fit_summary import fit_summary

    model = model_of(
        formula,
        read(data, na, sep, decimal, encoding),
        weights=weights,
        residual_sd=residual_sd,
        residual=residual,
        frequency=frequency,
        na_action=na_action,
    )
    name = name_of(data)
    check_fit(name, model.design, out)
    result = model.fit(reml=not ml)
    tidy = result.tidy(ddf=ddf)  # type: ignore[arg-type]

    def show(console: "Console") -> None:
        summary = fit_summary(result, ddf, tidy=tidy)  # type: ignore[arg-type]
        show_summary(replace(summary, remarks=tuple(map(in_options, summary.remarks))), console)

    def write(folder: Path) -> list[Path]:
        use_files()
        return write_fit(name, result, folder, tidy, ddf)  # type: ignore[arg-type]

    finish(out, write, show)


@app.command(name="compare")
def compare_command(
    formulas: Formulas,
    data: Data,
    weights: Weights = None,
    residual_sd: ResidualSd = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    method: Method = None,
    draws: Draws = None,
    priors: Prior = None,
    seed: Seed = 1,
    out: Out = None,
    detail: Detail = "auto",
    leave_out: LeaveOut = None,
) -> None:
    """Fit by REML, sample the posterior, and print both side by side; or several models, one row each.

    Example: bayeslmm compare "Yield ~ 1 + (1 | Batch)" --data Dyestuff --out results

    Example: bayeslmm compare "Reaction ~ 1 + (1 | Subject)" "Reaction ~ Days + (1 | Subject)" --data sleepstudy

    --detail and --leave-out are about the boundary part of the report that --out writes.
    """
    load(*WORK)
    from bayeslmm.comparison import compare
    from bayeslmm.console import show_comparison, terminal

    frame = read(data, na, sep, decimal, encoding)
    options = {"weights": weights, "residual_sd": residual_sd, "residual": residual, "frequency": frequency}
    models = [model_of(formula, frame, na_action=na_action, **options) for formula in formulas]
    if len(models) > 1:
        _compare_models(models, out, draws, method, priors, seed)
        return
    model = models[0]
    name = name_of(data)
    if out is not None:
        _check([(name, model)], out)
    post = sample(model, draws, method, priors, seed)
    both = compare(model.fit(), post)
    paths = [] if out is None else _write([(name, both)], out, detail=detail, leave_out=leave_out or ())
    show_comparison(both, terminal())
    if out is not None:
        _list(paths, out)


def _compare_models(
    models: list["Model"], out: Path | None, draws: int | None, method: str | None, priors: str | None, seed: int
) -> None:
    """One row per model, on the screen and in a folder."""
    from bayeslmm.comparison import compare
    from bayeslmm.console import show
    from bayeslmm.output import check_models, write_models

    check_models(out)
    if method is None:
        draws = 4000 if draws is None else draws
        both = compare(*models, draws=draws, priors=priors or "default", random_seed=seed)
    else:
        both = compare(*(sample(model, draws, method, priors, seed) for model in models))

    def write(folder: Path) -> list[Path]:
        use_files()
        return write_models(both, folder)

    finish(out, write, lambda console: show(console, both.text(console.width)))


app.command(name="anova")(commands.anova)
app.command(name="means")(command_means.means)
app.command(name="power")(commands.power)
app.command(name="explore")(commands.explore)


@app.command(name="to")
def to_command(
    package: Package,
    formula: Formula,
    data: Data,
    weights: Weights = None,
    residual_sd: ResidualSd = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    ml: Ml = False,
) -> None:
    """Write the call of another package that fits the same model, with what differs there in comments.

    Example: bayeslmm to lme4 "Yield ~ 1 + (1 | Batch)" --data Dyestuff > fit.R
    """
    load(*WORK)
    from bayeslmm.console import show, terminal

    model = model_of(
        formula,
        read(data, na, sep, decimal, encoding),
        weights=weights,
        residual_sd=residual_sd,
        residual=residual,
        frequency=frequency,
        na_action=na_action,
    )
    show(terminal(), model.to(package, reml=not ml).rstrip("\n"))


@app.command()
def boundary(
    formula: Formula,
    data: Data,
    weights: Weights = None,
    residual_sd: ResidualSd = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    ml: Ml = False,
    seed: Seed = 1,
    detail: Detail = "auto",
    leave_out: LeaveOut = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the report (boundary.html, .json).", callback=usable_folder),
    ] = None,
) -> None:
    """Say what a variance of zero, or one near it, means for a fit, and what can be done.

    Example: bayeslmm boundary "Yield ~ 1 + (1 | Batch)" --data Dyestuff2
    """
    load(*WORK)
    from bayeslmm.console import show
    from bayeslmm.output import BOUNDARY_FILES, write_boundary

    model = model_of(
        formula,
        read(data, na, sep, decimal, encoding),
        weights=weights,
        residual_sd=residual_sd,
        residual=residual,
        frequency=frequency,
        na_action=na_action,
    )
    check_files(out, BOUNDARY_FILES)
    report = model.fit(reml=not ml).boundary(random_seed=seed, detail=detail, leave_out=leave_out or ())  # type: ignore[arg-type]
    finish(
        out,
        lambda folder: write_boundary(report, folder),
        lambda console: show(console, report.text(console.width)),
    )


@app.command(name="lint")
def lint_command(
    formula: Formula,
    data: Annotated[str | None, typer.Option("--data", help="Data set or file, for findings about columns.")] = None,
    residual: Residual = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
) -> None:
    """Say where lme4, brms, bambi or formulae would read a formula differently.

    Example: bayeslmm lint "y ~ x + (x || g)"
    """
    load(*WORK)
    from bayeslmm.console import show, terminal
    from bayeslmm.linting.check import lint

    report = lint(formula, None if data is None else read(data, na, sep, decimal, encoding), residual=residual)
    console = terminal()
    show(console, report.text(console.width))


@app.command()
def demo(out: Out = Path("demo-output"), seed: Seed = 1) -> None:
    """Compare both engines on sleepstudy and on Dyestuff2, where REML says the variance is zero.

    Example: bayeslmm demo --out demo-output
    """
    load(*WORK)
    from rich.rule import Rule
    from rich.text import Text

    from bayeslmm.comparison import compare
    from bayeslmm.console import as_called, say, show_comparison, terminal
    from bayeslmm.datasets import describe_dataset, load_dataset
    from bayeslmm.model import Model

    folder = out or Path("demo-output")
    console = terminal()
    comparisons: list[tuple[str, Comparison]] = []
    models = [(name, Model(describe_dataset(name)["formula"], load_dataset(name))) for name in DEMO]
    _check(models, folder)
    for name, model in models:
        entry = describe_dataset(name)
        both = compare(model.fit(), model.sample(random_seed=seed))
        console.print(Rule(Text(name, style="bold")))
        say(console, f"{entry['description']}. Source: {entry['source']}.")
        show_comparison(both, console)
        comparisons.append((name, both))
    _list(_write(comparisons, folder), folder)
    say(console, f"\nNext: open {folder / 'report.html'}, which says all of this in words and figures.")
    program, python = as_called()
    say(console, f"Your own data: {program} compare 'y ~ x + (x | group)' --data your.csv --out results")
    say(console, f"In {python}: import bayeslmm as bl; bl.Model('y ~ x + (x | group)', frame).fit().explain()")


def _check(models: list[tuple[str, "Model"]], folder: Path) -> None:
    from bayeslmm.output import check_report

    check_report([(name, model.design) for name, model in models], folder)


def _write(comparisons: list[tuple[str, "Comparison"]], folder: Path, **boundary: Any) -> list[Path]:
    from bayeslmm.output import write

    use_files()
    return write(comparisons, folder, **boundary)


def _list(paths: list[Path], folder: Path) -> None:
    from bayeslmm.console import say, terminal

    console = terminal()
    say(console, f"\nWritten to {folder}:")
    for path in paths:
        say(console, f"  {path.name}")


def main() -> None:
    """Entry point: whatever goes wrong is said in words, without a traceback."""
    run(app, _complain)


def _complain(text: str) -> None:
    from bayeslmm.console import show, terminal

    if "written in backquotes" in text:
        text += "\n\nPut the formula in single quotes: within double ones a shell takes backquotes for commands."
    # On one line: what reads errors reads lines, and a terminal folds them itself.
    show(terminal(stderr=True), in_options(text), style="red")


if __name__ == "__main__":
    main()
