"""Exact null distribution of the (restricted) likelihood-ratio test of one zero variance, by simulation.

In terms of the independent contrasts of `spectral`, with ``w_k`` and ``w`` the squares of the contrasts and the
residual sum of squares, twice the log of the restricted likelihood ratio is the largest value over ``lambda >= 0`` of

    nu [log S - log D(lambda)] - sum_k log(1 + lambda x_k),   D = w + sum_k w_k / (1 + lambda mu_k),   S = D(0),

with ``nu = n - p`` and ``x = mu``; for the likelihood itself ``nu = n`` and ``x = xi``. Under a zero variance the w are
chi-square variables. The maximum is found on the continuum, and over all local maxima.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.inference.spectral import Spectrum
from bayeslmm.numerics.quadratic_forms import ratio_probability
from bayeslmm.types import BoolArray, FloatArray, IntArray

DRAWS = 100_000
SEED = 20_240_229
# Eigenvalues that agree to this share of the largest are taken as one.
_SAME = 1e-9
# Step of the grid in log(1 + lambda m), m the largest of all mu and x. The criterion is analytic there in a strip of
# half-width pi.
_STEP = 0.4
# Doubles in the widest array of a batch.
_CHUNK = 500_000
_STEPS = 60
# The statistic may leave zero by a jump, which takes a root finder many steps.
_ROOT_STEPS = 1000
# A bracket of a few units in the last place is closed.
_ROUNDING = 1e-15
_LONGEST = 80.0
# Two statistics closer than this, relative to the larger, are equal.
TIE = 1e-9


@dataclass(frozen=True)
class RatioProfile:
    """The log-likelihood ratio of one variance as a function of squares of contrasts.

    Attributes
    ----------
    mu : FloatArray, shape (g,)
        Distinct eigenvalues, largest first.
    counts : IntArray, shape (g,)
    x : FloatArray, shape (h,)
        Distinct eigenvalues of the penalty.
    x_counts : IntArray, shape (h,)
    nu : int
    f : int
    """

    mu: FloatArray
    counts: IntArray
    x: FloatArray
    x_counts: IntArray
    nu: int
    f: int

    @property
    def slope_limit(self) -> float:
        """The criterion falls at zero where ``sum mu_k w_k / S`` is at most this."""
        return float(self.x @ self.x_counts) / self.nu

    @property
    def fastest(self) -> float:
        """Largest of all mu and x: the criterion changes no faster than in ``log(1 + lambda fastest)``."""
        return float(max(self.mu[0], self.x[0]))

    def penalty(self, lam: FloatArray) -> FloatArray:
        """``sum log(1 + lambda x)``, the shape of lambda."""
        return np.asarray(np.log1p(lam[..., None] * self.x) @ self.x_counts)


def profile(spectrum: Spectrum, reml: bool = True) -> RatioProfile:
    """Collect equal eigenvalues.

    Parameters
    ----------
    spectrum : Spectrum
    reml : bool

    Raises
    ------
    DesignError
        The likelihood without residual degrees of freedom has no bound.
    """
    if spectrum.f < 1:
        raise DesignError(
            f"The fixed effects and the random term together fit {spectrum.n} observations without residual (0 degrees "
            "of freedom), so that the distribution of the likelihood ratio is not determined."
        )
    mu, counts = _distinct(spectrum.mu)
    x, x_counts = (mu, counts) if reml else _distinct(spectrum.xi)
    return RatioProfile(mu, counts, x, x_counts, spectrum.n - spectrum.p if reml else spectrum.n, spectrum.f)


def _distinct(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Groups of equal values (largest first) and their sizes."""
    starts = np.flatnonzero(np.concatenate([[True], -np.diff(values) > _SAME * values[0]]))
    counts = np.diff(np.append(starts, values.size))
    return np.add.reduceat(values, starts) / counts, counts


def observed_squares(spectrum: Spectrum, problem: RatioProfile) -> tuple[FloatArray, FloatArray]:
    """Sums of squares of the responses per distinct eigenvalue (K, g), and of the residual (K,)."""
    starts = np.cumsum(np.append(0, problem.counts[:-1]))
    return np.add.reduceat(spectrum.t**2, starts, axis=1), spectrum.sse


