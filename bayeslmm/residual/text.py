"""Arithmetic that writes itself down: the source text of what a residual structure computes."""

from __future__ import annotations

from dataclasses import dataclass

from bayeslmm.residual.residual import Residual

_SUM, _PRODUCT, _ATOM = range(3)


@dataclass(frozen=True)
class Text:
    """Source text of a number; operators write theirs, with brackets where they are needed.

    Attributes
    ----------
    text : str
    binds : int
        How strongly its last operator binds.

    Examples
    --------
    >>> a, b = Text("a"), Text("b")
    >>> str((a + b) * a / (b * 2.0)), str(a + b * a)
    ('(a + b) * a / (b * 2.0)', 'a + b * a')
    """

    text: str
    binds: int = _ATOM

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: Text | float) -> Text:
        return _joined(self, "+", other, _SUM)

    def __radd__(self, other: float) -> Text:
        return _joined(other, "+", self, _SUM)

    def __sub__(self, other: Text | float) -> Text:
        return _joined(self, "-", other, _SUM)

    def __rsub__(self, other: float) -> Text:
        return _joined(other, "-", self, _SUM)

    def __mul__(self, other: Text | float) -> Text:
        return _joined(self, "*", other, _PRODUCT)

    def __rmul__(self, other: float) -> Text:
        return _joined(other, "*", self, _PRODUCT)

    def __truediv__(self, other: Text | float) -> Text:
        return _joined(self, "/", other, _PRODUCT)

    def __rtruediv__(self, other: float) -> Text:
        return _joined(other, "/", self, _PRODUCT)

    def __getitem__(self, index: Text) -> Text:
        return Text(f"{_bracketed(self, _ATOM)}[{index}]")


class TextMath:
    """Functions of `Text` under NumPy's names."""

    @staticmethod
    def sqrt(value: Text) -> Text:
        return Text(f"np.sqrt({value})")

    @staticmethod
    def exp(value: Text) -> Text:
        return Text(f"np.exp({value})")

    @staticmethod
    def log(value: Text) -> Text:
        return Text(f"np.log({value})")


def written_scale(residual: Residual, sigma: str = "sigma") -> str:
    """Source text of the standard deviation of a residual, data and parameters under their names.

    Examples
    --------
    >>> import numpy as np
    >>> from bayeslmm.residual import Homoscedastic, PrecisionWeights
    >>> written_scale(Homoscedastic(2)), written_scale(PrecisionWeights(np.ones(2)))
    ('sigma', 'sigma / np.sqrt(weights)')
    """
    lam = [Text(name) for name in residual.names]
    return str(residual.scale(Text(sigma), lam, {name: Text(name) for name in residual.data()}, TextMath))


def _joined(left: Text | float, sign: str, right: Text | float, binds: int) -> Text:
    # What stands right of a minus or a division keeps its own operators together.
    least = binds + 1 if sign in "-/" else binds
    return Text(f"{_bracketed(left, binds)} {sign} {_bracketed(right, least)}", binds)


def _bracketed(value: Text | float, least: int) -> str:
    if not isinstance(value, Text):
        return repr(value) if value >= 0 else f"({value!r})"
    return value.text if value.binds >= least else f"({value.text})"
