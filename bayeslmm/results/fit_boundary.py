"""What the boundary means for a REML or ML fit."""

from __future__ import annotations

from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum


class FitBoundary:
    """What the boundary means for a REML or ML fit."""

    design: Design
    cp: CrossProducts
    optimum: Optimum
