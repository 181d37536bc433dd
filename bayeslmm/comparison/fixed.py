"""Fixed effects: every interval that is in use, side by side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces import Posterior
from bayeslmm.results.digits import in_digits
from bayeslmm.results.monte_carlo import dependence, quantile_error

if TYPE_CHECKING:
    pass
    from bayeslmm.results.linear import DDF

COLUMNS = ("estimate", "std_error", "df", "conf_low", "conf_high", "note")
_DDF: dict[str, DDF] = {"Wald z": "z", "Satterthwaite": "satterthwaite", "Kenward-Roger": "kenward-roger"}


def fixed_table(both: Compared) -> pd.DataFrame:
    """See `Comparison.fixed`."""
    names = list(both.design.fixed_names)
    if not names:
        return pd.DataFrame(columns=list(COLUMNS))
    parts = {name: _or_nothing(names, partial(_adjusted, both, ddf)) for name, ddf in _DDF.items()}
    parts["profile"] = _or_nothing(names, partial(_profile, both, names))
    for name, post in both.posteriors.items():
        parts[f"{name}, HDI"] = _posterior(post, both.level, names, equal_tailed=False)
        parts[f"{name}, equal-tailed"] = _posterior(post, both.level, names, equal_tailed=True)
    whole = pd.concat(parts, names=["method", "coefficient"]).swaplevel()
    return whole.loc[[(name, method) for name in names for method in parts]]


def fixed_errors(both: Compared, table: pd.DataFrame) -> pd.DataFrame:
    """Monte Carlo standard errors of the numbers in it; 0 for what does not come from draws."""
    whole = pd.DataFrame(0.0, index=table.index, columns=list(COLUMNS[:-1]))
    for name, post in both.posteriors.items():
        errors = post.monte_carlo_errors(both.level)
        for label in both.design.fixed_names:
            own = [errors[column].loc[label] for column in ("mean", "sd", "hdi_low", "hdi_high")]
            factor = post._inflation * (dependence(post.draws(label)) if post._dependent else 1.0)
            ends = [quantile_error(post.draws(label), 0.5 + side * both.level / 2, factor) for side in (-1, 1)]
            for method, values in (("HDI", own), ("equal-tailed", [*own[:2], *ends])):
                columns = ["estimate", "std_error", "conf_low", "conf_high"]
                whole.loc[(label, f"{name}, {method}"), columns] = values
    return whole


def shown_fixed(both: Compared, frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text, every number as far as it is known."""
    return in_digits(frame, fixed_errors(both, frame))


def _or_nothing(names: list[str], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """A table, or an empty one with the reason."""
    try:
        frame = make()
    except (DesignError, FitError) as error:
        frame = pd.DataFrame(np.nan, index=names, columns=list(COLUMNS[:-1])).assign(note=str(error))
    return frame[list(COLUMNS)]


def _adjusted(both: Compared, ddf: DDF) -> pd.DataFrame:
    return both.reml.coefficients(ddf=ddf, level=both.level).assign(note="")


def _profile(both: Compared, names: list[str]) -> pd.DataFrame:
    ends = both.reml.confint(both.level, parameters=names)
    frame = pd.DataFrame({"estimate": both.reml.fixef(), "std_error": both.reml.std_error(), "df": np.nan})
    return frame.join(ends).assign(note="")


def _posterior(post: Posterior, level: float, names: list[str], equal_tailed: bool) -> pd.DataFrame:
    table = post.table(level).loc[names]
    frame = pd.DataFrame({"estimate": table["mean"], "std_error": table["sd"], "df": np.nan})
    frame["conf_low"], frame["conf_high"] = table["hdi_low"], table["hdi_high"]
    if equal_tailed:
        ends = [np.quantile(post.draws(name), [0.5 - level / 2, 0.5 + level / 2]) for name in names]
        frame[["conf_low", "conf_high"]] = np.reshape(ends, (-1, 2))
    return frame.assign(note="")
