"""A study that is planned: a formula and the rows it would have, without a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm import simulating
from bayeslmm.arguments import kind_of
from bayeslmm.design import CovarianceStructure, build_design
from bayeslmm.design.extended_residuals import all_factors
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.padding import NaAction
from bayeslmm.design.screen import fill
from bayeslmm.design.tables import kept_table, open_table, to_pandas
from bayeslmm.errors import FormulaError
from bayeslmm.residual import estimable
from bayeslmm.results.labels import parameters
from bayeslmm.specification import Specification


class Plan(Specification):
    """A planned study: formula and rows, no response.

    Parameters
    ----------
    formula : str
        As for `Model`; the response is a name only, and may be left out (``"~ x + (1 | g)"``).
    data : pandas, polars or pyarrow table
        The rows that the study would have: predictors and grouping factors.
    weights, contrasts, extra_namespace, cov, na_action, residual
        As for `Model`.

    Raises
    ------
    FormulaError
        The formula cannot be read.
    DesignError
        The data do not fit it.

    Examples
    --------
    >>> import bayeslmm as bl, pandas as pd
    >>> rows = pd.DataFrame({"x": [0, 1] * 10, "g": [f"g{i}" for i in range(10) for _ in range(2)]})
    >>> plan = bl.Plan("y ~ x + (1 | g)", rows)
    >>> plan
    Plan: y ~ x + (1 | g)
      20 rows, 10 levels of g
      parameters: sd_g[Intercept], sigma, Intercept, x
    >>> study = plan.simulate(beta={"Intercept": 0, "x": 1}, sd={"g": 1}, sigma=1, n_groups=30, random_seed=1)
    >>> study.shape, list(study.columns)
    ((60, 3), ['x', 'g', 'y'])
    """

    planned = True

    def __init__(
        self,
        formula: str,
        data: Any,
        *,
        weights: Any = None,
        contrasts: Mapping[str, Any] | None = None,
        extra_namespace: Mapping[str, Any] | None = None,
        cov: Mapping[str, CovarianceStructure] | None = None,
        na_action: NaAction = "drop",
        residual: str | None = None,
    ) -> None:
        if not isinstance(formula, str):
            raise FormulaError(f"The formula is {kind_of(formula)}, not a string such as 'y ~ x + (x | g)'.")
        formula = f"y {formula.lstrip()}" if formula.lstrip().startswith("~") else formula
        response = parse_formula(formula).response.strip("`")
        table, available = open_table(data)
        frame = kept_table(to_pandas(table, [name for name in available if name != response]))
        # What stands for the response is never looked at; it only must not lead to notes or refusals.
        frame[response] = np.random.default_rng(1).standard_normal(len(frame))
        right = formula.partition("~")[2].strip()
        left = response if response.isidentifier() else f"`{response}`"
        self._design = build_design(
            f"{left} ~ {right}",
            frame,
            weights=weights,
            contrasts=contrasts,
            extra_namespace=extra_namespace,
            cov=cov,
            na_action=na_action,
            residual=residual,
        )
        self._optima = {}
        self._table = frame

    simulate = simulating.simulate

    def __repr__(self) -> str:
        design = self.design
        sizes = [f"{grouping.n_levels} levels of {name}" for name, grouping in all_factors(design).items()]
        lines = [f"Plan: {self.formula}", ", ".join([f"{design.n} rows", *sizes])]
        if design.residual.names:
            lines.append(f"residuals: {estimable(design.residual).expression}")
        if design.aliased:
            lines.append(f"left out because earlier columns span them: {', '.join(design.aliased)}")
        if len(design.dropped):
            lines.append(str(design.dropped))
        lines.append(f"parameters: {', '.join(p.label for p in parameters(design))}")
        return fill("\n  ".join(lines), indent="  ")
