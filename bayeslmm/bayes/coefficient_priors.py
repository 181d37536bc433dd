"""Priors of one fixed effect that are not normal: heavy tails, for effects that may be large without saying which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, stdtrit

from bayeslmm.arguments import level, shown
from bayeslmm.bayes.prior_numbers import check_scale, is_finite_number, settle
from bayeslmm.errors import PriorError
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class StudentT:
    """Student t prior on one fixed effect: as a normal one near its middle, with tails that give way to the data.

    The fixed effects cannot be integrated out in closed form under it, so that ``model.sample`` takes PyMC's NUTS.

    Parameters
    ----------
    df : float
        Degrees of freedom; 1 is the Cauchy distribution.
    location : float
        Units of y per unit of the column.
    scale : float
        The same units; positive. The sd is larger: ``scale * sqrt(df / (df - 2))``.

    References
    ----------
    Gelman, Jakulin, Pittau & Su (2008), Annals of Applied Statistics 2, 1360-1383.

    Examples
    --------
    >>> print(StudentT(3, 0, 2.5))
    student-t(3, 0, scale 2.5)
    >>> round(StudentT(3, 1.0, 2.0).quantile(0.975), 3), round(float(StudentT(1, 0, 1).log_density(np.array(0.0))), 4)
    (7.365, -1.1447)
    """

    df: float
    location: float
    scale: float

    def __post_init__(self) -> None:
        check_scale("The scale of a student-t prior", self.scale)
        check_scale("The degrees of freedom of a student-t prior", self.df)
        if not is_finite_number(self.location):
            raise PriorError(
                f"The location of a student-t prior is {shown(self.location)}, but it is one finite number, in units "
                "of y per unit of the column. Give for example bl.StudentT(3, 0, 2.5)."
            )
        settle(self)

    def log_density(self, b: FloatArray) -> FloatArray:
        """Log density at any b."""
        nu, z = self.df, (np.asarray(b, dtype=float) - self.location) / self.scale
        constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi) - np.log(self.scale)
        return np.asarray(constant - (nu + 1) / 2 * np.log1p(z**2 / nu))

    def quantile(self, probability: float) -> float:
        """Value that the coefficient is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return self.location + self.scale * float(stdtrit(self.df, probability))

    def __str__(self) -> str:
        name = "Cauchy(" if self.df == 1 else f"student-t({self.df:g}, "
        return f"{name}{self.location:.4g}, scale {self.scale:.4g})"


def Cauchy(location: float, scale: float) -> StudentT:
    """Cauchy prior on one fixed effect: a Student t with one degree of freedom."""
    return StudentT(1.0, location, scale)


def check_integrable(names: Sequence[str], heavy: Sequence[tuple[int, StudentT]], asked: str, instead: str) -> None:
    """Refuse what needs the fixed effects integrated out in closed form, where their priors are not normal.

    Parameters
    ----------
    names : sequence of str
        Of the fixed effects.
    heavy : sequence of (int, StudentT)
        Position and prior of those with such priors.
    asked, instead : str
        What needs it, and what to do, in words.

    Raises
    ------
    PriorError
    """
    if heavy:
        own = ", ".join(f"beta[{names[j]}] ~ {prior}" for j, prior in heavy[:4])
        more = f", ... ({len(heavy)} in all)" if len(heavy) > 4 else ""
        raise PriorError(
            f"{asked} integrates the fixed effects out in closed form, which flat and normal priors allow; this "
            f"prior is another: {own}{more}. {instead}"
        )
