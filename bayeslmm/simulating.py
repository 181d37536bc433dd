"""Responses simulated for a model, at given parameters and for studies of other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import shown, whole
from bayeslmm.design.data import missing_values
from bayeslmm.design.extended_residuals import correlated_within
from bayeslmm.design.extension import MOST_LEVELS, extend, group_sizes, with_labels
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.new_residuals import residual_parts_of
from bayeslmm.design.observations import need_observations
from bayeslmm.design.recipe import columns_in
from bayeslmm.design.residual_text import residual_columns
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import DesignError
from bayeslmm.faces import REMLResult, fit_result
from bayeslmm.habits import SIMULATE_ARGUMENTS, no_argument
from bayeslmm.results.labels import parameters
from bayeslmm.results.predictions import NewLevels
from bayeslmm.results.random_parts import Random
from bayeslmm.results.simulations import Conditions, Law, Values, law_of, simulated
from bayeslmm.results.stated import stated_values
from bayeslmm.results.truth import Truth, left_out, truth_of_values
from bayeslmm.specification import Specification


def simulate(
    model: Specification,
    n: int = 1,
    random_seed: int | np.random.Generator | None = None,
    *,
    n_groups: Any = None,
    replicates: int | None = None,
    newdata: Any = None,
    random: Random = "new",
    new_levels: NewLevels = "error",
    beta: Values = None,
    sd: Values = None,
    corr: Values = None,
    sigma: float | None = None,
    theta: ArrayLike | None = None,
    residual: Values = None,
    weights: Any = None,
    offset: Any = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Simulated responses of a model at given parameters, also for other numbers of groups and rows.

    Parameters
    ----------
    n : int
    random_seed : int or numpy.random.Generator, optional
    n_groups : int or mapping of str to int, optional
        Numbers of levels: of the only (or outermost) grouping factor, or by name, ``{"Subject": 40, "Item": 12}``.
        Levels are copied with all their rows; treatments keep their shares, factors nested in one that is copied are
        copied with it, those that are crossed with it stay.
    replicates : int, optional
        Rows for every combination of levels of all grouping factors, evenly spaced over those there are, or these
        several times.
    newdata, random, new_levels
        As in `REMLResult.simulate`.
    beta, sd, corr, sigma, theta, residual
        As in `REMLResult.simulate`; what is not given is the REML estimate.
    weights, offset
        As in `REMLResult.simulate`.

    Returns
    -------
    pandas.DataFrame
        Responses, (rows, n). With `n_groups` or `replicates` a table for `Model`: the columns of the study that the
        formula uses come first, and then the responses: under the name of the response if n is 1, else numbered.

    Raises
    ------
    DesignError
        As `REMLResult.simulate`; a grouping factor that there is not; a study too small for its fixed effects; a
        planned study without values for all parameters.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    >>> study = model.simulate(n_groups=40, beta={"Days": 5}, sd={"Subject": [25, 6]}, random_seed=1)
    >>> list(study.columns), study["Subject"].nunique(), len(study)
    (['Days', 'Subject', 'Reaction'], 40, 400)
    """
    no_argument("model.simulate", simulate, unknown, SIMULATE_ARGUMENTS, DesignError)
    design = model.design
    stated = stated_values(design, beta=beta, sd=sd, corr=corr, sigma=sigma, theta=theta, residual=residual)
    law = _law(model, stated)
    if n_groups is None and replicates is None:
        where = Conditions(newdata, random, new_levels, weights, offset)
        return simulated(design, law, where, lambda: _fit(model), n, random_seed)
    need_observations(design, "simulate(n_groups=, replicates=) copies rows")
    _refuse_beside(n_groups=n_groups, replicates=replicates, newdata=newdata, weights=weights, offset=offset)
    if random is not None and not (isinstance(random, str) and random == "new"):
        raise DesignError(f"random={shown(random)} keeps effects of groups of the data, and n_groups= makes new ones.")
    sizes = group_sizes(design, "n_groups", n_groups)
    rows = None if replicates is None else whole("replicates", replicates, 1, MOST_LEVELS, DesignError)
    study = extend(design, sizes, rows)
    table = with_labels(study, _study_table(model), _factors(model))
    Y = simulated(study.design, law, Conditions(random=random), lambda: _fit(model), n, random_seed)
    if Y.shape[1] == 1:
        Y.columns = pd.Index([parse_formula(design.formula).response.strip("`")])
    return pd.concat([table, Y], axis=1)


