"""What users may give as ``priors=``: a preset, a mapping of overrides, or a full set."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from bayeslmm.arguments import mapping, real, shown
from bayeslmm.bayes.at_means import at_means
from bayeslmm.bayes.coefficient_priors import StudentT
from bayeslmm.bayes.presets import (
    DEGREES_OF_FREEDOM,
    PRESETS,
    WEAK_INTERCEPT,
    WEAK_SLOPE,
    correlated,
    default_priors,
    term_prior,
    weak_beta,
)
from bayeslmm.bayes.prior_families import is_sd_prior
from bayeslmm.bayes.prior_scales import observation_mean, response_sd
from bayeslmm.bayes.priors import (
    Decov,
    Flat,
    FlatFactor,
    InverseGammaVariance,
    Normal,
    Priors,
    Relative,
    SdPrior,
    Wishart,
    normal_coefficients,
    with_known_sigma,
)
from bayeslmm.bayes.residual_priors import residual_keys, with_residual
from bayeslmm.design.design import Design
from bayeslmm.design.known import refuse_known
from bayeslmm.design.tokens import respelled
from bayeslmm.design.variances import variance_labels
from bayeslmm.errors import ArgumentError, PriorError, PriorWarning
from bayeslmm.likelihood import NormalPrior

__all__ = [
    "DEGREES_OF_FREEDOM",
    "WEAK_INTERCEPT",
    "WEAK_SLOPE",
    "PriorSpec",
    "default_priors",
    "observation_mean",
    "resolve_priors",
    "response_sd",
    "weak_beta",
]

type PriorSpec = str | Priors | Mapping[str, object] | SdPrior | Wishart | Decov | None


def resolve_priors(design: Design, spec: PriorSpec = None) -> Priors:
    """Read the user's ``priors=`` argument.

    Parameters
    ----------
    design : Design
    spec : None, str, Priors, mapping or a prior
        One prior is that of all sds, as ``{"sd": prior}``. A string names a preset:
        ``"default"``, ``"weak"``, ``"brms"``, ``"rstanarm"``, ``"bambi"``, ``"pc"``,
        ``"boundary_avoiding"``, ``"flat"``. A mapping overrides parts of the default, or of the preset under the key
        ``"preset"``; a more specific key wins over a more general one:

        * ``"sigma"``: a prior of an sd;
        * ``"sd"``, ``"sd_<group>"``, ``"(<effects> | <group>)"`` (a term as written), ``"sd_<group>[<effect>]"``: a
          prior of an sd, ``"flat"``, or for whole terms also `Wishart`, `Decov` or a sequence, one prior per effect.
          Where it is given for an effect that is another one at the means of the columns (the intercept beside a
          slope), it is about the zeros of the columns, and so are then all priors of its term;
        * ``"sd_at_mean_<group>[<effect>]"``: a prior of the sd at the means, where the default stands;
        * ``"lkj"``, ``"lkj_<group>"`` or ``"corr_<group>"``: a number, the LKJ shape (also the shape of the beta prior
          of a correlation that effects share);
        * ``"beta"``: ``"flat"``, ``"weak"``, `Normal`, `StudentT` or a `NormalPrior`; ``"beta[<coefficient>]"``:
          ``"flat"``, `Normal` or `StudentT`.

    Returns
    -------
    Priors

    Raises
    ------
    PriorError
        Unknown name or key, wrong kind or number of priors.

    Warns
    -----
    PriorWarning
        An inverse-gamma prior on a variance.
    """
    priors = with_residual(design, with_known_sigma(_resolve(design, spec), design.sigma))
    _check_shared(design, priors)
    _warn_inverse_gamma(design, priors)
    return priors


def _resolve(design: Design, spec: PriorSpec) -> Priors:
    if spec is None:
        return default_priors(design)
    if isinstance(spec, Priors):
        _check_lengths(design, spec)
        return spec
    if isinstance(spec, str):
        return _preset(design, spec)
    if isinstance(spec, Mapping):
        mapping("priors", spec, "a mapping of names of parameters to priors", PriorError)
        return _apply(design, dict(spec))
    if is_sd_prior(spec) or isinstance(spec, Wishart | Decov):
        return _apply(design, {"sd": spec})
    raise PriorError(
        f"priors={shown(spec)} is not a set of priors. Use one of {_quoted(list(PRESETS))}, a Priors object, or a "
        "mapping "
        "such as {'sd_Subject': bl.HalfNormal(50), 'lkj': 2}."
    )


def _preset(design: Design, name: object) -> Priors:
    if isinstance(name, str) and name in PRESETS:
        return PRESETS[name](design)
    raise PriorError(f"priors={shown(name)} is not a known set of priors.{_meant(name, list(PRESETS))}")


def _meant(key: object, known: list[str]) -> str:
    # bambi's and brms's keys of fixed effects are their names alone.
    own = f"beta[{'Intercept' if key == '1' else key}]"
    close = [own] if own in known else get_close_matches(key, known, n=1) if isinstance(key, str) else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {_quoted(known)}."


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _check_lengths(design: Design, priors: Priors) -> None:
    given, needed = [len(sds) for sds in priors.sds], [len(term.effects) for term in design.terms]
    parts = (priors.lkj, priors.joints, priors.changes)
    coefficients = len(priors.coefficients) not in (0, design.p)
    if given != needed or coefficients or any(len(part) != len(needed) for part in parts):
        raise PriorError(
            f"The Priors object has {given} sds and {len(priors.lkj)} correlation priors by term, but the terms "
            f"{', '.join(term.label for term in design.terms)} have {needed} effects. Priors belong to one model: "
            "start from model.priors or give a mapping."
        )


def _check_shared(design: Design, priors: Priors) -> None:
    for term, sds in zip(design.terms, priors.sds, strict=True):
        if any(sds[k] != sds[own[0]] for own in term.structure.sd_effects for k in own):
            raise PriorError(
                f"The effects of {term.label} share one standard deviation ({term.structure.keyword}), but were given "
                f"different priors: {', '.join(map(str, sds))}. Give one prior."
            )


def _warn_inverse_gamma(design: Design, priors: Priors) -> None:
    found = [("sigma", priors.sigma)]
    for labels, sds in variance_labels(design):
        found += [(f"sd_{labels.group}[{sd.name}]", priors.sds[sd.term][sd.effects[0]]) for sd in sds]
    for label, prior in found:
        inner = prior.prior if isinstance(prior, Relative) else prior
        if isinstance(inner, InverseGammaVariance):
            peak = float(np.sqrt(2 * inner.rate / (2 * inner.shape + 1)))
            warnings.warn(
                f"{label} has the prior {prior}. It is not noninformative: its density is zero at sd = 0 and peaks at "
                f"{peak:.3g}, which is of order sqrt(rate) and means something else in other units of the response; "
                "where small values are plausible it decides the posterior (Gelman 2006). Use the default half-t or "
                "bl.HalfNormal(scale).",
                PriorWarning,
                stacklevel=4,
            )


@dataclass(frozen=True)
class _Key:
    """Parsed key of a mapping: which parameters it names and how specific it is."""

    rank: int
    kind: str  # "sigma", "sd", "effect", "lkj", "beta", "coef"
    terms: tuple[int, ...] = ()
    effects: tuple[int, ...] = ()
    at_mean: bool = False


def _keys(design: Design) -> dict[str, _Key]:
    """Every key that a mapping may have."""
    every = tuple(range(len(design.terms)))
    changes = [at_means(design, k) for k in range(len(design.terms))]
    keys = {
        "sigma": _Key(0, "sigma"),
        "beta": _Key(0, "beta"),
        "sd": _Key(0, "sd", every),
        "lkj": _Key(0, "lkj", every),
    }
    for labels, sds in variance_labels(design):
        keys[f"sd_{labels.group}"] = _Key(1, "sd", labels.terms)
        keys[f"lkj_{labels.group}"] = keys[f"corr_{labels.group}"] = _Key(1, "lkj", labels.terms)
        keys |= {f"sd_{labels.group}[{sd.name}]": _Key(3, "effect", (sd.term,), sd.effects) for sd in sds}
        keys |= {
            f"sd_at_mean_{labels.group}[{sd.name}]": _Key(3, "effect", (sd.term,), sd.effects, at_mean=True)
            for sd in sds
            if changes[sd.term] is not None
        }
    keys |= {_plain(term.label): _Key(2, "sd", (k,)) for k, term in enumerate(design.terms)}
    keys |= {f"beta[{name}]": _Key(1, "coef", effects=(j,)) for j, name in enumerate(design.fixed_names)}
    return keys


def _plain(label: str) -> str:
    """A term's text whatever its spaces and outer parentheses."""
    text = "".join(respelled(label).split())
    return text if text.endswith(")") else f"({text})"


