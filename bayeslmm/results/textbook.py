"""What textbooks ask of a fit: the criterion at any parameters, matrices, mixed-model equations, shrinkage."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.design.readable import readable
from bayeslmm.design.theta import check_lam
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.rowless import summed_elsewhere
from bayeslmm.reml import at_theta
from bayeslmm.results.fit import Fit
from bayeslmm.teaching import Matrices, MixedModelEquations, build_matrices, effects_by_term, henderson, shrinkage_table
from bayeslmm.types import FloatArray


@overload
def criterion_at(
    fit: Fit,
    theta: ArrayLike,
    sigma: float | None = None,
    *,
    lam: ArrayLike | None = None,
    gradient: Literal[False] = False,
) -> float: ...


@overload
def criterion_at(
    fit: Fit, theta: ArrayLike, sigma: float | None = None, *, lam: ArrayLike | None = None, gradient: Literal[True]
) -> tuple[float, FloatArray]: ...


def criterion_at(
    fit: Fit, theta: ArrayLike, sigma: float | None = None, *, lam: ArrayLike | None = None, gradient: bool = False
) -> float | tuple[float, FloatArray]:
    """REML criterion (deviance for ML) at any parameters: -2 log (restricted) likelihood, without a penalty.

    Parameters
    ----------
    theta : array-like of shape (k,)
        Relative covariance parameters in the order of `theta`.
    sigma : float, optional
        Residual standard deviation; by default the one that is known, else the one that minimises the criterion at
        this theta.
    lam : array-like of shape (m,), optional
        Parameters of the residual structure without bounds, where residuals have any; by default ``optimum.lam``.
    gradient : bool
        Return also the derivatives in theta, and then lam (at the given sigma, or along the minimising one).

    Returns
    -------
    float, or (float, FloatArray of shape (k + m,))

    Raises
    ------
    DesignError
        Theta has another length or is no covariance; sigma is not a positive number.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> round(fit.criterion, 6), round(fit.criterion_at([0.0]), 6)
    (319.654277, 326.023232)
    >>> value, slopes = fit.criterion_at(fit.theta, gradient=True)
    >>> bool(abs(value - fit.criterion) < 1e-9 and abs(slopes[0]) < 1e-6)
    True
    """
    if fit.design.residual.names:
        own = fit.optimum.lam if lam is None else lam
        return at_theta.criterion_at_residual(fit.design, theta, own, sigma, fit.reml, gradient)
    check_lam(fit.design, lam)
    return at_theta.criterion_at(fit.cp, theta, sigma, fit.reml, gradient)


def matrices(fit: Fit) -> Matrices:
    """X, Z, Lambda, G, R and V at the estimates, with names on rows and columns."""
    return build_matrices(fit.design, fit.optimum.terms, fit.sigma, fit.optimum.lam)


def mme(fit: Fit, form: Literal["auto", "b", "u"] = "auto") -> MixedModelEquations:
    """Henderson's mixed-model equations at the estimates, solved, with standard errors.

    Parameters
    ----------
    form : {"auto", "b", "u"}
        Unknowns (beta, b), which needs G^-1, or (beta, u) with b = Lambda u, which does not. ``"auto"`` takes the
        first unless G is singular.

    Raises
    ------
    FitError
        ``form="b"`` with a singular G.
    DesignError
        So many effects that C^-1 would have more than 25 million entries.
    """
    effects = [effects.ravel() for effects in _effects(fit)]
    reference = np.concatenate([fit.fixef().to_numpy(), *effects])
    if not fit.design.terms:
        raise DesignError(
            "Henderson's equations predict random effects, and this model has none: its fixed effects are those of "
            "generalized least squares, with the R of fit.matrices()."
        )
    return henderson(fit.design, fit.optimum.terms, fit.sigma, reference, form, fit.optimum.lam)


def shrinkage(fit: Fit) -> pd.DataFrame:
    """How far every level is drawn towards the mean.

    Returns
    -------
    pandas.DataFrame
        One row per term, level and effect. ``n``: rows of the level. ``raw``: least squares on the level alone, of
        what the fixed effects and the predictions of the other terms leave; nan where the level does not determine
        it. ``blup``: the prediction; for every level ``blup = W raw``. ``weight``: diagonal of the shrinkage matrix
        ``W = Sigma (Sigma + sigma^2 (Z_i'Z_i)^-1)^-1``, for one intercept ``sd^2 / (sd^2 + sigma^2 / n)``: 1 is the
        level's own mean, 0 the overall mean. ``weight_min``, ``weight_max``: extreme eigenvalues of W, always in
        [0, 1); entries of its diagonal need not be, when a term has several correlated effects.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.shrinkage()[["level", "n", "raw", "blup", "weight"]].head(2).round(4)
      level  n   raw     blup  weight
    0     A  5 -22.5 -17.6069  0.7825
    1     B  5   0.5   0.3913  0.7825
    """
    optimum, beta = fit.optimum, fit.fixef().to_numpy()
    if not fit.design.terms:
        raise DesignError(f"{fit.formula!r} has no random effects, so that there is nothing that is drawn to a mean.")
    return readable(
        shrinkage_table(fit.design, optimum.terms, beta, _effects(fit), optimum.lam, summed_elsewhere(fit.cp))
    )


def _effects(fit: Fit) -> tuple[FloatArray, ...]:
    """Predictions (J, c) of every term, in the order of the formula."""
    return effects_by_term(fit.design, {group: frame.to_numpy() for group, frame in fit.ranef().items()})
