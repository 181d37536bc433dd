"""Kenward and Roger's adjusted covariance of the fixed effects, and degrees of freedom, after REML.

The estimate ``Phi = (X'V^-1 X)^-1`` of the covariance of beta is too small, since the variances in V are
estimates themselves. With ``V_i = dV / d v_i`` for parameters in which V is linear, the inverse W of their expected
information ``tr(P V_i P V_j) / 2`` and ``D_i = dPhi / d v_i`` the adjusted covariance is

    Phi_A = Phi + 2 sum_ij W_ij  Phi X'V^-1 V_i P V_j V^-1 X Phi .

The parameters are the entries of the covariances of the effects and the residual variance, not standard deviations:
at a variance of zero they have derivatives like anywhere else, and its uncertainty counts. That is where the method
parts from Satterthwaite's: 5 and 29 degrees of freedom for the mean of Dyestuff2.

Of the direction of the residual variance only its sum with the others is used, V itself, for which everything is known
(``P V P = P``, ``P X = 0``). What is left are forms in ``Z'PZ`` and ``Z'V^-1 X Phi``, whose cost does not depend on n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.hypothesis import hypothesis
from bayeslmm.inference.sensitivity import MOVED, UNDETERMINED, ScaledInverse, Sensitivity, scaled_inverse, sensitivity
from bayeslmm.likelihood import CrossProducts, Derivatives, SummedDesign, derivatives, evaluate, small
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.derivatives import LevelPieces
from bayeslmm.likelihood.reduction import as_levels
from bayeslmm.mode import PosteriorMode
from bayeslmm.reml import Optimum
from bayeslmm.types import BoolArray, FloatArray

# Doubles that the cross-products of a design with many levels may take when they are formed densely (200 MB).
_DENSE = 25_000_000
# Random effects outside the first factor then.
_TRAILING = 2_000
# Doubles in the widest array of a batch.
_CHUNK = 2_000_000
# Eigenvalues of the information, scaled to a unit diagonal, below this are none: variances that cannot be told apart.
_FLAT = 1e-10
# Two shares of one sum that differ by less are equal: information matrices are inverted to about this accuracy.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class KenwardRoger:
    """Adjusted covariance and what degrees of freedom are made from, at K points; sigma is 1 throughout.

    Coefficients are those of the orthogonalised columns of X, but for the two properties.

    Attributes
    ----------
    C : FloatArray, shape (K, p, p)
        Covariance of the coefficients, variances taken as known, divided by sigma^2.
    adjusted_own : FloatArray, shape (K, p, p)
        Phi_A divided by sigma^2.
    changes : FloatArray, shape (K, d, p, p)
        Derivatives of `C` along the variances, V as a whole last.
    inverse_information : FloatArray, shape (K, d, d)
    transform : FloatArray, shape (p, p)
        The user's coefficients from these.
    unsaid : FloatArray, shape (K, d, p, p), optional
        Derivatives of `C` along combinations of variances of which the data say nothing; None where there are none.
    """

    C: FloatArray
    adjusted_own: FloatArray
    changes: FloatArray
    inverse_information: FloatArray
    transform: FloatArray
    unsaid: FloatArray | None = None

    @property
    def plain(self) -> FloatArray:
        """Covariance of the user's coefficients (K, p, p), variances taken as known, divided by sigma^2."""
        return np.asarray(self.transform @ self.C @ self.transform.T)

    @property
    def adjusted(self) -> FloatArray:
        """Phi_A of the user's coefficients (K, p, p), divided by sigma^2."""
        return np.asarray(self.transform @ self.adjusted_own @ self.transform.T)

    def std_error(self, L: FloatArray) -> FloatArray:
        """Adjusted standard errors (K, m) of contrasts L (m, p) of the user's coefficients, divided by sigma."""
        own = L @ self.transform
        return np.asarray(np.sqrt(np.einsum("mi,kij,mj->km", own, self.adjusted_own, own)))

    def df(self, L: FloatArray) -> FloatArray:
        """Degrees of freedom (K, m) of contrasts L (m, p) of the user's coefficients; nan for a contrast of zeros."""
        return self.df_own(L @ self.transform)

    def df_own(self, own: FloatArray) -> FloatArray:
        """The same (K, m) of contrasts (m, p) of the coefficients of the orthogonalised columns."""
        variance = np.einsum("mi,kij,mj->km", own, self.C, own)
        relative = np.einsum("mi,kdij,mj->kmd", own, self.changes, own)
        spread = np.einsum("kmd,kde,kme->km", relative, self.inverse_information, relative)
        spread = np.where(self._lost(own), np.nan, spread)
        # One row is the case l = 1 of `f_scale`: lambda is 1 and the degrees of freedom are 2 / A_2.
        return np.asarray(2.0 * variance**2 / np.where(spread > 0, spread, np.nan))

    def known_df(self, own: FloatArray) -> FloatArray:
        """Degrees of freedom (m,) of contrasts (m, p) at the first point, which have to be determined.

        Raises
        ------
        FitError
            The variance of a contrast depends on variances of which the data say nothing.
        """
        if self._lost(own)[0].any():
            raise FitError(UNDETERMINED)
        return np.asarray(self.df_own(own)[0])

    def _lost(self, own: FloatArray) -> BoolArray:
        variance = np.einsum("mi,kij,mj->km", own, self.C, own)
        if self.unsaid is None:
            return np.zeros(variance.shape, dtype=bool)
        lost = np.linalg.norm(np.einsum("mi,kaij,mj->kma", own, self.unsaid, own), axis=2)
        return np.asarray(lost > MOVED * np.abs(variance))

    def f_scale(self, own: FloatArray) -> tuple[float, float]:
        """Scale and denominator degrees of freedom of the F statistic of several rows.

        Parameters
        ----------
        own : FloatArray, shape (l, p)
            Linearly independent combinations of the coefficients of the orthogonalised columns.

        References
        ----------
        Kenward & Roger (1997), Biometrics 53, 983-997, sec. 3.
        """
        rows = own.shape[0]
        theta = own.T @ np.linalg.solve(own @ self.C[0] @ own.T, own)
        moved = theta @ self.changes[0]
        W = self.inverse_information[0]
        traces = np.trace(moved, axis1=1, axis2=2)
        A1 = float(traces @ W @ traces)
        A2 = float((W * np.einsum("aij,bji->ab", moved, moved)).sum())
        B = (A1 + 6.0 * A2) / (2.0 * rows)
        g = ((rows + 1) * A1 - (rows + 4) * A2) / ((rows + 2) * A2)
        below = 3.0 * rows + 2.0 * (1.0 - g)
        c1, c2, c3 = g / below, (rows - g) / below, (rows + 2 - g) / below
        first, last = 1.0 + c1 * B, 1.0 - c3 * B
        rest = 1.0 - A2 / rows
        gap = A2 / rows - c2 * B
        if abs(gap) <= _ROUNDING * A2 / rows:
            # As for Hotelling's statistic: the factor 1 - c2 B of the variance and the mean cancel, and nothing is
            # divided by what is zero with l + 2 subjects (no mean) or l + 4 (no variance).
            df = 4.0 + (rows + 2) * last / (first - last)
            return df * (first - last) / (rows + 2), df
        last *= (rest + gap) ** 2
        df = 4.0 + (rows + 2) * last / (rest**2 * first - last)
        return df * rest / (df - 2.0), df


