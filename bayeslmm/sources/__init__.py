"""Data that are read chunk by chunk: files, queries of other libraries, iterators of frames, partitions of a cluster.

Knows libraries and nothing of models. `is_source` says what is one, `open_source` gives every kind the same face
(`protocol.Source`), and `checked` reads it several times and makes sure that it says the same each time.
"""

from __future__ import annotations

from bayeslmm.sources.checked import Checked, checked
from bayeslmm.sources.frames import text_columns
from bayeslmm.sources.opening import open_source
from bayeslmm.sources.protocol import Source
from bayeslmm.sources.recognised import is_source

__all__ = ["Checked", "Source", "checked", "is_source", "open_source", "text_columns"]
