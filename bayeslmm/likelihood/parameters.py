"""Between parameter vectors and the relative factors of the blocks.

Two vectors are in use: the *internal* one (lower-triangular factors on the orthogonalised columns, term by
term in the order of the blocks), on which the optimiser works, and the user's *theta* (factors on the user's
columns, terms in the order of the formula, column by column: lme4's).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.design.covariance import factor_from_theta
from bayeslmm.likelihood.crossproducts import CrossProducts, Levels
from bayeslmm.likelihood.derivatives import Derivatives, second_derivatives
from bayeslmm.likelihood.small import transpose
from bayeslmm.likelihood.starts import moment_factors
from bayeslmm.types import FloatArray

# Ratios of between to within standard deviation tried beside the moment estimate before the first step: a batch of
# points costs little more than one, and a single variance can have two local minima.
_RATIOS = np.geomspace(0.06, 16.0, 25)
_FEW = np.array([0.3, 1.0, 3.0])


def starts(cp: CrossProducts) -> FloatArray:
    """Candidate starts (K, k): the moment estimate and, where evaluations are cheap, multiples of the identity."""
    candidates = [from_blocks(cp, moment_factors(cp))]
    order = cp.term_order
    diagonal = np.concatenate([s.rows == s.cols for _, _, s in order])
    if isinstance(cp.store, Levels):
        ratios = _RATIOS if diagonal.sum() == 1 else _FEW
        candidates += [np.where(diagonal, ratio, 0.0) for ratio in ratios]
    return np.array(candidates)


def from_blocks(cp: CrossProducts, factors: Sequence[FloatArray]) -> FloatArray:
    """Internal vector (k,) from lower-triangular factors (c, c) of the blocks, or what the structures keep of them."""
    parts = []
    for b, columns, structure in cp.term_order:
        T = factors[b]
        own = (
            np.linalg.cholesky((T @ T.T)[columns, columns])
            if structure.basis_free
            else np.diag(np.sqrt((T**2).sum(1)[columns]))
        )
        parts.append(own[structure.rows, structure.cols])
    return np.concatenate(parts)


def internal_factors(cp: CrossProducts, internal: FloatArray) -> list[FloatArray]:
    """Block factors (K, c, c) of K internal vectors (K, k)."""
    internal = np.atleast_2d(internal)
    factors = [np.zeros((internal.shape[0], block.size, block.size)) for block in cp.blocks]
    position = 0
    for b, columns, structure in cp.term_order:
        stop = position + len(structure.rows)
        factors[b][:, columns, columns] = factor_from_theta(structure, internal[:, position:stop])
        position = stop
    return factors


def term_factors(cp: CrossProducts, factors: Sequence[FloatArray]) -> list[FloatArray]:
    """Canonical lower-triangular factors on the user's columns, terms in the order of the formula.

    Parameters
    ----------
    factors : sequence of FloatArray, each (K, c, c)
        Internal factors of the blocks.

    Returns
    -------
    list of FloatArray, each (K, c, c)
        Nonnegative diagonal.
    """
    out: list[FloatArray] = [np.zeros((0, 0, 0))] * len(cp.design.terms)
    for block, T in zip(cp.blocks, factors, strict=True):
        for term, columns in zip(block.terms, block.slices, strict=True):
            out[term] = canonical(block.basis[columns, columns] @ T[:, columns, columns])
    return out


def block_factors(cp: CrossProducts, terms: Sequence[FloatArray]) -> list[FloatArray]:
    """Internal factors of the blocks from factors (K, c, c) on the user's columns, term by term."""
    factors = []
    for block in cp.blocks:
        T = np.zeros((terms[0].shape[0], block.size, block.size))
        for term, columns in zip(block.terms, block.slices, strict=True):
            T[:, columns, columns] = block.inverse_basis[columns, columns] @ terms[term]
        factors.append(T)
    return factors


def canonical(T: FloatArray) -> FloatArray:
    """The lower-triangular square root of T T' with nonnegative diagonal, by orthogonal reduction.

    Works at singular T: an orthogonal reduction needs no pivot to be positive.
    """
    if T.shape[-1] == 1:
        return np.abs(T)
    upper = np.linalg.qr(transpose(T), mode="r")
    signs = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
    lower: FloatArray = transpose(upper * signs[..., :, None])
    return np.tril(lower)


def theta_from_terms(cp: CrossProducts, terms: Sequence[FloatArray]) -> FloatArray:
    """The user's theta (K, k) from factors on the user's columns."""
    parts = [T[..., term.structure.rows, term.structure.cols] for term, T in zip(cp.design.terms, terms, strict=True)]
    return np.concatenate(parts, axis=-1)


def terms_from_theta(cp: CrossProducts, theta: FloatArray) -> list[FloatArray]:
    """Factors (K, c, c) on the user's columns from theta (K, k)."""
    theta = np.atleast_2d(theta)
    ends = np.cumsum([0, *(len(term.structure.rows) for term in cp.design.terms)])
    return [
        factor_from_theta(term.structure, theta[:, a:b])
        for term, a, b in zip(cp.design.terms, ends[:-1], ends[1:], strict=True)
    ]


def gradient(cp: CrossProducts, factors: Sequence[FloatArray], first: Derivatives) -> FloatArray:
    """Gradient of the profiled criterion in the internal vector, shape (k,)."""
    parts = []
    for b, columns, structure in cp.term_order:
        full = 2.0 * first.blocks[b][columns, columns] @ factors[b][0, columns, columns]
        parts.append(full[structure.rows, structure.cols])
    return np.concatenate(parts)


def hessian(cp: CrossProducts, factors: Sequence[FloatArray], first: Derivatives) -> FloatArray:
    """Hessian of the profiled criterion in the internal vector, shape (k, k)."""
    directions: list[list[FloatArray]] = [[] for _ in cp.blocks]
    curvature: list[FloatArray] = []
    for b, columns, structure in cp.term_order:
        T = factors[b][0]
        rows, cols = structure.rows, structure.cols
        gamma = np.zeros((rows.size, *T.shape))
        gamma[np.arange(rows.size), columns.start + rows] = T[:, columns.start + cols].T
        directions[b].append(gamma + transpose(gamma))
        local = first.blocks[b][columns, columns]
        curvature.append(2.0 * local[np.ix_(rows, rows)] * (cols[:, None] == cols))
    stacks = [d[0] if len(d) == 1 else np.concatenate(d) for d in directions]
    H = second_derivatives(cp, first, stacks)
    position = 0
    for local in curvature:
        stop = position + local.shape[0]
        H[position:stop, position:stop] += local
        position = stop
    return H
