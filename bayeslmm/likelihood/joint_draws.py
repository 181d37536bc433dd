"""Exact draws of (beta, u) for many covariance parameters of a large design from a few factorisations.

A draw at one covariance needs a factorisation there, which for a dense block of a thousand effects is most of the
work. With ``K0 = T0' C T0 + I`` factored at one covariance G0 that is at least as large as all those asked for, and
effects written as ``b = T0 w``, the precision at another one is ``K0 + D``, ``D = T0' G^-1 T0 - I``, block
diagonal and nonnegative. If w0 is a draw at G0 (of the same sigma), then

    w = w0 + (K0 + D)^-1 (sigma D^(1/2) e - D w0),   e standard normal,

is a draw at G: this is perturbation-optimisation sampling with the perturbation of K0 never formed. The system is
solved by conjugate gradients preconditioned with K0, whose products with K0 follow from a recurrence, so that an
iteration costs one solution with the factor, for hundreds of draws at once. The last blocks of a dense block with few
effects, and the fixed effects, are not perturbed: what is left of them by the elimination of the others is factored for
every draw, at its own covariance, be it singular. A factor of few levels is the one whose sd varies most.

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
from bayeslmm.likelihood.last_blocks import LeadingDense, first_of_few, solve_upper
from bayeslmm.likelihood.rotation import InternalPrior
from bayeslmm.types import FloatArray, IntArray

# Draws solved for at once: enough for matrix products, few enough for the memory of some copies.
_WIDTH = 250
# Logarithm of the range of a relative sd among draws solved for together: the wider, the more iterations.
_RANGE = 0.5
# Error of all effects of a draw together, in the metric of the posterior (units of conditional standard deviations).
_TOLERANCE = 1e-6
_ITERATIONS = 150

type Parts = list[FloatArray]
type Evaluate = Callable[[Sequence[FloatArray]], Factor]
# One draw of (beta, b) of every block at each of some points, from an evaluation there.
type DrawEach = Callable[[Sequence[FloatArray], FloatArray], tuple[FloatArray, list[FloatArray]]]


@dataclass(frozen=True)
class _Reference:
    """The factored system at G0; the last blocks, of few effects, are in it with the covariances of every draw.

    Attributes
    ----------
    T, inverse : tuple of FloatArray
        Relative factors of the chain and the leading dense blocks.
    shell : Dense
        The leading dense blocks, to multiply by their factors.
    leading : LeadingDense
    root : FloatArray, shape (S, r, r)
        ``L^-1 T'`` with T the factors of the last blocks and X at every draw, ``L L'`` what is left of their system.
    """

    h: ChainSums
    eliminated: Eliminated
    T: tuple[FloatArray, ...]
    inverse: tuple[FloatArray, ...]
    shell: Dense
    leading: LeadingDense
    root: FloatArray

    @classmethod
    def of(
        cls,
        h: ChainSums,
        evaluate: Evaluate,
        factors: Sequence[FloatArray],
        sigma: FloatArray,
        prior: InternalPrior | None,
    ) -> _Reference:
        """At covariances that exceed all of the draws'."""
        T, few, chain = [_upper_bound(own) for own in factors], first_of_few(h), h.plan.chain
        factor = evaluate([t[None] for t in T])
        leading = LeadingDense.of(h, factor)
        shell = Dense(leading.upper, tuple(T[chain:few]), leading.levels)
        added = None if prior is None else (sigma**2)[:, None, None] * prior.precision
        L, own = leading.last.roots(factors[few:], sigma.size, added)
        root = np.linalg.solve(L, small.transpose(own))
        inverse = tuple(np.linalg.inv(t) for t in T[:few])
        return cls(h, at_one_point(factor)[0], tuple(T[:few]), inverse, shell, leading, root)

    def solve(self, chain: Parts, lead: FloatArray) -> tuple[Parts, FloatArray, FloatArray]:
        """``K0^-1 right``, where `right` is zero for the last blocks and X: the chain's, the leading part, the last.

        Parameters
        ----------
        chain : list of FloatArray, each (J, c, S)
        lead : FloatArray, shape (m, S)
        """
        h, first, upper, across = self.h, chain[0], self.leading.upper, self.leading.across
        m = upper.shape[0]
        turned = [small.dot(inv.T, r) for inv, r in zip(self.inverse[1:], chain[1:], strict=False)]
        between = small.dot(-small.dot(h.R, self.T[0]), first)
        zeros = np.zeros((h.D.shape[0] - 1, first.shape[-1]))
        halves, dense = forward(h, self.eliminated, ChainColumn(between, tuple(turned), zeros))
        half = self.shell.scale(dense[:m], True)
        half += lead
        solve_upper(upper, half, transposed=True)
        y = dense[m:] - across.T @ half
        y = _times_root(self.root, _times_root(self.root, y, False), True)
        half -= across @ y
        x = solve_upper(upper, half, transposed=False).copy()
        dense[m:] = y
        self.shell.scale(half, False)
        b = backward(h, self.eliminated, halves, dense)
        # What the first member's own right-hand side adds beyond its projection on the data.
        w = [small.dot(inv, x) for inv, x in zip(self.inverse, b, strict=False)]
        w[0] += first
        return w, x, y

    def draw(
        self, added: FloatArray, sigma: FloatArray, rng: np.random.Generator
    ) -> tuple[Parts, FloatArray, FloatArray]:
        """Draws at G0, one for each sigma (S,); `added` (r, S) is the right-hand side of the prior."""
        h, (m, r), S, leading = self.h, self.leading.across.shape, sigma.size, self.leading
        y = _times_root(self.root, leading.last.score[:, None] + added, False) + sigma * rng.standard_normal((r, S))
        y = _times_root(self.root, y, True)
        half = sigma * rng.standard_normal((m, S))
        half += leading.half
        half -= leading.across @ y
        x = solve_upper(leading.upper, half, transposed=False)
        dense = np.concatenate([x, y])
        self.shell.scale(dense[:m], False)
        members = zip(self.eliminated.members, self.T, strict=False)
        own = [sigma * rng.standard_normal((M.lower.shape[0], T.shape[0], S)) for M, T in members]
        halves = [member.half.fixed[..., -1:] for member in self.eliminated.members]
        b = backward(h, self.eliminated, halves, dense, own)
        return [small.dot(inv, x) for inv, x in zip(self.inverse, b, strict=False)], x, y


