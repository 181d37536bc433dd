"""Other responses for a fit whose residuals have parameters."""

from __future__ import annotations

from dataclasses import replace

from numpy.typing import ArrayLike

from bayeslmm.reml.residual_optimum import optimum_of
from bayeslmm.results.fit import Fit
from bayeslmm.results.refits import check_responses, with_response


def refit_residual[F: Fit](fit: F, y: ArrayLike) -> F:
    """The same model fitted to another response.

    Parameters
    ----------
    y : array-like, shape (n,)
        For the rows used, in their order.

    Raises
    ------
    DesignError
        Another number of values, or some that are no finite numbers.
    """
    design = with_response(fit.design, check_responses(fit.design, y, 1))
    optimum = optimum_of(design, fit.reml)
    return replace(fit, design=design, cp=optimum.cp, optimum=optimum)
