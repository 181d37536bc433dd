"""Sums kept by pattern: groups of rows that have one covariance, whatever the parameters, count as one.

Rows that depend on one another, by correlated residuals or a level of a factor, are a group. Groups with the same
columns of random effects and the same residual structure have one covariance V at all parameters. Of these the products
of the rows of (X, y) are summed once, and at K points ``X'V^-1X``, ``X'V^-1y`` and ``y'V^-1y`` of all groups together
are products of the inverses with the sums: the cost does not grow with the number of groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.likelihood import small
from bayeslmm.likelihood.dependent import DependentRows, dependent_rows
from bayeslmm.likelihood.factor import Factor, solve_points
from bayeslmm.residual import Residual
from bayeslmm.residual.together import group_covariances
from bayeslmm.types import FloatArray

# Doubles of sums that are kept, and of covariances that are inverted together: what a cache holds.
_MOST_NUMBERS, _CHUNK = 10_000_000, 100_000
# Doubles of the rows of effects that are drawn together.
_DRAWN = 4_000_000


@dataclass(frozen=True)
class AlikeGroups:
    """Groups of m rows with q effects each, by pattern.

    Attributes
    ----------
    groups : DependentRows
    residual : Residual
        Of one group of each pattern, ``U m`` rows.
    Z : tuple of FloatArray, each (U, m, l c)
        Columns of every term, written out for the l levels of a group.
    more : FloatArray, shape (U, m)
        Observations that a row stands for; ones without frequencies.
    sums : FloatArray, shape (U m (m + 1) / 2, (p + 1) (p + 2) / 2)
        Products of the rows of (X, y) summed over groups: lower triangles, of rows twice beside the diagonal.
    """

    groups: DependentRows
    residual: Residual
    Z: tuple[FloatArray, ...]
    more: FloatArray
    sums: FloatArray

    @property
    def m(self) -> int:
        return int(self.more.shape[1])

    def residual_covariances(self, lam: FloatArray) -> FloatArray:
        """Covariances (K, U, m, m) over sigma^2: of means, where rows stand for several observations."""
        R = group_covariances(self.residual, lam, self.m)
        if (self.more != 1.0).any():
            R[..., np.arange(self.m), np.arange(self.m)] /= self.more
        return R

    def scaled_columns(self, factors: Sequence[FloatArray], points: int) -> FloatArray:
        """``Z Lambda`` (K, U, m, q) of all terms."""
        shape = (points, *self.more.shape, -1)
        parts = [np.empty((*shape[:-1], 0))]
        for Z, T in zip(self.Z, factors, strict=True):
            written = Z.reshape(*self.more.shape, -1, T.shape[-1])
            parts.append((written @ T[:, None, None]).reshape(shape))
        return np.concatenate(parts, axis=-1)

    def inverses(self, factors: Sequence[FloatArray], lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lower triangles of V^-1 (K, U m (m + 1) / 2), and log determinants (K, U) of all observations."""
        K, (U, m) = lam.shape[0], self.more.shape
        V = self.residual_covariances(lam)
        W = self.scaled_columns(factors, K)
        if W.shape[-1]:
            V = V + W @ W.mT
        columns = np.ascontiguousarray(V.reshape(K * U, m, m).transpose(1, 2, 0))
        packed, log_det = small.packed_inverse(columns)
        inverse = packed.reshape(-1, K, U).transpose(1, 2, 0).reshape(K, -1)
        return inverse, log_det.reshape(K, U) + self._further_log_det(lam)

    def _further_log_det(self, lam: FloatArray) -> FloatArray:
        if not (self.more != 1.0).any():
            return np.zeros((lam.shape[0], 1))
        logs = np.log(self.residual.variance(lam)).reshape(lam.shape[0], *self.more.shape)
        return np.asarray(((self.more - 1.0) * logs + np.log(self.more)).sum(-1))

    def draw_scaled(
        self,
        factors: Sequence[FloatArray],
        lam: FloatArray,
        sigma: FloatArray,
        left: FloatArray,
        rng: np.random.Generator,
    ) -> FloatArray:
        """Draws (K, B, q) of the effects of all groups over their factors, from what X beta leaves, (K, B, m)."""
        root = np.linalg.cholesky(self.residual_covariances(lam))
        half = np.linalg.solve(root, self.scaled_columns(factors, sigma.size))
        precision = half.mT @ half
        small.add_identity(precision)
        chol = np.linalg.cholesky(precision)
        across = np.linalg.solve(root.mT, half).mT
        gain = np.linalg.solve(chol.mT, np.linalg.solve(chol, across))
        z = rng.standard_normal((*left.shape[:2], half.shape[-1], 1))
        which = self.groups.which
        noise = np.linalg.solve(chol.mT[:, which], z)[..., 0]
        return np.asarray((gain[:, which] @ left[..., None])[..., 0] + sigma[:, None, None] * noise)


