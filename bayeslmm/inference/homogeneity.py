"""Homogeneity under known residual variances: Cochran's Q, and intervals of a variance by inverting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, chdtri

from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts, derivatives, evaluate
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray, IntArray

# Doublings of an upper end before it counts as infinite.
_DOUBLINGS = 200
# Rows up to which contrasts are formed densely.
_DENSE = 2_000


@dataclass(frozen=True)
class Homogeneity:
    """Cochran's test that nothing varies but the residuals.

    Attributes
    ----------
    statistic : float
        Q: weighted residual sum of squares of the fixed effects alone.
    df : int
        n - p.
    p_value : float
        Exact, by the chi-square distribution.
    """

    statistic: float
    df: int
    p_value: float


def cochran_q(design: Design) -> Homogeneity:
    """Cochran's Q of a design whose residual variances are known.

    References
    ----------
    Cochran (1954), Biometrics 10, 101-129.
    """
    if design.sigma is None:
        raise ValueError("Q needs residual variances that are known")
    white = design.whitened(np.column_stack([design.X, design.y_less_offset])) / design.sigma
    # Reflections lose nothing where one row outweighs all others, if heavy rows come first.
    triangle = np.linalg.qr(white[_heavy_first(white)], mode="r")
    q, df = float(triangle[design.p, design.p] ** 2), design.n_observations - design.p
    return Homogeneity(q, df, float(chdtrc(df, q)))


def _heavy_first(rows: FloatArray) -> IntArray:
    """Order of rows by their largest entry."""
    return np.argsort(-np.abs(rows).max(axis=1, initial=0.0), kind="stable")


def generalised_q(cp: CrossProducts, tau: float) -> float:
    """Q with the variance tau^2 of the only random effect in its weights: ``y'P(tau) y``, chi-square at the true tau.

    Parameters
    ----------
    cp : CrossProducts
        Of a model with one random effect per level and a known sigma.
    tau : float
        Units of y.
    """
    assert cp.sigma is not None
    unit = float(cp.blocks[0].inverse_basis[0, 0])
    factor = evaluate(cp, [np.full((1, 1, 1), unit * tau / cp.sigma)])
    return float(factor.r2[0]) / cp.sigma**2


def q_profile(cp: CrossProducts, level: float) -> tuple[float, float]:
    """Interval of tau by the values at which the generalised Q is a likely one (Q-profile).

    Both ends are zero where Q is too small for any tau, and nan where rows of one level differ too much for any.

    References
    ----------
    Viechtbauer (2007), Statistics in Medicine 26, 37-52.
    """
    df, tail = cp.n - cp.p, 0.5 * (1.0 - level)
    low, high = _tau_at(cp, float(chdtri(df, tail))), _tau_at(cp, float(chdtri(df, 1.0 - tail)))
    return (low, high) if np.isfinite(low) else (float("nan"), float("nan"))


def paule_mandel(cp: CrossProducts) -> float:
    """Tau at which the generalised Q is its expectation (Paule & Mandel 1982), zero where it is below it at zero."""
    return _tau_at(cp, float(cp.n - cp.p))


def _tau_at(cp: CrossProducts, value: float) -> float:
    """Tau at which the generalised Q, which falls, has a value; zero if it is below that at zero."""
    return falling_root(lambda tau: generalised_q(cp, tau) - value, cp.response.spread / cp.sigma_unit)


def falling_root(function: Callable[[float], float], unit: float) -> float:
    """Where a falling function of a number above zero is zero; 0 if it is below that there, inf if nowhere."""
    from scipy.optimize import brentq

    if not function(0.0) > 0:
        return 0.0
    low, high = 0.0, unit if unit > 0 else 1.0
    for _ in range(_DOUBLINGS):
        if function(high) <= 0:
            return float(brentq(function, low, high, xtol=1e-300, rtol=1e-14))
        low, high = high, 2.0 * high
    return float("inf")


def typical_variance(design: Design) -> float:
    """Typical residual variance of a row: ``(n - p) / tr(P)``, P the weights less what the fixed effects take up.

    References
    ----------
    Higgins & Thompson (2002), Statistics in Medicine 21, 1539-1558.
    """
    if design.sigma is None:
        raise ValueError("a typical residual variance needs residual variances that are known")
    white, counts = design.whitened(design.X), design.counts
    weights = np.asarray(design.row_weights if design.row_weights is not None else counts)
    # Of one of the observations that a row stands for.
    each = weights / counts
    if design.n <= _DENSE:
        # Orthonormal contrasts lose nothing where one row outweighs all others.
        order = _heavy_first(white)
        rest = np.linalg.qr(white[order], mode="complete")[0][:, design.p :]
        trace = float(((rest.T * np.sqrt(each[order])) ** 2).sum() + each @ (counts - 1))
    else:
        trace = float(weights.sum() - each @ (np.linalg.qr(white)[0] ** 2).sum(axis=1))
    return (design.n_observations - design.p) / trace * design.sigma**2


def dersimonian_laird(test: Homogeneity, typical: float) -> float:
    """Tau^2 by the moments of Q of DerSimonian & Laird (1986), for one random effect per row; zero at least.

    Parameters
    ----------
    test : Homogeneity
        Of `cochran_q`.
    typical : float
        Of `typical_variance`.
    """
    trace = test.df / typical
    return max(0.0, (test.statistic - test.df) / trace)


def expected_errors(cp: CrossProducts, optimum: Optimum) -> FloatArray:
    """Standard errors (blocks,) of the variances of models with one effect per block, by the expected information."""
    assert cp.sigma is not None
    factors = list(optimum.factors)
    first = derivatives(cp, factors, optimum.factor, optimum.reml)
    traces = first.pieces.traces([np.ones((1, 1, 1, 1)) for _ in cp.blocks])[0]
    # The information is half of these traces, in the internal units of relative variances.
    units = np.array([float(block.inverse_basis[0, 0]) ** 2 for block in cp.blocks])
    covariance = 2.0 * np.linalg.pinv(traces, hermitian=True)
    return np.asarray(np.sqrt(np.maximum(np.diagonal(covariance), 0.0)) / units * cp.sigma**2)
