"""Paragraphs and tables in plain words, as text in a terminal and as HTML in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass

import pandas as pd

from bayeslmm.design.readable import html_table, table_text
from bayeslmm.design.screen import screen_width, wrap


@dataclass(frozen=True)
class Explanation:
    """What a result says, in words.

    Attributes
    ----------
    paragraphs : tuple of str
    tables : tuple of (str, DataFrame)
        With their headings, after the paragraphs.
    """

    paragraphs: tuple[str, ...]
    tables: tuple[tuple[str, pd.DataFrame], ...] = ()

    def text(self, width: int | None = None) -> str:
        """The paragraphs and tables as text.

        Parameters
        ----------
        width : int, optional
            Columns of the screen; by default those of the terminal, or 80.

        Raises
        ------
        DesignError
            `width` is no positive whole number.
        """
        width = screen_width() if width is None else width
        parts = ["\n".join(wrap(paragraph, width)) for paragraph in self.paragraphs]
        parts += [f"{heading}\n{table_text(table, width)}" for heading, table in self.tables]
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(paragraph)}</p>" for paragraph in self.paragraphs]
        for heading, table in self.tables:
            # The name of the index stands in the row of the headings, not in one of its own.
            shown = table.rename_axis(index=None, columns=str(table.index.name or ""))
            parts += [f"<p><b>{html.escape(heading)}</b></p>", html_table(shown)]
        return f'<div class="bayeslmm words" style="max-width: 45em">{"".join(parts)}</div>'
