"""Source text of the hierarchical model in PyMC, as one would write it by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.at_means import group_change, place
from bayeslmm.bayes.forms import Form
from bayeslmm.bayes.layout import GroupLayout, Layout, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.source_priors import HELPERS, correlation_lines, sd_lines, variable
from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.names import identifiers, literal, printable
from bayeslmm.residual import written_scale
from bayeslmm.types import FloatArray

_INDENT = " " * 4


class Source(str):
    """Text that notebooks show as Python code."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        # A fence that no row of backquotes in the text can close.
        fence = max(["```", *(run + "`" for run in re.findall("`+", self))], key=len)
        return f"{fence}python\n{self}\n{fence}"

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class _Data:
    """Lines that make the arrays from a data frame ``df``, and what has to be given as an array."""

    lines: tuple[str, ...]
    given: tuple[str, ...]


def write_pymc_source(design: Design, priors: Priors, form: Form | Mapping[str, Form] = "noncentered") -> Source:
    """Runnable source of the model that `build_pymc_model` builds.

    Parameters
    ----------
    design : Design
    priors : Priors
    form : {"noncentered", "centered"} or mapping
        Of all grouping factors, or grouping factor to its form.

    Returns
    -------
    Source
        A string. It needs numpy, pandas, PyMC and the data frame ``df`` that the formula was written for; arrays
        that cannot be read off a data frame by name are listed in a comment at the top.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.bayes.default_priors import resolve_priors
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> priors = resolve_priors(model.design, {"sigma": bl.HalfNormal(50), "sd": bl.HalfNormal(40)})
    >>> print(write_pymc_source(model.design, priors))
    import numpy as np
    import pandas as pd
    import pymc as pm
    <BLANKLINE>
    y = df["Yield"].to_numpy(float)
    X = np.column_stack([np.ones(len(df))])
    Z_Batch = np.column_stack([np.ones(len(df))])
    codes_Batch = pd.factorize(df["Batch"], sort=True)[0]
    <BLANKLINE>
    coords = {
        "coef": ["Intercept"],
        "Batch": range(codes_Batch.max() + 1),
        "Batch__effect": ["Intercept"],
    }
    <BLANKLINE>
    with pm.Model(coords=coords) as model:
        sigma = pm.HalfNormal("sigma", sigma=50.0)
        beta = pm.Flat("beta", dims="coef")
    <BLANKLINE>
        # Batch: Intercept
        sd_Batch = pm.HalfNormal("sd_Batch", sigma=40.0, dims="Batch__effect")
        z_Batch = pm.Normal("z_Batch", mu=0, sigma=1, dims=("Batch", "Batch__effect"))
        b_Batch = pm.Deterministic("b_Batch", z_Batch * sd_Batch, dims=("Batch", "Batch__effect"))
    <BLANKLINE>
        mu = X @ beta + (Z_Batch * b_Batch[codes_Batch]).sum(axis=1)
        pm.Normal("Yield", mu=mu, sigma=sigma, observed=y)
    <BLANKLINE>
    """
    layout = make_layout(design)
    names = identifiers([group.name for group in layout.groups])
    body = [*_fixed_lines(layout, priors)]
    for group in layout.groups:
        centred = (form if isinstance(form, str) else form[group.labels.group]) == "centered"
        body += ["", *_group_lines(design, group, priors, names[group.name], centred)]
    body += ["", *_likelihood_lines(design, layout, names)]
    data = _data(design, layout, names)
    lines = _head_lines("\n".join([*body, *data.lines]))
    if data.given:
        lines += ["", "# Arrays that are not columns of a data frame have to exist:"]
        lines += [f"#   {printable(given)}" for given in data.given]
    lines += ["", *data.lines, "", *_coords_lines(layout, names), "", "with pm.Model(coords=coords) as model:"]
    lines += [f"{_INDENT}{line}".rstrip() for line in body]
    return Source("\n".join(lines) + "\n")


def _head_lines(text: str) -> list[str]:
    """Imports and the functions that a text calls."""
    # Names in the code, not words in labels.
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    helpers = [line for name, helper in HELPERS.items() if name in used for line in ("", "", *helper)]
    lines = ["import numpy as np", *(["import pandas as pd"] if "pd" in used else []), "import pymc as pm"]
    needs_tensors = "pt" in used or any("pt." in line for line in helpers)
    return [*lines, *(["import pytensor.tensor as pt"] if needs_tensors else []), *helpers]


