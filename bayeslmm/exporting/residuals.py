"""Residual structures in the words of other packages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.names import literal
from bayeslmm.design.new_residuals import residual_parts_of
from bayeslmm.design.residual_text import ResidualPart
from bayeslmm.design.residual_translation import NLME_CORRELATIONS, NLME_VARIANCES
from bayeslmm.design.residual_words import CORRELATIONS, MMRM, PLACES
from bayeslmm.errors import ArgumentError
from bayeslmm.residual.structured import CorrelatedRows

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
# Packages that have some of them.
WITH_STRUCTURES = ("nlme", "glmmTMB", "mmrm", "sas", "brms")
_NLME_CORRELATIONS = {here: there for there, here in NLME_CORRELATIONS.items()}
_NLME_VARIANCES = {here: there for there, here in NLME_VARIANCES.items()}


@dataclass(frozen=True)
class WrittenResidual:
    """A residual structure taken apart.

    Attributes
    ----------
    text : str
        As written.
    variances : tuple of ResidualPart
    correlation : ResidualPart or None
    visits : tuple of str
        Names of the visits in their order, where the places of rows are visits and no numbers.
    regular : bool
        Whether the rows of every group follow one another in steps of one.
    """

    text: str
    variances: tuple[ResidualPart, ...]
    correlation: ResidualPart | None
    visits: tuple[str, ...]
    regular: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it uses."""
        parts = [*self.variances, *([self.correlation] if self.correlation else [])]
        names = [n for part in parts for n in (*part.left, *part.group, *((part.by,) if part.by else ()))]
        return tuple(dict.fromkeys(names))

    @property
    def family(self) -> str:
        """The correlation without the variances of visits; empty if there is none."""
        return CORRELATIONS[self.correlation.keyword][0] if self.correlation else ""

    @property
    def heterogeneous(self) -> bool:
        """Whether every visit has a variance."""
        return self.correlation is not None and CORRELATIONS[self.correlation.keyword][1]

    @property
    def group(self) -> tuple[str, ...]:
        return self.correlation.group if self.correlation else ()

    @property
    def place(self) -> str:
        """The column of visits or times; empty if there is none."""
        return self.correlation.left[0] if self.correlation and self.correlation.left else ""

    @property
    def arm(self) -> str:
        return self.correlation.by if self.correlation else ""

    def refused(self, package: str, what: str, instead: str) -> ArgumentError:
        """The error where a package has no such model."""
        return ArgumentError(f"{package} has no {what}, which this model has (residual={self.text!r}). {instead}")


def written_residual(design: Design, package: str) -> WrittenResidual | None:
    """The residual structure of a design for writers; None if it has no parameters.

    Raises
    ------
    ArgumentError
        A package without residual structures, or columns whose names are code there.
    """
    if not design.residual.names:
        return None
    parts = residual_parts_of(design)
    text = " + ".join(part.text for part in parts)
    if package not in WITH_STRUCTURES:
        raise ArgumentError(
            f"{package} has no variances or correlations of residuals, which this model has (residual={text!r}). "
            f"Of the packages written for, these have some: {', '.join(WITH_STRUCTURES)}."
        )
    visits = design.recipe.residual_visits if design.recipe is not None else ()
    correlated = next((part for part in parts if part.correlated), None)
    variances = tuple(part for part in parts if not part.correlated)
    found = WrittenResidual(text, variances, correlated, visits, _regular(design.residual))
    odd = [name for name in found.columns if not _PLAIN.fullmatch(name)]
    if odd:
        raise ArgumentError(
            f"residual={text!r} has {odd[0]}, which is no plain name of a column. Make a column with a plain name "
            f"(letters, digits, underscores) and write it there: {package} reads other ones as code."
        )
    return found


def _regular(residual: object) -> bool:
    if not isinstance(residual, CorrelatedRows):
        return True
    order = np.lexsort((residual.at[:, 0], residual.clusters))
    step = np.diff(residual.at[order, 0])[np.diff(residual.clusters[order]) == 0]
    return bool((step == 1.0).all())


@dataclass(frozen=True)
class Pieces:
    """What a residual structure adds to a call: lines before it, arguments, words."""

    lines: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def r_levels(residual: WrittenResidual) -> str:
    """The visits as a vector of R."""
    return f"c({', '.join(map(literal, residual.visits))})"


