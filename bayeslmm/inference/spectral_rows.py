"""Rows with the same sums as those of a design that are not in memory: what spectral methods work on instead."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.level_grams import fixed_products, level_pairs, squares_of_fixed, taken_out, triangles
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.residual import make_residual
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class StandIns:
    """Rows in place of those of a design.

    Attributes
    ----------
    design : Design
        With r rows, in the levels of one grouping factor; the terms of others have no columns. Rows are multiplied by
        the roots of the weights; the observations that the design counts are those of all rows.
    dense : dict of str to FloatArray, each (r, J, c)
        Columns of the effects of the other grouping factors.
    """

    design: Design
    dense: dict[str, FloatArray]


def stand_ins(cp: SummedDesign, group: str, others: bool, largest: int) -> StandIns:
    """Rows with the cross-products of those that were summed.

    Parameters
    ----------
    cp : SummedDesign
    group : str
        Whose levels the rows are taken apart by.
    others : bool
        Whether the columns of other factors are needed.
    largest : int
        Effects of these at most.
    """
    a = next(k for k, block in enumerate(cp.blocks) if block.grouping.name == group)
    block = cp.blocks[a]
    beside = [b for b in range(len(cp.blocks)) if b != a] if others else []
    size = sum(cp.blocks[b].q for b in beside)
    if size > largest:
        raise DesignError(
            f"Taking out the other random terms needs {size} dense columns (at most {largest}). Use the "
            "chi-bar-square test or a profile interval."
        )
    J, c, p = block.n_levels, block.size, cp.p
    R, E, within = _taken_apart(cp, a, beside)
    flat = E.reshape(J * c, -1)
    rest = np.concatenate([flat, within])
    y = rest[:, -1].copy()
    # What was taken out of y beside X goes back.
    known, at = dict(taken_out(cp)), 0
    for b in beside:
        if b in known:
            y += rest[:, at : at + cp.blocks[b].q] @ known[b].ravel()
        at += cp.blocks[b].q
    r = len(rest)
    codes = np.concatenate([np.repeat(np.arange(J), c), np.zeros(r - J * c, dtype=np.int64)])
    Z = np.concatenate([(R @ block.inverse_basis).reshape(J * c, c), np.zeros((r - J * c, c))])
    if a in known:
        y += (Z @ block.basis * known[a][codes]).sum(1)
    dense, at = dict[str, FloatArray](), 0
    for b in beside:
        other = cp.blocks[b]
        columns = rest[:, at : at + other.q].reshape(r, other.n_levels, other.size) @ other.inverse_basis
        dense[other.grouping.name] = columns
        at += other.q
    terms, place = [], dict(zip(block.terms, block.slices, strict=True))
    for k, term in enumerate(cp.design.terms):
        terms.append(replace(term, Z=Z[:, place[k]] if k in place else np.empty((r, 0))))
    design = replace(
        cp.design,
        y=y,
        X=rest[:, -1 - p : -1],
        terms=tuple(terms),
        groupings={name: replace(own, codes=codes, outer=None) for name, own in cp.design.groupings.items()},
        residual=make_residual(r),
        offset=None,
        frequency=None,
        recipe=None,
    )
    return StandIns(design, dense)


def _taken_apart(cp: SummedDesign, a: int, beside: list[int]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """R (J, c, c) of a block, what its levels know of other blocks, X and y (J, c, m), and rows (m, m) of the rest."""
    sums = cp.sums
    if a == 0 and isinstance(sums, LevelSums):
        kept = np.arange(0 if beside else cp.q_trailing, sums.D.shape[0])
        E, D = sums.E[:, :, kept], sums.D[np.ix_(kept, kept)]
        return sums.R, E, _root(D, np.diagonal(D) + (E**2).sum((0, 1)))
    R = triangles(level_pairs(cp, a, a).products)
    W = np.concatenate([*(_dense(cp, a, b) for b in beside), fixed_products(cp, a)], axis=2)
    E = np.linalg.pinv(R).mT @ W
    total, flat = _totals(cp, beside), E.reshape(-1, W.shape[2])
    return R, E, _root(total - flat.T @ flat, np.diagonal(total))


def _dense(cp: SummedDesign, a: int, b: int) -> FloatArray:
    """Cross-products (J, c, J' c') of the columns of block a with all columns of another."""
    own, other = cp.blocks[a], cp.blocks[b]
    out = level_pairs(cp, a, b).dense(own.n_levels, other.n_levels)
    return out.reshape(own.n_levels, own.size, other.q)


def _totals(cp: SummedDesign, beside: list[int]) -> FloatArray:
    """Cross-products of the columns of some blocks, X and y."""
    sizes = [cp.blocks[b].q for b in beside]
    ends = np.cumsum([0, *sizes])
    total = np.zeros((ends[-1] + cp.p + 1,) * 2)
    for i, b in enumerate(beside):
        own = slice(ends[i], ends[i + 1])
        total[own, ends[-1] :] = fixed_products(cp, b).reshape(sizes[i], -1)
        for j in range(i, len(beside)):
            total[own, ends[j] : ends[j + 1]] = _dense(cp, b, beside[j]).reshape(sizes[i], -1)
    total[ends[-1] :, ends[-1] :] = squares_of_fixed(cp)
    return np.triu(total) + np.triu(total, 1).T


def _root(gram: FloatArray, size: FloatArray) -> FloatArray:
    """Rows whose cross-products these are; `size` are the sums of squares before a part was taken off."""
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    values, vectors = np.linalg.eigh(gram / (scale[:, None] * scale))
    # What is left after a subtraction is rounding there.
    values = np.where(values > 1e-14, values, 0.0)
    return np.asarray(np.sqrt(values)[:, None] * vectors.T * scale)
