"""What other packages have accessors for: weights, correlations of the fixed effects."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.padding import by_row
from bayeslmm.design.readable import readable
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray


def weights(result: Fit | Draws) -> pd.Series:
    """Precision weights by row, indexed as the rows kept; ones for a model without weights.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.weights().unique().tolist()
    [1.0]
    """
    known = result.design.weights
    return by_row(result.design, np.ones(result.design.n) if known is None else known.copy(), "weights")


def correlation(fit: Fit) -> pd.DataFrame:
    """Correlation matrix of the estimated fixed effects.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.correlation().round(3).to_numpy().tolist()
    [[1.0, -0.138], [-0.138, 1.0]]
    """
    return _correlation(fit.vcov().to_numpy(), list(fit.design.fixed_names))


def correlation_of_draws(post: Draws) -> pd.DataFrame:
    """Correlation matrix of the fixed effects in the posterior."""
    p = post.design.p
    draws = np.asarray(post.data["posterior"]["beta"]).reshape(-1, p) if p else np.empty((2, 0))
    centred = draws - draws.mean(axis=0)
    return _correlation(centred.T @ centred, post.design.fixed_names)


def _correlation(covariance: FloatArray, names: list[str] | tuple[str, ...]) -> pd.DataFrame:
    sd = np.sqrt(np.diagonal(covariance))
    values = covariance / (sd[:, None] * sd)
    np.fill_diagonal(values, 1.0)
    index = pd.Index(list(names), dtype=str)
    return readable(pd.DataFrame(values, index=index, columns=index))
