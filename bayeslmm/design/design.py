"""The frozen design: every array and every name that the two engines share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.dropped import AllRows, DroppedRows, SummedCells
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.lazy import Lazy
from bayeslmm.design.recipe import Recipe
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.numerics import direct
from bayeslmm.residual import NO_PARAMETERS, Residual, crosses, log_dets
from bayeslmm.types import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from bayeslmm.design.row_facts import RowFacts

# How sums over the rows are kept: the largest factor level by level and all else in one dense piece, or nested factors
# one after the other and crossed ones in cells; by the number of effects outside the largest factor if "auto".
type Store = Literal["auto", "levels", "hierarchy", "packed", "anchored", "stochastic"]
STORES: tuple[Store, ...] = ("auto", "levels", "hierarchy", "packed", "anchored", "stochastic")


@by_value
@dataclass(frozen=True, eq=False)
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
class Notes:
    """What a reader would want to know of the data: labels that look alike, dates read as text.

    Attributes
    ----------
    lines : tuple of str
    """

    lines: Lazy[tuple[str, ...]] = Lazy(())  # noqa: RUF009

    def __repr__(self) -> str:
        return "\n".join(fill(line, indent="  ") for line in self.lines or ("Nothing odd was seen in the data.",))

    def __getstate__(self) -> dict[str, Any]:
        # What they are made from is the user's data, which copies and other processes have no use for.
        return {"lines": self.lines}


@by_value
@dataclass(frozen=True, eq=False)
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
    residual : Residual
        How the residuals of the rows vary, given sigma: all alike, or by precision weights.
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
    store : {"auto", "levels", "hierarchy", "packed", "anchored", "stochastic"}
        How sums over the rows are kept, which changes no result; no part of what makes two designs equal.
    all_rows : AllRows or None
        The rows of the data, where results by row are to have them all (``na_action="exclude"``).
    sigma : float or None
        The residual standard deviation where it is known, units of y; None where it is to be estimated.
    cells : SummedCells or None
        Where only sums over cells are known (`Model.from_sums`): the rows have these sums, and are no observations.
    facts : RowFacts or None
        What is known of the rows where these are not in memory: every array with n rows is then read when it is used.
    """

    formula: str
    response: str
    y: FloatArray
    X: FloatArray
    fixed_names: tuple[str, ...]
    aliased: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    groupings: dict[str, Grouping]
    residual: Residual
    offset: FloatArray | None
    index: AnyArray
    dropped: DroppedRows
    frequency: IntArray | None = None
    recipe: Recipe | None = field(default=None, repr=False)
    notes: Notes = field(default_factory=Notes, repr=False, compare=False)
    store: Store = field(default="auto", repr=False, compare=False)
    all_rows: AllRows | None = field(default=None, repr=False)
    sigma: float | None = field(default=None, repr=False)
    cells: SummedCells | None = field(default=None, repr=False)
    facts: RowFacts | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        size = f"{self.observations}, {self.p} fixed effects, {self.q} random effects"
        return fill(f"<Design of {self.formula!r}: {size}>", indent="  ")

    @property
    def n(self) -> int:
        """Number of rows stored, the first dimension of every array."""
        return int(self.y.shape[0])

    @property
    def n_observations(self) -> int:
        """Number of observations, the sum of the frequencies: the n of degrees of freedom and of BIC."""
        if self.facts is not None:
            return self.facts.n_observations
        return self.n if self.frequency is None else int(self.frequency.sum())

    @property
    def observations(self) -> str:
        """The number of observations in words."""
        if self.cells is not None:
            return f"{self.n_observations} observations in {len(self.cells)} cells"
        return f"{self.n_observations} observations" + ("" if self.frequency is None else f" in {self.n} rows")

    @property
    def y_less_offset(self) -> FloatArray:
        """The response (n,) that fixed and random effects have to explain."""
        return self.y if self.offset is None else self.y - self.offset

    @property
    def largest(self) -> float:
        """The largest of the response less its offset, whatever its sign."""
        if self.facts is not None:
            return float(max(abs(self.facts.low[-1]), abs(self.facts.high[-1])))
        return direct.largest(self.y_less_offset)

    @property
    def largest_response(self) -> float:
        """The same of the response as it is."""
        if self.facts is not None:
            return max(map(abs, self.facts.response[:2]))
        return float(np.abs(self.y).max(initial=0.0))

    @property
    def weights(self) -> FloatArray | None:
        """Precision weights (n,) that the residual variances are divided by, all positive; None if 1 for all."""
        return self.residual.weights

    def whitened(
        self, columns: FloatArray, lam: FloatArray = NO_PARAMETERS, *, within: Grouping | None = None
    ) -> FloatArray:
        """Columns (n, m) on the scale on which residuals are independent with standard deviation sigma.

        Rows that stand for several observations are as long as these together.

        Parameters
        ----------
        columns : FloatArray, shape (n, m)
        lam : FloatArray, shape (k,)
            Parameters of the residual structure; leading axes are points.
        within : Grouping, optional
            A factor by whose levels the rows are then taken apart.

        Raises
        ------
        DesignError
            Residuals of different levels of `within` depend on one another, so that rows have no whitened columns of
            their level alone.
        """
        clusters = self.residual.clusters
        if within is not None and clusters is not None and crosses(clusters, within.codes):
            raise DesignError(
                f"Residuals depend on one another ({self.residual.keyword}) across levels of {within.name}, and what "
                f"is asked for is computed for every level of {within.name} on its own. It exists for factors whose "
                "levels hold all rows that depend on one another."
            )
        white = self.residual.whiten(lam, columns)
        return white if self.frequency is None else white * np.sqrt(self.frequency)[:, None]

    def log_dets(self, codes: IntArray, lam: FloatArray = NO_PARAMETERS) -> FloatArray:
        """Log determinants (G,) of the residual covariance over sigma^2, of all observations of every group of rows."""
        return log_dets(self.residual, lam, codes, self.frequency)

    @property
    def counts(self) -> FloatArray:
        """Observations (n,) that each row stands for."""
        return np.ones(self.n) if self.frequency is None else self.frequency.astype(float)

    @property
    def row_weights(self) -> FloatArray | None:
        """What each row counts for in sums of squares, frequency times precision weight; None if 1 for all."""
        if self.frequency is None:
            return self.weights
        return self.counts if self.weights is None else self.frequency * self.weights

    @property
    def p(self) -> int:
        return int(self.X.shape[1])

    @property
    def q(self) -> int:
        """Number of random effects over all terms."""
        return sum(len(t.effects) * self.groupings[t.group].n_levels for t in self.terms)

    @property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Grouping factor to its number of levels and the effects of one level, over all its terms."""
        effects = dict.fromkeys(self.groupings, 0)
        for term in self.terms:
            effects[term.group] += len(term.effects)
        return {group: (self.groupings[group].n_levels, effects[group]) for group in self.groupings}

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters besides sigma."""
        return sum(len(t.structure.rows) for t in self.terms)


