"""Tests and intervals of the fixed effects of a REML or ML fit, and the share of variance they explain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import numbers_of
from bayeslmm.design.lookup import parts, positions, term_positions
from bayeslmm.design.readable import headed, readable
from bayeslmm.errors import DesignError
from bayeslmm.results.dropped_columns import with_dropped
from bayeslmm.results.explained import icc_columns, r2_columns, uncounted_words
from bayeslmm.results.figures import df_text, estimate_places, p_text, to_places
from bayeslmm.results.fit import Fit
from bayeslmm.results.hypothesis_text import equations, known_coefficients, right_side
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF, TESTS, check_ddf, combinations
from bayeslmm.results.term_tests import joint_test, term_hypotheses
from bayeslmm.types import FloatArray

# t statistics beyond it have no places after the point to show.
_LARGE = 1e5


def coefficients(fit: Fit, ddf: DDF = "satterthwaite", level: float = 0.95, *, dropped: bool = False) -> pd.DataFrame:
    """Table of the fixed effects: tests of zero and intervals.

    Parameters
    ----------
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-linear", "containment", "residual", "knapp-hartung", "z"}
        Degrees of freedom. ``"satterthwaite"``: from the curvature of the criterion; a variance estimated at zero
        counts as known to be zero. ``"kenward-roger"``: REML only; standard errors are adjusted for the
        estimation of the variances, and a variance estimated at zero is as uncertain as any other.
        ``"kenward-roger-linear"``: the same without second derivatives of a residual covariance (SAS's
        ``ddfm=kr(firstorder)``), which differs where residuals have parameters in which it is not linear.
        ``"containment"``: those of the stratum of nested grouping factors in which a coefficient is estimated, as
        in nlme; of a combination the fewest. ``"residual"``: n - p. ``"z"``: infinity, the normal distribution.
    level : float
    dropped : bool
        Whether columns that were left out because others span them have rows, of nan, where the formula has them.

    Returns
    -------
    pandas.DataFrame
        Indexed by coefficient: ``estimate``, ``std_error``, ``df``, ``t``, ``p_value`` (two-sided), ``conf_low``,
        ``conf_high``.

    Raises
    ------
    DesignError
        Unknown `ddf` or level; Kenward-Roger for an ML fit, an ``ar1`` covariance or a very large design.
    FitError
        No residual variance, or no minimum (Satterthwaite).

    References
    ----------
    See `bayeslmm.inference.satterthwaite` and `bayeslmm.inference.kenward_roger`.

    Examples
    --------
    Dyestuff2's variance between batches is estimated at zero. With six batches, who would count 29?

    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    >>> fit.coefficients().round(3).loc["Intercept", ["std_error", "df", "conf_low", "conf_high"]].tolist()
    [0.678, 29.0, 4.278, 7.053]
    >>> float(fit.coefficients(ddf="kenward-roger")["df"].round(3)["Intercept"])
    5.0
    """
    from scipy import stats

    check_level(level)
    found = combinations(fit, np.eye(fit.design.p), ddf)
    estimate, error, df = found.estimate, found.std_error, found.df
    t = estimate / error
    half = stats.t.ppf(0.5 + level / 2, df) * error
    columns = {
        "estimate": estimate,
        "std_error": error,
        "df": df,
        "t": t,
        "p_value": 2.0 * stats.t.sf(np.abs(t), df),
        "conf_low": estimate - half,
        "conf_high": estimate + half,
    }
    frame = pd.DataFrame(columns, index=pd.Index(list(fit.design.fixed_names), dtype=str), dtype=float)
    frame = with_dropped(fit.design, frame, dropped)
    heading = f"Fixed effects: {TESTS[ddf]}, {100 * level:g} % intervals from the same"
    return headed(frame, heading, (), lambda: _texts(frame))


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed: places by the standard errors."""
    largest = float(np.abs(frame[["estimate", "conf_low", "conf_high"]].to_numpy()).max(initial=0.0))
    places = estimate_places(frame["std_error"].tolist(), largest, 4)
    out = {}
    for name in frame.columns:
        values = frame[name].tolist()
        if name == "p_value":
            out[name] = [p_text(v) for v in values]
        elif name == "df":
            out[name] = [df_text(v) for v in values]
        else:
            out[name] = [to_places(v, 3 if name == "t" and abs(v) < _LARGE else places) for v in values]
    return pd.DataFrame(out, index=frame.index, dtype=object)


