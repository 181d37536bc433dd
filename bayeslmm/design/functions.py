"""The functions and values that a formula may name: a closed list, besides what ``extra_namespace`` passes.

A formula can come from a file or from another person, so nothing is reached through a module: ``np.name`` is looked up
here, one level deep, and only what computes a value per row (or a summary of a column) is found.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayeslmm.design import elsewhere, transforms
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, FloatArray, IntArray

_MOST_DIGITS = 300

type Kind = Literal["element", "condition", "summary", "transform", "factor", "own"]


@dataclass(frozen=True)
class Function:
    """A function that a formula may call.

    Attributes
    ----------
    kind : str
        ``"element"``: a value per row from those of the row, ``"condition"`` if it is true or false. ``"summary"``:
        one number from a column, and ``"transform"``: a function of rows made from a column, both kept for new rows.
        ``"factor"``: levels.
        ``"own"``: passed by the user.
    call : callable
    most : int
        Largest number of arguments without names.
    keywords : mapping of str to str
        Names that arguments may have in a formula, and have in `call`.
    """

    kind: Kind
    call: Callable[..., Any]
    most: int
    keywords: Mapping[str, str]
    least: int = 1


def _log(x: AnyArray, base: Any = None) -> AnyArray:
    return np.asarray(np.log(x) if base is None else np.log(x) / np.log(base))


def _round(x: AnyArray, digits: Any = 0) -> AnyArray:
    if not isinstance(digits, int | float) or not float(digits).is_integer() or abs(digits) > _MOST_DIGITS:
        raise DesignError(f"The digits of round() are a whole number up to {_MOST_DIGITS}, not {digits!r}.")
    return np.asarray(np.round(x, int(digits)))


def _clip(x: AnyArray, low: Any, high: Any) -> AnyArray:
    return np.asarray(np.clip(x, low, high))


def _where(condition: AnyArray, yes: Any, no: Any) -> AnyArray:
    return np.asarray(np.where(condition, yes, no))


def _interp(x: AnyArray, at: Any, values: Any) -> AnyArray:
    places, heights = np.asarray(at, dtype=float), np.asarray(values, dtype=float)
    if places.ndim != 1 or places.shape != heights.shape or not (np.diff(places) > 0).all():
        raise DesignError(f"np.interp() needs ascending places and as many values, not {at!r} and {values!r}.")
    return np.asarray(np.interp(x, places, heights))


def _sd(x: FloatArray, counts: IntArray | None) -> float:
    return float(np.sqrt(transforms.variance(x, counts)))


def _np_var(x: FloatArray, counts: IntArray | None, ddof: Any = 0) -> float:
    return transforms.variance(x, counts, int(ddof))


def _np_std(x: FloatArray, counts: IntArray | None, ddof: Any = 0) -> float:
    return float(np.sqrt(_np_var(x, counts, ddof)))


def _median(x: FloatArray, counts: IntArray | None) -> float:
    return float(transforms.quantiles(x, [0.5], counts)[0])


def _quantile(x: FloatArray, counts: IntArray | None, at: Any) -> float:
    if not isinstance(at, int | float) or not 0 <= at <= 1:
        raise DesignError(f"quantile() takes one probability between 0 and 1, not {at!r}.")
    return float(transforms.quantiles(x, [at], counts)[0])


def _percentile(x: FloatArray, counts: IntArray | None, at: Any) -> float:
    return _quantile(x, counts, at / 100 if isinstance(at, int | float) else at)


def _minimum(x: FloatArray, counts: IntArray | None) -> float:
    return float(x.min())


def _maximum(x: FloatArray, counts: IntArray | None) -> float:
    return float(x.max())


def _total(x: FloatArray, counts: IntArray | None) -> float:
    return float((x if counts is None else x * counts).sum())


def _element(call: Callable[..., Any], most: int = 1, least: int | None = None, **keywords: str) -> Function:
    return Function("element", call, most, keywords, most if least is None else least)


def _summary(call: Callable[..., Any], most: int = 1, **keywords: str) -> Function:
    return Function("summary", call, most, keywords, 1)


def _transform(call: Callable[..., Any], *names: str, **keywords: str) -> Function:
    return Function("transform", call, 1 + len(names), {**{name: name for name in names}, **keywords}, 1)


def _factor(*names: str, least: int = 1, most: int | None = None) -> Function:
    most = len(names) + 1 if most is None else most
    return Function("factor", _not_called, most, {name: name for name in names}, least)


def _not_called(*_: Any) -> Any:
    raise NotImplementedError


_UNARY = (
    *("log2", "log10", "log1p", "exp", "expm1", "sqrt", "cbrt", "square", "abs", "sign", "floor", "ceil", "trunc"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
)
_R_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "ceiling": "ceil"}
_SPLINE = {"Boundary.knots": "boundary", "boundary_knots": "boundary"}

FUNCTIONS: dict[str, Function] = {
    **{name: _element(getattr(np, name)) for name in _UNARY},
    **{name: _element(getattr(np, other)) for name, other in _R_NAMES.items()},
    "log": _element(_log, 2, 1, base="base"),
    "round": _element(_round, 2, 1, digits="digits", decimals="digits"),
    "pmin": _element(np.minimum, 2),
    "pmax": _element(np.maximum, 2),
    "ifelse": _element(_where, 3),
    "where": _element(_where, 3),
    "I": _element(np.asarray),
    "mean": _summary(transforms.mean),
    "sd": _summary(_sd),
    "var": _summary(transforms.variance),
    "median": _summary(_median),
    "min": _summary(_minimum),
    "max": _summary(_maximum),
    "sum": _summary(_total),
    "quantile": _summary(_quantile, 2),
    "center": _transform(transforms.centred),
    "scale": _transform(transforms.scaled, "center", "scale"),
    "standardize": _transform(transforms.standardized),
    "poly": _transform(transforms.polynomial, "degree", "raw"),
    "bs": _transform(transforms.b_splines, "df", "knots", "degree", "intercept", **_SPLINE),
    "ns": _transform(transforms.natural_splines, "df", "knots", "intercept", **_SPLINE),
    "factor": _factor("levels"),
    "as.factor": _factor("levels"),
    "ordered": _factor("levels"),
    "as.ordered": _factor("levels"),
    "C": _factor("contrast", "levels"),
    "S": _factor("omit", "levels"),
    "T": _factor("ref", "levels"),
    "relevel": _factor("ref"),
    "binary": _factor("success"),
    "B": _factor("success"),
    "dummy": _factor("levels"),
    "fulldummy": _factor(),
    "Treatment": _factor("reference", least=0, most=1),
    "Sum": _factor("omit", least=0, most=1),
    **{name: _factor(least=0, most=0) for name in ("Poly", "Helmert", "Diff")},
    "c": _factor(least=0, most=1000),
}
_NUMPY: dict[str, Function] = {
    "round": FUNCTIONS["round"],
    "around": FUNCTIONS["round"],
    "where": _element(_where, 3),
    "clip": _element(_clip, 3, 3, min="low", max="high", a_min="low", a_max="high"),
    "interp": _element(_interp, 3),
    "mean": FUNCTIONS["mean"],
    "median": FUNCTIONS["median"],
    "var": _summary(_np_var, 1, ddof="ddof"),
    "std": _summary(_np_std, 1, ddof="ddof"),
    "quantile": _summary(_quantile, 2, q="at"),
    "percentile": _summary(_percentile, 2, q="at"),
    **dict.fromkeys(("min", "amin"), FUNCTIONS["min"]),
    **dict.fromkeys(("max", "amax"), FUNCTIONS["max"]),
    "sum": FUNCTIONS["sum"],
}
CODINGS: dict[str, str] = {
    "Treatment": "treatment",
    "Poly": "poly",
    "Helmert": "helmert",
    "Diff": "diff",
    "contr.treatment": "treatment",
    "contr.sum": "sum",
    "contr.helmert": "helmert",
    "contr.poly": "poly",
    "contr.sdif": "diff",
    "contr.SAS": "SAS",
}
# Names that R's C() takes for codings where they stand alone as its argument, and that are columns elsewhere.
ARGUMENT_CODINGS = ("treatment", "sum", "helmert", "poly", "SAS")
VALUES: dict[str, float] = {
    "pi": np.pi,
    **{f"np.{name}": getattr(np, name) for name in ("pi", "e", "inf", "nan", "euler_gamma")},
}
SHOWN = (
    "log, exp, sqrt, abs, sin, cos, tan, round, ifelse, pmin, pmax, mean, sd, median, I, poly, scale, center, "
    "standardize, bs, ns, factor, ordered, C, S, T, relevel, binary, dummy"
)


def find_function(name: str, namespace: Mapping[str, Any]) -> Function:
    """What a formula means by the name of a function.

    Parameters
    ----------
    name : str
        As written, e.g. ``"log"`` or ``"np.log1p"``.
    namespace : mapping
        The user's own functions and values, which come first.

    Raises
    ------
    DesignError
        No such function: it says which there are.

    Examples
    --------
    >>> find_function("np.log1p", {}).kind, find_function("scale", {}).kind
    ('element', 'transform')
    """
    if name in namespace:
        return _own_function(name, namespace[name])
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    module, dot, short = name.partition(".")
    if dot and module in namespace:
        raise DesignError(
            f"{name!r} reaches into {module!r} of extra_namespace, which formulas cannot do. Pass the function itself: "
            f"extra_namespace={{'{short.rpartition('.')[2]}': {name}}}, and call it by that name."
        )
    found = _numpy_function(short) if module == "np" and dot else None
    if found is None:
        raise DesignError(_unknown(name))
    return found


def _own_function(name: str, value: Any) -> Function:
    if not callable(value):
        raise DesignError(f"{name!r} of extra_namespace is called like a function, but it is {type(value).__name__}.")
    return _universal(value) or Function("own", value, 1000, {}, 0)


def _numpy_function(name: str) -> Function | None:
    if name in _NUMPY:
        return _NUMPY[name]
    return _universal(np.__dict__.get(name))


def _universal(found: Any) -> Function | None:
    """A universal function of NumPy's kind; one more argument would be where it writes its result."""
    if not isinstance(found, np.ufunc) or found.signature is not None or found.nout != 1:
        return None
    kind: Kind = "condition" if found.types and found.types[-1].endswith("?") else "element"
    return Function(kind, found, found.nin, {}, found.nin)


def _unknown(name: str) -> str:
    if name in elsewhere.FUNCTIONS:
        return f"{name!r} is no known function.{elsewhere.elsewhere(name, elsewhere.FUNCTIONS)}"
    short = name.removeprefix("np.")
    near = difflib.get_close_matches(name, [*FUNCTIONS, *(f"np.{known}" for known in _NUMPY)], n=1, cutoff=0.75)
    hint = f" Did you mean {near[0]}?" if near else ""
    if name.startswith("np.") and "." not in short and short in dir(np):
        return (
            f"{name!r} is not among the functions that formulas may use: NumPy's are those that give a value per row "
            "(universal functions such as np.log1p) and means, medians, quantiles. For anything else make the column "
            f"beforehand, or pass extra_namespace={{'{short}': {name}}} and write {short}(...)."
        )
    return (
        f"{name!r} is no known function.{hint} Known are {SHOWN}, NumPy's functions of one value per row as np.name, "
        "and what extra_namespace passes."
    )


def is_value(name: str, namespace: Mapping[str, Any]) -> bool:
    """Whether a name that is no column means a value of a formula."""
    return name in VALUES or name in CODINGS or name == "Sum" or name in namespace
