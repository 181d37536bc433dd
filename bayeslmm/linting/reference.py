"""What formulae makes of a text, asked for where nothing in it can do harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulae import design_matrices

from bayeslmm.design.algebra import operand_node, operand_places
from bayeslmm.design.expressions import Call, Name, Node, Number, Raised, walk
from bayeslmm.design.functions import VALUES, find_function
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

# Powers of plain numbers up to this are computed as integers.
_LARGEST_POWER = 64
# Functions that bambi gives formulae, and those of which other rules say that it has none.
_IN_BAMBI: Mapping[str, Any] = {
    "np": np,
    **{
        name: getattr(np, name)
        for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")
    },
}


def columns_of_formulae(columns: Mapping[str, pd.Series], text: str, part: str) -> FloatArray | None:
    """What formulae makes of a text that could be evaluated here; None if it stops (other rules say why)."""
    size = len(next(iter(columns.values())))
    frame = pd.DataFrame({name: series.reset_index(drop=True) for name, series in columns.items()})
    frame = frame.assign(y_=np.zeros(size), one_=["a"] * size)
    if not _harmless(text):
        return None
    try:
        with np.errstate(all="ignore"):
            answer = getattr(design_matrices(text, frame, extra_namespace=_IN_BAMBI), part)
            matrix = answer.design_matrix
    except Exception:
        return None
    dense: Callable[[], Any] | None = getattr(matrix, "toarray", None)
    return np.asarray(dense() if dense else matrix, dtype=float).reshape(size, -1)


def _harmless(text: str) -> bool:
    """Whether formulae may evaluate a text: it would follow any chain of attributes, and take any power of integers."""
    tokens = tokenize(text)
    if any(t.kind == "name" and t.text.startswith("np.") and not _known_name(t.text) for t in tokens):
        return False
    calls = [operand_node(tokens[start:end]) for start, end in operand_places(tokens)]
    return not any(_endless(part) for call in calls for part in walk(call))


def _known_name(name: str) -> bool:
    try:
        return name in VALUES or bool(find_function(name, {}))
    except DesignError:
        return False


def _endless(node: Node) -> bool:
    """Whether formulae could end in a power of plain numbers without end, or in a spline that ends the interpreter."""
    if isinstance(node, Call) and node.function == "bs":
        return len(node.arguments) > 2 or any(name == "degree" for name, _ in node.keywords)
    if not isinstance(node, Raised) or any(isinstance(part, Name) for part in walk(node)):
        return False
    match node:
        case Raised(Number(), Number(exponent)):
            return exponent > _LARGEST_POWER
    return True
