"""Priors in words and in the user's units."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.optimize import brentq

from bayeslmm.bayes.priors import Priors, SdPrior
from bayeslmm.design.design import Design
from bayeslmm.design.shared import Shared
from bayeslmm.results.labels import parameters


def prior_table(design: Design, priors: Priors) -> pd.DataFrame:
    """One row per parameter: the prior, and the value it is below with probability 0.95."""
    rows = []
    for p in parameters(design):
        if p.kind == "sd":
            prior = priors.sds[p.position][p.effects[0]]
            rows.append((p.label, str(prior), upper_95(prior)))
        elif p.kind == "sigma":
            rows.append((p.label, str(priors.sigma), upper_95(priors.sigma)))
        elif p.kind == "corr":
            rows.append((p.label, _correlation_prior(design, priors, p.position), np.nan))
        elif priors.beta is None or not priors.beta.proper[p.position]:
            rows.append((p.label, "flat", np.nan))
        else:
            mean, sd = priors.beta.mean[p.position], priors.beta.sd[p.position]
            rows.append((p.label, f"normal({mean:.4g}, sd {sd:.4g})", mean + 1.645 * sd))
    frame = pd.DataFrame(rows, columns=["parameter", "prior", "below with probability 0.95"])
    return frame.set_index("parameter")


def _correlation_prior(design: Design, priors: Priors, position: int) -> str:
    structure, eta = design.terms[position].structure, priors.lkj[position]
    if not (isinstance(structure, Shared) and structure.shared):
        return f"LKJ({eta:g})"
    low, high = structure.correlation_range
    return f"uniform({low:.4g}, {high:g})" if eta == 1 else f"beta({eta:g}, {eta:g}) on ({low:.4g}, {high:g})"


def upper_95(prior: SdPrior) -> float:
    """0.95 quantile of a proper prior; nan if improper."""
    if not prior.proper:
        return float("nan")

    def mass(upper: float) -> float:
        # log scale: priors such as the inverse gamma have most mass over many decades
        value, _ = quad(
            lambda t: float(np.exp(prior.log_density(np.array(np.exp(t))) + t)),
            np.log(upper) - 60,
            np.log(upper),
            limit=200,
        )
        return float(value) - 0.95

    scale = float(getattr(prior, "scale", getattr(prior, "mean", getattr(prior, "upper", 1.0))))
    lower, upper = 1e-3 * scale, scale
    while mass(upper) < 0:
        lower, upper = upper, 4 * upper
        if upper > 1e12 * scale:
            return float("inf")
    return float(brentq(mass, lower, upper, rtol=1e-8))
