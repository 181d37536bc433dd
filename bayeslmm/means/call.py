"""The verbs `means`, `trends` of fits and posteriors: arguments checked, functions of the fixed effects made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayeslmm.arguments import choice, labels, real, shown, text
from bayeslmm.design.design import Design
from bayeslmm.design.grid import FixedFunctions
from bayeslmm.design.newdata import known_recipe
from bayeslmm.design.reference import Covariate
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.means.averages import WEIGHTS, RowLabels, Weights, averages
from bayeslmm.means.functions import Display
from bayeslmm.means.grid import Centre, ReferenceGrid, given_values, reference_grid, unknown_variable, variables_of
from bayeslmm.means.links import response_link
from bayeslmm.means.slopes import slopes_of
from bayeslmm.results.intervals import check_level

type Scale = Literal["link", "response"]

type Names = str | Sequence[str] | None


_METHODS = {
    "satterthwaite": "Satterthwaite df",
    "kenward-roger": "Kenward-Roger df",
    "kenward-roger-linear": "Kenward-Roger-linear df",
    "knapp-hartung": "Knapp-Hartung",
    "z": "normal",
}


def method_words(ddf: str) -> str:
    """A method of degrees of freedom as headings name it.

    Examples
    --------
    >>> method_words("kenward-roger"), method_words("residual")
    ('Kenward-Roger df', 'residual df')
    """
    return _METHODS.get(ddf, f"{ddf} df")


@by_value
@dataclass(frozen=True, eq=False)
class Asked:
    """What a call of `means` or `trends` is about: functions, their labels, how to show them."""

    functions: FixedFunctions
    labels: RowLabels
    display: Display


def asked_means(
    design: Design,
    of: Names,
    by: Names,
    at: Mapping[str, Any] | None,
    weights: Weights,
    scale: Scale,
    level: float,
    centre: Centre,
) -> Asked:
    """Means over the reference grid; arguments as in `fit_means`."""
    of, by = variable_names(design, of, by)
    check_level(level)
    grid = reference_grid(design, at, choice("centre", centre, ("mean", "median"), DesignError))
    _check_values(grid, (*of, *by))
    found = averages(grid, of, by, choice("weights", weights, WEIGHTS, DesignError))  # type: ignore[arg-type]
    link = response_link(design)
    response = choice("type", scale, ("link", "response"), DesignError) == "response"
    if response and link is None:
        _refuse_response(design)
    display = Display(
        _title("Means", found.labels.own, found.labels.by), level, link=link, response=response, notes=found.notes
    )
    return Asked(weighted_functions(grid.functions, found.W), found.labels, display)


def asked_slopes(
    design: Design,
    variable: str,
    of: Names,
    by: Names,
    at: Mapping[str, Any] | None,
    weights: Weights,
    level: float,
    centre: Centre,
) -> Asked:
    """Slopes over the reference grid; arguments as in `fit_trends`."""
    of, by = variable_names(design, of, by)
    check_level(level)
    known = _covariate(design, variable)
    choice("centre", centre, ("mean", "median"), DesignError)
    place = {variable: known.mean if centre == "mean" else known.median}
    at = {**place, **given_values(at)}
    grid = reference_grid(design, at, centre)
    _check_values(grid, (*of, *by))
    found = averages(grid, of, by, choice("weights", weights, WEIGHTS, DesignError), variable)  # type: ignore[arg-type]
    slopes = slopes_of(grid, variable, known.high - known.low)
    link = response_link(design)
    title = _title(f"Slopes of {variable}", (), tuple(found.labels.columns))
    display = Display(title, level, kind="slope", link=link, notes=found.notes)
    return Asked(weighted_functions(slopes, found.W), found.labels, display)


def given_variance(display: Display, sigma: float | None) -> float | None:
    """Variance about means that are adjusted for their bias, as ``sigma=`` says; None: that of the model."""
    if not display.response:
        raise DesignError("bias_adjust=True is for means taken back to units of the response: type='response'.")
    return None if sigma is None else real("sigma", sigma, least=0.0, error=DesignError) ** 2


def _covariate(design: Design, variable: str) -> Covariate:
    text("variable", variable, "the name of a numeric column", DesignError)
    names = variables_of(design)
    if variable not in names:
        raise DesignError(unknown_variable(design, variable, names))
    reference = known_recipe(design).reference
    if variable not in reference.covariates:
        raise DesignError(
            f"{variable!r} is no number in this model, so it has no slope. Compare the means of its levels: "
            f"means({variable!r}).contrast('poly') has trends over ordered levels."
        )
    return reference.covariates[variable]


def weighted_functions(functions: FixedFunctions, W: Any) -> FixedFunctions:
    """Averages of functions with weights (k, m); nan where weights are."""
    found = functions.combined(np.where(np.isnan(W), 0.0, W))
    found.L[np.isnan(W).any(axis=1)] = np.nan
    return found


def variable_names(design: Design, of: Names, by: Names) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the variables asked for; those of `by` alone are compared with each other.

    Raises
    ------
    DesignError
        Names that are not in the fixed part, or stand twice.
    """
    if not design.p:
        raise DesignError(f"{design.formula!r} has no fixed effects, so there are no means to estimate.")
    own = _names("of", of)
    groups = _names("by", by)
    if not own:
        own, groups = groups, ()
    known = variables_of(design)
    for name in (*own, *groups):
        if name not in known:
            raise DesignError(unknown_variable(design, name, known))
    twice = [name for name in own if name in groups or own.count(name) > 1]
    if twice:
        raise DesignError(
            f"{twice[0]!r} is asked for twice: name every variable once, in the first argument or in by=."
        )
    return own, groups


def _names(argument: str, value: Names) -> tuple[str, ...]:
    """One name or several."""
    if value is None:
        return ()
    if isinstance(value, str) and "~" in value:
        raise DesignError(
            f"{argument}={shown(value)} is a formula of R's emmeans. Name the variables: means('a', by='b') "
            "for ~ a | b."
        )
    return labels(argument, value, error=DesignError)


def _check_values(grid: ReferenceGrid, names: Sequence[str]) -> None:
    for name in names:
        variable = grid.variable(name)
        if not variable.factor and not variable.given and len(variable.values) == 1:
            raise DesignError(
                f"{name!r} is a number, not a factor: there are no levels to take means of. Say at which values, e.g. "
                f"at={{{name!r}: [{variable.values[0]:.4g}]}}; for its slope use trends({name!r})."
            )


def _refuse_response(design: Design) -> None:
    raise DesignError(
        f"type='response' asks for means in units of the response, but {design.response!r} is "
        + (
            "not transformed: they are."
            if design.response.isidentifier()
            else "no transformation whose inverse is known."
        )
        + " Known are log, log2, log10, log1p, sqrt, cbrt, powers and logit."
    )


def _title(what: str, of: Sequence[str], by: Sequence[str]) -> str:
    about = f" of {', '.join(of)}" if of else ""
    return f"{what}{about}{' by ' + ', '.join(by) if by else ''}"
