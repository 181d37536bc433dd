"""Say where lme4, brms, bambi or formulae would read a formula differently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bayeslmm.arguments import kind_of, text
from bayeslmm.design.dot import without_dot
from bayeslmm.design.formula import Formula, check_random, parse_formula
from bayeslmm.design.quoting import explained
from bayeslmm.design.tables import open_table
from bayeslmm.errors import DesignError, FormulaError
from bayeslmm.linting import calls as lint_calls
from bayeslmm.linting import levels as lint_levels
from bayeslmm.linting import of_data as lint_data
from bayeslmm.linting import of_formula as lint_formula
from bayeslmm.linting import residuals as lint_residuals
from bayeslmm.linting import several as lint_several
from bayeslmm.linting import zero as lint_zero
from bayeslmm.linting.refused import refused
from bayeslmm.linting.report import Finding, LintReport

__all__ = ["Finding", "LintReport", "lint"]


def lint(formula: str, data: Any = None, *, residual: str | None = None) -> LintReport:
    """Find what other packages would make of a formula.

    Parameters
    ----------
    formula : str
        lme4-style, e.g. ``"y ~ x + (x | g)"``. A formula that bayeslmm refuses is reported, not raised.
    data : pandas, polars or pyarrow table, optional
        With it, also differences that depend on the columns are found: factors, the order of their levels,
        booleans, missing values. formulae then evaluates the fixed part and every left side of a bar, and the columns
        are compared.
    residual : str, optional
        The residual structure of the model, e.g. ``"ar1(time | g)"``. The formula then needs no random effects.

    Returns
    -------
    LintReport

    Raises
    ------
    FormulaError
        The formula is not a string.
    DesignError
        Columns are missing from the data; the residual structure is not a string.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> print(bl.lint("y ~ x + (1 | g)").findings)
    ()
    >>> [(finding.rule, finding.severity) for finding in bl.lint("y ~ x + (x | g)").findings]
    [('independent effects', 'different model')]
    """
    if not isinstance(formula, str):
        raise FormulaError(f"The formula is {kind_of(formula)}, not a string such as 'y ~ x + (x | g)'.")
    if residual is not None:
        text("residual", residual, "a text such as 'ar1(time | g)'", DesignError)
    parsed: Formula | None = None
    error: FormulaError | None = None
    typed = formula
    available = None if data is None else open_table(data)[1]
    try:
        formula = typed if available is None else without_dot(typed, available)
        parsed = parse_formula(formula)
        if residual is None:
            check_random(parsed)
    except FormulaError as problem:
        error = problem if available is None else explained(problem, formula, available)
    reading = lint_formula.read(formula, parsed, error)
    findings = [*refused(reading), *_static(reading, with_data=data is not None), *lint_several.dot(typed, formula)]
    if data is not None and parsed is not None:
        known = lint_data.typed(reading, parsed, data)
        findings += [
            finding for rule in (*lint_data.RULES, *lint_zero.RULES, *lint_levels.RULES) for finding in rule(known)
        ]
    findings.sort(key=lambda finding: finding.position)
    if residual is not None:
        findings += lint_residuals.structure(residual, available)
    distinct = {(finding.rule, finding.source, finding.position, finding.text): finding for finding in findings}
    return LintReport(formula, tuple(distinct.values()), data is not None and parsed is not None)


def _static(reading: lint_formula.FormulaReading, with_data: bool) -> Iterator[Finding]:
    conditional = () if with_data else lint_formula.WITHOUT_DATA
    for rule in (*lint_formula.RULES, *conditional, *lint_calls.RULES, *lint_several.RULES, *lint_residuals.RULES):
        yield from rule(reading)
