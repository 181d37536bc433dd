"""The criterion at many points at once, each with a target (and response) of its own, and its exact derivatives.

With sigma and a coefficient beta_j = b held at given values the criterion is

    nu log(2 pi sigma^2) + log|V0| [+ log|X_j' V0^-1 X_j|] + (r2 + (b - b^)^2 / c) / sigma^2,

X_j being X without that column, b^ the conditional estimate and c the element of (X' V0^-1 X)^-1. For a REML criterion
b is the only coefficient that is not integrated out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.inference import profile_coordinates as coords
from bayeslmm.inference.profile_coefficient import HeldCoefficient, hold_coefficient
from bayeslmm.inference.profile_coordinates import Axis, Piece
from bayeslmm.inference.profile_curves import Curves, Terms, curves
from bayeslmm.likelihood import CrossProducts, derivatives, evaluate
from bayeslmm.likelihood.criteria import LOG_2PI, degrees_of_freedom, log_determinant
from bayeslmm.likelihood.factor import Replicates
from bayeslmm.types import FloatArray, IntArray

# Doubles in the widest array of a batch.
_CHUNK = 2_000_000

type Expansion = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class Reference:
    """The fits, one for every response, in whose units coordinates are.

    Attributes
    ----------
    factors : tuple of FloatArray, each (R, c, c)
        Internal relative factors of the blocks.
    sigma : FloatArray, shape (R,)
    solution : FloatArray, shape (R, p)
        Internal coefficients.
    scatter : FloatArray, shape (R, p, p)
        Their covariance / sigma^2.
    replicates : Replicates or None
    """

    factors: tuple[FloatArray, ...]
    sigma: FloatArray
    solution: FloatArray
    scatter: FloatArray
    replicates: Replicates | None = None

    def unit(self, functional: FloatArray, response: IntArray) -> FloatArray:
        """Standard errors (A,) of combinations (A, p) of the internal coefficients."""
        variance = np.einsum("ki,kij,kj->k", functional, self.scatter[response], functional)
        return np.asarray(self.sigma[response] * np.sqrt(variance))


def reference(
    cp: CrossProducts, factors: Sequence[FloatArray], sigma: FloatArray, replicates: Replicates | None = None
) -> Reference:
    """Evaluate the fits."""
    factor = evaluate(cp, factors, replicates)
    q2 = cp.q_trailing
    half = np.linalg.inv(factor.chol[:, q2:, q2:])
    return Reference(tuple(factors), sigma, factor.solution[:, q2:], half.mT @ half, replicates)


@dataclass(frozen=True)
class ProfiledCriterion:
    """The criterion in coordinates that start with a target.

    Attributes
    ----------
    cp : CrossProducts
    reml : bool
    held : tuple of int
        Terms whose relative covariance is fixed.
    base : Reference
    axes : tuple of Axis
    """

    cp: CrossProducts
    reml: bool
    held: tuple[int, ...]
    base: Reference
    axes: tuple[Axis, ...]

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The terms."""
        return coords.pieces(self.cp)

    @cached_property
    def _frames(self) -> tuple[FloatArray, ...]:
        """Frames of every term by target, each (targets, c, c)."""
        return tuple(np.stack([a.frames[i] for a in self.axes]) for i in range(len(self.pieces)))

    @property
    def n_terms(self) -> int:
        """Coordinates of all terms; log sigma and the coefficient follow."""
        return self.pieces[-1].span.stop if self.pieces else 0

    @cached_property
    def exact(self) -> bool:
        """Whether second derivatives are exact."""
        return self.cp.sums.batched

    @cached_property
    def _units(self) -> FloatArray:
        """Units of the free coordinates by target and response, (targets, R, d)."""
        fits = [coords.start(self.cp, a, self.base.factors) for a in self.axes]
        pairs = zip(self.axes, fits, strict=True)
        return np.stack([coords.units(self.pieces, a, u)[:, a.order] for a, u in pairs])

    def units(self, target: IntArray, response: IntArray) -> FloatArray:
        """Units (K, d) of the free coordinates: with relative sds of 1e8 the criterion is flat in these themselves."""
        return np.asarray(self._units[target, response])

    def starts(self, target: int, responses: IntArray) -> tuple[FloatArray, FloatArray]:
        """Coordinates x (K, d) and u (K, k + 2) of the fits."""
        a = self.axes[target]
        u = coords.start(self.cp, a, [T[responses] for T in self.base.factors])
        return u[:, a.order] / self._units[target, responses], u

    def expand_at_estimates(self, targets: IntArray, responses: IntArray) -> tuple[FloatArray, FloatArray]:
        """Free coordinates (K, d) of estimates and Hessians (K, d, d) of the criterion in these; targets ascend."""
        both = [self.starts(t, responses[targets == t]) for t in np.unique(targets).tolist()]
        x, u = (np.concatenate(parts) for parts in zip(*both, strict=True))
        unit, hessian = self.units(targets, responses), self.expand(x, u, targets, responses)[2]
        return x * unit, hessian / unit[:, :, None] / unit[:, None, :]

    def expand(self, x: FloatArray, u: FloatArray, target: IntArray, response: IntArray) -> Expansion:
        """Criterion (K,), gradient (K, d) and Hessian (K, d, d) in units of -2 log density; nan where undefined.

        Standard deviations pass through zero to their negatives, which are the same model; not those of a correlation
        that is the target, one of which would turn it into its opposite.

        Parameters
        ----------
        x : FloatArray, shape (K, d)
            Free coordinates in their `units`, the target first.
        u : FloatArray, shape (K, k + 2)
            Coordinates that are not free (and others, which do not matter).
        target, response : IntArray, shape (K,)
        """
        width = self.cp.sums.between if self.exact else 1
        step = max(1, _CHUNK // max(width, 1)) if self.exact else 1
        parts = [slice(k, k + step) for k in range(0, x.shape[0], step)]
        # A trial step may leave the range of numbers; what is not finite there is refused.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            out = [self._expand(x[p], u[p], target[p], response[p]) for p in parts]
        return out[0] if len(out) == 1 else tuple(np.concatenate(a) for a in zip(*out, strict=True))  # type: ignore[return-value]

    def _expand(self, x: FloatArray, u: FloatArray, target: IntArray, response: IntArray) -> Expansion:
        (K, d), axes = x.shape, [(a, np.flatnonzero(target == t)) for t, a in enumerate(self.axes)]
        axes = [(a, rows) for a, rows in axes if rows.size]
        free, unit = u.copy(), self.units(target, response)
        for a, rows in axes:
            free[rows[:, None], a.order] = x[rows] * unit[rows]
        local = self._local(self.entries(free, target), target, response)
        if local is None:
            return np.full(K, np.nan), np.full((K, d), np.nan), np.full((K, d, d), np.nan)
        value, g, H = local
        gradient, hessian = np.empty((K, d)), np.empty((K, d, d))
        for a, rows in axes:
            own_g, own_H = _chain(a, free[rows], self.n_terms, g[rows], H[rows])
            value[rows[coords.mirrored(a, free[rows])]] = np.nan
            gradient[rows] = own_g[:, a.order]
            hessian[rows] = own_H[:, a.order[:, None], a.order]
        return value, gradient * unit, hessian * unit[:, :, None] * unit[:, None, :]

    def entries(self, u: FloatArray, target: IntArray) -> FloatArray:
        """Coordinates (K, k + 2) with entries in place of angles, relative in place of absolute sds."""
        full = u.copy()
        for t, a in enumerate(self.axes):
            rows = np.flatnonzero(target == t)
            if a.polar is not None:
                i, j = a.polar
                angle, length = u[rows, i], u[rows, j]
                full[rows, i], full[rows, j] = length * np.sin(angle), length * np.cos(angle)
            if a.solved is not None and a.structure is not None:
                own, k = a.solved
                full[rows, own.start + k] = a.structure.solved(u[rows, own], k)[0]
            if a.absolute.size:
                full[rows[:, None], a.absolute] *= np.exp(-u[rows, self.n_terms, None] / a.powers)
        return full

    def block_factors(self, full: FloatArray, target: IntArray, response: IntArray) -> list[FloatArray]:
        """Internal factors (K, c, c) of the blocks; terms that are held keep theirs."""
        K = full.shape[0]
        factors = [np.zeros((K, block.size, block.size)) for block in self.cp.blocks]
        for i, piece in enumerate(self.pieces):
            if piece.term in self.held:
                T = self.base.factors[piece.block][response][:, piece.columns, piece.columns]
            else:
                T = self._frames[i][target] @ piece.shape.factor(full[:, piece.span])
            factors[piece.block][:, piece.columns, piece.columns] = T
        return factors

    def _local(self, full: FloatArray, target: IntArray, response: IntArray) -> Expansion | None:
        """Value, gradient and Hessian in the coordinates of `_full`."""
        cp = self.cp
        factors = self.block_factors(full, target, response)
        replicates = None if self.base.replicates is None else self.base.replicates.part(response)
        try:
            factor = evaluate(cp, factors, replicates, keep=self.exact)
        except np.linalg.LinAlgError:
            return None
        first = derivatives(cp, factors, replace(factor, r2=np.where(factor.r2 > 0, factor.r2, np.nan)), self.reml)
        sigma = self.base.sigma[response] * np.exp(full[:, self.n_terms])
        terms = Terms(
            log_determinant(cp, factor, self.reml),
            factor.r2.copy(),
            np.full(sigma.size, float(degrees_of_freedom(cp, self.reml))),
            [traces.copy() for traces in first.traces],
            [squares.copy() for squares in first.squares],
            1.0 / sigma**2,
        )
        along = curves(cp, self.pieces, [frame[target] for frame in self._frames], full)
        k = self.n_terms
        H = np.zeros((sigma.size, k + 2, k + 2))
        weighted = replace(first, scale=terms.weight, r2=np.full(sigma.size, np.inf))
        H[:, :k, :k] = weighted.second(along.stacks)
        b_slope, H[:, k + 1, k + 1] = np.zeros(sigma.size), 1.0
        held = self._held(full, target, response)
        if held.rows.size:
            change = hold_coefficient(cp, self.reml, held, factors, factor, first, terms, along)
            H[held.rows, :k, :k], b_slope[held.rows] = change.hessian, change.slope
            H[held.rows, k + 1, k + 1] = change.bend
            H[held.rows, k + 1, :k] = H[held.rows, :k, k + 1] = change.mixed
        value, gradient = self._complete(full, sigma, terms, along, H)
        gradient[:, k + 1] = b_slope
        H[:, k, k + 1] = H[:, k + 1, k] = -2.0 * b_slope
        return np.where(factor.r2 > 0, value, np.nan), gradient, H

    def _complete(
        self, full: FloatArray, sigma: FloatArray, terms: Terms, along: Curves, H: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Value and gradient; the Hessian gets what is in sigma and the curvature of G, in place."""
        k = self.n_terms
        slopes = [t - terms.weight[:, None, None] * s for t, s in zip(terms.traces, terms.squares, strict=True)]
        for piece, W in zip(self.pieces, along.frames, strict=True):
            own = W.mT @ slopes[piece.block][:, piece.columns, piece.columns] @ W
            H[:, piece.span, piece.span] += piece.shape.curvature(full[:, piece.span], own)
        gradient = np.zeros((sigma.size, k + 2))
        gradient[:, :k] = along.along(slopes)
        fall = 2.0 * terms.weight * terms.r2
        gradient[:, k], H[:, k, k] = 2.0 * terms.nu - fall, 2.0 * fall
        down = 2.0 * terms.weight[:, None] * along.along(terms.squares)
        H[:, k, :k] = H[:, :k, k] = down
        return terms.nu * (LOG_2PI + 2.0 * np.log(sigma)) + terms.logs + terms.weight * terms.r2, gradient

    def _held(self, full: FloatArray, target: IntArray, response: IntArray) -> HeldCoefficient:
        """Points whose target is a coefficient."""
        rows = np.flatnonzero(np.array([a.target.kind == "fixed" for a in self.axes])[target])
        functional = np.array([self.axes[t].functional for t in target[rows]]).reshape(rows.size, self.cp.p)
        base = response[rows]
        unit = self.base.unit(functional, base)
        value = full[rows, -1] * unit + (functional * self.base.solution[base]).sum(1)
        return HeldCoefficient(rows, functional, value, unit)


def _chain(a: Axis, x: FloatArray, scale: int, g: FloatArray, H: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives in coordinates (K, d), with angles and absolute sds, from those in entries relative to sigma."""
    K, d = x.shape
    J = np.broadcast_to(np.eye(d), (K, d, d)).copy()
    bend = np.zeros((K, d, d))
    if a.polar is not None:
        i, j = a.polar
        sin, cos, length = np.sin(x[:, i]), np.cos(x[:, i]), x[:, j]
        J[:, i, i], J[:, i, j], J[:, j, i], J[:, j, j] = length * cos, sin, -length * sin, cos
        bend[:, i, i] = -length * (sin * g[:, i] + cos * g[:, j])
        bend[:, i, j] = bend[:, j, i] = cos * g[:, i] - sin * g[:, j]
    if a.absolute.size:
        own, power = a.absolute, a.powers
        shrink = np.exp(-x[:, scale, None] / power)
        J[:, own, own], J[:, own, scale] = shrink, -x[:, own] / power * shrink
        bend[:, own, scale] = bend[:, scale, own] = -shrink / power * g[:, own]
        bend[:, scale, scale] = (x[:, own] / power**2 * shrink * g[:, own]).sum(1)
    if a.solved is not None and a.structure is not None:
        shapes, k = a.solved
        _, slope, own_bend = a.structure.solved(x[:, shapes], k)
        J[:, shapes.start + k, shapes] = slope
        bend[:, shapes, shapes] += g[:, shapes.start + k, None, None] * own_bend
    return (J.mT @ g[..., None])[..., 0], J.mT @ H @ J + bend
