"""Correlations of residuals within groups, functions of where in time or space the rows of a group are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.residual.laws import Law, NormalLaw, UniformLaw, shifted
from bayeslmm.types import FloatArray, IntArray

# Correlations at a start are kept below this.
START = 0.9
# Where the correlation matrix of so many places has an eigenvalue below this, ranges are halved, so often at most.
_PLACES, _REGULAR, _HALVINGS = 200, 1e-9, 12


class Correlation(Protocol):
    """A family of correlation matrices with k parameters without bounds.

    Positions `at` have a last axis of d coordinates: the number of the visit, the time, the place.

    Attributes
    ----------
    names, labels : tuple of str
        Of the parameters, and of these in the user's units.
    chain : bool
        Whether each row depends on the one before alone, so that `step` says all.
    pymc : str
        Function of a PyMC model that makes the correlation matrices, from the parameters, positions and `pymc_options`.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def ranges(self) -> tuple[str, ...]: ...
    @property
    def chain(self) -> bool: ...
    @property
    def pymc(self) -> str: ...
    @property
    def pymc_options(self) -> tuple[Any, ...]: ...

    def laws(self, distance: float) -> tuple[Law, ...]:
        """Default distributions of the parameters, from a typical distance of rows of a group."""
        ...

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        """Correlation matrices (..., m, m) of rows at positions (..., m, d); axes of points of lam come first."""
        ...

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        """Their derivatives (k, ..., m, m)."""
        ...

    def step(self, lam: FloatArray, before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Correlations r (s,) of rows with those before, ``1 - r^2``, and slopes (k, s); of chains."""
        ...

    def natural(self, lam: FloatArray) -> FloatArray:
        """Parameters in the user's units, (..., k), at one point or many."""
        ...

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        """Their derivatives (k, k) in lam."""
        ...

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        """Parameters from pairs: positions (2, s, d) and products (s,) of residuals of variance one."""
        ...


class DenseCorrelation:
    """A family whose matrices are factored as they are: no row depends on the one before alone."""

    chain: ClassVar[bool] = False

    def step(self, lam: FloatArray, before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        raise TypeError(f"{type(self).__name__} is no chain")


class AtanhParameters:
    """A family whose parameters are correlations, and lam their atanh."""

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.tanh(lam)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.diag(1.0 / np.cosh(lam) ** 2)


def over_points(values: FloatArray, at: FloatArray) -> FloatArray:
    """One number at every point, (...), against matrices of rows at positions (..., m, d)."""
    return np.reshape(values, (*np.shape(values), *(1,) * at.ndim))


def _lag(at: FloatArray) -> FloatArray:
    return np.abs(at[..., :, None, 0] - at[..., None, :, 0])


def _at_lag_one(at: FloatArray, products: FloatArray) -> float:
    """The correlation at lag one, from that at the smallest lag there is; not zero, where powers have no slope."""
    lags = np.abs(at[0, :, 0] - at[1, :, 0])
    if not lags.size:
        return 0.1
    smallest = float(lags.min())
    mean = float(products[lags == smallest].mean())
    # Of an even lag the sign does not show.
    size = np.clip(np.abs(mean) if smallest % 2 else max(mean, 0.0), 0.05**smallest, START**smallest)
    sign = np.sign(mean) if smallest % 2 and mean else 1.0
    return float(sign * size ** (1.0 / smallest))


@dataclass(frozen=True)
class SerialCorrelation(AtanhParameters):
    """``rho^|t - t'|`` at whole times: autoregression of order one; lam is atanh(rho)."""

    names: ClassVar[tuple[str, ...]] = ("atanh_rho",)
    labels: ClassVar[tuple[str, ...]] = ("rho",)
    ranges: ClassVar[tuple[str, ...]] = ("correlation",)
    chain: ClassVar[bool] = True
    pymc: ClassVar[str] = "serial_correlation"
    pymc_options: ClassVar[tuple[Any, ...]] = ()

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(over_points(np.tanh(lam[..., 0]), at) ** _lag(at))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        lag, rho = _lag(at), np.tanh(lam[0])
        return np.asarray(lag * rho ** np.maximum(lag - 1.0, 0.0) * (1.0 - rho**2))[None]

    def step(self, lam: FloatArray, before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        lag, rho = after[:, 0] - before[:, 0], np.tanh(lam[0])
        # 1 - rho^2 = 1 / cosh^2 keeps its digits where rho is near one.
        rest, logs = 1.0 / np.cosh(lam[0]) ** 2, np.log(np.maximum(np.abs(rho), 1e-300))
        r = rho**lag
        return r, np.where(lag == 1.0, rest, -np.expm1(2.0 * lag * logs)), (lag * rho ** (lag - 1.0) * rest)[None]

    def laws(self, distance: float) -> tuple[Law, ...]:
        return (UniformLaw(0.5),)

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        return np.arctanh(np.array([_at_lag_one(at, products)]))


@dataclass(frozen=True)
class ContinuousSerialCorrelation:
    """``phi^|t - t'|`` at any times, 0 < phi < 1; lam is the log of ``-1 / log(phi)``, the range."""

    names: ClassVar[tuple[str, ...]] = ("log_range",)
    labels: ClassVar[tuple[str, ...]] = ("phi",)
    ranges: ClassVar[tuple[str, ...]] = ("unit",)
    chain: ClassVar[bool] = True
    pymc: ClassVar[str] = "exponential_correlation"
    pymc_options: ClassVar[tuple[Any, ...]] = ()

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-_lag(at) * over_points(np.exp(-lam[..., 0]), at)))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        u = _lag(at) * np.exp(-lam[0])
        return np.asarray(u * np.exp(-u))[None]

    def step(self, lam: FloatArray, before: FloatArray, after: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        u = (after[:, 0] - before[:, 0]) * np.exp(-lam[0])
        r = np.exp(-u)
        return r, -np.expm1(-2.0 * u), (u * r)[None]

    def laws(self, distance: float) -> tuple[Law, ...]:
        return (NormalLaw(float(np.log(distance)), 1.0),)

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.exp(-np.exp(-lam))

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.diag(np.exp(-np.exp(-lam) - lam))

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        distance = np.abs(at[0, :, 0] - at[1, :, 0])
        return _start_range(distance, products)


# Functions of the distance over the range, and their slopes in the log of the range.
_BY_DISTANCE: dict[str, tuple[Callable[[FloatArray], Any], Callable[[FloatArray], Any]]] = {
    "exp": (lambda u: np.exp(-u), lambda u: u * np.exp(-u)),
    "gaussian": (lambda u: np.exp(-(u**2)), lambda u: 2.0 * u**2 * np.exp(-(u**2))),
    "matern": (lambda u: (1.0 + u) * np.exp(-u), lambda u: u**2 * np.exp(-u)),
}


def _start_range(distance: FloatArray, products: FloatArray) -> FloatArray:
    if not distance.size:
        return np.zeros(1)
    near = distance <= np.quantile(distance, 0.3)
    r = float(np.clip(products[near].mean(), 0.05, START))
    return np.array([float(np.log(distance[near].mean() / -np.log(r)))])


@dataclass(frozen=True)
class DistanceCorrelation(DenseCorrelation):
    """A function of the distance over the range: ``exp``, ``gaussian``, ``matern`` (smoothness 3/2); lam is log range.

    Attributes
    ----------
    keyword : {"exp", "gaussian", "matern"}
    """

    keyword: str

    names: ClassVar[tuple[str, ...]] = ("log_range",)
    labels: ClassVar[tuple[str, ...]] = ("range",)
    ranges: ClassVar[tuple[str, ...]] = ("positive",)
    pymc: ClassVar[str] = "distance_correlation"

    def _distance(self, at: FloatArray) -> FloatArray:
        return np.sqrt(((at[..., :, None, :] - at[..., None, :, :]) ** 2).sum(-1))

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(_BY_DISTANCE[self.keyword][0](self._distance(at) * over_points(np.exp(-lam[..., 0]), at)))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        return np.asarray(_BY_DISTANCE[self.keyword][1](self._distance(at) * np.exp(-lam[0])))[None]

    @property
    def pymc_options(self) -> tuple[Any, ...]:
        return (self.keyword,)

    def laws(self, distance: float) -> tuple[Law, ...]:
        return (NormalLaw(float(np.log(distance)), 1.0),)

    def natural(self, lam: FloatArray) -> FloatArray:
        return np.exp(lam)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        return np.diag(np.exp(lam))

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        lam = _start_range(np.sqrt(((at[0] - at[1]) ** 2).sum(-1)), products)
        # Beside close neighbours a smooth correlation of a long range is singular in double precision.
        places = np.unique(at.reshape(-1, at.shape[-1]), axis=0)[:_PLACES]
        for _ in range(_HALVINGS):
            if np.linalg.eigvalsh(self.matrix(lam, places))[0] > _REGULAR:
                break
            lam = lam - np.log(2.0)
        return lam


@dataclass(frozen=True)
class EqualCorrelation(DenseCorrelation):
    """One correlation of all pairs, above ``-1 / (largest - 1)``; lam is the logit of its place between that and one.

    Attributes
    ----------
    largest : int
        Rows of the largest group, at least 2.
    """

    largest: int

    names: ClassVar[tuple[str, ...]] = ("logit_rho",)
    labels: ClassVar[tuple[str, ...]] = ("rho",)
    ranges: ClassVar[tuple[str, ...]] = ("correlation",)
    pymc: ClassVar[str] = "equal_correlation"

    @property
    def _lowest(self) -> float:
        return -1.0 / (self.largest - 1)

    def _rho(self, lam: FloatArray) -> FloatArray:
        return np.asarray(self._lowest + (1.0 - self._lowest) / (1.0 + np.exp(-lam)))

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        eye, rho = np.eye(at.shape[-2]), over_points(self._rho(lam[..., 0]), at)
        return np.broadcast_to(eye + rho * (1.0 - eye), (*lam.shape[:-1], *at.shape[:-1], at.shape[-2]))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        eye = np.eye(at.shape[-2])
        slope = self.natural_slopes(lam)[0, 0] * (1.0 - eye)
        return np.broadcast_to(slope, (*at.shape[:-1], at.shape[-2]))[None]

    @property
    def pymc_options(self) -> tuple[Any, ...]:
        return (self.largest,)

    def laws(self, distance: float) -> tuple[Law, ...]:
        return (UniformLaw(1.0),)

    def natural(self, lam: FloatArray) -> FloatArray:
        return self._rho(lam)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        share = 1.0 / (1.0 + np.exp(-lam))
        return np.diag((1.0 - self._lowest) * share * (1.0 - share))

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        mean = float(products.mean()) if products.size else 0.0
        share = (np.clip(mean, 0.9 * self._lowest, START) - self._lowest) / (1.0 - self._lowest)
        return np.array([float(np.log(share / (1.0 - share)))])


@by_value
@dataclass(frozen=True, eq=False)
class MovingAverageCorrelation(DenseCorrelation, AtanhParameters):
    """ARMA(1, 1) at whole times; lam has atanh of phi and theta.

    The correlation at lag one is ``(1 + phi theta)(phi + theta) / (1 + 2 phi theta + theta^2)``, then falls by phi.
    """

    names: ClassVar[tuple[str, ...]] = ("atanh_phi", "atanh_theta")
    labels: ClassVar[tuple[str, ...]] = ("phi", "theta")
    ranges: ClassVar[tuple[str, ...]] = ("correlation", "correlation")
    pymc: ClassVar[str] = "moving_average_correlation"
    pymc_options: ClassVar[tuple[Any, ...]] = ()

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        lag, (phi, theta) = _lag(at), (over_points(np.tanh(lam[..., k]), at) for k in range(2))
        first = (1.0 + phi * theta) * (phi + theta) / (1.0 + 2.0 * phi * theta + theta**2)
        return np.where(lag == 0.0, 1.0, first * phi ** np.maximum(lag - 1.0, 0.0))

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        lag, (phi, theta) = _lag(at), np.tanh(lam)
        top, bottom = (1.0 + phi * theta) * (phi + theta), 1.0 + 2.0 * phi * theta + theta**2
        by_phi = (theta * (phi + theta) + 1.0 + phi * theta) / bottom - top * 2.0 * theta / bottom**2
        by_theta = (phi * (phi + theta) + 1.0 + phi * theta) / bottom - top * 2.0 * (phi + theta) / bottom**2
        fall = phi ** np.maximum(lag - 1.0, 0.0)
        falling = np.maximum(lag - 1.0, 0.0) * phi ** np.maximum(lag - 2.0, 0.0)
        found = np.stack([by_phi * fall + top / bottom * falling, by_theta * fall])
        scale = 1.0 / np.cosh(lam) ** 2
        return np.asarray(np.where(lag == 0.0, 0.0, found) * scale.reshape(2, *(1,) * lag.ndim))

    def laws(self, distance: float) -> tuple[Law, ...]:
        return (UniformLaw(0.5), UniformLaw(0.5))

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        return np.array([np.arctanh(_at_lag_one(at, products)), 0.1])


@by_value
@dataclass(frozen=True, eq=False)
class CorrelationByArm(DenseCorrelation):
    """One family whose parameters differ between the arms of a trial; the last coordinate is the arm.

    Attributes
    ----------
    family : Correlation
        Of a single arm.
    arms : tuple of str
    """

    family: Correlation
    arms: tuple[str, ...]

    pymc: ClassVar[str] = "correlation_by_arm"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{name}_arm{a}" for a in range(len(self.arms)) for name in self.family.names)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{label} in {arm}" for arm in self.arms for label in self.family.labels)

    @property
    def ranges(self) -> tuple[str, ...]:
        return self.family.ranges * len(self.arms)

    def _parts(self, lam: FloatArray, at: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
        """Parameters of every arm, and which of the leading matrices are its own."""
        k, arm = len(self.family.names), at[..., 0, -1]
        return [(lam[..., a * k : (a + 1) * k], arm == a) for a in range(len(self.arms))]

    def matrix(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        out = np.empty((*lam.shape[:-1], *at.shape[:-1], at.shape[-2]))
        for own, chosen in self._parts(lam, at):
            out[..., chosen, :, :] = self.family.matrix(own, at[chosen][..., :-1])
        return out

    def slopes(self, lam: FloatArray, at: FloatArray) -> FloatArray:
        k = len(self.family.names)
        out = np.zeros((lam.size, *at.shape[:-1], at.shape[-2]))
        for a, (own, chosen) in enumerate(self._parts(lam, at)):
            out[a * k : (a + 1) * k, chosen] = self.family.slopes(own, at[chosen][..., :-1])
        return out

    @property
    def pymc_options(self) -> tuple[Any, ...]:
        return (self.family.pymc, len(self.family.names), *self.family.pymc_options)

    def laws(self, distance: float) -> tuple[Law, ...]:
        own = self.family.laws(distance)
        return tuple(law for a in range(len(self.arms)) for law in shifted(own, a * len(own)))

    def natural(self, lam: FloatArray) -> FloatArray:
        parts = np.split(lam, len(self.arms), axis=-1)
        return np.concatenate([self.family.natural(own) for own in parts], axis=-1)

    def natural_slopes(self, lam: FloatArray) -> FloatArray:
        out, k = np.zeros((lam.size, lam.size)), len(self.family.names)
        for a, own in enumerate(np.split(lam, len(self.arms))):
            out[a * k : (a + 1) * k, a * k : (a + 1) * k] = self.family.natural_slopes(own)
        return out

    def start(self, at: FloatArray, products: FloatArray) -> FloatArray:
        arm: IntArray = at[0, :, -1].astype(np.int64)
        return np.concatenate(
            [self.family.start(at[:, arm == a, :-1], products[arm == a]) for a in range(len(self.arms))]
        )


def within_arms(correlation: Correlation) -> Correlation:
    """The structure that the rows of one arm have."""
    return correlation.family if isinstance(correlation, CorrelationByArm) else correlation
