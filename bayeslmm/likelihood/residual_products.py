"""Cross-products of a design whose residuals have parameters: those at one point, and what is needed at others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.equality import by_value
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import Conditional, internal_beta, joint_draws, user_beta
from bayeslmm.likelihood.criteria import LOG_2PI, evaluate
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor, stacked
from bayeslmm.likelihood.normal_prior import NormalPrior, internal_prior
from bayeslmm.likelihood.patterns import PatternSums, pattern_sums
from bayeslmm.likelihood.rotation import draw_trailing
from bayeslmm.likelihood.whitened import RowsAtPoints, whitened_products
from bayeslmm.types import FloatArray

# Squared relative sds times rows of a level from which on sums of products of rows have lost too many digits.
_LARGE = 1e6


@by_value
@dataclass(frozen=True, eq=False)
class ResidualProducts(SummedDesign):
    """Cross-products at one point lam of the residual parameters, of a design that is not whitened.

    Attributes
    ----------
    lam : FloatArray, shape (k,)
    whitened : SummedDesign
        The same as cross-products of the whitened rows.
    """

    lam: FloatArray = None  # type: ignore[assignment]
    whitened: SummedDesign = None  # type: ignore[assignment]

    @cached_property
    def at_points(self) -> RowsAtPoints:
        """The rows, on the same coordinates at all points."""
        return RowsAtPoints.of(self.design, self.lam)

    def sums_at_points(self, terms: Sequence[FloatArray]) -> PatternSums | PointSums:
        """What is evaluated at other points: by pattern where that has all digits, or point by point.

        Parameters
        ----------
        terms : sequence of FloatArray, each (c, c)
            Relative factors where most of the posterior is.
        """
        rows = self.at_points
        sizes = [
            (term.Z**2).sum() / self.design.groupings[term.group].n_levels * np.abs(T).max(initial=0.0) ** 2
            for term, T in zip(self.design.terms, terms, strict=True)
        ]
        found = None
        if max(sizes, default=0.0) < _LARGE:
            found = pattern_sums(self.design, rows.Xy, rows.base.log_det_fixed)
        return PointSums(rows) if found is None else found

    def log_likelihood(
        self, factors: Sequence[FloatArray], lam: FloatArray, sigma: FloatArray, beta: FloatArray
    ) -> FloatArray:
        """Log p(y | beta, G, lam, sigma) at K points, random effects integrated out; shape (K,).

        Parameters
        ----------
        factors : sequence of FloatArray, each (K, c, c)
            Relative factors of every term on the columns of the design.
        lam : FloatArray, shape (K, k)
        sigma : FloatArray, shape (K,)
        beta : FloatArray, shape (K, p)
        """
        found = self.sums_at_points([T[0] for T in factors]).evaluate(factors, lam)
        q2 = found.chol.shape[1] - self.p
        away = internal_beta(self, beta) - found.solution[:, q2:]
        squares = found.r2 + ((found.chol[:, q2:, q2:].mT @ away[..., None]) ** 2).sum((1, 2))
        return np.asarray(-0.5 * (self.n * (LOG_2PI + 2.0 * np.log(sigma)) + found.log_det + squares / sigma**2))


def residual_products(design: Design, lam: FloatArray) -> ResidualProducts:
    """Cross-products at lam (k,) of a design whose residuals have k parameters.

    Raises
    ------
    DesignError
        Groups of correlated residuals cross grouping factors with too many effects.
    """
    at = whitened_products(design, lam)
    return ResidualProducts(
        at.sums, at.response, at.log_weights, at.sigma_unit, design, at.rows, lam, at, sigma=at.sigma
    )


@dataclass(frozen=True)
class PointSums:
    """Rows that are whitened and summed at every point anew.

    Attributes
    ----------
    rows : RowsAtPoints
    """

    rows: RowsAtPoints

    def evaluate(self, factors: Sequence[FloatArray], lam: FloatArray, known: float = 0.0) -> Factor:
        """What densities need at K points; see `PatternSums.evaluate`. Effects that cross stay in the factor."""
        return stacked([self._at([T[k : k + 1] for T in factors], one, known) for k, one in enumerate(lam)])

    def _at(self, factors: Sequence[FloatArray], lam: FloatArray, known: float) -> Factor:
        base = self.rows.base
        try:
            cp = self.rows.at(lam)
            found = evaluate(cp, par.block_factors(cp, factors))
        except np.linalg.LinAlgError:
            return _nothing(base.q_trailing + base.p)
        return _with_log_det(found, known - cp.log_weights)


def _with_log_det(factor: Factor, more: float) -> Factor:
    """Without what derivatives need: effects differ in number from those of points without digits."""
    nothing = np.empty((factor.r2.size, 0))
    log_det, trailing = factor.log_det + more, nothing[..., None]
    return replace(factor, log_det=log_det, trailing=trailing, residual=nothing, first=None, hierarchy=None)


def _nothing(t: int) -> Factor:
    """Where there are no digits."""
    nan, nothing = np.full(1, np.nan), np.empty((1, 0))
    chol, solution = np.full((1, t, t), np.nan), np.full((1, t), np.nan)
    return Factor(nan, nan, nan, nothing[..., None], chol, solution, nothing, nan)


def draw_at_points(
    cp: SummedDesign,
    sums: PatternSums | PointSums,
    factors: Sequence[FloatArray],
    lam: FloatArray,
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: NormalPrior | None = None,
    factor: Factor | None = None,
) -> Conditional:
    """One exact draw of (beta, b) at each of K points of relative factors, residual parameters and sigma.

    Parameters
    ----------
    cp : SummedDesign
        Coordinates of the fixed effects, and the blocks by which effects are returned.
    sums : PatternSums or PointSums
    factors : sequence of FloatArray, each (K, c, c)
        Of every term, on the columns of the design.
    lam : FloatArray, shape (K, k)
    sigma : FloatArray, shape (K,)
    rng : numpy.random.Generator
    prior : NormalPrior, optional
        Of beta; flat if None.
    factor : Factor, optional
        ``sums.evaluate(factors, lam)``, where it is at hand.
    """
    if isinstance(sums, PointSums):
        each = [
            _drawn_at(sums.rows.at(one), [T[k : k + 1] for T in factors], sigma[k : k + 1], rng, prior)
            for k, one in enumerate(lam)
        ]
        b = tuple(np.concatenate(own) for own in zip(*(one.b for one in each), strict=True))
        return Conditional(np.concatenate([one.beta for one in each]), b)
    internal = None if prior is None else internal_prior(cp, prior)
    factor = sums.evaluate(factors, lam) if factor is None else factor
    beta = draw_trailing(factor, 0, sigma, rng, internal)
    effects = sums.draw(factors, lam, sigma, beta, rng)
    blocks = []
    for block in cp.blocks:
        own = np.zeros((sigma.size, block.n_levels, block.size))
        for term, columns in zip(block.terms, block.slices, strict=True):
            own[:, :, columns] = effects[term]
        blocks.append(own)
    return Conditional(user_beta(cp, beta), tuple(blocks))


def _drawn_at(
    cp: SummedDesign, factors: list[FloatArray], sigma: FloatArray, rng: np.random.Generator, prior: NormalPrior | None
) -> Conditional:
    return joint_draws(cp, par.block_factors(cp, factors), sigma, rng, prior)