def _law(model: Specification, stated: dict[str, Any]) -> Law:
    """What a model is simulated from: values that are stated, and REML estimates for the rest.

    Raises
    ------
    DesignError
        A planned study, which has no estimates, and not all values.
    """
    if model.planned or not (model.design.residual.names or left_out(model.design, stated)):
        truth = truth_for(model, stated)
        return Law(truth.terms, truth.sigma, truth.beta, truth.lam)
    return law_of(_fit(model), stated)


def truth_for(model: Specification, stated: dict[str, Any]) -> Truth:
    """The same with its values by label.

    Raises
    ------
    DesignError
        A planned study, which has no estimates, and not all values.
    """
    if not model.planned:
        return truth_of_values(model.design, stated, lambda _: _fit(model).estimates(), lambda: _fit(model).optimum.lam)

    def refuse(labels: Any) -> dict[str, float]:
        raise DesignError(
            f"The study has no data to estimate from, and {', '.join(labels)} "
            f"{'is' if len(labels) == 1 else 'are'} not given. Give all of them in beta=, sd=, corr= and sigma= (or "
            "effects=, sds= of bl.power)."
        )

    # Uncorrelated unless the user says otherwise.
    zero = {p.label: 0.0 for p in parameters(model.design) if p.kind == "corr" and "theta" not in stated}
    return truth_of_values(model.design, zero | stated, refuse)


def _fit(model: Specification) -> REMLResult:
    if model.planned:
        raise DesignError("A planned study has no response, and so no fit whose random effects could be kept.")
    optimum = model._optimum(True)
    return fit_result(model.design, optimum.cp, optimum)


def _refuse_beside(*, n_groups: Any, replicates: Any, **others: Any) -> None:
    given = [name for name, value in others.items() if value is not None]
    if given:
        name = "n_groups" if n_groups is not None else "replicates"
        raise DesignError(
            f"{name}= makes rows from those of the model, and {given[0]}= is for rows that are given. Keep one; "
            "bl.Plan(formula, data) makes a study from other rows."
        )


def _factors(model: Specification) -> dict[str, tuple[str, ...]]:
    own = correlated_within(model.design)
    found = {bar.group: tuple(bar.factors) for bar in parse_formula(model.formula).bars}
    return found | ({":".join(own): own} if own else {})


def _study_table(model: Specification) -> pd.DataFrame:
    """The columns that the formula uses besides the response, rows of the design only.

    Raises
    ------
    DesignError
        The model was read from a file, or comes from another process, without its table.
    """
    if model._table is None:
        raise DesignError(
            "This model was read from a file or sent by another process, without its data frame, so that the rows of a "
            "study cannot be written out. Make it again from formula and data."
        )
    formula = parse_formula(model.formula)
    table, available = open_table(model._table)
    pieces = [formula.fixed, *formula.offsets, *(bar.left for bar in formula.bars)]
    recipe = model.design.recipe
    texts = [recipe.weights] if recipe is not None and recipe.weights is not None else []
    known = dict.fromkeys(available)
    names = [*columns_in(pieces + texts, known), *(factor for bar in formula.bars for factor in bar.factors)]
    names = list(dict.fromkeys([*names, *residual_columns(residual_parts_of(model.design), available)]))
    needed = list(dict.fromkeys([*names, *columns_in([formula.response], known)]))
    frame = to_pandas(table, needed)[needed]
    complete = np.ones(len(frame), dtype=bool)
    for name in needed:
        missing = missing_values(frame[name])
        complete &= True if missing is None else ~missing
    if int(complete.sum()) != model.design.n:
        raise DesignError(
            f"{model.design.n} of the {len(frame)} rows are in the model, for reasons that are not in the columns of "
            "the formula (weights or frequencies of 0). Leave the others out of the data, and make the model again."
        )
    return frame.loc[complete, names].reset_index(drop=True)
