"""Rules of the linter about what stands for several things: a dot, grouping factors joined by a plus."""

from __future__ import annotations

from collections.abc import Iterator

from bayeslmm.design.tokens import dots, tokenize
from bayeslmm.linting.of_formula import FormulaReading
from bayeslmm.linting.report import Finding


def dot(typed: str, written: str) -> Iterator[Finding]:
    """A dot that the columns of the data have been written for.

    Parameters
    ----------
    typed, written : str
        The formula before and after.
    """
    for place in dots(typed)[:1] if written != typed else ():
        yield Finding(
            "dot",
            place,
            written[place : written.index(")", place) + 1],
            "different model",
            "The dot: all columns but those of the response, grouping factors, offsets and weights.",
            {
                "lme4": "The grouping factors among them, whose fixed effects leave nothing for the random ones.",
                "bambi": "Syntax error.",
                "formulae": "Syntax error.",
            },
            "The predictors by name.",
        )


def groups(reading: FormulaReading) -> Iterator[Finding]:
    """``(x | g + h)``."""
    for term in reading.terms:
        if any(token.text == "+" for token in tokenize(term.right)):
            written = " + ".join(
                f"{term.keyword}({term.left} {'|' if bar.correlated else '||'} {bar.group})" for bar in term.bars
            )
            yield Finding(
                "several grouping factors",
                term.position,
                term.text,
                "error there",
                "One random term per factor; so also in bambi and formulae.",
                {"lme4": "1.x: error."},
                written,
            )


RULES = (groups,)
