"""Every script of the gallery runs, and its figure can be read: nothing is cut, colours are those of one palette."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from bayeslmm.plots.style import COLOURS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("gallery_figures", DOCS / "figures.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


figures = _module()
ENTRIES = figures.entries(PAGE)
# Matplotlib's colours of a map are not those of lines; the package's own map has numbers in its cells.
_MAPS = {"coverage-map"}
_POINT = 1 / 72


def test_every_heading_has_a_figure_a_script_and_words() -> None:
    assert len(ENTRIES) == PAGE.count("\n### ") == PAGE.count("```python") >= 20
    assert len({entry.name for entry in ENTRIES}) == len({entry.alt for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        lines = [line for line in entry.script.splitlines() if line]
        assert len(lines) <= 8 and max(map(len, lines)) <= 100, entry.name
        assert len(entry.alt) > 40 and entry.words.count("\n") == 0


def test_every_figure_function_is_in_the_gallery() -> None:
    import bayeslmm as bl

    scripts = "".join(entry.script for entry in ENTRIES)
    assert [name for name in bl.__all__ if name.startswith("plot_") and f"bl.{name}(" not in scripts] == []


def test_thumbnails_lead_to_the_headings() -> None:
    page = figures.with_thumbnails(PAGE)
    links = re.findall(r"^\[!\[\]\(gallery/([a-z-]+)\.png\) (.+)\]\(#([a-z0-9-]+)\)$", page, flags=re.M)
    assert [(name, title) for name, title, _ in links] == [(entry.name, entry.title) for entry in ENTRIES]
    assert len({anchor for *_, anchor in links}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_script_draws_what_can_be_read(entry: Any) -> None:
    with mpl.rc_context():
        drawn = entry.draw()
        figure = figures.figure_of(drawn)
        axes = figure.axes
        if not hasattr(drawn, "viz"):
            own = list(np.ravel(np.asarray(drawn, dtype=object)))
            assert own and all(isinstance(axis, Axes) and axis in axes for axis in own)
        figure.canvas.draw()
        box, width, height = figure.get_tightbbox(), *figure.get_size_inches()
        assert min(box.x0, box.y0) >= -_POINT and box.x1 <= width + _POINT and box.y1 <= height + _POINT
        written = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
        # On a page of seven inches.
        assert min(text.get_fontsize() for text in written) * min(1.0, 7 / width) >= 5.0
        assert entry.name in _MAPS or _colours(figure) <= {to_hex(colour) for colour in COLOURS}
        plt.close("all")


def _colours(figure: Any) -> set[str]:
    """Colours of lines that are no grey."""
    found = {line.get_color() for axis in figure.axes for line in axis.lines}
    return {to_hex(colour) for colour in found if np.ptp(to_rgb(colour)) > 0.02}
