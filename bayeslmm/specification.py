"""A formula compiled for data, with its sufficient statistics and optima: what both engines start from."""

from __future__ import annotations

from functools import cached_property

from bayeslmm.design import Design, DroppedRows
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.reml import Optimum, optimise


class Specification:
    """The state of a `Model`; functions of the posterior take it."""

    _design: Design
    _optima: dict[bool, Optimum]

    @property
    def design(self) -> Design:
        """The frozen design: every array and name."""
        return self._design

    @property
    def formula(self) -> str:
        return self._design.formula

    @property
    def dropped(self) -> DroppedRows:
        """Rows left out, and why."""
        return self._design.dropped

    @property
    def n(self) -> int:
        """Number of observations used (with frequencies, their sum)."""
        return self._design.n_observations

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return self._design.p

    @property
    def q(self) -> int:
        """Number of random effects."""
        return self._design.q

    @cached_property
    def cross_products(self) -> SummedDesign:
        """The sufficient statistics that both engines start from."""
        return cross_products(self._design)

    def _optimum(self, reml: bool) -> Optimum:
        if reml not in self._optima:
            self._optima[reml] = optimise(self.cross_products, reml)
        return self._optima[reml]
