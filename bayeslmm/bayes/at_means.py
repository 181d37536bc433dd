"""Effects of a random term at the means of its columns: where default priors stand, so that they move with the data.

The effects b that users see are those at the zeros of the columns. Moving the zero of a predictor mixes them: the
intercept becomes the level at another place. What the data speak of is the level at the mean, so a prior that is to
move with the data stands on ``b_c`` with ``b = A b_c``, the coefficients of the columns ``Z A``. A has ones on its
diagonal and determinant 1: every column but the constant is centred, and a column that contains the variables of
others (x^2 beside x, ``x:f`` beside x and f) is taken about these too, because a shift of x mixes it with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.prior_scales import observation_mean, term_rms
from bayeslmm.design.covariance import canonical
from bayeslmm.design.design import Design
from bayeslmm.design.expressions import (
    Call,
    Chain,
    Constant,
    Name,
    Node,
    Number,
    Raised,
    Sign,
    Text,
    parse_expression,
    walk,
)
from bayeslmm.design.lookup import parts
from bayeslmm.design.row_arrays import product_by_row
from bayeslmm.errors import FormulaError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.types import FloatArray

# A column of a polynomial of powers, by its number.
_RAW = re.compile(r"poly\(.*raw=(?:True|TRUE).*\)\[(\d+)\]")
# A column of which less than this is left beside the columns below it has no scale of its own.
_DEPENDENT = 1e-8
# A column that varies less than this beside its mean is constant.
_CONSTANT = 1e-13
# Entries of the change of basis below this, in units of the columns' scales, leave an effect as it is.
_SAME = 1e-9


@dataclass(frozen=True)
class AtMeans:
    """Change of basis between the effects at the means of their columns and those at the columns' zeros.

    Attributes
    ----------
    rows : tuple of tuple of float
        A (c, c): effects at the zeros are A times those at the means, the columns at the means are Z A.
    moved : tuple of bool
        Effects that are another quantity at the means: the intercept, and x beside x^2.
    means : tuple of float
        Of the columns, for words.
    """

    rows: tuple[tuple[float, ...], ...]
    moved: tuple[bool, ...]
    means: tuple[float, ...]

    @cached_property
    def matrix(self) -> FloatArray:
        """A (c, c)."""
        return np.array(self.rows)

    @cached_property
    def inverse(self) -> FloatArray:
        """The inverse of A, (c, c)."""
        return np.asarray(np.linalg.inv(self.matrix))


def at_means(design: Design, position: int) -> AtMeans | None:
    """The change of basis of a term; None where its prior stands on the columns as they are.

    That is where effects are independent or share a variance, because the model itself then depends on the zeros of
    the columns, and where there is no intercept that could take a shift up.
    """
    term = design.terms[position]
    c = len(term.effects)
    free = term.structure.basis_free and c > 1
    constant = [k for k, name in enumerate(term.effects) if name == "Intercept" and _is_one(design, position, k)]
    if not (free and constant):
        return None
    facts = design.facts
    A = _change(design, position, constant[0])
    if facts is None:
        sizes = np.sqrt(observation_mean(design, (term.Z @ A) ** 2))
    else:
        sizes = np.sqrt(((facts.moments(position) @ A) ** 2).sum(0))
    # Row k of the inverse says what the effect at the means is made of, in units of what each effect does to y.
    sizes = np.where(sizes > 0, sizes, 1.0)
    other = np.abs(np.linalg.inv(A) - np.eye(c)) * sizes[:, None] / sizes
    means = observation_mean(design, term.Z) if facts is None else facts.means[facts.Z(position)]
    return AtMeans(tuple(map(tuple, A.tolist())), tuple((other.max(axis=1) > _SAME).tolist()), tuple(means.tolist()))


def _is_one(design: Design, position: int, column: int) -> bool:
    if design.facts is not None:
        own = design.facts.Z(position).start + column
        return bool(design.facts.low[own] == 1.0 == design.facts.high[own])
    return bool((design.terms[position].Z[:, column] == 1.0).all())


def _centred(design: Design, position: int) -> tuple[FloatArray, FloatArray]:
    """Means (c,) of the columns of a term, and the columns (n, c) without."""
    Z = design.terms[position].Z
    mean = observation_mean(design, Z)
    centred = Z - mean
    # A second pass takes out what the first mean has lost to rounding.
    drift = observation_mean(design, centred)
    return mean + drift, centred - drift


def _change(design: Design, position: int, constant: int) -> FloatArray:
    effects = design.terms[position].effects
    c = len(effects)
    if design.facts is None:
        mean, centred = _centred(design, position)
        size = np.sqrt(observation_mean(design, centred**2))
    else:
        mean, centred = design.facts.means[design.facts.Z(position)], design.facts.moments(position)[1:]
        size = np.sqrt((centred**2).sum(0))
    lower = _columns_below(design, effects)
    A = np.eye(c)
    for k in range(c):
        if k == constant or size[k] <= _CONSTANT * np.abs(mean[k]):
            continue
        below = [j for j in lower[k] if j != constant and size[j] > 0]
        slopes = _slopes(design, centred[:, below] / size[below], centred[:, k] / size[k]) if below else None
        slopes = np.zeros(len(below)) if slopes is None else slopes * size[k] / size[below]
        A[below, k] = -slopes
        A[constant, k] = -(mean[k] - slopes @ mean[below])
    return A


def _slopes(design: Design, X: FloatArray, y: FloatArray) -> FloatArray | None:
    """Least squares of a column on those below it; None where nothing of its own would be left."""
    by_row = design.facts is None
    root = np.sqrt(design.frequency) if by_row and design.frequency is not None else 1.0
    slopes = np.linalg.lstsq((X.T * root).T, y * root, rcond=1e-12)[0]
    squares = (y - X @ slopes) ** 2
    left = np.sqrt(observation_mean(design, squares) if by_row else squares.sum())
    return np.asarray(slopes) if left > _DEPENDENT else None


def _columns_below(design: Design, effects: Sequence[str]) -> list[list[int]]:
    """For every column those that a shift of its variables mixes it with: fewer variables, or lower powers of them."""
    parts = _parsed(design, effects)
    return [[j for j, other in enumerate(parts) if _below((other, j), (part, k))] for k, part in enumerate(parts)]


def _parsed(design: Design, effects: Sequence[str]) -> list[_Column]:
    plain = all(effect.isidentifier() for effect in effects)
    known = set() if plain or design.recipe is None else set(design.recipe.columns)
    return [_Column.of(effect, known) for effect in effects]


@dataclass(frozen=True)
class _Column:
    """What the label of a column says: the power of every variable in it, and the text without levels."""

    powers: dict[str, float]
    text: str

    @classmethod
    def of(cls, label: str, known: set[str]) -> _Column:
        pieces = [label] if label in known else parts(label)
        texts, powers = list[str](), dict[str, float]()
        for piece in pieces:
            raw = _RAW.fullmatch(piece)
            # Columns of raw polynomials are powers, one above the other.
            text = piece if raw else re.sub(r"\[[^\[\]]*\]$", "", piece)
            own = {text: 1.0} if text in known else _powers(text[: raw.start(1) - 1] if raw else text, known)
            powers = _sum(powers, {name: power * float(raw[1]) for name, power in own.items()} if raw else own)
            texts.append(text)
        return cls(powers, ":".join(texts))


def _below(a: tuple[_Column, int], b: tuple[_Column, int]) -> bool:
    """Whether column a is marginal to b: no variable in it that b has not, or to a higher power."""
    (low, j), (high, k) = a, b
    if low.text == high.text or any(power > high.powers.get(name, 0.0) for name, power in low.powers.items()):
        return False
    return low.powers != high.powers or j < k


def _powers(text: str, known: set[str]) -> dict[str, float]:
    """Powers of a polynomial as written; in any other function a variable has the power 1."""
    try:
        found = _of_node(parse_expression(text))
    except FormulaError:
        found = {text: 1.0}
    return {name: power for name, power in found.items() if name in known} or found or {text: 1.0}


def _of_node(node: Node) -> dict[str, float]:
    match node:
        case Name(name):
            return {name: 1.0}
        case Raised(base, Number(power)):
            return {name: own * power for name, own in _of_node(base).items()}
        case Chain(first, rest):
            powers = _of_node(first)
            for sign, operand in rest:
                powers = _sum(powers, _of_node(operand)) if sign == "*" else _largest(powers, _of_node(operand))
            return powers
        case Sign(_, operand) | Call("I", (operand,)):
            return _of_node(operand)
        case Number() | Text() | Constant():
            return {}
    return {part.name: 1.0 for part in walk(node) if isinstance(part, Name)}


def _largest(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: max(a.get(name, 0.0), b.get(name, 0.0)) for name in (*a, *b)}


def _sum(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + b.get(name, 0.0) for name in (*a, *b)}


def place(design: Design, position: int, effect: int, change: AtMeans, *, zero: bool = False) -> str:
    """Where an effect of a term is: ``"at the mean of Days (4.5)"``, or ``"at Days = 0"``.

    Empty for an effect that is the same there and elsewhere.
    """
    if not change.moved[effect]:
        return ""
    term = design.terms[position]
    parts = _parsed(design, term.effects)
    mixed = [j for j in range(len(parts)) if j != effect and change.inverse[effect, j] != 0]
    found = {name for j in mixed for name in parts[j].powers}
    found = found - set(parts[effect].powers) or found
    names = list(dict.fromkeys(name for part in parts for name in part.powers if name in found))
    if zero:
        numeric = all(name in term.effects for name in names)
        return f"at {' = '.join(names)} = 0" if numeric else "where the columns are zero"
    means = change.means
    shown = [f"{n} ({means[term.effects.index(n)]:.6g})" if n in term.effects else n for n in names]
    listed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"at the mean{'s' if len(shown) > 1 else ''} of {listed}"


def columns_at_means(design: Design, position: int, change: AtMeans | None) -> FloatArray:
    """Columns (n, c) whose coefficients the prior of a term stands on."""
    Z = design.terms[position].Z
    if change is None:
        return Z
    return np.asarray(Z @ change.matrix) if design.facts is None else product_by_row(Z, change.matrix)


def design_at_means(design: Design, changes: Sequence[AtMeans | None]) -> Design:
    """The design in the coordinates of its priors; the same object where these are the user's own."""
    if all(change is None for change in changes):
        return design
    terms = tuple(
        term if change is None else replace(term, Z=columns_at_means(design, k, change))
        for k, (term, change) in enumerate(zip(design.terms, changes, strict=True))
    )
    facts = design.facts
    for k, change in enumerate(changes):
        facts = facts if facts is None or change is None else facts.changed(k, change.matrix)
    return replace(design, terms=terms, facts=facts)


