"""Estimates without each of some cases, and what is made of them: Cook's distance, MDFFITS, COVRATIO, DFBETAS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.errors import FitError
from bayeslmm.likelihood.correlated_rows import delete_correlated, lost_without_correlated
from bayeslmm.likelihood.deletion import delete_groups
from bayeslmm.likelihood.leave_out import lost_without
from bayeslmm.reml.deleted import optimise_without, solved_together, still_says_all
from bayeslmm.residual import estimable
from bayeslmm.results.deletion_cases import DeletionCases
from bayeslmm.results.fit import Fit
from bayeslmm.results.refits import natural_rows, parameter_values
from bayeslmm.results.residual_kinds import correlated_system, leverage_pair, residual_values
from bayeslmm.types import BoolArray, FloatArray

# Fits one after the other that are made without being asked for by name.
_MOST_ALONE = 1000


@dataclass(frozen=True)
class EstimatesWithout:
    """Estimates without each of G cases; nan where there are none.

    Attributes
    ----------
    beta : FloatArray, shape (G, p)
    vcov : FloatArray, shape (G, p, p)
        Covariance of the fixed effects, theta taken as known.
    sigma : FloatArray, shape (G,)
    covariances : tuple of FloatArray, each (G, c, c)
        Relative covariances of the terms.
    singular : FloatArray, shape (G,)
        0, 1 or nan.
    lam : FloatArray or None, shape (G, k)
        Parameters of the residual structure, if it has any.
    """

    beta: FloatArray
    vcov: FloatArray
    sigma: FloatArray
    covariances: tuple[FloatArray, ...]
    singular: FloatArray
    lam: FloatArray | None = None

    def frame(self, fit: Fit, labels: pd.Index) -> pd.DataFrame:
        """All parameters under their labels, a row per case."""
        residual = natural_rows(fit.design, self.lam)
        values = {
            p.label: parameter_values(p, self.covariances, self.sigma, self.beta, residual) for p in fit._parameters
        }
        return pd.DataFrame(values, index=labels)


def cannot_be_left_out(fit: Fit, chosen: DeletionCases) -> BoolArray:
    """Cases (G,) without which a coefficient, or the variance of a factor, has no estimate."""
    G = len(chosen.labels)
    out = chosen.leave_too_little(fit.design)
    if fit.design.p:
        own = np.where(chosen.codes < 0, G, chosen.codes)
        correlated = fit.design.residual.clusters is not None
        out |= (lost_without_correlated(fit.design, own) if correlated else lost_without(fit.cp, own, None))[:G]
    return out


def held(fit: Fit, chosen: DeletionCases, lost: BoolArray) -> EstimatesWithout:
    """Theta as it is, sigma and the fixed effects estimated anew: from the factorisation, without refits."""
    optimum, cp, beta, system = fit.optimum, fit.cp, fit.fixef().to_numpy(), correlated_system(fit)
    if system is None:
        out = delete_groups(cp, optimum.factors, optimum.factor, beta, chosen.codes, optimum.lam)
    else:
        out = delete_correlated(system, optimum.factor, beta, chosen.codes, lost)
    nu = cp.n - (cp.p if fit.reml else 0) - chosen.observations
    # Where the case had all of the residual, rounding may leave less than none.
    sigma = np.sqrt(np.maximum(out.r2, 0.0) / np.maximum(nu, 1.0))
    sigma = sigma if fit.design.sigma is None else np.full(sigma.shape, fit.sigma)
    sigma = np.where(lost, np.nan, sigma)
    blank = np.where(lost, np.nan, 1.0)
    covariances = tuple(blank[:, None, None] * (T @ T.T) for T in optimum.terms)
    beta, vcov = out.beta * blank[:, None], out.covariance * sigma[:, None, None] ** 2
    lam = blank[:, None] * optimum.lam if optimum.lam.size else None
    return EstimatesWithout(beta, vcov, sigma, covariances, blank * float(fit.is_singular), lam)


def estimated(fit: Fit, chosen: DeletionCases, lost: BoolArray, named: bool) -> EstimatesWithout:
    """Everything estimated anew; `named`: the cases were asked for one by one."""
    usable = np.flatnonzero(~lost)
    if not named and usable.size > _MOST_ALONE and not solved_together(fit.optimum):
        raise FitError(
            f"{usable.size:,} refits of this design would be made one after the other, which takes long. "
            "influence(theta='fixed') leaves out every case exactly at the estimated relative variances, without "
            "refits; influence(cases=[...]) refits for those that it shows."
        )
    G, p = lost.size, fit.design.p
    beta, vcov = np.full((G, p), np.nan), np.full((G, p, p), np.nan)
    sigma, singular, lam = np.full(G, np.nan), np.full(G, np.nan), None
    covariances = tuple(np.full((G, *T.shape), np.nan) for T in fit.optimum.terms)
    usable = usable[[still_says_all(fit.optimum, rows) for rows in chosen.rows(usable)]]
    if usable.size:
        out = optimise_without(fit.optimum, chosen.rows(usable))
        beta[usable], sigma[usable] = out.optima.beta, out.optima.sigma
        vcov[usable] = out.covariance * out.optima.sigma[:, None, None] ** 2
        singular[usable] = out.optima.singular
        for whole, T in zip(covariances, out.optima.terms, strict=True):
            whole[usable] = T @ T.mT
        if out.optima.lam is not None:
            lam = np.full((G, out.optima.lam.shape[1]), np.nan)
            lam[usable] = out.optima.lam
            # What a search that led nowhere ended with says nothing of the case.
            failed = usable[[not status.ok for status in out.optima.status]]
            for values in (beta, vcov, sigma, singular, lam, *covariances):
                values[failed] = np.nan
    return EstimatesWithout(beta, vcov, sigma, covariances, singular, lam)


def statistics(fit: Fit, chosen: DeletionCases, out: EstimatesWithout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of `Influence` in the order of the data, and all DFBETAS."""
    names, p = list(fit.design.fixed_names), fit.design.p
    whole, move = fit.vcov().to_numpy(), fit.fixef().to_numpy() - out.beta
    usable = np.isfinite(out.vcov).all(axis=(1, 2)) & np.isfinite(out.sigma) & (out.sigma > 0)
    table = pd.DataFrame(index=chosen.labels)
    dfbetas = np.full(move.shape, np.nan)
    if p:
        dfbetas[usable] = move[usable] / np.sqrt(np.diagonal(out.vcov[usable], axis1=1, axis2=2))
        table["cooks_d"] = _distance(move, np.broadcast_to(whole, out.vcov.shape), usable) / p
        table["mdffits"] = _distance(move, out.vcov, usable) / p
        table["covratio"] = _ratio(out.vcov, whole, usable)
        largest = np.abs(np.where(usable[:, None], dfbetas, 0.0)).argmax(axis=1)
        table["dfbetas"] = dfbetas[np.arange(largest.size), largest]
        table["of"] = np.where(usable, np.array(names, dtype=object)[largest], "")
    if fit.design.sigma is None:
        with np.errstate(divide="ignore", invalid="ignore"):
            table["sigma"] = out.sigma / fit.sigma - 1.0
    table["singular"] = [None if np.isnan(s) else bool(s) for s in out.singular]
    return table.join(_of_case(fit, chosen)), pd.DataFrame(dfbetas, index=chosen.labels, columns=names)


