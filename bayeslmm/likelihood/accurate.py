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
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import LOG_2PI, degrees_of_freedom
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.factor import Factor, apply_lambda, eliminate_first
from bayeslmm.numerics.double_double import Pair, difference, zeros
from bayeslmm.types import FloatArray, IntArray

# Passes; each gains sixteen digits.
_PASSES = 6
# Condition of ``F P`` at which its factorisation has all digits but these. Rounding of P leaves ``F P`` as far from
# orthonormal columns as the ratio of standard deviations times 1e-16; P need not be known better.
_WELL_CONDITIONED = 1e3
# Directions with a relative sd below this are expressed by their columns, others by their effects.
_BY_EFFECT = 0.1


@dataclass(frozen=True)
class _BlockRows:
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
class Rows:
    """A data set as the accurate evaluation needs it.

    Attributes
    ----------
    cp : CrossProducts
    blocks : tuple of _BlockRows
    X : FloatArray, shape (n, p)
        User's columns over powers of two.
    scale : FloatArray, shape (p,)
        These.
    y : Pair, shape (n,)
        Response less its offset.
    root : FloatArray or None, shape (n,)
        Roots of the weights.
    """

    cp: CrossProducts
    blocks: tuple[_BlockRows, ...]
    X: FloatArray
    scale: FloatArray
    y: Pair
    root: FloatArray | None

    @property
    def q(self) -> int:
        return self.blocks[-1].stop if self.blocks else 0

    @property
    def size(self) -> int:
        """Entries of F."""
        return int((self.X.shape[0] + self.q) * (self.q + self.X.shape[1] + 1))


def size_of(cp: CrossProducts) -> int:
    """Entries of the matrix that an accurate evaluation works with."""
    rows, q = cp.design.y.size, sum(block.q for block in cp.blocks)
    return int((rows + q) * (q + cp.p + 1))


def rows_of(cp: CrossProducts) -> Rows:
    """Collect the columns of a design; see `Rows`."""
    design, blocks, start = cp.design, list[_BlockRows](), 0
    for block in cp.blocks:
        Z = np.concatenate([design.terms[i].Z for i in block.terms], axis=1)
        blocks.append(_BlockRows(Z, block.grouping.codes, block.basis, start, block.n_levels))
        start = blocks[-1].stop
    _, exponent = np.frexp(np.abs(design.X).max(axis=0, initial=0.0))
    y = Pair(design.y, np.zeros(design.y.size)) if design.offset is None else difference(design.y, design.offset)
    weights = design.row_weights
    root = None if weights is None else np.sqrt(weights)
    return Rows(cp, tuple(blocks), np.ldexp(design.X, -exponent), np.ldexp(1.0, exponent), y, root)


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

    rows: Rows
    factors: tuple[FloatArray, ...]
    P: FloatArray
    G: FloatArray
    log_det: float
    log_det_fixed: float
    r2: float

    def criterion(self, reml: bool) -> float:
        """-2 log (restricted) likelihood minimised over sigma."""
        cp = self.rows.cp
        nu = degrees_of_freedom(cp, reml)
        logs = self.log_det - cp.log_weights + (self.log_det_fixed if reml else 0.0)
        return float(logs + nu * (1.0 + LOG_2PI + np.log(self.r2 / nu)))

    @cached_property
    def beta(self) -> FloatArray:
        """Conditional estimates (p,), user's units."""
        q = self.rows.q
        return np.asarray(-self.P[q:-1, -1] / self.P[-1, -1] / self.rows.scale)

    @cached_property
    def u(self) -> FloatArray:
        """Conditional estimates (q,) of the effects over their standard deviations."""
        return np.asarray(-self.P[: self.rows.q, -1] / self.P[-1, -1])


def evaluate_accurately(rows: Rows, factors: Sequence[FloatArray]) -> Accurate | None:
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
            return _collect(rows, factors, P, G @ inverse, exact)
    return None


