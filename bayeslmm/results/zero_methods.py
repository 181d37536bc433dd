"""The methods that test a zero variance, each with its p value or the reason why it has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.shared import Identity
from bayeslmm.errors import DesignError
from bayeslmm.inference.null_model import NullModel, Removal, bootstrap, mixture, null_model
from bayeslmm.inference.ratio import f_test
from bayeslmm.inference.rlrt import NullTest, null_test
from bayeslmm.inference.spectral import LARGEST, Spectrum, spectrum
from bayeslmm.likelihood.crossproducts import Levels
from bayeslmm.reml import Optimum, optimise

if TYPE_CHECKING:
    from bayeslmm.results.reml_result import REMLResult

_CONE_DRAWS = 20_000


@dataclass(frozen=True)
class Row:
    """One method: what it says, or why it says nothing (`p_value` nan)."""

    method: str
    statistic: float
    distribution: str
    p_value: float
    mc_error: float
    note: str = ""
    p_zero: float = float("nan")

    @property
    def works(self) -> bool:
        return bool(np.isfinite(self.p_value))


def all_rows(
    fit: REMLResult, model: NullModel, removal: Removal, draws: int, seed: int | np.random.Generator
) -> list[Row]:
    """Every method that costs little."""
    rows: list[Row] = []
    if _is_scalar(fit.design, removal):
        for reml in (True,) if fit.reml else (False, True):
            rows.append(_exact(fit, model, removal, reml, draws, seed))
    if _has_own_variance(fit.design, removal):
        rows.append(_attempt("F (Wald)", lambda: _by_f(fit.design, removal)))
    rows.append(_attempt("chi-bar-square", lambda: _by_mixture(model, removal, seed)))
    return rows


def _is_scalar(design: Design, removal: Removal) -> bool:
    """Whether one variance is all that is removed, covariances included."""
    term = design.terms[removal.term]
    if isinstance(term.structure, Identity) or len(term.effects) == 1:
        return True
    return len(removal.removed) == 1 and term.structure.keyword == "diag"


def _has_own_variance(design: Design, removal: Removal) -> bool:
    """Whether the removed effects are one, or share a variance without being correlated."""
    term = design.terms[removal.term]
    return _is_scalar(design, removal) or (len(removal.removed) == 1 and not term.structure.shared)


def _attempt(method: str, compute: Callable[[], Row]) -> Row:
    """A row, with the reason in its note where the method does not apply."""
    try:
        return compute()
    except DesignError as error:
        return Row(method, float("nan"), "", float("nan"), float("nan"), str(error))


def _exact(
    fit: REMLResult, model: NullModel, removal: Removal, reml: bool, draws: int, seed: int | np.random.Generator
) -> Row:
    alone = not model.design.terms
    method = ("exact " if alone else "approximate ") + ("RLRT" if reml else "LRT")

    def compute() -> Row:
        reduced = spectrum(fit.design, removal.term, removal.removed, others="ignored")
        statistic = model.statistic if reml == fit.reml else null_model(_other(fit.optimum), removal).statistic
        found = null_test(reduced, statistic, reml, own=alone, draws=draws, seed=seed)
        note = _exact_note(alone, reml)
        return Row(method, statistic, _law(reduced, found), found.p_value, found.mc_error, note, found.p_zero)

    return _attempt(method, compute)


def _other(optimum: Optimum) -> Optimum:
    """The ML fit of a REML fit, and the reverse."""
    return optimise(optimum.cp, not optimum.reml)


def _law(reduced: Spectrum, found: NullTest) -> str:
    return f"simulated, {found.draws:,} draws" if found.draws else f"function of F({reduced.r}, {reduced.f})"


def _exact_note(alone: bool, reml: bool) -> str:
    if alone:
        return ""
    name = "restricted likelihood" if reml else "likelihood"
    return (
        f"the {name} ratio against its exact distribution in the model without the other random terms, whose effects "
        "are taken as known (Greven et al. 2008)"
    )


def _by_f(design: Design, removal: Removal) -> Row:
    test = f_test(spectrum(design, removal.term, removal.removed))
    others = len(design.terms) > 1 or bool(removal.kept)
    note = "exact, whatever the other variances: their effects are taken as fixed" if others else ""
    return Row("F (Wald)", float(test.statistic[0]), f"F({test.r}, {test.f})", float(test.p_value[0]), 0.0, note)


def _by_mixture(model: NullModel, removal: Removal, seed: int | np.random.Generator) -> Row:
    found = mixture(model, removal, _CONE_DRAWS, seed)
    if isinstance(found, str):
        raise DesignError(found)
    p, error = found.p_value(model.statistic)
    note = "large-sample approximation in the number of levels"
    return Row("chi-bar-square", model.statistic, str(found), p, error, note, found.p_zero)


def bootstrap_row(model: NullModel, refits: int, seed: int | np.random.Generator) -> Row:
    """The parametric bootstrap, or why it is none."""
    return _attempt("bootstrap", lambda: _by_bootstrap(model, refits, seed))


def _by_bootstrap(model: NullModel, refits: int, seed: int | np.random.Generator) -> Row:
    found = bootstrap(model, refits, seed)
    p, error = found.p_value(model.statistic)
    note = f"{found.failed} of {refits} refits failed and are left out" if found.failed else ""
    if p * (found.statistics.size + 1) < 1.5:
        note = "no refit reached the statistic, so that p is an upper bound" + (f"; {note}" if note else "")
    law = f"simulated under the null hypothesis, {found.statistics.size:,} refits"
    return Row("bootstrap", model.statistic, law, p, error, note, found.p_zero)


def needs_refits(fit: REMLResult, rows: Sequence[Row]) -> bool:
    """Whether only a bootstrap is better than large-sample theory, and is quick enough to be run unasked."""
    better = any(row.works and row.method not in ("chi-bar-square", "F (Wald)") for row in rows)
    quick = isinstance(fit.cp.store, Levels) and fit.design.q <= LARGEST and fit.design.frequency is None
    return not better and quick


def choose(rows: Sequence[Row], method: str) -> Row:
    """The row that the result speaks for."""
    names = {
        "auto": ("exact", "approximate", "bootstrap", "chi-bar-square", "F"),
        "exact": ("exact", "approximate"),
    }.get(method, (method,))
    for name in names:
        for row in rows:
            if row.works and row.method.split(" ")[0] == name:
                return row
    reasons = "; ".join(f"{row.method}: {row.note}" for row in rows if not row.works)
    raise DesignError(
        f"method={method!r} does not apply to this hypothesis. "
        + (reasons or "An exact distribution exists for one variance only, not for correlated effects.")
        + " Use method='auto' or method='bootstrap'."
    )
