"""The matrices of a fit, its mixed-model equations and how far levels are shrunk, as in textbooks."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from bayeslmm.design.readable import readable
from bayeslmm.results.fit import Fit
from bayeslmm.teaching import Matrices, MixedModelEquations, build_matrices, effects_by_term, henderson, shrinkage_table
from bayeslmm.types import FloatArray


def matrices(fit: Fit) -> Matrices:
    """X, Z, Lambda, G, R and V at the estimates, with names on rows and columns."""
    return build_matrices(fit.design, fit.optimum.terms, fit.sigma)


def mme(fit: Fit, form: Literal["auto", "b", "u"] = "auto") -> MixedModelEquations:
    """Henderson's mixed-model equations at the estimates, solved, with standard errors.

    Parameters
    ----------
    form : {"auto", "b", "u"}
        Unknowns (beta, b), which needs G^-1, or (beta, u) with b = Lambda u, which does not. ``"auto"`` takes the
        first unless G is singular.

    Raises
    ------
    FitError
        ``form="b"`` with a singular G.
    DesignError
        So many effects that C^-1 would have more than 25 million entries.
    """
    effects = [effects.ravel() for effects in _effects(fit)]
    reference = np.concatenate([fit.fixef().to_numpy(), *effects])
    return henderson(fit.design, fit.optimum.terms, fit.sigma, reference, form)


def shrinkage(fit: Fit) -> pd.DataFrame:
    """How far every level is drawn towards the mean.

    Returns
    -------
    pandas.DataFrame
        One row per term, level and effect. ``n``: rows of the level. ``raw``: least squares on the level alone, of
        what the fixed effects and the predictions of the other terms leave; nan where the level does not determine
        it. ``blup``: the prediction; for every level ``blup = W raw``. ``weight``: diagonal of the shrinkage matrix
        ``W = Sigma (Sigma + sigma^2 (Z_i'Z_i)^-1)^-1``, for one intercept ``sd^2 / (sd^2 + sigma^2 / n)``: 1 is the
        level's own mean, 0 the overall mean. ``weight_min``, ``weight_max``: extreme eigenvalues of W, always in
        [0, 1); entries of its diagonal need not be, when a term has several correlated effects.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.shrinkage()[["level", "n", "raw", "blup", "weight"]].head(2).round(4)
      level  n   raw     blup  weight
    0     A  5 -22.5 -17.6069  0.7825
    1     B  5   0.5   0.3913  0.7825
    """
    return readable(shrinkage_table(fit.design, fit.optimum.terms, fit.fixef().to_numpy(), _effects(fit)))


def _effects(fit: Fit) -> tuple[FloatArray, ...]:
    """Predictions (J, c) of every term, in the order of the formula."""
    return effects_by_term(fit.design, {group: frame.to_numpy() for group, frame in fit.ranef().items()})