def test_fixed(
    fit: Fit,
    L: ArrayLike | str | Sequence[str] | None = None,
    ddf: DDF = "satterthwaite",
    *,
    rhs: ArrayLike | None = None,
) -> pd.Series:
    """F test that linear combinations of the fixed effects are all zero, or have given values.

    Parameters
    ----------
    L : array-like, shape (m, p) or (p,), or name or names
        Combinations in rows; or names of terms of the formula, or of coefficients: these are zero; or equations,
        ``"Days = 10"``, ``"Machine[B] - 2 * Machine[C] = 0"``. A term stands for all its coefficients (``"Machine"``
        for ``"Machine[B]"``, ``"Machine[C]"``); one that other terms contain for its average over the cells of these,
        whatever the coding, as in ``anova(type=3)``. Rows that others imply are not counted.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "knapp-hartung", "z"}
        As in `coefficients`; of several rows, Fai and Cornelius's combination of Satterthwaite's degrees of
        freedom, or the scaled F statistic of Kenward and Roger.
    rhs : array-like, shape (m,), or number, optional
        The values c of ``L beta = c``; zeros by default.

    Returns
    -------
    pandas.Series
        ``F``, ``df1``, ``df2``, ``p_value``. Its name says over what a term was averaged.

    Raises
    ------
    DesignError
        Unknown names, a wrong number of columns, rows of zeros only, values that contradict each other; else as
        `coefficients`.
    FitError
        As `coefficients`.

    Notes
    -----
    The test is one of the hypothesis, not of the rows that state it: other rows of the same space, another
    reference level, coding, zero or unit of a predictor give the same numbers. Fai and Cornelius's combination
    needs uncorrelated rows; they are the principal components of the estimates where a row has the unit in which
    least squares would estimate it with variance sigma^2. lmerTest takes the rows as they are, so that its degrees
    of freedom for a factor in unbalanced data depend on the reference level; in balanced ones they are these.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    >>> fit.test_fixed("Machine").round(3).tolist()
    [87.798, 2.0, 46.0, 0.0]
    >>> fit.test_fixed("Machine[C] = 14", ddf="residual").round(3).tolist()
    [0.006, 1.0, 51.0, 0.937]
    """
    if L is None:
        raise DesignError(
            "test_fixed() is not told what to test: give the name of a term or coefficient "
            f"({', '.join(map(repr, fit.design.fixed_names[-1:]))}), an equation or a matrix. fit.anova() tests every "
            "term, fit.coefficients() every coefficient."
        )
    check_ddf(fit, ddf)
    L, stated = equations(L, fit.design.fixed_names)
    rows, words = _rows(fit, L)
    c = right_side(stated, rhs, rows.shape[0])
    test = joint_test(fit, rows, ddf, c=c, as_stated=False)
    found = [test.F, test.df1, test.df2, test.p_value]
    return pd.Series(found, index=["F", "df1", "df2", "p_value"], dtype=float, name=words)


def vcov_kenward_roger(fit: Fit) -> pd.DataFrame:
    """Covariance of the fixed effects adjusted for the estimation of the variances.

    Raises
    ------
    DesignError
        An ML fit, an ``ar1`` covariance or a very large design.
    """
    names = list(fit.design.fixed_names)
    values = fit._kenward_roger.adjusted[0] * fit.optimum.sigma**2
    return readable(pd.DataFrame(values, index=pd.Index(names, dtype=str), columns=pd.Index(names, dtype=str)))


