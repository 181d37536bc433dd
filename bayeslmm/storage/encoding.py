"""Values to JSON and arrays and back, types kept; nothing that is read can run code.

JSON has no tuples, no infinite numbers, no dates and no classes, so these become objects with a tag under
``"#"``. Arrays of numbers are set aside under a key. Of classes, only those of a closed table are written and read:
plain data of designs, optima, priors and certificates, whose fields are checked against their annotations.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.row_arrays import RowArray
from bayeslmm.design.rows_elsewhere import NoRows, known_elsewhere
from bayeslmm.design.stored import with_residual
from bayeslmm.errors import StorageError
from bayeslmm.residual import KnownVariances
from bayeslmm.storage.conforming import check_fields
from bayeslmm.types import AnyArray

_TAG = "#"


class VersionError(StorageError):
    """A class or field that this version does not have, so that another version can read the file."""


_PLAIN = (str, int, bool, type(None))
_NUMERIC = "biufcMmUS"
# What files hold: module to its classes. A name that is not here is never looked up.
CLASSES: dict[str, tuple[str, ...]] = {
    "bayeslmm.design.contrasts": ("Treatment",),
    "bayeslmm.design.covariance.autoregressive": ("AR1", "HeterogeneousAR1"),
    "bayeslmm.design.covariance.compound": ("CompoundSymmetry", "HeterogeneousCompoundSymmetry"),
    "bayeslmm.design.covariance.entries": ("Diagonal", "Unstructured"),
    "bayeslmm.design.covariance.products": ("Identity",),
    "bayeslmm.design.covariance.toeplitz": ("Toeplitz",),
    "bayeslmm.design.design": ("Design", "Notes", "RandomTerm"),
    "bayeslmm.design.grouping": ("Grouping",),
    "bayeslmm.design.dropped": ("AllRows", "DroppedRows"),
    "bayeslmm.design.row_facts": ("RowFacts",),
    "bayeslmm.likelihood.chain_sums": ("ChainRows",),
    "bayeslmm.likelihood.columns": ("Basis", "Response"),
    "bayeslmm.likelihood.frame": ("Block", "Frame"),
    "bayeslmm.likelihood.hierarchy": ("Hierarchy",),
    "bayeslmm.likelihood.kernels": ("Cells",),
    "bayeslmm.likelihood.levels": ("Levels",),
    "bayeslmm.likelihood.structure": ("Elimination",),
    "bayeslmm.design.recipe": ("Column", "NamedContrasts", "Recipe"),
    "bayeslmm.design.reference": ("Covariate", "ReferenceData"),
    "bayeslmm.numerics.newton": ("Step",),
    "bayeslmm.likelihood.normal_prior": ("NormalPrior",),
    "bayeslmm.residual.known": ("KnownVariances",),
    "bayeslmm.residual.correlation": (
        "ContinuousSerialCorrelation",
        "CorrelationByArm",
        "DistanceCorrelation",
        "EqualCorrelation",
        "MovingAverageCorrelation",
        "SerialCorrelation",
    ),
    "bayeslmm.residual.spread": ("ConstantPlusPower", "ExponentialSpread", "PowerSpread", "SpreadByLevel"),
    "bayeslmm.residual.structured": ("CorrelatedRows", "Spreads", "UnequalVariances"),
    "bayeslmm.residual.variance": ("Homoscedastic", "PrecisionWeights"),
    "bayeslmm.residual.laws": ("NormalLaw", "SphereLaw", "UniformLaw"),
    "bayeslmm.residual.visits": ("AntedependentCorrelation", "BandedCorrelation", "FreeCorrelation"),
    "bayeslmm.design.distinct": ("Ridge",),
    "bayeslmm.reml.optimum": ("Vanished",),
    "bayeslmm.reml.penalty": ("Penalty",),
    "bayeslmm.reml.status": ("FitStatus",),
    "bayeslmm.bayes.at_means": ("AtMeans",),
    "bayeslmm.bayes.coefficient_priors": ("StudentT",),
    "bayeslmm.bayes.collapsed": ("ChainDiagnostics", "Diagnostics"),
    "bayeslmm.bayes.known_sd": ("KnownSd",),
    "bayeslmm.bayes.moments": ("ExactMoments",),
    "bayeslmm.bayes.prior_families": (
        "Exponential",
        "Flat",
        "Gamma",
        "HalfNormal",
        "HalfT",
        "InverseGammaVariance",
        "Power",
        "Uniform",
    ),
    "bayeslmm.bayes.priors": ("Priors",),
    "bayeslmm.bayes.self_check": ("SelfCheck",),
    "bayeslmm.bayes.term_priors": ("Chi", "Decov", "DecovMarginal", "FlatFactor", "Relative", "Wishart"),
}
_HOMES = {name: module for module, names in CLASSES.items() for name in names}
# Of types of numbers in text: one number, boolean or time, none with a size or parts of its own choice.
_SCALAR = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[mM]8(\[\d{0,4}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)")
# Names of time zones in pandas may be paths of files ("dateutil//...").
_ZONE = re.compile(r"(?!dateutil)[A-Za-z][A-Za-z0-9_+-]*(:?[A-Za-z0-9_+-]+|/[A-Za-z0-9_+-]+)*")


class Encoder:
    """Values to what JSON can hold; arrays are collected in `arrays`.

    Kept with their types: None, booleans, integers, floats, strings, tuples, lists, dictionaries, slices, arrays and
    scalars of NumPy, dates, times, time stamps, periods, intervals, decimals, and bayeslmm's own dataclasses. Anything
    else is refused, subclasses of these included.

    Examples
    --------
    >>> Encoder().encode({"a": (1, 2.5)})
    {'#': 'dict', 'items': [['a', {'#': 'tuple', 'items': [1, 2.5]}]]}
    """

    def __init__(self) -> None:
        self.arrays: dict[str, AnyArray] = {}
        self._known: dict[int, str] = {}

    def encode(self, value: Any, where: str = "value") -> Any:
        """A value as JSON.

        Parameters
        ----------
        where : str
            Its name in error messages.

        Raises
        ------
        StorageError
            It has a type that cannot be kept.
        """
        if type(value) in _PLAIN:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, RowArray):
            return {_TAG: "rows", "shape": list(value.shape), "dtype": value.dtype.str}
        if type(value) in (tuple, list):
            return {_TAG: type(value).__name__, "items": self._all(value, where)}
        if type(value) is dict:
            items = [[self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()]
            return {_TAG: "dict", "items": items}
        if isinstance(value, Enum):
            return {_TAG: "enum", "class": _path(value, where), "name": value.name}
        if is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, where)
        return _label(value, where, self.encode)

    def _all(self, values: Iterable[Any], where: str) -> list[Any]:
        return [v if type(v) in _PLAIN else self.encode(v, f"{where}[{i}]") for i, v in enumerate(values)]

    def _array(self, array: AnyArray, where: str) -> dict[str, Any]:
        if array.dtype == object:
            return {_TAG: "objects", "shape": list(array.shape), "items": self._all(array.ravel().tolist(), where)}
        if array.dtype.kind not in _NUMERIC:
            raise StorageError(f"{where} is an array of {array.dtype}, which cannot be saved.")
        if id(array) not in self._known:
            key = f"array{len(self.arrays)}"
            # Held in `arrays`, so that its id stays its own.
            self._known[id(array)], self.arrays[key] = key, array
        return {_TAG: "array", "key": self._known[id(array)]}

    def _dataclass(self, value: Any, where: str) -> dict[str, Any]:
        content = {f.name: self.encode(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value) if f.init}
        return {_TAG: "object", "class": _path(value, where), "fields": content}


def _path(value: Any, where: str) -> str:
    kind = type(value)
    if kind.__qualname__ not in CLASSES.get(kind.__module__, ()):
        raise StorageError(f"{where} is a {kind.__module__}.{kind.__qualname__}, which cannot be saved.")
    return kind.__name__


def _label(value: Any, where: str, encode: Callable[[Any], Any]) -> dict[str, Any]:
    """Scalars, times and other labels of rows."""
    out = _scalar(value, encode)
    # Time zones of other libraries, subclasses and such would come back as something else.
    if out is None or not _same(Decoder({}).decode(out), value):
        shown = repr(value)
        raise StorageError(
            f"{where} is {shown[:60]} of type {type(value).__module__}.{type(value).__qualname__}, which cannot be "
            "saved without pickle. If it labels a row, give the data other row labels first (data.reset_index(), or "
            "data.index = data.index.astype(str)) and fit again."
        )
    return out


def _scalar(value: Any, encode: Callable[[Any], Any]) -> dict[str, Any] | None:
    out: dict[str, Any] | None = None
    if value is pd.NaT or value is pd.NA:
        out = {_TAG: "missing", "name": "NaT" if value is pd.NaT else "NA"}
    elif isinstance(value, np.datetime64 | np.timedelta64):
        out = {_TAG: "scalar", "dtype": value.dtype.str, "value": int(value.view(np.int64))}
    elif isinstance(value, np.bool | np.integer | np.float16 | np.float32 | np.float64 | np.str_):
        out = {_TAG: "scalar", "dtype": value.dtype.str, "value": encode(value.item())}
    elif isinstance(value, pd.Timestamp):
        out = {_TAG: "Timestamp", "value": int(value.asm8.view(np.int64)), "unit": value.unit}
        out["tz"] = None if value.tz is None else str(value.tz)
    elif isinstance(value, pd.Timedelta):
        out = {_TAG: "Timedelta", "value": int(value.asm8.view(np.int64)), "unit": value.unit}
    elif isinstance(value, pd.Period):
        out = {_TAG: "Period", "value": value.ordinal, "freq": value.freqstr}
    elif isinstance(value, pd.Interval):
        out = {_TAG: "Interval", "ends": [encode(value.left), encode(value.right)], "closed": value.closed}
    elif type(value) in _ISO:
        out = {_TAG: type(value).__name__, "value": value.isoformat()}
    elif type(value) is decimal.Decimal:
        out = {_TAG: "Decimal", "value": str(value)}
    elif type(value) is slice:
        out = {_TAG: "slice", "parts": [encode(v) for v in (value.start, value.stop, value.step)]}
    return out


_ISO: dict[Any, Any] = {dt.datetime: dt.datetime, dt.date: dt.date, dt.time: dt.time}


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    zones = str(getattr(a, "tzinfo", None)) == str(getattr(b, "tzinfo", None))
    return zones and (a is b or bool(a == b) or bool(a != a and b != b))


class Decoder:
    """JSON and arrays back to values.

    Parameters
    ----------
    arrays : mapping of str to array

    Examples
    --------
    >>> Decoder({}).decode({"#": "tuple", "items": [1, 2.5]})
    (1, 2.5)
    """

    def __init__(self, arrays: Mapping[str, AnyArray]) -> None:
        self._arrays = arrays
        self._makers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "float": lambda d: float(d["value"]),
            "array": lambda d: self._arrays[d["key"]],
            "objects": self._objects,
            "rows": _rows_elsewhere,
            "tuple": lambda d: tuple(self._all(d["items"])),
            "list": lambda d: self._all(d["items"]),
            "dict": lambda d: {self.decode(k): self.decode(v) for k, v in d["items"]},
            "enum": lambda d: _class(d["class"], Enum)[d["name"]],
            "object": self._object,
            "slice": lambda d: slice(*self._all(d["parts"])),
            "missing": lambda d: {"NaT": pd.NaT, "NA": pd.NA}[d["name"]],
            "scalar": self._numpy_scalar,
            "Timestamp": _timestamp,
            "Timedelta": lambda d: pd.Timedelta(np.timedelta64(d["value"], d["unit"])),
            "Period": lambda d: pd.Period(ordinal=d["value"], freq=d["freq"]),
            "Interval": lambda d: pd.Interval(self.decode(d["ends"][0]), self.decode(d["ends"][1]), d["closed"]),
            "Decimal": lambda d: decimal.Decimal(d["value"]),
            **{kind.__name__: lambda d, kind=kind: kind.fromisoformat(d["value"]) for kind in _ISO},  # type: ignore[misc]
        }

    def decode(self, value: Any) -> Any:
        """The value that `Encoder.encode` was given.

        Raises
        ------
        VersionError
            It names a class or field that this version does not have.
        KeyError, TypeError, ValueError
            It was not written by `Encoder`.
        """
        return self._makers[value[_TAG]](value) if isinstance(value, dict) else value

    def _all(self, values: list[Any]) -> list[Any]:
        return [self.decode(v) if type(v) is dict else v for v in values]

    def _objects(self, d: dict[str, Any]) -> AnyArray:
        out = np.empty(len(d["items"]), dtype=object)
        # Item by item: assigning a list of tuples at once would make a matrix of it.
        for i, item in enumerate(self._all(d["items"])):
            out[i] = item
        return out.reshape(d["shape"])

    def _numpy_scalar(self, d: dict[str, Any]) -> Any:
        if re.fullmatch(r"[<>=|]?U\d+", d["dtype"]):
            # As long as the text is, whatever the type says.
            return np.str_(self.decode(d["value"]))
        if not _SCALAR.fullmatch(d["dtype"]):
            raise ValueError(f"{d['dtype']!r} is no type of a number")
        dtype = np.dtype(d["dtype"])
        if dtype.kind in "mM":
            return np.array(d["value"], dtype=np.int64).view(dtype)[()]
        return np.array(self.decode(d["value"]), dtype=dtype)[()]

    def _object(self, d: dict[str, Any]) -> Any:
        kind = _class(d["class"], object)
        known = {f.name: f for f in fields(kind) if f.init}
        content = _as_now(kind, {name: self.decode(value) for name, value in d["fields"].items()})
        required = {n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
        odd = sorted((set(content) - set(known)) | (required - set(content)))
        if odd:
            raise VersionError(
                f"The file and this version of bayeslmm do not agree on the fields of {kind.__name__} "
                f"({', '.join(odd)})."
            )
        check_fields(kind, content)
        made = kind(**content)
        return known_elsewhere(made) if kind is KnownVariances and isinstance(made.sd, RowArray) else made


def _as_now(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    """Fields of a class as they are now, from those that earlier versions wrote."""
    return with_residual(content) if kind is Design else content


def _rows_elsewhere(d: dict[str, Any]) -> RowArray:
    if not _SCALAR.fullmatch(d["dtype"]) and d["dtype"] != "|O":
        raise ValueError(f"{d['dtype']!r} is no type of a number")
    shape = tuple(int(k) for k in d["shape"])
    return RowArray(shape, d["dtype"], NoRows("it was read from a file, which does not have them"))


def _timestamp(d: dict[str, Any]) -> pd.Timestamp:
    stamp = pd.Timestamp(np.datetime64(d["value"], d["unit"]))
    if d["tz"] is None:
        return stamp
    if not _ZONE.fullmatch(d["tz"]):
        raise ValueError(f"{d['tz']!r} is no name of a time zone")
    return stamp.tz_localize("UTC").tz_convert(d["tz"])


def _class(path: str, base: type) -> Any:
    # Files of earlier versions name the module too; where a class is defined is no part of the format.
    module, _, name = path.rpartition(":")
    known = name in _HOMES and (not module or module.startswith("bayeslmm."))
    kind = getattr(import_module(_HOMES[name]), name, None) if known else None
    if not isinstance(kind, type) or not issubclass(kind, base):
        raise VersionError(f"The file holds a {path!r}, which this version of bayeslmm does not know.")
    return kind
