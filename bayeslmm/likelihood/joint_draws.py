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
every draw, at its own covariance, be it singular. A factor of few levels is the one whose sd varies most. Nor is the
first member of a chain where it has one or two effects: it is eliminated at every draw (`own_first`), which leaves a
smaller system, and one that differs less from the reference.

References
----------
Papandreou & Yuille (2010), Advances in Neural Information Processing Systems 23 (sampling by perturbation);
Hestenes & Stiefel (1952), J. Research of the National Bureau of Standards 49, 409-436.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_conditional import at_one_point
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.elimination import ChainColumn, Eliminated, backward, forward, forward_within
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.frame import Block
from bayeslmm.likelihood.kernels import explain_each
from bayeslmm.likelihood.large import Dense
from bayeslmm.likelihood.last_blocks import LeadingDense, first_of_few, solve_upper
from bayeslmm.likelihood.own_first import OwnFirst, between_part, eliminated_by_draw
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

    Its rows are the effects w of the chain's members, of the leading dense blocks, and those of the last blocks with
    the coefficients of X (not divided by T0). A first member with few effects is not among them: it is eliminated
    with every draw's own covariance (`own_first`).

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

    @cached_property
    def start(self) -> int:
        """The first block in the system."""
        return int(eliminated_by_draw(self.h))

    def parts(self, rows: FloatArray) -> Parts:
        """Rows (Q, S) of the system as (J, c, S) of each block whose covariance is the reference's."""
        blocks = self.h.frame.blocks[self.start : len(self.T)]
        ends = np.cumsum([0, *(block.q for block in blocks)])
        return [
            rows[a:b].reshape(block.n_levels, block.size, -1)
            for block, a, b in zip(blocks, ends[:-1], ends[1:], strict=True)
        ]

    def solve(self, right: FloatArray) -> FloatArray:
        """``K0^-1 right`` for rows (Q, S)."""
        h, upper, across, start = self.h, self.leading.upper, self.leading.across, self.start
        (m, r), out = across.shape, right.copy()
        chain = self.parts(right)[: h.plan.chain - start]
        lead, tail = np.split(out, [out.shape[0] - r])
        lead = lead[lead.shape[0] - m :]
        later = chain[1 - start :]
        turned = [small.dot(inv.T, part) for inv, part in zip(self.inverse[1:], later, strict=False)]
        dense = np.zeros((h.D.shape[0] - 1, right.shape[1]))
        if start:
            halves, dense = forward_within(h, self.eliminated, turned, dense)
        else:
            between = small.dot(-small.dot(h.R, self.T[0]), chain[0])
            halves, dense = forward(h, self.eliminated, ChainColumn(between, tuple(turned), dense))
        lead += self.shell.scale(dense[:m], True)
        tail += dense[m:]
        solve_upper(upper, lead, transposed=True)
        tail -= across.T @ lead
        tail[:] = _times_root(self.root, _times_root(self.root, tail, False), True)
        lead -= across @ tail
        solve_upper(upper, lead, transposed=False)
        if chain:
            dense[:m], dense[m:] = lead, tail
            self.shell.scale(dense[:m], False)
            b = backward(h, self.eliminated, halves, dense, first=start)
            for part, inverse, effects in zip(self.parts(out), self.inverse[start:], b, strict=False):
                np.copyto(part, small.dot(inverse, effects))
            if not start:
                # What the first member's own right-hand side adds beyond its projection on the data.
                self.parts(out)[0] += chain[0]
        return out

    def draw(self, added: FloatArray, sigma: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draws (Q, S) at G0, one for each sigma (S,); `added` (r, S) is the right-hand side of the prior."""
        h, (m, r), S, leading, start = self.h, self.leading.across.shape, sigma.size, self.leading, self.start
        y = _times_root(self.root, leading.last.score[:, None] + added, False) + sigma * rng.standard_normal((r, S))
        y = _times_root(self.root, y, True)
        x = sigma * rng.standard_normal((m, S))
        x += leading.half
        x -= leading.across @ y
        solve_upper(leading.upper, x, transposed=False)
        members = self.eliminated.members[start:]
        if not members:
            return np.concatenate([x, y])
        dense = np.concatenate([x, y])
        self.shell.scale(dense[:m], False)
        own = [sigma * rng.standard_normal((M.lower.shape[0], M.T.shape[0], S)) for M in members]
        halves = [member.half.fixed[..., -1:] for member in members]
        b = backward(h, self.eliminated, halves, dense, own, first=start)
        w = [small.dot(inverse, effects) for inverse, effects in zip(self.inverse[start:], b, strict=False)]
        return np.concatenate([*(part.reshape(-1, S) for part in w), x, y])


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
    between = between_part(h) if eliminated_by_draw(h) else None
    for chosen in _batches(h, factors):
        own = [T[chosen] for T in factors]
        drawn, parts, lost = _draw_together(h, evaluate, own, sigma[chosen], rng, prior, between)
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
    squares = [(T**2).sum((1, 2)) for T in factors[: first_of_few(h)]]
    logs = [0.5 * np.log(np.maximum(square, 1e-300)) for square in squares]
    own = int(eliminated_by_draw(h))
    if own:
        # What is left of the others hardly depends on the sd of a first member that is eliminated with its own.
        logs[0] = 0.5 * np.log1p(float(np.mean(h.R**2)) * squares[0])
    widest = max(logs, key=lambda x: float(np.std(x)))
    order = np.argsort(widest)
    values = widest[order]
    start = 0
    while start < order.size:
        stop = int(np.searchsorted(values, values[start] + _RANGE, side="right"))
        yield from _halved(logs[min(own, len(logs) - 1) :], order[start:stop])
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
    between: Sequence[sparse.csr_array] | None,
) -> tuple[FloatArray, list[FloatArray], IntArray]:
    """Draws of beta and of the effects, and where they did not converge."""
    reference = _Reference.of(h, evaluate, factors, sigma, prior)
    few, p, r, start = first_of_few(h), h.frame.p, reference.root.shape[1], reference.start
    added = np.zeros((r, sigma.size))
    if prior is not None:
        added[r - p :] = (prior.precision @ prior.mean)[:, None] * sigma**2
    D, roots = _differences(reference.inverse[start:], factors[start:few])
    rows = reference.draw(added, sigma, rng)
    first = None if between is None else OwnFirst.of(h, between, factors[0], reference.T)
    right = np.zeros_like(rows) if first is None else first.right(rows, sigma, rng)
    for d, root, part, out in zip(D, roots, reference.parts(rows), reference.parts(right), strict=True):
        out += sigma * small.dot_each(root, rng.standard_normal(part.shape)) - small.dot_each(d, part)
    moved, converged = _conjugate_gradients(_System(reference, D, first), right, sigma)
    rows += moved
    b = [small.dot(t, part) for t, part in zip(reference.T[start:], reference.parts(rows), strict=True)]
    if first is not None:
        b.insert(0, first.draw(rows, sigma, rng))
    last = rows[rows.shape[0] - r :]
    internal = [np.moveaxis(part, -1, 0) for part in [*b, *_by_block(last[: r - p], h.frame.blocks[few:])]]
    return last[r - p :].T, internal, np.flatnonzero(~converged)


def _by_block(rows: FloatArray, blocks: Sequence[Block]) -> Parts:
    """Rows (q, S) of several blocks as (J, c, S) of each."""
    ends = np.cumsum([block.q for block in blocks])[:-1]
    split = np.split(rows, ends) if blocks else []
    return [part.reshape(block.n_levels, block.size, -1) for part, block in zip(split, blocks, strict=True)]


def _upper_bound(T: FloatArray) -> FloatArray:
    """A regular factor of a covariance that exceeds all of ``T_s T_s'``, and by little."""
    G = T @ small.transpose(T)
    mean = G.mean(axis=0)
    c = mean.shape[0]
    root = np.linalg.cholesky(mean + (1e-6 * np.trace(mean) / c + 1e-200) * np.eye(c))
    half = np.linalg.solve(root, T)
    largest = np.linalg.norm(half, ord=2, axis=(1, 2)).max()
    return np.asarray(root * max(largest, 1e-100) * (1.0 + 1e-10))


def _differences(inverses: Sequence[FloatArray], factors: Sequence[FloatArray]) -> tuple[Parts, Parts]:
    """``T0' G^-1 T0 - I`` (S, c, c) of every block, and a square root of it."""
    D, roots = [], []
    for inverse, T in zip(inverses, factors, strict=True):
        U, s, _ = np.linalg.svd(inverse @ T)
        # A vanishing effect has infinite precision; this leaves its sd at 1e-7 of what the reference has.
        excess = np.maximum(1.0 / np.maximum(s, 1e-7) ** 2 - 1.0, 0.0)
        D.append(np.asarray((U * excess[:, None]) @ small.transpose(U)))
        roots.append(np.asarray(U * np.sqrt(excess)[:, None]))
    return D, roots


def _inner(a: FloatArray, b: FloatArray) -> FloatArray:
    """Inner products (S,) draw by draw."""
    return np.asarray(np.einsum("ks,ks->s", a, b))


@dataclass(frozen=True)
class _System:
    """``K0 + D + E' W E``: D of the chain and of the leading dense blocks, W of a first member with its own sd."""

    reference: _Reference
    D: Parts
    first: OwnFirst | None

    def product(self, rows: FloatArray, by_reference: FloatArray) -> FloatArray:
        """The system times rows (Q, S), of which the product with K0 is known."""
        out = by_reference.copy()
        for d, part, total in zip(self.D, self.reference.parts(rows), self.reference.parts(out), strict=True):
            total += small.dot_each(d, part)
        if self.first is not None:
            explain_each(self.first.E, self.first.weights, rows, out)
        return out


def _conjugate_gradients(
    system: _System, right: FloatArray, sigma: FloatArray
) -> tuple[FloatArray, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Solve the system for all draws (Q, S); which of them converged."""
    solve = system.reference.solve
    r, q, p = right, right.copy(), solve(right)
    x = np.zeros_like(r)
    rz = _inner(r, p)
    goal = (_TOLERANCE * sigma) ** 2
    for _ in range(_ITERATIONS):
        if (rz <= goal).all():
            break
        product = system.product(p, q)
        step = rz / np.maximum(_inner(p, product), 1e-300)
        x += step * p
        product *= step
        r -= product
        z = solve(r)
        new = _inner(r, z)
        share = new / np.maximum(rz, 1e-300)
        # The product of the next direction with K0 follows from that of the last one.
        for known, moved in ((p, z), (q, r)):
            known *= share
            known += moved
        rz = np.maximum(new, 0.0)
    return x, rz <= 1e4 * goal
