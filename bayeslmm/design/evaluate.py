"""Evaluate formula text on data with formulae, under names that cannot clash."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from formulae import model_description
from formulae.categorical import Sum, Treatment
from formulae.environment import Environment

from bayeslmm.design.algebra import operands
from bayeslmm.design.coding import Columns, indicator_coded, ordered_terms, product
from bayeslmm.design.contrasts import MatrixEncoding, Scale, contrast_matrix, factor, ordered
from bayeslmm.design.data import check_no_time, check_usable
from bayeslmm.design.groups import level_name
from bayeslmm.design.size import MOST_COLUMNS, Width, check_columns, check_terms_count
from bayeslmm.design.tokens import Token, tokenize
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.types import AnyArray, FloatArray

_FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name)
    for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")
}
NAMESPACE: dict[str, Any] = {
    **_FUNCTIONS,
    "np": np,
    "pi": np.pi,
    "ordered": ordered,
    "factor": factor,
    "scale_": Scale,
    "Sum": Sum,
    "Treatment": Treatment,
    "TRUE": True,
    "FALSE": False,
}
# formulae's own scale() divides by the standard deviation of a population, R's by that of a sample.
_RENAMED = {"scale": "scale_", "as.factor": "factor", "as.ordered": "ordered"}

_BLOCK = 8192
# Label of the constant.
_CONSTANT = "Intercept"

# A sum of names, 0 and 1.
_SUMMAND = re.compile(r"([+-]?)\s*(`[^`]*`|[^\W\d][\w.]*|[01])\s*")
_NUMBER = re.compile(r"-?\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SUM = re.compile(r"(?:[+-]?\s*(?:`[^`]*`|[^\W\d][\w.]*|[01])\s*(?=[+-]|$))+")


class Evaluator:
    """Formula text to columns.

    Every data column gets a private identifier before formulae sees the text, so that names with spaces,
    dots or quotes, or names of functions, mean the column; labels are translated back. formulae expands the text
    into terms and evaluates their components, each once; which columns these give is decided here, as in R.

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
        # What a column means as a term of its own; within calls it stays what it is.
        self._coded = {name: f"{self._ids[name]}b" for name in columns if _is_boolean(columns[name])}
        for name, kind in self._contrasts.items():
            private = self._coded.get(name, self._ids[name])
            self._namespace[f"c{private}"] = MatrixEncoding(kind)
            self._coded[name] = f"C({private}, c{private})"
            levels = _levels(columns[name])
            # Of more levels there is no matrix to look at: as a term they are refused.
            if len(levels) <= MOST_COLUMNS:
                contrast_matrix(kind, levels, name)
        self._components: dict[str, Any] = {}
        self._blocks: dict[tuple[str, bool], Columns] = {}
        self._cache: dict[str, Columns] = {}
        # Which evaluator the components know their means, knots and levels from, if it is another one.
        self._trained: Evaluator | None = None

    def on(self, columns: Mapping[str, pd.Series], n: int) -> Evaluator:
        """An evaluator of other rows, with the means, knots, levels and contrasts of these.

        Parameters
        ----------
        columns : mapping of str to pandas.Series
            What will be asked for, of the same kinds; no level that these rows do not have.
        n : int
            Number of rows.
        """
        other = copy.copy(self)
        other.n, other._columns, other._trained = n, columns, self
        other._blocks, other._cache = {}, {}
        vars(other).pop("_frame", None)
        return other

    @cached_property
    def _frame(self) -> pd.DataFrame:
        data: dict[str, Any] = {}
        for name, series in self._columns.items():
            data[self._ids[name]] = _prepare(series)
            if _is_boolean(series):
                data[f"{self._ids[name]}b"] = _as_factor(series.astype(bool).astype("category"))
        return pd.DataFrame(data, copy=False)

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
        if right.strip() == "1":
            return np.ones((self.n, 1)), (_CONSTANT,)
        if right not in self._cache:
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
        plain = self._plain_column(text)
        return plain if plain is not None else self._evaluated(text, self._single_column)

    def _evaluated[T](self, text: str, compute: Callable[[str], T]) -> T:
        try:
            with np.errstate(all="ignore"):
                return compute(text)
        except BayesLMMError:
            raise
        except Exception as error:
            raise DesignError(self._failure(text, error)) from error

    def _failure(self, text: str, error: Exception) -> str:
        if isinstance(error, KeyError):
            known = ", ".join([*_FUNCTIONS, "I", "C", "poly", "scale", "center", "bs"])
            return (
                f"{text!r} could not be evaluated: {self._back(str(error.args[0]))!r} is no known function. "
                f"Known are {known}, everything in numpy as np.name, and what extra_namespace passes."
            )
        return (
            f"{text!r} could not be evaluated: {type(error).__name__}: {self._back(str(error)).rstrip('.')}. Check the "
            "names of functions (numpy functions are np.name) and the types of the columns."
        )

    def _plain_column(self, text: str) -> FloatArray | None:
        """Values of a column if the text is nothing but the name of a numeric one."""
        series = self._columns.get(text.strip("`"))
        if series is None or _is_categorical(series):
            return None
        if isinstance(series.dtype, np.dtype):
            return series.to_numpy(dtype=float)
        return series.to_numpy(dtype=float, na_value=np.nan)

    def _sum_of_columns(self, right: str) -> Columns | None:
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
            _refuse_constant(word.strip("`"), right)
            columns[word.strip("`")] = values
        if intercept:
            columns = {_CONSTANT: np.ones(self.n), **columns}
        return _side_by_side(list(columns.values()), self.n), tuple(columns)

    def _model_columns(self, right: str, observations: int | None) -> Columns:
        check_terms_count(tokenize(right))
        text = self._translate(right)
        parsed = model_description(text)
        intercept = any(term.name == _CONSTANT for term in parsed.common_terms)
        given = [term.components for term in parsed.common_terms if term.kind != "intercept"]
        for component in (component for components in given for component in components):
            _refuse_constant(self._back(component.name), right)
            self._evaluate(component)
        terms = ordered_terms([tuple(c.name for c in components) for components in given], _variables(text))
        factors = {name for name, component in self._components.items() if component.kind == "categoric"}
        full_factors = indicator_coded(terms, factors, intercept)
        if self._trained is None:
            widths = {name: _width(self._components[name]) for term in terms for name in term}
            shown = {name: self._back(name) for name in widths}
            check_columns(
                terms, full_factors, widths, self.n, constant=intercept, observations=observations, shown=shown
            )
        blocks: list[Columns] = [(np.ones((self.n, 1)), (_CONSTANT,))] if intercept else []
        for term, full in zip(terms, full_factors, strict=True):
            blocks.append(product([self._block(name, name in full) for name in term]))
        if not blocks:
            return np.empty((self.n, 0)), ()
        return np.column_stack([matrix for matrix, _ in blocks]), tuple(name for _, names in blocks for name in names)

    def _single_column(self, text: str) -> FloatArray:
        parsed = model_description(f"0 + I({self._translate(text, code=False)})")
        component = parsed.common_terms[-1].components[0]
        self._evaluate(component)
        component = self._components[component.name]
        if component.kind != "numeric":
            raise DesignError(f"{text!r} is not numeric. A response, an offset and weights have to be numbers.")
        component.set_data(False)
        values = self._values(component)
        if values.dtype == bool:
            raise DesignError(
                f"{text!r} is a comparison, true or false, where a number is needed. A linear mixed model describes a "
                "numeric response; for a yes/no response use a logistic mixed model (bambi, brms, glmer)."
            )
        if values.size != self.n:
            raise DesignError(f"{text!r} gives {values.size} values for {self.n} rows. Give one value per row.")
        return values.astype(float).reshape(self.n)

    def _values(self, component: Any) -> AnyArray:
        """Values of a component whose `set_data` has been called."""
        return np.asarray(component.value if self._trained is None else component.eval_new_data(self._frame))

    def _evaluate(self, component: Any) -> None:
        if self._trained is not None:
            self._trained._evaluate(component)
        elif component.name not in self._components:
            if hasattr(component, "call"):
                component.set_type(self._frame, Environment([self._namespace]))
            else:
                component.set_type(self._frame)
            self._components[component.name] = component

    def _block(self, name: str, full: bool) -> Columns:
        """Columns of one component: its values, its contrasts, or (full) one indicator per level."""
        if (name, full) not in self._blocks:
            component = self._components[name]
            component.set_data(full)
            values = self._values(component).astype(float).reshape(self.n, -1)
            labels = component.labels
            if full and component.kind == "categoric":
                # Some encodings of formulae answer with a mean and contrasts: back to indicators.
                matrix = component.contrast_matrix.matrix
                values = values if np.array_equal(matrix, np.eye(len(matrix))) else values @ np.linalg.inv(matrix)
                labels = [f"{name}[{level_name(level)}]" for level in component.levels]
            elif component.kind == "categoric":
                labels = [re.sub(r"\.0\]$", "]", label) for label in labels]
            self._blocks[name, full] = values, tuple(self._back(label) for label in labels)
        return self._blocks[name, full]

    def _translate(self, text: str, code: bool = True) -> str:
        out, tokens = [], tokenize(text)
        for i, token in enumerate(tokens):
            name = token.text.strip("`")
            called = i + 1 < len(tokens) and tokens[i + 1].text == "("
            if token.kind in ("name", "quoted") and name in self._ids and not called:
                check_usable(name, self._columns[name])
                alone = code and not (token.depth > 0 and _within_call(tokens, i))
                if alone:
                    check_no_time(name, self._columns[name])
                out.append(self._coded.get(name, self._ids[name]) if alone else self._ids[name])
            else:
                out.append(_RENAMED.get(token.text, token.text) if called else token.text)
        return " ".join(out)

    def _back(self, label: str) -> str:
        label = re.sub(r"C\((v\d+_b?), cv\d+_b?\)", r"\1", label)
        label = re.sub(r"(v\d+_)b?", lambda m: self._names.get(m[1], m[1]), label)
        label = label.replace("scale_(", "scale(")
        label = re.sub(r"\[(\.[LQC]|\^\d+)\]", r"\1", label)
        return re.sub(r"(poly\(.*?\))\[(\d+)\]", lambda m: f"{m[1]}[{int(m[2]) + 1}]", label)


