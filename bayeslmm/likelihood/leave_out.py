"""Rows left out without a refit: their predictive density given the variance parameters and all other rows.

With fixed and random effects integrated out, y is normal with precision ``P / sigma^2``. Rows g given all others are
normal with precision ``P_gg / sigma^2`` and residual ``P_gg^-1 (P (y - X m))_g``; m is the prior mean of beta, and
drops out where its prior is flat. The blocks of P come from the rows of the eliminated system, a few draws or a few
groups at a time; no n x n matrix is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg import lapack

from bayeslmm.errors import FitError
from bayeslmm.likelihood import small
from bayeslmm.likelihood.criteria import LOG_2PI
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.dependent import connected
from bayeslmm.likelihood.normal_prior import NormalPrior
from bayeslmm.likelihood.row_system import RowSystem, by_size, precision_blocks, row_blocks
from bayeslmm.likelihood.wide_groups import group_rows, pays, wide_blocks
from bayeslmm.likelihood.within import level_products
from bayeslmm.residual import NO_PARAMETERS, cluster_blocks, crosses, each_point
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Share of a direction of X that rests on the rows left out, from which on nothing of it is left.
_LOST = 1.0 - 1e-9
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
        Of a new observation in the same place and of the same value, given all observations; its residual is that of a
        row beside the others of its cluster.
    sd_kept : FloatArray, shape (K, n)
        Of a new observation in the same place whose residual depends on no other.
    """

    mean: FloatArray
    sd: FloatArray
    log_density: FloatArray
    log_density_kept: FloatArray
    sd_kept: FloatArray


@dataclass(frozen=True)
class GroupsLeftOut:
    """Log densities of the rows of every group at K draws.

    Attributes
    ----------
    log_density : FloatArray, shape (K, G)
        Given all other rows; -inf where some flat coefficient rests on the group alone.
    log_density_kept : FloatArray, shape (K, G)
        Of new rows with the same columns and values and the same effects, given all rows; their residuals are those of
        rows beside the others of their clusters.
    square, square_kept : FloatArray, shape (K, G)
        Squared distances of the rows from their means in these, over sigma^2.
    """

    log_density: FloatArray
    log_density_kept: FloatArray
    square: FloatArray
    square_kept: FloatArray


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
    lam : FloatArray, shape (k,) or (K, k)
        Parameters of the residual structure, of all draws or of each.

    Returns
    -------
    LeftOut
        Infinite sd where the observation is the only one that some flat coefficient rests on.

    References
    ----------
    Sundararajan & Keerthi (2001), Neural Computation 13, 1103-1118, for the formula with the inverse.
    """
    lost = lost_without(cp, None, prior)
    return _at_each(partial(_one_out, cp, prior, lost), factors, sigma, lam)


def _one_out(
    cp: SummedDesign,
    prior: NormalPrior | None,
    lost: BoolArray,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    lam: FloatArray,
) -> LeftOut:
    """The same at one lam, observations that a flat coefficient rests on known."""
    design, system = cp.design, RowSystem.of(cp, lam)
    alone = _of_clusters if design.residual.clusters is not None else _of_rows
    one = alone(system, factors, sigma, prior)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(lost, np.inf, sigma[:, None] ** 2 / one.precision)
        distance = np.where(lost, 0.0, one.weighted / one.precision)
        log_density = -0.5 * (LOG_2PI + np.log(variance) + distance**2 / variance)
    kept = sigma[:, None] ** 2 * (2.0 - one.precision / one.own) / one.own
    log_kept = -0.5 * (LOG_2PI + np.log(kept) + (one.weighted / one.own) ** 2 / kept)
    sd_kept = sigma[:, None] * np.sqrt(one.kept)
    return LeftOut(design.y - distance, np.sqrt(variance), log_density, log_kept, sd_kept)


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
    lam : FloatArray, shape (k,) or (K, k)

    Returns
    -------
    GroupsLeftOut

    Raises
    ------
    FitError
        A group has more rows than can be held as a dense block.
    """
    check_block_size("group", np.bincount(codes))
    lost = lost_without(cp, codes, prior)
    return _at_each(partial(_group_out, cp, codes, prior, lost), factors, sigma, lam)


