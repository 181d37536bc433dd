"""How much the fixed effects stand in each other's way: variance inflation factors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.fixed_terms import fixed_terms
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.results.accessors import correlation
from bayeslmm.results.figures import column_texts
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray, IntArray


def vif(fit: Fit) -> pd.DataFrame:
    """Variance inflation factors of the terms of the fixed part, generalised for terms of several columns.

    From the correlation matrix of the estimates, intercept left out, as ``car::vif`` of a fit by lme4: with ``R`` that
    of all coefficients, ``det R_term det R_others / det R``.

    Returns
    -------
    DataFrame
        Indexed by term: ``gvif`` (for a single column the variance inflation factor), ``df`` (columns),
        ``gvif_root`` (``gvif^(1 / (2 df))``: by how much standard errors are longer than without the other terms).

    Raises
    ------
    DesignError
        Fewer than two terms besides the intercept; the design has no formula, or functions of it were lost.

    References
    ----------
    Fox & Monette (1992), JASA 87, 178-183.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy").assign(late=lambda d: (d["Days"] > 4) * 1.0)
    >>> fit = bl.Model("Reaction ~ Days + late + (1 | Subject)", data).fit()
    >>> fit.vif()["gvif"].round(2).to_dict()
    {'Days': 4.13, 'late': 4.13}
    """
    terms = {term.label: term.columns for term in fixed_terms(fit.design).terms if term.columns.size}
    if len(terms) < 2:
        raise DesignError(
            f"The fixed part has {len(terms)} term(s) besides the intercept ({', '.join(terms) or 'none'}); variance "
            "inflation factors compare terms, so that two are needed."
        )
    R, kept = correlation(fit).to_numpy(), np.concatenate(list(terms.values()))
    whole, rows = _log_det(R, kept), []
    for own in terms.values():
        log = _log_det(R, own) + _log_det(R, np.setdiff1d(kept, own)) - whole
        rows.append((float(np.exp(log)), own.size, float(np.exp(log / (2 * own.size)))))
    index = pd.Index(list(terms), name="term", dtype=str)
    frame = pd.DataFrame(rows, index=index, columns=["gvif", "df", "gvif_root"])
    return readable(frame, lambda: column_texts(frame))


def _log_det(R: FloatArray, chosen: IntArray) -> float:
    return float(np.linalg.slogdet(R[np.ix_(chosen, chosen)])[1])
