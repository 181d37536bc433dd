"""Standard errors and covariance of the variance parameters of a fit, on the scale of sds or of variances."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.residual_degrees import joint_covariance
from bayeslmm.inference.variance_information import VarianceCovariance, variance_covariance
from bayeslmm.numerics.differences import slopes
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter, estimates
from bayeslmm.types import FloatArray

type Scale = Literal["sd", "variance"]

_SCALES: tuple[Scale, ...] = ("sd", "variance")
# A correlation whose distance from an end is below this share of the range is at that end.
_AT_END = 1e-10
# Of differences of smooth functions.
_STEP = 1e-4
_PREFIX = {"sd": "var", "corr": "cov"}
_BOUNDARY = "at the boundary: no standard error"
_UNKNOWN = "not determined by the data"


def variances(fit: Fit, scale: Scale = "sd") -> pd.DataFrame:
    """Variance parameters with their asymptotic standard errors.

    Parameters
    ----------
    scale : {"sd", "variance"}
        Standard deviations and correlations, or variances and covariances.

    Returns
    -------
    pandas.DataFrame
        Indexed by label: ``estimate``, ``std_error`` and ``note``. The standard error is nan, and the note says so,
        for a parameter at the boundary (a variance of zero, a correlation of +-1), where the estimate has no normal
        distribution, and for one that the data do not determine.

    Raises
    ------
    DesignError
        Another scale.
    FitError
        A penalised fit, no minimum, no residual variance.

    Notes
    -----
    From the exact Hessian of the criterion, directions without variance taken as known to be without. The sampling
    distribution of a variance is skewed: for intervals see `confint`, which profiles.

    Examples
    --------
    In a balanced one-way layout with J groups of n the variance of sigma^2 is ``2 sigma^4 / (J (n - 1))``.

    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> fit.variances("variance")["std_error"].round(2).to_dict()
    {'var_Batch[Intercept]': 1432.75, 'sigma^2': 707.61}
    >>> fit.variances()["std_error"].round(2).to_dict()
    {'sd_Batch[Intercept]': 17.06, 'sigma': 7.15}
    """
    labels, estimate, covariance, notes = _of(fit, scale)
    error = np.sqrt(np.diagonal(covariance))
    index = pd.Index(labels, dtype=str)
    return readable(pd.DataFrame({"estimate": estimate, "std_error": error, "note": notes}, index=index))


def vcov_variances(fit: Fit, scale: Scale = "sd") -> pd.DataFrame:
    """Asymptotic covariance matrix of the variance parameters.

    Parameters
    ----------
    scale : {"sd", "variance"}
        Of standard deviations and correlations, or of variances and covariances.

    Returns
    -------
    pandas.DataFrame
        Labels as in `variances`; nan for parameters that have no standard error there.

    Raises
    ------
    DesignError, FitError
        As `variances`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    >>> fit.vcov_variances().isna().to_numpy().tolist()
    [[True, True], [True, False]]
    """
    labels, _, covariance, _ = _of(fit, scale)
    index = pd.Index(labels, dtype=str)
    return readable(pd.DataFrame(covariance, index=index, columns=index))


def _of(fit: Fit, scale: Scale) -> tuple[list[str], FloatArray, FloatArray, list[str]]:
    """Labels, estimates, covariance (nan where there is none) and notes."""
    choice("scale", scale, _SCALES, DesignError)
    if fit.penalty is not None:
        raise FitError(
            f"The curvature at a penalised estimate ({fit.penalty}) is not that of the likelihood, so that it gives no "
            f"standard errors of variances. Use model.fit(reml={fit.reml}), or model.sample() for a posterior."
        )
    known = [p for p in fit._parameters if p.kind != "fixed"]
    if isinstance(fit.optimum, ResidualOptimum):
        return _with_residuals(fit, fit.optimum, known, scale)
    found = variance_covariance(fit.cp, fit.optimum)
    rows = [_row(fit, found, p, scale) for p in known]
    J = np.array([slopes for _, slopes, _ in rows])
    notes = [note for *_, note in rows]
    covariance = J @ found.covariance @ J.T
    without = np.array([bool(note) for note in notes])
    covariance[without], covariance[:, without] = np.nan, np.nan
    labels = [_label(p, scale) for p in known]
    return labels, np.array([value for value, _, _ in rows]), covariance, notes


def _with_residuals(
    fit: Fit, optimum: ResidualOptimum, known: list[Parameter], scale: Scale
) -> tuple[list[str], FloatArray, FloatArray, list[str]]:
    """The same where residuals have parameters: by the curvature in these and in the others together."""
    joint, t = optimum.joint, optimum.joint.n_theta

    def values(point: FloatArray) -> FloatArray:
        """Parameters (m,) at (internal vector, lam, log sigma^2)."""
        sigma = float(np.exp(0.5 * point[-1]))
        with np.errstate(all="ignore"):
            own = estimates(fit.design, known, joint.terms(point), sigma, np.empty(0), point[t:-1])
        by_label = {p.label: value for p, value in zip(known, own, strict=True)}
        return np.array([_on_scale(p, known, by_label, scale) for p in known])

    point = np.append(optimum.joint_point, 2.0 * np.log(optimum.sigma))
    J, found = slopes(values, point, _STEP), values(point)
    edge = [_at_edge(fit, p) for p in known]
    notes = [_BOUNDARY if end or not np.isfinite(J[:, k]).all() else "" for k, end in enumerate(edge)]
    J = np.where(np.isfinite(J), J, 0.0)
    covariance = J.T @ joint_covariance(optimum) @ J
    notes = [note or ("" if covariance[k, k] > 0 else _UNKNOWN) for k, note in enumerate(notes)]
    without = np.array([bool(note) for note in notes])
    covariance[without], covariance[:, without] = np.nan, np.nan
    return [_label(p, scale) for p in known], found, covariance, notes


def _on_scale(p: Parameter, known: list[Parameter], values: dict[str, float], scale: Scale) -> float:
    value = values[p.label]
    if scale == "sd" or p.kind == "residual":
        return value
    if p.kind != "corr":
        return value**2
    own = {o.effects[0]: values[o.label] for o in known if o.kind == "sd" and o.position == p.position}
    sds = [next((sd for effect, sd in own.items() if effect == e), next(iter(own.values()))) for e in p.effects]
    return value * sds[0] * sds[1]


def _at_edge(fit: Fit, p: Parameter) -> bool:
    """Whether an estimate is at the end of its range."""
    value = float(fit.estimates()[p.label])
    if p.kind == "corr":
        least, most = fit.design.terms[p.position].structure.correlation_range
        return not min(value - least, most - value) > _AT_END * (most - least)
    return p.kind == "sd" and not value > 0


def _label(p: Parameter, scale: Scale) -> str:
    if scale == "sd" or p.kind == "residual":
        return p.label
    return "sigma^2" if p.kind == "sigma" else f"{_PREFIX[p.kind]}{p.label.removeprefix(p.kind)}"


def _row(fit: Fit, found: VarianceCovariance, p: Parameter, scale: Scale) -> tuple[float, FloatArray, str]:
    """Estimate of a parameter, its derivatives in the entries, and why it has no standard error."""
    along = np.zeros(found.values.size)
    if p.kind != "corr":
        k = found.values.size - 1 if p.kind == "sigma" else found.place(p.position, p.effects[0], p.effects[0])
        value = float(found.values[k])
        note = "" if value > 0 else _BOUNDARY
        note = note if found.determined[k] else _UNKNOWN
        sd = float(np.sqrt(value))
        along[k] = 1.0 if scale == "variance" else 0.5 / sd if sd > 0 else 0.0
        return (value if scale == "variance" else sd), along, note
    return _pair(fit, found, p, scale, along)


def _pair(
    fit: Fit, found: VarianceCovariance, p: Parameter, scale: Scale, along: FloatArray
) -> tuple[float, FloatArray, str]:
    i, j = p.effects
    both, first, second = (found.place(p.position, a, b) for a, b in ((i, j), (i, i), (j, j)))
    covariance, product = float(found.values[both]), float(np.sqrt(found.values[first] * found.values[second]))
    structure = fit.design.terms[p.position].structure
    rho = covariance / product if product > 0 else np.nan
    least, most = structure.correlation_range
    inside = product > 0 and min(rho - least, most - rho) > _AT_END * (most - least)
    told = found.determined[[both, first, second]].all()
    note = _UNKNOWN if not told else "" if inside else _BOUNDARY
    if scale == "variance":
        along[both] = 1.0
        return covariance, along, note
    if product > 0:
        along[both] = 1.0 / product
        along[first] -= 0.5 * rho / found.values[first]
        along[second] -= 0.5 * rho / found.values[second]
    return rho, along, note
