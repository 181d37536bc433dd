"""Write results to a folder: figures, numbers as JSON and CSV, one self-contained HTML page."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayeslmm.boundary.report import BoundaryReport
from bayeslmm.comparison import Comparison
from bayeslmm.comparison.models import ModelComparison
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.files.file_names import file_names
from bayeslmm.files.writing import check_folder, destination, made, replacing, write_bytes
from bayeslmm.one_page import ReportRequest, Section, boundary_of, page_of
from bayeslmm.page import embedded, explained_words, html_page, pictures
from bayeslmm.plots import plot_models
from bayeslmm.report_figures import Drawing, drawings
from bayeslmm.results.linear import DDF

if TYPE_CHECKING:
    import pandas as pd

    from bayeslmm.faces import REMLResult

BOUNDARY_FILES = ("boundary.html", "boundary.json")
_ESTIMATES, _NUMBERS, _PAGE = ("fit.csv", "fit.json"), ("comparison.json",), "report.html"
_MODELS = "models.png"

type Detail = Literal["auto", "full", "brief"]


def check_report(designs: Sequence[tuple[str, Design]], folder: Path, numbers: Sequence[str] = _NUMBERS) -> None:
    """Refuse, before anything is computed, a folder in which a report could not be written.

    Parameters
    ----------
    designs : sequence of (name, Design)
        Of what is reported on.
    folder : pathlib.Path
    numbers : sequence of str
        Further files.

    Raises
    ------
    StorageError
    """
    check_folder(folder, [*_image_names(designs).values(), *numbers, _PAGE])


def check_fit(name: str, design: Design, folder: Path | None) -> None:
    """The same of `write_fit`."""
    if folder is not None:
        check_report([(name, design)], folder, _ESTIMATES)


def write(
    comparisons: Sequence[tuple[str, Comparison]],
    folder: Path,
    *,
    detail: Detail = "auto",
    leave_out: Sequence[str] = (),
) -> list[Path]:
    """Write figures (PNG), ``comparison.json`` and ``report.html``, the page of `bayeslmm.report`.

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

    def boundary(of: Comparison | REMLResult) -> BoundaryReport:
        if not isinstance(of, Comparison) or (detail == "auto" and not leave_out):
            return boundary_of(of)
        own = {"level": of.level, "delta": of.delta, "detail": detail, "leave_out": leave_out}
        return of.reml.boundary(of.posterior, **own)  # type: ignore[arg-type]

    numbers = json.dumps({name: both.to_dict() for name, both in comparisons}, indent=2)
    return _write_report(
        comparisons, folder, dict(zip(_NUMBERS, [numbers], strict=True)), ReportRequest(boundary=boundary)
    )


def write_fit(name: str, fit: REMLResult, folder: Path, tidy: pd.DataFrame, ddf: DDF | None = None) -> list[Path]:
    """Write the table of a fit as ``fit.csv`` and ``fit.json``, figures (PNG), and ``report.html``."""
    texts = tidy.to_csv(index=False), tidy.to_json(orient="records", indent=2)
    return _write_report([(name, fit)], folder, dict(zip(_ESTIMATES, texts, strict=True)), ReportRequest(ddf=ddf))


def check_models(folder: Path | None) -> None:
    """The same of `write_models`."""
    if folder is not None:
        check_folder(folder, [*table_files(["models"]), _MODELS, _PAGE])


def write_models(models: ModelComparison, folder: Path) -> list[Path]:
    """Write a comparison of models: its table as CSV and JSON, ``models.png`` and ``report.html`` with both."""
    check_models(folder)
    written = write_tables({"models": models.table.rename_axis("model").reset_index()}, folder)
    try:
        figure = plot_models(models)[0].figure
    except DesignError as error:
        drawn = f"<p>Not drawn: {html.escape(str(error))}</p>"
    else:
        written.append(write_figure(figure, folder / _MODELS))
        drawn = pictures([("Parameters that two models or more have: by ML and of the posterior", embedded(figure))])
        drawn = drawn.replace("<figure>", '<figure style="max-width: 100%">')
    table = f'<div class="bayeslmm">{models._repr_html_()}</div>'
    page = html_page("Models compared", ["<h2>Models</h2>", table, "<h2>Parameters</h2>", drawn, explained_words()])
    return [*written, *_write_texts(folder, {_PAGE: page})]


def _write_report(
    sections: Sequence[Section], folder: Path, numbers: Mapping[str, str], asked: ReportRequest
) -> list[Path]:
    designs = [(name, of.design) for name, of in sections]
    check_report(designs, folder, list(numbers))
    names, written = _image_names(designs), list[Path]()

    def keep(section: int, drawing: Drawing, figure: Any) -> None:
        written.append(write_figure(figure, folder / names[section, drawing]))

    with made(folder):
        page = page_of(sections, replace(asked, keep=keep))
        return [*written, *_write_texts(folder, {**numbers, _PAGE: page})]


def _image_names(designs: Sequence[tuple[str, Design]]) -> dict[tuple[int, Drawing], str]:
    """Files of the figures, by the number of their section and what is drawn."""
    wanted = [(k, drawing) for k, (_, design) in enumerate(designs) for drawing in drawings(design)]
    names = file_names([(designs[k][0], *drawing) for k, drawing in wanted], ".png")
    return dict(zip(wanted, names, strict=True))


def write_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG, with all that stands outside its axes."""
    with made(path.parent):
        target = destination(path, overwrite=True)
        with replacing(target) as part:
            figure.savefig(part, format="png", dpi=150)
    return target.path


def write_boundary(report: BoundaryReport, folder: Path) -> list[Path]:
    """Write a boundary report as ``boundary.html`` and ``boundary.json``; the folder is made if it does not exist."""
    check_folder(folder, BOUNDARY_FILES)
    page = html_page(f"Boundary report: {report.formula}", [report._repr_html_()])
    numbers = json.dumps(report.to_dict(), indent=2, allow_nan=False)
    return _write_texts(folder, dict(zip(BOUNDARY_FILES, (page, numbers), strict=True)))


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
