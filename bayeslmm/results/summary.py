"""Printable summaries: aligned text for a terminal, tables for a notebook, from the same content."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from bayeslmm.arguments import mapping, text
from bayeslmm.design import dominant, saturated
from bayeslmm.design.design import Design
from bayeslmm.design.readable import html_table, table_text
from bayeslmm.design.screen import screen_width, wrap
from bayeslmm.errors import DesignError
from bayeslmm.reml import Vanished
from bayeslmm.results.diagnostics import in_words
from bayeslmm.results.digits import in_digits
from bayeslmm.results.draws import Draws
from bayeslmm.results.prior_table import prior_table

# Of a direction, in the scale of the data: a part below this is none.
_PART = 1e-6
ROUNDED = "Numbers from draws are rounded to their Monte Carlo error."
# Outside a notebook nothing else styles the tables; one that is too wide scrolls by itself.
STYLE = """<style>
.bayeslmm table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; font-size: 0.9em; }
.bayeslmm table { border-collapse: collapse; margin: 0.5em 0; }
.bayeslmm th, .bayeslmm td { padding: 0.15em 0.6em; text-align: right; vertical-align: top; }
.bayeslmm td { font-variant-numeric: tabular-nums; }
.bayeslmm tbody th { text-align: left; white-space: nowrap; }
</style>"""


@dataclass(frozen=True)
class Summary:
    """Title, notes and tables of a result.

    Attributes
    ----------
    title : str
    notes : tuple of str
        Lines before the tables.
    tables : tuple of (str, DataFrame)
    remarks : tuple of str
        Lines after the tables.
    errors : mapping of str to DataFrame
        Heading of a table to the Monte Carlo standard errors of its columns, as far as which numbers are shown.
    """

    title: str
    notes: tuple[str, ...]
    tables: tuple[tuple[str, pd.DataFrame], ...]
    remarks: tuple[str, ...] = ()
    errors: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def text(self, width: int | None = None) -> str:
        """The summary as text.

        Parameters
        ----------
        width : int, optional
            Columns of the screen that it has to fit; by default those of the terminal, or 80.
        """
        width = screen_width() if width is None else width
        parts = [line for note in (self.title, *self.notes) for line in wrap(note, width, "  ")]
        for heading, table in self._shown():
            parts += ["", heading, table_text(table, width)]
        if self.remarks:
            parts += ["", *(line for remark in self.remarks for line in wrap(remark, width))]
        return "\n".join(parts)

    def renamed(self, names: Mapping[str, str] | None = None, *, title: str | None = None) -> Summary:
        """The same summary under other names, e.g. for a slide.

        Parameters
        ----------
        names : mapping of str to str, optional
            Names in the tables (coefficients, effects, grouping factors) to what is to stand in their places.
        title : str, optional

        Raises
        ------
        DesignError
            A name that is in none of the tables.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
        >>> shown = fit.summary().renamed({"Batch": "Lot", "Intercept": "Mean"}, title="Yield of dyestuff")
        >>> shown.title, "Lot" in str(shown), "Intercept" in str(shown)
        ('Yield of dyestuff', True, False)
        """
        return renamed(self, names, title)

    def _shown(self) -> list[tuple[str, pd.DataFrame]]:
        return [(heading, in_digits(table, self.errors.get(heading))) for heading, table in self.tables]

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self.title)}</b></p>"]
        parts += [f"<div>{html.escape(note)}</div>" for note in self.notes]
        for heading, table in self._shown():
            parts.append(f'<p style="margin-top: 1em"><b>{html.escape(heading)}</b></p>')
            parts.append(html_table(table))
        parts += [f"<p>{html.escape(remark)}</p>" for remark in self.remarks]
        return "\n".join(parts)


def renamed(summary: Summary, names: Mapping[str, str] | None, title: str | None) -> Summary:
    """A summary with other names in its tables and another title; see `Summary.renamed`."""
    words = {} if names is None else mapping("names", names, "a mapping of names to other names", DesignError)
    for old, new in words.items():
        text("names", old, "the name of a coefficient, an effect or a grouping factor", DesignError)
        text("names", new, "text", DesignError)
    known = {str(cell) for _, table in summary.tables for cell in _names_in(table)}
    unknown = [name for name in words if name not in known]
    if unknown:
        raise DesignError(
            f"names has {', '.join(map(repr, unknown))}, which the tables do not have. They have: "
            f"{', '.join(sorted(known - {''}))}."
        )
    return replace(
        summary,
        title=summary.title if title is None else text("title", title, "a line of text", DesignError),
        tables=tuple((heading, _with_names(table, words)) for heading, table in summary.tables),
        errors={heading: _with_names(table, words) for heading, table in summary.errors.items()},
    )


def _names_in(table: pd.DataFrame) -> list[object]:
    """Labels of the rows, on all levels of the index, and texts in columns."""
    levels = [label for k in range(table.index.nlevels) for label in table.index.get_level_values(k)]
    return [*levels, *(cell for name in table for cell in table[name] if isinstance(cell, str))]


def _with_names(table: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    out = pd.DataFrame(table).rename(index=dict(words))
    for name in out:
        if any(isinstance(cell, str) for cell in out[name]):
            out[name] = out[name].map(lambda cell: words.get(cell, cell) if isinstance(cell, str) else cell)
    return out


def _sizes(design: Design) -> str:
    groups = ", ".join(f"{g.name} {g.n_levels}" for g in design.groupings.values())
    return f"{design.observations}; groups: {groups}" if groups else design.observations


def left_out(design: Design) -> list[str]:
    """Which rows and which columns of the fixed part did not enter the design, a line each."""
    notes = []
    if len(design.dropped):
        notes.append(f"Note: {design.dropped}")
    if design.aliased:
        notes.append(f"Note: left out because earlier columns span them: {', '.join(design.aliased)}")
    return notes


def design_notes(design: Design) -> list[str]:
    """Formula, sizes, what was left out of the design and what looks odd in its data, a line each."""
    said = dominant.note(design)
    odd = [*([f"{said}."] if said else []), *design.notes.lines]
    return [f"Formula: {design.formula}", _sizes(design), *left_out(design), *(f"Note: {line}" for line in odd)]


def crowded_note(design: Design) -> list[str]:
    """A line where there are as many random effects as rows."""
    said = saturated.note(design)
    return [f"Note: {said}."] if said else []


def describe_direction(design: Design, vanished: Vanished) -> str:
    """A combination of effects on the scale of the data: no part is left out because its unit is small."""
    parts = [
        f"{value:+.3g} {name}" if abs(value) != 1 else f"{'+' if value > 0 else '-'} {name}"
        for value, name in zip(vanished.direction, design.terms[vanished.term].effects, strict=True)
        if abs(value) > _PART
    ]
    return " ".join(parts).removeprefix("+ ").removeprefix("+")


def describe_vanished(design: Design, vanished: Vanished) -> str:
    """Which combination of effects has no variance, in words."""
    term = design.terms[vanished.term]
    return (
        f"Singular: {term.label} leaves no variance between levels of {term.group} in "
        f"{describe_direction(design, vanished)}; {_correlated(design, vanished)}zero is an estimate: fit.boundary() "
        "says how large it may be, and what can be done."
    )


def _correlated(design: Design, vanished: Vanished) -> str:
    """What a direction of two effects means: they are perfectly correlated."""
    effects = design.terms[vanished.term].effects
    mixed = [(name, v) for name, v in zip(effects, vanished.direction, strict=True) if abs(v) > _PART]
    if len(mixed) != 2:
        return ""
    sign = "-1" if mixed[0][1] * mixed[1][1] > 0 else "1"
    return f"{mixed[0][0]} and {mixed[1][0]} are estimated as perfectly correlated ({sign}); "


def posterior_summary(post: Draws, digits: int | None = None, correlations: pd.DataFrame | None = None) -> Summary:
    """Summary of a posterior.

    Parameters
    ----------
    post : Draws
    digits : int, optional
        Significant digits of every number, in place of those that its Monte Carlo error leaves.
    correlations : DataFrame, optional
        Of the fixed effects, to be shown too.
    """
    table = post.table()
    notes = [*design_notes(post.design), *crowded_note(post.design)]
    notes.append(f"{in_words(post.diagnostics, post.n_draws)} ({post.method}; post.certificate() has the diagnostics)")
    remarks = []
    bounds = [label for label, low in table["hdi_low"].items() if str(label).startswith("sd_") and low == 0]
    if bounds:
        remarks.append(
            f"The interval of {', '.join(map(str, bounds))} reaches 0: read its upper end as an upper bound."
        )
    if digits is None:
        remarks.append(ROUNDED)
    else:
        table = table.map(lambda value: f"{value:.{digits}g}" if isinstance(value, float) else value)
    priors = prior_table(post.design, post.priors).drop(columns="in words")
    more = () if correlations is None else (("Correlation of fixed effects", correlation_texts(correlations)),)
    return Summary(
        "Posterior of a linear mixed model",
        tuple(notes),
        (("Parameters", table), *more, ("Priors", priors)),
        tuple(remarks),
        {"Parameters": post.monte_carlo_errors()} if digits is None else {},
    )


def correlation_texts(correlations: pd.DataFrame) -> pd.DataFrame:
    """Lower triangle of correlations (p, p) as text."""
    names, values = list(correlations.index), correlations.to_numpy()
    texts = [[f"{values[i, j]:.3f}" if j < i else "" for j in range(len(names) - 1)] for i in range(len(names))]
    return pd.DataFrame(texts[1:], index=names[1:], columns=names[:-1], dtype=object)
