"""Data that are read chunk by chunk: files, queries of other libraries, iterators of frames, partitions of a cluster.

Knows libraries and nothing of models. `is_source` says what is one, `open_source` gives every kind the same face
(`protocol.Source`), and `checked` reads it several times and makes sure that it says the same each time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayeslmm.sources.checking import Checked, checked
    from bayeslmm.sources.frames import text_columns
    from bayeslmm.sources.opening import open_source
    from bayeslmm.sources.protocol import Source
    from bayeslmm.sources.recognised import is_source

__all__ = ["Checked", "Source", "checked", "is_source", "open_source", "text_columns"]

# Whether data are a source is asked at every fit, of tables in memory too.
_HOMES = {
    "Checked": "checking",
    "Source": "protocol",
    "checked": "checking",
    "is_source": "recognised",
    "open_source": "opening",
    "text_columns": "frames",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
