"""Sphinx extension: what the page of a class shows."""

from __future__ import annotations

from typing import Any

import bayeslmm as bl

# Of structures, priors and designs a page shows how to make one: their methods are what the package itself calls.
BRIEF = {
    name
    for name in bl.__all__
    if getattr(bl, name).__module__.startswith(("bayeslmm.design.", "bayeslmm.bayes.", "bayeslmm.likelihood."))
} | {"HeadedTable", "Script", "SummedDesign"}
MADE_BY_USERS = BRIEF | {"Cell", "Model", "Plan"}


def without_constructor(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Results are made by calls, so that the arguments of their classes say nothing to users."""
    return ("", returns) if what == "class" and obj.__name__ not in MADE_BY_USERS else None


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("autodoc-process-signature", without_constructor)
    return {"parallel_read_safe": True}