def _of_case(fit: Fit, chosen: DeletionCases) -> pd.DataFrame:
    """What is known of a case from the fit with all rows: residual and leverage of a row, size of a group."""
    if chosen.by != "row":
        return pd.DataFrame({"rows": chosen.observations.astype(int)}, index=chosen.labels)
    if not fit.sigma > 0:
        return pd.DataFrame(index=chosen.labels)
    rows = np.concatenate(chosen.rows(np.arange(len(chosen.labels))))
    standardised, h = residual_values(fit, "standardised"), leverage_pair(fit).total
    return pd.DataFrame({"residual": standardised[rows], "leverage": h[rows]}, index=chosen.labels)


def _distance(move: FloatArray, covariance: FloatArray, usable: BoolArray) -> FloatArray:
    """``move' covariance^-1 move`` (G,)."""
    out = np.full(usable.size, np.nan)
    own = move[usable]
    out[usable] = (own * np.linalg.solve(covariance[usable], own[..., None])[..., 0]).sum(axis=1)
    return out


def _ratio(without: FloatArray, whole: FloatArray, usable: BoolArray) -> FloatArray:
    """Ratios (G,) of determinants."""
    out = np.full(usable.size, np.nan)
    out[usable] = np.exp(np.linalg.slogdet(without[usable])[1] - np.linalg.slogdet(whole)[1])
    return out


def relative_changes(fit: Fit, estimates: pd.DataFrame) -> pd.DataFrame:
    """Relative changes of sds and their ratios, differences of correlations and exponents, without each case."""
    own: dict[str, pd.Series] = {}
    whole, residual = fit.estimates(), fit.design.residual
    ranges = estimable(residual).ranges if residual.names else ()
    for p in fit._parameters:
        if p.kind != "fixed":
            difference = p.kind == "corr" or (p.kind == "residual" and ranges[p.position] != "positive")
            own[p.label] = _change(estimates[p.label], float(whole[p.label]), difference)
    return pd.DataFrame(own, index=estimates.index)


def _change(values: pd.Series, whole: float, difference: bool) -> pd.Series:
    if difference:
        return values - whole
    with np.errstate(divide="ignore", invalid="ignore"):
        # Beside a variance of zero nothing has a relative size; what has stayed zero has not changed.
        return pd.Series(np.where(values == whole, 0.0, values / np.float64(whole) - 1.0), index=values.index)
