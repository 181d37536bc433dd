"""Convergence of Markov chains in a few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def nuts_diagnostics(tree: Any, sigma_known: bool = False) -> dict[str, float]:
    """Largest R-hat, smallest effective sample size and number of divergences.

    Parameters
    ----------
    tree : xarray.DataTree
        With groups posterior and sample_stats.
    sigma_known : bool
        Whether sigma is a number that was not sampled.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Burkner (2021), Bayesian Analysis 16, 667-718.
    """
    from arviz_stats import ess, rhat

    names = [name for name in tree["posterior"].data_vars if not str(name).startswith("b_")]
    names = [name for name in names if not (sigma_known and name == "sigma")]

    def extreme(statistic: Any, reduce: Any) -> float:
        values = statistic(tree, var_names=names)
        values = values["posterior"] if "posterior" in getattr(values, "children", {}) else values
        return float(reduce([float(reduce(np.asarray(values[name]))) for name in names]))

    diverging = np.asarray(tree["sample_stats"]["diverging"])
    return {
        "largest R-hat": extreme(rhat, np.nanmax),
        "smallest ESS": extreme(ess, np.nanmin),
        "divergences": float(diverging.sum()),
    }
