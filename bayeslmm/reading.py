"""Tables from files for the command line: found, decoded, split into cells, with the line of the file of every row."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.cells import CellColumns, column
from bayeslmm.datasets import list_datasets, load_dataset
from bayeslmm.errors import DatasetError

if TYPE_CHECKING:
    import pandas as pd

# Name of the index of a table whose rows are lines of a file.
LINES = "line of the file"
_SUFFIXES = (".csv", ".tsv", ".txt")
_SEPARATORS = (",", ";", "\t", "|")
# What spreadsheets write and read above the names of columns.
_STATED = re.compile(r'"?sep=([^\w\s"]|\t)"?[ \t]*(?=\r|\n)', re.IGNORECASE)
_BLANKS = r"\s+"
_LOOKED_AT = 200
_SHOWN = 3
# The first bytes of files that are no text.
_MAGIC = {
    b"PK\x03\x04": "a zip archive or an Excel workbook (.xlsx)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"%PDF": "a PDF",
    b"RDX": "an R workspace",
}
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass(frozen=True)
class Options:
    """How a text file is to be read.

    Attributes
    ----------
    na : tuple of str
        Words that mean a missing value in every column; empty cells always do.
    sep, decimal, encoding : str
        Empty: found out.
    """

    na: tuple[str, ...] = ()
    sep: str = ""
    decimal: str = ""
    encoding: str = ""


@dataclass(frozen=True)
class Reading:
    """A table and what was decided when it was read.

    Attributes
    ----------
    frame : pandas.DataFrame
        Of a text file, the index has the line of each row; the header is line 1.
    notes : tuple of str
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()


def read_data(name: str) -> pd.DataFrame:
    """A shipped data set, or a CSV or parquet file, as a data frame.

    Raises
    ------
    DatasetError
        As `read_table`.
    """
    frame = read_table(name).frame
    return frame.reset_index(drop=True) if frame.index.name == LINES else frame


