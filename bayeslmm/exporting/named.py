"""Plain names for columns and expressions, for languages whose formulas take no others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from bayeslmm.design.contrasts import Treatment
from bayeslmm.design.expressions import Name, Node
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.parts import FactorColumn, ModelParts, TermNodes, WrittenTerm

_WORD = re.compile(r"[A-Za-z0-9_]+")
_LONGEST = 30


@dataclass(frozen=True)
class NamedColumns:
    """Names of everything a formula may stand on.

    Attributes
    ----------
    of : dict of Node to str
        Operand, response (offsets taken off) or weights to its name.
    renamed : dict of str to str
        Column to its name there, all of them.
    made : dict of str to Node
        Name of a new column to its value.
    response : str
    weights : str
        Empty if there are none.
    """

    of: dict[Node, str]
    renamed: dict[str, str]
    made: dict[str, Node]
    response: str
    weights: str

    def term(self, nodes: TermNodes, joined: str) -> str:
        """A term, its operands joined by a sign."""
        return joined.join(self.of[node] for node in nodes)

    def sum(self, part: ModelParts | WrittenTerm, joined: str, without: str = "0") -> str:
        """The terms of a fixed part or left side behind the intercept, or behind what says that there is none."""
        return " + ".join(["1" if part.intercept else without, *(self.term(term, joined) for term in part.terms)])

    def group(self, part: WrittenTerm, joined: str) -> str:
        """A grouping factor, its columns joined by a sign."""
        return joined.join(self.renamed[name] for name in part.factors)


def named_columns(parts: ModelParts, reserved: Sequence[str] = ()) -> NamedColumns:
    """Give every column and expression of a model a plain name of its own, whatever the case of letters.

    Parameters
    ----------
    parts : ModelParts
    reserved : sequence of str
        Words that mean something else there, in small letters.
    """
    taken = set(reserved)
    renamed = {name: _free(name, taken) for name in parts.columns}
    made: dict[str, Node] = {}
    of: dict[Node, str] = {}
    for node in (parts.net_response, *parts.operands, *(() if parts.weights is None else (parts.weights,))):
        if node in of:
            continue
        if isinstance(node, Name):
            of[node] = renamed[node.name]
        else:
            of[node] = _free(_proposed(node), taken)
            made[of[node]] = node
    weights = "" if parts.weights is None else of[parts.weights]
    return NamedColumns(of, renamed, made, of[parts.net_response], weights)


def _proposed(node: Node) -> str:
    text = getattr(node, "text", "")
    return text or "response_"


def _free(name: str, taken: set[str]) -> str:
    """A name of letters, digits and underscores that is not taken; it is taken then."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "_".join(_WORD.findall(plain))[:_LONGEST].strip("_") or "column"
    plain = plain if plain[0].isalpha() else f"c{plain}"
    free, count = plain, 1
    while free.lower() in taken:
        count += 1
        free = f"{plain}_{count}"
    taken.add(free.lower())
    return free


def recoded(parts: ModelParts, package: str, known: Sequence[str]) -> list[str]:
    """Words on factors whose contrasts a package does not have: harmless where any coding gives the same fit.

    Parameters
    ----------
    parts : ModelParts
    package : str
    known : sequence of str
        Names of the contrasts that it has.

    Raises
    ------
    ArgumentError
        Effects of the factor are independent or share a variance: then the coding is part of the model.
    """
    found = [name for name, factor in parts.factors.items() if coding_name(factor) not in known]
    for part in parts.random:
        used = {node.name for term in part.terms for node in term if isinstance(node, Name)}
        odd = sorted(used & set(found))
        if odd and part.keyword != "us" and not part.factor:
            raise ArgumentError(
                f"{package} has no contrasts like those of {', '.join(odd)}, and in {part.label} they are part of the "
                "model. Make the columns of the contrasts in the data first."
            )
    if not found:
        return []
    return [
        f"{', '.join(found)}: coefficients are differences from the first level there, not by the contrasts of this "
        "model; fitted values, variances and the criterion are the same (but for the criterion of REML, which depends "
        "on the coding by a constant)."
    ]


def coding_name(factor: FactorColumn) -> str:
    """Name of the contrasts of a factor: treatment, reference (another than the first level), own, sum, ..."""
    coding = factor.coding
    if coding is None:
        return "poly" if factor.ordered else "treatment"
    if isinstance(coding, str):
        return coding
    if isinstance(coding, Treatment):
        return "treatment" if coding.reference is None else "reference"
    return "own"
