"""What users pass as arguments, checked in one place: numbers, choices, names, seeds and arrays."""

from __future__ import annotations

import difflib
import math
import numbers
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayeslmm.errors import ArgumentError, BayesLMMError
from bayeslmm.memory import memory
from bayeslmm.types import FloatArray

type Failure = type[BayesLMMError]

_SHOWN = 60
# NumPy's kinds of numbers; a bool is an answer, not a number.
_REAL_KINDS = "iuf"
# Repetitions (draws, refits, replicates) beyond which none of the methods here gains anything.
MOST_DRAWS = 100_000_000
MOST_REFITS = 10_000_000
MOST_WORKERS = 1_024
# Where the system does not tell its memory.
_MEMORY = 16 * 2**30


_repr = reprlib.Repr()
_repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = _repr.maxdeque = _repr.maxarray = 20
_repr.maxdict, _repr.maxlevel = 10, 3
_repr.maxstring = _repr.maxother = _repr.maxlong = 200


def with_article(noun: str) -> str:
    """A noun, mostly the name of a class, with its article: ``"an int"``, ``"an ndarray"``, ``"a UserDict"``."""
    return f"{'an' if noun[:1].lower() in 'aeio' or noun == 'ndarray' else 'a'} {noun}"


def kind_of(value: Any) -> str:
    """The class of a value, for messages: ``"an int"``."""
    return with_article(type(value).__name__)


def shown(value: Any) -> str:
    """A value in a message: its repr on one line, shortened, whatever it is and however large.

    Examples
    --------
    >>> shown("a"), shown([1] * 100)
    ("'a'", '[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,... (a list of 100)')
    """
    try:
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
            return f"a whole number of {value.bit_length()} bits"
        if _is_table(value):
            return f"{kind_of(value)} of shape {tuple(value.shape)}"
        if isinstance(value, np.ndarray) and value.ndim and value.size > 12:
            return f"an array of shape {value.shape} of {value.dtype}"
        text = " ".join(_repr.repr(value).split())
        size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    except Exception:
        return f"an object of {type(value).__name__}"
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}... ({kind_of(value)}{size})"


def _is_table(value: Any) -> bool:
    """A data frame, a series or the like: to write one out takes long."""
    return type(value).__module__.split(".")[0] in ("pandas", "polars", "pyarrow", "xarray") and isinstance(
        getattr(value, "shape", None), tuple
    )


def whole(
    name: str, value: Any, least: int | None = None, most: int | None = None, error: Failure = ArgumentError
) -> int:
    """A whole number: an int or a NumPy integer; no float, bool or text.

    Parameters
    ----------
    name : str
        The argument's name.
    value : object
    least, most : int, optional
        Smallest and largest that make sense.
    error : type
        Class of the error.

    Returns
    -------
    int

    Raises
    ------
    BayesLMMError
        Of the class `error`.

    Examples
    --------
    >>> whole("draws", 4000, least=1)
    4000
    """
    number = value if type(value) is int else _scalar(value)
    if type(number) is not int and not isinstance(number, numbers.Integral):
        hint = (
            f" Write {name}={int(number)}."
            if number is not None and abs(number) < 2**53 and number == int(number)
            else ""
        )
        raise error(f"{name}={shown(value)} is not a whole number{_range(least, most)}.{hint}")
    number = int(number)
    if (least is not None and number < least) or (most is not None and number > most):
        raise _refusal(name, value, f"a whole number{_range(least, most)}", error)
    return number


def affordable(name: str, value: int, numbers_each: int, error: Failure = ArgumentError) -> int:
    """A number of repetitions whose results fit in the memory of this machine.

    Parameters
    ----------
    name : str
    value : int
        From `whole`.
    numbers_each : int
        Numbers of eight bytes that each takes.
    error : type

    Examples
    --------
    >>> affordable("draws", 4000, 100)
    4000
    """
    there = memory() or _MEMORY
    if 8 * value * numbers_each > there:
        raise error(
            f"{name}={shown(value)} would take {8 * value * numbers_each / 2**30:.3g} GiB ({numbers_each:,} numbers "
            f"for each), but this machine has {there / 2**30:.3g} GiB. At most {there // (8 * numbers_each):,} fit."
        )
    return value


def real(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
    error: Failure = ArgumentError,
) -> float:
    """A real number, no NaN, between bounds that are part of the range (`least`, `most`) or not (`above`, `below`).

    Examples
    --------
    >>> real("scale", 2, above=0.0)
    2.0
    """
    number = _scalar(value)
    asked = f"a {'finite ' if finite else ''}number{_range(least, most, above, below)}"
    if number is None or not _in_range(number, least, most, above, below):
        raise _refusal(name, value, asked, error)
    try:
        out = float(number)
    except OverflowError:
        raise _refusal(name, value, asked, error) from None
    if finite and not math.isfinite(out):
        raise _refusal(name, value, asked, error)
    return out


