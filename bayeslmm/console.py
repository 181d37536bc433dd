"""Results on a terminal: comparisons, summaries and tables through rich, which shows names as they are."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.text import Text

from bayeslmm.comparison import Comparison, export
from bayeslmm.design.names import on_terminal
from bayeslmm.design.readable import frame_columns
from bayeslmm.design.screen import ScreenColumn, fill, screen_width, table_lines
from bayeslmm.results.summary import Summary, describe_vanished


class _Plain(Console):
    """A console on which a text is shown, and steers nothing."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(on_terminal(text), **options)


def terminal(stderr: bool = False) -> Console:
    """A console as wide as the screen."""
    # Labels such as sd_g[x] are not markup, terms such as a:b:c no emoji.
    return _Plain(stderr=stderr, width=screen_width(), markup=False, emoji=False)


def as_called() -> tuple[str, str]:
    """The program and its Python, as they can be typed here: by name if they are on the search path."""
    name = "bayeslmm"
    if shutil.which(name):
        return name, "Python"
    started, python = (os.path.relpath(path) for path in (sys.argv[0], sys.executable))
    python = min(python, sys.executable, key=len)
    return (shlex.quote(started) if started.endswith(name) else f"{shlex.quote(python)} -m {name}"), shlex.quote(python)


def show_comparison(both: Comparison, console: Console) -> None:
    """Print a comparison, folded where the console is narrow."""
    for line in both.header:
        say(console, line)
    for vanished in both.reml.optimum.vanished:
        say(console, describe_vanished(both.design, vanished), style="yellow")
    table = as_table("", *export.arranged(both, both.printable()))
    console.print("", table, "", sep="\n", soft_wrap=True, highlight=False)


def show_summary(summary: Summary, console: Console) -> None:
    """Print a summary."""
    title, _, rest = summary.text(console.width).partition("\n")
    show(console, title, style="bold")
    show(console, rest)


@dataclass(frozen=True)
class FoldedTable:
    """A table that rich shows in blocks as wide as the console.

    Attributes
    ----------
    title : str
    columns : tuple of Column
        That of the labels first.
    """

    title: str
    columns: tuple[ScreenColumn, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        labels, *columns = self.columns
        lines = table_lines([labels], columns, options.max_width)
        yield Text("\n".join([self.title, *lines] if self.title else lines), no_wrap=True, overflow="ignore")


def as_table(title: str, frame: Any, groups: Mapping[str, Sequence[str]] | None = None) -> FoldedTable:
    """A table of a data frame for rich; nothing is cut."""
    labels, columns = frame_columns(frame, groups)
    return FoldedTable(title, (*labels, *columns))


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print sentences, broken at spaces where the console ends."""
    show(console, fill(text, console.width, "  "), style)


def show(console: Console, text: str, style: str | None = None) -> None:
    """Print lines that fit; what does not is left whole to the terminal."""
    console.print(text, style=style, soft_wrap=True, highlight=False)
