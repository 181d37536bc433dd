"""Whether two designs have the same rows, columns and groups, as far as this is known where rows are not in memory.

Numbers of rows that were read in chunks are compared by what is recorded of them: means, spreads and extremes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.equality import same_values
from bayeslmm.types import BoolArray, FloatArray

# Relative difference of sums of the same rows in another order.
_ROUNDING = 1e-9


def elsewhere(a: Design, b: Design) -> bool:
    """Whether neither has its rows in memory."""
    return a.facts is not None and b.facts is not None


def same_response(a: Design, b: Design) -> bool:
    """Whether two designs have the same rows and response."""
    if a.n != b.n:
        return False
    if a.facts is None or b.facts is None:
        return bool(np.array_equal(a.y, b.y))
    return _close([*a.facts.response, a.n_observations], [*b.facts.response, b.n_observations])


def same_weighting(a: Design, b: Design) -> bool:
    """Whether two designs of the same rows have the same precision weights and frequencies."""
    if a.facts is not None and b.facts is not None:
        known = [a.facts.weights or (1.0,), b.facts.weights or (1.0,)]
        logs = _close([a.facts.log_weights], [b.facts.log_weights])
        return len(known[0]) == len(known[1]) and _close(*known) and logs and a.sigma == b.sigma
    one = np.ones(a.n)
    weights = [one if d.weights is None else d.weights for d in (a, b)]
    counts = [one if d.frequency is None else d.frequency for d in (a, b)]
    return bool(np.array_equal(weights[0], weights[1]) and np.array_equal(counts[0], counts[1]))


def same_groups(a: Design, b: Design, group_a: str, group_b: str) -> bool | None:
    """Whether two factors put the rows into the same groups; None where only the rows could tell."""
    first, second = a.groupings[group_a], b.groupings[group_b]
    if first.n_levels != second.n_levels:
        return False
    if a.facts is None or b.facts is None:
        return None
    if group_a == group_b and same_values(a.facts.rows[group_a], b.facts.rows[group_b]):
        return True
    sizes = np.sort(a.facts.rows[group_a]), np.sort(b.facts.rows[group_b])
    return None if np.array_equal(*sizes) else False


def columns_of(design: Design, part: int | None) -> FloatArray:
    """Columns of X (None), or of a term."""
    return design.X if part is None else design.terms[part].Z


def known_columns(a: Design, part: int | None, b: Design, parts: Sequence[int | None]) -> BoolArray:
    """Which columns of a part of one design are, by name and record, among those of some parts of another."""
    others = [column for other in parts for column in _recorded(b, other)]
    return np.array([any(_same(own, other) for other in others) for own in _recorded(a, part)], dtype=bool)


def _recorded(design: Design, part: int | None) -> list[tuple[str, list[float]]]:
    facts = design.facts
    assert facts is not None
    own = facts.X if part is None else facts.Z(part)
    names = design.fixed_names if part is None else design.terms[part].effects
    numbers = np.column_stack([facts.low, facts.high, facts.means, facts.sds()])[own]
    return list(zip(names, numbers.tolist(), strict=True))


def _same(a: tuple[str, list[float]], b: tuple[str, list[float]]) -> bool:
    return a[0] == b[0] and _close(a[1], b[1])


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return bool((np.abs(x - y) <= _ROUNDING * np.maximum(np.abs(x), np.abs(x).max(initial=0.0))).all())
