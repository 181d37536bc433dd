"""Random conflicts between priors and data, each with its posterior by brute force.

The reference shares nothing with the package: the density of error contrasts with a dense covariance matrix, priors
written out in logarithms, and a tensor product of Gauss-Legendre panels on log sds (or log ratios, where the prior is
on the ratio) whose panels are bisected where the mass is, from first ends at the scales of every prior.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import betaln, gammaln

import bayeslmm as bl
from bayeslmm.bayes.collapsed import CollapsedDraws, Diagnostics, UnreliableWeightsError, sample_collapsed
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.bayes.term_priors import Relative
from bayeslmm.errors import ConvergenceWarning, FitError, PriorError, PriorWarning
from bayeslmm.types import FloatArray

FORMULAS = {
    "one-way": "y ~ x + (1 | g)",
    "crossed": "y ~ 1 + (1 | g) + (1 | h)",
    "slopes": "y ~ x + (x || g)",
    "correlated": "y ~ x + (x | g)",
}
_CHUNK = 200_000


@dataclass(frozen=True)
class Conflict:
    """A design with data and priors: of sigma, of every sd, the LKJ shape."""

    kind: str
    data: pd.DataFrame
    sigma: SdPrior
    sds: tuple[SdPrior, ...]
    eta: float

    def __str__(self) -> str:
        return f"{self.kind}: sigma ~ {self.sigma}; {'; '.join(map(str, self.sds))}; LKJ {self.eta:.3g}"

    @property
    def labels(self) -> list[str]:
        groups = ["g", "h"] if self.kind == "crossed" else ["g"]
        effects = ["Intercept", "x"] if self.kind in ("slopes", "correlated") else ["Intercept"]
        return [f"sd_{g}[{e}]" for g in groups for e in effects]


def draw_conflict(rng: np.random.Generator, kind: str) -> Conflict:
    """A small design with data, and priors of any family, place and width."""
    n = 14
    g, h = rng.integers(0, 5, n), rng.integers(0, 4, n)
    g[:10], h[:8] = np.arange(10) % 5, np.arange(8) % 4
    x, s, sigma = rng.normal(size=n), 10 ** rng.uniform(-1, 0.5), 1.0
    y = 2 + 0.5 * x + s * rng.normal(size=5)[g] + sigma * rng.normal(size=n)
    if kind == "crossed":
        y += s * rng.normal(size=4)[h]
    if kind in ("slopes", "correlated"):
        y += s * rng.normal(size=5)[g] * x
    count = 1 if kind == "one-way" else 2
    sds = tuple(draw_prior(rng, s, relative=bool(rng.random() < 0.25)) for _ in range(count))
    eta = float(10 ** rng.uniform(0, 12)) if rng.random() < 0.5 else 1.0
    return Conflict(kind, pd.DataFrame({"y": y, "x": x, "g": g, "h": h}), draw_prior(rng, sigma), sds, eta)


def draw_prior(rng: np.random.Generator, scale: float, relative: bool = False) -> SdPrior:
    """At the scale, near it or far from it; as wide as it or down to 1e-8 of that."""
    place = scale * 10 ** np.clip(rng.choice([0.05, 0.3, 1.2]) * rng.normal(), -1.5, 1.5)
    shape = (1.0 / 10 ** rng.uniform(-8, 0.7)) ** 2
    families: list[SdPrior] = [
        bl.Gamma(shape, shape / place),
        bl.Gamma(shape, shape / place),
        bl.InverseGammaVariance(max(shape, 0.1), max(shape, 0.1) * place**2),
        bl.HalfNormal(place),
        bl.HalfT(float(rng.choice([1, 3, 7])), place),
        bl.Exponential(place),
        bl.Uniform(place * 1.5),
    ]
    prior = families[rng.integers(len(families))]
    return Relative(prior) if relative else prior


def log_density_log(prior: SdPrior, z: FloatArray) -> FloatArray:
    """Log density of log s at z, written out for each family."""
    own = prior.prior if isinstance(prior, Relative) else prior
    match own:
        case bl.Gamma(shape=a, rate=b):
            u = z - np.log(a / b)
            return a * (u - np.expm1(u)) + _peak(a)
        case bl.InverseGammaVariance(shape=a, rate=b):
            u = np.log(b / a) - 2 * z
            return a * (u - np.expm1(u)) + _peak(a) + np.log(2)
        case bl.HalfNormal(scale=c):
            return z - np.log(c) - 0.5 * np.exp(2 * (z - np.log(c))) + 0.5 * np.log(2 / np.pi)
        case bl.HalfT(df=nu, scale=c):
            u = z - np.log(c)
            constant = np.log(2) + gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
            return constant + u - (nu + 1) / 2 * np.logaddexp(0, 2 * u - np.log(nu))
        case bl.Exponential(mean=m):
            return z - np.log(m) - np.exp(z - np.log(m))
        case bl.Uniform(upper=c):
            return np.where(z <= np.log(c), z - np.log(c), -np.inf)
        case _:
            raise AssertionError(own)


def _peak(a: float) -> float:
    """``a log a - a - log Gamma(a)``."""
    if a < 1e4:
        return float(a * np.log(a) - a - gammaln(a))
    return float(0.5 * np.log(a / (2 * np.pi)) - 1 / (12 * a) + 1 / (360 * a**3))


def width_log(prior: SdPrior) -> tuple[float, float]:
    """Centre and width of a prior in log s."""
    own = prior.prior if isinstance(prior, Relative) else prior
    match own:
        case bl.Gamma(shape=a, rate=b):
            return float(np.log(a / b)), float(min(1 / np.sqrt(a), 1.0))
        case bl.InverseGammaVariance(shape=a, rate=b):
            return float(0.5 * np.log(b / a)), float(min(0.5 / np.sqrt(a), 1.0))
        case _:
            return float(np.log(own.quantile(0.5))), 1.0


@dataclass
class Reference:
    """Posterior by brute force: log evidence, and mean and sd of each of log sigma, the log sds and the correlation."""

    log_evidence: float = 0.0
    mean: list[float] = field(default_factory=list)
    sd: list[float] = field(default_factory=list)
    settled: bool = False


class Density:
    """Log posterior density on (log sigma, log sd or log ratio ..., atanh correlation)."""

    def __init__(self, conflict: Conflict) -> None:
        self.conflict = conflict
        d = conflict.data
        n = len(d)
        X = np.ones((n, 1)) if conflict.kind == "crossed" else np.column_stack([np.ones(n), d["x"]])
        Q = np.linalg.qr(X, mode="complete")[0][:, X.shape[1] :]
        self.log_fixed = -0.5 * np.linalg.slogdet(X.T @ X)[1]
        self.y = Q.T @ d["y"].to_numpy()
        groups = ["g", "h"] if conflict.kind == "crossed" else ["g"]
        parts = [Q.T @ (d[name].to_numpy()[:, None] == np.unique(d[name])).astype(float) for name in groups]
        if conflict.kind == "slopes":
            parts.append(Q.T @ ((d["g"].to_numpy()[:, None] == np.unique(d["g"])) * d["x"].to_numpy()[:, None]))
        self.M = [Z @ Z.T for Z in parts]
        self.roots, self.vectors = np.linalg.eigh(self.M[0])
        rows = [d["g"].to_numpy() == level for level in np.unique(d["g"])] if conflict.kind == "correlated" else []
        self.cells = [(X[r].T @ X[r], X[r].T @ d["y"].to_numpy()[r]) for r in rows]
        self.total = float(d["y"] @ d["y"])
        self.relative = [bool(p.relative) for p in conflict.sds]
        self.dimension = 1 + len(conflict.sds) + (conflict.kind == "correlated")

    def __call__(self, z: FloatArray) -> FloatArray:
        value = log_density_log(self.conflict.sigma, z[:, 0]) + self.log_fixed
        for k, prior in enumerate(self.conflict.sds):
            value = value + log_density_log(prior, z[:, 1 + k])
        if self.cells:
            # partial correlation of two effects under LKJ(eta): (1 - r^2)^(eta - 1), and dr / dw = 1 - r^2
            log_rest = -2 * (np.abs(z[:, -1]) + np.log1p(np.exp(-2 * np.abs(z[:, -1]))) - np.log(2))
            small = np.abs(z[:, -1]) < 1e-3
            log_rest = np.where(small, -(z[:, -1] ** 2) + z[:, -1] ** 4 / 6, log_rest)
            value = value + self.conflict.eta * log_rest - betaln(0.5, self.conflict.eta)
        return value + self.log_likelihood(z)

    def log_likelihood(self, z: FloatArray) -> FloatArray:
        ratios = [z[:, 1 + k] - (0.0 if r else z[:, 0]) for k, r in enumerate(self.relative)]
        m = self.y.size
        if len(ratios) == 1:
            spread = 1 + np.exp(2 * ratios[0])[:, None] * np.maximum(self.roots, 0)
            log_det, quadratic = np.log(spread).sum(1), ((self.vectors.T @ self.y) ** 2 / spread).sum(1)
        elif self.cells:
            log_det, quadratic = self._slopes(ratios[0], ratios[1], np.tanh(z[:, -1]))
        else:
            log_det, quadratic = self._two_variances(ratios[0], ratios[1])
        with np.errstate(over="ignore"):
            return -0.5 * (m * (np.log(2 * np.pi) + 2 * z[:, 0]) + log_det + quadratic * np.exp(-2 * z[:, 0]))

    def _two_variances(self, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log determinant and quadratic form: one eigendecomposition for all points with the same first ratio."""
        first, which = np.unique(a, return_inverse=True)
        scale = 1 / np.sqrt(1 + np.exp(2 * first)[:, None] * np.maximum(self.roots, 0))
        rotated = self.vectors.T @ self.M[1] @ self.vectors
        roots, vectors = np.linalg.eigh(scale[:, :, None] * rotated * scale[:, None, :])
        y = np.einsum("kij,ki->kj", vectors, scale * (self.vectors.T @ self.y))
        spread = 1 + np.exp(2 * b)[:, None] * np.maximum(roots, 0)[which]
        return np.log(spread).sum(1) - 2 * np.log(scale).sum(1)[which], (y[which] ** 2 / spread).sum(1)

    def _slopes(self, a: FloatArray, b: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log determinant and sum of squares of the contrasts where X has the columns of Z, level by level."""
        s11, s22 = np.exp(2 * a), np.exp(2 * b)
        s12 = r * np.exp(a + b)
        det_s = s11 * s22 * (1 - r**2)
        log_det, F = np.zeros(a.size), [np.zeros(a.size) for _ in range(3)]
        right, square = [np.zeros(a.size), np.zeros(a.size)], np.full(a.size, self.total)
        for A, c in self.cells:
            # (I + A S)^-1 by the adjugate
            d = 1 + A[0, 0] * s11 + 2 * A[0, 1] * s12 + A[1, 1] * s22 + np.linalg.det(A) * det_s
            m11, m22 = 1 + A[0, 1] * s12 + A[1, 1] * s22, 1 + A[0, 0] * s11 + A[0, 1] * s12
            m12, m21 = -(A[0, 0] * s12 + A[0, 1] * s22), -(A[0, 1] * s11 + A[1, 1] * s12)
            u1, u2 = (m11 * c[0] + m12 * c[1]) / d, (m21 * c[0] + m22 * c[1]) / d
            log_det += np.log(d)
            right[0] += u1
            right[1] += u2
            square -= (c[0] * s11 + c[1] * s12) * u1 + (c[0] * s12 + c[1] * s22) * u2
            F[0] += (m11 * A[0, 0] + m12 * A[0, 1]) / d
            F[1] += (m11 * A[0, 1] + m12 * A[1, 1]) / d
            F[2] += (m21 * A[0, 1] + m22 * A[1, 1]) / d
        det_f = F[0] * F[2] - F[1] ** 2
        fitted = (F[2] * right[0] ** 2 - 2 * F[1] * right[0] * right[1] + F[0] * right[1] ** 2) / det_f
        # the determinant of the contrasts' covariance is |V| |X'V^-1X| / |X'X|, and log_fixed has the last one already
        return log_det + np.log(det_f) + 2 * self.log_fixed, square - fitted


def _first_edges(density: Density) -> list[FloatArray]:
    conflict = density.conflict
    fine = density.dimension == 2
    wide = np.array([-5.0, -3, -2, -1, 0, 1, 2, 3, 5] if fine else [-3.0, 0, 2.5])
    steps = np.array([0.7, 2, 4.5, 9, 20, 60, 300] if fine else [3.0, 9, 40])
    axes = []
    for k, prior in enumerate([conflict.sigma, *conflict.sds]):
        centre, width = width_log(prior)
        own = prior.prior if isinstance(prior, Relative) else prior
        around = centre + width * np.concatenate([-steps[::-1], [0.0], steps])
        edges = np.concatenate([wide, around if width < 0.5 else [centre]])
        shape = own.shape if isinstance(own, bl.Gamma) and k else 1.0
        deepest = -26.0 / min(1.0, shape)
        edges = np.concatenate([edges, np.geomspace(deepest, -8.0, 5) if k else [-9.0], [6.0]])
        limit = np.inf
        if isinstance(own, bl.Uniform):
            limit = np.log(own.upper)
            edges = np.append(edges, limit - np.array([0, 0.1, 0.5]))
        axes.append(np.unique(np.clip(edges, deepest if k else -9.0, min(limit, 6.0))))
    if density.dimension > 1 + len(conflict.sds):
        width = min(1.0, 1 / np.sqrt(2 * conflict.eta))
        axes.append(width * np.array([-14.0, -5, -1.5, 0, 1.5, 5, 14]))
    return axes


def _peak_edges(density: Density, axes: list[FloatArray]) -> list[FloatArray]:
    """The first edges and more around the highest point that a search along one axis after the other finds."""
    point = np.array([np.median(e) for e in axes])
    for k, prior in enumerate([density.conflict.sigma, *density.conflict.sds]):
        point[k] = np.clip(width_log(prior)[0], axes[k][0], axes[k][-1])
    widths = np.ones(len(axes))
    for _ in range(12):
        for k, edges in enumerate(axes):
            z = np.unique(np.concatenate([np.linspace(edges[0], edges[-1], 60), edges, [point[k]]]))
            for _ in range(16):
                points = np.repeat(point[None], z.size, axis=0)
                points[:, k] = z
                values = density(points)
                best = int(np.nanargmax(values))
                low, high = z[max(best - 1, 0)], z[min(best + 1, z.size - 1)]
                point[k] = z[best]
                if values[best] - min(values[max(best - 1, 0)], values[min(best + 1, z.size - 1)]) < 0.5:
                    break
                z = np.linspace(low, high, 17)
            widths[k] = max(0.5 * (high - low), 1e-14)
    around = np.array([-8.0, -2.5, 0.0, 2.5, 8.0])
    return [
        np.unique(np.clip(np.append(e, p + w * around), e[0], e[-1]))
        for e, p, w in zip(axes, point, widths, strict=True)
    ]


def reference(conflict: Conflict, budget: int = 6_000_000) -> Reference:
    """Bisect panels of a tensor product until nothing changes."""
    density = Density(conflict)
    axes = _peak_edges(density, _first_edges(density))
    G = {2: 8, 3: 4, 4: 3}[density.dimension]
    x, w = np.polynomial.legendre.leggauss(G)
    before, found = -np.inf, Reference()
    for _ in range(45):
        nodes = [np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * x for a, b in itertools.pairwise(e)]) for e in axes]
        log_w = [np.concatenate([np.log(0.5 * (b - a) * w) for a, b in itertools.pairwise(e)]) for e in axes]
        shape = [v.size for v in nodes]
        if np.prod(shape) > budget:
            break
        grid = np.stack([a.ravel() for a in np.meshgrid(*nodes, indexing="ij")], axis=1)
        values = np.concatenate([density(part) for part in np.array_split(grid, max(1, len(grid) // _CHUNK))])
        log_mass = np.where(np.isnan(values), -np.inf, values).reshape(shape)
        for k, own in enumerate(log_w):
            log_mass = log_mass + own.reshape([-1 if j == k else 1 for j in range(len(axes))])
        top = log_mass.max()
        mass = np.exp(log_mass - top)
        evidence = float(top + np.log(mass.sum()))
        mass /= mass.sum()
        marginals = [mass.sum(tuple(j for j in range(len(axes)) if j != k)) for k in range(len(axes))]
        mean = [float(p @ v) for p, v in zip(marginals, nodes, strict=True)]
        sd = [float(np.sqrt(p @ (v - m) ** 2)) for p, v, m in zip(marginals, nodes, mean, strict=True)]
        axes, split = _split(axes, marginals, sd, G)
        found = Reference(evidence, mean, sd, settled=not split and abs(evidence - before) < (1e-4 if G > 4 else 3e-3))
        if not split:
            break
        before = evidence
    return found


def _split(
    axes: list[FloatArray], marginals: Sequence[FloatArray], sd: Sequence[float], G: int
) -> tuple[list[FloatArray], bool]:
    """Bisect panels with mass that are wide beside the marginal sd, drop what has none."""
    new, any_split = [], False
    for edges, p, s in zip(axes, marginals, sd, strict=True):
        share = p.reshape(-1, G).sum(1)
        nearby = np.maximum(share, np.maximum(np.append(share[1:], 0), np.append(0, share[:-1])))
        out = [edges[0]]
        for k in range(share.size):
            a, b = edges[k], edges[k + 1]
            wide = b - a > (0.8 if G > 4 else 1.3) * max(s, 1e-13)
            if share[k] > (1e-6 if G > 4 else 1e-4) and wide:
                out.append(0.5 * (a + b))
                any_split = True
            out.append(b)
        kept = np.flatnonzero(nearby > (1e-12 if G > 4 else 1e-9))
        ends = (edges[kept[0]], edges[kept[-1] + 1])
        array = np.array(out)
        new.append(array[(array >= ends[0]) & (array <= ends[1])])
    return new, any_split


@dataclass(frozen=True)
class Outcome:
    """What became of a conflict.

    Attributes
    ----------
    status : str
        ``"certified"``, ``"handed on"``, ``"refused"`` or ``"no reference"``.
    method : str
    evidence_error : float
        Of the log evidence, in units of what is tolerable.
    moment_error : float
        Largest error of the mean of log sigma or a log sd, in Monte Carlo standard errors of the draws.
    text : str
    """

    status: str
    method: str
    evidence_error: float
    moment_error: float
    text: str


def outcome(conflict: Conflict, seed: int, draws: int = 2000) -> Outcome:
    """Sample a conflict and compare what is certified with brute force."""
    model = bl.Model(FORMULAS[conflict.kind], conflict.data)
    priors = {"sigma": conflict.sigma, **dict(zip(conflict.labels, conflict.sds, strict=True)), "lkj": conflict.eta}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit()
        cp, optimum = model.cross_products, model._optimum(True)
    rng = np.random.default_rng(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", PriorWarning)
            resolved = resolve_priors(cp.design, priors)
            drawn = sample_collapsed(cp, resolved, optimum.terms, draws=draws, rng=rng, unreliable="raise")
    except UnreliableWeightsError as error:
        return Outcome("handed on", "", 0.0, 0.0, error.found)
    except (PriorError, FitError) as error:
        return Outcome("refused", "", 0.0, 0.0, str(error))
    exact = reference(conflict)
    if not exact.settled:
        return Outcome("no reference", drawn.diagnostics.method, 0.0, 0.0, "")
    return _compare(conflict, drawn, exact)


def _compare(conflict: Conflict, drawn: CollapsedDraws, exact: Reference) -> Outcome:
    d = drawn.diagnostics
    assert isinstance(d, Diagnostics)
    sigma = drawn.sigma
    sds = np.concatenate([s.reshape(sigma.size, -1) for s in drawn.sds], axis=1)
    columns = [np.log(sigma)]
    columns += [np.log(sds[:, k] / (sigma if p.relative else 1.0)) for k, p in enumerate(conflict.sds)]
    if conflict.kind == "correlated":
        columns.append(np.arctanh(np.clip(drawn.corrs[0][:, 1, 0], -1 + 1e-15, 1 - 1e-15)))
    size = sigma.size * min(1.0, d.efficiency * d.points / sigma.size)
    worst = 0.0
    for column, mean, sd in zip(columns, exact.mean, exact.sd, strict=True):
        # Rounding of a logarithm, where a prior is not much wider.
        error = sd / np.sqrt(size) + 4e-15
        worst = max(worst, abs(float(column.mean()) - mean) / error)
        # fourth moments of these columns are at most about 9 in units of the sd
        worst = max(worst, abs(float(column.std()) - sd) / (sd * np.sqrt(2.0 / size) + 4e-15) / 2.0)
    tolerable = 5e-3 if d.method == "quadrature" else 1.0 / np.sqrt(size) * 5 + 1e-3
    return Outcome("certified", d.method, abs(d.log_evidence - exact.log_evidence) / tolerable, worst, d.method)