def _times_root(root: FloatArray, rows: FloatArray, transposed: bool) -> FloatArray:
    """Matrices (S, r, r) of every draw, or their transposes, times rows (r, S)."""
    return np.asarray(np.einsum("sba,bs->as" if transposed else "sab,bs->as", root, rows))


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
    for chosen in _batches(h, factors):
        own = [T[chosen] for T in factors]
        drawn, parts, lost = _draw_together(h, evaluate, own, sigma[chosen], rng, prior)
        beta[chosen] = drawn
        for out, values in zip(b, parts, strict=True):
            out[chosen] = values
        for k, place in zip(lost, chosen[lost], strict=True):
            again, effects = draw_each([T[k : k + 1] for T in own], sigma[place : place + 1])
            beta[place] = again[0]
            for out, values in zip(b, effects, strict=True):
                out[place] = values[0]
        done += chosen.size
        if report is not None:
            report(done)
    return beta, b


def _batches(h: ChainSums, factors: Sequence[FloatArray]) -> Iterator[IntArray]:
    """Draws in parts that differ little, but in the blocks of few effects, whose covariances are each draw's own."""
    logs = [0.5 * np.log(np.maximum((T**2).sum((1, 2)), 1e-300)) for T in factors[: first_of_few(h)]]
    widest = max(logs, key=lambda x: float(np.std(x)))
    order = np.argsort(widest)
    values = widest[order]
    start = 0
    while start < order.size:
        stop = int(np.searchsorted(values, values[start] + _RANGE, side="right"))
        yield from _halved(logs, order[start:stop])
        start = stop


def _halved(logs: Sequence[FloatArray], members: IntArray) -> Iterator[IntArray]:
    """Parts of at most `_WIDTH` members, halved in the direction in which they differ most."""
    if members.size <= _WIDTH:
        yield members
        return
    widest = max(logs, key=lambda x: float(np.std(x[members])))
    order, middle = members[np.argsort(widest[members])], members.size // 2
    yield from _halved(logs, order[:middle])
    yield from _halved(logs, order[middle:])


