"""What a design keeps of its data so that its formula can be evaluated on other rows."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import kinds
from bayeslmm.design.algebra import expanded
from bayeslmm.design.arithmetic import kinds_of_calls
from bayeslmm.design.evaluate import Evaluator, called
from bayeslmm.design.expressions import Name, walk
from bayeslmm.design.formula import Formula
from bayeslmm.design.frequency import check_copies
from bayeslmm.design.groups import level_name
from bayeslmm.design.lazy import Deferred, Lazy
from bayeslmm.design.reference import PendingReference, ReferenceData
from bayeslmm.design.tables import kept_column
from bayeslmm.design.tokens import tokenize, words
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, FloatArray, IntArray

# Names that are made when they are asked for.
type Names = tuple[str, ...] | Deferred[tuple[str, ...]]
# Rows kept of a numeric column that no function looks at as a whole.
_SAMPLE = 64
# Relative difference between a value and the one that the same row has among others.
_SAME = 1e-8


@by_value
@dataclass(frozen=True, eq=False)
class Column:
    """A column of the data, or some rows of it that have all its levels.

    Attributes
    ----------
    kind : str
        ``"number"``, ``"boolean"``, ``"factor"`` or ``"time"``.
    values : array
        Values, or the codes of a factor.
    levels : tuple
        Levels of a factor in their order.
    ordered : bool
    """

    kind: str
    values: AnyArray
    levels: tuple[Any, ...] = ()
    ordered: bool = False

    def series(self, rows: int | None = None) -> pd.Series:
        """The column again, repeated or cut to a number of rows."""
        values = self.values if rows is None else np.resize(self.values, rows)
        if self.kind == "factor":
            levels = pd.Index(list(self.levels), tupleize_cols=False)
            return pd.Series(pd.Categorical.from_codes(values.astype(int), levels, ordered=self.ordered))
        # Time stamps with a zone are objects to NumPy.
        return pd.Series(values.tolist() if values.dtype == object else values)


@dataclass(frozen=True, eq=False)
class TrainingColumns(Deferred[dict[str, Column]]):
    """Columns not yet looked at.

    Attributes
    ----------
    series : dict of str to pandas.Series or Column
    whole : bool
        Whether all rows are kept, or of a factor its levels only.
    """

    series: Mapping[str, pd.Series | Column]
    whole: bool

    def resolve(self) -> dict[str, Column]:
        return {
            name: column if isinstance(column, Column) else _column(column, self.whole)
            for name, column in self.series.items()
        }


@by_value
@dataclass(frozen=True, eq=False)
class Recipe:
    """How the columns of a design come from a data frame.

    Attributes
    ----------
    columns : dict of str to Column
        The columns that the fixed part, the left sides of bars and the offsets use.
    whole : bool
        Whether the columns have all rows of the data, which functions such as ``scale()`` take their state from.
    contrasts : dict
        As given; a matrix with names is a pair (row names, column names, matrix).
    namespace : dict
        What the formula uses of ``extra_namespace``.
    weights : str or None
        The text of the weights.
    weighted : bool
        Whether the model has precision weights, as a text or as numbers.
    aliased : FloatArray, shape (p, a)
        Columns left out of X as combinations of those that are in it.
    frequency : IntArray or None
        How often each row of the columns counts, where functions look at whole columns.
    lost : tuple of str
        Names of the namespace that could not be saved.
    reference : ReferenceData
        Centres and cells of the columns that the fixed part and the offsets use.
    residual_groups, residual_visits : tuple of str
        Names of the groups within which residuals are correlated, in the order of their codes, and of the visits (or
        times that are no numbers).
    """

    columns: Lazy[dict[str, Column]] = Lazy()  # noqa: RUF009
    whole: bool = False
    contrasts: dict[str, Any] = field(default_factory=dict)
    namespace: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    weighted: bool = False
    aliased: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    frequency: IntArray | None = None
    lost: tuple[str, ...] = ()
    reference: Lazy[ReferenceData] = Lazy(ReferenceData())  # noqa: RUF009
    residual_groups: Lazy[tuple[str, ...]] = Lazy(())  # noqa: RUF009
    residual_visits: Lazy[tuple[str, ...]] = Lazy(())  # noqa: RUF009

    def without(self, names: Sequence[str]) -> Recipe:
        """The recipe without some names of its namespace, which are remembered as lost."""
        kept = {name: value for name, value in self.namespace.items() if name not in names}
        return replace(self, namespace=kept, lost=(*self.lost, *names)) if names else self

    def __deepcopy__(self, memo: dict[int, Any]) -> Recipe:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        # Functions and modules of the user are what they are in every copy.
        own = {name: value if name == "namespace" else copy.deepcopy(value, memo) for name, value in vars(self).items()}
        vars(copied).update(own | {"namespace": dict(self.namespace)})
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # Its summary is sent, not the columns of the user's data that it is made from.
        _ = self.reference
        if _sent_by_value():
            return dict(vars(self))
        kept = self.without([name for name, value in self.namespace.items() if not _picklable(value)])
        return dict(vars(kept))


def _sent_by_value() -> bool:
    """Whether cloudpickle (joblib, Dask, Ray) is at work, which sends functions that have no name elsewhere."""
    # Nothing but the stack tells it from pickle.
    frame = inspect.currentframe()
    while frame is not None:
        if "cloudpickle" in frame.f_globals.get("__name__", ""):
            return True
        frame = frame.f_back
    return False


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


@by_value
@dataclass(frozen=True, eq=False)
class NamedContrasts:
    """A contrast matrix with the levels of its rows and the names of its columns."""

    rows: tuple[Any, ...]
    names: tuple[str, ...]
    matrix: FloatArray

    def frame(self) -> pd.DataFrame:
        """As it was given."""
        return pd.DataFrame(self.matrix, index=list(self.rows), columns=list(self.names))


def make_recipe(
    formula: Formula,
    columns: Mapping[str, pd.Series],
    contrasts: Mapping[str, Any],
    extra: Mapping[str, Any] | None,
    weights: Any,
    aliased: FloatArray,
    frequency: IntArray | None,
    names_of_residuals: tuple[Names, Names] = ((), ()),
) -> Recipe:
    """The recipe of a design; nothing is evaluated or converted yet.

    Parameters
    ----------
    formula : Formula
    columns : mapping of str to pandas.Series
        The rows kept.
    contrasts, extra : mapping
        As given by the user; None for an empty `extra`.
    weights : str, array or None
    aliased : FloatArray, shape (p, a)
    frequency : IntArray or None, shape (n,)
    names_of_residuals : tuple
        Of groups and visits of correlated residuals.
    """
    pieces, extra = formula.evaluated, extra or {}
    names = columns_in(pieces, columns)
    whole = not all(_value_by_value(text, extra) for text in pieces)
    kept = {name: kept_column(columns[name]) if whole else _sample(columns[name]) for name in names}
    used = words(*pieces, weights) if isinstance(weights, str) else words(*pieces)
    return Recipe(
        TrainingColumns(kept, whole),
        whole,
        {name: _named(kind) for name, kind in contrasts.items() if name in names},
        {name: value for name, value in extra.items() if name in used},
        weights if isinstance(weights, str) else None,
        weights is not None,
        aliased,
        frequency if whole else None,
        reference=PendingReference(*_fixed_columns(formula, columns, extra), frequency),
        residual_groups=names_of_residuals[0],
        residual_visits=names_of_residuals[1],
    )


def recipe_of_columns(
    formula: Formula,
    columns: Mapping[str, Column],
    contrasts: Mapping[str, Any],
    extra: Mapping[str, Any],
    weights: str | None,
    aliased: FloatArray,
    frequency: IntArray | None,
    reference: ReferenceData | Deferred[ReferenceData],
) -> Recipe:
    """The recipe of a design whose rows are elsewhere, from columns that stand for all of them.

    Parameters
    ----------
    formula : Formula
    columns : mapping of str to Column
    contrasts, extra : mapping
    weights : str or None
    aliased : FloatArray, shape (p, a)
    frequency : IntArray or None, shape (k,)
        How often each row of the columns counts, where functions look at whole columns; None where none does.
    reference : ReferenceData
    """
    names = columns_in(formula.evaluated, columns)
    texts = formula.evaluated if weights is None else [*formula.evaluated, weights]
    used = words(*texts)
    return Recipe(
        {name: columns[name] for name in names},
        frequency is not None,
        {name: _named(kind) for name, kind in contrasts.items() if name in names},
        {name: value for name, value in extra.items() if name in used},
        weights,
        weights is not None,
        aliased,
        frequency,
        reference=reference,
    )


def _fixed_columns(
    formula: Formula, columns: Mapping[str, pd.Series], namespace: Mapping[str, Any]
) -> tuple[dict[str, pd.Series], tuple[str, ...]]:
    """Columns of the fixed part, and those that it makes factors of."""
    names, coded = fixed_columns(formula, columns, namespace)
    return {name: kept_column(columns[name]) for name in names}, coded


def fixed_columns(
    formula: Formula, columns: Mapping[str, Any], namespace: Mapping[str, Any]
) -> tuple[list[str], tuple[str, ...]]:
    """Names of the columns of the fixed part and the offsets, and of those that it makes factors of."""
    names = columns_in([formula.fixed, *formula.offsets], columns)
    coded: dict[str, None] = {}
    if "(" in formula.fixed:
        for node in expanded(formula.fixed)[2].values():
            if "factor" in kinds_of_calls(node, namespace):
                coded |= {part.name: None for part in walk(node) if isinstance(part, Name) and part.name in names}
    return names, tuple(coded)


def _sample(series: pd.Series) -> pd.Series | Column:
    """Of numbers the first rows, without the rest of the user's data; of factors all, for their levels."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
        return Column("number", series.to_numpy()[:_SAMPLE].astype(float))
    numeric = not isinstance(dtype, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(dtype)
    return series.iloc[:_SAMPLE].copy() if numeric else kept_column(series)


def columns_in(pieces: Sequence[str], columns: Mapping[str, Any]) -> list[str]:
    """Names of the columns that some texts use."""
    return list(dict.fromkeys(name for text in pieces for name in _names(text) if name in columns))


@lru_cache(maxsize=1024)
def _names(text: str) -> tuple[str, ...]:
    """Names in a text that are not those of functions or of their arguments."""
    tokens = tokenize(text)
    following = [*(token.text for token in tokens[1:]), ""]
    return tuple(
        token.text.strip("`")
        for token, after in zip(tokens, following, strict=False)
        if token.kind in ("name", "quoted") and after not in ("(", "=")
    )


def _value_by_value(text: str, namespace: Mapping[str, Any]) -> bool:
    """Whether a text asks nothing of a column but one value at a time."""
    return called(text, namespace) <= {"element"}


def _named(kind: Any) -> Any:
    if isinstance(kind, pd.DataFrame) and not isinstance(kind.index, pd.RangeIndex):
        return NamedContrasts(tuple(kind.index), tuple(map(str, kind.columns)), np.asarray(kind, dtype=float))
    if isinstance(kind, pd.DataFrame):
        matrix = np.asarray(kind, dtype=float)
        return NamedContrasts(tuple(range(matrix.shape[0])), tuple(map(str, kind.columns)), matrix)
    return kind


def _column(series: pd.Series, whole: bool) -> Column:
    dtype = series.dtype
    if pd.api.types.is_bool_dtype(dtype) and not isinstance(dtype, pd.CategoricalDtype):
        values = series.to_numpy(dtype=bool)
        return Column("boolean", values if whole else np.unique(values))
    if kinds.time_kind(series) is not None:
        return Column("time", kinds.plain_times(series).to_numpy())
    if pd.api.types.is_numeric_dtype(dtype):
        return Column("number", series.to_numpy(dtype=float))
    if not isinstance(dtype, pd.CategoricalDtype):
        levels = sorted(pd.unique(series).tolist(), key=lambda v: (str(type(v)), v))
        series = series.astype(pd.CategoricalDtype(levels))
    array = series.array.remove_unused_categories()
    codes: IntArray = np.asarray(array.codes, dtype=np.int64)
    if not whole:
        codes = np.arange(len(array.categories))
    return Column("factor", codes, tuple(array.categories.tolist()), bool(array.ordered))


def training_evaluator(recipe: Recipe, formula: Formula) -> Evaluator:
    """An evaluator of the columns kept, from which one of new rows takes its state.

    Raises
    ------
    DesignError
        The value that some function gives to a row depends on the other rows, in a way that cannot be kept.
    """
    rows = None if recipe.whole else max([1, *(c.values.shape[0] for c in recipe.columns.values())])
    columns = {name: column.series(rows) for name, column in recipe.columns.items()} or {"": pd.Series([0.0])}
    own = any("own" in called(text, recipe.namespace) for text in formula.evaluated)
    counts = recipe.frequency
    if counts is not None and own:
        check_copies(counts)
        copies = np.repeat(np.arange(counts.size), counts)
        columns = {name: series.iloc[copies].reset_index(drop=True) for name, series in columns.items()}
        counts = None
    contrasts = {
        name: kind.frame() if isinstance(kind, NamedContrasts) else kind for name, kind in recipe.contrasts.items()
    }
    evaluator = Evaluator(columns, contrasts, recipe.namespace, counts)
    if own:
        _check_state_is_kept(evaluator, columns, formula, recipe)
    return evaluator


def _check_state_is_kept(
    evaluator: Evaluator, columns: Mapping[str, pd.Series], formula: Formula, recipe: Recipe
) -> None:
    """Evaluate some of the rows alone: they must come out as they did among all others."""
    n = evaluator.n
    offsets = set(formula.offsets)
    for text in formula.evaluated:
        if "own" not in called(text, recipe.namespace):
            continue
        for chosen in (np.array([n - 1]), np.arange(0, n, 3)):
            part = {name: series.iloc[chosen].reset_index(drop=True) for name, series in columns.items()}
            alone = evaluator.on(part, chosen.size)
            one = evaluator.vector(text) if text in offsets else evaluator.columns(text)[0]
            other = alone.vector(text) if text in offsets else alone.columns(text)[0]
            if not np.allclose(one[chosen], other, rtol=_SAME, atol=_SAME * float(np.abs(one).max(initial=0.0))):
                raise DesignError(
                    f"{text!r} gives a row another value when other rows are left out, so it cannot be evaluated on "
                    "new rows: a mean or another summary in it would be that of the new rows. Write it with a "
                    "function that keeps its state (scale(x), center(x), poly(x, 2), bs(x, df=4)), or compute the "
                    "column in both data frames first."
                )


def level_positions(levels: Sequence[Any]) -> dict[str, int]:
    """Position of every level by its name."""
    return {level_name(level): i for i, level in enumerate(levels)}
