"""The model in PyMC, written out as one would on a blackboard: hierarchical in any form, or collapsed.

The same model as the collapsed posterior of `model.sample`, there to be read, extended and sampled with NUTS. The
hierarchical forms keep the fixed and random effects as parameters; the collapsed form has the
variance parameters and nothing else. All have the same names, dims and coords.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import AtMeans
from bayeslmm.bayes.coefficient_priors import check_integrable
from bayeslmm.bayes.forms import Form
from bayeslmm.bayes.layout import Layout, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_priors import sigma_statements
from bayeslmm.bayes.pymc_statements import (
    arrays_of,
    covariance_statements,
    model_statements,
    own_names,
    sd_of_effects,
)
from bayeslmm.bayes.statements import Statement, run
from bayeslmm.design.design import Design
from bayeslmm.likelihood import SummedDesign


def build_pymc_model(design: Design, priors: Priors, form: Form | Mapping[str, Form] = "noncentered") -> Any:
    """Write the hierarchical model of a design in PyMC, in the user's units.

    Parameters
    ----------
    design : Design
    priors : Priors
    form : {"noncentered", "centered"} or mapping
        Of all grouping factors, or grouping factor to its form (`bayeslmm.bayes.forms.choose_forms` has suggestions).
        Non-centred random effects are standard normals times their standard deviations, which
        samples well when groups say little; the centred form samples well when they say much, and fails at a zero
        standard deviation.

    Returns
    -------
    pymc.Model
        Free variables ``beta``, ``sigma``, ``sd_<group>``, ``z_<group>`` (``b_<group>`` where centred) and, where
        effects are correlated, ``r_<group>``: one number per pair, ``(1 + partial correlation) / 2``. Their
        independent beta priors are the LKJ prior on the correlation matrix. For a correlation that
        all effects share it is the place on the range of that correlation, from 0 to 1. Priors on the ratio to sigma
        have ``ratio_<group>`` in place of ``sd_<group>``, decov ``tau_<group>`` and ``shares_<group>``. Where priors
        are about the effects at the means of columns, so are ``sd_at_mean_<group>``, ``r_<group>``, ``z_<group>`` and
        ``b_at_mean_<group>`` (centred), and ``sd_<group>``, ``corr_<group>`` and ``b_<group>`` follow from them.

    Notes
    -----
    With frequencies the observed variable holds every row once, and ``further_copies`` adds the log density of its
    other copies: the log likelihood of a row that PyMC computes is that of one copy.
    """
    layout = make_layout(design)
    names = namespace() | arrays_of(design, layout)
    with names["pm"].Model(coords=_coords(layout)) as model:
        for part in model_statements(design, priors, form):
            run(part.statements, names)
    return model


def namespace() -> dict[str, Any]:
    """Modules and functions that statements name."""
    import pymc as pm
    import pytensor.tensor as pt

    from bayeslmm.bayes import pymc_functions

    functions = {name: value for name, value in vars(pymc_functions).items() if inspect.isfunction(value)}
    return {"np": np, "pm": pm, "pt": pt, **functions}


def build_collapsed_model(cp: SummedDesign, priors: Priors) -> Any:
    """Write the model with the fixed and random effects integrated out: the variance parameters and nothing else.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors

    Returns
    -------
    pymc.Model
        Free variables ``sigma``, ``sd_<group>`` and ``r_<group>`` as in the hierarchical model, and the potential
        ``collapsed_log_likelihood``.
    """
    from bayeslmm.bayes.collapsed_op import collapsed_log_likelihood

    design, layout = cp.design, make_layout(cp.design)
    check_integrable(design.fixed_names, priors.heavy, "form='collapsed'", "Use form='noncentered'.")
    used = {dim for group in layout.groups for dim in (group.sd_dim, group.effect_dim, group.pair_dim)}
    coords = {dim: labels for dim, labels in _coords(layout).items() if dim in used}
    names, own = namespace(), own_names(layout)
    pm, factors = names["pm"], [None] * len(design.terms)
    with pm.Model(coords=coords) as model:
        run(sigma_statements(priors), names)
        for group in layout.groups:
            run(covariance_statements(design, group, priors, own[group.name]), names)
            run([Statement("sds", sd_of_effects(group, own[group.name]))], names)
            for term, columns in zip(group.labels.terms, group.labels.slices, strict=True):
                root = names[f"L{term}"] if group.pairs else None
                factors[term] = _relative_factor(names, names["sds"][columns], root, priors.changes[term])
        value = collapsed_log_likelihood(cp, factors, pm.math.log(names["sigma"]), priors.beta)
        pm.Potential("collapsed_log_likelihood", value)
    return model


def _relative_factor(names: Mapping[str, Any], sd: Any, root: Any, change: AtMeans | None) -> Any:
    """Factor of the relative covariance of one term's effects at the zeros of the columns."""
    relative = sd / names["sigma"]
    factor = names["pt"].diag(relative) if root is None else relative[:, None] * root
    return factor if change is None else change.matrix @ factor


def _coords(layout: Layout) -> dict[str, list[Any]]:
    return {dim: np.asarray(labels).tolist() for dim, labels in layout.coords.items()}
