"""Residuals of a posterior by their kinds: those of a fit, with parameters averaged over the draws."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag
from bayeslmm.bayes.mixed_normals import by_prior, mixed_normals
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.observations import need_observations
from bayeslmm.design.padding import by_row
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.leave_out import leave_one_out
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.results.draws import Draws
from bayeslmm.results.residual_kinds import ResidualKind, fixed_part
from bayeslmm.types import FloatArray

# Draws over which variances of residuals are averaged, and doubles held at once.
_DRAWS, _CHUNK = 100, 4_000_000
# Share of the variance of a residual below which what the fit leaves of it is rounding.
_NO_VARIANCE = 1e-10


def posterior_residuals(post: Draws, kind: ResidualKind = "raw", *, scaled: bool = False) -> pd.Series:
    """Response minus posterior means of what is fitted, indexed as the rows kept.

    Parameters
    ----------
    kind : {"raw", "pearson", "standardised", "marginal", "normalized"}
        As of a fit (`REMLResult.residuals`). ``"standardised"``: over the root of the posterior mean of their variance,
        ``sigma^2 (1 - leverage) / weight`` where rows are independent (some hundred draws). ``"marginal"``: response
        minus the fixed part. Where residuals have parameters, ``"pearson"`` and ``"normalized"`` are those at the
        posterior means of these on their scales without bounds.
    scaled : bool
        Over the posterior mean of sigma; marginal ones over the root mean of the row's variance about the fixed part.

    Returns
    -------
    pandas.Series

    Raises
    ------
    DesignError
        Another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(400, random_seed=1)
    >>> post.residuals("standardised").abs().max() < 3
    np.True_
    """
    choice("kind", kind, get_args(ResidualKind.__value__), DesignError)
    flag("scaled", scaled, DesignError)
    need_observations(post.design, "Residuals are", "post.fitted() has the fitted value of every cell.")
    design, lam = post.design, post._variance_draws.lam.mean(axis=0)
    values = design.y - (fixed_part(post) if kind == "marginal" else post._fitted)
    if kind == "pearson":
        values = values / np.sqrt(design.residual.variance(lam))
    elif kind == "normalized":
        values, scaled = design.residual.whiten(lam, values[:, None])[:, 0], True
    if kind == "standardised":
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values / _spread(post)
    elif scaled:
        values = values / (_marginal_sd(post) if kind == "marginal" else post.sigma)
    return by_row(design, values, "residual" if kind == "raw" else f"{kind} residual")


def _marginal_sd(post: Draws) -> FloatArray:
    draws, design = post._variance_draws, post.design
    variance = _mean_variance(post, draws)
    for term, T in zip(design.terms, draws.factors, strict=True):
        G = np.mean(draws.sigma[:, None, None] ** 2 * (T @ T.mT), axis=0)
        variance = variance + ((term.Z @ G) * term.Z).sum(axis=1)
    return np.asarray(np.sqrt(variance))


def _mean_variance(post: Draws, draws: VarianceDraws) -> FloatArray:
    """Posterior mean (n,) of the variance of a residual."""
    residual, square = post.design.residual, draws.sigma**2
    if not residual.names:
        return np.asarray(residual.variance(draws.lam[0]) * square.mean())
    step = max(1, _CHUNK // post.design.n)
    parts = [slice(k, k + step) for k in range(0, square.size, step)]
    return np.asarray(sum(square[own] @ residual.variance(draws.lam[own]) for own in parts) / square.size)


def _spread(post: Draws) -> FloatArray:
    """Root means (n,) of the variances of residuals; nan where an observation determines its fit."""
    design, draws = post.design, post._variance_draws
    part = draws.part(np.unique(np.linspace(0, draws.sigma.size - 1, _DRAWS).astype(np.int64)))
    cp = post.cross_products
    factors = part.block_factors(cp)
    lam = part.lam if design.residual.names else NO_PARAMETERS
    found = by_prior(
        mixed_normals(post.priors.beta, post.priors.heavy, part.beta),
        lambda own, prior: leave_one_out(cp, [F[own] for F in factors], part.sigma[own], prior, lam[own]),
    )
    relative = part.sigma[:, None] ** 2 * design.residual.variance(lam)
    if design.residual.clusters is None:
        # A row given all others has variance sigma^2 R / P, P the share of its residual that the fit leaves.
        variance = relative**2 / np.concatenate([one.sd for one in found]) ** 2
    else:
        # A new row in the same place has what is left of R beside that of the residual, twice R in all.
        variance = 2.0 * relative - np.concatenate([one.sd_kept for one in found]) ** 2
        variance = np.where(variance > _NO_VARIANCE * relative, variance, 0.0)
    mean = np.sqrt(variance.mean(axis=0))
    return np.asarray(np.where(mean > 0, mean, np.nan))
