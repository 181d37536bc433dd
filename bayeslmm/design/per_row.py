"""Arguments with one value per row: precision weights, known residual standard deviations, frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import data as checks
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.formula import Formula
from bayeslmm.design.frequency import evaluator_on_copies, read_frequency
from bayeslmm.design.residual_words import refuse_variance_words
from bayeslmm.errors import DesignError
from bayeslmm.residual import KnownVariances, Residual, make_residual
from bayeslmm.types import BoolArray, FloatArray

_SHOWN = 5


@dataclass(frozen=True)
class PerRow:
    """Values of the arguments on all rows of the data, nan where missing; None for those that were not given.

    Attributes
    ----------
    weights, residual_sd, frequency : FloatArray or None, shape (rows,)
    """

    weights: FloatArray | None
    residual_sd: FloatArray | None
    frequency: FloatArray | None

    @property
    def given(self) -> dict[str, FloatArray]:
        """Those that were given, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def residual(self, keep: BoolArray) -> Residual:
        """The residual structure of the rows that are kept."""
        if self.residual_sd is not None:
            return KnownVariances(self.residual_sd[keep])
        return make_residual(int(np.count_nonzero(keep)), None if self.weights is None else self.weights[keep])


@dataclass(frozen=True)
class PerRowArguments:
    """The arguments as they were given, and the columns that they name.

    Attributes
    ----------
    weights, residual_sd, frequency : str, array or None
    names : dict of str to list of str
        By argument.
    """

    weights: Any
    residual_sd: Any
    frequency: Any
    names: Mapping[str, list[str]]

    @classmethod
    def of(
        cls, weights: Any, residual_sd: Any, frequency: Any, available: Sequence[str], namespace: Mapping[str, Any]
    ) -> PerRowArguments:
        """Find the columns.

        Raises
        ------
        DesignError
            A column that is not there; weights beside known standard deviations.
        """
        if weights is None and residual_sd is None and frequency is None:
            return cls(None, None, None, {})
        if weights is not None and residual_sd is not None:
            raise DesignError(
                "The model got weights= and residual_sd=, which both say how the residual variances of the rows "
                "differ: sigma^2 / weight with sigma estimated, and residual_sd^2 with nothing to estimate. Standard "
                "errors that are known up to one factor are weights = 1 / se^2; standard errors that are known are "
                "residual_sd = se."
            )
        given = {"weights": weights, "residual_sd": residual_sd, "frequency": frequency}
        names = {what: _columns(what, value, available, namespace) for what, value in given.items()}
        return cls(weights, residual_sd, frequency, names)

    @property
    def columns(self) -> list[str]:
        """All columns that are named."""
        return [name for names in self.names.values() for name in names]

    @property
    def scale(self) -> Any:
        """Whichever says how the residual variances differ, as it was given."""
        return self.weights if self.residual_sd is None else self.residual_sd

    def on(self, frame: pd.DataFrame, namespace: Mapping[str, Any]) -> PerRow:
        """Read the values.

        Raises
        ------
        DesignError
            No numbers, a wrong number of them, or values that none of these can have.
        """
        if not self.names:
            return PerRow(None, None, None)

        def values(what: str, counts: FloatArray | None) -> Any:
            return _values(getattr(self, what), self.names[what], frame, namespace, counts)

        counts = read_frequency(values("frequency", None), frame)
        weights = checks.read_weights(values("weights", counts), frame)
        return PerRow(weights, read_residual_sd(values("residual_sd", counts), frame), counts)


def read_residual_sd(residual_sd: Any, data: pd.DataFrame) -> FloatArray | None:
    """Known standard deviations of the residuals (n,), not yet restricted to complete rows.

    Raises
    ------
    DesignError
        Wrong length, not numeric, negative, zero or infinite values.
    """
    values = checks.read_numbers("residual_sd", residual_sd, data)
    if values is None:
        return None
    bad = (values <= 0) | np.isinf(values)
    if bad.any():
        first = ", ".join(f"{v:g}" for v in values[bad][:_SHOWN])
        raise DesignError(
            f"{int(bad.sum())} value(s) of residual_sd are negative, zero or infinite ({first} at row(s) "
            f"{checks.row_names(data.index, bad)}). They are standard deviations (standard errors, the roots of "
            "sampling variances) in the units of the response, and a row of standard error 0 would be known without "
            "error. Use positive numbers; for sampling variances vi write residual_sd='sqrt(vi)'; leave rows out by "
            "nan."
        )
    return values


def with_precisions(residual: Residual, weights: FloatArray) -> Residual:
    """A structure of the same kind with other precisions of the rows."""
    return KnownVariances(weights**-0.5) if isinstance(residual, KnownVariances) else make_residual(residual.n, weights)


def _columns(what: str, given: Any, available: Sequence[str], namespace: Mapping[str, Any]) -> list[str]:
    """Columns that an argument of one value per row names; none if it is an array."""
    if not isinstance(given, str):
        return []
    refuse_variance_words(what, given)
    formula = Formula(f"`{given}`" if given in available else given, "1", "1", (), ())
    formula = replace(formula, response=formula.text)
    try:
        names = checks.used_columns(formula, available, namespace)
    except DesignError as error:
        raise DesignError(f"In {what}={given!r}: {error}") from error
    if not names:
        raise DesignError(f"{what}={given!r} names no column. Give a column or an expression of columns.")
    return names


def _values(
    given: Any, names: Sequence[str], frame: pd.DataFrame, namespace: Mapping[str, Any], counts: FloatArray | None
) -> Any:
    """Values of an argument; an expression is evaluated on the rows that occur, each as often as it does."""
    if not names:
        return given
    columns = {name: frame[name] for name in names}
    checks.check_real(columns)
    values = _evaluated(given, columns, namespace, counts)
    known = ~np.logical_or.reduce([series.isna().to_numpy() for series in columns.values()])
    bad = np.isnan(values) & known
    if bad.any():
        raise DesignError(
            f"{given} is undefined at row(s) {checks.row_names(frame.index, bad)} although the columns it is made from "
            "are not missing (the root or logarithm of a negative number?). Change the expression, correct the "
            "values, or leave these rows out by nan."
        )
    return values


def _evaluated(
    given: str,
    columns: Mapping[str, pd.Series],
    namespace: Mapping[str, Any],
    counts: FloatArray | None,
) -> FloatArray:
    if counts is None:
        return Evaluator(columns, {}, namespace).vector(given)
    occurs = counts > 0
    values = np.ones(occurs.size)
    if occurs.any():
        columns = {name: series[occurs] for name, series in columns.items()}
        copies = counts[occurs].astype(np.int64)
        values[occurs] = evaluator_on_copies([given], columns, {}, namespace, copies).vector(given)
    return values