def _collect(rows: Rows, factors: Sequence[FloatArray], P: FloatArray, G: FloatArray, exact: bool) -> Accurate:
    q, logs = rows.q, -2.0 * np.log(np.abs(np.diagonal(P)))
    fixed = float(logs[q:-1].sum() + 2.0 * np.log(rows.scale).sum())
    r2 = 0.0 if exact else float(P[-1, -1] ** -2.0)
    return Accurate(rows, tuple(factors), P, G, float(logs[:q].sum()), fixed, r2)


def _triangle(G: FloatArray) -> tuple[FloatArray, bool]:
    """R of a QR factorisation with nonnegative diagonal, and whether a column but the last one is nothing."""
    R = np.linalg.qr(G, mode="r")
    R *= np.where(np.diagonal(R) < 0, -1.0, 1.0)[:, None]
    return R, bool((np.diagonal(R)[:-1] == 0.0).any() or not np.isfinite(R).all())


def _first_scale(rows: Rows, scaled: list[Pair]) -> FloatArray:
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


def _times(rows: Rows, scaled: list[Pair], P: FloatArray) -> FloatArray:
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


@dataclass(frozen=True)
class AccurateDerivatives:
    """First derivatives of the criterion in a metric in which nothing cancels, and what second ones need.

    Attributes
    ----------
    metric : tuple of FloatArray, each (c, c)
        Regular M of each block, the internal relative factor where that is regular: a change of the covariance is
        ``M A M'``.
    S, S_trace : FloatArray, shape (q, q)
        ``(I (x) M)' Z' P0 Z (I (x) M)``; for the traces with V0^-1 in place of P0 for ML.
    s : FloatArray, shape (q,)
        ``(I (x) M)' Z' P0 y``.
    scale, r2 : float
        nu / r2, and r2.
    """

    metric: tuple[FloatArray, ...]
    S: FloatArray
    S_trace: FloatArray
    s: FloatArray
    scale: float
    r2: float


def accurate_derivatives(point: Accurate, reml: bool) -> AccurateDerivatives:
    """What the gradient and Hessian at a point are made from."""
    rows, q = point.rows, point.rows.q
    n = rows.X.shape[0]
    columns, metric = np.zeros((n + q, q)), list[FloatArray]()
    for block, T in zip(rows.blocks, point.factors, strict=True):
        M = _express(rows, block, T, columns)
        metric.append(M)
    residual, right = _residuals(point.G[:, :-1], columns), point.G[:, -1] * np.sqrt(point.r2)
    S = residual.T @ residual
    without = residual if reml else _residuals(point.G[:, :q], columns)
    nu = degrees_of_freedom(rows.cp, reml)
    return AccurateDerivatives(
        tuple(metric), S, S if reml else without.T @ without, residual.T @ right, nu / point.r2, point.r2
    )


def _express(rows: Rows, block: _BlockRows, T: FloatArray, columns: FloatArray) -> FloatArray:
    """Fill in vectors (n + q, J c) that have the residuals of ``[Z (I (x) M); 0]``; M (c, c).

    ``[Z Lambda; 0]`` and ``-[0; I]`` differ by columns of F, so that their residuals are the same.
    """
    n, c, J = rows.X.shape[0], block.size, block.n_levels
    U, s, Vt = np.linalg.svd(T)
    by_effect = s >= _BY_EFFECT
    M = U * np.where(by_effect, s, 1.0)
    if by_effect.all():
        # The factor itself has its rows to all digits.
        M, Vt = T, np.eye(c)
    tiles = columns[n:].reshape(-1, columns.shape[1])[block.start : block.stop, block.start : block.stop]
    tiles[:] = -np.kron(np.eye(J), np.where(by_effect, Vt.T, 0.0))
    if not by_effect.all():
        Z = (block.Z @ block.basis @ U)[:, ~by_effect]
        Z = Z if rows.root is None else Z * rows.root[:, None]
        place = block.start + block.codes[:, None] * c + np.flatnonzero(~by_effect)
        columns[np.arange(n)[:, None], place] = Z
    return M


