"""The boundary report: what a variance of zero means for one fit, as data, text and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.boundary.advice import Advice
from bayeslmm.design.readable import html_table, readable, table_text
from bayeslmm.design.screen import screen_width, wrap
from bayeslmm.equality import by_value
from bayeslmm.results.digits import in_digits
from bayeslmm.results.summary import STYLE


@by_value
@dataclass(frozen=True, eq=False)
class Section:
    """One table of the report.

    Attributes
    ----------
    name : str
        Short name, key in `BoundaryReport.to_dict`.
    title : str
    table : pandas.DataFrame
    reading : tuple of str
        How to read it.
    errors : DataFrame or None
        Monte Carlo standard errors of some of the columns, as far as which their numbers are shown.
    shares : mapping of str to tuple of float
        Columns that are probabilities from draws, and of how many.
    """

    name: str
    title: str
    table: pd.DataFrame
    reading: tuple[str, ...] = ()
    errors: pd.DataFrame | None = None
    shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def shown(self) -> pd.DataFrame:
        """The table as text, every number as far as it is known."""
        return in_digits(self.table, self.errors, self.shares)


@by_value
@dataclass(frozen=True, eq=False)
class BoundaryReport:
    """What the boundary means for a fit.

    Attributes
    ----------
    formula : str
    singular : bool
        Whether some combination of effects has no variance at the estimate.
    verdict : str
        The finding in one or two sentences.
    findings : tuple of str
        Which combinations vanished, in words; empty for a regular fit.
    sections : tuple of Section
        ``components``, ``edge``, ``limits``, ``tests``, ``zero_rate``, ``posterior``, ``penalised``: those that apply.
    advice : tuple of Advice
    level : float
        Level of the one-sided limits.
    left_out : tuple of str
        Which rows and columns did not enter the fit, in words.
    outliers : tuple of str
        The few rows, or the level, that decide the verdict, in words: what the report says first.
    omitted : tuple of str
        Sections that were not computed because the verdict needs none of them; ``boundary(detail="full")`` does.
    """

    formula: str
    singular: bool
    verdict: str
    findings: tuple[str, ...]
    sections: tuple[Section, ...]
    advice: tuple[Advice, ...]
    level: float = 0.95
    left_out: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    outliers: tuple[str, ...] = ()

    @property
    def _more(self) -> str:
        """How to get what was omitted; empty where nothing was."""
        return f"Not computed: {', '.join(self.omitted)}; boundary(detail='full') has them." if self.omitted else ""

    def __getitem__(self, name: str) -> pd.DataFrame:
        """The table of a section by its name."""
        found = {section.name: section for section in self.sections}
        if name not in found:
            raise KeyError(f"{name!r} is no section of this report; it has {', '.join(found)}. {self._more}".rstrip())
        return readable(found[name].table, lambda: found[name].shown)

    def text(self, width: int | None = None) -> str:
        """The report as text.

        Parameters
        ----------
        width : int, optional
            Columns of the screen that it has to fit; by default those of the terminal, or 80.
        """
        width = screen_width() if width is None else width
        parts = [f"Boundary report: {self.formula}", *self.outliers, *self.left_out, "", self.verdict, *self.findings]
        lines = [line for part in parts for line in wrap(part, width)]
        for section in self.sections:
            lines += ["", *wrap(section.title, width)]
            lines += [table_text(section.shown, width)] if len(section.table) else []
            lines += [line for reading in section.reading for line in wrap(reading, width)]
        lines += ["", *wrap(self._more, width)] if self._more else []
        lines += ["", "What to do"]
        for k, advice in enumerate(self.advice, 1):
            lines += wrap(f"{k}. {advice}", width, "   ")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>Boundary report:</b> <code>{html.escape(self.formula)}</code></p>"]
        parts += [f"<div>{html.escape(note)}</div>" for note in (*self.outliers, *self.left_out)]
        parts += [f"<p>{html.escape(text)}</p>" for text in (self.verdict, *self.findings)]
        for section in self.sections:
            parts.append(f"<p><b>{html.escape(section.title)}</b></p>")
            if len(section.table):
                parts.append(html_table(section.shown))
            parts += [f"<p>{html.escape(reading)}</p>" for reading in section.reading]
        parts += [f"<p>{html.escape(self._more)}</p>"] if self._more else []
        parts.append("<p><b>What to do</b></p><ol>")
        parts += [_advice_html(advice) for advice in self.advice]
        return f'<div class="bayeslmm">{STYLE}' + "\n".join(parts) + "</ol></div>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, ready for JSON (missing numbers are None, infinite ones the text ``"inf"``)."""
        return {
            "formula": self.formula,
            "outliers": list(self.outliers),
            "left_out": list(self.left_out),
            "singular": self.singular,
            "level": self.level,
            "verdict": self.verdict,
            "findings": list(self.findings),
            "sections": {
                section.name: {
                    "title": section.title,
                    "rows": [dict(row) for row in _rows(section.table)],
                    "reading": list(section.reading),
                }
                for section in self.sections
            },
            "omitted": list(self.omitted),
            "advice": [vars(advice) for advice in self.advice],
        }


def _rows(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.reset_index().to_dict("records"):
        yield {str(key): _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else f"{value:g}"
    return value


def _advice_html(advice: Advice) -> str:
    here = f" <em>Here: {html.escape(advice.here)}</em>" if advice.here else ""
    return (
        f"<li><b>{html.escape(advice.title)}.</b> {html.escape(advice.text)}{here} "
        f"<small>[{html.escape(advice.source)}]</small></li>"
    )
