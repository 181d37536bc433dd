"""Read a formula: response, fixed part, offsets and bar terms, kept as written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

from bayeslmm.arguments import kind_of
from bayeslmm.design import elsewhere
from bayeslmm.design.algebra import check_terms
from bayeslmm.design.expressions import read_expression
from bayeslmm.design.residual_translation import translated
from bayeslmm.design.tokens import STRUCTURES, Token, spelled, tokenize
from bayeslmm.errors import FormulaError

_NO_RANDOM = (
    "The formula has no random-effects term, so there is nothing for a mixed model to do. Add one, for "
    "example (1 | group), a residual structure (residual='ar1(time | group)'), or residual='independent' for the "
    "regression that such models are compared with."
)
CALL = "A call of another package stands in the place of a formula."
_OF_CONDITIONS = ("I", "{", "factor", "as.factor", "C", "ifelse", "where", "np.where")
_CONDITIONS = ("<", ">", "<=", ">=", "==", "!=", "&", "!", "~", "%in%", "and", "or", "not", "in")
_NO_GROUP = (
    "{!r} cannot be part of a grouping factor. Right of the bar stand column names, joined by : (combination), "
    "/ (nesting) or + (several factors); a name with spaces or signs is written in backquotes, e.g. `Vp Nr.`; make a "
    "new column for anything else."
)


@dataclass(frozen=True)
class Bar:
    """One random-effects term after expansion.

    Attributes
    ----------
    left : str
        Left side as formula text, e.g. ``"Days"`` or ``"0 + Days"``.
    factors : tuple of str
        Columns whose combination is the grouping factor.
    correlated : bool
        False for ``||``.
    position : int
        Where the bar stands in the formula.
    keyword : str
        Covariance structure written before the parentheses, e.g. ``"cs"``; empty if there is none.
    quoted : bool
        Whether columns with a colon in their names keep their backquotes in `group`, which would else be that of
        another grouping factor of the formula.
    """

    left: str
    factors: tuple[str, ...]
    correlated: bool
    position: int
    keyword: str = ""
    quoted: bool = False

    @cached_property
    def group(self) -> str:
        return ":".join(f"`{name}`" if self.quoted and ":" in name else name for name in self.factors)

    @property
    def structure(self) -> str:
        """Keyword of the covariance structure."""
        return self.keyword or ("us" if self.correlated else "diag")

    @cached_property
    def label(self) -> str:
        return f"{self.keyword}({self.left} {'|' if self.correlated else '||'} {self.group})"


@dataclass(frozen=True)
class Formula:
    """A formula split into its parts.

    Attributes
    ----------
    text : str
    response : str
    fixed : str
        Right side without bars and offsets; ``"1"`` if nothing is left.
    offsets : tuple of str
        Arguments of ``offset()``.
    bars : tuple of Bar
    """

    text: str
    response: str
    fixed: str
    offsets: tuple[str, ...]
    bars: tuple[Bar, ...]

    @cached_property
    def evaluated(self) -> tuple[str, ...]:
        """Texts that are evaluated on new rows."""
        return tuple(dict.fromkeys([self.fixed, *self.offsets, *(bar.left for bar in self.bars)]))


def parse_formula(text: str) -> Formula:
    """Split an lme4-style formula.

    ``(x | a/b)`` becomes ``(x | a) + (x | a:b)``, ``(x | a + b)`` becomes ``(x | a) + (x | b)``; ``y ~ x | g`` without
    parentheses is read as ``y ~ 1 + (x | g)``. A word such as ``cs`` before the parentheses of a random term
    (`tokens.STRUCTURES`) is its covariance structure.

    Parameters
    ----------
    text : str

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        With a caret under the place.

    Examples
    --------
    >>> f = parse_formula("y ~ x + offset(o) + (x || a/b)")
    >>> f.fixed, f.offsets, [bar.label for bar in f.bars]
    ('x', ('o',), ['(x || a)', '(x || a:b)'])
    >>> [bar.structure for bar in parse_formula("y ~ 1 + ar1(0 + t | g) + (1 | h)").bars]
    ['ar1', 'us']
    """
    if not isinstance(text, str):
        raise FormulaError(f"The formula is {kind_of(text)}, not a string such as 'y ~ x + (x | g)'.")
    return _parsed(text)


@lru_cache(maxsize=256)
def _parsed(text: str) -> Formula:
    tokens = tokenize(text)
    tilde = _tilde(text, tokens)
    left, right = tokens[:tilde], tokens[tilde + 1 :]
    for token in left:
        if token.text in ("|", "||") and not token.inside:
            behind = next((other.text for other in left if other.start > token.start), "")
            raise FormulaError(
                "A bar | stands left of ~. Random effects belong to the right side: y ~ x + (1 | g)."
                + elsewhere.elsewhere(behind, elsewhere.RESPONSES),
                text,
                token.start,
            )
    if not right:
        raise FormulaError("Nothing stands right of ~.", text, len(text.rstrip()))
    read_expression(text, left)
    response = spelled(left)
    bare = [token for token in right if token.text in ("|", "||") and token.depth == 0]
    if bare:
        return _bare(text, response, right, bare)
    fixed, offsets, bars = _right_side(text, right)
    _check_response(text, left, right)
    return Formula(text, response, fixed, offsets, _told_apart(bars))


def check_random(formula: Formula) -> None:
    """Refuse a formula without a random term.

    Raises
    ------
    FormulaError
        With a caret under its end.
    """
    if not formula.bars:
        tokens = tokenize(formula.text)
        raise _without_bar(formula.text, tokens) or FormulaError(_NO_RANDOM, formula.text, tokens[-1].end - 1)


def _without_bar(text: str, tokens: Sequence[Token]) -> FormulaError | None:
    """What to say of groups that are written as for R's ``aov``; None if there are none."""
    for i, token in enumerate(tokens):
        if token.text == "Error" and tokens[i + 1 : i + 2] and tokens[i + 1].text == "(":
            close = next(other for other in tokens[i + 2 :] if other.depth <= token.depth)
            groups = text[tokens[i + 1].end : close.start].strip()
            instead = f"Error({groups}) has the strata of R's aov(). As random effects they are (1 | {groups})."
        elif token.text == "%in%":
            groups = tokens[i + 1].text
            instead = (
                f"%in% {groups} is an interaction of fixed effects, as : is, and no random effect. An effect of every "
                f"level of {groups} is (1 | {groups})."
            )
        else:
            continue
        return FormulaError(f"The formula has no random-effects term. {instead}", text, token.start, len(token.text))
    return None


