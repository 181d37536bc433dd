"""Tests of zero variances: every method that applies, side by side, and which of them to believe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, shown
from bayeslmm.bayes.prior_scales import rms
from bayeslmm.boundary.zero_methods import (
    MOST,
    all_rows,
    bootstrap_row,
    check_count,
    check_refits,
    choose,
    unasked_row,
    warn_ridges,
)
from bayeslmm.boundary.zero_test import ZeroTest, ZeroTests
from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.design.terms import term_position
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.budget import WHOLE
from bayeslmm.inference.null_model import NullModel, Removal, is_scalar, null_model
from bayeslmm.inference.rlrt import DRAWS, SEED
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import find, near
from bayeslmm.results.sampling import generator

METHODS = ("auto", "exact", "F", "Q", "chi-bar-square", "bootstrap")
_COLUMNS = ("method", "statistic", "distribution", "p_value", "mc_error", "note")
# A relative sd below this, in units of what it adds to the response, is none.
_NONE = 1e-6


def resolve(design: Design, what: str) -> Removal:
    """What a user means to test.

    Parameters
    ----------
    design : Design
    what : str
        Grouping factor, random term as written, or label of a standard deviation.

    Raises
    ------
    DesignError
        No such term, several, or a parameter that is not the standard deviation of random effects.
    """
    if not isinstance(what, str):
        raise DesignError(f"test_zero needs a name such as 'Subject' or 'sd_Subject[Days]', not {shown(what)}.")
    labels, groups = [term.label for term in design.terms], [term.group for term in design.terms]
    if what in groups or any("".join(label.split()) == "".join(what.split()) for label in labels):
        own = [label for label, group in zip(labels, groups, strict=True) if group == what]
        if len(own) > 1 and what not in labels:
            raise DesignError(
                f"test_zero tests one random term, and {what!r} is the grouping factor of {len(own)}: "
                f"{', '.join(own)}. Name one of them as written; bl.ranova tests them all, one at a time."
            )
        return whole(design, term_position(what, labels, groups, "test_zero"))
    try:
        parameter = find(design, what)
    except DesignError as error:
        hint = near(what, [*dict.fromkeys(groups), *labels])
        if not hint:
            raise error
        raise DesignError(f"{what!r} names no random effects of the model.{hint} {_known(groups, labels)}") from None
    if parameter.kind == "sigma":
        raise DesignError(
            "sigma is the residual standard deviation; it is zero only where the model fits the data perfectly, which "
            "needs no test. Name a random term."
        )
    if parameter.kind == "residual":
        raise DesignError(
            f"{what!r} is a parameter of the residuals. fit.test_residual() tests these; test_zero is about standard "
            "deviations of random effects."
        )
    if parameter.kind != "sd":
        reason = "a fixed effect" if parameter.kind == "fixed" else "a correlation, for which zero is not a boundary"
        raise DesignError(
            f"{what!r} is {reason}. test_zero is about standard deviations of random effects; use confint for this one."
        )
    term = design.terms[parameter.position]
    kept = tuple(k for k in range(len(term.effects)) if k not in parameter.effects)
    return Removal(parameter.position, parameter.effects, kept)


def _known(groups: Sequence[str], labels: Sequence[str]) -> str:
    return f"Grouping factors are {', '.join(dict.fromkeys(groups))}; random terms are {', '.join(labels)}."


def whole(design: Design, term: int) -> Removal:
    """The removal of a whole term."""
    return Removal(term, tuple(range(len(design.terms[term].effects))))


def zero_test(
    fit: Fit,
    removal: Removal,
    method: str,
    draws: int,
    seed: int | np.random.Generator | None,
    refits: int | Literal["auto"],
    limits: tuple[float, int] = (WHOLE, MOST),
) -> ZeroTest:
    """Test one removal by every method that applies; see `test_zero`.

    `limits` are the milliseconds and the number of refits where `refits` is "auto".
    """
    _check(fit, method)
    draws = check_count("draws", draws, 1)
    asked = check_refits(refits, int(method == "bootstrap"))
    generator(seed)
    seed = SEED if seed is None else seed
    model = null_model(fit.optimum, removal)
    rows = all_rows(fit, model, removal, draws, seed)
    if method == "bootstrap":
        rows.append(bootstrap_row(model, asked, seed, *limits))
    elif method == "auto" and (row := unasked_row(model, rows, asked, seed, *limits)) is not None:
        rows.append(row)
    chosen = choose(rows, method, model.statistic)
    table = pd.DataFrame([[getattr(row, c) for c in _COLUMNS] for row in rows], columns=list(_COLUMNS))
    return ZeroTest(
        hypothesis=in_words(fit.design, removal),
        statistic=chosen.statistic,
        p_value=chosen.p_value,
        method=chosen.method,
        mc_error=chosen.mc_error,
        p_zero=chosen.p_zero,
        criterion="REML" if fit.reml else "ML",
        rise=model.statistic,
        table=readable(table.set_index("method")),
        _remarks=_remarks(fit, model, removal),
        _note=chosen.note,
        _reached=chosen.reached,
        _change=model.change,
        _zero=_is_zero(model, removal),
    )


def _is_zero(model: NullModel, removal: Removal) -> bool:
    """Whether the estimate of what is removed is zero."""
    design = model.full.cp.design
    scaled = model.full.terms[removal.term] * rms(design, removal.term)[:, None]
    return bool(np.linalg.norm(scaled[list(removal.removed)]) <= _NONE * max(1.0, float(np.linalg.norm(scaled))))


def _check(fit: Fit, method: str) -> None:
    choice("method", method, METHODS, DesignError)
    if fit.optimum.fixed:
        fixed = ", ".join(fit.design.terms[i].label for i in fit.optimum.fixed)
        raise FitError(
            f"This fit holds theta of {fixed} fixed (fix=). A test compares maxima over all variances. Fit without fix."
        )
    if fit.restraint is not None:
        raise FitError(
            f"This fit has {fit.restraint}; a test compares maxima of the likelihood, and "
            f"the {fit._estimate_name} is not there. Fit without penalty= and priors=."
        )


def in_words(design: Design, removal: Removal) -> str:
    """The null hypothesis in words."""
    term = design.terms[removal.term]
    gone = ", ".join(term.effects[k] for k in removal.removed)
    if not removal.kept:
        plural = "s" if len(removal.removed) > 1 else ""
        return f"no variation between levels of {term.group} in {gone}: {term.label} has zero variance{plural}"
    left = ", ".join(term.effects[k] for k in removal.kept)
    return f"no variation between levels of {term.group} in {gone}; in {left} there may be"


def _remarks(fit: Fit, model: NullModel, removal: Removal) -> tuple[str, ...]:
    term = fit.design.terms[removal.term]
    found = []
    if removal.kept and "Intercept" in [term.effects[k] for k in removal.removed]:
        found.append("A model with random slopes but no random intercepts depends on where the covariate is zero.")
    if fit.optimum.ridges:
        ridges = "; ".join(map(str, fit.optimum.ridges))
        found.append(
            f"The variances of this model cannot all be told apart ({ridges}): degrees of freedom are in doubt."
        )
    if model.null is not None and model.null.vanished:
        labels = ", ".join(dict.fromkeys(model.design.terms[v.term].label for v in model.null.vanished))
        found.append(
            f"Without the effects, other variances are estimated at the boundary ({labels}); large-sample results "
            "assume that they are not."
        )
    return tuple(found)


def test_zero(
    fit: Fit,
    what: str,
    *,
    method: Literal["auto", "exact", "F", "Q", "chi-bar-square", "bootstrap"] = "auto",
    draws: int = DRAWS,
    refits: int | Literal["auto"] = "auto",
    random_seed: int | np.random.Generator | None = None,
) -> ZeroTest:
    """Test that random effects have no variance.

    Parameters
    ----------
    what : str
        Grouping factor (``"Subject"``) or random term as written, all of whose effects are removed; or the label of
        one standard deviation, ``"sd_Subject[Days]"``, whose effect is removed with its correlations.
    method : {"auto", "exact", "F", "Q", "chi-bar-square", "bootstrap"}
        Which p value the result speaks for; the others that cost little stand beside it in its table. ``"auto"``
        takes the exact (restricted) likelihood-ratio test for one variance, and the parametric bootstrap for
        several or correlated effects, unless the design is so large that large-sample theory will do. Where no
        method applies its p value is nan, and ``conclusion`` says why.
    draws : int
        Of the exact null distribution where it has to be simulated; at least 1.
    refits : int or "auto"
        Of the parametric bootstrap, 0 for none; a number is run however long that takes. ``"auto"``: up to 1,000,
        but no more than take about 10 seconds (at least 50), by a rule of sizes and of the evaluations of the first
        refits, so that a seed gives the same number; the note tells it.
    random_seed : int, numpy.random.Generator or None
        None is a fixed seed, so that p values are the same every time.

    Returns
    -------
    ZeroTest

    Raises
    ------
    DesignError
        `what` names no random effects, the method is unknown or does not apply to them, or `draws` or `refits` is
        no number of them.
    FitError
        Theta held fixed, a fit that did not converge, or no seed.

    References
    ----------
    Crainiceanu & Ruppert (2004), J. R. Stat. Soc. B 66, 165-185 (exact); Greven et al. (2008), J. Comput. Graph.
    Stat. 17, 870-891 (several terms); Wald (1947), Ann. Math. Stat. 18, 586-589 (F); Self & Liang (1987), J. Am.
    Stat. Assoc. 82, 605-610, and Stram & Lee (1994), Biometrics 50, 1171-1177 (chi-bar-square).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    >>> test = fit.test_zero("Batch")
    >>> test.p_value, round(test.p_zero, 3)
    (1.0, 0.561)
    """
    removal = resolve(fit.design, what)
    warn_ridges(fit, 2)
    return zero_test(fit, removal, method, draws, random_seed, refits)


def ranova(
    fit: Fit,
    *,
    draws: int = 100_000,
    refits: int | Literal["auto"] = "auto",
    random_seed: int | np.random.Generator | None = None,
) -> ZeroTests:
    """Leave every random term out in turn, and every effect of terms of several correlated effects.

    Parameters
    ----------
    fit : Fit
        REML or ML; the tests are of its criterion.
    draws : int
        Of exact null distributions, where they are simulated.
    refits : int or "auto"
        Of a parametric bootstrap for correlated effects: as many for each, 0 for none. ``"auto"``: up to 1,000, but no
        more than take about 10 seconds for the whole table (at least 50 where that takes little), by a rule of sizes
        and of the evaluations of the first refits, so that a seed gives the same number; the note tells it.
    random_seed : int, numpy.random.Generator or None
        None is a fixed seed, so that p values are the same every time.

    Returns
    -------
    ZeroTests

    Raises
    ------
    DesignError
        `fit` is no REML or ML fit; `draws` or `refits` is no number of them.
    FitError
        Theta held fixed, a fit that did not converge, or no seed.

    Warns
    -----
    BayesLMMWarning
        The variances of the model cannot all be told apart: statistics are well defined, degrees of freedom are not.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes")).fit()
    >>> ranova(fit).table.set_index("term")["p_chi_bar"].round(4).to_dict()
    {'(1 | batch)': 0.2087, '(1 | batch:cask)': 0.0}
    """
    if not isinstance(fit, Fit):
        raise DesignError(f"ranova compares REML or ML fits, not {shown(fit)}. Pass what Model(...).fit() returns.")
    warn_ridges(fit, 2)
    removals = _removals(fit.design)
    simulated = sum(not is_scalar(fit.design, removal) for removal in removals)
    limits = WHOLE / max(1, simulated), MOST
    tests = tuple(zero_test(fit, removal, "auto", draws, random_seed, refits, limits) for removal in removals)
    rows: list[dict[str, Any]] = []
    for removal, test in zip(removals, tests, strict=True):
        term, bar = fit.design.terms[removal.term], test.table.loc["chi-bar-square"]
        rows.append(
            {
                "term": term.label,
                "removed": ", ".join(term.effects[k] for k in removal.removed),
                "rise": test.rise,
                "distribution": bar["distribution"],
                "p_chi_bar": bar["p_value"],
                "p_value": test.p_value,
                "mc_error": test.mc_error,
                "method": test.method,
                "note": test._note,
            }
        )
    return ZeroTests(tests, readable(pd.DataFrame(rows)), "REML" if fit.reml else "ML")


def _removals(design: Design) -> list[Removal]:
    found = []
    for i, term in enumerate(design.terms):
        found.append(whole(design, i))
        c = len(term.effects)
        if len(term.structure.sd_effects) > 1:
            found += [Removal(i, (k,), tuple(j for j in range(c) if j != k)) for k in range(c)]
    return found
