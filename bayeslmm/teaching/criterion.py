"""The method on one page: the REML and ML criterion of a linear mixed model, from its matrices."""

from __future__ import annotations

import numpy as np

from bayeslmm.teaching.matrices import Matrices
from bayeslmm.teaching.size import check_dense


def dense_criterion(matrices: Matrices, reml: bool = True, sigma: float | None = None) -> float:
    """-2 log (restricted) likelihood: what a fit minimises, by one dense QR factorisation.

    Parameters
    ----------
    matrices : Matrices
        Of ``model.matrices(theta, sigma)``; their own sigma plays no part.
    reml : bool
        The fixed effects are integrated over a flat prior (Harville 1974), or at their conditional estimate (ML).
    sigma : float, optional
        Residual standard deviation; the one that minimises the criterion by default.

    Returns
    -------
    float

    Raises
    ------
    DesignError
        More than 25 million entries: everything here is dense.

    Notes
    -----
    Henderson's equations are the normal equations of a regression on ``[Z Lambda, X]`` in which every random effect
    has one more row that says it is zero. In the triangular factor of that regression the diagonal has, from left to
    right, ``|I + Lambda'Z'R^-1 Z Lambda| = |V| / |R|``, ``|X'V^-1 X|`` and the residual sum of squares
    ``(y - X beta)'V^-1 (y - X beta)``, where ``sigma^2 V`` is the covariance of y
    and ``sigma^2 R`` that of the residuals, by which the rows are whitened. Nothing of the likelihood that fits
    use is used here.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> round(dense_criterion(model.matrices(theta=[0.5], sigma=1.0)), 6) == round(model.criterion_at([0.5]), 6)
    True
    """
    n, p, q = matrices.n, matrices.p, matrices.q
    check_dense("The regression", n + q, q + p + 1, "fit.criterion_at(theta) has the same number for any size.")
    rows = np.column_stack([(matrices.Z @ matrices.Lambda).toarray(), matrices.X, matrices.y])
    rows = matrices.residual.whiten(matrices.lam, rows)
    effects_are_zero = np.eye(q, q + p + 1)
    R = np.linalg.qr(np.concatenate([rows, effects_are_zero]), mode="r")
    logs = 2.0 * np.log(np.abs(np.diagonal(R)[:-1]))
    log_V, log_XVX, r2 = logs[:q].sum() + matrices.residual.log_det(matrices.lam), logs[q:].sum(), R[-1, -1] ** 2
    nu, log_det = (n - p, log_V + log_XVX) if reml else (n, log_V)
    variance = r2 / nu if sigma is None else sigma**2
    return float(nu * np.log(2.0 * np.pi * variance) + log_det + r2 / variance)
