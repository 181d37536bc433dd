"""Evaluate formula text on data with formulae, under names that cannot clash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from formulae import design_matrices

from bayeslmm.design.contrasts import MatrixEncoding, factor, ordered
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.types import FloatArray

_FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name)
    for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")
}
NAMESPACE: dict[str, Any] = {**_FUNCTIONS, "np": np, "pi": np.pi, "ordered": ordered, "factor": factor}


# A sum of names, 0 and 1.
_SUMMAND = re.compile(r"([+-]?)\s*(`[^`]*`|[^\W\d][\w.]*|[01])\s*")
_SUM = re.compile(r"(?:[+-]?\s*(?:`[^`]*`|[^\W\d][\w.]*|[01])\s*(?=[+-]|$))+")


class Evaluator:
    """Formula text to columns.

    Every data column gets a private identifier before formulae sees the text, so that names with spaces,
    dots or quotes, or names of functions, mean the column; labels are translated back.

    Parameters
    ----------
    columns : mapping of str to pandas.Series
        The complete rows of the columns in use.
    contrasts : mapping
        Column name to contrasts.
    namespace : mapping
        Further names that formulas may use.
    """

    def __init__(
        self,
        columns: Mapping[str, pd.Series],
        contrasts: Mapping[str, Any],
        namespace: Mapping[str, Any],
    ) -> None:
        self.n = len(next(iter(columns.values())))
        self._columns = columns
        self._contrasts = {**_ordered_contrasts(columns), **contrasts}
        for name in contrasts:
            if not _is_categorical(columns[name]):
                raise DesignError(
                    f"contrasts names {name!r}, which is numeric. Make it categorical first: "
                    f"data[{name!r}].astype('category')."
                )
        self._ids = {name: f"v{i}_" for i, name in enumerate(columns)}
        self._names = {private: name for name, private in self._ids.items()}
        self._namespace = {**NAMESPACE, **namespace}
        self._coded: dict[str, str] = {}
        for name, kind in self._contrasts.items():
            private = self._ids[name]
            self._namespace[f"c{private}"] = MatrixEncoding(kind)
            self._coded[name] = f"C({private}, c{private})"
        self._cache: dict[str, tuple[FloatArray, tuple[str, ...]]] = {}

    @cached_property
    def _frame(self) -> pd.DataFrame:
        data = {self._ids[name]: _prepare(series) for name, series in self._columns.items()}
        return pd.DataFrame(data, copy=False)

    def response_and_columns(self, response: str, right: str) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
        """Response (n,), columns (n, p) and their names, in one call of formulae."""
        plain = self._sum_of_columns(right)
        column = self._plain_column(response)
        if plain is not None and column is not None:
            self._cache[right] = plain
            return column, *plain
        left = self._translate(response, code=False)
        design = self._call(f"I({left}) ~ {self._translate(right)}")
        y = np.asarray(design.response.design_matrix, dtype=float)
        matrix, names = self._common(design)
        self._cache[right] = (matrix, names)
        return y.reshape(self.n), matrix, names

    def columns(self, right: str) -> tuple[FloatArray, tuple[str, ...]]:
        """Columns (n, c) of ``model.matrix(~ right)`` and their names."""
        if right.strip() == "1":
            return np.ones((self.n, 1)), ("Intercept",)
        if right not in self._cache:
            plain = self._sum_of_columns(right)
            self._cache[right] = plain or self._common(self._call(self._translate(right)))
        return self._cache[right]

    def vector(self, text: str) -> FloatArray:
        """One numeric column, e.g. an offset."""
        matrix, _ = self._common(self._call(f"0 + I({self._translate(text, code=False)})"))
        return np.asarray(matrix[:, 0])

    def _plain_column(self, text: str) -> FloatArray | None:
        """Values of a column if the text is nothing but the name of a numeric one."""
        series = self._columns.get(text.strip("`"))
        if series is None or _is_categorical(series):
            return None
        return series.to_numpy(dtype=float, na_value=np.nan)

    def _sum_of_columns(self, right: str) -> tuple[FloatArray, tuple[str, ...]] | None:
        """Columns of a sum of numeric columns, 1 and 0, which needs no parser; None for anything else."""
        if not _SUM.fullmatch(right):
            return None
        columns: dict[str, FloatArray] = {}
        intercept = True
        for sign, word in _SUMMAND.findall(right):
            if word in ("0", "1"):
                intercept = (word == "1") != (sign == "-")
                continue
            values = self._plain_column(word)
            if values is None or sign == "-":
                return None
            columns[word.strip("`")] = values
        if intercept:
            columns = {"Intercept": np.ones(self.n), **columns}
        matrix = np.column_stack(list(columns.values())) if columns else np.empty((self.n, 0))
        return matrix, tuple(columns)

    def _call(self, text: str) -> Any:
        try:
            with np.errstate(all="ignore"):
                return design_matrices(text, self._frame, na_action="pass", extra_namespace=self._namespace)
        except BayesLMMError:
            raise
        except Exception as error:
            raise DesignError(
                f"{self._back(text)!r} could not be evaluated: {type(error).__name__}: {self._back(str(error))}. "
                "Check the names of functions (numpy functions are np.name) and the types of the columns."
            ) from error

    def _common(self, design: Any) -> tuple[FloatArray, tuple[str, ...]]:
        """Columns in R's order: main effects before interactions, the first factor of these varying fastest."""
        if design.common is None:
            return np.empty((self.n, 0)), ()
        terms = list(design.common.terms.values())
        if all(len(getattr(term, "components", ())) < 2 for term in terms):
            return self._plain(design, terms)
        terms.sort(key=lambda term: len(getattr(term, "components", ())))
        blocks, names = [], list[str]()
        for term in terms:
            block = np.asarray(term.data, dtype=float).reshape(self.n, -1)
            order = _first_fastest(term, block.shape[1])
            blocks.append(block[:, order])
            labels = _labels(term)
            names += [self._back(labels[k]) for k in order]
        return np.column_stack(blocks), tuple(names)

    def _plain(self, design: Any, terms: list[Any]) -> tuple[FloatArray, tuple[str, ...]]:
        names = [self._back(label) for term in terms for label in _labels(term)]
        return np.asarray(design.common.design_matrix, dtype=float), tuple(names)

    def _translate(self, text: str, code: bool = True) -> str:
        out, tokens = [], tokenize(text)
        for i, token in enumerate(tokens):
            name = token.text.strip("`")
            called = i + 1 < len(tokens) and tokens[i + 1].text == "("
            if token.kind in ("name", "quoted") and name in self._ids and not called:
                inside_call = token.depth > 0 and _within_call(tokens, i)
                coded = self._coded.get(name) if code and not inside_call else None
                out.append(coded or self._ids[name])
            else:
                out.append(token.text)
        return " ".join(out)

    def _back(self, label: str) -> str:
        label = re.sub(r"C\((v\d+_), cv\d+_\)", r"\1", label)
        label = re.sub(r"v\d+_", lambda m: self._names.get(m.group(), m.group()), label)
        label = re.sub(r"\[(\.[LQC]|\^\d+)\]", r"\1", label)
        return re.sub(r"(poly\(.*?\))\[(\d+)\]", lambda m: f"{m[1]}[{int(m[2]) + 1}]", label)


