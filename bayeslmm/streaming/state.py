"""What functions of a formula have to know of all rows: which columns they look at, and how these are distributed.

Means, knots, polynomials and levels depend on the distribution of their columns alone. Distinct values with their
counts are gathered while these are few; where they are many, a mean, a standard deviation and the ends of the range are
enough for some functions, which then see four points that have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.algebra import operand_node, operand_places
from bayeslmm.design.expressions import Call, Logic, Name, Node, Not, Relation, walk
from bayeslmm.design.functions import find_function
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

# Combinations of values that are kept with their counts.
MOST_DISTINCT = 1_000_000
# Functions that need no more of a column than its mean, standard deviation and range.
_SUMMARY = frozenset(["center", "scale", "standardize", "mean", "sd", "var", "min", "max", "sum"])
_SUMMARY_NUMPY = frozenset(f"np.{name}" for name in ("mean", "var", "std", "min", "max", "amin", "amax", "sum"))
_SPLINES = ("bs", "ns")
COUNT = "count of rows"


@dataclass(frozen=True)
class Look:
    """A call that looks at whole columns.

    Attributes
    ----------
    text : str
    columns : tuple of str
    enough : {"summary", "condition", "all"}
        Whether a mean, a standard deviation and a range tell it all; whether what it gives is true or false.
    function : str
    """

    text: str
    columns: tuple[str, ...]
    enough: str
    function: str = ""


def looks(pieces: Iterable[str], columns: Sequence[str], namespace: Mapping[str, Any]) -> tuple[Look, ...]:
    """Calls of some texts that look at whole columns.

    Examples
    --------
    >>> [(look.text, look.columns, look.enough) for look in looks(["log(x) + scale(x) + poly(z, 2)"], "xz", {})]
    [('scale(x)', ('x',), 'summary'), ('poly(z, 2)', ('z',), 'all')]
    """
    found: dict[Node, Look] = {}
    for text in pieces:
        for node in _operands(text):
            for part in walk(node):
                look = _look(part, columns, namespace, text)
                if look is not None:
                    found.setdefault(part, look)
    return tuple(found.values())


def _operands(text: str) -> Iterator[Node]:
    tokens = tokenize(text)
    for start, end in operand_places(tokens):
        if end - start > 1:
            yield operand_node(tokens[start:end])


def _look(node: Node, columns: Sequence[str], namespace: Mapping[str, Any], text: str) -> Look | None:
    names = tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, Name) and part.name in columns))
    if isinstance(node, Relation | Logic | Not):
        return Look(text, names, "condition") if names else None
    if not isinstance(node, Call) or not names:
        return None
    try:
        kind = find_function(node.function, namespace).kind
    except DesignError:
        return None
    if kind == "condition":
        return Look(node.text, names, "condition", node.function)
    if kind not in ("transform", "summary", "factor"):
        return None
    plain = isinstance(node.arguments[0], Name) if node.arguments else False
    known = node.function not in namespace and plain and len(names) == 1
    keywords = {name for name, _ in node.keywords}
    simple = node.function in _SUMMARY or node.function in _SUMMARY_NUMPY
    spline = node.function in _SPLINES and "df" not in keywords and len(node.arguments) == 1
    return Look(node.text, names, "summary" if known and (simple or spline) else "all", node.function)


def together(found: Sequence[Look], skip: Sequence[str] = ()) -> list[tuple[tuple[str, ...], tuple[Look, ...]]]:
    """Columns whose joint distribution is needed, and the calls that look at them; without those of `skip` alone."""
    groups: list[tuple[set[str], list[Look]]] = []
    for look in found:
        own, calls = set(look.columns), [look]
        if own <= set(skip):
            continue
        for other in [group for group in groups if group[0] & own]:
            groups.remove(other)
            own |= other[0]
            calls = [*other[1], *calls]
        groups.append((own, calls))
    return [(tuple(sorted(names)), tuple(calls)) for names, calls in groups]


@dataclass
class Distribution:
    """Distinct values of some columns, each with its number of observations.

    Attributes
    ----------
    columns : tuple of str
    looks : tuple of Look
        What they are for.
    parts : list of pandas.DataFrame
        Distinct values with their counts, not yet joined.
    sums : FloatArray, shape (5,)
        Of a single column of numbers: observations, mean, sum of squares about it, least, largest.
    many : bool
        Whether values are too many to be kept.
    n : int
        Observations.
    """

    columns: tuple[str, ...]
    looks: tuple[Look, ...]
    parts: list[pd.DataFrame] = field(default_factory=list)
    sums: FloatArray = field(default_factory=lambda: np.array([0.0, 0.0, 0.0, np.inf, -np.inf]))
    many: bool = False
    n: int = 0

    @property
    def _summary(self) -> bool:
        return len(self.columns) == 1 and all(look.enough == "summary" for look in self.looks)

    def add(self, columns: Mapping[str, pd.Series], counts: IntArray | None) -> None:
        """Look at a chunk."""
        self.n += len(columns[self.columns[0]]) if counts is None else int(counts.sum())
        if self._summary:
            values = columns[self.columns[0]].to_numpy(dtype=float)
            self.sums = both(self.sums, sums_of(values, counts))
        if self.many:
            return
        frame = pd.DataFrame({name: columns[name].array for name in self.columns})
        frame[COUNT] = np.ones(len(frame), dtype=np.int64) if counts is None else counts
        self._keep(counted(frame, self.columns))

    def merge(self, other: Distribution) -> Distribution:
        """Rows of both."""
        self.sums = both(self.sums, other.sums)
        for part in other.parts:
            self._keep(part)
        self.many = self.many or other.many
        self.n += other.n
        return self

    def _keep(self, part: pd.DataFrame) -> None:
        self.parts.append(part)
        if sum(map(len, self.parts[1:])) > max(len(self.parts[0]), 10_000):
            self._join()
        if len(self.parts[0]) > MOST_DISTINCT:
            self._too_many()

    def _join(self) -> None:
        self.parts = [counted(pd.concat(self.parts, ignore_index=True), self.columns)]

    def _too_many(self) -> None:
        if self._summary or all(look.enough == "condition" for look in self.looks):
            self.many = True
            # Enough of them to see both true and false.
            self.parts = [self.parts[0].iloc[:: max(1, len(self.parts[0]) // 10_000)]] if not self._summary else []
            return
        raise _refusal(self.columns, [look for look in self.looks if look.enough == "all"])

    def table(self) -> pd.DataFrame:
        """Values with counts, under the name of `counts_of`; four points of the same mean, sd and range if too many."""
        if self.many and self._summary:
            return _four_points(self.columns[0], self.sums)
        self._join()
        if len(self.parts[0]) > MOST_DISTINCT and not self.many:
            self._too_many()
            return self.table()
        table = self.parts[0].sort_values(list(self.columns), kind="stable", ignore_index=True)
        # Of some of the values only, for which counts say nothing.
        counts = counts_of(table).copy()
        counts[-1] += self.n - int(counts.sum())
        table[COUNT] = counts
        return table


def counts_of(table: pd.DataFrame) -> IntArray:
    """Observations (k,) of every row of a table of values."""
    return np.asarray(table[COUNT].to_numpy(dtype=np.int64))


def counted(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Distinct rows of some columns, with the sums of the counts beside them."""
    if len(columns) == 1 and frame[columns[0]].dtype.kind in "iufb":
        values, place = np.unique(frame[columns[0]].to_numpy(), return_inverse=True)
        counts = np.bincount(place, frame[COUNT].to_numpy(), values.size).astype(np.int64)
        return pd.DataFrame({columns[0]: values, COUNT: counts})
    return frame.groupby(list(columns), observed=True, sort=False)[COUNT].sum().reset_index()