def offsets_outside(text: str) -> str:
    """A formula with a single bar, offsets left of it moved behind it: a known part of every mean.

    Examples
    --------
    >>> offsets_outside("y ~ x + offset(w) | g")
    'y ~ (x | g) + offset(w)'
    >>> offsets_outside("y ~ x | g")
    'y ~ x | g'
    """
    tokens = tokenize(text)
    right = tokens[_tilde(text, tokens) + 1 :]
    term = _inside(right) or right
    bars = [i for i, token in enumerate(term) if token.text == "|" and token.depth == term[0].depth]
    if len(bars) != 1 or bars[0] == 0:
        return text
    found = summands(text, term[: bars[0]])
    offsets = [t for sign, t in found if sign == "+" and t[0].text == "offset" and _inside(t[1:])]
    if not offsets:
        return text
    kept = [f"{sign} {spelled(t)}" for sign, t in found if t not in offsets]
    left = " ".join(kept).removeprefix("+ ") or "1"
    parts = [f"({left} | {spelled(term[bars[0] + 1 :])})", *map(spelled, offsets)]
    return f"{spelled(tokens[: _tilde(text, tokens)])} ~ {' + '.join(parts)}"


def _tilde(text: str, tokens: Sequence[Token]) -> int:
    places = [i for i, token in enumerate(tokens) if token.text == "~" and not token.inside]
    if not places:
        found = translated(text)
        problem = "The formula has no ~. Write response ~ predictors + (1 | group)."
        if found is not None and found.whole_model:
            problem = f"{CALL} {found.words}"
        raise FormulaError(problem, text, 0, max(len(text), 1))
    if len(places) > 1:
        raise FormulaError("The formula has a second ~.", text, tokens[places[1]].start)
    if places[0] == 0:
        raise FormulaError("No response stands left of ~.", text, tokens[0].start)
    return places[0]


def _check_response(text: str, left: Sequence[Token], right: Sequence[Token]) -> None:
    for token in right:
        if len(left) == 1 and token.text == left[0].text and token.kind in ("name", "quoted") and token.depth == 0:
            raise FormulaError(
                f"The response {token.text} also stands among its predictors, which would explain it completely.",
                text,
                token.start,
                len(token.text),
            )


