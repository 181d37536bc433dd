"""A posterior in plain words."""

from __future__ import annotations

import numpy as np

from bayeslmm.results.digits import probability
from bayeslmm.results.draws import Draws
from bayeslmm.results.labels import Parameter
from bayeslmm.results.negligible import negligible_sd
from bayeslmm.words.explanation import Explanation
from bayeslmm.words.numbers import Measured
from bayeslmm.words.parts import fixed_paragraph, model_paragraph, spread_paragraph

# Highest-density intervals that begin below this share of their end begin at zero.
_AT_ZERO = 1e-3


def measured(post: Draws, level: float) -> dict[Parameter, Measured]:
    """Means (medians where there is no finite mean) and highest-density intervals, by parameter."""
    table = post.table(level)
    out = {}
    for p in post._parameters:
        row = np.asarray(table.loc[p.label, ["mean", "median", "hdi_low", "hdi_high"]], dtype=float)
        mean, median, low, high = map(float, row)
        out[p] = Measured(mean if np.isfinite(mean) else median, low, high)
    return out


def explain_posterior(post: Draws, level: float) -> Explanation:
    """What a posterior says; see `bayeslmm.Posterior.explain`.

    Parameters
    ----------
    post : Draws
    level : float
        Probability of the intervals.
    """
    numbers, design = measured(post, level), post.design
    paragraphs = [
        model_paragraph(design),
        fixed_paragraph(design, numbers, level),
        spread_paragraph(design, numbers, level),
        *near_zero(post, numbers),
        _reading(level),
    ]
    return Explanation(tuple(paragraph for paragraph in paragraphs if paragraph))


def near_zero(post: Draws, numbers: dict[Parameter, Measured]) -> list[str]:
    """A sentence for every sd whose interval begins at zero."""
    out = []
    for p, number in numbers.items():
        if p.kind != "sd" or not number.low <= _AT_ZERO * number.high:
            continue
        delta = negligible_sd(post.design, p)
        share = post.probability_below(p.label, delta)
        out.append(
            f"{p.label} may well be near zero: read the upper end of its interval as a limit. The probability that it "
            f"is negligible, below {delta:.2g}, is {probability(share, post.n_draws)}."
        )
    return out


def _reading(level: float) -> str:
    return (
        f"Numbers are posterior means; an interval holds its parameter with probability {100 * level:g} %, given these "
        "data, the model and its priors (model.priors() has them in words). All parameters are uncertain together: "
        "intervals of the averages count that the standard deviations are not known."
    )
