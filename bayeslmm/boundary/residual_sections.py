"""What a boundary report of a fit whose residuals have parameters is made from: these are estimated anew everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bayeslmm.boundary.report import Section
from bayeslmm.boundary.sections import Material
from bayeslmm.inference.lower_rank import residual_rise_at_lower_rank
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.labels import Parameter


@dataclass(frozen=True)
class ResidualMaterial(Material):
    """Sections that hold where residuals have parameters; exact pivots and penalties are about independent ones."""

    @cached_property
    def penalised(self) -> pd.Series | None:
        """None: many residual parameters and a penalty are not fitted together."""
        return None

    @cached_property
    def ranks(self) -> dict[int, float]:
        """How much higher the criterion is where a term of correlated effects has no variance in some direction."""
        optimum = self.fit.optimum
        if not isinstance(optimum, ResidualOptimum):
            return {}
        own = sorted({p.position for p in self.correlations})
        rises = {i: residual_rise_at_lower_rank(optimum, i) for i in own}
        return {i: rise for i, rise in rises.items() if np.isfinite(rise)}

    @cached_property
    def sigma_at_zero(self) -> bool:
        """Whether nothing is left for the residual."""
        return not self.fit.sigma > 0

    def _slope(self, p: Parameter) -> float:
        return float("nan")

    @cached_property
    def _zero_section(self) -> Section | None:
        return None
