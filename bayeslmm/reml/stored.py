"""Whether an optimum that was read from a file follows from its factors and its design.

Of a fit only the factors are an answer of the optimiser; what else it says (standard deviations, theta, the criterion,
which variances are zero, the status) follows from these and the data. It is computed again and compared, so that a
number that was changed is refused and not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design
from bayeslmm.likelihood import SummedDesign, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import residual_variance
from bayeslmm.numerics.newton import Ending
from bayeslmm.reml.confirm import TOLD, factor_at
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.fixed import Held, free_entries
from bayeslmm.reml.optimum import Optimum, Vanished, fit_status, vanished_directions
from bayeslmm.reml.residual_criterion import FARTHEST, STOPPED
from bayeslmm.reml.scale import exponent, scale_shift, scaled_down, scaled_factor
from bayeslmm.reml.status import FitStatus
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import AnyArray, FloatArray

# Relative difference of numbers that are the same, computed on another machine.
_AGREES = 1e-8
# Share of what the fixed effects leave below which a residual standard deviation is rounding.
_NOTHING = 1e-10
# Relative difference of slopes at a zero: second differences of what the criterion is made of.
_SLOPES = 1e-4
# Standard errors of an estimated log determinant by which two of one point may differ.
_STANDARD_ERRORS = 8.0
_ENDINGS = {status: Ending[status.name] for status in FitStatus if status.name in Ending.__members__}


def check_parts(design: Design, stored: Mapping[str, Any]) -> None:
    """Refuse fields of an optimum of other shapes than the design has, before anything is made of them.

    Parameters
    ----------
    design : Design
    stored : mapping of str to value
        Fields of an `Optimum` of the types that these are annotated with, as far as they are kept.

    Raises
    ------
    ValueError
        What was found.
    """
    sizes = [(len(term.effects),) * 2 for term in design.terms]
    if [term.shape for term in stored["terms"]] != sizes:
        raise ValueError(f"the factors of the terms have shapes {[t.shape for t in stored['terms']]}, not {sizes}")
    count = sum(size for size, _ in sizes)
    shapes = [factor.shape for factor in stored["factors"]]
    if any(len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2] for shape in shapes) or (
        sum(shape[1] for shape in shapes) != count
    ):
        raise ValueError(f"the factors have shapes {shapes} for {count} effects")
    for name in ("internal", "theta"):
        if stored[name].shape != (design.n_theta,):
            raise ValueError(f"{name} has shape {stored[name].shape}, not {(design.n_theta,)}")
    names, lam = design.residual.names, stored.get("lam", NO_PARAMETERS)
    if lam.shape != (len(names),):
        raise ValueError(f"lam has shape {lam.shape} for {len(names)} parameters of the residuals")
    _check_positions(design, stored["fixed"], stored["vanished"])
    _check_numbers(stored)


def _check_positions(design: Design, fixed: Sequence[int], vanished: Sequence[Vanished]) -> None:
    places = range(len(design.terms))
    if list(fixed) != sorted(set(fixed)) or not set(fixed) <= set(places):
        raise ValueError(f"the terms at {list(fixed)} are said to be fixed, of {len(places)}")
    for one in vanished:
        if one.term not in places or one.direction.shape != (len(design.terms[one.term].effects),):
            raise ValueError(f"a direction of shape {one.direction.shape} is said to vanish in term {one.term}")


def _check_numbers(stored: Mapping[str, Any]) -> None:
    status, criterion = stored["status"], stored["criterion"]
    if status is not FitStatus.non_finite and not np.isfinite(criterion):
        raise ValueError(f"its criterion is {criterion!r} with the status {status.name}")
    if np.isfinite(criterion) and not all(np.isfinite(array).all() for array in _arrays(stored)):
        raise ValueError(f"some factor is not a number, with a criterion of {criterion!r}")
    if not stored["sigma"] >= 0:
        raise ValueError(f"sigma is {stored['sigma']!r}")
    if not stored["doubt"] >= 0 or stored["evaluations"] < 0:
        raise ValueError(f"it has a doubt of {stored['doubt']!r} after {stored['evaluations']} evaluations")
    penalty = stored["penalty"]
    if penalty is not None and not (1.0 <= penalty.sd_shape < np.inf and 1.0 <= penalty.matrix_shape < np.inf):
        raise ValueError(f"the shapes of its penalty are {penalty.sd_shape!r} and {penalty.matrix_shape!r}")


def _arrays(stored: Mapping[str, Any]) -> list[AnyArray]:
    return [*stored["factors"], *stored["terms"], stored["internal"], stored["theta"], stored.get("lam", NO_PARAMETERS)]


def restore(cp: SummedDesign, stored: Mapping[str, Any]) -> Optimum:
    """The optimum whose fields were kept; what is not kept is made again, what follows from the rest is compared.

    Parameters
    ----------
    cp : SummedDesign
    stored : mapping of str to value
        `check_parts` has passed.

    Raises
    ------
    ValueError
        A number does not follow: its name, its value in the file and the one computed.
    numpy.linalg.LinAlgError
        There is no evaluation at the factors.
    """
    reml, power = stored["reml"], exponent(cp)
    if not power:
        optimum = Optimum(cp=cp, factor=factor_at(cp, stored["factors"], reml, stored["criterion"]), **stored)
        _check_derived(optimum)
        return optimum
    # Estimates of a response of such a size were made near one.
    near, shift = scaled_down(cp.design, power), scale_shift(cp, reml, power)
    sigma, criterion = float(np.ldexp(stored["sigma"], -power)), stored["criterion"] - shift
    factor = factor_at(near, stored["factors"], reml, criterion)
    _check_derived(Optimum(cp=near, factor=factor, **{**stored, "sigma": sigma, "criterion": criterion}))
    return Optimum(cp=cp, factor=scaled_factor(cp, factor, stored["factors"], power), **stored)


def _check_derived(optimum: Optimum) -> None:
    if not all(np.isfinite(T).all() for T in optimum.factors):
        return
    check_factors(optimum)
    _check_sigma(optimum)
    _check_criterion(optimum)
    _check_status(optimum)


def check_factors(optimum: Optimum) -> None:
    """Refuse factors, covariances and theta that are not those of the internal parameters.

    Raises
    ------
    ValueError
    """
    cp = optimum.cp
    for T, own in zip(par.internal_factors(cp, optimum.internal), optimum.factors, strict=True):
        _compare("the internal parameters", T[0] @ T[0].T, own[0] @ own[0].T)
    computed = par.term_factors(cp, optimum.factors)
    for term, T, own in zip(cp.design.terms, computed, optimum.terms, strict=True):
        if np.triu(own, 1).any() or (np.diagonal(own) < 0).any():
            raise ValueError(f"the factor of {term.label} is not triangular with a nonnegative diagonal")
        # Of a singular factor rounding decides the shape; its covariance is what counts.
        _compare(f"the covariance of {term.label}", own @ own.T, T[0] @ T[0].T)
    ends = np.cumsum([0, *(len(term.structure.rows) for term in cp.design.terms)])
    for term, own, a, b in zip(cp.design.terms, optimum.terms, ends[:-1], ends[1:], strict=True):
        _compare(f"theta of {term.label}", optimum.theta[a:b], _theta(term.structure, own))


def _theta(structure: CovarianceStructure, T: FloatArray) -> FloatArray:
    return np.asarray(structure.theta(T[None])[0])


def _compare(name: str, found: FloatArray, computed: FloatArray) -> None:
    allowed = _AGREES * float(np.abs(computed).max(initial=0.0))
    if not (np.abs(found - computed) <= allowed).all():
        raise ValueError(f"{name} in the file: {found.tolist()}; the factors in the file give {computed.tolist()}")


def _check_sigma(optimum: Optimum) -> None:
    cp = optimum.cp
    computed = float(np.sqrt(residual_variance(cp, optimum.factor.r2, optimum.reml)[0]))
    allowed = _AGREES * computed + _NOTHING * cp.response.spread
    if not abs(optimum.sigma - computed) <= allowed:
        raise ValueError(
            f"sigma in the file is {optimum.sigma!r}, but the factors and the data in the file give {computed!r}"
        )


def _check_criterion(optimum: Optimum) -> None:
    found = optimum.criterion
    if not np.isfinite(found):
        return
    value = float(profiled(optimum.cp, optimum.factor, optimum.reml)[0])
    # Standard deviations far apart leave the criterion fewer digits than its size suggests.
    rounding = 10.0 * _problem(optimum).rounding(optimum.internal)
    allowed = _AGREES * (1.0 + abs(value)) + 10.0 * optimum.doubt + (rounding if rounding > TOLD else 0.0)
    if optimum.factor.crossed is not None:
        # Of a log determinant that was made exact at some points, the estimate is computed here.
        allowed += _STANDARD_ERRORS * optimum.factor.crossed.log_det.error
    if not abs(value - found) <= allowed and optimum.status is not FitStatus.non_finite:
        raise ValueError(
            f"the criterion in the file is {found!r}, but the parameters and the data in the file give {value!r}"
        )


def _problem(optimum: Optimum) -> Criterion:
    held = Held(optimum.fixed, optimum.internal, free_entries(optimum.cp, optimum.fixed))
    return Criterion(optimum.cp, optimum.reml, held, optimum.penalty)


def _check_status(optimum: Optimum) -> None:
    """Whether the zeros, the ridges and the doubt in the file are those of the status.

    That an iteration went on for too long, or found no way down, is nothing that the factors show.
    """
    if np.isfinite(optimum.criterion):
        computed = vanished_directions(_problem(optimum), optimum.internal, optimum.factors, optimum.factor)
        if optimum.estimated is not None and len(computed) == len(optimum.vanished):
            # A slope that was made exact at some points is an estimate here.
            computed = tuple(replace(a, slope=b.slope) for a, b in zip(computed, optimum.vanished, strict=True))
        if not same_directions(optimum.vanished, computed):
            raise ValueError(f"without variance are {optimum.vanished} in the file, and {computed} by the factors")
    elif optimum.vanished:
        raise ValueError("directions are said to vanish without a criterion")
    status = optimum.status
    ending = _ENDINGS.get(status, Ending.converged)
    variance = optimum.sigma**2
    expected = fit_status(optimum.cp, variance, ending, optimum.vanished, optimum.ridges, optimum.doubt)
    finite = np.isfinite(optimum.criterion)
    if status is FitStatus.non_finite and finite:
        # Said of a fit that came to an end, and of one that did not.
        ends = [fit_status(optimum.cp, variance, e, (), (), 0.0) for e in (Ending.converged, Ending.no_descent)]
        expected = status if status in ends else FitStatus.converged
    if status is FitStatus.unbounded and np.abs(optimum.lam).max(initial=0.0) > STOPPED * FARTHEST:
        expected = status
    if expected is not status:
        raise ValueError(f"its status is {status.name}, but its numbers are those of {expected.name}")


def same_directions(found: Sequence[Vanished], computed: Sequence[Vanished]) -> bool:
    """Whether directions without variance are the same but for rounding."""
    if [one.term for one in found] != [one.term for one in computed]:
        return False
    largest = max([abs(one.slope) for one in computed], default=0.0)
    return all(
        np.allclose(a.direction, b.direction, rtol=1e-5, atol=1e-6)
        and abs(a.slope - b.slope) <= _SLOPES * (1.0 + largest)
        for a, b in zip(found, computed, strict=True)
    )
