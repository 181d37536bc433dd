"""The hierarchical model in PyMC as one list of statements, which are run to build it and printed as its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bayeslmm.bayes.at_means import group_change, place
from bayeslmm.bayes.forms import Form
from bayeslmm.bayes.layout import GroupLayout, Layout, group_columns, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_correlations import correlation_statements
from bayeslmm.bayes.pymc_priors import beta_statements, sd_statements, sigma_statements
from bayeslmm.bayes.pymc_residuals import likelihood_statements, parameter_statements, residual_arrays
from bayeslmm.bayes.statements import Node, Statement, Symbol
from bayeslmm.design.design import Design
from bayeslmm.design.names import identifiers
from bayeslmm.types import FloatArray

_np, _pm = Symbol("np"), Symbol("pm")
_sigma, _mu, _y = Symbol("sigma"), Symbol("mu"), Symbol("y")


@dataclass(frozen=True)
class Part:
    """Statements that belong together, and what is said of them."""

    comments: tuple[str, ...]
    statements: tuple[Statement, ...]


def model_statements(design: Design, priors: Priors, form: Form | Mapping[str, Form]) -> tuple[Part, ...]:
    """The statements of the hierarchical model, in order, inside ``pm.Model(coords=...)``.

    They take the arrays ``y``, ``X``, ``Z_<own>``, ``codes_<own>``, ``offset``, ``frequency`` and those of the
    residual structure (``weights``) for given, as far as the design has them; own names are those of `own_names`.
    """
    layout = make_layout(design)
    own = own_names(layout)
    groups = []
    for group in layout.groups:
        centred = (form if isinstance(form, str) else form[group.labels.group]) == "centered"
        groups.append(_group(design, group, priors, own[group.name], centred))
    return _fixed(design, layout, priors), *groups, _likelihood(design, layout, own)


def own_names(layout: Layout) -> dict[str, str]:
    """Name of every grouping factor to the end of its identifiers in the source."""
    return identifiers([group.name for group in layout.groups])


def covariance_statements(design: Design, group: GroupLayout, priors: Priors, own: str) -> list[Statement]:
    """``sd_<own>``, and ``L_<own>`` where effects are correlated, with what is to be said of the zeros of columns."""
    out = sd_statements(group, priors, own)
    if not group.pairs:
        return out
    out += correlation_statements(design, group, priors, own)
    A = group_change(group, priors.changes)
    return out if A is None else out + _at_zeros(group, own, A)


def sd_of_effects(group: GroupLayout, own: str) -> Node:
    """The standard deviation of every effect."""
    sd = Symbol(f"sd_{own}")
    return sd[group.sd_of_effect.tolist()] if group.shared else sd


def _data(target: str, name: str, *dims: str) -> Statement:
    return Statement(target, _pm.Data(name, Symbol(target), dims=dims if len(dims) > 1 else dims[0]))


def _fixed(design: Design, layout: Layout, priors: Priors) -> Part:
    out = sigma_statements(priors)
    out += parameter_statements(layout.lam, priors) if layout.lam else []
    if design.offset is not None:
        out.append(_data("offset", "offset", "obs"))
    if layout.coef:
        out += [_data("X", "X", "obs", "coef"), *beta_statements(priors)]
    return Part((), tuple(out))


def _group(design: Design, group: GroupLayout, priors: Priors, own: str, centred: bool) -> Part:
    comments = [f"{group.labels.group}: {', '.join(group.labels.effects)}"]
    changed = [(k, change) for k in group.labels.terms if (change := priors.changes[k]) is not None]
    if changed:
        where = [place(design, k, design.terms[k].effects.index("Intercept"), change) for k, change in changed]
        comments.append(
            f"Sds and correlations {', '.join(where)}; A takes the effects from there to the zeros of the columns."
        )
    statements = [
        *covariance_statements(design, group, priors, own),
        *_effects(group, own, centred, bool(changed)),
        _data(f"Z_{own}", group.columns, "obs", group.effect_dim),
        _data(f"codes_{own}", group.codes, "obs"),
    ]
    return Part(tuple(comments), tuple(statements))


def _effects(group: GroupLayout, own: str, centred: bool, changed: bool) -> list[Statement]:
    """Effects of every level: ``b = z (diag(sd) L)'`` with z standard normal, or centred."""
    dims, sd, z, A = (group.dim, group.effect_dim), sd_of_effects(group, own), Symbol(f"z_{own}"), Symbol("A")
    chol = sd[:, None] * Symbol(f"L_{own}")
    b = f"b_{own}"
    if centred and not group.pairs:
        return [Statement(b, _pm.Normal(group.b, mu=0.0, sigma=sd, dims=dims))]
    if centred:
        zero: Any = _np.zeros(len(group.labels.effects))
        if not changed:
            return [Statement(b, _pm.MvNormal(group.b, mu=zero, chol=chol, dims=dims))]
        own_effects = Statement("at_mean", _pm.MvNormal(group.b_at_mean, mu=zero, chol=chol, dims=dims))
        return [own_effects, Statement(b, _pm.Deterministic(group.b, Symbol("at_mean") @ A.T, dims=dims))]
    effects = z @ chol.T if group.pairs else z * sd
    effects = effects @ A.T if changed else effects
    return [
        Statement(z.identifier, _pm.Normal(f"z_{group.name}", mu=0.0, sigma=1.0, dims=dims)),
        Statement(b, _pm.Deterministic(group.b, effects, dims=dims)),
    ]


