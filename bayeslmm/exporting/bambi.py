"""Calls of bambi, whose random effects are independent of one another."""

from __future__ import annotations

from bayeslmm.design.names import literal
from bayeslmm.design.script import Script
from bayeslmm.exporting.named import NamedColumns, coding_name, named_columns, recoded
from bayeslmm.exporting.notes import INDICATORS, NET, SAMPLE_HERE, SAMPLED, missing, refuse_weights, rows_notes, title
from bayeslmm.exporting.parts import ModelParts, WrittenTerm
from bayeslmm.exporting.python_language import RESERVED, python_columns, python_group, python_sum
from bayeslmm.exporting.sheet import Sheet

_HEAD = ("import bambi as bmb", "import numpy as np", "import pandas as pd")


def bambi(parts: ModelParts) -> Script:
    """``bambi.Model``."""
    refuse_weights(parts, "bambi")
    columns = named_columns(parts, RESERVED)
    data = python_columns(parts, columns, "bambi", ordered=True)
    codings = {name: f"C({columns.renamed[name]}, Sum)" for name, f in parts.factors.items() if coding_name(f) == "sum"}
    notes = [
        "Priors are bambi's own, scaled by the sd of the response and of the columns: normal slopes, half-normal sds "
        'of effects, half-Student t for sigma. The same here: model.sample(priors="bambi").',
        SAMPLED,
    ]
    bars = []
    for part in parts.random:
        own, words = _bars(part, parts, columns, data)
        bars += own
        notes += words
    notes += recoded(parts, "bambi", ("treatment", "sum"))
    notes += [NET] if parts.offsets else []
    notes += rows_notes(parts, "bambi stops at missing values: rows with any are left out first.")
    formula = " + ".join([python_sum(parts.fixed, columns, codings), *bars])
    call = [
        f"model = bmb.Model({literal(f'{columns.response} ~ {formula}')}, {parts.data})",
        "posterior = model.fit(random_seed=1)",
    ]
    return Sheet(notes, _HEAD, data, call).script(title(parts, "bambi"), "python", "# ")


def _bars(part: WrittenTerm, parts: ModelParts, columns: NamedColumns, data: list[str]) -> tuple[list[str], list[str]]:
    """Random terms and a word on them; lines that make indicators are added to the data."""
    group = python_group(part, columns)
    if part.keyword == "id" and part.factor:
        cells = f"{group}_by_{columns.renamed[part.factor]}"
        by = f"{parts.data}[{literal(columns.renamed[part.factor])}].astype(str)"
        data.append(f'{parts.data}[{literal(cells)}] = {parts.data}[{literal(group)}].astype(str) + ":" + {by}')
        return [f"(1 | {cells})"], []
    if part.keyword not in ("us", "diag"):
        raise missing(part, "bambi", SAMPLE_HERE)
    lefts = ["1"] if part.intercept else []
    lefts += [f"0 + {columns.term(term, ':')}" for term in part.terms]
    if part.keyword == "diag" and not part.numeric and not part.factor:
        raise missing(part, "bambi", INDICATORS)
    if len(part.effects) == 1 or part.keyword == "diag":
        return [f"({left} | {group})" for left in lefts], []
    word = (
        f"{part.label}: bambi has no correlations between the effects of a level, so it is another model (here it is "
        f"that of {part.left} || {part.group})."
    )
    return [f"({columns.sum(part, ':')} | {group})"], [word]