def _draw_together(
    h: ChainSums,
    evaluate: Evaluate,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: InternalPrior | None,
) -> tuple[FloatArray, list[FloatArray], IntArray]:
    """Draws of beta and of the effects, and where they did not converge."""
    reference = _Reference.of(h, evaluate, factors, sigma, prior)
    few, p, r = first_of_few(h), h.frame.p, reference.root.shape[1]
    added = np.zeros((r, sigma.size))
    if prior is not None:
        added[r - p :] = (prior.precision @ prior.mean)[:, None] * sigma**2
    D, roots = _differences(reference, factors[:few])
    w, x, y = reference.draw(added, sigma, rng)
    shapes = [(block.n_levels, block.size, sigma.size) for block in h.frame.blocks]
    parts = [*w, *_by_block(x, shapes[h.plan.chain : few])]
    right = [
        sigma * _times(change, rng.standard_normal(part.shape)) - _times(d, part)
        for d, change, part in zip(D, roots, parts, strict=True)
    ]
    system = _System(reference, D, tuple(shapes[h.plan.chain : few]))
    moved, tail, converged = _conjugate_gradients(system, right, sigma)
    for part, change in zip(parts, moved, strict=True):
        part += change
    y = y + tail
    b = [small.dot(t, part) for t, part in zip(reference.T, parts, strict=True)]
    internal = [np.moveaxis(part, -1, 0) for part in [*b, *_by_block(y[: r - p], shapes[few:])]]
    return y[r - p :].T, internal, np.flatnonzero(~converged)


def _by_block(rows: FloatArray, shapes: Sequence[tuple[int, int, int]]) -> Parts:
    """Rows (q, S) of several blocks as (J, c, S) of each."""
    sizes = np.cumsum([J * c for J, c, _ in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(rows, sizes), shapes, strict=True)] if shapes else []


def _upper_bound(T: FloatArray) -> FloatArray:
    """A regular factor of a covariance that exceeds all of ``T_s T_s'``, and by little."""
    G = T @ small.transpose(T)
    mean = G.mean(axis=0)
    c = mean.shape[0]
    root = np.linalg.cholesky(mean + (1e-6 * np.trace(mean) / c + 1e-200) * np.eye(c))
    half = np.linalg.solve(root, T)
    largest = np.linalg.norm(half, ord=2, axis=(1, 2)).max()
    return np.asarray(root * max(largest, 1e-100) * (1.0 + 1e-10))


def _differences(reference: _Reference, factors: Sequence[FloatArray]) -> tuple[Parts, Parts]:
    """``T0' G^-1 T0 - I`` (S, c, c) of every block, and a square root of it."""
    D, roots = [], []
    for inverse, T in zip(reference.inverse, factors, strict=False):
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


@dataclass(frozen=True)
class _System:
    """``K0 + D``, D of the chain and of the first part of the dense block; the rest is in K0 for every draw."""

    reference: _Reference
    D: Parts
    shapes: tuple[tuple[int, int, int], ...]

    def precondition(self, right: Parts) -> tuple[Parts, FloatArray]:
        """``K0^-1 right``, and the second part of the dense block."""
        chain = self.reference.h.plan.chain
        flat = [part.reshape(-1, part.shape[-1]) for part in right[chain:]]
        lead = flat[0] if len(flat) == 1 else np.concatenate([np.empty((0, right[0].shape[-1])), *flat])
        w, x, y = self.reference.solve(right[:chain], lead)
        return [*w, *_by_block(x, self.shapes)], y

    def add_product(self, parts: Parts, out: Parts) -> Parts:
        """``D parts + out``."""
        found = [_times(d, part) for d, part in zip(self.D, parts, strict=True)]
        for part, other in zip(found, out, strict=True):
            part += other
        return found


def _conjugate_gradients(
    system: _System, right: Parts, sigma: FloatArray
) -> tuple[Parts, FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Solve ``(K0 + D) x = right`` for all draws; the second part of the dense block; which draws converged."""
    r, q = right, [part.copy() for part in right]
    p, tail = system.precondition(r)
    x, y = [np.zeros_like(part) for part in r], np.zeros_like(tail)
    rz = _inner(r, p)
    goal = (_TOLERANCE * sigma) ** 2
    for _ in range(_ITERATIONS):
        if (rz <= goal).all():
            break
        product = system.add_product(p, q)
        step = rz / np.maximum(_inner(p, product), 1e-300)
        y += step * tail
        for own, direction, taken, left in zip(x, p, product, r, strict=True):
            own += step * direction
            taken *= step
            left -= taken
        z, change = system.precondition(r)
        new = _inner(r, z)
        share = new / np.maximum(rz, 1e-300)
        tail = change + share * tail
        for direction, known, moved, left in zip(p, q, z, r, strict=True):
            direction *= share
            direction += moved
            known *= share
            known += left
        rz = np.maximum(new, 0.0)
    return x, y, rz <= 1e4 * goal