def kenward_roger(cp: SummedDesign, optimum: Optimum) -> KenwardRoger:
    """Kenward and Roger's quantities of one REML fit.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
        By REML; terms that were held fixed count as known.

    Returns
    -------
    KenwardRoger
        One point (K = 1).

    Raises
    ------
    DesignError
        A fit by maximum likelihood; a covariance that is not linear in variances (``ar1``); so many random effects that
        dense matrices of them do not fit.

    References
    ----------
    Kenward & Roger (1997), Biometrics 53, 983-997; Alnosaier (2007), thesis, Oregon State University, for A_1 and A_2.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    >>> kenward_roger(fit.cp, fit.optimum).df(np.eye(1)).round(6)
    array([[5.]])
    """
    if isinstance(optimum, PosteriorMode):
        raise FitError(
            "Kenward and Roger's adjustment is for REML estimates, and this is a posterior mode. Use "
            "ddf='satterthwaite' (from the curvature of the posterior) or 'z', or model.fit() without priors."
        )
    if not optimum.reml:
        raise DesignError(
            "The adjustment of Kenward and Roger is about REML estimates, and this fit is by maximum likelihood, whose "
            "variances are too small by an amount that it does not know. Fit with reml=True, or use "
            "ddf='satterthwaite'."
        )
    return _adjust(_dense(cp), optimum.factors, frozenset(optimum.fixed), bool(optimum.ridges))


