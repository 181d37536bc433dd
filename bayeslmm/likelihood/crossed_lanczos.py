"""Log determinant of a large operator, and its exact derivative, from quadratic forms by Lanczos' method.

With D the diagonal of K and ``A = D^-1/2 K D^-1/2`` (which has a unit diagonal),

    log |K| = sum log D + tr f(A),   f(A) = log A - A + I,   tr f(A) = sum_i u_i'f(A) u_i + E z'f(A) z,

u_i being few fixed orthonormal vectors and z random signs made orthogonal to them. The probes are the same at all
points, so that the estimate is a smooth function; ``A - I``, whose trace is zero, takes out what is linear in the
distance of A from I, and with it most of the noise. In the Krylov space of a probe, ``V'A V`` being tridiagonal with
eigenvalues t_i, the derivative of ``x'log(A) x`` along dA is ``tr(V F V' dA)``, F made from divided differences of
the logarithm: the gradient belongs to the value, probe by probe, for the cost of a few more products.

References
----------
Ubaru, Chen & Saad (2017), SIAM J. Matrix Anal. Appl. 38, 1075-1099 (quadrature); Meyer, Musco, Musco & Woodruff
(2021), SIAM Symposium on Simplicity in Algorithms (what is taken out exactly); Higham (2008), Functions of Matrices,
ch. 3 (the derivative).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_operator import Operator, diagonal_of, is_regular
from bayeslmm.types import FloatArray

# Columns that are worked on at once.
_WIDTH = 8
# Steps at most, and how much a form may change, in units of the squared length, when it is taken for converged.
_STEPS, _SETTLED = 160, 1e-12
# Share of the largest eigenvalue of F below which a direction of the derivative is left out.
_KEPT = 1e-11
# Fixed vectors, rounds of the iteration that finds them, random ones.
_FIXED, _ROUNDS, PROBES = 8, 6, 16
_SEED = 20_240_817


@dataclass(frozen=True)
class Probes:
    """Vectors whose quadratic forms make up a trace.

    Attributes
    ----------
    fixed : FloatArray, shape (q, f)
        Orthonormal.
    random : FloatArray, shape (q, z)
        Signs, made orthogonal to them.
    """

    fixed: FloatArray
    random: FloatArray


@dataclass(frozen=True)
class LogDet:
    """Log determinant of K at one point, with its gradient in the covariance G of every block.

    Attributes
    ----------
    value : float
    gradient : tuple of FloatArray, each (c, c)
    values : FloatArray, shape (z,)
        What each random probe says of the value; their mean is it.
    gradients : tuple of FloatArray, each (z, c, c)
    """

    value: float
    gradient: tuple[FloatArray, ...]
    values: FloatArray
    gradients: tuple[FloatArray, ...]

    @property
    def error(self) -> float:
        """Standard error of the value."""
        z = self.values.size
        return float(self.values.std(ddof=1) / np.sqrt(z)) if z > 1 else 0.0


def make_probes(operator: Operator, probes: int = PROBES, fixed: int = _FIXED, seed: int = _SEED) -> Probes:
    """Fixed vectors near the eigenvectors of A that are farthest from 1 at some point, and random signs."""
    rng = np.random.default_rng(seed)
    q = operator.s.q
    fixed = min(fixed, q)
    root = np.sqrt(operator.diagonal)[:, None]
    basis = np.linalg.qr(np.concatenate([root, rng.standard_normal((q, fixed))], axis=1)[:, :fixed])[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(operator.times(basis / root) / root - basis)[0]
    signs = rng.integers(0, 2, (q, probes)) * 2.0 - 1.0
    return Probes(basis, signs - basis @ (basis.T @ signs))


@dataclass(frozen=True)
class _KrylovForm:
    """``x'(log A - A + I) x`` and the matrix of its derivative, ``sum_r weights_r v_r v_r'``."""

    value: float
    weights: FloatArray  # (r,)
    vectors: FloatArray  # (q, r)
    products: FloatArray  # A times the vectors (q, r)


def log_det(operator: Operator, probes: Probes) -> LogDet:
    """Estimate ``log |K|`` with its gradient."""
    f, z = probes.fixed.shape[1], probes.random.shape[1]
    columns = np.concatenate([probes.fixed, probes.random], axis=1)
    weights = np.concatenate([np.ones(f), np.full(z, 1.0 / max(z, 1))])
    changes = _Changes.of(operator)
    values, found = np.empty(f + z), []
    for start in range(0, f + z, _WIDTH):
        for k, form in enumerate(_forms(operator, columns[:, start : start + _WIDTH]), start=start):
            values[k] = form.value
            found.append(changes.of_form(form))
    gradients = [np.array([own[b] for own in found]) for b in range(len(operator.T))]
    sure = float(np.log(operator.diagonal).sum())
    known, slopes = changes.of_diagonal(1.0 / operator.diagonal), []
    for b, T in enumerate(operator.T):
        if b and not is_regular(T):
            known[b], gradients[b] = _at_singular(operator, columns, b)
        slopes.append(known[b] + np.tensordot(weights, gradients[b], 1))
    each = sure + values[:f].sum() + values[f:]
    apart = [a + own[:f].sum(0) + own[f:] for a, own in zip(known, gradients, strict=True)]
    return LogDet(sure + float(weights @ values), tuple(slopes), each, tuple(apart))


def _forms(operator: Operator, x: FloatArray) -> list[_KrylovForm]:
    """Lanczos' method for every column of x (q, k), with full orthogonalisation."""
    q, k = x.shape
    root = np.sqrt(operator.diagonal)
    steps = min(_STEPS, q)
    norms = np.sqrt((x**2).sum(0))
    basis = np.zeros((k, min(48, steps) + 1, q))
    basis[:, 0] = (x / np.maximum(norms, 1e-300)).T
    alpha, beta = np.zeros((steps, k)), np.zeros((steps, k))
    last, m = np.full(k, np.inf), 0
    length, done = np.zeros(k, dtype=int), norms == 0.0
    while m < steps and not done.all():
        if m + 2 > basis.shape[1]:
            basis = np.concatenate([basis, np.zeros((k, min(48, steps - m), q))], axis=1)
        active = np.flatnonzero(~done)
        v = basis[active, m].T / root[:, None]
        w = np.ascontiguousarray((operator.times(v) / root[:, None]).T)
        for i, own in zip(active, w, strict=True):
            V = basis[i, : m + 1]
            for _ in range(2):
                part = V @ own
                alpha[m, i] += part[m]
                own -= part @ V
            beta[m, i] = np.sqrt(own @ own)
            length[i] = m + 1
            if beta[m, i] > 1e-14 * alpha[: m + 1, i].max():
                basis[i, m + 1] = own / beta[m, i]
            else:
                beta[m, i], done[i] = 0.0, True
        m += 1
        if m % 3 == 0:
            for i in np.flatnonzero(~done):
                value = _quadrature(alpha[:m, i], beta[: m - 1, i])
                done[i] = abs(value - last[i]) < _SETTLED * max(1.0, abs(value))
                last[i] = value
    return [_form(basis[i], alpha[: length[i], i], beta[: length[i], i], float(norms[i]), root) for i in range(k)]


