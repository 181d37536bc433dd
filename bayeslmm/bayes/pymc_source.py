"""Source text of the hierarchical model in PyMC, as one would write it by hand."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from bayeslmm.bayes.forms import Form
from bayeslmm.bayes.layout import Layout, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_residuals import residual_arrays
from bayeslmm.bayes.pymc_statements import model_statements, own_names
from bayeslmm.design.design import Design
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.names import literal, printable
from bayeslmm.design.script import Script

_INDENT = " " * 4
# More levels are numbered in the source, not named.
_LEVELS = 100


@dataclass(frozen=True)
class _Data:
    """Lines that make the arrays from a data frame ``df``, and what has to be given as an array."""

    lines: tuple[str, ...]
    given: tuple[str, ...]


def write_pymc_source(design: Design, priors: Priors, form: Form | Mapping[str, Form] = "noncentered") -> Script:
    """Runnable source of the model that `build_pymc_model` builds.

    Parameters
    ----------
    design : Design
    priors : Priors
    form : {"noncentered", "centered"} or mapping
        Of all grouping factors, or grouping factor to its form.

    Returns
    -------
    Script
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
        "obs": range(len(y)),
        "coef": ["Intercept"],
        "Batch": ["A", "B", "C", "D", "E", "F"],
        "Batch__effect": ["Intercept"],
    }
    <BLANKLINE>
    with pm.Model(coords=coords) as model:
        sigma = pm.HalfNormal("sigma", sigma=50.0)
        X = pm.Data("X", X, dims=("obs", "coef"))
        beta = pm.Flat("beta", dims="coef")
    <BLANKLINE>
        # Batch: Intercept
        sd_Batch = pm.HalfNormal("sd_Batch", sigma=[40.0], dims="Batch__effect")
        z_Batch = pm.Normal("z_Batch", mu=0.0, sigma=1.0, dims=("Batch", "Batch__effect"))
        b_Batch = pm.Deterministic("b_Batch", z_Batch * sd_Batch, dims=("Batch", "Batch__effect"))
        Z_Batch = pm.Data("Z_Batch", Z_Batch, dims=("obs", "Batch__effect"))
        codes_Batch = pm.Data("codes_Batch", codes_Batch, dims="obs")
    <BLANKLINE>
        mu = X @ beta + (Z_Batch * b_Batch[codes_Batch]).sum(axis=1)
        pm.Normal("Yield", mu=mu, sigma=sigma, observed=y, dims="obs")
    <BLANKLINE>
    """
    layout = make_layout(design)
    names, parts = own_names(layout), model_statements(design, priors, form)
    data = _data(design, layout, names)
    code = [str(statement) for part in parts for statement in part.statements]
    lines = _head_lines("\n".join([*code, *data.lines]))
    if data.given:
        lines += ["", "# Arrays that are not columns of a data frame have to exist:"]
        lines += [f"#   {printable(given)}" for given in data.given]
    lines += ["", *data.lines, "", *_coords_lines(layout, names), "", "with pm.Model(coords=coords) as model:"]
    for k, part in enumerate(parts):
        own = [*(f"# {printable(comment)}" for comment in part.comments), *map(str, part.statements)]
        lines += [*([""] if k else []), *(f"{_INDENT}{line}" for line in own)]
    return Script("\n".join(lines) + "\n", "python")


def _head_lines(text: str) -> list[str]:
    """Imports and the functions that a text calls."""
    helpers, used = _functions(), _names(text)
    chosen = list[str]()
    while len(chosen) < len(found := [helper for name, helper in helpers.items() if name in used]):
        chosen = found
        used |= _names("\n".join(chosen))
    lines = ["import numpy as np", *(["import pandas as pd"] if "pd" in used else []), "import pymc as pm"]
    lines += ["import pytensor.tensor as pt"] if "pt" in used else []
    return [*lines, *(line for helper in chosen for line in ("", "", *helper.splitlines()))]


def _names(text: str) -> set[str]:
    """Names in the code, not words in labels."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


@cache
def _functions() -> dict[str, str]:
    """Text of the functions that models call; it is read, not imported, since that would load PyMC."""
    text = Path(__file__).with_name("pymc_functions.py").read_text(encoding="utf-8")
    found = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    return {node.name: ast.get_source_segment(text, node) or "" for node in found}


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
        column = design.recipe.weights if design.recipe is not None and name == "known_sd" else None
        if column is not None and column.isidentifier():
            lines.append(f"{name} = df[{literal(column)}].to_numpy(float)")
            continue
        place = name if hasattr(design, name) else f"residual.data()[{literal(name)}]"
        given.append(f"{name} (n,), model.design.{place}")
    if further := residual_arrays(design):
        given.append(f"{', '.join(further)}, bayeslmm.bayes.pymc_residuals.residual_arrays(model.design)")
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
    """The coords of the model: labels as they are, but for rows and for levels beyond a number that can be read."""
    positions = np.array_equal(layout.obs, np.arange(len(layout.obs)))
    coords = {"obs": "range(len(y))" if positions else "df.index"}
    own = {group.dim: names[group.name] for group in layout.groups}
    for dim, labels in layout.coords.items():
        if dim in own and len(labels) > _LEVELS:
            coords[dim] = f"range(codes_{own[dim]}.max() + 1)"
        elif dim != "obs":
            coords[dim] = literal([str(label) for label in labels])
    return ["coords = {", *(f"{_INDENT}{literal(dim)}: {labels}," for dim, labels in coords.items()), "}"]
