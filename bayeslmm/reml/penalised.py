"""REML and ML estimation with a penalty that keeps variances away from zero."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.errors import FitError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.optimum import Optimum, optimise
from bayeslmm.reml.penalty import Penalty, resolve_penalty
from bayeslmm.types import FloatArray

# Entries of the largest matrix whose rank is looked at.
_DENSE = 20_000_000
# Eigenvalues of cross-products of columns of length 1 that are none.
_NOTHING = 1e-10


def optimise_penalised(
    cp: SummedDesign,
    reml: bool = True,
    penalty: Penalty | str | float = "boundary_avoiding",
    *,
    fixed: Mapping[int, FloatArray] | None = None,
    max_evaluations: int = 200,
) -> Optimum:
    """Minimise the profiled criterion minus twice the log penalty.

    Parameters
    ----------
    cp : SummedDesign
    reml : bool
    penalty : Penalty, str or float
        See `resolve_penalty`.
    fixed : mapping, optional
        Position of a term in the design to its theta; it is neither estimated nor penalised.
    max_evaluations : int

    Returns
    -------
    Optimum
        ``criterion`` is the one without the penalty, at the penalised estimate; ``objective`` what was minimised.

    Raises
    ------
    FitError
        The penalty is unknown, or so strong for the number of levels that there is no minimum.
    """
    chosen = resolve_penalty(penalty)
    if chosen is not None:
        check_bounded(cp, reml, chosen, fixed or {})
    return optimise(cp, reml, max_evaluations=max_evaluations, fixed=fixed, penalty=chosen)


def check_bounded(cp: SummedDesign, reml: bool, penalty: Penalty, fixed: Mapping[int, FloatArray]) -> None:
    """Refuse a penalty that outweighs the likelihood of a large standard deviation.

    For a large relative sd t the criterion rises as ``2 r log t``, with r the rank of the columns of the term (after
    the fixed effects, for REML), and the penalty falls as ``2 (shape - 1) log t`` for each effect that grows.

    Raises
    ------
    FitError
    """
    design = cp.design
    for i, term in enumerate(design.terms):
        levels = design.groupings[term.group].n_levels
        multiple = penalty.multiple(term.structure)
        enough = multiple + (design.p if reml else 0)
        if i in fixed or levels > enough or _rows(design) * levels * len(term.effects) > _DENSE:
            continue
        for columns, weight in _weights(term):
            rank = _rank(cp, i, columns, reml)
            if rank <= multiple * weight:
                beside = " beside the fixed effects" if reml else ""
                raise FitError(
                    f"With the penalty ({penalty}) there is no minimum for {term.label}: {levels} levels of "
                    f"{term.group} leave {rank} degree(s) of freedom for it{beside}, and a penalty that adds "
                    f"{multiple * weight:g} log(sd / sigma) needs more, or a larger sd is always better. Use a smaller "
                    "shape (penalty=1.5), or a posterior with a proper prior."
                )


def _weights(term: RandomTerm) -> list[tuple[list[int], int]]:
    """Columns that can grow together, and how many standard deviations do."""
    owners = term.structure.sd_effects
    together = [(list(range(len(term.effects))), len(owners))] if len(owners) > 1 else []
    return [(list(own), 1) for own in owners] + together


def _rows(design: Design) -> int:
    return design.n if design.facts is None else 1


def _rank(cp: SummedDesign, position: int, columns: list[int], reml: bool) -> int:
    """Rank of the columns of a term, all levels, after X."""
    design, term = cp.design, cp.design.terms[position]
    if design.facts is not None:
        from bayeslmm.likelihood.level_grams import projected_gram

        gram = projected_gram(cp, [(position, columns)], np.eye(design.p)[:, : design.p if reml else 0])
        return int((np.linalg.eigvalsh(gram) > _NOTHING).sum())
    grouping = design.groupings[term.group]
    cells = np.zeros((design.n, grouping.n_levels, len(columns)))
    cells[np.arange(design.n), grouping.codes] = term.Z[:, columns]
    Z = cells.reshape(design.n, -1)
    size = np.linalg.norm(Z, axis=0)
    Z = Z[:, size > 0] / size[size > 0]
    if not reml or not design.p:
        return int(np.linalg.matrix_rank(Z))
    X = design.X / np.linalg.norm(design.X, axis=0)
    return int(np.linalg.matrix_rank(np.column_stack([X, Z])) - np.linalg.matrix_rank(X))