def _at_zeros(group: GroupLayout, own: str, A: FloatArray) -> list[Statement]:
    """Sds and correlations of the effects at the zeros of the columns, where the priors are about others."""
    factor, sds, rows = Symbol("F"), Symbol("sds"), Symbol("rows")
    first, (a, b) = [group.sd_of_effect.tolist().index(k) for k in range(len(group.sds))], group.pair_effects
    return [
        Statement("A", A),
        Statement("F", Symbol("A") @ (sd_of_effects(group, own)[:, None] * Symbol(f"L_{own}"))),
        Statement("sds", _pm.math.sqrt((factor**2).sum(axis=1))),
        Statement(None, _pm.Deterministic(group.sd, sds[first] if group.shared else sds, dims=group.sd_dim)),
        Statement("rows", factor / sds[:, None]),
        Statement(None, _pm.Deterministic(group.corr, (rows[a] * rows[b]).sum(axis=1), dims=group.pair_dim)),
    ]


def _likelihood(design: Design, layout: Layout, own: Mapping[str, str]) -> Part:
    parts: list[Node] = [Symbol("offset")] if design.offset is not None else []
    parts += [Symbol("X") @ Symbol("beta")] if layout.coef else []
    parts += [(Symbol(f"Z_{name}") * Symbol(f"b_{name}")[Symbol(f"codes_{name}")]).sum(axis=1) for name in own.values()]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    of_rows = {name: Symbol(name) for name in design.residual.data()}
    scale = design.residual.scale(_sigma, [Symbol(name) for name in layout.lam], of_rows, _pm.math)
    out = [Statement("mu", total), *(_data(name, name, "obs") for name in of_rows)]
    if scale is not _sigma:
        out.append(Statement("residual_sd", scale))
        scale = Symbol("residual_sd")
    if design.residual.clusters is not None:
        return Part((), (*out, *likelihood_statements(design, layout.response, layout.lam, scale)))
    out.append(Statement(None, _pm.Normal(layout.response, mu=_mu, sigma=scale, observed=_y, dims="obs")))
    if design.frequency is not None:
        copies = _pm.logp(_pm.Normal.dist(mu=_mu, sigma=scale), _y)
        further = (Symbol("frequency") - 1.0) * copies
        out += [
            _data("frequency", "frequency", "obs"),
            Statement(None, _pm.Potential("further_copies", further.sum())),
        ]
    return Part((), tuple(out))


def arrays_of(design: Design, layout: Layout) -> dict[str, Any]:
    """The arrays that the statements take for given."""
    arrays: dict[str, Any] = {"y": design.y, "X": design.X}
    arrays |= residual_arrays(design)
    arrays |= design.residual.data() | {"offset": design.offset, "frequency": design.frequency}
    for group in layout.groups:
        own = own_names(layout)[group.name]
        codes = design.groupings[group.labels.group].codes
        arrays |= {f"Z_{own}": group_columns(design, group), f"codes_{own}": codes}
    return arrays
