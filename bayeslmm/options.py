"""Options of the command line, checked before anything is computed; nothing is imported for them before it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bayeslmm.imports import load

__all__ = [
    "Data",
    "Ddf",
    "Decimal",
    "Detail",
    "Draws",
    "Encoding",
    "Formula",
    "Formulas",
    "Frequency",
    "LeaveOut",
    "Method",
    "Ml",
    "Na",
    "NaAction",
    "Out",
    "Package",
    "Prior",
    "Residual",
    "ResidualSd",
    "Seed",
    "Sep",
    "Weights",
    "chosen",
    "usable_folder",
    "worded",
]


def usable_folder(folder: Path | None) -> Path | None:
    """Refuse, before anything is computed, a folder that cannot be made or written to."""
    if folder is None:
        return None
    load("bayeslmm.files.writing")
    from bayeslmm.errors import StorageError
    from bayeslmm.files.writing import check_folder

    try:
        return check_folder(folder)
    except StorageError as error:
        raise typer.BadParameter(str(error)) from error


def _known_detail(detail: str) -> str:
    """Refuse, before anything is computed, what no boundary report has."""
    from bayeslmm.boundary import DETAIL

    return chosen("--detail", detail, DETAIL)


def _known_sections(names: list[str] | None) -> list[str]:
    """Names of sections, given together with commas or one by one."""
    from bayeslmm.boundary import OPTIONAL

    given = [name.strip() for text in names or () for name in text.split(",")]
    return [chosen("--leave-out", name, OPTIONAL) for name in given if name]


def _known_priors(name: str | None) -> str | None:
    """Refuse, before anything is computed, a set of priors that there is not."""
    if name is None:
        return None
    from bayeslmm.bayes.presets import PRESETS

    return chosen("--priors", name, tuple(PRESETS))


def _known_na_action(name: str | None) -> str | None:
    """Refuse, before data are read, what is not done with missing values."""
    if name is None:
        return None
    from bayeslmm.design.padding import check_na_action

    return worded(lambda: check_na_action(name))


def _known_package(name: str) -> str:
    """Refuse, before data are read, a package that no call is written for."""
    from bayeslmm.exporting import PACKAGES

    return chosen("PACKAGE", name, PACKAGES)


def _known_ddf(name: str | None) -> str | None:
    """Refuse, before data are read, degrees of freedom that there are not."""
    if name is None:
        return None
    from typing import get_args

    from bayeslmm.results.linear import DDF

    return chosen("--ddf", name, get_args(DDF))


def chosen(option: str, value: str, known: Sequence[str]) -> str:
    """One of the words that an option takes; another ends with exit code 2."""
    from bayeslmm.arguments import choice
    from bayeslmm.errors import DesignError

    return worded(lambda: choice(option, value, known, DesignError))


def worded(check: Callable[[], str]) -> str:
    """The result of a check, which as a check of an option ends with exit code 2."""
    from bayeslmm.errors import DesignError

    try:
        return check()
    except DesignError as error:
        raise typer.BadParameter(str(error)) from error


Formula = Annotated[str, typer.Argument(help="lme4-style formula in quotes, e.g. 'y ~ x + (x | g)'.")]
Formulas = Annotated[
    list[str],
    typer.Argument(
        metavar="FORMULA...",
        help="lme4-style formula in quotes; of several models of one response there is one row each.",
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        "--priors",
        help="Set of priors: default, weak, flat, pc, boundary_avoiding, or those of brms, rstanarm, bambi.",
        callback=_known_priors,
    ),
]
Method = Annotated[
    str | None, typer.Option("--method", help="auto (the default), quadrature, importance, collapsed_nuts or nuts.")
]
Draws = Annotated[
    int | None, typer.Option("--draws", help="Posterior draws over all chains; by default 4000.", show_default=False)
]
Package = Annotated[
    str,
    typer.Argument(
        help="lme4, nlme, glmmTMB, brms, rstanarm, bambi, statsmodels, sas, matlab or julia.",
        callback=_known_package,
    ),
]
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
NaAction = Annotated[
    str | None,
    typer.Option(
        "--na-action",
        help="What becomes of rows with missing values: drop (the default: left out and counted), exclude (here the "
        "same) or fail.",
        callback=_known_na_action,
    ),
]
Sep = Annotated[str, typer.Option("--sep", help="Separator of the columns, e.g. ';' or tab; found out by default.")]
Decimal = Annotated[str, typer.Option("--decimal", help="Decimal sign of numbers: . or , ; found out by default.")]
Encoding = Annotated[str, typer.Option("--encoding", help="Encoding of the file, e.g. cp1252; found out by default.")]
Weights = Annotated[str | None, typer.Option("--weights", help="Column or expression of precision weights.")]
ResidualSd = Annotated[
    str | None,
    typer.Option("--residual-sd", help="Column or expression of known standard errors of the rows: sigma is 1."),
]
Residual = Annotated[
    str | None,
    typer.Option(
        "--residual",
        help="Structure of the residuals: ar1(time | g), us(visit | g), by(g), power(x), or a sum of them.",
    ),
]
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
Ml = Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")]
Ddf = Annotated[
    str | None,
    typer.Option(
        "--ddf",
        help="Degrees of freedom of fixed effects: satterthwaite (the default), kenward-roger, containment, residual, "
        "knapp-hartung (meta-analyses) or z.",
        callback=_known_ddf,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the draws.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for figures, numbers (JSON) and an HTML report.", callback=usable_folder),
]
