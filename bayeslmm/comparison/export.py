"""A comparison as HTML, LaTeX and Markdown."""

from __future__ import annotations

import html
import re
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from bayeslmm.arguments import shown
from bayeslmm.comparison.fixed import fixed_errors
from bayeslmm.comparison.long import long_errors
from bayeslmm.comparison.tables import FURTHER, draws_below, error_table, headings, of_posterior, shown_label
from bayeslmm.design.names import in_markdown, printable
from bayeslmm.design.readable import table_text
from bayeslmm.design.screen import screen_width, wrap
from bayeslmm.errors import DesignError
from bayeslmm.results.digits import in_digits
from bayeslmm.results.summary import STYLE

if TYPE_CHECKING:
    from bayeslmm.comparison.compare import Comparison

# Columns of the first posterior; the others have fewer.
_OWN = 5
# Wider than any screen.
_UNFOLDED = 1_000_000
What = Literal["table", "long", "groups", "fixed"]
_HEADINGS = {"sd": "Standard deviations", "corr": "Correlations", "sigma": "Residual", "fixed": "Fixed effects"}
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


def compact(both: Comparison) -> pd.DataFrame:
    """The table as text with intervals in one column each, for pages of ordinary width."""
    table, level = both._texts, f"{100 * both.level:g} %"
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


def text(both: Comparison, width: int | None = None) -> str:
    """What is compared, and the table, folded where the screen is narrow: REML, posteriors, and what is near zero."""
    width = screen_width() if width is None else width
    lines = [line for note in both.header for line in wrap(note, width, "  ")]
    frame = both.printable()
    one = table_text(frame, _UNFOLDED)
    if not (both.more or both.given) or max(map(len, one.split("\n"))) <= width:
        return "\n".join([*lines, "", table_text(frame, width, blocks(both))])
    return "\n".join([*lines, *_folded(both, frame, width)])


def _folded(both: Comparison, frame: pd.DataFrame, width: int) -> list[str]:
    """A table of its own for each posterior: its name stands above, and not in every heading."""
    lines: list[str] = []
    names = dict(zip(both.posteriors, both.names, strict=True))
    for title, columns in blocks(both).items():
        end = f" ({names[title]})" if title in names else ""
        part = frame[columns].set_axis([column.removesuffix(end) for column in columns], axis=1)
        lines += ["", *wrap(title, width), table_text(part[(part != "").any(axis=1)], width)]
    return lines


def blocks(both: Comparison) -> dict[str, list[str]]:
    """Headings of the blocks of the printable table, where it has to be folded, and their columns."""
    names = list(both.printable().columns)
    starts = [0, names.index(headings(both)["mean"])]
    starts += [starts[1] + _OWN + k * len(FURTHER) for k in range(1 + len(both.more))]
    titles = ["REML and ML", *(both.posteriors if both.more or both.given else ["Posterior"]), "Near zero"]
    ends = [*starts[1:], len(names)]
    return {title: names[a:b] for title, a, b in zip(titles, starts, ends, strict=True)}


def html_page(both: Comparison) -> str:
    """What is compared, and a table in groups of parameters."""
    frame = compact(both)
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in both.header)
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ("parameter", *frame.columns))
    kinds = [p.kind for p in both.parameters]
    body = ""
    for kind in dict.fromkeys(kinds):
        chosen = [shown_label(p, both.scale) for p in both.parameters if p.kind == kind]
        body += f'<tbody><tr><th colspan="{1 + len(frame.columns)}">{_heading(both, kind)}</th></tr>'
        for label in chosen:
            cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in frame.loc[label])
            body += f"<tr><th><code>{html.escape(label)}</code></th>{cells}</tr>"
        body += "</tbody>"
    table = f'<table border="0" class="dataframe"><thead><tr>{head}</tr></thead>{body}</table>'
    return f'<div class="bayeslmm">{STYLE}{lines}{table}</div>'


def _heading(both: Comparison, kind: str) -> str:
    return "Variances" if both.scale == "variance" and kind == "sd" else _HEADINGS[kind]


def text_frame(both: Comparison, what: What) -> pd.DataFrame:
    """One of the tables as text, with its index as columns.

    Raises
    ------
    DesignError
        Another name.
    """
    if not isinstance(what, str) or what not in get_args(What):
        raise DesignError(
            f"what={shown(what)} is no table of a comparison. Use one of {', '.join(map(repr, get_args(What)))}."
        )
    if what == "table":
        return compact(both).rename_axis("parameter").reset_index()
    if what == "groups":
        return shown_groups(both)
    if what == "long":
        return in_digits(both.long, long_errors(both))
    return shown_fixed(both).reset_index()


def shown_table(both: Comparison) -> pd.DataFrame:
    """The table as text, all of it numbers: shares, too, are rounded to their error."""
    share = both.table["p_below"]
    error = np.sqrt(share * (1.0 - share) / draws_below(both))
    return in_digits(both.table, error_table(both).assign(p_below=error))


def shown_groups(both: Comparison) -> pd.DataFrame:
    """The table of groups as text, every number as far as it is known."""
    return in_digits(both.groups, _group_errors(both))


def shown_fixed(both: Comparison) -> pd.DataFrame:
    """The table of fixed effects as text, every number as far as it is known."""
    return in_digits(both.fixed, fixed_errors(both))


def _group_errors(both: Comparison) -> pd.DataFrame:
    """Monte Carlo standard errors of posterior means and sds of effects, which are nearly normal."""
    post, sd = both.posterior, both.groups["posterior_sd"]
    # Of Markov chains, effects are drawn exactly given parameters that depend on each other.
    error = sd * post._inflation / np.sqrt(post.n_draws)
    ratio = both.groups["sd_ratio"] / np.sqrt(2.0 * post.n_draws)
    found = {"posterior_mean": error, "posterior_sd": error / np.sqrt(2.0), "sd_ratio": ratio}
    return pd.DataFrame({**found, **_weight_errors(both)})


def _weight_errors(both: Comparison) -> dict[str, pd.Series]:
    """Of the mean and of the interval of each weight, from the width of the interval: that of a normal density."""
    share, z = (1.0 - both.level) / 2.0, NormalDist().inv_cdf(0.5 + both.level / 2.0)
    width = both.groups["weight_high"] - both.groups["weight_low"]
    mean = width / (2.0 * z) * both.posterior._inflation / np.sqrt(both.posterior.n_draws)
    end = mean * np.sqrt(share * (1.0 - share)) / NormalDist().pdf(z)
    return {"weight_mean": mean, "weight_low": end, "weight_high": end}


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
