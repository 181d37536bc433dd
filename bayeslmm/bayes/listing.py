"""Diagnostics and priors as a list of named values that fits the screen."""

from __future__ import annotations

from collections.abc import Mapping

from bayeslmm.design.screen import fill


def listing(title: str, rows: Mapping[str, str | None]) -> str:
    """A title and one line for every value that there is.

    Examples
    --------
    >>> print(listing("Diagnostics", {"Pareto k": "0.1", "grid": None}))
    Diagnostics
      Pareto k: 0.1
    """
    lines = [f"  {name}: {value}" for name, value in rows.items() if value is not None]
    return "\n".join(fill(line, indent="    ") for line in [title, *lines])
