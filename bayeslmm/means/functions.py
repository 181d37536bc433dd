"""Linear functions under labels, and what can be made of them whichever engine they are of: pairs, contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from bayeslmm.arguments import choice, flag, real, shown
from bayeslmm.arguments import labels as texts
from bayeslmm.design.groups import level_name
from bayeslmm.errors import DesignError
from bayeslmm.means.adjust import ADJUSTMENTS
from bayeslmm.means.averages import RowLabels, text_of
from bayeslmm.means.contrast_methods import DEFAULTS, ContrastSet, contrast_set, method_name
from bayeslmm.means.links import Link
from bayeslmm.means.sources import FunctionSource
from bayeslmm.types import FloatArray

type Kind = Literal["mean", "slope", "contrast"]
type Side = Literal["two-sided", "greater", "less", "noninferiority", "nonsuperiority", "equivalence"]

_SIDES: tuple[Side, ...] = get_args(Side.__value__)


@dataclass(frozen=True)
class Display:
    """How functions are shown and judged.

    Attributes
    ----------
    title : str
    level : float
        Of intervals.
    adjust : str
        For the number of functions of a group.
    kind : {"mean", "slope", "contrast"}
    link : Link or None
        Scale that the functions are on, if it is not that of the response.
    response : bool
        Whether they are shown in units of the response.
    ratio : bool
        Whether they are differences whose inverse is a ratio.
    variance : float or None
        Of the errors about a mean on the transformed scale, for means adjusted for its bias; nan: each draw's own.
    means : int
        Means of which the functions of a group are all pairs; 0 if they are something else.
    method : str
        Of degrees of freedom, in words.
    notes : tuple of str
    """

    title: str
    level: float
    adjust: str = "none"
    kind: Kind = "mean"
    link: Link | None = None
    response: bool = False
    ratio: bool = False
    variance: float | None = None
    means: int = 0
    method: str = ""
    notes: tuple[str, ...] = ()

    @property
    def scale(self) -> Link | None:
        """The link whose inverse the numbers go through."""
        return self.link if self.response and (self.kind == "mean" or self.ratio) else None


@dataclass(frozen=True)
class LabelledFunctions:
    """Functions under labels; see `MarginalMeans` and `PosteriorMeans`.

    Attributes
    ----------
    source : FunctionSource
    labels : RowLabels
    display : Display
    """

    source: FunctionSource
    labels: RowLabels
    display: Display

    def pairs(
        self,
        adjust: str = "tukey",
        *,
        reverse: bool = False,
        by: str | Sequence[str] | None = None,
        simple: str | Sequence[str] | None = None,
    ) -> Self:
        """All pairwise differences within the groups; see `contrast`.

        Parameters
        ----------
        adjust : str
        reverse : bool
            Later minus earlier rows.
        by, simple : str or sequence of str, optional
        """
        return self.contrast("pairwise", adjust, reverse=reverse, by=by, simple=simple)

    def contrast(
        self,
        method: str | Mapping[str, Any] | None = None,
        adjust: str | None = None,
        *,
        reference: Any = None,
        reverse: bool = False,
        by: str | Sequence[str] | None = None,
        simple: str | Sequence[str] | None = None,
        interaction: Sequence[str] | None = None,
    ) -> Self:
        """Contrasts of the rows within every group.

        Parameters
        ----------
        method : str or mapping
            ``"pairwise"``; ``"dunnett"`` (all against one); ``"consecutive"`` (each with the one before);
            ``"poly"`` (orthogonal polynomials of equally spaced levels); ``"effect"`` (each with the mean of all);
            ``"others"`` (each with the mean of the others); ``"mean_change"`` (means above and below every step); or
            name of a contrast to its coefficients, a list, or a mapping of some means to numbers.
        adjust : str, optional
            For the number of contrasts: ``"tukey"`` (all pairs), ``"mvt"`` (exact for any correlation), ``"sidak"``,
            ``"bonferroni"``, ``"holm"``, ``"hochberg"``, ``"hommel"``, ``"fdr"``, ``"scheffe"``, ``"none"``. By
            default what suits the method. A posterior's probabilities need none and ignore it.
        reference : object, optional
            The level that ``"dunnett"`` compares with; the first by default.
        reverse : bool
        by : str or sequence of str, optional
            Columns whose combinations are groups, in place of those of the means; ``()`` for one group.
        simple : str or sequence of str, optional
            The columns to compare, within the combinations of all others.
        interaction : sequence of str, optional
            A method for every column, whose products are the contrasts.

        Raises
        ------
        DesignError
            Unknown names, a wrong number of coefficients, or fewer than two means in a group.
        """
        labels = self._regrouped(by, simple)
        if interaction is not None:
            return self._interaction(labels, interaction, adjust)
        if method is None:
            raise DesignError("contrast() needs a method, e.g. 'pairwise', 'dunnett', or {'b - a': [-1, 1, 0]}.")
        flag("reverse", reverse, DesignError)
        groups, blocks = labels.groups, []
        for rows in groups:
            names = [labels.name(i) for i in rows]
            if len(names) < 2 and any(len(others) > 1 for others in groups):
                blocks.append(ContrastSet(np.zeros((0, len(names))), (), pairs=True))
                continue
            _check_group(labels, names, method)
            place = 0 if reference is None else _reference(reference, names)
            blocks.append(contrast_set(method, names, reverse, place))
        default = "none" if isinstance(method, Mapping) else DEFAULTS[method_name(method)]
        return self._contrasted(labels, blocks, adjustment(adjust, default))

    def _regrouped(self, by: str | Sequence[str] | None, simple: str | Sequence[str] | None) -> RowLabels:
        if by is None and simple is None:
            return self.labels
        if by is not None and simple is not None:
            raise DesignError("by= and simple= say the same in two ways: give one of them.")
        columns = tuple(self.labels.columns)
        given = texts("by" if simple is None else "simple", by if simple is None else simple, columns, DesignError)
        own = given if simple is None else tuple(name for name in columns if name not in given)
        return replace(self.labels, by=own)

    def _contrasted(self, labels: RowLabels, blocks: Sequence[ContrastSet], adjust: str) -> Self:
        total = sum(len(block.C) for block in blocks)
        C = np.zeros((total, self.labels.size))
        groups = list[int]()
        for rows, block in zip(labels.groups, blocks, strict=True):
            C[len(groups) : len(groups) + len(block.C), rows] = block.C
            groups += [int(rows[0])] * len(block.C)
        joiner = " / " if self._ratios(C) else " - "
        parted = [parts for block in blocks for parts in block.names]
        names = [joiner.join(map(_bracketed, parts) if len(parts) > 1 else parts) for parts in parted]
        columns: dict[str, tuple[Any, ...]] = {"contrast": tuple(names)}
        columns |= {name: tuple(self.labels.columns[name][i] for i in groups) for name in labels.by}
        means = max(map(len, labels.groups)) if all(block.pairs for block in blocks) else 0
        return self._made(C, RowLabels(columns, labels.by, total), adjust, means)

    def _ratios(self, C: FloatArray) -> bool:
        display = self.display
        known = display.link is not None and bool(display.link.ratio) and display.response
        return known and np.allclose(C.sum(axis=1), 0.0, atol=1e-12)

    def _made(self, C: FloatArray, labels: RowLabels, adjust: str, means: int = 0) -> Self:
        display = self.display
        ratio = self._ratios(C)
        notes = display.notes
        if display.response and display.link is not None and not ratio:
            notes = (
                *notes,
                f"Contrasts are on the {display.link.name} scale; regrid() before contrasts gives differences of "
                f"{display.link.response}.",
            )
        shown = replace(
            display,
            title=_contrast_title(display, ratio),
            kind="contrast",
            adjust=adjust,
            ratio=ratio,
            means=means,
            notes=notes,
            variance=None,
        )
        return replace(self, source=self.source.combined(C), labels=labels, display=shown)

    def _interaction(self, labels: RowLabels, methods: Sequence[str], adjust: str | None) -> Self:
        own = labels.own
        methods = texts("interaction", methods, error=DesignError)
        if len(methods) != len(own):
            raise DesignError(
                f"interaction={shown(methods)} needs a method for each of the {len(own)} columns "
                f"{', '.join(own)}, e.g. interaction={['consecutive'] * len(own)}."
            )
        total = list[FloatArray]()
        columns: dict[str, list[Any]] = {f"{name}_{method_name(m)}": [] for name, m in zip(own, methods, strict=True)}
        columns |= {name: [] for name in labels.by}
        for rows in labels.groups:
            values = [tuple(dict.fromkeys(labels.columns[name][i] for i in rows)) for name in own]
            sets = [contrast_set(m, [*map(text_of, v)]) for m, v in zip(methods, values, strict=True)]
            at = [[v.index(labels.columns[name][i]) for i in rows] for name, v in zip(own, values, strict=True)]
            for places in np.ndindex(*(len(s.C) for s in reversed(sets))):
                chosen = places[::-1]
                C = np.zeros(self.labels.size)
                C[rows] = np.prod([s.C[a, b] for s, a, b in zip(sets, chosen, at, strict=True)], axis=0)
                total.append(C)
                for column, s, a in zip(columns, sets, chosen, strict=False):
                    columns[column].append(" - ".join(s.names[a]))
                for name in labels.by:
                    columns[name].append(labels.columns[name][rows[0]])
        matrix = np.array(total).reshape(len(total), self.labels.size)
        rows_ = RowLabels({name: tuple(values) for name, values in columns.items()}, labels.by, len(matrix))
        return self._made(matrix, rows_, adjustment(adjust, "none"))


def asked_test(null: float, delta: float, side: Side) -> tuple[float, float, Side]:
    """What a test is asked for: the number, the margin, the side.

    Raises
    ------
    DesignError
        An unknown side, no numbers, or no margin where one is needed.
    """
    null = real("null", null, error=DesignError)
    delta = real("delta", delta, least=0.0, error=DesignError)
    side = choice("side", side, _SIDES, DesignError)
    if side in _SIDES[3:] and not delta > 0:
        raise DesignError(f"side={side!r} needs a margin: delta= says what difference would not matter.")
    return null, delta, side


def adjustment(adjust: str | None, default: str) -> str:
    """The name of an adjustment, also from what users of R type."""
    habits = {"BH": "fdr", "bh": "fdr", "dunnett": "mvt", "dunnettx": "mvt", "bonf": "bonferroni"}
    if adjust is None:
        return default
    known = habits.get(adjust, adjust) if isinstance(adjust, str) else adjust
    return choice("adjust", known, ADJUSTMENTS, DesignError)


def _check_group(labels: RowLabels, names: Sequence[str], method: Any) -> None:
    if len(names) > 1:
        return
    own = ", ".join(labels.own) or "nothing"
    inside = f" within every combination of {', '.join(labels.by)}" if labels.by else ""
    raise DesignError(
        f"There is one mean ({names[0]}) to compare{inside}: contrasts need two or more. What varies is {own}; ask for "
        "means of a factor with several levels, give a number several values (at={'x': [1, 2]}), or compare other "
        "columns (by=, simple=)."
    )


def _reference(reference: Any, names: Sequence[str]) -> int:
    text = level_name(reference)
    if text in names:
        return list(names).index(text)
    raise DesignError(f"reference={shown(reference)} is none of the means. They are: {', '.join(names[:20])}.")


def _bracketed(name: str) -> str:
    """A name that could be taken for a difference in brackets."""
    return f"({name})" if " - " in name or " / " in name else name


def _contrast_title(display: Display, ratio: bool) -> str:
    about = "means" if display.kind == "mean" else "slopes" if display.kind == "slope" else "contrasts"
    if not ratio or display.link is None:
        return f"Contrasts of {about}"
    return "Odds ratios" if display.link.ratio == "odds ratio" else f"Ratios of {about}"
