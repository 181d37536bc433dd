"""Parts of a report: what it says in words, the model, means asked for, how to repeat it; as HTML and as Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.comparison import Comparison
from bayeslmm.comparison.export import latex, markdown
from bayeslmm.design.design import Design
from bayeslmm.design.names import in_markdown
from bayeslmm.design.readable import html_table
from bayeslmm.equality import same_values
from bayeslmm.errors import BayesLMMError
from bayeslmm.exporting import export
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.residual import Estimable, KnownVariances
from bayeslmm.results.latex import write_latex
from bayeslmm.results.prior_table import prior_table
from bayeslmm.results.summary import Summary

type Reported = Comparison | REMLResult | Posterior

# Packages whose calls of the same model a report shows, and those whose versions results depend on.
_CALLS = ("lme4", "nlme", "brms")
_LIBRARIES = ("bayeslmm", "numpy", "scipy", "pandas", "formulae", "pymc", "arviz")


@dataclass(frozen=True)
class ReportPart:
    """A part of a report.

    Attributes
    ----------
    heading : str
    page : str
        As HTML, without the heading.
    text : str
        As Markdown.
    tables : tuple of DataFrame
        Its tables as text, for LaTeX.
    """

    heading: str
    page: str
    text: str
    tables: tuple[pd.DataFrame, ...] = ()


def escaped(text: str) -> str:
    """A sentence or heading as Markdown that is shown as it is."""
    return in_markdown(" ".join(text.split()))


def _with_heading(heading: str, table: pd.DataFrame) -> str:
    return f"**{escaped(heading)}**\n\n{markdown(table)}"


def in_words(of: Reported) -> ReportPart:
    """What the result says, in plain words."""
    said = of.explain()
    tables = "\n\n".join(_with_heading(heading, table.reset_index()) for heading, table in said.tables)
    return ReportPart("In words", said._repr_html_(), "\n\n".join([*map(escaped, said.paragraphs), tables]).strip())


def the_model(design: Design) -> ReportPart:
    """Formula, rows, groups, equations."""
    rows = [("formula", design.formula), ("rows used", design.observations)]
    rows += [("rows left out", str(design.dropped))] if len(design.dropped) else []
    rows += [(f"levels of {own.name}", str(own.n_levels)) for own in design.groupings.values()]
    rows += [("columns left out", ", ".join(design.aliased))] if design.aliased else []
    table = pd.DataFrame(rows, columns=["", "model and data"]).set_index("")
    page, text = f'<div class="words">{html_table(table, index_names=False)}</div>', markdown(table.reset_index())
    try:
        equations = str(write_latex(design))
    except BayesLMMError:
        return ReportPart("The model", page, text)
    return ReportPart("The model", page + _folded("Equations (LaTeX)", equations), f"{text}\n\n$$\n{equations}\n$$")


def of_summary(heading: str, summary: Summary) -> ReportPart:
    """The summary of a fit or a posterior."""
    tables = [
        (name, table.rename_axis(index=str(table.index.name or "")).reset_index()) for name, table in summary._shown()
    ]
    lead = [escaped(line) for line in (summary.title, *summary.notes)]
    text = [*lead, *(_with_heading(name, table) for name, table in tables), *map(escaped, summary.remarks)]
    page = f'<div class="bayeslmm">{summary._repr_html_()}</div>'
    return ReportPart(heading, page, "\n\n".join(text), tuple(table for _, table in tables))


def the_draws(post: Posterior, label: str) -> ReportPart:
    """How far draws can be trusted, and the priors in words."""
    priors = prior_table(post.design, post.priors)["in words"]
    certificate = f"{post.n_draws:,} draws by {post.method}: {post.certificate()}."
    page = f"<p>{html.escape(certificate)}</p><ul>{''.join(f'<li>{html.escape(str(one))}</li>' for one in priors)}</ul>"
    text = "\n".join([escaped(certificate), "", *(f"* {escaped(str(one))}" for one in priors)])
    return ReportPart(f"Draws and priors{label}", page, text)


def the_means(of: Reported, terms: Sequence[str]) -> list[ReportPart]:
    """Means at the levels of each of some terms, and their differences."""
    parts = []
    for term in terms:
        found = of.means(term)
        pages, texts = [], []
        for table in (found, found.pairs()):
            pages.append(f'<div class="bayeslmm">{_html_of(table)}</div>')
            texts.append(f"```\n{table}\n```")
        parts.append(ReportPart(f"Means of {term}", "".join(pages), "\n\n".join(texts)))
    return parts


def _html_of(shown: Any) -> str:
    return str(shown._repr_html_())


def how_to_repeat(of: Reported) -> ReportPart:
    """Calls that give the same, here and in other packages, and versions."""
    design = of.design
    lines = [
        "import bayeslmm as bl",
        "",
        f"model = bl.Model({', '.join([repr(design.formula), 'data', *_options(design)])})",
    ]
    post = of if isinstance(of, Posterior) else of.posterior if isinstance(of, Comparison) else None
    fit = of if isinstance(of, REMLResult) else of.reml if isinstance(of, Comparison) else None
    lines += [] if fit is None else [f"fit = model.fit({'' if fit.reml else 'reml=False'})"]
    if post is not None:
        seed = post.data.attrs.get("random_seed", "...")
        priors = "" if same_values(post.priors, resolve_priors(design, None)) else ", priors=..."
        lines += [f"post = model.sample({post.n_draws}, method={post.method!r}, random_seed={seed}{priors})"]
    lines += ["bl.compare(fit, post)"] if isinstance(of, Comparison) else []
    blocks = [("Python (bayeslmm)", "\n".join(lines)), *_calls(design, fit is None or fit.reml)]
    versions = ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES)
    page = "".join(_folded(name, call, k == 0) for k, (name, call) in enumerate(blocks))
    text = "\n\n".join(f"{name}\n\n```\n{call}\n```" for name, call in blocks)
    return ReportPart("To repeat this", f"{page}<p>Versions: {versions}.</p>", f"{text}\n\nVersions: {versions}.")


def _options(design: Design) -> list[str]:
    """Further arguments of the model that are texts."""
    residual = design.residual
    found = [f"residual={residual.expression!r}"] if isinstance(residual, Estimable) else []
    if design.recipe is not None and design.recipe.weights is not None:
        name = "residual_sd" if isinstance(residual, KnownVariances) else "weights"
        found.append(f"{name}={design.recipe.weights!r}")
    return found


def _folded(title: str, code: str, unfolded: bool = False) -> str:
    """Code that is shown when it is asked for."""
    state = " open" if unfolded else ""
    return f"<details{state}><summary>{html.escape(title)}</summary><pre>{html.escape(code)}</pre></details>"


def _calls(design: Design, reml: bool) -> list[tuple[str, str]]:
    """Calls of other packages that have this model."""
    found = []
    for package in _CALLS:
        try:
            found.append((f"R ({package})", str(export(design, package, reml=reml))))
        except BayesLMMError:
            continue
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def latex_tables(parts: Sequence[ReportPart]) -> str:
    """The tables of all parts as ``tabular`` environments, headings as comments."""
    return "\n\n".join(f"% {part.heading}\n{latex(table)}" for part in parts for table in part.tables) + "\n"
