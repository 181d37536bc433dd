"""Values of the parameters as users state them: fixed effects, standard deviations and correlations by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import labels, numbers_of, real, shown
from bayeslmm.design.design import Design
from bayeslmm.design.lookup import positions
from bayeslmm.design.magnitude import LARGEST
from bayeslmm.errors import DesignError
from bayeslmm.reml.fixed import resolve_fixed
from bayeslmm.results.intervals import check_range
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.residual_truth import check_residual_value

_KINDS = {"beta": "fixed", "sd": "sd", "corr": "corr", "residual": "residual"}
_SIGMA = ("sigma", "Residual")


def stated_values(
    design: Design,
    *,
    beta: Any = None,
    sd: Any = None,
    corr: Any = None,
    sigma: Any = None,
    theta: Any = None,
    residual: Any = None,
    called: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Values by the labels of a model, as `bayeslmm.results.truth.truth_of_values` takes them.

    Parameters
    ----------
    design : Design
    beta : mapping, Series or array, optional
        Coefficients by name, or all p of them.
    sd, corr : mapping, Series, array or number, optional
        By label, with or without ``sd_`` and ``corr_``; a grouping factor alone stands for its only one, or for all of
        them in a list. An array has all, in the order of the labels; a number is the only one.
    sigma : float, optional
    theta : array, optional
        All relative covariance parameters, in place of `sd` and `corr`.
    residual : mapping, Series, array or number, optional
        Parameters of the residual structure, with or without ``residual_``: ``{"rho": 0.5}``.
    called : mapping, optional
        What messages call an argument, where the user knows it by another name: ``{"beta": "effects"}``.

    Raises
    ------
    DesignError
        A name that the model does not have, a value that the parameter cannot have, a wrong number of values, one
        parameter twice.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    >>> stated_values(design, beta={"Days": 10}, sd={"Subject": [25, 6]}, sigma=25)
    {'Days': 10.0, 'sd_Subject[Intercept]': 25.0, 'sd_Subject[Days]': 6.0, 'sigma': 25.0}
    """
    given, names = {"beta": beta, "sd": sd, "corr": corr, "residual": residual}, called or {}
    pairs = [pair for key, value in given.items() for pair in _pairs(design, _KINDS[key], names.get(key, key), value)]
    if sigma is not None:
        pairs.append(("sigma", _value("sigma", sigma, "sigma")))
    found: dict[str, Any] = {}
    for label, value in pairs:
        if label in found:
            raise DesignError(f"{label} is given twice. Keep one of its names.")
        found[label] = value
    if theta is not None:
        if sd is not None or corr is not None:
            raise DesignError("theta has all relative covariances: give it, or sd and corr, but not both.")
        try:
            found["theta"] = resolve_fixed(design, {"theta": theta})
        except DesignError as error:
            raise DesignError(str(error).replace("fix['theta']", "theta")) from None
    _check_sizes(found)
    for p in parameters(design):
        if p.kind == "residual" and p.label in found:
            check_residual_value(design, p.position, p.label, found[p.label])
    return found


def _check_sizes(found: Mapping[str, Any]) -> None:
    """Refuse what has no square."""
    for label, value in found.items():
        sizes = np.abs(np.concatenate([np.empty(0), *value.values()]) if label == "theta" else np.array([value]))
        if sizes.size and sizes.max() > LARGEST:
            raise DesignError(f"{label} cannot be {sizes.max():g}: the squares of responses would be no numbers.")


def _pairs(design: Design, kind: str, argument: str, given: Any) -> Iterator[tuple[str, float]]:
    """Labels and values of one argument."""
    if given is None:
        return
    options = [p for p in parameters(design) if p.kind == kind]
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        yield from _all(argument, given, options, "the model")
        return
    for key, value in given.items():
        if kind == "sd" and isinstance(key, str) and key in _SIGMA and key not in design.groupings:
            yield "sigma", _value(f"{argument}[{key!r}]", value, "sigma")
            continue
        chosen = _named(argument, key, options)
        if isinstance(value, Mapping):
            nested = {f"{key}[{inner}]": one for inner, one in value.items()}
            yield from _pairs(design, kind, argument, nested)
        elif len(chosen) > 1 or (isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)):
            yield from _all(f"{argument}[{key!r}]", value, chosen, repr(key))
        else:
            yield chosen[0].label, _value(f"{argument}[{key!r}]", value, kind)


def _all(name: str, given: Any, options: list[Parameter], what: str) -> Iterator[tuple[str, float]]:
    """One value for every one of some parameters, in their order."""
    names = ", ".join(p.label for p in options)
    if not options:
        raise DesignError(f"{name}={shown(given)}, but {what} has no such parameter.")
    single = isinstance(given, int | float | np.number) and not isinstance(given, bool)
    values = numbers_of(name, [given] if single else given, error=DesignError)
    if values.shape != (len(options),):
        example = {_short(options[0]): float(values.flat[0]) if values.size else 1.0}
        raise DesignError(
            f"{name} has {values.size} value{'' if values.size == 1 else 's'}; {what} has {len(options)}: {names}. "
            f"Give one for each, or a mapping such as {example}."
        )
    for p, value in zip(options, values, strict=True):
        check_range(np.array([value]), p.kind, p.label)
        yield p.label, float(value)


def _named(argument: str, key: Any, options: list[Parameter]) -> list[Parameter]:
    """The parameters that a key means: one, or all of a grouping factor."""
    names = [p.label for p in options]
    short = [_short(p) for p in options]
    if not options:
        raise DesignError(f"{argument} names {shown(key)}, but the model has no such parameter.")
    if isinstance(key, str):
        found = positions(key, names) or positions(key, short)
        if found:
            return [options[found[0]]]
        own = [p for p in options if p.group == key or p.label == key]
        if own:
            return own
    groups = dict.fromkeys(p.group for p in options if p.group is not None and p.kind != "residual")
    labels(argument, [key], known=[*short, *groups], error=DesignError)
    raise DesignError(f"{argument} names {shown(key)}, which there is not.")


def _short(p: Parameter) -> str:
    return p.label.removeprefix(f"{p.kind}_") if p.kind in ("sd", "corr", "residual") else p.label


def _value(name: str, value: Any, kind: str) -> float:
    number = real(name, value, error=DesignError)
    check_range(np.array([number]), kind, name)
    return number
