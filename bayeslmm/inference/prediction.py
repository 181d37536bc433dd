"""Error of a prediction: variance of ``x'(beta^ - beta) + z'(b^ - b)`` with both estimated together.

The covariance of (beta^ - beta, b^ - b) is the inverse of Henderson's mixed-model equations, singular covariances
included. No inverse is formed: a row is carried through the elimination, which leaves a sum of squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayeslmm.design.newdata import Rows
from bayeslmm.likelihood import CrossProducts, Factor, small
from bayeslmm.likelihood.elimination import Column, forward
from bayeslmm.likelihood.factor import apply_lambda
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.types import FloatArray, IntArray

# Doubles held at once.
_CHUNK = 4_000_000


def prediction_variance(
    cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, rows: Rows, groups: Sequence[str]
) -> FloatArray:
    """Variance of the predicted mean less the true mean at some rows, theta taken as known, divided by sigma^2.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors of the blocks.
    factor : Factor
        ``evaluate(cp, factors)``.
    rows : Rows
    groups : sequence of str
        Grouping factors whose effects are part of the mean; levels that the design does not have count as zero.

    Returns
    -------
    FloatArray, shape (k,)

    References
    ----------
    Henderson (1975), Biometrics 31, 423-447; Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), for the
    equations in u.
    """
    out = np.empty(rows.n)
    first = cp.blocks[0]
    width = first.size * cp.q_trailing + cp.q_trailing + cp.p + 1
    if isinstance(cp.store, Hierarchy):
        width = sum(block.q for block in cp.blocks) + cp.p
    compute = _by_hierarchy if isinstance(cp.store, Hierarchy) else _by_levels
    step = max(1, _CHUNK // width)
    for start in range(0, rows.n, step):
        part = slice(start, min(start + step, rows.n))
        own = rows.part(part)
        known = [_effects(cp, own, b, groups) for b in range(len(cp.blocks))]
        out[part] = compute(cp, factors, factor, own.X @ cp.fixed.transform, known)
    return out


def new_level_variance(terms: Sequence[FloatArray], rows: Rows, n_levels: Mapping[int, tuple[str, int]]) -> FloatArray:
    """Variance of ``z'b`` of levels that the design does not have, divided by sigma^2, shape (k,).

    Parameters
    ----------
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    rows : Rows
    n_levels : mapping of int to (str, int)
        For the position of every term asked for its grouping factor and its number of levels.
    """
    total = np.zeros(rows.n)
    for k, (group, levels) in n_levels.items():
        new = rows.levels[group].codes >= levels
        total += np.where(new, ((rows.Z[k] @ terms[k]) ** 2).sum(1), 0.0)
    return total


def _effects(cp: CrossProducts, rows: Rows, b: int, groups: Sequence[str]) -> tuple[FloatArray, IntArray]:
    """Internal columns (k, c) of a block and the level of each row; zeros where the level is not known."""
    block = cp.blocks[b]
    name = block.grouping.name
    if name not in groups:
        return np.zeros((rows.n, block.size)), np.zeros(rows.n, dtype=np.int64)
    codes = rows.levels[name].codes
    known = codes < block.n_levels
    Z = np.concatenate([rows.Z[k] for k in block.terms], axis=1)
    return np.where(known[:, None], Z @ block.basis, 0.0), np.where(known, codes, 0)


def _trailing(cp: CrossProducts, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]], start: int) -> FloatArray:
    """Coefficients (k, t) of the random effects of the blocks from `start` on and of beta."""
    n = x.shape[0]
    out = np.zeros((n, cp.q_trailing + cp.p))
    out[:, cp.q_trailing :] = x
    place = 0
    for block, (w, codes) in zip(cp.blocks[start:], known[start:], strict=True):
        columns = place + codes[:, None] * block.size + np.arange(block.size)
        out[np.arange(n)[:, None], columns] = w
        place += block.q
    return out


def _by_levels(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    x: FloatArray,
    known: Sequence[tuple[FloatArray, IntArray]],
) -> FloatArray:
    store, T = cp.levels, factors[0][0]
    w, codes = known[0]
    F = store.R @ T
    Ft = small.transpose(F)
    within = small.cholesky(small.add_identity(Ft @ F))
    between = small.cholesky(small.add_identity(F @ Ft))
    right = (w @ T)[..., None]
    own = small.solve_lower(within[codes], right)
    half = small.solve_lower(between[codes], F[codes] @ right)
    coupling = small.solve_lower(between, store.E[..., :-1])
    rest = _trailing(cp, x, known, 1) - np.einsum("kct,kc->kt", coupling[codes], half[..., 0])
    columns = apply_lambda(cp, factors[1:], rest.T[None])[0] if cp.q_trailing else rest.T
    scaled = np.linalg.solve(factor.chol[0], columns)
    return np.asarray((own[..., 0] ** 2).sum(1) + (scaled**2).sum(0))


def _by_hierarchy(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    x: FloatArray,
    known: Sequence[tuple[FloatArray, IntArray]],
) -> FloatArray:
    h = cp.store
    if not isinstance(h, Hierarchy) or factor.hierarchy is None:
        raise TypeError("the factor of a single point of a hierarchy is needed")
    eliminated, dense = factor.hierarchy
    T, n = factors[0][0], x.shape[0]
    w, codes = known[0]
    F = h.R @ T
    Ft = small.transpose(F)
    within = small.cholesky(small.add_identity(Ft @ F))
    right = (w @ T)[..., None]
    total = (small.solve_lower(within[codes], right)[..., 0] ** 2).sum(1)
    # Eliminating the first member from a combination of its effects is eliminating it from the column -F T'w.
    between = np.zeros((*F.shape[:2], n))
    between[codes, :, np.arange(n)] = -(F[codes] @ right)[..., 0]
    chain = h.plan.chain
    later = []
    for block, (own, levels) in zip(cp.blocks[1:chain], known[1:chain], strict=True):
        within_rows = np.zeros((block.n_levels, block.size, n))
        within_rows[levels, :, np.arange(n)] = own
        later.append(within_rows)
    column = Column(between, tuple(later), np.ascontiguousarray(_trailing(cp, x, known, chain).T))
    halves, rest = forward(h, eliminated, column)
    total = total + sum((half**2).sum((0, 1)) for half in halves[1:])
    return np.asarray(total + (dense.half(rest) ** 2).sum(0))
