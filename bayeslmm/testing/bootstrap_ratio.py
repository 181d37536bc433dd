"""The parametric bootstrap of a likelihood ratio, and reference distributions with parameters from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.design.readable import HeadedTable, headed
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.null_model import clamp
from bayeslmm.inference.simulation import at_a_time, simulate_responses
from bayeslmm.reml.many import optimise_many
from bayeslmm.reml.residual_many import criteria_of_many
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.figures import df_text, p_text
from bayeslmm.results.fit import Fit
from bayeslmm.results.sampling import generator
from bayeslmm.testing.nesting import Nesting
from bayeslmm.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Ratios:
    """Likelihood ratios of simulated responses.

    Attributes
    ----------
    statistics : FloatArray, shape (B,)
        Of responses to which both models could be fitted.
    failed : int
        The others.
    """

    statistics: FloatArray
    failed: int


def simulated_ratios(small: Fit, large: Fit, n: int, rng: np.random.Generator) -> Ratios:
    """Falls of the criterion from the smaller to the larger model, of responses simulated from the smaller one."""
    null, beta = small.optimum, small._beta_of(small.optimum)
    parts, ok = [], []
    for few in at_a_time(n, small.design.n):
        Y = simulate_responses(small.design, null.terms, null.sigma, beta, few, rng, null.lam)
        both = [_refitted(fit, Y) for fit in (small, large)]
        parts.append(clamp(both[0][0] - both[1][0], small.criterion))
        ok.append(both[0][1] & both[1][1])
    statistics, good = np.concatenate(parts), np.concatenate(ok)
    good &= np.isfinite(statistics)
    if good.sum() < 2:
        raise FitError(f"Of {n} simulated responses both models could be fitted to {int(good.sum())}. Simplify them.")
    return Ratios(statistics[good], int((~good).sum()))


def _refitted(fit: Fit, Y: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Criteria (K,) of a model for responses (n, K), and which fits have converged."""
    if not isinstance(fit.optimum, ResidualOptimum):
        found = optimise_many(fit.cp, Y, fit.optimum.reml, fixed=fit._fixed)
        return found.criterion, np.array([one.ok for one in found.status])
    many = criteria_of_many(fit.design, Y, fit.optimum.reml)
    return many.criterion, many.ok


def references(observed: float, df: int, simulated: FloatArray) -> pd.DataFrame:
    """P values of a likelihood ratio by chi-square and by what was simulated.

    Parameters
    ----------
    observed : float
    df : int
    simulated : FloatArray, shape (B,)

    Notes
    -----
    With mean m and variance v of the simulated ratios: Bartlett's ratio is df T / m on df degrees of freedom; the gamma
    distribution has mean m and variance v; F is T / df on df and 2 m / (m - df) degrees of freedom, chi-square where
    m is not above df.

    References
    ----------
    Halekoh & Hojsgaard (2014), J. Stat. Softw. 59(9).
    """
    from scipy import stats

    B, mean, variance = simulated.size, float(simulated.mean()), float(simulated.var(ddof=1))
    share = (1.0 + int((simulated >= observed * (1.0 - 1e-9)).sum())) / (B + 1.0) if observed > 0 else 1.0
    bartlett = df * observed / mean if mean > 0 else np.nan
    gamma = stats.gamma.sf(observed, mean**2 / variance, scale=variance / mean) if variance > 0 else np.nan
    ddf = 2.0 * mean / (mean - df) if mean > df else np.inf
    F = stats.f.sf(observed / df, df, ddf) if np.isfinite(ddf) else stats.chi2.sf(observed, df)
    rows = {
        "LRT": (observed, df, np.nan, stats.chi2.sf(observed, df), np.nan),
        "bootstrap": (observed, np.nan, np.nan, share, np.sqrt(share * (1.0 - share) / B)),
        "Bartlett": (bartlett, df, np.nan, stats.chi2.sf(bartlett, df), np.nan),
        "Gamma": (observed, np.nan, np.nan, gamma, np.nan),
        "F": (observed / df, df, ddf, F, np.nan),
    }
    columns = ["statistic", "df", "ddf", "p_value", "mc_error"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float)


def bootstrap_table(
    fits: Sequence[Fit], steps: Sequence[Nesting], n: int, seed: int | np.random.Generator, lines: Sequence[str]
) -> HeadedTable:
    """The bootstrap of two fits; see `bayeslmm.testing.nested_fits.anova`."""
    rng = generator(seed)
    if len(fits) != 2:
        raise DesignError(f"test='bootstrap' compares two fits, and {len(fits)} were given. Compare them in pairs.")
    small, large = fits
    if steps[0].obstacle or large.df == small.df:
        why = steps[0].obstacle or "they have as many parameters"
        raise DesignError(
            f"{small.formula!r} is not a special case of {large.formula!r} ({why}): there is no null hypothesis to "
            "simulate from. AIC and BIC of anova(..., test='chisq') compare models that are not nested."
        )
    found = simulated_ratios(small, large, n, rng)
    observed = float(clamp(np.array(small.criterion - large.criterion), large.criterion))
    frame = references(observed, large.df - small.df, found.statistics)
    notes = [f"{found.statistics.size} responses simulated from the smaller model"]
    if found.failed:
        notes[0] += f" ({found.failed} more could not be fitted and were left out)"
    if steps[0].variances > 0:
        notes.append("A variance is zero in the smaller model: of these p values only the bootstrap's holds there.")
    return headed(frame, "\n".join(lines), [f"{note.rstrip('.')}." for note in notes], lambda: _texts(frame))


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    out = {
        "statistic": [f"{v:.4f}" for v in frame["statistic"]],
        "df": [df_text(v) for v in frame["df"]],
        "ddf": [df_text(v) for v in frame["ddf"]],
        "p_value": [p_text(v) for v in frame["p_value"]],
        "mc_error": ["" if np.isnan(v) else f"{v:.2g}" for v in frame["mc_error"]],
    }
    return pd.DataFrame(out, index=frame.index, dtype=object)
