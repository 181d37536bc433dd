"""What labels look like: which of them a reader would take for the same, and texts that are dates or numbers."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Invisible: signs of format (zero width, soft hyphen, direction), controls, variation selectors.
_UNSEEN = ("Cf", "Cc")
_SELECTORS = range(0xFE00, 0xFE10)
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
# Of so many texts some may be exceptions to what the others look like.
_MANY, _MOST = 5, 0.8


def _visible(text: str) -> str:
    return "".join(c for c in text if c.isspace() or not _unseen(c))


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or ord(character) in _SELECTORS


def _unspaced(text: str) -> str:
    """A text without spaces; between digits they say where a number ends."""
    return re.sub(r"\s+", "", _BETWEEN_DIGITS.sub("\0", text.strip())).replace("\0", " ")


def _normal(text: str) -> str:
    """A text in one Unicode form; of spaces, dashes and apostrophes the plain ones."""
    spaces = "".join(c if c.isspace() else unicodedata.normalize("NFKC", c) for c in unicodedata.normalize("NFC", text))
    plain = "".join("-" if unicodedata.category(c) == "Pd" else c for c in spaces)
    return unicodedata.normalize("NFC", plain.replace("\u2019", "'").replace("\u2018", "'"))


def _number_text(text: str) -> str:
    """A number in its shortest writing, without zeros before or behind it."""
    if not _NUMBER.fullmatch(text):
        return text
    sign = "-" if text.startswith("-") else ""
    whole, _, rest = text.lstrip("+-").partition(".")
    rest = rest.rstrip("0")
    return f"{sign}{whole.lstrip('0') or '0'}{'.' if rest else ''}{rest}"


# In the order in which they are applied: how texts may differ, what takes the difference away, and its remedy.
_DIFFERENCES: tuple[tuple[str, Callable[[str], str], str], ...] = (
    ("invisible characters", _visible, "unseen"),
    ("their Unicode form", _normal, "normalise"),
    ("spaces", _unspaced, "squeeze"),
    ("case", str.casefold, "lower"),
    ("the writing of a number", _number_text, "recode"),
)


@dataclass(frozen=True)
class Alike:
    """Labels that a reader would take for one.

    Attributes
    ----------
    labels : tuple of str
    differ_by : tuple of str
        In what they differ.
    remedies : tuple of str
        What makes them the same (`remedies`).
    """

    labels: tuple[str, ...]
    differ_by: tuple[str, ...]
    remedies: tuple[str, ...]


def alike(labels: Sequence[str]) -> list[Alike]:
    r"""Sets of different labels that look the same, or nearly.

    Examples
    --------
    >>> [(found.labels, found.differ_by) for found in alike(["a", "b", "a ", "B", "c"])]
    [(('a', 'a '), ('spaces',)), (('b', 'B'), ('case',))]
    """
    sets: dict[str, list[str]] = {}
    for label in labels:
        sets.setdefault(_folded(label), []).append(label)
    return [_described(tuple(found)) for found in sets.values() if len(found) > 1]


def _folded(label: str, but: str = "") -> str:
    for name, fold, _ in _DIFFERENCES:
        label = label if name == but else fold(label)
    return label


def _described(labels: tuple[str, ...]) -> Alike:
    needed = [(name, remedy) for name, _, remedy in _DIFFERENCES if len({_folded(label, name) for label in labels}) > 1]
    # Either of two foldings may suffice where both take the difference away.
    needed = needed or [(name, remedy) for name, fold, remedy in _DIFFERENCES if len(set(map(fold, labels))) == 1][:1]
    remedies = [remedy for _, remedy in needed]
    if "squeeze" in remedies:
        way = "strip" if len({label.strip() for label in labels}) == 1 else "squeeze"
        way = way if len({" ".join(label.split()).casefold() for label in map(_normal, labels)}) == 1 else "unspaced"
        remedies[remedies.index("squeeze")] = way
    return Alike(labels, tuple(name for name, _ in needed), tuple(dict.fromkeys(remedies)))


def shown(labels: Sequence[str]) -> list[str]:
    r"""Labels in quotes, with escapes for what would not be seen.

    Examples
    --------
    >>> print(*shown(["a", "a\u200b"]), *shown(["\xdc", "U\u0308"]))
    'a' 'a\u200b' '\xdc' 'U\u0308'
    """
    quoted = [repr(label) for label in labels]
    same = len({unicodedata.normalize("NFKC", text) for text in quoted}) < len(quoted)
    return [ascii(label) for label in labels] if same else quoted


def listed(labels: Sequence[str], most: int = 5) -> str:
    """The first labels in quotes, and how many more there are.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    first = ", ".join(shown(labels[:most]))
    return first if len(labels) <= most else f"{first} and {len(labels) - most} more"


