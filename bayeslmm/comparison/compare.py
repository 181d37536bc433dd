"""Lay a REML fit and a posterior of the same model side by side."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.bayes.default_priors import observation_mean, response_sd
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.reml import optimise
from bayeslmm.results import Posterior, REMLResult, parameters
from bayeslmm.results.intervals import check_level, mode
from bayeslmm.results.labels import Parameter
from bayeslmm.results.summary import number
from bayeslmm.types import AnyArray

# Share of sd(y) / rms(column) below which a standard deviation is called negligible unless the user says.
_NEGLIGIBLE = 0.05
_HEADINGS = {
    "ml": "ML",
    "reml": "REML",
    "reml_low": "REML low",
    "reml_high": "REML high",
    "mean": "mean",
    "median": "median",
    "mode": "mode",
    "hdi_low": "HDI low",
    "hdi_high": "HDI high",
    "p_below": "P(sd < delta)",
    "delta": "delta",
    "note": "",
}


@dataclass(frozen=True)
class Comparison:
    """REML, ML and posterior of one model.

    Attributes
    ----------
    reml : REMLResult
    ml : REMLResult
    posterior : Posterior
    level : float
        Level of all intervals.
    delta : float or None
        What counts as negligible for an sd, units of y; None: 5 % of sd(y) / rms(column).
    more : tuple of Posterior
        Further posteriors of the model, e.g. under other priors.
    """

    reml: REMLResult
    ml: REMLResult
    posterior: Posterior
    level: float = 0.95
    delta: float | None = None
    more: tuple[Posterior, ...] = ()

    @property
    def design(self) -> Design:
        return self.reml.design

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the table."""
        return parameters(self.design)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per parameter.

        Columns: ``ml``, ``reml`` (estimates), ``reml_low``, ``reml_high`` (profile of the REML criterion; Wald for
        the fixed effects), ``mean``, ``median``, ``mode``, ``hdi_low``, ``hdi_high`` (posterior), ``p_below`` and
        ``delta`` (sds: posterior probability that the sd is below delta), ``note``. A further posterior adds
        ``mean_2``, ``hdi_low_2``, ``hdi_high_2``, and so on.
        """
        interval = self.reml.confint(self.level)
        posterior = self.posterior.table(self.level)
        frame = pd.DataFrame(index=[p.label for p in self.parameters])
        frame["ml"] = self.ml.estimates()
        frame["reml"] = self.reml.estimates()
        frame["reml_low"], frame["reml_high"] = interval["conf_low"], interval["conf_high"]
        frame["mean"], frame["median"] = posterior["mean"], posterior["median"]
        frame["mode"] = [mode(self.posterior.draws(p.label), p.kind) for p in self.parameters]
        frame["hdi_low"], frame["hdi_high"] = posterior["hdi_low"], posterior["hdi_high"]
        frame["delta"] = [self._delta(p) for p in self.parameters]
        frame["p_below"] = [self._below(p) for p in self.parameters]
        frame["note"] = [
            self._note(p, frame["reml"].iloc[k], frame["hdi_low"].iloc[k]) for k, p in enumerate(self.parameters)
        ]
        frame = frame[list(_HEADINGS)]
        return pd.concat([frame, *(self._further(k, post) for k, post in enumerate(self.more, 2))], axis=1)

    def _further(self, k: int, post: Posterior) -> pd.DataFrame:
        return post.table(self.level)[["mean", "hdi_low", "hdi_high"]].add_suffix(f"_{k}")

    def _delta(self, p: Parameter) -> float:
        if p.kind != "sd":
            return float("nan")
        if self.delta is not None:
            return self.delta
        design = self.design
        column = design.terms[p.position].Z[:, p.effects[0]]
        rms = float(np.sqrt(observation_mean(design, column**2)))
        return _NEGLIGIBLE * response_sd(design) / (rms if rms > 0 else 1.0)

    def _below(self, p: Parameter) -> float:
        return self.posterior.probability_below(p.label, self._delta(p)) if p.kind == "sd" else float("nan")

    @staticmethod
    def _note(p: Parameter, reml: float, hdi_low: float) -> str:
        notes = []
        if p.kind == "sd" and reml == 0:
            notes.append("REML says 0")
        if p.kind == "sd" and hdi_low == 0:
            notes.append("upper bound")
        return "; ".join(notes)

    @property
    def header(self) -> tuple[str, ...]:
        """Lines that say what is compared."""
        percent = f"{100 * self.level:g} %"
        delta = "5 % of sd(y)/rms(column)" if self.delta is None else f"{self.delta:g}"
        return (
            f"{self.reml.formula}   ({self.design.observations})",
            f"REML: {self.reml.status.name.replace('_', ' ')}; {percent} profile intervals (Wald for fixed effects)",
            *self._posterior_lines(f"{percent} highest-density intervals"),
            f"delta: {delta}",
        )

    def _posterior_lines(self, intervals: str) -> list[str]:
        return [
            f"posterior{'' if k == 1 else f' {k}'}: {post.n_draws} draws by {post.method}, {post.certificate()}; "
            f"{intervals}"
            for k, post in enumerate((self.posterior, *self.more), 1)
        ]

    def __str__(self) -> str:
        return "\n".join([*self.header, "", self.printable().to_string(na_rep="", float_format=number)])

    def __repr__(self) -> str:
        return str(self)

    def printable(self) -> pd.DataFrame:
        """The table with short headings, without empty columns."""
        further = {
            f"{name}_{k}": f"{_HEADINGS[name]} {k}"
            for k in range(2, 2 + len(self.more))
            for name in ("mean", "hdi_low", "hdi_high")
        }
        frame = self.table.rename(columns=_HEADINGS | further)
        return frame.drop(columns="") if not self.table["note"].any() else frame

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.header)
        return lines + self.printable().to_html(na_rep="", float_format=number, border=0)

    def to_dict(self) -> dict[str, Any]:
        """Numbers of the table and certificates, ready for JSON (missing numbers are None)."""
        rows = {
            str(label): {str(k): None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
            for label, row in self.table.iterrows()
        }
        return {
            "formula": self.reml.formula,
            "n": self.design.n_observations,
            "level": self.level,
            "reml_criterion": self.reml.criterion,
            "ml_deviance": self.ml.criterion,
            "status": self.reml.status.name,
            "singular": self.reml.is_singular,
            "posterior_method": self.posterior.method,
            "draws": self.posterior.n_draws,
            "certificate": self.posterior.certificate(),
            "parameters": rows,
        }


def compare(
    reml: REMLResult,
    posterior: Posterior,
    *more: Posterior,
    level: float = 0.95,
    delta: float | None = None,
) -> Comparison:
    """Compare a REML (or ML) fit with a posterior of the same model.

    Parameters
    ----------
    reml : REMLResult
        The other criterion is fitted too, for its column.
    posterior : Posterior
    *more : Posterior
        Further posteriors of the same model, e.g. under other priors; each adds a mean and an interval.
    level : float
        Level of the intervals.
    delta : float, optional
        Standard deviations below it are called negligible; by default 5 % of sd(y) / rms(column).

    Returns
    -------
    Comparison

    Raises
    ------
    DesignError
        Different formulas or data, or arguments out of their range.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> both = bl.compare(model.fit(), model.sample(500, random_seed=1))
    >>> both.table.loc["sd_Batch[Intercept]", "note"]
    'REML says 0; upper bound'
    """
    check_level(level)
    if delta is not None and not delta >= 0:
        raise DesignError(f"delta={delta:g}: a standard deviation below which it is negligible cannot be negative.")
    for post in (posterior, *more):
        _check(reml, post)
    if reml.optimum.fixed:
        held = ", ".join(reml.design.terms[i].label for i in reml.optimum.fixed)
        raise DesignError(
            f"The fit holds parameters fixed (theta of {held}); the posterior estimates them, so that the columns "
            "would belong to different models. Compare the posterior with model.fit() without fix=."
        )
    other = REMLResult(reml.design, reml.cp, optimise(reml.cp, not reml.reml))
    restricted, full = (reml, other) if reml.reml else (other, reml)
    return Comparison(restricted, full, posterior, level, delta, more)


def _check(reml: REMLResult, posterior: Posterior) -> None:
    if not isinstance(reml, REMLResult) or not isinstance(posterior, Posterior):
        raise DesignError(
            f"compare() got a {type(reml).__name__} and a {type(posterior).__name__}. It takes the result of "
            "model.fit() first and that of model.sample() second."
        )
    if not _same(reml.design, posterior.design):
        raise DesignError(
            f"compare() got fits of different models: {reml.formula!r} on {reml.n} observations and "
            f"{posterior.formula!r} on {posterior.n} observations. Fit and sample the same Model."
        )


def _same(a: Design, b: Design) -> bool:
    if a is b:
        return True
    if (a.formula, a.n, a.fixed_names, list(a.groupings)) != (b.formula, b.n, b.fixed_names, list(b.groupings)):
        return False
    return all(_equal(x, y) for x, y in zip(_arrays(a), _arrays(b), strict=True))


def _arrays(design: Design) -> list[AnyArray | None]:
    codes = [g.codes for g in design.groupings.values()]
    rows = [design.y, design.X, design.weights, design.offset, design.frequency]
    return [*rows, *codes, *(term.Z for term in design.terms)]


def _equal(a: AnyArray | None, b: AnyArray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))
