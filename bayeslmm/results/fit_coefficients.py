"""Tests and intervals of the fixed effects of a REML or ML fit, and the share of variance they explain."""

from __future__ import annotations

from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum


class FitCoefficients:
    """Tests and intervals of the fixed effects of a REML or ML fit, and the share of variance they explain."""

    design: Design
    cp: CrossProducts
    optimum: Optimum
