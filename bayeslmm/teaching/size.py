"""Refuse dense arrays that would not fit, with what they would cost."""

from __future__ import annotations

from bayeslmm.errors import DesignError

# 200 MB of doubles: larger dense arrays are made on request only.
LIMIT = 25_000_000


def memory(rows: int, columns: int) -> str:
    """What a dense array of doubles takes."""
    size = 8.0 * rows * columns
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e6 else (1e3, "kB")
    return f"{size / unit:,.0f} {name}" if size >= 100 * unit else f"{size / unit:.3g} {name}"


def check_dense(what: str, rows: int, columns: int, remedy: str) -> None:
    """Refuse a dense array of more than `LIMIT` numbers.

    Parameters
    ----------
    what : str
        Its name in the message.
    rows, columns : int
    remedy : str
        What to do instead.

    Raises
    ------
    DesignError
    """
    if rows * columns > LIMIT:
        raise DesignError(
            f"{what} would be a dense array of {rows} x {columns} numbers: {rows} * {columns} * 8 bytes = "
            f"{memory(rows, columns)}. {remedy}"
        )
