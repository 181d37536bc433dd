"""Asymptotic covariance of the estimated variances and covariances, from the exact curvature of the criterion.

The criterion with sigma profiled out has the Hessian H in coordinates x of the relative covariance. With
``s = log sigma^2``, which is ``log(r2(x) / nu)`` at its minimum, the inverse of half the joint Hessian is

    cov(x) = 2 H^-1 ,   cov(x, s) = cov(x) g ,   var(s) = g' cov(x) g + 2 / nu ,   g = d log r2 / dx ,

nu = n - p (REML) or n (ML). Entries of ``Sigma = sigma^2 G(x)`` follow by their exact derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.errors import FitError
from bayeslmm.inference.satterthwaite import slopes_of_log_r2
from bayeslmm.inference.sensitivity import MOVED, ScaledInverse, scaled_inverse
from bayeslmm.likelihood import CrossProducts, derivatives
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import residual_df
from bayeslmm.reml import FitStatus, Optimum
from bayeslmm.reml.fixed import free_entries
from bayeslmm.types import BoolArray, FloatArray

# Curvatures below this, after scaling to a unit diagonal, are none.
_FLAT = 1e-8


@dataclass(frozen=True)
class VarianceCovariance:
    """Covariance of the entries of all covariance matrices and of the residual variance.

    Attributes
    ----------
    entries : tuple of (int, int, int)
        Position of the term and two effects, the first one not before the second; sigma^2 comes last, beyond these.
    values : FloatArray, shape (q,)
        The estimates, units of y squared.
    covariance : FloatArray, shape (q, q)
        To first order; zero in directions that have no variance.
    determined : BoolArray, shape (q,)
        Whether the data tell an entry.
    """

    entries: tuple[tuple[int, int, int], ...]
    values: FloatArray
    covariance: FloatArray
    determined: BoolArray

    def place(self, term: int, a: int, b: int) -> int:
        """Position of an entry."""
        return self.entries.index((term, max(a, b), min(a, b)))


def variance_covariance(cp: CrossProducts, optimum: Optimum) -> VarianceCovariance:
    """Covariance of the estimated variances and covariances of a REML or ML fit.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
        Terms that were held fixed relative to sigma vary with sigma alone.

    Returns
    -------
    VarianceCovariance

    Raises
    ------
    FitError
        No minimum, or no residual variance.

    References
    ----------
    Searle, Casella & McCulloch (1992), Variance Components, ch. 6; Harville (1977), J. Amer. Statist. Assoc. 72.
    """
    if optimum.status is FitStatus.non_finite or (cp.sigma is None and not optimum.factor.r2[0] > 0):
        raise FitError(
            "The residual variance is zero: the model reproduces the response exactly, and the criterion has no "
            "curvature that could say how well variances are known. Remove a random term."
        )
    factors = list(optimum.factors)
    first = derivatives(cp, factors, optimum.factor, optimum.reml)
    free = free_entries(cp, optimum.fixed)
    known = scaled_inverse(optimum.hessian[None], _FLAT, par.sizes(cp, factors)[:, free] if optimum.ridges else None)
    if not known.smallest[0] > -_FLAT:
        raise FitError(
            f"Standard errors of variances need a minimum of the criterion, and it does not curve upwards where the "
            f"optimisation ended ({optimum.status}). See fit.status."
        )
    slope = slopes_of_log_r2(cp, optimum.internal, first)[free]
    entries, values, along = _entries(cp, optimum)
    along = along[:, free]
    joint = known.joint(slope, residual_df(cp, optimum.reml))
    J = np.column_stack([along, values])
    return VarianceCovariance(entries, values, J @ joint @ J.T, _determined(known, along, slope, values, entries))


def _entries(cp: CrossProducts, optimum: Optimum) -> tuple[tuple[tuple[int, int, int], ...], FloatArray, FloatArray]:
    """Entries of the covariances and sigma^2, their values (q,) and derivatives (q, k) in the internal vector."""
    total = optimum.internal.size
    names: list[tuple[int, int, int]] = []
    values: list[FloatArray] = []
    rows: list[FloatArray] = []
    for b, columns, term, own, structure in cp.frame.terms:
        W = par.frame(cp, b, columns, structure)
        change = structure.directions(optimum.internal[own])
        B = cp.blocks[b].basis[columns, columns]
        B = B if W is None else B @ W
        a, c = np.tril_indices(B.shape[0])
        names += [(term, int(i), int(j)) for i, j in zip(a, c, strict=True)]
        values.append((optimum.terms[term] @ optimum.terms[term].T)[a, c])
        along = np.zeros((a.size, total))
        along[:, own] = (B @ change @ B.T)[:, a, c].T
        rows.append(along)
    values.append(np.ones(1))
    rows.append(np.zeros((1, total)))
    return tuple(names), optimum.sigma**2 * np.concatenate(values), optimum.sigma**2 * np.concatenate(rows)


def _determined(
    known: ScaledInverse,
    along: FloatArray,
    slope: FloatArray,
    values: FloatArray,
    entries: tuple[tuple[int, int, int], ...],
) -> BoolArray:
    """Whether entries stay as they are along directions in which the criterion is flat."""
    variance = {name: value for name, value in zip(entries, values, strict=False) if name[1] == name[2]}
    size = np.array([*(np.sqrt(variance[k, a, a] * variance[k, b, b]) for k, a, b in entries), values[-1]])
    moved = (along + values[:, None] * slope) / np.where(size > 0, size, values[-1])[:, None]
    return np.asarray(known.lost(moved[None])[0] <= MOVED)
