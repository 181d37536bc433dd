"""Memory as people write it."""

from __future__ import annotations

import re
from typing import Any

from bayeslmm.arguments import kind_of
from bayeslmm.design.rows_elsewhere import MEMORY
from bayeslmm.errors import DesignError

_UNITS = {"": 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
_SIZE = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?i?b?)\s*", re.IGNORECASE)


def bytes_of(memory: Any) -> int:
    """A number of bytes from a text such as ``"2 GB"``; the default of None.

    Raises
    ------
    DesignError

    Examples
    --------
    >>> bytes_of("1.5 MB"), bytes_of(4096)
    (1572864, 4096)
    """
    if memory is None:
        return MEMORY
    if isinstance(memory, int) and not isinstance(memory, bool) and memory >= 0:
        return memory
    found = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    unit = None if found is None else _UNITS.get(found[2].lower().replace("i", ""))
    if found is None or unit is None:
        given = repr(memory) if isinstance(memory, str | int) else kind_of(memory)
        raise DesignError(
            f"memory is {given}, not a size: how much of the rows may be read again and kept where a result needs "
            "them, e.g. memory='2 GB', or a number of bytes."
        )
    return int(float(found[1]) * unit)