@dataclass(frozen=True)
class PatternSums:
    """Sums by pattern of the rows of a design whose residuals have parameters.

    Attributes
    ----------
    parts : tuple of AlikeGroups
    Xy : FloatArray, shape (n, p + 1)
        Columns of X on the coordinates of the sums, and the response less what was taken out of it.
    log_det_fixed : float
        See `CrossProducts.log_det_fixed`.
    n_levels : tuple of int
        Of the factor of every term.
    """

    parts: tuple[AlikeGroups, ...]
    Xy: FloatArray
    log_det_fixed: float
    n_levels: tuple[int, ...]

    @cached_property
    def p(self) -> int:
        return int(self.Xy.shape[1]) - 1

    def evaluate(self, factors: Sequence[FloatArray], lam: FloatArray, known: float = 0.0) -> Factor:
        """What densities need at K points, random effects integrated out; nan where there are no digits.

        Parameters
        ----------
        factors : sequence of FloatArray, each (K, c, c)
            Relative factors of every term on the columns of the design.
        lam : FloatArray, shape (K, k)
        known : float
            Minus the log determinant of residuals that the criteria add by themselves.

        Returns
        -------
        Factor
            Of the fixed effects alone; its log determinant is that of the covariance of y over sigma^2, plus `known`.
        """
        K, p = lam.shape[0], self.p
        log_det, packed = np.full(K, known), np.zeros((K, (p + 1) * (p + 2) // 2))
        for part in self.parts:
            step = max(1, _CHUNK // (part.more.size * part.m))
            for k in range(0, K, step):
                own = slice(k, k + step)
                inverse, logs = part.inverses([T[own] for T in factors], lam[own])
                packed[own] += inverse @ part.sums
                log_det[own] += logs @ part.groups.counts
        whole = np.empty((K, p + 1, p + 1))
        i, j = np.tril_indices(p + 1)
        whole[:, i, j] = whole[:, j, i] = packed
        chol, half, solution = solve_points(whole[:, :p, :p], whole[:, :p, p])
        total = whole[:, p, p]
        logs = 2.0 * np.log(np.diagonal(chol, axis1=1, axis2=2)).sum(-1) + self.log_det_fixed
        r2, nothing = total - (half**2).sum(-1), np.empty((K, 0))
        return Factor(log_det, logs, r2, nothing[..., None], chol, solution, nothing, total)

    def draw(
        self,
        factors: Sequence[FloatArray],
        lam: FloatArray,
        sigma: FloatArray,
        beta: FloatArray,
        rng: np.random.Generator,
    ) -> list[FloatArray]:
        """One exact draw (K, J, c) of the effects of every term at each of K points, on the columns of the design.

        Parameters
        ----------
        factors, lam
            As for `evaluate`.
        sigma : FloatArray, shape (K,)
        beta : FloatArray, shape (K, p)
            On the coordinates of the sums.
        rng : numpy.random.Generator
        """
        K = sigma.size
        out = [np.empty((K, J, T.shape[-1])) for J, T in zip(self.n_levels, factors, strict=True)]
        for part in self.parts:
            rows = part.groups.rows
            own, y = self.Xy[rows.ravel(), :-1], self.Xy[rows.ravel(), -1]
            step = max(1, _DRAWN // (rows.size * (1 + sum(Z.shape[-1] for Z in part.Z))))
            for k in range(0, K, step):
                some = slice(k, k + step)
                left = (y - beta[some] @ own.T).reshape(-1, *rows.shape)
                u = part.draw_scaled([T[some] for T in factors], lam[some], sigma[some], left, rng)
                position = 0
                for values, T, levels in zip(out, factors, part.groups.levels, strict=True):
                    width = levels.shape[1] * T.shape[-1]
                    scaled = u[..., position : position + width].reshape(u.shape[0], -1, T.shape[-1])
                    values[some, levels.ravel()] = scaled @ T[some].mT
                    position += width
        return out


def pattern_sums(design: Design, Xy: FloatArray, log_det_fixed: float) -> PatternSums | None:
    """The sums by pattern; None where groups are so large, or so unlike, that there would be nothing in it.

    Parameters
    ----------
    design : Design
        With a residual structure that has parameters.
    Xy : FloatArray, shape (n, p + 1)
    log_det_fixed : float
    """
    kinds = dependent_rows(design)
    if kinds is None:
        return None
    pairs = Xy.shape[1] * (Xy.shape[1] + 1) // 2
    numbers = sum(kind.counts.size * kind.rows.shape[1] * (kind.rows.shape[1] + 1) // 2 for kind in kinds)
    if numbers * pairs > _MOST_NUMBERS:
        return None
    levels = tuple(design.groupings[term.group].n_levels for term in design.terms)
    return PatternSums(tuple(_alike(design, Xy, kind) for kind in kinds), Xy, log_det_fixed, levels)


def _alike(design: Design, Xy: FloatArray, kind: DependentRows) -> AlikeGroups:
    first = kind.first
    U, m = first.shape
    Z = []
    for term, levels in zip(design.terms, kind.levels, strict=True):
        own = design.groupings[term.group].codes[first][:, :, None] == levels[kind.one][:, None]
        Z.append((own[..., None] * term.Z[first][:, :, None]).reshape(U, m, -1))
    more = np.ones((U, m)) if design.frequency is None else design.frequency[first].astype(float)
    return AlikeGroups(kind, design.residual.part(first.ravel()), tuple(Z), more, _summed(Xy, kind))


def _summed(Xy: FloatArray, kind: DependentRows) -> FloatArray:
    """Products of rows summed over the groups of every pattern, both triangles packed."""
    U, m, w = kind.counts.size, kind.rows.shape[1], Xy.shape[1]
    s, t = np.tril_indices(m)
    i, j = np.tril_indices(w)
    out = np.empty((U, s.size, i.size))
    order = np.argsort(kind.which, kind="stable")
    for u, own in enumerate(np.split(order, np.cumsum(kind.counts.astype(int))[:-1])):
        flat = Xy[kind.rows[own]].reshape(own.size, m * w)
        S = (flat.T @ flat).reshape(m, w, m, w).transpose(0, 2, 1, 3)
        S = S[s, t] + S[t, s] * (s != t)[:, None, None]
        out[u] = S[:, i, j]
    return out.reshape(-1, i.size)
