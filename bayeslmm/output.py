"""Write results to a folder: figures, numbers as JSON and CSV, one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayeslmm.bayes.progress import announced
from bayeslmm.boundary.report import BoundaryReport
from bayeslmm.comparison import Comparison
from bayeslmm.design.design import Design
from bayeslmm.files.file_names import file_names
from bayeslmm.files.writing import check_folder, destination, made, replacing, write_bytes
from bayeslmm.plots import forest, plot_boundary, plot_shrinkage, plot_variance
from bayeslmm.results.labels import parameters

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.faces import Posterior, REMLResult

FIT_FILES = ("fit.csv", "fit.json")
BOUNDARY_FILES = ("boundary.html", "boundary.json")
_NUMBERS, _PAGE = "comparison.json", "report.html"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 86rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; }
table { border-collapse: collapse; font-size: .82rem; margin: 1rem 0; display: block; overflow-x: auto; max-width: 100%;
  background: linear-gradient(to left, #fff 40%, #fff0) right / 3rem 100% no-repeat local,
    radial-gradient(farthest-side at 100% 50%, #0005, #0000) right / 1rem 100% no-repeat scroll; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
tbody th { text-align: left; font-weight: 600; }
figure { display: inline-block; margin: .5rem; vertical-align: top; max-width: 46%; } img { max-width: 100%; }
figcaption { font-size: .82rem; color: #555; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
@media (max-width: 60rem) {
  figure { max-width: 100%; margin: .5rem 0; }
  th, td, .bayeslmm th, .bayeslmm td, .bayeslmm tbody th { white-space: normal; padding: .25rem .4rem; }
  .bayeslmm table { font-size: .74rem; }
}
@media (max-width: 36rem) {
  tbody th code { overflow-wrap: anywhere; white-space: normal; }
  tbody th, body .bayeslmm tbody th { min-width: 5.5rem; max-width: 8rem; overflow-wrap: anywhere; white-space: normal;
    position: sticky; left: 0; background: #fff; }
}
pre { background: #f6f6f6; padding: .75rem; overflow-x: auto; white-space: pre-wrap; }
body .words td { text-align: left; white-space: normal; }
.question { font-size: 1.1rem; } nav ol { padding-left: 1.4rem; } summary { cursor: pointer; }
a { color: #0b5394; } img { background: #fff; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  body { background: #15181d; color: #e6e6e6; } a { color: #8ab8ff; } figcaption { color: #b8bcc2; }
  pre { background: #20242b; } th, td { border-color: #3a3f47; }
  tbody th, body .bayeslmm tbody th { background: #15181d; }
  table { background: none; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; } nav, summary { break-after: avoid; }
  table { display: table; font-size: 8pt; white-space: normal; } th, td { white-space: normal; }
  figure, tr, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""


type Detail = Literal["auto", "full", "brief"]
# What is drawn: a kind of figure, and of which label.
type Drawing = tuple[str, ...]
CAPTIONS = {
    "forest": "Studies with their intervals, their predicted effects, the mean and a new study.",
    "variance": "Every standard deviation and correlation: posterior density, with REML and ML.",
    "boundary": "{}: likelihood, prior and posterior, down to zero.",
    "shrinkage": "Levels of {}: each level alone, REML predictions and posterior.",
}
_WORDS = {
    "ML, REML": "maximum likelihood and restricted maximum likelihood: the values under which the data are most "
    "probable, REML after allowing for the fixed effects.",
    "profile interval": "the values that fit the data nearly as well as the best one.",
    "penalised": "REML with a penalty that keeps standard deviations off zero.",
    "HDI": "highest-density interval: the shortest interval that has this share of the posterior.",
    "delta": "the largest standard deviation that counts as negligible.",
    "singular": "some variance, or that of a combination of effects, is estimated as exactly zero.",
}


def drawings(design: Design) -> list[Drawing]:
    """Figures of a comparison: studies with known errors, variances, one for each sd, shrinkage in each factor."""
    sds = [("boundary", p.label) for p in parameters(design) if p.kind == "sd"]
    studies = [("forest",)] if design.sigma is not None and design.n <= forest.MOST else []
    return [*studies, ("variance",), *sds, *(("shrinkage", group) for group in design.groupings)]


def drawers(of: Comparison | REMLResult | Posterior) -> dict[str, Callable[..., Any]]:
    """What makes the Matplotlib figure of each kind of drawing, given its label."""
    return {
        "forest": lambda: forest.plot_forest(of).figure,
        "variance": lambda: plot_variance(of)[0].figure,
        "boundary": lambda label: plot_boundary(of, label).figure,
        "shrinkage": lambda group: plot_shrinkage(of, group)[0].figure,
    }


def announced_figure(wanted: Sequence[Drawing], k: int) -> AbstractContextManager[None]:
    """While the block runs for long, a terminal says which of the figures is being made."""
    return announced(f"report: figure {k + 1} of {len(wanted)}, {' '.join(wanted[k])}")


def figures(both: Comparison) -> Iterator[tuple[Drawing, Any]]:
    """Every drawing with its Matplotlib figure, made when it is asked for."""
    draw, wanted = drawers(both), drawings(both.design)
    for k, (kind, *label) in enumerate(wanted):
        with announced_figure(wanted, k):
            figure = draw[kind](*label)
        yield wanted[k], figure


def check_report(designs: Sequence[tuple[str, Design]], folder: Path) -> None:
    """Refuse, before anything is computed, a folder in which `write` could not write its files.

    Parameters
    ----------
    designs : sequence of (name, Design)
        Of the comparisons to be written.
    folder : pathlib.Path

    Raises
    ------
    StorageError
    """
    check_folder(folder, [*_image_names(designs), _NUMBERS, _PAGE])


def write(
    comparisons: Sequence[tuple[str, Comparison]],
    folder: Path,
    *,
    detail: Detail = "auto",
    leave_out: Sequence[str] = (),
) -> list[Path]:
    """Write figures (PNG), ``comparison.json`` and ``report.html``.

    Parameters
    ----------
    comparisons : sequence of (name, Comparison)
    folder : pathlib.Path
        Made if it does not exist.
    detail, leave_out
        What the boundary part says: see `REMLResult.boundary`.

    Returns
    -------
    list of pathlib.Path
        The files, in the order written.

    Raises
    ------
    StorageError
        One of them cannot be written.
    """
    designs = [(name, both.design) for name, both in comparisons]
    check_report(designs, folder)
    with made(folder):
        return _write(comparisons, folder, iter(_image_names(designs)), _boundaries(detail, leave_out))


def _boundaries(detail: Detail, leave_out: Sequence[str]) -> Callable[[Comparison], BoundaryReport]:
    """What makes the boundary part of a comparison's section; the usual one is made once and kept."""
    if detail == "auto" and not leave_out:
        return lambda both: both.boundary
    return lambda both: both.reml.boundary(
        both.posterior, level=both.level, delta=both.delta, detail=detail, leave_out=leave_out
    )


