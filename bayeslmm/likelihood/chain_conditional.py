"""Effects of a hierarchy given those of the dense block: means, draws, covariances, errors of predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood import elimination as el
from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.elimination import Eliminated, backward, eliminate
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.kernels import mirror
from bayeslmm.likelihood.large import Dense, without_fixed
from bayeslmm.likelihood.selected import selected
from bayeslmm.types import FloatArray, IntArray


def complete_chain(
    h: ChainSums,
    factors: Sequence[FloatArray],
    factor: Factor,
    trailing: FloatArray,
    sigma: FloatArray | None,
    rng: np.random.Generator | None,
) -> list[FloatArray]:
    """Internal effects (K, J, c) of every block, one point after the other; see `sums.Sums.complete`."""
    blocks, trailing_blocks, chain = h.frame.blocks, h.frame.trailing_blocks, h.plan.chain
    b = [np.empty((trailing.shape[0], block.n_levels, block.size)) for block in blocks]
    for k in range(trailing.shape[0]):
        # Of many points only what all of them need is kept.
        kept = factor.hierarchy
        eliminated = eliminate(h, [T[k] for T in factors[:chain]]) if kept is None else kept[0]
        shell = Dense(h.D[:0], tuple(T[k] for T in factors[chain:]), tuple(x.n_levels for x in trailing_blocks))
        dense = shell.scale(trailing[k, :, None].copy(), False)
        noise = None
        if sigma is not None and rng is not None:
            noise = [sigma[k] * rng.standard_normal((x.n_levels, x.size, 1)) for x in blocks[:chain]]
        halves = [member.half.fixed[..., -1:] for member in eliminated.members]
        for i, part in enumerate(backward(h, eliminated, halves, dense, noise)):
            b[i][k] = part[..., 0]
        for i, (block, span) in enumerate(h.frame.trailing_spans, start=chain):
            b[i][k] = dense[span, 0].reshape(block.n_levels, block.size)
    return b


def at_one_point(factor: Factor) -> tuple[Eliminated, Dense]:
    """What is kept of an evaluation of a hierarchy at a single point."""
    if factor.hierarchy is None:
        raise TypeError("the factor of a single point of a hierarchy is needed")
    return factor.hierarchy


def chain_variances(h: ChainSums, factor: Factor, fixed_known: bool) -> list[FloatArray]:
    """Covariances (J, c, c) of the effects in the user's columns, over sigma^2; see `sums.Sums.variances`."""
    eliminated, dense = at_one_point(factor)
    q, table = h.q_dense, np.zeros(h.D.shape)
    inverse = dense.inverse()
    table[:-1, :-1] = mirror(without_fixed(inverse, q) if fixed_known else inverse)
    out = [part.own for part in selected(h, eliminated, table)]
    for block, span in h.frame.trailing_spans:
        tiles = table[span, span].reshape(block.n_levels, block.size, block.n_levels, block.size)
        out.append(np.moveaxis(np.diagonal(tiles, axis1=0, axis2=2), -1, 0))
    return [block.basis @ v @ block.basis.T for v, block in zip(out, h.frame.blocks, strict=True)]


def chain_errors(
    h: ChainSums,
    factors: Sequence[FloatArray],
    factor: Factor,
    x: FloatArray,
    known: Sequence[tuple[FloatArray, IntArray]],
) -> FloatArray:
    """Variances (k,) of predictions; see `sums.Sums.row_errors`."""
    eliminated, dense = at_one_point(factor)
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
    for block, (own, levels) in zip(h.frame.blocks[1:chain], known[1:chain], strict=True):
        within_rows = np.zeros((block.n_levels, block.size, n))
        within_rows[levels, :, np.arange(n)] = own
        later.append(within_rows)
    column = el.ChainColumn(between, tuple(later), np.ascontiguousarray(h.frame.trailing_rows(x, known).T))
    halves, rest = el.forward(h, eliminated, column)
    total = total + sum((half**2).sum((0, 1)) for half in halves[1:])
    return np.asarray(total + (dense.half(rest) ** 2).sum(0))


def chain_sensitivity(h: ChainSums, factor: Factor) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """See `sums.Sums.sensitivity`."""
    eliminated, dense = at_one_point(factor)
    q, p, chain = h.q_dense, h.frame.p, h.plan.chain
    right = np.zeros((q + p, p))
    right[q:] = np.eye(p)
    # The residual X C of a response of zeros whose coefficients are -C, its random effects predicted.
    solution = -dense.solve(right)
    zeros = [np.zeros((block.n_levels, block.size, p)) for block in h.frame.blocks[:chain]]
    column = el.product(h, [*zeros, np.zeros((q, p))])
    halves, _ = el.forward(h, eliminated, column)
    scores = el.scores(h, column, backward(h, eliminated, halves, solution), solution)
    W = [part[None] for part in scores[:chain]]
    for block, span in h.frame.trailing_spans:
        W.append(scores[-1][span].reshape(1, block.n_levels, block.size, p))
    return -solution[None, q:], tuple(W)
