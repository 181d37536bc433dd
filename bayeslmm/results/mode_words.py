"""What a posterior mode is the mode of, in words."""

from __future__ import annotations

from bayeslmm.bayes.priors import Decov, FlatFactor, SdPrior, TermPrior
from bayeslmm.bayes.propriety import exponent_of
from bayeslmm.errors import FitError
from bayeslmm.mode import PosteriorMode
from bayeslmm.results.fit import Fit
from bayeslmm.results.prior_table import prior_line


def mode_notes(fit: Fit) -> tuple[str, ...]:
    """Lines for a summary: the priors, the density and its scale.

    Parameters
    ----------
    fit : Fit
        Of a `PosteriorMode`.
    """
    mode = fit.optimum
    if not isinstance(mode, PosteriorMode):
        raise FitError("This fit has no priors.")
    if not fit.reml:
        out = "the random effects integrated out and the fixed effects where it is highest"
    elif mode.priors.beta is None:
        out = "the random effects and, as in REML, the fixed effects integrated out"
    else:
        out = "the random effects integrated out, and the fixed effects over their priors"
    return (
        f"Priors: {prior_line(fit.design, mode.priors)}.",
        f"The mode is the highest point of the posterior density of {scale_in_words(fit, mode)}, {out}. "
        "The density of another scale (variances, logarithms) has another mode. "
        "The criterion above is without the priors, at these estimates.",
    )


def scale_in_words(fit: Fit, mode: PosteriorMode) -> str:
    """The quantities whose density is highest."""
    priors, found = mode.priors, list[str]()
    pairs = enumerate(zip(priors.sds, priors.joints, strict=True))
    kinds = [_kind(prior, joint) for k, (sds, joint) in pairs if k not in mode.fixed for prior in sds]
    found += list(dict.fromkeys(kinds))
    free = [
        term
        for k, term in enumerate(fit.design.terms)
        if k not in mode.fixed and term.structure.correlated and not isinstance(priors.joints[k], FlatFactor)
    ]
    found += ["correlations"] if free else []
    if fit.design.sigma is None:
        found.append("log sigma" if exponent_of(priors.sigma) == -1 else "sigma")
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


def _kind(prior: SdPrior, joint: TermPrior | None) -> str:
    match joint:
        case FlatFactor():
            return "theta"
        case Decov():
            return "decov's root mean square of sd / sigma and shares in it"
    return "sd / sigma" if prior.relative else "standard deviations"
