"""Error contrasts: the combinations of y that know nothing of beta, and REML as their likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cholesky, qr, solve_triangular

from bayeslmm.arguments import flag, instance, shown
from bayeslmm.design.design import Design, expanded
from bayeslmm.design.observations import need_observations
from bayeslmm.design.screen import fill
from bayeslmm.design.theta import check_lam
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS, make_residual
from bayeslmm.teaching.size import check_dense
from bayeslmm.teaching.terms import (
    block_diagonal,
    check_sigma,
    factors_from_theta,
    sparse_Z,
)
from bayeslmm.types import FloatArray


class HasDesign(Protocol):
    """A model, or a fit of one."""

    @property
    def design(self) -> Design: ...


@dataclass(frozen=True, eq=False)
class ErrorContrasts:
    """n - p combinations K'y whose mean is zero whatever beta is.

    Attributes
    ----------
    design : Design
    K : FloatArray, shape (n, n - p)
        ``K'X = 0``. Without random effects the contrasts were independent with variance sigma^2; where residuals have
        one variance, or parameters, columns of K are orthonormal.
    """

    design: Design
    K: FloatArray

    def __repr__(self) -> str:
        n, m = self.K.shape
        return fill(
            f"Error contrasts of {self.design.formula}\n  K       {n} x {m}, K'X = 0\n  values  the {m} contrasts K'y",
            indent="  ",
        )

    @property
    def values(self) -> FloatArray:
        """The contrasts K'y (offset subtracted), shape (n - p,)."""
        return self.K.T @ self.design.y_less_offset

    def criterion(self, theta: ArrayLike, sigma: float, lam: ArrayLike | None = None) -> float:
        """-2 log density of K'y, normal with mean zero and covariance K'VK.

        Parameters
        ----------
        theta : array-like, shape (k,)
            Relative covariance parameters in lme4's order, as ``fit.theta``.
        sigma : float
            Residual standard deviation.
        lam : array-like, shape (m,), optional
            Parameters of the residual structure without bounds, as ``fit.optimum.lam``; where residuals have any.

        Raises
        ------
        DesignError
            theta or lam has another length; sigma is not positive; theta is so large that the covariance is singular.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
        >>> fit, contrasts = model.fit(), bl.error_contrasts(model)
        >>> round(contrasts.criterion(fit.theta, fit.sigma) + contrasts.constant, 6) == round(fit.criterion, 6)
        True
        """
        check_sigma(sigma)
        sigma = float(sigma)
        factors = factors_from_theta(self.design, theta)
        half = (sparse_Z(self.design) @ block_diagonal(self.design, factors)).T @ self.K
        R = self.design.residual.covariance(check_lam(self.design, lam))
        covariance = sigma**2 * (self.K.T @ (R @ self.K) + half.T @ half)
        try:
            L = cholesky(covariance, lower=True)
        except np.linalg.LinAlgError:
            raise DesignError(
                f"At theta = {shown(np.asarray(theta).tolist())} the covariance of the contrasts is singular to "
                "rounding: the random effects are so large beside sigma that nothing is left of it. Take a smaller "
                "theta."
            ) from None
        standardised = solve_triangular(L, self.values, lower=True)
        log_det = 2.0 * np.log(np.diagonal(L)).sum()
        return float(len(standardised) * np.log(2.0 * np.pi) + log_det + standardised @ standardised)

    @property
    def constant(self) -> float:
        """What the REML criterion has on top: ``log|X'X| - log|K'K|``, the same for every theta and sigma.

        The second part is zero for orthonormal K; it makes up for the scale of K, so the sum
        ``criterion(theta, sigma) + constant`` does not depend on which contrasts were chosen.
        """
        return _log_det_gram(self.design.X) - _log_det_gram(self.K)


def _log_det_gram(A: FloatArray) -> float:
    """``log|A'A|`` by QR, zero for no columns."""
    if A.shape[1] == 0:
        return 0.0
    R = np.linalg.qr(A, mode="r")
    return 2.0 * float(np.log(np.abs(np.diagonal(R))).sum())


def error_contrasts(model: HasDesign, *, force: bool = False) -> ErrorContrasts:
    """Error contrasts K with ``K'X = 0``: REML is the likelihood of K'y.

    The REML criterion of a fit is -2 log density of K'y plus ``log|X'X| - log|K'K|`` (Harville 1974), a constant.
    Any other basis of the same space gives the same criterion.

    Parameters
    ----------
    model : Model or REMLResult
        Whatever has a design.
    force : bool
        Make K whatever its size.

    Returns
    -------
    ErrorContrasts

    Raises
    ------
    DesignError
        K would have more than 25 million entries, and not forced.

    References
    ----------
    Patterson & Thompson (1971), Biometrika 58; Harville (1974), Biometrika 61.

    Examples
    --------
    >>> import numpy as np, bayeslmm as bl
    >>> contrasts = bl.error_contrasts(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")))
    >>> contrasts.K.shape, bool(np.allclose(contrasts.K.sum(axis=0), 0.0))
    ((30, 29), True)
    """
    flag("force", force, DesignError)
    given = getattr(model, "design", None)
    design = instance("model.design", given, Design, "the design of a bl.Model or of a fit", DesignError)
    need_observations(design, "Error contrasts are combinations")
    design = expanded(design)
    if not force:
        check_dense(
            "K", design.n, design.n - design.p, "Take fewer rows, or force it: error_contrasts(model, force=True)."
        )
    # Residuals with parameters have no one whitening: contrasts are those of rows that are alike.
    plain = make_residual(design.n) if design.residual.names else design.residual
    W = plain.whitening(NO_PARAMETERS)
    if design.p == 0:
        return ErrorContrasts(design, W.T.toarray())
    # Columns of one length, so that the choice of units does not cost digits of K'X = 0.
    columns = plain.whiten(NO_PARAMETERS, design.X)
    Q, _ = qr(columns / np.linalg.norm(columns, axis=0))
    return ErrorContrasts(design, W.T @ Q[:, design.p :])
