"""The methods that test a zero variance, each with its p value or the reason why it has none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.arguments import MOST_DRAWS, MOST_REFITS, whole
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMWarning, DesignError, FitError
from bayeslmm.inference.budget import WHOLE
from bayeslmm.inference.null_model import NullModel, Removal, bootstrap, is_scalar, mixture, null_model
from bayeslmm.inference.ratio import f_test
from bayeslmm.inference.rlrt import NullTest, null_test
from bayeslmm.inference.spectral import LARGEST, Spectrum, rows_or_sums, spectrum
from bayeslmm.inference.zero_many import zero_method
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum, optimise
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.fit import Fit

_CONE_DRAWS = 20_000
# Refits that nobody asked for: at most, the fewest that are worth it, and the milliseconds those may take in any case.
MOST, _FEWEST, _LITTLE = 1_000, 50, 3_000.0
# Methods beside which the likelihood ratio is simulated all the same.
_BESIDE = ("chi-bar-square", "F (Wald)", "Q (Cochran)")
_MORE = "refits= runs as many as you ask for"


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
    reached: str = ""  # where nothing simulated reached the statistic, what did not: p is an upper bound

    @property
    def works(self) -> bool:
        return bool(np.isfinite(self.p_value))


def all_rows(fit: Fit, model: NullModel, removal: Removal, draws: int, seed: int | np.random.Generator) -> list[Row]:
    """Every method that costs little."""
    rows: list[Row] = []
    if isinstance(fit.optimum, ResidualOptimum):
        # Exact distributions are those of independent residuals.
        return [_attempt("chi-bar-square", lambda: _by_mixture(model, removal, seed))]
    if fit.design.sigma is not None:
        # Exact distributions are those of ratios to an estimated residual variance.
        if _tests_homogeneity(fit.design, removal):
            rows.append(_attempt("Q (Cochran)", lambda: _by_q(fit)))
        rows.append(_attempt("chi-bar-square", lambda: _by_mixture(model, removal, seed)))
        return rows
    if is_scalar(fit.design, removal):
        for reml in (True,) if fit.reml else (False, True):
            rows.append(_exact(fit, model, removal, reml, draws, seed))
    if _has_own_variance(fit.design, removal):
        rows.append(_attempt("F (Wald)", lambda: _by_f(rows_or_sums(fit.design, fit.cp), fit.design, removal)))
    rows.append(_attempt("chi-bar-square", lambda: _by_mixture(model, removal, seed)))
    return rows


def _tests_homogeneity(design: Design, removal: Removal) -> bool:
    """Whether the null hypothesis leaves nothing but fixed effects and known residuals."""
    return len(design.terms) == 1 and not removal.kept


def _by_q(fit: Fit) -> Row:
    from bayeslmm.inference.homogeneity import cochran_q

    found = cochran_q(fit.design)
    note = "exact: the weighted residual sum of squares of the fixed effects alone"
    return Row("Q (Cochran)", found.statistic, f"chi2({found.df})", found.p_value, 0.0, note)


def _has_own_variance(design: Design, removal: Removal) -> bool:
    """Whether the removed effects are one, or share a variance without being correlated."""
    term = design.terms[removal.term]
    alone = len(removal.removed) == 1 and term.structure.sharing(removal.removed[0]) == removal.removed
    return is_scalar(design, removal) or alone


def _attempt(method: str, compute: Callable[[], Row]) -> Row:
    """A row, with the reason in its note where the method does not apply."""
    try:
        return compute()
    except (DesignError, FitError) as error:
        return Row(method, float("nan"), "", float("nan"), float("nan"), str(error))


def _exact(
    fit: Fit, model: NullModel, removal: Removal, reml: bool, draws: int, seed: int | np.random.Generator
) -> Row:
    alone, method = not model.design.terms, zero_method(fit.design, removal, reml)

    def compute() -> Row:
        reduced = spectrum(rows_or_sums(fit.design, fit.cp), removal.term, removal.removed, others="ignored")
        statistic = model.statistic if reml == fit.reml else null_model(_other(fit.optimum), removal).statistic
        found = null_test(reduced, statistic, reml, own=alone, draws=draws, seed=seed)
        p, notes = found.p_value, [] if alone else [_exact_note(reml)]
        bound = bool(found.draws) and p * (found.draws + 1) < 1.5
        if bound:
            notes.insert(0, _bound_note("draw", found.draws, statistic))
        reached = f"none of {found.draws:,} draws" if bound else ""
        return Row(method, statistic, _law(reduced, found), p, found.mc_error, "; ".join(notes), found.p_zero, reached)

    return _attempt(method, compute)


def _other(optimum: Optimum) -> Optimum:
    """The ML fit of a REML fit, and the reverse."""
    return optimise(optimum.cp, not optimum.reml)


def _law(reduced: Spectrum, found: NullTest) -> str:
    return f"simulated, {found.draws:,} draws" if found.draws else f"function of F({reduced.r}, {reduced.f})"


def _bound_note(what: str, count: int, statistic: float) -> str:
    """What a p value of 1 / (count + 1) says."""
    return (
        f"no {what} of {count:,} was as large as {statistic:.4g}, so that p is an upper bound (p < {1.0 / count:.3g})"
    )


def _exact_note(reml: bool) -> str:
    name = "restricted likelihood" if reml else "likelihood"
    return (
        f"the {name} ratio against its exact distribution in the model without the other random terms, whose effects "
        "are taken as known (Greven et al. 2008)"
    )


def _by_f(source: Design | SummedDesign, design: Design, removal: Removal) -> Row:
    test = f_test(spectrum(source, removal.term, removal.removed))
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


def bootstrap_row(
    model: NullModel, refits: int | None, seed: int | np.random.Generator, budget: float = WHOLE, most: int = MOST
) -> Row:
    """The parametric bootstrap, or why it is none.

    Parameters
    ----------
    model : NullModel
    refits : int or None
        As many as the user asked for; None for at most `most`, and no more than the budget allows.
    seed : int or numpy.random.Generator
    budget : float
        Milliseconds.
    most : int
    """
    return _attempt("bootstrap", lambda: _by_bootstrap(model, refits, seed, budget, most))


def _by_bootstrap(
    model: NullModel, refits: int | None, seed: int | np.random.Generator, budget: float, most: int
) -> Row:
    with Progress(interactive()) as progress:
        found = bootstrap(
            model,
            most if refits is None else refits,
            seed,
            report=lambda done, total: progress.report("Refits", done, total),
            budget=budget if refits is None else np.inf,
            least=_FEWEST,
        )
    B, failed = found.statistics.size, found.failed
    run, notes = B + failed, list[str]()
    p, error = found.p_value(model.statistic)
    if refits is None and run < most:
        notes.append(f"{run:,} of {most:,} refits were run, because each takes long; {_MORE}")
    if failed:
        worst = (p * (B + 1) + failed) / (run + 1)
        left = f"{failed} of {run} refits failed and are left out"
        notes.append(f"{left} (were they all to reach it, p would be {worst:.3g})")
    bound = p * (B + 1) < 1.5
    if bound:
        notes.insert(0, _bound_note("refit", B, model.statistic))
    law = f"simulated under the null hypothesis, {B:,} refits"
    reached = f"none of {B:,} refits" if bound else ""
    return Row("bootstrap", model.statistic, law, p, error, "; ".join(notes), found.p_zero, reached)


def unasked_row(
    model: NullModel,
    rows: Sequence[Row],
    refits: int | None,
    seed: int | np.random.Generator,
    budget: float = WHOLE,
    most: int = MOST,
) -> Row | None:
    """A bootstrap where only that is better than large-sample theory; arguments as of `bootstrap_row`."""
    if any(row.works and row.method not in _BESIDE for row in rows) or refits == 0:
        return None
    design = model.full.cp.design
    too_long = design.q > LARGEST or model.refit_cost * min(most, _FEWEST) > max(budget, _LITTLE)
    if refits is None and too_long and design.frequency is None:
        note = f"not run unasked, because so large a model takes long; {_MORE}"
        return Row("bootstrap", float("nan"), "", float("nan"), float("nan"), note)
    return bootstrap_row(model, refits, seed, budget, most)


def choose(rows: Sequence[Row], method: str, statistic: float) -> Row:
    """The row that the result speaks for; of ``"auto"`` one without a p value where no method applies."""
    names = {
        "auto": ("exact", "approximate", "bootstrap", "chi-bar-square", "F", "Q"),
        "exact": ("exact", "approximate"),
    }.get(method, (method,))
    for name in names:
        for row in rows:
            if row.works and row.method.split(" ")[0] == name:
                return row
    reasons = "; ".join(f"{row.method}: {row.note}" for row in rows if not row.works)
    if method == "auto":
        ran = any(row.method == "bootstrap" for row in rows)
        found = reasons if ran else f"{reasons}; bootstrap: not run (refits=0)"
        return Row("none", statistic, "", float("nan"), float("nan"), found)
    raise DesignError(
        f"method={method!r} does not apply to this hypothesis. "
        + (reasons or "An exact distribution exists for one variance only, not for correlated effects.")
        + (" Use method='auto'." if method == "bootstrap" else " Use method='auto' or method='bootstrap'.")
    )


def warn_ridges(fit: Fit, stacklevel: int) -> None:
    """Say of a fit whose variances cannot be told apart what a test of them is worth."""
    if fit.optimum.ridges:
        warnings.warn(
            f"The variances of this model cannot all be told apart ({'; '.join(map(str, fit.optimum.ridges))}). The "
            "rise of the criterion is well defined all the same; its degrees of freedom are in doubt, and with them p "
            "values of large-sample theory, but not those from simulated responses.",
            BayesLMMWarning,
            stacklevel=stacklevel + 1,
        )


def check_count(name: str, value: Any, least: int) -> int:
    """A number of draws or refits.

    Raises
    ------
    DesignError
        No whole number, or too small.
    """
    return whole(name, value, least, MOST_DRAWS if name == "draws" else MOST_REFITS, DesignError)


def check_refits(refits: Any, least: int) -> int | None:
    """A number of refits; None where as many as there is time for are asked for, by "auto".

    Raises
    ------
    DesignError
        As `check_count`.
    """
    return None if isinstance(refits, str) and refits == "auto" else check_count("refits", refits, least)