def _quadrature(alpha: FloatArray, beta: FloatArray) -> float:
    t, U = eigh_tridiagonal(alpha, beta)
    return float((U[0] ** 2) @ np.log(np.maximum(t, 1e-300)))


def _form(basis: FloatArray, alpha: FloatArray, beta: FloatArray, norm: float, root: FloatArray) -> _KrylovForm:
    m = alpha.size
    if not m:
        empty = np.zeros((root.size, 0))
        return _KrylovForm(0.0, np.zeros(0), empty, empty)
    t, U = eigh_tridiagonal(alpha, beta[:-1])
    t = np.maximum(t, 1e-300)
    c = norm * U[0]
    F = (U * c) @ _divided_logs(t) @ (U * c).T
    F[0, 0] -= norm**2
    weights, vectors = np.linalg.eigh(0.5 * (F + F.T))
    kept = np.abs(weights) > _KEPT * np.abs(weights).max()
    weights, vectors = weights[kept], vectors[:, kept]
    moved = alpha[:, None] * vectors
    moved[1:] += beta[:-1, None] * vectors[:-1]
    moved[:-1] += beta[:-1, None] * vectors[1:]
    products = basis[:m].T @ moved
    if beta[-1] > 0.0:
        products += np.outer(basis[m], beta[-1] * vectors[-1])
    value = float((c**2) @ np.log(t)) - norm**2 * float(alpha[0] - 1.0)
    return _KrylovForm(value, weights, basis[:m].T @ vectors, products)


