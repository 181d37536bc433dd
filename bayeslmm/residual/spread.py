"""Standard deviations of residuals by level or covariate: factors of sigma on the log scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.residual.laws import Law, NormalLaw
from bayeslmm.residual.residual import Chosen
from bayeslmm.types import FloatArray, IntArray

# Log of the constant relative to the power of a covariate of the middle size, and the powers, at further starts.
_NO_CONSTANT, _POWERS = -5.0, (0.5, -0.5)


class Spread(Protocol):
    """The log of what sigma is multiplied by in every row, a function of some parameters.

    Attributes
    ----------
    text : str
        As written in the ``residual=`` of a model.
    names, labels : tuple of str
        Of the parameters, and of these in the user's units.
    """

    @property
    def text(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def ranges(self) -> tuple[str, ...]: ...
    @property
    def laws(self) -> tuple[Law, ...]:
        """Default distributions of the parameters."""
        ...

    def log_sd(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Log factor of r rows, (r,) after the axes of points."""
        ...

    def slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Derivatives (k, r)."""
        ...

    def natural(self, lam: FloatArray) -> FloatArray:
        """Parameters in the user's units, (..., k), at one point or many."""
        ...

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        """Derivatives (k,) of each in its own entry of lam."""
        ...

    def start(self, squares: FloatArray) -> FloatArray:
        """Parameters (k,) from the squares of residuals of constant variance."""
        ...

    def part(self, rows: slice | IntArray) -> Self: ...
    def data(self) -> dict[str, FloatArray]: ...
    def factor(self, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        """What sigma is multiplied by, for any numbers."""
        ...

    def latex(self) -> str:
        """The same in LaTeX."""
        ...

    def check(self, n: int) -> None: ...


def _pick(values: Any, rows: Chosen) -> Any:
    return values if rows is None else values[rows]


def _identifier(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)


def _check_shape(name: str, values: Any, n: int) -> None:
    if values.shape != (n,):
        raise ValueError(f"{name} of the residuals has shape {values.shape}, not ({n},)")


@by_value
@dataclass(frozen=True, eq=False)
class SpreadByLevel:
    """A standard deviation for every level of a factor; sigma is that of the first.

    Attributes
    ----------
    text, factor_name : str
    codes : IntArray, shape (n,)
    levels : tuple of str
        K of them; lam has the K - 1 log ratios to the first.
    """

    text: str
    factor_name: str
    codes: IntArray
    levels: tuple[str, ...]

    @property
    def n(self) -> int:
        return int(self.codes.size)

    @property
    def names(self) -> tuple[str, ...]:
        stem = _identifier(self.factor_name)
        return tuple(f"log_ratio_{stem}_{k}" for k in range(1, len(self.levels)))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"sd_ratio_{self.factor_name}[{level}]" for level in self.levels[1:])

    @property
    def ranges(self) -> tuple[str, ...]:
        return ("positive",) * (len(self.levels) - 1)

    @property
    def laws(self) -> tuple[Law, ...]:
        return (NormalLaw(0.0, 1.0),) * (len(self.levels) - 1)

    def log_sd(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        whole = np.concatenate([np.zeros((*lam.shape[:-1], 1)), lam], axis=-1)
        return np.asarray(whole[..., _pick(self.codes, rows)])

    def slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        own = _pick(self.codes, rows) == np.arange(1, len(self.levels))[:, None]
        return np.broadcast_to(own.astype(float), (*lam.shape[:-1], *own.shape))

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.exp(lam)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.exp(lam)

    def start(self, squares: FloatArray) -> FloatArray:
        counts = np.bincount(self.codes, minlength=len(self.levels))
        means = np.bincount(self.codes, weights=squares, minlength=len(self.levels)) / np.maximum(counts, 1)
        logs = 0.5 * np.log(np.maximum(means, 1e-3 * float(squares.mean()) + 1e-300))
        return np.asarray(logs[1:] - logs[0])

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.text, self.factor_name, self.codes[rows], self.levels)

    def data(self) -> dict[str, FloatArray]:
        stem = _identifier(self.factor_name)
        return {f"is_{stem}_{k}": (self.codes == k).astype(float) for k in range(1, len(self.levels))}

    def factor(self, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        terms = [one * data[name] for one, name in zip(lam, self.data(), strict=True)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return math.exp(total)

    def latex(self) -> str:
        name = _identifier(self.factor_name).replace("_", r"\_")
        return rf"\delta_{{\mathrm{{{name}}}[i]}}"

    def check(self, n: int) -> None:
        _check_shape("the factor", self.codes, n)
        if self.codes.size and not (self.codes.min() >= 0 and self.codes.max() < len(self.levels)):
            raise ValueError(f"the rows have levels from {self.codes.min()} to {self.codes.max()} of {self.levels}")


class _Loglinear(ABC):
    """The log of the standard deviation is one parameter times something that is known in every row."""

    laws: ClassVar[tuple[Law, ...]] = (NormalLaw(0.0, 1.0),)
    ranges: ClassVar[tuple[str, ...]] = ("real",)

    @property
    @abstractmethod
    def known(self) -> FloatArray:
        """What the parameter multiplies, (n,)."""

    def log_sd(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(lam * _pick(self.known, rows))

    def slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        own = _pick(self.known, rows)[None]
        return np.broadcast_to(own, (*lam.shape[:-1], *own.shape))

    def start(self, squares: FloatArray) -> FloatArray:
        return _slope_of_logs(self.known, squares)


@dataclass(frozen=True)
class _OfSize:
    """Of the size of a covariate.

    Attributes
    ----------
    text : str
    x : FloatArray, shape (n,)
        Absolute values, none zero.
    """

    text: str
    x: FloatArray

    @property
    def n(self) -> int:
        return int(self.x.size)

    @cached_property
    def log_x(self) -> FloatArray:
        return np.asarray(np.log(self.x))

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.text, self.x[rows])

    def data(self) -> dict[str, FloatArray]:
        return {"log_covariate": self.log_x}

    def check(self, n: int) -> None:
        _check_shape("the covariate", self.x, n)
        if not (np.isfinite(self.x).all() and (self.x > 0).all()):
            raise ValueError("some absolute value of the covariate of a power is no positive number")


@by_value
@dataclass(frozen=True, eq=False)
class PowerSpread(_Loglinear, _OfSize):
    """The standard deviation is sigma times a power of a covariate: ``sigma |x|^power``.

    Attributes
    ----------
    text : str
    x : FloatArray, shape (n,)
        Absolute values, none zero.
    """

    names: ClassVar[tuple[str, ...]] = ("power",)
    labels: ClassVar[tuple[str, ...]] = ("power",)

    @property
    def known(self) -> FloatArray:
        return self.log_x

    def natural(self, lam: FloatArray) -> FloatArray:
        return lam

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.ones(1)

    def factor(self, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return math.exp(lam[0] * data["log_covariate"])

    def latex(self) -> str:
        return r"(|x_{i}|^{\delta})"


@by_value
@dataclass(frozen=True, eq=False)
class ExponentialSpread(_Loglinear):
    """The standard deviation is ``sigma exp(rate x)``.

    Attributes
    ----------
    text : str
    x : FloatArray, shape (n,)
    unit : float
        Largest absolute value in the data; lam is the rate times it, so that it is of the size of one.
    """

    text: str
    x: FloatArray
    unit: float

    names: ClassVar[tuple[str, ...]] = ("expon",)
    labels: ClassVar[tuple[str, ...]] = ("expon",)

    @property
    def n(self) -> int:
        return int(self.x.size)

    @cached_property
    def known(self) -> FloatArray:
        return np.asarray(self.x / self.unit)

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.asarray(lam / self.unit)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.full(1, 1.0 / self.unit)

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.text, self.x[rows], self.unit)

    def data(self) -> dict[str, FloatArray]:
        return {"covariate": self.known}

    def factor(self, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return math.exp(lam[0] * data["covariate"])

    def latex(self) -> str:
        return r"(e^{\delta x_{i}})"

    def check(self, n: int) -> None:
        _check_shape("the covariate", self.x, n)
        if not (np.isfinite(self.x).all() and self.unit > 0):
            raise ValueError("the covariate of an exponential has values that are no finite numbers, or no unit")


@by_value
@dataclass(frozen=True, eq=False)
class ConstantPlusPower(_OfSize):
    """The standard deviation is ``sigma (const + |x|^power)``; lam has the log of const and the power.

    Attributes
    ----------
    text : str
    x : FloatArray, shape (n,)
        Absolute values, none zero.
    """

    names: ClassVar[tuple[str, ...]] = ("log_const", "power")
    labels: ClassVar[tuple[str, ...]] = ("const", "power")
    ranges: ClassVar[tuple[str, ...]] = ("positive", "real")
    laws: ClassVar[tuple[Law, ...]] = (NormalLaw(0.0, 1.0), NormalLaw(0.0, 1.0))

    def _shares(self, lam: FloatArray, rows: Chosen) -> tuple[FloatArray, FloatArray]:
        """Logs of both summands in every row."""
        power = lam[..., 1:] * _pick(self.log_x, rows)
        return np.broadcast_to(lam[..., :1], power.shape), power

    def log_sd(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(np.logaddexp(*self._shares(lam, rows)))

    def slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        const, power = self._shares(lam, rows)
        total = np.logaddexp(const, power)
        return np.stack([np.exp(const - total), np.exp(power - total) * _pick(self.log_x, rows)], axis=-2)

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.stack([np.exp(lam[..., 0]), lam[..., 1]], axis=-1)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.array([np.exp(lam[0]), 1.0])

    def start(self, squares: FloatArray) -> FloatArray:
        power = _slope_of_logs(self.log_x, squares)[0]
        return np.array([np.log(0.3) + power * float(self.log_x.mean()), power])

    def elsewhere(self) -> list[FloatArray]:
        """Starts (2,) with next to no constant: from a larger one the power may run away, and the constant with it."""
        at = float(self.log_x.mean())
        return [np.array([_NO_CONSTANT + power * at, power]) for power in _POWERS]

    def factor(self, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return math.exp(lam[0]) + math.exp(lam[1] * data["log_covariate"])

    def latex(self) -> str:
        return r"(\delta_0 + |x_{i}|^{\delta})"


def starts_elsewhere(parts: Sequence[Spread], places: Sequence[slice], lam: FloatArray) -> list[FloatArray]:
    """Further starts (k,) beside lam, of parts whose likelihood may have several maxima."""
    found = []
    for part, own in zip(parts, places, strict=True):
        if isinstance(part, ConstantPlusPower):
            found += [np.concatenate([lam[: own.start], other, lam[own.stop :]]) for other in part.elsewhere()]
    return found


def _slope_of_logs(x: FloatArray, squares: FloatArray) -> FloatArray:
    """Half the slope of log squares in x, shape (1,)."""
    logs = 0.5 * np.log(squares + 1e-4 * float(squares.mean()) + 1e-300)
    centred = x - x.mean()
    scale = float(centred @ centred)
    return np.array([float(centred @ logs) / scale if scale > 0 else 0.0])
