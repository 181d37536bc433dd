"""Blocks of the inverse that belong to a level and those it lies in, from the last member back to the first.

For a function of the trailing part with derivative `table` (symmetric), the derivative in the cross-products of one
level and its couplings follows by going backwards through the elimination; the same recursion with the inverse of
the dense block as the table has the conditional covariances (Takahashi's equations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import ChainRows, ChainSums
from bayeslmm.likelihood.elimination import Eliminated, Member
from bayeslmm.likelihood.kernels import quadratic_forms
from bayeslmm.likelihood.small import dot
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Selected:
    """Of one member of the chain.

    Attributes
    ----------
    gain : FloatArray, shape (J, c, c)
        ``N C`` with ``N = (I + C G)^-1``.
    form : FloatArray, shape (J, c, c)
        ``N e table e' N'``; ``sum(gain - form)`` is the gradient in G.
    own : FloatArray, shape (J, c, c)
        ``W + G form G``: with the inverse of the dense block as the table, the conditional covariance.
    """

    gain: FloatArray
    form: FloatArray
    own: FloatArray


def selected(h: ChainSums, e: Eliminated, table: FloatArray) -> list[Selected]:
    """The recursion.

    Parameters
    ----------
    h : ChainSums
    e : Eliminated
    table : FloatArray, shape (m, m)
        Symmetric; rows of the dense block's effects, X and y.

    Returns
    -------
    list of Selected
        One per member of the chain.
    """
    later: list[ChainRows] = []
    out: list[Selected] = []
    for k in reversed(range(1, len(e.members))):
        member = e.members[k]
        N, W = _gains(member)
        Ne = ChainRows(
            N[:0],
            tuple(dot(N, x) for x in member.rows.up),
            dot(N, member.rows.effects),
            dot(N, member.rows.fixed),
        )
        P = _times_table(h, k, Ne, later, table)
        form = sum(
            (dot(p, small.transpose(x)) for p, x in zip(P.up, Ne.up, strict=True)),
            dot(P.effects, small.transpose(Ne.effects)) + dot(P.fixed, small.transpose(Ne.fixed)),
        )
        form = np.asarray(0.5 * (form + small.transpose(form)))
        G = dot(member.T, member.T.T)
        own = W + dot(dot(G, form), G)
        out.insert(0, Selected(dot(N, member.rows.own), form, own))
        later.insert(0, ChainRows(own, tuple(dot(-G, p) for p in P.up), dot(-G, P.effects), dot(-G, P.fixed)))
    return [_first(h, e, later, table), *out]


def _gains(member: Member) -> tuple[FloatArray, FloatArray]:
    """``N = (I + C G)^-1`` and ``W = G N``."""
    G = dot(member.T, member.T.T)
    if G.shape[0] == 1:
        N = 1.0 / (1.0 + member.rows.own * G)
        return N, G * N
    N = np.linalg.inv(np.eye(G.shape[0]) + dot(member.rows.own, G))
    W = dot(G, N)
    return N, 0.5 * (W + small.transpose(W))


def _coupling(h: ChainSums, k: int, later: Sequence[ChainRows], i: int, j: int) -> FloatArray:
    """Derivative in the cross-products of the i-th and j-th later members, for every level of member k."""
    parents = h.plan.up[k]
    if i == j:
        return later[i].own[parents[i]]
    if i < j:
        return later[i].up[j - i - 1][parents[i]]
    return small.transpose(later[j].up[i - j - 1][parents[j]])


def _times_table(h: ChainSums, k: int, left: ChainRows, later: Sequence[ChainRows], table: FloatArray) -> ChainRows:
    parents, q = h.plan.up[k], h.q_dense
    up = []
    for j, rows in enumerate(later):
        total = dot(left.fixed, small.transpose(rows.fixed[parents[j]]))
        if q:
            total = total + dot(left.effects, small.transpose(rows.effects[parents[j]]))
        for i, x in enumerate(left.up):
            total = total + dot(x, _coupling(h, k, later, i, j))
        up.append(total)
    effects = dot(left.effects, table[:q, :q]) + dot(left.fixed, table[q:, :q])
    fixed = dot(left.effects, table[:q, q:]) + dot(left.fixed, table[q:, q:])
    for x, rows, p in zip(left.up, later, parents, strict=True):
        fixed = fixed + dot(x, rows.fixed[p])
        if q:
            effects = effects + dot(x, rows.effects[p])
    return ChainRows(left.own, tuple(up), effects, fixed)


def _first(h: ChainSums, e: Eliminated, later: Sequence[ChainRows], table: FloatArray) -> Selected:
    member, q = e.members[0], h.q_dense
    Y = small.solve_lower(member.lower, h.R)
    Yt = small.transpose(Y)
    up = tuple(dot(Yt, x) for x in member.half.up)
    fixed = dot(Yt, member.half.fixed)
    form = _symmetric(0.5 * (dot(dot(fixed, table[q:, q:]), small.transpose(fixed))))
    parents = h.plan.up[0]
    for j, rows in enumerate(later):
        half = dot(fixed, small.transpose(rows.fixed[parents[j]])) + dot(0.5 * up[j], rows.own[parents[j]])
        for i in range(j):
            half = half + dot(up[i], _coupling(h, 0, later, i, j))
        form = form + _symmetric(dot(half, small.transpose(up[j])))
    if q:
        form = form + _cell_forms(h, e, Yt, up, fixed, later, table)
    F = dot(h.R, member.T)
    own = small.cholesky(np.eye(F.shape[-1]) + dot(small.transpose(F), F))
    root = small.solve_lower(own, np.broadcast_to(member.T.T, own.shape))
    G = dot(member.T, member.T.T)
    return Selected(dot(Yt, Y), form, dot(small.transpose(root), root) + dot(dot(G, form), G))


def _symmetric(a: FloatArray) -> FloatArray:
    return a + small.transpose(a)


def _cell_forms(
    h: ChainSums,
    e: Eliminated,
    Yt: FloatArray,
    up: Sequence[FloatArray],
    fixed: FloatArray,
    later: Sequence[ChainRows],
    table: FloatArray,
) -> FloatArray:
    """The part of the first member's forms in which the dense block's effects take part."""
    q, levels = h.q_dense, e.cells.levels
    cells = e.cells.with_values((dot(Yt[levels], e.cells.values[:, :, None]))[:, :, 0])
    form = quadratic_forms(cells, table[:q, :q])
    form = form + _symmetric(dot(cells.times(table[:q, q:]), small.transpose(fixed)))
    for j, rows in enumerate(later):
        entries = rows.effects[h.plan.up[0][j][levels], :, cells.columns]
        products = cells.values[:, :, None] * entries[:, None, :]
        sums = np.stack(
            [
                np.bincount(levels, weights=products[:, a, b], minlength=form.shape[0])
                for a in range(products.shape[1])
                for b in range(products.shape[2])
            ],
            axis=1,
        ).reshape(form.shape[0], *products.shape[1:])
        form = form + _symmetric(dot(sums, small.transpose(up[j])))
    return form
