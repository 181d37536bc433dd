"""A comparison as HTML, LaTeX and Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Literal, get_args

import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.comparison.compared import Compared
from bayeslmm.comparison.tables import FURTHER, headings, of_posterior, shown_label
from bayeslmm.design.names import in_markdown, printable
from bayeslmm.design.readable import table_text
from bayeslmm.design.screen import screen_width, wrap
from bayeslmm.errors import DesignError
from bayeslmm.results.summary import STYLE

# Columns of the first posterior; the others have fewer.
_OWN = 5
_NEAR_ZERO = "Near zero"
# Wider than any screen.
_UNFOLDED = 1_000_000
What = Literal["table", "long", "groups", "fixed"]
_HEADINGS = {
    "sd": "Standard deviations",
    "corr": "Correlations",
    "sigma": "Residual",
    "residual": "Residual parameters",
    "fixed": "Fixed effects",
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def compact(both: Compared, table: pd.DataFrame) -> pd.DataFrame:
    """The table as text with intervals in one column each, for pages of ordinary width."""
    level = f"{100 * both.level:g} %"
    frame = pd.DataFrame(index=table.index)
    frame["ML"], frame["REML"] = table["ml"], table["reml"]
    frame[f"{level} profile"] = _intervals(table["reml_low"], table["reml_high"])
    frame["penalised"] = table["penalised"]
    several = bool(both.more or both.given)
    for k, name in enumerate(both.names):
        mean, low, high = (column if k == 0 else of_posterior(column, name) for column in FURTHER)
        frame[of_posterior("mean", name) if several else "posterior mean"] = table[mean]
        interval = of_posterior(f"{level} HDI", name) if several else f"{level} HDI"
        frame[interval] = _intervals(table[low], table[high])
    pairs = zip(table["p_below"], table["delta"], strict=True)
    below = [f"{p} (delta {delta})" if p else "" for p, delta in pairs]
    frame[of_posterior("P(sd < delta)", both.names[0]) if several else "P(sd < delta)"] = below
    if table["note"].any():
        frame["note"] = table["note"]
    return frame


def text(both: Compared, header: Sequence[str], frame: pd.DataFrame, width: int | None = None) -> str:
    """What is compared, and the table, folded where the screen is narrow: REML, posteriors, and what is near zero."""
    width = screen_width() if width is None else width
    lines = [line for note in header for line in wrap(note, width, "  ")]
    frame, own = arranged(both, frame)
    one = table_text(frame, _UNFOLDED)
    if not (both.more or both.given) or max(map(len, one.split("\n"))) <= width:
        return "\n".join([*lines, "", table_text(frame, width, own)])
    return "\n".join([*lines, *_folded(both, frame, own, width)])


def _folded(both: Compared, frame: pd.DataFrame, own: dict[str, list[str]], width: int) -> list[str]:
    """A table of its own for each posterior: its name stands above, and not in every heading."""
    lines: list[str] = []
    names = dict(zip(both.posteriors, both.names, strict=True))
    for title, columns in own.items():
        end = f" ({names[title]})" if title in names else ""
        part = frame[columns].set_axis([column.removesuffix(end) for column in columns], axis=1)
        lines += ["", *wrap(title, width), table_text(part[(part != "").any(axis=1)], width)]
    return lines


def arranged(both: Compared, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The printable table and its blocks, without that of standard deviations near zero where there are none."""
    own = blocks(both, frame)
    if not any(p.kind == "sd" for p in both.parameters):
        frame = frame.drop(columns=own.pop(_NEAR_ZERO))
    return frame, own


def blocks(both: Compared, frame: pd.DataFrame) -> dict[str, list[str]]:
    """Headings of the blocks of the printable table, where it has to be folded, and their columns."""
    names = list(frame.columns)
    starts = [0, names.index(headings(both)["mean"])]
    starts += [starts[1] + _OWN + k * len(FURTHER) for k in range(1 + len(both.more))]
    titles = ["REML and ML", *(both.posteriors if both.more or both.given else ["Posterior"]), _NEAR_ZERO]
    ends = [*starts[1:], len(names)]
    return {title: names[a:b] for title, a, b in zip(titles, starts, ends, strict=True)}


def html_page(both: Compared, header: Sequence[str], texts: pd.DataFrame) -> str:
    """What is compared, and a table in groups of parameters."""
    frame = compact(both, texts)
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in header)
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ("parameter", *frame.columns))
    kinds = [p.kind for p in both.parameters]
    body = ""
    for kind in dict.fromkeys(kinds):
        chosen = [shown_label(p, both.scale) for p in both.parameters if p.kind == kind]
        # JupyterLab's own style sheet pushes headings of rows to the right.
        across = f'colspan="{1 + len(frame.columns)}" style="text-align: left"'
        body += f"<tbody><tr><th {across}>{_heading(both, kind)}</th></tr>"
        for label in chosen:
            cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in frame.loc[label])
            body += f"<tr><th><code>{html.escape(label)}</code></th>{cells}</tr>"
        body += "</tbody>"
    table = f'<table border="0" class="dataframe"><thead><tr>{head}</tr></thead>{body}</table>'
    return f'<div class="bayeslmm">{STYLE}{lines}{table}</div>'


def _heading(both: Compared, kind: str) -> str:
    return "Variances" if both.scale == "variance" and kind == "sd" else _HEADINGS[kind]


def check_table(what: What) -> None:
    """Refuse another name than those of the tables.

    Raises
    ------
    DesignError
    """
    choice("what", what, get_args(What), DesignError)


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table."""
    rows = [[in_markdown(str(cell)) for cell in row] for row in frame.itertuples(index=False)]
    names = [in_markdown(str(name)) for name in frame.columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])


def latex(frame: pd.DataFrame) -> str:
    """A ``tabular`` environment; needs no package."""
    rows = [[str(name) for name in frame.columns], *(list(map(str, row)) for row in frame.itertuples(index=False))]
    lines = [" & ".join(_in_latex(cell) for cell in row) + r" \\" for row in rows]
    body = "\n".join([lines[0], r"\hline", *lines[1:]])
    return f"\\begin{{tabular}}{{{'l' * len(frame.columns)}}}\n\\hline\n{body}\n\\hline\n\\end{{tabular}}"


def _in_latex(text: str) -> str:
    plain = re.sub(r"[\\{}_%&#$^~<>|]", lambda found: _LATEX[found.group()], printable(text))
    # At the start of a row these would belong to the end of the row before: a space to leave, a star.
    return f"{{{plain[0]}}}{plain[1:]}" if plain[:1] in ("[", "*") else plain


def _intervals(low: pd.Series, high: pd.Series) -> list[str]:
    return [f"[{a}, {b}]" if a or b else "" for a, b in zip(low, high, strict=True)]
