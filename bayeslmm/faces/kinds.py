"""The result that fits an optimum: plain, penalised, under priors, with residual parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bayeslmm.design.design import Design
from bayeslmm.faces.fit import ModeResult, PenalisedResult, REMLResult
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum, optimise


def fit_result(design: Design, cp: SummedDesign, optimum: Optimum, origin: Any = None) -> REMLResult:
    """The result of an optimisation: plain, penalised, under priors, or with residual parameters."""
    return _kind(optimum)(design, cp, optimum, origin)


def _kind(optimum: Optimum) -> type[REMLResult]:
    if type(optimum) is Optimum:
        return REMLResult if optimum.penalty is None else PenalisedResult
    from bayeslmm.mode import PosteriorMode

    if isinstance(optimum, PosteriorMode):
        return ModeResult
    from bayeslmm.faces.structured import StructuredResult

    return StructuredResult


def fit_by(design: Design, sums: Callable[[], SummedDesign], reml: bool) -> REMLResult:
    """The fit of a design by one of the criteria.

    Parameters
    ----------
    design : Design
    sums : callable
        Gives its cross-products, where there are random effects and residuals have no parameters.
    reml : bool
    """
    if design.residual.names or not design.terms:
        from bayeslmm.reml.residual_optimum import optimum_of

        found = optimum_of(design, reml)
        return fit_result(design, found.cp, found)
    cp = sums()
    return fit_result(design, cp, optimise(cp, reml))
