"""Intervals of the parameters of a REML or ML fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtri

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import Conditional, CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.intervals import check_level
from bayeslmm.results.profiles import choose_parameters, find_derived, profile_frame, profile_intervals


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
        return profile_frame(self.cp, self.optimum, find_derived(self.design, label), values)

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
        chosen = choose_parameters(self.design, parameters)
        if method == "wald":
            if parameters is None:
                chosen = [p for p in chosen if p.kind == "fixed"]
            if any(p.kind != "fixed" for p in chosen):
                raise DesignError("Wald intervals of variance parameters are not offered. Use method='profile'.")
            wald = ndtri(0.5 + level / 2) * self.std_error().to_numpy()
            beta = self._conditional.beta[0]
            ends = [(beta[p.position] - wald[p.position], beta[p.position] + wald[p.position]) for p in chosen]
        elif method == "profile":
            ends = profile_intervals(self.cp, self.optimum, chosen, self.estimates(), level)
        else:
            raise DesignError(f"method={method!r} is unknown. Use 'profile' or 'wald'.")
        index = [p.label for p in chosen]
        return pd.DataFrame(ends, index=index, columns=["conf_low", "conf_high"], dtype=float)
