"""R2 and ICC of a posterior, draw by draw."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.readable import headed, readable
from bayeslmm.errors import DesignError
from bayeslmm.inference.explained import Explained, explained
from bayeslmm.results.digits import in_digits
from bayeslmm.results.draws import Draws
from bayeslmm.results.intervals import check_level, hdi
from bayeslmm.results.monte_carlo import standard_errors

_COLUMNS = ["mean", "sd", "median", "hdi_low", "hdi_high"]


def r2_columns(parts: Explained) -> pd.DataFrame:
    """Columns ``r2_marginal`` and ``r2_conditional``, one row per point."""
    return readable(pd.DataFrame({"r2_marginal": parts.r2_marginal, "r2_conditional": parts.r2_conditional}))


def icc_columns(parts: Explained) -> pd.DataFrame:
    """Columns ``icc_<group>`` in the order of the formula, and ``icc`` for all groups together."""
    shared = () if parts.shared is None else (parts.shared_group,)
    columns = {f"icc_{group}": parts.icc(group) for group in dict.fromkeys((*parts.groups, *shared))}
    return readable(pd.DataFrame({**columns, "icc": parts.icc()}))


def uncounted_words(parts: Explained) -> str:
    """What an intraclass correlation leaves out; empty if nothing.

    Raises
    ------
    DesignError
        Nothing else is there.
    """
    if parts.uncounted and not parts.groups:
        raise DesignError(
            f"Rows are correlated by {parts.uncounted} alone, which has other correlations for other pairs of rows: "
            "there is no one intraclass correlation. residual_covariance(correlation=True) of the fit has them all; "
            "cs(g) has one, (1 | g) is a random effect that has one."
        )
    return f"of random effects, without the correlations by {parts.uncounted}" if parts.uncounted else ""


def posterior_r2(post: Draws) -> pd.DataFrame:
    """Draws of the R2 of Nakagawa and Schielzeth.

    Returns
    -------
    pandas.DataFrame
        One row per draw, in the order of ``post.draws``; columns ``r2_marginal``, ``r2_conditional``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    >>> list(posterior_r2(model.sample(200, random_seed=1)).columns)
    ['r2_marginal', 'r2_conditional']
    """
    return r2_columns(explained_draws(post))


def posterior_icc(post: Draws) -> pd.DataFrame:
    """Draws of the intraclass correlations.

    Returns
    -------
    pandas.DataFrame
        One row per draw, in the order of ``post.draws``; columns ``icc_<group>`` and ``icc`` for all groups together.
    """
    return icc_columns(explained_draws(post))


def r2_table(post: Draws, level: float = 0.95) -> pd.DataFrame:
    """R2 of Nakagawa and Schielzeth, draw by draw: the share of variance explained by fixed, and by all effects.

    Parameters
    ----------
    level : float
        Probability of the intervals.

    Returns
    -------
    pandas.DataFrame
        Rows ``r2_marginal``, ``r2_conditional``; columns ``mean``, ``sd``, ``median``, ``hdi_low``, ``hdi_high``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    >>> model.sample(400, random_seed=1).r2()["mean"].round(1).to_dict()
    {'r2_marginal': 0.3, 'r2_conditional': 0.7}
    """
    return _summarised(post, posterior_r2(post), level)


def icc_table(post: Draws, level: float = 0.95) -> pd.DataFrame:
    """Intraclass correlations, draw by draw: shares in the variance that the fixed effects leave.

    Parameters
    ----------
    level : float
        Probability of the intervals.

    Returns
    -------
    pandas.DataFrame
        Rows ``icc_<group>`` for every grouping factor and ``icc`` for all together; columns as in `r2_table`. Residual
        correlations as in `icc` of a fit.

    Raises
    ------
    DesignError
        Rows are correlated by residuals alone, and by no one correlation.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    >>> list(model.sample(400, random_seed=1).icc().index)
    ['icc_Subject', 'icc']
    """
    words = uncounted_words(explained_draws(post))
    return _summarised(post, posterior_icc(post), level, f"Intraclass correlations {words}" if words else "")


def _summarised(post: Draws, draws: pd.DataFrame, level: float, heading: str = "") -> pd.DataFrame:
    """Moments and intervals of shares, shown as far as their Monte Carlo error."""
    level = check_level(level)
    rows, errors = {}, {}
    for name in draws.columns:
        values = draws[name].to_numpy()
        low, high = hdi(values, level, "sd")
        own = standard_errors(values, level, "sd", post._dependent, post._inflation)
        rows[name] = [values.mean(), values.std(ddof=1), np.median(values), low, min(high, 1.0)]
        errors[name] = [own[column] for column in _COLUMNS]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=_COLUMNS)
    shown = pd.DataFrame.from_dict(errors, orient="index", columns=_COLUMNS)

    def texts() -> pd.DataFrame:
        return in_digits(frame, shown)

    return headed(frame, heading, texts=texts) if heading else readable(frame, texts)


def explained_draws(post: Draws) -> Explained:
    """Parts of the variance of an observation in every draw."""
    draws = post._variance_draws
    return explained(post.design, draws.beta, draws.factors, draws.sigma, draws.lam)
