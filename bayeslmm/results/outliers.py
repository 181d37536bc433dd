"""A few rows or levels that decide the verdict on a fit: found by a cheap screen, confirmed by a refit without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from bayeslmm.design.screen import enumerated, number
from bayeslmm.likelihood.columns import orthogonalise
from bayeslmm.reml.deleted import refit_without, still_says_all
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.deletion_cases import DeletionCases, deletion_cases
from bayeslmm.results.fit import Fit
from bayeslmm.results.influence_statistics import cannot_be_left_out
from bayeslmm.results.residual_kinds import correlated_system, residual_values
from bayeslmm.types import FloatArray, IntArray

# A row is looked at if its residual would be this rare among so many normal ones, and if its square is a share of the
# residual sum of squares: at a singular fit, where effects may have taken some of it, a smaller one suffices.
_RARE, _SHARE, _SHARE_SINGULAR = 1e-3, 0.2, 0.1
# Leverage on the fixed part of a row whose predictors stand alone; rows of at most so many levels of a factor do, too.
_ALONE, _FEWEST_ROWS = 0.5, 20
# A level is looked at if its effect, beside the root mean square of the others, would be so rare.
_RARE_LEVEL, _FEWEST_LEVELS = 1e-3, 5
# At most so many rows together, and levels one by one.
_TOGETHER, _LEVELS = 3, 3
# Falls of sigma, and changes of another sd, that are a verdict of their own; an effect counts from this t on.
_SIGMA, _SD, _CLEAR = 1.5, 2.0, 2.0


@dataclass(frozen=True)
class Deciding:
    """Rows, or a level, without which the verdict on the fit is another.

    Attributes
    ----------
    rows : IntArray
        Positions of the rows.
    who : str
        What they are, in words.
    changes : tuple of str
        What is otherwise without them, the weightiest first.
    """

    rows: IntArray
    who: str
    changes: tuple[str, ...]

    @property
    def several(self) -> bool:
        return self.who.startswith("rows ")

    def __str__(self) -> str:
        them = "them" if self.several else "it"
        return f"{self.who[0].upper()}{self.who[1:]}. Without {them} {enumerated(self.changes)}."


_NOT_LOOKED_AT = (
    "The rows are not in memory: residuals were not looked at (fit.residuals() and fit.influence() read the rows "
    "again, where they fit into memory)."
)


def deciding(fit: Fit) -> Deciding | None:
    """The few rows, or the level of a factor, that decide the verdict on a fit; None if nothing stands out.

    Ordinary fits cost a look at their residuals and predicted effects; where these are extreme the model is fitted
    again without the rows or the level.

    Parameters
    ----------
    fit : Fit

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy")
    >>> deciding(bl.Model("Reaction ~ Days + (Days | Subject)", data).fit()) is None
    True
    >>> data.loc[44, "Reaction"] *= 10
    >>> deciding(bl.Model("Reaction ~ Days + (Days | Subject)", data).fit()).changes[0]
    'the fit is not singular'
    """
    memo = fit._memo
    if "deciding" not in memo:
        memo["deciding"] = _find(fit)
    found: Deciding | None = memo["deciding"]
    return found


def outlier_notes(fit: Fit) -> list[str]:
    """A line on what decides the verdict, to be said before anything else; none for ordinary fits."""
    if fit.design.facts is not None:
        return [_NOT_LOOKED_AT]
    found = deciding(fit)
    return [f"Look here first: {found}"] if found is not None else []


def _find(fit: Fit) -> Deciding | None:
    ordinary = fit.status.ok and fit.penalty is None and not fit.optimum.fixed and fit.sigma > 0
    if not ordinary or fit.design.facts is not None:
        return None
    if fit.design.cells is not None:
        # Rows that stand for cells are no observations.
        return _levels(fit)
    return _rows(fit) or _lone_predictors(fit) or _levels(fit)


def _rows(fit: Fit) -> Deciding | None:
    """Rows with extreme residuals, the most extreme first, further ones as long as those without them are extreme."""
    rows, current, scaled, first = list[int](), fit, _scaled(fit), 0.0
    place = np.arange(fit.design.n)
    for _ in range(_TOGETHER):
        z = np.abs(scaled)
        worst = int(z.argmax())
        share = _SHARE_SINGULAR if current.is_singular else _SHARE
        if z[worst] < -ndtri(_RARE / (2 * z.size)) or z[worst] ** 2 < share * current.n:
            break
        gone = np.array([*rows, int(place[worst])])
        without = _without(fit, gone)
        if without is None:
            break
        first = first or float(scaled[worst])
        rows.append(int(place[worst]))
        current, place = without, np.delete(place, worst)
        scaled = _scaled(without)
    changes = _changes(fit, current) if rows else ()
    return Deciding(np.array(rows), _who(fit, rows, first), changes) if changes else None


def _scaled(fit: Fit) -> FloatArray:
    """Residuals (n,) in sds; of correlated rows those given all other rows, where a group has much of the total."""
    system = correlated_system(fit)
    if system is None:
        return residual_values(fit, "pearson", scaled=True)
    clusters, out = np.asarray(system.design.residual.clusters), np.zeros(fit.design.n)
    share = np.bincount(clusters, residual_values(fit, "normalized") ** 2)[clusters]
    suspect = share >= 0.5 * _SHARE_SINGULAR * fit.n
    if suspect.any():
        for own in system.together(np.where(suspect, np.arange(fit.design.n), -1)):
            out[own.rows] = own.weighted / (fit.sigma * np.sqrt(np.maximum(np.diagonal(own.precision), 1e-300)))
    return np.where(suspect, out, 0.0)


def _without(fit: Fit, rows: IntArray) -> Fit | None:
    """The fit without some rows; None where there is none."""
    if not _stays_estimable(fit, rows) or not still_says_all(fit.optimum, rows):
        return None
    optimum = refit_without(fit.optimum, rows)
    design = optimum.original if isinstance(optimum, ResidualOptimum) else optimum.cp.design
    without = Fit(design, optimum.cp, optimum)
    return without if without.status.ok and without.sigma > 0 else None


def _stays_estimable(fit: Fit, rows: IntArray) -> bool:
    codes = np.full(fit.design.n, -1, dtype=np.int64)
    codes[rows] = 0
    return not cannot_be_left_out(fit, DeletionCases("row", pd.Index([0]), codes, np.ones(codes.size)))[0]


def _who(fit: Fit, rows: Sequence[int], first: float) -> str:
    design = fit.design
    value, left = design.y[rows[0]], design.y[rows[0]] - fit._fitted[rows[0]]
    labels = ", ".join(str(design.index[row]) for row in rows)
    side = "above" if left > 0 else "below"
    known = ", ".join(f"{g.name} {g.levels[g.codes[rows[0]]]}" for g in design.groupings.values())
    where, away = f" ({known})" if known else "", f"{abs(first):.1f} residual sds {side} its fitted value"
    if design.residual.clusters is not None:
        away = f"{abs(first):.1f} sds {'above' if first > 0 else 'below'} what all other rows say of it"
    if len(rows) == 1:
        size = "" if design.residual.clusters is not None else f"{number(abs(left))} or "
        return f"row {labels}{where} has {design.response} {number(value)}, {size}{away}"
    return (
        f"rows {labels} have extreme values; row {design.index[rows[0]]}{where} has {design.response} "
        f"{number(value)}, {away}"
    )


def _lone_predictors(fit: Fit) -> Deciding | None:
    """Rows that the fixed part follows because no other row has predictors like theirs."""
    design = fit.design
    if not design.p or design.n < _FEWEST_ROWS:
        return None
    correlated = design.residual.clusters is not None
    # Which row stands alone is a question about the predictors; whitening would mix its rows with others.
    columns = orthogonalise(design.X, None).columns if correlated else _whitened_columns(fit)
    U = np.linalg.qr(columns)[0]
    share = (U**2).sum(axis=1)
    for row in map(int, np.argsort(-share)[:_LEVELS]):
        if share[row] < _ALONE:
            return None
        gone = np.array([row])
        without = _without(fit, gone)
        if without is not None and (changes := _changes(fit, without)):
            who = f"row {design.index[row]} has predictors like no other row (leverage {share[row]:.2f})"
            return Deciding(gone, who, changes)
    return None


def _whitened_columns(fit: Fit) -> FloatArray:
    """Columns of X on the scale of equal variances; those of a fit with residual parameters are already."""
    own = fit.cp.fixed.columns
    return own if fit.design.residual.names else fit.design.whitened(own, fit.optimum.lam)


def _levels(fit: Fit) -> Deciding | None:
    """A level whose predicted effect is far from those of all others."""
    suspects = [(name, str(level)) for name, level in _extreme_levels(fit)]
    for name, level in suspects[:_LEVELS]:
        rows = deletion_cases(fit.design, name, [level]).rows(np.array([0]))[0]
        without = _without(fit, rows)
        if without is not None and (changes := _changes(fit, without)):
            return Deciding(rows, f"{name} {level} ({rows.size} rows) is unlike the other levels of {name}", changes)
    return None


def _extreme_levels(fit: Fit) -> list[tuple[str, str]]:
    """Levels with an effect that is rare beside the others, the rarest first."""
    found = list[tuple[float, str, str]]()
    for name, frame in fit.ranef().items():
        b = frame.to_numpy() ** 2
        J = b.shape[0]
        if J < _FEWEST_LEVELS:
            continue
        others = (b.sum(axis=0) - b) / (J - 1)
        # A factor without variance has effects that are rounding.
        ratio = np.where(b > 1e-16 * fit.sigma**2, b / np.where(others > 0, others, np.inf), 0.0).max(axis=1)
        limit = float(stdtrit(J - 1, 1.0 - 0.5 * _RARE_LEVEL / J)) ** 2
        extreme = [int(k) for k in np.flatnonzero(ratio > limit)]
        found += [(float(-ratio[k] / limit), name, str(frame.index[k])) for k in extreme]
    return [(name, level) for _, name, level in sorted(found)]


def _changes(fit: Fit, without: Fit) -> tuple[str, ...]:
    """What is otherwise in the fit without some rows, in words; empty if nothing of weight."""
    found = list[str]()
    if fit.is_singular != without.is_singular:
        found.append("the fit is not singular" if fit.is_singular else "the fit is singular")
    found += _turned(fit, without)
    if fit.sigma > _SIGMA * without.sigma:
        found.append(f"sigma is {number(without.sigma)}, not {number(fit.sigma)}")
    whole, less = fit.estimates(), without.estimates()
    for label in (p.label for p in fit._parameters if p.kind == "sd"):
        a, b = float(whole[label]), float(less[label])
        # Beside sigma, what changes among small sds is noise.
        if max(a, b) > _SD * min(a, b) and max(a, b) > 0.5 * max(without.sigma, 1e-300) and len(found) < 4:
            found.append(f"{label} is {number(b)}, not {number(a)}")
    return tuple(found)


def _turned(fit: Fit, without: Fit) -> list[str]:
    """Coefficients that are clear in one fit and have the other sign in the other."""
    found = []
    a, b = fit.fixef(), without.fixef()
    t, u = a / fit.std_error(), b / without.std_error()
    for name in a.index:
        if a[name] * b[name] < 0 and max(abs(t[name]), abs(u[name])) > _CLEAR:
            found.append(f"{name} is {number(b[name])}, not {number(a[name])}")
    return found