def r2(fit: Fit) -> pd.Series:
    """R2 of Nakagawa and Schielzeth: the share of variance explained by fixed, and by fixed and random effects.

    Returns
    -------
    pandas.Series
        ``r2_marginal``, ``r2_conditional``.

    Notes
    -----
    The variance of the fixed part is the sample variance of ``X beta`` (divisor n - 1, offsets left out); that of
    random slopes the mean of ``z'Sigma z`` over the observations (Johnson 2014). With precision weights w the
    residual variance is the mean of ``sigma^2 / w``, so that the unit of the weights does not matter.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.r2().round(4).to_dict()
    {'r2_marginal': 0.2787, 'r2_conditional': 0.7992}
    """
    return r2_columns(fit._explained).iloc[0].rename("r2")


def icc(fit: Fit) -> pd.Series:
    """Intraclass correlations: shares of the grouping factors in the variance that the fixed effects leave.

    Returns
    -------
    pandas.Series
        ``icc_<group>`` for every grouping factor, ``icc`` for all together. A residual correlation that all pairs of
        rows of a group share, ``cs(g)``, counts; of others the name of the Series says that they do not.

    Raises
    ------
    DesignError
        Rows are correlated by residuals alone, and by no one correlation.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes")).fit()
    >>> fit.icc().round(4).to_dict()
    {'icc_batch': 0.1539, 'icc_batch:cask': 0.7831, 'icc': 0.937}
    """
    words = uncounted_words(fit._explained)
    return icc_columns(fit._explained).iloc[0].rename(f"icc, {words}" if words else "icc")


def _rows(fit: Fit, L: ArrayLike | str | Sequence[str]) -> tuple[FloatArray, str | None]:
    """Combinations of the coefficients, and what they average over."""
    names = list(fit.design.fixed_names)
    if isinstance(L, str):
        L = [L]
    if isinstance(L, Sequence) and L and all(isinstance(name, str) for name in L):
        return _of_names(fit, [str(name) for name in L])
    rows = np.atleast_2d(numbers_of("L", L, finite=False, error=DesignError))
    if rows.ndim != 2 or rows.shape[1] != len(names) or not np.isfinite(rows).all():
        raise DesignError(
            f"L has shape {np.shape(L)}; it needs finite numbers, one column for each of the {len(names)} "
            f"coefficients ({', '.join(names)})."
        )
    if not rows.any():
        raise DesignError("All rows of L are zero, which tests nothing. Give a combination of coefficients.")
    return rows, None


def _of_names(fit: Fit, asked: Sequence[str]) -> tuple[FloatArray, str | None]:
    names, unit = list(fit.design.fixed_names), np.eye(fit.design.p)
    found = [_averaged(fit, name) for name in asked]
    rows = [unit[_positions(name, names)] if one is None else one[0] for name, one in zip(asked, found, strict=True)]
    return np.vstack(rows), "; ".join(one[1] for one in found if one is not None) or None


def _averaged(fit: Fit, name: str) -> tuple[FloatArray, str] | None:
    """Type III hypothesis of a term that others contain, and in words; None for other names."""
    # Only products contain something.
    if not any(len(parts(label)) > 1 for label in fit.design.fixed_names) or fit.design.recipe is None:
        return None
    hypotheses = term_hypotheses(fit, 3)
    fixed = hypotheses.fixed
    found = positions(name, [term.label for term in fixed.terms])
    if not found or not hypotheses.by_cells or not (above := fixed.containing(fixed.terms[found[0]])):
        return None
    term = fixed.terms[found[0]]
    over = dict.fromkeys(part.label for other in above for part in other.parts if part.label not in term.factors)
    words = ", ".join(label for label in over if label not in term.numeric)
    return hypotheses.rows[fixed.all.index(term)], f"{term.label}, on average over {words}"


def _positions(name: str, names: list[str]) -> list[int]:
    """Coefficients that a name means: its own, or those of the term."""
    found = term_positions(name, names)
    if not found:
        raise DesignError(f"No coefficient or term is called {name!r}. {known_coefficients(names)}")
    return found
