"""REML and ML estimates of models whose residuals have parameters: all covariance parameters are found together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.distinct import RESIDUAL, Ridge, residual_part
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.likelihood import SummedDesign, conditional_means, cross_products, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import degrees_of_freedom, residual_variance
from bayeslmm.likelihood.whitened import RowsAtPoints, whitened_products
from bayeslmm.numerics.newton import Ending, NewtonResult, minimise
from bayeslmm.reml.optimum import Optimum, fit_status, optimise
from bayeslmm.reml.residual_criterion import JointCriterion
from bayeslmm.reml.residual_estimable import check_estimable
from bayeslmm.reml.status import FitStatus
from bayeslmm.residual import NO_PARAMETERS, Estimable, estimable, make_residual
from bayeslmm.residual.bounded import too_few_groups
from bayeslmm.types import FloatArray

# Curvature of a combination of parameters, rows of the Hessian brought to one scale, below which it is a ridge.
_RIDGE = 1e-7
# What is looked at again, with more digits.
_SUSPECT = 1e-4
# A combination has a part of a parameter from this share of its largest on.
_SHARE = 0.1
# The same of a parameter as the user knows it, and the step that shows how sigma changes.
_SHARE_OF_USER, _SIGMA_STEP = 0.01, 1e-4
# A minimum in the random effects alone that is lower than the joint one by this was not seen.
_LOWER = 1e-6
_ROUNDS = 3
# Steps by expected curvatures at the end, and the predicted fall at which there is no more to be had.
_CLOSER, _NOTHING = 4, 1e-12


@by_value
@dataclass(frozen=True, eq=False)
class ResidualOptimum(Optimum):
    """The minimum over relative covariances and residual parameters; `cp` is that of the whitened rows.

    Attributes
    ----------
    original : Design
        The rows before whitening.
    """

    original: Design = None  # type: ignore[assignment]

    @cached_property
    def joint(self) -> JointCriterion:
        """The criterion around the minimum, on its own coordinates."""
        return JointCriterion(RowsAtPoints.of(self.original, self.lam), self.reml)

    @cached_property
    def joint_point(self) -> FloatArray:
        """(internal vector, lam) on the coordinates of `joint`."""
        return np.concatenate([par.internal_from_terms(self.joint.rows.base, self.terms), self.lam])

    @cached_property
    def residual_information(self) -> FloatArray:
        """About the information (k,) on each parameter of the residuals, the others known."""
        return np.diagonal(estimable(self.original.residual).information(self.lam)[1])

    @cached_property
    def joint_hessian(self) -> FloatArray:
        """Second derivatives (k, k), theta first."""
        return self.joint.hessian(self.joint_point)


def optimise_residual(
    design: Design, reml: bool = True, max_evaluations: int = 200, near: Optimum | None = None
) -> ResidualOptimum:
    """Minimise the profiled criterion over relative covariances and the parameters of the residual structure.

    Parameters
    ----------
    design : Design
        With a residual structure that has parameters.
    reml : bool
    max_evaluations : int
    near : Optimum, optional
        Of much the same rows, from whose estimates the search starts; if that leads nowhere, it starts as without.

    Returns
    -------
    ResidualOptimum

    Raises
    ------
    DesignError
        Too many random effects that would have to be eliminated densely.
    FitError
        No start at which the covariance is positive definite; so few groups that the likelihood has no maximum.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> found = optimise_residual(model.design)
    >>> round(found.criterion, 3), found.lam.round(3)
    (1739.206, array([1.098]))
    """
    check_estimable(design)
    try:
        if near is not None:
            close = _lowest(_started_near(design, near), reml, max_evaluations)
            if close is not None and close.status.ok:
                return close
        optimum = _lowest(_starts(design, reml), reml, max_evaluations)
    except np.linalg.LinAlgError as error:
        raise FitError(
            f"The search for {estimable(design.residual).expression} came to a covariance that is singular in double "
            "precision: residuals of a group are one another's copies, as of a response that does not vary within "
            "groups. Take one row of each group, or leave the structure out."
        ) from error
    if optimum is None:
        raise FitError(
            f"No start of {estimable(design.residual).expression} has a positive definite covariance with a finite "
            "criterion. Look at the response and the residual structure; leave parts of it out."
        )
    return optimum


type _Start = tuple[RowsAtPoints, FloatArray]


def _lowest(starts: Iterator[_Start], reml: bool, max_evaluations: int) -> ResidualOptimum | None:
    """The lowest minimum that the starts lead to; None without any start."""
    found = [_searched(start, reml, max_evaluations) for start in starts]
    if not found:
        return None
    criterion, result = min(found, key=lambda one: one[1].value)
    for _ in range(_ROUNDS):
        optimum = _at_lam(criterion, result, max_evaluations)
        if not optimum.criterion < result.value - _LOWER or not criterion.n_theta:
            break
        # The random effects have a lower minimum there, which may move the residual parameters.
        x = np.concatenate([par.internal_from_terms(criterion.rows.base, optimum.terms), optimum.lam])
        criterion, result = _searched((criterion.rows, x), reml, max_evaluations)
    return optimum


def _started_near(design: Design, near: Optimum) -> Iterator[_Start]:
    """The estimates of much the same rows, if the covariance is positive definite there."""
    try:
        rows = RowsAtPoints.of(design, near.lam)
    except np.linalg.LinAlgError:
        return
    internal = par.internal_from_terms(rows.base, near.terms) if design.terms else np.empty(0)
    yield rows, np.concatenate([internal, near.lam])


def _starts(design: Design, reml: bool) -> Iterator[_Start]:
    """Points from which the criterion is searched: moments of residuals with and without the effects of groups."""
    residual = estimable(design.residual)
    yield from _started(design, residual, _least_squares(design), None)
    if design.terms:
        plain = replace(design, residual=make_residual(design.n, residual.weights), store="levels")
        cp = cross_products(plain)
        optimum = optimise(cp, reml)
        means = conditional_means(cp, optimum.factors, optimum.factor)
        fitted = design.X @ means.beta[0]
        for block, b in zip(cp.blocks, means.b, strict=True):
            fitted = fitted + (block.columns(design) * b[0][block.grouping.codes]).sum(1)
        yield from _started(design, residual, design.y_less_offset - fitted, optimum)


def _least_squares(design: Design) -> FloatArray:
    y = design.y_less_offset
    root = 1.0 if design.row_weights is None else np.sqrt(design.row_weights)
    beta = np.linalg.lstsq((design.X.T * root).T, y * root)[0]
    return np.asarray(y - design.X @ beta)


def _started(design: Design, residual: Estimable, left: FloatArray, optimum: Optimum | None) -> Iterator[_Start]:
    """Starts from residuals (n,), where the covariance is positive definite."""
    try:
        lam = residual.start(left)
    except np.linalg.LinAlgError:
        return
    for one in (lam, *residual.elsewhere(lam)):
        yield from _started_at(design, one, optimum)


def _started_at(design: Design, lam: FloatArray, optimum: Optimum | None) -> Iterator[_Start]:
    try:
        rows = RowsAtPoints.of(design, lam)
    except np.linalg.LinAlgError:
        return
    if optimum is not None:
        internal = par.internal_from_terms(rows.base, optimum.terms)
    elif design.terms:
        # Effects that are all written out have no level sums to take moments of.
        first = rows.base.blocks[0].terms
        halves = [0.5 * np.eye(block.size) for block in rows.base.blocks]
        internal = par.starts(rows.base)[0] if first else par.from_blocks(rows.base, halves)
    else:
        internal = np.empty(0)
    yield rows, np.concatenate([internal, lam])


def _searched(start: _Start, reml: bool, max_evaluations: int) -> tuple[JointCriterion, NewtonResult]:
    rows, x = start
    criterion = JointCriterion(rows, reml)
    result = minimise(criterion, x, max_evaluations)
    failed = result.ending in (Ending.no_descent, Ending.evaluation_limit) and not criterion.stopped_by_size(result.x)
    if failed and result.evaluations < max_evaluations + 1:
        # Far from what is expected under the model, expected curvatures lead nowhere.
        criterion = replace(criterion, exact=True)
        again = minimise(criterion, result.x, max_evaluations)
        steps, used = result.steps + again.steps, result.evaluations + again.evaluations
        result = replace(again, steps=steps, evaluations=used)
    return criterion, _closer(criterion, result)


def _closer(criterion: JointCriterion, result: NewtonResult) -> NewtonResult:
    """Some more steps where expected curvatures have stopped the iteration before the last digits."""
    if criterion.n_theta or criterion.exact or result.ending is not Ending.converged:
        return result
    for _ in range(_CLOSER):
        point = criterion(result.x).expand()
        step = np.linalg.lstsq(point.hessian, -point.gradient)[0]
        trial = criterion(result.x + step)
        if abs(float(step @ point.gradient)) < _NOTHING or trial.value > result.value + trial.noise:
            break
        result = replace(result, x=result.x + step, value=trial.value, hessian=point.hessian)
    return result


def _at_lam(criterion: JointCriterion, result: NewtonResult, max_evaluations: int) -> ResidualOptimum:
    """The optimum with all that is checked and said of one, at the residual parameters found."""
    design, reml = criterion.rows.design, criterion.reml
    lam = result.x[criterion.n_theta :]
    whitened = whitened_products(design, lam)
    if criterion.n_theta:
        internal = par.internal_from_terms(whitened, criterion.terms(result.x))
        found = optimise(whitened, reml, internal, max_evaluations)
    else:
        found = without_effects(whitened, reml)
    ridges = (*found.ridges, *_ridges(criterion, result))
    status = _status(found.status, result.ending, bool(ridges))
    # With as many groups as visits some mean nearly always leaves a combination no variance, also without a constant.
    without_end = criterion.stopped_by_size(result.x) or too_few_groups(design.residual, True) is not None
    if result.ending is not Ending.converged and without_end:
        status = FitStatus.unbounded
    used = result.evaluations + found.evaluations
    return known_residuals(
        replace(found, lam=lam, ridges=ridges, status=status, evaluations=used, trace=result.steps), design
    )


def optimum_of(design: Design, reml: bool) -> Optimum:
    """The minimum of any model: with or without random effects, with or without residual parameters."""
    if design.residual.names:
        return optimise_residual(design, reml)
    if design.terms:
        return optimise(cross_products(design), reml)
    return known_residuals(without_effects(whitened_products(design, NO_PARAMETERS), reml), design)


def without_effects(cp: SummedDesign, reml: bool) -> Optimum:
    """What there is to say of a model without random effects: one evaluation."""
    factors = (np.empty((1, 0, 0)),)
    factor = evaluate(cp, factors)
    variance = float(residual_variance(cp, factor.r2, reml)[0])
    with np.errstate(divide="ignore"):
        criterion = float(profiled(cp, factor, reml)[0])
    nothing = np.empty(0)
    status = fit_status(cp, variance, Ending.converged, (), (), 0.0)
    return Optimum(
        cp, reml, nothing, factors, (), nothing, float(np.sqrt(variance)), criterion, factor, (), status, 1, ()
    )


def _status(found: FitStatus, ending: Ending, ridges: bool) -> FitStatus:
    if ending is not Ending.converged:
        return FitStatus[ending.name]
    if ridges and found.ok:
        return FitStatus.not_identified
    return found


def _ridges(criterion: JointCriterion, result: NewtonResult) -> tuple[Ridge, ...]:
    """Combinations of parameters, some of the residuals among them, along which the criterion does not curve."""
    if result.ending is not Ending.converged:
        return ()
    t = criterion.n_theta
    curvature, vectors = _curvatures(result.hessian)
    if curvature.min(initial=1.0) > _SUSPECT:
        return ()
    # Differences, and curvatures that are expected under the model, leave some where there is none.
    hessian = criterion.hessian(result.x, sharp=True)
    curvature, vectors = _curvatures(hessian)
    labels = [*_theta_labels(criterion), *map(residual_part, estimable(criterion.rows.design.residual).labels)]
    found = []
    for value, v in zip(curvature, vectors.T, strict=True):
        own = np.abs(v) > _SHARE * np.abs(v).max()
        if value < _RIDGE and own[t:].any() and own.sum() > 1:
            moved = _moved(criterion, result.x, hessian, v)
            parts = [label for label, part in zip([*labels, RESIDUAL], moved, strict=True) if part > _SHARE_OF_USER]
            found.append(Ridge(tuple(dict.fromkeys(parts))))
    return tuple(found)


def _moved(criterion: JointCriterion, x: FloatArray, hessian: FloatArray, v: FloatArray) -> FloatArray:
    """Shares of the largest by which theta, the residual parameters in the user's units and sigma change along v.

    Each is measured in standard errors given the others.
    """
    t, scale = criterion.n_theta, _scale(hessian)
    step = v / scale
    _, J = estimable(criterion.rows.design.residual).natural(x[t:])
    back = np.linalg.pinv(J)
    changes = np.abs(J @ step[t:]) * _scale(back.T @ hessian[t:, t:] @ back)
    cp, sigma = criterion.rows.base, 0.0
    if cp.sigma is None:
        h = _SIGMA_STEP / np.abs(step).max()
        more, less = (float(criterion.at(x + sign * h * step)[2].r2[0]) for sign in (1.0, -1.0))
        sigma = abs(np.log(more / less)) / (2.0 * h) * np.sqrt(0.5 * degrees_of_freedom(cp, criterion.reml))
    moved = np.concatenate([np.abs(v[:t]), changes, [sigma]])
    return np.asarray(moved / moved.max())


def _scale(hessian: FloatArray) -> FloatArray:
    """Roots of the diagonal."""
    return np.asarray(np.sqrt(np.maximum(np.diagonal(hessian), 1e-300)))


def _curvatures(hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Curvatures (k,), rows of the Hessian brought to one scale, and their directions (k, k)."""
    scale = _scale(hessian)
    curvature, vectors = np.linalg.eigh(hessian / (scale * scale[:, None]))
    return curvature, vectors


def _theta_labels(criterion: JointCriterion) -> list[str]:
    """What each entry of the internal vector says, in words of the model."""
    frame, terms = criterion.rows.base.frame, criterion.rows.design.terms
    return [
        f"variance in {terms[place.position].label}"
        for place in frame.terms
        for _ in range(place.entries.start, place.entries.stop)
    ]


def known_residuals(found: Optimum, design: Design) -> ResidualOptimum:
    """An optimum at residual parameters that are its `lam`, with the rows before whitening."""
    return ResidualOptimum(**{f.name: getattr(found, f.name) for f in fields(Optimum)}, original=design)