def _group_out(
    cp: SummedDesign,
    codes: IntArray,
    prior: NormalPrior | None,
    lost: BoolArray,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    lam: FloatArray,
) -> GroupsLeftOut:
    """The same at one lam, groups that a flat coefficient rests on known."""
    design, system, clusters = cp.design, RowSystem.of(cp, lam), cp.design.residual.clusters
    observations = np.bincount(codes, weights=design.frequency)
    constant = -0.5 * observations * (LOG_2PI + 2.0 * np.log(sigma)[:, None])
    if clusters is not None and crosses(clusters, codes):
        terms = _groups_of_clusters(system, factors, sigma, prior, codes)
    else:
        constant = constant - 0.5 * design.log_dets(codes, lam)
        terms = (_wide_groups if pays(cp, codes) else _dense_groups)(system, factors, sigma, prior, codes)
    without, square, kept, square_kept = terms
    density = np.where(lost, -np.inf, constant + without - 0.5 * square)
    return GroupsLeftOut(density, constant + kept - 0.5 * square_kept, square, square_kept)


def _at_each[Found: (LeftOut, GroupsLeftOut)](
    leave: Callable[[Sequence[FloatArray], FloatArray, FloatArray], Found],
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    lam: FloatArray,
) -> Found:
    """What is found at one lam, or at draws (K, k) of it, those of one value together."""
    if lam.ndim == 1:
        return leave(factors, sigma, lam)
    parts = list(each_point(lam))
    found = [leave([T[own] for T in factors], sigma[own], at) for at, own in parts]
    back = np.argsort(np.concatenate([own for _, own in parts]))
    names = vars(found[0])
    return type(found[0])(**{name: np.concatenate([getattr(one, name) for one in found])[back] for name in names})


def check_block_size(what: str, sizes: IntArray) -> None:
    """Refuse groups of rows (sizes of all are given) whose block of P cannot be held."""
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
    columns = cp.fixed.columns if flat.all() else design.X[:, flat] / np.abs(design.X[:, flat]).max(0)
    if codes is not None:
        return rest_on_groups(columns, codes)
    U = np.linalg.qr(columns)[0]
    several = np.zeros(design.n, dtype=bool) if design.frequency is None else design.frequency > 1
    return np.asarray(((U**2).sum(1) > _LOST) & ~several)


def rest_on_groups(columns: FloatArray, codes: IntArray) -> BoolArray:
    """Mask (G,) of the groups of rows, codes (n,), on which alone some combination of the columns (n, p) rests."""
    U = np.linalg.qr(columns)[0]
    share = level_products(codes, U, U, int(codes.max()) + 1)
    return np.asarray(np.linalg.eigvalsh(share)[:, -1] > _LOST)


