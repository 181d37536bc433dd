"""Which form the random effects of a PyMC model are written in, and why.

Centred effects b ~ N(0, sd^2) sample well where the data say much about each of them; non-centred ones, b = sd z, where
they say little (Papaspiliopoulos, Roberts & Skold 2007, Statistical Science 22, 59-73). What decides is the
information ratio ``n_i sd^2 / sigma^2``: the prior variance of an effect over the variance of its estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from bayeslmm.arguments import mapping, shown
from bayeslmm.design.design import Design
from bayeslmm.design.tokens import respelled
from bayeslmm.errors import PriorError
from bayeslmm.likelihood.within import level_products
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import FloatArray

type Form = Literal["noncentered", "centered"]

FORMS = ("noncentered", "centered", "auto", "collapsed")
# Information ratio from which the centred form is chosen: posterior sds near zero, where it fails, are then out of
# reach, and the dependence of non-centred effects on their sd costs more than the funnel.
CENTRED_FROM = 10.0
# Fewer levels leave the sd so uncertain that it comes near zero whatever its estimate.
FEWEST_LEVELS = 8


@dataclass(frozen=True)
class FormChoice:
    """The form of one grouping factor's effects.

    Attributes
    ----------
    group : str
        Grouping factor.
    form : {"noncentered", "centered"}
    ratio : float
        Information ratio ``n_i sd^2 / sigma^2`` at the REML fit: median over levels, of the direction in the space of
        the effects about which the data say least beside the prior.
    levels : int
    """

    group: str
    form: Form
    ratio: float
    levels: int

    @property
    def reason(self) -> str:
        """Why, in words."""
        ratio = f"information ratio n_i sd^2/sigma^2 = {self.ratio:.3g}"
        if self.form == "centered":
            return f"{ratio} at the REML fit (at least {CENTRED_FROM:g}): the data say much about each level"
        if self.ratio >= CENTRED_FROM:
            return f"{ratio}, but {self.levels} levels leave the sd uncertain down to zero"
        if self.ratio == 0:
            return "a variance of its effects is zero at the REML fit, where the centred form fails"
        return f"{ratio} at the REML fit (below {CENTRED_FROM:g}): the prior says much beside the data"

    def __str__(self) -> str:
        return f"{self.group}: {self.form}; {self.reason}"


def resolve_forms(
    design: Design,
    form: str | Mapping[str, str],
    fitted: Callable[[], Sequence[FloatArray]],
    lam: Callable[[], FloatArray] = lambda: NO_PARAMETERS,
) -> dict[str, Form]:
    """Form of every grouping factor from the user's ``form=``.

    Parameters
    ----------
    design : Design
    form : {"noncentered", "centered", "auto"} or mapping
        Of grouping factors, or of random terms as written, which share their form within a factor, to one of these.
    fitted : callable
        Gives the relative factors of a REML fit, which only ``"auto"`` needs.
    lam : callable
        Its parameters of the residual structure.

    Raises
    ------
    PriorError
        An unknown form; a mapping that leaves a grouping factor out, names one that does not exist, or gives two terms
        of one factor different forms.
    """
    groups = tuple(dict.fromkeys(term.group for term in design.terms))
    if not isinstance(form, str):
        mapping("form", form, "a word, or a mapping of grouping factors to forms", PriorError)
    given = dict.fromkeys(groups, form) if isinstance(form, str) else _by_group(design, form)
    if set(given) != set(groups):
        raise PriorError(
            f"form has the keys {', '.join(map(repr, given))}, but the grouping factors are "
            f"{', '.join(map(repr, groups))}. Give each its form, or one word for all."
        )
    for value in given.values():
        if not isinstance(value, str) or value not in FORMS[:-1]:
            raise PriorError(
                f"form={shown(value)} is unknown. Use {', '.join(map(repr, FORMS[:-1]))} or {FORMS[-1]!r}."
            )
    if "auto" in given.values():
        chosen = {choice.group: choice.form for choice in choose_forms(design, fitted(), lam())}
        given = {group: chosen[group] if value == "auto" else value for group, value in given.items()}
    return cast(dict[str, Form], given)


def _by_group(design: Design, form: Mapping[str, str]) -> dict[str, str]:
    """Forms by grouping factor, some of which may be given by the terms that have it."""
    group_of = {respelled(term.label): term.group for term in design.terms}
    out: dict[str, str] = {}
    for key, value in form.items():
        group = group_of.get(respelled(key), key) if isinstance(key, str) else key
        if group in out and out[group] != value:
            terms = ", ".join(term.label for term in design.terms if term.group == group)
            raise PriorError(
                f"form gives {terms} the forms {out[group]!r} and {value!r}, but the effects of one grouping factor "
                f"are one variable of the model: give {group!r} one form."
            )
        out[group] = value
    return out


def choose_forms(
    design: Design, terms: Sequence[FloatArray], lam: FloatArray = NO_PARAMETERS
) -> tuple[FormChoice, ...]:
    """Form of every grouping factor's effects from the information ratio at a fit.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors of a REML fit on the user's columns, terms in the order of the formula.
    lam : FloatArray, shape (k,)
        Its parameters of the residual structure.

    Raises
    ------
    DesignError
        Residuals of different levels of a factor depend on one another.

    Returns
    -------
    tuple of FormChoice
        Grouping factors in order of first appearance.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    >>> print(*choose_forms(model.design, model.fit().optimum.terms))
    Subject: noncentered; information ratio n_i sd^2/sigma^2 = 1.7 at the REML fit (below 10): the prior says much \
beside the data
    """
    return tuple(_choice(design, group, terms, lam) for group in dict.fromkeys(term.group for term in design.terms))


def _choice(design: Design, group: str, terms: Sequence[FloatArray], lam: FloatArray) -> FormChoice:
    ratio, levels = information_ratio(design, group, terms, lam), design.groupings[group].n_levels
    form: Form = "centered" if ratio >= CENTRED_FROM and levels >= FEWEST_LEVELS else "noncentered"
    return FormChoice(group, form, ratio, levels)


def information_ratio(
    design: Design, group: str, terms: Sequence[FloatArray], lam: FloatArray = NO_PARAMETERS
) -> float:
    """Smallest eigenvalue of ``T' Z_i' W Z_i T``, median over the levels i of a grouping factor."""
    grouping = design.groupings[group]
    own = [(term, T) for term, T in zip(design.terms, terms, strict=True) if term.group == group]
    scaled = design.whitened(np.concatenate([term.Z @ T for term, T in own], axis=1), lam, within=grouping)
    information = level_products(grouping.codes, scaled, scaled, grouping.n_levels)
    smallest = np.linalg.eigvalsh(information)[:, 0]
    ratio = float(np.median(smallest))
    rounding = 1e-10 * float(np.abs(information).max(initial=0.0))
    return 0.0 if ratio <= rounding else ratio