def _write(
    comparisons: Sequence[tuple[str, Comparison]],
    folder: Path,
    names: Iterator[str],
    boundary: Callable[[Comparison], BoundaryReport],
) -> list[Path]:
    written, sections = list[Path](), list[str]()
    for name, both in comparisons:
        images = []
        for drawing, figure in figures(both):
            written.append(write_figure(figure, folder / next(names)))
            images.append((CAPTIONS[drawing[0]].format(*drawing[1:]), embedded(figure)))
        # Without random effects there is no standard deviation that could be at its boundary.
        sections.append(_section(name, both, images, boundary(both) if both.design.terms else None))
    numbers = json.dumps({name: both.to_dict() for name, both in comparisons}, indent=2)
    page = html_page("One formula, two inferences: REML and posterior compared", [*sections, explained_words()])
    return [*written, _write_text(folder / _NUMBERS, numbers), _write_text(folder / _PAGE, page)]


def write_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, with all that stands outside its axes."""
    with made(path.parent):
        target = destination(path, overwrite=True)
        with replacing(target) as part:
            figure.savefig(part, format="png", dpi=150)
    return target.path


def _image_names(designs: Sequence[tuple[str, Design]]) -> list[str]:
    return file_names([(name, *drawing) for name, design in designs for drawing in drawings(design)], ".png")


def write_boundary(report: BoundaryReport, folder: Path) -> list[Path]:
    """Write a boundary report as ``boundary.html`` and ``boundary.json``; the folder is made if it does not exist."""
    check_folder(folder, BOUNDARY_FILES)
    page = html_page(f"Boundary report: {report.formula}", [report._repr_html_()])
    numbers = json.dumps(report.to_dict(), indent=2, allow_nan=False)
    return _write_texts(folder, dict(zip(BOUNDARY_FILES, (page, numbers), strict=True)))


def write_estimates(tidy: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the table of a fit as ``fit.csv`` and ``fit.json``; the folder is made if it does not exist."""
    check_folder(folder, FIT_FILES)
    texts = tidy.to_csv(index=False), tidy.to_json(orient="records", indent=2)
    return _write_texts(folder, dict(zip(FIT_FILES, texts, strict=True)))


def table_files(names: Iterable[str]) -> list[str]:
    """Files of tables: CSV and JSON of each."""
    return [f"{name}.{ending}" for name in names for ending in ("csv", "json")]


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write tables as CSV and JSON, one row and one record for each of theirs."""
    check_folder(folder, table_files(tables))
    texts = [text for table in tables.values() for text in (table.to_csv(index=False), _records(table))]
    return _write_texts(folder, dict(zip(table_files(tables), texts, strict=True)))


def _records(table: pd.DataFrame) -> str:
    return str(table.to_json(orient="records", indent=2, double_precision=15))


def _write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    with made(folder):
        return [_write_text(folder / name, text) for name, text in texts.items()]


def _write_text(path: Path, text: str) -> Path:
    # Names of a data frame may hold half of a pair of UTF-16, which has no bytes.
    return write_bytes(path, text.encode("utf-8", errors="backslashreplace"), overwrite=True)


def embedded(figure: Any) -> str:
    """A figure as PNG for the source of an image; it is closed, and used no more."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def pictures(images: Sequence[tuple[str, str]]) -> str:
    """Figures with their captions, from captions and what `embedded` makes of them."""
    return "\n".join(
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        for text, data in ((html.escape(caption), data) for caption, data in images)
    )


def _section(name: str, both: Comparison, images: Sequence[tuple[str, str]], boundary: BoundaryReport | None) -> str:
    edge = "" if boundary is None else f"<h3>The boundary</h3>{boundary._repr_html_()}"
    return (
        f"<h2>{html.escape(name)}</h2>{both._repr_html_()}{pictures(images)}"
        f"{edge}"
        f"<h3>REML fit</h3>{both.reml.summary()._repr_html_()}"
        f"<h3>Posterior</h3>{both.posterior.summary()._repr_html_()}"
    )


def explained_words() -> str:
    """What the words of the tables mean."""
    entries = (f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in _WORDS.items())
    return f"<h2>The words</h2><dl>{''.join(entries)}</dl>"


def html_page(title: str, sections: Sequence[str]) -> str:
    """A page that needs no other file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>bayeslmm: {html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>" + "".join(sections) + "</body></html>\n"
    )
