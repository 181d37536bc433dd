"""The result that fits an optimum: plain, penalised, under priors, with residual parameters."""

from __future__ import annotations

from typing import Any

from bayeslmm.design.design import Design
from bayeslmm.faces.fit import ModeResult, PenalisedResult, REMLResult
from bayeslmm.faces.structured import StructuredResult
from bayeslmm.likelihood import SummedDesign
from bayeslmm.mode import PosteriorMode
from bayeslmm.reml import Optimum
from bayeslmm.reml.residual_optimum import ResidualOptimum


def fit_result(design: Design, cp: SummedDesign, optimum: Optimum, origin: Any = None) -> REMLResult:
    """The result of an optimisation: plain, penalised, under priors, or with residual parameters."""
    if isinstance(optimum, PosteriorMode):
        return ModeResult(design, cp, optimum, origin)
    if isinstance(optimum, ResidualOptimum):
        return StructuredResult(design, cp, optimum, origin)
    kind = REMLResult if optimum.penalty is None else PenalisedResult
    return kind(design, cp, optimum, origin)
