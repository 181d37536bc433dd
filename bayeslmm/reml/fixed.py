"""Covariance parameters that a fit holds fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from bayeslmm.arguments import mapping, numbers_of
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.terms import term_position
from bayeslmm.design.theta import theta_names
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import CrossProducts
from bayeslmm.likelihood import parameters as par
from bayeslmm.types import BoolArray, FloatArray


def resolve_fixed(design: Design, fix: Mapping[str, Any] | None) -> dict[int, FloatArray]:
    """Read the user's ``fix=`` argument.

    Parameters
    ----------
    design : Design
    fix : mapping or None
        ``{"theta": values}`` for all terms, or grouping factor (or term label) to the theta of that term.

    Returns
    -------
    dict
        Position of a term to its theta.

    Raises
    ------
    DesignError
        Unknown key, wrong number of values, values that are no covariance.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> resolve_fixed(design, {"Batch": [0.5]})
    {0: array([0.5])}
    """
    if fix is None:
        return {}
    mapping("fix", fix, "a mapping such as {'theta': [0.5]}", DesignError)
    labels = [term.label for term in design.terms]
    groups = [term.group for term in design.terms]
    names = [theta_names(design, i) for i in range(len(labels))]
    found: dict[int, FloatArray] = {}
    for key, value in fix.items():
        if key == "theta" and "theta" not in groups:
            if len(fix) > 1:
                raise DesignError(
                    "fix has the key 'theta', which covers all terms, and others besides. Use one or more."
                )
            values = _values(key, value, tuple(name for own in names for name in own))
            ends = np.cumsum([0, *(len(own) for own in names)])
            parts = [values[a:b] for a, b in pairwise(ends)]
            found = dict(enumerate(parts))
        elif key == "sigma" and "sigma" not in groups:
            raise DesignError(
                "fix has the key 'sigma', and what it fixes is theta, relative to sigma. A known residual standard "
                "deviation is given as model.fit(sigma=...); standard errors that are known row by row (a "
                "meta-analysis) as bl.Model(formula, data, residual_sd='se')."
            )
        else:
            i = term_position(key, labels, groups, "fix")
            if i in found:
                raise DesignError(f"fix gives the parameters of {labels[i]} twice. Keep one of its keys.")
            found[i] = _values(key, value, names[i])
    for i, values in found.items():
        _check(design.terms[i], values)
    return found


@dataclass(frozen=True)
class Held:
    """Entries of the internal vector that stay as they are.

    Attributes
    ----------
    terms : tuple of int
        Positions in ``design.terms``.
    values : FloatArray, shape (k,)
        Internal vector; only the held entries matter.
    free : BoolArray, shape (k,)
        The others.
    """

    terms: tuple[int, ...]
    values: FloatArray
    free: BoolArray

    def full(self, x: FloatArray) -> FloatArray:
        """Internal vectors (..., k) with the free entries (..., f) filled in."""
        if not self.terms:
            return x.copy()
        out = np.broadcast_to(self.values, (*x.shape[:-1], self.values.size)).copy()
        out[..., self.free] = x
        return out


def hold(cp: CrossProducts, fixed: Mapping[int, FloatArray] | None) -> Held:
    """Hold the theta of some terms (by position in the design) at given values."""
    fixed = fixed or {}
    if not fixed:
        return _nothing(cp.frame.n_theta)
    zero = {i: np.zeros(len(structure.rows)) for i, structure in enumerate(cp.frame.structures)}
    theta = np.concatenate([np.asarray(values, dtype=float) for values in {**zero, **fixed}.values()])
    values = par.internal_from_terms(cp, [T[0] for T in par.terms_from_theta(cp, theta)])
    return Held(tuple(sorted(fixed)), values, free_entries(cp, fixed))


@lru_cache(maxsize=64)
def _nothing(size: int) -> Held:
    values, free = np.zeros(size), np.ones(size, dtype=bool)
    values.flags.writeable = free.flags.writeable = False
    return Held((), values, free)


def free_entries(cp: CrossProducts, fixed: Collection[int]) -> BoolArray:
    """Which entries of the internal vector, shape (k,), belong to terms that are not fixed."""
    return np.concatenate(
        [
            np.zeros(0, dtype=bool),
            *(np.full(len(structure.rows), term not in fixed) for _, _, term, _, structure in cp.frame.terms),
        ]
    )


def _values(key: str, value: Any, names: tuple[str, ...]) -> FloatArray:
    values = np.atleast_1d(numbers_of(f"fix[{key!r}]", value, finite=False, error=DesignError))
    if values.shape != (len(names),):
        raise DesignError(
            f"fix[{key!r}] has the shape {values.shape}, but there {'is' if len(names) == 1 else 'are'} {len(names)} "
            f"parameter(s): {', '.join(names)}. Give all of them, relative to sigma (theta)."
        )
    if not np.isfinite(values).all():
        raise DesignError(f"fix[{key!r}] has the value {values[~np.isfinite(values)][0]}; give finite numbers.")
    return values


def _check(term: RandomTerm, values: FloatArray) -> None:
    try:
        term.structure.check(values)
    except DesignError as error:
        raise DesignError(f"fix, {term.label}: {error}") from error