def r_group(names: Sequence[str], data: str, lines: list[str]) -> str:
    """The column of a group; a line that makes it where it is made of several."""
    if len(names) == 1:
        return names[0]
    name = "_".join(names)
    lines.append(f"{data}${name} <- interaction({', '.join(f'{data}${one}' for one in names)}, drop = TRUE)")
    return name


def nlme_pieces(residual: WrittenResidual, data: str, weights: Sequence[str]) -> Pieces:
    """``correlation`` and ``weights`` of ``gls`` and ``lme``, beside variance functions that there are already."""
    lines, options = list[str](), list[str]()
    own = [*weights, *(_nlme_variance(part) for part in residual.variances)]
    if residual.correlation is not None:
        if residual.arm:
            raise residual.refused("nlme", "covariances by arm", "mmrm and SAS have them.")
        form, family = "1", residual.family
        if family in PLACES:
            form = " + ".join(residual.correlation.left)
        elif residual.visits and family != "cs":
            number = f"{residual.place}_number"
            lines.append(f"{data}${number} <- match({data}${residual.place}, {r_levels(residual)})")
            form = number
        elif residual.place:
            form = residual.place
        group = r_group(residual.group, data, lines)
        name, orders = _nlme_correlation(residual)
        options.append(f"correlation = {name}(form = ~ {form} | {group}{orders})")
        if residual.heterogeneous:
            own.append(f"varIdent(form = ~ 1 | {residual.place})")
    if own:
        options.append(f"weights = {own[0] if len(own) == 1 else 'varComb(' + ', '.join(own) + ')'}")
    return Pieces(tuple(lines), tuple(options))


def _nlme_variance(part: ResidualPart) -> str:
    name = _NLME_VARIANCES[part.keyword]
    form = f"1 | {' * '.join(part.left)}" if part.keyword == "by" else part.left[0]
    return f"{name}(form = ~ {form})"


def _nlme_correlation(residual: WrittenResidual) -> tuple[str, str]:
    if residual.family not in _NLME_CORRELATIONS:
        raise residual.refused("nlme", f"{residual.family} correlation", "SAS and glmmTMB have toep, mmrm has both.")
    return _NLME_CORRELATIONS[residual.family], ", p = 1, q = 1" if residual.family == "arma" else ""


def glmmtmb_pieces(residual: WrittenResidual, data: str) -> tuple[Pieces, list[str]]:
    """``dispformula``, and the term with the correlation."""
    if residual.correlation is None:
        terms = [_log_sd(residual, part, "glmmTMB") for part in residual.variances]
        word = "dispformula is the log of the residual standard deviation, in treatment contrasts."
        return Pieces((), (f"dispformula = ~ {' + '.join(terms)}",), (word,)), []
    if residual.variances or residual.arm:
        raise residual.refused("glmmTMB", "correlated residuals whose variances differ otherwise", "nlme has some.")
    names = {"ar1": "ar1", "ar1h": "hetar1", "cs": "homcs", "csh": "cs", "toep": "homtoep", "toeph": "toep", "us": "us"}
    names |= {"car1": "ou", "exp": "exp", "gaussian": "gau"}
    keyword = residual.correlation.keyword
    if keyword not in names:
        raise residual.refused("glmmTMB", f"{keyword} correlation", "bayeslmm fits it.")
    lines = list[str]()
    group = r_group(residual.group, data, lines)
    if keyword in ("car1", *PLACES):
        lines.append(f"{data}$place <- numFactor({', '.join(f'{data}${one}' for one in residual.correlation.left)})")
        left = "place"
    else:
        left = "visit_" if residual.place else ""
        time = f"{data}${residual.place}"
        levels = r_levels(residual) if residual.visits else f"seq(min({time}), max({time}))"
        if not left:
            raise residual.refused("glmmTMB", "cs of rows without visits", "nlme has corCompSymm; here cs(visit | g).")
        lines.append(f"{data}$visit_ <- factor({time}, levels = {levels})")
    word = "The residuals are effects of a term there, with the residual variance itself taken for zero (dispformula)."
    return Pieces(tuple(lines), ("dispformula = ~ 0",), (word,)), [f"{names[keyword]}(0 + {left} | {group})"]


