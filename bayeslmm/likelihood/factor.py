"""One evaluation of dense levels: blocked elimination at given relative factors, for one or many points at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

from bayeslmm.likelihood import small
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.level_sums import LevelSums, Moments
from bayeslmm.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from bayeslmm.likelihood.crossed_point import CrossedPoint
    from bayeslmm.likelihood.elimination import Eliminated
    from bayeslmm.likelihood.large import Dense

# Doubles held at once by the widest temporary of a batched evaluation (about 64 MB).
_CHUNK = 8_000_000
# The same where levels are taken together, whose many passes need a cache (about 1 MB), and points that pay for a call.
_CACHED, _FEWEST_TOGETHER = 120_000, 64
# Levels with one effect and the same columns that one evaluation goes over rather than over their moments.
_FEW_LEVELS = 64


@dataclass(frozen=True)
class Factor:
    """What the criteria need at K points (theta_k), all on the orthogonalised coordinates.

    Attributes
    ----------
    log_det : FloatArray, shape (K,)
        ld = log |I + Z Lambda Lambda' Z'|.
    log_det_fixed : FloatArray, shape (K,)
        ldX = log |X' V0^-1 X| in the user's columns of X.
    r2 : FloatArray, shape (K,)
        Penalised weighted residual sum of squares at the conditional estimates.
    trailing : FloatArray, shape (K, m, m)
        Cross-products of (Z2, X, y) after the first block is eliminated; not multiplied by Lambda.
    chol : FloatArray, shape (K, m - 1, m - 1)
        Cholesky factor of the joint matrix of (u2, beta) given the first block.
    solution : FloatArray, shape (K, m - 1)
        Conditional estimates of (u2, beta) on internal coordinates.
    residual : FloatArray, shape (K, m)
        Columns of `trailing` that make up the residual: minus the effects and beta beyond the reference of the
        response, and 1.
    total : FloatArray, shape (K,)
        Sum of squares before the fit is subtracted; what it exceeds r2 by is lost in digits.
    first : tuple of FloatArray or None
        Cholesky factors (K, J, c, c), or (K, 1, c, c) of levels that share one, and ``L^-1 E`` (K, J, c, m) of the
        first block, kept for derivatives at a single point, or asked for.
    hierarchy : tuple or None
        The same for cross-products stored as a hierarchy.
    replicated : bool
        Whether every point has a response of its own.
    crossed : CrossedPoint or None
        The same for crossed factors of which nothing is filled in.
    """

    log_det: FloatArray
    log_det_fixed: FloatArray
    r2: FloatArray
    trailing: FloatArray
    chol: FloatArray
    solution: FloatArray
    residual: FloatArray
    total: FloatArray
    first: tuple[FloatArray, FloatArray] | None = None
    hierarchy: tuple[Eliminated, Dense] | None = None
    replicated: bool = False
    crossed: CrossedPoint | None = None

    def take(self, chosen: IntArray) -> Factor:
        """What draws and densities at some of the points need, in that order."""
        empty = self.residual[:0]
        return Factor(
            self.log_det[chosen],
            self.log_det_fixed[chosen],
            self.r2[chosen],
            self.trailing[:0],
            self.chol[chosen],
            self.solution[chosen],
            empty,
            empty,
        )

    def of_fixed(self, q: int) -> Factor:
        """What densities need, without the q trailing random effects."""
        found = self.take(np.arange(self.r2.size))
        # Not views, which would keep the whole factors in memory.
        return replace(found, chol=found.chol[:, q:, q:].copy(), solution=found.solution[:, q:].copy())

    def part(self, chosen: IntArray) -> Factor:
        """Some of the points, with what derivatives need; all of a single one that is kept as a hierarchy."""
        if self.hierarchy is not None or self.crossed is not None:
            return self
        return replace(
            self.take(chosen),
            trailing=self.trailing[chosen],
            residual=self.residual[chosen],
            total=self.total[chosen],
            first=None if self.first is None else (self.first[0][chosen], self.first[1][chosen]),
            replicated=self.replicated,
        )


@dataclass(frozen=True)
class Replicates:
    """Further responses of the same design, one per point.

    Attributes
    ----------
    E : FloatArray, shape (K, J, c)
        Between part of each.
    D : FloatArray, shape (K, m)
        Within part of the cross-products with the trailing columns, and of its square.
    """

    E: FloatArray
    D: FloatArray

    def part(self, chosen: slice | IntArray | BoolArray) -> Replicates:
        """Some of them."""
        return Replicates(self.E[chosen], self.D[chosen])


def evaluate_levels(
    s: LevelSums, factors: Sequence[FloatArray], replicates: Replicates | None = None, keep: bool = False
) -> Factor:
    """Eliminate the random effects at K points; see `criteria.evaluate`."""
    if keep or replicates is not None:
        return _evaluate(s, factors, replicates, True)
    points = factors[0].shape[0]
    if points == 1 or points <= (step := _together(s)) or _in_loops(s, points):
        return _evaluate(s, factors)
    return stacked([_evaluate(s, [f[k : k + step] for f in factors]) for k in range(0, points, step)])


def _in_loops(s: LevelSums, points: int) -> bool:
    """Whether compiled loops go over the levels, which hold no arrays over these and points."""
    if points == 1 or not s.worth_loops:
        return False
    from bayeslmm.likelihood.kernels import there

    return there()


def _together(s: LevelSums) -> int:
    """How many points are eliminated together."""
    step = _CHUNK // max(s.D.shape[0] ** 2 + s.E.size * (s.moments is None), 1)
    if s.moments is not None:
        # A dozen passes over arrays of this size take most of the time where they are longer than a cache.
        step = min(step, max(_CACHED // s.moments.R.size, _FEWEST_TOGETHER))
    return max(1, int(step))


def stacked(parts: Sequence[Factor]) -> Factor:
    """Evaluations at some points one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Factor(
        np.concatenate([part.log_det for part in parts]),
        np.concatenate([part.log_det_fixed for part in parts]),
        np.concatenate([part.r2 for part in parts]),
        np.concatenate([part.trailing for part in parts]),
        np.concatenate([part.chol for part in parts]),
        np.concatenate([part.solution for part in parts]),
        np.concatenate([part.residual for part in parts]),
        np.concatenate([part.total for part in parts]),
    )


