"""Intervals from the curvature of the criterion at the estimate, on scales without ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from bayeslmm.inference.profile import expand_at_estimate
from bayeslmm.inference.profile_coordinates import Axis, ProfileTarget, to_value, value_slope
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray


def wald_ends(
    cp: CrossProducts, optimum: Optimum, targets: Sequence[ProfileTarget], level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Wald intervals of variance parameters: ``log sd``, ``log ratio``, ``log sigma``, ``atanh corr`` +- z se.

    Parameters
    ----------
    cp : CrossProducts
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
    for i, (a, H) in enumerate(zip(axes, hessian, strict=True)):
        rest = H[1:, 1:]
        scale = np.sqrt(np.maximum(np.diagonal(rest), 1e-300))
        across = H[0, 1:] / scale
        bend = H[0, 0] - across @ np.linalg.pinv(rest / (scale * scale[:, None]), rcond=1e-12, hermitian=True) @ across
        if not bend > 1e-9 * abs(H[0, 0]):
            continue
        low[i], high[i] = _ends(a, float(x[i, 0]), z * float(np.sqrt(2.0 / bend)), optimum.sigma)
    return low, high


def _ends(a: Axis, x: float, error: float, sigma: float) -> tuple[float, float]:
    """Ends in the user's units from the coordinate and its error."""
    kind, value = a.target.kind, float(to_value(a, np.array([x]), np.array([sigma]))[0])
    if kind == "sigma":
        return value * np.exp(-error), value * np.exp(error)
    if kind != "corr":
        power = 2.0 if kind == "ratio" else 1.0
        return (value * np.exp(-power * error / x), value * np.exp(power * error / x)) if x > 0 else (np.nan, np.nan)
    least, most = a.structure.correlation_range if a.structure is not None else (-1.0, 1.0)
    # The whole range becomes (-1, 1); its ends are out of reach of a symmetric interval.
    share = (2.0 * value - least - most) / (most - least)
    if not abs(share) < 1.0 - 1e-12:
        return np.nan, np.nan
    slope = 2.0 * abs(value_slope(a, x)) / (most - least) / (1.0 - share**2)
    ends = np.tanh(np.arctanh(share) + slope * error * np.array([-1.0, 1.0]))
    low, high = 0.5 * (least + most + (most - least) * ends)
    return float(low), float(high)
