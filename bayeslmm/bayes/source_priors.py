"""Source text of priors in PyMC: standard deviations and correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout
from bayeslmm.bayes.prior_families import (
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_correlations import beta_shapes
from bayeslmm.bayes.pymc_priors import one_variable, sd_name, suffix_of
from bayeslmm.bayes.term_priors import Chi, Decov, Relative
from bayeslmm.design.covariance import KNOWN
from bayeslmm.design.design import Design
from bayeslmm.design.names import literal
from bayeslmm.errors import PriorError

# Functions that a source needs if it calls them.
HELPERS: dict[str, tuple[str, ...]] = {
    "root_inverse_gamma": (
        "def root_inverse_gamma(alpha, beta, size):",
        "    return pm.math.sqrt(pm.InverseGamma.dist(alpha=alpha, beta=beta, size=size))",
    ),
    "root_gamma": (
        "def root_gamma(alpha, beta, size):",
        "    return pm.math.sqrt(pm.Gamma.dist(alpha=alpha, beta=beta, size=size))",
    ),
} | {name: lines for structure in KNOWN.values() for name, lines in structure.source_helpers.items()}


# Families with a distribution in PyMC: its name, and its parameters with the attributes that hold them.
_FAMILIES: dict[type, tuple[str, dict[str, str]]] = {
    HalfT: ("HalfStudentT", {"nu": "df", "sigma": "scale"}),
    HalfNormal: ("HalfNormal", {"sigma": "scale"}),
    Exponential: ("Exponential", {"scale": "mean"}),
    Uniform: ("Uniform", {"upper": "upper"}),
    Gamma: ("Gamma", {"alpha": "shape", "beta": "rate"}),
    Flat: ("HalfFlat", {}),
}


def variable(name: str, priors: Sequence[SdPrior], dims: str | None, python: str) -> list[str]:
    """Lines that make a variable with priors of one family; a scalar if it has no dims."""

    def numbers(parameter: str) -> Any:
        values = [float(getattr(prior, parameter)) for prior in priors]
        return values if len(set(values)) > 1 else values[0]

    end = f", dims={literal(dims)})" if dims else ")"

    def root(helper: str, shape: str, rate: str) -> list[str]:
        options = f"dist={helper}, transform=pm.distributions.transforms.log"
        return [f"{python} = pm.CustomDist({literal(name)}, {shape}, {rate}, {options}{end}"]

    def power(exponent: str) -> list[str]:
        potential = f"pm.Potential({literal(f'{name}_prior')}, ({exponent} * pm.math.log({python})).sum())"
        return [f"{python} = pm.HalfFlat({literal(name)}{end}", potential]

    match priors[0]:
        case Gamma(proper=False):
            return power(f"(np.array({numbers('shape')}) - 1)")
        case Power():
            return power(f"np.array({numbers('exponent')})")
        case Chi():
            return root("root_gamma", f"np.array({numbers('df')}) / 2", f"0.5 / np.array({numbers('scale')}) ** 2")
        case InverseGammaVariance():
            return root("root_inverse_gamma", f"np.array({numbers('shape')})", f"np.array({numbers('rate')})")
    if type(priors[0]) not in _FAMILIES:
        raise PriorError(f"The prior of {name} is {priors[0]!r}, which has no counterpart in PyMC.")
    family, parameters = _FAMILIES[type(priors[0])]
    arguments = "".join(f", {key}={numbers(attribute)}" for key, attribute in parameters.items())
    return [f"{python} = pm.{family}({literal(name)}{arguments}{end}"]


def sd_lines(group: GroupLayout, priors: Priors, name: str) -> list[str]:
    """Lines that make ``sd_<name>`` of a grouping factor, a vector; variables as in `sd_variables`."""
    own = [priors.sds[label.term][label.effects[0]] for label in group.sds]
    if one_variable(group, priors):
        if not isinstance(own[0], Relative):
            return variable(sd_name(group, priors), own, group.sd_dim, f"sd_{name}")
        ratios = variable(f"ratio_{group.name}", [p.prior for p in own if isinstance(p, Relative)], group.sd_dim, "t")
        own_name, dims = literal(sd_name(group, priors)), literal(group.sd_dim)
        return [*ratios, f"sd_{name} = pm.Deterministic({own_name}, t * sigma, dims={dims})"]
    lines, parts = list[str](), list[str]()
    for term in group.labels.terms:
        labels, joint = [label for label in group.sds if label.term == term], priors.joints[term]
        if isinstance(joint, Decov):
            lines += _decov_lines(suffix_of(group, labels), joint, len(labels), f"t{len(parts)}")
            parts.append(f"t{len(parts)} * sigma")
            continue
        for label in labels:
            prior, python = priors.sds[term][label.effects[0]], f"t{len(parts)}"
            relative = isinstance(prior, Relative)
            inner = prior.prior if isinstance(prior, Relative) else prior
            start = f"ratio_{group.name}" if relative else sd_name(group, priors)
            lines += variable(f"{start}__{label.name}", [inner], None, python)
            parts.append(f"pt.atleast_1d({python}{' * sigma' if relative else ''})")
    joined = f"pt.concatenate([{', '.join(parts)}])"
    own_name = literal(sd_name(group, priors))
    return [*lines, f"sd_{name} = pm.Deterministic({own_name}, {joined}, dims={literal(group.sd_dim)})"]


def _decov_lines(suffix: str, prior: Decov, size: int, python: str) -> list[str]:
    return [
        f"tau = pm.Gamma({literal(f'tau_{suffix}')}, alpha={float(prior.shape)}, beta={1.0 / float(prior.scale)})",
        f"shares = pm.Dirichlet({literal(f'shares_{suffix}')}, a={[float(prior.concentration)] * size})",
        f"{python} = tau * pm.math.sqrt({size} * shares)",
    ]


def correlation_lines(design: Design, group: GroupLayout, priors: Priors, name: str) -> list[str]:
    """Lines that make ``L_<name>``, the Cholesky factor of the correlations of a grouping factor's effects."""
    shapes = beta_shapes(design, group, priors).tolist()
    name_and_dims = literal(f"r_{group.name}"), literal(group.pair_dim)
    lines = [f"r = pm.Beta({name_and_dims[0]}, alpha={shapes}, beta={shapes}, dims={name_and_dims[1]})"]
    blocks, correlations, start = list[str](), list[str](), 0
    for k in group.labels.terms:
        size, structure = len(group.labels.term_effects(k)), design.terms[k].structure
        free = sum(pair[0] == k for pair in group.labels.pairs)
        if not free:
            blocks.append(f"pt.eye({size})")
            continue
        lines += structure.source_root(f"L{k}", f"r[{start}:{start + free}]")
        correlations.append(structure.source_correlations(f"L{k}"))
        blocks.append(f"L{k}")
        start += free
    joined = blocks[0] if len(blocks) == 1 else f"pt.linalg.block_diag({', '.join(blocks)})"
    lines.append(f"L_{name} = {joined}")
    together = correlations[0] if len(correlations) == 1 else f"pt.concatenate([{', '.join(correlations)}])"
    corr = group.corr if group_change(group, priors.changes) is None else group.corr_at_mean
    return [*lines, f"pm.Deterministic({literal(corr)}, {together}, dims={literal(group.pair_dim)})"]