def _evaluate(
    s: LevelSums,
    factors: Sequence[FloatArray],
    replicates: Replicates | None = None,
    keep: bool = False,
) -> Factor:
    log_det, trailing, first = eliminate_first(s, factors[0], replicates, keep)
    q2, p = s.q_trailing, s.p
    joint = trailing[:, :-1, :-1]
    right, total, moved, combination = trailing[:, :-1, -1], trailing[:, -1, -1], None, None
    if s.reference is not None and replicates is None:
        moved, combination = split_reference(s, s.reference, factors[1:])
        column = (trailing @ combination[..., None])[..., 0]
        right, total = column[:, :-1], (column * combination).sum(-1) + (moved**2).sum(-1)
    if q2:
        joint, right = _multiply_lambda(s, factors[1:], joint, right)
    if moved is not None:
        right[:, :q2] -= moved
    chol, half, solution = _solve(joint, right)
    r2 = total - (half**2).sum(-1)
    residual = _residual(s, factors[1:], solution, combination)
    if moved is not None:
        solution[:, :q2] += moved
    logs = 2.0 * np.log(chol.diagonal(axis1=1, axis2=2))
    if q2:
        log_det = log_det + logs[:, :q2].sum(-1)
    log_det_fixed = logs[:, q2 : q2 + p].sum(-1) + s.frame.log_det_fixed
    return Factor(
        log_det, log_det_fixed, r2, trailing, chol, solution, residual, total, first, replicated=replicates is not None
    )


def _residual(
    s: LevelSums, factors: Sequence[FloatArray], solution: FloatArray, combination: FloatArray | None
) -> FloatArray:
    out = np.empty((solution.shape[0], solution.shape[1] + 1))
    out[:, :-1], out[:, -1] = -solution, 1.0
    if s.q_trailing:
        out[:, :-1] = apply_lambda(s.frame, factors, out[:, :-1, None], transposed=False)[..., 0]
    if combination is not None:
        out[:, :-1] += combination[:, :-1]
    return out


