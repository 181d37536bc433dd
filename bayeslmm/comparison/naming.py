"""Names of the posteriors of a comparison: what users call them, or their priors in short words; all different."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from bayeslmm.arguments import kind_of, shown
from bayeslmm.bayes.presets import PRESETS
from bayeslmm.bayes.priors import Priors, normal_coefficients
from bayeslmm.design.design import Design
from bayeslmm.design.variances import variance_labels
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.faces import Posterior
from bayeslmm.residual import Estimable

DEFAULT = "default priors"
# Characters of a name that stands in headings of columns and in legends.
_LONGEST = 40
# What else stands in a column `method` or is a key beside the posteriors.
TAKEN = (
    "ML",
    "REML",
    "REML + penalty",
    "REML bootstrap",
    "REML profile",
    "Wald z",
    "Satterthwaite",
    "Kenward-Roger",
    "profile",
)


def structure(design: Design) -> list[str]:
    """The residual structure as written, where it has parameters."""
    residual = design.residual
    return [residual.expression] if residual.names and isinstance(residual, Estimable) else []


def prior_name(post: Posterior) -> str:
    """A posterior's priors in short: ``default priors``, ``brms``, ``sd_Batch ~ half-normal(5)``.

    Parameters
    ----------
    post : Posterior

    Returns
    -------
    str
        At most 40 characters.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> prior_name(model.sample(100, priors={"sd_Batch": bl.HalfNormal(0.1)}, random_seed=1))
    'sd_Batch ~ half-normal(0.1)'
    """
    return _shortened(pieces(post.design, post.priors))


def different(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number behind one that is there already.

    Examples
    --------
    >>> different(["brms", "pc", "brms"])
    ('brms', 'pc', 'brms (2)')
    """
    out: list[str] = []
    for name in names:
        numbered = (f"{name} ({k})" for k in count(2))
        out.append(name if name not in out else next(other for other in numbered if other not in out))
    return tuple(out)


def method_names(priors: Sequence[str]) -> tuple[str, ...]:
    """What a column of methods calls posteriors under these priors: ``posterior (brms)``."""
    return different([f"posterior ({'default' if name == DEFAULT else name})" for name in priors])


