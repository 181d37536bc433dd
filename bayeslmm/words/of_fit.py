"""A REML or ML fit in plain words."""

from __future__ import annotations

import pandas as pd

from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter
from bayeslmm.words.explanation import Explanation
from bayeslmm.words.numbers import Measured
from bayeslmm.words.parts import fixed_paragraph, model_paragraph, spread_paragraph


def measured(fit: Fit, tidy: pd.DataFrame) -> dict[Parameter, Measured]:
    """The estimates and intervals of a tidy table, by parameter."""
    columns = (tidy[name].to_numpy(dtype=float) for name in ("estimate", "conf_low", "conf_high"))
    return {p: Measured(*map(float, row)) for p, row in zip(fit._parameters, zip(*columns, strict=True), strict=True)}


def explain_fit(fit: Fit, tidy: pd.DataFrame, level: float) -> Explanation:
    """What a fit says; see `bayeslmm.REMLResult.explain`.

    Parameters
    ----------
    fit : Fit
    tidy : DataFrame
        Its tidy table.
    level : float
        Of the intervals in it.
    """
    numbers, design = measured(fit, tidy), fit.design
    paragraphs = [model_paragraph(design)]
    if not fit.status.ok:
        paragraphs.append(f"The numbers below are not to be trusted: {fit.status}.")
    paragraphs += [fixed_paragraph(design, numbers, level), spread_paragraph(design, numbers, level)]
    if design.terms:
        paragraphs.append(_shrinkage(fit))
    paragraphs.append(_reading(fit, level, any(number.ends for number in numbers.values())))
    if fit.is_singular:
        paragraphs.append(
            "A variance is estimated at the edge of what is possible (a singular fit). fit.boundary() says how large "
            "it may be and what can be done; model.sample() gives the values that the data leave, with their "
            "probabilities."
        )
    return Explanation(tuple(paragraph for paragraph in paragraphs if paragraph))


def _shrinkage(fit: Fit) -> str:
    groups = ", ".join(fit.design.groupings)
    return (
        f"What the model says of a single level of {groups} (fit.ranef(), fit.coef()) lies between the level's own "
        "data and the average of all levels: the fewer and noisier its data, the nearer to the average (shrinkage)."
    )


def _reading(fit: Fit, level: float, any_interval: bool) -> str:
    by = "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood (ML)"
    said = f"Estimates are by {by}: the values under which these data are most plausible."
    if fit.restraint is not None:
        said = f"Estimates are by {by} with {fit.restraint}, and not where the data are most plausible."
    if not any_interval:
        return said
    return (
        f"{said} Intervals are made so that {100 * level:g} of 100, in repetitions of the study, hold the true "
        "value; they are no statement about the probability of this one, which a posterior makes (model.sample())."
    )