def _width(component: Any) -> Width:
    """How many columns a component will have that is evaluated, but not yet coded."""
    values = component._intermediate_data
    if component.kind != "categoric":
        columns = math.prod(np.shape(values)[1:])
        return Width(columns, columns, False)
    data = pd.Series(getattr(values, "data", values))
    occurring = len(data.cat.categories) if isinstance(data.dtype, pd.CategoricalDtype) else data.nunique()
    levels = getattr(values, "levels", None)  # of a box of formulae
    full = occurring if levels is None else len(levels)
    kind = getattr(getattr(values, "contrast", None), "kind", None)
    own = kind.shape[1] if isinstance(kind, np.ndarray | pd.DataFrame) and kind.ndim == 2 else full - 1
    return Width(full, own, independent=min(own + 1, occurring))


def _refuse_constant(name: str, right: str) -> None:
    """Refuse a predictor called like the constant, which would take its place or be taken for it."""
    if name == _CONSTANT:
        raise DesignError(
            f"In {right!r} a column of the data called 'Intercept' is a predictor, but Intercept is the label of the "
            "constant in every table: the two could not be told apart. Rename the column, or write I(Intercept) if it "
            "is numeric; for the constant itself write 1."
        )


def _variables(text: str) -> list[str]:
    """Names formulae gives to the columns and calls of a text, in the order in which they stand."""
    parsed = (model_description(f"0 + {piece}").common_terms for piece in dict.fromkeys(operands(text)))
    return [component.name for terms in parsed for term in terms for component in term.components]


