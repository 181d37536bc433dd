"""The client of Dask that is at work, found without loading Dask."""

from __future__ import annotations

import sys
from typing import Any


def current_client() -> Any:
    """The client of Dask that is at work in this process; None if there is none."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None
