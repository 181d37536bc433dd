"""What is ranked: parameters, intraclass correlations, random effects of one level, and the log likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bayeslmm.bayes.log_likelihood import marginal_log_likelihood
from bayeslmm.bayes.prior_draws import block_terms
from bayeslmm.design import Design
from bayeslmm.design.covariance import square_root
from bayeslmm.design.labels import group_labels
from bayeslmm.likelihood import CrossProducts, SummedDesign
from bayeslmm.likelihood.residual_products import ResidualProducts
from bayeslmm.residual import natural_parameters
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.types import FloatArray

LOG_LIKELIHOOD = "log likelihood"


class QuantityDraws(Protocol):
    """Draws of all parameters in the user's units, laid out as `CollapsedDraws`."""

    @property
    def beta(self) -> FloatArray:
        """Shape (S, p)."""

    @property
    def sigma(self) -> FloatArray:
        """Shape (S,)."""

    @property
    def sds(self) -> Sequence[FloatArray]:
        """Each (S, c), or (S, 1) where effects share one."""

    @property
    def corrs(self) -> Sequence[FloatArray]:
        """Each (S, c, c)."""

    @property
    def lam(self) -> FloatArray:
        """Residual parameters, shape (S, k) or (k,)."""

    @property
    def b(self) -> Sequence[FloatArray | None]:
        """Each (S, J, c), blocks in the order of elimination."""


def quantity_names(design: Design) -> tuple[str, ...]:
    """Names of the columns of `quantity_values`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> quantity_names(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design)
    ('sd_Batch[Intercept]', 'sigma', 'Intercept', 'icc_Batch', 'b_Batch[A, Intercept]', 'log likelihood')
    """
    names = [p.label for p in parameters(design)]
    if _is_scalar(design):
        names += [f"icc_{term.group}" for term in design.terms]
    groups = {labels.group: labels for labels in group_labels(design)}
    for k, term in enumerate(design.terms):
        own = groups[term.group]
        names.append(f"b_{term.group}[{own.levels[0]}, {own.term_effects(k)[-1]}]")
    return (*names, LOG_LIKELIHOOD)


def quantity_values(cp: SummedDesign, draws: QuantityDraws) -> FloatArray:
    """Values of all quantities at every draw, shape (S, Q).

    The parameters; where every term is a random intercept, the share of each group in the variance; the last effect of
    the first level of every term; and the log likelihood of sds, correlations, sigma and beta with the random effects
    integrated out, which sees errors that no single parameter shows (Modrak et al. 2023).

    Parameters
    ----------
    cp : SummedDesign
        Of the response that the draws are given.
    draws : Draws
    """
    design = cp.design
    columns = [parameter_draws(design, draws, p) for p in parameters(design)]
    if _is_scalar(design):
        variances = np.stack([s[:, 0] ** 2 for s in draws.sds], axis=1)
        columns += list((variances / (variances.sum(1) + draws.sigma**2)[:, None]).T)
    columns += [_first_level(design, draws, k) for k in range(len(design.terms))]
    return np.stack([*columns, log_likelihood(cp, draws)], axis=1)


def parameter_draws(design: Design, draws: QuantityDraws, p: Parameter) -> FloatArray:
    """Draws (S,) of one parameter."""
    if p.kind == "sigma":
        return draws.sigma
    if p.kind == "fixed":
        return draws.beta[:, p.position]
    if p.kind == "residual":
        return natural_parameters(design.residual, np.atleast_2d(draws.lam))[:, p.column]
    if p.kind == "sd":
        return draws.sds[p.position][:, p.effects[0]]
    return draws.corrs[p.position][:, p.effects[0], p.effects[1]]


def log_likelihood(cp: CrossProducts, draws: QuantityDraws) -> FloatArray:
    """Log p(y | beta, sds, correlations, sigma, lam), random effects integrated out; shape (S,)."""
    relative = [sd / draws.sigma[:, None] for sd in draws.sds]
    factors = [t[:, :, None] * square_root(corr) for t, corr in zip(relative, draws.corrs, strict=True)]
    if isinstance(cp, ResidualProducts):
        return cp.log_likelihood(factors, np.atleast_2d(draws.lam), draws.sigma, draws.beta)
    return marginal_log_likelihood(cp, factors, draws.sigma, draws.beta)


def _is_scalar(design: Design) -> bool:
    return not design.residual.names and all(term.effects == ("Intercept",) for term in design.terms)


def _first_level(design: Design, draws: QuantityDraws, position: int) -> FloatArray:
    """Last effect of a term at the first level of its factor, shape (S,)."""
    for terms, b in zip(block_terms(design), draws.b, strict=True):
        if position in terms and b is not None:
            before = terms[: terms.index(position) + 1]
            return np.asarray(b[:, 0, sum(len(design.terms[k].effects) for k in before) - 1])
    raise LookupError(f"the random effects of term {position} were not kept")
