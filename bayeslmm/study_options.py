"""Options of the commands anova, means and power that no other command has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bayeslmm.option_values import weights_of
from bayeslmm.options import chosen, usable_folder, worded


def _known_type(kind: str | None) -> str | None:
    """Refuse, before data are read, a type of hypotheses that there is not."""
    return None if kind is None else chosen("--type", kind.upper(), ("1", "2", "3", "I", "II", "III"))


def _known_test(name: str | None) -> str | None:
    """Refuse, before data are read, a test that no table has."""
    return None if name is None else chosen("--test", name, ("F", "chisq", "bootstrap"))


def _known_adjust(name: str | None) -> str | None:
    """Refuse, before data are read, an adjustment that there is not."""
    if name is None:
        return None
    from bayeslmm.means.functions import adjustment

    return worded(lambda: adjustment(name, "none"))


def _known_contrasts(texts: list[str] | None) -> list[str] | None:
    """Refuse, before data are read, contrasts that there are not."""
    contrasts_of(texts)
    return texts


def contrasts_of(texts: Sequence[str] | None) -> str | dict[str, Any] | None:
    """The name of a method of contrasts, or contrasts with their weights.

    Raises
    ------
    typer.BadParameter
        An unknown name, more than one, no weights.
    """
    if not texts:
        return None
    own = [text for text in texts if "=" in text or text.lstrip().startswith("{")]
    if len(own) == len(texts):
        return weights_of("--contrast", texts)
    named = [text for text in texts if text not in own]
    from bayeslmm.means.contrast_methods import method_name

    name = worded(lambda: method_name(named[0]))
    if len(texts) > 1:
        raise typer.BadParameter(
            f"--contrast {named[0]} is a set of contrasts, and {' and '.join(t for t in texts if t != named[0])} are "
            "asked for as well. Give one set, or weights for every contrast."
        )
    return name


def _known_average(name: str | None) -> str | None:
    """Refuse, before data are read, weights that there are not."""
    if name is None:
        return None
    from bayeslmm.means.averages import WEIGHTS

    return chosen("--average", name, WEIGHTS)


def _known_power_ddf(name: str | None) -> str | None:
    """Refuse, before data are read, degrees of freedom that power is not simulated with."""
    if name is None:
        return None
    from typing import get_args

    from bayeslmm.planning.power_run import PowerDDF

    return chosen("--ddf", name, get_args(PowerDDF.__value__))


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
ResidualValues = Annotated[
    list[str] | None,
    typer.Option(
        "--residual-value",
        metavar="NAME=VALUE[,VALUE]",
        help="True parameter of the --residual structure, e.g. rho=0.3,0.6; as estimated by default. May be given "
        "several times.",
    ),
]
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
    list[str] | None,
    typer.Option(
        "--contrast",
        metavar="SET | NAME=WEIGHTS",
        help="Contrasts, too: dunnett, consecutive, poly, effect, others, mean_change or pairwise; or weights of one's "
        "own, as in 'C - A=-1,0,1' (a weight for every mean), 'C - A=A:-1,C:1', or as JSON '{\"C - A\": [-1, 0, 1]}'; "
        "these may be given several times.",
        callback=_known_contrasts,
    ),
]
Letters = Annotated[
    bool, typer.Option("--letters", help="Letters, too: means that share one do not differ, at 1 - LEVEL.")
]
OfPosterior = Annotated[bool, typer.Option("--posterior", help="Of the posterior, in place of the REML fit.")]
OfBoth = Annotated[bool, typer.Option("--both", help="Of the REML fit and of the posterior, side by side.")]
Rope = Annotated[
    str | None,
    typer.Option(
        "--rope",
        metavar="END[,END]",
        help="Of a posterior: the differences that would not matter, as 0.5 for -0.5 to 0.5, or both ends.",
    ),
]
PosteriorSeed = Annotated[int | None, typer.Option("--seed", help="Seed of the draws; by default 1.")]
Hdi = Annotated[
    int,
    typer.Option(
        "--hdi",
        metavar="N",
        help="For how many of the simulated responses the posterior is sampled, too: how often the highest-density "
        "interval excludes zero. Some 50 milliseconds each.",
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
PowerTables = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for the table (CSV and JSON) and the power curve (power.png).", callback=usable_folder
    ),
]
