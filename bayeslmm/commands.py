"""Commands for what follows a fit, and for what comes before a study: anova, means, power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bayeslmm.command_data import WORK, model_of, read
from bayeslmm.command_results import check_tables, finish
from bayeslmm.imports import load
from bayeslmm.option_values import in_options, levels_of, several, values_of
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
    Seed,
    Sep,
    Weights,
)
from bayeslmm.study_options import (
    Adjust,
    Alpha,
    At,
    Average,
    BootstrapSeed,
    BootstrapSize,
    By,
    Contrast,
    Corr,
    Effect,
    Factors,
    Groups,
    Jobs,
    Level,
    Pairs,
    Parameter,
    PowerDdf,
    PowerSize,
    Reference,
    Refit,
    Replicates,
    Response,
    Sds,
    Sigma,
    Slope,
    Store,
    Tables,
    Test,
    Total,
    Type,
)

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.means.marginal import MarginalMeans


def anova(
    formulas: Formulas,
    data: Data,
    weights: Weights = None,
    frequency: Frequency = None,
    na: Na = None,
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
    models = [model_of(formula, frame, weights=weights, frequency=frequency) for formula in formulas]
    check_tables(out, ["anova"])
    fits = [model.fit(reml=not ml) for model in models]
    table: Any
    if len(fits) > 1:
        from bayeslmm.testing import anova as compare_fits

        table = compare_fits(*fits, refit=refit, test=test or "chisq", n=n, random_seed=seed)  # type: ignore[arg-type]
    else:
        table = fits[0].anova(kind or 3, ddf or "satterthwaite", test or "F")  # type: ignore[arg-type]
    _finish([repr(table)], {"anova": table.rename_axis("row").reset_index()}, out)


def means(
    formula: Formula,
    data: Data,
    of: Factors = None,
    by: By = None,
    at: At = None,
    average: Average = None,
    slope: Slope = None,
    pairs: Pairs = False,
    contrast: Contrast = None,
    reference: Reference = None,
    adjust: Adjust = None,
    response: Response = False,
    level: Level = 0.95,
    ddf: Ddf = None,
    ml: Ml = False,
    weights: Weights = None,
    frequency: Frequency = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    out: Tables = None,
) -> None:
    """Print marginal means of factors, and compare them.

    Example: bayeslmm means "score ~ Machine + (1 | Worker)" Machine --data Machines --pairs

    Example: bayeslmm means "distance ~ age * Sex + (age | Subject)" Sex --slope age --data Orthodont --pairs
    """
    method = _method(pairs, contrast, reference)
    if slope is not None and response:
        raise typer.BadParameter("--response is for means: slopes are on the scale of the model. Leave one out.")
    load(*WORK)
    frame = read(data, na, sep, decimal, encoding)
    places = levels_of("--at", at, lambda name: name not in frame or frame[name].dtype.kind in "iuf")
    model = model_of(formula, frame, weights=weights, frequency=frequency)
    check_tables(out, ["means"] if method is None else ["means", "contrasts"])
    options: dict[str, Any] = {"by": by or None, "at": places, "weights": average or "equal", "level": level}
    options |= {"ddf": ddf or "satterthwaite", "adjust": (adjust if method is None else None) or "none"}
    fit = model.fit(reml=not ml)
    found: list[MarginalMeans] = [
        fit.means(of or None, type="response" if response else "link", **options)
        if slope is None
        else fit.trends(slope, of or None, **options)
    ]
    if method is not None:
        found.append(found[0].contrast(method, adjust, reference=reference))
    names = ("means" if slope is None else "slopes", "contrasts")
    _finish([repr(one) for one in found], {k: one.frame for k, one in zip(names, found, strict=False)}, out)


def _method(pairs: bool, contrast: str | None, reference: str | None) -> str | None:
    """The contrasts that were asked for.

    Raises
    ------
    typer.BadParameter
        Two kinds of them; a reference of contrasts that have none.
    """
    if pairs and contrast is not None:
        raise typer.BadParameter(f"--pairs and --contrast {contrast} are two kinds of contrasts: give one of them.")
    if reference is not None and contrast is None:
        raise typer.BadParameter(f"--reference {reference} is for --contrast dunnett, which is not asked for.")
    return "pairwise" if pairs else contrast


def power(
    formula: Formula,
    data: Data,
    effect: Effect = None,
    sd: Sds = None,
    corr: Corr = None,
    sigma: Sigma = None,
    groups: Groups = None,
    replicates: Replicates = None,
    total: Total = None,
    parameter: Parameter = None,
    n: PowerSize = 1000,
    alpha: Alpha = 0.05,
    ddf: PowerDdf = None,
    ml: Ml = False,
    jobs: Jobs = 1,
    store: Store = None,
    seed: Seed = 1,
    weights: Weights = None,
    frequency: Frequency = None,
    na: Na = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    out: Tables = None,
) -> None:
    """Simulate how often a study finds its effects and its variances.

    Example: bayeslmm power "Reaction ~ Days + (1 | Subject)" --data sleepstudy --effect Days=2,4 --groups 10,20

    The data are those of a pilot study.

    For rows without responses write a formula without one, "~ x + (1 | g)", and give all parameters.
    """
    asked: dict[str, Any] = {
        "effects": values_of("--effect", effect),
        "sds": values_of("--sd", sd),
        "groups": _groups(groups),
        "replicates": None if replicates is None else several("--replicates", replicates, int),
        "total": None if total is None else several("--total", total, int),
    }
    load(*WORK, "bayeslmm.planning")
    from bayeslmm.planning import power as simulate

    frame = read(data, na, sep, decimal, encoding)
    study = _study(formula, frame, weights, frequency)
    check_tables(out, ["power"])
    asked |= {"corrs": corr, "sigma": sigma, "parameters": parameter or None, "n": n, "alpha": alpha}
    asked |= {"ddf": ddf or "satterthwaite", "reml": not ml, "n_jobs": jobs, "store": store, "random_seed": seed}
    found = simulate(study, **asked)
    _finish([str(found)], {"power": found.table}, out)


def _groups(texts: list[str] | None) -> Any:
    """Numbers of levels, of the only grouping factor or by its name."""
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return several("--groups", texts[0], int)
    return values_of("--groups", texts, int)


def _study(formula: str, frame: Any, weights: str | None, frequency: str | None) -> Any:
    """A model, or the plan of a study without responses."""
    if not formula.lstrip().startswith("~"):
        return model_of(formula, frame, weights=weights, frequency=frequency)
    from bayeslmm.planning import Plan

    if frequency is not None:
        raise typer.BadParameter("--frequency counts identical rows of data; a plan has none. Leave it out.")
    return Plan(formula, frame, weights=weights)


def _finish(texts: list[str], tables: dict[str, pd.DataFrame], out: Path | None) -> None:
    """Write tables, and print what they say."""
    from bayeslmm.console import show
    from bayeslmm.report import write_tables

    text = in_options("\n\n".join(texts))
    finish(out, lambda folder: write_tables(tables, folder), lambda console: show(console, text))
