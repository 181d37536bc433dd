"""From a formula and a data frame to a frozen design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, kind_of, mapping
from bayeslmm.design import data as checks
from bayeslmm.design import dominant
from bayeslmm.design.choice import chosen_structures, term_structure
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import STORES, Design, Notes, RandomTerm, Store
from bayeslmm.design.dot import without_dot
from bayeslmm.design.dropped import AllRows, DroppedRows
from bayeslmm.design.estimable import combinations
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.formula import Bar, Formula, check_random
from bayeslmm.design.frequency import evaluator_on_copies, formula_pieces
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.groups import group_by
from bayeslmm.design.magnitude import check_magnitudes, surely_ordinary
from bayeslmm.design.notes import PendingNotes
from bayeslmm.design.padding import NaAction, all_rows, check_na_action
from bayeslmm.design.per_row import PerRow, PerRowArguments, with_precisions
from bayeslmm.design.quoting import parse_with
from bayeslmm.design.rank import independent_columns
from bayeslmm.design.recipe import Names, make_recipe
from bayeslmm.design.residual_text import INDEPENDENT, ResidualPart, is_independent, parse_residual, residual_columns
from bayeslmm.design.saturated import check_identified
from bayeslmm.design.size import check_blocks, check_structure
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.design.tokens import words
from bayeslmm.design.variances import check_labels
from bayeslmm.errors import DesignError, FormulaError
from bayeslmm.residual import Residual, make_residual
from bayeslmm.types import BoolArray, FloatArray


def build_design(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
    saturated: Literal["error", "allow"] = "error",
    cov: Mapping[str, CovarianceStructure] | None = None,
    frequency: Any = None,
    store: Store = "auto",
    na_action: NaAction = "drop",
    rank_deficient: Literal["drop", "error"] = "drop",
    residual_sd: Any = None,
    residual: str | None = None,
) -> Design:
    """Evaluate a formula on a data frame.

    Parameters
    ----------
    formula : str
        lme4-style, e.g. ``"y ~ x + (x | g)"``.
    data : pandas, polars or pyarrow table
        Never modified.
    weights : str or array of shape (rows,), optional
        Precision weights: the residual variance of row i is ``sigma^2 / weights[i]``. A string is a column or an
        expression of columns.
    contrasts : mapping, optional
        Column name to ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"`` or a matrix. Ordered categoricals
        default to ``"poly"``, others to ``"treatment"``, as in R.
    extra_namespace : mapping, optional
        Functions and values the formula may use besides the columns.
    saturated : {"error", "allow"}
        Whether a single level, or as many random effects as rows whose variances cannot be told apart, is an error.
    cov : mapping, optional
        Grouping factor, or term as written in the formula, to the covariance structure of its effects, e.g.
        ``{"Subject": CompoundSymmetry()}``; the same as a keyword in the formula.
    frequency : str or array of shape (rows,), optional
        How many identical rows each row stands for: whole numbers, 0 leaves the row out. The design is that of the
        rows written out, ``data.loc[data.index.repeat(frequency)]``. A string is a column or an expression.
    store : {"auto", "levels", "hierarchy", "packed", "anchored", "stochastic"}
        How sums over the rows will be kept.
    na_action : {"drop", "exclude", "fail"}
        Rows with missing values are left out; are left out and have nan in results by row; are an error.
    rank_deficient : {"drop", "error"}
        Columns of the fixed part that earlier ones span are left out, or are an error.
    residual_sd : str or array of shape (rows,), optional
        Known standard deviations of the residuals, with sigma = 1.
    residual : str, optional
        Residual structure with parameters, e.g. ``"by(sex) + ar1(time | id)"``.

    Returns
    -------
    Design

    Raises
    ------
    FormulaError
        The formula cannot be read.
    DesignError
        The data do not fit it.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0], "g": ["a", "a", "b", "b"]})
    >>> design = build_design("y ~ 1 + (1 | g)", frame)
    >>> design.n, design.p, design.q
    (4, 1, 2)
    """
    check_text(formula)
    table, available = open_table(data)
    parsed, parts, others = read_formula(formula, residual, residual_sd, available, (weights, frequency, residual_sd))
    namespace = own_names(extra_namespace)
    names = checks.used_columns(parsed, available, namespace, others)
    asked = PerRowArguments.of(weights, residual_sd, frequency, available, namespace)
    frame = to_pandas(table, list(dict.fromkeys([*names, *asked.columns])))
    per_row = asked.on(frame, namespace)
    columns, odd, keep, dropped, every = _complete(frame, names, per_row.given, na_action)
    _check_columns(parsed, columns, odd)
    known = known_contrasts(contrasts, columns)
    counts = None if per_row.frequency is None else per_row.frequency[keep].astype(np.int64)
    evaluator = evaluator_on_copies(formula_pieces(parsed), _without_groups(parsed, columns), known, namespace, counts)
    y = evaluator.vector(parsed.response).copy()  # not a view of the user's column, which may change later
    X, fixed_names = evaluator.columns(parsed.fixed, y.size if counts is None else int(counts.sum()))
    index = frame.index[keep] if len(dropped) else frame.index
    offset = _offset(parsed, evaluator, index)
    _check_values(parsed, y, X, fixed_names, offset, index)
    X, fixed_names, aliased, combined = _independent(X, fixed_names)
    groupings = _groupings(parsed, columns)
    terms = _terms(parsed, cov, evaluator, groupings, index, X)
    check_contrasts(known, evaluator)
    residual_structure, residual_names = _residual(parts, columns, per_row, keep, bool(terms))
    design = Design(
        formula=parsed.text,
        response=parsed.response,
        y=y,
        X=X,
        fixed_names=fixed_names,
        aliased=aliased,
        terms=terms,
        groupings=groupings,
        residual=residual_structure,
        offset=offset,
        index=index.to_numpy(),
        dropped=dropped,
        frequency=counts,
        recipe=make_recipe(parsed, columns, known, extra_namespace, asked.scale, combined, counts, residual_names),
        store=choice("store", store, STORES, DesignError),
        all_rows=every,
        sigma=None if per_row.residual_sd is None else 1.0,
    )
    return _checked(design, saturated, rank_deficient, parsed, columns)


def check_text(formula: Any) -> None:
    """Refuse a formula that is no text."""
    if not isinstance(formula, str):
        raise FormulaError(f"The formula is {kind_of(formula)}, not a string such as 'y ~ x + (x | g)'.")


def read_formula(
    formula: str, residual: str | None, residual_sd: Any, available: Sequence[str], others: tuple[Any, ...]
) -> tuple[Formula, tuple[ResidualPart, ...], list[str]]:
    """The formula, and the residual structure with its columns; without one there have to be random effects."""
    parsed = parse_with(without_dot(formula, available, others), available)
    parts = () if residual is None or is_independent(residual) else parse_residual(residual)
    if residual_sd is not None and residual is not None and (parts or not parsed.bars):
        raise DesignError(
            f"residual_sd= says that the residuals' standard deviations are known, residual={residual!r} that they are "
            "estimated. Of one residual both cannot be; take one of them away. Known errors of measurement and, beside "
            "them, true values that are correlated: residual_sd= and a random term for these, "
            "ar1(0 + C(visit) | id)."
            if parts
            else f"residual_sd= says that the residuals' standard deviations are known. Without random effects, which "
            f"residual={residual!r} is for, there is no variance left to estimate: add a term such as (1 | study), or "
            "take residual_sd= away; weights='1 / se**2' has standard deviations that are known up to one factor."
        )
    if residual is None:
        check_random(parsed)
    of_residual = residual_columns(parts, available)
    _refuse_response(parsed, of_residual, residual)
    return parsed, parts, of_residual


def _refuse_response(parsed: Formula, of_residual: Sequence[str], residual: str | None) -> None:
    """Refuse a residual structure that is made from the response."""
    own = words(parsed.response) & set(of_residual)
    if own:
        raise DesignError(
            f"residual={residual!r} uses {', '.join(sorted(own))}, which is the response: variances or correlations "
            "that depend on what they are the distribution of have no likelihood. Name another column; for variances "
            "that follow the mean, a column with the fitted values of a first fit."
        )


def _residual(
    parts: Sequence[ResidualPart], columns: Mapping[str, pd.Series], per_row: PerRow, keep: BoolArray, effects: bool
) -> tuple[Residual, tuple[Names, Names]]:
    """The residual structure, with the names of groups and visits of correlated residuals."""
    if not parts:
        return per_row.residual(keep) if effects else _equal_variances(per_row, keep), ((), ())
    from bayeslmm.design.residual_parts import build_residual

    if per_row.frequency is not None and any(part.correlated for part in parts):
        raise DesignError(
            "Rows that stand for several observations each (frequency=) have no residual correlations of their own. "
            "Write the rows out, data.loc[data.index.repeat(frequency)], and give each a place in its group."
        )
    return build_residual(parts, columns, None if per_row.weights is None else per_row.weights[keep], int(keep.sum()))


def _equal_variances(per_row: PerRow, keep: BoolArray) -> Residual:
    """Independent residuals of one variance, or known weights, of a model that has no random effects either."""
    from bayeslmm.residual.structured import Spreads, UnequalVariances

    weights = None if per_row.weights is None else per_row.weights[keep]
    return UnequalVariances(INDEPENDENT, Spreads((), weights, int(keep.sum())))


def _complete(
    frame: pd.DataFrame, names: Sequence[str], extra: Mapping[str, FloatArray], na_action: NaAction
) -> tuple[dict[str, pd.Series], list[str], BoolArray, DroppedRows, AllRows | None]:
    """Columns on the rows that can be used, those to be looked at closely, which rows these are, what of the others."""
    # Of few columns, one after the other takes less than to look for each.
    there: Any = dict(frame.items()) if frame.shape[1] <= len(names) + 2 else frame
    columns = {name: there[name] for name in names}
    odd = [name for name, series in columns.items() if not checks.surely_usable(series)]
    keep, dropped = checks.complete_rows(frame, {name: columns[name] for name in odd}, extra)
    every = all_rows(check_na_action(na_action), frame.index, keep, dropped)
    columns = {name: series[keep] for name, series in columns.items()} if len(dropped) else columns
    return columns, odd, keep, dropped, every


def _without_groups(formula: Formula, columns: Mapping[str, pd.Series]) -> Mapping[str, pd.Series]:
    """Columns that formulae has to see; grouping factors may have very many levels."""
    used = words(formula.response, *formula.evaluated)
    needed = {name: series for name, series in columns.items() if name in used}
    return needed or dict(columns)


def own_names(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The functions and values of ``extra_namespace``."""
    what = "a mapping of names to functions and values"
    return {} if given is None else dict(mapping("extra_namespace", given, what, DesignError))


