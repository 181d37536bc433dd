"""REML and ML fits, penalised ones among them, with all that can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from bayeslmm.boundary import build, zero_tests
from bayeslmm.design.design import Design
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.files.writing import FilePath
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum
from bayeslmm.results import (
    Summary,
    accessors,
    fit_coefficients,
    fit_intervals,
    predictions,
    refits,
    textbook,
    variance_errors,
)
from bayeslmm.results.fit import Fit
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.summary import reml_summary
from bayeslmm.results.tables import tidy_table
from bayeslmm.storage.fits import save_parts


def fit_result(design: Design, cp: SummedDesign, optimum: Optimum) -> REMLResult:
    """The result of an optimisation, penalised or not."""
    kind = REMLResult if optimum.penalty is None else PenalisedResult
    return kind(design, cp, optimum)


@by_value
@dataclass(frozen=True, repr=False)
class REMLResult(Fit):
    """Estimates of a linear mixed model by restricted or full maximum likelihood.

    Attributes
    ----------
    design : Design
    cp : CrossProducts
    optimum : Optimum
        Everything about the optimisation.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> round(fit.sigma, 3), round(float(fit.fixef()["Intercept"]), 1)
    (49.51, 1527.5)
    """

    coefficients = fit_coefficients.coefficients
    test_fixed = fit_coefficients.test_fixed
    vcov_kenward_roger = fit_coefficients.vcov_kenward_roger
    correlation = accessors.correlation
    weights = accessors.weights
    df_residual = property(accessors.df_residual)
    variances = variance_errors.variances
    vcov_variances = variance_errors.vcov_variances
    r2 = fit_coefficients.r2
    icc = fit_coefficients.icc
    predict = predictions.predict_fit
    simulate = fit_intervals.simulate
    criterion_at = textbook.criterion_at
    matrices = textbook.matrices
    mme = textbook.mme
    shrinkage = textbook.shrinkage
    refit = refits.refit
    profile = fit_intervals.profile
    confint = fit_intervals.confint
    bootstrap = fit_intervals.bootstrap
    tidy = fit_intervals.tidy
    refit_many = refits.refit_many
    test_zero = zero_tests.test_zero
    boundary = build.boundary

    def summary(self) -> Summary:
        """Printable summary; text in a terminal, a table in a notebook."""
        return reml_summary(self)

    def save(self, path: FilePath, *, overwrite: bool = False) -> None:
        """Write the fit to one file, to be read by `bayeslmm.load`; no pickle.

        Parameters
        ----------
        path : str or path
            Taken as it is; no extension is added.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        StorageError
            The path exists, nothing can be written there, or a row label cannot be kept.
        """
        save_parts(path, self.design, self.optimum, overwrite=overwrite)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _refusal(fit: Fit, what: str) -> FitError:
    return FitError(
        f"{what} is not available for a fit with a penalty ({fit.penalty}): it measures falls of the likelihood "
        "from its highest point, and the penalised estimate is not there. Use "
        f"model.fit(reml={fit.reml}) for intervals and tests, or model.sample() for a posterior."
    )


def _refused(name: str, reason: str) -> Callable[..., NoReturn]:
    """A method that says why there is none."""

    def method(self: Fit, *args: Any, **kwargs: Any) -> NoReturn:
        raise _refusal(self, name)

    method.__name__, method.__doc__ = name, f"Refused: {reason}."
    return method


@by_value
@dataclass(frozen=True, repr=False)
class PenalisedResult(REMLResult):
    """Estimates under a penalty (``model.fit(penalty=...)``).

    ``criterion`` is the one without the penalty, at the penalised estimates, so that it can be set beside the minimum
    of an ordinary fit; ``optimum.objective`` is what was minimised. Estimates, predictions and Wald intervals of the
    fixed effects given these are as in an ordinary fit. What needs the minimum of the criterion itself is refused:
    profiles, tests of zero variances, the boundary report.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="boundary_avoiding")
    >>> round(float(fit.estimates()["sd_Batch[Intercept]"]), 4), fit.is_singular
    (1.1729, False)
    """

    profile = _refused("profile", "the estimate is not the top of the likelihood")
    test_zero = _refused("test_zero", "a penalised estimate is never zero")
    boundary = _refused("boundary", "the report is about the criterion without the penalty")
    refit_many = _refused("refit_many", "many responses are fitted without a penalty only")
    bootstrap = _refused("bootstrap", "many responses are fitted without a penalty only")

    def confint(
        self,
        level: float = 0.95,
        method: str = "wald",
        parameters: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Wald intervals of the fixed effects, theta taken as known; those of variances are refused.

        Raises
        ------
        FitError
            Another method than ``"wald"``, or another parameter.
        """
        if method != "wald" or kwargs:
            raise _refusal(self, f"confint(method={method!r})")
        names = list(self.design.fixed_names) if parameters is None else parameters
        chosen = [names] if isinstance(names, str) else list(names)
        others = [label for label in chosen if label not in self.design.fixed_names]
        if others:
            raise _refusal(self, f"An interval of {', '.join(others)}")
        return fit_intervals.confint(self, level, "wald", parameters)

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; intervals (Wald) for the fixed effects only."""
        errors = self.std_error()
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        interval = or_nan(lambda: self.confint(level), self.design.fixed_names)
        interval = interval.reindex([p.label for p in self._parameters])
        return tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), interval)

    def summary(self) -> Summary:
        """Printable summary; text in a terminal, a table in a notebook."""
        plain = reml_summary(self)
        note = (
            f"Penalty: {self.penalty}. The criterion above is without it, at the penalised estimates; a point estimate "
            "off zero by construction, which says nothing for or against a variance of zero."
        )
        return replace(plain, title=f"{plain.title} with a penalty", notes=(*plain.notes, note))

    def __repr__(self) -> str:
        return super().__repr__().replace(" fit of ", " fit with a penalty of ", 1)
