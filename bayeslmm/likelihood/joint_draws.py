"""Exact draws of (beta, u) for many covariance parameters of a large design from a few factorisations.

A draw at one covariance needs a factorisation there, which for a dense block of a thousand effects is most of the
work. With ``K0 = T0' C T0 + I`` factored at one covariance G0 that is at least as large as all those asked for, and
effects written as ``b = T0 w``, the precision at another one is ``K0 + D``, ``D = T0' G^-1 T0 - I``, block
diagonal and nonnegative. If w0 is a draw at G0 (of the same sigma), then

    w = w0 + (K0 + D)^-1 (sigma D^(1/2) e - D w0),   e standard normal,

is a draw at G: this is perturbation-optimisation sampling with the perturbation of K0 never formed. The system is
solved by conjugate gradients preconditioned with K0, whose products with K0 follow from a recurrence, so that an
iteration costs one solution with the factor, for hundreds of draws at once.

References
----------
Papandreou & Yuille (2010), Advances in Neural Information Processing Systems 23 (sampling by perturbation);
Hestenes & Stiefel (1952), J. Research of the National Bureau of Standards 49, 409-436.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_conditional import at_one_point
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.elimination import ChainColumn, Eliminated, backward, forward
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.large import Dense
from bayeslmm.likelihood.rotation import InternalPrior
from bayeslmm.types import FloatArray, IntArray

# Draws solved for at once: enough for matrix products, few enough for the memory of some copies.
_WIDTH = 400
# Logarithm of the range of a relative sd among draws solved for together: the wider, the more iterations.
_RANGE = 0.5
# Error of all effects of a draw together, in the metric of the posterior (units of conditional standard deviations).
_TOLERANCE = 1e-6
_ITERATIONS = 150

type Parts = list[FloatArray]


@dataclass(frozen=True)
class _Reference:
    """The factored system at G0: every array has one block of rows for each chain member, then the dense block."""

    h: ChainSums
    eliminated: Eliminated
    dense: Dense
    T: tuple[FloatArray, ...]
    inverse: tuple[FloatArray, ...]

    def solve(self, right: Parts) -> Parts:
        """``K0^-1 right``; parts (J, c, S) of every block and (p, S) of the fixed effects."""
        h, chain = self.h, self.h.plan.chain
        first = right[0]
        F = small.dot(h.R, self.T[0])
        turned = [small.dot(inv.T, r) for inv, r in zip(self.inverse[1:], right[1:-1], strict=True)]
        flat = [r.reshape(-1, r.shape[-1]) for r in turned[chain - 1 :]]
        column = ChainColumn(-small.dot(F, first), tuple(turned[: chain - 1]), np.concatenate([*flat, right[-1]]))
        halves, rest = forward(h, self.eliminated, column)
        dense = self.dense.solve(rest)
        b = backward(h, self.eliminated, halves, dense)
        # What the first member's own right-hand side adds beyond its projection on the data.
        w = [small.dot(inv, x) for inv, x in zip(self.inverse, b, strict=False)]
        w[0] = w[0] + first
        return self._with_dense(w, dense)

    def draw(self, solution: FloatArray, sigma: FloatArray, rng: np.random.Generator) -> Parts:
        """Draws at G0, one for each sigma (S,); `solution` (t,) are the dense block's conditional estimates."""
        h, S = self.h, sigma.size
        noise = rng.standard_normal((solution.size, S)) * sigma
        dense = self.dense.scale(solution[:, None] + self.dense.back(noise), False)
        own = [sigma * rng.standard_normal((J.shape[0], T.shape[0], S)) for J, T in self._chain()]
        halves = [member.half.fixed[..., -1:] for member in self.eliminated.members]
        b = backward(h, self.eliminated, halves, dense, own)
        return self._with_dense([small.dot(inv, x) for inv, x in zip(self.inverse, b, strict=False)], dense)

    def _chain(self) -> list[tuple[FloatArray, FloatArray]]:
        return [(m.lower, T) for m, T in zip(self.eliminated.members, self.T, strict=False)]

    def _with_dense(self, chain: Parts, dense: FloatArray) -> Parts:
        start = 0
        for inverse, J in zip(self.inverse[len(chain) :], self.dense.levels, strict=True):
            c = inverse.shape[0]
            chain.append(small.dot(inverse, dense[start : start + J * c].reshape(J, c, -1)))
            start += J * c
        return [*chain, dense[start:]]


