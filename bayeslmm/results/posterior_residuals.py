"""Residuals of a posterior by their kinds: those of a fit, with parameters averaged over the draws."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag
from bayeslmm.bayes.mixed_normals import by_prior, mixed_normals
from bayeslmm.design.padding import by_row
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.leave_out import leave_one_out
from bayeslmm.likelihood.parameters import block_factors
from bayeslmm.results.draws import Draws
from bayeslmm.results.residual_kinds import ResidualKind, fixed_part
from bayeslmm.types import FloatArray

# Draws over which variances of residuals are averaged.
_DRAWS = 100


def posterior_residuals(post: Draws, kind: ResidualKind = "raw", *, scaled: bool = False) -> pd.Series:
    """Response minus posterior means of what is fitted, indexed as the rows kept.

    Parameters
    ----------
    kind : {"raw", "pearson", "standardised", "marginal", "normalized"}
        As of a fit (`REMLResult.residuals`). ``"standardised"``: over the root of the posterior mean of
        ``sigma^2 (1 - leverage) / weight`` (some hundred draws). ``"marginal"``: response minus the fixed part.
    scaled : bool
        Over the posterior mean of sigma; marginal ones over the root mean of the row's variance about the fixed part.

    Returns
    -------
    pandas.Series

    Raises
    ------
    DesignError
        Another kind; standardised residuals where rows depend on one another.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(400, random_seed=1)
    >>> post.residuals("standardised").abs().max() < 3
    np.True_
    """
    choice("kind", kind, get_args(ResidualKind.__value__), DesignError)
    flag("scaled", scaled, DesignError)
    design, lam = post.design, post._variance_draws.lam[0]
    values = design.y - (fixed_part(post) if kind == "marginal" else post._fitted)
    if kind == "pearson" or kind == "standardised":
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
    variance = design.residual.variance(draws.lam[0]) * float(np.mean(draws.sigma**2))
    for term, T in zip(design.terms, draws.factors, strict=True):
        G = np.mean(draws.sigma[:, None, None] ** 2 * (T @ T.mT), axis=0)
        variance = variance + ((term.Z @ G) * term.Z).sum(axis=1)
    return np.asarray(np.sqrt(variance))


def _spread(post: Draws) -> FloatArray:
    """Root means (n,) of the variances of whitened residuals; nan where an observation determines its fit."""
    design, draws = post.design, post._variance_draws
    if design.residual.clusters is not None:
        raise DesignError(
            f"Residuals depend on one another ({design.residual.keyword}); standardised ones are those of rows that "
            "are independent given the effects. residuals('pearson') exists for all models."
        )
    part = draws.part(np.unique(np.linspace(0, draws.sigma.size - 1, _DRAWS).astype(np.int64)))
    cp = post.cross_products
    factors = block_factors(cp, part.factors)
    found = by_prior(
        mixed_normals(post.priors.beta, post.priors.heavy, part.beta),
        lambda own, prior: leave_one_out(cp, [F[own] for F in factors], part.sigma[own], prior).sd,
    )
    # A row given all others has variance sigma^2 R / P, P the share of its residual that the fit leaves.
    variance = part.sigma[:, None] ** 4 * design.residual.variance(draws.lam[0]) / np.concatenate(found) ** 2
    mean = np.sqrt(variance.mean(axis=0))
    return np.asarray(np.where(mean > 0, mean, np.nan))
