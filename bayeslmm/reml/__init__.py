"""The frequentist engine: minimise the criterion over the variance parameters."""

from __future__ import annotations

from bayeslmm.reml.optimum import Criterion, Optimum, Vanished, optimise
from bayeslmm.reml.status import FitStatus

__all__ = ["Criterion", "FitStatus", "Optimum", "Vanished", "optimise"]