def maximise(problem: RatioProfile, W: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Largest log-likelihood ratio and where it is attained.

    Parameters
    ----------
    problem : Profile
    W : FloatArray, shape (B, g)
        Sums of squares of the contrasts per distinct eigenvalue.
    w : FloatArray, shape (B,)
        Residual sums of squares, positive.

    Returns
    -------
    statistic : FloatArray, shape (B,)
        Twice the log ratio; exactly 0 where the maximum is at zero.
    ratio : FloatArray, shape (B,)
        Lambda.
    """
    starts, low, high, rows = _brackets(problem, W, w)
    s, value = _polish(problem, W[rows], w[rows], starts, low, high)
    statistic, ratio = np.zeros(w.size), np.zeros(w.size)
    np.maximum.at(statistic, rows, value)
    best = (value > 0) & (value == statistic[rows])
    ratio[rows[best]] = np.expm1(s[best]) / problem.fastest
    return statistic, ratio


def estimate_ratio(spectrum: Spectrum, reml: bool = True) -> FloatArray:
    """REML (or ML) estimates of ``sd^2 / sigma^2`` for K responses, shape (K,); nan where there is no residual.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> estimate_ratio(spectrum(design, 0, (0,))).round(6).tolist()
    [0.719653]
    """
    problem = profile(spectrum, reml)
    W, w = observed_squares(spectrum, problem)
    found = np.full(w.size, np.nan)
    good = np.flatnonzero(w > 0)
    size = max(1, _CHUNK // (problem.mu.size + 40))
    for start in range(0, good.size, size):
        rows = good[start : start + size]
        found[rows] = maximise(problem, W[rows], w[rows])[1]
    return found


def _brackets(
    problem: RatioProfile, W: FloatArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Every local maximum on a grid of log(1 + lambda m): the point, its neighbours, and the row."""
    grid: FloatArray = np.arange(-1.0, int(_furthest(problem, W, w) / _STEP) + 3) * _STEP
    grid[0] = 0.0
    lam = np.expm1(grid) / problem.fastest
    D = W @ (1.0 / (1.0 + problem.mu[:, None] * lam)) + w[:, None]
    values = -problem.nu * np.log(D) - problem.penalty(lam)
    # The second point repeats zero: a maximum between it and the next one shows in the slope only.
    values[:, 0] = np.where(rises(problem, W, w), -np.inf, np.inf)
    peak = (values[:, 1:-1] >= values[:, :-2]) & (values[:, 1:-1] >= values[:, 2:])
    rows, k = np.nonzero(peak)
    k = k + 1
    return grid[k], grid[k - 1], grid[k + 1], rows.astype(np.int64)


def rises(problem: RatioProfile, W: FloatArray, w: FloatArray) -> BoolArray:
    """Whether the likelihood rises at zero, shape (B,)."""
    return np.asarray(W @ problem.mu > problem.slope_limit * (W.sum(axis=1) + w))


def _furthest(problem: RatioProfile, W: FloatArray, w: FloatArray) -> float:
    """A point of the grid beyond which no criterion of the batch rises."""
    worst = float((2.0 * problem.nu * (W @ (1.0 / problem.mu)) / (w * problem.x_counts.sum())).max())
    return min(float(np.log1p(problem.fastest * max(1.0 / problem.x[-1], worst))), _LONGEST)


def _polish(
    problem: RatioProfile, W: FloatArray, w: FloatArray, s: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Newton's method inside brackets, with bisection where it leaves them; the points and their values."""
    found, todo = s.copy(), np.arange(s.size)
    open_W, open_w = W, w
    for _ in range(_STEPS):
        if not todo.size:
            break
        slope, curvature = _derivatives(problem, open_W, open_w, s)
        low, high = np.where(slope > 0, s, low), np.where(slope > 0, high, s)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = -slope / curvature
        # The ends are inside: at the maximum s is an end, and the step may be too short to move it.
        inside = (curvature < 0) & (s + step >= low) & (s + step <= high)
        step = np.where(inside, step, 0.5 * (low + high) - s)
        found[todo] = s = s + step
        # After one of Newton's steps the next is about its square; after a bisection it may be as long.
        far = np.where(inside, np.abs(step) > 1e-5 * np.maximum(s, 1e-5), high - low > _ROUNDING * np.maximum(s, 1.0))
        todo, s, low, high = todo[far], s[far], low[far], high[far]
        open_W, open_w = open_W[far], open_w[far]
    lam = np.expm1(found) / problem.fastest
    return found, problem.nu * _log_fall(problem, W, w, lam) - problem.penalty(lam)


def _log_fall(problem: RatioProfile, W: FloatArray, w: FloatArray, lam: FloatArray) -> FloatArray:
    """``log S - log D``, shape (B,), with all digits also where it is small."""
    scaled, S = lam[:, None] * problem.mu, W.sum(axis=1) + w
    fall = np.einsum("bg,bg->b", W, scaled / (1.0 + scaled)) / S
    D = np.einsum("bg,bg->b", W, 1.0 / (1.0 + scaled)) + w
    return np.asarray(np.where(fall < 0.5, -np.log1p(-np.minimum(fall, 0.5)), np.log(S / D)))


def _derivatives(problem: RatioProfile, W: FloatArray, w: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First and second derivative of ``-nu log D - penalty`` in ``s = log(1 + lambda m)``, each (B,)."""
    lam = np.expm1(s) / problem.fastest
    rate = lam + 1.0 / problem.fastest
    p = 1.0 / (1.0 + lam[:, None] * problem.mu)
    weighted = W * p
    D = weighted.sum(axis=1) + w
    weighted *= p
    first = weighted @ problem.mu / D
    weighted *= p
    second = weighted @ problem.mu**2 / D
    share = problem.x / (1.0 + lam[:, None] * problem.x) if problem.x is not problem.mu else p * problem.mu
    slope = problem.nu * first - share @ problem.x_counts
    curvature = problem.nu * (first**2 - 2.0 * second) + share**2 @ problem.x_counts
    return slope * rate, curvature * rate**2 + slope * rate


def simulate(
    problem: RatioProfile, draws: int, seed: int | np.random.Generator, ratio: float = 0.0
) -> tuple[FloatArray, BoolArray]:
    """Draws of the statistic at a true variance ratio.

    Parameters
    ----------
    problem : Profile
    draws : int
    seed : int or numpy.random.Generator
    ratio : float
        The true lambda; 0 gives the null distribution.

    Returns
    -------
    statistic : FloatArray, shape (draws,)
    rises : BoolArray, shape (draws,)
        Whether the likelihood rises at zero; it may be larger elsewhere even if it does not.
    """
    found = [(maximise(problem, W, w)[0], rises(problem, W, w)) for W, w in batches(problem, draws, seed, ratio)]
    return np.concatenate([T for T, _ in found]), np.concatenate([up for _, up in found])


def batches(
    problem: RatioProfile, draws: int, seed: int | np.random.Generator, ratio: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Squares (B, g) and residuals (B,) of simulated responses, in batches."""
    rng = np.random.default_rng(seed)
    size = max(1, min(_CHUNK // (problem.mu.size + 40), 20_000))
    several = np.flatnonzero(problem.counts > 1)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        W = rng.standard_normal((count, problem.mu.size))
        np.square(W, out=W)
        if several.size:
            W[:, several] = rng.chisquare(problem.counts[several], (count, several.size))
        W *= 1.0 + ratio * problem.mu
        yield W, rng.chisquare(problem.f, count)


@dataclass(frozen=True)
class NullTest:
    """An observed likelihood ratio against its null distribution.

    Attributes
    ----------
    p_value : float
    mc_error : float
        Standard error of simulation; 0 where the p value is exact.
    draws : int
        0 where the p value is exact.
    p_zero : float
        Probability that the statistic is exactly 0 when the variance is.
    """

    p_value: float
    mc_error: float
    draws: int
    p_zero: float


def probability_of_no_rise(problem: RatioProfile, ratio: float = 0.0) -> float:
    """Probability that the likelihood does not rise at zero (the local condition for an estimate of zero).

    ``P(sum mu_k v_k w_k <= c (sum v_k w_k + w))`` with ``v_k = 1 + lambda mu_k`` and ``c = sum x_k / nu``.
    """
    v = np.append(1.0 + ratio * problem.mu, 1.0)
    numerator = np.append(problem.mu, 0.0) * v
    dof = np.append(problem.counts, problem.f).astype(float)
    return ratio_probability(numerator, v, problem.slope_limit, dof).below


def null_test(
    spectrum: Spectrum,
    statistic: float,
    reml: bool = True,
    *,
    own: bool = True,
    draws: int = DRAWS,
    seed: int | np.random.Generator = SEED,
) -> NullTest:
    """P value of a likelihood ratio for one zero variance.

    Exact where all mu agree: the statistic then rises with F, so that the F distribution gives its p value. Otherwise
    by simulation, ``(1 + #{T* >= T}) / (draws + 1)``.

    Parameters
    ----------
    spectrum : Spectrum
    statistic : float
        Rise of the criterion (-2 log likelihood) when the variance is set to zero; what is not above rounding is 0.
    reml : bool
        Whether it is one of restricted likelihoods.
    own : bool
        Whether the response of the spectrum is the one tested, with no other random terms; its F then need not be
        recovered from the statistic.
    draws : int
    seed : int or numpy.random.Generator

    Returns
    -------
    NullTest

    References
    ----------
    Crainiceanu & Ruppert (2004), J. R. Stat. Soc. B 66, 165-185; Greven, Crainiceanu, Kuechenhoff & Peters (2008), J.
    Comput. Graph. Stat. 17, 870-891, for models with further variances.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.spectral import spectrum
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> test = null_test(spectrum(design, 0, (0,)), 6.36896)
    >>> round(test.p_value, 6), test.mc_error, round(test.p_zero, 4)
    (0.004398, 0.0, 0.5611)
    """
    problem = profile(spectrum, reml)
    if problem.mu.size == 1:
        return _by_f(spectrum, problem, statistic, own)
    simulated, up = simulate(problem, draws, seed)
    p_zero = probability_of_no_rise(problem) - float((simulated[~up] > 0).sum()) / draws
    if statistic <= 0.0:
        return NullTest(1.0, 0.0, draws, p_zero)
    reached = simulated >= statistic * (1.0 - TIE)
    p = (1.0 + int(reached.sum())) / (draws + 1.0)
    return NullTest(p, float(np.sqrt(p * (1.0 - p) / draws)), draws, p_zero)


def _by_f(spectrum: Spectrum, problem: RatioProfile, statistic: float, own: bool) -> NullTest:
    from scipy import stats

    r, f = spectrum.r, spectrum.f
    p_zero = float(stats.f.cdf(_f_at(problem, 0.0), r, f))
    if statistic <= 0.0:
        return NullTest(1.0, 0.0, 0, p_zero)
    F = float((spectrum.t**2).sum() / r / (spectrum.sse[0] / f)) if own else _f_at(problem, statistic)
    return NullTest(float(stats.f.sf(F, r, f)), 0.0, 0, p_zero)


def _f_at(problem: RatioProfile, statistic: float) -> float:
    """The F at which the statistic is reached, where all mu agree; for 0 the largest F that gives 0."""
    from scipy.optimize import brentq

    r, f = int(problem.counts[0]), problem.f

    def excess(log_f: float) -> float:
        F = np.exp(log_f)
        T = maximise(problem, np.array([[F * r / f]]), np.ones(1))[0][0]
        return float(T - statistic) if T > 0 else -1.0 - statistic

    if statistic <= 0.0 and problem.x.size == 1:
        # A single maximum: it leaves zero where the slope there changes sign.
        limit = problem.slope_limit / problem.mu[0]
        return float(limit / (1.0 - limit) * f / r) if limit < 1.0 else np.inf
    low = high = 0.0
    while excess(high) < 0 and high < 600.0:
        low, high = high, high + 1.0
    while excess(low) > 0 and low > -600.0:
        low -= 1.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-13, maxiter=_ROOT_STEPS)))
