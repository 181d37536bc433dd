"""R's rules for turning terms into columns: order, contrasts or indicators, products."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from bayeslmm.types import FloatArray

type Term = tuple[str, ...]
type Columns = tuple[FloatArray, tuple[str, ...]]


def ordered_terms(terms: Sequence[Term], variables: Sequence[str] = ()) -> tuple[Term, ...]:
    """Distinct terms by degree, variables within a term in the order of their first appearance.

    Parameters
    ----------
    terms : sequence of tuple of str
    variables : sequence of str
        The variables in the order of the formula, which is not that of the terms after ``a*b - a`` or ``(a + b):c``.

    Examples
    --------
    >>> ordered_terms([("k",), ("f", "k"), ("x",), ("k", "f")])
    (('k',), ('x',), ('k', 'f'))
    >>> ordered_terms([("k",), ("f", "k")], ["f", "k"])
    (('k',), ('f', 'k'))
    """
    place: dict[str, int] = {}
    for name in (*variables, *(name for term in terms for name in term)):
        place.setdefault(name, len(place))
    distinct = dict.fromkeys(tuple(sorted(set(term), key=place.__getitem__)) for term in terms)
    return tuple(sorted(distinct, key=len))


def indicator_coded(terms: Sequence[Term], categorical: Collection[str], intercept: bool) -> tuple[set[str], ...]:
    """Factors of each term that get one column per level; the others get contrasts.

    A factor is coded by contrasts if an earlier term contains the rest of its term (the intercept
    contains the rest of a main effect); without intercept the first factor of the model gets all its levels.

    Examples
    --------
    >>> indicator_coded([("x",), ("x", "f")], {"f"}, True)
    (set(), set())
    >>> indicator_coded([("x", "f")], {"f"}, True)
    ({'f'},)
    """
    full = tuple(
        {name for name in term if name in categorical and not _margin_known(set(term) - {name}, terms[:i])}
        for i, term in enumerate(terms)
    )
    if not intercept:
        for own, term in zip(full, terms, strict=True):
            factors = [name for name in term if name in categorical]
            if factors:
                own.add(factors[0])
                break
    return full


def _margin_known(rest: set[str], earlier: Sequence[Term]) -> bool:
    return not rest or any(rest <= set(term) for term in earlier)


def product(parts: Sequence[Columns]) -> Columns:
    """Columns of an interaction; the first part varies fastest.

    Parameters
    ----------
    parts : sequence of (FloatArray of shape (n, k), names)
    """
    matrix, names = parts[0]
    for other, other_names in parts[1:]:
        matrix = (other[:, :, None] * matrix[:, None, :]).reshape(matrix.shape[0], -1)
        names = tuple(f"{name}:{other_name}" for other_name in other_names for name in names)
    return np.asarray(matrix), names
