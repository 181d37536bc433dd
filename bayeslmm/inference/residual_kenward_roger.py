"""Kenward and Roger's adjustment with residual parameters, by the observed information.

Along a covariance parameter the estimate of beta moves by ``-C X'V^-1 V_i P y``, whose covariances with one another,
weighed by those of the parameters, are what the covariance of beta lacks:

    Phi_A = C + 2 sum_ij W_ij C X'V^-1 V_i P V_j V^-1 X C .

That is its form of first order (SAS's ``kr(firstorder)``), which does not depend on how V is written; what second
derivatives add is in `residual_second`, nothing for unstructured covariances. W is twice the inverse of the observed
curvature, as in SAS and mmrm.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.inference.kenward_roger import KenwardRoger
from bayeslmm.inference.residual_degrees import joint_covariance
from bayeslmm.inference.residual_second import second_order
from bayeslmm.reml.residual_criterion import JointCriterion
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.types import FloatArray

# Numbers of the dense columns of the random effects.
_MOST = 20_000_000
_STEP = 1e-4


def residual_kenward_roger(optimum: ResidualOptimum, linear: bool = False) -> KenwardRoger:
    """The quantities of `kenward_roger` for a REML fit whose residuals have parameters.

    Parameters
    ----------
    optimum : ResidualOptimum
    linear : bool
        Without second derivatives of the residual covariance.

    Raises
    ------
    DesignError
        A fit by maximum likelihood; so many random effects that they cannot be written out.

    References
    ----------
    Kenward & Roger (1997), Biometrics 53, 983-997; SAS Institute, PROC MIXED, ddfm=kenwardroger(firstorder).
    """
    if not optimum.reml:
        raise DesignError(
            "The adjustment of Kenward and Roger is about REML estimates, and this fit is by maximum likelihood. Fit "
            "with reml=True, or use ddf='satterthwaite'."
        )
    design, joint = optimum.original, optimum.joint
    if design.q * design.n > _MOST:
        raise DesignError(
            f"The adjustment of Kenward and Roger writes out the columns of {design.q} random effects in {design.n} "
            "rows, which are too many. Use ddf='satterthwaite'."
        )
    x, transform = optimum.joint_point, joint.rows.base.fixed.transform
    X, solve = design.X @ transform, _Precision(design, joint.terms(x), x[joint.n_theta :])
    VX = solve(X)
    C = np.linalg.inv(X.T @ VX)
    B = VX @ C
    moved = np.stack([_moved(joint, x, j, B) for j in range(x.size)])
    # Columns of P V_j V^-1 X C, and their products.
    PY = np.stack([solve(own) - VX @ (C @ (VX.T @ own)) for own in moved])
    W = joint_covariance(optimum)
    excess = np.einsum("ij,ina,jnb->ab", W[:-1, :-1], moved, PY, optimize=True)
    second = 0.0 if linear else second_order(optimum, W, B)
    changes = np.concatenate([np.einsum("na,inb->iab", B, moved), C[None]])
    return KenwardRoger(
        C=C[None],
        adjusted_own=(C + excess + excess.T + second)[None],
        changes=changes[None],
        inverse_information=W[None],
        transform=transform,
    )


class _Precision:
    """``V^-1`` over sigma^2 at one point, applied to columns."""

    def __init__(self, design: Design, terms: list[FloatArray], lam: FloatArray) -> None:
        self.design, self.lam = design, lam
        parts = [np.empty((design.n, 0))]
        for term, T in zip(design.terms, terms, strict=True):
            grouping = design.groupings[term.group]
            own = np.zeros((design.n, grouping.n_levels, T.shape[1]))
            own[np.arange(design.n), grouping.codes] = term.Z @ T
            parts.append(own.reshape(design.n, -1))
        self.Z = design.whitened(np.concatenate(parts, axis=1), lam)
        self.factor = cho_factor(np.eye(self.Z.shape[1]) + self.Z.T @ self.Z, lower=True)
        self.back = design.residual.whitening(lam)

    def __call__(self, columns: FloatArray) -> FloatArray:
        white = self.design.whitened(columns, self.lam)
        left = white - self.Z @ cho_solve(self.factor, self.Z.T @ white)
        return np.asarray(self.back.T @ (left * np.sqrt(self.design.counts)[:, None]))


def _moved(joint: JointCriterion, x: FloatArray, j: int, B: FloatArray) -> FloatArray:
    """The derivative of V over sigma^2 in an entry of x, times columns B."""
    step = np.zeros(x.size)
    step[j] = _STEP
    ends = [_part(joint, x + sign * step, j, B) for sign in (1.0, -1.0)]
    return np.asarray((ends[0] - ends[1]) / (2.0 * _STEP))


def _part(joint: JointCriterion, x: FloatArray, j: int, B: FloatArray) -> FloatArray:
    """The part of V over sigma^2 that an entry of x belongs to, times columns."""
    design, t = joint.rows.design, joint.n_theta
    if j >= t:
        return np.asarray(design.residual.covariance(x[t:]) @ (B / design.counts[:, None]))
    total = np.zeros(B.shape)
    for term, T in zip(design.terms, joint.terms(x), strict=True):
        grouping, Z = design.groupings[term.group], term.Z @ T
        sums = np.zeros((grouping.n_levels, Z.shape[1], B.shape[1]))
        np.add.at(sums, grouping.codes, Z[:, :, None] * B[:, None])
        total += np.einsum("nc,ncp->np", Z, sums[grouping.codes])
    return total
