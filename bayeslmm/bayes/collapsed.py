"""Posterior draws by the collapsed path: a few parameters integrated or sampled, the rest drawn exactly."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bayeslmm.bayes import surrogate as sur
from bayeslmm.bayes.at_means import AtMeans, factors_at_zeros, sds_and_correlations
from bayeslmm.bayes.completion import Completed, complete, draw_sigma
from bayeslmm.bayes.importance import Weighted, two_samples
from bayeslmm.bayes.listing import listing
from bayeslmm.bayes.moments import ExactMoments, grid_moments
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.bayes.quadrature import TOLERABLE, draw_from_grid, integrate
from bayeslmm.bayes.self_check import SelfCheck, check_sample
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.errors import ConvergenceWarning, FitError
from bayeslmm.likelihood import CrossProducts, SummedDesign
from bayeslmm.likelihood.frame import Block
from bayeslmm.likelihood.residual_products import PointSums
from bayeslmm.likelihood.rowless import summed_elsewhere
from bayeslmm.numerics.resample import trustworthy
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray

# Doubles that an evaluation touches from which on a polynomial takes its place, on a grid. For weighted points so many
# times as many for each square of their dimension: a polynomial has the more terms, and needs the more nodes.
_DEAR, _BY_DIMENSION = 2000.0, 0.6
# Exact evaluations that its error is measured at, and the error that is too much.
_CHECKS = {False: 100, True: 24}
_BAD_ERROR = 0.1
# Error of a polynomial from which on a better one is tried.
_FINE_ERROR = 0.01
# Errors of the self-check of chains from which on they are not to be used; neighbouring draws are not independent.
_CHAIN_DENSITY, _CHAIN_SIGMA = 0.01, 10.0
_ADVICE = "Use method='collapsed_nuts'."


@dataclass(frozen=True)
class Diagnostics:
    """Certificate of a collapsed posterior.

    Attributes
    ----------
    method : str
        ``"quadrature"`` or ``"importance"``.
    pareto_k : float
        Shape of the tail of the importance weights (Vehtari et al. 2024); below 0.5 is good.
    efficiency : float
        Kish effective size of the weighted points divided by their number.
    largest_weight : float
        Largest weight in units of the mean weight.
    log_evidence : float
        Log p(y); None of its meaning survives a flat prior on a variance parameter.
    quadrature_error : float or None
        Estimate of the relative error of the grid.
    points : int
        Evaluations of the final sample.
    surrogate_error : float or None
        Where a polynomial took the place of the likelihood: root mean square of the error of the log density at
        posterior draws.
    self_check : SelfCheck or None
        What a second computation by other means says.
    log_det_error : float or None
        Standard error of differences of log densities across the posterior, where log determinants are estimated.
    """

    method: str
    pareto_k: float
    efficiency: float
    largest_weight: float
    log_evidence: float
    quadrature_error: float | None
    points: int
    surrogate_error: float | None = None
    self_check: SelfCheck | None = None
    log_det_error: float | None = None

    def __repr__(self) -> str:
        check, surrogate = self.self_check, self.surrogate_error
        rows = {
            "Pareto k": f"{self.pareto_k:.2f} (below 0.5 is good)",
            "efficiency": f"{self.efficiency:.0%} of {self.points:,} points",
            "largest weight": f"{self.largest_weight:.3g} times the mean",
            "log evidence": f"{self.log_evidence:.4f}",
            "grid": None if self.quadrature_error is None else f"relative error {self.quadrature_error:.1e}",
            "polynomial": None if surrogate is None else f"error of log densities {surrogate:.1e}",
            "log determinant": None if self.log_det_error is None else f"standard error {self.log_det_error:.1e}",
            "self-check": None if check is None else "; ".join(check.faults) or f"passed, by {check.route}",
        }
        return listing(f"Diagnostics of {self.method}: {'reliable' if self.reliable else 'not reliable'}", rows)

    @property
    def reliable(self) -> bool:
        """Whether the draws can be used as they are: weights, grid and polynomial are good enough, the check passed."""
        errors = (self.surrogate_error, self.log_det_error)
        wrong = any(error is not None and not error < _BAD_ERROR for error in errors)
        good = trustworthy(self.pareto_k, self.largest_weight, self.efficiency)
        return self.resolved and self.checked and not wrong and good

    @property
    def checked(self) -> bool:
        """Whether the self-check, where there was one, found nothing."""
        return self.self_check is None or self.self_check.passed

    @property
    def resolved(self) -> bool:
        """Whether the grid, where there is one, is fine enough."""
        return self.quadrature_error is None or self.quadrature_error < TOLERABLE


@dataclass(frozen=True)
class ChainDiagnostics:
    """Certificate of Markov chains on the collapsed posterior.

    Attributes
    ----------
    largest_rhat : float
    smallest_ess : float
        Bulk or tail, over sds, correlations and sigma.
    divergences : int
    density_error : float
        Of the log density at some draws, computed again by another route.
    sigma_error : float
        How far log sigma is from its conditional distribution given the other parameters, in standard errors.
    method : str
    """

    largest_rhat: float
    smallest_ess: float
    divergences: int
    density_error: float = 0.0
    sigma_error: float = 0.0
    method: str = "collapsed_nuts"

    def __repr__(self) -> str:
        rows = {
            "largest R-hat": f"{self.largest_rhat:.4f} (1.01 and below is good)",
            "smallest ESS": f"{self.smallest_ess:.0f}",
            "divergences": f"{self.divergences}",
            "log densities": f"off by {self.density_error:.1e}",
            "log sigma": f"off by {self.sigma_error:.1f} standard errors",
        }
        return listing(f"Diagnostics of {self.method}", rows)

    @property
    def checked(self) -> bool:
        """Whether the self-check found nothing; convergence is judged by the other numbers."""
        return self.density_error < _CHAIN_DENSITY and self.sigma_error < _CHAIN_SIGMA


@dataclass(frozen=True)
class CollapsedDraws:
    """Posterior draws in the user's units: independent, or in the order of chains.

    Attributes
    ----------
    beta : FloatArray, shape (S, p)
    sigma : FloatArray, shape (S,)
    sds : tuple of FloatArray, each (S, c)
        Terms in the order of the formula.
    corrs : tuple of FloatArray, each (S, c, c)
    b : tuple of FloatArray or None, each (S, J, c)
        Random effects of every block of ``cp.blocks``, columns in the order of its terms; None where not kept.
    diagnostics : Diagnostics or ChainDiagnostics
    exact : ExactMoments or None
        Means and sds without Monte Carlo error (quadrature only).
    sds_at_mean, corrs_at_mean : tuple of FloatArray
        The same of the effects that the priors are about; those above where these are the user's own.
    lam : FloatArray, shape (S, k)
        Residual parameters on their scales without bounds.
    """

    beta: FloatArray
    sigma: FloatArray
    sds: tuple[FloatArray, ...]
    corrs: tuple[FloatArray, ...]
    b: tuple[FloatArray | None, ...]
    diagnostics: Diagnostics | ChainDiagnostics
    exact: ExactMoments | None
    sds_at_mean: tuple[FloatArray, ...] = ()
    corrs_at_mean: tuple[FloatArray, ...] = ()
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)


class UnreliableWeightsError(FitError):
    """Importance weights that are not to be trusted; Markov chains can take over.

    Attributes
    ----------
    found : str
        What is wrong, without the advice.
    """

    def __init__(self, found: str) -> None:
        super().__init__(f"{found} {_ADVICE}")
        self.found = found


def sample_collapsed(
    cp: SummedDesign,
    priors: Priors,
    start_terms: Sequence[FloatArray],
    *,
    draws: int = 4000,
    method: str = "auto",
    rng: np.random.Generator,
    keep: Sequence[bool] | None = None,
    progress: Progress | None = None,
    unreliable: Literal["warn", "raise"] = "warn",
) -> CollapsedDraws:
    """Draw from the posterior with beta and the random effects integrated out.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
    start_terms : sequence of FloatArray, each (c, c)
        Relative factors of a fit on the user's columns, for scales and start.
    draws : int
    method : {"auto", "quadrature", "importance"}
        ``"auto"``: quadrature for at most three variance parameters (sigma included), else, or where the grid stays
        too coarse, importance sampling.
    rng : numpy.random.Generator
    keep : sequence of bool, optional
        For every block of ``cp.blocks`` whether its random effects are stored.
    progress : Progress, optional
    unreliable : {"warn", "raise"}
        What to do when the weights are not to be trusted: warn and return the draws all the same, or not.

    Returns
    -------
    CollapsedDraws
        Fewer draws than asked for, with a warning, if interrupted while effects are drawn.

    Raises
    ------
    PriorError
        The posterior is improper.
    UnreliableWeightsError
    FitError
        Effects exceed the residuals by so much that digits do not suffice.

    Warns
    -----
    ConvergenceWarning
        If the importance weights have a heavy tail, or a grid that was asked for is too coarse.
    """
    check_posterior(cp.design, priors, summed_elsewhere(cp))
    progress = Progress() if progress is None else progress
    try:
        drawn = _drawn(*_prepare(cp, priors, start_terms, method), draws, rng, progress)
        sound = drawn.diagnostics.resolved and drawn.diagnostics.checked
        if method == "auto" and drawn.diagnostics.method == "quadrature" and not sound:
            drawn = _drawn(*_prepare(cp, priors, start_terms, "importance"), draws, rng, progress)
    except np.linalg.LinAlgError as error:
        raise FitError(_lost(start_terms)) from error
    diagnostics = drawn.diagnostics
    if not diagnostics.reliable:
        if unreliable == "raise":
            raise UnreliableWeightsError(_unreliable(diagnostics))
        warnings.warn(f"{_unreliable(diagnostics)} {_ADVICE}", ConvergenceWarning, stacklevel=3)
    completed = complete(drawn.target, drawn.sample, drawn.sigma, draws, rng, keep, progress)
    return in_units(cp, priors.changes, completed, diagnostics, drawn.exact)


@dataclass(frozen=True)
class _Points:
    """Weighted points of the relative parameters and sigma with their certificate."""

    target: Target
    sample: Weighted
    sigma: FloatArray
    diagnostics: Diagnostics
    exact: ExactMoments | None


def _drawn(
    target: Target, start: FloatArray, method: str, draws: int, rng: np.random.Generator, progress: Progress
) -> _Points:
    """Points by one method, from a polynomial, a better one or the likelihood itself."""

    def points(used: Target) -> _Points:
        # One at a time, the evaluations of a grid would take hours.
        slow = used is target and not target.cp.sums.batched
        return _points(used, start, "importance" if slow else method, draws, rng, progress)

    drawn = points(_cheap(target, start, method, progress))
    for most in _further_terms(target, drawn.diagnostics):
        # The polynomial has not met the likelihood: more terms, then the likelihood itself.
        drawn = points(_polynomial(target, start, progress, most) if most else target)
        if drawn.diagnostics.reliable:
            break
    return drawn


def _cheap(target: Target, start: FloatArray, method: str, progress: Progress) -> Target:
    """A polynomial where evaluations are dear."""
    dear = _DEAR * (1.0 if method == "quadrature" else _BY_DIMENSION * target.dimension**2)
    if sur.available(target) and sur.cost(target.cp) > dear:
        return _polynomial(target, start, progress, sur.MOST_TERMS)
    return target


def _polynomial(target: Target, start: FloatArray, progress: Progress, most: int) -> Target:
    """A polynomial in place of the likelihood, or the likelihood itself where it cannot be had near the posterior."""
    try:
        return sur.build_surrogate(target, start, progress, most)
    except np.linalg.LinAlgError:
        return target


def _further_terms(target: Target, diagnostics: Diagnostics) -> tuple[int, ...]:
    """Terms of the polynomials to try next; 0 is the likelihood itself."""
    error = diagnostics.surrogate_error
    if error is None or (error < _FINE_ERROR and diagnostics.reliable):
        return ()
    # Where the store evaluates many points at once the likelihood itself costs little more than further nodes.
    return (0,) if target.cp.sums.batched else (3 * sur.MOST_TERMS, 0)


def _points(
    target: Target, start: FloatArray, method: str, draws: int, rng: np.random.Generator, progress: Progress
) -> _Points:
    exact, error, second = None, None, None
    if method == "quadrature":
        grid = integrate(target, start)
        sample = draw_from_grid(target, grid, int(np.ceil(1.05 * draws)), rng)
        exact, evidence, error = grid_moments(target, grid), grid.log_evidence, grid.error
    else:
        sample, second = two_samples(target, start, draws, rng)
        evidence = sample.log_evidence
    sigma, weighted = draw_sigma(target, sample, rng)
    diagnostics = _diagnose(weighted, method, evidence, error)
    wrong = 0.0
    if isinstance(target, sur.SurrogateTarget):
        checked = sur.check(target, sample, _CHECKS[not target.cp.sums.batched], rng, progress)
        noise = sur.estimated_error(target, sample)
        diagnostics, wrong = replace(diagnostics, surrogate_error=checked.error, log_det_error=noise), checked.largest
    by_grid = evidence if method == "quadrature" else None
    verdict = check_sample(target, start, weighted, sigma, by_grid, exact, second, wrong)
    diagnostics = replace(diagnostics, self_check=verdict)
    return _Points(target, weighted, sigma, diagnostics, exact)


def _prepare(
    cp: SummedDesign, priors: Priors, start_terms: Sequence[FloatArray], method: str
) -> tuple[Target, FloatArray, str]:
    """Coordinates that suit the method, and the method itself."""
    target, start = make_target(cp, priors, start_terms)
    if method == "auto":
        # Where a density is not smooth at zero a grid needs the long tail of log sd, which no polynomial follows.
        one_by_one = isinstance(target.sums, PointSums)
        dear = target.sums is None and sur.cost(cp) > _DEAR and not priors.smooth
        fits = target.dimension <= (1 if one_by_one else 2)
        method = "quadrature" if fits and not dear and not priors.jumps else "importance"
    if method == "importance" and not priors.smooth:
        target, start = make_target(cp, priors, start_terms, smooth=False)
    return target, start, method


def _diagnose(sample: Weighted, method: str, evidence: float, error: float | None) -> Diagnostics:
    efficiency = sample.efficiency
    if not np.isfinite(efficiency):
        raise FitError(
            "The importance weights are not finite: the posterior could not be evaluated around its mode. "
            "Check the scales of the predictors, or use method='nuts'."
        )
    size = sample.log_weights.size
    return Diagnostics(method, sample.pareto_k, efficiency, sample.largest_weight, evidence, error, size)


def _lost(terms: Sequence[FloatArray]) -> str:
    largest = max((float(np.abs(T).max(initial=0.0)) for T in terms), default=0.0)
    return (
        f"The posterior could not be evaluated near the fit, where random effects have up to {largest:.1g} times the "
        "standard deviation of the residuals: sixteen digits do not hold both. Check whether a grouping factor "
        "determines the response, and the units of the predictors of random terms."
    )


def _unreliable(d: Diagnostics) -> str:
    error = "" if d.surrogate_error is None else f", error of the polynomial {d.surrogate_error:.2g}"
    if not d.resolved:
        error += f", relative error of the grid {d.quadrature_error:.1g} where {TOLERABLE:g} is tolerable"
    if d.self_check is not None and not d.checked:
        error += f"; {d.self_check}"
    return (
        f"The sample of the posterior is unreliable: Pareto k = {d.pareto_k:.2f}, efficiency {d.efficiency:.0%}, "
        f"largest weight {d.largest_weight:.0f} times the mean{error}."
    )


def in_units(
    cp: CrossProducts,
    changes: Sequence[AtMeans | None],
    completed: Completed,
    diagnostics: Diagnostics | ChainDiagnostics,
    exact: ExactMoments | None,
) -> CollapsedDraws:
    """Absolute sds, correlations and effects at the zeros of the columns from draws in the priors' coordinates."""
    sigma = completed.sigma[:, None]
    own = tuple(t * sigma for t in completed.relative)
    own_corrs = tuple(correlations(T, t) for T, t in zip(completed.factors, completed.relative, strict=True))
    sds, corrs = list(own), list(own_corrs)
    for k, (change, T) in enumerate(zip(changes, factors_at_zeros(changes, completed.factors), strict=True)):
        if change is not None:
            relative, corrs[k] = sds_and_correlations(T)
            sds[k] = relative * sigma
    b = tuple(
        None if values is None else _at_zeros(changes, block, values)
        for block, values in zip(cp.blocks, completed.b, strict=True)
    )
    return CollapsedDraws(
        completed.beta, completed.sigma, tuple(sds), tuple(corrs), b, diagnostics, exact, own, own_corrs, completed.lam
    )


def _at_zeros(changes: Sequence[AtMeans | None], block: Block, b: FloatArray) -> FloatArray:
    """Effects (S, J, c) of a block at the zeros of the columns."""
    for k, columns in zip(block.terms, block.slices, strict=True):
        change = changes[k]
        if change is not None:
            b[:, :, columns] = b[:, :, columns] @ change.matrix.T
    return b


def correlations(T: FloatArray, t: FloatArray) -> FloatArray:
    """Correlation matrices (S, c, c) of relative factors (S, c, c) with the sds t, (S, c) or (S, 1)."""
    L = T / np.where(t > 0, t, 1.0)[:, :, None]
    return L @ np.swapaxes(L, -1, -2)
