"""Commands for the tests of a fit, for what comes before a study, and for the classroom: anova, power, explore."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bayeslmm.command_data import WORK, model_of, read
from bayeslmm.command_results import check_files, check_tables, finish, finish_tables, use_files
from bayeslmm.imports import load
from bayeslmm.option_values import in_options, several, values_of
from bayeslmm.options import (
    Data,
    Ddf,
    Decimal,
    Encoding,
    Formula,
    Formulas,
    Frequency,
    Ml,
    Na,
    NaAction,
    Prior,
    Residual,
    ResidualSd,
    Seed,
    Sep,
    Weights,
)
from bayeslmm.study_options import (
    Alpha,
    BootstrapSeed,
    BootstrapSize,
    Corr,
    Effect,
    Groups,
    Hdi,
    Jobs,
    Parameter,
    PowerDdf,
    PowerSize,
    PowerTables,
    Refit,
    Replicates,
    ResidualValues,
    Sds,
    Sigma,
    Store,
    Tables,
    Test,
    Total,
    Type,
)

_CURVE = "power.png"


def anova(
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
    ml: Ml = False,
    kind: Type = None,
    ddf: Ddf = None,
    test: Test = None,
    refit: Refit = True,
    n: BootstrapSize = 1000,
    seed: BootstrapSeed = None,
    out: Tables = None,
) -> None:
    """Test the terms of one formula, or compare several by likelihood ratios, AIC and BIC.

    Example: bayeslmm anova "score ~ Machine + (1 | Worker)" --data Machines --ddf kenward-roger

    Example: bayeslmm anova "Reaction ~ 1 + (1 | Subject)" "Reaction ~ Days + (1 | Subject)" --data sleepstudy
    """
    if len(formulas) > 1 and (kind is not None or ddf is not None):
        option = "--type" if kind is not None else "--ddf"
        raise typer.BadParameter(
            f"{option} is about the terms of one formula, and there are {len(formulas)}: these are compared by "
            "likelihood ratios. Leave it out, or give one formula."
        )
    load(*WORK)
    frame = read(data, na, sep, decimal, encoding)
    options = {"weights": weights, "residual_sd": residual_sd, "residual": residual, "frequency": frequency}
    models = [model_of(formula, frame, na_action=na_action, **options) for formula in formulas]
    check_tables(out, ["anova"])
    fits = [model.fit(reml=not ml) for model in models]
    table: Any
    if len(fits) > 1:
        from bayeslmm.testing import anova as compare_fits

        table = compare_fits(*fits, refit=refit, test=test or "chisq", n=n, random_seed=seed)  # type: ignore[arg-type]
    else:
        table = fits[0].anova(kind or 3, ddf or "satterthwaite", test or "F")  # type: ignore[arg-type]
    finish_tables([repr(table)], {"anova": table.rename_axis("row").reset_index()}, out)


def power(
    formula: Formula,
    data: Data,
    effect: Effect = None,
    sd: Sds = None,
    corr: Corr = None,
    sigma: Sigma = None,
    residual_value: ResidualValues = None,
    groups: Groups = None,
    replicates: Replicates = None,
    total: Total = None,
    parameter: Parameter = None,
    n: PowerSize = 1000,
    alpha: Alpha = 0.05,
    ddf: PowerDdf = None,
    ml: Ml = False,
    hdi: Hdi = 0,
    priors: Prior = None,
    jobs: Jobs = 1,
    store: Store = None,
    seed: Seed = 1,
    weights: Weights = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    out: PowerTables = None,
) -> None:
    """Simulate how often a study finds its effects and its variances.

    Example: bayeslmm power "Reaction ~ Days + (1 | Subject)" --data sleepstudy --effect Days=2,4 --groups 10,20

    The data are those of a pilot study.

    For rows without responses write a formula without one, "~ x + (1 | g)", and give all parameters.
    """
    if priors is not None and not hdi:
        raise typer.BadParameter("--priors are those of the posteriors that --hdi N samples, and N is 0. Give --hdi.")
    asked: dict[str, Any] = {
        "effects": values_of("--effect", effect),
        "sds": values_of("--sd", sd),
        "residual": values_of("--residual-value", residual_value),
        "groups": _groups(groups),
        "replicates": None if replicates is None else several("--replicates", replicates, int),
        "total": None if total is None else several("--total", total, int),
    }
    load(*WORK, "bayeslmm.planning")
    from bayeslmm.console import show
    from bayeslmm.output import table_files, write_figure, write_tables
    from bayeslmm.planning import power as simulate

    frame = read(data, na, sep, decimal, encoding)
    study = _study(formula, frame, weights, frequency, na_action, residual)
    check_files(out, (*table_files(["power"]), _CURVE))
    asked |= {"corrs": corr, "sigma": sigma, "parameters": parameter or None, "n": n, "alpha": alpha}
    asked |= {"ddf": ddf or "satterthwaite", "reml": not ml, "n_jobs": jobs, "store": store, "random_seed": seed}
    asked |= {"hdi": hdi, "priors": priors}
    found = simulate(study, **asked)

    def write(folder: Path) -> list[Path]:
        use_files()
        return [*write_tables({"power": found.table}, folder), write_figure(found.plot().figure, folder / _CURVE)]

    finish(out, write, lambda console: show(console, in_options(str(found))))


def _groups(texts: list[str] | None) -> Any:
    """Numbers of levels, of the only grouping factor or by its name."""
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return several("--groups", texts[0], int)
    return values_of("--groups", texts, int)


def _study(
    formula: str,
    frame: Any,
    weights: str | None,
    frequency: str | None,
    na_action: str | None,
    residual: str | None,
) -> Any:
    """A model, or the plan of a study without responses."""
    if not formula.lstrip().startswith("~"):
        return model_of(formula, frame, weights=weights, frequency=frequency, na_action=na_action, residual=residual)
    from bayeslmm.planning import Plan

    if frequency is not None:
        raise typer.BadParameter("--frequency counts identical rows of data; a plan has none. Leave it out.")
    return Plan(formula, frame, weights=weights, na_action=na_action or "drop", residual=residual)  # type: ignore[arg-type]


def explore(
    formula: Annotated[
        str | None,
        typer.Argument(help='In quotes: "y ~ 1 + (1 | g)" or "y ~ x + (x | g)"; simulated data if none.'),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Name of a shipped data set, path of a CSV or parquet file, or - for standard input."
        ),
    ] = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    out: Annotated[Path, typer.Option("--out", help="The page, a file that ends in .html.")] = Path("explorer.html"),
) -> None:
    """Write the shrinkage explorer: one page with sliders that needs no network, for a balanced model.

    Example: bayeslmm explore

    Example: bayeslmm explore "Yield ~ 1 + (1 | Batch)" --data Dyestuff2 --out dyestuff2.html
    """
    if (formula is None) != (data is None):
        raise typer.BadParameter("A formula and --data go together. With neither the page has simulated data.")
    load(*WORK)
    from bayeslmm.console import say, terminal
    from bayeslmm.explorer import explore as explorer_of

    model = None
    if formula is not None and data is not None:
        model = model_of(formula, read(data, na, sep, decimal, encoding), na_action=na_action)
    say(terminal(), f"Written to {explorer_of(model).write(out)}; open it in a browser.")
