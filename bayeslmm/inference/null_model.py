"""A model without one of its random terms, or without some effects of a term, and what both say of many responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.row_arrays import chosen_columns
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.budget import counted_cost, first_refits, refit_cost
from bayeslmm.inference.mixture import Mixture, adding, orthant, positive_semidefinite
from bayeslmm.likelihood import CrossProducts, SummedDesign, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood.information import information
from bayeslmm.likelihood.parameters import internal_factors
from bayeslmm.likelihood.part_sums import kept_columns, smaller_products
from bayeslmm.likelihood.reduction import takes_responses
from bayeslmm.likelihood.replicates import reduce_responses
from bayeslmm.reml import Optimum, optimise
from bayeslmm.reml.many import Optima, fitted_together, optimise_many
from bayeslmm.reml.residual_many import criteria_of_many, fit_cost
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimum_of
from bayeslmm.reml.status import FitStatus
from bayeslmm.types import BoolArray, FloatArray

# A rise of the criterion below this is rounding: two sums of n terms, each optimised.
_ROUNDING = 1e-9
_ROUNDING_SHARE = 1e-12
# Responses fitted at a time.
_BATCH = 1000
# The same where each takes long, so that progress shows.
_SLOW_BATCH = 20
# An eigenvalue of an information matrix below this share of its diagonal is none.
_SINGULAR = 1e-10
_ESTIMATED = "weights of several variances would take the parameters of the residuals for known"
_NO_WEIGHTS = (
    "the data do not tell the removed variances and covariances apart, so that no degrees of freedom are known"
)


@dataclass(frozen=True)
class Removal:
    """What a null hypothesis takes out of a model.

    Attributes
    ----------
    term : int
        Position in ``design.terms``.
    removed, kept : tuple of int
        Effects of the term.
    """

    term: int
    removed: tuple[int, ...]
    kept: tuple[int, ...] = ()


def is_scalar(design: Design, removal: Removal) -> bool:
    """Whether one variance is all that is removed, covariances included."""
    term = design.terms[removal.term]
    if len(term.structure.rows) == 1:
        return True
    return len(removal.removed) == 1 and not term.structure.correlated


@dataclass(frozen=True)
class NullModel:
    """A model and the same without what a removal takes out, both fitted.

    Attributes
    ----------
    full : Optimum
    design : Design
        Of the null hypothesis; may have no random terms.
    null : Optimum or None
        None where no random terms are left.
    criterion : float
        Of the null hypothesis.
    """

    full: Optimum
    design: Design
    null: Optimum | None
    criterion: float

    @property
    def change(self) -> float:
        """Criterion without the effects minus that of the model; negative only if the latter is no global minimum."""
        return self.criterion - self.full.criterion

    @property
    def statistic(self) -> float:
        """Rise of the criterion; exactly 0 where it is rounding."""
        return float(clamp(np.array([self.change]), self.full.criterion)[0])

    @property
    def together(self) -> bool:
        """Whether many responses are fitted at once."""
        return not isinstance(self.full, ResidualOptimum) and fitted_together(self.full.cp)

    @property
    def refit_cost(self) -> float:
        """Rough milliseconds of one refit of both models, before any was run."""
        if isinstance(self.full, ResidualOptimum):
            return sum(fit_cost(one) for one in (self.full, self.null) if one is not None)
        return refit_cost(self.full.cp) + (refit_cost(self.null.cp) if self.null is not None else 0.0)


def clamp(rise: FloatArray, criterion: float) -> FloatArray:
    """Rises of a criterion (K,) of the given size, 0 where they are not above rounding."""
    limit = _ROUNDING + _ROUNDING_SHARE * abs(criterion)
    return np.where(rise > limit, rise, 0.0)


def null_model(full: Optimum, removal: Removal) -> NullModel:
    """Fit a model without what a removal takes out.

    Parameters
    ----------
    full : Optimum
    removal : Removal

    Returns
    -------
    NullModel

    Raises
    ------
    FitError
        One of the two models has no finite criterion, or the optimiser failed.
    """
    if isinstance(full, ResidualOptimum):
        # Parameters of the residuals are estimated under the null hypothesis, too.
        return null_of(full, without(full.original, removal))
    design, null = without(full.cp.design, removal), None
    if design.terms:
        kept = kept_columns(full.cp.design, removal.term, removal.kept)
        null = optimise(smaller_products(full.cp, design, kept), full.reml)
    return _compared(full, design, null, float(_no_effects(full.cp, full.reml)) if null is None else null.criterion)


def null_of(full: ResidualOptimum, design: Design) -> NullModel:
    """A null hypothesis that is any design on the rows of a fit.

    Raises
    ------
    FitError
        As `null_model`.
    """
    null = optimum_of(design, full.reml)
    return _compared(full, design, null, null.criterion)


def _compared(full: Optimum, design: Design, null: Optimum | None, criterion: float) -> NullModel:
    failed = [o.status for o in (full, null) if o is not None and not _at_minimum(o.status)]
    if failed or not np.isfinite([criterion, full.criterion]).all():
        found = "; ".join(dict.fromkeys(str(status) for status in failed)) or "a criterion that is not finite"
        raise FitError(f"A likelihood ratio compares two fits that have both converged. Found: {found}")
    return NullModel(full, design, null, criterion)


def without(design: Design, removal: Removal) -> Design:
    """The design of a null hypothesis."""
    terms = list(design.terms)
    if removal.kept:
        term, kept = terms[removal.term], list(removal.kept)
        terms[removal.term] = replace(
            term,
            effects=tuple(term.effects[k] for k in kept),
            Z=chosen_columns(term.Z, kept),
            structure=term.structure.keeping(kept),
        )
    else:
        del terms[removal.term]
    used = {term.group for term in terms}
    groupings = {name: grouping for name, grouping in design.groupings.items() if name in used}
    facts = design.facts
    if facts is not None:
        facts = facts.selected(range(design.p), kept_columns(design, removal.term, removal.kept).terms)
    return replace(design, terms=tuple(terms), groupings=groupings, facts=facts)


def _zeros(cp: CrossProducts, points: int) -> list[FloatArray]:
    return [np.zeros((points, block.size, block.size)) for block in cp.blocks]


def _no_effects(cp: CrossProducts, reml: bool) -> FloatArray:
    return np.asarray(profiled(cp, evaluate(cp, _zeros(cp, 1)), reml)[0])


@dataclass(frozen=True)
class NullBootstrap:
    """Statistics of responses simulated under a null hypothesis.

    Attributes
    ----------
    statistics : FloatArray, shape (B,)
        Of the refits that succeeded.
    failed : int
        Refits that did not, left out.
    """

    statistics: FloatArray
    failed: int

    def p_value(self, statistic: float) -> tuple[float, float]:
        """``(1 + #{T* >= T}) / (B + 1)`` and its Monte Carlo error; 1 at 0."""
        B = self.statistics.size
        if statistic <= 0.0:
            return 1.0, 0.0
        p = (1.0 + int((self.statistics >= statistic * (1.0 - 1e-9)).sum())) / (B + 1.0)
        return p, float(np.sqrt(p * (1.0 - p) / B))

    @property
    def p_zero(self) -> float:
        """Share of statistics that are exactly 0."""
        return float((self.statistics <= 0.0).mean())


def bootstrap(
    model: NullModel,
    draws: int,
    seed: int | np.random.Generator,
    workers: int = 1,
    report: Callable[[int, int], None] | None = None,
    budget: float = np.inf,
    least: int = 1,
) -> NullBootstrap:
    """Parametric bootstrap of the likelihood ratio under the null hypothesis.

    The statistic does not depend on beta, nor on the scale of y unless sigma is known, so that only the fitted
    relative covariances of the null hypothesis (and a known sigma) are used.

    Parameters
    ----------
    model : NullModel
    draws : int
    seed : int or numpy.random.Generator
    workers : int
        Threads.
    report : callable, optional
        Told how many refits of how many are done.
    budget : float
        Milliseconds: no more refits are run than take that long, by the evaluations of the first.
    least : int
        Refits that are run whatever they take.

    Returns
    -------
    Bootstrap

    Raises
    ------
    DesignError
        Rows that stand for several observations, whose responses would have to differ.
    FitError
        Not one refit succeeded.
    """
    if model.full.cp.design.frequency is not None:
        raise DesignError(
            "The bootstrap simulates a response for every observation, but this model has rows that stand for several "
            "(frequency=). Write the rows out, or use another method."
        )
    rng = np.random.default_rng(seed)
    parts, valid, done = [], [], 0
    size = _BATCH if model.together else _SLOW_BATCH
    first = size if np.isinf(budget) else first_refits(model.full.cp)
    while done < draws:
        count = min(size if done else first, draws - done)
        T, ok, cost = _statistics(model, _responses(model, count, rng), workers)
        parts.append(T)
        valid.append(ok)
        if not done and np.isfinite(budget):
            draws = min(draws, max(least, int(budget / cost)))
        done += count
        if report is not None:
            report(done, max(done, draws))
    T, ok = np.concatenate(parts), np.concatenate(valid)
    if not ok.any():
        raise FitError(f"None of {done} refits of simulated responses succeeded. Simplify the model.")
    return NullBootstrap(T[ok], int((~ok).sum()))


def _responses(model: NullModel, count: int, rng: np.random.Generator) -> FloatArray:
    """Responses (n, count) simulated under the null hypothesis with beta = 0, and sigma = 1 unless it is known."""
    design = model.design
    truth = model.full if model.null is None else model.null
    Y = design.residual.color(truth.lam, rng.standard_normal((design.n, count)))
    for term, T in zip(design.terms, () if model.null is None else model.null.terms, strict=True):
        grouping = design.groupings[term.group]
        b = rng.standard_normal((grouping.n_levels, count, T.shape[0])) @ T.T
        for k in range(T.shape[0]):
            Y += term.Z[:, k, None] * b[grouping.codes, :, k]
    if design.sigma is not None:
        Y *= design.sigma
    return Y if design.offset is None else Y + design.offset[:, None]


def _statistics(model: NullModel, Y: FloatArray, workers: int) -> tuple[FloatArray, BoolArray, float]:
    """Rises of the criterion (B,), whether both refits succeeded, and the milliseconds of one by its evaluations."""
    if isinstance(model.full, ResidualOptimum):
        return _residual_statistics(model, model.full, Y)
    ours = optimise_many(model.full.cp, Y, model.full.reml, workers=workers)
    rises, ok, cost = rises_of(model, Y, ours, workers)
    return rises, ok, cost + counted_cost(model.full.cp, ours)


def _residual_statistics(model: NullModel, full: ResidualOptimum, Y: FloatArray) -> tuple[FloatArray, BoolArray, float]:
    """`_statistics` where residuals have parameters."""
    ours, theirs = (criteria_of_many(design, Y, full.reml) for design in (full.original, model.design))
    ok = ours.ok & theirs.ok
    rises = np.where(ok, theirs.criterion - ours.criterion, 0.0)
    return clamp(rises, full.criterion), ok, ours.cost + theirs.cost


def rises_of(model: NullModel, Y: FloatArray, ours: Optima, workers: int = 1) -> tuple[FloatArray, BoolArray, float]:
    """Rises of the criterion (K,) from the fits of the full model to responses (n, K) to those of the null hypothesis.

    Returns
    -------
    tuple
        Rises, whether both fits succeeded, and the milliseconds that those of the null hypothesis cost, by their
        evaluations.
    """
    full, null, cost = model.full, model.null, 0.0
    ok = _minimised(ours)
    if null is None:
        theirs = _no_effects_many(full.cp, Y, full.reml)
    else:
        found = optimise_many(null.cp, Y, full.reml, workers=workers)
        theirs = found.criterion
        ok &= _minimised(found)
        cost = counted_cost(null.cp, found)
    rise = theirs - ours.criterion
    ok &= np.isfinite(rise)
    return clamp(np.where(ok, rise, 0.0), full.criterion), ok, cost


def _minimised(found: Optima) -> BoolArray:
    """Whether each criterion is at its minimum, be it on a ridge."""
    return np.array([_at_minimum(status) for status in found.status])


def _at_minimum(status: FitStatus) -> bool:
    """On a ridge, too, the criterion is at its minimum: only where along it the estimate lies is arbitrary."""
    return status.ok or status is FitStatus.not_identified


def _no_effects_many(cp: SummedDesign, Y: FloatArray, reml: bool) -> FloatArray:
    """Criteria (K,) without random effects."""
    if takes_responses(cp):
        found = reduce_responses(cp, Y)
        return profiled(cp, evaluate(cp, _zeros(cp, Y.shape[1]), found.replicates), reml)
    return np.array([_no_effects(cross_products(replace(cp.design, y=y)), reml) for y in Y.T])


def mixture(model: NullModel, removal: Removal, draws: int, seed: int | np.random.Generator) -> Mixture | str:
    """Asymptotic distribution of the statistic, or why there is none.

    Parameters
    ----------
    model : NullModel
    removal : Removal
    draws : int
        Where weights are not known in closed form.
    seed : int or numpy.random.Generator

    Returns
    -------
    Mixture or str
    """
    term = model.full.cp.design.terms[removal.term]
    structure, c = term.structure, len(term.effects)
    if len(structure.rows) == 1:
        return adding(1)
    if not structure.correlated:
        if len(removal.removed) == 1:
            return adding(1)
        if isinstance(model.full, ResidualOptimum):
            return _ESTIMATED
        found = _information(model, removal, True)
        return orthant(found, draws, seed) if _is_regular(found) else _NO_WEIGHTS
    if not structure.basis_free and removal.kept:
        return f"no weights are known for an effect that shares the correlation of {term.label} with others"
    if not structure.basis_free:
        return f"under the null hypothesis the correlation of {term.label} does not exist, so that no weights are known"
    if len(removal.removed) == 1:
        return adding(c)
    if removal.kept:
        return "no weights are known for the removal of several, but not all, correlated effects"
    if isinstance(model.full, ResidualOptimum):
        return _ESTIMATED
    found = _information(model, removal, False)
    return positive_semidefinite(found, draws, seed) if _is_regular(found) else _NO_WEIGHTS


def _is_regular(matrix: FloatArray) -> bool:
    """Whether information is about every parameter and every combination of them."""
    diagonal = np.diagonal(matrix)
    if not (diagonal > 0).all():
        return False
    scale = np.sqrt(diagonal)
    return bool(np.linalg.eigvalsh(matrix / (scale * scale[:, None]))[0] > _SINGULAR)


def _information(model: NullModel, removal: Removal, diagonal: bool) -> FloatArray:
    """Information about the removed variances (and covariances) under the null hypothesis, all else estimated."""
    full, cp = model.full, model.full.cp
    factors = internal_factors(cp, _null_point(model, removal))
    first = derivatives(cp, factors, evaluate(cp, factors), full.reml)
    whole = 0.5 * information(cp, factors, first, full.reml)
    own, nuisance = _entries(cp, removal, diagonal)
    wanted = whole[np.ix_(own, own)]
    beside = whole[np.ix_(nuisance, nuisance)]
    scale = np.sqrt(np.diagonal(beside))
    inverse = np.linalg.pinv(beside / (scale * scale[:, None]), rcond=_SINGULAR, hermitian=True)
    cross = whole[np.ix_(own, nuisance)] / scale
    return np.asarray(wanted - cross @ inverse @ cross.T)


def _null_point(model: NullModel, removal: Removal) -> FloatArray:
    """Internal parameters of the full model at the null hypothesis (whole terms only)."""
    cp = model.full.cp
    fixed = {removal.term: np.zeros(len(cp.design.terms[removal.term].structure.rows))}
    return optimise(cp, model.full.reml, fixed=fixed).internal[None]


def _entries(cp: CrossProducts, removal: Removal, diagonal: bool) -> tuple[list[int], list[int]]:
    """Positions in the information of the removed entries, and of the other free parameters."""
    own: list[int] = []
    nuisance: list[int] = []
    start = 0
    for block in cp.blocks:
        rows, cols = np.tril_indices(block.size)
        for term, columns in zip(block.terms, block.slices, strict=True):
            structure = cp.frame.structures[term]
            inside = (rows >= columns.start) & (rows < columns.stop) & (cols >= columns.start) & (cols < columns.stop)
            only = rows == cols if not (structure.correlated or structure.shared) else np.ones(rows.size, dtype=bool)
            found = (start + np.flatnonzero(inside & only)).tolist()
            if term == removal.term:
                own += found
            else:
                nuisance += found
        start += rows.size
    return own, [*nuisance, *([start] if cp.sigma is None else [])]
