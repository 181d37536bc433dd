"""Evidence with a residual parameter held where it says nothing: no correlation, equal standard deviations.

By Savage and Dickey the Bayes factor of such a value is a ratio of evidences: with the parameter held, given which the
others keep their prior, over that of the whole model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.bayes.evidence import Evidence, integral
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.target import make_target
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.likelihood.residual_products import ResidualProducts, residual_products
from bayeslmm.residual import estimable
from bayeslmm.residual.laws import SphereLaw
from bayeslmm.types import FloatArray

# On the scales without bounds the values that mean independence are far inside.
_FAR = 30.0


def products_in_the_middle(design: Design, lam: FloatArray) -> ResidualProducts:
    """Cross-products from which a posterior is integrated: at that of its draws lam (S, k) most in the middle."""
    away = (lam - np.median(lam, axis=0)) / np.maximum(lam.std(axis=0), 1e-300)
    return residual_products(design, lam[np.argmin((away**2).sum(1))])


@dataclass(frozen=True)
class Independence:
    """Where a residual parameter says nothing.

    Attributes
    ----------
    value : float
        In the user's units: 0, or 1 for a ratio.
    lam : float
        On the scale without bounds.
    log_prior : float
        Log prior density of lam there.
    log_slope : float
        Log derivative of the parameter in lam.
    """

    value: float
    lam: float
    log_prior: float
    log_slope: float


def independence(design: Design, priors: Priors, k: int) -> Independence:
    """Where the residual parameter k means no correlation, or equal standard deviations.

    Raises
    ------
    PriorError
        There is no such value, or its prior alone has no density there.
    """
    residual, law = estimable(design.residual), priors.residual[k]
    label, place = residual.labels[k], np.zeros(len(residual.names))
    instead = "Compare post.log_evidence with that of the model without it (bl.compare of both posteriors)."
    if isinstance(law, SphereLaw):
        raise PriorError(
            f"The correlations of residual={residual.expression!r} have one prior together, uniform over matrices: "
            f"residual_{label} has none of its own to be compared with. {instead}"
        )
    ratio = label.startswith("sd_ratio")
    alone = np.count_nonzero(residual.natural(place + 0.1)[1][k]) == 1
    if not alone or not (ratio or residual.ranges[k] in ("correlation", "real")):
        why = "depends on other parameters" if not alone else "has none inside its range"
        raise PriorError(
            f"A Bayes factor asks for a value that means no correlation, or equal variances, and residual_{label} "
            f"{why}. {instead}"
        )
    value = 1.0 if ratio else 0.0

    def away(lam: float) -> float:
        place[k] = lam
        return float(residual.natural(place)[0][k]) - value

    from scipy.optimize import brentq

    place[k] = brentq(away, -_FAR, _FAR, xtol=1e-14)
    slope = float(residual.natural(place)[1][k, k])
    log_prior = float(law.log_density(place[k : k + 1], np.empty((1, 0)))[0])
    return Independence(value, float(place[k]), log_prior, float(np.log(slope)))


def log_evidence_at_independence(
    cp: ResidualProducts, priors: Priors, terms: Sequence[FloatArray], k: int, at: Independence
) -> Evidence:
    """Log p(y) given that residual parameter k is where it says nothing.

    Parameters
    ----------
    cp : ResidualProducts
        At a point near the bulk of the posterior.
    priors : Priors
    terms : sequence of FloatArray, each (c, c)
        Relative factors there.
    k : int
    at : Independence
    """
    held = np.full(len(priors.residual), np.nan)
    held[k] = at.lam
    target, start = make_target(cp, priors, terms, smooth=priors.smooth)
    place = target.n_effects + k
    found = integral(replace(target, held=held), np.delete(start, place), np.random.default_rng(0))
    return replace(found, value=found.value - at.log_prior)
