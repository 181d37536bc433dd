"""The ratio of one variance to the residual variance: exact F test and exact interval.

``H(lambda) = [sum t_k^2 / (1 + lambda mu_k) / r] / [SSE / f]`` has the F(r, f) distribution at the true lambda,
whatever the design, and falls in lambda: an interval is read off two quantiles of F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.inference.spectral import Spectrum
from bayeslmm.types import FloatArray

_STEPS = 200
_ROUNDING = 4e-16


@dataclass(frozen=True)
class FTest:
    """The exact F test of a zero variance.

    Attributes
    ----------
    statistic : FloatArray, shape (K,)
        ``[sum t_k^2 / r] / [SSE / f]``; infinite without residual.
    r, f : int
        Degrees of freedom.
    p_value : FloatArray, shape (K,)
    """

    statistic: FloatArray
    r: int
    f: int
    p_value: FloatArray


def f_test(spectrum: Spectrum) -> FTest:
    """Wald's F test that the variance is zero.

    Parameters
    ----------
    spectrum : Spectrum
        Of K responses.

    Returns
    -------
    FTest

    Raises
    ------
    DesignError
        No residual degrees of freedom.

    References
    ----------
    Wald (1947), Ann. Math. Stat. 18, 586-589; Seely & El-Bassiouni (1983), Ann. Stat. 11, 197-210.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> test = f_test(spectrum(design, 0, (0,)))
    >>> round(float(test.statistic[0]), 4), round(float(test.p_value[0]), 6)
    (4.5983, 0.004398)
    """
    from scipy import stats

    _check_residual(spectrum)
    between = np.einsum("kr,kr->k", spectrum.t, spectrum.t)
    statistic = _quotient(between / spectrum.r, spectrum.sse / spectrum.f)
    return FTest(statistic, spectrum.r, spectrum.f, stats.f.sf(statistic, spectrum.r, spectrum.f))


def _check_residual(spectrum: Spectrum) -> None:
    if spectrum.f < 1:
        raise DesignError(
            f"The columns of X (rank {spectrum.p}) and of the random term fit {spectrum.n} observations without "
            "residual: there is nothing to compare its variance with, so that F is not defined. Use the "
            "likelihood-ratio tests."
        )


def _quotient(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.asarray(np.divide(above, below, out=np.where(above > 0, np.inf, 0.0), where=below > 0))


def pivot_interval(spectrum: Spectrum, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Exact confidence interval of ``lambda = sd^2 / sigma^2`` (and, by ``lambda / (1 + lambda)``, of the ICC).

    Parameters
    ----------
    spectrum : Spectrum
        Of K responses.
    level : float
        Between 0 and 1; each tail has half of the rest.

    Returns
    -------
    low, high : FloatArray, shape (K,)
        Cut off at zero. Both are zero where F is so small that no ratio explains it: evidence against the model (or
        bad luck, with probability ``(1 - level) / 2`` at a zero variance), not a precise estimate. Infinite without
        residual.

    Raises
    ------
    DesignError
        No residual degrees of freedom, or a level that is no probability.

    References
    ----------
    Wald (1940), Ann. Math. Stat. 11, 96-99; Harville & Fenech (1985), Biometrics 41, 137-152.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> low, high = pivot_interval(spectrum(design, 0, (0,)))
    >>> round(float(low[0]), 6), round(float(high[0]), 6)
    (0.091508, 5.57362)
    """
    from scipy import stats

    if not 0.0 < level < 1.0:
        raise DesignError(f"level={level!r} is not between 0 and 1. Use e.g. 0.95.")
    _check_residual(spectrum)
    tail = (1.0 - level) / 2.0
    upper, lower = stats.f.isf(tail, spectrum.r, spectrum.f), stats.f.ppf(tail, spectrum.r, spectrum.f)
    return pivot_root(spectrum, float(upper)), pivot_root(spectrum, float(lower))


def pivot_root(spectrum: Spectrum, value: float) -> FloatArray:
    """Lambda (K,) at which the pivot H is `value`; 0 where it is smaller at once, inf where it never falls so low."""
    squares = spectrum.t**2
    target = value * spectrum.r * spectrum.sse / spectrum.f
    total = squares.sum(axis=1)
    found = np.zeros(total.size)
    found[(target <= 0) & (total > 0)] = np.inf
    todo = np.flatnonzero((target > 0) & (total > target))
    # 1 / sum is increasing and concave in lambda, linear for equal mu: Newton from below never overshoots.
    lam = (total[todo] / target[todo] - 1.0) / spectrum.mu[0]
    for _ in range(_STEPS):
        if not todo.size:
            return found
        inverse = 1.0 / (1.0 + lam[:, None] * spectrum.mu)
        terms = squares[todo] * inverse
        now = terms.sum(axis=1)
        step = now * (now / target[todo] - 1.0) / ((terms * inverse) @ spectrum.mu)
        found[todo] = lam = np.maximum(lam + step, 0.0)
        open_ = np.abs(step) > _ROUNDING * spectrum.r * lam
        todo, lam = todo[open_], lam[open_]
    return found
