"""Likelihood-ratio tests on the boundary by mixtures of chi-square distributions (chi-bar-square).

Asymptotically the statistic is the squared length of the projection of a normal vector onto the cone of admissible
variances, in the metric of the information about them. A half-line gives 50:50 chi2_0 and chi2_1; a quadrant weights
that depend on one correlation; for a cone of positive semidefinite matrices the projection is simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.types import BoolArray, FloatArray, IntArray

_ITERATIONS = 500
_STILL = 1e-9
# Draws that need no projection.
_CONE_DRAWS = 400_000


@dataclass(frozen=True)
class Mixture:
    """A mixture of chi-square distributions, or draws of the distribution itself.

    Attributes
    ----------
    dof : tuple of int
        Degrees of freedom; empty if there are only draws.
    weights : tuple of float
    draws : FloatArray or None, shape (m,)
    errors : tuple of float
        Monte Carlo standard errors of the weights; empty where they are exact.
    """

    dof: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    draws: FloatArray | None = None
    errors: tuple[float, ...] = ()

    def p_value(self, statistic: float) -> tuple[float, float]:
        """Probability of a statistic at least as large, and its Monte Carlo error; 1 at 0."""
        from scipy import stats

        if statistic <= 0.0:
            return 1.0, 0.0
        if self.draws is not None:
            m = self.draws.size
            p = (1.0 + int((self.draws >= statistic).sum())) / (m + 1.0)
            return p, math.sqrt(p * (1.0 - p) / m)
        tails = np.array([stats.chi2.sf(statistic, d) if d else 0.0 for d in self.dof])
        p = float(tails @ np.array(self.weights))
        # Errors of the weights of one simulation are negatively correlated: this is a bound.
        return p, float(tails @ np.array(self.errors)) if self.errors else 0.0

    @property
    def p_zero(self) -> float:
        """Probability that the statistic is exactly 0."""
        if self.draws is not None:
            return float((self.draws <= 0.0).mean())
        return float(sum(w for d, w in zip(self.dof, self.weights, strict=True) if d == 0))

    def beside(self, df: int) -> Mixture:
        """The law where as many parameters without a boundary are tested at once; not by draws."""
        return replace(self, dof=tuple(d + df for d in self.dof))

    def __str__(self) -> str:
        if self.draws is not None:
            return f"projection onto a cone ({self.draws.size:,} draws)"
        parts = [f"{w:.3g} chi2({d})" for d, w in zip(self.dof, self.weights, strict=True)]
        return " + ".join(parts)


def adding(count: int) -> Mixture:
    """The `count`-th effect beside ``count - 1`` correlated ones whose covariance has full rank.

    Parameters
    ----------
    count : int
        1 for a whole scalar term.

    References
    ----------
    Self & Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Stram & Lee (1994), Biometrics 50, 1171-1177.

    Examples
    --------
    >>> str(adding(2))
    '0.5 chi2(1) + 0.5 chi2(2)'
    """
    return Mixture((count - 1, count), (0.5, 0.5))


def orthant(information: FloatArray, draws: int, seed: int | np.random.Generator) -> Mixture:
    """Several variances at once that may be zero independently of each other.

    Parameters
    ----------
    information : FloatArray, shape (c, c)
        About the c variances, all else estimated.
    draws : int
        Of a simulation of the weights, for more than three variances.
    seed : int or numpy.random.Generator

    Returns
    -------
    Mixture

    References
    ----------
    Kudo (1963), Biometrika 50, 403-418; Shapiro (1988), Int. Stat. Rev. 56, 49-62.

    Examples
    --------
    >>> str(orthant(np.eye(2), 0, 0))
    '0.25 chi2(0) + 0.5 chi2(1) + 0.25 chi2(2)'
    """
    c = information.shape[0]
    covariance = np.linalg.inv(information)
    if c == 1:
        return adding(1)
    if c == 2:
        full = _quadrant(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))
        return Mixture((0, 1, 2), (0.5 - full, 0.5, full))
    if c == 3:
        full, none = _octant(covariance), _octant(information)
        return Mixture((0, 1, 2, 3), (none, 0.5 - full, 0.5 - none, full))
    return _orthant_by_simulation(information, draws, np.random.default_rng(seed))


def _quadrant(correlation: float) -> float:
    """Probability that two normal variables are both positive."""
    return 0.25 + math.asin(min(max(correlation, -1.0), 1.0)) / (2.0 * math.pi)


def _octant(covariance: FloatArray) -> float:
    scale = np.sqrt(np.diagonal(covariance))
    correlation = np.clip(covariance / (scale * scale[:, None]), -1.0, 1.0)
    return float(0.125 + np.arcsin(correlation[np.triu_indices(3, 1)]).sum() / (4.0 * math.pi))


def _orthant_by_simulation(information: FloatArray, draws: int, rng: np.random.Generator) -> Mixture:
    from scipy.optimize import nnls

    c = information.shape[0]
    upper = np.linalg.cholesky(information).T
    # In coordinates upper @ v the draws are standard normal and the cone is spanned by the columns.
    found = np.array([np.count_nonzero(nnls(upper, z)[0] > 0) for z in rng.standard_normal((draws, c))])
    weights = np.bincount(found, minlength=c + 1) / draws
    return Mixture(
        tuple(range(c + 1)), tuple(weights.tolist()), None, tuple(np.sqrt(weights * (1 - weights) / draws).tolist())
    )


def positive_semidefinite(information: FloatArray, draws: int, seed: int | np.random.Generator) -> Mixture:
    """A whole block of c correlated effects: the cone of covariance matrices.

    Parameters
    ----------
    information : FloatArray, shape (k, k)
        About the ``k = c (c + 1) / 2`` entries on and below the diagonal, row by row, all else estimated.
    draws : int
    seed : int or numpy.random.Generator

    Returns
    -------
    Mixture
        For two effects by weights, for more by draws.

    References
    ----------
    Shapiro (1985), Biometrika 72, 133-144; Baey, Cournede & Kuhn (2019), Comput. Stat. Data Anal. 135, 107-122.
    """
    k = information.shape[0]
    c = math.isqrt(2 * k)
    if c == 1:
        return adding(1)
    upper = np.linalg.cholesky(information).T
    if c == 2:
        return _two_effects(information, upper, np.random.default_rng(seed))
    Z = np.linalg.solve(upper, np.random.default_rng(seed).standard_normal((k, draws))).T
    G = _nearest(information, Z, c)
    lengths = np.einsum("bi,ij,bj->b", G, information, G)
    return Mixture(draws=np.where(lengths > _STILL, lengths, 0.0))


def _two_effects(information: FloatArray, upper: FloatArray, rng: np.random.Generator) -> Mixture:
    """Weights from how often a normal matrix is in the cone, or in its polar: alternate weights add up to one half."""
    Z = np.linalg.solve(upper, rng.standard_normal((3, _CONE_DRAWS))).T
    full = float(_is_positive(Z).mean())
    dual = -(Z @ information)
    dual[:, 1] /= 2.0
    none = float(_is_positive(dual).mean())
    errors = [math.sqrt(p * (1.0 - p) / _CONE_DRAWS) for p in (none, full)]
    weights = (none, 0.5 - full, 0.5 - none, full)
    return Mixture((0, 1, 2, 3), weights, None, (errors[0], errors[1], errors[0], errors[1]))


def _is_positive(entries: FloatArray) -> BoolArray:
    """Whether symmetric matrices of two rows, given by (11, 21, 22), are positive definite."""
    a, b, d = entries.T
    return np.asarray((a > 0) & (a * d > b**2))


def _nearest(information: FloatArray, Z: FloatArray, c: int) -> FloatArray:
    """Nearest positive semidefinite matrices in the metric of the information, by accelerated projected gradients."""
    rows, cols = np.tril_indices(c)
    # Congruence with the average information makes the metric close to that of the entries themselves.
    T = _whitening(information, c, rows, cols)
    M = np.linalg.inv(T)
    metric = M.T @ information @ M
    twice = np.where(rows == cols, 1.0, 2.0)
    scaled = metric / np.sqrt(twice * twice[:, None])
    target = Z @ T.T * np.sqrt(twice)
    step = 1.0 / float(np.linalg.eigvalsh(scaled)[-1])
    x = y = _clip(target, c, rows, cols)
    momentum = 1.0
    for _ in range(_ITERATIONS):
        new = _clip(y - step * (y - target) @ scaled, c, rows, cols)
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        y = new + (momentum - 1.0) / following * (new - x)
        still = float(np.abs(new - x).max()) < _STILL * float(np.abs(target).max())
        x, momentum = new, following
        if still:
            break
    return np.asarray((x / np.sqrt(twice)) @ M.T)


def _whitening(information: FloatArray, c: int, rows: IntArray, cols: IntArray) -> FloatArray:
    """Matrix (k, k) of ``G -> A G A'`` on lower entries, with A from the information about the variances."""
    diagonal = np.flatnonzero(rows == cols)
    A = np.diag(np.diagonal(information)[diagonal] ** 0.25)
    out = np.empty((rows.size, rows.size))
    for j, (a, b) in enumerate(zip(rows, cols, strict=True)):
        E = np.zeros((c, c))
        E[a, b] = E[b, a] = 1.0
        out[:, j] = (A @ E @ A.T)[rows, cols]
    return out


def _clip(x: FloatArray, c: int, rows: IntArray, cols: IntArray) -> FloatArray:
    """Project matrices, given by lower entries (B, k) in an orthonormal basis, by their eigenvalues."""
    root = np.where(rows == cols, 1.0, math.sqrt(2.0))
    G = np.zeros((x.shape[0], c, c))
    G[:, rows, cols] = x / root
    G[:, cols, rows] = x / root
    values, vectors = np.linalg.eigh(G)
    G = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.mT
    return np.asarray(G[:, rows, cols] * root)