def sums_of(values: FloatArray, counts: IntArray | None) -> FloatArray:
    """Observations, mean, sum of squares about it, least and largest value (5,) of a column."""
    n = values.size if counts is None else int(counts.sum())
    middle = float(np.average(values, weights=counts))
    squares = np.square(values - middle)
    total = float((squares if counts is None else squares * counts).sum())
    return np.array([n, middle, total, values.min(), values.max()])


def both(one: FloatArray, other: FloatArray) -> FloatArray:
    """The same of the rows of both."""
    n = one[0] + other[0]
    if n == 0:
        return one
    step = other[1] - one[1]
    mean = one[1] + step * (other[0] / n)
    squares = one[2] + other[2] + step**2 * (one[0] * other[0] / n)
    return np.array([n, mean, squares, min(one[3], other[3]), max(one[4], other[4])])


def _four_points(name: str, sums: FloatArray) -> pd.DataFrame:
    """Least and largest value once each, and two values in between so often that mean and squares are the same."""
    n, mean, squares, low, high = sums.tolist()
    rest = n - 2
    middle = mean - (low - mean + high - mean) / rest
    left = squares - (low - mean) ** 2 - (high - mean) ** 2 - rest * (middle - mean) ** 2
    spread = np.sqrt(max(left, 0.0) / rest)
    # The share of the lower one is such that both are within the range.
    down, up = ((middle - low) / spread) ** 2, ((high - middle) / spread) ** 2
    share = min(max(0.5, 1.0 / (1.0 + down)), up / (1.0 + up))
    first = int(np.clip(round(share * rest), 1, rest - 1))
    second = int(rest - first)
    a, b = middle - spread * np.sqrt(second / first), middle + spread * np.sqrt(first / second)
    return pd.DataFrame({name: [low, a, b, high], COUNT: [1, first, second, 1]})


