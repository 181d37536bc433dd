"""The default priors of a design and what users may put in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bayeslmm.bayes.priors import HalfT, Priors, SdPrior
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior
from bayeslmm.types import FloatArray

DEGREES_OF_FREEDOM = 3.0

# Width of the proper normal priors of the "weak" set, in standard deviations of y.
WEAK_SLOPE = 2.5
WEAK_INTERCEPT = 10.0


def default_priors(design: Design) -> Priors:
    """Half-t(3) on every sd with scale ``sd(y) / rms(column)``, LKJ(1), flat beta.

    An sd that effects share has the scale that its effects together ask for: ``sd(y)`` for the levels of a factor.
    Its correlation is uniform on its range. Otherwise invariant to shifting and rescaling predictors; equivariant to
    ``y -> a + c y``.

    Parameters
    ----------
    design : Design

    Returns
    -------
    Priors
    """
    spread = response_sd(design)
    sds = tuple(
        tuple(HalfT(DEGREES_OF_FREEDOM, spread / rms) for rms in _term_rms(design, term)) for term in design.terms
    )
    return Priors(sds, (1.0,) * len(design.terms), HalfT(DEGREES_OF_FREEDOM, spread))


def response_sd(design: Design) -> float:
    """Standard deviation of the response less its offset, in its own units (n - 1 in the denominator)."""
    y = design.y if design.offset is None else design.y - design.offset
    y = y - y[0]
    if design.frequency is None:
        return float(np.std(y, ddof=1))
    squares = (y - observation_mean(design, y)) ** 2
    return float(np.sqrt(design.frequency @ squares / (design.n_observations - 1)))


def observation_mean(design: Design, values: FloatArray) -> FloatArray:
    """Mean over observations of values (n,) or (n, k): every row counts as often as it occurs."""
    return np.asarray(np.average(values, axis=0, weights=design.frequency))


def _term_rms(design: Design, term: RandomTerm) -> FloatArray:
    if not term.structure.shared:
        return _rms(design, term.Z)
    return np.repeat(_rms(design, np.sqrt((term.Z**2).sum(1, keepdims=True))), len(term.effects))


def _rms(design: Design, Z: FloatArray) -> FloatArray:
    rms = np.sqrt(observation_mean(design, Z**2))
    return np.where(rms > 0, rms, 1.0)


def weak_beta(design: Design) -> NormalPrior:
    """Proper normal priors on the fixed effects, wide in units of sd(y) / sd(column).

    The intercept's is centred at the mean of y and covers the whole shift that moving the predictors can cause.
    """
    y = design.y if design.offset is None else design.y - design.offset
    spread = response_sd(design)
    mean_x = observation_mean(design, design.X)
    sd_x = np.sqrt(observation_mean(design, (design.X - mean_x) ** 2))
    constant = sd_x <= 1e-12 * np.maximum(np.abs(design.X).max(axis=0), 1e-300)
    slope = WEAK_SLOPE * spread / np.where(constant, 1.0, sd_x)
    shift = np.sqrt(np.sum((slope * mean_x)[~constant] ** 2))
    level = np.hypot(WEAK_INTERCEPT * spread, shift)
    value = np.where(constant, np.abs(design.X[0]), 1.0)
    sd = np.where(constant, level / np.where(value > 0, value, 1.0), slope)
    mean = np.where(constant, float(observation_mean(design, y)) / np.where(design.X[0] == 0, 1.0, design.X[0]), 0.0)
    return NormalPrior(mean, sd)


type PriorSpec = str | Priors | Mapping[str, object] | None


def resolve_priors(design: Design, spec: PriorSpec = None) -> Priors:
    """Read the user's ``priors=`` argument.

    Parameters
    ----------
    design : Design
    spec : None, "default", "weak", Priors or mapping
        A mapping overrides parts of the default. Keys: ``"sigma"``; ``"sd"`` (every group sd); ``"sd_<group>"``
        (one group; a sequence gives one prior per effect); ``"lkj"`` (a number, also the shape of the beta prior of
        a correlation that effects share); ``"beta"`` (``"flat"``, ``"weak"`` or a `NormalPrior`).

    Returns
    -------
    Priors

    Raises
    ------
    PriorError
        Unknown name or key, wrong number of priors.
    """
    priors = _resolve(design, spec)
    _check_shared(design, priors)
    return priors


def _resolve(design: Design, spec: PriorSpec) -> Priors:
    base = default_priors(design)
    if spec is None or spec == "default":
        return base
    if isinstance(spec, Priors):
        return spec
    if spec == "weak":
        return replace(base, beta=weak_beta(design))
    if isinstance(spec, Mapping):
        for key, value in spec.items():
            base = _override(design, base, key, value)
        return base
    raise PriorError(
        f"priors={spec!r} is not a known set of priors. Use 'default' (half-t, flat fixed effects), 'weak' "
        "(proper normal fixed effects), a Priors object, or a mapping such as "
        "{'sd_Subject': bl.HalfNormal(50), 'lkj': 2}."
    )


def _check_shared(design: Design, priors: Priors) -> None:
    for term, sds in zip(design.terms, priors.sds, strict=True):
        if term.structure.shared and any(prior != sds[0] for prior in sds):
            raise PriorError(
                f"The effects of {term.label} share one standard deviation ({term.structure.keyword}), but were given "
                f"different priors: {', '.join(map(str, sds))}. Give one prior."
            )


def _override(design: Design, priors: Priors, key: str, value: object) -> Priors:
    if key == "sigma":
        return replace(priors, sigma=_sd_prior(key, value))
    if key == "lkj":
        return replace(priors, lkj=(_positive(key, value),) * len(design.terms))
    if key == "beta":
        return replace(priors, beta=_beta(design, value))
    groups = [term.group for term in design.terms]
    if key == "sd" or (key.startswith("sd_") and key[3:] in groups):
        sds = tuple(
            _term_sds(key, value, len(term.effects)) if key in ("sd", f"sd_{term.group}") else old
            for term, old in zip(design.terms, priors.sds, strict=True)
        )
        return replace(priors, sds=sds)
    known = ["sigma", "lkj", "beta", "sd", *(f"sd_{g}" for g in dict.fromkeys(groups))]
    raise PriorError(f"priors has the key {key!r}, which names no parameter. Known: {', '.join(known)}.")


def _sd_prior(key: str, value: object) -> SdPrior:
    if not hasattr(value, "log_density"):
        raise PriorError(
            f"The prior of {key} is {value!r}, which is no prior object. Use one of bl.HalfT, bl.HalfNormal, "
            "bl.HalfCauchy, bl.Exponential, bl.Uniform, bl.Flat."
        )
    return value  # type: ignore[return-value]


def _term_sds(key: str, value: object, size: int) -> tuple[SdPrior, ...]:
    if isinstance(value, list | tuple):
        if len(value) != size:
            raise PriorError(
                f"{key} got {len(value)} priors, but the term has {size} effects. Give one prior for all or "
                f"a sequence of {size}."
            )
        return tuple(_sd_prior(key, item) for item in value)
    return (_sd_prior(key, value),) * size


def _positive(key: str, value: object) -> float:
    if not isinstance(value, int | float) or not value > 0:
        raise PriorError(f"{key} is {value!r}; the LKJ shape must be a positive number (1 is uniform).")
    return float(value)


def _beta(design: Design, value: object) -> NormalPrior | None:
    if value is None or value == "flat":
        return None
    if value == "weak":
        return weak_beta(design)
    if isinstance(value, NormalPrior):
        if value.mean.shape != (design.p,) or value.sd.shape != (design.p,):
            raise PriorError(
                f"The prior of beta has shapes {value.mean.shape} and {value.sd.shape}, but there are "
                f"{design.p} fixed effects: {', '.join(design.fixed_names)}."
            )
        return value
    raise PriorError(f"The prior of beta is {value!r}; use 'flat', 'weak' or a NormalPrior.")
