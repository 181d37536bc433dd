"""R2 and ICC of a posterior, draw by draw."""

from __future__ import annotations

import pandas as pd

from bayeslmm.design.readable import readable
from bayeslmm.inference.explained import Explained, explained
from bayeslmm.results.draws import Draws


def r2_columns(parts: Explained) -> pd.DataFrame:
    """Columns ``r2_marginal`` and ``r2_conditional``, one row per point."""
    return readable(pd.DataFrame({"r2_marginal": parts.r2_marginal, "r2_conditional": parts.r2_conditional}))


def icc_columns(parts: Explained) -> pd.DataFrame:
    """Columns ``icc_<group>`` in the order of the formula, and ``icc`` for all groups together."""
    columns = {f"icc_{group}": parts.icc(group) for group in dict.fromkeys(parts.groups)}
    return readable(pd.DataFrame({**columns, "icc": parts.icc()}))


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
    return r2_columns(_explained(post))


def posterior_icc(post: Draws) -> pd.DataFrame:
    """Draws of the intraclass correlations.

    Returns
    -------
    pandas.DataFrame
        One row per draw, in the order of ``post.draws``; columns ``icc_<group>`` and ``icc`` for all groups together.
    """
    return icc_columns(_explained(post))


def _explained(post: Draws) -> Explained:
    draws = post._variance_draws
    return explained(post.design, draws.beta, draws.factors, draws.sigma)