def _bare(text: str, response: str, right: Sequence[Token], bare: Sequence[Token]) -> Formula:
    """``y ~ left | group`` without parentheses."""
    if len(bare) > 1:
        raise FormulaError(
            "Two bars without parentheses. Put each random term in its own: (x | g) + (1 | h).", text, bare[1].start
        )
    bar = right.index(bare[0])
    after = right[bar + 1 :]
    for token in after:
        if token.depth == 0 and token.text in ("+", "-", "*"):
            raise FormulaError(
                "It is not clear where the random term ends. Put it in parentheses: (x | g) + z.", text, bare[0].start
            )
    return Formula(text, response, "1", (), _told_apart(_bars(text, right[:bar], bare[0], after)))


def _told_apart(bars: Sequence[Bar]) -> tuple[Bar, ...]:
    """Bars whose grouping factors differ in name if they differ: the column `a:b` is not the cells of a and b."""
    factors: dict[str, set[tuple[str, ...]]] = {}
    for bar in bars:
        factors.setdefault(bar.group, set()).add(bar.factors)
    return tuple(replace(bar, quoted=True) if len(factors[bar.group]) > 1 else bar for bar in bars)


def _right_side(text: str, right: Sequence[Token]) -> tuple[str, tuple[str, ...], list[Bar]]:
    kept: list[str] = []
    offsets: list[str] = []
    bars: list[Bar] = []
    for sign, term in summands(text, right):
        keyword = _keyword(term)
        inner = _inside(term[1:] if keyword else term)
        while inner is not None and (deeper := _inside(inner)) is not None:
            inner = deeper
        bar = None if inner is None else _top_bar(text, inner)
        stray = next((t for t in term if t.text in ("|", "||") and not _means_or(term, t)), None)
        if bar is not None and inner is not None:
            _positive(text, sign, term, "A random term")
            i = inner.index(bar)
            bars += _bars(text, inner[:i], bar, inner[i + 1 :], keyword)
        elif stray is not None:
            raise FormulaError(
                "A bar | stands where no random term can be. Random terms are whole summands in parentheses: "
                f"y ~ x + (x | g), with or without a covariance structure ({', '.join(STRUCTURES)}) before them."
                + elsewhere.elsewhere(term[0].text, elsewhere.STRUCTURES),
                text,
                stray.start,
            )
        elif term[0].text == "offset" and (argument := _inside(term[1:])):
            _positive(text, sign, term, "An offset")
            read_expression(text, argument)
            offsets.append(spelled(argument))
        else:
            _check_fixed(text, sign, term, bool(kept))
            kept.append(f"{sign} {spelled(term)}" if kept or sign == "-" else spelled(term))
    fixed = " ".join(kept) or "1"
    return (f"1 {fixed}" if fixed.startswith("-") else fixed), tuple(offsets), bars


def _check_fixed(text: str, sign: str, term: Sequence[Token], more: bool) -> None:
    if sign == "-" and not more and [token.text for token in term] not in (["0"], ["1"]):
        raise FormulaError(
            "Nothing stands before this minus to be taken away from. For the negative of a column write I(-x).",
            text,
            term[0].start,
        )
    check_terms(text, term)
    _no_offset(text, term, "An offset has to be a summand of its own, with the known part of the mean in its brackets.")


def _no_offset(text: str, tokens: Sequence[Token], why: str) -> None:
    for token, following in pairwise(tokens):
        if token.text == "offset" and token.kind == "name" and following.text == "(":
            raise FormulaError(f"{why} Write y ~ x + offset(z) + (1 | g).", text, token.start, len(token.text))


def _means_or(term: Sequence[Token], bar: Token) -> bool:
    """Whether a bar joins conditions: not if the call around it looks like a random term of an unknown structure."""
    if not bar.inside:
        return False
    looks_random = bar.depth == term[0].depth + 1 and term[0].text not in _OF_CONDITIONS
    return not looks_random or any(token.text in _CONDITIONS for token in term)


def _positive(text: str, sign: str, term: Sequence[Token], what: str) -> None:
    if sign == "-":
        raise FormulaError(f"{what} cannot be subtracted. Leave it out instead.", text, term[0].start)


