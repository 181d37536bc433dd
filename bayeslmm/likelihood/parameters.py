"""Between parameter vectors and the relative factors of the blocks.

Two vectors are in use: the *internal* one (lower-triangular factors on the orthogonalised columns, term by
term in the order of the blocks), on which the optimiser works, and the user's *theta* (factors on the user's
columns, terms in the order of the formula, column by column: lme4's).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure, factor_from_theta
from bayeslmm.likelihood.crossproducts import Block, CrossProducts
from bayeslmm.likelihood.derivatives import Derivatives, second_derivatives
from bayeslmm.likelihood.small import transpose
from bayeslmm.types import FloatArray


def term_order(cp: CrossProducts) -> list[tuple[int, slice, CovarianceStructure]]:
    """(block, columns, structure) of every term in the internal order."""
    return [
        (b, columns, cp.design.terms[term].structure)
        for b, block in enumerate(cp.blocks)
        for term, columns in zip(block.terms, block.slices, strict=True)
    ]


def start(cp: CrossProducts) -> FloatArray:
    """Identity factors on the orthogonalised columns: between and within variation alike."""
    return np.concatenate(
        [(s.rows == s.cols).astype(float) for _, _, s in term_order(cp)] or [np.zeros(0)]
    )


def internal_factors(cp: CrossProducts, internal: FloatArray) -> list[FloatArray]:
    """Block factors (K, c, c) of K internal vectors (K, k)."""
    internal = np.atleast_2d(internal)
    factors = [np.zeros((internal.shape[0], block.size, block.size)) for block in cp.blocks]
    position = 0
    for b, columns, structure in term_order(cp):
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
    parts = [
        T[..., term.structure.rows, term.structure.cols]
        for term, T in zip(cp.design.terms, terms, strict=True)
    ]
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
    for b, columns, structure in term_order(cp):
        full = 2.0 * first.blocks[b][columns, columns] @ factors[b][0, columns, columns]
        parts.append(full[structure.rows, structure.cols])
    return np.concatenate(parts)


def hessian(cp: CrossProducts, factors: Sequence[FloatArray], first: Derivatives) -> FloatArray:
    """Hessian of the profiled criterion in the internal vector, shape (k, k)."""
    directions: list[tuple[int, FloatArray]] = []
    curvature: list[FloatArray] = []
    for b, columns, structure in term_order(cp):
        T = factors[b][0]
        for a, j in zip(structure.rows, structure.cols, strict=True):
            gamma = np.zeros_like(T)
            gamma[columns.start + a] = T[:, columns.start + j]
            directions.append((b, gamma + gamma.T))
        same = structure.cols[:, None] == structure.cols
        local = first.blocks[b][columns, columns]
        curvature.append(2.0 * local[np.ix_(structure.rows, structure.rows)] * same)
    H = second_derivatives(cp, first, directions)
    position = 0
    for block in curvature:
        stop = position + block.shape[0]
        H[position:stop, position:stop] += block
        position = stop
    return H


def block_of(cp: CrossProducts, name: str) -> tuple[int, Block]:
    """Position and block of a grouping factor."""
    for b, block in enumerate(cp.blocks):
        if block.grouping.name == name:
            return b, block
    raise KeyError(name)
