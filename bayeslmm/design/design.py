"""The frozen design: every array and every name that the two engines share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.lazy import LabelsByReason, Lazy
from bayeslmm.equality import by_value
from bayeslmm.types import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from bayeslmm.design.recipe import Recipe


# How sums over the rows are kept: the largest factor level by level and all else in one dense piece, or nested factors
# one after the other and crossed ones in cells; by the number of effects outside the largest factor if "auto".
type Store = Literal["auto", "levels", "hierarchy"]


@by_value
@dataclass(frozen=True)
class Grouping:
    """One grouping factor, coded over the cells that occur.

    Attributes
    ----------
    name : str
        ``"Subject"``, or ``"batch:cask"`` for an interaction.
    codes : IntArray, shape (n,)
        Level of each row, 0 .. n_levels - 1; every level occurs.
    levels : tuple of str
        Level names; parts of an interaction are joined with ``":"``.
    """

    name: str
    codes: IntArray
    levels: Lazy[tuple[str, ...]] = Lazy()  # noqa: RUF009

    @property
    def n_levels(self) -> int:
        return len(vars(self)["levels"])


@by_value
@dataclass(frozen=True)
class RandomTerm:
    """One bar term: a block of effects with one covariance matrix, repeated for every level.

    Attributes
    ----------
    label : str
        The term as written after expansion, e.g. ``"(Days | Subject)"``.
    group : str
        Name of its `Grouping`.
    effects : tuple of str
        Column names, e.g. ``("Intercept", "Days")``.
    Z : FloatArray, shape (n, c)
        Left-hand columns in the user's units, not multiplied by the group indicators.
    structure : CovarianceStructure
        Which entries of its factor are free.
    """

    label: str
    group: str
    effects: tuple[str, ...]
    Z: FloatArray
    structure: CovarianceStructure


@dataclass(frozen=True)
class DroppedRows:
    """Rows that did not enter the design and why.

    Attributes
    ----------
    labels : tuple
        Index labels of the dropped rows in the user's data frame, in its order.
    reasons : dict
        Reason (``"missing Days"``, ``"weight 0"``, ``"frequency 0"``) to the labels concerned; a row may have several.
    unit : str
        What the labels number, e.g. ``"line of the file"``; empty if they are just labels.
    """

    labels: Lazy[tuple[Hashable, ...]] = Lazy(())  # noqa: RUF009
    reasons: Lazy[dict[str, tuple[Hashable, ...]]] = Lazy(LabelsByReason({}))  # noqa: RUF009
    unit: str = ""

    def __len__(self) -> int:
        return len(vars(self)["labels"])

    def __str__(self) -> str:
        if not len(self):
            return "no rows dropped"
        reasons = vars(self)["reasons"]
        found: Mapping[str, Any] = reasons.reasons if isinstance(reasons, LabelsByReason) else reasons
        parts = [f"{reason}: {_shorten(rows, self.unit)}" for reason, rows in found.items()]
        noun = "row" if len(self) == 1 else "rows"
        return f"{len(self)} {noun} dropped ({'; '.join(parts)})"


def _shorten(labels: Sequence[Hashable], unit: str = "", limit: int = 8) -> str:
    shown = ", ".join(str(label) for label in labels[:limit])
    noun, _, rest = unit.partition(" ")
    if unit:
        shown = f"{noun}{'' if len(labels) == 1 else 's'} {shown}"
    shown = shown if len(labels) <= limit else f"{shown}, ... ({len(labels)} in all)"
    return f"{shown} {rest}".rstrip()


@dataclass(frozen=True)
class Notes:
    """What a reader would want to know of the data: labels that look alike, dates read as text.

    Attributes
    ----------
    lines : tuple of str
    """

    lines: Lazy[tuple[str, ...]] = Lazy(())  # noqa: RUF009

    def __getstate__(self) -> dict[str, Any]:
        # What they are made from is the user's data, which copies and other processes have no use for.
        return {"lines": self.lines}


@by_value
@dataclass(frozen=True)
class Design:
    """A formula evaluated on data: what every later layer works from.

    Attributes
    ----------
    formula : str
        As typed.
    response : str
        Text of the left-hand side.
    y : FloatArray, shape (n,)
        Response in its own units (offset not subtracted).
    X : FloatArray, shape (n, p)
        Fixed-effects columns, full column rank (dependent columns are in `aliased`).
    fixed_names : tuple of str
        Names of the columns of X, ``"Intercept"`` first where there is one.
    aliased : tuple of str
        Columns left out of X because the ones before them span them.
    terms : tuple of RandomTerm
        In the order of the formula.
    groupings : dict
        Name to `Grouping`, in order of first appearance.
    weights : FloatArray or None, shape (n,)
        Precision weights (residual variance of row i is ``sigma^2 / weights[i]``), all positive.
    offset : FloatArray or None, shape (n,)
        Known part of the mean.
    index : array, shape (n,)
        Index labels of the rows kept.
    dropped : DroppedRows
        The rows that were not kept.
    frequency : IntArray or None, shape (n,)
        How many identical rows each row stands for, all positive.
    recipe : Recipe or None
        How to evaluate the formula on other rows; None for a design put together by hand.
    notes : Notes
        What is odd about the data, in words; no part of what makes two designs equal.
    store : {"auto", "levels", "hierarchy"}
        How sums over the rows are kept, which changes no result; no part of what makes two designs equal.
    """

    formula: str
    response: str
    y: FloatArray
    X: FloatArray
    fixed_names: tuple[str, ...]
    aliased: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    groupings: dict[str, Grouping]
    weights: FloatArray | None
    offset: FloatArray | None
    index: AnyArray
    dropped: DroppedRows
    frequency: IntArray | None = None
    recipe: Recipe | None = field(default=None, repr=False)
    notes: Notes = field(default_factory=Notes, repr=False, compare=False)
    store: Store = field(default="auto", repr=False, compare=False)

    @property
    def n(self) -> int:
        """Number of rows stored, the first dimension of every array."""
        return int(self.y.shape[0])

    @property
    def n_observations(self) -> int:
        """Number of observations, the sum of the frequencies: the n of degrees of freedom and of BIC."""
        return self.n if self.frequency is None else int(self.frequency.sum())

    @property
    def observations(self) -> str:
        """The number of observations in words."""
        return f"{self.n_observations} observations" + ("" if self.frequency is None else f" in {self.n} rows")

    @property
    def row_weights(self) -> FloatArray | None:
        """What each row counts for in sums of squares, frequency times precision weight; None if 1 for all."""
        if self.frequency is None:
            return self.weights
        return self.frequency.astype(float) if self.weights is None else self.frequency * self.weights

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Number of random effects over all terms."""
        return sum(len(t.effects) * self.groupings[t.group].n_levels for t in self.terms)

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters besides sigma."""
        return sum(len(t.structure.rows) for t in self.terms)
