"""The highest point of the posterior: penalised REML under any prior of the package."""

from __future__ import annotations

from bayeslmm.mode.find import find_mode
from bayeslmm.mode.optimum import PosteriorMode

__all__ = ["PosteriorMode", "find_mode"]
