"""Residual structures that the laws are held against: those of the package, and two that stand for what may be added.

The package's own are made from their texts, and their covariances are written down here once more, entry by entry.

A new structure is tested by an entry in `MEMBERS`: a name, the structure of a dozen rows, points of its parameters, and
its covariance over sigma^2 as a dense matrix, from first principles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from scipy import sparse

from bayeslmm.design.residual_parts import build_residual
from bayeslmm.design.residual_text import parse_residual
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


# Every subject's rows lie in one arm; visits are the whole times.
ARMS = np.repeat(["a", "b", "a"], [5, 4, 3])
COLUMNS = pd.DataFrame(
    {
        "time": TIMES,
        "id": SUBJECTS,
        "visit": pd.Categorical([f"v{t:.0f}" for t in TIMES], ["v0", "v1", "v2", "v3", "v4", "v5", "v6"]),
        "late": np.where(LATE == 1.0, "yes", "no"),
        "x": WEIGHTS,
        "arm": ARMS,
    }
)
# Few visits, each with enough rows: three for all subjects.
FEW = COLUMNS.assign(
    visit=np.array([0, 1, 2, 0, 1, 0, 1, 2, 0, 0, 1, 2]), id=np.repeat([0, 1, 2, 3, 4], [3, 2, 3, 1, 3])
)


def _built(text: str, weights: FloatArray | None = None, columns: pd.DataFrame = COLUMNS) -> Residual:
    return build_residual(parse_residual(text), dict(columns.items()), weights, N)[0]


def _entries(
    correlation: Callable[[FloatArray, int, int], float],
    sd: Callable[[FloatArray, int], float] = lambda lam, i: 1.0,
    columns: pd.DataFrame = COLUMNS,
) -> Callable[[FloatArray], FloatArray]:
    """A dense covariance from the correlation of two rows of a subject and the standard deviation of a row."""
    own = columns["id"].to_numpy()

    def dense(lam: FloatArray) -> FloatArray:
        R = np.zeros((N, N))
        for i in range(N):
            for j in range(N):
                rho = 1.0 if i == j else correlation(lam, i, j) if own[i] == own[j] else 0.0
                R[i, j] = rho * sd(lam, i) * sd(lam, j)
        return R

    return dense


def _lag(i: int, j: int) -> float:
    return abs(TIMES[i] - TIMES[j])


def _cs(lam: FloatArray, i: int, j: int) -> float:
    # Five rows in the largest group: correlations above -1/4.
    return float(-0.25 + 1.25 / (1.0 + np.exp(-lam[-1])))


def _arma(lam: FloatArray, i: int, j: int) -> float:
    phi, theta = np.tanh(lam)
    # Weights of a long moving average, whose products give the correlations.
    psi = np.append(1.0, (phi + theta) * phi ** np.arange(200))
    h = int(_lag(i, j))
    return float(psi[: psi.size - h] @ psi[h:] / (psi @ psi))


def _matrix_of_visits(make: Callable[[FloatArray], FloatArray]) -> Callable[[FloatArray, int, int], float]:
    visit = FEW["visit"].to_numpy()
    return lambda lam, i, j: float(make(lam)[visit[i], visit[j]])


def _us(lam: FloatArray) -> FloatArray:
    a, b, c = lam[-3:]
    L = np.array([[1.0, 0, 0], [a, 1.0, 0], [b, c, 1.0]])
    S = L @ L.T
    return S / np.sqrt(np.outer(np.diag(S), np.diag(S)))


def _toeplitz(lam: FloatArray) -> FloatArray:
    first, partial = np.tanh(lam[-2:])
    # The correlation at lag two, given the one between.
    second = partial * (1.0 - first**2) + first**2
    return np.array([[1.0, first, second], [first, 1.0, first], [second, first, 1.0]])


def _ante(lam: FloatArray) -> FloatArray:
    a, b = np.tanh(lam[-2:])
    return np.array([[1.0, a, a * b], [a, 1.0, b], [a * b, b, 1.0]])


def _by_visit(lam: FloatArray, i: int) -> float:
    return float(np.exp(np.append(0.0, lam[:2]))[FEW["visit"][i]])


def _by_late(lam: FloatArray, i: int) -> float:
    return float(np.exp(lam[0] * LATE[i]))


MEMBERS[:0] = [
    Member("by", _built("by(late)"), np.array([[-0.7], [1.3]]), _entries(lambda *_: 0.0, _by_late)),
    Member(
        "power times exp, weighted",
        _built("power(x) + exp(time)", WEIGHTS),
        np.array([[0.4, -0.7], [-1.0, 0.3]]),
        _entries(lambda *_: 0.0, lambda lam, i: WEIGHTS[i] ** (lam[0] - 0.5) * np.exp(lam[1] * TIMES[i] / TIMES.max())),
    ),
    Member(
        "const_power",
        _built("const_power(x)"),
        np.array([[0.4, 0.7], [-1.0, -0.3]]),
        _entries(lambda *_: 0.0, lambda lam, i: np.exp(lam[0]) + WEIGHTS[i] ** lam[1]),
    ),
    Member(
        "ar1",
        _built("ar1(time | id)"),
        np.array([[-0.6], [1.4]]),
        _entries(lambda lam, i, j: np.tanh(lam[0]) ** _lag(i, j)),
    ),
    Member(
        "by and car1",
        _built("by(late) + car1(time | id)"),
        np.array([[0.5, -0.6], [-0.2, 1.0]]),
        _entries(lambda lam, i, j: np.exp(-_lag(i, j) / np.exp(lam[1])), _by_late),
    ),
    Member("cs", _built("cs(id)"), np.array([[-2.0], [1.0]]), _entries(_cs)),
    Member(
        "power and cs",
        _built("power(x) + cs(id)"),
        np.array([[0.4, -2.0], [1.0, 0.3]]),
        _entries(_cs, lambda lam, i: WEIGHTS[i] ** lam[0]),
    ),
    Member("arma", _built("arma(time | id)"), np.array([[0.4, 0.3], [-0.5, 0.8]]), _entries(_arma)),
    Member(
        "gaussian in the plane",
        _built("gaussian(time + x | id)"),
        np.array([[0.1], [-0.5]]),
        _entries(lambda lam, i, j: np.exp(-(_lag(i, j) ** 2 + (WEIGHTS[i] - WEIGHTS[j]) ** 2) / np.exp(2 * lam[0]))),
    ),
    Member(
        "matern",
        _built("matern(time | id)"),
        np.array([[0.1], [1.0]]),
        _entries(lambda lam, i, j: (1 + _lag(i, j) / np.exp(lam[0])) * np.exp(-_lag(i, j) / np.exp(lam[0]))),
    ),
    Member(
        "exp",
        _built("exp(time | id)"),
        np.array([[0.1], [1.0]]),
        _entries(lambda lam, i, j: np.exp(-_lag(i, j) / np.exp(lam[0]))),
    ),
    Member(
        "ar1 by arm",
        _built("ar1(time | id, by=arm)"),
        np.array([[0.4, -0.8]]),
        _entries(lambda lam, i, j: np.tanh(lam[0 if ARMS[i] == "a" else 1]) ** _lag(i, j)),
    ),
    Member(
        "us",
        _built("us(visit | id)", None, FEW),
        np.array([[0.3, -0.2, 0.4, -0.5, 0.6]]),
        _entries(_matrix_of_visits(_us), _by_visit, FEW),
    ),
    Member(
        "toeph",
        _built("toeph(visit | id)", None, FEW),
        np.array([[0.3, -0.2, 0.4, -0.5]]),
        _entries(_matrix_of_visits(_toeplitz), _by_visit, FEW),
    ),
    Member(
        "ad",
        _built("ad(visit | id)", None, FEW),
        np.array([[0.4, -0.5]]),
        _entries(_matrix_of_visits(_ante), columns=FEW),
    ),
]

# Those that what asks a structure is tested with: it does not know which it has.
REPRESENTATIVES = [m for m in MEMBERS if m.name in ("power times exp, weighted", "us", "by and car1")] + MEMBERS[-6:]
