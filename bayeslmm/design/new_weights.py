"""Precision weights of new rows: the expression that the model was given, or other ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bayeslmm.arguments import shown
from bayeslmm.design import data as checks
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.formula import Formula
from bayeslmm.design.frequency import row_by_row
from bayeslmm.design.per_row import read_residual_sd
from bayeslmm.design.recipe import Recipe
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray


def weights_text(recipe: Recipe, weights: Any, known: bool = False) -> str | None:
    """The column or expression that gives the weights of new rows; None where they are numbers or there are none.

    Raises
    ------
    DesignError
        Nothing says what they are.
    """
    if isinstance(weights, str):
        if not weights.strip():
            name = "residual_sd" if known else "weights"
            raise DesignError(f"{name}={weights!r} is empty. Give the name of a column, an expression, or an array.")
        return weights
    if weights is not None or not recipe.weighted:
        return None
    if recipe.weights is None and known:
        raise DesignError(
            "The model was given the standard deviations of its residuals as numbers, so it does not know those of new "
            "rows. Pass residual_sd= to predict, or kind='mean'."
        )
    if recipe.weights is None:
        raise DesignError(
            "The model was given its precision weights as numbers, so it does not know those of new rows, and a new "
            "observation has residual variance sigma^2 / weight. Pass weights= to predict, or kind='mean'."
        )
    return recipe.weights


def weight_columns(text: str, available: Sequence[str], recipe: Recipe) -> list[str]:
    """Columns of the new data that such a text uses.

    Raises
    ------
    DesignError
        They are missing, or the text asks for more than one row at a time.
    """
    if text in available:
        return [text]
    namespace = recipe.namespace
    if not row_by_row(text, namespace):
        raise DesignError(
            f"The weights {text!r} may depend on more than one row at a time, so those of new rows are not known. Pass "
            "them to predict as numbers, weights=, on the scale that the model was given."
        )
    return checks.used_columns(Formula(text, text, "1", (), ()), available, namespace)


def weight_values(
    given: Any, frame: pd.DataFrame, names: Sequence[str], recipe: Recipe, known: bool = False
) -> FloatArray | None:
    """Weights, or known residual standard deviations, of the new rows (m,), nan where missing.

    Raises
    ------
    DesignError
        No numbers, negative ones, or zeros.
    """
    if isinstance(given, str):
        text = f"`{given}`" if given in frame.columns else given
        if not names:
            raise DesignError(
                f"{'residual_sd' if known else 'weights'}={shown(given)} names no column of the new data. Name one, or "
                "give an array with a number for each row."
            )
        given = Evaluator({name: frame[name] for name in names}, {}, recipe.namespace).vector(text)
    if known:
        return read_residual_sd(given, frame)
    values = checks.read_weights(given, frame)
    if values is not None and (values == 0).any():
        zero = values == 0
        raise DesignError(
            f"{int(zero.sum())} weight(s) of the new data are 0 (at row(s) {checks.row_names(frame.index, zero)}): an "
            "observation of weight 0 has no finite variance. Give positive weights."
        )
    return values
