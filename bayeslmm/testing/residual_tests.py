"""Likelihood-ratio tests of the parameters of a residual structure: all of it, and every part of a sum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.boundary.zero_methods import check_refits
from bayeslmm.design.readable import HeadedTable, headed
from bayeslmm.errors import DesignError
from bayeslmm.inference.budget import WHOLE
from bayeslmm.inference.null_model import NullModel, bootstrap, null_of
from bayeslmm.inference.rlrt import SEED
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.residual import Residual
from bayeslmm.results.fit import Fit
from bayeslmm.results.sampling import generator
from bayeslmm.testing.residual_nesting import residual_law
from bayeslmm.testing.residual_parts import ResidualUnit, residual_units
from bayeslmm.testing.term_table import table_texts

# Refits that nobody asked for.
_MOST, _FEWEST = 1000, 50


@dataclass(frozen=True)
class _TestRow:
    """One hypothesis with its p value and where that is from."""

    name: str
    ratio: float
    df: int
    p: float
    law: str
    note: str


def test_residual(
    fit: Fit,
    *,
    method: Literal["auto", "asymptotic", "bootstrap"] = "auto",
    refits: int | Literal["auto"] = "auto",
    random_seed: int | np.random.Generator | None = None,
) -> HeadedTable:
    """Test the parameters of the residual structure by likelihood ratios.

    Every part of the structure is left out in turn, with all other parameters, those of random effects and of the other
    parts among them, estimated again: the correlation, standard deviations by level or covariate, and, where there are
    several parts, all of them, which leaves independent residuals of equal variance (known weights stay).

    Parameters
    ----------
    method : {"auto", "asymptotic", "bootstrap"}
        ``"asymptotic"``: chi-square where the null hypothesis is inside the range (ar1, cs, us, toep, ad, standard
        deviations); half a chi-square of one degree of freedom less where it is at the end of it, as a range of zero of
        exp, gaussian and matern or the correlation 0 of car1 (Self & Liang 1987). ``"bootstrap"``: responses are
        simulated under the null hypothesis, and both models fitted to each. ``"auto"``: the first, and the second
        where no distribution is known because parameters do not exist under the null hypothesis (arma, const_power).
    refits : int or "auto"
        Of the bootstrap of each hypothesis. ``"auto"``: up to 1,000, but no more than take about 10 seconds, at least
        50, by a rule of sizes and of evaluations, so that a seed gives the same number.
    random_seed : int, numpy.random.Generator or None
        None is a fixed seed, so that p values are the same every time.

    Returns
    -------
    pandas.DataFrame
        Indexed by what is left out: ``LRT`` (rise of the criterion of the fit), ``Df``, ``Pr(>LRT)``, and the
        ``distribution`` that is from.

    Raises
    ------
    DesignError
        The residuals have no parameters; an unknown method; refits that are no number.
    FitError
        One of the fits did not converge, or no seed.

    Notes
    -----
    A share of one half at an end of the range is that of many groups: with few rows at the smallest distance the
    likelihood ratio is zero more often, which makes the p value too large rather than too small. ``method="bootstrap"``
    has the share of the design at hand.

    References
    ----------
    Self & Liang (1987), J. Am. Stat. Assoc. 82, 605-610; Pinheiro & Bates (2000), Mixed-Effects Models in S and
    S-PLUS, ch. 5.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> fit.test_residual()
    Likelihood-ratio tests of residual='ar1(Days | Subject)' (REML)
    Each line leaves out what it names.
                            LRT  Df   Pr(>LRT)  distribution
    ar1(Days | Subject)  154.46   1  < 2.2e-16  chi2(1)
    """
    choice("method", method, ("auto", "asymptotic", "bootstrap"), DesignError)
    number = check_refits(refits, 1)
    generator(random_seed)
    optimum = _estimated(fit)
    rows = list(_rows(fit, optimum, method, number, SEED if random_seed is None else random_seed))
    frame = pd.DataFrame(
        {
            "LRT": [row.ratio for row in rows],
            "Df": [float(row.df) for row in rows],
            "Pr(>LRT)": [row.p for row in rows],
            "distribution": [row.law for row in rows],
        },
        index=pd.Index([row.name for row in rows], dtype=str),
    )
    written = getattr(fit.design.residual, "expression", "")
    heading = f"Likelihood-ratio tests of residual={written!r} ({'REML' if fit.reml else 'ML'})"
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    return headed(frame, f"{heading}\nEach line leaves out what it names.", notes, lambda: table_texts(frame))


def _estimated(fit: Fit) -> ResidualOptimum:
    if not fit.design.residual.names or not isinstance(fit.optimum, ResidualOptimum):
        raise DesignError(
            "The residuals of this fit have no parameters, so that there is nothing to test. Give the model a residual "
            "structure, Model(..., residual='ar1(time | g)'), or use test_zero for variances of random effects."
        )
    return fit.optimum


def _rows(
    fit: Fit, optimum: ResidualOptimum, method: str, refits: int | None, seed: int | np.random.Generator
) -> Iterator[_TestRow]:
    units = residual_units(fit.design.residual)
    for unit in units:
        null = replace(fit.design, residual=unit.residual)
        yield _row(null_of(optimum, null), fit.design.residual, unit, method, refits, seed, WHOLE / len(units))


def _row(
    model: NullModel,
    residual: Residual,
    unit: ResidualUnit,
    method: str,
    refits: int | None,
    seed: int | np.random.Generator,
    budget: float,
) -> _TestRow:
    ratio, df = model.statistic, len(residual.names) - len(unit.residual.names)
    law = residual_law(unit.residual, residual, bool(model.design.terms))
    if method != "bootstrap" and not isinstance(law, str):
        plain = len(law.dof) == 1
        where = "" if plain else f"{unit.name}: the null hypothesis is the end of the range."
        return _TestRow(
            unit.name, ratio, df, law.p_value(ratio)[0], f"chi2({law.dof[0]})" if plain else str(law), where
        )
    if method == "asymptotic":
        return _TestRow(unit.name, ratio, df, np.nan, "", f"{unit.name}: {law}.")
    found = bootstrap(
        model, _MOST if refits is None else refits, seed, budget=budget if refits is None else np.inf, least=_FEWEST
    )
    p, error = found.p_value(ratio)
    note = f"{unit.name}: Monte Carlo error of p {error:.2g}; the ratio was 0 in {found.p_zero:.0%} of the refits."
    return _TestRow(unit.name, ratio, df, p, f"{found.statistics.size:,} refits", note)
