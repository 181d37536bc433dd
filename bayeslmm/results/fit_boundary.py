"""What the boundary means for a REML or ML fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts
from bayeslmm.reml import Optimum

if TYPE_CHECKING:
    from bayeslmm.results.boundary_report import BoundaryReport
    from bayeslmm.results.posterior import Posterior


class FitBoundary:
    """The boundary report of a fit."""

    design: Design
    cp: CrossProducts
    optimum: Optimum

    def boundary(
        self,
        posterior: Posterior | Literal["sample", "none"] = "sample",
        *,
        level: float = 0.95,
        delta: float | None = None,
        random_seed: int | np.random.Generator = 1,
        progressbar: bool = True,
        detail: Literal["auto", "full", "brief"] = "auto",
        leave_out: str | Sequence[str] = (),
    ) -> BoundaryReport:
        """Say what a variance of zero, or one near it, means for this fit, and what can be done.

        Parameters
        ----------
        posterior : Posterior or {"sample", "none"}
            Posterior of the same model; by default one under the default priors is drawn. ``"none"`` leaves it out.
        level : float
            Level of the one-sided limits.
        delta : float, optional
            Standard deviations below it are called negligible; by default 5 % of sd(y) / sd(column).
        random_seed : int or numpy.random.Generator
            For simulations and draws.
        progressbar : bool
            Whether to show, in a terminal or a notebook, the progress of what takes longer than a second.
        detail : {"auto", "full", "brief"}
            ``"auto"``: where nothing is near the boundary, the verdict with the components and the criterion at zero,
            in a fraction of a second; else everything. ``"full"``: everything in any case. ``"brief"``: never more than
            the verdict and these two. The verdict is the same in all.
        leave_out : str or sequence of str
            Sections that are not computed: ``"tests"``, ``"zero_rate"``, ``"posterior"``, ``"penalised"``.

        Returns
        -------
        BoundaryReport
            Prints as text, shows as tables in a notebook; ``report["tests"]`` is one table, ``report.to_dict()`` all.

        Raises
        ------
        DesignError
            The level is not strictly between 0.5 and 1; an unknown `detail` or section; the posterior is one of another
            model; there is no standard deviation that was estimated.

        Notes
        -----
        "Nothing to worry about" is said where the criterion rises by 3.84 or more at zero of every sd, and, for
        correlated effects, at every covariance of the term that has no variance in some direction (correlations of 1
        are such).

        Designs with more than 2,000 random effects do without exact tests and simulations. Simulations take about 10
        seconds at most (the posterior comes on top); `test_zero` with ``refits=`` runs more of them.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
        >>> report = fit.boundary()
        >>> report.singular
        True
        >>> round(float(report["limits"].loc["sd_Batch[Intercept]", "REML high"]), 3)
        2.008
        """
        from bayeslmm.results.boundary_build import build_report

        return build_report(
            self,  # type: ignore[arg-type]
            posterior,
            level=level,
            delta=delta,
            random_seed=random_seed,
            progressbar=progressbar,
            detail=detail,
            leave_out=leave_out,
        )
