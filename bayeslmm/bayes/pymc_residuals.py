"""Residual parameters and correlated residuals in PyMC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.statements import Node, Statement, Symbol
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.residual.laws import Law, NormalLaw, UniformLaw
from bayeslmm.residual.structured import CorrelatedRows

_pm, _pt = Symbol("pm"), Symbol("pt")


def parameter_statements(names: Sequence[str], priors: Priors) -> list[Statement]:
    """A free variable for every residual parameter, on its scale without bounds."""
    return [
        Statement(name, _variable(name, law, [Symbol(names[k]) for k in law.before]))
        for name, law in zip(names, priors.residual, strict=True)
    ]


def _variable(name: str, law: Law, before: Sequence[Node]) -> Node:
    if isinstance(law, NormalLaw):
        return _pm.Normal(name, mu=law.mean, sigma=law.sd)
    if isinstance(law, UniformLaw):
        return _pm.Logistic(name, mu=0.0, s=law.scale)
    if not before:
        return _pm.StudentT(name, nu=law.df, mu=0.0, sigma=float(np.sqrt(1.0 / law.df)))
    squares: Node = before[0] ** 2
    for one in before[1:]:
        squares = squares + one**2
    return _pm.StudentT(name, nu=law.df, mu=0.0, sigma=_pm.math.sqrt((squares + 1.0) / law.df))


def likelihood_statements(design: Design, response: str, names: Sequence[str], scale: Node) -> list[Statement]:
    """``log_likelihood``, the potential of correlated residuals with standard deviations `scale`.

    Raises
    ------
    PriorError
        A structure that PyMC has no function for; rows with frequencies.
    """
    residual = design.residual
    if not isinstance(residual, CorrelatedRows):
        raise PriorError(f"The residual structure {residual.keyword} has no counterpart in PyMC.")
    if design.frequency is not None:
        raise PriorError(
            f"Rows with frequencies have no PyMC model with residual={residual.expression!r}: copies of a row that is "
            "correlated with others are no such row. Write the rows out."
        )
    family, options = residual.correlation, list(residual.correlation.pymc_options)
    if options and isinstance(options[0], str) and options[0].endswith("_correlation"):
        options[0] = Symbol(options[0])
    lam = [Symbol(name) for name in names[len(residual.spreads.names) :]]
    make = Symbol(family.pymc)
    ones = Symbol("np").ones(residual.n)
    e = (Symbol("y") - Symbol("mu")) / scale
    out = [Statement("y", _pm.Data(response, Symbol("y"), dims="obs")), Statement("e", e * ones)]
    if family.chain:
        r = Symbol("chain_correlation")(make, lam, Symbol("start"), Symbol("end"), *options)
        out.append(Statement("r", r))
        white = Symbol("whitened_chain")(Symbol("e"), Symbol("r"), Symbol("before"), Symbol("after"))
    else:
        blocks = range(len(residual.layout.blocks))
        matrices = [make(lam, Symbol(f"at_{k}"), *options) for k in blocks]
        places = [(Symbol(f"rows_{k}"), Symbol(f"which_{k}")) for k in blocks]
        white = Symbol("whitened")(Symbol("e"), matrices, places)
    z = Symbol("white")
    log_sd = _pm.math.log(scale * ones).sum()
    total = _pm.logp(_pm.Normal.dist(), z[0]).sum() - z[1] * 0.5 - log_sd
    return [*out, Statement("white", white), Statement(None, _pm.Potential("log_likelihood", total))]


def residual_arrays(design: Design) -> dict[str, Any]:
    """Arrays that the statements of correlated residuals take for given: who is with whom, and where."""
    residual = design.residual
    if not isinstance(residual, CorrelatedRows):
        return {}
    layout, at = residual.layout, residual.at
    if residual.correlation.chain:
        before, after = layout.order[layout.follows - 1], layout.order[layout.follows]
        return {"before": before, "after": after, "start": at[before], "end": at[after]}
    out: dict[str, Any] = {}
    for k, block in enumerate(layout.blocks):
        out |= {f"rows_{k}": block.rows, f"which_{k}": block.which, f"at_{k}": at[block.first]}
    return out
