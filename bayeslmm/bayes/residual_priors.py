"""Priors of the parameters of a residual structure: those that it names itself, or what users give by label."""

from __future__ import annotations

from dataclasses import replace

from bayeslmm.arguments import shown
from bayeslmm.bayes.priors import Normal, Priors
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
from bayeslmm.residual import Estimable, residual_labels
from bayeslmm.residual.laws import NormalLaw, SphereLaw


def with_residual(design: Design, priors: Priors) -> Priors:
    """The priors with those of the residual parameters, the default ones where none are given."""
    residual = design.residual
    if not residual.names or not isinstance(residual, Estimable):
        return priors
    if priors.residual and len(priors.residual) != len(residual.names):
        raise PriorError(
            f"The Priors object has {len(priors.residual)} priors of residual parameters, and the model has "
            f"{len(residual.names)}: {', '.join(residual.labels)}. Priors belong to one model: give a mapping."
        )
    return priors if priors.residual else replace(priors, residual=residual.laws)


def residual_keys(design: Design, base: Priors, spec: dict[str, object]) -> Priors:
    """Take the priors of residual parameters, ``"residual_<label>"``, out of a mapping."""
    base = with_residual(design, base)
    for k, label in enumerate(residual_labels(design.residual)):
        if (value := spec.pop(f"residual_{label}", None)) is None:
            continue
        if not isinstance(value, Normal) or isinstance(base.residual[k], SphereLaw):
            raise PriorError(
                f"residual_{label} is given the prior {shown(value)}. It takes bl.Normal(mean, sd) on the scale "
                f"without bounds ({design.residual.names[k]}: logs of ratios and ranges, atanh of correlations, "
                "exponents); correlations of an unstructured matrix have one prior together, uniform over matrices."
            )
        changed = NormalLaw(float(value.mean), float(value.sd))
        base = replace(base, residual=(*base.residual[:k], changed, *base.residual[k + 1 :]))
    return base