@dataclass(frozen=True)
class Likeness:
    """What texts look like.

    Attributes
    ----------
    words : str
        E.g. ``"dates"``.
    remedies : mapping of str to str
        Conversion (`remedies`) to its detail, one for every way in which the texts can be read.
    exceptions : tuple of str
        Texts that look different.
    whole : bool
        Whether they are whole numbers and nothing else, as labels often are.
    """

    words: str
    remedies: Mapping[str, str]
    exceptions: tuple[str, ...] = ()
    whole: bool = False


_TIME = r"(?P<time>[T ]\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})(?P<sep>[-/.])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})" + _TIME)
_YEAR_LAST = re.compile(r"(?P<a>\d{1,2})(?P<sep>[-/.])(?P<b>\d{1,2})(?P=sep)(?P<year>\d{4}|\d\d)" + _TIME)
_COMPACT = re.compile(r"(?P<year>(?:19|20)\d\d)(?P<month>\d\d)(?P<day>\d\d)")
_CLOCK = re.compile(r"\d{1,2}:[0-5]\d(:[0-5]\d)?")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d+,\d+|[+-]?\d{1,3}(\.\d{3})+,\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_UNIT = re.compile(r"[+-]?\d+(?:[.,]\d+)?\s*(?P<unit>[^\W\d_]{1,6}|[%\u2030\u20ac$\u00a3\u00b0]\w?)")


def likeness(texts: Sequence[str]) -> Likeness | None:
    """Whether nearly all texts look like dates, or like numbers; None if they are other words.

    Examples
    --------
    >>> likeness(["04.03.2024", "05.03.2024"]).words, likeness(["3,5", "4,25"]).words, likeness(["a", "b"])
    ('dates', 'numbers with a decimal comma', None)
    """
    texts = [text.strip() for text in texts]
    for look in (_dates, _clocks, _numbers, _commas, _units):
        found = look(texts)
        if found is not None:
            return found
    return None


def _split(texts: Sequence[str], pattern: Callable[[str], object]) -> tuple[list[str], tuple[str, ...]] | None:
    """Texts of a pattern and the others, if these are few."""
    fits = [text for text in texts if pattern(text)]
    others = tuple(text for text in texts if not pattern(text))
    enough = len(fits) >= _MANY and len(fits) >= _MOST * len(texts)
    return (fits, others) if fits and (enough or not others) else None


def _dates(texts: Sequence[str]) -> Likeness | None:
    for pattern, formats in ((_YEAR_FIRST, _year_first), (_YEAR_LAST, _year_last), (_COMPACT, _compact)):
        split = _split(texts, pattern.fullmatch)
        if split is None:
            continue
        found = [match for text in split[0] if (match := pattern.fullmatch(text))]
        possible = formats(found)
        if possible:
            return Likeness("dates", possible, split[1])
    return None


