"""The result of a fit whose variances a penalty kept off zero: a point estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.reml_result import REMLResult
from bayeslmm.results.summary import Summary, reml_summary
from bayeslmm.results.tables import tidy_table


def fit_result(design: Design, cp: CrossProducts, optimum: Optimum) -> REMLResult:
    """The result of an optimisation, penalised or not."""
    kind = REMLResult if optimum.penalty is None else PenalisedResult
    return kind(design, cp, optimum)


@by_value
@dataclass(frozen=True, repr=False)
class PenalisedResult(REMLResult):
    """Estimates under a penalty (``model.fit(penalty=...)``).

    ``criterion`` is the one without the penalty, at the penalised estimates, so that it can be set beside the minimum
    of an ordinary fit; ``optimum.objective`` is what was minimised. Estimates, predictions and Wald intervals of the
    fixed effects given these are as in an ordinary fit. What needs the minimum of the criterion itself is refused:
    profiles, tests of zero variances, the boundary report.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="boundary_avoiding")
    >>> round(float(fit.estimates()["sd_Batch[Intercept]"]), 4), fit.is_singular
    (1.1729, False)
    """

    def profile(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the estimate is not the top of the likelihood."""
        raise self._refusal("profile")

    def test_zero(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a penalised estimate is never zero."""
        raise self._refusal("test_zero")

    def boundary(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the report is about the criterion without the penalty."""
        raise self._refusal("boundary")

    def refit_many(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: many responses are fitted without a penalty only."""
        raise self._refusal("refit_many")

    def bootstrap(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: many responses are fitted without a penalty only."""
        raise self._refusal("bootstrap")

    def confint(
        self,
        level: float = 0.95,
        method: str = "wald",
        parameters: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Wald intervals of the fixed effects, theta taken as known; those of variances are refused.

        Raises
        ------
        FitError
            Another method than ``"wald"``, or another parameter.
        """
        if method != "wald" or kwargs:
            raise self._refusal(f"confint(method={method!r})")
        names = list(self.design.fixed_names) if parameters is None else parameters
        chosen = [names] if isinstance(names, str) else list(names)
        others = [label for label in chosen if label not in self.design.fixed_names]
        if others:
            raise self._refusal(f"An interval of {', '.join(others)}")
        return super().confint(level, "wald", parameters)

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; intervals (Wald) for the fixed effects only."""
        errors = self.std_error()
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        interval = or_nan(lambda: self.confint(level), self.design.fixed_names)
        interval = interval.reindex([p.label for p in self._parameters])
        return tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), interval)

    def summary(self) -> Summary:
        """Printable summary; text in a terminal, a table in a notebook."""
        plain = reml_summary(self)
        note = (
            f"Penalty: {self.penalty}. The criterion above is without it, at the penalised estimates; a point estimate "
            "off zero by construction, which says nothing for or against a variance of zero."
        )
        return replace(plain, title=f"{plain.title} with a penalty", notes=(*plain.notes, note))

    def __repr__(self) -> str:
        return super().__repr__().replace(" fit of ", " fit with a penalty of ", 1)

    def _refusal(self, what: str) -> FitError:
        return FitError(
            f"{what} is not available for a fit with a penalty ({self.penalty}): it measures falls of the likelihood "
            "from its highest point, and the penalised estimate is not there. Use "
            f"model.fit(reml={self.reml}) for intervals and tests, or model.sample() for a posterior."
        )