def split_reference(
    s: LevelSums, reference: FloatArray, factors: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Split the reference effects b0 of the response into ``Lambda u0 + g`` at K points.

    Any split is exact. This one, ``g = (I + k T T')^-1 b0`` and ``u0 = k T' g`` with k rows per level, has both
    parts small: where T is large g vanishes with 1 / T T', where it is singular u0 does. Taking ``Z Lambda u0`` out of
    the response and u0 out of u leaves nothing large to cancel.

    Parameters
    ----------
    s : LevelSums
    reference : FloatArray, shape (q2,)
    factors : sequence of FloatArray, each (K, c, c)
        Factors of ``s.blocks[1:]``.

    Returns
    -------
    u0 : FloatArray, shape (K, q2)
    combination : FloatArray, shape (K, m)
        ``(g, 0, 1)``: the response less ``Z Lambda u0`` in terms of the trailing columns.
    """
    points, q2, m = factors[0].shape[0], s.q_trailing, s.D.shape[-1]
    moved, combination = np.zeros((points, q2)), np.zeros((points, m))
    combination[:, -1] = 1.0
    for (block, span), T in zip(s.frame.trailing_spans, factors, strict=True):
        rows = s.n / block.n_levels
        b0 = reference[span].reshape(block.n_levels, block.size)
        g = np.linalg.solve(np.eye(block.size) + rows * T @ small.transpose(T), b0.T)
        combination[:, span] = small.transpose(g).reshape(points, block.q)
        moved[:, span] = rows * (small.transpose(g) @ T).reshape(points, block.q)
    return moved, combination


def _solve(joint: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cholesky factors L (K, t, t), ``L^-1 right`` and the solution (K, t)."""
    if joint.shape[0] == 1 and joint.shape[1]:
        # NumPy's wrappers cost more than the work on a small matrix.
        chol, failed = lapack.dpotrf(joint[0], lower=1, clean=1)
        if failed:
            raise np.linalg.LinAlgError("trailing block is not positive definite")
        half = lapack.dtrtrs(chol, right[0], lower=1)[0]
        return chol[None], half[None], lapack.dtrtrs(chol, half, lower=1, trans=1)[0][None]
    return solve_points(joint, right)


def solve_points(joint: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cholesky factors L (K, t, t), ``L^-1 right`` and the solution (K, t); nan where there is none."""
    chol = cholesky_points(joint)
    half = np.linalg.solve(chol, right[..., None])
    return chol, half[..., 0], np.linalg.solve(small.transpose(chol), half)[..., 0]


def cholesky_points(joint: FloatArray) -> FloatArray:
    """Cholesky factors (K, t, t); nan where there is none."""
    try:
        return np.linalg.cholesky(joint)
    except np.linalg.LinAlgError:
        # Ratios of 1e9 leave no digits at one point; the others must not suffer.
        return np.stack([_cholesky_or_nan(matrix) for matrix in joint])


def _cholesky_or_nan(matrix: FloatArray) -> FloatArray:
    chol, failed = lapack.dpotrf(matrix, lower=1, clean=1)
    return np.full_like(matrix, np.nan) if failed else np.asarray(chol)


def eliminate_first(
    s: LevelSums, T: FloatArray, replicates: Replicates | None = None, keep: bool = False
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray] | None]:
    """Eliminate the first block: log determinant (K,), trailing cross-products (K, m, m), and its factors."""
    # A single point of a vector-valued block is evaluated without forming inverses, for the last digits; and of few
    # levels, of which moments take longer.
    points, c = T.shape[0], T.shape[-1]
    one = points == 1 and replicates is None and s.R.ndim == 3
    # Sums with levels of their own at every point have one more axis.
    if one and (c > 1 or 0 < c * s.R.shape[0] <= _FEW_LEVELS) and s.alike and not s.unlike:
        return _eliminate_alike(s, T[0])
    if s.moments is not None and replicates is None and (c == 1 or points > 1):
        return *_eliminate_moments(s.moments, s.D, T), None
    if replicates is None and not keep and _in_loops(s, points):
        from bayeslmm.likelihood.level_loops import eliminated

        found = eliminated(s, T)
        if found is not None:
            return *found, None
    E, D = s.by_point[1], s.D
    if replicates is not None:
        E = np.broadcast_to(E, (points, *s.E.shape)).copy()
        E[..., -1] = replicates.E
        D = np.broadcast_to(D, (points, *D.shape)).copy()
        D[:, -1] = D[:, :, -1] = replicates.D
    lower, half = whiten_first(s, T, E)
    log_det = small.log_det(lower).sum(-1)
    flat = half.reshape(points, -1, half.shape[-1])
    kept = (lower, half) if keep or points == 1 else None
    return log_det, D + small.transpose(flat) @ flat, kept


def _eliminate_alike(s: LevelSums, T: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray]]:
    """Levels with the same columns have one factor (c, c)."""
    J, c, m = s.E.shape
    F = s.R[0] @ T
    M = F @ F.T
    M.reshape(-1)[:: c + 1] += 1.0
    lower, failed = lapack.dpotrf(M, lower=1)
    if failed:
        raise np.linalg.LinAlgError("the matrix of a level is not positive definite")
    half = small.solve_lower(lower[None], s.E)
    flat = half.reshape(J * c, m)
    trailing = flat.T @ flat
    trailing += s.D
    log_det = np.array([J * 2.0 * float(np.log(lower.diagonal()).sum())])
    return log_det, trailing[None], (lower[None, None], half[None])


def _eliminate_moments(moments: Moments, D: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Levels with equal columns are taken together: the cost does not grow with their number."""
    K, m, c = T.shape[0], D.shape[0], T.shape[-1]
    if c == 2:
        first, across, second, log_dets = small.inverse_beside_identity(moments.R, T)
        sums = moments.sums
        trailing = first @ sums[:, 0, 0].reshape(-1, m * m) + second @ sums[:, 1, 1].reshape(-1, m * m)
        trailing += across @ (sums[:, 0, 1] + sums[:, 1, 0]).reshape(-1, m * m)
        return log_dets @ moments.counts, D + trailing.reshape(K, m, m)
    F = moments.R @ T[:, None]
    M = F @ small.transpose(F)
    small.add_identity(M)
    if c == 1:
        inverse, log_dets = 1.0 / M, np.log(M[..., 0, 0])
    else:
        lower = small.cholesky(M)
        half = small.solve_lower(lower, np.eye(c)[None, None])
        inverse, log_dets = small.transpose(half) @ half, small.log_det(lower)
    trailing = inverse.reshape(K, -1) @ moments.sums.reshape(-1, m * m)
    return log_dets @ moments.counts, D + trailing.reshape(K, m, m)


def whiten_first(s: LevelSums, T: FloatArray, E: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cholesky factors of ``I + R Sigma R'`` (K, J, c, c) and ``L^-1 E`` (K, J, c, m)."""
    R = s.by_point[0]
    F = small.dot(R, T[:, None])
    if F.shape[-1] == 2 and s.unlike:
        determinant = np.linalg.det(R) * np.linalg.det(T)[:, None]
        lower = small.cholesky_beside_identity(F, determinant)
        return lower, small.solve_lower(lower, E)
    M = small.dot(F, small.transpose(F))
    small.add_identity(M)
    lower = small.cholesky(M)
    return lower, small.solve_lower(lower, E)


def _multiply_lambda(
    s: LevelSums, factors: Sequence[FloatArray], joint: FloatArray, right: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``Lambda' S Lambda + I`` on the rows and columns of the trailing random effects."""
    if all(block.size == 1 for block in s.frame.trailing_blocks):
        scale = np.ones(right.shape)
        for (_, span), T in zip(s.frame.trailing_spans, factors, strict=True):
            scale[:, span] = T[:, 0]
        return small.add_identity(joint * scale[:, :, None] * scale[:, None], s.q_trailing), right * scale
    joint = apply_lambda(s.frame, factors, joint)
    joint = small.transpose(apply_lambda(s.frame, factors, small.transpose(joint)))
    right = apply_lambda(s.frame, factors, right[..., None])[..., 0]
    return small.add_identity(joint, s.q_trailing), right


def apply_lambda(frame: Frame, factors: Sequence[FloatArray], rows: FloatArray, transposed: bool = True) -> FloatArray:
    """Multiply the rows of the trailing random effects by Lambda' (or Lambda), leaving the others alone.

    Parameters
    ----------
    frame : Frame
    factors : sequence of FloatArray, each of shape (K, c, c)
        Factors of ``frame.blocks[1:]``.
    rows : FloatArray, shape (K, r, k)
        The first ``q_trailing`` rows belong to random effects.
    """
    out = rows.copy()
    for (block, span), T in zip(frame.trailing_spans, factors, strict=True):
        if block.size == 1:
            out[:, span] *= T
            continue
        tiles = rows[:, span].reshape(rows.shape[0], block.n_levels, block.size, -1)
        T = small.transpose(T) if transposed else T
        out[:, span] = (T[:, None] @ tiles).reshape(rows.shape[0], block.q, -1)
    return out
