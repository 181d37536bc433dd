"""What single rows or groups do to a posterior: Pareto k and the log density that a case loses when it is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.arguments import text
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.results.draws import Draws


def posterior_influence(post: Draws, by: str | None = None, *, draws: int | None = None) -> pd.DataFrame:
    """Leave out every row, or every level of a factor, and say what that does to the posterior.

    Parameters
    ----------
    by : str, optional
        Grouping factor, or that of the residual correlations; rows by default.
    draws : int, optional
        As in `loo`.

    Returns
    -------
    DataFrame
        In the order of the data: ``pareto_k`` (above 0.7, or less with few draws, the case moves the posterior of the
        variances so far that reweighting is not to be trusted: ``loo(refit=True)``), ``elpd`` (log density of the case
        given all others) and ``p_loo`` (what it loses when it is left out; large for cases that the posterior leans
        on).

    Raises
    ------
    DesignError, FitError
        As `loo`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(1000, random_seed=1)
    >>> post.influence("Batch").round(0)["elpd"].head(2).tolist()
    [-29.0, -26.0]
    """
    if by is not None:
        text("by", by, "the name of a grouping factor", DesignError)
    from bayeslmm.bayes.loo import leave_out, psis_loo

    kind = "observation" if by is None else "group"
    # Without the warning of `loo`: the Pareto k of every case is what is asked for.
    out = leave_out(post.cross_products, post.data, post.priors, kind, by, draws)
    left = psis_loo(out, post.data, post.method)
    labels = pd.Index(post.design.index, name="row") if by is None else pd.Index(list(out.labels), name=by)
    columns = {"pareto_k": left.pareto_k, "elpd": left.elpd_i, "p_loo": left.p_loo_i}
    return readable(pd.DataFrame({name: np.asarray(part) for name, part in columns.items()}, index=labels))
