"""Rows left out without a refit: their predictive density given the variance parameters and all other rows.

With fixed and random effects integrated out, y is normal with precision ``P / sigma^2``. Rows g given all others are
normal with precision ``P_gg / sigma^2`` and residual ``P_gg^-1 (P (y - X m))_g``; m is the prior mean of beta, and
drops out where its prior is flat. The blocks of P come from the rows of the eliminated system, a few draws or a few
groups at a time; no n x n matrix is formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular
from scipy.sparse.csgraph import connected_components

from bayeslmm.errors import FitError
from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import FactorColumns, effect_columns
from bayeslmm.likelihood.criteria import LOG_2PI
from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.likelihood.factor import apply_lambda
from bayeslmm.likelihood.normal_prior import NormalPrior, internal_prior
from bayeslmm.likelihood.reduction import frame_columns
from bayeslmm.likelihood.within import grouped_qr, level_products
from bayeslmm.residual import NO_PARAMETERS, crosses
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Doubles of the rows of the eliminated system held at once.
_CHUNK = 4_000_000
# Share of a direction of X that rests on the rows left out, from which on nothing of it is left.
_LOST = 1.0 - 1e-9
# Below this share of entries that are not zero, sparse products are faster.
_SPARSE = 0.1
# Largest group whose block of P is formed.
_LARGEST = 5_000


@dataclass(frozen=True)
class LeftOut:
    """Predictive distribution of every observation given the others, at K draws.

    Attributes
    ----------
    mean, sd : FloatArray, shape (K, n)
        In the units of y, the offset included.
    log_density : FloatArray, shape (K, n)
        Of the observation itself. With frequencies one copy of the row is left out.
    log_density_kept : FloatArray, shape (K, n)
        Of a new observation in the same place and of the same value, given all observations.
    """

    mean: FloatArray
    sd: FloatArray
    log_density: FloatArray
    log_density_kept: FloatArray


@dataclass(frozen=True)
class GroupsLeftOut:
    """Log densities of the rows of every group at K draws.

    Attributes
    ----------
    log_density : FloatArray, shape (K, G)
        Given all other rows; -inf where some flat coefficient rests on the group alone.
    log_density_kept : FloatArray, shape (K, G)
        Of new rows with the same columns and values and the same effects, given all rows.
    """

    log_density: FloatArray
    log_density_kept: FloatArray


def leave_one_out(
    cp: SummedDesign,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None = None,
    lam: FloatArray = NO_PARAMETERS,
) -> LeftOut:
    """Predictive distribution of every observation given the others and the variance parameters.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors of the blocks; singular ones included.
    sigma : FloatArray, shape (K,)
        Units of y.
    prior : NormalPrior, optional
        On beta; flat if None.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.

    Returns
    -------
    LeftOut
        Infinite sd where the observation is the only one that some flat coefficient rests on.

    References
    ----------
    Sundararajan & Keerthi (2001), Neural Computation 13, 1103-1118, for the formula with the inverse.
    """
    design, system = cp.design, _System.of(cp, lam)
    alone = _of_clusters if design.residual.clusters is not None else _of_rows
    one, lost = alone(system, factors, sigma, prior), lost_without(cp, None, prior)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(lost, np.inf, sigma[:, None] ** 2 / one.precision)
        distance = np.where(lost, 0.0, one.weighted / one.precision)
        log_density = -0.5 * (LOG_2PI + np.log(variance) + distance**2 / variance)
    kept = sigma[:, None] ** 2 * one.kept
    log_kept = -0.5 * (LOG_2PI + np.log(kept) + one.residual**2 / kept)
    return LeftOut(design.y - distance, np.sqrt(variance), log_density, log_kept)


def leave_group_out(
    cp: SummedDesign,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    codes: IntArray,
    prior: NormalPrior | None = None,
    lam: FloatArray = NO_PARAMETERS,
) -> GroupsLeftOut:
    """Log density of all rows of a group given all other rows and the variance parameters.

    Parameters
    ----------
    codes : IntArray, shape (n,)
        Group of each row, 0 .. G - 1; any partition of the rows.

    Returns
    -------
    GroupsLeftOut

    Raises
    ------
    FitError
        A group has more rows than can be held as a dense block.
    """
    design, system = cp.design, _System.of(cp, lam)
    clusters, sizes = design.residual.clusters, np.bincount(codes)
    _check_size("group", sizes)
    if clusters is not None and crosses(clusters, codes):
        without, kept = _groups_of_clusters(system, factors, sigma, prior, codes)
        return GroupsLeftOut(np.where(lost_without(cp, codes, prior), -np.inf, without), kept)
    observations, jacobian = np.bincount(codes, weights=design.frequency), -0.5 * design.log_dets(codes, lam)
    without, kept = np.empty((sigma.size, sizes.size)), np.empty((sigma.size, sizes.size))
    for part, rows, block in _blocks(system, factors, sigma, prior, codes):
        for members in _by_size(codes[rows]):
            groups = codes[rows[members[:, 0]]]
            constant = jacobian[groups] - 0.5 * observations[groups] * (LOG_2PI + 2.0 * np.log(sigma[part])[:, None])
            first, second = _block_terms(system, block, rows, members, sigma[part])
            without[part, groups], kept[part, groups] = constant + first, constant + second
    return GroupsLeftOut(np.where(lost_without(cp, codes, prior), -np.inf, without), kept)


def _check_size(what: str, sizes: IntArray) -> None:
    if sizes.max() > _LARGEST:
        raise FitError(
            f"A {what} to leave out has {sizes.max()} rows; its dense covariance is formed for at most {_LARGEST}. "
            "Leave out smaller groups, or fit again without this one."
        )


def lost_without(cp: SummedDesign, codes: IntArray | None, prior: NormalPrior | None) -> BoolArray:
    """Mask (G,) of the groups (observations if `codes` is None) without which a flat coefficient is not estimable."""
    design = cp.design
    flat = np.ones(cp.p, dtype=bool) if prior is None else ~prior.proper
    if not flat.any():
        return np.zeros(design.n if codes is None else int(codes.max()) + 1, dtype=bool)
    U = np.linalg.qr(cp.fixed.columns if flat.all() else design.X[:, flat] / np.abs(design.X[:, flat]).max(0))[0]
    if codes is None:
        several = np.zeros(design.n, dtype=bool) if design.frequency is None else design.frequency > 1
        return np.asarray(((U**2).sum(1) > _LOST) & ~several)
    share = level_products(codes, U, U, int(codes.max()) + 1)
    return np.asarray(np.linalg.eigvalsh(share)[:, -1] > _LOST)


@dataclass(frozen=True)
class _LeftOut:
    """Some rows at some draws, the first block of effects eliminated."""

    half: FloatArray  # (K, r, t): B L^-T, so that P = V_1^-1 - half half'
    residual: FloatArray  # (K, r): P (y - X m)
    within_diagonal: FloatArray  # (K, r): diagonal of I - V_1^-1
    shrink: FloatArray  # (K, J, c, c): q_i' shrink q_j is that matrix within a level


@dataclass(frozen=True)
class _System:
    """Rows of the design in internal coordinates, split with respect to the levels of the first block."""

    cp: SummedDesign
    lam: FloatArray  # (k,) of the residual structure, which has whitened all columns below
    Q: FloatArray  # (n, c) orthonormal within levels
    R: FloatArray  # (J, c, c)
    spread: sparse.csr_array  # (n, J c): Q in the columns of its level
    within: sparse.csr_array  # (n, m): the other effects, X and y
    between: sparse.csr_array  # (J c, m)
    D: FloatArray  # (m, m)

    @classmethod
    def of(cls, cp: SummedDesign, lam: FloatArray) -> _System:
        design = cp.design
        blocks, columns = cp.blocks, frame_columns(cp)
        first, codes = blocks[0], blocks[0].grouping.codes
        Q, R = grouped_qr(design.whitened(columns[0], lam, within=first.grouping), codes, first.n_levels)
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
        W = sparse.csr_array(sparse.hstack([effects, sparse.csr_array(Xy)]))
        spread = effect_columns([FactorColumns(codes, first.n_levels, Q)], design.n)
        between = sparse.csr_array(spread.T @ W)
        within = sparse.csr_array(W - spread @ between)
        return cls(cp, lam, Q, R, spread, within, between, (within.T @ within).toarray())

    @property
    def width(self) -> int:
        return int(self.D.shape[0])


def _blocks(
    system: _System,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    prior: NormalPrior | None,
    codes: IntArray,
) -> Iterator[tuple[slice, IntArray, _LeftOut]]:
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
        solved = _solve(system, [T[part] for T in factors], sigma[part], prior)
        for rows in chunks:
            yield part, rows, _rows(system, solved, rows)


@dataclass(frozen=True)
class _Solved:
    """The trailing system at some draws."""

    inverse: FloatArray  # (K, J, c, c): (I + R G R')^-1
    shrink: FloatArray  # (K, J, c, c): I minus that
    gain: FloatArray  # (K, t, t): Lambda L^-T
    effects: FloatArray  # (K, t): Lambda u2, beta


def _solve(system: _System, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None) -> _Solved:
    cp, t = system.cp, system.width - 1
    q2 = t - cp.p
    F = system.R @ factors[0][:, None]
    M = F @ small.transpose(F)
    shrink = np.linalg.solve(small.add_identity(M.copy()), M)
    inverse = np.linalg.inv(small.add_identity(M))
    S = np.stack([system.D + (system.between.T @ (_spread(K) @ system.between)).toarray() for K in inverse])
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
        gain = apply_lambda(cp.frame, factors[1:], gain, transposed=False)
        effects = apply_lambda(cp.frame, factors[1:], effects, transposed=False)
    return _Solved(inverse, shrink, gain, effects[..., 0])


def _scaled(cp: CrossProducts, factors: Sequence[FloatArray], rows: FloatArray) -> FloatArray:
    return apply_lambda(cp.frame, factors[1:], rows) if len(cp.blocks) > 1 else rows.copy()


def _spread(blocks: FloatArray) -> sparse.bsr_array:
    """Block-diagonal matrix of (J, c, c) blocks."""
    J, c = blocks.shape[:2]
    return sparse.bsr_array((blocks, np.arange(J), np.arange(J + 1)), shape=(J * c, J * c))


def _rows(system: _System, solved: _Solved, rows: IntArray) -> _LeftOut:
    cp, t = system.cp, system.width - 1
    within, spread = system.within[rows], system.spread[rows]
    half, residual = np.empty((len(solved.gain), rows.size, t)), np.empty((len(solved.gain), rows.size))
    for k, inverse in enumerate(solved.inverse):
        full = within + spread @ (_spread(inverse) @ system.between)
        left = full[:, :t] if full.nnz < _SPARSE * rows.size * t else full[:, :t].toarray()
        half[k] = left @ solved.gain[k]
        residual[k] = full @ np.append(-solved.effects[k], 1.0)
    codes, Q = cp.blocks[0].grouping.codes[rows], system.Q[rows]
    diagonal = np.einsum("na,knab,nb->kn", Q, solved.shrink[:, codes], Q)
    return _LeftOut(half, residual, diagonal, solved.shrink)


def _by_size(codes: IntArray) -> Iterator[IntArray]:
    """Rows (G', size) of the groups of each size; equal codes stand together."""
    starts = np.flatnonzero(np.r_[True, np.diff(codes) != 0])
    sizes = np.diff(np.r_[starts, codes.size])
    for size in np.unique(sizes):
        members = starts[sizes == size][:, None] + np.arange(size)
        step = max(1, _CHUNK // (size * size))
        for start in range(0, members.shape[0], step):
            yield members[start : start + step]


def _block_terms(
    system: _System, block: _LeftOut, rows: IntArray, members: IntArray, sigma: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Log densities (K, G') of groups of one size but for their constants: without the group, and with it."""
    codes = system.cp.blocks[0].grouping.codes[rows[members]]
    Q = system.Q[rows[members]]
    without, kept = (np.empty((sigma.size, members.shape[0])) for _ in range(2))
    for k, scale in enumerate(sigma):
        e = block.residual[k][members] / scale
        P = _precision(block, k, members, Q, codes)
        values, vectors = np.linalg.eigh(0.5 * (P + small.transpose(P)))
        # Groups that some coefficient rests on alone are singular here and answered elsewhere.
        values = np.maximum(values, 1e-300)
        squares = (small.transpose(vectors) @ e[..., None])[..., 0] ** 2
        without[k] = 0.5 * (np.log(values) - squares / values).sum(-1)
        # Covariance I + H_gg = 2 I - P_gg of what is predicted, residual e.
        kept[k] = -0.5 * (np.log(2.0 - values) + squares / (2.0 - values)).sum(-1)
    return without, kept


def _precision(block: _LeftOut, k: int, members: IntArray, Q: FloatArray, codes: IntArray) -> FloatArray:
    """Blocks (G', r, r) of P at draw k; Q (G', r, c) and codes (G', r) are those of the first block of effects."""
    half = block.half[k][members]
    same = codes[:, :, None] == codes[:, None, :]
    shrunk = np.einsum("gia,giab->gib", Q, block.shrink[k][codes])
    return np.asarray(np.eye(members.shape[1]) - same * (shrunk @ small.transpose(Q)) - half @ small.transpose(half))


@dataclass(frozen=True)
class _Alone:
    """Precision and covariance over sigma^2 on the scale of y, of single rows (K, n) or of some rows together."""

    precision: FloatArray  # Q: of y given all other rows
    weighted: FloatArray  # Q (y - X m)
    kept: FloatArray  # covariance of new rows in the same place given all rows
    residual: FloatArray  # y minus what is predicted for these


def _of_rows(system: _System, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None) -> _Alone:
    """Of every row, where rows are independent."""
    design, lam = system.cp.design, system.lam
    counts = np.ones(design.n) if design.frequency is None else design.frequency.astype(float)
    P, e = (np.empty((sigma.size, design.n)) for _ in range(2))
    for part, rows, block in _blocks(system, factors, sigma, prior, np.arange(design.n)):
        leverage = block.within_diagonal + (block.half**2).sum(-1)
        P[part, rows] = 1.0 - leverage / counts[rows]
        e[part, rows] = block.residual / np.sqrt(counts[rows])
    residual, relative = design.residual, design.residual.variance(lam)
    weighted, left = residual.whiten(lam, e[..., None])[..., 0], residual.color(lam, e[..., None])[..., 0]
    return _Alone(P / relative, weighted, (2.0 - P) * relative, left)


def _of_clusters(
    system: _System, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None
) -> _Alone:
    """Of every row, where rows depend on others of their cluster."""
    n = system.cp.design.n
    out = _Alone(*(np.empty((sigma.size, n)) for _ in range(4)))
    for part, rows, own in _together(system, factors, sigma, prior, np.arange(n)):
        for whole, values in zip(vars(out).values(), vars(own).values(), strict=True):
            whole[part, rows] = values if values.ndim == 2 else np.diagonal(values, axis1=1, axis2=2)
    return out


def _groups_of_clusters(
    system: _System, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Log densities (K, G) without the group, and with it, where groups have parts of clusters."""
    without, kept = (np.empty((sigma.size, int(codes.max()) + 1)) for _ in range(2))
    for part, rows, own in _together(system, factors, sigma, prior, codes):
        scale = sigma[part, None]
        for group in np.unique(codes[rows]):
            at = np.flatnonzero(codes[rows] == group)
            constant = -0.5 * at.size * (LOG_2PI + 2.0 * np.log(sigma[part]))
            log_det, square = _quadratic(own.precision[:, at[:, None], at], own.weighted[:, at] / scale)
            without[part, group] = constant + 0.5 * (log_det - square)
            log_det, square = _quadratic(own.kept[:, at[:, None], at], own.residual[:, at] / scale)
            kept[part, group] = constant - 0.5 * (log_det + square)
    return without, kept


def _quadratic(A: FloatArray, a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log determinants and ``a'A^-1 a`` (K,) of positive matrices (K, r, r), singular ones included."""
    values, vectors = np.linalg.eigh(0.5 * (A + small.transpose(A)))
    values = np.maximum(values, 1e-300)
    squares = (small.transpose(vectors) @ a[..., None])[..., 0] ** 2
    return np.log(values).sum(-1), (squares / values).sum(-1)


def _together(
    system: _System, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> Iterator[tuple[slice, IntArray, _Alone]]:
    """Draws and rows that hang together by their group or their cluster, with the blocks (K, r, r) of these rows."""
    residual = system.cp.design.residual
    clusters = np.asarray(residual.clusters)
    J = int(codes.max()) + 1
    graph = sparse.coo_array((np.ones(codes.size), (codes, J + clusters)), shape=(J + clusters.max() + 1,) * 2)
    joint = connected_components(graph, directed=False)[1][codes].astype(np.int64)
    _check_size("cluster of dependent rows with the groups", np.bincount(joint))
    for part, rows, block in _blocks(system, factors, sigma, prior, joint):
        for members in _by_size(joint[rows]):
            first, Q = system.cp.blocks[0].grouping.codes[rows[members]], system.Q[rows[members]]
            P = np.stack([_precision(block, k, members, Q, first) for k in range(len(block.half))], axis=1)
            for own, precision in zip(members, P, strict=True):
                W = residual.whiten(system.lam, np.eye(own.size), rows[own])
                C = residual.color(system.lam, np.eye(own.size), rows[own])
                e = block.residual[:, own]
                kept = C @ (2.0 * np.eye(own.size) - precision) @ C.T
                yield part, rows[own], _Alone(W.T @ precision @ W, e @ W, kept, e @ C.T)