def _refusal(columns: Sequence[str], found: Sequence[Look]) -> DesignError:
    calls = ", ".join(look.text for look in found)
    remedies = []
    for look in found:
        if look.function in _SPLINES:
            remedies.append(f"{look.function}() with knots= in place of df= needs no more than the range of the column")
        elif look.function == "poly":
            remedies.append("poly(x, 2, raw=True), or I((x - 3) / 2) and its powers, need nothing")
        elif look.function in ("median", "quantile", "np.median", "np.quantile", "np.percentile"):
            remedies.append("write the number itself, I(x - 3.2)")
    advice = "; ".join(dict.fromkeys(remedies)) or "compute the column beforehand"
    return DesignError(
        f"{calls} needs the whole distribution of {', '.join(columns)}, which has more than {MOST_DISTINCT:,} "
        f"different values; the rows are read in chunks and not kept. Instead, {advice}. Rounded values (to two digits "
        "in the data) are fewer, too."
    )


def coupled(tables: Sequence[pd.DataFrame]) -> tuple[dict[str, Any], IntArray]:
    """Rows with counts in which every table of values has its own counts; how values of two tables go together is free.

    Examples
    --------
    >>> a = pd.DataFrame({"x": [1.0, 2.0], "count of rows": [3, 1]})
    >>> b = pd.DataFrame({"z": [5.0, 7.0], "count of rows": [2, 2]})
    >>> columns, counts = coupled([a, b])
    >>> [float(x) for x in columns["x"]], [float(z) for z in columns["z"]], counts.tolist()
    ([1.0, 1.0, 2.0], [5.0, 7.0, 7.0], [2, 1, 1])
    """
    ends = [np.cumsum(counts_of(table)) for table in tables]
    every = np.unique(np.concatenate(ends))
    columns: dict[str, Any] = {}
    for table, own in zip(tables, ends, strict=True):
        place = np.searchsorted(own, every)
        columns |= {name: table[name].iloc[place].array for name in table.columns if name != COUNT}
    return columns, np.diff(every, prepend=0)
