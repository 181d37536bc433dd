"""The mode of a posterior as an optimum: estimates, what was minimised, and the priors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from bayeslmm.bayes.priors import Priors
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class PosteriorMode(Optimum):
    """The highest point of the posterior density of the variance parameters.

    `criterion` is -2 log (restricted) likelihood at the estimates, sigma's own among them; `factor` is the elimination
    there, with the normal priors of the fixed effects in it, so that its estimates and covariances are those given the
    variance parameters under these priors.

    Attributes
    ----------
    priors : Priors
    log_prior : float
        Log density of the variance parameters under their priors, each on the scale on which it is stated, up to
        constants; of the fixed effects with normal priors as well where they are not integrated out.
    """

    priors: Priors = field(kw_only=True)
    log_prior: float = field(kw_only=True)

    @property
    def objective(self) -> float:
        """What was minimised: -2 log of likelihood times priors, up to a constant."""
        return self.criterion - 2.0 * self.log_prior

    @cached_property
    def gradient(self) -> FloatArray:
        """Refused: the coordinates of a mode are those of its priors."""
        raise FitError("A posterior mode has no gradient in the coordinates of the likelihood: these are not its own.")

    @cached_property
    def hessian(self) -> FloatArray:
        """Refused: see `gradient`."""
        raise FitError("A posterior mode has no Hessian in the coordinates of the likelihood: these are not its own.")

    def __repr__(self) -> str:
        return super().__repr__().replace(" optimum of ", " mode of ", 1)
