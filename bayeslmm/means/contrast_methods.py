"""Coefficients of contrasts of k means, by name or as given, and the adjustment that each has by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from bayeslmm.arguments import choice, numbers_of, shown
from bayeslmm.design.contrasts import contrast_matrix
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

METHODS = ("pairwise", "dunnett", "poly", "consecutive", "effect", "others", "mean_change")
# What users of emmeans type.
_HABITS = {
    "revpairwise": "pairwise",
    "pairs": "pairwise",
    "tukey": "pairwise",
    "trt.vs.ctrl": "dunnett",
    "trt.vs.ctrl1": "dunnett",
    "consec": "consecutive",
    "eff": "effect",
    "del.eff": "others",
    "mean_chg": "mean_change",
}
DEFAULTS = {
    "pairwise": "tukey",
    "dunnett": "mvt",
    "poly": "none",
    "consecutive": "mvt",
    "effect": "fdr",
    "others": "fdr",
    "mean_change": "mvt",
}
# Highest degree of polynomial contrasts, as in emmeans.
_MOST_DEGREES = 6
_NAMED_DEGREES = ("linear", "quadratic", "cubic", "quartic")
# Denominators of the coefficients of polynomials over equally spaced points are no larger.
_MOST = 10**9


@by_value
@dataclass(frozen=True, eq=False)
class ContrastSet:
    """Contrasts of k means.

    Attributes
    ----------
    C : FloatArray, shape (m, k)
    names : tuple of tuple of str
        Two names where a contrast is the difference of two means, else one.
    pairs : bool
        Whether they are all pairs, so that Tukey's adjustment is for them.
    """

    C: FloatArray
    names: tuple[tuple[str, ...], ...]
    pairs: bool = False


def method_name(method: Any) -> str:
    """The name of a method of contrasts, also from those of emmeans.

    Examples
    --------
    >>> method_name("consec"), method_name("pairwise")
    ('consecutive', 'pairwise')
    """
    if isinstance(method, str) and method in _HABITS:
        return _HABITS[method]
    return choice("method", method, METHODS, DesignError, others="a mapping of names to coefficients")


def contrast_set(method: Any, names: Sequence[str], reverse: bool = False, reference: int = 0) -> ContrastSet:
    """Coefficients of contrasts of means with some names.

    Parameters
    ----------
    method : str or mapping
        One of `METHODS`, or name of a contrast to its k coefficients.
    names : sequence of str
        Of the means, k.
    reverse : bool
        Later minus earlier means in pairs.
    reference : int
        The mean that ``"dunnett"`` compares with.

    Examples
    --------
    >>> found = contrast_set("consecutive", ["a", "b", "c"])
    >>> found.C.astype(int).tolist(), found.names
    ([[-1, 1, 0], [0, -1, 1]], (('b', 'a'), ('c', 'b')))
    """
    if isinstance(method, Mapping):
        return _given(method, names)
    name, k = method_name(method), len(names)
    if name == "pairwise":
        places = [(j, i) if reverse else (i, j) for i, j in _pair_order(k, reverse)]
        return _differences(places, names, pairs=True)
    if name == "dunnett":
        return _differences([(i, reference) for i in range(k) if i != reference], names)
    if name == "consecutive":
        places = [(i, i + 1) if reverse else (i + 1, i) for i in range(k - 1)]
        return _differences(places, names)
    return _SHAPES[name](names)


def _pair_order(k: int, reverse: bool) -> list[tuple[int, int]]:
    found = list(combinations(range(k), 2))
    return sorted(found, key=lambda pair: (pair[1], pair[0])) if reverse else found


def _differences(places: Sequence[tuple[int, int]], names: Sequence[str], pairs: bool = False) -> ContrastSet:
    C = np.zeros((len(places), len(names)))
    for row, (i, j) in zip(C, places, strict=True):
        row[i], row[j] = 1.0, -1.0
    return ContrastSet(C, tuple((names[i], names[j]) for i, j in places), pairs)


def _effects(names: Sequence[str]) -> ContrastSet:
    k = len(names)
    return ContrastSet(np.eye(k) - 1.0 / k, tuple((f"{name} effect",) for name in names))


def _others(names: Sequence[str]) -> ContrastSet:
    k = len(names)
    C = (np.eye(k) * k - 1.0) / max(k - 1, 1)
    return ContrastSet(C, tuple((f"{name} against others",) for name in names))


def _mean_changes(names: Sequence[str]) -> ContrastSet:
    k = len(names)
    C = np.zeros((max(k - 1, 0), k))
    for i, row in enumerate(C):
        row[: i + 1], row[i + 1 :] = -1.0 / (i + 1), 1.0 / (k - i - 1)
    return ContrastSet(C, tuple((f"{a}|{b}",) for a, b in pairwise(names)))


def _polynomials(names: Sequence[str]) -> ContrastSet:
    """Whole-number coefficients of orthogonal polynomials of equally spaced points, as in the tables of textbooks."""
    k = len(names)
    if k < 2:
        return ContrastSet(np.zeros((0, k)), ())
    degrees = range(min(k - 1, _MOST_DEGREES))
    labels = tuple((_NAMED_DEGREES[d] if d < len(_NAMED_DEGREES) else f"degree {d + 1}",) for d in degrees)
    return ContrastSet(np.array([_whole(row) for row in contrast_matrix("poly", k).T[:_MOST_DEGREES]]), labels)


def _whole(row: FloatArray) -> FloatArray:
    """The smallest whole numbers in the ratios of a row."""
    scaled = row / np.abs(row[np.abs(row) > 1e-9]).min()
    for factor in range(1, 1000):
        whole = np.round(scaled * factor)
        if np.abs(whole).max() < _MOST and np.allclose(whole, scaled * factor, rtol=1e-9, atol=1e-7 * factor):
            return np.asarray(whole / np.gcd.reduce(np.abs(whole).astype(np.int64)))
    return np.asarray(scaled)


_SHAPES: dict[str, Callable[[Sequence[str]], ContrastSet]] = {
    "poly": _polynomials,
    "effect": _effects,
    "others": _others,
    "mean_change": _mean_changes,
}


def _given(method: Mapping[Any, Any], names: Sequence[str]) -> ContrastSet:
    if not method:
        raise DesignError("The mapping of contrasts is empty. Give name to coefficients, e.g. {'b - a': [-1, 1, 0]}.")
    rows = []
    for name, given in method.items():
        row = numbers_of(f"contrast {shown(name)}", _by_name(name, given, names), error=DesignError)
        if row.shape != (len(names),):
            raise DesignError(
                f"The contrast {shown(name)} has {row.size} coefficient(s), but there are {len(names)} means "
                f"to compare ({', '.join(names[:12])}{', ...' if len(names) > 12 else ''}). Give one for each."
            )
        rows.append(row)
    return ContrastSet(np.array(rows), tuple((str(name),) for name in method))


def _by_name(name: object, given: Any, names: Sequence[str]) -> Any:
    """Coefficients in the order of the means, from a mapping of some of their names."""
    if not isinstance(given, Mapping):
        return given
    unknown = [key for key in given if str(key) not in names]
    if unknown:
        raise DesignError(
            f"The contrast {shown(name)} names {shown(unknown[0])}, which is none of the means: "
            f"{', '.join(names[:12])}."
        )
    own = {str(key): value for key, value in given.items()}
    return [own.get(key, 0.0) for key in names]
