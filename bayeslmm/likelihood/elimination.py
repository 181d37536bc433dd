"""Elimination of a hierarchy at one point, and what follows from it: solutions and the selected inverse.

Every member of the chain is eliminated with the factor of its own covariance, singular or not. With C the
cross-products of one level when its turn comes, e its couplings and ``G = T T'``:

    log determinant  log |I + C G|,   trailing part  -= e' W e,   W = G (I + C G)^-1 = T (I + T'C T)^-1 T'.

Going backwards, `selected` has the blocks of the inverse (the conditional covariances) that belong to a level and
those it lies in; the gradient in G is a sum of them over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import ChainRows, ChainSums
from bayeslmm.likelihood.kernels import Cells, add_outer_products
from bayeslmm.likelihood.small import dot
from bayeslmm.likelihood.within import level_sums
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class Member:
    """One chain member after its elimination.

    Attributes
    ----------
    T : FloatArray, shape (c, c)
    rows : ChainRows
        C (own) and e (the rest) when its turn came; not formed for the first member.
    lower : FloatArray, shape (J, c, c)
        Cholesky factor of ``I + T'CT`` (first member: of ``I + R G R'``).
    half : ChainRows
        ``lower^-1 T' e`` (first member: ``lower^-1 E``; its cells are in `Eliminated.cells`).
    """

    T: FloatArray
    rows: ChainRows
    lower: FloatArray
    half: ChainRows


@dataclass(frozen=True)
class Eliminated:
    """The whole chain at one point.

    Attributes
    ----------
    log_det : float
    trailing : FloatArray, shape (m, m)
        Cross-products of the dense block that are left; the lower triangle, and all of X and y.
    members : tuple of Member
    cells : Cells
        ``lower^-1 E`` of the first member in its cells.
    """

    log_det: float
    trailing: FloatArray
    members: tuple[Member, ...]
    cells: Cells


def sums_by(parents: IntArray, stack: FloatArray, n_levels: int) -> FloatArray:
    """Sum a stack (J, ...) over the levels with the same parent."""
    flat = stack.reshape(stack.shape[0], -1)
    return level_sums(parents, flat, n_levels).reshape(n_levels, *stack.shape[1:])


def _flat(stack: FloatArray) -> FloatArray:
    """(J, c, k) to (J c, k)."""
    return stack.reshape(stack.shape[0] * stack.shape[1], stack.shape[2])


def eliminate(h: ChainSums, factors: Sequence[FloatArray]) -> Eliminated:
    """Eliminate the chain.

    Parameters
    ----------
    h : ChainSums
    factors : sequence of FloatArray, each (c, c)
        Relative factors T of the chain's members.
    """
    first, cells = _eliminate_first(h, factors[0])
    q = h.q_dense
    trailing = h.D.copy()
    if q:
        add_outer_products(cells, trailing[:q, :q])
        trailing[:q, q:] += cells.transposed_times(first.half.fixed)
        trailing[q:, :q] = trailing[:q, q:].T
    flat = _flat(first.half.fixed)
    trailing[q:, q:] += dot(flat.T, flat)
    pending = _after(h, 0, first, h.rows, cells)
    members = [first]
    log_det = float(small.log_det(first.lower).sum())
    for k, T in enumerate(factors[1:], start=1):
        member = _eliminate_next(pending[0], T)
        pending = _after(h, k, member, pending[1:])
        log_det += float(small.log_det(member.lower).sum())
        flat = _flat(np.concatenate([member.half.effects, member.half.fixed], axis=2))
        trailing -= dot(flat.T, flat)
        members.append(member)
    return Eliminated(log_det, trailing, tuple(members), cells)


def _eliminate_first(h: ChainSums, T: FloatArray) -> tuple[Member, Cells]:
    F = dot(h.R, T)
    lower = small.cholesky(small.add_identity(dot(F, small.transpose(F))))
    values = h.cells.values
    if values.size:
        values = small.solve_lower(lower[h.cells.levels], values[:, :, None])[:, :, 0]
    half = ChainRows(
        own=lower[:0],
        up=tuple(small.solve_lower(lower, e) for e in h.up),
        effects=lower[:0],
        fixed=small.solve_lower(lower, h.fixed),
    )
    return Member(T, ChainRows(lower[:0], (), lower[:0], lower[:0]), lower, half), h.cells.with_values(values)


def _eliminate_next(rows: ChainRows, T: FloatArray) -> Member:
    Tt = T.T
    lower = small.cholesky(small.add_identity(dot(dot(Tt, rows.own), T)))

    def whiten(e: FloatArray) -> FloatArray:
        return small.solve_lower(lower, dot(Tt, e))

    half = ChainRows(lower[:0], tuple(whiten(e) for e in rows.up), whiten(rows.effects), whiten(rows.fixed))
    return Member(T, rows, lower, half)


def _after(
    h: ChainSums, k: int, member: Member, pending: Sequence[ChainRows], cells: Cells | None = None
) -> list[ChainRows]:
    """Rows of the members after k once member k is eliminated.

    What the first member (the one with cells) explains is added to the within part, what a later one does is taken
    away.
    """
    sign = 1.0 if cells is not None else -1.0
    out = []
    for m, rows in enumerate(pending):
        parents, J, up = h.plan.up[k][m], rows.own.shape[0], member.half.up[m]
        left = sign * small.transpose(up)

        def change(right: FloatArray, left: FloatArray = left, parents: IntArray = parents, J: int = J) -> FloatArray:
            return sums_by(parents, dot(left, right), J)

        if cells is None:
            effects = rows.effects + change(member.half.effects)
        else:
            effects = rows.effects + _cell_sums(parents, J, up, cells) if h.q_dense else rows.effects
        later = zip(rows.up, member.half.up[m + 1 :], strict=True)
        out.append(
            ChainRows(
                own=rows.own + change(up),
                up=tuple(e + change(other) for e, other in later),
                effects=effects,
                fixed=rows.fixed + change(member.half.fixed),
            )
        )
    return out


def _cell_sums(parents: IntArray, n_levels: int, up: FloatArray, cells: Cells) -> FloatArray:
    """``sum_l up_l' V_l`` over the levels with the same parent, shape (n_levels, c, q_d)."""
    levels = cells.levels
    place = parents[levels] * cells.width + cells.columns
    out = np.empty((n_levels, up.shape[2], cells.width))
    for b in range(up.shape[2]):
        entries = (up[levels, :, b] * cells.values).sum(axis=1)
        sums = np.bincount(place, weights=entries, minlength=n_levels * cells.width)
        out[:, b] = sums.reshape(n_levels, cells.width)
    return out


