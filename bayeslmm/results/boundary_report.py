"""The boundary report: what a variance of zero means for one fit, as data, text and HTML."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.names import on_terminal
from bayeslmm.equality import by_value
from bayeslmm.results.advice import Advice
from bayeslmm.results.summary import STYLE, number

_WIDTH = 110


@by_value
@dataclass(frozen=True)
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
    """

    name: str
    title: str
    table: pd.DataFrame
    reading: tuple[str, ...] = ()


@by_value
@dataclass(frozen=True)
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

    @property
    def _more(self) -> str:
        """How to get what was omitted; empty where nothing was."""
        return f"Not computed: {', '.join(self.omitted)}; boundary(detail='full') has them." if self.omitted else ""

    def __getitem__(self, name: str) -> pd.DataFrame:
        """The table of a section by its name."""
        found = {section.name: section.table for section in self.sections}
        if name not in found:
            raise KeyError(f"{name!r} is no section of this report; it has {', '.join(found)}. {self._more}".rstrip())
        return found[name]

    def __str__(self) -> str:
        lines = [f"Boundary report: {self.formula}"]
        lines += [line for note in self.left_out for line in _wrap(note)]
        lines += ["", *_wrap(self.verdict)]
        lines += [line for finding in self.findings for line in _wrap(finding)]
        for section in self.sections:
            lines += ["", section.title]
            lines += [section.table.to_string(na_rep="", float_format=number)] if len(section.table) else []
            lines += [line for reading in section.reading for line in _wrap(reading)]
        lines += ["", *_wrap(self._more)] if self._more else []
        lines += ["", "What to do"]
        for k, advice in enumerate(self.advice, 1):
            lines += _wrap(f"{k}. {advice}", "   ")
        return on_terminal("\n".join(lines))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>Boundary report:</b> <code>{html.escape(self.formula)}</code></p>"]
        parts += [f"<div>{html.escape(note)}</div>" for note in self.left_out]
        parts += [f"<p>{html.escape(text)}</p>" for text in (self.verdict, *self.findings)]
        for section in self.sections:
            parts.append(f"<p><b>{html.escape(section.title)}</b></p>")
            if len(section.table):
                parts.append(section.table.to_html(na_rep="", float_format=number, border=0))
            parts += [f"<p>{html.escape(reading)}</p>" for reading in section.reading]
        parts += [f"<p>{html.escape(self._more)}</p>"] if self._more else []
        parts.append("<p><b>What to do</b></p><ol>")
        parts += [_advice_html(advice) for advice in self.advice]
        return f'<div class="bayeslmm">{STYLE}' + "\n".join(parts) + "</ol></div>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, ready for JSON (missing numbers are None, infinite ones the text ``"inf"``)."""
        return {
            "formula": self.formula,
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


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent)


def _advice_html(advice: Advice) -> str:
    here = f" <em>Here: {html.escape(advice.here)}</em>" if advice.here else ""
    return (
        f"<li><b>{html.escape(advice.title)}.</b> {html.escape(advice.text)}{here} "
        f"<small>[{html.escape(advice.source)}]</small></li>"
    )