def rows_of_levels(design: Design, grouping: Grouping) -> IntArray:
    """Rows (J,) of every level of a grouping factor of the design."""
    if design.facts is not None and grouping.name in design.facts.rows:
        return design.facts.rows[grouping.name]
    return np.bincount(grouping.codes, minlength=grouping.n_levels)


def expanded(design: Design) -> Design:
    """The design with every row written out as often as it occurs; the design itself without frequencies.

    Parameters
    ----------
    design : Design
        n stored rows.

    Returns
    -------
    Design
        `n_observations` rows and no frequencies.

    Examples
    --------
    >>> from bayeslmm.design import build_design
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "g": ["a", "a", "b", "b"], "f": [2, 1, 0, 3]})
    >>> expanded(build_design("y ~ 1 + (1 | g)", frame, frequency="f")).y.tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    """
    if design.frequency is None:
        return design
    copies = np.repeat(np.arange(design.n), design.frequency)
    return replace(rows_of(design, copies), frequency=None, all_rows=None, cells=None)


def rows_of(design: Design, rows: IntArray) -> Design:
    """The design with some of its rows, in any order and any number of times; levels are those of all."""
    return replace(
        design,
        y=design.y[rows],
        X=design.X[rows],
        terms=tuple(replace(term, Z=term.Z[rows]) for term in design.terms),
        groupings={name: replace(g, codes=g.codes[rows]) for name, g in design.groupings.items()},
        residual=design.residual.part(rows),
        offset=None if design.offset is None else design.offset[rows],
        index=design.index[rows],
        frequency=None if design.frequency is None else design.frequency[rows],
    )