def _residuals(G: FloatArray, columns: FloatArray) -> FloatArray:
    rest = columns - G @ (G.T @ columns)
    return np.asarray(rest - G @ (G.T @ rest))


def accurate_gradient(
    cp: CrossProducts, factors: Sequence[FloatArray], first: AccurateDerivatives
) -> tuple[FloatArray, FloatArray]:
    """Gradient (k,) and Hessian (k, k) of the profiled criterion in the internal vector."""
    slices, changes, local = list[slice](), list[FloatArray](), list[FloatArray]()
    start = 0
    starts = []
    for block in cp.blocks:
        starts.append(start)
        start += block.q
    gradient = list[FloatArray]()
    for b, columns, structure in cp.term_order:
        block, M = cp.blocks[b], first.metric[b]
        span, inverse = slice(starts[b], starts[b] + block.q), np.linalg.inv(M)
        slopes = _slopes(first, span, block.size)
        W = par.frame(cp, b, columns, structure)
        T = factors[b][columns, columns]
        outer = np.eye(block.size)[:, columns]
        if W is not None:
            T, outer = np.linalg.solve(W, T), outer @ W
        to_metric = inverse @ outer
        A = to_metric @ structure.directions(T) @ to_metric.T
        gradient.append((A * slopes).sum(axis=(1, 2)))
        changes += list(A)
        slices += [span] * len(A)
        local.append(structure.curvature(T, to_metric.T @ slopes @ to_metric))
    return np.concatenate(gradient), _second(first, slices, changes, local)


def _slopes(first: AccurateDerivatives, span: slice, c: int) -> FloatArray:
    """Derivatives of the criterion in A of one block, summed over its levels, (c, c)."""
    tiles = first.S_trace[span, span]
    J = tiles.shape[0] // c
    tiles = tiles.reshape(J, c, J, c)
    s = first.s[span].reshape(J, c)
    return np.asarray(np.einsum("iaib->ab", tiles) - first.scale * (s.T @ s))


def _second(
    first: AccurateDerivatives, slices: list[slice], changes: list[FloatArray], local: list[FloatArray]
) -> FloatArray:
    moved = [_columns_times(first.S_trace[:, span], A) for span, A in zip(slices, changes, strict=True)]
    score = [_columns_times(first.s[None, span], A)[0] for span, A in zip(slices, changes, strict=True)]
    squares = np.array([float(one @ first.s[span]) for one, span in zip(score, slices, strict=True)])
    k = len(changes)
    H = np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1):
            trace = float((moved[i][slices[j]] * moved[j][slices[i]].T).sum())
            square = float(score[i] @ first.S[slices[i], slices[j]] @ score[j])
            H[i, j] = H[j, i] = -trace + 2.0 * first.scale * square
    H -= first.scale * np.outer(squares, squares) / first.r2
    start = 0
    for part in local:
        stop = start + part.shape[0]
        H[start:stop, start:stop] += part
        start = stop
    return H


def _columns_times(columns: FloatArray, A: FloatArray) -> FloatArray:
    """``columns (I (x) A)``."""
    rows, c = columns.shape[0], A.shape[0]
    return (columns.reshape(rows, -1, c) @ A).reshape(rows, -1)


def as_factor(point: Accurate) -> Factor:
    """The same evaluation as the elimination by blocks has it, for a store of dense levels."""
    rows, cp = point.rows, point.rows.cp
    factors = [T[None] for T in point.factors]
    _, trailing, first = eliminate_first(cp, factors[0], keep=True)
    beta = np.linalg.solve(cp.fixed.transform, point.beta) - cp.response.removed
    effects = point.u[rows.blocks[0].stop :]
    solution = np.append(effects, beta)[None]
    residual = np.append(-solution, [[1.0]], axis=1)
    if cp.q_trailing:
        residual[:, :-1] = apply_lambda(cp, factors[1:], residual[:, :-1, None], transposed=False)[..., 0]
    if cp.reference is not None:
        residual[:, : cp.q_trailing] += cp.reference
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