def _year_first(found: Sequence[re.Match[str]]) -> dict[str, str]:
    if not all(_is_date(m["year"], m["month"], m["day"]) for m in found):
        return {}
    separators = {m["sep"] for m in found}
    if len(separators) > 1:
        return {}
    if any(m["time"] for m in found) and separators == {"-"}:
        return {"mixed dates of text": ""}
    time = _time_format(found)
    return {} if time is None else {"dates of text": f"%Y{(s := separators.pop())}%m{s}%d{time}"}


def _year_last(found: Sequence[re.Match[str]]) -> dict[str, str]:
    separators = {m["sep"] for m in found}
    lengths = {len(m["year"]) for m in found}
    time = _time_format(found)
    if len(separators) > 1 or len(lengths) > 1 or time is None:
        return {}
    sep, year = separators.pop(), "%Y" if lengths == {4} else "%y"
    orders = {"%d{0}%m{0}": [("a", "b")], "%m{0}%d{0}": [("b", "a")]}
    possible = [
        order.format(sep) + year + time
        for order, ((day, month),) in orders.items()
        if all(_is_date("2000", m[month], m[day]) for m in found)
    ]
    if not possible:
        return {}
    # Between dots the day comes first everywhere.
    text = possible[0] if sep == "." or len(possible) == 1 else " or ".join(possible)
    return {"dates of text": text}


def _compact(found: Sequence[re.Match[str]]) -> dict[str, str]:
    return {"dates of text": "%Y%m%d"} if all(_is_date(m["year"], m["month"], m["day"]) for m in found) else {}


def _time_format(found: Sequence[re.Match[str]]) -> str | None:
    """Format of the times behind the dates; None if they have several."""
    kinds = {_one_time(m["time"] or "") for m in found}
    return kinds.pop() if len(kinds) == 1 else None


def _one_time(text: str) -> str | None:
    if not text:
        return ""
    if not re.fullmatch(r"[T ]\d{1,2}:\d\d(:\d\d)?", text):
        return None
    return f"{text[0]}%H:%M" + (":%S" if text.count(":") == 2 else "")


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        dt.date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _clocks(texts: Sequence[str]) -> Likeness | None:
    split = _split(texts, _CLOCK.fullmatch)
    if split is None:
        return None
    long = {text.count(":") for text in split[0]}
    return Likeness("times", {"seconds clock" if long == {2} else "minutes clock": ""}, split[1])


def _numbers(texts: Sequence[str]) -> Likeness | None:
    split = _split(texts, _PLAIN.fullmatch)
    if split is None:
        return None
    whole = not split[1] and all(re.fullmatch(r"\d+", text) for text in texts)
    return Likeness("numbers", {"coerced" if split[1] else "number": ""}, split[1], whole)


def _commas(texts: Sequence[str]) -> Likeness | None:
    split = _split(texts, lambda text: _COMMA.fullmatch(text) or re.fullmatch(r"[+-]?\d+", text))
    thousands = _split(texts, lambda text: _THOUSANDS.fullmatch(text) or re.fullmatch(r"[+-]?\d{1,3}", text))
    if thousands is not None and any("," in text for text in thousands[0]):
        remedies = {"thousands": ""} if split is None else {"decimal comma": "", "thousands": ""}
        words = "numbers with a comma for thousands" if split is None else "numbers with a decimal comma (or thousands)"
        return Likeness(words, remedies, thousands[1])
    if split is None or not any("," in text for text in split[0]):
        return None
    return Likeness("numbers with a decimal comma", {"decimal comma": ""}, split[1])


def _units(texts: Sequence[str]) -> Likeness | None:
    split = _split(texts, _UNIT.fullmatch)
    if split is None or len(texts) < 3:
        return None
    units = {match["unit"] for text in split[0] if (match := _UNIT.fullmatch(text))}
    if len(units) > 1:
        return None
    comma = any("," in text for text in split[0])
    return Likeness(f"numbers with a unit ({units.pop()})", {"unit comma" if comma else "leading number": ""}, split[1])