def read_table(name: str, options: Options | None = None) -> Reading:
    """A shipped data set, a CSV or parquet file, or standard input (``-``).

    Parameters
    ----------
    name : str
    options : Options, optional

    Raises
    ------
    DatasetError
        Neither, a file type that is not read, or a file without a table.

    Examples
    --------
    >>> read_table("Dyestuff").frame.shape
    (30, 2)
    """
    import pandas as pd

    options = options or Options()
    if name == "-":
        return _from_bytes("standard input", _standard_input(), options)
    path = Path(name)
    kind = _kind(name)
    if kind is None or (path.suffix == "" and not stat.S_ISREG(kind)):
        return Reading(_shipped(name, kind))
    _check_regular(name, kind)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return Reading(_parquet(name, path))
    if suffix not in _SUFFIXES:
        raise DatasetError(
            f"{name!r} is neither CSV (.csv, .tsv, .txt) nor parquet (.parquet). A sheet can be saved as CSV where it "
            "was made."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{name!r} cannot be read: {error.strerror or error}.") from error
    if content[:4] == b"PAR1":
        return Reading(pd.DataFrame(_parquet(name, path)))
    return _from_bytes(repr(name), content, options, tabs=suffix == ".tsv")


def _kind(name: str) -> int | None:
    """Mode of a file; None if there is none."""
    try:
        return os.stat(name).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise DatasetError(
            f"There is no file {shown!r} ({reason}). Give the path of a CSV or parquet file, or a data set's name."
        ) from error


def _shipped(name: str, kind: int | None) -> pd.DataFrame:
    if Path(name).suffix:
        raise DatasetError(f"There is no file {name!r}. Give the path of a CSV or parquet file, or a data set's name.")
    try:
        return load_dataset(name)
    except DatasetError as error:
        if kind is not None:
            _check_regular(name, kind)
        near = re.search(r" Did you mean [^?]*\?", str(error))
        raise DatasetError(
            f"There is no data set named {name!r}, and no such file.{near.group() if near else ''} Shipped are: "
            f"{', '.join(list_datasets().index)}. For data of your own give the path of a CSV or parquet file, or - "
            "for standard input."
        ) from error


def _check_regular(name: str, kind: int) -> None:
    if stat.S_ISDIR(kind):
        raise DatasetError(f"{name!r} is a folder. Give the path of a CSV or parquet file in it.")
    if not stat.S_ISREG(kind):
        what = "a pipe" if stat.S_ISFIFO(kind) else "a device or socket"
        raise DatasetError(
            f"{name!r} is {what}, not a file. To read from a pipe write: command | bayeslmm ... --data -"
        )


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise DatasetError(
            "--data - reads standard input, but nothing is piped into it: command | bayeslmm ... --data -"
        )
    return sys.stdin.buffer.read()


def _parquet(name: str, path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise DatasetError(f"Reading {name!r} needs pyarrow, which is not installed: pip install pyarrow.") from error
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise DatasetError(
            f"{name!r} cannot be read as parquet ({reason}). It is damaged, or of another format: write it again."
        ) from error


def _from_bytes(name: str, content: bytes, options: Options, *, tabs: bool = False) -> Reading:
    text, notes = _decoded(name, content, options.encoding)
    if not text.strip():
        raise DatasetError(f"{name} cannot be read as a table: it is empty. {_WANTED}")
    sep = _separator(options.sep) or ("\t" if tabs else "")
    if stated := _STATED.match(text):
        # What is left of the line is blank, so that all others keep their numbers.
        text, sep = text[stated.end() :], sep or stated[1]
        notes.append(f"columns are separated by {sep!r}, as line 1 says.")
    if not sep:
        sep, note = _found_separator(text)
        notes += note
    names, rows, lines, note = _records(name, text, sep)
    notes += note
    if not rows:
        raise DatasetError(
            f"{name} cannot be read as a table: it has names of columns ({', '.join(names[:6])}), but no "
            f"rows. {_WANTED}"
        )
    decimal = options.decimal or ("" if sep == "," else "?")
    if decimal not in ("", "?", ".", ","):
        raise DatasetError(f"--decimal {decimal!r} is unknown. Use . or ,")
    return _table(names, rows, lines, CellColumns(frozenset(options.na), decimal), notes)


_WANTED = "The first line has to hold the names of the columns, the others one row each."


def _decoded(name: str, content: bytes, encoding: str) -> tuple[str, list[str]]:
    """Text of a file and which encoding it was in, if that is worth a word."""
    if encoding:
        try:
            return content.decode(encoding).removeprefix("\ufeff"), []
        except LookupError as error:
            raise DatasetError(f"--encoding {encoding!r} is unknown. Common ones: utf-8, cp1252, utf-16.") from error
        except UnicodeError as error:
            raise DatasetError(f"{name} is not in the encoding {encoding!r} ({error}).") from error
    for magic, what in _MAGIC.items():
        if content.startswith(magic):
            raise DatasetError(
                f"{name} cannot be read as a table: it is {what}, whatever its name says. Save the table as CSV."
            )
    found = next((known for mark, known in _MARKS.items() if content.startswith(mark)), "") or _of_zeros(content)
    try:
        return content.decode(found or "utf-8"), []
    except UnicodeDecodeError as error:
        if found:
            raise DatasetError(f"{name} cannot be read as a table: damaged {found} text ({error}).") from error
        return _western(name, content, error)


def _of_zeros(content: bytes) -> str:
    """UTF-16 without a mark: every other byte of Western text is zero."""
    even, odd = content[:1000:2], content[1:1000:2]
    if len(odd) > 1 and b"\0" in content[:1000]:
        if odd.count(0) > 0.7 * len(odd) and not even.count(0):
            return "utf-16-le"
        if even.count(0) > 0.7 * len(even) and not odd.count(0):
            return "utf-16-be"
    return ""


def _western(name: str, content: bytes, error: UnicodeDecodeError) -> tuple[str, list[str]]:
    line = content.count(b"\n", 0, error.start) + 1
    if b"\xff\xfe" in content or b"\xfe\xff" in content:
        raise DatasetError(
            f"{name} cannot be read as a table: line {line} has a mark of UTF-16 where no text can have one. Was it "
            f"put together from files of several encodings? {_WANTED}"
        ) from error
    control = sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in content[:10_000])
    if control:
        raise DatasetError(
            f"{name} cannot be read as a table: it is no text (byte {content[error.start]:#04x} in line {line}). "
            f"{_WANTED}"
        ) from error
    try:
        text, used = content.decode("cp1252"), "cp1252 (Windows, Western Europe)"
    except UnicodeDecodeError:
        text, used = content.decode("latin-1"), "latin-1"
    word = re.search(r"\S*[^\x00-\x7f]\S*", text)
    shown = f", so that line {line} has {word.group()[:30]!r}" if word else ""
    return text, [f"not in UTF-8: read as {used}{shown}. If that is wrong, say --encoding."]


def _separator(given: str) -> str:
    known = {"tab": "\t", "\\t": "\t", "space": _BLANKS, " ": _BLANKS, "comma": ",", "semicolon": ";"}
    sep = known.get(given, given)
    if len(sep) > 1 and sep != _BLANKS:
        raise DatasetError(f"--sep {given!r} is more than one character. Use e.g. ';' or tab.")
    if sep and (sep.isalnum() or sep in '"\n\r'):
        raise DatasetError(f"--sep {given!r} cannot separate columns. Use e.g. ';' or tab.")
    return sep


def _found_separator(text: str) -> tuple[str, list[str]]:
    """The separator that gives all lines equally many fields: a comma if it does."""
    for sep in (*_SEPARATORS, _BLANKS):
        sizes = _sizes(text, sep)
        if sizes and sizes[0] > 1 and (len(set(sizes)) == 1 or _named_rows(sizes)):
            name = {"\t": "a tab", _BLANKS: "blanks"}.get(sep, repr(sep))
            return sep, [] if sep == "," else [f"columns are separated by {name}."]
    header = text.split("\n", 1)[0]
    guess = next((sep for sep in _SEPARATORS[1:] if sep in header), ",")
    if "," in header or guess == ",":
        return ",", []
    return guess, [f"columns seem to be separated by {guess!r}."]


def _named_rows(sizes: Sequence[int]) -> bool:
    """Whether the line of names is one short, above rows with names, as R's write.table has it."""
    return len(sizes) > 1 and sizes[0] > 1 and set(sizes[1:]) == {sizes[0] + 1}


def _sizes(text: str, sep: str) -> list[int]:
    """Numbers of fields of the first lines."""
    sizes = []
    try:
        for _, fields in _parsed(text, sep):
            sizes.append(len(fields))
            if len(sizes) >= _LOOKED_AT:
                break
    except csv.Error:
        return []
    return sizes


def _parsed(text: str, sep: str) -> Iterator[tuple[int, list[str]]]:
    """Records that are not blank, each with its line."""
    stream = io.StringIO(text, newline="")
    lines: Iterable[str] = (" ".join(line.split()) + "\n" for line in stream) if sep == _BLANKS else stream
    reader = csv.reader(lines, delimiter=" " if sep == _BLANKS else sep, strict=True)
    start = 1
    for fields in reader:
        if len(fields) > 1 or any(field.strip() for field in fields):
            yield start, fields
        start = reader.line_num + 1


def _records(name: str, text: str, sep: str) -> tuple[list[str], list[list[str]], list[int], list[str]]:
    """Names of columns, rows of cells, their lines, and notes."""
    limit = csv.field_size_limit(len(text) + 1)
    try:
        records = list(_parsed(text, sep))
    except csv.Error as error:
        raise DatasetError(
            f"{name} cannot be read as a table ({error}: is a quote never closed, or followed by something?). {_WANTED}"
        ) from error
    finally:
        csv.field_size_limit(limit)
    lines, rows = [line for line, _ in records[1:]], [fields for _, fields in records[1:]]
    names, notes = [field.strip() for field in records[0][1]], []
    if _named_rows([len(names), *map(len, rows)]):
        names = ["", *names]
        notes.append("the first column has no name: taken for names of rows.")
    _check_lengths(name, len(names), lines, rows, _hint(text, sep))
    short = [line for line, row in zip(lines, rows, strict=True) if len(row) < len(names)]
    if short:
        notes.append(f"{_lines(short)} {'ends' if len(short) == 1 else 'end'} early: cells are missing.")
    notes += _several(names)
    return _blank_names(names), rows, lines, notes


def _check_lengths(name: str, width: int, lines: Sequence[int], rows: Sequence[Sequence[str]], hint: str) -> None:
    for line, row in zip(lines, rows, strict=True):
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise DatasetError(
                f"{name} cannot be read as a table: line {line} has {len(row)} fields, but there are {width} names of "
                f"columns{hint}. {_WANTED}"
            )


def _several(names: Sequence[str]) -> list[str]:
    """A word on names that several columns have: a model that uses one of these is refused."""
    twice = [other for other, count in Counter(names).items() if other and count > 1]
    places = {other: [str(i + 1) for i, name in enumerate(names) if name == other] for other in twice}
    return [f"several columns are named {other!r} (columns {', '.join(where)})." for other, where in places.items()]


def _blank_names(names: Sequence[str]) -> list[str]:
    return [name or f"Unnamed: {i}" for i, name in enumerate(names)]


def _hint(text: str, sep: str) -> str:
    others = [other for other in _SEPARATORS if other != sep and other in text.split("\n", 1)[0]]
    return f" (the separator seems to be {others[0]!r}: --sep {others[0]!r})" if others else ""


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:_SHOWN]))
    return f"line{'' if len(lines) == 1 else 's'} {shown}{', ...' if len(lines) > _SHOWN else ''}"


def _table(
    names: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[int], how: CellColumns, notes: list[str]
) -> Reading:
    import pandas as pd

    columns = []
    for j, name in enumerate(names):
        cells = [row[j] if j < len(row) else "" for row in rows]
        values, note = column(name, cells, how)
        columns.append(values)
        notes += note
    frame = pd.DataFrame(dict(enumerate(columns)), index=pd.Index(lines, name=LINES))
    frame.columns = pd.Index(names)
    return Reading(frame, tuple(notes))
