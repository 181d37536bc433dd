"""Evaluate formula text on data: terms, values and columns as in R."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.algebra import calls, in_order
from bayeslmm.design.arithmetic import Memory, Scope, evaluate, kinds_of_calls
from bayeslmm.design.coding import Columns, indicator_coded, product
from bayeslmm.design.contrasts import contrast_matrix, contrast_names
from bayeslmm.design.data import check_no_time, check_usable
from bayeslmm.design.expressions import Call, Name, Node, parse_expression
from bayeslmm.design.factors import NO_LEVEL, CodedFactor, Indicators, Times, as_factor, column_values, recoded
from bayeslmm.design.groups import level_name
from bayeslmm.design.lookup import column_label, distinct
from bayeslmm.design.size import MOST_COLUMNS, Width, check_columns, check_terms_count
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.types import FloatArray, IntArray

_BLOCK = 8192
# Label of the constant.
_CONSTANT = "Intercept"

# A sum of names, 0 and 1.
_SUMMAND = re.compile(r"([+-]?)\s*(`[^`]*`|[^\W\d][\w.]*|[01])\s*")
_NUMBER = re.compile(r"-?\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SUM = re.compile(r"(?:[+-]?\s*(?:`[^`]*`|[^\W\d][\w.]*|[01])\s*(?=[+-]|$))+")


@dataclass(frozen=True, eq=False)
class _Component:
    """A column or call of a term on the rows of an evaluator.

    Attributes
    ----------
    label : str
    value : FloatArray of shape (n,) or (n, k), or Factor
    names : tuple of str
        Of k columns, where they have names.
    """

    label: str
    value: FloatArray | CodedFactor
    names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class TermPart:
    """A factor or numeric columns in a term.

    Attributes
    ----------
    label : str
    levels : tuple of str
        Names of the levels of a factor, none of numeric columns.
    coding : FloatArray, shape (levels, k)
        Columns of the levels as the term has them (contrasts, or one for each level); the unit matrix (k, k) of k
        numeric columns.
    """

    label: str
    levels: tuple[str, ...]
    coding: FloatArray


class Evaluator:
    """Formula text to columns.

    `algebra.expanded` gives the terms; the values of their columns and calls are computed by `arithmetic.evaluate`,
    each once; which columns these give is decided here, as in R.

    Parameters
    ----------
    columns : mapping of str to pandas.Series
        The complete rows of the columns in use.
    contrasts : mapping
        Column name to contrasts.
    namespace : mapping
        The user's own functions and values.
    counts : IntArray, shape (n,), optional
        How often each row counts, where functions look at a whole column.
    """

    def __init__(
        self,
        columns: Mapping[str, pd.Series],
        contrasts: Mapping[str, Any],
        namespace: Mapping[str, Any],
        counts: IntArray | None = None,
    ) -> None:
        self.n = len(next(iter(columns.values())))
        self._columns = columns
        self._contrasts = contrasts
        for name in contrasts:
            if not _is_categorical(columns[name]):
                raise DesignError(
                    f"contrasts names {name!r}, which is numeric. Make it categorical first: "
                    f"data[{name!r}].astype('category')."
                )
            levels = list(_column_factor(columns[name]).levels)
            # Of more levels there is no matrix to look at: as a term they are refused.
            if len(levels) <= MOST_COLUMNS:
                contrast_matrix(contrasts[name], levels, name)
        # Columns whose contrasts have been used.
        self.coded: set[str] = set()
        self._namespace = namespace
        self._counts = counts
        self._memory = Memory()
        self._components: dict[Node, _Component] = {}
        self._blocks: dict[tuple[Node, bool], Columns] = {}
        self._cache: dict[str, Columns] = {}
        self._values: dict[str, Any] = {}
        # Which evaluator the functions know their means, knots and levels from, if it is another one.
        self._trained: Evaluator | None = None
        self._zero_levels = False

    def on(self, columns: Mapping[str, pd.Series], n: int, *, zero_levels: bool = False) -> Evaluator:
        """An evaluator of other rows, with the means, knots, levels and contrasts of these.

        Parameters
        ----------
        columns : mapping of str to pandas.Series
            What will be asked for, of the same kinds; no level that these rows do not have.
        n : int
            Number of rows.
        zero_levels : bool
            Whether values that are no level get zeros.
        """
        other = copy.copy(self)
        other.n, other._columns, other._trained, other._counts = n, columns, self, None
        other._zero_levels = zero_levels
        other._components, other._blocks, other._cache, other._values = {}, {}, {}, {}
        return other

    def columns(self, right: str, observations: int | None = None) -> Columns:
        """Columns (n, c) of ``model.matrix(~ right)`` and their names.

        Parameters
        ----------
        right : str
        observations : int, optional
            Of which there have to be more than columns of a factor, as in the fixed part.

        Raises
        ------
        DesignError
        """
        if right not in self._cache:
            if right.strip() == "1":
                self._cache[right] = np.ones((self.n, 1)), (_CONSTANT,)
            else:
                self._cache[right] = self._sum_of_columns(right) or self._evaluated(
                    right, lambda text: self._model_columns(text, observations)
                )
        return self._cache[right]

    def vector(self, text: str) -> FloatArray:
        """One numeric column, e.g. the response or an offset.

        Raises
        ------
        DesignError
            The text gives something else.
        """
        if _NUMBER.fullmatch(text):
            return np.full(self.n, float(text))
        plain = self._plain_column(text.strip("`") if text.count("`") in (0, 2) else text)
        return plain if plain is not None else self._evaluated(text, self._single_column)

    def _evaluated[T](self, text: str, compute: Callable[[str], T]) -> T:
        try:
            with np.errstate(all="ignore"):
                return compute(text)
        except BayesLMMError:
            raise
        except Exception as error:
            message = str(error).rstrip(".")
            raise DesignError(
                f"{text!r} could not be evaluated: {type(error).__name__}{': ' if message else ''}{message}. Check "
                "what the functions are given, and the types of the columns."
            ) from error

    def _plain_column(self, name: str) -> FloatArray | None:
        """Values of a numeric column; None if there is none of that name."""
        series = self._columns.get(name)
        if series is None or _is_categorical(series):
            return None
        if isinstance(series.dtype, np.dtype):
            return series.to_numpy(dtype=float)
        return series.to_numpy(dtype=float, na_value=np.nan)

    def _sum_of_columns(self, right: str) -> Columns | None:
        """Columns of a sum of numeric columns, 1 and 0, which needs no parser; None for anything else."""
        if (summands := _summands(right)) is None:
            return None
        columns, intercept = dict[str, FloatArray](), True
        for sign, word in summands:
            if word in ("0", "1"):
                intercept = (word == "1") != (sign == "-")
                continue
            name = word.strip("`")
            values = self._plain_column(name)
            if values is None or sign == "-":
                return None
            _refuse_constant(name, right)
            columns[column_label(name)] = values
        columns = {_CONSTANT: np.ones(self.n), **columns} if intercept else columns
        return _side_by_side(list(columns.values()), self.n), tuple(columns)

    def _model_columns(self, right: str, observations: int | None) -> Columns:
        check_terms_count(tokenize(right))
        terms, intercept, nodes = in_order(right)
        used = {name: self._component(nodes[name], right) for name in nodes if any(name in term for term in terms)}
        factors = {name for name, component in used.items() if isinstance(component.value, CodedFactor)}
        coding = indicator_coded(terms, factors, intercept)
        if self._trained is None:
            widths = {name: _width(component.value) for name, component in used.items()}
            shown = {name: component.label for name, component in used.items()}
            check_columns(terms, coding, widths, self.n, constant=intercept, observations=observations, shown=shown)
        blocks: list[Columns] = [(np.ones((self.n, 1)), (_CONSTANT,))] if intercept else []
        for term, full in zip(terms, coding, strict=True):
            blocks.append(product([self._block(nodes[name], name in full) for name in term]))
        if not blocks:
            return np.empty((self.n, 0)), ()
        names = [name for _, names in blocks for name in names]
        return np.concatenate([matrix for matrix, _ in blocks], axis=1), tuple(distinct(names))

    def term_parts(self, right: str) -> tuple[bool, tuple[tuple[TermPart, ...], ...]]:
        """Whether there is a constant, and what every term of ``model.matrix(~ right)`` is a product of.

        Raises
        ------
        DesignError
        """
        terms, intercept, nodes = in_order(right)
        used = {name: self._component(nodes[name], right) for name in nodes if any(name in term for term in terms)}
        factors = {name for name, component in used.items() if isinstance(component.value, CodedFactor)}
        coding = indicator_coded(terms, factors, intercept)
        return intercept, tuple(
            tuple(self._part(nodes[name], name in full) for name in term)
            for term, full in zip(terms, coding, strict=True)
        )

    def _part(self, node: Node, full: bool) -> TermPart:
        label, value = self._components[node].label, self._components[node].value
        if not isinstance(value, CodedFactor):
            return TermPart(label, (), np.eye(self._block(node, full)[0].shape[1]))
        names = list(value.levels)
        coding = np.eye(len(names)) if full else contrast_matrix(value.coding, names, label)
        return TermPart(label, tuple(map(level_name, names)), np.asarray(coding, dtype=float))

    def _single_column(self, text: str) -> FloatArray:
        value = self._value(text)
        if isinstance(value, CodedFactor | Indicators | Times | str | list) or value is None:
            raise DesignError(f"{text!r} is not numeric. A response, an offset and weights have to be numbers.")
        if np.asarray(value).dtype == bool:
            raise DesignError(
                f"{text!r} is true or false where a number is needed; 1 * ({text}) makes 1 and 0 of it. (For a yes/no "
                "response use a logistic mixed model: bambi, brms, glmer.)"
            )
        if not isinstance(value, np.ndarray):
            return np.full(self.n, float(value))
        column = _one_per_row(value, text, self.n)
        if column.size != self.n:
            raise DesignError(f"{text!r} gives {column.shape[1]} columns where one value per row is needed.")
        return column.reshape(self.n)

    def _value(self, text: str) -> Any:
        if self._trained is not None and text not in self._trained._values:
            self._trained._value(text)
        if text not in self._values:
            self._values[text] = self._evaluate(parse_expression(text), text)
        return self._values[text]

    def _evaluate(self, node: Node, text: str) -> Any:
        try:
            return evaluate(node, self._scope)
        except DesignError as error:
            raise DesignError(f"{text!r} could not be evaluated: {error}") from error

    @property
    def _scope(self) -> Scope:
        return Scope(self.n, self._column, self._namespace, self._memory, self._counts, self._zero_levels)

    def _column(self, name: str) -> Any:
        series = self._columns.get(name)
        if series is None:
            return None
        check_usable(name, series)
        # Levels that these rows do not have are kept where others have them.
        return column_values(series, keep_levels=self._trained is not None)

    def _component(self, node: Node, right: str) -> _Component:
        """Value of a column or call on these rows, after its value on those of the model."""
        if node not in self._components:
            known = None if self._trained is None else self._trained._component(node, right)
            self._components[node] = self._made(node, right, known)
        return self._components[node]

    def _made(self, node: Node, right: str, known: _Component | None) -> _Component:
        label = column_label(node.name) if isinstance(node, Name) else _call(node).text
        if isinstance(node, Name):
            _refuse_constant(node.name, right)
            # Others are values of extra_namespace.
            if node.name in self._columns:
                check_no_time(node.name, self._columns[node.name])
        value = self._evaluate(node, label)
        if isinstance(value, np.ndarray) and value.dtype == bool:
            value = as_factor(value, node, self._memory.levels, zero_levels=self._zero_levels)
        if isinstance(value, CodedFactor):
            if isinstance(node, Name) and node.name in self._contrasts:
                value = CodedFactor(value.codes, value.levels, value.ordered, self._contrasts[node.name])
                self.coded.add(node.name)
            if known is not None and isinstance(known.value, CodedFactor):
                value = recoded(value, known.value, label, zero_levels=self._zero_levels)
            return _Component(label, value)
        if isinstance(value, Indicators):
            return _Component(label, value.matrix, value.names)
        if isinstance(value, Times):
            raise DesignError(f"{label} gives dates or durations; a slope needs a number with a unit.")
        return _Component(label, _one_per_row(np.asarray(value), label, self.n))

    def _block(self, node: Node, full: bool) -> Columns:
        """Columns of one component: its values, its contrasts, or (full) one indicator per level."""
        if (node, full) not in self._blocks:
            component = self._components[node]
            value, label = component.value, component.label
            if isinstance(value, CodedFactor):
                self._blocks[node, full] = _coded_columns(value, label, full)
            elif value.ndim == 1 or value.shape[1] == 1:
                self._blocks[node, full] = value.reshape(self.n, 1), (label,)
            else:
                names = component.names or range(1, value.shape[1] + 1)
                self._blocks[node, full] = value, tuple(f"{label}[{name}]" for name in names)
        return self._blocks[node, full]


@lru_cache(maxsize=256)
def _summands(right: str) -> tuple[tuple[str, str], ...] | None:
    """A sum of names, 0 and 1, as signs and words."""
    return tuple(_SUMMAND.findall(right)) if _SUM.fullmatch(right) else None


def called(text: str, namespace: Mapping[str, Any]) -> set[str]:
    """Kinds of the functions that a text calls (`Function.kind`), and ``"condition"`` for comparisons in calls.

    Examples
    --------
    >>> sorted(called("scale(x) + I(z > 1)", {}))
    ['condition', 'element', 'transform']
    """
    return {kind for node in calls(text) for kind in kinds_of_calls(node, namespace)}


def _call(node: Node) -> Call:
    if not isinstance(node, Call):
        raise TypeError(f"{node} is no call")
    return node


def _coded_columns(factor: CodedFactor, label: str, full: bool) -> Columns:
    """Columns of a factor, by its contrasts or one per level, and their names."""
    levels = list(factor.levels)
    if full:
        return _rows_of(np.eye(len(levels)), factor), tuple(f"{label}[{level_name(level)}]" for level in levels)
    names = contrast_names(factor.coding, levels)
    labels = tuple(f"{label}{n}" if _trend(factor.coding) else f"{label}[{n}]" for n in names)
    return _rows_of(contrast_matrix(factor.coding, levels, label), factor), labels


def _rows_of(matrix: FloatArray, factor: CodedFactor) -> FloatArray:
    """The row of every value's level, zeros for values that are no level."""
    values = matrix[factor.codes]
    if factor.codes.min(initial=0) < 0:
        values[factor.codes == NO_LEVEL] = 0.0
    return values