def kenward_roger_many(cp: SummedDesign, terms: Sequence[FloatArray]) -> KenwardRoger:
    """Kenward and Roger's quantities at K estimates of one design; they depend on the data through these alone.

    Parameters
    ----------
    cp : SummedDesign
    terms : sequence of FloatArray, each (K, c, c)
        Relative factors on the user's columns (``Optima.terms``), by REML.

    Returns
    -------
    KenwardRoger
        Multiply standard errors by sigma (K,).

    Raises
    ------
    DesignError
        As `kenward_roger`.
    """
    cp = _dense(cp)
    factors = par.block_factors(cp, terms)
    width = cp.sums.between + 4 * sum(block.size**2 for block in cp.blocks) * (cp.q_trailing + cp.p + 1) ** 2
    step = max(1, _CHUNK // max(width, 1))
    parts = [
        _adjust(cp, [T[k : k + step] for T in factors], frozenset(), False) for k in range(0, factors[0].shape[0], step)
    ]
    return KenwardRoger(
        C=np.concatenate([part.C for part in parts]),
        adjusted_own=np.concatenate([part.adjusted_own for part in parts]),
        changes=np.concatenate([part.changes for part in parts]),
        inverse_information=np.concatenate([part.inverse_information for part in parts]),
        transform=cp.fixed.transform,
    )


def kenward_roger_f(
    cp: SummedDesign, optimum: Optimum, result: KenwardRoger, L: FloatArray, c: FloatArray | None = None
) -> tuple[float, int, float, float]:
    """F test of ``L beta = c``, by default zero.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
    result : KenwardRoger
        Of that fit.
    L : FloatArray, shape (m, p)
        Rows may depend on each other.
    c : FloatArray, shape (m,), optional

    Returns
    -------
    tuple
        F (scaled), numerator and denominator degrees of freedom, and what Wald's F was multiplied by.
    """
    tested = hypothesis(cp, optimum, L, c)
    rows, rank, estimate = tested.rows, tested.values.size, tested.values / optimum.sigma
    scale, df = _scale(result, rows)
    # Far from the estimate F may be beyond all numbers.
    with np.errstate(over="ignore"):
        wald = float(estimate @ np.linalg.solve(rows @ result.adjusted_own[0] @ rows.T, estimate))
    return scale * wald / rank, rank, df, scale


def _scale(result: KenwardRoger, rows: FloatArray) -> tuple[float, float]:
    each = result.known_df(rows)
    return (1.0, float(each[0])) if rows.shape[0] == 1 else result.f_scale(rows)


def _dense(cp: SummedDesign) -> SummedDesign:
    """Cross-products with dense levels."""
    if cp.sums.batched:
        return cp
    first, rest = cp.blocks[0], sum(block.q for block in cp.blocks[1:])
    if rest > _TRAILING or first.q * (rest + cp.p + 1) > _DENSE:
        raise DesignError(
            f"The adjustment of Kenward and Roger needs dense matrices of the random effects, and this design has "
            f"{first.q + rest:,} of them ({rest:,} outside {first.grouping.name!r}; at most {_TRAILING:,}). With so "
            f"many levels it changes little: use ddf='satterthwaite'."
        )
    return as_levels(cp)


def linear_directions(structure: CovarianceStructure) -> FloatArray | None:
    """A basis (d, c, c) of the covariances of a structure; None if they are no linear space."""
    if not structure.additive:
        return None
    k = len(structure.rows)
    points = [np.eye(k)[i] for i in range(k)]
    points += [
        np.eye(k)[i] + scale * np.eye(k)[j] for i, j in product(range(k), repeat=2) for scale in (1.0, 2.0, -0.5)
    ]
    # A covariance of two standard deviations and a correlation needs all of them.
    points += [np.full(k, 0.5) + scale * np.eye(k)[i] for i in range(k) for scale in (0.5, -0.25)]
    T = structure.factor(np.array(points))
    G = (T @ small.transpose(T)).reshape(len(points), -1)
    _, s, Vt = np.linalg.svd(G / np.maximum(np.linalg.norm(G, axis=1, keepdims=True), 1e-300))
    rank = int((s > 1e-9 * s[0]).sum())
    return Vt[:rank].reshape(rank, *T.shape[1:]) if rank <= k else None


def _directions(cp: SummedDesign, fixed: frozenset[int]) -> tuple[list[FloatArray], BoolArray]:
    """Changes (d_b, c, c) of the covariance of every block, and which of all these (d,) are estimated."""
    found: list[list[FloatArray]] = [[] for _ in cp.blocks]
    free: list[bool] = []
    for b, columns, term, _, structure in cp.frame.terms:
        own = np.eye(structure.size)[None] if term in fixed else linear_directions(structure)
        if own is None:
            raise DesignError(
                f"The adjustment of Kenward and Roger is for covariances that are sums of variances and covariances, "
                f"and {structure.keyword}(...) of {cp.design.terms[term].label!r} is not: its entries are powers or "
                f"products of others. Use ddf='satterthwaite'."
            )
        W = par.frame(cp, b, columns, structure)
        whole = np.zeros((own.shape[0], cp.blocks[b].size, cp.blocks[b].size))
        whole[:, columns, columns] = own if W is None else W @ own @ W.T
        found[b].append(whole)
        free += [term not in fixed] * own.shape[0]
    return [np.concatenate(parts) for parts in found], np.array(free, dtype=bool)


def _adjust(cp: SummedDesign, factors: Sequence[FloatArray], fixed: frozenset[int], ridges: bool) -> KenwardRoger:
    factor = evaluate(cp, factors, keep=True)
    # Nothing here depends on the response of the design, which may even be constant.
    factor = replace(factor, r2=np.ones_like(factor.r2))
    first = derivatives(cp, factors, factor)
    pieces = sensitivity(cp, factors, factor, first)
    own, free = _directions(cp, fixed)
    K = factor.r2.size
    directions = [np.broadcast_to(gamma, (K, *gamma.shape)) for gamma in own]
    estimated = np.flatnonzero(np.append(free, cp.sigma is None))
    information = _information(cp, first, directions)
    inverse = np.zeros_like(information)
    part = np.ix_(np.arange(K), estimated, estimated)
    sizes = np.append(_sizes(directions, factors), np.ones((K, 1)), axis=1)[:, estimated]
    known = scaled_inverse(information[part], _FLAT, sizes if ridges else None)
    inverse[part] = known.inverse
    changes = np.concatenate([*_changes(directions, pieces), pieces.C[:, None]], axis=1)
    return KenwardRoger(
        C=pieces.C,
        adjusted_own=pieces.C + 2.0 * _excess(first, pieces, directions, inverse[:, :-1, :-1]),
        changes=changes,
        inverse_information=inverse,
        transform=cp.fixed.transform,
        unsaid=_unsaid(known, changes[:, estimated]) if ridges else None,
    )


def _sizes(directions: Sequence[FloatArray], factors: Sequence[FloatArray]) -> FloatArray:
    """Sizes (K, d) of the covariances along the directions of every block, on the columns that these change."""
    parts = []
    for gamma, T in zip(directions, factors, strict=True):
        G = T @ small.transpose(T)
        parts.append(np.abs(np.where(gamma != 0, G[:, None], 0.0)).max((2, 3)))
    return np.concatenate(parts, axis=1)


def _unsaid(known: ScaledInverse, changes: FloatArray) -> FloatArray:
    """Derivatives of C (K, d, p, p) along the directions of which the data say nothing."""
    return np.asarray(np.einsum("kda,kdij->kaij", known.null, changes))


def _information(cp: CrossProducts, first: Derivatives, directions: Sequence[FloatArray]) -> FloatArray:
    """``tr(P V_i P V_j) / 2`` (K, d + 1, d + 1), V itself last, at sigma = 1."""
    traces = first.pieces.traces(directions)
    slopes = [np.einsum("kdab,kab->kd", gamma, S) for gamma, S in zip(directions, first.traces, strict=True)]
    d = traces.shape[1]
    out = np.full((traces.shape[0], d + 1, d + 1), float(cp.n - cp.p))
    out[:, :d, :d] = traces
    out[:, :d, d] = out[:, d, :d] = np.concatenate(slopes, axis=1)
    return 0.5 * out


def _of_levels(first: Derivatives) -> LevelPieces:
    if not isinstance(first.pieces, LevelPieces):
        raise TypeError("the derivatives of dense levels are needed")
    return first.pieces


def _changes(directions: Sequence[FloatArray], pieces: Sensitivity) -> list[FloatArray]:
    """``W' dG W`` (K, d_b, p, p) for the directions of every block."""
    out = []
    for gamma, W in zip(directions, pieces.W, strict=True):
        K, J, c, p = W.shape
        flat = W.reshape(K, J, c * p)
        sums = (small.transpose(flat) @ flat).reshape(K, c, p, c, p)
        out.append(np.einsum("kdab,kapbq->kdpq", gamma, sums))
    return out


def _excess(
    first: Derivatives, pieces: Sensitivity, directions: Sequence[FloatArray], inverse: FloatArray
) -> FloatArray:
    """``sum_ij inverse_ij (E_i W)' S (E_j W)`` (K, p, p), a sum of squares in a root of `inverse`."""
    values, vectors = np.linalg.eigh(inverse)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    ends = np.cumsum([0, *(gamma.shape[1] for gamma in directions)])
    total = np.zeros_like(pieces.C)
    for j in range(root.shape[2]):
        moved = [
            np.einsum("kd,kdab->kab", root[:, a:b, j], gamma)[:, None] @ W
            for gamma, W, (a, b) in zip(directions, pieces.W, pairwise(ends), strict=True)
        ]
        total += _form(_of_levels(first), pieces, moved)
    return total


def _form(pieces: LevelPieces, own: Sensitivity, moved: Sequence[FloatArray]) -> FloatArray:
    """``Y' S Y`` (K, p, p) with S = Z'PZ and the rows of Y block by block, each (K, J, c, p)."""
    if own.first is None:
        raise TypeError("the sensitivity of dense levels is needed")
    (A, B), Y = own.first, moved[0]
    K, J, c, p = Y.shape
    flat = Y.reshape(K, J * c, p)
    N = small.transpose(B.reshape(K, J * c, B.shape[-1])) @ flat
    out = small.transpose(flat) @ (A @ Y).reshape(K, J * c, p) - small.transpose(N) @ pieces.Q @ N
    if pieces.trailing is not None:
        rest = np.concatenate([y.reshape(K, y.shape[1] * y.shape[2], p) for y in moved[1:]], axis=1)
        across = small.transpose(N) @ pieces.trailing.R2 @ rest
        out += across + small.transpose(across) + small.transpose(rest) @ pieces.trailing.S22 @ rest
    return np.asarray(out)
