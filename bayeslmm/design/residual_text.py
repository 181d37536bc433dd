"""Read the ``residual=`` of a model: variances and a correlation, e.g. ``"by(sex) + ar1(time | id)"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bayeslmm.arguments import kind_of
from bayeslmm.design.residual_translation import translated
from bayeslmm.design.residual_words import CORRELATIONS, VARIANCES, word_here
from bayeslmm.design.tokens import Token, spelled, tokenize
from bayeslmm.errors import DesignError, FormulaError

# What a model without a residual structure has; the formula then needs no random effects.
INDEPENDENT = "independent"
_FITTED = ("fitted", "fitted(.)", ".", "")


@dataclass(frozen=True)
class ResidualPart:
    """One summand.

    Attributes
    ----------
    keyword : str
        Of `VARIANCES` or `CORRELATIONS`.
    text : str
    left : tuple of str
        What stands before the bar, or in the brackets: columns or expressions.
    group : tuple of str
        Columns of the grouping factor of a correlation; empty for a variance.
    by : str
        Column of the arms with covariances of their own; empty if there is none.
    """

    keyword: str
    text: str
    left: tuple[str, ...]
    group: tuple[str, ...] = ()
    by: str = ""

    @property
    def correlated(self) -> bool:
        return bool(self.group)


def is_independent(text: object) -> bool:
    """Whether a text says that residuals are independent and have one variance, or known weights.

    Examples
    --------
    >>> is_independent(" independent "), is_independent("ar1(time | id)")
    (True, False)
    """
    return isinstance(text, str) and text.strip() == INDEPENDENT


def parse_residual(text: object) -> tuple[ResidualPart, ...]:
    """The summands of a residual structure.

    Parameters
    ----------
    text : str

    Returns
    -------
    tuple of ResidualPart
        At most one with groups.

    Raises
    ------
    DesignError
        No structure, or one that is not known, with what may have been meant.

    Examples
    --------
    >>> [(part.keyword, part.left, part.group) for part in parse_residual("by(sex) + ar1(time | id)")]
    [('by', ('sex',), ()), ('ar1', ('time',), ('id',))]
    """
    if not isinstance(text, str):
        raise DesignError(
            f"residual= is {kind_of(text)}, not a text such as 'ar1(time | id)' or 'by(sex) + ar1(time | id)'."
        )
    try:
        return _parsed(text)
    except DesignError as error:
        found = translated(text)
        if found is not None:
            raise DesignError(f"residual={text!r} cannot be read. {found.words}") from error
        here = _of_formulas(text)
        if here is not None:
            raise DesignError(f"residual={text!r} is written like a formula of nlme. Here it is {here}.") from error
        raise


def _of_formulas(text: str) -> str | None:
    """What ``~ x | g`` and ``by(1 | g)`` are here; None for other texts, an error where they cannot be read either."""
    bare = re.sub(r"\bby\(\s*1\s*\|\s*", "by(", text.replace("~", ""))
    bare = re.sub(r"\s+", " ", bare).replace("( ", "(").strip()
    if "(" not in bare and "|" in bare and "~" in text:
        left, group = (side.strip() for side in bare.split("|", 1))
        time = "time" if left in ("", "1") else left
        return f"residual='ar1({time} | {group})', or another word for the correlation: car1, us, toep; or cs({group})"
    if bare == text.strip():
        return None
    _parsed(bare)
    return f"residual={bare!r}"


def _parsed(text: str) -> tuple[ResidualPart, ...]:
    try:
        tokens = tokenize(text)
    except FormulaError as error:
        raise DesignError(f"residual={text!r} cannot be read: {error}") from None
    if any(token.text == "~" for token in tokens):
        raise DesignError(f"residual={text!r} has a ~, which formulas have; here columns stand alone: ar1(time | id).")
    parts = tuple(_part(text, piece) for piece in _split(tokens, ("+", "*"), 0))
    correlated = [part for part in parts if part.correlated]
    if len(correlated) > 1:
        raise DesignError(
            f"residual={text!r} has {len(correlated)} correlations ({' and '.join(p.text for p in correlated)}); "
            "residuals have one, and any number of variances beside it. A second level of dependence is a random "
            "effect: (1 | group)."
        )
    if any("0" in part.left for part in correlated):
        raise DesignError(
            f"residual={text!r}: a 0 left of the bar is that of random effects; here stand visits, times or places "
            "alone: ar1(time | g)."
        )
    return parts


def residual_columns(parts: Sequence[ResidualPart], available: Sequence[str]) -> list[str]:
    """Columns that a residual structure uses.

    Raises
    ------
    DesignError
        One of them is not there.
    """
    found: dict[str, None] = {}
    for part in parts:
        # Functions of columns have names that are followed by a bracket.
        for text in part.left:
            tokens = tokenize(text if text not in available else f"`{text}`")
            for token, after in zip(tokens, [*tokens[1:], None], strict=True):
                if token.kind in ("name", "quoted") and (after is None or after.text != "("):
                    found[token.text.strip("`")] = None
        found |= dict.fromkeys(part.group + ((part.by,) if part.by else ()))
    missing = [name for name in found if name not in available]
    if missing:
        shown = ", ".join(available[:20]) + (", ..." if len(available) > 20 else "")
        raise DesignError(
            f"residual={' + '.join(part.text for part in parts)!r} uses {missing[0]!r}, which is not a column of the "
            f"data. Columns are: {shown}."
        )
    return list(found)


def _split(tokens: Sequence[Token], signs: tuple[str, ...], depth: int) -> list[list[Token]]:
    pieces: list[list[Token]] = [[]]
    for token in tokens:
        if token.text in signs and token.depth == depth:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


def _part(text: str, tokens: Sequence[Token]) -> ResidualPart:
    if len(tokens) < 3 or tokens[0].kind != "name" or tokens[1].text != "(" or tokens[-1].text != ")":
        raise _unreadable(text, spelled(tokens))
    keyword, depth = tokens[0].text, tokens[1].depth + 1
    if keyword not in VARIANCES and keyword not in CORRELATIONS:
        raise _unknown(text, keyword)
    first, *others = _split(tokens[2:-1], (",",), depth)
    sides = _split(first, ("|",), depth)
    written = spelled(tokens)
    if len(sides) == 1 and keyword in VARIANCES:
        return _variance(text, keyword, written, [first, *others])
    if len(sides) == 2 and keyword not in CORRELATIONS:
        alone = "by(g), or by(g:h) for every combination of two" if keyword == "by" else f"{keyword}(x)"
        raise DesignError(
            f"residual={text!r}: {written} has a bar, within whose right side residuals would be correlated; {keyword} "
            f"says on what standard deviations depend, {alone}."
        )
    by = _by(text, written, others)
    if len(sides) == 1 and keyword == "cs":
        return ResidualPart(keyword, written, (), _columns(text, written, first), by)
    if len(sides) != 2 or not sides[0] or not sides[1] or keyword not in CORRELATIONS:
        raise DesignError(
            f"residual={text!r}: {written} says not what depends on what. {keyword}(time | id) has the visit or time "
            "left of the bar and the group, within which residuals are correlated, right of it."
        )
    left = tuple(spelled(piece) for piece in _split(sides[0], ("+",), depth))
    if left == ("1",) and keyword == "cs":
        left = ()
    elif left == ("1",):
        raise DesignError(
            f"residual={text!r}: {written} takes the order of the rows for times, as nlme does. Here rows may stand in "
            f"any order: name the column that has the times, {keyword}(time | {spelled(sides[1])})."
        )
    return ResidualPart(keyword, written, left, _columns(text, written, sides[1]), by)


def _variance(text: str, keyword: str, written: str, arguments: Sequence[Sequence[Token]]) -> ResidualPart:
    if keyword == "by":
        return ResidualPart(keyword, written, tuple(n for one in arguments for n in _columns(text, written, one)))
    given = tuple(spelled(one) for one in arguments)
    if len(given) != 1 or given[0] in _FITTED:
        raise DesignError(
            f"residual={text!r}: {written} needs one covariate, {keyword}(x). A variance that follows the fitted "
            "values is no part of the likelihood of variances alone (the mean would be estimated from it, too); take "
            "the fitted values of a first fit as a column, data['first'] = fit.fitted(), and say so."
        )
    return ResidualPart(keyword, written, given)


def _by(text: str, written: str, others: Sequence[Sequence[Token]]) -> str:
    if not others:
        return ""
    if len(others) > 1 or len(others[0]) != 3 or [t.text for t in others[0][:2]] != ["by", "="]:
        raise DesignError(
            f"residual={text!r}: behind the comma of {written} stands by=arm, a column whose levels have covariances "
            "of their own, or nothing."
        )
    return others[0][2].text.strip("`")


def _columns(text: str, written: str, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Columns joined by ``:`` (or ``*``), whose combinations are the levels."""
    names = tokens[::2]
    if (
        not names
        or any(t.kind not in ("name", "quoted") for t in names)
        or any(t.text not in (":", "*") for t in tokens[1::2])
    ):
        raise DesignError(
            f"residual={text!r}: {spelled(tokens)!r} in {written} is no column, nor columns joined by a colon, a:b."
        )
    return tuple(t.text.strip("`") for t in names)


def _unknown(text: str, keyword: str) -> DesignError:
    meant = word_here(keyword, text)
    hint = f" {keyword} is called {meant} here." if meant else ""
    return DesignError(
        f"residual={text!r} has {keyword!r}, which is no residual structure.{hint} Variances: by(g), power(x), exp(x), "
        "const_power(x). Correlations within groups: ar1(time | g), car1(time | g), cs(g), us(visit | g), "
        "toep(visit | g), ad(visit | g), arma(time | g), exp(x + y | g), gaussian(x + y | g), matern(x + y | g); with "
        "a variance for every visit: ar1h, csh, toeph, adh. None of these: 'independent'."
    )


def _unreadable(text: str, piece: str) -> DesignError:
    meant = word_here(piece.strip())
    hint = f" {piece} is called {meant} here." if meant else ""
    return DesignError(
        f"residual={text!r}: {piece!r} is no structure with its columns in brackets, such as 'ar1(time | id)'; "
        f"variances and a correlation are joined by +, 'by(sex) + ar1(time | id)'.{hint}"
    )