def level(name: str, value: Any, error: Failure = ArgumentError) -> float:
    """A probability strictly between 0 and 1, such as that of an interval.

    Examples
    --------
    >>> level("level", 0.95)
    0.95
    """
    number = _scalar(value)
    if number is None:
        raise error(f"{name}={shown(value)} is no number. Give a probability between 0 and 1, e.g. {name}=0.95.")
    if not 0 < number < 1 or not 0.0 < float(number) < 1.0:
        # What is hardly above 1 was not meant in per cent.
        hint = f" Write {name}={float(number) / 100:g} for {float(number):g} %." if 2 <= number < 100 else ""
        raise error(f"{name}={shown(value)} is not a probability strictly between 0 and 1.{hint}")
    return float(number)


def flag(name: str, value: Any, error: Failure = ArgumentError, *, meaning: str = "") -> bool:
    """True or False, and nothing that merely counts as one of them; `meaning` is a sentence on what they stand for.

    Examples
    --------
    >>> flag("overwrite", True)
    True
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise error(f"{name}={shown(value)} is neither True nor False.{f' {meaning}' if meaning else ''}")


def choice[T](name: str, value: Any, options: Sequence[T], error: Failure = ArgumentError, *, others: str = "") -> T:
    """One of a few words (or None, where that is an option).

    Parameters
    ----------
    name : str
    value : object
        Compared only where it is of an option's own type, so that an array or pd.NA is refused like any other value.
    options : sequence
    error : type
    others : str
        What else the argument takes, as the end of "or ...".

    Examples
    --------
    >>> choice("method", "auto", ("auto", "nuts"))
    'auto'
    """
    for option in options:
        if value is option or (type(value) is type(option) and value == option) or _same_text(value, option):
            return option
    words = [repr(option) for option in options]
    hint = ""
    if isinstance(value, str):
        near = difflib.get_close_matches(value.casefold(), [str(o) for o in options if isinstance(o, str)], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
    raise error(f"{name}={shown(value)} is unknown. It takes {_listed(words, others)}.{hint}")


type Seed = int | Sequence[int] | np.random.Generator | np.random.SeedSequence | np.random.BitGenerator | None


def seed(name: str, value: Any, error: Failure = ArgumentError) -> Seed:
    """A seed: what `numpy.random.default_rng` takes, but for what merely counts as a number.

    Examples
    --------
    >>> seed("random_seed", 1)
    1
    """
    if value is None or isinstance(value, np.random.Generator | np.random.SeedSequence | np.random.BitGenerator):
        return value
    if _is_whole(value) and value >= 0:
        return int(value)
    if isinstance(value, list | tuple) and value and all(_is_whole(item) and item >= 0 for item in value):
        return [int(item) for item in value]
    raise error(f"{name}={shown(value)} is no seed. Give a nonnegative whole number, a numpy Generator, or None.")


def generator(value: Any, name: str = "random_seed", error: Failure = ArgumentError) -> np.random.Generator:
    """The generator of a user's seed; a generator is itself.

    Examples
    --------
    >>> int(generator(1).integers(10)) == int(generator(1).integers(10))
    True
    """
    return np.random.default_rng(seed(name, value, error))


def instance[T](
    name: str, value: Any, kinds: type[T] | tuple[type[T], ...], what: str, error: Failure = ArgumentError
) -> T:
    """An object of one of some types; `what` says in words which, and where to get one.

    Examples
    --------
    >>> instance("text", "a", str, "a text")
    'a'
    """
    if isinstance(value, kinds) and not isinstance(value, type):
        return value
    raise error(f"{name} is {shown(value)}, of type {type(value).__name__}; it takes {what}.")


def text(name: str, value: Any, what: str = "a text", error: Failure = ArgumentError) -> str:
    """A string.

    Examples
    --------
    >>> text("formula", "y ~ x")
    'y ~ x'
    """
    return str(instance(name, value, str, what, error))


def mapping(
    name: str, value: Any, what: str = "a mapping of names", error: Failure = ArgumentError
) -> Mapping[str, Any]:
    """A mapping whose keys are text; `what` says of what to what.

    Examples
    --------
    >>> mapping("contrasts", {"f": "sum"})
    {'f': 'sum'}
    """
    given: Mapping[Any, Any] = instance(name, value, Mapping, what, error)
    for key in given:
        if not isinstance(key, str):
            raise error(f"{name} has the key {shown(key)}, of type {type(key).__name__}; it takes {what}.")
    return given


def labels(
    name: str, value: Any, known: Iterable[str] | None = None, error: Failure = ArgumentError
) -> tuple[str, ...]:
    """One label or several, each among those known (if given); a single text stands for itself.

    Examples
    --------
    >>> labels("parameters", "sigma"), labels("parameters", ["a", "b"], known=["a", "b", "c"])
    (('sigma',), ('a', 'b'))
    """
    if isinstance(value, str):
        found: tuple[Any, ...] = (value,)
    else:
        if not isinstance(value, Iterable) or isinstance(value, bytes | dict) or getattr(value, "ndim", 1) != 1:
            raise _refusal(name, value, "a label or a list of labels", error)
        try:
            found = tuple(value)
        except Exception:
            raise _refusal(name, value, "a label or a list of labels", error) from None
    odd = [item for item in found if not isinstance(item, str)]
    if odd:
        raise error(f"{name} holds {shown(odd[0])}, of type {type(odd[0]).__name__}; it takes labels, which are text.")
    if known is not None:
        options = list(known)
        for item in found:
            if item not in options:
                near = difflib.get_close_matches(item, options, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise error(f"{name} names {shown(item)}, which there is not. {hint}There are: {_shortened(options)}.")
    return tuple(map(str, found))


def numbers_of(
    name: str,
    value: Any,
    *,
    shape: tuple[int | None, ...] | None = None,
    finite: bool = True,
    error: Failure = ArgumentError,
) -> FloatArray:
    """Real numbers as an array of float64: no text, dates, complex numbers or answers, and no mask that would be lost.

    Parameters
    ----------
    name : str
    value : array-like
    shape : tuple, optional
        Required shape; None stands for any length.
    finite : bool
        Refuse NaN and infinity.
    error : type

    Examples
    --------
    >>> numbers_of("theta", [1, 2.5], shape=(None,))
    array([1. , 2.5])
    """
    asked = "a sequence of numbers" if shape is None else f"numbers in an array of shape {_shape(shape)}"
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise error(f"{name} is a masked array with masked entries, which would be used all the same. Fill them.")
    try:
        array = np.asarray(value)
        if array.dtype == object and array.ndim and all(_scalar(item) is not None for item in array.ravel()):
            array = array.astype(np.float64)
    except Exception as problem:
        raise _refusal(name, value, asked, error) from problem
    if array.dtype.kind not in _REAL_KINDS:
        raise _refusal(name, value, asked, error)
    if shape is not None and (
        array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True))
    ):
        raise error(f"{name} has the shape {array.shape}; it takes {asked}.")
    out = array.astype(np.float64)
    if finite and not np.isfinite(out).all():
        odd = out[~np.isfinite(out)]
        raise error(f"{name} holds {odd[0]} ({odd.size} of {out.size} values are not finite); it takes finite numbers.")
    return out


def _scalar(value: Any) -> Any:
    """The number that a value is, NumPy's of no dimension included; None where it is none."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in _REAL_KINDS:
        if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
            return None
        value = value[()]
    # A NumPy span of time is registered as a whole number.
    if isinstance(value, bool | np.bool_ | np.timedelta64) or not isinstance(value, numbers.Real):
        return None
    # Python's own, which compare with any number without overflow.
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_ | np.timedelta64)


def _same_text(value: Any, option: Any) -> bool:
    return isinstance(value, str) and isinstance(option, str) and str(value) == option


def _in_range(number: Any, least: float | None, most: float | None, above: float | None, below: float | None) -> bool:
    return (
        (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    )


def _range(
    least: float | None = None, most: float | None = None, above: float | None = None, below: float | None = None
) -> str:
    bounds = (("of at least", least), ("above", above), ("of at most", most), ("below", below))
    words = [
        f"{word} {bound:,}" if isinstance(bound, int) else f"{word} {bound:g}"
        for word, bound in bounds
        if bound is not None
    ]
    return f" {' and '.join(words)}" if words else ""


def _refusal(name: str, value: Any, asked: str, error: Failure) -> BayesLMMError:
    return error(f"{name}={shown(value)} is not {asked}.")


def _listed(words: Sequence[str], others: str) -> str:
    every = [*words, others] if others else list(words)
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} or {every[-1]}"


def _shortened(options: Sequence[str], most: int = 12) -> str:
    first = ", ".join(map(repr, options[:most]))
    return first if len(options) <= most else f"{first} and {len(options) - most} more"


def _shape(shape: tuple[int | None, ...]) -> str:
    inner = ", ".join("any" if n is None else str(n) for n in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
