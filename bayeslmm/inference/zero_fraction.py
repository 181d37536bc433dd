"""How often the estimate of a variance is exactly zero, at a true variance ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.inference.rlrt import SEED, RatioProfile, probability_of_no_rise, profile, simulate
from bayeslmm.inference.spectral import Spectrum
from bayeslmm.types import FloatArray

_DRAWS = 20_000


def zero_probability(
    spectrum: Spectrum,
    icc: Sequence[float] | FloatArray,
    reml: bool = True,
    *,
    draws: int = _DRAWS,
    seed: int = SEED,
) -> tuple[FloatArray, FloatArray]:
    """Probability that REML (or ML) estimates the variance as exactly zero, at true intraclass correlations.

    The probability that the likelihood does not rise at zero is a distribution function of a ratio of quadratic forms
    and computed as such. Where all eigenvalues agree it is the answer (an F probability). Otherwise the likelihood may
    fall at zero and yet be larger elsewhere; how often, is simulated and subtracted.

    Parameters
    ----------
    spectrum : Spectrum
    icc : sequence of float
        ``sd^2 / (sd^2 + sigma^2)``, each at least 0 and below 1.
    reml : bool
    draws : int
        Simulated responses where eigenvalues differ.
    seed : int

    Returns
    -------
    probability : FloatArray, shape (icc,)
    mc_error : FloatArray, shape (icc,)
        Standard error of the simulated part; 0 where there is none.

    Raises
    ------
    DesignError
        An intraclass correlation outside [0, 1), or no residual degrees of freedom.

    References
    ----------
    Crainiceanu & Ruppert (2004), J. R. Stat. Soc. B 66, 165-185, for the local condition.

    Examples
    --------
    Six groups of five: REML is zero where F is at most 1.

    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> zero_probability(spectrum(design, 0, (0,)), [0.0, 0.1, 0.3])[0].round(3).tolist()
    [0.561, 0.331, 0.103]
    """
    values = np.atleast_1d(np.asarray(icc, dtype=float))
    bad = values[~((values >= 0) & (values < 1))]
    if bad.size:
        raise DesignError(f"icc holds {bad[0]:g}; an intraclass correlation is at least 0 and below 1.")
    problem = profile(spectrum, reml)
    found = [_one(problem, float(value / (1.0 - value)), draws, seed) for value in values]
    return np.array([p for p, _ in found]), np.array([error for _, error in found])


def _one(problem: RatioProfile, ratio: float, draws: int, seed: int) -> tuple[float, float]:
    local = probability_of_no_rise(problem, ratio)
    if problem.mu.size == 1 and problem.x.size == 1:
        return local, 0.0
    T, rises = simulate(problem, draws, seed, ratio)
    share = float(np.count_nonzero(T[~rises] > 0)) / draws
    # One event more than were seen, so that none seen does not look exact.
    seen = share + 1.0 / draws
    return max(local - share, 0.0), float(np.sqrt(seen * (1.0 - min(seen, 1.0)) / draws))
