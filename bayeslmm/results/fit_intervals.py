"""Intervals of the parameters of a REML or ML fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri

from bayeslmm.design.design import Design
from bayeslmm.likelihood import Conditional, CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.intervals import check_level
from bayeslmm.results.labels import find
from bayeslmm.results.profiles import choose_parameters, profile_frame, variance_interval


class FitIntervals:
    """Profiles and intervals of a fit."""

    design: Design
    cp: CrossProducts
    optimum: Optimum

    @property
    def _conditional(self) -> Conditional:
        """Estimates of the fixed and predictions of the random effects."""
        raise NotImplementedError

    def std_error(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        raise NotImplementedError

    def estimates(self) -> pd.Series:
        """Estimates of all parameters under their labels."""
        raise NotImplementedError

    def profile(self, label: str, values: ArrayLike | None = None) -> pd.DataFrame:
        """Profile of the fitted criterion for an sd, a correlation or sigma.

        Parameters
        ----------
        label : str
            E.g. ``"sd_Subject[Days]"``.
        values : array-like, optional
            Where to evaluate; by default 41 points over the 99.5 % interval, zero included for an sd.

        Returns
        -------
        pandas.DataFrame
            Columns ``value`` and ``criterion``.

        Raises
        ------
        DesignError
            The parameter has no profile, or a value is outside its range.
        """
        return profile_frame(self.cp, self.optimum, find(self.design, label), values)

    def confint(
        self,
        level: float = 0.95,
        method: Literal["profile", "wald"] = "profile",
        parameters: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Intervals of the parameters.

        Parameters
        ----------
        level : float
        method : {"profile", "wald"}
            ``"profile"``: profile of the fitted criterion (REML after a REML fit) for sds, correlations and sigma,
            one-sided at zero; Wald for the fixed effects. ``"wald"``: fixed effects only.
        parameters : str or sequence of str, optional
            Labels; all by default.

        Returns
        -------
        pandas.DataFrame
            Columns ``conf_low``, ``conf_high``; indexed by label.

        Raises
        ------
        DesignError
            The level is not strictly between 0 and 1, a label or the method is unknown.
        """
        check_level(level)
        chosen = choose_parameters(self.design, parameters, method)
        wald = ndtri(0.5 + level / 2) * self.std_error().to_numpy()
        beta = self._conditional.beta[0]
        ends = []
        for p in chosen:
            if p.kind == "fixed":
                ends.append((beta[p.position] - wald[p.position], beta[p.position] + wald[p.position]))
            else:
                ends.append(variance_interval(self.cp, self.optimum, p, self.estimates()[p.label], level))
        index = [p.label for p in chosen]
        return pd.DataFrame(ends, index=index, columns=["conf_low", "conf_high"], dtype=float)
