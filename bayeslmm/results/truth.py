"""True values of all parameters of a design, from a fit or from what the user says, as responses are simulated from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import numbers_of, real, shown
from bayeslmm.design.covariance import canonical, factor_from_theta
from bayeslmm.design.design import Design
from bayeslmm.design.known import known_text
from bayeslmm.errors import DesignError
from bayeslmm.reml.fixed import resolve_fixed
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.results.fit import Fit
from bayeslmm.results.intervals import check_range
from bayeslmm.results.labels import Parameter, estimates, find, parameters
from bayeslmm.results.residual_truth import check_residual_value, lam_of_values
from bayeslmm.types import FloatArray

# An eigenvalue of a correlation matrix below this is negative by more than rounding.
_NEGATIVE = -1e-9


@dataclass(frozen=True)
class Truth:
    """What responses are simulated from.

    Attributes
    ----------
    terms : tuple of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma : float
    beta : FloatArray, shape (p,)
    values : dict
        Label to value; nan for a correlation with a standard deviation of zero.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.
    """

    terms: tuple[FloatArray, ...]
    sigma: float
    beta: FloatArray
    values: dict[str, float]
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)

    def value(self, p: Parameter) -> float:
        """True value of a parameter, ratios to the residual variance and intraclass correlations included."""
        if p.kind not in ("ratio", "icc"):
            return self.values[p.label]
        ratio = (self.values[f"sd_{p.label.partition('_')[2]}"] / self.sigma) ** 2
        return ratio if p.kind == "ratio" else ratio / (1.0 + ratio)


def resolve_truth(design: Design, given: Any, fitted: Callable[[], Fit]) -> Truth:
    """The truth that a user gave.

    Parameters
    ----------
    design : Design
    given : None, Fit or mapping
        None: the estimates; a fit: its estimates; a mapping or Series: labels to values, ``"beta"`` and ``"theta"``
        to arrays. What it leaves out is estimated.
    fitted : callable
        Gives a fit, where estimates are needed.

    Raises
    ------
    DesignError
    """
    if given is None:
        return _truth_of_fit(fitted())
    if isinstance(given, Fit):
        _check_same(design, given.design)
        return _truth_of_fit(given)
    if not isinstance(given, Mapping | pd.Series) or not all(isinstance(key, str) for key in dict(given)):
        raise DesignError(
            f"truth={shown(given)} is neither a fit nor a mapping of labels to values. Write for example "
            "truth={'sigma': 2.0}; what is left out is estimated. Labels are "
            f"{', '.join(p.label for p in parameters(design))}; beta and theta take arrays."
        )
    return truth_of_values(
        design, _read(design, dict(given)), lambda _: fitted().estimates(), lambda: fitted().optimum.lam
    )


def _truth_of_fit(fit: Fit) -> Truth:
    """The estimates of a fit."""
    optimum, beta = fit.optimum, fit.fixef().to_numpy(dtype=float)
    return _complete(fit.design, tuple(optimum.terms), float(optimum.sigma), beta, optimum.lam)


def _complete(design: Design, terms: tuple[FloatArray, ...], sigma: float, beta: FloatArray, lam: FloatArray) -> Truth:
    if not sigma > 0:
        raise DesignError(
            f"The true sigma is {sigma:g}, so that responses would have no residual and no interval could be made. "
            "Give another value of sigma."
        )
    known = parameters(design)
    values = estimates(design, known, terms, sigma, beta, lam)
    return Truth(terms, sigma, beta, {p.label: float(v) for p, v in zip(known, values, strict=True)}, lam)


def _check_same(design: Design, other: Design) -> None:
    ours, theirs = ([p.label for p in parameters(own)] for own in (design, other))
    if ours != theirs:
        raise DesignError(
            f"truth is a fit of {other.formula!r}, which has other parameters ({', '.join(theirs)}) than the model "
            f"({', '.join(ours)}). Give a mapping of labels to values."
        )


def _read(design: Design, given: dict[str, Any]) -> dict[str, Any]:
    """Values by label; ``theta`` becomes a mapping of terms to their theta."""
    known, found, new = parameters(design), dict[str, Any](), dict[str, Any]()
    labels = {p.label for p in known}
    for key, value in given.items():
        if key == "beta" and key not in labels:
            beta = numbers_of("truth['beta']", value, shape=(len(design.fixed_names),), error=DesignError)
            new = dict(zip(design.fixed_names, map(float, beta), strict=True))
        elif key == "theta" and key not in labels:
            new = {key: resolve_fixed(design, {key: value})}
        else:
            p = find(design, key)
            # As in the estimates of a singular fit.
            undefined = p.kind == "corr" and isinstance(value, float) and np.isnan(value)
            new = {p.label: np.nan if undefined else real(f"truth[{key!r}]", value, error=DesignError)}
            if not undefined:
                check_range(np.array(list(new.values())), p.kind, p.label)
            if p.kind == "residual":
                check_residual_value(design, p.position, p.label, new[p.label])
        twice = [label for label in new if label in found]
        if twice:
            raise DesignError(f"truth gives {twice[0]} twice. Keep one of its keys.")
        found |= new
    relative = [p.label for p in known if p.kind in ("sd", "corr") and p.label in found]
    if "theta" in found and relative:
        raise DesignError(f"truth gives theta, which has all relative covariances, and {relative[0]}. Keep one.")
    return found


def truth_of_values(
    design: Design,
    given: Mapping[str, Any],
    estimated: Callable[[Sequence[str]], Mapping[str, float] | pd.Series],
    fitted: Callable[[], FloatArray] | None = None,
) -> Truth:
    """The truth with some values given.

    Parameters
    ----------
    design : Design
    given : mapping
        Labels to values, and perhaps ``"theta"`` to a mapping of positions of terms to their theta.
    estimated : callable
        Gives values for the labels that are told to it: those that were not given.
    fitted : callable, optional
        Gives estimates of the residual parameters on their scales without bounds.

    Raises
    ------
    DesignError
        The values are no covariance, or sigma is not positive.
    """
    given, needed = dict(given), left_out(design, given)
    theta: dict[int, FloatArray] | None = given.pop("theta", None)
    if needed:
        values = estimated(needed)
        given |= {label: float(values[label]) for label in needed}
    if design.sigma is not None and "sigma" in given:
        raise DesignError(
            f"sigma={given['sigma']} was given, but this model has {known_text(design)}: there is no sigma to choose. "
            "Leave it out, or make the model with other residual standard deviations."
        )
    sigma = float(given["sigma"]) if design.sigma is None else design.sigma
    beta = np.array([given[name] for name in design.fixed_names], dtype=float)
    if theta is not None:
        terms = [factor_from_theta(term.structure, theta[i][None])[0] for i, term in enumerate(design.terms)]
    else:
        terms = [_factor(design, i, given, sigma) if sigma > 0 else np.zeros((0, 0)) for i in range(len(design.terms))]
    known = fitted() if fitted is not None and left_out(design, given, ("residual",)) else None
    return _complete(design, tuple(terms), sigma, beta, lam_of_values(design, given, known))


def left_out(
    design: Design, given: Mapping[str, Any], kinds: Sequence[str] = ("sd", "corr", "sigma", "fixed")
) -> list[str]:
    """Labels of the parameters of these kinds that are not given, nor follow from ``"theta"``."""
    if "theta" in given:
        kinds = [kind for kind in kinds if kind not in ("sd", "corr")]
    return [p.label for p in parameters(design) if p.kind in kinds and p.label not in given]


def _factor(design: Design, position: int, given: Mapping[str, float], sigma: float) -> FloatArray:
    """Relative factor (c, c) of a term with given standard deviations and correlations."""
    term = design.terms[position]
    c = len(term.effects)
    sds, R, pairs = np.zeros(c), np.eye(c), []
    for p in parameters(design):
        if p.position != position or p.kind not in ("sd", "corr"):
            continue
        value = given[p.label]
        if p.kind == "sd":
            sds[list(p.effects)] = value / sigma
        elif not np.isnan(value):
            a, b = p.effects
            R[a, b] = R[b, a] = value
            pairs.append(f"{p.label} = {value:g}")
    if not term.structure.entries:
        structure = term.structure
        own = [sds[effects[0]] for effects in structure.sd_effects]
        theta = np.array([*own, *(R[a, b] for a, b in structure.pairs)])
        structure.check(theta)
        return np.asarray(factor_from_theta(term.structure, theta[None])[0])
    values, vectors = np.linalg.eigh(R)
    if values[0] < _NEGATIVE:
        raise DesignError(
            f"No covariance has the correlations {', '.join(pairs)} of {term.label} (smallest eigenvalue "
            f"{values[0]:.2g}). Move them towards 0."
        )
    return canonical(sds[:, None] * vectors * np.sqrt(np.maximum(values, 0.0)))
