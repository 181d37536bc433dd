"""Tests of zero variances of a REML or ML fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.inference.rlrt import DRAWS
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum
from bayeslmm.results.zero_methods import warn_ridges
from bayeslmm.results.zero_tests import ZeroTest, resolve, zero_test

if TYPE_CHECKING:
    from bayeslmm.results.reml_result import REMLResult


class FitZeroTests:
    """Tests of zero variances of a REML or ML fit."""

    design: Design
    cp: CrossProducts
    optimum: Optimum

    def test_zero(
        self,
        what: str,
        *,
        method: Literal["auto", "exact", "F", "chi-bar-square", "bootstrap"] = "auto",
        draws: int = DRAWS,
        refits: int | Literal["auto"] = "auto",
        random_seed: int | np.random.Generator | None = None,
    ) -> ZeroTest:
        """Test that random effects have no variance.

        Parameters
        ----------
        what : str
            Grouping factor (``"Subject"``) or random term as written, all of whose effects are removed; or the label of
            one standard deviation, ``"sd_Subject[Days]"``, whose effect is removed with its correlations.
        method : {"auto", "exact", "F", "chi-bar-square", "bootstrap"}
            Which p value the result speaks for; the others that cost little stand beside it in its table. ``"auto"``
            takes the exact (restricted) likelihood-ratio test for one variance, and the parametric bootstrap for
            several or correlated effects, unless the design is so large that large-sample theory will do. Where no
            method applies its p value is nan, and ``conclusion`` says why.
        draws : int
            Of the exact null distribution where it has to be simulated; at least 1.
        refits : int or "auto"
            Of the parametric bootstrap, 0 for none; a number is run however long that takes. ``"auto"``: up to 1,000,
            but no more than take about 10 seconds (at least 50), by a rule of sizes and of the evaluations of the first
            refits, so that a seed gives the same number; the note tells it.
        random_seed : int, numpy.random.Generator or None
            None is a fixed seed, so that p values are the same every time.

        Returns
        -------
        ZeroTest

        Raises
        ------
        DesignError
            `what` names no random effects, the method is unknown or does not apply to them, or `draws` or `refits` is
            no number of them.
        FitError
            Theta held fixed, a fit that did not converge, or no seed.

        References
        ----------
        Crainiceanu & Ruppert (2004), J. R. Stat. Soc. B 66, 165-185 (exact); Greven et al. (2008), J. Comput. Graph.
        Stat. 17, 870-891 (several terms); Wald (1947), Ann. Math. Stat. 18, 586-589 (F); Self & Liang (1987), J. Am.
        Stat. Assoc. 82, 605-610, and Stram & Lee (1994), Biometrics 50, 1171-1177 (chi-bar-square).

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
        >>> test = fit.test_zero("Batch")
        >>> test.p_value, round(test.p_zero, 3)
        (1.0, 0.561)
        """
        fit = cast("REMLResult", self)
        removal = resolve(self.design, what)
        warn_ridges(fit, 2)
        return zero_test(fit, removal, method, draws, random_seed, refits)
