"""Tests of one zero variance for many responses of one design, all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.mixture import Mixture
from bayeslmm.inference.null_model import NullModel, Removal, is_scalar, mixture, null_model, rises_of
from bayeslmm.inference.ratio import f_test
from bayeslmm.inference.rlrt import SEED, TIE, profile, simulate
from bayeslmm.inference.spectral import spectrum
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.reml import optimise
from bayeslmm.reml.many import Optima
from bayeslmm.types import FloatArray

# Of a null distribution that is not known in closed form.
DRAWS = 20_000
# Responses that are tried for a pair of fits that both converge.
_TRIES = 10


def zero_method(design: Design, removal: Removal, reml: bool = True) -> str:
    """What the test is called; exact and approximate as in `test_zero`."""
    if not is_scalar(design, removal) or design.sigma is not None or design.residual.names:
        return "chi-bar-square"
    alone = len(design.terms) == 1 and not removal.kept
    return f"{'exact' if alone else 'approximate'} {'RLRT' if reml else 'LRT'}"


@dataclass(frozen=True)
class ManyZeroTests:
    """The likelihood-ratio test that effects have no variance, ready for many responses of a design.

    One variance alone: its exact null distribution (Crainiceanu & Ruppert 2004), that of F where it is balanced; beside
    others: the same as if these were known (Greven et al. 2008). Correlated effects: the mixture of chi-square
    distributions of large samples.

    Attributes
    ----------
    removal : Removal
    model : NullModel
        With and without the effects, for some response of the design.
    law : Mixture
        Null distribution of the rise of the criterion; draws of it where it has no closed form.
    by_f : bool
        Whether F of the responses has the p value, exactly.
    """

    removal: Removal
    model: NullModel
    law: Mixture
    by_f: bool

    def p_values(self, Y: FloatArray, optima: Optima) -> FloatArray:
        """P values (K,) of responses (n, K), given their fits; nan where one did not converge."""
        rise, ok, _ = rises_of(self.model, Y, optima)
        if self.by_f:
            removal = self.removal
            p = f_test(spectrum(self.model.full.cp, removal.term, removal.removed, Y, others="ignored")).p_value
        else:
            p = _tail(self.law, rise)
        return np.where(ok, np.where(rise > 0, p, 1.0), np.nan)


def many_zero_tests(
    cp: SummedDesign, Y: FloatArray, removal: Removal, reml: bool = True, draws: int = DRAWS
) -> ManyZeroTests:
    """Prepare the test.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
        Responses of which the first that can be fitted gives what the null distribution may depend on.
    removal : Removal
    reml : bool
    draws : int
        Of a null distribution that has no closed form; the same in every call.

    Raises
    ------
    DesignError
        No null distribution is known.
    FitError
        No response could be fitted.
    """
    model = _model(cp, Y, removal, reml)
    if not is_scalar(cp.design, removal) or cp.sigma is not None:
        found = mixture(model, removal, draws, SEED)
        if isinstance(found, str):
            raise DesignError(found)
        return ManyZeroTests(removal, model, found, False)
    problem = profile(spectrum(cp, removal.term, removal.removed, others="ignored"), reml)
    if problem.mu.size == 1 and len(cp.design.terms) == 1:
        return ManyZeroTests(removal, model, Mixture(), True)
    return ManyZeroTests(removal, model, Mixture(draws=simulate(problem, draws, SEED)[0]), False)


def _tail(law: Mixture, rise: FloatArray) -> FloatArray:
    """Probabilities (K,) of rises at least as large."""
    if law.draws is not None:
        reached = law.draws.size - np.searchsorted(np.sort(law.draws), rise * (1.0 - TIE))
        return np.asarray((1.0 + reached) / (law.draws.size + 1.0))
    return np.asarray(sum(w * chdtrc(d, rise) for d, w in zip(law.dof, law.weights, strict=True) if d))


def _model(cp: SummedDesign, Y: FloatArray, removal: Removal, reml: bool) -> NullModel:
    """Both models for the first response to which both could be fitted."""
    for k in range(min(_TRIES, Y.shape[1])):
        try:
            return null_model(optimise(cross_products(replace(cp.design, y=Y[:, k])), reml), removal)
        except FitError as error:
            failed = error
    raise failed
