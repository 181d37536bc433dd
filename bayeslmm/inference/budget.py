"""How long refits of simulated responses take, from sizes and the evaluations of a few, so that no clock decides.

A number of refits that depended on the speed or the load of a machine would make a p value, or a simulated rate,
irreproducible under a seed. Evaluations of the criterion can be counted; what one takes follows from the design.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.many import Optima, fitted_together

# Milliseconds of work that nobody asked for: of one test, of all tests of a table, of all simulations of a report.
WHOLE = 10_000.0
# Refits fitted first, whose evaluations are counted: together, and one at a time.
_FIRST = {True: 20, False: 5}
# Evaluations of one refit before any were counted, beside those per parameter.
_SUPPOSED = 4
# Milliseconds of one evaluation of one response, measured on a core of 2.5 GHz: at least, per double of the widest
# array, per entry of the trailing matrix; the same per row of a response.
_EVALUATION, _DOUBLE, _ENTRY, _ROW = 0.1, 3e-4, 3e-4, 3e-4
# Where responses are fitted one at a time: at least, and how often the rest of it.
_ALONE, _TIMES = 2.0, 3.0


def first_refits(cp: SummedDesign, held: bool = False) -> int:
    """How many refits to count the evaluations of."""
    return _FIRST[fitted_together(cp, held)]


def refit_cost(cp: SummedDesign, evaluations: float | None = None, held: bool = False) -> float:
    """Rough milliseconds of one refit.

    Parameters
    ----------
    cp : SummedDesign
    evaluations : float, optional
        Of the criterion, on average; by default a number for its parameters.
    held : bool
        Whether some theta is not estimated.

    Returns
    -------
    float
        Infinite for designs with many levels of several factors.
    """
    if not cp.sums.batched:
        return np.inf
    if evaluations is None:
        evaluations = _SUPPOSED + sum(len(structure.rows) for *_, structure in cp.frame.terms)
    size = _DOUBLE * cp.sums.between + _ENTRY * (cp.q_trailing + cp.p + 1) ** 2
    each = _EVALUATION + size if fitted_together(cp, held) else _ALONE + _TIMES * size
    return float(evaluations * each + _ROW * cp.design.n)


def counted_cost(cp: SummedDesign, found: Optima, held: bool = False) -> float:
    """The same, from the evaluations that first refits took."""
    return refit_cost(cp, float(np.mean(found.evaluations)), held)
