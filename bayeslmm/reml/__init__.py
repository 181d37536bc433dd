"""The frequentist engine: minimise the criterion over the variance parameters."""

from __future__ import annotations

from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.optimum import Optimum, Vanished, optimise
from bayeslmm.reml.penalised import optimise_penalised
from bayeslmm.reml.penalty import Penalty, resolve_penalty
from bayeslmm.reml.status import FitStatus

__all__ = [
    "Criterion",
    "FitStatus",
    "Optimum",
    "Penalty",
    "Vanished",
    "optimise",
    "optimise_penalised",
    "resolve_penalty",
]
