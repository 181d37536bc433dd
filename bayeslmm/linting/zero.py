"""Rule of the linter on the zero of a predictor: which terms depend on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.formula import Bar
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import BayesLMMError
from bayeslmm.linting.of_data import Typed
from bayeslmm.linting.of_formula import Written
from bayeslmm.linting.report import Finding

# Standard deviations between the mean of a column and zero from which on the place of the zero matters to a model
# that depends on it, and from which on the level there is far from all data.
_OFF, _FAR = 1.0, 10.0
_RULE = "zero of a predictor"


def zero_of_a_predictor(known: Typed) -> Iterator[Finding]:
    """Terms whose meaning depends on where a numeric column has its zero."""
    for term in known.reading.terms:
        if not term.bars:
            continue
        bar = term.bars[0]
        intercept, columns = _numeric_columns(known, term)
        shared = intercept and bar.correlated and term.keyword in ("", "us")
        far = [name for name, values in columns.items() if _distance(values) > (_FAR if shared else _OFF)]
        if far:
            yield _finding(term, bar, ", ".join(far), shared=shared, intercept=intercept)


def _numeric_columns(known: Typed, term: Written) -> tuple[bool, dict[str, np.ndarray]]:
    """Whether a term has a constant, and its columns that are more than codes of a factor."""
    names = {token.text.strip("`") for token in tokenize(term.left)}
    series = {name: values for name, values in known.columns.items() if name in names}
    if not series:
        return False, {}
    try:
        Z, labels = Evaluator(series, {}, {}).columns(term.left)
    except BayesLMMError:
        # Other rules and the model itself say what is wrong with the term.
        return False, {}
    own = {
        label: values
        for label, values in zip(labels, Z.T, strict=True)
        if label != "Intercept" and np.isfinite(values).all() and not np.isin(values, (-1.0, 0.0, 1.0)).all()
    }
    coded = {name for name, values in series.items() if not pd.api.types.is_numeric_dtype(values.dtype)}
    return "Intercept" in labels, {label: values for label, values in own.items() if label not in coded}


def _distance(values: np.ndarray) -> float:
    """Of the mean from zero, in standard deviations."""
    spread = float(np.std(values))
    return abs(float(np.mean(values))) / spread if spread > 0 else 0.0


def _finding(term: Written, bar: Bar, names: str, *, shared: bool, intercept: bool) -> Finding:
    if shared:
        here = (
            f"The sd of the intercept and its correlations are those at zero of {names}, far outside the data. The "
            "default priors are about the mean instead and do not depend on the zero; a prior given for "
            f"sd_{bar.group}[Intercept] does."
        )
        return Finding(_RULE, term.position, term.text, "note", here, {}, f"{names} less its mean.")
    why = "the effects are independent at zero and nowhere else" if intercept else "levels do not differ at zero"
    here = f"The model depends on where {names} has its zero, in all packages: {why}. So do its default priors."
    whole = "with their correlation" if intercept else "with an intercept"
    remedy = f"{names} less its mean (or another value that means something), or the effects {whole}."
    return Finding(_RULE, term.position, term.text, "note", here, {}, remedy)


RULES = (zero_of_a_predictor,)