def _column(name: str) -> str | None:
    """Expression of a column by its name, or None if the name is not enough."""
    if name == "Intercept":
        return "np.ones(len(df))"
    parts = name.split(":")
    if not all(part.isidentifier() for part in parts):
        return None
    return " * ".join(f"df[{literal(part)}]" for part in parts)


def _columns(names: Sequence[str], single: Collection[str]) -> str | None:
    """Expression of several columns; None also where a name with a colon is that of one column of the data."""
    columns = [None if ":" in name and name in single else _column(name) for name in names]
    return None if None in columns else f"np.column_stack([{', '.join(map(str, columns))}])"


def _data(design: Design, layout: Layout, names: Mapping[str, str]) -> _Data:
    lines, given = list[str](), list[str]()
    if len(design.dropped):
        lines.append("df = df.dropna()  # rows with missing values in columns of the formula are not used")

    def add(name: str, expression: str | None, meaning: str) -> None:
        if expression is None:
            given.append(f"{name}: {meaning}")
        else:
            lines.append(f"{name} = {expression}")

    single = design.recipe.columns if design.recipe is not None else ()
    response = f"df[{literal(design.response)}].to_numpy(float)" if design.response.isidentifier() else None
    add("y", response, "response (n,), model.design.y")
    if layout.coef:
        columns = f"columns {', '.join(design.fixed_names)} (n, p), model.design.X"
        add("X", _columns(design.fixed_names, single), columns)
    for group in layout.groups:
        own, name = names[group.name], group.labels.group
        effects = [effect for k in group.labels.terms for effect in design.terms[k].effects]
        meaning = f"columns {', '.join(effects)} (n, {len(effects)}), design.terms[k].Z side by side"
        add(f"Z_{own}", _columns(effects, single), meaning)
        factors = _factors(design, name)
        add(f"codes_{own}", _codes(factors), f"level of each row, design.groupings[{literal(name)}].codes")
    for name in design.residual.data():
        place = name if hasattr(design, name) else f"residual.data()[{literal(name)}]"
        given.append(f"{name} (n,), model.design.{place}")
    for name in ("offset", "frequency"):
        if getattr(design, name) is not None:
            given.append(f"{name} (n,), model.design.{name}")
    return _Data(tuple(lines), tuple(given))


def _factors(design: Design, group: str) -> tuple[str, ...]:
    """Columns whose combination is a grouping factor, as far as its name or the formula says; empty if they do not."""
    if design.recipe is None:
        return tuple(group.split(":"))
    found = {bar.factors for bar in parse_formula(design.formula).bars if bar.group == group}
    return found.pop() if len(found) == 1 else ()


def _codes(factors: Sequence[str]) -> str | None:
    if not factors or not all(factor.isidentifier() for factor in factors):
        return None
    if len(factors) == 1:
        return f"pd.factorize(df[{literal(factors[0])}], sort=True)[0]"
    return f"df.groupby({literal(factors)}, observed=True).ngroup().to_numpy()"


def _coords_lines(layout: Layout, names: Mapping[str, str]) -> list[str]:
    lines = ["coords = {"]
    if layout.coef:
        lines.append(f'{_INDENT}"coef": {literal(layout.coef)},')
    for group in layout.groups:
        lines.append(f"{_INDENT}{literal(group.dim)}: range(codes_{names[group.name]}.max() + 1),")
        for dim in dict.fromkeys((group.effect_dim, group.sd_dim, *([group.pair_dim] if group.pairs else []))):
            lines.append(f"{_INDENT}{literal(dim)}: {literal([str(label) for label in layout.coords[dim]])},")
    return [*lines, "}"]


def _fixed_lines(layout: Layout, priors: Priors) -> list[str]:
    lines = variable("sigma", [priors.sigma], None, "sigma")
    if not layout.coef:
        return lines
    prior = priors.beta
    if prior is None or not prior.proper.any():
        return [*lines, 'beta = pm.Flat("beta", dims="coef")']
    mean, sd = prior.mean.tolist(), prior.sd.tolist()
    if prior.proper.all() and prior.basis is None:
        return [*lines, f'beta = pm.Normal("beta", mu={mean}, sigma={sd}, dims="coef")']
    own = np.flatnonzero(prior.proper).tolist()
    normal = f"pm.Normal.dist(mu={[mean[k] for k in own]}, sigma={[sd[k] for k in own]})"
    return [
        *lines,
        'beta = pm.Flat("beta", dims="coef")',
        *([] if prior.basis is None else [f"on = np.array({prior.basis.tolist()}) @ beta"]),
        f'pm.Potential("beta_prior", pm.logp({normal}, {"beta" if prior.basis is None else "on"}[{own}]).sum())',
    ]