def _apply(design: Design, spec: dict[str, object]) -> Priors:
    base = _preset(design, spec.pop("preset", "default"))
    base = residual_keys(design, base, spec)
    known = _keys(design)
    chosen: list[tuple[_Key, str, object]] = []
    for name, value in spec.items():
        key = known.get(name) or known.get(respelled(str(name))) or known.get(_plain(str(name)))
        key = key or known.get(str(name).replace("`", ""))
        if key is None:
            raise PriorError(
                f"priors has the key {shown(name)}, which names no parameter.{_meant(name, ['preset', *known])}"
            )
        chosen.append((key, name, value))
    for key, name, value in sorted(chosen, key=lambda item: (item[0].rank, item[0].kind == "lkj")):
        if key.kind == "lkj":
            _check_lkj_counts(design, key, name, value, chosen)
        base = _override(design, base, key, name, value)
    return base


def _check_lkj_counts(
    design: Design, key: _Key, name: str, value: object, chosen: Sequence[tuple[_Key, str, object]]
) -> None:
    """Refuse a shape of correlations all of which have a more specific prior of the whole covariance."""
    whole = {
        k: (other, prior)
        for own, other, prior in chosen
        if (isinstance(prior, Decov) and own.rank > key.rank) or (isinstance(prior, Wishart) and own.rank >= key.rank)
        for k in own.terms
    }
    terms = [k for k in key.terms if correlated(design.terms[k])]
    if terms and all(k in whole for k in terms):
        other, prior = whole[terms[0]]
        raise PriorError(
            f"{name} = {value!r} would have no effect: {other} is {prior}, which is a prior of the correlations too. "
            f"Drop {name}, or give Decov its regularization."
        )


