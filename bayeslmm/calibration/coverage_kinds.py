"""Which intervals of which parameters a design has, and what each is an interval of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayeslmm.arguments import choice, labels
from bayeslmm.calibration.interval_ends import coefficient_ends
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.spectral import spectrum
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml.many import optimise_many
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.profiles import choose_parameters
from bayeslmm.results.truth import Truth

# As `confint`, `coefficients` and the tables of posteriors call them.
LIKELIHOOD = ("wald", "profile", "pivot", "satterthwaite", "kenward-roger")
POSTERIOR = ("hdi", "equal-tailed")
KINDS = (*LIKELIHOOD, *POSTERIOR)
DERIVED = ("ratio", "icc")


@dataclass(frozen=True)
class Kinds:
    """What is computed of every response.

    Attributes
    ----------
    rows : tuple of (Parameter, str)
        Parameters with the kinds of their intervals, in the order of the table.
    notes : tuple of str
        What was left out, and why.
    """

    rows: tuple[tuple[Parameter, str], ...]
    notes: tuple[str, ...]

    def of_kind(self, kind: str) -> list[Parameter]:
        """Parameters that have intervals of one kind."""
        return [p for p, own in self.rows if own == kind]


def read_kinds(intervals: Any) -> tuple[str, ...] | None:
    """The kinds that a user names; None for those that apply.

    Raises
    ------
    DesignError
    """
    if intervals is None:
        return None
    asked = labels("intervals", intervals, error=DesignError)
    if not asked:
        raise DesignError(f"intervals={intervals!r} names no kind of interval. It takes some of {', '.join(KINDS)}.")
    known = [choice("intervals", kind.replace("_", "-"), KINDS, DesignError) for kind in asked]
    return tuple(dict.fromkeys(known))


def choose_rows(cp: SummedDesign, truth: Truth, kinds: tuple[str, ...] | None, chosen: Any, reml: bool) -> Kinds:
    """Parameters and kinds of intervals that go together.

    Parameters
    ----------
    cp : SummedDesign
    truth : Truth
    kinds : tuple of str or None
        None for all of the likelihood that the design has.
    chosen : str, sequence of str or None
        Labels, as in `confint`.
    reml : bool

    Raises
    ------
    DesignError
        A kind that was asked for by name has no interval for any of the parameters.
    """
    known = choose_parameters(cp.design, chosen)
    found: dict[tuple[Parameter, str], None] = {}
    notes: list[str] = []
    for kind in LIKELIHOOD if kinds is None else kinds:
        try:
            own, why = _parameters_of(cp, truth, kind, known, chosen is None, reml)
        except (DesignError, FitError) as error:
            own, why = [], [f"{kind}: {error}"]
        if not own and kinds is not None:
            reason = f" {why[0]}" if why else f" It is for {_ABOUT[kind]}."
            raise DesignError(f"There is no interval {kind!r} for {', '.join(p.label for p in known)}.{reason}")
        notes += why
        found |= {(p, kind): None for p in own}
    undefined = [p.label for p, _ in found if np.isnan(truth.value(p))]
    notes += [f"{name} has no true value: a standard deviation is 0." for name in dict.fromkeys(undefined)]
    rows = [row for row in found if row[0].label not in undefined]
    if not rows:
        raise DesignError(f"No interval is left to study. {' '.join(notes)}")
    place = {p.label: i for i, p in enumerate(_ordered(cp, [p for p, _ in rows]))}
    return Kinds(tuple(sorted(rows, key=lambda row: (place[row[0].label], KINDS.index(row[1])))), tuple(notes))


_ABOUT = {
    "wald": "parameters of the model",
    "profile": "parameters of the model",
    "pivot": "ratio_g[x] and icc_g[x]",
    "satterthwaite": "fixed effects",
    "kenward-roger": "fixed effects",
    "hdi": "parameters of the model but ratios",
    "equal-tailed": "parameters of the model but ratios",
}


def _ordered(cp: SummedDesign, chosen: Sequence[Parameter]) -> list[Parameter]:
    """Each parameter once: those of the model in its order, each sd followed by its ratio."""
    own = {p.label: i for i, p in enumerate(parameters(cp.design))}

    def key(p: Parameter) -> tuple[int, int]:
        if p.kind in DERIVED:
            return own[f"sd_{p.label.partition('_')[2]}"], 1 + DERIVED.index(p.kind)
        return own[p.label], 0

    return sorted({p.label: p for p in chosen}.values(), key=key)


def _parameters_of(
    cp: SummedDesign, truth: Truth, kind: str, known: Sequence[Parameter], every: bool, reml: bool
) -> tuple[list[Parameter], list[str]]:
    """Of the parameters those with an interval of a kind, and what is to be said of others."""
    if kind == "pivot" and cp.design.residual.names:
        raise DesignError("exact pivots are those of independent residuals of equal variance.")
    if kind == "pivot":
        return _pivots(cp, known, every)
    if kind in POSTERIOR:
        return [p for p in known if p.kind not in DERIVED], []
    structured = bool(cp.design.residual.names)
    if kind in ("wald", "profile"):
        return [p for p in known if not (structured and p.kind in DERIVED)], []
    fixed = [p for p in known if p.kind == "fixed"]
    if fixed:
        _try(kind, cp, truth, reml)
    return fixed, []


def _pivots(cp: SummedDesign, known: Sequence[Parameter], every: bool) -> tuple[list[Parameter], list[str]]:
    asked = [p for p in known if p.kind in DERIVED]
    if every:
        sds = [p for p in known if p.kind == "sd"]
        asked = [replace(p, kind=kind, label=f"{kind}_{p.label[3:]}") for p in sds for kind in DERIVED]
    found, refused = [], dict[str, None]()
    for p in asked:
        try:
            if spectrum(cp, p.position, p.effects).f < 1:
                raise DesignError(f"{p.label} has no residual to compare its variance with.")
            found.append(p)
        except DesignError as error:
            refused[f"pivot: {error}"] = None
    return found, list(refused)


def _try(kind: str, cp: SummedDesign, truth: Truth, reml: bool) -> None:
    """Raise what a method has against the design, before any response is simulated."""
    if kind == "kenward-roger" and not reml:
        raise DesignError("the adjustment is about REML estimates, and these are by maximum likelihood.")
    if cp.design.residual.names:
        return
    Y = cp.design.y[:, None]
    optima = optimise_many(cp, Y, reml)
    check: dict[str, Callable[[], object]] = {
        "kenward-roger": lambda: coefficient_ends("kenward-roger", cp, Y, optima, 0.95),
        "satterthwaite": lambda: coefficient_ends("satterthwaite", cp, Y, optima, 0.95, reml),
    }
    check[kind]()
