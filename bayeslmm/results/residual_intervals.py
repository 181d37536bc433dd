"""Wald intervals of all parameters of a fit whose residuals have parameters, each on a scale without bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.errors import DesignError
from bayeslmm.inference.residual_degrees import joint_covariance
from bayeslmm.inference.residual_targets import SCALES
from bayeslmm.numerics.differences import slopes
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.residual import estimable
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter, estimates
from bayeslmm.results.profiles import on_a_ridge
from bayeslmm.results.residual_profiles import chosen_parameters
from bayeslmm.types import FloatArray

_STEP = 1e-4


def wald_residual(fit: Fit, labels: str | Sequence[str] | None, level: float) -> pd.DataFrame:
    """Ends of Wald intervals: fixed effects as they are, sds and ratios as logs, correlations by atanh.

    Parameters
    ----------
    fit : Fit
        With a `ResidualOptimum`.
    labels : str or sequence of str, optional
        All parameters by default; nan for those at the boundary, and for those on a ridge.
    level : float

    Returns
    -------
    pandas.DataFrame
        Columns ``conf_low``, ``conf_high``.
    """
    from scipy.special import ndtri

    known = fit._parameters
    chosen = chosen_parameters(fit, labels)
    error = dict(zip([p.label for p in known if p.kind != "fixed"], _errors(fit), strict=True))
    beta, values, z = fit.std_error(), fit.estimates(), float(ndtri(0.5 + level / 2))
    rows = []
    for p in chosen:
        one = float(values[p.label])
        if p.kind == "fixed":
            rows.append((one - z * beta[p.label], one + z * beta[p.label]))
            continue
        if on_a_ridge(fit.optimum, p):
            if labels is not None:
                raise DesignError(
                    f"{p.label} has no Wald interval: {'; '.join(map(str, fit.optimum.ridges))}, so that its estimate "
                    "is one of many with the same criterion. Leave one of these parts out of the model."
                )
            rows.append((np.nan, np.nan))
            continue
        there, back = SCALES[_range(fit, p)]
        with np.errstate(all="ignore"):
            ends = back(there(np.array([one])) + z * error[p.label] * np.array([-1.0, 1.0]))
        if labels is not None and not np.isfinite(ends).all():
            raise DesignError(
                f"{p.label} has no Wald interval: its estimate, {one:.4g}, is at the end of its range or where the "
                "criterion does not curve, so that there is no standard error."
            )
        rows.append((float(ends[0]), float(ends[1])))
    return pd.DataFrame(rows, index=[p.label for p in chosen], columns=["conf_low", "conf_high"])


def _range(fit: Fit, p: Parameter) -> str:
    if p.kind == "residual":
        return estimable(fit.design.residual).ranges[p.position]
    return "correlation" if p.kind == "corr" else "positive"


def _errors(fit: Fit) -> FloatArray:
    """Standard errors of all covariance parameters on their scales, nan at the ends of their ranges."""
    optimum = fit.optimum
    if not isinstance(optimum, ResidualOptimum):
        raise TypeError("these residuals have no parameters")
    variances = [p for p in fit._parameters if p.kind != "fixed"]
    scales = [SCALES[_range(fit, p)][0] for p in variances]
    joint, t = optimum.joint, optimum.joint.n_theta

    def values(point: FloatArray) -> FloatArray:
        x, sigma = point[:-1], float(np.exp(point[-1]))
        own = estimates(fit.design, variances, joint.terms(x), sigma, np.empty(0), x[t:])
        with np.errstate(all="ignore"):
            return np.array([float(scale(np.array(one))) for scale, one in zip(scales, own, strict=True)])

    point = np.append(optimum.joint_point, np.log(optimum.sigma))
    # Of a value at the end of its range there is no difference.
    with np.errstate(invalid="ignore"):
        J = slopes(values, point, _STEP)
    # The covariance is that of log sigma squared.
    J[-1] *= 0.5
    finite = np.isfinite(values(point)) & np.isfinite(J).all(axis=0)
    J = np.where(finite, J, 0.0)
    return np.where(finite, np.sqrt(np.maximum(np.einsum("km,kl,lm->m", J, joint_covariance(optimum), J), 0.0)), np.nan)
