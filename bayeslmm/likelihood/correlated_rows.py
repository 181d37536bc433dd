"""The precision of y on rows whose residuals depend on one another, cluster by cluster.

Whitening mixes the rows of a cluster: to leave out a row is not to leave out a whitened one. With W the whitening and
``P_w`` the precision of the whitened rows, fixed and random effects integrated out, that of the rows as they are is
``P = W' P_w W``; its blocks are formed for clusters that hang together by what is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.design.design import Design
from bayeslmm.likelihood.columns import orthogonalise
from bayeslmm.likelihood.conditional import beta_covariance
from bayeslmm.likelihood.criteria import LOG_2PI
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.deletion import Deleted, Leverages, fixed_rows
from bayeslmm.likelihood.dependent import connected
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.leave_out import check_block_size, rest_on_groups
from bayeslmm.likelihood.row_system import RowSystem, by_size, precision_blocks, row_blocks
from bayeslmm.likelihood.whitened import dense_rows
from bayeslmm.residual import NO_PARAMETERS, cluster_blocks
from bayeslmm.types import BoolArray, FloatArray, IntArray

_ONE = np.ones(1)


@dataclass(frozen=True)
class RowsTogether:
    """Rows (r,) that hang together, at sigma 1.

    Attributes
    ----------
    rows : IntArray, shape (r,)
    precision : FloatArray, shape (r, r)
        Block of P.
    weighted : FloatArray, shape (r,)
        ``P y``.
    fixed : FloatArray, shape (r, p)
        Rows of ``V^-1 X C`` in internal columns of X.
    """

    rows: IntArray
    precision: FloatArray
    weighted: FloatArray
    fixed: FloatArray


@dataclass(frozen=True)
class CorrelatedSystem:
    """Rows as they are beside the system of the whitened ones, at one point.

    Attributes
    ----------
    design : Design
        The rows as they are.
    cp : SummedDesign
        Sums of the whitened rows.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors of the blocks of `cp`.
    """

    design: Design
    cp: SummedDesign
    lam: FloatArray
    factors: Sequence[FloatArray]

    def together(self, codes: IntArray) -> Iterator[RowsTogether]:
        """Clusters joined by the groups (n,) of rows, 0 .. G - 1; rows with -1 join nothing.

        Raises
        ------
        FitError
            So many rows hang together that their block cannot be held.
        """
        joint = connected([codes, self._clusters], self.design.n)
        check_block_size("cluster of dependent rows with the groups", np.bincount(joint))
        wanted = np.isin(joint, joint[codes >= 0])
        system, residual, p = self._system(), self.design.residual, self.cp.p
        for _, rows, block in row_blocks(system, self.factors, _ONE, None, joint):
            within = fixed_rows(block, p)
            for members in by_size(joint[rows]):
                members = members[wanted[rows[members[:, 0]]]]
                if not members.size:
                    continue
                at = rows[members]
                P = precision_blocks(block, 0, members, system.Q[at], self.cp.blocks[0].grouping.codes[at])
                W = cluster_blocks(residual.whiten, self.lam, at, residual.n)
                weighted, fixed = (W.mT @ block.residual[0][members][..., None])[..., 0], W.mT @ within[members]
                yield from map(RowsTogether, at, W.mT @ P @ W, weighted, fixed)

    @property
    def _clusters(self) -> IntArray:
        clusters = self.design.residual.clusters
        return np.arange(self.design.n) if clusters is None else clusters

    def _system(self) -> RowSystem:
        """Rows of the whitened system; those of factors with mixed levels written out."""
        if self.cp.rows == "own":
            return RowSystem.of(self.cp, self.lam)
        if self.cp.rows != "mixed":
            return RowSystem.of(self.cp, NO_PARAMETERS)
        cp, design = self.cp, self.design
        columns = [block.columns(design) @ block.basis for block in cp.blocks]
        Xy = np.column_stack([cp.fixed.columns, cp.response.residual])
        rows = dense_rows(design, cp.frame, columns, self.lam, Xy)
        return RowSystem.split(cp, self.lam, rows.Z[0], sparse.csr_array(np.column_stack([np.asarray(rows.dense), Xy])))

    def residual_block(self, rows: IntArray) -> FloatArray:
        """``R[rows, rows]``."""
        C = self.design.residual.color(self.lam, np.eye(rows.size), rows)
        return np.asarray(C @ C.T)


@dataclass(frozen=True)
class RowNumbers:
    """What is known of single rows, at sigma 1.

    Attributes
    ----------
    leverages : Leverages
    variance : FloatArray, shape (n,)
        Of the residual ``y - fitted``.
    given_others : FloatArray, shape (n,)
        Response less its prediction from all other rows, those of its cluster and their effects included.
    """

    leverages: Leverages
    variance: FloatArray
    given_others: FloatArray


def row_numbers(system: CorrelatedSystem) -> RowNumbers:
    """Leverages, variances of residuals and residuals given all other rows.

    With ``fitted = y - R P y`` the leverages are the diagonal of ``I - R P``, and residuals have covariance ``R P R``.
    """
    n, X = system.design.n, system.design.X @ system.cp.fixed.transform
    total, fixed, variance, others = (np.empty(n) for _ in range(4))
    for own in system.together(np.arange(n)):
        R = system.residual_block(own.rows)
        RP = R @ own.precision
        total[own.rows] = 1.0 - np.diagonal(RP)
        variance[own.rows] = (RP * R).sum(1)
        fixed[own.rows] = (X[own.rows] * own.fixed).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            others[own.rows] = own.weighted / np.diagonal(own.precision)
    return RowNumbers(Leverages(total, fixed), variance, others)


def lost_without_correlated(design: Design, codes: IntArray) -> BoolArray:
    """Groups (G,) without which a coefficient is not estimable, whatever the residuals of other rows say."""
    return rest_on_groups(orthogonalise(design.X, None).columns, codes)


def delete_correlated(
    system: CorrelatedSystem, factor: Factor, beta: FloatArray, codes: IntArray, lost: BoolArray
) -> Deleted:
    """`delete_groups` of rows that depend on one another.

    Parameters
    ----------
    system : CorrelatedSystem
    factor : Factor
        The evaluation there.
    beta : FloatArray, shape (p,)
        Estimates from all rows, user's columns.
    codes : IntArray, shape (n,)
        Group of each row, 0 .. G - 1; rows with -1 are never left out.
    lost : BoolArray, shape (G,)
        Groups that are not looked at: some coefficient rests on them alone.
    """
    cp, p, G = system.cp, system.cp.p, lost.size
    move, more, fall = np.full((G, p), np.nan), np.full((G, p, p), np.nan), np.full(G, np.nan)
    for own in system.together(codes):
        groups = codes[own.rows]
        for group in np.unique(groups[groups >= 0]):
            if lost[group]:
                continue
            at = np.flatnonzero(groups == group)
            e, A = own.weighted[at], own.fixed[at]
            solved = np.linalg.solve(own.precision[np.ix_(at, at)], np.column_stack([e, A]))
            move[group], more[group], fall[group] = A.T @ solved[:, 0], A.T @ solved[:, 1:], e @ solved[:, 0]
    T = cp.fixed.transform
    covariance = beta_covariance(cp, factor) + T @ more @ T.T
    return Deleted(beta - move @ T.T, covariance, factor.r2[0] - fall, lost)


def predict_correlated(system: CorrelatedSystem, sigma: float, rows: IntArray) -> tuple[FloatArray, FloatArray, float]:
    """Predictive distribution of some rows given all others, as of `predict_left_out`.

    Mean and sd (r,) in units of y, and the joint log density.
    """
    codes = np.full(system.design.n, -1, dtype=np.int64)
    codes[rows] = 0
    (own,) = system.together(codes)
    place = {int(row): k for k, row in enumerate(own.rows)}
    at = np.array([place[int(row)] for row in rows])
    P, e = own.precision[np.ix_(at, at)], own.weighted[at]
    covariance = np.linalg.inv(P)
    away = covariance @ e
    constant = rows.size * (LOG_2PI + 2.0 * np.log(sigma)) - np.linalg.slogdet(P)[1]
    log_density = -0.5 * (constant + float(e @ away) / sigma**2)
    return system.design.y[rows] - away, sigma * np.sqrt(np.diagonal(covariance)), float(log_density)
