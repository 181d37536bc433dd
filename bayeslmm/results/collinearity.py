"""How much the fixed effects stand in each other's way: variance inflation factors."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.results.fit import Fit

# What names of columns have beyond the name of their variable: the level or the number of the column.
_COLUMN = re.compile(r"\[[^\[\]]*\]")


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
        Fewer than two terms besides the intercept.

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
    names = list(fit.design.fixed_names)
    kept = [k for k, name in enumerate(names) if name != "Intercept"]
    terms = dict[str, list[int]]()
    for place, k in enumerate(kept):
        terms.setdefault(_COLUMN.sub("", names[k]), []).append(place)
    if len(terms) < 2:
        raise DesignError(
            f"The fixed part has {len(terms)} term(s) besides the intercept ({', '.join(terms) or 'none'}); variance "
            "inflation factors compare terms, so that two are needed."
        )
    V = fit.vcov().to_numpy()[np.ix_(kept, kept)]
    sd = np.sqrt(np.diagonal(V))
    R = V / sd / sd[:, None]
    whole, rows = np.linalg.slogdet(R)[1], []
    for own in terms.values():
        others = np.setdiff1d(np.arange(len(kept)), own)
        log = np.linalg.slogdet(R[np.ix_(own, own)])[1] + np.linalg.slogdet(R[np.ix_(others, others)])[1] - whole
        rows.append((float(np.exp(log)), len(own), float(np.exp(log / (2 * len(own))))))
    index = pd.Index(list(terms), name="term", dtype=str)
    return readable(pd.DataFrame(rows, index=index, columns=["gvif", "df", "gvif_root"]))
