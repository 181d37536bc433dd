"""Transformations of the response that stand in the formula, and the way back to its own units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from bayeslmm.design.design import Design
from bayeslmm.design.expressions import Call, Chain, Name, Node, Number, Raised, parse_expression
from bayeslmm.errors import FormulaError
from bayeslmm.types import FloatArray

type Curve = Literal["exp", "expm1", "power", "logit"]

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
    curve : {"exp", "expm1", "power", "logit"}
        Kind of the inverse.
    rate : float
        Of an exponential; exponent of a power.
    ratio : str
        What a difference on the transformed scale is on that of the response (``"ratio"``, ``"odds ratio"``); empty if
        it is nothing simple.
    slope, shift : float
        What is transformed is ``slope * y + shift``, with y the response that is given back.
    """

    name: str
    response: str
    curve: Curve
    rate: float = 1.0
    ratio: str = ""
    slope: float = 1.0
    shift: float = 0.0

    def inverse(self, eta: FloatArray, variance: float = 0.0) -> FloatArray:
        """The response at eta; with a variance the second-order mean over errors of that variance."""
        with np.errstate(over="ignore", invalid="ignore"):
            bent = 0.5 * variance * self._derivative(eta, 2) if variance else 0.0
            return np.asarray((self._derivative(eta, 0) + bent - self.shift) / self.slope)

    def derivative(self, eta: FloatArray, variance: float = 0.0) -> FloatArray:
        """Derivative of `inverse`."""
        with np.errstate(over="ignore", invalid="ignore"):
            bent = 0.5 * variance * self._derivative(eta, 3) if variance else 0.0
            return np.asarray((self._derivative(eta, 1) + bent) / self.slope)

    def ratios(self, differences: FloatArray) -> FloatArray:
        """Ratios, or odds ratios, that differences on the transformed scale are."""
        with np.errstate(over="ignore"):
            return np.exp(self.rate * differences)

    def _derivative(self, x: FloatArray, order: int) -> FloatArray:
        """Derivatives of the inverse from the zeroth to the third."""
        if self.curve == "expm1":
            return np.asarray(np.exp(x) if order else np.expm1(x))
        if self.curve == "exp":
            return np.asarray(self.rate**order * np.exp(self.rate * x))
        if self.curve == "power":
            factor = float(np.prod([self.rate - j for j in range(order)]))
            return np.asarray(factor * np.power(x, self.rate - order) if factor else np.zeros_like(x))
        p = expit(x)
        q = p * (1.0 - p)
        return np.asarray((p, q, q * (1.0 - 2.0 * p), q * (1.0 - 6.0 * q))[order])

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
        return _known(f"power {node.exponent.value:g}", node.base, "power", 1.0 / node.exponent.value)
    if not isinstance(node, Call) or not node.arguments:
        return None
    name, inner = node.function.removeprefix("np."), node.arguments[0]
    if name == "log":
        return _logarithm(node)
    if name in _CURVES and len(node.arguments) == 1:
        return _known(name, inner, *_CURVES[name])
    return None


def _logarithm(node: Call) -> Link | None:
    inner, rest = node.arguments[0], [*node.arguments[1:], *(value for _, value in node.keywords)]
    if rest:
        base = float(rest[0].value) if isinstance(rest[0], Number) and len(rest) == 1 else 0.0
        return None if base <= 1 else _known(f"log{base:g}", inner, "exp", float(np.log(base)), "ratio")
    if (odds := _odds(inner)) is not None:
        return _known("logit", odds, *_CURVES["logit"])
    return _known("log", inner, "exp", 1.0, "ratio")


def _odds(node: Node) -> Node | None:
    """Y of ``y / (1 - y)``."""
    if not isinstance(node, Chain) or len(node.rest) != 1:
        return None
    return node.first if node.rest[0] == ("/", Chain(Number(1), (("-", node.first),))) else None


def _known(name: str, inner: Node, curve: Curve, rate: float, ratio: str = "") -> Link | None:
    found = _affine(inner)
    if found is None:
        return None
    column, slope, shift = found
    # A ratio of y + 1 is none of y.
    return Link(name, column, curve, rate, "" if shift and ratio == "ratio" else ratio, slope, shift)


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


_CURVES: dict[str, tuple[Curve, float, str]] = {
    "log2": ("exp", float(np.log(2.0)), "ratio"),
    "log10": ("exp", float(np.log(10.0)), "ratio"),
    "log1p": ("expm1", 1.0, ""),
    "sqrt": ("power", 2.0, ""),
    "cbrt": ("power", 3.0, ""),
    "logit": ("logit", 1.0, "odds ratio"),
}
