"""Residual structures that the laws are held against: those of the package, and two that stand for what may be added.

A new structure is tested by an entry in `MEMBERS`: a name, the structure of a dozen rows, points of its parameters, and
its covariance over sigma^2 as a dense matrix, from first principles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from bayeslmm.equality import by_value
from bayeslmm.residual import Chosen, Homoscedastic, IndependentRows, KnownVariances, PrecisionWeights, Residual
from bayeslmm.types import FloatArray, IntArray

N = 12


@by_value
@dataclass(frozen=True)
class VarianceByGroup(IndependentRows):
    """Late rows have another standard deviation: ``sigma exp(lam)``."""

    late: FloatArray

    keyword: ClassVar[str] = "by"
    names: ClassVar[tuple[str, ...]] = ("log_ratio",)
    identity: ClassVar[bool] = False
    weights: ClassVar[FloatArray | None] = None
    text: ClassVar[str] = "sigma^2 D"

    @property
    def n(self) -> int:
        return self.late.size

    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.exp(-2.0 * lam * (self.late if rows is None else self.late[rows]))

    def log_precision_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        late = self.late if rows is None else self.late[rows]
        return np.broadcast_to(-2.0 * late, (*lam.shape, late.size))

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.late[rows])

    def data(self) -> dict[str, FloatArray]:
        return {"late": self.late}

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return sigma * math.exp(lam[0] * data["late"])

    def latex(self, sigma: str) -> str:
        return rf"{sigma}^2 e^{{2 \lambda d_{{i}}}}"

    def check(self, n: int) -> None:
        if self.late.shape != (n,):
            raise ValueError(f"late has shape {self.late.shape}, not ({n},)")


@by_value
@dataclass(frozen=True)
class Serial:
    """Autoregression over times within subjects, ``corr = tanh(lam)^|t - t'|``: dense algebra, for tests only."""

    clusters: IntArray
    times: FloatArray

    keyword: ClassVar[str] = "ar1"
    names: ClassVar[tuple[str, ...]] = ("rho",)
    identity: ClassVar[bool] = False
    weights: ClassVar[FloatArray | None] = None
    text: ClassVar[str] = "sigma^2 R"

    @property
    def n(self) -> int:
        return self.times.size

    def _chosen(self, rows: Chosen) -> tuple[FloatArray, FloatArray]:
        rows = slice(None) if rows is None else rows
        codes, times = self.clusters[rows], self.times[rows]
        return codes[:, None] == codes, np.abs(times[:, None] - times)

    def _dense(self, lam: FloatArray, rows: Chosen) -> FloatArray:
        same, lag = self._chosen(rows)
        return same * np.tanh(lam[..., None]) ** lag

    def _slope(self, lam: FloatArray, rows: Chosen) -> FloatArray:
        same, lag = self._chosen(rows)
        rho = np.tanh(lam[..., None])
        return same * lag * rho ** np.maximum(lag - 1.0, 0.0) * (1.0 - rho**2)

    def whiten(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.linalg.solve(np.linalg.cholesky(self._dense(lam, rows)), columns)

    def color(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.linalg.cholesky(self._dense(lam, rows)) @ columns

    def whiten_slopes(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        W = np.linalg.inv(np.linalg.cholesky(self._dense(lam, rows)))
        inner = W @ self._slope(lam, rows) @ W.mT
        lower = np.tril(inner) * (1.0 - 0.5 * np.eye(inner.shape[-1]))
        return -(lower @ W @ columns)[..., None, :, :]

    def log_det(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(np.linalg.slogdet(self._dense(lam, rows))[1])

    def log_det_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        solved = np.linalg.solve(self._dense(lam, rows), self._slope(lam, rows))
        return np.trace(solved, axis1=-2, axis2=-1)[..., None]

    def variance(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.ones((*lam.shape[:-1], self._chosen(rows)[0].shape[0]))

    def covariance(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        return sparse.csc_array(self._dense(lam, rows))

    def whitening(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        return sparse.csc_array(np.linalg.inv(np.linalg.cholesky(self._dense(lam, rows))))

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.clusters[rows], self.times[rows])

    def data(self) -> dict[str, FloatArray]:
        return {"times": self.times}

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return sigma

    def latex(self, sigma: str) -> str:
        return f"{sigma}^2"

    def check(self, n: int) -> None:
        if self.clusters.shape != (n,) or self.times.shape != (n,):
            raise ValueError(f"the clusters and times are not those of {n} rows")


@dataclass(frozen=True)
class Member:
    """One structure, points (S, k) of its parameters, and its dense covariance at one of them."""

    name: str
    residual: Residual
    points: FloatArray
    dense: Callable[[FloatArray], FloatArray]

    def __str__(self) -> str:
        return self.name


NONE = np.empty((2, 0))
WEIGHTS = np.random.default_rng(1).uniform(0.2, 4.0, N)
FAR = 10.0 ** np.linspace(-8, 8, N)
LATE = (np.arange(N) % 3 == 0).astype(float)
SUBJECTS = np.repeat([0, 1, 2], [5, 4, 3])
TIMES = np.array([0.0, 1, 2, 5, 6, 3, 1, 0, 2, 0, 4, 5])


def _serial(lam: FloatArray) -> FloatArray:
    R = np.zeros((N, N))
    for i in range(N):
        for j in range(N):
            if SUBJECTS[i] == SUBJECTS[j]:
                R[i, j] = np.tanh(lam[0]) ** abs(TIMES[i] - TIMES[j])
    return R


MEMBERS = [
    Member("equal variances", Homoscedastic(N), NONE, lambda lam: np.eye(N)),
    Member("weights", PrecisionWeights(WEIGHTS), NONE, lambda lam: np.diag(1.0 / WEIGHTS)),
    Member("weights of 1", PrecisionWeights(np.ones(N)), NONE, lambda lam: np.eye(N)),
    Member("weights far apart", PrecisionWeights(FAR), NONE, lambda lam: np.diag(1.0 / FAR)),
    Member("known variances", KnownVariances(np.sqrt(WEIGHTS)), NONE, lambda lam: np.diag(WEIGHTS)),
    Member(
        "variance by group",
        VarianceByGroup(LATE),
        np.array([[-0.7], [0.0], [1.3]]),
        lambda lam: np.diag([float(np.exp(2.0 * lam[0])) if late else 1.0 for late in LATE]),
    ),
    Member("serial correlation", Serial(SUBJECTS, TIMES), np.array([[0.2], [0.9]]), _serial),
]