def _group_lines(design: Design, group: GroupLayout, priors: Priors, name: str, centred: bool) -> list[str]:
    dims, b_name = f"dims=({literal(group.dim)}, {literal(group.effect_dim)})", literal(group.b)
    heading = printable(f"{group.labels.group}: {', '.join(group.labels.effects)}")
    lines = [f"# {heading}", *sd_lines(group, priors, name)]
    sd = f"sd_{name}[{group.sd_of_effect.tolist()}]" if group.shared else f"sd_{name}"
    if group.pairs:
        lines += correlation_lines(design, group, priors, name)
    factor = f"{sd}[:, None] * L_{name}"
    A = group_change(group, priors.changes)
    if A is not None:
        changed = [(k, change) for k in group.labels.terms if (change := priors.changes[k]) is not None]
        where = [place(design, k, design.terms[k].effects.index("Intercept"), change) for k, change in changed]
        about = printable(f"Sds and correlations {', '.join(where)}")
        lines.insert(1, f"# {about}; A takes the effects from there to the zeros of the columns.")
        return [*lines, *_at_zeros_lines(group, name, A, factor, centred)]
    if centred and group.pairs:
        size = len(group.labels.effects)
        return [*lines, f"b_{name} = pm.MvNormal({b_name}, mu=np.zeros({size}), chol={factor}, {dims})"]
    if centred:
        return [*lines, f"b_{name} = pm.Normal({b_name}, mu=0, sigma={sd}, {dims})"]
    b = f"z_{name} @ ({factor}).T" if group.pairs else f"z_{name} * {sd}"
    return [
        *lines,
        f"z_{name} = pm.Normal({literal(f'z_{group.name}')}, mu=0, sigma=1, {dims})",
        f"b_{name} = pm.Deterministic({b_name}, {b}, {dims})",
    ]


def _at_zeros_lines(group: GroupLayout, name: str, A: FloatArray, factor: str, centred: bool) -> list[str]:
    """Lines from the sds and correlations at the means of the columns to the effects at their zeros."""
    dims, size = f"dims=({literal(group.dim)}, {literal(group.effect_dim)})", len(A)
    first, (a, b) = [group.sd_of_effect.tolist().index(k) for k in range(len(group.sds))], group.pair_effects
    own = f"pm.MvNormal({literal(group.b_at_mean)}, mu=np.zeros({size}), chol=F, {dims})"
    z = f"z_{name} = pm.Normal({literal(f'z_{group.name}')}, mu=0, sigma=1, {dims})"
    sds = f"sds{f'[{first}]' if group.shared else ''}"
    return [
        f"F = {factor}",
        *([] if centred else [z]),
        f"at_mean = {own if centred else f'z_{name} @ F.T'}",
        f"A = np.array({A.tolist()})",
        f"b_{name} = pm.Deterministic({literal(group.b)}, at_mean @ A.T, {dims})",
        "rows = A @ F",
        "sds = pm.math.sqrt((rows**2).sum(axis=1))",
        f"pm.Deterministic({literal(group.sd)}, {sds}, dims={literal(group.sd_dim)})",
        f"corr = (rows[{a}] * rows[{b}]).sum(axis=1) / (sds[{a}] * sds[{b}])",
        f"pm.Deterministic({literal(group.corr)}, corr, dims={literal(group.pair_dim)})",
    ]


def _likelihood_lines(design: Design, layout: Layout, names: Mapping[str, str]) -> list[str]:
    parts = ["X @ beta"] if layout.coef else []
    parts += ["offset"] if design.offset is not None else []
    parts += [f"(Z_{name} * b_{name}[codes_{name}]).sum(axis=1)" for name in names.values()]
    scale = written_scale(design.residual)
    lines = [f"mu = {' + '.join(parts)}", f"pm.Normal({literal(layout.response)}, mu=mu, sigma={scale}, observed=y)"]
    if design.frequency is not None:
        copies = f"pm.logp(pm.Normal.dist(mu=mu, sigma={scale}), y)"
        lines.append(f'pm.Potential("further_copies", ((frequency - 1) * {copies}).sum())')
    return lines
