"""One evaluation to all digits that the data have, on their rows, at any ratio of variances.

With ``F = [Z Lambda, X, y; I, 0, 0]`` the criterion's log determinants and r2 are squared diagonal entries of the
triangular factor of F. Its condition is the largest ratio of standard deviations, so that a factorisation in binary64
loses digits (cross-products lose twice as many, and levels that the others nearly span lose all). Here a triangular
P with ``F P`` orthonormal is found by iteration: ``F P`` is formed with twice the digits and only then rounded, which
makes each pass gain sixteen digits (Yamamoto et al. 2015 on repeated QR factorisations; Ogita, Rump & Oishi 2005 on
the products). Nothing of the elimination by blocks is used, which makes it a check of that too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from bayeslmm.design.dominant import heavy_rows
from bayeslmm.likelihood.criteria import over_sigma
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor, apply_lambda, eliminate_first
from bayeslmm.likelihood.heavy import log_volume_ratio
from bayeslmm.likelihood.reduction import level_sums_of
from bayeslmm.numerics.double_double import Pair, difference, zeros
from bayeslmm.types import FloatArray, IntArray

# Passes; each gains sixteen digits.
_PASSES = 6
# Condition of ``F P`` at which its factorisation has all digits but these. Rounding of P leaves ``F P`` as far from
# orthonormal columns as the ratio of standard deviations times 1e-16; P need not be known better.
_WELL_CONDITIONED = 1e3
# Times the weights of light rows: what stands for the weight of a row that is a constraint.
INFINITE = 1e20


@dataclass(frozen=True)
class BlockRows:
    """Columns of one block on the rows of the data."""

    Z: FloatArray  # (n, c), user's units
    codes: IntArray
    basis: FloatArray
    start: int
    n_levels: int

    @property
    def size(self) -> int:
        return int(self.Z.shape[1])

    @property
    def stop(self) -> int:
        return self.start + self.size * self.n_levels

    def scaled(self, T: FloatArray) -> Pair:
        """``Z Lambda`` within its level, (n, c), to twice the digits."""
        inner = zeros(T.shape)
        for k in range(T.shape[0]):
            inner = inner.plus(self.basis[:, k, None], T[None, k])
        inner, out = inner.normal(), zeros(self.Z.shape)
        for k in range(self.size):
            out = out.plus(inner.high[None, k], self.Z[:, k, None], inner.low[None, k])
        return out.normal()


@dataclass(frozen=True)
class Cut:
    """Heavy rows and the roots of their weights, where smaller ones do the same.

    A heavy row is a constraint; a finite weight misses it by a share of one over the weight, which beyond 1e20 is no
    digit of anything but of the log determinants. These are known: they grow by the log of the weights.
    """

    rows: IntArray
    root: FloatArray


@dataclass(frozen=True)
class AccurateRows:
    """A data set as the accurate evaluation needs it.

    Attributes
    ----------
    cp : SummedDesign
    blocks : tuple of BlockRows
    X : FloatArray, shape (n, p)
        User's columns over powers of two.
    scale : FloatArray, shape (p,)
        These.
    y : Pair, shape (n,)
        Response less its offset.
    root : FloatArray or None, shape (n,)
        Roots of the weights; `cut` of those of heavy rows.
    cut : Cut or None
    """

    cp: SummedDesign
    blocks: tuple[BlockRows, ...]
    X: FloatArray
    scale: FloatArray
    y: Pair
    root: FloatArray | None
    cut: Cut | None = None

    @property
    def q(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def size(self) -> int:
        """Entries of F."""
        return int((self.X.shape[0] + self.q) * (self.q + self.X.shape[1] + 1))


def size_of(cp: SummedDesign) -> int:
    """Entries of the matrix that an accurate evaluation works with."""
    rows, q = cp.design.y.size, sum(block.q for block in cp.blocks)
    return int((rows + q) * (q + cp.p + 1))


def rows_of(cp: SummedDesign) -> AccurateRows:
    """Collect the columns of a design; see `Rows`."""
    design, blocks, start = cp.design, list[BlockRows](), 0
    for block in cp.blocks:
        Z = block.columns(design)
        blocks.append(BlockRows(Z, block.grouping.codes, block.basis, start, block.n_levels))
        start = blocks[-1].stop
    _, exponent = np.frexp(np.abs(design.X).max(axis=0, initial=0.0))
    y = Pair(design.y, np.zeros(design.y.size)) if design.offset is None else difference(design.y, design.offset)
    weights = design.row_weights
    heavy, cut = heavy_rows(design), None
    if weights is not None and heavy is not None:
        most = INFINITE * float(weights[~heavy].max())
        if weights.max() > most:
            cut, weights = (
                Cut(np.flatnonzero(heavy), np.sqrt(weights[heavy])),
                np.where(heavy, np.minimum(weights, most), weights),
            )
    root = None if weights is None else np.sqrt(weights)
    return AccurateRows(cp, tuple(blocks), np.ldexp(design.X, -exponent), np.ldexp(1.0, exponent), y, root, cut)


@dataclass(frozen=True)
class Accurate:
    """An evaluation at one point.

    Attributes
    ----------
    rows : Rows
    factors : tuple of FloatArray, each (c, c)
        Internal relative factors of the blocks.
    P : FloatArray, shape (q + p + 1, q + p + 1)
        Upper triangular, with orthonormal ``F P``; columns in the order of the effects of the blocks, X, y.
    G : FloatArray, shape (n + q, q + p + 1)
        ``F P``.
    log_det, log_det_fixed, r2 : float
        As in `Factor`.
    """

    rows: AccurateRows
    factors: tuple[FloatArray, ...]
    P: FloatArray
    G: FloatArray
    log_det: float
    log_det_fixed: float
    r2: float

    def log_determinant(self, reml: bool) -> float:
        """The part of the criterion without sigma."""
        return self.log_det - self.rows.cp.log_weights + (self.log_det_fixed if reml else 0.0)

    def criterion(self, reml: bool) -> float:
        """-2 log (restricted) likelihood minimised over sigma, or at the sigma that is known."""
        return float(self.log_determinant(reml) + over_sigma(self.rows.cp, np.array(self.r2), reml))

    @cached_property
    def beta(self) -> FloatArray:
        """Conditional estimates (p,), user's units."""
        q = self.rows.q
        return np.asarray(-self.P[q:-1, -1] / self.P[-1, -1] / self.rows.scale)

    @cached_property
    def u(self) -> FloatArray:
        """Conditional estimates (q,) of the effects over their standard deviations."""
        return np.asarray(-self.P[: self.rows.q, -1] / self.P[-1, -1])