def _trend(coding: Any) -> bool:
    """Whether names of coefficients such as .L are put behind the name of the factor."""
    return isinstance(coding, str) and coding == "poly"


def _one_per_row(value: Any, text: str, n: int) -> FloatArray:
    if value.ndim == 0 or value.shape[0] != n or (value.ndim == 2 and value.shape[1] == 0):
        raise DesignError(f"{text} gives {value.size} value(s) for {n} rows. Give one value per row.")
    if value.dtype.kind not in "fiub":
        raise DesignError(f"{text} is not numeric: it has type {value.dtype}.")
    return np.asarray(value, dtype=float)


def _width(value: FloatArray | CodedFactor) -> Width:
    """How many columns a component will have that is evaluated, but not yet coded."""
    if not isinstance(value, CodedFactor):
        columns = math.prod(value.shape[1:])
        return Width(columns, columns, False)
    full, coding = len(value.levels), value.coding
    own = coding.shape[1] if isinstance(coding, np.ndarray | pd.DataFrame) and coding.ndim == 2 else full - 1
    return Width(full, own, independent=min(own + 1, full))


def _refuse_constant(name: str, right: str) -> None:
    """Refuse a predictor called like the constant, which would take its place or be taken for it."""
    if name == _CONSTANT:
        raise DesignError(
            f"In {right!r} a column of the data called 'Intercept' is a predictor, but Intercept is the label of the "
            "constant in every table: the two could not be told apart. Rename the column, or write I(Intercept) if it "
            "is numeric; for the constant itself write 1."
        )


def _side_by_side(columns: Sequence[FloatArray], n: int) -> FloatArray:
    """The matrix (n, c) of c columns, written some rows at a time while they are in the cache."""
    matrix = np.empty((n, len(columns)))
    for k in range(0, n, _BLOCK):
        for j, column in enumerate(columns):
            matrix[k : k + _BLOCK, j] = column[k : k + _BLOCK]
    return matrix


def _is_categorical(series: pd.Series) -> bool:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return dtype.kind not in "iufc"
    if isinstance(dtype, pd.CategoricalDtype):
        return True
    return pd.api.types.is_bool_dtype(dtype) or not pd.api.types.is_numeric_dtype(dtype)


def _column_factor(series: pd.Series) -> CodedFactor:
    value = column_values(series)
    if isinstance(value, np.ndarray):
        return CodedFactor(value.astype(np.int64), tuple(np.unique(value).tolist()))
    if isinstance(value, Times):
        raise DesignError("Dates and durations have no contrasts. Convert the column to a factor first.")
    return value
