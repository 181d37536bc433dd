"""Sphinx extension: what the page of a class shows, and links to it from the names that other pages mention."""

from __future__ import annotations

import re
from typing import Any

import bayeslmm as bl

# Of structures, priors and designs a page shows how to make one: their methods are what the package itself calls.
BRIEF = {
    name
    for name in bl.__all__
    if getattr(bl, name).__module__.startswith(("bayeslmm.design.", "bayeslmm.bayes.", "bayeslmm.likelihood."))
} | {"HeadedTable", "Script", "SummedDesign"}
MADE_BY_USERS = BRIEF | {"Cell", "Model", "Plan"}
# What the pages call the objects.
CALLED = {"model": bl.Model, "fit": bl.REMLResult, "post": bl.Posterior, "both": bl.Comparison, "bl": bl}
# Code within a line, not the words of a link.
MENTIONED = re.compile(rf"(?<![\[`])`(({'|'.join(CALLED)})\.(\w+)(?:\(\))?)`(?![`\]])")


def without_constructor(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Results are made by calls, so that the arguments of their classes say nothing to users."""
    return ("", returns) if what == "class" and obj.__name__ not in MADE_BY_USERS else None


def linked(found: re.Match[str]) -> str:
    """A mention such as `fit.means` as a link to the API; as it stands if there is no such name."""
    text, owner, name = found.groups()
    if not hasattr(CALLED[owner], name):
        return found[0]
    path = "bayeslmm" if owner == "bl" else f"bayeslmm.{CALLED[owner].__name__}"
    return f"{{py:obj}}`{text} <{path}.{name}>`"


def link_mentions(app: Any, page: str, source: list[str]) -> None:
    """Links in the text and the tables of pages; code blocks and headings stay."""
    if app.env.doc2path(page).suffix == ".md":
        parts = re.split(r"^(```.*?^```$|#[^\n]*$)", source[0], flags=re.MULTILINE | re.DOTALL)
        source[0] = "".join(part if i % 2 else MENTIONED.sub(linked, part) for i, part in enumerate(parts))


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("autodoc-process-signature", without_constructor)
    app.connect("source-read", link_mentions)
    return {"parallel_read_safe": True}
