"""A fit of a changed model, by the same criterion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.design.formula import parse_formula
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.design.updating import updated_formula
from bayeslmm.errors import FitError
from bayeslmm.mode import PosteriorMode
from bayeslmm.residual import KnownVariances
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray, IntArray


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


@dataclass(frozen=True)
class OtherResponse:
    """The model of a fit with another response: what `update` of a refit starts from.

    Attributes
    ----------
    model : Model
        With the table that it was made from.
    rows : IntArray, shape (m,)
        Rows of the model's design that have responses.
    y : FloatArray, shape (m,)
    """

    model: Any
    rows: IntArray
    y: FloatArray

    def update(self, formula: str | None = None, data: Any = None, **options: Any) -> Any:
        """As `Model.update`; other data bring their own response."""
        if data is not None:
            return self.model.update(formula, data, **options)
        exclude = self.model.update(na_action="exclude").design.all_rows
        table, was = to_pandas(*open_table(self.model._table)).copy(deep=False), parse_formula(self.model.formula)
        response = np.full(len(table), np.nan)
        response[self.rows if exclude is None else exclude.kept[self.rows]] = self.y
        # A transformed response is a column of its own.
        name = was.response.strip("`")
        text = updated_formula(self.model.formula, f"{was.response if name in table else f'`{name}`'} ~ .")
        table[name] = response
        # The rows without a response are no gaps in the data.
        given = options if self.model.design.all_rows is not None else {"na_action": "drop", **options}
        return self.model.update(updated_formula(text, formula or ". ~ ."), table, **given)


def of_response(origin: Any, y: FloatArray, rows: IntArray | None = None) -> Any:
    """The origin of a refit to responses of some rows, by default all; None where the fit has none."""
    if origin is None:
        return None
    model = origin.model if isinstance(origin, OtherResponse) else origin
    return OtherResponse(model, np.arange(y.size) if rows is None else rows, y)