def products_at_means(cp: SummedDesign, changes: Sequence[AtMeans | None]) -> SummedDesign:
    """Cross-products in the coordinates of the priors: the same sums, another name for the effects."""
    if all(change is None for change in changes):
        return cp
    blocks = []
    for block in cp.blocks:
        basis = block.basis.copy()
        for term, columns in zip(block.terms, block.slices, strict=True):
            change = changes[term]
            if change is not None:
                basis[columns, columns] = change.inverse @ basis[columns, columns]
        blocks.append(replace(block, basis=basis))
    frame = replace(cp.frame, blocks=tuple(blocks))
    return replace(cp, design=design_at_means(cp.design, changes), sums=cp.sums.on(frame))


def factors_at_means(changes: Sequence[AtMeans | None], factors: Sequence[FloatArray]) -> list[FloatArray]:
    """Triangular factors (..., c, c) of the covariances of the effects at the means, from those at the zeros."""
    return [
        np.asarray(T) if change is None else canonical(change.inverse @ T)
        for change, T in zip(changes, factors, strict=True)
    ]


def factors_at_zeros(changes: Sequence[AtMeans | None], factors: Sequence[FloatArray]) -> list[FloatArray]:
    """Square roots (..., c, c) of the covariances of the effects at the zeros, from those at the means."""
    return [T if change is None else change.matrix @ T for change, T in zip(changes, factors, strict=True)]


def sds_and_correlations(T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Standard deviations (..., c) and correlation matrices (..., c, c) of the covariances T T'."""
    sd = np.sqrt((T**2).sum(axis=-1))
    rows = T / np.where(sd > 0, sd, 1.0)[..., None]
    correlation = np.clip(rows @ np.swapaxes(rows, -1, -2), -1.0, 1.0)
    c = T.shape[-1]
    correlation[..., range(c), range(c)] = 1.0
    return sd, correlation


def effect_sizes(design: Design, position: int, change: AtMeans | None) -> FloatArray:
    """Root mean square (c,) of the columns that the prior of a term stands on: sds about the means where centred."""
    return term_rms(design, position, None if change is None else change.matrix)


def group_change(group: GroupLayout, changes: Sequence[AtMeans | None]) -> FloatArray | None:
    """The change of basis (c, c) of all effects of a grouping factor; None where no term has one."""
    own = [changes[k] for k in group.labels.terms]
    if all(change is None for change in own):
        return None
    A = np.eye(len(group.labels.effects))
    for change, columns in zip(own, group.labels.slices, strict=True):
        if change is not None:
            A[columns, columns] = change.matrix
    return A
