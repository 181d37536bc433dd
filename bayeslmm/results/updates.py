"""A fit of a changed model, by the same criterion."""

from __future__ import annotations

from typing import Any

from bayeslmm.errors import FitError
from bayeslmm.mode import PosteriorMode
from bayeslmm.residual import KnownVariances
from bayeslmm.results.fit import Fit


def update[F: Fit](fit: F, formula: str | None = None, data: Any = None, **options: Any) -> F:
    """The fit of the model with another formula, other data or other arguments, in R's manner.

    Parameters
    ----------
    formula : str, optional
        As in `Model.update`: ``". ~ . - x"``.
    data : table, optional
    reml : bool, optional
        Another criterion than that of this fit.
    **options
        Further arguments of `Model`, e.g. ``weights=``.

    Returns
    -------
    REMLResult or PenalisedResult

    Raises
    ------
    FormulaError, DesignError
        As `Model.update`.
    FitError
        The fit has parameters held fixed, or priors, which belong to the terms of its model; or it was not made by
        ``model.fit()`` in this process.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit(reml=False)
    >>> smaller = fit.update("~ . - Days")
    >>> smaller.formula, smaller.reml
    ('Reaction ~ 1 + (Days | Subject)', False)
    """
    by_priors = isinstance(fit.optimum, PosteriorMode)
    if by_priors or fit._fixed:
        held, argument = ("priors", "priors") if by_priors else ("parameters held fixed", "fix")
        raise FitError(
            f"This fit has {held}, which belong to the terms of its model. Say what the changed model is to have: "
            f"model.update(...).fit({argument}=...)."
        )
    if fit.origin is None:
        raise FitError(
            "This fit was read from a file, or made without a model, so that its data frame is not at hand. Use "
            f"bl.Model({fit.formula!r}, data).update(...).fit()."
        )
    reml = options.pop("reml", fit.reml)
    changed = fit.origin.update(formula, data, **options)
    # What fit(sigma=...) held; a model with residual_sd= has sigma = 1 by itself.
    by_model = isinstance(fit.design.residual, KnownVariances) and fit.design.sigma == 1.0
    held_sigma = None if by_model else fit.design.sigma
    found: F = changed.fit(reml, penalty=fit.penalty, sigma=held_sigma)
    return found
