"""Text for a screen: how wide it is, and sentences and tables that fit into it, no number cut, no column lost."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bayeslmm.arguments import whole
from bayeslmm.design.names import on_terminal
from bayeslmm.errors import DesignError

# Of files, pipes and notebooks, which have no width of their own.
WIDTH = 80
# Narrower than this no table can be read.
_NARROWEST = 20
_GAP = "  "
# A column of words is wrapped rather than moved to the next block if at least this much is left for it.
_ROOM = 24
# Labels that take a larger share of the screen stand on lines of their own.
_MOST = 0.6
# Columns of words that would fill so many screens side by side are set one under the other.
_RECORDS = 2
# A short text in quotes, such as a label, is not broken: its spaces may be what matters about it.
_WORD = re.compile(r"(?:(?<![\w'])'[^'\n]{0,40}'(?!\w)|\S)+")
_EMOJI_STYLE, _NO_WIDTH = "\ufe0f", ("Mn", "Me", "Cf")


def screen_width() -> int:
    """Columns of the terminal (the variable COLUMNS says otherwise), 80 where there is none."""
    if os.environ.get("COLUMNS", "").isdigit() or _on_terminal():
        return max(shutil.get_terminal_size((WIDTH, 24)).columns, _NARROWEST)
    return WIDTH


def _on_terminal() -> bool:
    try:
        return bool(sys.stdout.isatty())
    except (AttributeError, ValueError):
        # Streams of embedding programs, or closed ones.
        return False


def number(value: float) -> str:
    """Five significant digits.

    Examples
    --------
    >>> number(251.40510), number(0.0), number(-1e-12)
    ('251.41', '0', '-1e-12')
    """
    return f"{value:.5g}"


def cell_text(value: object) -> str:
    """A value as it stands in a table; nothing for what is missing.

    Examples
    --------
    >>> cell_text(1.23456789), cell_text(None), cell_text(float("nan")), cell_text(3), cell_text("a  b")
    ('1.2346', '', '', '3', 'a  b')
    """
    if value is None or value is not value or _is_missing(value):
        return ""
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        value = value.item()  # type: ignore[attr-defined]
    return number(value) if isinstance(value, float) else on_terminal(str(value)).replace("\n", "\\n")


def _is_missing(value: object) -> bool:
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        # pandas.NA has no truth; arrays have many.
        return type(value).__name__ == "NAType"


def cells(text: str) -> int:
    """Columns of a terminal that a text takes.

    Examples
    --------
    >>> cells("abc"), cells("数据"), cells("e\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(sign: str) -> int:
    if sign == _EMOJI_STYLE:
        # Asks for the wide form of the sign before it; where that is not obeyed a column stays empty.
        return 1
    if unicodedata.category(sign) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def enumerated(words: Sequence[str]) -> str:
    """Words in a sentence.

    Examples
    --------
    >>> enumerated(["a"]), enumerated(["a", "b"]), enumerated(["a", "b", "c"]), enumerated([])
    ('a', 'a and b', 'a, b and c', '')
    """
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of a text, broken at spaces only: a word that is too long has a line of its own.

    Parameters
    ----------
    text : str
        Its line breaks, and the spaces at the beginning of its lines, stay.
    width : int
    indent : str
        Before every line but the first of each line of the text.

    Examples
    --------
    >>> wrap("sd is 12.345 at most", 12, "  ")
    ['sd is 12.345', '  at most']
    """
    width = whole("width", width, 1, error=DesignError)
    out = []
    for line in on_terminal(text).split("\n"):
        words = _WORD.findall(line)
        if cells(line) <= width or not words:
            out.append(line.rstrip())
            continue
        start = line[: len(line) - len(line.lstrip())]
        out += _broken(words, width, start, start + indent)
    return out


def _broken(words: Sequence[str], width: int, first: str, other: str) -> list[str]:
    lines, current = list[str](), first + words[0]
    for word in words[1:]:
        if cells(current) + 1 + cells(word) <= width:
            current = f"{current} {word}"
        else:
            lines.append(current)
            current = other + word
    return [*lines, current]


def fill(text: str, width: int | None = None, indent: str = "") -> str:
    """The same as one text, by default for the screen."""
    return "\n".join(wrap(text, screen_width() if width is None else width, indent))


@dataclass(frozen=True)
class ScreenColumn:
    """One column of a table.

    Attributes
    ----------
    heading : str
    cells : tuple of str
    words : bool
        Left-aligned text, which may be wrapped at its spaces; numbers stand right and are never broken.
    group : str
        Heading of the block that it belongs to where a table is folded; columns of other groups then stand in other
        blocks.
    """

    heading: str
    cells: tuple[str, ...]
    words: bool = False
    group: str = ""

    @property
    def natural(self) -> int:
        """Width without wrapping."""
        return max(map(cells, (self.heading, *self.cells)))

    @property
    def least(self) -> int:
        """Width with wrapping."""
        if not self.words:
            return self.natural
        return max([cells(self.heading), *(cells(word) for cell in self.cells for word in cell.split())])


@dataclass(frozen=True)
class _ScreenBlock:
    """Columns that stand side by side, with their widths."""

    columns: tuple[ScreenColumn, ...]
    widths: tuple[int, ...]
    group: str = ""


def table_lines(labels: Sequence[ScreenColumn], columns: Sequence[ScreenColumn], width: int) -> list[str]:
    r"""Lines of a table, folded into blocks of columns where it is wider than the screen, the labels repeated.

    Parameters
    ----------
    labels : sequence of Column
        What names the rows. A label that leaves no room for numbers stands above them, and is broken at spaces only
        where it is longer than the screen.
    columns : sequence of Column
    width : int

    Examples
    --------
    >>> rows = ScreenColumn("", ("x", "y"))
    >>> print("\n".join(table_lines([rows], [ScreenColumn("a", ("1.5", "2")), ScreenColumn("b", ("-1e-12", "3"))], 20)))
         a       b
    x  1.5  -1e-12
    y    2       3
    """
    names = ScreenColumn("", tuple(_joined(labels, sparse=True)))
    beside = names.natural + len(_GAP) if labels else 0
    total = beside + sum(column.natural for column in columns) + len(_GAP) * (len(columns) - 1)
    if total <= width or not columns:
        widths = tuple(column.natural for column in columns)
        return _block_lines(names, _ScreenBlock(tuple(columns), widths), beside, width, everything=True)
    if sum(column.natural for column in columns if column.words) >= _RECORDS * width:
        return _record_lines(names, columns, width)
    # A heading that leaves no room for others stands above a block of its own.
    columns = [replace(c, heading="", group=c.heading) if cells(c.heading) > _MOST * width else c for c in columns]
    most = min(int(_MOST * width), width - len(_GAP) - max(column.least for column in columns))
    if names.natural > most:
        names = ScreenColumn("", tuple(_joined(labels, sparse=False)))
        beside = max((cells(name) for name in names.cells if cells(name) <= most), default=0) + len(_GAP)
    blocks = [block for group in _grouped(columns) for block in _folded(group, width - beside)]
    parts = [_block_lines(names, block, beside, width, everything=block is blocks[0]) for block in blocks]
    return [line for k, part in enumerate(parts) for line in (["", *part] if k else part)]


def _joined(labels: Sequence[ScreenColumn], sparse: bool) -> list[str]:
    """Label columns as one, the headings first.

    Sparse ones stand in columns, and what repeats the row above is left out, except in the last.
    """
    if not labels:
        return []
    head, rows = [label.heading for label in labels], list(zip(*(label.cells for label in labels), strict=True))
    if not sparse:
        return [_GAP.join(filter(None, row)) for row in (head, *rows)]
    widths = [label.natural for label in labels]
    out = [_GAP.join(map(_padded, head, widths)).rstrip()]
    for k, row in enumerate(rows):
        same = 0
        while k and same < len(row) - 1 and row[: same + 1] == rows[k - 1][: same + 1]:
            same += 1
        shown = ["" if j < same else text for j, text in enumerate(row)]
        out.append(_GAP.join(map(_padded, shown, widths)).rstrip())
    return out


def _padded(text: str, width: int, right: bool = False) -> str:
    space = " " * max(width - cells(text), 0)
    return space + text if right else text + space


def _grouped(columns: Sequence[ScreenColumn]) -> list[list[ScreenColumn]]:
    groups: list[list[ScreenColumn]] = []
    for column in columns:
        if not groups or groups[-1][0].group != column.group:
            groups.append([])
        groups[-1].append(column)
    return groups


def _folded(columns: Sequence[ScreenColumn], room: int) -> list[_ScreenBlock]:
    """Blocks of columns that fit, filled one after the other."""
    blocks, chosen, widths = list[_ScreenBlock](), list[ScreenColumn](), list[int]()
    for k, column in enumerate(columns):
        left = room - sum(widths) - len(_GAP) * len(widths)
        own = _width(column, left)
        if chosen and own + _partner(columns[k:], room) > left:
            blocks.append(_ScreenBlock(tuple(chosen), tuple(widths), column.group))
            chosen, widths, left = [], [], room
            own = _width(column, room)
        # Words in a block of their own are wrapped even where one of them is too long for it.
        own = min(own, room) if column.words and left == room else own
        chosen.append(column)
        widths.append(own)
    return [*blocks, _ScreenBlock(tuple(chosen), tuple(widths), columns[0].group)]


def _partner(columns: Sequence[ScreenColumn], room: int) -> int:
    """Columns of the screen that the upper end of an interval takes beside its lower end, if both fit."""
    if len(columns) < 2 or "low" not in columns[0].heading:
        return 0
    low, high = columns[:2]
    both = low.natural + len(_GAP) + high.natural
    return len(_GAP) + high.natural if high.heading == low.heading.replace("low", "high") and both <= room else 0


def _width(column: ScreenColumn, left: int) -> int:
    """Width of a column where so much is left: less than all of it if its words can be wrapped."""
    return left if column.words and column.natural > left >= max(column.least, _ROOM) else column.natural


def _block_lines(names: ScreenColumn, block: _ScreenBlock, beside: int, width: int, everything: bool) -> list[str]:
    """Lines of a block; rows in which it has nothing are left out unless everything is to be there."""
    heads = [_padded(c.heading, w, not c.words) for c, w in zip(block.columns, block.widths, strict=True)]
    lines = [block.group] if block.group else []
    lines += _labelled(names.cells[0] if names.cells else "", beside, width, [_GAP.join(heads)])
    for k in range(len(block.columns[0].cells) if block.columns else len(names.cells) - 1):
        row = [column.cells[k] for column in block.columns]
        if everything or any(row):
            lines += _labelled(names.cells[k + 1] if names.cells else "", beside, width, _row_lines(row, block))
    if not any(map(any, (column.cells for column in block.columns))) and not everything:
        lines.append("(no entries)")
    return [line.rstrip() for line in lines]


def _labelled(label: str, beside: int, width: int, lines: Sequence[str]) -> list[str]:
    """Lines with a label before the first, or above it where there is no room."""
    if beside and cells(label) > beside - len(_GAP):
        return [*wrap(label, width, _GAP), *(" " * beside + line for line in lines)]
    first = (_padded(label, beside) if beside else "") + (lines[0] if lines else "")
    return [first, *(" " * beside + line for line in lines[1:])]


def _row_lines(row: Sequence[str], block: _ScreenBlock) -> list[str]:
    texts = [
        wrap(text, width) if column.words and cells(text) > width else [text]
        for text, column, width in zip(row, block.columns, block.widths, strict=True)
    ]
    lines = []
    for j in range(max(map(len, texts), default=0)):
        parts = [
            _padded(text[j] if j < len(text) else "", width, not column.words)
            for text, column, width in zip(texts, block.columns, block.widths, strict=True)
        ]
        lines.append(_GAP.join(parts))
    return lines


def _record_lines(names: ScreenColumn, columns: Sequence[ScreenColumn], width: int) -> list[str]:
    """Every row as a paragraph: its label, then a line or more for each column."""
    heads = max(cells(column.heading) for column in columns)
    beside = len(_GAP) + heads + len(_GAP)
    lines = list[str]()
    for k in range(len(columns[0].cells)):
        label = wrap(names.cells[k + 1], width, _GAP) if names.cells else []
        lines += ["", *label] if lines else label
        for column in columns:
            text = wrap(column.cells[k], max(width - beside, _NARROWEST))
            lines.append(f"{_GAP}{_padded(column.heading, heads)}{_GAP}{text[0]}".rstrip())
            lines += [" " * beside + line for line in text[1:]]
    return lines
