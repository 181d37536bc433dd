"""Transformations of the response that stand in the formula, and the way back to its own units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bayeslmm.design.design import Design
from bayeslmm.design.expressions import Call, Chain, Name, Node, Number, Raised, parse_expression
from bayeslmm.errors import FormulaError
from bayeslmm.types import FloatArray

type Curve = Callable[[FloatArray], FloatArray]

# Nodes of Gauss and Hermite's rule for means over normal errors that have no closed form.
_NODES = 60


@dataclass(frozen=True)
class Link:
    """A transformation of a response and its inverse.

    Attributes
    ----------
    name : str
        E.g. ``"log"``.
    response : str
        What is transformed, as written.
    derivatives : tuple of four callables
        The inverse and its first three derivatives.
    ratio : str
        What a difference on the transformed scale is on that of the response (``"ratio"``, ``"odds ratio"``); empty if
        it is nothing simple.
    exponent : float
        Of a ratio: the derivative of its logarithm.
    slope, shift : float
        What is transformed is ``slope * y + shift``, with y the response that is given back.
    """

    name: str
    response: str
    derivatives: tuple[Curve, Curve, Curve, Curve]
    ratio: str = ""
    exponent: float = 1.0
    slope: float = 1.0
    shift: float = 0.0

    def inverse(self, eta: FloatArray, variance: float = 0.0) -> FloatArray:
        """The response at eta; with a variance the second-order mean over errors of that variance."""
        value, _, second, _ = self.derivatives
        with np.errstate(over="ignore", invalid="ignore"):
            bent = 0.5 * variance * second(eta) if variance else 0.0
            return np.asarray((value(eta) + bent - self.shift) / self.slope)

    def derivative(self, eta: FloatArray, variance: float = 0.0) -> FloatArray:
        """Derivative of `inverse`."""
        _, first, _, third = self.derivatives
        with np.errstate(over="ignore", invalid="ignore"):
            bent = 0.5 * variance * third(eta) if variance else 0.0
            return np.asarray((first(eta) + bent) / self.slope)

    def mean(self, eta: FloatArray, variance: FloatArray) -> FloatArray:
        """Mean of the response over normal errors of some variances (S,) about eta (S, m), by quadrature."""
        x, w = np.polynomial.hermite_e.hermegauss(_NODES)
        w = w / w.sum()
        spread = np.sqrt(variance)[:, None]
        return np.asarray(sum(b * self.inverse(eta + a * spread) for a, b in zip(x, w, strict=True)))


def response_link(design: Design) -> Link | None:
    """The transformation of the response of a design; None if there is none that is known.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> link = response_link(bl.Model("log(Reaction) ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design)
    >>> link.name, link.response, float(link.inverse(np.log(250.0)).round(6))
    ('log', 'Reaction', 250.0)
    """
    try:
        return _link(parse_expression(design.response))
    except FormulaError:
        return None


def _link(node: Node) -> Link | None:
    if isinstance(node, Call) and node.function.removeprefix("np.") == "I" and len(node.arguments) == 1:
        return _link(node.arguments[0])
    if isinstance(node, Raised) and isinstance(node.exponent, Number) and node.exponent.value > 0:
        return _known(f"power {node.exponent.value:g}", node.base, _power(1.0 / node.exponent.value))
    if not isinstance(node, Call) or not node.arguments:
        return None
    name, inner = node.function.removeprefix("np."), node.arguments[0]
    if name == "log":
        return _logarithm(node)
    if name in _BASES:
        return _known(name, inner, _exponential(_BASES[name]), "ratio", _BASES[name])
    if name in _CURVES and len(node.arguments) == 1:
        return _known(name, inner, _CURVES[name], "odds ratio" if name == "logit" else "")
    return None


def _logarithm(node: Call) -> Link | None:
    inner, rest = node.arguments[0], [*node.arguments[1:], *(value for _, value in node.keywords)]
    if rest:
        base = rest[0].value if isinstance(rest[0], Number) and len(rest) == 1 else 0.0
        if base <= 1:
            return None
        return _known(f"log{base:g}", inner, _exponential(float(np.log(base))), "ratio", float(np.log(base)))
    if (odds := _odds(inner)) is not None:
        return _known("logit", odds, _CURVES["logit"], "odds ratio")
    return _known("log", inner, _exponential(1.0), "ratio")


def _odds(node: Node) -> Node | None:
    """Y of ``y / (1 - y)``."""
    if not isinstance(node, Chain) or len(node.rest) != 1:
        return None
    return node.first if node.rest[0] == ("/", Chain(Number(1), (("-", node.first),))) else None


def _known(
    name: str, inner: Node, curves: tuple[Curve, Curve, Curve, Curve], ratio: str = "", exponent: float = 1.0
) -> Link | None:
    found = _affine(inner)
    if found is None:
        return None
    column, slope, shift = found
    # A ratio of y + 1 is none of y.
    return Link(name, column, curves, "" if shift and ratio == "ratio" else ratio, exponent, slope, shift)


def _affine(node: Node) -> tuple[str, float, float] | None:
    """Column, slope and shift of a multiple of a column plus a number."""
    if isinstance(node, Name):
        return node.name, 1.0, 0.0
    if not isinstance(node, Chain) or len(node.rest) != 1:
        return None
    (sign, other), first = node.rest[0], node.first
    if isinstance(first, Number) and sign in ("+", "*"):
        first, other = other, first
    inner = _affine(first)
    if inner is None or not isinstance(other, Number):
        return None
    column, slope, shift = inner
    value = float(other.value)
    if sign in ("+", "-"):
        return column, slope, shift + value if sign == "+" else shift - value
    if sign in ("*", "/") and value > 0:
        factor = value if sign == "*" else 1.0 / value
        return column, slope * factor, shift * factor
    return None


def _exponential(rate: float) -> tuple[Curve, Curve, Curve, Curve]:
    return tuple((lambda x, k=k: rate**k * np.exp(rate * x)) for k in range(4))  # type: ignore[return-value]


def _power(exponent: float) -> tuple[Curve, Curve, Curve, Curve]:
    def derivative(k: int) -> Curve:
        factor = float(np.prod([exponent - j for j in range(k)]))
        return lambda x: factor * np.power(x, exponent - k) if factor else np.zeros_like(x)

    return derivative(0), derivative(1), derivative(2), derivative(3)


def _expit(k: int) -> Curve:
    def curve(x: FloatArray) -> FloatArray:
        p = expit(x)
        q = p * (1.0 - p)
        return np.asarray((p, q, q * (1.0 - 2.0 * p), q * (1.0 - 6.0 * q))[k])

    return curve


_BASES = {"log10": float(np.log(10.0)), "log2": float(np.log(2.0))}
_CURVES: dict[str, tuple[Curve, Curve, Curve, Curve]] = {
    "log1p": (np.expm1, np.exp, np.exp, np.exp),
    "sqrt": _power(2.0),
    "cbrt": _power(3.0),
    "logit": (_expit(0), _expit(1), _expit(2), _expit(3)),
}
