"""Which priors give an improper posterior, or one without a mode, and why: power counting to zero and to infinity.

If the sds of a set A of random effects grow as a common factor s, the likelihood with flat fixed effects falls as
``s^-rank((I - P_X) Z_A)``; densities ``s^e`` add ``s^(e + 1)`` each. The posterior is proper iff the likelihood wins
for every A (with sigma among the sds: against n - p), no density has infinite mass at zero, and sigma = 0 cannot fit
the data exactly unless its prior can bear that. Proper priors cannot make it worse.

References
----------
Hobert & Casella (1996), J. American Statistical Association 91, 1461-1473; Gelman (2006), Bayesian Analysis 1, 515-534.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bayeslmm.bayes.at_means import design_at_means, products_at_means
from bayeslmm.bayes.coefficient_priors import check_integrable
from bayeslmm.bayes.prior_families import Flat, Gamma, HalfT, InverseGammaVariance, Power, SdPrior
from bayeslmm.bayes.prior_scales import response_sd
from bayeslmm.bayes.prior_slopes import at_zero
from bayeslmm.bayes.priors import Priors, flat_coefficients
from bayeslmm.bayes.term_priors import Decov, FlatFactor, Relative, TermPrior
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.row_arrays import RowArray, change_of, product_by_row
from bayeslmm.design.variances import variance_labels
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.level_grams import projected_gram
from bayeslmm.types import FloatArray

# Beyond this many improper sds only single ones, pairs and all together are examined.
_ALL_SUBSETS = 8
# Eigenvalues of a scaled cross-product below this are zero.
_ZERO = 1e-9
# Columns beyond which ranks are not computed: the bound by the number of levels has decided long before.
_MANY = 3000


@dataclass(frozen=True)
class _Improper:
    """An sd with an improper prior ``s^exponent``: its place in the design and the effects that have it."""

    label: str
    prior: SdPrior
    exponent: float
    term: int
    effects: tuple[int, ...]

    @property
    def power(self) -> float:
        """What the prior adds to the power of s in the integral."""
        return self.exponent + 1.0


def check_posterior(design: Design, priors: Priors, cp: SummedDesign | None = None) -> None:
    """Refuse priors under which the posterior is improper.

    Parameters
    ----------
    design : Design
    priors : Priors
    cp : SummedDesign, optional
        Of a design whose rows are not in memory.

    Raises
    ------
    PriorError
        The posterior does not integrate; the message says where and what to use.
    """
    cp = None if cp is None else products_at_means(cp, priors.changes)
    design, improper = design_at_means(design, priors.changes), _improper(design, priors)
    for item in improper:
        _check_zero(item, design)
    flat = _flat_columns(design.X, priors)
    for subset in _subsets(improper):
        _check_infinity(design, subset, flat, cp)
    exponent = exponent_of(priors.sigma)
    if exponent is not None:
        _check_sigma(design, priors, exponent, improper, flat.shape[1])


def check_mode(
    design: Design, priors: Priors, reml: bool, held: Collection[int] = (), cp: SummedDesign | None = None
) -> None:
    """Refuse priors under which the posterior density has no highest point.

    The density itself has to be bounded, where `check_posterior` needs its integral: at zero, where the likelihood is
    positive, and for large sds, where ``s^e`` of the priors stands against the likelihood's ``s^-rank``.

    Parameters
    ----------
    design : Design
    priors : Priors
    reml : bool
        Whether the fixed effects are integrated out.
    held : collection of int
        Positions of terms whose covariance is given.
    cp : SummedDesign, optional
        Of a design whose rows are not in memory.

    Raises
    ------
    PriorError
        Where the density is without bound, why, and what to use.
    """
    check_integrable(design.fixed_names, priors.heavy, "The mode", "Use bl.Normal(mean, sd), or model.sample().")
    design = design_at_means(design, priors.changes)
    for k, (term, eta, joint) in enumerate(zip(design.terms, priors.lkj, priors.joints, strict=True)):
        if k not in held:
            _check_spikes(design, term, eta, joint)
    for labels, sds in variance_labels(design):
        for sd in sds:
            prior = priors.sds[sd.term][sd.effects[0]]
            if sd.term not in held and priors.joints[sd.term] is None and at_zero(prior) == np.inf:
                label = f"sd_{labels.group}[{sd.name}]"
                raise PriorError(
                    f"There is no mode: the prior of {label} is {prior}, whose density is infinite at zero, where the "
                    f"likelihood is positive, so that zero is infinitely better than the rest whatever the data are. "
                    f"{_instead(design, label)}"
                )
    _check_growth(design, priors, reml, held, None if cp is None else products_at_means(cp, priors.changes))


def _check_spikes(design: Design, term: RandomTerm, eta: float, joint: TermPrior | None) -> None:
    """Refuse densities that are infinite at singular covariances of a term."""
    whole = joint or f"LKJ({eta:g})"
    if isinstance(joint, Decov) and (joint.shape < 1 or joint.concentration < 1):
        where = "its total variance" if joint.shape < 1 else "the share of one effect"
        remedy = "Use bl.Decov with shape and concentration of 1 or more."
    elif term.structure.correlated and not isinstance(joint, FlatFactor) and eta < 1:
        where, remedy = "the determinant of its correlations", f"Use 'lkj_{term.group}': 1 (uniform) or more."
    else:
        return
    raise PriorError(
        f"There is no mode: the prior of {term.label} is {whole}, whose density is infinite where {where} is zero, and "
        f"the likelihood is positive there. {remedy}"
    )


def _check_growth(design: Design, priors: Priors, reml: bool, held: Collection[int], cp: SummedDesign | None) -> None:
    flat = _flat_columns(design.X, priors)
    X = flat if reml else np.empty((design.n, 0))
    improper = [item for item in _improper(design, priors) if item.term not in held]
    for subset in _subsets(improper):
        needed = sum(item.exponent for item in subset)
        levels = [_levels(design, item) for item in subset]
        if needed <= 0 or max(levels) - X.shape[1] > needed or sum(levels) > _MANY:
            continue
        rank = _rank(design, subset, X, cp)
        if rank <= needed:
            names, own = ", ".join(s.label for s in subset), ", ".join(str(s.prior) for s in subset)
            raise PriorError(
                f"There is no mode: for a large {names} the density of the prior ({own}) grows as its power "
                f"{needed:g}, and the likelihood falls only as its power -{rank}: {max(levels)} levels of "
                f"{design.terms[subset[0].term].group} leave {rank} degree(s) of freedom. Larger is always better. "
                f"{_remedy(design, subset[0].label)}"
            )
    own_power = exponent_of(priors.sigma)
    total = (own_power or 0.0) + sum(item.exponent for item in improper if not item.prior.relative)
    df = design.n_observations - (flat.shape[1] if reml else 0)
    if own_power is not None and df <= total:
        raise PriorError(
            f"There is no mode: sigma has the prior {priors.sigma}; with those of the sds the density grows as the "
            f"power {total:g} of all of them, and {df} degrees of freedom are too few against it. Use a proper prior "
            f"of sigma such as bl.HalfT(3, {response_sd(design):.3g})."
        )


def finite_moments(design: Design, priors: Priors, cp: SummedDesign | None = None) -> dict[tuple[int, int], int]:
    """How many moments of each sd the posterior has, 0 to 2, where not both; keyed by term and effect.

    For large s the likelihood falls as ``s^-rank`` and the prior as ``s^-tail``, so that the moment of order k is
    finite where ``rank + tail > k + 1``.
    """
    X = _flat_columns(design.X, priors)
    own = design_at_means(design, priors.changes)
    return _at_zeros(
        priors, _finite_moments(own, priors, X, None if cp is None else products_at_means(cp, priors.changes))
    )


def _at_zeros(priors: Priors, found: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """An sd at the zeros of the columns has the moments that all those it is made of have."""
    moments = dict(found)
    for k, change in enumerate(priors.changes):
        if change is None:
            continue
        for j, row in enumerate(change.rows):
            orders = [found[k, i] for i, value in enumerate(row) if value and (k, i) in found]
            if orders:
                moments[k, j] = min(orders)
    return moments


def _finite_moments(
    design: Design, priors: Priors, X: FloatArray, cp: SummedDesign | None
) -> dict[tuple[int, int], int]:
    """Moments of the sds that the priors are about."""
    found: dict[tuple[int, int], int] = {}
    for _, sds in variance_labels(design):
        for sd in sds:
            prior = priors.sds[sd.term][sd.effects[0]]
            tail = _tail(prior)
            item = _Improper("", prior, 0.0, sd.term, sd.effects)
            if tail >= 3.0 or _levels(design, item) - X.shape[1] + tail > 3.0:
                continue
            orders = _rank(design, [item], X, cp) + tail - 1.0
            if orders <= 2.0:
                found |= {(sd.term, k): int(orders > 1.0) for k in sd.effects}
    return found


def _tail(prior: SdPrior) -> float:
    """Power with which a prior density falls for large s; infinite where faster than any."""
    match prior:
        case Relative(prior=inner):
            return _tail(inner)
        case HalfT(df=df):
            return df + 1.0
        case InverseGammaVariance(shape=shape):
            return 2.0 * shape + 1.0
    exponent = exponent_of(prior)
    return np.inf if exponent is None else -exponent


def _flat_columns(X: FloatArray, priors: Priors) -> FloatArray:
    """Columns of X along which the prior is flat."""
    basis = None if priors.beta is None else priors.beta.basis
    if isinstance(X, RowArray):
        change = np.eye(X.shape[1]) if basis is None else np.linalg.inv(basis)
        return product_by_row(X, change[:, flat_coefficients(priors, X.shape[1])])
    columns = X if basis is None else np.linalg.solve(basis.T, X.T).T
    return np.asarray(columns)[:, flat_coefficients(priors, X.shape[1])]


def exponent_of(prior: SdPrior) -> float | None:
    """Power of s that an improper density is proportional to; None if the prior is proper.

    Examples
    --------
    >>> exponent_of(Gamma(2, 0)), exponent_of(Gamma(2, 1))
    (1.0, None)
    """
    match prior:
        case Relative(prior=inner):
            return exponent_of(inner)
        case Flat():
            return 0.0
        case Power(exponent=exponent):
            return exponent
        case Gamma(shape=shape, rate=0):
            return shape - 1.0
    return None


def _improper(design: Design, priors: Priors) -> list[_Improper]:
    found = []
    for labels, sds in variance_labels(design):
        for sd in sds:
            prior = priors.sds[sd.term][sd.effects[0]]
            exponent = exponent_of(prior)
            if exponent is not None:
                label = f"sd_{labels.group}[{sd.name}]"
                found.append(_Improper(label, prior, exponent, sd.term, sd.effects))
    return found


def _subsets(improper: Sequence[_Improper]) -> list[tuple[_Improper, ...]]:
    m = len(improper)
    sizes = range(1, m + 1) if m <= _ALL_SUBSETS else (1, 2, m)
    return [subset for size in sizes for subset in combinations(improper, size)]


def _remedy(design: Design, label: str) -> str:
    key = label.split("[")[0]
    return f"Use a proper prior such as the default half-t: priors={{'{key}': bl.HalfT(3, {response_sd(design):.3g})}}."


def _instead(design: Design, label: str) -> str:
    key = label.split("[")[0]
    scale = f"{response_sd(design):.3g}"
    return f"Use one that is finite there: priors={{'{key}': bl.HalfT(3, {scale})}} (the default), or bl.Gamma(2, 0)."


def _check_zero(item: _Improper, design: Design) -> None:
    if item.power <= 0:
        raise PriorError(
            f"The posterior is improper: the prior of {item.label} is a {item.prior}, which has infinite mass near "
            "zero, and the likelihood is positive at zero, because random effects are not observed (Hobert & "
            f"Casella 1996). {_remedy(design, item.label)}"
        )


def _check_infinity(design: Design, subset: tuple[_Improper, ...], X: FloatArray, cp: SummedDesign | None) -> None:
    needed = sum(item.power for item in subset)
    levels = [_levels(design, item) for item in subset]
    if max(levels) - X.shape[1] > needed or sum(levels) > _MANY:
        return
    rank = _rank(design, subset, X, cp)
    if rank > needed:
        return
    names, priors = ", ".join(s.label for s in subset), ", ".join(str(s.prior) for s in subset)
    counts = ", ".join(f"{design.terms[s.term].group} has {n} levels" for s, n in zip(subset, levels, strict=True))
    several = "are jointly improper" if len(subset) > 1 else "is improper"
    raise PriorError(
        f"The prior of {names} ({priors}) {several}, and {counts}, which leaves {rank} degree(s) of freedom beside the "
        f"fixed effects that do not vary within them: more than {needed:g} are needed. The posterior is improper: for "
        f"large values s the likelihood falls only as s^-{rank}, too slowly for the integral to be finite (Hobert & "
        f"Casella 1996; Gelman 2006). {_remedy(design, subset[0].label)}"
    )


def _levels(design: Design, item: _Improper) -> int:
    """Levels whose rows have any effect of the sd."""
    term = design.terms[item.term]
    grouping = design.groupings[term.group]
    if design.facts is not None:
        own = design.facts.Z(item.term)
        return int(design.facts.present[term.group][own][list(item.effects)].max())
    present = (term.Z[:, item.effects] != 0).any(axis=1)
    return int(np.unique(grouping.codes[present]).size)


def _rank(design: Design, subset: Sequence[_Improper], X: FloatArray, cp: SummedDesign | None = None) -> int:
    """Rank of the columns of the random effects once those of X are projected out."""
    if cp is not None:
        change = change_of(X) if isinstance(X, RowArray) else np.eye(cp.p)[:, :0]
        gram = projected_gram(cp, [(item.term, item.effects) for item in subset], change)
        return int((np.linalg.eigvalsh(gram) > _ZERO * max(gram.shape)).sum())
    from scipy import sparse

    blocks = []
    for item in subset:
        term = design.terms[item.term]
        grouping, rows = design.groupings[term.group], np.arange(design.n)
        for k in item.effects:
            shape = (design.n, grouping.n_levels)
            blocks.append(sparse.csr_array((term.Z[:, k], (rows, grouping.codes)), shape=shape))
    Z = sparse.hstack(blocks, format="csr")
    size = np.sqrt(np.asarray(Z.multiply(Z).sum(axis=0)).ravel())
    scaled = sparse.csr_array(Z[:, np.flatnonzero(size > 0)] / size[size > 0])
    projected = scaled.T @ np.linalg.qr(X)[0]
    gram = (scaled.T @ scaled).toarray() - projected @ projected.T
    return int((np.linalg.eigvalsh(gram) > _ZERO * max(gram.shape)).sum())


def _check_sigma(design: Design, priors: Priors, exponent: float, improper: Sequence[_Improper], n_flat: int) -> None:
    power = exponent + 1.0
    absolute = power + sum(item.power for item in improper if not item.prior.relative)
    df = design.n_observations - n_flat
    if df <= absolute:
        raise PriorError(
            f"The posterior is improper: sigma has the prior {priors.sigma}, and {design.n_observations} observations "
            f"less {n_flat} fixed effects leave {df} degrees of freedom, but the improper priors of sigma and the sds "
            f"need more than {absolute:g}. Use a proper prior of sigma such as bl.HalfT(3, {response_sd(design):.3g})."
        )
    ratios = sum(item.power for item in improper if item.prior.relative)
    bounded = all(prior.relative and prior.proper for term in priors.sds for prior in term)
    if power <= ratios and not bounded and _saturated(design):
        raise PriorError(
            f"The posterior is improper: sigma has the prior {priors.sigma}, which has infinite mass near zero, and "
            f"the fixed and random effects can fit all {design.n} rows exactly, so that the likelihood is positive at "
            f"sigma = 0. Use a proper prior of sigma such as bl.HalfT(3, {response_sd(design):.3g})."
        )


def _saturated(design: Design) -> bool:
    """Whether [X Z] has the rank of the number of rows."""
    effects = [_Improper("", Flat(), 0.0, k, tuple(range(len(t.effects)))) for k, t in enumerate(design.terms)]
    columns = sum(design.groupings[t.group].n_levels * len(t.effects) for t in design.terms)
    if columns + design.p < design.n or columns > _MANY:
        return False
    return _rank(design, effects, design.X) + design.p >= design.n
