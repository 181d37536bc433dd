"""The criterion and its gradient at any theta, over sigma or at a given one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from bayeslmm.arguments import flag, real, shown
from bayeslmm.design.design import Design
from bayeslmm.design.theta import check_lam, check_theta, split_theta
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood import (
    CrossProducts,
    Derivatives,
    Factor,
    SummedDesign,
    degrees_of_freedom,
    derivatives,
    evaluate,
)
from bayeslmm.likelihood import accurate as acc
from bayeslmm.likelihood import accurate_derivatives as accd
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import LOG_2PI, log_determinant
from bayeslmm.likelihood.residual_slopes import residual_slopes
from bayeslmm.likelihood.whitened import RowsAtPoints
from bayeslmm.reml.confirm import WIDE, with_all_digits
from bayeslmm.types import FloatArray

# Share of itself by which the elimination by blocks may be wrong before all digits are asked for.
_LOST = 1e-13


@dataclass(frozen=True)
class CriterionAt:
    """The criterion of one data set at one theta.

    Attributes
    ----------
    cp : SummedDesign
    theta : FloatArray, shape (k,)
        The user's, terms in the order of the formula.
    reml : bool
    sigma : float or None
        Given, or None for the one that minimises the criterion.
    """

    cp: SummedDesign
    theta: FloatArray
    reml: bool
    sigma: float | None = None

    def value(self) -> float:
        """-2 log (restricted) likelihood; -inf where sigma could be zero, inf where there is none in binary64."""
        return self._value_of(self._evaluation())

    def value_and_gradient(self) -> tuple[float, FloatArray]:
        """The value, and its derivatives (k,) in theta; nan where the value is not finite."""
        found = self._evaluation()
        value = self._value_of(found)
        if found is None or not np.isfinite(value):
            return value, np.full(self.theta.size, np.nan)
        slopes, metrics = self._slopes(found)
        return value, in_theta(self.cp, self.theta, slopes, metrics)

    def _factors(self) -> list[FloatArray]:
        return par.block_factors(self.cp, par.terms_from_theta(self.cp, self.theta))

    def _evaluation(self) -> Factor | acc.Accurate | None:
        """The evaluation by blocks, or one on the rows where that loses digits and the data are small enough."""
        cp, factors = self.cp, self._factors()
        if cp.rows == "own" and with_all_digits(cp) and _loses_digits(cp, factors):
            found = acc.evaluate_accurately(acc.rows_of(cp), [T[0] for T in factors])
            if found is not None:
                return found
        try:
            return evaluate(cp, factors)
        except np.linalg.LinAlgError:
            return None

    def _value_of(self, found: Factor | acc.Accurate | None) -> float:
        if found is None:
            return float("inf")
        nu = degrees_of_freedom(self.cp, self.reml)
        if isinstance(found, acc.Accurate):
            logs, r2 = found.log_determinant(self.reml), found.r2
        else:
            logs, r2 = float(log_determinant(self.cp, found, self.reml)[0]), float(found.r2[0])
        if self.sigma is not None:
            # Divided twice: the square of a small sigma may be nothing.
            return logs + nu * (LOG_2PI + 2.0 * float(np.log(self.sigma))) + r2 / self.sigma / self.sigma
        return logs + nu * (1.0 + LOG_2PI + float(np.log(r2 / nu))) if r2 > 0 else float("-inf")

    def _slopes(self, found: Factor | acc.Accurate) -> tuple[list[FloatArray], list[FloatArray] | None]:
        """Derivatives (c, c) in the relative covariance of each block, and the metric that they are in."""
        if isinstance(found, acc.Accurate):
            point = accd.accurate_derivatives(found, self.reml)
            point = point if self.sigma is None else replace(point, scale=self.sigma**-2.0)
            return accd.block_slopes(self.cp, point), list(point.metric)
        return [S[0] for S in _first(self, self._factors(), found).blocks], None


def criterion_at(
    cp: SummedDesign, theta: ArrayLike, sigma: float | None, reml: bool, gradient: bool
) -> float | tuple[float, FloatArray]:
    """The criterion at what a user gives, with its gradient on request.

    Raises
    ------
    DesignError
        Theta has another length or is no covariance; sigma is not a positive number.
    """
    if not cp.design.terms:
        raise DesignError("The model has no random effects, and so no theta; its criterion is fit.criterion.")
    values = check_theta(cp.design, theta)
    sigma = cp.sigma if sigma is None else sigma
    at = CriterionAt(cp, values, flag("reml", reml, FitError), _checked_sigma(sigma))
    return at.value_and_gradient() if flag("gradient", gradient, FitError) else at.value()


def criterion_at_residual(
    design: Design, theta: ArrayLike, lam: ArrayLike | None, sigma: float | None, reml: bool, gradient: bool
) -> float | tuple[float, FloatArray]:
    """The same of a model whose residuals have parameters, with derivatives in theta and then in these.

    Parameters
    ----------
    design : Design
    theta : array-like of shape (k,)
    lam : array-like of shape (m,)
        Parameters of the residual structure without bounds.
    sigma : float or None
    reml, gradient : bool

    Raises
    ------
    DesignError
        Theta or lam has another length or is no covariance; sigma is not a positive number.
    """
    values, own = check_theta(design, theta), check_lam(design, lam)
    sigma = _checked_sigma(sigma)
    reml, asked = flag("reml", reml, FitError), flag("gradient", gradient, FitError)
    try:
        rows = RowsAtPoints.of(design, own)
    except np.linalg.LinAlgError:
        raise DesignError(
            f"At lam = {shown(own.tolist())} the correlations of {design.formula!r} are one to rounding, so that there "
            "is no density. Take smaller values."
        ) from None
    value = CriterionAt(rows.base, values, reml, sigma).value()
    if not asked:
        return value
    if not np.isfinite(value):
        return value, np.full(values.size + own.size, np.nan)
    # The slopes are those of sums at a point that moves.
    cp = rows.at(own)
    at = CriterionAt(cp, values, reml, sigma)
    factors = at._factors()
    factor = evaluate(cp, factors)
    slopes = [S[0] for S in _first(at, factors, factor).blocks] if design.terms else []
    of_theta = in_theta(cp, values, slopes, None) if design.terms else np.empty(0)
    return value, np.concatenate([of_theta, residual_slopes(rows, cp, factors, factor, own, reml, sigma)])


def _checked_sigma(sigma: float | None) -> float | None:
    """A standard deviation whose square is finite, and so is one over it."""
    return None if sigma is None else real("sigma", sigma, least=1e-150, most=1e150, error=DesignError)


def _first(at: CriterionAt, factors: list[FloatArray], factor: Factor) -> Derivatives:
    """Derivatives in the relative covariance of each block."""
    first = derivatives(at.cp, factors, factor, at.reml)
    return first if at.sigma is None else replace(first, scale=np.array([at.sigma**-2.0]))


def in_theta(
    cp: SummedDesign, theta: FloatArray, slopes: Sequence[FloatArray], metrics: Sequence[FloatArray] | None
) -> FloatArray:
    """Derivatives (k,) in the user's theta from those in the internal covariance of each block.

    Parameters
    ----------
    cp : SummedDesign
    theta : FloatArray, shape (k,)
    slopes : sequence of FloatArray, each (c, c)
        Derivatives in A of each block, where the covariance changes by ``M A M'``.
    metrics : sequence of FloatArray, each (c, c), or None
        These M; None for the identity.
    """
    given, parts = split_theta(cp.design, theta), [np.zeros(0)] * len(cp.design.terms)
    for b, columns, term, _, structure in cp.frame.terms:
        block = cp.blocks[b]
        outer = block.inverse_basis[:, columns]
        outer = outer if metrics is None else np.linalg.solve(metrics[b], outer)
        changes = outer @ structure.theta_directions(given[term]) @ outer.T
        parts[term] = (changes * slopes[b]).sum(axis=(1, 2))
    return np.concatenate(parts)


def _loses_digits(cp: CrossProducts, factors: Sequence[FloatArray]) -> bool:
    """Whether relative sds are so large, or so different, that cancellation shows in the elimination by blocks."""
    largest = max(float(np.abs(T).max()) for T in factors)
    several = sum(block.size for block in cp.blocks) > 1
    trailing = sum(float((T**2).sum()) for T in factors) if cp.q_trailing else 0.0
    return several and (largest > WIDE or 2e-15 * trailing > _LOST * cp.n)