def _dense_groups(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> FloatArray:
    """Terms (4, K, G) of the densities without each group, and with it: half log determinants of precisions, squares.

    In this order, one after the other.
    """
    terms, first = np.empty((4, sigma.size, int(codes.max()) + 1)), system.cp.blocks[0].grouping.codes
    for part, rows, block in row_blocks(system, factors, sigma, prior, codes):
        for members in by_size(codes[rows]):
            own = rows[members]
            for k, scale in enumerate(sigma[part]):
                P = precision_blocks(block, k, members, system.Q[own], first[own])
                terms[:, part.start + k, codes[own[:, 0]]] = _spectral(P, block.residual[k][members] / scale)
    return terms


def _wide_groups(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> FloatArray:
    """The same, one group at a time."""
    terms = np.empty((4, sigma.size, int(codes.max()) + 1))
    for k, group, P, e in wide_blocks(system, group_rows(system, codes), factors, sigma, prior):
        e = e / sigma[k]
        try:
            new = -P
            new.flat[:: e.size + 1] += 2.0
            without, kept = _triangular(P, e), _triangular(new, e)
            terms[:, k, group] = *without, -kept[0], kept[1]
        except np.linalg.LinAlgError:
            # Singular to rounding.
            terms[:, k, group] = _spectral(P, e)
    return terms


def _spectral(P: FloatArray, e: FloatArray) -> FloatArray:
    """Terms (4, ...) of groups of one size with blocks P (..., r, r) of the precision, singular ones included."""
    values, vectors = np.linalg.eigh(0.5 * (P + small.transpose(P)))
    # Groups that some coefficient rests on alone are singular here and answered elsewhere.
    values = np.maximum(values, 1e-300)
    squares = (small.transpose(vectors) @ e[..., None])[..., 0] ** 2
    # Covariance I + H_gg = 2 I - P_gg of what is predicted, residual e.
    new = 2.0 - values
    terms = 0.5 * np.log(values), squares / values, -0.5 * np.log(new), squares / new
    return np.stack([term.sum(-1) for term in terms])


def _triangular(A: FloatArray, e: FloatArray) -> tuple[float, float]:
    """Half the log determinant of A, and ``e'A^-1 e``; the lower triangle is read."""
    # By columns it is the upper triangle of the transpose, which needs no copy in another order.
    chol, failed = lapack.dpotrf(A.T, lower=0, clean=0)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    half = lapack.dtrtrs(chol, e, lower=0, trans=1)[0]
    return float(np.log(np.diagonal(chol)).sum()), float(half @ half)


@dataclass(frozen=True)
class _Alone:
    """Precision and covariance over sigma^2 on the scale of y: of single rows (K, n), or of sets (G, K, r, r)."""

    precision: FloatArray  # P: of y, all effects integrated out
    weighted: FloatArray  # P (y - X m)
    kept: FloatArray  # covariance of new rows in the same place, whose residuals are new, given all rows
    own: FloatArray  # Q = R^-1: precision of the residuals


def _of_rows(system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None) -> _Alone:
    """Of every row, where rows are independent."""
    design, lam = system.cp.design, system.lam
    counts = design.counts
    P, e = (np.empty((sigma.size, design.n)) for _ in range(2))
    for part, rows, block in row_blocks(system, factors, sigma, prior, np.arange(design.n)):
        leverage = block.within_diagonal + (block.half**2).sum(-1)
        P[part, rows] = 1.0 - leverage / counts[rows]
        e[part, rows] = block.residual / np.sqrt(counts[rows])
    residual, relative = design.residual, design.residual.variance(lam)
    weighted = residual.whiten(lam, e[..., None])[..., 0]
    return _Alone(P / relative, weighted, (2.0 - P) * relative, np.broadcast_to(1.0 / relative, P.shape))


def _of_clusters(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None
) -> _Alone:
    """Of every row, where rows depend on others of their cluster."""
    n = system.cp.design.n
    out = _Alone(*(np.empty((sigma.size, n)) for _ in range(4)))
    for part, rows, own in _together(system, factors, sigma, prior, np.arange(n)):
        precision, kept, residual = (np.diagonal(A, axis1=-2, axis2=-1) for A in (own.precision, own.kept, own.own))
        singles = precision, own.weighted, kept, np.broadcast_to(residual[:, None], precision.shape)
        for whole, each in zip(vars(out).values(), singles, strict=True):
            whole[part, rows.ravel()] = np.moveaxis(each, 1, 0).reshape(each.shape[1], -1)
    return out


def _groups_of_clusters(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> FloatArray:
    """The same where groups have parts of clusters."""
    terms = np.empty((4, sigma.size, int(codes.max()) + 1))
    for part, rows, own in _together(system, factors, sigma, prior, codes):
        scale = sigma[part, None]
        for j, members in enumerate(rows):
            for group in np.unique(codes[members]):
                at = np.flatnonzero(codes[members] == group)
                P, e = own.precision[j][:, at[:, None], at], own.weighted[j][:, at] / scale
                log_det, square = _quadratic(P, e)
                # New rows have covariance Q^-1 (2 Q - P) Q^-1 about the others, and are off by Q^-1 P y.
                Q = own.own[j][at[:, None], at]
                log_det_new, square_new = _quadratic(2.0 * Q - P, e)
                new = np.linalg.slogdet(Q)[1] - 0.5 * log_det_new
                terms[:, part, group] = 0.5 * log_det, square, new, square_new
    return terms


def _quadratic(A: FloatArray, a: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log determinants and ``a'A^-1 a`` (K,) of positive matrices (K, r, r), singular ones included."""
    values, vectors = np.linalg.eigh(0.5 * (A + small.transpose(A)))
    values = np.maximum(values, 1e-300)
    squares = (small.transpose(vectors) @ a[..., None])[..., 0] ** 2
    return np.log(values).sum(-1), (squares / values).sum(-1)


def _together(
    system: RowSystem, factors: Sequence[FloatArray], sigma: FloatArray, prior: NormalPrior | None, codes: IntArray
) -> Iterator[tuple[slice, IntArray, _Alone]]:
    """Draws and sets of rows (G, r) that hang together by group or cluster, with the blocks (G, K, r, r) of these."""
    residual = system.cp.design.residual
    joint = connected([codes, np.asarray(residual.clusters)], residual.n)
    check_block_size("cluster of dependent rows with the groups", np.bincount(joint))
    for part, rows, block in row_blocks(system, factors, sigma, prior, joint):
        for members in by_size(joint[rows]):
            first, Q = system.cp.blocks[0].grouping.codes[rows[members]], system.Q[rows[members]]
            P = np.stack([precision_blocks(block, k, members, Q, first) for k in range(len(block.half))], axis=1)
            own = rows[members]
            W, C = (cluster_blocks(change, system.lam, own, residual.n) for change in (residual.whiten, residual.color))
            e = np.moveaxis(block.residual[:, members], 1, 0)
            kept = C[:, None] @ (2.0 * np.eye(members.shape[1]) - P) @ C.mT[:, None]
            yield part, own, _Alone(W.mT[:, None] @ P @ W[:, None], e @ W, kept, W.mT @ W)
