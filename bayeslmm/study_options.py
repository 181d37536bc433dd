"""Options of the commands anova, means and power that no other command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Refit = Annotated[bool, typer.Option("--refit/--no-refit", help="Of several: whether REML fits are refitted by ML.")]
BootstrapSize = Annotated[int, typer.Option("--n", help="Simulated responses of the bootstrap.")]
BootstrapSeed = Annotated[int | None, typer.Option("--seed", help="Seed of the bootstrap.")]
Factors = Annotated[
    list[str] | None,
    typer.Argument(metavar="FACTOR", help="Factors whose levels have means; of several, all combinations."),
]
By = Annotated[
    list[str] | None,
    typer.Option("--by", help="Factor within whose levels is compared; may be given several times."),
]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="NAME=VALUE[,VALUE]", help="Values of a number, or levels, to take the means at."),
]
Slope = Annotated[str | None, typer.Option("--slope", help="A number whose slopes are shown in place of means.")]
Pairs = Annotated[bool, typer.Option("--pairs", help="All pairwise differences, too.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="Level that dunnett compares with; the first by default.")
]
Response = Annotated[bool, typer.Option("--response", help="Means of log(y), sqrt(y), ... taken back to units of y.")]
Level = Annotated[float, typer.Option("--level", help="Of the intervals.")]
Effect = Annotated[
    list[str] | None,
    typer.Option(
        "--effect",
        metavar="NAME=VALUE[,VALUE]",
        help="True fixed effect, as estimated by default; several are tried in turn, and from normal(MEAN,SD) each "
        "response has its own. May be given several times.",
    ),
]
Sds = Annotated[
    list[str] | None,
    typer.Option(
        "--sd",
        metavar="NAME=VALUE[,VALUE]",
        help="True standard deviation of random effects, e.g. 'Subject[Days]=3,6'; or of a grouping factor all of "
        "them, 'Subject=25,6'.",
    ),
]
Corr = Annotated[float | None, typer.Option("--corr", help="True correlations.")]
Sigma = Annotated[float | None, typer.Option("--sigma", help="True residual standard deviation.")]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--groups",
        metavar="[NAME=]N[,N]",
        help="Numbers of levels of the grouping factor, which is named where there are several.",
    ),
]
Replicates = Annotated[
    str | None, typer.Option("--replicates", metavar="N[,N]", help="Rows for every combination of levels.")
]
Total = Annotated[
    str | None, typer.Option("--total", metavar="N[,N]", help="Rows of the whole study, in place of --replicates.")
]
Parameter = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter", help="What is tested, e.g. Days or 'sd_Subject[Days]'; by default all but the intercept."
    ),
]
PowerSize = Annotated[int, typer.Option("--n", help="Simulated responses for each combination.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Level of the tests.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Worker processes; -1 for one per core.")]
Store = Annotated[Path | None, typer.Option("--store", help="Folder in which a run that is stopped continues.")]
