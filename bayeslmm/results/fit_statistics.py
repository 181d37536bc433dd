"""What a fit says of itself: criterion, information criteria, how the optimisation went."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.likelihood import CrossProducts, Structure, describe_structure
from bayeslmm.reml import FitStatus, Optimum
from bayeslmm.reml.at_theta import criterion_at
from bayeslmm.types import FloatArray


class FitStatistics:
    """Read-only numbers of a fit."""

    design: Design
    cp: CrossProducts
    optimum: Optimum

    @property
    def reml(self) -> bool:
        """Whether the restricted criterion was used."""
        return self.optimum.reml

    @property
    def formula(self) -> str:
        return self.design.formula

    @property
    def n(self) -> int:
        """Number of observations used (with frequencies, their sum)."""
        return self.design.n_observations

    @property
    def sigma(self) -> float:
        """Residual standard deviation, units of y."""
        return self.optimum.sigma

    @property
    def theta(self) -> FloatArray:
        """Relative covariance parameters in lme4's order, shape (k,)."""
        return self.optimum.theta

    @property
    def criterion(self) -> float:
        """REML criterion or deviance: -2 log (restricted) likelihood at the optimum."""
        return self.optimum.criterion

    @overload
    def criterion_at(
        self, theta: ArrayLike, sigma: float | None = None, *, gradient: Literal[False] = False
    ) -> float: ...
    @overload
    def criterion_at(
        self, theta: ArrayLike, sigma: float | None = None, *, gradient: Literal[True]
    ) -> tuple[float, FloatArray]: ...
    def criterion_at(
        self, theta: ArrayLike, sigma: float | None = None, *, gradient: bool = False
    ) -> float | tuple[float, FloatArray]:
        """REML criterion (deviance for ML) at any parameters: -2 log (restricted) likelihood, without a penalty.

        Parameters
        ----------
        theta : array-like of shape (k,)
            Relative covariance parameters in the order of `theta`.
        sigma : float, optional
            Residual standard deviation; the one that minimises the criterion at this theta by default.
        gradient : bool
            Return also the derivatives in theta (at the given sigma, or along the minimising one).

        Returns
        -------
        float, or (float, FloatArray of shape (k,))

        Raises
        ------
        DesignError
            Theta has another length or is no covariance; sigma is not a positive number.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
        >>> round(fit.criterion, 6), round(fit.criterion_at([0.0]), 6)
        (319.654277, 326.023232)
        >>> value, slopes = fit.criterion_at(fit.theta, gradient=True)
        >>> bool(abs(value - fit.criterion) < 1e-9 and abs(slopes[0]) < 1e-6)
        True
        """
        return criterion_at(self.cp, theta, sigma, self.reml, gradient)

    @property
    def loglik(self) -> float:
        """Log (restricted) likelihood."""
        return -0.5 * self.optimum.criterion

    @property
    def df(self) -> int:
        """Number of parameters that were estimated: fixed effects, theta and sigma."""
        known = sum(len(self.design.terms[i].structure.rows) for i in self.optimum.fixed)
        return self.design.p + self.design.n_theta - known + 1

    @property
    def aic(self) -> float:
        return self.criterion + 2.0 * self.df

    @property
    def bic(self) -> float:
        return self.criterion + float(np.log(self.n)) * self.df

    @property
    def status(self) -> FitStatus:
        """How the optimisation ended; ``str(status)`` says it in words."""
        return self.optimum.status

    @property
    def is_singular(self) -> bool:
        """Whether some combination of effects has no variance."""
        return bool(self.optimum.vanished)

    @property
    def evaluations(self) -> int:
        return self.optimum.evaluations

    @property
    def structure(self) -> Structure:
        """How the random effects were eliminated: sizes, fill and work of one evaluation."""
        return describe_structure(self.cp)

    @cached_property
    def trace(self) -> pd.DataFrame:
        """Trial steps of the optimiser: value, predicted fall, length, accepted."""
        return readable(pd.DataFrame([vars(step) for step in self.optimum.trace]))
