"""Names of files for what has labels: different labels never share a file, however they are spelled."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

# Bytes of a name without its ending; the narrowest file systems in use take 143.
_LONGEST = 120
# Of the digest that tells apart what would have one name.
_DIGITS = 8


def file_names(labels: Sequence[tuple[str, ...]], ending: str) -> list[str]:
    """A name for each of some labels, of letters, digits and ``_``.

    Labels whose names would be one on some file system (equal but for signs, capitals or the way an accent is coded),
    and labels that are too long, get some digits of a digest of the label behind a ``-``.

    Parameters
    ----------
    labels : sequence of tuple of str
        Parts of a name; those that come twice get different names too.
    ending : str
        With its dot.

    Returns
    -------
    list of str

    Examples
    --------
    >>> file_names([("plot", "sd_g[x]"), ("plot", "a.b")], ".png")
    ['plot_sd_g_x.png', 'plot_a_b.png']
    >>> len(set(file_names([("a.b",), ("a_b",), ("A_B",)], ".png")))
    3
    """
    taken, out = set[str](), list[str]()
    for position, label in enumerate(labels):
        plain = "_".join(_plain(part) for part in label)
        name = _cut(plain, _LONGEST)
        digest = hashlib.sha256(repr((label, labels[:position].count(label))).encode()).hexdigest()
        digits = _DIGITS
        while (name != plain and "-" not in name) or _folded(name) in taken:
            name = f"{_cut(plain, _LONGEST - digits - 1)}-{digest[:digits]}"
            digits += 1
        taken.add(_folded(name))
        out.append(name + ending)
    return out


def _plain(text: str) -> str:
    """Everything but letters and digits replaced."""
    return "".join(c if c.isalnum() else "_" for c in unicodedata.normalize("NFC", text)).strip("_")


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFKC", name.casefold())
