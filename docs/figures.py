"""The scripts of the gallery page, run: they are written once, on the page, for its pictures and for the tests."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_ENTRY = re.compile(r"^### (.+?)\n\n(.+?)\n\n!\[(.+?)\]\(gallery/([a-z-]+)\.png\)\n\n```python\n(.*?)```$", re.M | re.S)
_THUMBNAILS = "% thumbnails"


@dataclass(frozen=True)
class Entry:
    """One figure of the page: its heading, what one sees, its text alternative, its file and its script."""

    title: str
    words: str
    alt: str
    name: str
    script: str

    def draw(self) -> Any:
        """What the last line of the script returns."""
        lines = ast.parse(self.script)
        names: dict[str, Any] = {}
        exec(compile(ast.Module(lines.body[:-1], []), self.name, "exec"), names)
        last = lines.body[-1]
        assert isinstance(last, ast.Expr), f"{self.name}: the script ends in no expression."
        return eval(compile(ast.Expression(last.value), self.name, "eval"), names)


def entries(page: str) -> list[Entry]:
    """All figures of the text of a page."""
    return [Entry(*found) for found in _ENTRY.findall(page)]


def figure_of(drawn: Any) -> Any:
    """The figure of axes, of an array of axes, or of a plot of ArviZ."""
    if hasattr(drawn, "viz"):
        return drawn.viz["figure"].item()
    return np.ravel(np.asarray(drawn, dtype=object))[0].figure


def write(page: Path, folder: Path) -> None:
    """Draw every figure of a page into a folder."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    for entry in entries(page.read_text(encoding="utf-8")):
        figure_of(entry.draw()).savefig(folder / f"{entry.name}.png", dpi=144)
        plt.close("all")


def with_thumbnails(page: str) -> str:
    """A page with small pictures of all figures in the place of a comment; links have texts, so that alts are empty."""
    links = []
    for entry in entries(page):
        anchor = re.sub(r"[^a-z0-9 -]", "", entry.title.lower()).replace(" ", "-")
        links.append(f"[![](gallery/{entry.name}.png) {entry.title}](#{anchor})")
    return page.replace(_THUMBNAILS, "```{container} thumbnails\n" + "\n".join(links) + "\n```")
