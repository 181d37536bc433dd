"""The parameters of a model under the names that tables, figures and both engines use."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.arguments import text
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels
from bayeslmm.design.lookup import positions
from bayeslmm.design.variances import SdLabel, variance_labels
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS, natural_parameters, residual_labels
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    Attributes
    ----------
    label : str
        ``"sd_Subject[Days]"``, ``"corr_Subject[Intercept.Days]"``, ``"sigma"`` or a coefficient's name. Effects that
        share a parameter share its label: ``"sd_Worker[cs]"``, ``"corr_Worker[cs]"``.
    kind : {"sd", "corr", "sigma", "residual", "fixed"}
    group : str or None
        Grouping factor; ``"Residual"`` for sigma.
    term : str
        Name in tidy tables: ``"sd__Days"``, ``"cor__Intercept.Days"``, ``"sd__Observation"``, ``"Days"``.
    position : int
        Position of the design's term, or of the coefficient.
    effects : tuple of int
        Effect (or all effects that share the sd, or pair) within the term.
    column : int
        Place in the posterior variable.
    at_mean : bool
        Whether it is about effects at the means of their columns, where priors may stand:
        ``"sd_at_mean_Subject[Days]"``.
    """

    label: str
    kind: str
    group: str | None
    term: str
    position: int
    effects: tuple[int, ...]
    column: int
    at_mean: bool = False


def parameters(design: Design) -> tuple[Parameter, ...]:
    """All parameters: sds, correlations, sigma unless it is known, those of the residual structure, fixed effects."""
    groups = variance_labels(design)
    sds = [p for labels, own in groups for p in _sds(labels.group, own)]
    corrs = [p for labels, _ in groups for p in _corrs(labels)]
    sigma = Parameter("sigma", "sigma", "Residual", "sd__Observation", -1, (), 0)
    residual = [
        Parameter(f"residual_{label}", "residual", "Residual", f"residual__{label}", k, (), k)
        for k, label in enumerate(residual_labels(design.residual))
    ]
    fixed = [Parameter(name, "fixed", None, name, j, (), j) for j, name in enumerate(design.fixed_names)]
    return (*sds, *corrs, *([sigma] if design.sigma is None else []), *residual, *fixed)


def at_mean_parameters(design: Design, priors: Priors) -> tuple[Parameter, ...]:
    """Sds and correlations of the effects at the means of columns, in the terms whose priors are about these."""
    return tuple(
        replace(p, label=f"{p.kind}_at_mean_{p.label.removeprefix(f'{p.kind}_')}", at_mean=True)
        for p in parameters(design)
        if p.kind in ("sd", "corr") and priors.changes[p.position] is not None
    )


def _sds(group: str, sds: Sequence[SdLabel]) -> list[Parameter]:
    return [
        Parameter(f"sd_{group}[{sd.name}]", "sd", group, f"sd__{sd.name}", sd.term, sd.effects, column)
        for column, sd in enumerate(sds)
    ]


def _corrs(labels: GroupLabels) -> list[Parameter]:
    return [
        Parameter(f"corr_{labels.group}[{label}]", "corr", labels.group, f"cor__{label}", term, (a, b), column)
        for column, (term, a, b, label) in enumerate(labels.pairs)
    ]


def find(design: Design, label: str, priors: Priors | None = None) -> Parameter:
    """The parameter of a label; ``sd_Batch`` will do for ``sd_Batch[Intercept]`` if it is the only one.

    Given the priors of a posterior, also one of those at the means of columns.

    Raises
    ------
    DesignError
        No such parameter, or several.
    """
    text("label", label, "the label of a parameter, such as 'sigma'", DesignError)
    known = (*parameters(design), *(() if priors is None else at_mean_parameters(design, priors)))
    exact = [known[i] for i in positions(label, [p.label for p in known])]
    loose = [p for p in known if p.label.split("[")[0] == label]
    chosen = exact or loose
    if len(chosen) != 1:
        hint = "" if chosen else near(label, [p.label for p in known])
        raise DesignError(
            f"{label!r} names {'no' if not chosen else 'more than one'} parameter of the model.{hint} "
            f"Parameters are: {', '.join(p.label for p in known)}."
        )
    return chosen[0]


def near(label: str, names: Sequence[str]) -> str:
    """Which of some names, or of their parts before a bracket that are unique, someone who wrote another may mean.

    Examples
    --------
    >>> near("sd_batch", ["sd_Batch[Intercept]", "sigma"]), near("x", ["sigma"])
    (" Did you mean 'sd_Batch'?", '')
    """
    stems = [name.split("[")[0] for name in names]
    options = [*names, *(stem for stem in stems if stems.count(stem) == 1)]
    found = difflib.get_close_matches(label.casefold(), [name.casefold() for name in options], n=1)
    chosen = next((name for name in options if found and name.casefold() == found[0]), None)
    return f" Did you mean {chosen!r}?" if chosen is not None else ""


def estimates(
    design: Design,
    known: Sequence[Parameter],
    terms: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    lam: FloatArray = NO_PARAMETERS,
) -> FloatArray:
    """Values of the parameters from relative factors (c, c), sigma, beta and residual parameters, in their units."""
    values, residual = [], natural_parameters(design.residual, lam) if lam.size else lam
    # Of relative factors beyond 1e154, as where sigma is next to nothing, there are no squares.
    with np.errstate(over="ignore", invalid="ignore"):
        covariances = [T @ T.T for T in terms]
    for p in known:
        if p.kind == "sigma":
            values.append(sigma)
        elif p.kind == "residual":
            values.append(residual[p.position])
        elif p.kind == "fixed":
            values.append(beta[p.position])
        else:
            covariance = covariances[p.position]
            if p.kind == "sd":
                values.append(sigma * np.sqrt(covariance[p.effects[0], p.effects[0]]))
            else:
                structure = design.terms[p.position].structure
                values.append(structure.correlation_of(covariance, p.effects[0], p.effects[1]))
    return np.array(values, dtype=float)
