"""A report of fits, posteriors and comparisons: one HTML page that needs no other file, Markdown, or LaTeX tables."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bayeslmm.arguments import flag, labels, shown, text
from bayeslmm.boundary.report import BoundaryReport
from bayeslmm.comparison import Comparison
from bayeslmm.errors import ArgumentError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.files.writing import check_folder, destination, made, path_argument, write_bytes
from bayeslmm.page import explained_words, html_page
from bayeslmm.report_figures import Drawing, figures, fit_of
from bayeslmm.report_parts import (
    Reported,
    ReportPart,
    escaped,
    how_to_repeat,
    in_words,
    latex_tables,
    of_summary,
    the_draws,
    the_means,
    the_model,
)
from bayeslmm.results.linear import DDF

type Section = tuple[str, Reported]

_TITLES = {
    Comparison: "REML and posterior compared",
    REMLResult: "A linear mixed model",
    Posterior: "The posterior of a linear mixed model",
}


def boundary_of(of: Comparison | REMLResult) -> BoundaryReport:
    """The usual boundary report; a comparison keeps its own."""
    return of.boundary if isinstance(of, Comparison) else of.boundary()


@dataclass(frozen=True)
class ReportRequest:
    """What a report is asked for beside its sections.

    Attributes
    ----------
    question : str
    means : sequence of str
        Factors.
    ddf : str, optional
        Degrees of freedom of the fixed effects of a fit.
    boundary : callable
        Makes the boundary report of a comparison or a fit.
    keep : callable, optional
        Is given the number of a section, what is drawn and the figure, for files of their own.
    """

    question: str = ""
    means: Sequence[str] = ()
    ddf: DDF | None = None
    boundary: Callable[[Any], BoundaryReport] = boundary_of
    keep: Callable[[int, Drawing, Any], None] | None = None


def report(
    of: Reported | Mapping[str, Reported],
    path: str | os.PathLike[str],
    *,
    question: str | None = None,
    means: str | Sequence[str] = (),
    overwrite: bool = True,
) -> Path:
    """Write what a fit, a posterior or both say into one file: in words, tables, figures, and how to repeat it.

    Parameters
    ----------
    of : Comparison, REMLResult, Posterior, or mapping of str to these
        A mapping gives several sections, with its names for headings.
    path : path
        Ends in ``.html``: a page with its figures inside that needs no other file; in ``.md``: the words and tables in
        Markdown, e.g. for Quarto; or in ``.tex``: the tables. Folders above it are made.
    question : str, optional
        What was to be found out; it stands first.
    means : str or sequence of str
        Factors whose means and differences between them are shown.
    overwrite : bool
        Whether a file of that name is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ArgumentError
        Something else to report on; a path that ends otherwise.
    DesignError
        `means` names what is no factor of the model.
    StorageError
        The file cannot be written, which is found out before anything is drawn.

    Examples
    --------
    >>> import bayeslmm as bl, tempfile
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = bl.report(fit, folder + "/dyestuff.html").read_text(encoding="utf-8")
    >>> page.count("<figure>"), "Residual" in page
    (4, True)
    """
    sections, replaced = _sections(of), flag("overwrite", overwrite)
    words = "" if question is None else text("question", question, "a sentence", ArgumentError)
    asked = ReportRequest(words, labels("means", means))
    target = _path(path)
    check_folder(target.parent, [target.name])
    if target.parent.is_dir():
        destination(target, overwrite=replaced)
    content = _CONTENT[_kind(target)](sections, asked)
    with made(target.parent):
        return write_bytes(target, content.encode("utf-8", errors="backslashreplace"), overwrite=replaced)


def page_of(sections: Sequence[Section], asked: ReportRequest) -> str:
    """The report as a page."""
    lead = f'<p class="question">{html.escape(asked.question)}</p>' if asked.question else ""
    entries, body = [], []
    for k, (name, one) in enumerate(sections):
        parts, heading = _parts(one, asked, _figures(one, asked, k)), html.escape(_heading(name, one))
        entries.append(f'<li><a href="#s{k}">{heading}</a><ol>{_links(parts, k)}</ol></li>')
        inside = (
            f'<section id="s{k}-{i}"><h3>{html.escape(p.heading)}</h3>{p.page}</section>' for i, p in enumerate(parts)
        )
        body.append(f'<section id="s{k}"><h2>{heading}</h2>{"".join(inside)}</section>')
    contents = f'<nav aria-label="Contents"><ol>{"".join(entries)}</ol></nav>'
    return html_page(_title(sections), [lead, contents, *body, explained_words()])


def _figures(one: Reported, asked: ReportRequest, k: int) -> ReportPart:
    return ReportPart("Figures", figures(one, None if asked.keep is None else partial(asked.keep, k)), "")


def _links(parts: Sequence[ReportPart], k: int) -> str:
    return "".join(f'<li><a href="#s{k}-{i}">{html.escape(part.heading)}</a></li>' for i, part in enumerate(parts))


def _markdown(sections: Sequence[Section], asked: ReportRequest) -> str:
    """Words and tables, without figures."""
    lines = [f"# {_title(sections)}", *([escaped(asked.question)] if asked.question else [])]
    for name, one in sections:
        lines.append(f"## {escaped(_heading(name, one))}")
        lines += [f"### {escaped(part.heading)}\n\n{part.text}" for part in _parts(one, asked)]
    return "\n\n".join(lines) + "\n"


def _tex(sections: Sequence[Section], asked: ReportRequest) -> str:
    """The tables."""
    lead = "".join(f"% {line}\n" for line in [_title(sections), *asked.question.splitlines()])
    return lead + "\n".join(latex_tables(_parts(one, asked)) for _, one in sections)


_CONTENT = {".html": page_of, ".md": _markdown, ".tex": _tex}


def _title(sections: Sequence[Section]) -> str:
    titles = {next(title for kind, title in _TITLES.items() if isinstance(one, kind)) for _, one in sections}
    title = titles.pop() if len(titles) == 1 else "Linear mixed models"
    return title if any(one.design.terms for _, one in sections) else title.replace(" mixed", "")


def _heading(name: str, of: Reported) -> str:
    return name or of.design.formula.replace("`", "")


def _sections(of: Any) -> list[tuple[str, Reported]]:
    """Headings with what they are of.

    Raises
    ------
    ArgumentError
    """
    named = list(of.items()) if isinstance(of, Mapping) else [("", of)]
    for _, one in named:
        if not isinstance(one, Comparison | REMLResult | Posterior):
            raise ArgumentError(
                f"report() got {shown(one)}, of type {type(one).__name__}. It reports on a fit, a posterior or a "
                "comparison, or a mapping of names to these: bl.report(bl.compare(model.fit(), model.sample()), "
                "'report.html')."
            )
    if not named:
        raise ArgumentError("report() got an empty mapping: there is nothing to report on.")
    return [(str(name), one) for name, one in named]


def _path(path: Any) -> Path:
    target = path_argument(path, "report.html")
    if _kind(target) not in _CONTENT:
        raise ArgumentError(
            f"path={shown(path)} does not end in .html, and the report is a page: 'report.html'. 'report.md' has its "
            "words and tables, 'report.tex' the tables."
        )
    return target


def _kind(path: Path) -> str:
    ending = path.suffix.lower()
    return ".html" if ending == ".htm" else ending


def _parts(of: Reported, asked: ReportRequest, *figures: ReportPart) -> list[ReportPart]:
    """What a section of a report is made of."""
    fit = fit_of(of)
    posteriors = [of] if isinstance(of, Posterior) else [of.posterior, *of.more] if isinstance(of, Comparison) else []
    parts = [in_words(of), the_model(of.design)]
    if isinstance(of, Comparison):
        table = of._text_frame("table")
        parts.append(ReportPart("Both inferences", of._repr_html_(), of.to_markdown(), (table,)))
    parts += [*the_means(of, asked.means), *figures]
    if fit is not None:
        parts.append(of_summary(f"{'REML' if fit.reml else 'Maximum-likelihood'} fit", fit.summary(asked.ddf)))
    for post, label in zip(posteriors, _labels(of, posteriors), strict=True):
        parts += [of_summary(f"Posterior{label}", post.summary()), the_draws(post, label)]
    if not isinstance(of, Posterior) and of.design.terms:
        boundary = asked.boundary(of)
        parts.append(ReportPart("The boundary", boundary._repr_html_(), f"```\n{boundary}\n```"))
    return [*parts, how_to_repeat(of)]


def _labels(of: Reported, posteriors: Sequence[Posterior]) -> list[str]:
    if len(posteriors) < 2 or not isinstance(of, Comparison):
        return [""] * len(posteriors)
    return [f", {name}" for name in of.names]