def evaluate_accurately(rows: AccurateRows, factors: Sequence[FloatArray]) -> Accurate | None:
    """Evaluate at one point.

    Parameters
    ----------
    rows : Rows
    factors : sequence of FloatArray, each (c, c)
        Internal relative factor of each block.

    Returns
    -------
    Accurate or None
        None if the iteration does not end: the columns are dependent to twice the digits.
    """
    scaled = [block.scaled(T) for block, T in zip(rows.blocks, factors, strict=True)]
    P = np.diag(_first_scale(rows, scaled))
    for _ in range(_PASSES):
        G = _times(rows, scaled, P)
        R, failed = _triangle(G)
        if failed:
            return None
        exact = R[-1, -1] == 0.0
        if exact:
            R[:, -1], R[-1, -1] = 0.0, 1.0
        inverse = lapack.dtrtri(R)[0]
        P = np.triu(P @ inverse)
        if not np.isfinite(P).all():
            return None
        if np.abs(R).max() * np.abs(inverse).max() < _WELL_CONDITIONED:
            found = _collect(rows, factors, P, G @ inverse, exact)
            return found if rows.cut is None else _uncut(found, rows.cut, scaled)
    return None


def _uncut(point: Accurate, cut: Cut, scaled: list[Pair]) -> Accurate:
    """Log determinants with the weights that heavy rows have."""
    rows = point.rows
    assert rows.root is not None
    Z = np.zeros((cut.rows.size, rows.q))
    for block, one in zip(rows.blocks, scaled, strict=True):
        place = block.start + block.codes[cut.rows, None] * block.size + np.arange(block.size)
        Z[np.arange(len(Z))[:, None], place] = one.high[cut.rows]
    used = rows.root[cut.rows]
    random = log_volume_ratio(Z, cut.root, used)
    fixed = 2.0 * float(np.log(cut.root / used).sum()) - random
    return replace(point, log_det=point.log_det + random, log_det_fixed=point.log_det_fixed + fixed)