def summands(text: str, tokens: Sequence[Token]) -> list[tuple[str, list[Token]]]:
    """What stands between plus and minus signs outside of brackets, with its sign.

    Parameters
    ----------
    text : str
        What errors show.
    tokens : Sequence of Token
        A part of the text.

    Raises
    ------
    FormulaError
        A term is missing beside a sign.
    """
    if not tokens:
        raise FormulaError("A term is missing at the end.", text, max(len(text) - 1, 0))
    terms: list[tuple[str, list[Token]]] = []
    sign, current = "+", list[Token]()
    depth = min(token.depth for token in tokens)
    for token in tokens:
        if token.depth == depth and token.text in ("+", "-"):
            if not current and token.text == "+":
                continue
            if current:
                terms.append((sign, current))
            elif terms or sign == "-":
                raise FormulaError("A term is missing before this sign.", text, token.start)
            sign, current = token.text, []
        else:
            current.append(token)
    if not current:
        raise FormulaError("A term is missing after the last sign.", text, tokens[-1].start)
    return [*terms, (sign, current)]


def _inside(term: Sequence[Token]) -> list[Token] | None:
    """Tokens within the parentheses that enclose a whole term, or None."""
    if len(term) < 2 or term[0].text != "(" or term[-1].text != ")":
        return None
    closes = next(i for i, t in enumerate(term) if t.text == ")" and t.depth == term[0].depth)
    return list(term[1:-1]) if closes == len(term) - 1 else None


def _keyword(term: Sequence[Token]) -> str:
    """Covariance structure named before the parentheses of a random term, or nothing."""
    inner = _inside(term[1:])
    bar = inner is not None and any(token.text in ("|", "||") and not token.inside for token in inner)
    return term[0].text if bar and term[0].text in STRUCTURES else ""


def _top_bar(text: str, inner: Sequence[Token]) -> Token | None:
    depth = min((t.depth for t in inner), default=0)
    bars = [t for t in inner if t.text in ("|", "||") and t.depth == depth and not t.inside]
    if len(bars) > 1:
        raise FormulaError(
            "A second bar within one random term. Write (x | g) + (x | h) for two grouping factors, or "
            "(x | g:h) for their combination.",
            text,
            bars[1].start,
        )
    return bars[0] if bars else None


def _bars(text: str, left: Sequence[Token], bar: Token, right: Sequence[Token], keyword: str = "") -> list[Bar]:
    if not left:
        raise FormulaError("Nothing stands left of the bar. Write (1 | g) for intercepts.", text, bar.start)
    if not right:
        raise FormulaError("Nothing stands right of the bar: the grouping factor is missing.", text, bar.start)
    for token in [*left, *right]:
        if token.text in ("|", "||") and not token.inside:
            raise FormulaError("A bar within a bar term has no meaning.", text, token.start)
    _no_offset(text, left, "An offset is a known part of the mean, so it has no effect that could vary between levels.")
    check_terms(text, left)
    lhs = spelled(left)
    correlated = bar.text == "|"
    if keyword and not correlated:
        raise FormulaError(
            f"{keyword} and || both say how the effects are correlated. Write {keyword}({lhs} | ...).",
            text,
            bar.start,
            2,
        )
    return [Bar(lhs, factors, correlated, bar.start, keyword) for factors in _grouping(text, right)]


def _grouping(text: str, tokens: Sequence[Token]) -> list[tuple[str, ...]]:
    """Expand ``a + b``, ``a/b`` and ``a:b``; every part must be a column name."""
    tokens = _inside(tokens) or tokens
    depth = min(token.depth for token in tokens)
    if any(token.text == "+" and token.depth == depth for token in tokens):
        parts = [part for _, part in summands(text, tokens)]
        return list(dict.fromkeys(factors for part in parts for factors in _grouping(text, part)))
    nested: list[list[str]] = [[]]
    expect_name = True
    for i, token in enumerate(tokens):
        called = i + 1 < len(tokens) and tokens[i + 1].text == "("
        if (
            called
            or expect_name != (token.kind in ("name", "quoted"))
            or (token.text not in ("/", ":") and not expect_name)
        ):
            known = elsewhere.elsewhere(token.text, elsewhere.GROUPS)
            raise FormulaError(_NO_GROUP.format(token.text) + known, text, token.start, len(token.text))
        if token.text == "/":
            nested.append([])
        elif expect_name:
            nested[-1].append(token.text.strip("`"))
        expect_name = not expect_name
    if expect_name:
        raise FormulaError(
            "The grouping factor ends with an operator; a column name is missing.", text, tokens[-1].start
        )
    levels: list[tuple[str, ...]] = []
    for part in nested:
        levels.append((*(levels[-1] if levels else ()), *part))
    return levels
