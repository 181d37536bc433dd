"""Rows of the eliminated system: what the precision of y, effects integrated out, is made of, some rows at a time.

With fixed and random effects integrated out y is normal with precision ``P / sigma^2``. Blocks of P come from the rows
of the system in which the first block of effects is eliminated; no n x n matrix is formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import FactorColumns, effect_columns
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import apply_lambda
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.normal_prior import NormalPrior, internal_prior
from bayeslmm.likelihood.reduction import frame_columns
from bayeslmm.likelihood.within import grouped_qr
from bayeslmm.types import FloatArray, IntArray

# Doubles of the rows of the eliminated system held at once.
_CHUNK = 4_000_000
# Below this share of entries that are not zero, sparse products are faster.
_SPARSE = 0.1


@dataclass(frozen=True)
class EliminatedRows:
    """Some rows at some draws, the first block of effects eliminated."""

    half: FloatArray  # (K, r, t): B L^-T, so that P = V_1^-1 - half half'
    residual: FloatArray  # (K, r): P (y - X m)
    within_diagonal: FloatArray  # (K, r): diagonal of I - V_1^-1
    shrink: FloatArray  # (K, J, c, c): q_i' shrink q_j is that matrix within a level
    gain: FloatArray  # (K, t, t): Lambda L^-T, so that the joint estimates are gain half' y


@dataclass(frozen=True)
class RowSystem:
    """Rows of the design in internal coordinates, split with respect to the levels of the first block."""

    cp: SummedDesign
    lam: FloatArray  # (k,) of the residual structure, which has whitened all columns below
    Q: FloatArray  # (n, c) orthonormal within levels
    R: FloatArray  # (J, c, c)
    spread: sparse.csr_array  # (n, J c): Q in the columns of its level
    columns: sparse.csr_array  # (n, m): the other effects, X and y
    within: sparse.csr_array  # (n, m): what is left of them within levels
    between: sparse.csr_array  # (J c, m)
    D: FloatArray  # (m, m)

    @classmethod
    def of(cls, cp: SummedDesign, lam: FloatArray) -> RowSystem:
        design = cp.design
        blocks, columns = cp.blocks, frame_columns(cp)
        Z = design.whitened(columns[0], lam, within=blocks[0].grouping)
        others = [
            FactorColumns(block.grouping.codes, block.n_levels, Z)
            for block, Z in zip(blocks[1:], columns[1:], strict=True)
        ]
        # Whitening mixes rows, so that the columns of single levels come first.
        effects = sparse.csr_array(design.residual.whitening(lam) @ effect_columns(others, design.n))
        if design.frequency is not None:
            effects = sparse.csr_array(sparse.diags_array(np.sqrt(design.frequency)) @ effects)
        Xy = design.whitened(np.column_stack([cp.fixed.columns, cp.response.residual]), lam)
        if cp.sums.reference is not None:
            # Shrinkage towards zero is that of the whole effects, so the reference goes back into the response.
            Xy[:, -1] += effects @ cp.sums.reference
        return cls.split(cp, lam, Z, sparse.csr_array(sparse.hstack([effects, sparse.csr_array(Xy)])))

    @classmethod
    def split(cls, cp: SummedDesign, lam: FloatArray, Z: FloatArray, W: sparse.csr_array) -> RowSystem:
        """The system of whitened columns Z (n, c) of the first block and W (n, m) of the other effects, X and y."""
        first = cp.blocks[0].grouping
        Q, R = grouped_qr(Z, first.codes, first.n_levels)
        spread = effect_columns([FactorColumns(first.codes, first.n_levels, Q)], cp.design.n)
        between = sparse.csr_array(spread.T @ W)
        within = sparse.csr_array(W - spread @ between)
        return cls(cp, lam, Q, R, spread, W, within, between, (within.T @ within).toarray())

    @property
    def width(self) -> int:
        return int(self.D.shape[0])


def row_blocks(
    system: RowSystem,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
    codes: IntArray,
) -> Iterator[tuple[slice, IntArray, EliminatedRows]]:
    """Draws, rows and their eliminated system; the rows of a group always come together."""
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    most = max(1, _CHUNK // system.width)
    cuts = [0]
    while cuts[-1] < ends[-1]:
        fits = int(np.searchsorted(ends, cuts[-1] + most, side="right"))
        upto = int(ends[max(fits - 1, 0)])
        cuts.append(upto if upto > cuts[-1] else int(ends[fits]))
    chunks = [order[a:b] for a, b in pairwise(cuts)]
    step = max(1, _CHUNK // (system.width * max(order.size, system.width)))
    for start in range(0, sigma.size, step):
        part = slice(start, min(start + step, sigma.size))
        solved = solve_rows(system, [T[part] for T in factors], sigma[part], prior)
        for rows in chunks:
            yield part, rows, _rows(system, solved, rows)


@dataclass(frozen=True)
class SolvedRows:
    """The trailing system at some draws."""

    inverse: FloatArray  # (K, J, c, c): (I + R G R')^-1
    shrink: FloatArray  # (K, J, c, c): I minus that
    gain: FloatArray  # (K, t, t): Lambda L^-T
    effects: FloatArray  # (K, t): Lambda u2, beta


def solve_rows(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None
) -> SolvedRows:
    """Eliminate the effects of the first block and solve for the others and beta, at K draws."""
    cp, t = system.cp, system.width - 1
    q2 = t - cp.p
    F = system.R @ factors[0][:, None]
    M = F @ small.transpose(F)
    shrink = np.linalg.solve(small.add_identity(M.copy()), M)
    inverse = np.linalg.inv(small.add_identity(M))
    S = np.stack([system.D + (system.between.T @ (block_diagonal(K) @ system.between)).toarray() for K in inverse])
    joint, right = _scaled(cp, factors, S[:, :-1, :-1]), S[:, :-1, -1:]
    joint = small.transpose(_scaled(cp, factors, small.transpose(joint)))
    right = _scaled(cp, factors, right)[..., 0]
    if q2:
        small.add_identity(joint, q2)
    if prior is not None:
        internal = internal_prior(cp, prior)
        precision, mean = internal.precision, internal.mean
        joint[:, q2:, q2:] += sigma[:, None, None] ** 2 * precision
        right[:, q2:] += sigma[:, None] ** 2 * (precision @ mean)
    gain = np.stack([solve_triangular(L, np.eye(t), lower=True).T for L in np.linalg.cholesky(joint)])
    effects = gain @ (small.transpose(gain) @ right[..., None])
    if q2:
        gain = apply_lambda(_one_first(cp.frame), factors[1:], gain, transposed=False)
        effects = apply_lambda(_one_first(cp.frame), factors[1:], effects, transposed=False)
    return SolvedRows(inverse, shrink, gain, effects[..., 0])


def _one_first(frame: Frame) -> Frame:
    """The frame with all blocks but the first in the trailing part, as the rows have them."""
    return frame if frame.plan.chain == 1 else replace(frame, plan=replace(frame.plan, chain=1))


def _scaled(cp: SummedDesign, factors: Sequence[FloatArray], rows: FloatArray) -> FloatArray:
    return apply_lambda(_one_first(cp.frame), factors[1:], rows) if len(cp.blocks) > 1 else rows.copy()


def block_diagonal(blocks: FloatArray) -> sparse.bsr_array | sparse.csr_array:
    """Block-diagonal matrix of (J, c, c) blocks; without rows where a model has no random effects."""
    J, c = blocks.shape[:2]
    if not c:
        return sparse.csr_array((0, 0))
    return sparse.bsr_array((blocks, np.arange(J), np.arange(J + 1)), shape=(J * c, J * c))


def _rows(system: RowSystem, solved: SolvedRows, rows: IntArray) -> EliminatedRows:
    cp, t = system.cp, system.width - 1
    within, spread = system.within[rows], system.spread[rows]
    half, residual = np.empty((len(solved.gain), rows.size, t)), np.empty((len(solved.gain), rows.size))
    for k, inverse in enumerate(solved.inverse):
        full = within + spread @ (block_diagonal(inverse) @ system.between)
        left = full[:, :t] if full.nnz < _SPARSE * rows.size * t else full[:, :t].toarray()
        half[k] = left @ solved.gain[k]
        residual[k] = full @ np.append(-solved.effects[k], 1.0)
    codes, Q = cp.blocks[0].grouping.codes[rows], system.Q[rows]
    diagonal = np.einsum("na,knab,nb->kn", Q, solved.shrink[:, codes], Q)
    return EliminatedRows(half, residual, diagonal, solved.shrink, solved.gain)


def by_size(codes: IntArray) -> Iterator[IntArray]:
    """Rows (G', size) of the groups of each size; equal codes stand together."""
    starts = np.flatnonzero(np.r_[True, np.diff(codes) != 0])
    sizes = np.diff(np.r_[starts, codes.size])
    for size in np.unique(sizes):
        members = starts[sizes == size][:, None] + np.arange(size)
        step = max(1, _CHUNK // (size * size))
        for start in range(0, members.shape[0], step):
            yield members[start : start + step]


def precision_blocks(block: EliminatedRows, k: int, members: IntArray, Q: FloatArray, codes: IntArray) -> FloatArray:
    """Blocks (G', r, r) of P at draw k; Q (G', r, c) and codes (G', r) are those of the first block of effects."""
    half = block.half[k][members]
    same = codes[:, :, None] == codes[:, None, :]
    shrunk = np.einsum("gia,giab->gib", Q, block.shrink[k][codes])
    return np.asarray(np.eye(members.shape[1]) - same * (shrunk @ small.transpose(Q)) - half @ small.transpose(half))
