"""Intervals from the curvature of the criterion at the estimate, on scales without ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from bayeslmm.inference.profile import criteria_many, expand_at_estimate
from bayeslmm.inference.profile_coordinates import Axis, ProfileTarget, to_value, value_slope
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum
from bayeslmm.reml.many import Optima
from bayeslmm.types import FloatArray


def wald_ends(
    cp: SummedDesign, optimum: Optimum, targets: Sequence[ProfileTarget], level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wald intervals of variance parameters: ``log sd``, ``log ratio``, ``log sigma``, ``atanh corr`` +- z se.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
    targets : sequence of ProfileTarget
        Of terms that were estimated; no fixed effects.
    level : float

    Returns
    -------
    low, high : FloatArray, shape (T,)
        Units of the parameters; nan at the end of a parameter's range, and where the criterion has no curvature: no
        symmetric interval says anything there.

    Notes
    -----
    The curvature is that of the fitted criterion (exact second derivatives; of a large crossed design by the average
    information), all other parameters re-estimated. Directions that have no variance stay without.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> low, high = wald_ends(fit.cp, fit.optimum, [ProfileTarget("sd", 0, (0,))])
    >>> low.round(2), high.round(2)
    (array([18.95]), array([93.09]))
    """
    axes, x, hessian = expand_at_estimate(cp, optimum, targets)
    z = float(ndtri(0.5 + level / 2.0))
    low, high = np.full(len(targets), np.nan), np.full(len(targets), np.nan)
    for i, (a, error) in enumerate(zip(axes, _standard_errors(hessian), strict=True)):
        low[i], high[i] = _ends(a, float(x[i, 0]), z * float(error), optimum.sigma)
    return low, high


def wald_ends_many(
    cp: SummedDesign, Y: FloatArray, optima: Optima, target: ProfileTarget, level: float = 0.95, reml: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Wald intervals of one variance parameter for many responses of one design.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
        Units of y.
    optima : Optima
        ``optimise_many(cp, Y, reml)``.
    target : ProfileTarget
        No fixed effect.
    level : float
    reml : bool

    Returns
    -------
    low, high : FloatArray, shape (K,)
        As of `wald_ends`; nan also for a response that is fitted without residual.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.reml.many import optimise_many
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> Y = fit.design.y[:, None] * [1.0, 2.0]
    >>> low, high = wald_ends_many(fit.cp, Y, optimise_many(fit.cp, Y), ProfileTarget("sd", 0, (0,)))
    >>> low.round(2), high.round(2)
    (array([18.95, 37.9 ]), array([ 93.09, 186.19]))
    """
    z = float(ndtri(0.5 + level / 2.0))
    low, high = np.full(Y.shape[1], np.nan), np.full(Y.shape[1], np.nan)
    for rows, criterion in criteria_many(cp, Y, optima, target, reml):
        every = np.arange(rows.size)
        x, H = criterion.expand_at_estimates(np.zeros_like(every), every)
        for k, place, error in zip(rows, x[:, 0], z * _standard_errors(H), strict=True):
            low[k], high[k] = _ends(criterion.axes[0], float(place), float(error), float(optima.sigma[k]))
    return low, high


def _standard_errors(H: FloatArray) -> FloatArray:
    """Standard errors (K,) of the target, the first coordinate, from Hessians (K, d, d); nan without curvature."""
    rest = H[:, 1:, 1:]
    scale = np.sqrt(np.maximum(np.diagonal(rest, axis1=1, axis2=2), 1e-300))
    across = H[:, 0, 1:] / scale
    inverse = np.linalg.pinv(rest / (scale[:, None, :] * scale[:, :, None]), rcond=1e-12, hermitian=True)
    bend = H[:, 0, 0] - np.einsum("ki,kij,kj->k", across, inverse, across)
    curved = bend > 1e-9 * np.abs(H[:, 0, 0])
    return np.where(curved, np.sqrt(2.0 / np.where(curved, bend, 1.0)), np.nan)


def _ends(a: Axis, x: float, error: float, sigma: float) -> tuple[float, float]:
    """Ends in the user's units from the coordinate and its error."""
    if np.isnan(error):
        return np.nan, np.nan
    kind, value = a.target.kind, float(to_value(a, np.array([x]), np.array([sigma]))[0])
    if kind == "sigma":
        return value * np.exp(-error), value * np.exp(error)
    if kind != "corr":
        power = 2.0 if kind == "ratio" else 1.0
        if not x > 0:
            return np.nan, np.nan
        # Close to zero the upper end may be beyond all numbers.
        with np.errstate(over="ignore"):
            return value * np.exp(-power * error / x), value * np.exp(power * error / x)
    least, most = a.structure.correlation_range if a.structure is not None else (-1.0, 1.0)
    # The whole range becomes (-1, 1); its ends are out of reach of a symmetric interval.
    share = (2.0 * value - least - most) / (most - least)
    if not abs(share) < 1.0 - 1e-12:
        return np.nan, np.nan
    slope = 2.0 * abs(value_slope(a, x)) / (most - least) / (1.0 - share**2)
    ends = np.tanh(np.arctanh(share) + slope * error * np.array([-1.0, 1.0]))
    low, high = 0.5 * (least + most + (most - least) * ends)
    return float(low), float(high)