@dataclass(frozen=True)
class ChainColumn:
    """Further columns (d of them) beside y, summed up as y is.

    Attributes
    ----------
    between : FloatArray, shape (J, c, d)
        Of the first member.
    within : tuple of FloatArray, each (J_k, c_k, d)
        Rows of the later members.
    dense : FloatArray, shape (m - 1, d)
        Rows of the dense block (random effects and X).
    """

    between: FloatArray
    within: tuple[FloatArray, ...]
    dense: FloatArray


def response(h: ChainSums) -> ChainColumn:
    """The response itself."""
    return ChainColumn(h.fixed[..., -1:], tuple(rows.fixed[..., -1:] for rows in h.rows), h.D[:-1, -1:])


def product(h: ChainSums, z: Sequence[FloatArray]) -> ChainColumn:
    """The columns ``Z z``.

    Parameters
    ----------
    z : sequence of FloatArray
        Coefficients of the chain's members (J_k, c_k, d), then of the dense block (q_d, d).
    """
    chain, dense, q = z[: h.plan.chain], z[-1], h.q_dense
    between = dot(h.R, chain[0])
    for e, own, parents in zip(h.up, chain[1:], h.plan.up[0], strict=True):
        between = between + dot(e, own[parents])
    if q:
        between = between + h.cells.times(dense)
    within = [dot(rows.own, own) for rows, own in zip(h.rows, chain[1:], strict=True)]
    total = dot(h.D[:-1, :q], dense)
    for k, rows in enumerate(h.rows, start=1):
        for m, e in enumerate(rows.up):
            parents, later = h.plan.up[k][m], k + m
            within[k - 1] = within[k - 1] + dot(e, chain[later + 1][parents])
            within[later] = within[later] + sums_by(parents, dot(small.transpose(e), chain[k]), within[later].shape[0])
        within[k - 1] = within[k - 1] + dot(rows.effects, dense)
        tail = np.concatenate([rows.effects, rows.fixed[..., :-1]], axis=2)
        total = total + dot(_flat(tail).T, _flat(chain[k]))
    return ChainColumn(between, tuple(within), total)


