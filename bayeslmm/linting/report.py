"""What the linter answers: findings, and how they are shown."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bayeslmm.arguments import shown
from bayeslmm.design.names import on_terminal
from bayeslmm.design.screen import cells, fill, screen_width, wrap
from bayeslmm.errors import DesignError

if TYPE_CHECKING:
    import pandas as pd

type Severity = Literal["error here", "different model", "different parametrisation", "error there", "note"]
PACKAGES = ("lme4", "brms", "bambi", "formulae")
_INDENT, _LABEL = " " * 4, 10
_NEEDS_DATA = (
    "Without data, differences that depend on the columns (factors and the order of their levels, ordered factors, "
    "booleans, missing values) were not looked for: lint(formula, data)."
)


@dataclass(frozen=True)
class Finding:
    """One place of a formula that another package reads differently.

    Attributes
    ----------
    rule : str
        Short name of what was found, e.g. ``"independent effects"``.
    position : int
        Offset into the formula.
    text : str
        The piece of the formula concerned.
    severity : str
        ``"error here"``, ``"different model"``, ``"different parametrisation"`` (the same model with other
        coefficients), ``"error there"`` or ``"note"``: the gravest over the packages.
    here : str
        What bayeslmm does.
    elsewhere : mapping of str to str
        Package to what it does; packages that agree with bayeslmm are not named.
    remedy : str
        How to write it so that all agree, if there is a way.
    source : str
        The text that `position` counts in, if that is not the formula: a residual structure.
    """

    rule: str
    position: int
    text: str
    severity: Severity
    here: str
    elsewhere: Mapping[str, str]
    remedy: str = ""
    source: str = ""


@dataclass(frozen=True)
class LintReport:
    """Findings of :func:`bayeslmm.lint`, in the order of the formula.

    Attributes
    ----------
    formula : str
    findings : tuple of Finding
    with_data : bool
        Whether the types of the columns were known.
    """

    formula: str
    findings: tuple[Finding, ...]
    with_data: bool = field(default=False)

    def __len__(self) -> int:
        return len(self.findings)

    def about(self, package: str) -> LintReport:
        """Only the findings that concern one package.

        Parameters
        ----------
        package : {"lme4", "brms", "bambi", "formulae"}

        Raises
        ------
        DesignError
            Another name.
        """
        if not isinstance(package, str) or package not in PACKAGES:
            raise DesignError(f"{shown(package)} is not compared with. Known: {', '.join(PACKAGES)}.")
        kept = tuple(f for f in self.findings if package in f.elsewhere)
        return LintReport(self.formula, kept, self.with_data)

    def to_frame(self) -> pd.DataFrame:
        """One row per finding, one column per package (empty where it agrees)."""
        import pandas as pd

        from bayeslmm.design.readable import readable

        columns = ["rule", "position", "text", "severity", "here", *PACKAGES, "remedy"]
        rows = [
            [f.rule, f.position, f.text, f.severity, f.here, *(f.elsewhere.get(p, "") for p in PACKAGES), f.remedy]
            for f in self.findings
        ]
        return readable(pd.DataFrame(rows, columns=columns))

    @property
    def _headline(self) -> str:
        if not self.findings:
            return "No findings: lme4, brms and bambi read this formula as bayeslmm does."
        return f"{len(self.findings)} finding{'s' if len(self.findings) > 1 else ''}."

    @property
    def _footer(self) -> str:
        return "" if self.with_data else _NEEDS_DATA

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """The report as text.

        Parameters
        ----------
        width : int, optional
            Columns of the screen that it has to fit; by default those of the terminal, or 80.
        """
        width = screen_width() if width is None else width
        parts = [f"{fill(self.formula, width)}\n\n{fill(self._headline, width)}"]
        parts += [_plain(finding.source or self.formula, finding, width) for finding in self.findings]
        if self._footer:
            parts.append(fill(self._footer, width))
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = f"<p><code>{html.escape(self.formula)}</code></p><p>{html.escape(self._headline)}</p>"
        body = "".join(_table(finding) for finding in self.findings)
        return head + body + (f"<p>{html.escape(self._footer)}</p>" if self._footer else "")


def _lines(finding: Finding) -> list[tuple[str, str]]:
    lines = [("bayeslmm", finding.here)]
    lines += [(package, finding.elsewhere[package]) for package in PACKAGES if package in finding.elsewhere]
    return [*lines, ("write", finding.remedy)] if finding.remedy else lines


def _plain(formula: str, finding: Finding, width: int) -> str:
    start = formula.rfind("\n", 0, finding.position) + 1
    line = formula[start:].split("\n", 1)[0].replace("\t", " ")
    length = max(1, min(len(finding.text), len(line) - (finding.position - start)))
    out = [fill(f"[{finding.severity}] {finding.rule}", width)]
    out += _marked(line, finding.position - start, length, width)
    for label, text in _lines(finding):
        first, *rest = wrap(text, width - _LABEL)
        out += [f"{label + ':':<{_LABEL}}{first}", *(" " * _LABEL + line for line in rest)]
    return "\n".join(out)


def _marked(line: str, position: int, length: int, width: int) -> list[str]:
    """A line of a formula with carets under a part of it, in pieces that fit the screen."""
    out, start = [], 0
    while start < len(line):
        end = _end(line, start, width - len(_INDENT))
        out.append(f"{_INDENT}{on_terminal(line[start:end])}".rstrip())
        first, last = max(position, start), min(position + length, end)
        if first < last:
            before, marked = on_terminal(line[start:first]), on_terminal(line[first:last])
            out.append(_INDENT + " " * cells(before) + "^" * min(cells(marked), width - len(_INDENT)))
        start = end
    return out


def _end(line: str, start: int, room: int) -> int:
    """Where a piece ends: after the last space that leaves it in the room, else after the first one."""
    spaces = [k + 1 for k in range(start, len(line)) if line[k] == " "] + [len(line)]
    if cells(line[start:]) <= room:
        return len(line)
    return max((k for k in spaces if cells(line[start:k].rstrip()) <= room), default=spaces[0])


def _table(finding: Finding) -> str:
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(label)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for label, text in _lines(finding)
    )
    title = f"<b>{html.escape(finding.severity)}</b>: {html.escape(finding.rule)}"
    return f"<p>{title}, <code>{html.escape(finding.text)}</code></p><table>{rows}</table>"
