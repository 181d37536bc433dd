"""What a figure is about: a comparison, a fit alone or a posterior alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.comparison import Comparison
from bayeslmm.comparison.naming import prior_name
from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels, group_labels
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import found
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.negligible import negligible_sd
from bayeslmm.types import FloatArray

_LEVEL = 0.95


@dataclass(frozen=True)
class Subject:
    """The fits and posteriors that a figure draws.

    Attributes
    ----------
    fit : REMLResult or None
        Whose profile and predictions are drawn.
    posteriors : tuple of Posterior
    names : tuple of str
        One short name each.
    both : Comparison or None
        Where it is one; what it has computed is not computed again.
    """

    fit: REMLResult | None
    posteriors: tuple[Posterior, ...]
    names: tuple[str, ...]
    both: Comparison | None = None

    @property
    def design(self) -> Design:
        return self.posteriors[0].design if self.fit is None else self.fit.design

    @property
    def lam(self) -> FloatArray:
        """Residual parameters (k,) at which groups are taken alone: of the fit, or means of the posterior."""
        return self.posteriors[0]._variance_draws.lam.mean(axis=0) if self.fit is None else self.fit.optimum.lam

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        return parameters(self.design)

    def labels(self, group: str) -> GroupLabels:
        """Names of the levels and of the effects of a grouping factor."""
        return next(labels for labels in group_labels(self.design) if labels.group == group)

    @property
    def level(self) -> float:
        return _LEVEL if self.both is None else self.both.level

    @property
    def percent(self) -> str:
        return f"{100 * self.level:g} %"

    @property
    def scale(self) -> str:
        return "sd" if self.both is None else self.both.scale

    @property
    def criterion(self) -> str:
        """``REML`` or ``ML``: which fit it is."""
        return "REML" if self.fit is None or self.fit.reml else "ML"

    @property
    def named(self) -> bool:
        """Whether the posteriors have to be told apart, or have a name from the user."""
        return len(self.posteriors) > 1 or (self.both is not None and bool(self.both.given))

    def title(self, text: str, k: int) -> str:
        """A text of a legend about one of the posteriors: with its name where there are several."""
        return f"{text}, {self.names[k]}" if self.named else text

    @cached_property
    def reml(self) -> pd.DataFrame:
        """Estimate and profile interval (``estimate``, ``low``, ``high``) of every parameter; sds as such."""
        if self.both is not None:
            return self.both.sd_table[["reml", "reml_low", "reml_high"]].set_axis(["estimate", "low", "high"], axis=1)
        if self.fit is None:
            return pd.DataFrame(float("nan"), index=self._labels, columns=["estimate", "low", "high"])
        try:
            ends = self.fit.confint(self.level)
        except (DesignError, FitError):
            # Fits with a penalty or without a minimum have no profile intervals; their estimates are drawn.
            ends = pd.DataFrame(float("nan"), index=self._labels, columns=["conf_low", "conf_high"])
        frame = pd.DataFrame({"estimate": self.fit.estimates(), "low": ends["conf_low"], "high": ends["conf_high"]})
        return frame.loc[self._labels]

    def estimate(self, p: Parameter) -> float:
        """The fit's; nan without a fit, or where it has none."""
        return float(self.reml["estimate"].to_numpy(dtype=float)[self._labels.index(p.label)])

    @property
    def ml(self) -> pd.Series | None:
        """Estimates by maximum likelihood, beside those by REML."""
        return None if self.both is None else self.both.sd_table["ml"]

    @cached_property
    def tables(self) -> tuple[pd.DataFrame, ...]:
        """Median and highest-density interval of every posterior; sds as such."""
        return tuple(post.table(self.level) for post in self.posteriors)

    @cached_property
    def variances(self) -> dict[str, FloatArray]:
        """Variances (levels, effects) of the fit's predictions, uncertainty of fixed effects included."""
        if self.fit is None:
            return {}
        found = self.fit.ranef_variances(fixed_known=False)
        return {group: np.diagonal(V, axis1=1, axis2=2) for group, V in found.items()}

    def delta(self, p: Parameter) -> float:
        """What counts as negligible for an sd."""
        if self.both is not None and self.both.delta is not None:
            return self.both.delta
        return negligible_sd(self.design, p)

    @property
    def heading(self) -> str:
        """Model and size, for the top of a figure; without the quotes that a formula needs."""
        return f"{self.design.formula.replace('`', '')}   ({self.design.observations})"

    @property
    def _labels(self) -> list[str]:
        return [p.label for p in self.parameters]


def subject(given: Any, function: str, *arguments: str) -> Subject:
    """What a figure is drawn of.

    Parameters
    ----------
    given : Comparison, REMLResult or Posterior
    function : str
        Name of the function that draws, for messages.
    *arguments : str
        Its other arguments as text, for messages.

    Raises
    ------
    DesignError
        Another object.
    """
    if isinstance(given, Comparison):
        return Subject(given.reml, (given.posterior, *given.more), given.names, given)
    if isinstance(given, REMLResult):
        return Subject(given, (), ())
    if isinstance(given, Posterior):
        return Subject(None, (given,), (prior_name(given),))
    calls = [f"bl.{function}({', '.join([text, *arguments])})" for text in ("model.fit()", "model.sample()")]
    raise DesignError(
        f"{function}() got {found(given)}. It draws a fit, a posterior, or a comparison of both: {', '.join(calls)} or "
        f"bl.{function}({', '.join(['bl.compare(model.fit(), model.sample())', *arguments])})."
    )