def _override(design: Design, priors: Priors, key: _Key, name: str, value: object) -> Priors:
    match key.kind:
        case "sigma":
            refuse_known(
                design,
                f"{name} was given a prior ({value}), and a prior is for what is estimated",
                "Leave it out of the priors.",
                PriorError,
            )
            return replace(priors, sigma=_sd_prior(name, value))
        case "beta":
            heavy = (value,) * design.p if isinstance(value, StudentT) else ()
            changed = replace(priors, beta=None if heavy else _beta(design, value), coefficients=heavy)
            return _without_notes(changed, *design.fixed_names)
        case "coef":
            return _coefficient(design, priors, key.effects[0], name, value)
        case "effect":
            return _effect(design, priors, key, name, value)
        case "lkj":
            for k in key.terms:
                priors = _lkj(design, priors, k, name, value)
            return priors
    for k in key.terms:
        priors = _term(design, priors, k, name, value)
    return priors


def _without_notes(priors: Priors, *labels: str) -> Priors:
    return replace(priors, notes=tuple(note for note in priors.notes if note[0] not in labels))


def _with_term(priors: Priors, k: int, **values: object) -> Priors:
    """Replace entry k of per-term fields."""

    def put(old: tuple[object, ...], new: object) -> tuple[object, ...]:
        return (*old[:k], new, *old[k + 1 :])

    fields = {"sds": priors.sds, "lkj": priors.lkj, "joint": priors.joints}
    return replace(priors, **{name: put(fields[name], value) for name, value in values.items()})  # type: ignore[arg-type]


def _term(design: Design, priors: Priors, k: int, name: str, value: object) -> Priors:
    """Prior of the sds of one term, or of its covariance."""
    term, priors = design.terms[k], _on_zeros(priors, k, range(len(design.terms[k].effects)))
    c = len(term.effects)
    if isinstance(value, Decov):
        sds, eta, joint = term_prior(value, term)
        return _with_term(priors, k, sds=sds, lkj=eta, joint=joint)
    if isinstance(value, Wishart):
        eta = value.eta(c) if correlated(term) else priors.lkj[k]
        return _with_term(priors, k, sds=value.sds(c), lkj=eta, joint=None)
    if isinstance(value, list | tuple):
        if len(value) != c:
            raise PriorError(
                f"{name} got {len(value)} priors, but {term.label} has {c} effects: {', '.join(term.effects)}. "
                f"Give one prior for all or a sequence of {c}."
            )
        return _with_term(priors, k, sds=tuple(_sd_prior(name, item) for item in value), joint=None)
    return _with_term(priors, k, sds=(_sd_prior(name, value),) * c, joint=None)


