"""A program in sections, with comments that cannot end early."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from bayeslmm.design.names import printable
from bayeslmm.design.script import Script

_WIDTH = 76


@dataclass(frozen=True)
class Sheet:
    """A program in sections.

    Attributes
    ----------
    notes : sequence of str
        What differs there, a sentence or two each.
    head : sequence of str
        Lines that load packages.
    data : sequence of str
        Lines that make the columns.
    call : sequence of str
    """

    notes: Sequence[str]
    head: Sequence[str]
    data: Sequence[str]
    call: Sequence[str]

    def script(self, title: str, language: str, opening: str, closing: str = "") -> Script:
        """The program with its notes as comments, which begin and end with given signs."""
        lines = list(_comment(title, opening, closing))
        for note in self.notes:
            lines += _comment(note, opening, closing, bullet="- ")
        sections = [section for section in (self.head, self.data, self.call) if section]
        return Script("\n\n".join("\n".join(part) for part in [lines, *sections]) + "\n", language)


def _comment(text: str, opening: str, closing: str, bullet: str = "") -> list[str]:
    """Lines of a comment; a name in it can neither begin a line nor end the comment."""
    plain = printable(" ".join(text.split()))
    if closing:
        plain = plain.replace(closing.strip(), " ".join(closing.strip()))
    hanging = " " * len(bullet)
    lines = textwrap.wrap(bullet + plain, _WIDTH, subsequent_indent=hanging, break_long_words=False)
    return [f"{opening}{line}{closing}" for line in lines]
