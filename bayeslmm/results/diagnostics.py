"""Convergence of Markov chains in a few numbers, and how far draws can be trusted in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.bayes.collapsed import Diagnostics

# No sum of some thousand terms is more accurate.
_ROUNDING = 1e-14
# What is good enough to be said in words: Vehtari et al. (2021, 2024) for R-hat and for the tail of weights.
_RHAT, _GOOD, _EXACT = 1.01, 0.5, 1e-4


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


def in_words(found: Diagnostics | Mapping[str, float], n: int) -> str:
    """What kind of draws they are and how exact, for a first screen; the certificate itself where it is not good.

    Parameters
    ----------
    found : Diagnostics or mapping
    n : int
        Draws.
    """
    if isinstance(found, Mapping):
        rhat, ess = found.get("largest R-hat", np.nan), found.get("smallest ESS", np.nan)
        if not rhat < _RHAT or found.get("divergences", 0.0) > 0 or not np.isfinite(ess):
            return f"{n:,} draws by Markov chains, {certificate_text(found)}"
        return f"{n:,} draws by Markov chains (NUTS), which agree; worth {ess:,.0f} independent ones or more"
    if (found.self_check is not None and found.self_check.faults) or not found.pareto_k < _GOOD:
        return f"{n:,} {certificate_text(found)}"
    checked = ", checked by a second computation" if found.self_check is not None else ""
    if found.quadrature_error is not None and found.quadrature_error < _EXACT:
        error = max(found.quadrature_error, _ROUNDING, found.log_det_error or 0.0)
        return f"{n:,} independent draws, exact to {error:.0e}{checked}"
    return f"{n:,} independent draws{checked}"


def certificate_text(found: Diagnostics | Mapping[str, float]) -> str:
    """How far draws can be trusted, in one line."""
    if isinstance(found, Mapping):
        return ", ".join(f"{key} {value:.3g}" for key, value in found.items())
    text = f"independent draws, Pareto k {found.pareto_k:.2f}, efficiency {found.efficiency:.0%}"
    if found.quadrature_error is not None:
        text += f", quadrature error below {max(found.quadrature_error, _ROUNDING):.0e}"
    if found.surrogate_error is not None:
        text += f", error of the polynomial {found.surrogate_error:.0e}"
    if found.log_det_error is not None:
        text += f", standard error of log determinants {found.log_det_error:.0e}"
    return text if found.self_check is None else f"{text}, {found.self_check}"
