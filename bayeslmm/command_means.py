"""The command means: marginal means, slopes, contrasts and letters of a fit, of its posterior, or of both."""

from typing import TYPE_CHECKING, Any

import typer

from bayeslmm.command_data import WORK, model_of, read, sample
from bayeslmm.command_results import check_tables, finish_tables
from bayeslmm.imports import load
from bayeslmm.option_values import levels_of, several
from bayeslmm.options import (
    Data,
    Ddf,
    Decimal,
    Draws,
    Encoding,
    Formula,
    Frequency,
    Method,
    Ml,
    Na,
    NaAction,
    Prior,
    Residual,
    ResidualSd,
    Sep,
    Weights,
)
from bayeslmm.study_options import (
    Adjust,
    At,
    Average,
    By,
    Contrast,
    Factors,
    Letters,
    Level,
    OfBoth,
    OfPosterior,
    Pairs,
    PosteriorSeed,
    Reference,
    Response,
    Rope,
    Slope,
    Tables,
    contrasts_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.model import Model


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
    letters: Letters = False,
    response: Response = False,
    level: Level = 0.95,
    ddf: Ddf = None,
    ml: Ml = False,
    posterior: OfPosterior = False,
    both: OfBoth = False,
    rope: Rope = None,
    priors: Prior = None,
    method: Method = None,
    draws: Draws = None,
    seed: PosteriorSeed = None,
    weights: Weights = None,
    residual_sd: ResidualSd = None,
    residual: Residual = None,
    frequency: Frequency = None,
    na: Na = None,
    na_action: NaAction = None,
    sep: Sep = "",
    decimal: Decimal = "",
    encoding: Encoding = "",
    out: Tables = None,
) -> None:
    """Print marginal means of factors, and compare them; by REML, of the posterior, or both side by side.

    Example: bayeslmm means "score ~ Machine + (1 | Worker)" Machine --data Machines --pairs

    Example: bayeslmm means "distance ~ age * Sex + (age | Subject)" Sex --slope age --data Orthodont --pairs

    Example: bayeslmm means "score ~ Machine + (1 | Worker)" Machine --data Machines --posterior --rope 1
    --contrast "C - others=-1/2,-1/2,1"
    """
    contrasts = _contrasts(pairs, contrast, reference)
    if slope is not None and response:
        raise typer.BadParameter("--response is for means: slopes are on the scale of the model. Leave one out.")
    of_draws = {"--rope": rope, "--priors": priors, "--method": method, "--draws": draws, "--seed": seed}
    of_fits = {"--ddf": ddf, "--ml": ml or None, "--adjust": adjust}
    of_one = {"--rope": rope}
    _check_engine(posterior, both, of_draws, of_fits, of_one)
    ends = None if rope is None else several("--rope", rope, float)
    load(*WORK)
    frame = read(data, na, sep, decimal, encoding)
    places = levels_of("--at", at, lambda name: name not in frame or frame[name].dtype.kind in "iuf")
    options = {"weights": weights, "residual_sd": residual_sd, "residual": residual, "frequency": frequency}
    model = model_of(formula, frame, na_action=na_action, **options)
    what = "means" if slope is None else "slopes"
    check_tables(out, [what, *(["contrasts"] if contrasts else []), *(["letters"] if letters else [])])
    asked: dict[str, Any] = {"by": by or None, "at": places, "weights": average or "equal"}
    asked |= {} if slope is not None else {"type": "response" if response else "link"}
    asked |= {} if both else {"level": level}
    asked |= {"rope": ends} if posterior else {"ddf": ddf or "satterthwaite"}
    asked |= {} if posterior or both or contrasts or letters else {"adjust": adjust or "none"}
    subject = _subject(model, not ml, posterior, both, level, (draws, method, priors, seed))
    found = subject.means(of or None, **asked) if slope is None else subject.trends(slope, of or None, **asked)
    finish_tables(*_shown(found, what, contrasts, adjust, reference, letters), out)


def _shown(
    found: Any, what: str, contrasts: Any, adjust: str | None, reference: str | None, letters: bool
) -> "tuple[list[str], dict[str, pd.DataFrame]]":
    """Texts for the screen and tables for files: means or slopes, and what compares them."""
    texts, tables = [repr(found)], {what: found.frame}
    if contrasts is not None:
        compared = found.contrast(contrasts, adjust, reference=reference)
        texts.append(repr(compared))
        tables["contrasts"] = compared.frame
    if letters:
        tables["letters"] = found.letters() if adjust is None else found.letters(adjust)
        texts.append(repr(tables["letters"]))
    return texts, tables


def _contrasts(pairs: bool, contrast: list[str] | None, reference: str | None) -> Any:
    """The contrasts that were asked for.

    Raises
    ------
    typer.BadParameter
        Two kinds of them; a reference of contrasts that have none.
    """
    if pairs and contrast:
        given = " ".join(contrast)
        raise typer.BadParameter(f"--pairs and --contrast {given} are two kinds of contrasts: give one of them.")
    found = contrasts_of(contrast)
    if reference is not None and not isinstance(found, str):
        raise typer.BadParameter(f"--reference {reference} is for --contrast dunnett, which is not asked for.")
    return "pairwise" if pairs else found


def _check_engine(
    posterior: bool, both: bool, of_draws: dict[str, Any], of_fits: dict[str, Any], of_one: dict[str, Any]
) -> None:
    """Refuse options of an analysis that is not asked for."""
    if posterior and both:
        raise typer.BadParameter("--posterior and --both exclude each other: give one of them.")
    refusals = (
        (not (posterior or both), of_draws, "is about a posterior: add --posterior (in place of the fit), or --both."),
        (posterior, of_fits, "is about fits, and a posterior has none: leave it out, or ask for --both."),
        (both, of_one, "is about one analysis: leave out --both, or give --posterior in its place."),
    )
    for refused, options, why in refusals:
        given = next((name for name, value in options.items() if value is not None), None)
        if refused and given is not None:
            raise typer.BadParameter(f"{given} {why}")


def _subject(model: "Model", reml: bool, posterior: bool, both: bool, level: float, sampling: tuple[Any, ...]) -> Any:
    """What has means: a fit, a posterior or a comparison."""
    if posterior:
        return sample(model, *sampling)
    if not both:
        return model.fit(reml=reml)
    from bayeslmm.comparison import compare

    return compare(model.fit(reml=reml), sample(model, *sampling), level=level)
