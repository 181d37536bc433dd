"""The same model fitted to other responses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import MOST_WORKERS, whole
from bayeslmm.design.data import no_numbers
from bayeslmm.design.design import Design
from bayeslmm.design.magnitude import check_magnitudes
from bayeslmm.design.notes import notes_for
from bayeslmm.design.observations import need_observations
from bayeslmm.design.padding import rows_of_design
from bayeslmm.design.readable import readable
from bayeslmm.design.screen import fill
from bayeslmm.errors import ConvergenceWarning, DesignError
from bayeslmm.likelihood import cross_products
from bayeslmm.mode import PosteriorMode, find_mode
from bayeslmm.reml import Optimum, optimise
from bayeslmm.reml.many import Optima, not_identified, optimise_many
from bayeslmm.reml.residual_many import optimise_residual_many
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimum_of
from bayeslmm.residual import natural_parameters
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.updates import of_response
from bayeslmm.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Refits:
    """Estimates of one model for K responses.

    Attributes
    ----------
    design : Design
    reml : bool
    optima : Optima
        Arrays over the responses: theta, sigma, beta, criterion, singular, status, evaluations.

    Examples
    --------
    >>> import numpy as np
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> y = fit.design.y
    >>> refits = fit.refit_many(np.column_stack([y, 2 * y]))
    >>> refits.estimates().round(1)
       sd_Batch[Intercept]  sigma  Intercept
    0                 42.0   49.5     1527.5
    1                 84.0   99.0     3055.0
    """

    design: Design
    reml: bool
    optima: Optima

    def __len__(self) -> int:
        return int(self.optima.sigma.size)

    @property
    def theta(self) -> FloatArray:
        """Relative covariance parameters, shape (K, k)."""
        return self.optima.theta

    @property
    def sigma(self) -> FloatArray:
        """Residual standard deviations, units of y, shape (K,)."""
        return self.optima.sigma

    @property
    def criterion(self) -> FloatArray:
        """REML criteria or deviances, shape (K,)."""
        return self.optima.criterion

    @property
    def is_singular(self) -> BoolArray:
        """Whether some combination of effects has no variance, shape (K,)."""
        return self.optima.singular

    @property
    def ok(self) -> BoolArray:
        """Whether each fit converged (at the boundary or not), shape (K,)."""
        return np.array([status.ok for status in self.optima.status])

    def fixef(self) -> pd.DataFrame:
        """Fixed effects: responses x coefficients."""
        return readable(pd.DataFrame(self.optima.beta, columns=pd.Index(list(self.design.fixed_names), dtype=str)))

    def estimates(self) -> pd.DataFrame:
        """All parameters under their labels: responses x parameters."""
        known = parameters(self.design)
        covariances, residual = [T @ T.mT for T in self.optima.terms], natural_rows(self.design, self.optima.lam)
        columns = {
            p.label: parameter_values(p, covariances, self.optima.sigma, self.optima.beta, residual) for p in known
        }
        return readable(pd.DataFrame(columns))

    def __repr__(self) -> str:
        name, singular = "REML" if self.reml else "ML", int(self.is_singular.sum())
        failed = int((~self.ok).sum())
        text = f"<{len(self)} {name} fits of {self.design.formula!r}: {singular} singular"
        return fill(text + (f", {failed} not converged>" if failed else ">"), indent="  ")


def parameter_values(
    p: Parameter,
    covariances: Sequence[FloatArray],
    sigma: FloatArray,
    beta: FloatArray,
    residual: FloatArray,
) -> FloatArray:
    """Values (K,) of one parameter from all that is estimated.

    Relative covariances (K, c, c), sigma (K,), fixed effects (K, p), residual parameters in the user's units (K, m).
    """
    if p.kind == "sigma":
        return sigma
    if p.kind == "residual":
        return residual[:, p.position]
    if p.kind == "fixed":
        return beta[:, p.position]
    G = covariances[p.position]
    first = np.sqrt(G[:, p.effects[0], p.effects[0]])
    if p.kind == "sd":
        return sigma * first
    both = first * np.sqrt(G[:, p.effects[1], p.effects[1]])
    return np.where(both > 0, G[:, p.effects[0], p.effects[1]] / np.where(both > 0, both, 1.0), np.nan)


def natural_rows(design: Design, lam: FloatArray | None) -> FloatArray:
    """Residual parameters in the user's units (K, m) from those without bounds, nan where these are."""
    if lam is None:
        return np.empty((0, 0))
    return natural_parameters(design.residual, lam)


def check_responses(design: Design, values: Any, dimensions: int) -> FloatArray:
    """New responses as an array (n,) or (n, K).

    Raises
    ------
    DesignError
        Not numbers, another number of rows, an index that does not say which rows are meant, missing or infinite
        values.
    """
    need_observations(
        design,
        "Another response has values",
        "Sum it over the cells and make a model of these sums: bl.Model.from_sums(formula, cells).",
    )
    array = _numbers(_rows_of_fit(design, rows_of_design(design, values)))
    if dimensions == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != dimensions or array.shape[0] != design.n:
        expected = f"({design.n},)" if dimensions == 1 else f"({design.n}, K), one column per response"
        hint = f" {len(design.dropped)} rows of the data were left out of the fit." if len(design.dropped) else ""
        raise DesignError(f"The new response has shape {array.shape}; the fit needs {expected}.{hint}")
    bad = ~np.isfinite(array)
    if bad.any():
        raise DesignError(
            f"The new response has {int(bad.sum())} missing or infinite value(s). A refit keeps the rows of the fit; "
            "to leave rows out, make a new Model."
        )
    new = array.reshape(design.n, -1)
    check_magnitudes(
        "The new response", ["" if dimensions == 1 else f"in column {k}" for k in range(new.shape[1])], new
    )
    if dimensions == 2:
        constant = np.flatnonzero((array == array[0]).all(axis=0)) if array.shape[0] > 1 else np.zeros(0, dtype=int)
        if constant.size:
            raise DesignError(
                f"Column {int(constant[0])} of the new responses is constant ({constant.size} such column(s)): there "
                "is no variation to model."
            )
    return array