def _on_zeros(priors: Priors, k: int, effects: Iterable[int]) -> Priors:
    """All priors of a term about the zeros of its columns if one that the user gives is."""
    change = priors.changes[k]
    given = change is not None and any(change.moved[j] for j in effects)
    return priors.on_zeros(k) if given else priors


def _effect(design: Design, priors: Priors, key: _Key, name: str, value: object) -> Priors:
    k = key.terms[0]
    if not key.at_mean:
        priors = _on_zeros(priors, k, key.effects)
    elif priors.changes[k] is None:
        term = design.terms[k]
        raise PriorError(
            f"{name} is given a prior of the sd at the means of the columns, but the other priors of {term.label} are "
            f"about the zeros of its columns: they are those of another package, or one of them is given for "
            f"sd_{term.group}. Give all of them for sd_at_mean_{term.group}, or all for sd_{term.group}."
        )
    joint = priors.joints[k]
    if joint is not None:
        raise PriorError(
            f"{name} is given a prior of its own, but its term has the joint prior {joint}. Give one for all effects "
            "of the term, then override single ones."
        )
    prior = _sd_prior(name, value)
    sds = tuple(prior if j in key.effects else old for j, old in enumerate(priors.sds[k]))
    return _with_term(priors, k, sds=sds)


def _lkj(design: Design, priors: Priors, k: int, name: str, value: object) -> Priors:
    eta, joint = _positive(name, value), priors.joints[k]
    if isinstance(joint, Decov):
        return _with_term(priors, k, lkj=eta, joint=replace(joint, regularization=eta))
    if isinstance(joint, FlatFactor):
        raise PriorError(
            f"{name} = {eta:g} was given with the prior '{joint}' of {design.terms[k].label}, which is a prior on the "
            "correlations as well. Give the sds another prior too, e.g. 'flat'."
        )
    return _with_term(priors, k, lkj=eta)


def _sd_prior(key: str, value: object) -> SdPrior:
    if isinstance(value, str) and value == "flat":
        return Flat()
    if not is_sd_prior(value):
        raise PriorError(
            f"The prior of {key} is {shown(value)}, which is no prior of a standard deviation. Use 'flat' or one of "
            "bl.HalfT, bl.HalfNormal, bl.HalfCauchy, bl.Exponential, bl.Gamma, bl.Uniform, bl.Relative."
        )
    return value  # type: ignore[return-value]


def _positive(key: str, value: object) -> float:
    try:
        return real(key, value, above=0.0)
    except ArgumentError:
        raise PriorError(f"{key} is {shown(value)}; the LKJ shape must be a positive number (1 is uniform).") from None


def _beta(design: Design, value: object) -> NormalPrior | None:
    if value is None or (isinstance(value, str) and value == "flat"):
        return None
    if isinstance(value, str) and value == "weak":
        return weak_beta(design)
    if isinstance(value, Normal):
        return NormalPrior(np.full(design.p, float(value.mean)), np.full(design.p, float(value.sd)))
    if isinstance(value, NormalPrior):
        if value.mean.shape != (design.p,) or value.sd.shape != (design.p,):
            raise PriorError(
                f"The prior of beta has shapes {value.mean.shape} and {value.sd.shape}, but there are "
                f"{design.p} fixed effects: {', '.join(design.fixed_names)}."
            )
        return value
    raise PriorError(
        f"The prior of beta is {shown(value)}; use 'flat', 'weak', bl.Normal(mean, sd), "
        "bl.StudentT(df, location, scale) or a NormalPrior."
    )


def _coefficient(design: Design, priors: Priors, j: int, name: str, value: object) -> Priors:
    """Replace the prior of one coefficient."""
    old = normal_coefficients(priors.beta, design.p)
    mean, sd = old.centre.copy(), old.marginal_sd.copy()
    heavy = list(priors.coefficients or (None,) * design.p)
    heavy[j] = value if isinstance(value, StudentT) else None
    if heavy[j] is not None or (isinstance(value, str) and value == "flat"):
        mean[j], sd[j] = 0.0, np.inf
    elif isinstance(value, Normal):
        mean[j], sd[j] = value.mean, value.sd
    else:
        raise PriorError(
            f"The prior of {name} is {shown(value)}; use 'flat' or bl.Normal(mean, sd), or bl.StudentT(df, location, "
            "scale)."
        )
    beta = NormalPrior(mean, sd) if np.isfinite(sd).any() else None
    changed = replace(priors, beta=beta, coefficients=tuple(heavy))
    return _without_notes(changed, design.fixed_names[j])
