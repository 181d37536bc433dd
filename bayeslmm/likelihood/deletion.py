"""What single rows and groups of rows do to the estimates, at given relative covariances: exact, without a refit.

To leave rows g out is to give each of them a coefficient of its own. With P the precision of y, effects integrated
out, these coefficients are ``gamma = P_gg^-1 (P y)_g``; without the rows beta is ``beta - A_g' gamma`` with
``A = V^-1 X C``, ``C = (X'V^-1 X)^-1``, its covariance over sigma^2 ``C + A_g' P_gg^-1 A_g``, and the residual sum of
squares falls by ``gamma' (P y)_g``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.conditional import beta_covariance
from bayeslmm.likelihood.criteria import LOG_2PI
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.leave_out import check_block_size, lost_without
from bayeslmm.likelihood.row_system import EliminatedRows, RowSystem, by_size, precision_blocks, row_blocks
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import BoolArray, FloatArray, IntArray

_ONE = np.ones(1)


@dataclass(frozen=True)
class Leverages:
    """Derivatives of every fitted value in its own observation, theta taken as known.

    Attributes
    ----------
    total : FloatArray, shape (n,)
        Of the fit with its random effects: the diagonal of ``H`` with ``fitted = H y``.
    fixed : FloatArray, shape (n,)
        Of the fixed part alone.
    """

    total: FloatArray
    fixed: FloatArray


def leverages(cp: SummedDesign, factors: Sequence[FloatArray], lam: FloatArray = NO_PARAMETERS) -> Leverages:
    """Leverages of all rows at one point; of one copy of a row that stands for several observations.

    Parameters
    ----------
    cp : SummedDesign
        Of rows that are independent given the effects.
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors of the blocks.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.

    References
    ----------
    Demidenko & Stukel (2005), Statistics in Medicine 24, 893-909.
    """
    design = cp.design
    X = design.whitened(cp.fixed.columns, lam)
    total, fixed = np.empty(design.n), np.empty(design.n)
    for _, rows, block in row_blocks(RowSystem.of(cp, lam), factors, _ONE, None, np.arange(design.n)):
        total[rows] = (block.within_diagonal + (block.half**2).sum(-1))[0]
        fixed[rows] = (X[rows] * fixed_rows(block, cp.p)).sum(-1)
    return Leverages(total / design.counts, fixed / design.counts)


def fixed_rows(block: EliminatedRows, p: int) -> FloatArray:
    """Rows (r, p) of ``V^-1 X C`` in internal columns of X."""
    gain = block.gain[0]
    return np.asarray(block.half[0] @ gain[gain.shape[0] - p :].T)


@dataclass(frozen=True)
class Deleted:
    """The fixed effects and the residual sum of squares without every group, theta left as it is.

    Attributes
    ----------
    beta : FloatArray, shape (G, p)
        User's columns.
    covariance : FloatArray, shape (G, p, p)
        Of beta, over sigma^2.
    r2 : FloatArray, shape (G,)
        Penalised residual sum of squares.
    lost : BoolArray, shape (G,)
        Groups that some coefficient rests on alone: nan elsewhere.
    """

    beta: FloatArray
    covariance: FloatArray
    r2: FloatArray
    lost: BoolArray


def delete_groups(
    cp: SummedDesign,
    factors: Sequence[FloatArray],
    factor: Factor,
    beta: FloatArray,
    codes: IntArray,
    lam: FloatArray = NO_PARAMETERS,
) -> Deleted:
    """Leave out the rows of every group in turn.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors of the blocks.
    factor : Factor
        The evaluation there.
    beta : FloatArray, shape (p,)
        Estimates from all rows, user's columns.
    codes : IntArray, shape (n,)
        Group of each row, 0 .. G - 1; rows with -1 are never left out.
    lam : FloatArray, shape (k,)

    Returns
    -------
    Deleted

    Raises
    ------
    FitError
        A group has more rows than can be held as a dense block.

    References
    ----------
    Christensen, Pearson & Johnson (1992), Technometrics 34, 38-45, for the formulas.
    """
    p, G = cp.p, int(codes.max()) + 1
    check_block_size("group", np.bincount(codes[codes >= 0]))
    # Rows that stay are one group at the end, which is not looked at.
    own = np.where(codes < 0, G, codes)
    lost = lost_without(cp, own, None)[:G] if p else np.zeros(G, dtype=bool)
    move, more, fall = np.empty((G, p)), np.empty((G, p, p)), np.empty(G)
    system = RowSystem.of(cp, lam)
    for _, rows, block in row_blocks(system, factors, _ONE, None, own):
        rows_of_fixed, kept = fixed_rows(block, p), np.flatnonzero(own[rows] < G)
        for members in by_size(own[rows[kept]]):
            at = kept[members]
            groups = own[rows[at[:, 0]]]
            first = cp.blocks[0].grouping.codes[rows[at]]
            P = precision_blocks(block, 0, at, system.Q[rows[at]], first)
            P[lost[groups]] = np.eye(at.shape[1])
            e, A = block.residual[0][at], rows_of_fixed[at]
            solved = np.linalg.solve(P, np.concatenate([e[..., None], A], axis=2))
            move[groups] = (small.transpose(A) @ solved[..., :1])[..., 0]
            more[groups] = small.transpose(A) @ solved[..., 1:]
            fall[groups] = (e * solved[..., 0]).sum(1)
    T = cp.fixed.transform
    out = Deleted(beta - move @ T.T, beta_covariance(cp, factor) + T @ more @ T.T, factor.r2[0] - fall, lost)
    for values in (out.beta, out.covariance, out.r2):
        values[lost] = np.nan
    return out


def predict_left_out(
    cp: SummedDesign,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    sets: Sequence[IntArray],
    lam: FloatArray = NO_PARAMETERS,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Predictive distribution of the rows of each set given all others, at variances of its own.

    Given all others the rows g are normal with covariance ``sigma^2 P_gg^-1`` and lie ``P_gg^-1 (P y)_g`` from their
    mean, fixed and random effects integrated out.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors of the blocks, a point for each set.
    sigma : FloatArray, shape (K,)
        Units of y.
    sets : sequence of IntArray
        Positions of rows, without which all fixed effects have estimates.
    lam : FloatArray, shape (k,)

    Returns
    -------
    mean, sd : FloatArray, shape (n,)
        Units of y, offset included; nan for rows in no set.
    log_density : FloatArray, shape (K,)
        Joint, of the rows of each set.
    """
    design, system = cp.design, RowSystem.of(cp, lam)
    check_block_size("fold", np.array([rows.size for rows in sets]))
    mean, sd, log_density = np.full(design.n, np.nan), np.full(design.n, np.nan), np.empty(len(sets))
    unit = np.sqrt(design.residual.variance(lam))
    first = cp.blocks[0].grouping.codes
    for k, own in enumerate(sets):
        codes = np.zeros(design.n, dtype=np.int64)
        codes[own] = 1
        for _, rows, block in row_blocks(system, [T[k : k + 1] for T in factors], _ONE, None, codes):
            at = np.flatnonzero(codes[rows] == 1)
            if not at.size:
                continue
            here = rows[at]
            P = precision_blocks(block, 0, at[None], system.Q[here][None], first[here][None])[0]
            e = block.residual[0][at]
            covariance = np.linalg.inv(P)
            mean[here] = design.y[here] - unit[here] * (covariance @ e)
            sd[here] = sigma[k] * unit[here] * np.sqrt(np.diagonal(covariance))
            square = float(e @ covariance @ e) / sigma[k] ** 2
            constant = at.size * (LOG_2PI + 2.0 * np.log(sigma[k])) + 2.0 * float(np.log(unit[here]).sum())
            log_density[k] = -0.5 * (constant - np.linalg.slogdet(P)[1] + square)
    return mean, sd, log_density
