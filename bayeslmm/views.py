"""What a model shows of itself, and the same model of another response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from numpy.typing import ArrayLike

from bayeslmm.arguments import flag
from bayeslmm.design.notes import fixed_levels, where
from bayeslmm.design.observations import need_observations
from bayeslmm.design.theta import check_lam
from bayeslmm.errors import DesignError
from bayeslmm.faces import fit_result
from bayeslmm.likelihood.reduction import for_response
from bayeslmm.reml.at_theta import criterion_at as value_at
from bayeslmm.reml.at_theta import criterion_at_residual
from bayeslmm.residual import estimable, residual_labels
from bayeslmm.results.refits import check_responses
from bayeslmm.results.refits import with_response as design_with
from bayeslmm.specification import Specification
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from bayeslmm.bayes.default_priors import PriorSpec
    from bayeslmm.exporting import Script
    from bayeslmm.teaching import Matrices


def to(model: Specification, package: str, *, reml: bool = True, data: str = "df") -> Script:
    """The call of another package that fits this model, as text, with what differs there in comments.

    Parameters
    ----------
    package : str
        ``"lme4"``, ``"nlme"``, ``"glmmTMB"``, ``"brms"``, ``"rstanarm"`` (R), ``"bambi"``, ``"statsmodels"``
        (Python), ``"sas"``, ``"matlab"`` or ``"julia"``.
    reml : bool
        Whether the criterion is that of REML, where there is one.
    data : str
        What the data frame is called there.

    Returns
    -------
    Script
        A string. Names of columns are quoted, or replaced by plain ones where formulas take no others.

    Raises
    ------
    ArgumentError
        The package does not have such a model (a covariance structure, weights, a function), and why.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> print("".join(model.to("lme4").splitlines(keepends=True)[-5:]))
    fit <- lmer(
      Yield ~ 1 + (1 | Batch),
      data = df, REML = TRUE
    )
    summary(fit)
    <BLANKLINE>
    """
    from bayeslmm.exporting import export

    need_observations(model.design, "to() writes a call on a table")
    return export(model.design, package, reml=reml, data=data)


def with_response[S: Specification](model: S, y: ArrayLike) -> S:
    """The same model of another response: rows, columns and settings stay, nothing is read or checked again but y.

    For loops over many responses (genes, voxels, simulated data), in a fraction of the time of `Model`. Estimates are
    those of ``Model(formula, data)`` with y in the place of the left side of the formula.

    Parameters
    ----------
    y : array-like, shape (n,)
        Values of the left side of the formula (of ``log(y) ~ x``: logarithms), in the order of the rows kept; with
        ``na_action="exclude"`` of all rows. Of a Series the index says which rows are meant, so that it may have others
        too. Without missing values: a model of fewer rows has another design. Offset and weights stay.

    Returns
    -------
    Model

    Raises
    ------
    DesignError
        Wrong shape, an index without the rows of the model, no numbers, missing or infinite values, a constant.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> sleep = bl.load_dataset("sleepstudy")
    >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", sleep)
    >>> seconds = model.with_response(sleep["Reaction"] / 1000)
    >>> round(model.fit().sigma, 2), round(seconds.fit().sigma, 5)
    (25.59, 0.02559)
    """
    design = design_with(model._design, check_responses(model._design, y, 1))
    known = vars(model).get("cross_products")
    return model._with_design(design, None if known is None else for_response(known, design))


def matrices(
    model: Specification,
    theta: ArrayLike | None = None,
    sigma: float | None = None,
    lam: ArrayLike | None = None,
) -> Matrices:
    """X, Z, Lambda, G, R and V, with names on rows and columns.

    Parameters
    ----------
    theta : array-like of shape (k,), optional
        Relative covariance parameters in lme4's order; the REML estimate by default.
    sigma : float, optional
        Residual standard deviation; the REML estimate by default.
    lam : array-like of shape (m,), optional
        Parameters of the residual structure without bounds, where residuals have any; the REML estimates by default.

    Raises
    ------
    DesignError
        theta or lam has another length, or sigma is not a positive number.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> model.matrices(theta=[2.0], sigma=10.0).V[:2, :2].tolist()
    [[500.0, 400.0], [400.0, 500.0]]
    """
    from bayeslmm.teaching import build_matrices, factors_from_theta

    terms = model._optimum(True).terms if theta is None else factors_from_theta(model.design, theta)
    estimated = lam is None and bool(model.design.residual.names)
    own = model._optimum(True).lam if estimated else check_lam(model.design, lam)
    return build_matrices(model.design, terms, model._optimum(True).sigma if sigma is None else sigma, own)


@overload
def criterion_at(
    model: Specification,
    theta: ArrayLike,
    sigma: float | None = None,
    *,
    reml: bool = True,
    lam: ArrayLike | None = None,
    gradient: Literal[False] = False,
) -> float: ...


@overload
def criterion_at(
    model: Specification,
    theta: ArrayLike,
    sigma: float | None = None,
    *,
    reml: bool = True,
    lam: ArrayLike | None = None,
    gradient: Literal[True],
) -> tuple[float, FloatArray]: ...


def criterion_at(
    model: Specification,
    theta: ArrayLike,
    sigma: float | None = None,
    *,
    reml: bool = True,
    lam: ArrayLike | None = None,
    gradient: bool = False,
) -> float | tuple[float, FloatArray]:
    """The criterion that `fit` minimises, at any parameters: -2 log (restricted) likelihood.

    The same number densely, from the matrices, is `bayeslmm.teaching.dense_criterion`.

    Parameters
    ----------
    theta : array-like of shape (k,)
        Relative covariance parameters in lme4's order, as ``fit.theta``.
    sigma : float, optional
        Residual standard deviation; by default the one that is known, else the one that minimises the criterion at
        this theta.
    reml : bool
        The REML criterion, or the deviance (ML).
    lam : array-like of shape (m,), optional
        Parameters of the residual structure without bounds, as ``fit.optimum.lam``; where residuals have any.
    gradient : bool
        Return also the derivatives in theta, and then lam (at the given sigma, or along the minimising one).

    Returns
    -------
    float, or (float, FloatArray of shape (k + m,))
        The value is -inf where the model reproduces the response and sigma is not given.

    Raises
    ------
    DesignError
        Theta has another length or is no covariance; sigma is not a positive number.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> round(model.criterion_at([0.5]), 4), round(model.criterion_at([0.5], sigma=50.0, reml=False), 4)
    (320.8791, 328.2744)
    >>> value, slope = model.criterion_at([0.5], gradient=True)
    >>> slope.round(4)
    array([-8.1334])
    """
    if model.design.residual.names:
        return criterion_at_residual(model.design, theta, lam, sigma, reml, gradient)
    check_lam(model.design, lam)
    return value_at(model.cross_products, theta, sigma, reml, gradient)


def latex(model: Specification, *, numbers: bool = False, priors: PriorSpec | bool = False) -> str:
    r"""The model in equations; notebooks show them typeset.

    Parameters
    ----------
    numbers : bool
        Whether the REML estimates take the place of the symbols.
    priors : bool, or as in `sample`
        Priors to add: True for the default ones.

    Returns
    -------
    str

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> print(model.latex(numbers=True).splitlines()[2])
    b_{j} &\sim N(0, 42^2), \quad j = 1, \dots, 6 \text{ (Batch)}
    """
    from bayeslmm.results.latex import Estimates, prior_lines, write_latex

    optimum = model._optimum(True) if flag("numbers", numbers, DesignError) else None
    fit = None if optimum is None else fit_result(model.design, optimum.cp, optimum)
    estimates = (
        None if fit is None else Estimates(fit.fixef().to_numpy(), fit.sigma, fit.optimum.terms, fit.optimum.lam)
    )
    if priors is False:
        return write_latex(model.design, estimates)
    from bayeslmm.bayes.default_priors import resolve_priors

    resolved = resolve_priors(model.design, None if priors is True else priors)
    return write_latex(model.design, estimates, prior_lines(model.design, resolved))


def model_lines(model: Specification) -> list[str]:
    """What the first screen of a model says, line by line."""
    design = model._design
    plural = "" if design.p == 1 else "s"
    lines = [f"{design.observations}, {design.p} fixed effect{plural}, {design.q} random effects"]
    for term in design.terms:
        k = len(term.structure.rows)
        levels = design.groupings[term.group].n_levels
        lines.append(
            f"{term.label}: {levels} levels x {', '.join(term.effects)}, "
            f"{k} covariance parameter{'' if k == 1 else 's'}"
        )
    if labels := residual_labels(design.residual):
        lines.append(f"residuals: {estimable(design.residual).expression}, {len(labels)} parameter(s) beside sigma")
    lines += [*fixed_levels(design), *where(design)]
    if design.aliased:
        lines.append(f"left out because earlier columns span them: {', '.join(design.aliased)}")
    if len(design.dropped):
        every = "" if design.all_rows is None else "; results by row have nan there"
        lines.append(f"{design.dropped}{every}")
    return [*lines, *(f"note: {note}" for note in design.notes.lines)]
