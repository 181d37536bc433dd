"""Linear functions of fixed and random effects as users write them: by names, or as rows of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.arguments import numbers_of, shown
from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels, group_labels
from bayeslmm.design.lookup import positions
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.types import BoolArray, FloatArray

_RANDOM = re.compile(r"(?:b_)?(?P<group>.+?)\[(?P<inside>.*)\]", re.DOTALL)
_RANDOM_KEY = "'Subject[308]', 'Subject[308, Days]' or ('Subject', '308', 'Days')"


@by_value
@dataclass(frozen=True, eq=False)
class EffectFunctions:
    """Coefficients of functions of the effects.

    Attributes
    ----------
    names : tuple of str
    fixed : FloatArray, shape (m, p)
    random : dict of str to FloatArray, each (m, J, c)
        Grouping factor to the coefficients of its effects, of those factors that have some.
    """

    names: tuple[str, ...]
    fixed: FloatArray
    random: dict[str, FloatArray]

    @property
    def predicts(self) -> BoolArray:
        """Which of the functions (m,) have a part in random effects."""
        found = np.zeros(len(self.names), dtype=bool)
        for own in self.random.values():
            found |= own.reshape(len(found), -1).any(axis=1)
        return found


def effect_functions(design: Design, L: Any) -> EffectFunctions:
    """Read what a user wrote as coefficients."""
    if not isinstance(L, Mapping):
        rows = np.atleast_2d(numbers_of("L", L, error=DesignError))
        if rows.ndim != 2 or rows.shape[1] != design.p or not len(rows):
            raise DesignError(
                f"L has shape {np.shape(L)}; as an array it needs one column for each of the {design.p} coefficients "
                f"({', '.join(design.fixed_names)}). Mappings name coefficients and random effects."
            )
        return EffectFunctions(tuple(f"row {i + 1}" for i in range(len(rows))), rows, {})
    if not L:
        raise DesignError("L is empty. Give names of coefficients and their weights, e.g. {'Intercept': 1, 'x': 5}.")
    several = [isinstance(value, Mapping) for value in L.values()]
    if any(several) and not all(several):
        raise DesignError(
            "L mixes weights and functions: give name to weight, or name of a function to such a mapping."
        )
    functions = {str(name): own for name, own in L.items()} if all(several) else {_sum(L): L}
    return _read(design, functions)


def _sum(weights: Mapping[Any, Any]) -> str:
    parts = []
    for name, weight in weights.items():
        label = f"{name[0]}[{', '.join(map(str, name[1:]))}]" if isinstance(name, tuple) and name else str(name)
        parts.append(label if isinstance(weight, int) and weight == 1 else f"{weight} {label}")
    return " + ".join(parts).replace("+ -1 ", "- ").replace("+ -", "- ")


def _read(design: Design, functions: Mapping[str, Mapping[Any, Any]]) -> EffectFunctions:
    fixed, random = np.zeros((len(functions), design.p)), dict[str, FloatArray]()
    groups = {labels.group: labels for labels in group_labels(design)}
    for i, (name, weights) in enumerate(functions.items()):
        for key, value in weights.items():
            weight = float(
                numbers_of(f"The weight of {shown(key)} in {shown(name)}", value, shape=(), error=DesignError)
            )
            own = positions(key, design.fixed_names) if isinstance(key, str) else []
            if own:
                fixed[i, own[0]] += weight
                continue
            group, j, c = _random_place(design, groups, key)
            size = (len(functions), len(groups[group].levels), len(groups[group].effects))
            random.setdefault(group, np.zeros(size))[i, j, c] += weight
    return EffectFunctions(tuple(functions), fixed, random)


def _random_place(design: Design, groups: Mapping[str, GroupLabels], key: Any) -> tuple[str, int, int]:
    """Grouping factor, level and effect that a key means."""
    parts = [str(part) for part in key] if isinstance(key, tuple) else None
    found = _RANDOM.fullmatch(key) if isinstance(key, str) else None
    if found is not None and found["group"] in groups:
        parts = [found["group"], found["inside"]]
    if not parts or parts[0] not in groups or len(parts) < 2:
        left_out = " It was left out because other columns span it." if key in design.aliased else ""
        raise DesignError(
            f"L names {shown(key)}, which is no coefficient and no random effect.{left_out} Coefficients are "
            f"{', '.join(design.fixed_names)}; random effects of {', '.join(groups)} are called as in {_RANDOM_KEY}."
        )
    labels, rest = groups[parts[0]], parts[1:]
    level, effect = (rest[0], None) if len(rest) == 1 else (rest[0], rest[1])
    if effect is None and level not in labels.levels and "," in level:
        level, effect = (part.strip() for part in level.rsplit(",", 1))
    if level not in labels.levels:
        raise DesignError(
            f"L names {shown(key)}, but {labels.group} has no level {level!r}. Levels: "
            f"{', '.join(labels.levels[:12])}{', ...' if len(labels.levels) > 12 else ''}."
        )
    if (effect is None and len(labels.effects) > 1) or (effect is not None and effect not in labels.effects):
        raise DesignError(
            f"L names {shown(key)}; {labels.group} has the effects {', '.join(labels.effects)}. Say which one: "
            f"'{labels.group}[{level}, {labels.effects[0]}]'."
        )
    c = 0 if effect is None else labels.effects.index(effect)
    return labels.group, labels.levels.index(level), c