def group_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of groups of a tree: ``posterior`` for the first, as ArviZ calls it, then ``posterior_brms``.

    Examples
    --------
    >>> group_names(["default priors", "sd_Batch ~ half-normal(5)", "sd_Batch, half-normal [5]"])
    ('posterior', 'posterior_sd_Batch_half_normal_5', 'posterior_sd_Batch_half_normal_5_2')
    """
    signs = [re.sub(r"\W+", "_", name).strip("_") for name in names[1:]]
    return ("posterior", *(f"posterior_{name.replace(' (', '_').rstrip(')')}" for name in different(signs)))


def long_name(post: Posterior) -> str:
    """Everything that sets the priors apart, in words."""
    return ", ".join(pieces(post.design, post.priors))


def given_names(names: Any, n: int) -> tuple[str, ...]:
    """Names from a user, checked.

    Raises
    ------
    DesignError
        Not as many names as posteriors, something else than text, the same twice, one that is taken.
    """
    if names is None:
        return ()
    if isinstance(names, str | bytes | Mapping) or not isinstance(names, Sequence):
        raise DesignError(
            f"names={shown(names)} is {kind_of(names)}. Give a list with a name for each of the {n} "
            "posteriors, e.g. names=['flat', 'brms']."
        )
    if len(names) > 1000:
        raise DesignError(f"There are {len(names):,} names for {n} posterior(s): names={shown(names)}. One for each.")
    return _checked(list(names), n)


def given_posteriors(
    first: Posterior | Mapping[str, Posterior] | None, more: tuple[Posterior, ...], names: Sequence[str] | None
) -> tuple[tuple[Posterior, ...], tuple[str, ...]]:
    """All posteriors of a call of `compare`, and the names that the user gave them.

    Raises
    ------
    DesignError
        No posterior, some with and some without a name, or a name that `given_names` refuses.
    """
    if first is None or (isinstance(first, Mapping) and not first):
        raise DesignError(
            "compare() got a fit and nothing to compare it with. It needs a posterior of the same model too: "
            "bl.compare(model.fit(), model.sample())."
        )
    if not isinstance(first, Mapping):
        return (first, *more), given_names(names, 1 + len(more))
    if more or names is not None:
        raise DesignError(
            f"compare() got posteriors under the names {', '.join(map(repr, first))} and "
            f"{'further ones without a name' if more else f'names={names!r} too'}. Give all of them in the mapping: "
            "bl.compare(fit, {'flat': post_1, 'brms': post_2})."
        )
    return tuple(first.values()), given_names(list(first), len(first))


def _checked(names: list[Any], n: int) -> tuple[str, ...]:
    wrong = [name for name in names if not isinstance(name, str) or not name.strip() or not name.isprintable()]
    if wrong:
        raise DesignError(
            f"A posterior is called {shown(wrong[0])}. Names are texts of one letter or more, on one line."
        )
    if len(names) != n:
        listed = ", ".join(map(repr, names))
        raise DesignError(
            f"There {'is 1 name' if len(names) == 1 else f'are {len(names)} names'} ({listed}) for {n} posterior"
            f"{'' if n == 1 else 's'}. Give one for each."
        )
    if n != len(set(names)):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise DesignError(f"Two posteriors are called {twice!r}: columns and curves could not be told apart.")
    taken = next((name for name in names if name in TAKEN), None)
    if taken is not None:
        raise DesignError(
            f"A posterior cannot be called {taken!r}: the tables call something else so. Taken are: {', '.join(TAKEN)}."
        )
    return tuple(names)


def _shortened(parts: Sequence[str]) -> str:
    """The first of some pieces, cut where it is long, with a sign of what is left out."""
    whole = ", ".join(parts)
    if len(whole) <= _LONGEST:
        return whole
    if len(parts[0]) <= _LONGEST - 3:
        return f"{parts[0]}, …"
    label = parts[0].split(" ~ ")[0]
    return f"{label} ~ …" if len(label) <= _LONGEST - 4 else f"{label[: _LONGEST - 1]}…"


def pieces(design: Design, priors: Priors) -> list[str]:
    """The nearest preset, unless it is the default, and the priors in which it differs.

    Parameters
    ----------
    design : Design
    priors : Priors

    Returns
    -------
    list of str
        At least one.
    """
    own, nearest, found = _parts(design, priors), "", None
    for preset, make in PRESETS.items():
        try:
            base = _parts(design, make(design))
        except BayesLMMError:
            # A preset that does not exist for this design.
            continue
        differences = [part for part in own if part not in base]
        # The order of the presets decides between equals: the default comes first.
        if found is None or len(differences) < len(found):
            nearest, found = preset, differences
    if found == []:
        return [DEFAULT if nearest == "default" else nearest]
    changed = _words(own, own if found is None else found)
    return changed if nearest in ("default", "") else [nearest, *changed]


@dataclass(frozen=True)
class _Part:
    """One prior: what it is about, its words, and all that it is (words round numbers)."""

    kind: str
    group: str
    name: str
    text: str
    exact: object

    @property
    def family(self) -> str:
        return self.kind.removesuffix("_at_mean")

    @property
    def label(self) -> str:
        return f"{self.kind}_{self.group}" if self.group else self.kind


def _parts(design: Design, priors: Priors) -> list[_Part]:
    parts = []
    for labels, sds in variance_labels(design):
        for sd in sds:
            change, joint = priors.changes[sd.term], priors.joints[sd.term]
            kind = "sd_at_mean" if change is not None and change.moved[sd.effects[0]] else "sd"
            prior = priors.sds[sd.term][sd.effects[0]] if joint is None else joint
            parts.append(_Part(kind, labels.group, sd.name, _short(prior), prior))
        for k in dict.fromkeys(pair[0] for pair in labels.pairs):
            if priors.joints[k] is None:
                eta = priors.lkj[k]
                parts.append(_Part("corr", labels.group, design.terms[k].label, f"LKJ({eta:g})", float(eta)))
    if design.sigma is None:
        parts.append(_Part("sigma", "", "", _short(priors.sigma), priors.sigma))
    return parts + _of_coefficients(design, priors)


def _of_coefficients(design: Design, priors: Priors) -> list[_Part]:
    beta = normal_coefficients(priors.beta, design.p)
    basis = np.eye(design.p) if beta.basis is None else beta.basis
    parts = []
    for name, mean, sd, row in zip(design.fixed_names, beta.mean, beta.sd, basis, strict=True):
        flat = not np.isfinite(sd)
        text = "flat" if flat else f"normal({mean:.4g}, {sd:.4g})"
        parts.append(_Part("beta", "", name, text, None if flat else (mean, sd, *row)))
    for j, own in priors.heavy:
        parts[j] = _Part("beta", "", design.fixed_names[j], _short(own), own)
    return parts


def _short(prior: object) -> str:
    """A prior as it prints itself, without the names of what every reader expects there."""
    return str(prior).replace("(scale ", "(").replace(", scale ", ", ")


def _words(own: Sequence[_Part], found: Sequence[_Part]) -> list[str]:
    """``sd_Subject ~ half-normal(50)``: one line for what is alike in a whole group, in all groups or coefficients."""
    out: list[str] = []
    for family in dict.fromkeys(part.family for part in found):
        members, changed = ([p for p in parts if p.family == family] for parts in (own, found))
        if _alike(members, changed) and (family == "beta" or len({p.group for p in members}) > 1):
            out.append(f"{changed[0].kind} ~ {changed[0].text}")
            continue
        for group in dict.fromkeys(part.group for part in changed):
            within, new = ([p for p in parts if p.group == group] for parts in (members, changed))
            if _alike(within, new) and family != "beta":
                out.append(f"{new[0].label} ~ {new[0].text}")
            else:
                out += [f"{part.label}[{part.name}] ~ {part.text}" for part in new]
    return out


def _alike(members: Sequence[_Part], changed: Sequence[_Part]) -> bool:
    return len(members) == len(changed) and len({(part.kind, part.text) for part in changed}) == 1
