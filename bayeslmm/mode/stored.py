"""Whether a mode that was read from a file follows from its factors, its priors and its design."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorWarning
from bayeslmm.likelihood import SummedDesign
from bayeslmm.mode.degrees import at_mode, mode_coordinates
from bayeslmm.mode.find import factor_at_mode, heights, vanished_at
from bayeslmm.mode.objective import Objective
from bayeslmm.mode.optimum import PosteriorMode
from bayeslmm.reml import FitStatus
from bayeslmm.reml.stored import check_factors, same_directions
from bayeslmm.types import FloatArray

# Relative difference of numbers that are the same, computed on another machine.
_AGREES = 1e-8
_UNFINISHED = (FitStatus.no_descent, FitStatus.evaluation_limit, FitStatus.non_finite)


def check_priors(design: Design, stored: Mapping[str, Any]) -> None:
    """Refuse priors of another model, before anything is made of them.

    Raises
    ------
    PriorError
        They do not fit the design.
    ValueError
        The fixed effects have other ones.
    """
    with warnings.catch_warnings():
        # What a warning says was said when the mode was looked for.
        warnings.simplefilter("ignore", PriorWarning)
        priors = resolve_priors(design, stored["priors"])
    if priors.beta is not None and priors.beta.mean.shape != (design.p,):
        raise ValueError(f"the priors are of {priors.beta.mean.size} fixed effects, and there are {design.p}")
    for term, change in zip(design.terms, priors.changes, strict=True):
        if change is not None and change.matrix.shape != (len(term.effects),) * 2:
            raise ValueError(f"the priors of {term.label} are about {len(change.rows)} effects")


def restore_mode(cp: SummedDesign, stored: Mapping[str, Any]) -> PosteriorMode:
    """The mode whose fields were kept; what is not kept is made again, what follows from the rest is compared.

    Parameters
    ----------
    cp : SummedDesign
    stored : mapping of str to value
        `check_priors` and `bayeslmm.reml.stored.check_parts` have passed.

    Raises
    ------
    ValueError
        A number does not follow: its name, its value in the file and the one computed.
    numpy.linalg.LinAlgError
        There is no evaluation at the factors.
    """
    if not stored["sigma"] > 0:
        raise ValueError(f"sigma is {stored['sigma']!r}")
    factor = factor_at_mode(cp, stored["priors"], stored["factors"], stored["sigma"])
    mode = PosteriorMode(cp=cp, factor=factor, **stored)
    check_factors(mode)
    objective = at_mode(mode)
    z = mode_coordinates(mode, objective)
    _check_heights(mode, objective.log_prior(z))
    _check_status(mode, objective, z)
    return mode


def _check_heights(mode: PosteriorMode, log_prior: float) -> None:
    found = (mode.criterion, mode.log_prior)
    computed = heights(mode.cp, mode.priors, mode.reml, mode.terms, mode.sigma, log_prior)
    for name, one, other in zip(("the criterion", "the log prior"), found, computed, strict=True):
        if not abs(one - other) <= _AGREES * (1.0 + abs(other)):
            raise ValueError(f"{name} in the file is {one!r}; the parameters and the data in the file give {other!r}")


def _check_status(mode: PosteriorMode, objective: Objective, z: FloatArray) -> None:
    computed = vanished_at(mode.cp, mode.priors, mode.reml, mode.terms, mode.sigma, mode.fixed)
    if not same_directions(mode.vanished, computed):
        raise ValueError(f"without variance are {mode.vanished} in the file, and {computed} by the factors")
    regular = FitStatus.converged_at_boundary if mode.vanished else FitStatus.converged
    expected = FitStatus.not_identified if mode.ridges else regular
    if mode.status is not expected and mode.status not in _UNFINISHED:
        raise ValueError(f"its status is {mode.status.name}, but its numbers are those of {expected.name}")
    if mode.status.ok and not _is_mode(mode, objective, z):
        raise ValueError("its parameters are not the highest point of the posterior of the data in the file")


def _is_mode(mode: PosteriorMode, objective: Objective, z: FloatArray) -> bool:
    """Whether the slope at the parameters is none, but in the direction of bounds."""
    low, high = objective.coordinates.bounds()
    slope: FloatArray = objective(z)[1]
    near = 1e-9
    held = ((z <= low + near) & (slope >= 0)) | ((z >= high - near) & (slope <= 0))
    return bool((np.abs(np.where(held, 0.0, slope)) < 1e-4 * (1.0 + abs(mode.objective))).all())
