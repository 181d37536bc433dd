"""Other responses for a fit whose residuals have parameters: one, or simulated ones (the parametric bootstrap)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import MOST_REFITS, whole
from bayeslmm.arguments import labels as text_labels
from bayeslmm.design.readable import headed
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimise_residual
from bayeslmm.residual import refuse_parameters
from bayeslmm.results.fit import Fit
from bayeslmm.results.refits import check_responses, with_response
from bayeslmm.results.sampling import generator


def refit_residual[F: Fit](fit: F, y: ArrayLike) -> F:
    """The same model fitted to another response.

    Parameters
    ----------
    y : array-like, shape (n,)
        For the rows used, in their order.

    Raises
    ------
    DesignError
        Another number of values, or some that are no finite numbers.
    """
    design = with_response(fit.design, check_responses(fit.design, y, 1))
    return _with(fit, optimise_residual(design, fit.reml))


def _with[F: Fit](fit: F, optimum: ResidualOptimum) -> F:
    return replace(fit, design=optimum.original, cp=optimum.cp, optimum=optimum)


def bootstrap_residual(
    fit: Fit, n: int = 200, random_seed: int | np.random.Generator | None = None, **others: Any
) -> pd.DataFrame:
    """Estimates of all parameters for responses simulated from the fit.

    Parameters
    ----------
    n : int
        Responses; every one is fitted by itself.
    random_seed : int or numpy.random.Generator, optional
    **others
        Further arguments of other fits' bootstrap, refused.

    Returns
    -------
    pandas.DataFrame
        One row for each response that could be fitted, a column for every parameter.
    """
    if others:
        refuse_parameters(fit.design.residual, f"bootstrap({', '.join(f'{name}=' for name in others)})")
    number, rng = whole("n", n, 1, MOST_REFITS, DesignError), generator(random_seed)
    optimum, design = fit.optimum, fit.design
    beta = fit.fixef().to_numpy()
    Y = simulate_responses(design, list(optimum.terms), optimum.sigma, beta, number, rng, optimum.lam)
    rows = []
    for y in Y.T:
        try:
            rows.append(_with(fit, optimise_residual(replace(design, y=y), fit.reml)).estimates())
        except FitError:
            continue
    found = pd.DataFrame(rows, columns=[p.label for p in fit._parameters]).reset_index(drop=True)
    return headed(found, f"{len(found)} responses simulated from the fit, and fitted")


def bootstrap_ends(
    fit: Fit,
    n: int,
    random_seed: int | np.random.Generator | None,
    level: float,
    labels: str | Sequence[str] | None,
) -> pd.DataFrame:
    """Percentiles of the bootstrap."""
    known = [p.label for p in fit._parameters]
    names = known if labels is None else list(text_labels("parameters", labels, known, DesignError))
    found = bootstrap_residual(fit, n, random_seed)
    ends = found[names].quantile([0.5 - level / 2, 0.5 + level / 2]).T
    return pd.DataFrame(ends.to_numpy(), index=names, columns=["conf_low", "conf_high"])