def _rows_of_fit(design: Design, values: Any) -> Any:
    """A Series or frame in the order of the rows of the fit; its index says which rows it has. Others as they are."""
    if not isinstance(values, pd.Series | pd.DataFrame):
        return values
    rows = pd.Index(design.index)
    if values.index.equals(rows):
        return values
    if rows.is_unique and values.index.is_unique and rows.isin(values.index).all():
        return values.loc[rows]
    absent = rows[~rows.isin(values.index)]
    why = f"row {absent[0]} of the fit is not in it" if len(absent) else "labels repeat"
    raise DesignError(
        f"The new response has another index than the rows of the fit, which does not say which value belongs to which "
        f"row: {why}. Give it the index of the data, or pass new.to_numpy() if row i of one belongs to row i of the "
        "other."
    )


def _numbers(values: Any) -> FloatArray:
    if isinstance(values, pd.DataFrame):
        columns = [_numbers(values.iloc[:, k]) for k in range(values.shape[1])]
        return np.column_stack(columns) if columns else np.empty(values.shape)
    masked = int(np.ma.getmaskarray(values).sum()) if np.ma.isMA(values) else 0
    if masked:
        raise DesignError(
            f"The new response is a masked array with {masked} masked value(s). A refit keeps the rows of the fit; to "
            "leave rows out, make a new Model."
        )
    try:
        flat = values if isinstance(values, pd.Series) else pd.Series(np.asarray(values).ravel())
        odd = "true and false" if pd.api.types.infer_dtype(flat) == "boolean" else no_numbers(flat)
        array = np.array(values, dtype=complex if odd == "complex" else float)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DesignError(f"The new response is not numeric: {error}.") from error
    if odd:
        raise DesignError(f"The values of the new response are {odd}, not numbers. Convert them first.")
    return array


def with_response(design: Design, y: FloatArray) -> Design:
    """The design with another response."""
    if y.size > 1 and (y == y[0]).all():
        raise DesignError(f"The new response is constant: all {y.size} values are {y[0]:g}.")
    design = replace(design, y=y)
    return replace(design, notes=notes_for(design))


def refit[F: Fit](fit: F, y: ArrayLike) -> F:
    """Fit the same model to another response.

    Parameters
    ----------
    y : array-like, shape (n,) or (n, 1)
        In the order of the rows kept; of a Series or a frame of one column the index says which rows are meant, so
        that it may have others too. An offset of the model stays.

    Returns
    -------
    REMLResult or PenalisedResult

    Raises
    ------
    DesignError
        Wrong shape, missing or infinite values.
    """
    design = with_response(fit.design, check_responses(fit.design, y, 1))
    found = replace(refit_design(fit, design), origin=of_response(fit.origin, design.y))
    if not found.status.ok:
        warnings.warn(f"{fit.formula}: {found.optimum.verdict}", ConvergenceWarning, stacklevel=2)
    return found


def refit_many(fit: Fit, Y: ArrayLike, *, workers: int = 1) -> Refits:
    """Fit the same model to many responses at once (bootstrap, simulation, permutation).

    Where the design allows it, all are solved together by one vectorised Newton iteration: 1,000 responses of
    sleepstudy take a few tenths of a second. Each result is the one that `refit` gives, whatever the others and
    the number of workers are, with one exception: in models with several variances `refit` searches for lower
    minima from many points where levels are few or very unequal, `refit_many` at zeros of the terms only. Of models
    whose residuals have parameters each response is fitted by itself.

    Parameters
    ----------
    Y : array-like, shape (n, K)
        One response per column, rows in the order of the rows kept, or a data frame whose index says which they
        are.
    workers : int
        Threads.

    Returns
    -------
    Refits

    Raises
    ------
    DesignError
        Wrong shape, missing or infinite values.
    """
    values = check_responses(fit.design, Y, 2)
    workers = whole("workers", workers, 1, MOST_WORKERS, DesignError)
    return Refits(fit.design, fit.reml, optima_of(fit, values, workers))


def optima_of(fit: Fit, Y: FloatArray, workers: int = 1) -> Optima:
    """Estimates of the model of a fit for responses (n, K)."""
    if isinstance(fit.optimum, ResidualOptimum):
        return optimise_residual_many(fit.design, Y, fit.reml, workers=workers)
    optima = optimise_many(fit.cp, Y, fit.reml, fixed=fit._fixed, workers=workers)
    return not_identified(optima) if fit.optimum.ridges else optima


def refit_design[F: Fit](fit: F, design: Design) -> F:
    """The model of a fit for other rows or another response of the same columns, by what it was fitted by."""
    if isinstance(fit.optimum, ResidualOptimum):
        optimum: Optimum = optimum_of(design, fit.reml)
        return replace(fit, design=design, cp=optimum.cp, optimum=optimum)
    cp = cross_products(design)
    if isinstance(fit.optimum, PosteriorMode):
        optimum = find_mode(cp, fit.optimum.priors, fit.reml, fixed=fit._fixed)
    else:
        optimum = optimise(cp, fit.reml, fixed=fit._fixed, penalty=fit.optimum.penalty)
    return replace(fit, design=design, cp=cp, optimum=optimum)
