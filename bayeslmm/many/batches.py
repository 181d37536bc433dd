"""Responses that share a design: the same right side of the formula, the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.data import no_numbers
from bayeslmm.design.design import Design
from bayeslmm.design.magnitude import LARGEST, SMALLEST
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.model import Model
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Batch:
    """Responses of one design.

    Attributes
    ----------
    design : Design
        With the first of the responses.
    names : tuple of str
    Y : FloatArray, shape (n, K)
    """

    design: Design
    names: tuple[str, ...]
    Y: FloatArray


@dataclass
class Batches:
    """All fits of a call: those that can be tried, by design, and why the others cannot.

    Attributes
    ----------
    ready : list of Batch
    refused : dict
        Name to what is wrong.
    """

    ready: list[Batch] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def add(self, design: Design, names: Sequence[str], Y: FloatArray) -> None:
        """Responses of one design; those that no fit could use are refused."""
        why = {k: text for k, text in enumerate(map(_unusable, Y.T)) if text}
        self.refused |= {names[k]: text for k, text in why.items()}
        usable = [k for k in range(len(names)) if k not in why]
        if usable:
            self.ready.append(Batch(design, tuple(names[k] for k in usable), np.ascontiguousarray(Y[:, usable])))


def _unusable(y: FloatArray) -> str:
    """Why no model can be fitted to a response; empty if one can."""
    if not np.isfinite(y).all():
        return f"{int((~np.isfinite(y)).sum())} infinite value(s)"
    largest = float(np.abs(y).max(initial=0.0))
    if (y == y[:1]).all():
        return f"constant: all {y.size} values are {y[0]:g}" if y.size else "no value"
    if not SMALLEST <= largest <= LARGEST:
        return f"reaches {largest:.3g}, whose square is no number that a computer holds: change its unit"
    return ""


def of_formulas(formulas: Mapping[str, str], data: Any, options: Mapping[str, Any]) -> Batches:
    """Every formula on the same table; those with the same right side and the same rows are a batch.

    Raises
    ------
    BayesLMMError
        No formula can be used; what is wrong with the first.
    """
    models: dict[str, Model] = {}
    out, errors = Batches(), list[BayesLMMError]()
    for name, formula in formulas.items():
        try:
            models[name] = Model(formula, data, **options)
        except BayesLMMError as error:
            errors.append(error)
            out.refused[name] = str(error)
    if not models:
        raise errors[0]
    shared: dict[tuple[str, tuple[Any, ...]], list[str]] = {}
    for name, model in models.items():
        shared.setdefault((model.formula.partition("~")[2].strip(), tuple(model.design.index)), []).append(name)
    for names in shared.values():
        Y = np.column_stack([models[name].design.y for name in names])
        out.add(models[names[0]].design, names, Y)
    return out


def of_responses(right: str, frame: pd.DataFrame, responses: pd.DataFrame, options: Mapping[str, Any]) -> Batches:
    """One right side of a formula and many responses; those with values in the same rows are a batch.

    Parameters
    ----------
    right : str
        From the tilde on.
    frame : pandas.DataFrame
        The other columns.
    responses : pandas.DataFrame
        Rows as in `frame`; names are text.
    options : mapping
        Of `Model`.

    Raises
    ------
    BayesLMMError
        No response can be used; what is wrong with the first.
    """
    out, errors = Batches(), list[BayesLMMError]()
    values = _numbers(responses, out)
    for names in _by_missing(values):
        Y = values[names].to_numpy(dtype=float)
        first = next((k for k in range(len(names)) if not _unusable(Y[~np.isnan(Y[:, k]), k])), 0)
        try:
            model = model_of(right, frame, values[names[first]], options)
        except BayesLMMError as error:
            errors.append(error)
            out.refused |= dict.fromkeys(names, str(error))
            continue
        out.add(model.design, names, Y[np.asarray(model.design.index, dtype=np.int64)])
    if not out.ready and errors:
        raise errors[0]
    return out


def model_of(right: str, frame: pd.DataFrame, response: pd.Series, options: Mapping[str, Any]) -> Model:
    """The model of one response; its rows are called by their positions."""
    name = str(response.name)
    table = frame.reset_index(drop=True)
    table[name] = response.to_numpy()
    return Model(f"{quoted(name)} {right}", table, **options)


def quoted(name: str) -> str:
    """A column's name as a formula has it."""
    return name if name.isidentifier() else f"`{name}`"


def _numbers(responses: pd.DataFrame, out: Batches) -> pd.DataFrame:
    """The columns that are numbers, as floats; what the others are is said."""
    columns: dict[str, FloatArray] = {}
    for name, column in responses.items():
        odd = no_numbers(column)
        if odd:
            out.refused[str(name)] = f"its values are {odd}, not numbers"
            continue
        columns[str(name)] = column.to_numpy(dtype=float, na_value=np.nan)
    if not columns and out.refused:
        first, why = next(iter(out.refused.items()))
        raise DesignError(f"No response is numeric. The first, {first!r}: {why}.")
    return pd.DataFrame(columns)


def _by_missing(values: pd.DataFrame) -> Iterable[list[str]]:
    """Names of responses that lack the same rows."""
    missing = np.packbits(np.isnan(values.to_numpy()), axis=0)
    shared: dict[bytes, list[str]] = {}
    for name, pattern in zip(values.columns, missing.T, strict=True):
        shared.setdefault(pattern.tobytes(), []).append(name)
    return shared.values()
