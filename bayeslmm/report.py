"""Write a comparison to disk: figures, numbers as JSON, one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayeslmm.comparison import Comparison
from bayeslmm.plots import plot_boundary, plot_shrinkage, plot_variance
from bayeslmm.results.boundary_report import BoundaryReport

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 86rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; }
table { border-collapse: collapse; font-size: .82rem; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
tbody th { text-align: left; font-weight: 600; }
figure { display: inline-block; margin: .5rem; vertical-align: top; max-width: 46%; } img { max-width: 100%; }
@media (max-width: 60rem) { figure { max-width: 100%; } }
pre { background: #f6f6f6; padding: .75rem; overflow-x: auto; white-space: pre-wrap; }
"""


def figures(both: Comparison) -> dict[str, Any]:
    """Name to Matplotlib figure: variance components, one figure per sd, shrinkage."""
    out = {"variance": plot_variance(both)[0].figure}
    for p in both.parameters:
        if p.kind == "sd":
            out[f"boundary_{file_name(p.label)}"] = plot_boundary(both, p.label).figure
    for group in both.design.groupings:
        out[f"shrinkage_{file_name(group)}"] = plot_shrinkage(both, group)[0].figure
    return out


def file_name(label: str) -> str:
    """A label with everything but letters and digits replaced."""
    return "".join(c if c.isalnum() else "_" for c in label).strip("_")


def write(comparisons: Sequence[tuple[str, Comparison]], folder: Path) -> list[Path]:
    """Write figures (PNG), ``comparison.json`` and ``report.html``.

    Parameters
    ----------
    comparisons : sequence of (name, Comparison)
    folder : pathlib.Path
        Made if it does not exist.

    Returns
    -------
    list of pathlib.Path
        The files, in the order written.
    """
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written, sections = list[Path](), list[str]()
    for name, both in comparisons:
        images = []
        for kind, figure in figures(both).items():
            path = folder / f"{file_name(name)}_{kind}.png"
            figure.savefig(path, dpi=150)
            written.append(path)
            images.append((kind, _embedded(figure)))
            plt.close(figure)
        sections.append(_section(name, both, images))
    numbers = folder / "comparison.json"
    numbers.write_text(json.dumps({name: both.to_dict() for name, both in comparisons}, indent=2), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(_page("One formula, two inferences: REML and posterior compared", sections), encoding="utf-8")
    return [*written, numbers, page]


def write_boundary(report: BoundaryReport, folder: Path) -> list[Path]:
    """Write a boundary report as ``boundary.html`` and ``boundary.json``; the folder is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    page, numbers = folder / "boundary.html", folder / "boundary.json"
    page.write_text(_page(f"Boundary report: {report.formula}", [report._repr_html_()]), encoding="utf-8")
    numbers.write_text(json.dumps(report.to_dict(), indent=2, allow_nan=False), encoding="utf-8")
    return [page, numbers]


def _embedded(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _section(name: str, both: Comparison, images: Sequence[tuple[str, str]]) -> str:
    pictures = "\n".join(
        f'<figure><img alt="{html.escape(kind)}" src="data:image/png;base64,{data}"></figure>' for kind, data in images
    )
    return (
        f"<h2>{html.escape(name)}</h2>{both._repr_html_()}{pictures}"
        f"<h3>The boundary</h3>{both.boundary._repr_html_()}"
        f"<h3>REML fit</h3>{both.reml.summary()._repr_html_()}"
        f"<h3>Posterior</h3>{both.posterior.summary()._repr_html_()}"
    )


def _page(title: str, sections: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>bayeslmm: {html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>" + "".join(sections) + "</body></html>\n"
    )