def _collect(rows: AccurateRows, factors: Sequence[FloatArray], P: FloatArray, G: FloatArray, exact: bool) -> Accurate:
    q, logs = rows.q, -2.0 * np.log(np.abs(np.diagonal(P)))
    fixed = float(logs[q:-1].sum() + 2.0 * np.log(rows.scale).sum())
    r2 = 0.0 if exact else float(P[-1, -1] ** -2.0)
    return Accurate(rows, tuple(factors), P, G, float(logs[:q].sum()), fixed, r2)


def _triangle(G: FloatArray) -> tuple[FloatArray, bool]:
    """R of a QR factorisation with nonnegative diagonal, and whether a column but the last one is nothing."""
    R = np.linalg.qr(G, mode="r")
    R *= np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None]
    return R, bool((np.diagonal(R)[:-1] == 0.0).any() or not np.isfinite(R).all())


def _first_scale(rows: AccurateRows, scaled: list[Pair]) -> FloatArray:
    """Powers of two that bring the columns of F to about length one."""
    parts = []
    for block, Z in zip(rows.blocks, scaled, strict=True):
        largest = np.ones((block.n_levels, block.size))
        weighted = np.abs(Z.high if rows.root is None else Z.high * rows.root[:, None])
        np.maximum.at(largest, block.codes, weighted)
        parts.append(largest.ravel())
    rest = np.abs(np.column_stack([rows.X, rows.y.high]))
    parts.append((rest if rows.root is None else rest * rows.root[:, None]).max(axis=0))
    _, exponent = np.frexp(np.concatenate(parts))
    return np.asarray(np.ldexp(1.0, -exponent))


def _times(rows: AccurateRows, scaled: list[Pair], P: FloatArray) -> FloatArray:
    """``F P``, the products and sums on the rows of the data to twice the digits."""
    q, n = rows.q, rows.X.shape[0]
    top = zeros((n, P.shape[1]))
    for block, Z in zip(rows.blocks, scaled, strict=True):
        for k in range(block.size):
            factor = Z.column(k)
            top = top.plus(factor.high, P[block.start + block.codes * block.size + k], factor.low)
    for j in range(rows.X.shape[1]):
        top = top.plus(rows.X[:, j, None], P[None, q + j])
    top = top.plus(rows.y.high[:, None], P[None, -1], rows.y.low[:, None])
    weighted = top.rounded()
    return np.concatenate([weighted if rows.root is None else weighted * rows.root[:, None], P[:q]])


def as_factor(point: Accurate) -> Factor:
    """The same evaluation as the elimination by blocks has it, for a store of dense levels."""
    rows, cp = point.rows, point.rows.cp
    factors = [T[None] for T in point.factors]
    _, trailing, first = eliminate_first(level_sums_of(cp), factors[0], keep=True)
    beta = np.linalg.solve(cp.fixed.transform, point.beta) - cp.response.removed
    effects = point.u[rows.blocks[0].stop :]
    solution = np.append(effects, beta)[None]
    residual = np.append(-solution, [[1.0]], axis=1)
    if cp.q_trailing:
        residual[:, :-1] = apply_lambda(cp.frame, factors[1:], residual[:, :-1, None], transposed=False)[..., 0]
    if cp.sums.reference is not None:
        residual[:, : cp.q_trailing] += cp.sums.reference
    r2 = np.array([point.r2])
    return Factor(
        np.array([point.log_det]),
        np.array([point.log_det_fixed]),
        r2,
        trailing,
        _joint_factor(point)[None],
        solution,
        residual,
        r2,
        first,
    )


def _joint_factor(point: Accurate) -> FloatArray:
    """Cholesky factor of the joint matrix of (u2, beta) given the first block, on the orthogonalised columns of X."""
    rows, cp = point.rows, point.rows.cp
    start, q2 = rows.blocks[0].stop, cp.q_trailing
    upper = lapack.dtrtri(point.P[start:-1, start:-1])[0]
    if cp.p:
        upper[:, q2:] = upper[:, q2:] @ (rows.scale[:, None] * cp.fixed.transform)
        upper[q2:, q2:] = np.linalg.qr(upper[q2:, q2:], mode="r")
    upper *= np.where(np.diagonal(upper) < 0, -1.0, 1.0)[:, None]
    return np.asarray(np.tril(upper.T))
