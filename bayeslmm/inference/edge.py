"""The criterion where a variance is zero: how steeply it leaves, whatever the estimate is."""

from __future__ import annotations

import numpy as np

from bayeslmm.likelihood import CrossProducts, SummedDesign, derivatives, evaluate, profiled
from bayeslmm.reml import Optimum, optimise

# How many times smaller a sigma the criterion is looked at for.
_SMALLER = 10.0


def slope_at_zero(cp: SummedDesign, term: int, reml: bool = True) -> float:
    """Derivative of the criterion in (sd / sigma)^2 of a term with one effect, at zero, the others re-estimated.

    Parameters
    ----------
    cp : SummedDesign
    term : int
        Position in ``design.terms``.
    reml : bool

    Returns
    -------
    float
        Positive if zero is a local minimum: then the data vary less between levels than chance alone would make them.
        The derivative is ``tr(Z'PZ) - |Z'Py|^2 / sigma^2`` with P that of the model without the term.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> round(slope_at_zero(model.cross_products, 0), 3)
    9.905
    """
    without = optimise(cp, reml, fixed={term: np.zeros(1)})
    first = derivatives(cp, without.factors, without.factor, reml)
    for b, columns, position, _, _ in cp.frame.terms:
        if position == term:
            unit = float(cp.blocks[b].inverse_basis[columns, columns][0, 0])
            return float(first.blocks[b][0, columns, columns][0, 0]) * unit**2
    raise IndexError(f"no term {term}")


def rise_without_residual(cp: CrossProducts, optimum: Optimum) -> float:
    """How much the criterion rises when sigma is a tenth of what it is beside all random effects.

    Where it is at its minimum at a positive sigma that is about ``2 f log(10)`` or more, f the degrees of freedom of
    the residual; where random effects can take the residual's place it may not rise at all.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum

    Returns
    -------
    float
        nan where the criterion is not finite.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> rise_without_residual(fit.cp, fit.optimum) > 1
    True
    """
    factors = [_SMALLER * T for T in optimum.factors]
    return float(profiled(cp, evaluate(cp, factors), optimum.reml)[0]) - optimum.criterion
