"""How much the criterion rises when some combination of a term's effects, whichever, has no variance.

A covariance without variance in some direction has a factor whose last diagonal entry is zero, and the reverse. So
the lowest criterion over all of them is a minimum with one entry of the internal vector held at zero. It is a bound for
what is read off otherwise: an sd of zero and a correlation of +-1 are such covariances.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.inference.residual_profile import ResidualProfile
from bayeslmm.likelihood import CrossProducts, SummedDesign, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.held import minimise_held
from bayeslmm.numerics.newton import Ending, minimise
from bayeslmm.reml import Optimum
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.fixed import Held, free_entries
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.types import FloatArray

# Of the directions that could vanish, as many as are followed.
_FOLLOWED = 3


def rise_at_lower_rank(cp: SummedDesign, optimum: Optimum, term: int) -> float:
    """Rise of the criterion to its minimum over covariances of a term that are singular, all others re-estimated.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
    term : int
        Position in ``design.terms``.

    Returns
    -------
    float
        nan for terms of one effect or with another structure than the unstructured one, and where no search ended.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> round(rise_at_lower_rank(fit.cp, fit.optimum, 0), 3)
    9.667
    """
    structure = cp.frame.structures[term]
    if not structure.basis_free or structure.size < 2:
        return float("nan")
    part, factor = _own(cp, optimum, term)
    starts = np.repeat(optimum.internal[None], structure.size, axis=0)
    starts[:, part] = [start[structure.rows, structure.cols] for start in _without_one(factor)]
    held = _held(optimum, part, term)
    criterion = Criterion(cp, optimum.reml, held)
    best = _lowest(cp, starts, optimum.reml, _FOLLOWED if cp.sums.batched else 1)
    found = [minimise(criterion, start[held.free]) for start in best]
    values = [one.value for one in found if one.ending is Ending.converged]
    return max(0.0, float(min(values)) - optimum.criterion) if values else float("nan")


def residual_rise_at_lower_rank(optimum: ResidualOptimum, term: int) -> float:
    """Rise of the criterion to its minimum over singular covariances of a term, all others and lam estimated again.

    nan for terms of one effect or with another structure than the unstructured one, and where no search ended.
    """
    place = next(place for place in optimum.joint.rows.base.frame.terms if place.position == term)
    structure, part = place.structure, place.entries
    if not structure.basis_free or structure.size < 2:
        return float("nan")
    profile = ResidualProfile(optimum, ProfileTarget("sigma"))
    last, found = part.stop - 1, []
    axis = np.eye(profile.point.size)[last]
    for factor in _without_one(structure.factor(profile.point[part][None])[0]):
        start = profile.start.copy()
        start[part] = factor[structure.rows, structure.cols]
        one = minimise_held(profile.function, start, profile.curvature, lambda z: (float(z[last]), axis))
        if one is not None and one.converged:
            found.append(one.value)
    return max(0.0, min(found) - optimum.criterion) if found else float("nan")


def _without_one(factor: FloatArray) -> list[FloatArray]:
    """Factors (c, c) with a zero last column, the covariance each without one principal component of the factor's."""
    left, size, _ = np.linalg.svd(factor)
    found = []
    for k in reversed(range(size.size)):
        kept = np.delete(left * size, k, axis=1)
        lower = np.linalg.qr(kept.T, mode="r").T
        found.append(np.column_stack([lower, np.zeros(size.size)]))
    return found


def _own(cp: CrossProducts, optimum: Optimum, term: int) -> tuple[slice, FloatArray]:
    """Where a term's entries are in the internal vector, and its internal factor."""
    place = next(place for place in cp.frame.terms if place.position == term)
    return place.entries, optimum.factors[place.block][0][place.columns, place.columns]


def _held(optimum: Optimum, part: slice, term: int) -> Held:
    """The last diagonal entry of the term at zero."""
    free, values = free_entries(optimum.cp, optimum.fixed), optimum.internal.copy()
    free[part.stop - 1], values[part.stop - 1] = False, 0.0
    return Held((*optimum.fixed, term), values, free)


def _lowest(cp: CrossProducts, starts: FloatArray, reml: bool, count: int) -> FloatArray:
    """The starts at which the criterion is lowest."""
    values = [_value(cp, start, reml) for start in starts]
    return np.asarray(starts[np.argsort(values)[:count]])


def _value(cp: CrossProducts, start: FloatArray, reml: bool) -> float:
    factor = evaluate(cp, par.internal_factors(cp, start))
    return float(profiled(cp, replace(factor, r2=np.maximum(factor.r2, 1e-300)), reml)[0])