def _log_sd(residual: WrittenResidual, part: ResidualPart, package: str) -> str:
    """A term of the log of the residual standard deviation."""
    if part.keyword == "by":
        return ":".join(f"factor({name})" for name in part.left)
    if part.keyword == "const_power":
        raise residual.refused(package, "variance of a constant and a power", "nlme has it: varConstPower.")
    return part.left[0] if part.keyword == "exp" else f"log(abs({part.left[0]}))"


def brms_pieces(residual: WrittenResidual) -> tuple[list[str], str]:
    """Terms of the formula with the correlation, and the right side of the formula of sigma."""
    if residual.arm:
        raise residual.refused("brms", "covariances by arm", "bayeslmm samples it: model.sample().")
    sigma = [_log_sd(residual, part, "brms") for part in residual.variances]
    if residual.heterogeneous:
        sigma.append(f"factor({residual.place})")
    if residual.correlation is None:
        return [], " + ".join(sigma)
    group = ":".join(residual.group)
    time = f"time = {residual.place}, " if residual.place else ""
    terms = {
        "ar1": f"ar({time}gr = {group}, p = 1, cov = TRUE)",
        "arma": f"arma({time}gr = {group}, p = 1, q = 1, cov = TRUE)",
        "cs": f"cosy({time}gr = {group})",
        "us": f"unstr({time}gr = {group})",
    }
    if residual.family not in terms:
        raise residual.refused("brms", f"{residual.family} correlation", "bayeslmm samples it: model.sample().")
    if residual.family in ("ar1", "arma") and not residual.regular:
        raise residual.refused("brms", "gaps between times (it counts rows)", "bayeslmm samples it: model.sample().")
    return [terms[residual.family]], " + ".join(sigma)


def mmrm_term(residual: WrittenResidual, visit: str) -> str:
    """The term with the covariance of R's mmrm; `visit` is the factor of the visits."""
    if residual.correlation is None or residual.variances:
        raise residual.refused("mmrm", "variances but those of visits", "nlme has them.")
    keyword, arm = residual.correlation.keyword, f"{residual.arm} / " if residual.arm else ""
    group = "_".join(residual.group)
    if keyword == "exp":
        return f"sp_exp({', '.join(residual.correlation.left)} | {arm}{group})"
    if keyword not in MMRM or not residual.place:
        raise residual.refused("mmrm", f"{residual.correlation.text}", "nlme has car1, cs without visits and gaussian.")
    if keyword.startswith("ar1") and not residual.visits and not residual.regular:
        raise residual.refused("mmrm", "gaps between times (it counts visits)", "nlme has corAR1.")
    return f"{keyword}({visit} | {arm}{group})"


_SAS = {
    **{"us": "un", "cs": "cs", "csh": "csh", "ar1": "ar(1)", "ar1h": "arh(1)", "toep": "toep", "toeph": "toeph"},
    **{"adh": "ante(1)", "arma": "arma(1,1)"},
}
_SAS_PLACES = {"car1": "sp(pow)", "exp": "sp(exp)", "gaussian": "sp(gau)"}


def sas_repeated(residual: WrittenResidual, as_class: Callable[[str], str], as_number: Callable[[str], str]) -> str:
    """The ``repeated`` statement; columns are named as classes or as numbers."""
    correlated = residual.correlation
    if correlated is None:
        part, *more = residual.variances
        if more or part.keyword not in ("by", "exp"):
            raise residual.refused("sas", "such variances", "nlme has them.")
        if part.keyword == "by":
            return f"repeated / group={'*'.join(map(as_class, part.left))};"
        return f"repeated / local=exp({as_number(part.left[0])});"
    if residual.variances:
        raise residual.refused("sas", "variances beside a correlation (group= changes both)", "nlme has them.")
    options = f"subject={'*'.join(map(as_class, correlated.group))}"
    options += f" group={as_class(residual.arm)}" if residual.arm else ""
    keyword = correlated.keyword
    if keyword in _SAS_PLACES or (keyword == "ar1" and not residual.visits and not residual.regular):
        places = " ".join(map(as_number, correlated.left))
        return f"repeated / {options} type={_SAS_PLACES.get(keyword, 'sp(pow)')}({places});"
    if keyword not in _SAS:
        raise residual.refused("sas", f"{keyword} correlation", "mmrm has ad; matern there has a free smoothness.")
    visit = f"{as_class(residual.place)} " if residual.place else ""
    return f"repeated {visit}/ {options} type={_SAS[keyword]};"