def _divided_logs(t: FloatArray) -> FloatArray:
    """``(log s - log t) / (s - t)`` of all pairs, ``1 / t`` on the diagonal."""
    ratio = (t[:, None] - t) / t
    close = np.abs(ratio) < 1e-8
    safe = np.where(close, 1.0, ratio)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(close, 1.0 - 0.5 * ratio, np.log1p(safe) / safe) / t)


@dataclass(frozen=True)
class _Changes:
    """How K changes with the covariance of every block: what gradients are made from.

    Attributes
    ----------
    operator : Operator
    inner : FloatArray, shape (J, c, c)
        ``R'M`` of the first factor.
    first : FloatArray, shape (c, c, q)
        Diagonal of the change of K along each pair of entries of the first block's G.
    """

    operator: Operator
    inner: FloatArray
    first: FloatArray

    @classmethod
    def of(cls, operator: Operator) -> _Changes:
        s = operator.s
        inner = small.dot(small.transpose(s.R), operator.M)
        c = s.R.shape[1]
        first = np.zeros((c, c, s.q))
        for a in range(c):
            for b in range(a + 1):
                pair = inner[:, a, :, None] * inner[:, b, None, :]
                forms = s.tile_forms(0.5 * (pair + small.transpose(pair)))
                tiles = [small.dot(small.dot(T.T, x), T) for x, T in zip(forms, operator.T[1:], strict=True)]
                first[a, b] = first[b, a] = -diagonal_of(tiles)
        return cls(operator, inner, first)

    def of_diagonal(self, weights: FloatArray) -> list[FloatArray]:
        """Gradient (c, c) of ``weights' diag(K)`` for weights (q,), for every block."""
        out = [self.first @ weights]
        for (block, span), T, tiles in zip(
            self.operator.s.others, self.operator.T[1:], self.operator.inner_tiles, strict=True
        ):
            own = weights[span].reshape(block.n_levels, block.size)
            out.append(_back(np.einsum("ja,jab->ba", own, tiles), T))
        return out

    def of_form(self, form: _KrylovForm) -> list[FloatArray]:
        """Gradient (c, c) of a form for every block; zero for blocks with a singular factor."""
        operator, s = self.operator, self.operator.s
        root = np.sqrt(operator.diagonal)[:, None]
        v, weighted = form.vectors / root, form.vectors * form.weights
        diagonal = (weighted * form.products).sum(1) / operator.diagonal
        out = [-own for own in self.of_diagonal(diagonal)]
        e = small.dot(self.inner, s.cells.times(operator.scaled(v)))
        rows = e.transpose(1, 0, 2).reshape(e.shape[1], -1)
        out[0] -= (rows * np.tile(form.weights, e.shape[0])) @ rows.T
        moved, left = form.products * root - v, v * form.weights
        for b, ((block, span), T) in enumerate(zip(self.operator.s.others, operator.T[1:], strict=True), start=1):
            J, c = block.n_levels, block.size
            x = left[span].reshape(J, c, -1).transpose(1, 0, 2).reshape(c, -1)
            y = moved[span].reshape(J, c, -1).transpose(1, 0, 2).reshape(c, -1)
            out[b] += _back(y @ x.T, T)
        return out


def _back(slopes: FloatArray, T: FloatArray) -> FloatArray:
    """Gradient in G from half of that along ``dT = T F``, F triangular; zero where T has no inverse."""
    if not is_regular(T):
        return np.zeros(T.shape)
    inverse = np.linalg.inv(T)
    lower = np.tril(slopes)
    return np.asarray(inverse.T @ (lower + np.tril(lower, -1).T) @ inverse)


def _at_singular(operator: Operator, columns: FloatArray, b: int) -> tuple[FloatArray, FloatArray]:
    """Sum of the diagonal tiles of S, and what each column says of those of ``- S T K^-1 T'S``."""
    block, span = operator.s.others[b - 1]
    right = operator.products(columns)
    solved = operator.scaled(operator.solve(operator.scaled(right, transposed=True)))
    moved = operator.products(solved)[span].reshape(block.n_levels, block.size, -1)
    own = columns[span].reshape(block.n_levels, block.size, -1)
    forms = -np.einsum("jak,jbk->kab", own, moved)
    return operator.tiles[b - 1].sum(0), 0.5 * (forms + small.transpose(forms))
