"""Whether one residual structure is a special case of another."""

from __future__ import annotations

import numpy as np
from scipy.special import comb

from bayeslmm.design.residual_text import INDEPENDENT, ResidualPart, parse_residual
from bayeslmm.inference.mixture import Mixture
from bayeslmm.residual import Estimable, Residual
from bayeslmm.residual.correlation import (
    ContinuousSerialCorrelation,
    DistanceCorrelation,
    MovingAverageCorrelation,
    within_arms,
)
from bayeslmm.residual.spread import ConstantPlusPower
from bayeslmm.residual.structured import CorrelatedRows, spread_parts
from bayeslmm.results.fit import Fit

# Of the same visits and groups: what each is a special case of.
_WIDER = {
    "cs": ("csh", "toep", "toeph", "us"),
    "csh": ("toeph", "us"),
    "ar1": ("ar1h", "toep", "toeph", "ad", "adh", "arma", "us"),
    "ar1h": ("toeph", "adh", "us"),
    "toep": ("toeph", "us"),
    "toeph": ("us",),
    "ad": ("adh", "us"),
    "adh": ("us",),
}
# Of variances: those that every visit has of its own.
_HETEROGENEOUS = ("us", "ar1h", "csh", "toeph", "adh")


def written(fit: Fit) -> str:
    """What stands behind a formula in a list of models."""
    residual = fit.design.residual
    if not residual.names and not fit.design.terms:
        return f", residual={INDEPENDENT!r}"
    return f", residual={residual.expression!r}" if isinstance(residual, Estimable) and residual.names else ""


def not_within(small: Residual, large: Residual) -> str:
    """Why the smaller structure is no special case of the larger; empty if it is.

    Equal and independent residuals are one of all structures.
    """
    if not small.names:
        return ""
    if not isinstance(small, Estimable) or not isinstance(large, Estimable) or not large.names:
        return "the residual structure of the smaller is not in the larger"
    own, wider = parse_residual(small.expression), list(parse_residual(large.expression))
    for part in own:
        if not any(_covers(part, other) for other in wider):
            return f"residual {part.text} of the smaller is no special case of {large.expression}"
    return ""


def residual_law(small: Residual, large: Residual, effects: bool = False) -> Mixture | str:
    """Asymptotic distribution of the likelihood ratio of two nested residual structures, or why none is known.

    Parameters
    ----------
    small, large : Residual
        The smaller one may be equal and independent residuals.
    effects : bool
        Whether there are random effects beside them.

    Notes
    -----
    A correlation that starts at zero, as a function of a range or of continuous time, has one direction only. Under
    independence what the data say of it is unrelated to standard deviations and to the correlation in another arm, so
    that weights of several are binomial.
    """
    df = len(large.names) - len(small.names)
    # Correlations that the smaller one does not have.
    new = within_arms(large.correlation) if isinstance(large, CorrelatedRows) and small.clusters is None else None
    if isinstance(new, MovingAverageCorrelation):
        return "without correlation both parameters of arma are one, so that no distribution is known"
    kept = spread_parts(small)
    if any(isinstance(own, ConstantPlusPower) and own not in kept for own in spread_parts(large)):
        return "with equal variances a constant and a power cannot be told apart, so that no distribution is known"
    if not isinstance(large, CorrelatedRows) or not isinstance(new, ContinuousSerialCorrelation | DistanceCorrelation):
        return Mixture((df,), (1.0,))
    count = len(large.correlation.names)
    if count > 1 and effects:
        return "weights of correlations of several arms beside random effects are not known"
    weights = (comb(count, np.arange(count + 1)) / 2.0**count).tolist()
    return Mixture(tuple(df - count + k for k in range(count + 1)), tuple(weights))


def _covers(small: ResidualPart, large: ResidualPart) -> bool:
    """Whether a part is a special case of another."""
    if small.text == large.text:
        return True
    if not large.correlated:
        return False
    if not small.correlated:
        # Variances by visit are in structures that have one for each.
        return small.keyword == "by" and large.keyword in _HETEROGENEOUS and small.left == large.left
    same_place = small.group == large.group and (small.left == large.left or not small.left)
    same_arms = small.by in ("", large.by)
    wider = (small.keyword, *_WIDER.get(small.keyword, ()))
    return same_place and same_arms and large.keyword in wider
