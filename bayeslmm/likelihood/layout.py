"""What the elimination of a design looks like: sizes, fill and work."""

from __future__ import annotations

from dataclasses import dataclass

from bayeslmm.likelihood.crossproducts import CrossProducts

_LOG_DETERMINANTS = {
    "packed": "exact, by a packed Cholesky factor at every point",
    "anchored": "estimated, then exact at two or three points",
    "stochastic": "estimated from random vectors, the same at all points",
}


@dataclass(frozen=True)
class BlockStructure:
    """One grouping factor.

    Attributes
    ----------
    group : str
    n_levels : int
        J.
    size : int
        c, effects per level.
    role : {"level by level", "nested", "dense", "operator"}
        ``"nested"``: also level by level, after the factors nested in it; ``"dense"``: part of the matrix that is
        factored as a whole; ``"operator"``: part of one of which only products are formed.
    """

    group: str
    n_levels: int
    size: int
    role: str

    @property
    def q(self) -> int:
        """Number of random effects."""
        return self.n_levels * self.size


@dataclass(frozen=True)
class Structure:
    """Order and cost of the elimination.

    Attributes
    ----------
    blocks : tuple of BlockStructure
        In the order of elimination.
    store : {"levels", "hierarchy", "packed", "anchored", "stochastic"}
        ``"levels"``: the first factor level by level, the rest dense, for one or many points at once with exact
        second derivatives; ``"hierarchy"``: nested factors one after the other, crossed ones in cells; the others: the
        first factor level by level, the rest as an operator, whose log determinant is exact at all points, at some, or
        estimated.
    dense : int
        Rows of the matrix that is factored as a whole: dense random effects and fixed effects.
    cells : int
        Combinations of the first factor and the dense ones that are stored.
    fill : float
        Their share of all combinations; 1 where they are stored densely.
    numbers : int
        Doubles stored in all.
    flops : float
        Multiplications of one evaluation, roughly.
    """

    blocks: tuple[BlockStructure, ...]
    store: str
    dense: int
    cells: int
    fill: float
    numbers: int
    flops: float

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [f"{b.group}: {b.n_levels:,} levels x {b.size}, {b.role}" for b in self.blocks]
        if self.store in _LOG_DETERMINANTS:
            lines.append(f"log determinant: {_LOG_DETERMINANTS[self.store]}")
        lines.append(f"dense matrix: {self.dense:,} x {self.dense:,}")
        if self.cells:
            others = "other" if self.store in _LOG_DETERMINANTS else "dense"
            lines.append(f"cells with the {others} factors: {self.cells:,} ({100 * self.fill:.3g} % of all)")
        lines.append(f"{self.numbers:,} numbers stored, about {self.flops:.2g} multiplications per evaluation")
        return "\n".join(lines)


def describe_structure(cp: CrossProducts) -> Structure:
    """Structure of the cross-products of a design."""
    later = "operator" if cp.plan.operator else "nested"
    roles = ["level by level" if k == 0 else later if k < cp.plan.chain else "dense" for k in range(len(cp.blocks))]
    blocks = tuple(
        BlockStructure(b.grouping.name, b.n_levels, b.size, role) for b, role in zip(cp.blocks, roles, strict=True)
    )
    t, work = cp.q_trailing + cp.p, cp.sums.work()
    flops = work.flops + sum(b.n_levels * b.size**3 / 3 for b in blocks if b.role != "dense") + t**3 / 3
    return Structure(blocks, work.name, t, work.cells, work.fill, work.numbers, flops)
