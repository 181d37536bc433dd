"""The page of the explorer: shown in a notebook, written to a file, opened in a browser."""

from __future__ import annotations

import html
import json
import os
import tempfile
import webbrowser
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bayeslmm.arguments import flag, shown
from bayeslmm.comparison import Comparison
from bayeslmm.design.screen import fill
from bayeslmm.errors import ArgumentError
from bayeslmm.explorer.balanced import balanced_data
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.files.writing import made, path_argument, write_bytes
from bayeslmm.specification import Specification

type Explored = Specification | REMLResult | Posterior | Comparison

# In the order in which they need each other.
_SCRIPTS = ("numeric.js", "model.js", "levels.js", "slopes.js", "draw.js", "page.js")
# Pixels in a notebook: what is shown there without scrolling inside.
_HEIGHT = 1180


@dataclass(frozen=True)
class Explorer:
    """The page as a whole; a notebook shows it, and elsewhere it is written or opened.

    Attributes
    ----------
    title : str
        What its data are.
    page : str
        The page, which needs no other file and no network.
    """

    title: str
    page: str

    def __repr__(self) -> str:
        return fill(
            f"<Explorer of {self.title}: a notebook shows it; .write('explorer.html') writes the page, .open() shows "
            "it in the browser>",
            indent="  ",
        )

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="Shrinkage explorer: {html.escape(self.title)}" srcdoc="{html.escape(self.page)}" '
            f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
        )

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
        """Write the page.

        Parameters
        ----------
        path : path
            Ends in ``.html``; folders above it are made.
        overwrite : bool
            Whether a file of that name is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        ArgumentError
            A path that does not end in ``.html``.
        StorageError
            The file cannot be written.
        """
        replaced = flag("overwrite", overwrite)
        target = path_argument(path, "explorer.html")
        if target.suffix.lower() not in (".html", ".htm"):
            raise ArgumentError(f"path={shown(path)} does not end in .html, and the explorer is a page.")
        with made(target.parent):
            return write_bytes(target, self.page.encode("utf-8", errors="backslashreplace"), overwrite=replaced)

    def open(self) -> Path:
        """Write the page to a temporary file and open it in the browser."""
        path = self.write(Path(tempfile.mkdtemp(prefix="bayeslmm-")) / "explorer.html")
        webbrowser.open(path.as_uri())
        return path


def explore(of: Explored | None = None) -> Explorer:
    """A page on which REML and the posterior of a balanced model follow sliders.

    Sliders: number of groups, observations per group, true standard deviations and correlation, prior family and scale,
    new data. Shown: the data, the criterion that REML minimises, prior and posterior, shrinkage, and how often REML
    says zero. The page computes all of it itself: estimates and P(REML says zero) in closed form, the posterior by
    quadrature with the priors of `Model.sample`.

    Parameters
    ----------
    of : Model, REMLResult, Posterior or Comparison, optional
        A model ``y ~ 1 + (1 | g)`` with equally many rows in every group, or ``y ~ x + (x | g)`` with the same x in
        every group: the page then shows its data (the response less its offset). Simulated data if None.

    Returns
    -------
    Explorer
        A notebook shows it; ``.write(path)`` writes the page, ``.open()`` opens it in the browser.

    Raises
    ------
    ArgumentError
        Something that is no model.
    DesignError
        Another model, unequal groups, fewer than 4 or more than 40 groups, or more than 20 rows in one.

    References
    ----------
    Searle, Casella & McCulloch (1992), Variance Components, ch. 3: the balanced one-way layout, and the probability of
    a negative estimate. Anderson, Anderson & Olkin (1986), Annals of Statistics 14, 405-417: maximum of the likelihood
    of a covariance matrix that exceeds another.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> page = bl.explore(model).page
    >>> page.startswith("<!DOCTYPE html>"), "https://" in page
    (True, False)
    """
    if of is not None and not isinstance(of, Specification | REMLResult | Posterior | Comparison):
        raise ArgumentError(
            f"explore() got {shown(of)}, of type {type(of).__name__}. It takes a model, or what was fitted or sampled "
            "from one: bl.explore(model); bl.explore() alone has simulated data."
        )
    if isinstance(of, Specification) and of.planned:
        raise ArgumentError(
            "explore() got a planned study, which has no response yet. bl.explore() has sliders for the groups, the "
            "rows and the truth, and data simulated at these."
        )
    data = None if of is None else balanced_data(of.design)
    return Explorer("simulated data" if data is None else data["formula"], _page(data))


def _page(data: dict[str, Any] | None) -> str:
    assets = files("bayeslmm.explorer") / "assets"
    text = {name: (assets / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *_SCRIPTS)}
    # A level called </script> must not end the script; U+2028 is a line end in old browsers.
    payload = json.dumps(data).replace("<", "\\u003c")
    script = "\n".join(text[name] for name in _SCRIPTS)
    page = text["page.html"].replace("/*STYLE*/", text["page.css"]).replace("/*SCRIPT*/", script)
    return page.replace("/*YOURS*/", payload)
