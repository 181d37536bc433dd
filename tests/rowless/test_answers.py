"""A model without rows answers as the same model with its rows in memory does, and reads none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.target import make_target
from bayeslmm.errors import RowsNeededError

from .models import FORMULAS, data, whole, without
from .rowless import UNLIMITED, rowless

KINDS = tuple(FORMULAS)
SAMPLE: dict[str, Any] = {"draws": 60, "chains": 2, "random_seed": 1, "progressbar": False}


@cache
def fits(kind: str, reml: bool = True) -> tuple[bl.REMLResult, bl.REMLResult]:
    return whole(kind).fit(reml), without(kind)[0].fit(reml)


def numbers(value: Any) -> np.ndarray[Any, Any]:
    """All numbers of a table, of several, or of an array, in one."""
    if isinstance(value, dict | tuple | list):
        parts = value.values() if isinstance(value, dict) else value
        return np.concatenate([np.empty(0), *(numbers(part) for part in parts)])
    if isinstance(value, pd.DataFrame):
        value = value.select_dtypes("number")
    return np.asarray(value, dtype=float).ravel()


def agree(found: Any, expected: Any, rtol: float = 1e-9) -> None:
    a, b = numbers(found), numbers(expected)
    assert a.shape == b.shape
    size = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * size)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_and_printouts_need_no_rows(kind: str) -> None:
    model, kept = without(kind)
    *same, rows = repr(model).splitlines()
    assert same == repr(whole(kind)).splitlines()
    assert rows == "  rows: rows.parquet, read in chunks, not in memory"
    assert (model.n, model.p, model.q) == (whole(kind).n, whole(kind).p, whole(kind).q)
    assert kept.passes == []


def test_a_summary_says_what_was_not_looked_at() -> None:
    text = " ".join(str(fits("slopes")[1].summary()).split())
    assert "confirmed by a second computation from the sums" in text
    assert "residuals were not looked at" in text and "Scaled residuals" not in text


# What is asked of fits; values of the second are compared with those of the first.
ASKED: dict[str, Callable[[bl.REMLResult], Any]] = {
    "estimates": lambda f: f.estimates(),
    "criterion": lambda f: [f.criterion, f.aic, f.bic, f.loglik],
    "coefficients": lambda f: f.coefficients(),
    "vcov": lambda f: f.vcov(),
    "random effects": lambda f: f.ranef(),
    "their variances": lambda f: f.ranef_variances(),
    "variance components": lambda f: f.varcorr(),
    "wald": lambda f: f.confint(method="wald"),
    "anova": lambda f: f.anova(),
    "components": lambda f: f.rePCA(),
    "icc": lambda f: f.icc(),
    "r2": lambda f: f.r2(),
    "shrinkage": lambda f: f.shrinkage(),
    "means": lambda f: f.means().frame,
    "predictions": lambda f: f.predict(data().head(7)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_asked_of_a_fit(kind: str) -> None:
    memory, elsewhere = fits(kind)
    assert elsewhere.status is memory.status
    for ask, function in ASKED.items():
        if kind == "known sds" and ask in ("icc", "r2", "components"):
            continue
        agree(function(elsewhere), function(memory), 1e-8 if ask == "their variances" else 1e-9)
    assert without(kind)[1].passes == []


@pytest.mark.parametrize("kind", ["slopes", "crossed", "weights"])
def test_intervals_and_degrees_of_freedom(kind: str) -> None:
    memory, elsewhere = fits(kind)
    agree(elsewhere.coefficients(ddf="kenward-roger"), memory.coefficients(ddf="kenward-roger"))
    label = memory.estimates().index[-2]
    agree(elsewhere.confint(parameters=label), memory.confint(parameters=label), 1e-7)


@pytest.mark.parametrize("kind", ["slopes", "nested"])
def test_containment(kind: str) -> None:
    memory, elsewhere = fits(kind)
    agree(elsewhere.coefficients(ddf="containment"), memory.coefficients(ddf="containment"))


@pytest.mark.parametrize("kind", ["intercepts", "crossed", "nested", "hierarchy", "weights"])
def test_exact_tests_of_zero_and_pivots(kind: str) -> None:
    memory, elsewhere = fits(kind)
    term = memory.design.terms[0].label
    options: dict[str, Any] = {"draws": 100, "refits": 0, "random_seed": 1}
    agree(elsewhere.test_zero(term, **options).table, memory.test_zero(term, **options).table, 1e-7)
    if kind != "weights":
        agree(elsewhere.confint(method="pivot"), memory.confint(method="pivot"), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_fits_with_more_said(kind: str) -> None:
    model, memory = without(kind)[0], whole(kind)
    agree(model.fit(penalty="wishart").estimates(), memory.fit(penalty="wishart").estimates(), 1e-7)
    if kind != "known sds":
        agree(model.fit(sigma=1.0).estimates(), memory.fit(sigma=1.0).estimates(), 1e-7)
    agree(model.fit(priors="default").estimates(), memory.fit(priors="default").estimates(), 1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hierarchy"])
def test_posteriors(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Draws of random effects are asked for: a model that may keep no rows stores none of its own accord.
        options = SAMPLE | {"keep": list(whole(kind).design.groupings)}
        memory, elsewhere = whole(kind).sample(**options), without(kind)[0].sample(**options)
    assert without(kind)[1].passes == []
    # Proposals follow second differences, which magnify what sums in another order differ by.
    agree(elsewhere.table(), memory.table(), 1e-5)
    agree(elsewhere.ranef(), memory.ranef(), 1e-5)
    assert set(elsewhere.data.children) == {"posterior", "sample_stats"}


@pytest.mark.parametrize("kind", KINDS)
def test_densities_of_posteriors(kind: str) -> None:
    found = []
    for model, fit in zip((whole(kind), without(kind)[0]), fits(kind), strict=True):
        priors = resolve_priors(model.design, None)
        target, start = make_target(fit.cp, priors, fit.optimum.terms)
        x = start + 0.3 * np.random.default_rng(2).normal(size=(5, start.size))
        found.append(target.evaluate(np.abs(x)).log_density)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    assert without(kind)[1].passes == []


@pytest.mark.parametrize("preset", ["weak", "rstanarm", "bambi", "pc", "boundary_avoiding", "flat"])
@pytest.mark.parametrize("kind", ["slopes", "frequency"])
def test_presets_of_priors(kind: str, preset: str) -> None:
    # No two priors with other parameters have one table; the numbers in it are those of the parameters.
    memory, elsewhere = whole(kind).priors(preset), without(kind)[0].priors(preset)
    assert repr(elsewhere) == repr(memory)


def test_fits_are_compared_by_what_is_known_of_their_rows() -> None:
    formulas = ("y ~ x + (1 | g)", "y ~ x + z + (1 | g)", "y ~ x + z + (x | g)")
    memory = [bl.Model(formula, data()) for formula in formulas]
    elsewhere = [rowless(model)[0].fit() for model in memory]
    agree(bl.anova(*elsewhere), bl.anova(*(m.fit() for m in memory)))


def test_other_responses_are_told_apart() -> None:
    other = data().assign(y=data()["y"] + (np.arange(len(data())) == 17))
    models = [bl.Model("y ~ x + (1 | g)", table) for table in (data(), other)]
    first, second = (rowless(model)[0].fit() for model in models)
    with pytest.raises(bl.DesignError, match="other values of the response"):
        bl.anova(first, second)


def test_rows_that_may_be_kept_are_read_once() -> None:
    model, kept = rowless(whole("slopes"), UNLIMITED)
    fit, memory = model.fit(), fits("slopes")[0]
    assert kept.passes == []
    agree(fit.fitted(), memory.fitted(), 1e-10)
    agree(fit.residuals("pearson"), memory.residuals("pearson"), 1e-9)
    agree(fit.leverage(), memory.leverage(), 1e-9)
    agree(fit.simulate(random_seed=4), memory.simulate(random_seed=4), 1e-9)
    assert len(kept.passes) == 1


def test_rows_that_may_not_be_kept() -> None:
    with pytest.raises(RowsNeededError) as caught:
        fits("slopes")[1].fitted()
    text = str(caught.value)
    assert "rows.parquet" in text and "240 rows" in text and "memory=" in text