type Evaluate = Callable[[Sequence[FloatArray]], Factor]
# One draw of (beta, b) of every block at each of some points, from an evaluation there.
type DrawEach = Callable[[Sequence[FloatArray], FloatArray], tuple[FloatArray, list[FloatArray]]]


def draws_by_reference(
    h: ChainSums,
    evaluate: Evaluate,
    draw_each: DrawEach,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: InternalPrior | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[FloatArray, list[FloatArray]]:
    """One exact draw of (beta, b) at each of K points of a hierarchy, on internal coordinates.

    Parameters
    ----------
    h : ChainSums
    evaluate : callable
        Eliminates at one point.
    draw_each : callable
        Draws point by point, for those where the iteration does not converge.
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors.
    sigma : FloatArray, shape (K,)
    rng : numpy.random.Generator
    prior : InternalPrior, optional
    report : callable, optional
        Told how many draws are done.

    Returns
    -------
    FloatArray, shape (K, p)
    list of FloatArray, each (K, J, c)
    """
    K = sigma.size
    beta = np.empty((K, h.frame.p))
    b = [np.empty((K, block.n_levels, block.size)) for block in h.frame.blocks]
    done = 0
    for chosen in _batches(factors):
        own = [T[chosen] for T in factors]
        drawn, parts, lost = _draw_together(h, evaluate, own, sigma[chosen], rng, prior)
        for k in lost:
            again, effects = draw_each([T[k : k + 1] for T in own], sigma[chosen][k : k + 1])
            drawn[k] = again[0]
            for out, values in zip(parts, effects, strict=True):
                out[k] = values[0]
        beta[chosen] = drawn
        for out, values in zip(b, parts, strict=True):
            out[chosen] = values
        done += chosen.size
        if report is not None:
            report(done)
    return beta, b


def _batches(factors: Sequence[FloatArray]) -> Iterator[IntArray]:
    """Draws in the order of the block whose scale varies most, in parts that differ little."""
    logs = [0.5 * np.log(np.maximum((T**2).sum((1, 2)), 1e-300)) for T in factors]
    widest = max(logs, key=lambda x: float(np.std(x)))
    order = np.argsort(widest)
    values = widest[order]
    start = 0
    while start < order.size:
        stop = int(np.searchsorted(values, values[start] + _RANGE, side="right"))
        stop = min(stop, start + _WIDTH)
        yield order[start:stop]
        start = stop


def _draw_together(
    h: ChainSums,
    evaluate: Evaluate,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: InternalPrior | None,
) -> tuple[FloatArray, list[FloatArray], IntArray]:
    """Draws of beta and of the effects, and where they did not converge."""
    p = h.frame.p
    reference, solution = _reference(h, evaluate, [_upper_bound(T) for T in factors])
    D, roots = _differences(reference, factors)
    mean = np.zeros(p)
    if prior is None:
        D.append(np.zeros((sigma.size, p, p)))
        roots.append(D[-1])
    else:
        mean = prior.mean
        values, vectors = np.linalg.eigh(prior.precision)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        D.append((sigma**2)[:, None, None] * prior.precision)
        roots.append(sigma[:, None, None] * root)
    w = reference.draw(solution, sigma, rng)
    right = [
        sigma * _times(root, rng.standard_normal(x.shape)) - _times(d, x)
        for d, root, x in zip(D, roots, w, strict=True)
    ]
    right[-1] += _times(D[-1], np.broadcast_to(mean[:, None], w[-1].shape))
    moved, converged = _conjugate_gradients(reference, D, right, sigma)
    parts = [x + y for x, y in zip(w, moved, strict=True)]
    internal = [np.moveaxis(small.dot(T, x), -1, 0) for T, x in zip(reference.T, parts[:-1], strict=True)]
    return parts[-1].T.copy(), [x.copy() for x in internal], np.flatnonzero(~converged)


def _upper_bound(T: FloatArray) -> FloatArray:
    """A regular factor of a covariance that exceeds all of ``T_s T_s'``, and by little."""
    G = T @ small.transpose(T)
    mean = G.mean(axis=0)
    c = mean.shape[0]
    root = np.linalg.cholesky(mean + (1e-6 * np.trace(mean) / c + 1e-200) * np.eye(c))
    half = np.linalg.solve(root, T)
    largest = np.linalg.norm(half, ord=2, axis=(1, 2)).max()
    return np.asarray(root * max(largest, 1e-100) * (1.0 + 1e-10))


def _reference(h: ChainSums, evaluate: Evaluate, T: Sequence[FloatArray]) -> tuple[_Reference, FloatArray]:
    factor = evaluate([t[None] for t in T])
    inverse = tuple(np.linalg.inv(t) for t in T)
    return _Reference(h, *at_one_point(factor), tuple(T), inverse), factor.solution[0]


def _differences(reference: _Reference, factors: Sequence[FloatArray]) -> tuple[Parts, Parts]:
    """``T0' G^-1 T0 - I`` (S, c, c) of every block, and a square root of it."""
    D, roots = [], []
    for inverse, T in zip(reference.inverse, factors, strict=True):
        U, s, _ = np.linalg.svd(inverse @ T)
        # A vanishing effect has infinite precision; this leaves its sd at 1e-7 of what the reference has.
        excess = np.maximum(1.0 / np.maximum(s, 1e-7) ** 2 - 1.0, 0.0)
        D.append(np.asarray((U * excess[:, None]) @ small.transpose(U)))
        roots.append(np.asarray(U * np.sqrt(excess)[:, None]))
    return D, roots


def _times(matrices: FloatArray, parts: FloatArray) -> FloatArray:
    """One matrix (S, c, c) for every draw times rows (J, c, S) or (c, S)."""
    if matrices.shape[-1] == 1:
        return np.asarray(parts * matrices[:, 0, 0])
    return np.asarray(np.einsum("sab,...bs->...as", matrices, parts))


def _inner(a: Parts, b: Parts) -> FloatArray:
    """Inner products (S,) draw by draw."""
    total = np.zeros(a[0].shape[-1])
    for x, y in zip(a, b, strict=True):
        total += np.einsum("ks,ks->s", x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
    return total


def _conjugate_gradients(
    reference: _Reference, D: Parts, right: Parts, sigma: FloatArray
) -> tuple[Parts, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Solve ``(K0 + D) x = right`` for all draws; which of them converged."""
    r = right
    z = reference.solve(r)
    x = [np.zeros_like(part) for part in r]
    p, q = z, r
    rz = _inner(r, z)
    goal = (_TOLERANCE * sigma) ** 2
    for _ in range(_ITERATIONS):
        if (rz <= goal).all():
            break
        product = [a + _times(d, b) for a, d, b in zip(q, D, p, strict=True)]
        step = rz / np.maximum(_inner(p, product), 1e-300)
        x = [a + step * b for a, b in zip(x, p, strict=True)]
        r = [a - step * b for a, b in zip(r, product, strict=True)]
        z = reference.solve(r)
        new = _inner(r, z)
        share = new / np.maximum(rz, 1e-300)
        p = [a + share * b for a, b in zip(z, p, strict=True)]
        q = [a + share * b for a, b in zip(r, q, strict=True)]
        rz = np.maximum(new, 0.0)
    return x, rz <= 1e4 * goal
