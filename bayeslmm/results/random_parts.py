"""Which random effects a prediction has: those of grouping factors, of terms, or some effects of a term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.arguments import labels, shown
from bayeslmm.design.design import Design
from bayeslmm.design.formula import Bar, parse_formula
from bayeslmm.design.newdata import Rows, known_recipe
from bayeslmm.design.recipe import training_evaluator
from bayeslmm.errors import BayesLMMError, DesignError, FormulaError
from bayeslmm.types import BoolArray

type Random = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None

_ASKED = "names of grouping factors or terms such as '(0 + Days | Subject)'"


@dataclass(frozen=True)
class RandomPart:
    """Random effects that are part of a prediction.

    Attributes
    ----------
    groups : tuple of str
        Grouping factors, in the order of the design.
    effects : mapping of int to BoolArray
        For the position of a term some of whose effects are left out, which of them are part.
    every_level_new : bool
        Whether levels are taken for ones never seen, whatever they are called.
    """

    groups: tuple[str, ...]
    effects: Mapping[int, BoolArray]
    every_level_new: bool = False

    def of(self, rows: Rows) -> Rows:
        """The rows with zeros in the columns of effects that are left out: these have no part in mean and error."""
        Z = {k: z * self.effects[k] if k in self.effects else z for k, z in rows.Z.items()}
        return replace(rows, Z=Z) if self.effects else rows


def random_part(design: Design, random: Random) -> RandomPart:
    """Read the argument ``random=`` of a prediction.

    Parameters
    ----------
    design : Design
    random : "all", "new", None, str, sequence of str, or mapping
        Grouping factors, terms in brackets (their effects have to be ones of the model), or grouping factors to names
        of effects.

    Raises
    ------
    DesignError
        Grouping factors or effects that the model does not have.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    >>> part = random_part(design, "(0 + Days | Subject)")
    >>> part.groups, part.effects[0].tolist()
    (('Subject',), [False, True])
    """
    every = tuple(design.groupings)
    if random is None:
        return RandomPart((), {})
    if isinstance(random, str) and random not in every and random in ("all", "new"):
        return RandomPart(every, {}, random == "new")
    if isinstance(random, Mapping):
        chosen = {group: _listed(names) for group, names in random.items()}
    else:
        chosen = _chosen(design, labels("random", [random] if isinstance(random, str) else random, error=DesignError))
    _check_groups(design, chosen)
    return _part(design, chosen)


def _listed(names: object) -> list[str] | None:
    if isinstance(names, str):
        return [names]
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return list(names)
    raise DesignError(
        f"random maps a grouping factor to {shown(names)}. Give names of its effects, e.g. "
        "random={'Subject': ['Intercept', 'Days']}."
    )


def _chosen(design: Design, asked: Sequence[str]) -> dict[str, list[str] | None]:
    """Grouping factors to names of effects; None for all of them."""
    chosen: dict[str, list[str] | None] = {}
    for name in asked:
        found = [(name, None)] if name in design.groupings or "|" not in name else _of_bars(design, name)
        for group, effects in found:
            before = chosen.get(group, [])
            chosen[group] = None if effects is None or before is None else [*before, *effects]
    return chosen


def _of_bars(design: Design, text: str) -> list[tuple[str, list[str] | None]]:
    """Grouping factors and effects that terms in the manner of lme4's ``re.form = ~ (0 + x | g)`` mean."""
    try:
        bars = parse_formula(f"y ~ 1 + {text.strip().removeprefix('~')}").bars
    except FormulaError as error:
        raise DesignError(f"random={text!r} cannot be read as random terms: {error.problem} Give {_ASKED}.") from error
    known = parse_formula(design.formula).bars
    return [(_group(known, bar), _effects(design, bar.left, text)) for bar in bars]


def _group(known: Sequence[Bar], bar: Bar) -> str:
    for other in known:
        if set(other.factors) == set(bar.factors):
            return other.group
    return bar.group


def _effects(design: Design, left: str, text: str) -> list[str]:
    if left.strip() == "1":
        return ["Intercept"]
    evaluator = training_evaluator(known_recipe(design), parse_formula(design.formula))
    try:
        return list(evaluator.columns(left)[1])
    except BayesLMMError as error:
        raise DesignError(f"In random={text!r}: {error}") from error


def _check_groups(design: Design, chosen: Mapping[str, object]) -> None:
    unknown = [name for name in chosen if name not in design.groupings]
    if unknown:
        raise DesignError(
            f"random names {', '.join(shown(name) for name in unknown)}, which is no grouping factor of the model. It "
            f"has {', '.join(map(repr, design.groupings))}; 'all', 'new' and None stand for all of them, for levels "
            f"never seen, and for no random effects; else give {_ASKED}."
        )


def _part(design: Design, chosen: Mapping[str, list[str] | None]) -> RandomPart:
    masks: dict[int, BoolArray] = {}
    for group, names in chosen.items():
        terms = {k: term for k, term in enumerate(design.terms) if term.group == group}
        known = {name for term in terms.values() for name in term.effects}
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise DesignError(
                f"random asks for effects of {group} that the model does not have: {', '.join(map(repr, unknown))}. "
                f"It has {', '.join(repr(name) for term in terms.values() for name in term.effects)}."
            )
        if names is not None:
            own = {k: np.array([name in names for name in term.effects]) for k, term in terms.items()}
            masks |= {k: mask for k, mask in own.items() if not mask.all()}
    return RandomPart(tuple(name for name in design.groupings if name in chosen), masks)