def known_contrasts(contrasts: Mapping[str, Any] | None, columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Contrasts by the names of the columns of the formula.

    Raises
    ------
    DesignError
        Of a column that the formula does not use.
    """
    given = (
        {} if contrasts is None else mapping("contrasts", contrasts, "a mapping of columns to contrasts", DesignError)
    )
    found = {_unquoted(name, columns): kind for name, kind in given.items()}
    for name in found:
        if name not in columns:
            raise DesignError(
                f"contrasts names {name!r}, which the formula does not use. It uses: {', '.join(columns)}."
            )
    return found


def _unquoted(name: Any, columns: Mapping[str, Any]) -> Any:
    """A column by its name, also if that is given in backquotes as in the formula."""
    return name.strip("`") if isinstance(name, str) and name not in columns else name


def check_contrasts(known: Mapping[str, Any], evaluator: Evaluator) -> None:
    """Refuse contrasts of columns that are no terms of their own: calls such as factor(f) have their own coding."""
    for name in known:
        if name not in evaluator.coded:
            raise DesignError(
                f"contrasts names {name!r}, which stands in calls or as a grouping factor only, where it would change "
                f"nothing. Write {name} itself as a term, or the coding in the call: C({name}, Sum)."
            )


def _independent(
    X: FloatArray, names: Sequence[str]
) -> tuple[FloatArray, tuple[str, ...], tuple[str, ...], FloatArray]:
    """Columns (n, p) that no earlier ones span and their names; names of the others, which are combinations (p, a)."""
    kept = independent_columns(X)
    if kept.size == X.shape[1]:
        return X, tuple(names), (), np.empty((kept.size, 0))
    left_out = np.setdiff1d(np.arange(X.shape[1]), kept)
    own = X[:, kept]
    combined = combinations(own, X[:, left_out])
    return own, tuple(names[j] for j in kept.tolist()), tuple(names[j] for j in left_out.tolist()), combined


def _check_columns(formula: Formula, columns: Mapping[str, pd.Series], odd: Sequence[str]) -> None:
    if odd or not checks.is_text("".join(columns)):
        checks.check_text(columns)
        checks.check_finite_columns({name: columns[name] for name in odd})
    name = formula.response.strip("`")
    if name in columns:
        checks.check_response_column(name, columns[name])


def _offset(formula: Formula, evaluator: Evaluator, index: pd.Index) -> FloatArray | None:
    if not formula.offsets:
        return None
    total = np.zeros(len(index))
    for text in formula.offsets:
        values = evaluator.vector(text)
        checks.check_finite_result(f"offset({text})", values, index)
        total = total + values
    return total


def _check_values(
    formula: Formula,
    y: FloatArray,
    X: FloatArray,
    names: tuple[str, ...],
    offset: FloatArray | None,
    index: pd.Index,
) -> None:
    _check_numbers("The response", (formula.response,), y[:, None], index)
    checks.check_response_values(formula.response, y, offset)
    if offset is not None:
        check_magnitudes("The sum of", ("the offsets",), offset[:, None])
    _check_numbers("The fixed-effects column", names, X, index)


def _check_numbers(what: str, names: Sequence[str], columns: FloatArray, index: pd.Index) -> None:
    """Refuse columns (n, c) that are infinite or undefined somewhere, or whose squares are no numbers."""
    if surely_ordinary(columns):
        return
    for name, column in zip(names, columns.T, strict=True):
        checks.check_finite_result(f"{what} {name}", column, index)
    check_magnitudes(what, names, columns)


def _groupings(formula: Formula, columns: Mapping[str, pd.Series]) -> dict[str, Grouping]:
    groupings: dict[str, Grouping] = {}
    for bar in formula.bars:
        if bar.group not in groupings:
            groupings[bar.group] = group_by(columns, bar.factors, bar.group)
    return groupings


def _terms(
    formula: Formula,
    cov: Mapping[str, CovarianceStructure] | None,
    evaluator: Evaluator,
    groupings: Mapping[str, Grouping],
    index: pd.Index,
    X: FloatArray,
) -> tuple[RandomTerm, ...]:
    structures = chosen_structures(formula.bars, cov)
    return tuple(
        _term(bar, structure, evaluator, groupings, index, X)
        for bar, structure in zip(formula.bars, structures, strict=True)
    )


def _term(
    bar: Bar,
    structure: CovarianceStructure,
    evaluator: Evaluator,
    groupings: Mapping[str, Grouping],
    index: pd.Index,
    X: FloatArray,
) -> RandomTerm:
    Z, effects = evaluator.columns(bar.left)
    if Z.shape[1] == 0:
        raise DesignError(f"The random term {bar.label} has no columns: its left side removes everything.")
    check_structure(bar.label, structure.keyword, Z.shape[1])
    if Z is not X:
        _check_numbers("The column", [f"{name} of {bar.label}" for name in effects], Z, index)
    return RandomTerm(bar.label, groupings[bar.group].name, effects, Z, term_structure(bar, structure, effects, Z))


def _checked(
    design: Design, saturated: str, rank_deficient: str, formula: Formula, columns: Mapping[str, pd.Series]
) -> Design:
    choice("saturated", saturated, ("error", "allow"), DesignError)
    check_parts(design, choice("rank_deficient", rank_deficient, ("drop", "error"), DesignError))
    limited = None if design.residual.names else dominant.limited(design)
    design = design if limited is None else replace(design, residual=with_precisions(design.residual, limited))
    if saturated == "error":
        # Whether variances of effects can be told apart is asked with equal residuals.
        plain = replace(design, residual=make_residual(design.n, design.weights)) if design.residual.names else design
        check_identified(
            plain, formula, columns, correlated=bool(design.residual.names) and design.residual.clusters is not None
        )
    return replace(design, notes=Notes(PendingNotes(design, formula, columns)))


def check_parts(design: Design, rank_deficient: str) -> None:
    """Refuse columns that others span, where these are not to be left out, and parts of impossible sizes or names.

    Raises
    ------
    DesignError
    """
    if rank_deficient == "error" and design.aliased:
        raise DesignError(
            f"The fixed part is rank deficient: {', '.join(design.aliased)} can be computed from the columns before, "
            "so that the data cannot tell their coefficients apart, and rank_deficient='error' does not allow to leave "
            "them out. Change the formula, or use rank_deficient='drop'."
        )
    _check_size(design)
    check_blocks(design.sizes)
    check_labels(design)


def _check_size(design: Design) -> None:
    if design.n_observations <= design.p:
        raise DesignError(
            f"{design.n_observations} complete row(s) are not enough for {design.p} fixed effects: nothing is left to "
            "estimate variances from. Use fewer predictors or more data. (Text and categorical columns take one column "
            "per level: was a column of numbers read as text?)"
        )
