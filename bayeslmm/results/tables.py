"""Tables that results share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.design.variances import variance_labels
from bayeslmm.results.labels import Parameter
from bayeslmm.types import FloatArray


def varcorr_table(design: Design, terms: Sequence[FloatArray], sigma: float) -> pd.DataFrame:
    """Covariance table from relative factors (c, c): one row per variance and per free correlation.

    Effects that share a standard deviation have one row, under the keyword of their structure; so has the correlation
    that they share (for ar1 the one of neighbours), with its own name as both effects.
    """
    rows: list[tuple[str, str | None, str | None, float, float]] = []
    for group, sds in variance_labels(design):
        for term in group.terms:
            own = [sd for sd in sds if sd.term == term]
            covariance = sigma**2 * terms[term] @ terms[term].T
            sd = np.sqrt(np.diagonal(covariance))
            for label in own:
                k = label.effects[0]
                rows.append((group.group, label.name, None, covariance[k, k], sd[k]))
            names = {k: label.name for label in own for k in label.effects}
            structure = design.terms[term].structure
            for _, a, b, name in (pair for pair in group.pairs if pair[0] == term):
                rho = structure.correlation_of(covariance, a, b)
                first, second = (names[a], names[b]) if structure.entries else (name, name)
                rows.append((group.group, first, second, covariance[a, b], rho))
    if design.sigma is None:
        rows.append(("Residual", None, None, sigma**2, sigma))
    return readable(pd.DataFrame(rows, columns=["group", "effect1", "effect2", "vcov", "sdcor"]))


def tidy_table(
    known: Sequence[Parameter], estimate: FloatArray, std_error: FloatArray, interval: pd.DataFrame
) -> pd.DataFrame:
    """broom.mixed's table of parameters."""
    return readable(
        pd.DataFrame(
            {
                "effect": ["fixed" if p.kind == "fixed" else "ran_pars" for p in known],
                "group": [p.group for p in known],
                "term": [p.term for p in known],
                "estimate": estimate,
                "std_error": std_error,
                "conf_low": interval["conf_low"].to_numpy(),
                "conf_high": interval["conf_high"].to_numpy(),
            }
        )
    )