def forward(h: ChainSums, e: Eliminated, column: ChainColumn) -> tuple[list[FloatArray], FloatArray]:
    """Eliminate the chain from further columns.

    Returns
    -------
    list of FloatArray, each (J_k, c_k, d)
        ``lower^-1`` times the right-hand side of each member.
    FloatArray, shape (m - 1, d)
        What is left for the dense block.
    """
    q, dense = h.q_dense, column.dense
    first = e.members[0]
    halves = [small.solve_lower(first.lower, column.between)]
    pending = [
        rows + sums_by(parents, dot(small.transpose(up), halves[0]), rows.shape[0])
        for rows, parents, up in zip(column.within, h.plan.up[0], first.half.up, strict=True)
    ]
    fixed = first.half.fixed[..., :-1]
    added = dot(_flat(fixed).T, _flat(halves[0]))
    dense = dense.copy()
    dense[q:] += added
    if q:
        dense[:q] += e.cells.transposed_times(halves[0])
    later, dense = forward_within(h, e, pending, dense)
    return [*halves, *later], dense


def forward_within(
    h: ChainSums, e: Eliminated, pending: Sequence[FloatArray], dense: FloatArray
) -> tuple[list[FloatArray], FloatArray]:
    """Eliminate the members after the first from what it leaves of further columns: their rows and the dense block's.

    Returns
    -------
    list of FloatArray, each (J_k, c_k, d)
    FloatArray, shape (m - 1, d)
    """
    halves = []
    for k, member in enumerate(e.members[1:], start=1):
        half = small.solve_lower(member.lower, dot(member.T.T, pending[0]))
        pending = [
            rows - sums_by(parents, dot(small.transpose(up), half), rows.shape[0])
            for rows, parents, up in zip(pending[1:], h.plan.up[k], member.half.up, strict=True)
        ]
        tail = np.concatenate([member.half.effects, member.half.fixed[..., :-1]], axis=2)
        dense = dense - dot(_flat(tail).T, _flat(half))
        halves.append(half)
    return halves, dense


def backward(
    h: ChainSums,
    e: Eliminated,
    halves: Sequence[FloatArray],
    dense: FloatArray,
    noise: Sequence[FloatArray] | None = None,
    *,
    first: int = 0,
) -> list[FloatArray]:
    """Effects of the chain's members, from `first` on, given those of the dense block.

    Parameters
    ----------
    halves : sequence of FloatArray, each (J_k, c_k, d)
        From `forward`, of these members.
    dense : FloatArray, shape (m - 1, d)
        Effects b of the dense block (not divided by Lambda) and beta.
    noise : sequence of FloatArray, each (J_k, c_k, d), optional
        Standard normal numbers times sigma, for draws instead of means.

    Returns
    -------
    list of FloatArray, each (J_k, c_k, d)
    """
    q, found = h.q_dense, list[FloatArray]()
    for k in reversed(range(first, len(e.members))):
        member = e.members[k]
        right = halves[k - first] - dot(member.half.fixed[..., :-1], dense[q:])
        if q:
            right -= dot(member.half.effects, dense[:q]) if k else e.cells.times(dense[:q])
        for parents, up, effects in zip(h.plan.up[k], member.half.up, found, strict=True):
            right -= dot(up, effects[parents])
        if k:
            right = right if noise is None else right + noise[k - first]
            b = dot(member.T, small.solve_upper(member.lower, right))
        else:
            F = dot(h.R, member.T)
            b = dot(dot(member.T, small.transpose(F)), small.solve_upper(member.lower, right))
            if noise is not None:
                own = small.cholesky(small.add_identity(dot(small.transpose(F), F)))
                b = b + dot(member.T, small.solve_upper(own, noise[0]))
        found.insert(0, b)
    return found


def scores(h: ChainSums, column: ChainColumn, b: Sequence[FloatArray], dense: FloatArray) -> list[FloatArray]:
    """``Z' (column - Z b - X beta)``, which is Z' P0 column at the solution.

    Parameters
    ----------
    b : sequence of FloatArray
        From `backward`.
    dense : FloatArray, shape (m - 1, d)
        Effects and beta of the dense block.

    Returns
    -------
    list of FloatArray
        Members of the chain (J_k, c_k, d), then the dense block's random effects (q_d, d).
    """
    q = h.q_dense
    fit = product(h, [*b, dense[:q]])
    between = column.between - fit.between - dot(h.fixed[..., :-1], dense[q:])
    out = [dot(small.transpose(h.R), between)]
    for rows, parents, up, own, fitted in zip(h.rows, h.plan.up[0], h.up, column.within, fit.within, strict=True):
        within = own - fitted - dot(rows.fixed[..., :-1], dense[q:])
        out.append(within + sums_by(parents, dot(small.transpose(up), between), own.shape[0]))
    last = column.dense[:q] - fit.dense[:q] - dot(h.D[:q, q:-1], dense[q:])
    if q:
        last = last + h.cells.transposed_times(between)
    return [*out, last]