def _within_call(tokens: Sequence[Token], i: int) -> bool:
    """Whether token i is an argument of a function (not merely in grouping parentheses)."""
    depth = tokens[i].depth
    for j in range(i - 1, -1, -1):
        if tokens[j].text in ("(", "{") and tokens[j].depth < depth:
            if tokens[j].text == "{" or (j > 0 and tokens[j - 1].kind in ("name", "quoted")):
                return True
            depth = tokens[j].depth
    return False


def _side_by_side(columns: Sequence[FloatArray], n: int) -> FloatArray:
    """The matrix (n, c) of c columns, written some rows at a time while they are in the cache."""
    matrix = np.empty((n, len(columns)))
    for k in range(0, n, _BLOCK):
        for j, column in enumerate(columns):
            matrix[k : k + _BLOCK, j] = column[k : k + _BLOCK]
    return matrix


def _is_boolean(series: pd.Series) -> bool:
    return not isinstance(series.dtype, pd.CategoricalDtype) and pd.api.types.is_bool_dtype(series.dtype)


def _is_categorical(series: pd.Series) -> bool:
    return _is_boolean(series) or not pd.api.types.is_numeric_dtype(series.dtype)


def _levels(series: pd.Series) -> list[Any]:
    """Levels that occur, in their order."""
    factor = _as_factor(series.astype(bool).astype("category") if _is_boolean(series) else series)
    return list(factor.cat.categories)


def _ordered_contrasts(columns: Mapping[str, pd.Series]) -> dict[str, str]:
    return {name: "poly" for name, series in columns.items() if getattr(series.dtype, "ordered", False)}


def _prepare(series: pd.Series) -> pd.Series:
    """Numbers as doubles; everything else as an ordered categorical over the values that occur."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype) or pd.api.types.is_timedelta64_dtype(series.dtype):
        return series.reset_index(drop=True)
    if not pd.api.types.is_numeric_dtype(series.dtype):
        return _as_factor(series)
    # Powers and differences of integers would wrap around.
    return (series if series.dtype == np.float64 else series.astype(float)).reset_index(drop=True)


def _as_factor(series: pd.Series) -> pd.Series:
    """Ordered, because formulae sorts the levels of what is not."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        values = series.cat.remove_unused_categories().cat.as_ordered()
    else:
        levels = sorted(pd.unique(series).tolist(), key=lambda v: (str(type(v)), v))
        values = series.astype(pd.CategoricalDtype(levels, ordered=True))
    return values.reset_index(drop=True)