def _labels(term: Any) -> list[str]:
    return list(term.labels) if isinstance(term.labels, list) else [term.labels]


def _first_fastest(term: Any, columns: int) -> list[int]:
    """Order of an interaction's columns in which its first component varies fastest."""
    components = getattr(term, "components", ())
    if len(components) < 2:
        return list(range(columns))
    sizes = [1 if np.ndim(c.value) == 1 else c.value.shape[1] for c in components]
    if int(np.prod(sizes)) != columns:
        return list(range(columns))
    places = np.arange(columns).reshape(sizes)
    return [int(k) for k in places.transpose().ravel()]


def _within_call(tokens: Any, i: int) -> bool:
    """Whether token i is an argument of a function (not merely in grouping parentheses)."""
    depth = tokens[i].depth
    for j in range(i - 1, -1, -1):
        if tokens[j].text == "(" and tokens[j].depth < depth:
            if j > 0 and tokens[j - 1].kind in ("name", "quoted"):
                return True
            depth = tokens[j].depth
    return False


def _is_categorical(series: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(series.dtype)


def _ordered_contrasts(columns: Mapping[str, pd.Series]) -> dict[str, str]:
    return {name: "poly" for name, series in columns.items() if getattr(series.dtype, "ordered", False)}


def _prepare(series: pd.Series) -> pd.Series:
    """Numbers as they are; everything else as an ordered categorical over the values that occur."""
    values: pd.Series
    if isinstance(series.dtype, pd.CategoricalDtype):
        values = series.cat.remove_unused_categories().cat.as_ordered()
    elif pd.api.types.is_numeric_dtype(series.dtype):
        plain = isinstance(series.dtype, np.dtype) and series.dtype != bool
        values = series if plain else series.astype(float)
    else:
        levels = sorted(pd.unique(series).tolist(), key=lambda v: (str(type(v)), v))
        values = series.astype(pd.CategoricalDtype(levels, ordered=True))
    return values.reset_index(drop=True)
