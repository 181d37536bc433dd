"""Likelihood-ratio tests of several fits of the same data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import MOST_REFITS, choice, flag, shown, whole
from bayeslmm.design.alike import same_response, same_weighting
from bayeslmm.design.readable import HeadedTable, headed
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.hypothesis import chi_square_tail
from bayeslmm.inference.mixture import Mixture
from bayeslmm.inference.null_model import clamp, mixture, null_model
from bayeslmm.results.fit import Fit
from bayeslmm.testing.bootstrap_ratio import bootstrap_table
from bayeslmm.testing.nesting import Nesting, step_between
from bayeslmm.testing.residual_nesting import written
from bayeslmm.testing.term_table import table_texts

_SEED = 20230817
_CONE_DRAWS = 100_000


@dataclass(frozen=True)
class BoundaryWords:
    """What notes on variances that are left out call the columns of their table, and the call that simulates."""

    p: str
    mixed: str
    simulated: str


_WORDS = BoundaryWords("Pr(>Chisq)", "Pr(>chi-bar)", "test='bootstrap'")


def anova(
    *fits: Any,
    refit: bool = True,
    test: Literal["chisq", "bootstrap"] = "chisq",
    n: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    names: Sequence[str] | None = None,
) -> HeadedTable:
    """Compare fits of the same data by likelihood ratios and information criteria.

    Parameters
    ----------
    *fits : REMLResult or Model
        Two or more, also in one list; models are fitted. They are put in order by their number of parameters, and each
        is tested against the one before it.
    refit : bool
        Whether REML fits are replaced by ML ones for the comparison, which the first line then says. False keeps them:
        possible where all fixed parts are the same, because the restricted likelihoods of different fixed parts are
        those of different data.
    test : {"chisq", "bootstrap"}
        Chi-square, or the parametric bootstrap of two fits: responses are simulated from the smaller one, and both
        models fitted to each.
    n : int
        Simulated responses.
    random_seed : int, numpy.random.Generator or None
        Of the simulation; None is a fixed seed.
    names : sequence of str, optional
        What to call the fits, ``"1"``, ``"2"``, ... in the order given otherwise.

    Returns
    -------
    pandas.DataFrame
        Indexed by fit: ``npar``, ``logLik``, ``deviance`` (-2 logLik), ``AIC``, ``AICc``, ``BIC``, ``Chisq``, ``Df``,
        ``Pr(>Chisq)``, and ``Pr(>chi-bar)`` where variances are left out: their zero is the end of their range, so
        that the chi-square distribution gives too large p values, and a mixture takes its place (Self & Liang 1987).
        With ``test="bootstrap"`` a row for each reference distribution: ``LRT`` (chi-square), ``bootstrap``
        (the share of simulated ratios as large), and ``Bartlett``, ``Gamma``, ``F``, whose parameters are taken from
        the simulated ratios; columns ``statistic``, ``df``, ``ddf``, ``p_value``, ``mc_error``.

    Raises
    ------
    DesignError
        Fewer than two fits, something else than fits, fits of other rows or responses, penalised ones; different
        fixed parts with ``refit=False``; a bootstrap of more than two fits, or of models that are not nested.
    FitError
        No finite likelihood.

    References
    ----------
    Self & Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Stram & Lee (1994), Biometrics 50, 1171-1177; Halekoh &
    Hojsgaard (2014), J. Stat. Softw. 59(9) (bootstrap with Bartlett, gamma and F references).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> sleep = bl.load_dataset("sleepstudy")
    >>> m0 = bl.Model("Reaction ~ 1 + (Days | Subject)", sleep).fit()
    >>> m1 = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).fit()
    >>> anova(m0, m1)
    Likelihood-ratio tests of ML fits (the REML fits 1, 2 were refitted by ML)
    1: Reaction ~ 1 + (Days | Subject)
    2: Reaction ~ Days + (Days | Subject)
       npar   logLik  deviance      AIC     AICc      BIC   Chisq  Df  Pr(>Chisq)
    1     5  -887.74   1775.48  1785.48  1785.82  1801.44
    2     6  -875.97   1751.94  1763.94  1764.42  1783.10  23.537   1    1.23e-06
    """
    one = fits[0] if len(fits) == 1 else None
    given = [_fit(value) for value in (one if isinstance(one, (list, tuple)) else fits)]
    _check(given)
    refit = flag("refit", refit, DesignError)
    test = choice("test", test, ("chisq", "bootstrap"), DesignError)
    n = whole("n", n, 1, MOST_REFITS, DesignError)
    labels = _names(names, len(given))
    reml = [label for label, fit in zip(labels, given, strict=True) if fit.reml]
    if not refit:
        _check_criteria(given)
    fitted = [_by_ml(fit) if refit else fit for fit in given]
    order = sorted(range(len(fitted)), key=lambda k: fitted[k].df)
    fitted, labels = [fitted[k] for k in order], [labels[k] for k in order]
    heading = _heading(refit, reml, fitted[0].reml, test)
    lines = [f"{label}: {fit.formula}{written(fit)}" for label, fit in zip(labels, fitted, strict=True)]
    steps = [step_between(a.design, b.design) for a, b in pairwise(fitted)]
    if test == "bootstrap":
        return bootstrap_table(fitted, steps, n, _SEED if random_seed is None else random_seed, [heading, *lines])
    return _chi_square_table(fitted, labels, steps, [heading, *lines])


def _fit(value: Any) -> Fit:
    """A fit, or the fit of a model."""
    if isinstance(value, Fit):
        return value
    # Models stand above this layer; asked of the class, so that odd objects are not asked anything.
    if hasattr(type(value), "cross_products") and hasattr(type(value), "fit"):
        fitted = value.fit()
        if isinstance(fitted, Fit):
            return fitted
    raise DesignError(
        f"anova compares fits (what Model(...).fit() returns) or models, not {shown(value)}. For the terms of one fit "
        "use fit.anova(); for a posterior bl.compare."
    )


def _check(fits: Sequence[Fit]) -> None:
    if len(fits) < 2:
        raise DesignError(
            f"anova compares two or more fits, and {len(fits)} was given. For the terms of one fit use fit.anova()."
        )
    first = fits[0]
    for fit in fits:
        if fit.penalty is not None:
            raise DesignError(
                f"The fit of {fit.formula!r} has a penalty ({fit.penalty}): its likelihood is not at its maximum. Fit "
                "without penalty= for a likelihood ratio."
            )
        _check_rows(first, fit)
        if not np.isfinite(fit.criterion):
            raise FitError(
                f"The likelihood of {fit.formula!r} is not finite (the model reproduces the response): there is no "
                "ratio. Remove a random term."
            )


def _check_rows(first: Fit, other: Fit) -> None:
    """Refuse fits of other data: likelihoods of different numbers cannot be compared."""
    a, b = first.design, other.design
    if a.n_observations != b.n_observations or a.n != b.n:
        dropped = [f"{design.formula!r} left out {len(design.dropped)}" for design in (a, b) if len(design.dropped)]
        hint = f" ({'; '.join(dropped)}: rows with missing values in a column that only one of them uses?)"
        raise DesignError(
            f"The fits are of different rows, {a.n_observations} and {b.n_observations}"
            f"{hint if dropped else ''}. Fit all of them to the same rows, e.g. data.dropna(subset=[...]) first."
        )
    if not same_response(a, b):
        other_text = a.response != b.response
        why = f"responses {a.response} and {b.response}" if other_text else "other values of the response"
        raise DesignError(
            f"The fits have {why}: their likelihoods are of different numbers and cannot be compared. Fit the same "
            "response, in the same order of rows."
        )
    if not same_weighting(a, b):
        raise DesignError("The fits have other weights or frequencies, so that one is no special case of the other.")


def _check_criteria(fits: Sequence[Fit]) -> None:
    if len({fit.reml for fit in fits}) > 1:
        raise DesignError("refit=False, but some fits are REML and some ML. Fit all alike, or leave refit out.")
    if not fits[0].reml:
        return
    for fit in fits[1:]:
        step = step_between(fits[0].design, fit.design)
        if fit.design.p != fits[0].design.p or "fixed" in step.obstacle:
            raise DesignError(
                f"refit=False compares REML criteria, and those of {fits[0].formula!r} and {fit.formula!r} have "
                "different fixed parts: they are likelihoods of different contrasts of the data. Leave refit out for "
                "ML fits, or test the terms with fit.anova()."
            )


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [str(k + 1) for k in range(count)]
    found = list(names) if isinstance(names, list | tuple) else []
    if not all(isinstance(name, str) for name in found) or len(found) != count or len(set(found)) != count:
        raise DesignError(f"names={shown(names)} are no {count} different names, one for each fit.")
    return found


def _by_ml(fit: Fit) -> Fit:
    optimum = fit._by_criterion("ML")
    return replace(fit, cp=optimum.cp, optimum=optimum)


def _heading(refit: bool, reml: Sequence[str], by_reml: bool, test: str) -> str:
    what = "Parametric bootstrap" if test == "bootstrap" else "Likelihood-ratio tests"
    if refit and reml:
        fits = "fit" if len(reml) == 1 else "fits"
        was = "was" if len(reml) == 1 else "were"
        return f"{what} of ML fits (the REML {fits} {', '.join(reml)} {was} refitted by ML)"
    return f"{what} of {'REML' if by_reml else 'ML'} fits"


def _chi_square_table(
    fits: Sequence[Fit], labels: Sequence[str], steps: Sequence[Nesting], lines: Sequence[str]
) -> HeadedTable:
    rows, notes, mixed = [], [], []
    for k, fit in enumerate(fits):
        rows.append(_information(fit))
        mixed.append(np.nan)
        if k == 0:
            continue
        before, step = fits[k - 1], steps[k - 1]
        if step.obstacle:
            words = f"{labels[k - 1]} is not a special case of {labels[k]} ({step.obstacle})"
            notes.append(f"{words}: no test of the two; AIC and BIC compare them.")
            continue
        df = fit.df - before.df
        chisq = float(clamp(np.array(before.criterion - fit.criterion), fit.criterion))
        rows[-1] |= {"Chisq": chisq, "Df": float(df)}
        rows[-1]["Pr(>Chisq)"] = float(chi_square_tail(np.array(chisq), np.array(df)))
        if step.variances > 0:
            mixed[-1], note = chi_bar(fit, step, chisq, f"{labels[k]} against {labels[k - 1]}")
            notes.append(note)
        elif step.residual is not None and (isinstance(step.residual, str) or len(step.residual.dof) > 1):
            mixed[-1], note = _of_residuals(step.residual, step, chisq, f"{labels[k]} against {labels[k - 1]}")
            notes.append(note)
    frame = pd.DataFrame(rows, index=pd.Index(list(labels), dtype=str))
    for column in ("Chisq", "Df", "Pr(>Chisq)"):
        frame[column] = frame.get(column, np.nan)
    if not np.isnan(mixed).all():
        frame["Pr(>chi-bar)"] = mixed
    notes += [f"{label}: {fit.status}" for label, fit in zip(labels, fits, strict=True) if not fit.status.ok]
    return headed(frame, "\n".join(lines), notes, lambda: table_texts(frame))


def _information(fit: Fit) -> dict[str, float]:
    k, n = fit.df, fit.n
    correction = 2.0 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.nan
    return {
        "npar": k,
        "logLik": fit.loglik,
        "deviance": fit.criterion,
        "AIC": fit.aic,
        "AICc": fit.aic + correction,
        "BIC": fit.bic,
    }


def chi_bar(fit: Fit, step: Nesting, chisq: float, which: str, words: BoundaryWords = _WORDS) -> tuple[float, str]:
    """The p value of the mixture of chi-squares where variances are left out, nan where it is not known, and a note."""
    count = "a variance is" if step.variances == 1 else f"{step.variances} variances are"
    conservative = f"{which}: {count} zero in the smaller model, the end of the range"
    other = f"{words.simulated} simulates the distribution; fit.test_zero has exact tests of one variance"
    if step.removal is None:
        return np.nan, f"{conservative}, so that {words.p} is too large; {other}."
    try:
        found = mixture(null_model(fit.optimum, step.removal), step.removal, _CONE_DRAWS, _SEED)
    except FitError as error:
        found = str(error)
    if isinstance(found, str):
        return np.nan, f"{conservative}, so that {words.p} is too large ({found}); {other}."
    if step.fixed and found.draws is not None:
        return np.nan, f"{conservative}, and fixed effects differ, too: {words.p} is too large; {other}."
    shifted = found.beside(step.fixed)
    return _tail(shifted, chisq), f"{conservative}: {words.mixed} is by {shifted}; {other}."


def _of_residuals(law: Mixture | str, step: Nesting, chisq: float, which: str) -> tuple[float, str]:
    """The p value where parameters of residuals are left out that are at the end of their range there, and a note."""
    if isinstance(law, str):
        return np.nan, f"{which}: {law}; {_WORDS.simulated} simulates it."
    shifted = law.beside(step.fixed)
    end = "the correlation of residuals is zero in the smaller model, the end of its range"
    return _tail(shifted, chisq), f"{which}: {end}: {_WORDS.mixed} is by {shifted}; {_WORDS.simulated} simulates it."


def _tail(law: Mixture, chisq: float) -> float:
    return law.p_value(chisq)[0]
