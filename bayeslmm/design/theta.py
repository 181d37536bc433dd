"""Theta as users give it: the names of its entries, its check, its parts term by term."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from bayeslmm.arguments import numbers_of, shown
from bayeslmm.design.design import Design
from bayeslmm.design.labels import group_labels
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray

# The square of a larger one times a square of the data is no number that a computer holds.
LARGEST = 1e75
# A correlation whose atanh is larger is one for a computer.
LARGEST_LAM = 300.0


def theta_names(design: Design, position: int) -> tuple[str, ...]:
    """Names of the entries of one term's theta, e.g. ``"Intercept"``, ``"Intercept.Days"``, ``"Days"``."""
    labels = next(g for g in group_labels(design) if position in g.terms)
    return design.terms[position].structure.theta_names(labels.term_effects(position))


def split_theta(design: Design, theta: FloatArray) -> list[FloatArray]:
    """The parts of theta (..., k) that belong to the terms, in the order of the formula."""
    ends = np.cumsum([0, *(len(term.structure.rows) for term in design.terms)])
    return [theta[..., a:b] for a, b in pairwise(ends)]


def check_theta(design: Design, theta: ArrayLike) -> FloatArray:
    """Relative covariance parameters (k,) of all terms, lme4's order.

    Parameters
    ----------
    design : Design
    theta : array-like of shape (k,), or a number where there is one parameter

    Raises
    ------
    DesignError
        Wrong length, not finite, too large for arithmetic, or values that are no covariance.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    >>> check_theta(design, [1, 0, 0.2])
    array([1. , 0. , 0.2])
    """
    values = np.atleast_1d(numbers_of("theta", theta, finite=False, error=DesignError))
    if values.shape != (design.n_theta,) or not (np.abs(values) <= LARGEST).all():
        names = "; ".join(f"{term.label}: {', '.join(theta_names(design, i))}" for i, term in enumerate(design.terms))
        raise DesignError(
            f"theta is {shown(values.tolist())}, of shape {values.shape}; the model needs {design.n_theta} finite "
            f"number(s) of at most {LARGEST:g}: {names}. They are the entries of the relative factors, column by "
            "column (sd / sigma for a single effect), or sd / sigma and the correlation where effects share them."
        )
    for term, part in zip(design.terms, split_theta(design, values), strict=True):
        try:
            term.structure.check(part)
        except DesignError as error:
            raise DesignError(f"theta, {term.label}: {error}") from error
    return values


def check_lam(design: Design, lam: ArrayLike | None) -> FloatArray:
    """Parameters (m,) of the residual structure without bounds; None where there are none.

    Raises
    ------
    DesignError
        Another number of them, or values beyond what arithmetic can tell from their ends.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> check_lam(model.design, 1.0)
    array([1.])
    """
    names = design.residual.names
    if lam is None and not names:
        return NO_PARAMETERS
    values = np.empty(0) if lam is None else np.atleast_1d(numbers_of("lam", lam, finite=False, error=DesignError))
    if values.shape != (len(names),) or not (np.abs(values) <= LARGEST_LAM).all():
        needs = f"{len(names)} number(s) of at most {LARGEST_LAM:g}, {', '.join(names)}" if names else "none"
        raise DesignError(
            f"lam is {shown(lam)}; the residuals of {design.formula!r} need {needs}. They are the parameters of the "
            "residual structure without bounds, as fit.optimum.lam has them: atanh of correlations, logs of ratios."
        )
    return values
