"""Options of the command line, checked before anything is computed; nothing is imported for them before it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bayeslmm.imports import load

__all__ = [
    "Adjust",
    "Average",
    "Contrast",
    "Data",
    "Ddf",
    "Decimal",
    "Detail",
    "Encoding",
    "Formula",
    "Formulas",
    "Frequency",
    "LeaveOut",
    "Ml",
    "Na",
    "Out",
    "Package",
    "PowerDdf",
    "Prior",
    "Seed",
    "Sep",
    "Tables",
    "Test",
    "Type",
    "Weights",
    "usable_folder",
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

    return _chosen("--detail", detail, DETAIL)


def _known_sections(names: list[str] | None) -> list[str]:
    """Names of sections, given together with commas or one by one."""
    from bayeslmm.boundary import OPTIONAL

    given = [name.strip() for text in names or () for name in text.split(",")]
    return [_chosen("--leave-out", name, OPTIONAL) for name in given if name]


def _known_priors(name: str) -> str:
    """Refuse, before anything is computed, a set of priors that there is not."""
    from bayeslmm.bayes.presets import PRESETS

    return _chosen("--priors", name, tuple(PRESETS))


def _known_package(name: str) -> str:
    """Refuse, before data are read, a package that no call is written for."""
    from bayeslmm.exporting import TARGETS

    return _chosen("PACKAGE", name, tuple(TARGETS))


def _known_type(kind: str | None) -> str | None:
    """Refuse, before data are read, a type of hypotheses that there is not."""
    return None if kind is None else _chosen("--type", kind.upper(), ("1", "2", "3", "I", "II", "III"))


def _known_test(name: str | None) -> str | None:
    """Refuse, before data are read, a test that no table has."""
    return None if name is None else _chosen("--test", name, ("F", "chisq", "bootstrap"))


def _known_adjust(name: str | None) -> str | None:
    """Refuse, before data are read, an adjustment that there is not."""
    from bayeslmm.means.functions import adjustment

    return None if name is None else _worded(lambda: adjustment(name, "none"))


def _known_contrast(name: str | None) -> str | None:
    """Refuse, before data are read, contrasts that there are not."""
    from bayeslmm.means.contrast_methods import method_name

    if name is not None:
        _worded(lambda: method_name(name))
    return name


def _known_average(name: str | None) -> str | None:
    """Refuse, before data are read, weights that there are not."""
    from bayeslmm.means.averages import WEIGHTS

    return None if name is None else _chosen("--average", name, WEIGHTS)


def _known_ddf(name: str | None) -> str | None:
    """Refuse, before data are read, degrees of freedom that there are not."""
    if name is None:
        return None
    from typing import get_args

    from bayeslmm.results.linear import DDF

    return _chosen("--ddf", name, get_args(DDF))


def _known_power_ddf(name: str | None) -> str | None:
    """Refuse, before data are read, degrees of freedom that power is not simulated with."""
    if name is None:
        return None
    from typing import get_args

    from bayeslmm.planning.power_run import PowerDDF

    return _chosen("--ddf", name, get_args(PowerDDF.__value__))


def _chosen(option: str, value: str, known: Sequence[str]) -> str:
    from bayeslmm.arguments import choice
    from bayeslmm.errors import DesignError

    return _worded(lambda: choice(option, value, known, DesignError))


def _worded(check: Callable[[], str]) -> str:
    """The result of a check, which as a check of an option ends with exit code 2."""
    from bayeslmm.errors import DesignError

    try:
        return check()
    except DesignError as error:
        raise typer.BadParameter(str(error)) from error


Formula = Annotated[str, typer.Argument(help='lme4-style formula in quotes, e.g. "y ~ x + (x | g)".')]
Formulas = Annotated[
    list[str],
    typer.Argument(
        metavar="FORMULA...",
        help="lme4-style formula in quotes; of several models of one response there is one row each.",
    ),
]
Prior = Annotated[
    str,
    typer.Option(
        "--priors",
        help="Set of priors: default, weak, flat, pc, boundary_avoiding, or those of brms, rstanarm, bambi.",
        callback=_known_priors,
    ),
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
Ml = Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")]
Ddf = Annotated[
    str | None,
    typer.Option(
        "--ddf",
        help="Degrees of freedom of fixed effects: satterthwaite (the default), kenward-roger, containment, residual "
        "or z.",
        callback=_known_ddf,
    ),
]
PowerDdf = Annotated[
    str | None,
    typer.Option(
        "--ddf",
        help="Degrees of freedom of fixed effects: satterthwaite (the default), kenward-roger or z.",
        callback=_known_power_ddf,
    ),
]
Type = Annotated[
    str | None,
    typer.Option("--type", help="Of the terms of one formula: 3 (the default), 2 or 1.", callback=_known_type),
]
Test = Annotated[
    str | None,
    typer.Option(
        "--test",
        help="Of one formula F (the default) or chisq; of several chisq (the default) or bootstrap.",
        callback=_known_test,
    ),
]
Average = Annotated[
    str | None,
    typer.Option(
        "--average",
        help="Weights of other factors: equal (the default), proportional, cells, outer or flat.",
        callback=_known_average,
    ),
]
Contrast = Annotated[
    str | None,
    typer.Option(
        "--contrast",
        help="Contrasts, too: dunnett, consecutive, poly, effect, others, mean_change or pairwise.",
        callback=_known_contrast,
    ),
]
Adjust = Annotated[
    str | None,
    typer.Option(
        "--adjust",
        help="For the number of contrasts (of means, where none are asked for): tukey, mvt, sidak, bonferroni, holm, "
        "hochberg, hommel, fdr, scheffe or none.",
        callback=_known_adjust,
    ),
]
Tables = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for what is printed as numbers (CSV and JSON).", callback=usable_folder),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the draws.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for figures, numbers (JSON) and an HTML report.", callback=usable_folder),
]
