"""Priors in words and in the user's units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import betaincinv, ndtri

from bayeslmm.bayes.at_means import AtMeans, at_means, place
from bayeslmm.bayes.priors import FlatFactor, Priors, SdPrior
from bayeslmm.bayes.propriety import exponent_of
from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.residual.laws import NormalLaw, UniformLaw
from bayeslmm.results.labels import Parameter, parameters

# Probability that the table speaks of.
PROBABILITY = 0.95


def prior_table(design: Design, priors: Priors) -> pd.DataFrame:
    """One row per parameter: the prior, the value it is below with probability 0.95, and a sentence.

    Parameters
    ----------
    design : Design
    priors : Priors

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``; columns ``prior``, ``below with probability 0.95`` (in the units of the parameter;
        nan where the prior is improper, or relative to sigma) and ``in words``.
    """
    rows, possible = [], _possible(design, priors)
    for p in parameters(design):
        where = _place(design, priors, p, possible)
        text, upper = _prior(design, priors, p, where)
        words = " ".join([_sentence(design, priors, p, where), *_notes(priors, p)])
        rows.append((p.label, text, upper, words))
    columns = ["parameter", "prior", f"below with probability {PROBABILITY:g}", "in words"]
    return readable(pd.DataFrame(rows, columns=columns).set_index("parameter"))


def explain(design: Design, priors: Priors) -> str:
    """What the priors say, one sentence per parameter in the units of the data.

    Parameters
    ----------
    design : Design
    priors : Priors

    Returns
    -------
    str

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.bayes.default_priors import resolve_priors
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> print(explain(design, resolve_priors(design, {"sd": bl.HalfNormal(100)})))
    sd_Batch[Intercept]: The sd between levels of Batch is below 196 (units of Yield) with probability 0.95.
    sigma: The residual sd is below 201 (units of Yield) with probability 0.95.
    Intercept: The intercept may have any value (flat).
    """
    table = prior_table(design, priors)
    return "\n".join(f"{label}: {words}" for label, words in table["in words"].items())


def prior_line(design: Design, priors: Priors) -> str:
    """All priors in one line, parameters with the same one together.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.bayes.default_priors import resolve_priors
    >>> design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    >>> prior_line(design, resolve_priors(design, {"sd": bl.HalfNormal(100)}))
    'sd_Batch[Intercept] half-normal(scale 100); sigma half-t(3, scale 63.02); fixed effects flat'
    """
    found: dict[str, list[str]] = {}
    for p in parameters(design):
        found.setdefault(prior_text(design, priors, p), []).append(p.label)
    fixed = [p.label for p in parameters(design) if p.kind == "fixed"]
    parts = [f"{'fixed effects' if labels == fixed else ', '.join(labels)} {text}" for text, labels in found.items()]
    return "; ".join(parts)


def prior_text(design: Design, priors: Priors, p: Parameter) -> str:
    """The prior of a parameter, with the place of the effects that it is about where these are at the means."""
    return _prior(design, priors, p, _place(design, priors, p, priors.changes))[0]


def _prior(design: Design, priors: Priors, p: Parameter, where: str) -> tuple[str, float]:
    """Name of a prior, and its quantile in the units of the parameter."""
    centred = p.kind in ("sd", "corr") and priors.changes[p.position] is not None
    where = f" {where}".rstrip() if centred else ""
    if p.kind in ("sd", "sigma"):
        prior = _sd_prior(priors, p)
        joint = priors.joints[p.position] if p.kind == "sd" else None
        return f"{joint or prior}{where}", float("nan") if prior.relative else prior.quantile(PROBABILITY)
    if p.kind == "residual":
        return _residual_prior(design, priors, p), float("nan")
    if p.kind == "corr":
        return f"{_correlation_prior(design, priors, p.position)}{where}", float("nan")
    heavy = dict(priors.heavy).get(p.position)
    if heavy is not None:
        return str(heavy), heavy.quantile(PROBABILITY)
    if priors.beta is None or not priors.beta.proper[p.position]:
        return "flat", float("nan")
    mean, sd = priors.beta.centre[p.position], priors.beta.marginal_sd[p.position]
    return f"normal({mean:.4g}, sd {sd:.4g})", float(mean + ndtri(PROBABILITY) * sd)


def _residual_prior(design: Design, priors: Priors, p: Parameter) -> str:
    law, name = priors.residual[p.position], design.residual.names[p.position]
    if isinstance(law, NormalLaw):
        return f"{name} normal({law.mean:.4g}, sd {law.sd:.4g})"
    return "uniform on its range" if isinstance(law, UniformLaw) else "LKJ(1) with the other correlations"


def _possible(design: Design, priors: Priors) -> list[AtMeans | None]:
    """Where the priors of every term are, or else could be."""
    return [change or at_means(design, k) for k, change in enumerate(priors.changes)]


def _place(design: Design, priors: Priors, p: Parameter, possible: Sequence[AtMeans | None]) -> str:
    """Where the effects are that a prior is about, if they are others at the means of columns than at their zeros."""
    change = possible[p.position] if p.kind in ("sd", "corr") else None
    moved = [] if change is None else [k for k in p.effects if change.moved[k]]
    if change is None or not moved:
        return ""
    return place(design, p.position, moved[0], change, zero=priors.changes[p.position] is None)


def _sd_prior(priors: Priors, p: Parameter) -> SdPrior:
    return priors.sigma if p.kind == "sigma" else priors.sds[p.position][p.effects[0]]


def _correlation_prior(design: Design, priors: Priors, position: int) -> str:
    structure, eta = design.terms[position].structure, priors.lkj[position]
    if isinstance(priors.joints[position], FlatFactor):
        return str(priors.joints[position])
    return structure.prior_text(eta)


def _sentence(design: Design, priors: Priors, p: Parameter, where: str) -> str:
    match p.kind:
        case "sd" | "sigma":
            return _sd_sentence(design, _sd_prior(priors, p), p, where)
        case "corr":
            return _correlation_sentence(design, priors, p, where)
        case "residual":
            return f"The residual parameter {p.label.removeprefix('residual_')}: {_residual_prior(design, priors, p)}."
    return _coefficient_sentence(design, priors, p)


def _sd_sentence(design: Design, prior: SdPrior, p: Parameter, where: str) -> str:
    name = f"{_sd_name(design, p)} {where}".rstrip()
    exponent = exponent_of(prior)
    ratio = " relative to sigma" if prior.relative else ""
    if exponent == 0:
        return f"Every value of {name}{ratio} is equally plausible (flat, improper)."
    if exponent == -1:
        return f"Every order of magnitude of {name}{ratio} is equally plausible (flat on its logarithm, improper)."
    if exponent is not None:
        ends = "excludes zero" if exponent > 0 else "favours zero"
        return f"The density of {name}{ratio} is proportional to its power {exponent:g} ({ends}, improper)."
    upper = prior.quantile(PROBABILITY)
    units = _sd_units(design, p)
    per = units.removeprefix(design.response) if units.startswith(f"{design.response} per unit") else ""
    value = f"{upper:.3g} times sigma{per}" if prior.relative else f"{upper:.3g} ({units})"
    return f"{name[0].upper()}{name[1:]} is below {value} with probability {PROBABILITY:g}."


def _sd_name(design: Design, p: Parameter) -> str:
    if p.kind == "sigma":
        return "the residual sd"
    term = design.terms[p.position]
    if len(p.effects) > 1:
        return f"the sd that the effects of {term.label} share"
    effect = term.effects[p.effects[0]]
    return f"the sd {'' if effect == 'Intercept' else f'of {effect} '}between levels of {term.group}"


def _sd_units(design: Design, p: Parameter) -> str:
    if p.kind == "sigma" or len(p.effects) > 1:
        return f"units of {design.response}"
    term = design.terms[p.position]
    return _units(design, term.effects[p.effects[0]], p.effects[0], p.position)


def _units(design: Design, effect: str, column: int, term: int | None = None) -> str:
    """Units of a coefficient; a column of zeros and ones has none of its own."""
    if design.facts is None:
        columns = design.X if term is None else design.terms[term].Z
        ones = bool(np.isin(columns[:, column], (-1.0, 0.0, 1.0)).all())
    else:
        ones = bool(design.facts.signs[design.facts.X if term is None else design.facts.Z(term)][column])
    if ones:
        return f"units of {design.response}"
    return f"{design.response} per unit of {effect}"


def _correlation_sentence(design: Design, priors: Priors, p: Parameter, where: str) -> str:
    term, structure = design.terms[p.position], design.terms[p.position].structure
    subject = structure.prior_subject((p.effects[0], p.effects[1]), term.label)
    (low, high), shape = structure.correlation_range, priors.lkj[p.position]
    if subject is None:
        shape = marginal_shape(priors, p.position, max(p.effects), len(term.effects))
        a, b = (term.effects[k] for k in p.effects)
        subject = f"the correlation of {a} and {b} across levels of {term.group}"
        subject = f"{subject} {where}".rstrip()
    tail = (1.0 - PROBABILITY) / 2.0
    bounds = [low + (high - low) * float(betaincinv(shape, shape, q)) for q in (tail, 1.0 - tail)]
    between = " and ".join(f"{bound:.2g}" if abs(bound) < 0.99 else f"{bound:.4f}" for bound in bounds)
    return f"{subject[0].upper()}{subject[1:]} is between {between} with probability {PROBABILITY:g}."


def marginal_shape(priors: Priors, position: int, last: int, size: int) -> float:
    """Shape a of the beta(a, a) distribution on (-1, 1) that a correlation has.

    Parameters
    ----------
    priors : Priors
    position : int
        Term.
    last : int
        The later of the two effects, from 0; matters only for the prior that is flat in theta, where its row of the
        Cholesky factor is uniform on a half-sphere.
    size : int
        c effects.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001.
    """
    if isinstance(priors.joints[position], FlatFactor):
        return last / 2.0
    return priors.lkj[position] + (size - 2) / 2.0


def _coefficient_sentence(design: Design, priors: Priors, p: Parameter) -> str:
    j = p.position
    name = "The intercept" if p.label == "Intercept" else f"The coefficient of {p.label}"
    upper = (1.0 + PROBABILITY) / 2.0
    heavy = dict(priors.heavy).get(j)
    if heavy is not None:
        mean, reach = heavy.location, heavy.quantile(upper) - heavy.location
    elif priors.beta is None or not priors.beta.proper[j]:
        return f"{name} may have any value (flat)."
    else:
        mean, reach = float(priors.beta.centre[j]), float(ndtri(upper) * priors.beta.marginal_sd[j])
    units = _units(design, p.label, j)
    return f"{name} is between {mean - reach:.3g} and {mean + reach:.3g} ({units}) with probability {PROBABILITY:g}."


def _notes(priors: Priors, p: Parameter) -> list[str]:
    return [f"({text}.)" for key, text in priors.notes if key in (p.label, p.kind)]
