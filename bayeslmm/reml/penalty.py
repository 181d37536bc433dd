"""Penalties on the relative covariance factors that keep estimates away from the boundary."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.arguments import real, shown
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.errors import ArgumentError, FitError
from bayeslmm.likelihood import CrossProducts
from bayeslmm.types import FloatArray

# Name to the shape for a single sd and that for a covariance matrix.
_NAMED = {"boundary_avoiding": (2.0, 2.5), "gamma": (2.0, 2.0), "wishart": (2.5, 2.5)}


@dataclass(frozen=True)
class Penalty:
    """What is added to the log likelihood: the log density of a prior, up to a constant.

    With T the relative factor (``Sigma = sigma^2 T T'``) a term with one standard deviation adds
    ``(sd_shape - 1) log theta``, which is a gamma prior with rate 0 on ``theta = sd / sigma``, and a term with a free
    covariance matrix of c effects ``(matrix_shape - 1) log |det T|``, a Wishart prior with ``c + matrix_shape`` degrees
    of freedom and an infinite scale. Effects without correlations count as terms of their own.

    Attributes
    ----------
    name : str
    sd_shape : float
        Above 1.
    matrix_shape : float
        Above 1.

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709; Chung, Gelman, Rabe-Hesketh, Liu & Dorie
    (2015), J. Educational and Behavioral Statistics 40, 136-157.

    Examples
    --------
    >>> print(resolve_penalty("boundary_avoiding"))
    boundary_avoiding: gamma(2, rate 0) on sd / sigma, Wishart(c + 2.5 df, infinite scale) on c x c covariances
    """

    name: str
    sd_shape: float
    matrix_shape: float

    def __str__(self) -> str:
        return (
            f"{self.name}: gamma({self.sd_shape:g}, rate 0) on sd / sigma, Wishart(c + {self.matrix_shape:g} df, "
            "infinite scale) on c x c covariances"
        )

    def multiple(self, structure: CovarianceStructure) -> float:
        """What the logarithm of an sd (or determinant) of a term is multiplied with."""
        free = structure.basis_free and structure.size > 1
        return (self.matrix_shape if free else self.sd_shape) - 1.0

    def log_density(
        self, structures: Sequence[CovarianceStructure], terms: Sequence[FloatArray], held: Collection[int]
    ) -> float:
        """Logarithm of the penalty.

        Parameters
        ----------
        structures : sequence of CovarianceStructure
        terms : sequence of FloatArray, each (c, c)
            Relative factors on the user's columns, lower triangular; the value depends on the units of the columns.
        held : collection of int
            Positions of the terms that are not penalised.
        """
        total = 0.0
        for i, (structure, T) in enumerate(zip(structures, terms, strict=True)):
            if i not in held:
                total += self.multiple(structure) * sum(_log(size) for size in structure.sizes(T).tolist())
        return total


def resolve_penalty(penalty: Any) -> Penalty | None:
    """Read the user's ``penalty=``: None, a name, a shape above 1, or a `Penalty`.

    Raises
    ------
    FitError
        None of these.

    Examples
    --------
    >>> resolve_penalty(3).matrix_shape
    3.0
    """
    if penalty is None or isinstance(penalty, Penalty):
        return penalty
    if isinstance(penalty, str) and penalty in _NAMED:
        return Penalty(penalty, *_NAMED[penalty])
    try:
        shape = real("penalty", penalty, above=1.0)
    except ArgumentError:
        raise FitError(
            f"penalty={shown(penalty)} is unknown. Use {', '.join(map(repr, _NAMED))}, or the shape of the gamma "
            "(Wishart) prior: a number above 1, at which there is no penalty."
        ) from None
    return Penalty(f"shape {shape:g}", shape, shape)


def penalty_value(cp: CrossProducts, penalty: Penalty, x: FloatArray, held: Collection[int]) -> float:
    """Minus twice the log penalty at internal coordinates x (k,), up to a constant; inf where some sd is 0."""
    total = 0.0
    for structure, own in _parts(cp, x, held):
        total += penalty.multiple(structure) * sum(_log(size) for size in structure.log_sizes(own)[0].tolist())
    return -2.0 * total


def penalty_derivatives(
    cp: CrossProducts, penalty: Penalty, x: FloatArray, held: Collection[int]
) -> tuple[FloatArray, FloatArray]:
    """Gradient (k,) and Hessian (k, k) of `penalty_value`."""
    gradient, hessian = np.zeros(x.size), np.zeros((x.size, x.size))
    for _, _, term, part, structure in cp.frame.terms:
        if term not in held:
            _, slope, bend = structure.log_sizes(x[part])
            gradient[part] = -2.0 * penalty.multiple(structure) * slope
            hessian[part, part] = -2.0 * penalty.multiple(structure) * bend
    return gradient, hessian


def off_zero(cp: CrossProducts, x: FloatArray, least: float) -> FloatArray:
    """Starts (K, k) with standard deviations (diagonals of T) of at least `least`."""
    scales = np.concatenate([structure.scales for *_, structure in cp.frame.terms])
    return np.where(scales & (np.abs(x) < least), least, x)


def _parts(cp: CrossProducts, x: FloatArray, held: Collection[int]) -> list[tuple[CovarianceStructure, FloatArray]]:
    return [(structure, x[entries]) for _, _, term, entries, structure in cp.frame.terms if term not in held]


def _log(size: float) -> float:
    return math.log(size) if size > 0 else -math.inf
