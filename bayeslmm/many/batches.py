"""Responses that share a design: the same right side of the formula, the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.magnitude import LARGEST, SMALLEST
from bayeslmm.design.tokens import dots, quoted, tokenize
from bayeslmm.errors import BayesLMMError
from bayeslmm.model import Model
from bayeslmm.types import FloatArray

# Arguments of a model that may be expressions of columns.
_EXPRESSIONS = ("weights", "residual_sd", "frequency", "residual")


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
            out.refused[name] = str(error).rstrip(".")
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
    used = names_used(right, options)
    out.refused |= {
        name: "the formula or an argument uses this column, too, which leaves nothing to explain"
        for name in map(str, responses.columns)
        if name in used
    }
    free = responses[[name for name in responses.columns if name not in used]]
    values = _numbers(free)
    for names in [*_by_missing(values), *([name] for name in free.columns if name not in values)]:
        Y = values[names].to_numpy(dtype=float) if names[0] in values else None
        first = 0 if Y is None else _first_usable(Y)
        try:
            model = model_of(right, frame, free[names[first]], options)
        except BayesLMMError as error:
            errors.append(error)
            out.refused |= dict.fromkeys(names, str(error).rstrip("."))
            continue
        rows = np.asarray(model.design.index, dtype=np.int64)
        out.add(model.design, names, model.design.y[:, None] if Y is None else Y[rows])
    if not out.ready and errors:
        raise errors[0]
    return out


def names_used(right: str, options: Mapping[str, Any]) -> set[str]:
    """Names in the right side of a formula and in arguments that are expressions."""
    texts = [right, *(options[name] for name in _EXPRESSIONS if isinstance(options.get(name), str))]
    tokens = [token for text in texts for token in tokenize(_without_dots(text))]
    return {token.text.strip("`") for token in tokens if token.kind in ("name", "quoted")}


def _without_dots(text: str) -> str:
    """A formula in which the name of all other columns is a 1."""
    alone = set(dots(text))
    return "".join("1" if k in alone else letter for k, letter in enumerate(text))


def _first_usable(Y: FloatArray) -> int:
    """The first response (n, K) that a model can be fitted to, if there is one."""
    return next((k for k, y in enumerate(Y.T) if not _unusable(y[~np.isnan(y)])), 0)


def model_of(right: str, frame: pd.DataFrame, response: pd.Series, options: Mapping[str, Any]) -> Model:
    """The model of one response; its rows are called by their positions."""
    name = str(response.name)
    table = frame.reset_index(drop=True)
    table[name] = response.array
    return Model(f"{quoted(name)} {right}", table, **options)


def _numbers(responses: pd.DataFrame) -> pd.DataFrame:
    """The columns that are numbers by their type, as floats."""
    types = pd.api.types
    columns = {
        name: column.to_numpy(dtype=float, na_value=np.nan)
        for name, column in responses.items()
        if types.is_any_real_numeric_dtype(column.dtype)
    }
    return pd.DataFrame(columns)


def _by_missing(values: pd.DataFrame) -> Iterable[list[str]]:
    """Names of responses that lack the same rows."""
    missing = np.packbits(np.isnan(values.to_numpy()), axis=0)
    shared: dict[bytes, list[str]] = {}
    for name, pattern in zip(values.columns, missing.T, strict=True):
        shared.setdefault(pattern.tobytes(), []).append(name)
    return shared.values()
